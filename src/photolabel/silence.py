"""Decode without a word: Pillow's warnings and libtiff's own messages reach nobody.

libtiff reports to stderr by itself, below Python. Its handlers are switched off where they can be reached,
once and for the copy of libtiff that Pillow itself is linked to; elsewhere descriptor 2 is turned away for
the while.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, cast

from PIL import _imaging

_lock = threading.Lock()


@functools.cache
def _handlers_off() -> bool:
    try:
        # dlsym() looks in a library's dependencies too: whichever libtiff Pillow uses, bundled or the
        # system's.
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            setter = library[name]
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)
    except (OSError, AttributeError):  # Windows: linked into _imaging, or nothing to find
        return False
    return True


@contextlib.contextmanager
def silenced_libtiff() -> Iterator[None]:
    """Decode TIFF inside: nothing raw appears on stderr."""
    if _handlers_off():
        yield
        return
    with stderr_turned_away():
        yield


@contextlib.contextmanager
def stderr_turned_away() -> Iterator[None]:
    """Descriptor 2 points to the null device meanwhile, one thread at a time.

    What other threads write to stderr in these milliseconds is lost, so this is for what knows no other way.
    """
    with _lock:
        try:
            saved = os.dup(2)
        except OSError:  # no stderr at all: nothing to protect
            yield
            return
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(null)


_here = threading.local()


class _InOurHands:
    """The module part of a warning filter: matches in a thread that is decoding for us, whatever the module.

    warnings.catch_warnings() swaps the filters of the whole process and is not safe between threads before
    3.14.
    """

    def match(self, module: str, position: int = 0) -> bool:
        return getattr(_here, "depth", 0) > 0


_IGNORE = cast("Any", ("ignore", None, Warning, _InOurHands(), 0))

for _name in ("PIL", "pi_heif"):  # with no handler at all Python prints a library's log to stderr
    logging.getLogger(_name).addHandler(logging.NullHandler())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Ignore the warnings of this thread (Pillow has some for odd EXIF and TIFF), and no other's."""
    if getattr(sys.flags, "context_aware_warnings", False):  # free-threaded Python: made for this
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        return
    filters = cast("list[Any]", warnings.filters)
    if not filters or filters[0] is not _IGNORE:  # simplefilter() and pytest put theirs in front
        filters[:] = [_IGNORE, *(entry for entry in filters if entry is not _IGNORE)]
    _here.depth = getattr(_here, "depth", 0) + 1
    try:
        yield
    finally:
        _here.depth -= 1
