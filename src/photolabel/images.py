"""A photo, in whatever form it comes -> upright sRGB pixels -> the input of a network."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, BinaryIO, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from .colour import to_srgb
from .decoding import DEFAULT_LIMITS, Limits, bare, check_pixels, decode, reported
from .errors import (
    CorruptPhotoError,
    InvalidModelError,
    PhotoError,
    PhotolabelError,
    PhotoNotFoundError,
    PhotoTooLargeError,
    PhotoUnreadableError,
    UsageError,
)

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
    "prepare",
    "read",
    "stored",
]

Photo: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | npt.NDArray[np.uint8]
)

Fit: TypeAlias = Literal["squash", "resize-crop", "crop-resize"]
_FITS = ("squash", "resize-crop", "crop-resize")
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_ENOUGH = 2  # times the size that a photo is scaled to: Pillow's own advice for reducing in two steps
_MAX_SIDE = 4096  # a recipe may come from a stranger's model: its input must stay below 200 MB


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an upright photo becomes a network's input: geometry only, normalisation is the graph's own.

    `squash` scales the whole photo to size x size, whatever its shape (Keras' `load_img`). `resize-crop`
    scales the shorter side to `side` and cuts size x size from the middle (torchvision). `crop-resize` cuts
    the middle square of size/side of the shorter side and scales it to size x size (EfficientNet's TensorFlow
    original).

    Raises UsageError for values that make no sense.
    """

    name: str
    size: int
    fit: Fit = "squash"
    side: int | None = None
    filter: str = "bilinear"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 1 <= len(self.name) <= 64 or not self.name.isprintable():
            raise UsageError("A recipe's name must be 1 to 64 printable characters.")
        if not _is_side(self.size):
            raise UsageError(f"A recipe's size must be a whole number from 1 to {_MAX_SIDE}.")
        if self.fit not in _FITS:
            raise UsageError(f"A recipe's fit must be one of {', '.join(_FITS)}.")
        if not isinstance(self.filter, str) or self.filter not in FILTERS:
            raise UsageError(f"A recipe's filter must be one of {', '.join(FILTERS)}.")
        if self.fit == "squash" and self.side is not None:
            raise UsageError("A recipe that squashes takes no side: it must be None.")
        if self.fit != "squash" and (not _is_side(self.side) or cast("int", self.side) < self.size):
            raise UsageError(f"A recipe that crops needs a side from its size to {_MAX_SIDE}.")

    @property
    def enough(self) -> int | None:
        """How many pixels of a photo's shorter side say all that the input can show; None: every pixel is wanted.

        Nearest neighbour picks single pixels, so nothing else may stand in their place (Keras' `load_img` least of
        all). The other filters average over what they shrink, and hardly tell the photo from one at half its size:
        docs/folders.md says what that moves.
        """
        return None if self.filter == "nearest" else _ENOUGH * (self.side or self.size)

    def to_dict(self) -> dict[str, str | int | None]:
        """Return the fields as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> Recipe:
        """Build from what a model file says, which is not trusted: InvalidModelError for anything odd."""
        names = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != names:
            raise InvalidModelError(f"The model's recipe must hold exactly {', '.join(sorted(names))}.")
        try:
            return cls(**cast("dict[str, Any]", dict(values)))
        except UsageError as error:
            raise InvalidModelError(f"The model's recipe makes no sense. {error}") from error


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_SIDE


# Keras' own example of use for VGG16: load_img(path, target_size=(224, 224)), whose default is nearest
# neighbour.
KERAS = Recipe(name="keras", size=224, fit="squash", side=None, filter="nearest")
# The one-crop protocol of the ImageNet papers and of torchvision.
CROP = Recipe(name="crop", size=224, fit="resize-crop", side=256, filter="bicubic")
# The same with the filter that torchvision's own weights were trained and measured with (models/_api.py).
CROP_BILINEAR = Recipe(name="crop", size=224, fit="resize-crop", side=256, filter="bilinear")
# EfficientNet-Lite2: 260 pixels, CROP_PADDING = 32 (preprocessing.py of the original).
LITE2 = Recipe(name="efficientnet-lite2", size=260, fit="crop-resize", side=292, filter="bicubic")
RECIPES = {recipe.name: recipe for recipe in (KERAS, CROP, LITE2)}


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


# --- Preparing ------------------------------------------------------------------------------------


def prepare(image: Image.Image, recipe: Recipe) -> npt.NDArray[np.float32]:
    """Return the network's input for an upright photo, as `read` gives it.

    Returns a C-contiguous array (size, size, 3) float32, RGB 0..255. Raises UsageError for a mode other than
    RGB.
    """
    return np.array(fit(image, recipe), dtype=np.float32, order="C")


def fit(image: Image.Image, recipe: Recipe, *, whole: tuple[int, int] | None = None, scale: int = 1) -> Image.Image:
    """Return an upright photo at the size of the recipe's input: what `prepare` makes an array of.

    `image` may be the photo at one part in `scale` of its size, which was `whole`, upright, in pixels: then what is cut
    is reckoned from the whole photo all the same, to a fraction of a pixel.
    """
    if image.mode != "RGB":
        raise UsageError(f"prepare() takes an image of mode RGB, as read() returns, not {image.mode}.")
    kind, size = FILTERS[recipe.filter], recipe.size
    if scale > 1:
        left, top, right, bottom = cut(whole or (image.width * scale, image.height * scale), recipe)
        box = (left / scale, top / scale, min(right / scale, image.width), min(bottom / scale, image.height))
        return image.resize((size, size), kind, box=box)
    if recipe.fit == "squash":
        return image if image.size == (size, size) else image.resize((size, size), kind)
    if recipe.fit == "resize-crop":
        return _resize_crop(image, size, cast("int", recipe.side), kind)
    return _crop_resize(image, size, cast("int", recipe.side), kind)


def cut(photo: tuple[int, int], recipe: Recipe) -> tuple[float, float, float, float]:
    """Return what a recipe shows of an upright photo of this size: left, top, right and bottom, in its pixels."""
    width, height = photo
    if recipe.fit == "squash":
        return 0, 0, width, height
    if recipe.fit == "crop-resize":
        return _middle_square(photo, recipe.size, cast("int", recipe.side))
    wide, high, left, top = _window(photo, recipe.size, cast("int", recipe.side))
    across, down = width / wide, height / high
    return left * across, top * down, (left + recipe.size) * across, (top + recipe.size) * down


# The longest intermediate, as a multiple of the short side, that is made whole.
_WHOLE = 16


def _resize_crop(image: Image.Image, size: int, side: int, kind: Image.Resampling) -> Image.Image:
    """Resize the shorter side to `side`, then cut the middle, rounding as torchvision's transforms do."""
    width, height, left, top = _window(image.size, size, side)
    if max(width, height) <= _WHOLE * side:
        whole = image if image.size == (width, height) else image.resize((width, height), kind)
        return whole.crop((left, top, left + size, top + size))
    # A 1 x 100,000 photo would make 6.5 gigapixels on the way: ask for the window only. The filter still sees
    # the pixels around it; the result differs by rounding alone (measured: 1 value in 1,000, by 1 or 2).
    across, down = image.width / width, image.height / height
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    # Pillow keeps a box in single precision: first cut roughly (the filter's reach stays), to keep it small.
    spare_x, spare_y = int(4 * max(across, 1)) + 2, int(4 * max(down, 1)) + 2
    x, y = max(0, int(box[0]) - spare_x), max(0, int(box[1]) - spare_y)
    rough = (x, y, min(image.width, int(box[2]) + 1 + spare_x), min(image.height, int(box[3]) + 1 + spare_y))
    box = (box[0] - x, box[1] - y, box[2] - x, box[3] - y)
    return image.crop(rough).resize((size, size), kind, box=box)


def _window(photo: tuple[int, int], size: int, side: int) -> tuple[int, int, int, int]:
    """The size that a photo is resized to, and where size x size are cut from it."""
    short, long = sorted(photo)
    long_after = int(side * long / short)
    width, height = (side, long_after) if photo[0] <= photo[1] else (long_after, side)
    return width, height, round((width - size) / 2), round((height - size) / 2)


def _crop_resize(image: Image.Image, size: int, side: int, kind: Image.Resampling) -> Image.Image:
    """Cut the middle square of size/side of the shorter side, then resize.

    EfficientNet's original rounds the square down and its corner up, which on small photos moves the picture by
    up to two pixels of the input; rounding to the nearest keeps the middle in the middle.
    """
    box = _middle_square(image.size, size, side)
    middle = image.crop(box)
    return middle if middle.size == (size, size) else middle.resize((size, size), kind)


def _middle_square(photo: tuple[int, int], size: int, side: int) -> tuple[int, int, int, int]:
    width, height = photo
    square = max(1, round(size / side * min(photo)))
    left, top = (width - square) // 2, (height - square) // 2
    return left, top, left + square, top + square
