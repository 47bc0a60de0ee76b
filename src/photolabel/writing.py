"""A file that the caller asked for, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
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
