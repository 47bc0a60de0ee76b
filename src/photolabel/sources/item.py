"""One photo that was found: what it is called, and how its bytes are had."""

from __future__ import annotations

import io
import os
import zlib
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

from ..errors import CorruptPhotoError, PhotoError, PhotoUnreadableError
from ..images import DEFAULT_LIMITS, Limits, check_bytes, opened, read_file

PIECE = 1 << 20  # bytes read at a time
LOCAL_HEADER = 30  # bytes, of PKWARE APPNOTE 6.3.10, 4.3.7

Stamp: TypeAlias = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Zipped:
    """How a ZIP archive keeps a photo: in so many bytes, deflated or as they are, and the CRC-32 of the photo."""

    packed: int
    deflated: bool
    crc: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """Where in an archive a photo lies: of a tar its first byte, of a ZIP the local header before it.

    `size` is that of the photo in bytes, as the archive states it. `stamp` is what the archive was when it was
    looked through; if it is another one when the photo is read, that is the photo's error.
    """

    offset: int
    size: int
    stamp: Stamp
    zipped: Zipped | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One photo: small, and picklable, so that another process can read it by itself.

    `photo` is what a record calls it: the path as it was given or found, or `ARCHIVE/NAME INSIDE`. It is a str as
    `os.fsdecode` makes it: a byte that is no UTF-8 is a lone surrogate, a newline is a newline; to write it safely
    is the output's business.

    Its bytes are in the file `path`, there in `member` if that is an archive; or at `url`; or they are `data`, where
    they could only be had in passing: then the item is as large as the photo, and whoever keeps several counts `held`.
    What is known to be wrong already is `error`.
    """

    photo: str
    path: str = ""
    url: str = ""
    member: Member | None = None
    data: bytes | None = field(default=None, repr=False)
    error: PhotoError | None = None

    @property
    def held(self) -> int:
        """How many bytes of the photo the item itself holds: 0 but for one of a compressed tar."""
        return len(self.data or b"")

    def read(self, limits: Limits = DEFAULT_LIMITS) -> bytes:
        """Return the photo's bytes, as `images.read` takes them. Never waits for a pipe or a device.

        Raises the item's own `error`, or another PhotoError: for a photo that is not there (any more), that may not
        be read, that is larger than `limits`, or whose archive is damaged or has changed.
        """
        if self.error is not None:
            raise self.error
        if self.data is not None:
            check_bytes(len(self.data), limits)
            return self.data
        if self.url:
            from . import objects  # which makes Items

            return objects.read(self.url, limits)
        if self.member is None:
            return read_file(self.path, limits)
        check_bytes(self.member.size, limits)
        with opened(self.path) as (file, status):
            if stamp(status) != self.member.stamp:
                raise PhotoUnreadableError("The archive has changed since it was looked through. Start again.")
            if self.member.zipped is not None:
                return _unzipped(file, status.st_size, self.member, self.member.zipped)
            file.seek(self.member.offset)
            return exactly(file, self.member.size)

    def file(self, limits: Limits = DEFAULT_LIMITS) -> str | BinaryIO:
        """Return what `images.read` takes: a path, or a file object that is read when it is first asked.

        What `read` raises comes then, so an item that is known to be bad can be handed on like any other.
        """
        if self.error is None and self.data is None and self.member is None and not self.url:
            return self.path
        return io.BufferedReader(_Lazy(self, limits))


class _Lazy(io.RawIOBase):
    def __init__(self, item: Item, limits: Limits) -> None:
        super().__init__()
        self._item, self._limits = item, limits
        self._data: io.BytesIO | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._data is None:
            self._data = io.BytesIO(self._item.read(self._limits))
        return self._data.readinto(buffer)


def stamp(status: os.stat_result) -> Stamp:
    """Return what tells a file from itself after a change; the same on all machines that see it (an inode is not)."""
    return status.st_size, status.st_mtime_ns


def exactly(file: BinaryIO, count: int) -> bytes:
    """Read so many bytes, which should be there; raises CorruptPhotoError when they are not."""
    parts: list[bytes] = []
    while count > 0 and (part := file.read(count)):
        parts.append(part)
        count -= len(part)
    if count > 0:
        raise CorruptPhotoError("The archive is cut short: it ends before the photo does.")
    return b"".join(parts)


def _unzipped(file: BinaryIO, size: int, member: Member, zipped: Zipped) -> bytes:
    if not 0 <= member.offset <= size - LOCAL_HEADER:
        raise _damaged()
    file.seek(member.offset)
    header = exactly(file, LOCAL_HEADER)
    start = (
        member.offset + LOCAL_HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:], "little")
    )
    if header[:4] != b"PK\3\4":
        raise _damaged()
    file.seek(start)
    if zipped.deflated:
        data = _inflated(file, zipped.packed, member.size)
    elif zipped.packed == member.size:  # else memory would be asked for that the archive cannot fill
        data = exactly(file, member.size)
    else:
        raise _damaged()
    if zlib.crc32(data) != zipped.crc:
        raise _damaged()
    return data


def _inflated(file: BinaryIO, packed: int, size: int) -> bytes:
    """Inflate to the size that was stated: one byte more and it is broken off."""
    unpacker, parts, left = zlib.decompressobj(-zlib.MAX_WBITS), [], size
    while packed > 0 and left >= 0 and not unpacker.eof:
        piece = exactly(file, min(packed, PIECE))
        packed -= len(piece)
        try:
            part = unpacker.decompress(piece, left + 1)
        except zlib.error as error:
            raise _damaged() from error
        parts.append(part)
        left -= len(part)
    if left or not unpacker.eof:
        raise _damaged()
    return b"".join(parts)


def _damaged() -> CorruptPhotoError:
    return CorruptPhotoError("The photo in the archive is damaged: it is not what the archive's table says of it.")
