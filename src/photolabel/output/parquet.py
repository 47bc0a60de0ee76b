"""Records -> Parquet, in the structure that they have. pyarrow is the extra `parquet`."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

from .. import extras
from ..errors import UsageError
from .texts import raw

# What is held at once, and becomes a row group: records of a thousand labels are large.
_RECORDS, _BYTES = 1000, 4_000_000


def check() -> None:
    """Raise `MissingExtraError` if Parquet cannot be written here."""
    _pyarrow()


def write(file: BinaryIO, lines: Iterable[bytes], labels: int) -> None:
    """Write a row a record; however many labels there are. Raises `MissingExtraError`."""
    arrow = _pyarrow()
    schema = _schema(arrow)
    with arrow.parquet.ParquetWriter(file, schema) as writer:
        for rows in _batches(lines):
            _write_rows(arrow, writer, rows, schema)


def table(lines: Iterable[bytes], *, beside: Mapping[str, Any]) -> Any:
    """Return records as an Arrow table, a row each, behind other columns of as many rows.

    Raises `UsageError` where one of those has the name of a field of the record, and `MissingExtraError`.
    """
    arrow = _pyarrow()
    schema = _schema(arrow)
    if both := sorted(set(beside) & set(schema.names)):
        raise UsageError(f"the column {both[0]} is one that a record has. Call it otherwise, as by rename_columns.")
    made = arrow.Table.from_batches([batch(arrow, rows, schema) for rows in _batches(lines)], schema=schema)
    for place, (name, column) in enumerate(beside.items()):
        values = column if isinstance(column, arrow.Array | arrow.ChunkedArray) else arrow.array(_plain(column))
        made = made.add_column(place, name, values)
    return made


def part(lines: Iterable[bytes], *, first: int, notes: Mapping[str, str]) -> bytes:
    """Return a whole file of some records, whose column `sequence` counts on from `first`, with notes in its metadata.

    Raises `MissingExtraError`.
    """
    arrow = _pyarrow()
    schema = _schema(arrow).insert(0, arrow.field("sequence", arrow.int64())).with_metadata(dict(notes))
    sink = io.BytesIO()
    with arrow.parquet.ParquetWriter(sink, schema) as writer:
        for rows in _batches(lines):
            numbered = [{**row, "sequence": number} for number, row in enumerate(rows, first)]
            first += len(rows)
            _write_rows(arrow, writer, numbered, schema)
    return sink.getvalue()


def notes(data: bytes) -> tuple[int, dict[str, str]]:
    """Return how many records a file of `part` has, and its notes. Raises `ValueError` for one that is not whole."""
    arrow = _pyarrow()
    try:
        found = arrow.parquet.ParquetFile(io.BytesIO(data))
        metadata = found.schema_arrow.metadata or {}
        return found.metadata.num_rows, {key.decode(): value.decode() for key, value in metadata.items()}
    except (arrow.ArrowException, OSError, EOFError) as error:
        raise ValueError("no whole Parquet file") from error


def _pyarrow() -> Any:
    with extras.needed("parquet"):
        import pyarrow
        import pyarrow.parquet
    return pyarrow


def _write_rows(arrow: Any, writer: Any, rows: list[dict[str, Any]], schema: Any) -> None:
    writer.write_batch(batch(arrow, rows, schema))


def batch(arrow: Any, rows: list[dict[str, Any]], schema: Any) -> Any:
    """Return rows as a record batch of Arrow's."""
    try:
        return arrow.RecordBatch.from_pylist(rows, schema=schema)
    except UnicodeEncodeError:  # somewhere in it: a string of Parquet's is UTF-8
        return arrow.RecordBatch.from_pylist(_utf8(rows), schema=schema)


def _schema(arrow: Any) -> Any:
    text, whole, number, truth = arrow.string(), arrow.int64(), arrow.float64(), arrow.bool_()
    known = [("wnid", text), ("name", text), ("probability", number)]
    label = arrow.struct([("index", whole), *known, ("everyday", text)])
    said = [("model", text), ("recipe", text), ("views", whole), ("label", label), ("agreement", number)]
    sizes = [(name, whole) for name in ("width", "height", "orientation", "scale")]
    decoding = [("format", text), *sizes, ("mode", text), ("profile", truth), ("transparent", truth)]
    return arrow.schema(
        [
            ("schema", text),
            ("photo", text),
            ("photo_bytes", arrow.binary()),
            ("model", text),
            ("recipe", text),
            ("precision", text),
            ("labels", arrow.list_(label)),
            ("answer", arrow.struct([("kind", text), *known, ("everyday", text), ("reason", text)])),
            ("error", arrow.struct([("code", text), ("message", text)])),
            ("file", arrow.struct([("sha256", text), ("bytes", whole)])),
            ("decoding", arrow.struct(decoding)),
            ("names", arrow.struct([("coverage", number), ("labels", arrow.list_(label))])),
            ("opinions", arrow.struct([("agreement", number), ("members", arrow.list_(arrow.struct(said)))])),
            ("calibration", arrow.struct([("digest", text), ("temperature", number)])),
            ("truth", arrow.struct([("index", whole), *known, ("rank", whole)])),
        ]
    )


def _plain(column: Any) -> Any:
    """What Arrow takes: of an array with more than one dimension, lists within lists."""
    return column.tolist() if getattr(column, "ndim", 1) > 1 else column


def _batches(lines: Iterable[bytes]) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    size = 0
    for line in lines:
        record = json.loads(line)
        rows.append({**record, "photo_bytes": _bytes(record["photo"])})
        size += len(line)
        if len(rows) == _RECORDS or size >= _BYTES:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _bytes(photo: str | None) -> bytes | None:
    """The name as the system has it, by which the file is found whatever became of its text."""
    if photo is None:
        return None
    try:
        return os.fsencode(photo)
    except UnicodeEncodeError:  # a name of another system
        return raw(photo)


def _utf8(value: Any) -> Any:
    r"""The same values, but for what is no UTF-8 in a text: a byte of that is written as `\xff`."""
    if isinstance(value, str):
        return raw(value).decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {key: _utf8(each) for key, each in value.items()}
    return [_utf8(each) for each in value] if isinstance(value, list) else value
