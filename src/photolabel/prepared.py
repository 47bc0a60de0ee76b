"""One photo -> the network's inputs, with what became of the photo on the way; or what is wrong with it.

The one way from a photo to a network, whichever process it runs in: the classifier takes it photo by photo, the
workers of `batch` for thousands.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from . import images
from .decoding import decode
from .errors import PhotoError, UsageError
from .images import DEFAULT_LIMITS, Limits, Photo, Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """The bytes of a photo: their SHA-256 in hexadecimal digits, and how many they are."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """What the decoder made of a photo's file.

    `width` and `height` are in pixels, as they are stored: before the photo was turned as `orientation` says (EXIF's,
    1..8; HEIC and TIFF are turned by their decoders and have 1). `scale` is 1, or 2, 4 or 8 where a JPEG was
    decoded at that part of its size. `mode` is Pillow's name for the kind of pixel, `profile` whether an ICC profile
    came with them, `transparent` whether they were laid over white.
    """

    format: str
    width: int
    height: int
    orientation: int
    scale: int
    mode: str
    profile: bool
    transparent: bool

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height once the photo is turned."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


@dataclass(frozen=True, kw_only=True, slots=True)
class Seconds:
    """What one photo took: to read its bytes, and to decode and prepare it."""

    reading: float = 0.0
    decoding: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)  # arrays do not compare
class Prepared:
    """A photo as a network takes it: `views`, each (height, width, 3) uint8, RGB 0..255; or its `error`, and none.

    There are as many views as the recipes have inputs, of size x size but where they are dense; those that show the
    same, or its mirror image, share their memory, as `images.views` says. `photo` is what a record calls it. `file` is
    None for a photo from memory, and for one that could not be read; `decoding` is None for those, and for one that
    could not be decoded.
    """

    photo: str | None
    views: tuple[NDArray[np.uint8], ...] = ()
    error: PhotoError | None = None
    file: File | None = None
    decoding: Decoding | None = None
    seconds: Seconds = Seconds()

    @property
    def pixels(self) -> NDArray[np.uint8] | None:
        """The first of the views, which is the only one of most recipes; None where there is an error."""
        return self.views[0] if self.views else None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what views share once, and all of it out of band where the reader takes it so."""
        pieces, shown = pieces_of(self.views)
        straight = [np.ascontiguousarray(piece) for piece in pieces]
        return _again, (straight, shown, self.photo, self.error, self.file, self.decoding, self.seconds)


def _again(
    pieces: Sequence[NDArray[np.uint8]],
    shown: Sequence[tuple[int, bool]],
    photo: str | None,
    error: PhotoError | None,
    file: File | None,
    decoding: Decoding | None,
    seconds: Seconds,
) -> Prepared:
    views = views_of(pieces, shown)
    return Prepared(photo=photo, views=views, error=error, file=file, decoding=decoding, seconds=seconds)


def pieces_of(views: Sequence[NDArray[np.uint8]]) -> tuple[list[NDArray[np.uint8]], list[tuple[int, bool]]]:
    """Return the pieces, each once, that views are made of, which may share their memory; and what each view shows.

    Which is the number of a piece, and whether the view is its mirror image. `views_of` puts them together again.
    """
    pieces: list[NDArray[np.uint8]] = []
    shown: list[tuple[int, bool]] = []
    numbers: dict[tuple[Any, ...], int] = {}
    for view in views:
        mirrored = view.strides[1] < 0
        piece = view[:, ::-1] if mirrored else view
        where = piece.__array_interface__["data"][0], piece.shape, piece.strides
        number = numbers.setdefault(where, len(pieces))
        if number == len(pieces):
            pieces.append(piece)
        shown.append((number, mirrored))
    return pieces, shown


def views_of(pieces: Sequence[NDArray[np.uint8]], shown: Sequence[tuple[int, bool]]) -> tuple[NDArray[np.uint8], ...]:
    """Return the views that `pieces_of` took apart."""
    return tuple(pieces[number][:, ::-1] if mirrored else pieces[number] for number, mirrored in shown)


def prepare(photo: Photo, *recipes: Recipe, limits: Limits = DEFAULT_LIMITS, name: str | None = None) -> Prepared:
    """Read, decode and prepare one photo; never raises a PhotoError, which is part of the result.

    `photo` is what `images.read` takes; `name` what to call it, by default its path. It is decoded once, whatever the
    `recipes`, whose views follow each other; a JPEG at a reduced size where all of them allow it (`Recipe.enough`).
    """
    if not recipes:
        raise UsageError("expected at least one recipe.")
    name = name_of(photo) if name is None else name
    file = decoding = error = whole = None
    views: tuple[NDArray[np.uint8], ...] = ()
    scale = 1
    begun = read = time.perf_counter()
    try:
        if isinstance(photo, np.ndarray | Image.Image):
            upright = images.from_memory(photo, limits=limits)
        else:
            data = images.content(photo, limits)
            file = File(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
            read = time.perf_counter()
            image = decode(data, limits, enough=_enough(recipes))
            decoding = _decoding(image)
            del data
            upright = images.upright(image)
            whole, scale = decoding.upright, decoding.scale
            del image  # a large photo must not be held twice
        views = tuple(view for recipe in recipes for view in images.views(upright, recipe, whole=whole, scale=scale))
    except PhotoError as caught:
        error = _bare(caught)
    seconds = Seconds(reading=read - begun, decoding=time.perf_counter() - read)
    return Prepared(photo=name, views=views, error=error, file=file, decoding=decoding, seconds=seconds)


def _enough(recipes: Sequence[Recipe]) -> int | None:
    """`Recipe.enough` for all of them."""
    each = [recipe.enough for recipe in recipes]
    return None if None in each else max(side for side in each if side is not None)


def inputs(photos: Iterable[Photo], recipe: Recipe, *, limits: Limits = DEFAULT_LIMITS) -> Iterator[NDArray[np.uint8]]:
    """Yield the pixels of each photo, as `prepare` makes them, where all must be sound and `recipe` has one view.

    Raises the `PhotoError` of the first that is not, with its name or its number in front; and at once `UsageError`
    for a recipe of several views.
    """
    if recipe.inputs != 1:
        raise UsageError(
            f"recipe {recipe.name}: expected one with one input a photo, this one has {recipe.inputs}. "
            "`Recipe.plain` is the same with one."
        )
    return _inputs(photos, recipe, limits)


def _inputs(photos: Iterable[Photo], recipe: Recipe, limits: Limits) -> Iterator[NDArray[np.uint8]]:
    for number, photo in enumerate(photos, 1):
        made = prepare(photo, recipe, limits=limits)
        if made.error is not None:
            raise type(made.error)(f"{made.photo or f'photo {number}'}: {made.error}")
        assert made.pixels is not None
        yield made.pixels


def refused(photo: str | None, error: PhotoError) -> Prepared:
    """Return what becomes of a photo of which it is known already what is wrong with it."""
    return Prepared(photo=photo, error=_bare(error))


def _bare(error: PhotoError) -> PhotoError:
    """The same without its traceback, which would keep the photo's bytes alive."""
    return type(error)(*error.args)


def name_of(photo: object) -> str | None:
    """Return what a record calls a photo: its path, or None for one from memory."""
    return os.fsdecode(photo) if isinstance(photo, str | os.PathLike) else None


def _decoding(image: Image.Image) -> Decoding:
    info, (width, height) = image.info, image.info["stored"]
    return Decoding(
        format=info["format"],
        width=width,
        height=height,
        orientation=info["orientation"],
        scale=info["scale"],
        mode=image.mode,
        profile=bool(info.get("icc_profile")),
        transparent=image.has_transparency_data,
    )
