"""Records -> CSV by RFC 4180, of which no cell is a formula to a spreadsheet."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Iterable
from typing import Any, BinaryIO

from ..errors import UsageError
from . import Record
from .texts import raw

# What OWASP's page on CSV injection lists, and before it what a program may drop as it reads: blanks and control
# characters, a byte order mark, bytes that are no UTF-8.
_FORMULA = re.compile("[\x00-\x20\ufeff\udc80-\udcff]*[-=+@\t\r\n\uff0d\uff1d\uff0b\uff20]")


def write(file: BinaryIO, lines: Iterable[bytes], labels: int) -> None:
    """Write a row of names, and one a record. Raises `UsageError` for a record of more than so many labels."""
    rows = csv.writer(codecs.getwriter("utf-8")(file, "surrogateescape"))
    rows.writerow(columns(labels))
    rows.writerows(_row(json.loads(line), labels) for line in lines)


def columns(labels: int) -> list[str]:
    """Return the names of the columns, with those of so many labels."""
    return [
        *("photo", "kind", "name", "wnid", "probability"),
        *(f"{what}_{place}" for place in range(1, labels + 1) for what in ("name", "probability")),
        *("error_code", "error_message", "model", "recipe", "precision", "sha256", "bytes"),
        *("format", "width", "height", "orientation", "scale"),
        *("everyday", "reason", "names", "agreement"),
        *("truth_name", "truth_wnid", "truth_probability", "truth_rank"),
    ]


def _row(record: Record, labels: int) -> list[Any]:
    ranked = [cell for label in record["labels"] for cell in (label["name"], label["probability"])]
    if len(ranked) > 2 * labels:
        raise UsageError(f"a record has {len(record['labels'])} labels where at most {labels} were announced.")
    answer, error = record["answer"] or {}, record["error"] or {}
    file, decoding = record["file"] or {}, record["decoding"] or {}
    names = record.get("names")  # an older record has no such field
    cells = [
        *map(answer.get, ("kind", "name", "wnid", "probability")),
        *(*ranked, *[None] * (2 * labels - len(ranked))),
        *map(error.get, ("code", "message")),
        *map(record.get, ("model", "recipe", "precision")),
        *map(file.get, ("sha256", "bytes")),
        *map(decoding.get, ("format", "width", "height", "orientation", "scale")),
        *map(answer.get, ("everyday", "reason")),
        "; ".join(label["name"] for label in names["labels"]) if names else None,
        (record.get("opinions") or {}).get("agreement"),
        *map((record.get("truth") or {}).get, ("name", "wnid", "probability", "rank")),
    ]
    # A name with ./ before it leads to the same file; one with an apostrophe would not.
    return [_harmless(record["photo"], "./"), *(_harmless(cell, "'") for cell in cells)]


def _harmless(cell: Any, before: str) -> Any:
    if not isinstance(cell, str):
        return cell
    text = raw(cell).decode("utf-8", "surrogateescape")
    return before + text if _FORMULA.match(text) else text
