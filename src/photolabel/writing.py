"""A file or folder that the caller asked for, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import OutputError


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be written, which gets its name, and takes the place of an older one, when the block is done.

    If the block raises, or the process is interrupted, nothing is left of it and an older file stays. Raises
    `OutputError` where the system objects, and for whatever OSError comes out of the block.
    """
    check(path)
    temporary = path.with_name(f".photolabel-{secrets.token_hex(8)}.tmp")  # short: a long name fits no second time
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _refused(path, error.strerror or "the system does not say why") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, *, ours: Callable[[Path], bool]) -> Iterator[Path]:
    """Give a new folder to be filled, which gets its name when the block is done.

    An empty folder of that name is taken over. One that holds something is replaced if `ours` says that it is nothing
    but an earlier one, else it is left alone. It stays until the new one is whole, but for the moment between two
    renames; it is back if the second of them fails. If the block raises, or the process is interrupted, nothing is left
    of the new one. Raises `OutputError` where the system objects, and for whatever OSError comes out of the block.
    """
    check_folder(path, ours=ours)
    place = Path(os.path.realpath(path))  # behind a link: the folder is replaced, and the link stays
    stem = f".photolabel-{secrets.token_hex(8)}"
    temporary, former = place.with_name(f"{stem}.tmp"), place.with_name(f"{stem}.old")
    try:
        temporary.mkdir()
        yield temporary
        for each in temporary.rglob("*"):
            if each.is_file():
                with each.open("rb+") as file:
                    os.fsync(file.fileno())
        check_folder(path, ours=ours)  # it may have been filled meanwhile
        try:
            if place.exists():
                place.rename(former)
            temporary.rename(place)
        except BaseException:
            if former.exists() and not place.exists():
                former.rename(place)
            raise
    except OSError as error:
        raise _refused(path, error.strerror or "the system does not say why") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if place.exists():
            shutil.rmtree(former, ignore_errors=True)


def check_folder(path: Path, *, ours: Callable[[Path], bool]) -> None:
    """Raise `OutputError` if `whole_folder` can plainly not write to `path`: better said before long work."""
    try:
        place = Path(os.path.realpath(path))
        place.parent.stat()
        if place == Path.cwd():
            raise _refused(path, "it is the folder you are in")
        with suppress(FileNotFoundError):
            if not stat.S_ISDIR(place.stat().st_mode):
                raise _refused(path, "it is no folder")
            if any(place.iterdir()) and not ours(place):
                raise _refused(path, "the folder holds something else than what photolabel wrote there")
        if not os.access(place.parent, os.W_OK | os.X_OK):
            raise _refused(path, "its folder may not be written to")
    except ValueError:  # a path that no system takes
        raise _refused(path, "no such path can be") from None
    except OSError as error:
        raise _refused(path, error.strerror or "the system does not say why") from None


def check(path: Path) -> None:
    """Raise `OutputError` if a file can plainly not be written to `path`: better said before long work than after."""
    try:
        path.parent.stat()
        with suppress(FileNotFoundError):
            kind = path.stat().st_mode
            if stat.S_ISDIR(kind):
                raise _refused(path, "it is a folder")
            if not stat.S_ISREG(kind):
                raise _refused(path, "it is a device or a pipe")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise _refused(path, "its folder may not be written to")
    except ValueError:  # a path that no system takes
        raise _refused(path, "no such path can be") from None
    except OSError as error:
        raise _refused(path, error.strerror or "the system does not say why") from None


def _refused(path: Path, reason: str) -> OutputError:
    return OutputError(f"{path}: cannot be written: {reason}.")
