"""The bytes of an archive read forward: as they lie in the file, or uncompressed on the way."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

from ..errors import CorruptPhotoError, PhotoTooLargeError
from .item import exactly

_PIECE = 1 << 14  # bytes of the compressed file at a time
_XZ_MEMORY = 128 << 20  # bytes: `xz -9` makes files that take 65 MB to unpack; a header may ask for 4 GB

# Of so much nothing is asked; beyond, a compressed archive may not be larger than so many times its file. Photos
# hardly compress, and zlib at its best reaches a thousand; bzip2 and xz make a terabyte of zeros a small file, which
# somebody would have to wait for.
_FREE = 1 << 30
_RATIO = 250


class Stream(Protocol):
    """What the reader of a tar needs."""

    position: int

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, fewer only at the end."""

    def seek(self, position: int) -> None:
        """Go forward. Raises CorruptPhotoError if that is beyond the end."""


class Plain:
    """A file as it is."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self.position = 0

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, fewer only at the end."""
        self._file.seek(self.position)
        data = exactly(self._file, min(count, self._size - self.position))
        self.position += len(data)
        return data

    def seek(self, position: int) -> None:
        """Go forward. Raises CorruptPhotoError if that is beyond the end."""
        if position > self._size:
            raise cut_short()
        self.position = position


class Unpacked:
    """A file compressed by gzip, bzip2 or xz. Raises CorruptPhotoError where it is broken or cut short."""

    def __init__(self, file: BinaryIO, kind: str) -> None:
        self._file = file
        self._make = _DECODERS[kind]
        self._decoder = self._make()
        self._read = 0
        self.position = 0

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, fewer only at the end."""
        parts: list[bytes] = []
        while count > 0 and (part := self._some(min(count, 1 << 20))):
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def seek(self, position: int) -> None:
        """Go forward. Raises CorruptPhotoError if that is beyond the end."""
        while self.position < position:
            if not self._some(min(position - self.position, 1 << 20)):
                raise cut_short()

    def finish(self) -> None:
        """Read what is left, for the sake of the checksum at its end: that of gzip and xz stands for all before it."""
        while not self._decoder.eof:
            self._decode(self._next(), 1 << 20)

    def _some(self, most: int) -> bytes:
        """Return at least one byte and at most so many; none at the end."""
        while True:
            if self._decoder.eof:  # gzip, bzip2 and xz files may be several, one behind the other
                data = self._decoder.unused_data or self._piece()
                if not data:
                    return b""
                self._decoder = self._make()
            else:
                data = self._next()
            if part := self._decode(data, most):
                return part

    def _next(self) -> bytes:
        """Return what the decoder needs to go on."""
        data = b""
        if self._decoder.needs_input and not (data := self._piece()):
            raise cut_short()
        return data

    def _decode(self, data: bytes, most: int) -> bytes:
        try:
            part: bytes = self._decoder.decompress(data, most)
        except (OSError, zlib.error, lzma.LZMAError) as error:
            raise CorruptPhotoError(
                "The archive is broken, or asks for more memory than may be had to unpack it. "
                "What came before has been read, but may be damaged too."
            ) from error
        self.position += len(part)
        if self.position > max(_FREE, _RATIO * self._read):
            raise PhotoTooLargeError(
                f"The archive unpacks to more than {_RATIO} times its size, as no archive of photos does. "
                "What came before has been read. Unpack it yourself if you trust it."
            )
        return part

    def _piece(self) -> bytes:
        data = self._file.read(_PIECE)
        self._read += len(data)
        return data


class _Gzip:
    """zlib's decompressor with the face of its two younger siblings."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    def decompress(self, data: bytes, most: int) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail + data, most)


_DECODERS: dict[str, Callable[[], Any]] = {
    "gzip": _Gzip,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
}


def cut_short() -> CorruptPhotoError:
    """Return the error of an archive that ends too early."""
    return CorruptPhotoError("The archive is cut short: it ends before its own end. What came before has been read.")
