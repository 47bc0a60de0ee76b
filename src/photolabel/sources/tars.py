"""The members of a tar, one header after the other.

The standard library's tarfile keeps all headers in memory, reads extended ones of any length, and recurses for each;
this reads forward in constant memory and knows no more than what archives of photos hold: POSIX (pax) and GNU
headers. One 512-byte header is still parsed by tarfile.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..errors import CorruptPhotoError
from .streams import Stream, cut_short

Kind: TypeAlias = Literal["file", "sparse", "link", "folder", "other"]

BLOCK = tarfile.BLOCKSIZE
_LONGEST_HEADER = 1 << 20  # bytes: it holds a path, a few numbers and perhaps extended attributes

_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_KINDS: dict[bytes, Kind] = {
    **dict.fromkeys(_FILES, "file"),
    tarfile.LNKTYPE: "link",
    tarfile.SYMTYPE: "link",
    tarfile.DIRTYPE: "folder",
    tarfile.GNUTYPE_SPARSE: "sparse",
}
_WITHOUT_DATA = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)


@dataclass(frozen=True, slots=True)
class Entry:
    """A member: its bytes are `size` from `offset` on, where it is of kind "file"."""

    name: str
    kind: Kind
    offset: int
    size: int


def is_tar(head: bytes) -> bool:
    """Whether these first bytes of a file are the header of a tar's first member."""
    try:
        tarfile.TarInfo.frombuf(head[:BLOCK], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def entries(stream: Stream) -> Iterator[Entry]:
    """Yield the members in their order. What is read of the stream between two of them does not matter.

    Raises CorruptPhotoError for an archive that is broken or ends without its end mark.
    """
    name: str | None = None
    size: int | None = None
    sparse = False
    while True:
        at, block = stream.position, stream.read(BLOCK)
        if len(block) < BLOCK:
            raise cut_short()
        if not any(block):  # the end mark
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError):
            raise _broken(at) from None
        if header.type in (
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
            tarfile.XHDTYPE,
            tarfile.SOLARIS_XHDTYPE,
        ):
            if not 0 <= header.size <= _LONGEST_HEADER:
                raise _broken(at)
            start = stream.position
            data = stream.read(header.size)
            stream.seek(_after(start, header.size))
            if header.type == tarfile.GNUTYPE_LONGNAME:
                name = _text(data.split(b"\0", 1)[0])
            elif header.type != tarfile.GNUTYPE_LONGLINK:
                try:
                    name, size, sparse = _pax(data, name)
                except ValueError:
                    raise _broken(at) from None
            continue
        kind = _KINDS.get(header.type, "other")
        if kind == "sparse":
            more = block[482]
            while more:  # a longer map of its holes
                more_block = stream.read(BLOCK)
                if len(more_block) < BLOCK:
                    raise cut_short()
                more = more_block[504]
        count = 0 if header.type in _WITHOUT_DATA else header.size if size is None else size
        if count < 0:
            raise _broken(at)
        offset = stream.position
        if kind == "file" and sparse:
            kind = "sparse"
        yield Entry(header.name if name is None else name, kind, offset, count)
        name, size, sparse = None, None, False
        stream.seek(_after(offset, count))


def _after(offset: int, size: int) -> int:
    return offset + size + -size % BLOCK


def _pax(data: bytes, name: str | None) -> tuple[str | None, int | None, bool]:
    """Return the name, the size and whether the file is sparse, as an extended header has them. Raises ValueError."""
    size, sparse, at = None, False, 0
    while at < len(data) and data[at]:
        space = data.index(b" ", at)
        end = at + int(data[at:space])
        if not space < end <= len(data) or data[end - 1 : end] != b"\n":
            raise ValueError
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals:
            raise ValueError
        if key == b"path" or key == b"GNU.sparse.name":
            name = _text(value)
        elif key == b"size":
            size = int(value)
        sparse = sparse or key.startswith(b"GNU.sparse.")
        at = end
    return name, size, sparse


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _broken(at: int) -> CorruptPhotoError:
    return CorruptPhotoError(f"The archive is broken at its byte {at:,}. What came before has been read.")
