"""A folder -> the photos in it and beneath, sorted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import PhotoError, PhotoNotFoundError, PhotoUnreadableError
from ..images import unreadable
from .item import Item
from .names import Choice


@dataclass(frozen=True)
class _Folder:
    path: str
    names: tuple[str, ...]  # of the folders from the source to here, this one included
    entries: list[bytes]  # those to come, the next one last
    folders: set[bytes]  # which of them are folders


def walk(top: str, choice: Choice) -> Iterator[Item]:
    """Yield the photos in a folder, and an error for each folder that cannot be read.

    In each folder files and folders are sorted together by the bytes of their names, so that the whole is sorted by
    path, name by name. Links are followed, but every folder is walked once: under its own name, if it lies beneath
    `top` and is not left out there, else where the first link to it is met. Only the names in the folders from `top`
    to the present one are in memory.
    """
    real_top = os.path.join(os.path.realpath(top), "")  # noqa: PTH118  # ends in a slash
    met: set[tuple[int, int]] = set()  # ends loops, and chains of links whose ways double at every step
    way: list[_Folder] = []

    def lies_beneath(link: str) -> bool:
        real = os.path.join(os.path.realpath(link), "")  # noqa: PTH118
        return real.startswith(real_top) and choice.leads_to(real[len(real_top) :].split(os.sep)[:-1])  # noqa: PTH206

    def enter(path: str, names: tuple[str, ...]) -> Iterator[Item]:
        entries: list[bytes] = []
        folders: set[bytes] = set()
        try:
            status = os.stat(path)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in met:
                choice.left_out["seen"] += 1
                return
            met.add((status.st_dev, status.st_ino))
            with os.scandir(path) as found:
                for entry in found:
                    here = (*names, entry.name)
                    folder = _is_folder(entry)
                    if folder and entry.is_symlink() and lies_beneath(entry.path):
                        choice.left_out["seen"] += 1
                    elif choice.takes_folder(here) if folder else choice.takes_file(here):
                        entries.append(name := os.fsencode(entry.name))
                        if folder:
                            folders.add(name)
        except OSError as error:  # perhaps in the middle: what was listed until then is photos all the same
            yield Item(photo=path, path=path, error=_why(error))
        entries.sort(reverse=True)
        way.append(_Folder(path, names, entries, folders))

    yield from enter(top, ())
    while way:
        folder = way[-1]
        if not folder.entries:
            way.pop()
            continue
        raw = folder.entries.pop()
        name = os.fsdecode(raw)
        path = os.path.join(folder.path, name)  # noqa: PTH118  # as it was given: pathlib would tidy it
        if raw in folder.folders:
            yield from enter(path, (*folder.names, name))
        else:
            # Whatever it is, if it calls itself a photo it gets its record: reading it tells what is wrong.
            yield Item(photo=path, path=path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder that may not be read
        return False


def _why(error: OSError) -> PhotoError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return PhotoNotFoundError("The folder was here a moment ago, and is gone. The photos in it are left out.")
    if isinstance(error, PermissionError):
        return PhotoUnreadableError("The folder may not be read: check its permissions. The photos in it are left out.")
    why = str(unreadable(error)).replace("The file", "The folder")
    return PhotoUnreadableError(f"{why} Photos in it are left out.")
