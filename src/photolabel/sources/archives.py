"""A tar or a ZIP -> the photos in it, in its own order. Nothing is unpacked; what a file is, its first bytes say."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from ..errors import PhotoError, PhotoUnreadableError, UnsupportedFormatError
from ..images import Limits, check_bytes, opened
from . import tars, zips
from .item import Item, Member, Zipped, stamp
from .names import Choice
from .streams import Plain, Unpacked, cut_short

_ZIPS = (b"PK\3\4", b"PK\5\6", b"PK\7\x08")
_COMPRESSED = {b"\x1f\x8b\x08": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
_FOREIGN = {b"Rar!\x1a\x07": "RAR", b"7z\xbc\xaf\x27\x1c": "7z", b"\x28\xb5\x2f\xfd": "Zstandard"}
_STORED, _DEFLATED = 0, 8


def kind(path: str) -> str | None:
    """Return "tar", "gzip", "bzip2" or "xz" (of a tar), "zip", the name of an archive that is not read, or None.

    None is every other file, and what cannot be opened: reading it will tell.
    """
    try:
        with opened(path) as (file, _):
            return _kind(file)
    except PhotoError:
        return None


def _kind(file: BinaryIO) -> str | None:
    head = file.read(tars.BLOCK) or b""  # None: a file of the system's that has nothing to say yet
    if head.startswith(_ZIPS):
        return "zip"
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            return name
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            file.seek(0)
            return name if tars.is_tar(Unpacked(file, name).read(tars.BLOCK)) else None
    return "tar" if tars.is_tar(head) else None


def photos(path: str, kind: str, choice: Choice, limits: Limits) -> Iterator[Item]:
    """Yield the photos in an archive of this kind, called `PATH/NAME INSIDE`; what is wrong with it comes as an Item.

    The rules of folders apply to the names inside, and so do the user's patterns. Leading slashes go; a name with
    `..` is an error. Of links nothing is read: what they lead to is in the archive under its own name, or not at all.
    """
    if kind in _FOREIGN.values():
        message = f"The file is packed by {kind}, which is not read here; tar and ZIP are. Unpack it first."
        yield Item(photo=path, path=path, error=UnsupportedFormatError(message))
        return
    try:
        with opened(path) as (file, status):
            if kind == "zip":
                yield from _zipped(path, file, status, choice)
            else:
                yield from _tarred(path, kind, file, status, choice, limits)
    except PhotoError as error:
        yield Item(photo=path, path=path, error=error)


def _tarred(
    path: str, kind: str, file: BinaryIO, status: os.stat_result, choice: Choice, limits: Limits
) -> Iterator[Item]:
    compressed = kind != "tar"
    stream = Unpacked(file, kind) if compressed else Plain(file, status.st_size)
    for entry in tars.entries(stream):
        if entry.kind == "folder":
            continue
        if entry.kind in ("link", "other"):
            choice.left_out[entry.kind] += 1
            continue
        names = _names(entry.name)
        if not choice.takes_file(names):
            continue
        photo = _called(path, names)
        if error := _outside(names):
            yield Item(photo=photo, path=path, error=error)
        elif entry.kind == "sparse":
            message = "The photo is stored in the archive as a sparse file, which is not read. Unpack it first."
            yield Item(photo=photo, path=path, error=UnsupportedFormatError(message))
        elif not compressed:
            if entry.offset + entry.size > status.st_size:
                raise cut_short()
            member = Member(offset=entry.offset, size=entry.size, stamp=stamp(status))
            yield Item(photo=photo, path=path, member=member)
        else:
            try:
                check_bytes(entry.size, limits)
            except PhotoError as error:
                yield Item(photo=photo, path=path, error=error)
            else:
                data = stream.read(entry.size)
                if len(data) < entry.size:
                    raise cut_short()
                yield Item(photo=photo, path=path, data=data)
    if isinstance(stream, Unpacked):
        stream.finish()


def _zipped(path: str, file: BinaryIO, status: os.stat_result, choice: Choice) -> Iterator[Item]:
    for entry in zips.entries(file, status.st_size):
        if entry.name.endswith("/") or entry.mode == stat.S_IFDIR:
            continue
        if entry.mode not in (0, stat.S_IFREG):
            choice.left_out["link" if entry.mode == stat.S_IFLNK else "other"] += 1
            continue
        names = _names(entry.name)
        if not choice.takes_file(names):
            continue
        photo = _called(path, names)
        if error := _outside(names) or _unreadable(entry):
            yield Item(photo=photo, path=path, error=error)
            continue
        zipped = Zipped(packed=entry.packed, deflated=entry.method == _DEFLATED, crc=entry.crc)
        member = Member(offset=entry.header, size=entry.size, stamp=stamp(status), zipped=zipped)
        yield Item(photo=photo, path=path, member=member)


def _unreadable(entry: zips.Entry) -> PhotoError | None:
    if entry.encrypted:
        return PhotoUnreadableError("The photo is encrypted in the archive. Unpack it with its password first.")
    if entry.method not in (_STORED, _DEFLATED):
        return UnsupportedFormatError(
            f"The photo is compressed in the archive by method {entry.method}; only deflate is read. Unpack it first."
        )
    return None


def _names(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")] or [""]


def _called(path: str, names: list[str]) -> str:
    return f"{path}/{'/'.join(names)}"


def _outside(names: list[str]) -> PhotoError | None:
    if ".." in names:
        return PhotoUnreadableError("The photo's name leads out of the archive (it has a ..), so it is not read.")
    return None
