"""Records -> files. A run keeps its records as JSONL; every file that is asked for is a view of those lines.

`VIEWS` is the one table of what can be written, by the file's ending.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, TypeAlias

from .. import writing
from ..errors import UsageError
from . import csvs, line, parquet

# Takes a file, records as JSON lines, and how many labels a record has at most.
Writer: TypeAlias = Callable[[BinaryIO, Iterable[bytes], int], None]


def _jsonl(file: BinaryIO, lines: Iterable[bytes], labels: int) -> None:
    file.writelines(lines)


def _txt(file: BinaryIO, lines: Iterable[bytes], labels: int) -> None:
    file.writelines(f"{line(json.loads(each), named=True)}\n".encode() for each in lines)


VIEWS: dict[str, Writer] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".csv": csvs.write,
    ".txt": _txt,
    ".parquet": parquet.write,
}


def check(path: Path) -> None:
    """Say what is wrong with a file that is to be written, before the work whose records it shall hold.

    Raises `UsageError` for an ending that is not in `VIEWS`, `OutputError` where the file plainly cannot be written,
    and `MissingExtraError`.
    """
    writer = _writer(path)
    writing.check(path)
    if writer is parquet.write:
        parquet.check()


def write(path: Path, lines: Iterable[bytes], *, labels: int) -> None:
    """Write the view of records that the ending of `path` asks for, whole or not at all.

    `lines` are the records as `json_line` makes them, each with its LF; they are asked for one by one, and never
    more than a thousand are held. `labels` is how many labels a record has at most. A file that is there already is
    replaced, once the new one is whole. Raises what `check` raises.
    """
    writer = _writer(path)
    with writing.whole(path) as file:
        writer(file, lines, labels)


def _writer(path: Path) -> Writer:
    writer = VIEWS.get(path.suffix.lower())
    if writer is None:
        raise UsageError(f"{path}: expected a file that ends in one of {', '.join(VIEWS)}.")
    return writer
