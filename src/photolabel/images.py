"""A photo, in whatever form it comes -> upright sRGB pixels; and, out of `recipes`, the input of a network."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from .colour import to_srgb
from .decoding import DEFAULT_LIMITS, Limits, bare, check_pixels, decode, reported
from .errors import (
    CorruptPhotoError,
    PhotoError,
    PhotolabelError,
    PhotoNotFoundError,
    PhotoTooLargeError,
    PhotoUnreadableError,
    UsageError,
)
from .recipes import CROP, CROP_BILINEAR, FILTERS, KERAS, LITE2, RECIPES, Recipe, cut, fit, prepare, views

__all__ = [
    "CROP",
    "CROP_BILINEAR",
    "DEFAULT_LIMITS",
    "FILTERS",
    "KERAS",
    "LITE2",
    "RECIPES",
    "Limits",
    "Photo",
    "Recipe",
    "cut",
    "fit",
    "prepare",
    "read",
    "stored",
    "views",
]

Photo: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | npt.NDArray[np.uint8]
)

# --- Reading --------------------------------------------------------------------------------------


def read(photo: Photo, *, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """Return a photo's first frame upright, in sRGB, as a loaded PIL image of mode RGB without metadata.

    `photo` is a path (str or PathLike; never a URL), the bytes of a file, a binary file object (read from
    where it stands, not closed), a PIL image, or a NumPy array (H, W, 3) uint8 0..255 RGB. None of them is
    changed, except that a PIL image which is not loaded yet is loaded, and closed if that fails: Pillow would
    hand out its half-decoded pixels at the next try.

    Files are JPEG (and MPO), PNG, WebP, GIF, TIFF, BMP, AVIF or HEIC; `colour.to_srgb` says how each kind of
    pixel is treated. Raises a PhotoError for what is wrong with the photo, UsageError for an argument of
    another type.
    """
    if isinstance(photo, np.ndarray | Image.Image):
        return from_memory(photo, limits=limits)
    return upright(stored(photo, limits=limits))


def from_memory(photo: Image.Image | npt.NDArray[np.uint8], *, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """Return what `read` does of a photo that is no file: a PIL image or an array."""
    return _from_array(photo, limits) if isinstance(photo, np.ndarray) else _from_pil(photo, limits)


def stored(photo: Photo, *, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """Return the first frame of a photo that is a file, of whatever mode, with its pixels as they are stored.

    `photo` is as for `read`, but no image and no array yet. Neither turned upright nor converted. Raises as `read`.
    """
    return decode(content(photo, limits), limits)


def content(photo: Photo, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Return the bytes of a photo that is a file: a path, bytes, or a binary file object. Raises as `read`."""
    if isinstance(photo, str | os.PathLike):
        data = read_file(photo, limits)
    elif isinstance(photo, bytes | bytearray | memoryview):
        data = photo if isinstance(photo, bytes) else bytes(photo)
    elif hasattr(photo, "read"):
        data = _read_object(photo, limits)
    else:
        raise UsageError(
            "A photo must be a path, bytes, a binary file object, a PIL image or an array (H, W, 3) uint8; "
            f"this is of type {type(photo).__name__}."
        )
    check_bytes(len(data), limits)
    return data


def upright(image: Image.Image, *, own: bool = True) -> Image.Image:
    """Convert what `stored` gives to sRGB, and turn it. `own`: it is ours, so it may be changed and returned."""
    with reported():
        turn = _TURNS.get(image.info["orientation"])
        result = to_srgb(image if own or image.mode != "RGB" else image.copy())
        del image  # a large photo must not be held twice while it turns
        if turn is not None:
            result = result.transpose(turn)
    result.info = {}  # else the next reader turns it again
    return result


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _from_pil(photo: Image.Image, limits: Limits) -> Image.Image:
    if photo.width < 1 or photo.height < 1:
        raise CorruptPhotoError(f"The image has no pixels: it is {photo.width} x {photo.height}.")
    check_pixels(photo.size, limits)
    if _is_closed(photo):
        raise PhotoUnreadableError(
            "The PIL image is closed, or the file that it was to be read from is. Open it again, and read it before "
            "it is closed. (One whose pixels turned out broken has been closed here.)"
        )
    try:
        with reported():
            photo.load()
    except PhotoError:
        photo.close()
        raise
    return upright(bare(photo), own=False)


def _is_closed(photo: Image.Image) -> bool:
    try:
        _ = photo.im
    except ValueError:  # close() leaves this behind
        return True
    except (AssertionError, AttributeError):  # not loaded yet, which needs its file
        file = getattr(photo, "fp", None)
        return isinstance(photo, ImageFile.ImageFile) and (file is None or getattr(file, "closed", False) is True)
    return False


def _from_array(photo: npt.NDArray[Any], limits: Limits) -> Image.Image:
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or 0 in photo.shape:
        raise UsageError(
            f"An array must be (height, width, 3) uint8, RGB 0..255, not {photo.shape} {photo.dtype}. "
            "Convert it, or pass a PIL image."
        )
    check_pixels((photo.shape[1], photo.shape[0]), limits)
    with reported():
        return Image.fromarray(np.ascontiguousarray(photo))  # Pillow keeps 4 bytes a pixel: always a copy


def read_file(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Return the bytes of the file of a photo, at most as many as the limit allows; raises a PhotoError."""
    with opened(path) as (file, status):
        check_bytes(status.st_size, limits)
        data = _read_bounded(file, limits, status.st_size + 1)
    check_bytes(len(data), limits)  # it may have grown
    return data


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """Open a regular file without ever waiting for it; what the system objects to, here or inside, is a PhotoError."""
    # O_NONBLOCK: opening a FIFO must not wait for a writer. What it is, is asked of the opened descriptor, so
    # that nothing can be swapped in between.
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PhotoNotFoundError("There is no such file. Check the name and the folder.") from error
    except (ValueError, TypeError) as error:  # NUL or lone surrogates in the name; a PathLike of bytes
        raise PhotoNotFoundError("No file can have this name: it holds an impossible character.") from error
    except PermissionError as error:
        message = "The file may not be read, or is a folder. Check its permissions."
        raise PhotoUnreadableError(message) from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise PhotoNotFoundError("No file can have this name: it is too long.") from error
        raise unreadable(error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
            raise PhotoUnreadableError(f"A photo must be a regular file; this is {what}.")
        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
            yield cast("BinaryIO", file), status
    except OSError as error:
        raise unreadable(error) from error
    finally:
        os.close(descriptor)


def _read_object(file: Any, limits: Limits) -> bytes:
    try:
        return _read_bounded(file, limits)
    except PhotolabelError:  # ours, from below
        raise
    except OSError as error:
        if error.errno:
            raise unreadable(error) from error
        raise _failed_read(file, error) from error
    except Exception as error:  # foreign code: zlib.error, zipfile.BadZipFile, http.client.HTTPException, ...
        raise _failed_read(file, error) from error


def _failed_read(file: Any, error: Exception) -> PhotoUnreadableError:
    if isinstance(error, ValueError) and getattr(file, "closed", False):
        return PhotoUnreadableError("The file object cannot be read: it is closed. Open it again.")
    kind = type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"  # zlib.error
    return PhotoUnreadableError(
        f"The file object cannot be read: its read() failed with {name}. What it reads from may be broken or cut short."
    )


def _read_bounded(file: BinaryIO, limits: Limits, step: int = 1 << 20) -> bytes:
    """Read to the end, or one byte past the limit; one read() of a raw file or a pipe may return less."""
    parts: list[bytes] = []
    left = limits.file_bytes + 1
    while left > 0:
        part = file.read(min(left, step))
        if part is None:
            raise PhotoUnreadableError("The file has no data yet (its read() returned None): pass one that waits.")
        if not isinstance(part, bytes | bytearray | memoryview):
            raise UsageError(
                f'The file object must be binary: open it with mode "rb". Its read() returned {type(part).__name__}.'
            )
        if not part:
            break
        parts.append(bytes(part))
        left -= len(part)
    return b"".join(parts)


def check_bytes(count: int, limits: Limits) -> None:
    """Raise PhotoTooLargeError if the photo's file has more bytes than the limit."""
    if count > limits.file_bytes:
        raise PhotoTooLargeError(
            f"The photo is larger than the limit of {limits.file_bytes:,} bytes. "
            "Scale it down, or raise Limits.file_bytes if you trust it."
        )


def unreadable(error: OSError) -> PhotoUnreadableError:
    """Return what the system says as a PhotoError, without the path."""
    why = os.strerror(error.errno) if error.errno else "the system gives no reason"
    return PhotoUnreadableError(f"The file is there but cannot be read: {why}.")
