"""Records -> text and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Record: TypeAlias = Mapping[str, Any]  # of the schema photolabel/1: `Prediction.record()`

# C0 and C1 control characters, line and paragraph separators, what turns the direction of writing, and the
# surrogates that stand for bytes which are no UTF-8: a name that holds them could rewrite the terminal or forge lines.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return `text` as one harmless line: what a terminal would act upon is written as `\x1b` or `\u2028`.

    A byte of a file name that is no UTF-8 is written as that byte, `\xff`.
    """

    def escape(match: re.Match[str]) -> str:
        code = ord(match.group())
        if 0xDC80 <= code <= 0xDCFF:  # the byte 0x80-0xff, as os.fsdecode smuggles it into a str
            code -= 0xDC00
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return _UNPRINTABLE.sub(escape, text)


def line(record: Record, *, named: bool) -> str:
    """Return `name (p%)`, or `path: name (p%)` if `named`; of a photo with an error `error: why`.

    Where a set of names was asked for, they follow each other, the likeliest first.
    """
    error, answer = record["error"], record["answer"]
    if error:
        text = f"error: {error['message']}"
    elif record.get("names"):  # an older record has no such field
        text = _names(record["names"]["labels"])
    elif answer["kind"] == "unsure":
        text = "unsure (none of its classes)" if answer.get("reason") == "none of its classes" else "unsure"
    else:
        text = f"{answer['name']} ({answer['probability'] * 100:.2f}%)"
    return f"{printable(record['photo'] or '-')}: {printable(text)}" if named else printable(text)


def _names(labels: Sequence[Mapping[str, Any]]) -> str:
    from ..prediction import SHOWN  # only now: it brings NumPy and Pillow, and --help must come at once

    shown = [f"{label['name']} ({label['probability'] * 100:.2f}%)" for label in labels[:SHOWN]]
    more = len(labels) - len(shown)
    return ", ".join(shown) + (f", and {more:,} more" if more else "")


def table(record: Record, *, named: bool, answered: bool = False) -> str:
    """Return the labels of a record as aligned lines, under the photo's name if `named`.

    A line has the name, per cent, and what people say where that is another word. `answered`: under what `line` says,
    for one who has asked for an answer or a set of names as well.
    """
    names = [printable(label["name"]) for label in record["labels"]]
    width = max(map(len, names))
    indent = "  " if named or answered else ""
    lines = [
        f"{indent}{name:<{width}}  {label['probability'] * 100:6.2f}%{_in_other_words(label)}"
        for name, label in zip(names, record["labels"], strict=True)
    ]
    head = line(record, named=named) if answered else f"{printable(record['photo'] or '-')}:"
    return "\n".join([head, *lines] if named or answered else lines)


def _in_other_words(label: Mapping[str, Any]) -> str:
    everyday = label.get("everyday")
    if everyday is None or everyday.casefold() == label["name"].replace("_", " ").casefold():
        return ""
    return f"  {printable(everyday)}"


def json_line(record: Record) -> str:
    """Return a record as one line of pure ASCII JSON.

    Names that are no UTF-8 survive: their bytes are lone surrogates, which every JSON reader gives back.
    """
    return json.dumps(record, allow_nan=False)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as aligned lines that do no harm to a terminal."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "\n".join(lines)
