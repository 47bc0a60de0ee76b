"""The members of a ZIP, from the table at its end.

The standard library's zipfile reads the whole table into objects before anyone can object to it; this goes through
it in constant memory. What lies between the table's entries and the photos is checked when a photo is read.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import CorruptPhotoError

# PKWARE APPNOTE 6.3.10: 4.3.12 table entry, 4.3.14-16 the records at the end, 4.4.2.2 systems.
_ENTRY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LONGEST_COMMENT = 0xFFFF
_IN_ZIP64_EXTRA = 0xFFFFFFFF
_ZIP64_EXTRA_ID = 1
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_UTF8 = 0x800
_DOS, _UNIX, _NTFS, _MACOS = 0, 3, 10, 19
_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Entry:
    """A member, as the table has it. `mode` is its file type as of `stat`, 0 where the table says nothing."""

    name: str
    header: int
    packed: int
    size: int
    crc: int
    method: int
    encrypted: bool
    mode: int


def entries(file: BinaryIO, size: int) -> Iterator[Entry]:
    """Yield the members of the archive in `file`, of so many bytes, in the table's order.

    Raises CorruptPhotoError for an archive without a table, one in several parts, a table that is broken, and members
    that claim more bytes than there are: such overlap, so that a small file could stand for endless photos.
    """
    count, length, start = _end(file, size)
    table = _Table(file, start, length)
    claimed = number = 0
    while table.left:  # not by the count, which has 16 bits only
        number += 1
        entry = _entry(table)
        claimed += entry.packed
        if claimed > size:
            raise CorruptPhotoError(
                "The archive's members claim more bytes than it has. What came before has been read."
            )
        yield entry
    if number & 0xFFFF != count & 0xFFFF:
        raise _broken()


class _Table:
    """The table's bytes, a piece at a time."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file = file
        self._at = start
        self._piece = b""
        self._taken = 0  # bytes of the piece
        self.left = length

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise _broken()
        self.left -= count
        while len(self._piece) - self._taken < count:
            self._file.seek(self._at)
            more = self._file.read(_PIECE)
            if not more:
                raise _broken()
            self._at += len(more)
            self._piece, self._taken = self._piece[self._taken :] + more, 0
        start = self._taken
        self._taken += count
        return self._piece[start : self._taken]


def _end(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Return (number of entries, bytes of the table, where it begins), from the records at the file's end."""
    # A comment may stand behind the last record, and hold its mark: of those that fit the last one counts.
    tail_at = max(0, size - _END.size - _LONGEST_COMMENT)
    file.seek(tail_at)
    tail = _read(file, size - tail_at)
    at = len(tail) - _END.size
    while True:
        at = tail.rfind(b"PK\5\6", 0, at + 4) if at >= 0 else -1
        if at < 0:
            raise CorruptPhotoError("The archive has no table at its end: it is cut short or broken.")
        _, disk, table_disk, here, count, length, start, comment = _END.unpack_from(tail, at)
        if at + _END.size + comment == len(tail):
            break
        at -= 1
    end = tail_at + at
    if (locator_at := at - _END64_LOCATOR.size) >= 0 and tail[locator_at : locator_at + 4] == b"PK\6\7":
        _, _, end, _ = _END64_LOCATOR.unpack_from(tail, locator_at)
        if end > size - _END64.size:
            raise _broken()
        file.seek(end)
        mark, _, _, _, disk, table_disk, here, count, length, start = _END64.unpack(_read(file, _END64.size))
        if mark != b"PK\6\6":
            raise _broken()
    if disk or table_disk or here != count:
        raise CorruptPhotoError("The archive is one part of several. Join them into one first.")
    if start + length > end:
        raise _broken()
    return count, length, start


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise _broken()
    return data


def _entry(table: _Table) -> Entry:
    fields = _ENTRY.unpack(table.take(_ENTRY.size))
    mark, made_by, _, flags, method, _, _, crc, packed, size, name_length, extra_length, comment_length = fields[:13]
    attributes, header = fields[15:]
    if mark != b"PK\1\2":
        raise _broken()
    raw, extra = table.take(name_length), table.take(extra_length)
    table.take(comment_length)
    size, packed, header = _zip64(extra, [size, packed, header])
    system = made_by >> 8
    return Entry(
        name=_name(raw, utf8=bool(flags & _UTF8), backslashes=system in (_DOS, _NTFS)),
        header=header,
        packed=packed,
        size=size,
        crc=crc,
        method=method,
        encrypted=bool(flags & _ENCRYPTED),
        mode=stat.S_IFMT(attributes >> 16) if system in (_UNIX, _MACOS) else 0,
    )


def _zip64(extra: bytes, values: list[int]) -> list[int]:
    """Return the values with those that are too large for their field taken from the extra field."""
    at = 0
    while at + 4 <= len(extra) and _IN_ZIP64_EXTRA in values:
        kind, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if kind == _ZIP64_EXTRA_ID:
            large = [extra[i : i + 8] for i in range(at, min(at + length, len(extra)) - 7, 8)]
            if len(large) < values.count(_IN_ZIP64_EXTRA):
                raise _broken()
            return [int.from_bytes(large.pop(0), "little") if x == _IN_ZIP64_EXTRA else x for x in values]
        at += length
    return values


def _name(raw: bytes, *, utf8: bool, backslashes: bool) -> str:
    """Decode a name. Many programs write UTF-8 without saying so; what is none is of MS-DOS' code page, as of old."""
    try:
        name = raw.decode("utf-8", "surrogateescape" if utf8 else "strict")
    except UnicodeDecodeError:
        name = raw.decode("cp437")
    name = name.partition("\0")[0]
    return name.replace("\\", "/") if backslashes else name


def _broken() -> CorruptPhotoError:
    return CorruptPhotoError("The archive's table is broken. What came before has been read.")
