"""Small copies of photos beside a page, and photos side by side with some lines beneath."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ..errors import PhotoError
from .markup import Child, Markup, clean, foreign, tag


@dataclass(kw_only=True)
class Thumbnails:
    """Small JPEG files of photos in the folder `photos` of a page, each made at its first use.

    `read` returns the upright photo of a name, or None for one that is gone; a PhotoError counts as that. No more than
    `most` are made.
    """

    folder: Path
    read: Callable[[str], Image.Image | None]
    most: int = 300
    _made: dict[str, tuple[str, int, int] | None] = field(default_factory=dict)
    _count: int = 0

    def of(self, photo: str) -> Markup:
        """Return the small photo, or in its place that it is not at hand."""
        if photo not in self._made:
            self._made[photo] = self._make(photo)
        made = self._made[photo]
        if made is None:
            return tag("div", {"class": "gone"}, "The photo is not at hand.")
        source, width, height = made
        alt = clean(_last(photo))
        return tag("img", {"src": source, "width": width, "height": height, "alt": alt})

    def _make(self, photo: str) -> tuple[str, int, int] | None:
        if self._count >= self.most:
            return None
        try:
            image = self.read(photo)
        except PhotoError:
            return None
        if image is None:
            return None
        self._count += 1
        name = f"photos/{self._count:04d}.jpg"
        (self.folder / "photos").mkdir(exist_ok=True)
        return name, *_write_small(image, self.folder / name)


_SIDE = 360  # pixels of the longer side, for 180 on a page
_QUALITY = 80


def _write_small(image: Image.Image, path: Path) -> tuple[int, int]:
    """Write a small copy that holds nothing but pixels; returns its size."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A"))
        image = flat
    elif image.mode != "RGB":
        image = image.convert("RGB")
    scale = min(1.0, _SIDE / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    small.info.clear()  # comments and the like, which Pillow would write into the file
    small.save(path, "JPEG", quality=_QUALITY, optimize=True)
    return small.size


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A photo with some lines beneath. `right` gives what is bold in them a colour; the lines say it as well."""

    photo: str
    lines: Sequence[Child]
    right: bool | None = None


def cards(shown: Iterable[Card], thumbnails: Thumbnails) -> Markup:
    """Return photos side by side."""
    colours = {True: "right", False: "wrong", None: None}
    return tag(
        "ul",
        {"class": "cards"},
        [
            tag(
                "li",
                {"class": colours[each.right]},
                tag(
                    "figure",
                    None,
                    thumbnails.of(each.photo),
                    tag(
                        "figcaption",
                        None,
                        [tag("p", None, line) for line in each.lines],
                        tag("p", {"class": "file", "title": clean(each.photo)}, foreign(_last(each.photo))),
                    ),
                ),
            )
            for each in shown
        ],
    )


def _last(photo: str) -> str:
    """The last part of a path of any system."""
    return re.split(r"[/\\]", photo.rstrip("/\\"))[-1] or photo
