"""Keep libtiff from writing to file descriptor 2.

libtiff reports to stderr by itself, below Python. Its handlers are switched off where they can be reached,
once and for the copy of libtiff that Pillow itself is linked to; elsewhere descriptor 2 is turned away for
the while.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Iterator

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
    """Decode TIFF inside: nothing raw appears on stderr.

    Where the handlers cannot be reached, descriptor 2 points to the null device meanwhile, one thread at a
    time; what other threads write to stderr in these milliseconds is lost, which is why this is the second
    choice.
    """
    if _handlers_off():
        yield
        return
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
