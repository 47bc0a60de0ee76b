"""The table of a ZIP archive whose entries are stored, not compressed: what torch.save, numpy.savez and Keras write.

The standard library's zipfile reads the whole table into objects before anyone can object to it and takes
compressed entries; this reads only what those programs write, within limits, and nothing else. With
stored entries only, no entry can be larger than the file, so a bomb cannot exist.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import InvalidWeightsError

MAX_ENTRIES = 20_000  # the largest published checkpoints hold a few thousand tensors
MAX_TABLE_BYTES = 4 << 20
_PIECE = 1 << 20  # bytes hashed at a time

# PKWARE APPNOTE 6.3.10: 4.3.7 local header, 4.3.12 table entry, 4.3.14-16 the records at the end.
_LOCAL = struct.Struct("<4s5H3I2H")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_ENCRYPTED = 0x1
_STORED = 0
_IN_ZIP64_EXTRA = 0xFFFFFFFF
_ZIP64_EXTRA_ID = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored file: where its local header begins, its size in bytes and its CRC-32."""

    name: str
    header: int
    size: int
    crc: int


def table(file: BinaryIO, size: int) -> dict[str, Entry]:
    """Return the entries by name of the archive in `file`, whose real size in bytes is `size`.

    Raises InvalidWeightsError for an archive that is broken, compressed, encrypted, split, too long a list,
    holds a name twice, or whose entries claim more bytes than the file has.
    """
    count, length, start = _end(file, size)
    if count > MAX_ENTRIES or length > MAX_TABLE_BYTES:
        raise InvalidWeightsError(
            f"the archive lists {count} entries in a table of {length} bytes; at most {MAX_ENTRIES} entries "
            f"and {MAX_TABLE_BYTES} bytes are read"
        )
    raw = _at(file, size, start, length)
    entries: dict[str, Entry] = {}
    at = 0
    for _ in range(count):
        entry, at = _entry(raw, at)
        if entry.name in entries:
            raise InvalidWeightsError(f"the archive holds {entry.name[:80]!r} twice")
        entries[entry.name] = entry
    if at != length:
        raise InvalidWeightsError(f"the archive's table is {length} bytes, but its {count} entries fill {at}")
    claimed = sum(entry.size for entry in entries.values())
    if claimed > size:  # overlapping entries would let a small file yield many large ones
        raise InvalidWeightsError(f"the archive's entries claim {claimed} bytes, but the file has {size}")
    return entries


def read(file: BinaryIO, size: int, entry: Entry) -> bytes:
    """Return the bytes of one entry, checked by its CRC-32.

    Raises InvalidWeightsError when they are not all there.
    """
    data = _at(file, size, data_start(file, size, entry), entry.size)
    if zlib.crc32(data) != entry.crc:
        raise _damaged(entry)
    return data


def check(file: BinaryIO, size: int, entry: Entry) -> None:
    """Raise InvalidWeightsError unless the bytes of one entry are all there and fit its CRC-32; hold none of them."""
    start, crc = data_start(file, size, entry), 0
    for at in range(0, entry.size, _PIECE):
        crc = zlib.crc32(_at(file, size, start + at, min(_PIECE, entry.size - at)), crc)
    if crc != entry.crc:
        raise _damaged(entry)


def data_start(file: BinaryIO, size: int, entry: Entry) -> int:
    """Return where the bytes of one entry begin, which says nothing of whether they are there: see `check`."""
    header = _unpack(_LOCAL, _at(file, size, entry.header, _LOCAL.size), b"PK\3\4", "an entry's header")
    name_length, extra_length = header[-2:]
    return entry.header + _LOCAL.size + name_length + extra_length


def _damaged(entry: Entry) -> InvalidWeightsError:
    return InvalidWeightsError(f"{entry.name[:80]!r} in the archive is damaged: its CRC-32 differs")


def _end(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Return (number of entries, bytes of the table, where it begins), from the records at the file's end."""
    # A comment may stand behind this record; neither program writes one, so it is looked for in one place.
    end = _unpack(_END, _at(file, size, size - _END.size, _END.size), b"PK\5\6", "the end of the archive")
    _, disk, table_disk, here, count, length, start, comment = end
    before = size - _END.size - _END64_LOCATOR.size
    if before >= 0:
        locator = _at(file, size, before, _END64_LOCATOR.size)
        if locator[:4] == b"PK\6\7":
            _, disk, at, _ = _END64_LOCATOR.unpack(locator)
            end64 = _unpack(_END64, _at(file, size, at, _END64.size), b"PK\6\6", "the ZIP64 end of the archive")
            _, _, _, _, disk, table_disk, here, count, length, start = end64
    if disk or table_disk or here != count or comment:
        raise InvalidWeightsError("the archive is split into parts or carries a comment; no weights file is or does")
    return count, length, start


def _entry(raw: bytes, at: int) -> tuple[Entry, int]:
    """Return the table's entry at `at`, and where the next one begins."""
    fields = _unpack(_ENTRY, raw[at : at + _ENTRY.size], b"PK\1\2", "the archive's table")
    _, _, _, flags, method, _, _, crc, packed, size, name_length, extra_length, comment_length = fields[:13]
    header = fields[-1]
    at += _ENTRY.size
    end = at + name_length + extra_length + comment_length
    if end > len(raw):
        raise InvalidWeightsError("the archive's table is cut short")
    try:
        name = raw[at : at + name_length].decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidWeightsError("a name in the archive's table is not UTF-8") from error
    if flags & _ENCRYPTED or method != _STORED:
        raise InvalidWeightsError(
            f"{name[:80]!r} in the archive is compressed or encrypted (method {method}); torch.save, "
            "numpy.savez and Keras store entries as they are: save the weights again, or unpack the archive and "
            "store it with: zip -0"
        )
    if _IN_ZIP64_EXTRA in (size, packed, header):
        extra = raw[at + name_length : at + name_length + extra_length]
        size, packed, header = _zip64(extra, size, packed, header)
    if packed != size:
        raise InvalidWeightsError(f"{name[:80]!r} in the archive is stored, but {packed} bytes stand for {size}")
    return Entry(name, header, size, crc), end


def _zip64(extra: bytes, *fields: int) -> list[int]:
    """Return `fields` with those too large for 32 bits taken from the ZIP64 extra block, in its order."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == _ZIP64_EXTRA_ID:
            block = extra[at + 4 : at + 4 + length]
            values = [value for (value,) in struct.iter_unpack("<Q", block[: len(block) // 8 * 8])]
            if len(values) < fields.count(_IN_ZIP64_EXTRA):
                break
            return [values.pop(0) if field == _IN_ZIP64_EXTRA else field for field in fields]
        at += 4 + length
    raise InvalidWeightsError("the archive's table lacks a 64-bit size that it refers to")


def _at(file: BinaryIO, size: int, start: int, length: int) -> bytes:
    """Return `length` bytes from `start`, allocating nothing before the file is known to have them."""
    if start < 0 or length > size - start:
        raise InvalidWeightsError(
            f"the file is cut short or broken: {length} bytes at {start} are needed, but it has {size} bytes"
        )
    file.seek(start)
    data = file.read(length)
    if len(data) != length:
        raise InvalidWeightsError("the file became shorter while it was read")
    return data


def _unpack(layout: struct.Struct, raw: bytes, signature: bytes, what: str) -> tuple[int, ...]:
    """Return the fields of one record, its signature checked (and still first among them)."""
    if len(raw) != layout.size or raw[:4] != signature:
        raise InvalidWeightsError(f"the file is cut short or broken: {what} is not where it should be")
    return layout.unpack(raw)
