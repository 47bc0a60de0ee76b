"""Upright sRGB pixels -> the input of a network: one, or several views of the same photo.

A recipe is geometry only. It belongs to a network's weights, not to its architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from .errors import InvalidModelError, UsageError

Fit: TypeAlias = Literal["squash", "resize-crop", "crop-resize"]
Views: TypeAlias = Literal["one", "mirror", "ten-crop", "multi-crop", "dense"]
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
_MAX_SCALES = 8
# Of the views of one photo together, uint8; several photos are in memory at once. The 150 crops of VGG take 23 MB.
_MAX_BYTES = 2**27
_GRID = 5  # places along each side
_VIEWS: dict[Views, int] = {"one": 1, "mirror": 2, "ten-crop": 10, "multi-crop": 2 * _GRID**2, "dense": 2}
# A dense view is as long as the photo is, but for this many times its shorter side; and no network should be asked for
# maps of more than some 4 megapixels, of which a VGG's first ones take 2 GB.
_LONGEST, _MAX_DENSE = 4, 1024
_OPTIONAL = ("views", "scales")  # fields that are not written where they say nothing


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an upright photo becomes a network's input: geometry only, normalisation is the graph's own.

    `squash` scales the whole photo to size x size, whatever its shape (Keras' `load_img`). `resize-crop`
    scales the shorter side to `side` and cuts size x size from the middle (torchvision). `crop-resize` cuts
    the middle square of size/side of the shorter side and scales it to size x size (EfficientNet's TensorFlow
    original).

    `views` are the inputs that one photo gives:

    - `one`: the middle, as above.
    - `mirror`: that, and its left-right mirror image.
    - `ten-crop` (Krizhevsky et al. 2012): from the top left, the top right, the bottom left, the bottom right and the
      middle; then the same of the photo's mirror image. torchvision's `TenCrop` has this order.
    - `multi-crop` (Simonyan and Zisserman 2014, 3.2): from a regular grid of 5 x 5 places, row by row; then the same of
      the photo's mirror image.
    - `dense`, for fully convolutional networks: the whole photo, scaled so that its shorter side is `side` and cut to
      the middle of 4 x `side` where it is longer; then its mirror image.

    Several crops are cut from the resized photo, by `crop-resize` too: only its middle is as `one` has it.

    `scales` are other sides to be taken one after the other instead of `side`; each gives all of the views. A recipe
    that squashes has no scales, and no views but `one` and `mirror`.

    Raises UsageError for values that make no sense, or whose views of one photo would take more than 128 MB.
    """

    name: str
    size: int
    fit: Fit = "squash"
    side: int | None = None
    filter: str = "bilinear"
    views: Views = "one"
    scales: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 1 <= len(self.name) <= 64 or not self.name.isprintable():
            raise UsageError("A recipe's name must be 1 to 64 printable characters.")
        if not _is_side(self.size):
            raise UsageError(f"A recipe's size must be a whole number from 1 to {_MAX_SIDE}.")
        if self.fit not in get_args(Fit):
            raise UsageError(f"A recipe's fit must be one of {', '.join(get_args(Fit))}.")
        if not isinstance(self.filter, str) or self.filter not in FILTERS:
            raise UsageError(f"A recipe's filter must be one of {', '.join(FILTERS)}.")
        if self.fit == "squash" and self.side is not None:
            raise UsageError("A recipe that squashes takes no side: it must be None.")
        if self.fit != "squash" and (not _is_side(self.side) or cast("int", self.side) < self.size):
            raise UsageError(f"A recipe that crops needs a side from its size to {_MAX_SIDE}.")
        self._check_views()

    def _check_views(self) -> None:
        if not isinstance(self.views, str) or self.views not in _VIEWS:
            raise UsageError(f"A recipe's views must be one of {', '.join(_VIEWS)}.")
        if not isinstance(self.scales, tuple) or len(self.scales) > _MAX_SCALES or not all(map(_is_side, self.scales)):
            raise UsageError(
                f"A recipe's scales must be a tuple of at most {_MAX_SCALES} whole numbers from 1 to {_MAX_SIDE}."
            )
        if self.fit == "squash" and (self.scales or self.views not in ("one", "mirror")):
            raise UsageError(
                "A recipe that squashes shows the whole photo at one size: its views must be one or mirror, and it "
                "takes no scales. Several crops or scales need a recipe that crops, such as crop."
            )
        most = _MAX_DENSE if self.views == "dense" else _MAX_SIDE
        if len({*self.scales}) < len(self.scales) or not all(self.size <= side <= most for side in self.sides):
            raise UsageError(
                f"A recipe's scales (or, without them, its side) must differ and lie from its size, {self.size}, to "
                f"{most}: that is as far as {self.views} goes."
            )
        if self.most_bytes > _MAX_BYTES:
            raise UsageError(
                f"A recipe's views of one photo must not take more than {_MAX_BYTES >> 20} MB, these take "
                f"{self.most_bytes >> 20} MB: fewer or smaller scales, or fewer views."
            )

    def __str__(self) -> str:
        ways = [] if self.views == "one" else [self.views]
        return " ".join([self.name, *ways, *([",".join(map(str, self.scales))] if self.scales else [])])

    @property
    def sides(self) -> tuple[int, ...]:
        """The sides that are taken one after the other: `scales`, or the recipe's own."""
        return self.scales or (self.side or self.size,)

    @property
    def inputs(self) -> int:
        """How many inputs of the network one photo gives."""
        return _VIEWS[self.views] * len(self.sides)

    @property
    def plain(self) -> Recipe:
        """The same with one input a photo, the middle at its first scale: what `fit` and `cut` are about."""
        return replace(self, views="one", scales=self.scales[:1])

    @property
    def middle(self) -> int:
        """Which of the views is the one that `plain` shows."""
        return {"ten-crop": 4, "multi-crop": _GRID**2 // 2}.get(self.views, 0)

    @property
    def enough(self) -> int | None:
        """How many pixels of a photo's shorter side say all that the inputs can show; None: every pixel is wanted.

        Nearest neighbour picks single pixels, so nothing else may stand in their place (Keras' `load_img` least of
        all). The other filters average over what they shrink, and hardly tell the photo from one at half its size:
        docs/folders.md says what that moves.
        """
        return None if self.filter == "nearest" else _ENOUGH * max(self.sides)

    @property
    def most_bytes(self) -> int:
        """How many bytes the views of one photo take together, uint8: of dense ones, at the most."""
        if self.views == "dense":
            return sum(2 * side * _LONGEST * side * 3 for side in self.sides)
        return self.inputs * self.size**2 * 3

    def allows(self, shapes: Sequence[tuple[int, int]]) -> bool:
        """Whether the views of a photo can be so many, and of these heights and widths."""
        if self.views != "dense":
            return [*shapes] == [(self.size, self.size)] * self.inputs
        if len(shapes) != self.inputs:
            return False
        pairs = zip(self.sides, shapes[::2], shapes[1::2], strict=True)
        return all(
            one == mirrored and min(one) == side and max(one) <= _LONGEST * side for side, one, mirrored in pairs
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON; `views` and `scales` only where they are not the defaults."""
        values = {**asdict(self), "scales": [*self.scales]}
        for optional in _OPTIONAL:
            if getattr(self, optional) == getattr(type(self), optional):
                del values[optional]
        return values

    @classmethod
    def from_dict(cls, values: object) -> Recipe:
        """Build from what a model file says, which is not trusted: InvalidModelError for anything odd."""
        names = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or not names - {*_OPTIONAL} <= set(values) <= names:
            raise InvalidModelError(
                f"The model's recipe must hold exactly {', '.join(sorted(names - {*_OPTIONAL}))}, and perhaps "
                f"{' and '.join(_OPTIONAL)}."
            )
        given = dict(values)
        if isinstance(given.get("scales"), list):  # as JSON has them
            given["scales"] = tuple(given["scales"])
        try:
            return cls(**cast("dict[str, Any]", given))
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


# --- One input ------------------------------------------------------------------------------------


def prepare(image: Image.Image, recipe: Recipe) -> npt.NDArray[np.float32]:
    """Return the network's input for an upright photo, as `images.read` gives it; of several views, see `fit`.

    Returns a C-contiguous array (size, size, 3) float32, RGB 0..255. Raises UsageError for a mode other than
    RGB.
    """
    return np.array(fit(image, recipe), dtype=np.float32, order="C")


def fit(image: Image.Image, recipe: Recipe, *, whole: tuple[int, int] | None = None, scale: int = 1) -> Image.Image:
    """Return an upright photo at the size of the recipe's input: what `prepare` makes an array of.

    Of a recipe with several views this is what its `plain` one shows. `image` may be the photo at one part in `scale`
    of its size, which was `whole`, upright, in pixels: then what is cut is reckoned from the whole photo all the same,
    to a fraction of a pixel. Raises UsageError for a mode other than RGB.
    """
    _check_mode(image)
    kind, size, side = FILTERS[recipe.filter], recipe.size, recipe.sides[0]
    if scale > 1:
        left, top, right, bottom = cut(whole or (image.width * scale, image.height * scale), recipe)
        box = (left / scale, top / scale, min(right / scale, image.width), min(bottom / scale, image.height))
        return image.resize((size, size), kind, box=box)
    if recipe.fit == "squash":
        return image if image.size == (size, size) else image.resize((size, size), kind)
    if recipe.fit == "resize-crop":
        _, _, left, top = _window(image.size, size, side)
        return _Resized(image, image.size, side, kind).piece(left, top, (size, size))
    return _crop_resize(image, _middle_square(image.size, size, side), size, kind)


def cut(photo: tuple[int, int], recipe: Recipe) -> tuple[float, float, float, float]:
    """Return what a recipe shows of an upright photo of this size: left, top, right and bottom, in its pixels.

    Of a recipe with several views this is what its `plain` one shows.
    """
    width, height = photo
    if recipe.fit == "squash":
        return 0, 0, width, height
    side = recipe.sides[0]
    if recipe.fit == "crop-resize":
        return _middle_square(photo, recipe.size, side)
    wide, high, left, top = _window(photo, recipe.size, side)
    across, down = width / wide, height / high
    return left * across, top * down, (left + recipe.size) * across, (top + recipe.size) * down


def _check_mode(image: Image.Image) -> None:
    if image.mode != "RGB":
        raise UsageError(f"prepare() takes an image of mode RGB, as read() returns, not {image.mode}.")


# --- Several views --------------------------------------------------------------------------------


def views(
    image: Image.Image, recipe: Recipe, *, whole: tuple[int, int] | None = None, scale: int = 1
) -> tuple[npt.NDArray[np.uint8], ...]:
    """Return all the inputs that a recipe makes of an upright photo, `recipe.inputs` of them, in their stated order.

    Each is an array (height, width, 3) uint8, RGB 0..255: size x size, but for dense views. It may be read-only. Views
    that show the same, or its mirror image, share their memory: a mirror image is a NumPy view, `[:, ::-1]`; all others
    are C-contiguous. `image`, `whole` and `scale` are as for `fit`, which makes the only view where there is but one.
    Raises UsageError for a mode other than RGB.
    """
    _check_mode(image)
    whole = whole or (image.width * scale, image.height * scale)
    found: list[npt.NDArray[np.uint8]] = []
    for side in recipe.sides:
        if recipe.views in ("one", "mirror"):
            single = recipe if recipe.fit == "squash" else replace(recipe, side=side, scales=())
            made = [np.asarray(fit(image, single, whole=whole, scale=scale))]
        elif recipe.views == "dense":
            made = [np.asarray(_dense(image, whole, scale, side, FILTERS[recipe.filter]))]
        else:
            made = _crops(image, whole, scale, recipe, side)
        if recipe.views in ("mirror", "dense"):
            made.append(made[0][:, ::-1])
        found += made
    return tuple(found)


def _crops(
    image: Image.Image, whole: tuple[int, int], scale: int, recipe: Recipe, side: int
) -> list[npt.NDArray[np.uint8]]:
    """Resize the shorter side to `side`, then cut at several places: torchvision's `Resize` and `TenCrop`.

    A recipe that cuts before it resizes gets its middle as it makes it. Of all other places it would show the same, but
    for a fraction of a pixel and at the edges, where here the filter sees what lies beyond; to resize each of 25 pieces
    by itself would take far longer.
    """
    size, kind = recipe.size, FILTERS[recipe.filter]
    _, _, left, top = _window(whole, size, side)
    resized = _Resized(image, whole, side, kind, scale)

    def piece(x: int, y: int) -> Image.Image:
        if recipe.fit == "crop-resize" and (x, y) == (left, top):
            return fit(image, replace(recipe, side=side, scales=()), whole=whole, scale=scale)
        return resized.piece(x, y, (size, size))

    return _everywhere(piece, recipe.views, resized.size, size, (left, top))


def _everywhere(
    piece: Callable[[int, int], Image.Image],
    how: Views,
    canvas: tuple[int, int],
    square: int,
    middle: tuple[int, int],
) -> list[npt.NDArray[np.uint8]]:
    """The pieces at all places of a canvas at which `how` looks, and those of its mirror image at the same places."""
    right, bottom = canvas[0] - square, canvas[1] - square
    places = [(0, 0), (right, 0), (0, bottom), (right, bottom), middle]
    if how == "multi-crop":
        xs, ys = ([round(i * last / (_GRID - 1)) for i in range(_GRID)] for last in (right, bottom))
        xs[_GRID // 2], ys[_GRID // 2] = middle  # which is rounded as the one view is
        places = [(x, y) for y in ys for x in xs]
    made = {place: np.asarray(piece(*place)) for place in dict.fromkeys(places)}
    # What lies at x in the mirror image lies at right - x in the photo: nearly always a place that is there already.
    mirrored = [(right - x, y) for x, y in places]
    made |= {place: np.asarray(piece(*place)) for place in dict.fromkeys(mirrored) if place not in made}
    return [*(made[place] for place in places), *(made[place][:, ::-1] for place in mirrored)]


def _dense(image: Image.Image, whole: tuple[int, int], scale: int, side: int, kind: Image.Resampling) -> Image.Image:
    """Resize the shorter side to `side`, and keep the middle of what is longer than `_LONGEST` times that."""
    resized = _Resized(image, whole, side, kind, scale)
    width, height = (min(length, _LONGEST * side) for length in resized.size)
    left, top = round((resized.size[0] - width) / 2), round((resized.size[1] - height) / 2)
    return resized.piece(left, top, (width, height))


# --- Geometry -------------------------------------------------------------------------------------

# The longest intermediate, as a multiple of the short side, that is made whole.
_WHOLE = 16


class _Resized:
    """A photo whose shorter side is resized to `side`, rounding as torchvision's transforms do, to cut pieces from."""

    def __init__(
        self, image: Image.Image, whole: tuple[int, int], side: int, kind: Image.Resampling, scale: int = 1
    ) -> None:
        self.size = _resized(whole, side)
        self._image, self._kind = image, kind
        # How many of the image's pixels are one of the resized photo's.
        self._across, self._down = (of / scale / to for of, to in zip(whole, self.size, strict=True))
        self._made: Image.Image | None = None
        if max(self.size) <= _WHOLE * side:
            # Where a JPEG was decoded smaller, its last row and column stand for a part of their pixels only.
            box = (0, 0, min(whole[0] / scale, image.width), min(whole[1] / scale, image.height))
            self._made = image if image.size == self.size and scale == 1 else image.resize(self.size, kind, box=box)

    def piece(self, left: int, top: int, size: tuple[int, int]) -> Image.Image:
        """Return `size`, width and height, from there on."""
        if self._made is not None:
            return self._made.crop((left, top, left + size[0], top + size[1]))
        # A 1 x 100,000 photo would make 6.5 gigapixels on the way: ask for the window only. The filter still sees
        # the pixels around it; the result differs by rounding alone, by 1 or 2.
        image, across, down = self._image, self._across, self._down
        box = (left * across, top * down, (left + size[0]) * across, (top + size[1]) * down)
        # Pillow keeps a box in single precision: first cut roughly (the filter's reach stays), to keep it small.
        spare_x, spare_y = int(4 * max(across, 1)) + 2, int(4 * max(down, 1)) + 2
        x, y = max(0, int(box[0]) - spare_x), max(0, int(box[1]) - spare_y)
        right, bottom = min(image.width, int(box[2]) + 1 + spare_x), min(image.height, int(box[3]) + 1 + spare_y)
        box = (box[0] - x, box[1] - y, min(box[2], image.width) - x, min(box[3], image.height) - y)
        return image.crop((x, y, right, bottom)).resize(size, self._kind, box=box)


def _resized(photo: tuple[int, int], side: int) -> tuple[int, int]:
    """The size that a photo is resized to."""
    short, long = sorted(photo)
    long_after = int(side * long / short)
    return (side, long_after) if photo[0] <= photo[1] else (long_after, side)


def _window(photo: tuple[int, int], size: int, side: int) -> tuple[int, int, int, int]:
    """The size that a photo is resized to, and where size x size are cut from its middle."""
    width, height = _resized(photo, side)
    return width, height, round((width - size) / 2), round((height - size) / 2)


def _crop_resize(image: Image.Image, box: tuple[int, int, int, int], size: int, kind: Image.Resampling) -> Image.Image:
    """Cut a square, then resize it.

    EfficientNet's original rounds the middle square down and its corner up, which on small photos moves the picture by
    up to two pixels of the input; rounding to the nearest keeps the middle in the middle.
    """
    square = image.crop(box)
    return square if square.size == (size, size) else square.resize((size, size), kind)


def _middle_square(photo: tuple[int, int], size: int, side: int) -> tuple[int, int, int, int]:
    width, height = photo
    square = max(1, round(size / side * min(photo)))
    left, top = (width - square) // 2, (height - square) // 2
    return left, top, left + square, top + square
