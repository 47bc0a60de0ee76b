"""A list of paths, in a file or from standard input -> sources."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import BinaryIO

from ..errors import PhotoNotFoundError, PhotoUnreadableError, UsageError
from .item import Item

LONGEST = 1 << 16  # bytes of an entry: no system knows longer paths
_PIECE = 1 << 16


def listed(stream: BinaryIO, *, nul: bool | None = None, name: str = "the list") -> Iterator[str | Item]:
    r"""Yield the paths that a list holds, in its order, as sources for `find`.

    One path a line, ending in LF or CRLF, or each ending in NUL (`find -print0`): so it is where `nul` says it, or
    where there is a NUL in the first 64 kB. Blank lines are skipped; nothing else is special: no comments, no quotes,
    spaces belong to the name. Bytes that are no UTF-8 stay what they are. Relative paths are relative to the current
    folder. With `nul` given, each path is yielded as soon as it has been read.

    A path too long to be one, and a list that cannot be read to its end, are Items with an error; the latter is
    called `name`. Raises UsageError for a list in UTF-16.
    """
    encoding = sys.getfilesystemencoding()
    try:
        head = _head(stream) if nul is None else _some(stream)
        if nul is None and ((head[:2] == b"\xff\xfe" and head[3:4] == b"\0") or head[:3] == b"\xfe\xff\0"):
            raise UsageError(f"{name} is in UTF-16; save it as UTF-8.")
        separator = b"\0" if nul or (nul is None and b"\0" in head) else b"\n"
        for number, raw in enumerate(_entries(stream, head, separator)):
            entry = raw
            if separator == b"\n":
                entry = raw.removesuffix(b"\r")
                if number == 0:
                    entry = entry.removeprefix(b"\xef\xbb\xbf")  # as Windows' editors mark UTF-8
                if not entry.strip():
                    continue
            if not entry:
                continue
            if len(entry) > LONGEST:
                shown = entry[:80].decode(encoding, "surrogateescape") + "..."
                yield Item(photo=shown, error=PhotoNotFoundError(_TOO_LONG))
            else:
                yield entry.decode(encoding, "surrogateescape")
    except OSError as error:
        why = error.strerror or "the system gives no reason"
        yield Item(photo=name, error=PhotoUnreadableError(f"The list cannot be read to its end: {why}."))


_TOO_LONG = (
    f"No file can have this name: its entry in the list is longer than {LONGEST:,} bytes. "
    "Is it a list of paths, one a line?"
)


def _some(stream: BinaryIO) -> bytes:
    """Read what there is, at least one byte but at the end."""
    read = getattr(stream, "read1", stream.read)  # read() would wait until it has all that it was asked for
    data: bytes | None = read(_PIECE)
    if data is None:
        raise BlockingIOError(0, "it does not wait for data")
    return data


def _head(stream: BinaryIO) -> bytes:
    """Read the first 64 kB, however many pieces they come in: what separates must not depend on it."""
    head = bytearray()
    while len(head) < _PIECE and (piece := _some(stream)):
        head += piece
    return bytes(head)


def _entries(stream: BinaryIO, head: bytes, separator: bytes) -> Iterator[bytes]:
    """Split; of an entry that is too long only a little more than LONGEST is kept."""
    rest, piece = b"", head
    while piece:
        first, *more = piece.split(separator)
        rest += first[: LONGEST + 2 - len(rest)]
        if more:
            yield rest
            yield from more[:-1]
            rest = more[-1]
        piece = _some(stream)
    yield rest
