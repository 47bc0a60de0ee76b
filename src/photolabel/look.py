"""What a network got to see of a photo: its very pixels, where they are in the photo, and what is odd about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import images
from .draw import scene, style
from .images import DEFAULT_LIMITS, Limits, Photo, Recipe
from .output import printable
from .prepared import Prepared, prepare

_SIDE = 336  # of the two pictures on the page, in its units
_GAP = 28
_LINE = 17
_SEEN = "#d55e00"  # Okabe and Ito's vermilion, which stands out for the colour-blind too

# What is odd. Each is where the answers of the bundled model on photos changed visibly when it was brought about.
_ENLARGED = 1.5  # times: fewer pixels than the network looks at
_STRETCHED = 1.25  # one side against the other
_LOST = 0.55  # of the photo's area
_FLAT = 6.0  # levels of 255, standard deviation


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What a network gets of one photo.

    `prepared.pixels` (size, size, 3) uint8 RGB are the very pixels that the network gets. `cut` is what of the photo
    the recipe shows: left, top, right, bottom in pixels of the photo upright, whose width and height are `size`.
    `warnings` say what is odd, in words.
    """

    prepared: Prepared
    recipe: Recipe
    size: tuple[int, int]
    cut: tuple[float, float, float, float]
    warnings: tuple[str, ...]

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The network's input, uint8 (size, size, 3) RGB 0..255."""
        assert self.prepared.pixels is not None
        return self.prepared.pixels

    def facts(self) -> list[str]:
        """Return what was done to the photo, a line each."""
        left, top, right, bottom = self.cut
        width, height = self.size
        lines = []
        if (how := self.prepared.decoding) is not None:
            said = f"{how.format}, {how.width} x {how.height} pixels"
            said += f", turned as EXIF says ({how.orientation})" if how.orientation != 1 else ""
            said += f", decoded at 1/{how.scale}" if how.scale > 1 else ""
            lines.append(said + (", with a colour profile" if how.profile else ""))
        kept = (right - left) * (bottom - top) / (width * height)
        lines.append(
            f"recipe {self.recipe.name}: {right - left:.0f} x {bottom - top:.0f} of its pixels ({kept:.0%} of it), "
            f"to {self.recipe.size} x {self.recipe.size} ({self.recipe.filter})"
        )
        return lines


@dataclass(frozen=True, kw_only=True, eq=False)
class Look(Seen):
    """The same, with the `photo` itself: upright, as a PIL image."""

    photo: Image.Image

    def save(self, path: str | Path) -> None:
        """Draw the photo with what was cut from it, and the network's pixels, into the PNG or SVG at `path`.

        A file that is there is replaced, once the new one is whole. Raises UsageError for another ending, OutputError
        where it cannot be written.
        """
        scene.save(self._drawn(), Path(path))

    def _drawn(self) -> scene.Scene:
        name = printable(Path(self.prepared.photo or "photo").name)
        width, height = self.photo.size
        scale = _SIDE / max(width, height)
        shown_width, shown_height = width * scale, height * scale
        tall = max(shown_height, _SIDE * 0.75)
        seen = min(tall, _SIDE)
        page = scene.Scene(f"What the network sees of {name}")
        left, top = float(style.MARGIN), 72.0
        right = left + shown_width + _GAP
        page.width = right + seen + style.MARGIN
        page.add(
            scene.Text(x=left, y=36, text=scene.fit(name, 20, page.width - 2 * left), size=20),
            scene.Text(x=left, y=60, text="the photo, and what is cut from it", fill=style.PALE),
            scene.Text(x=right, y=60, text=f"what the network gets, {self.recipe.size} pixels wide", fill=style.PALE),
            scene.Picture(x=left, y=top, width=shown_width, height=shown_height, image=_small(self.photo)),
            scene.Picture(x=right, y=top, width=seen, height=seen, image=Image.fromarray(self.pixels)),
        )
        x0, y0, x1, y1 = (edge * scale for edge in self.cut)
        frame = ((left + x0, top + y0), (left + x1, top + y0), (left + x1, top + y1), (left + x0, top + y1))
        page.add(
            scene.Line(points=(*frame, frame[0], frame[1]), stroke="#ffffff", width=4),
            scene.Line(points=(*frame, frame[0], frame[1]), stroke=_SEEN, width=2.2),
        )
        y = top + max(shown_height, seen) + 26
        for line in self.facts():
            for part in _wrapped(line, page.width - 2 * left):
                page.add(scene.Text(x=left, y=y, text=part, fill=style.PALE))
                y += _LINE
        for line in self.warnings:
            for number, part in enumerate(_wrapped(line, page.width - 2 * left - 14)):
                if not number:
                    page.add(scene.Box(x=left, y=y - 8, width=8, height=8, radius=2, fill=_SEEN))
                page.add(scene.Text(x=left + 14, y=y, text=part))
                y += _LINE
        page.height = y + style.MARGIN / 2
        return page


def look(photo: Photo, recipe: Recipe, *, limits: Limits = DEFAULT_LIMITS) -> Look:
    """Return what a network whose recipe this is gets of a photo. Raises the `PhotoError` of one that cannot be read.

    `photo` is what `images.read` takes; a file object is read to its end. Of a recipe of several views this is its
    `plain` one.
    """
    recipe = recipe.plain
    if hasattr(photo, "read"):  # which gives its bytes once only
        photo = images.content(photo, limits)
    made = prepare(photo, recipe, limits=limits)
    if made.error is not None:
        raise made.error
    whole = images.read(photo, limits=limits)
    return Look(photo=whole, **vars(seen(made, recipe, whole.size)))


def seen(made: Prepared, recipe: Recipe, size: tuple[int, int]) -> Seen:
    """Return what a network gets of a photo that was prepared by this `plain` recipe, of this width and height upright.

    Raises the photo's own error.
    """
    if made.error is not None:
        raise made.error
    cut = images.cut(size, recipe)
    return Seen(prepared=made, recipe=recipe, size=size, cut=cut, warnings=tuple(_warnings(made, size, cut, recipe)))


def _warnings(
    made: Prepared, size: tuple[int, int], cut: tuple[float, float, float, float], recipe: Recipe
) -> list[str]:
    width, height = cut[2] - cut[0], cut[3] - cut[1]
    found = []
    larger = recipe.size / min(width, height)
    if larger >= _ENLARGED:
        found.append(f"tiny: what is cut from it is enlarged {larger:.1f} times, and has nothing more to show")
    ratio = max(width, height) / min(width, height)
    if ratio >= _STRETCHED:
        found.append(f"stretched: one side is squeezed {ratio:.2f} times as much as the other; the recipe crop is not")
    lost = 1 - width * height / (size[0] * size[1])
    if lost >= _LOST:
        found.append(f"much cut off: {lost:.0%} of the photo is outside; what is at its edges is not seen")
    if made.decoding is not None and made.decoding.transparent:
        found.append("transparent: it was laid over white, and a white thing on white cannot be seen")
    assert made.pixels is not None
    if made.pixels.astype(np.float32).std(axis=(0, 1)).max() < _FLAT:
        found.append("nearly of one colour: there is hardly anything to be seen")
    return found


def _small(image: Image.Image) -> Image.Image:
    copy = image.copy()
    copy.thumbnail((_SIDE * 2, _SIDE * 2), Image.Resampling.LANCZOS)
    return copy


def _wrapped(text: str, width: float, size: float = 11) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and scene.measure(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
