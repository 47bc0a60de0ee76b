"""HTML pages as values: text that is escaped unless it is markup already, and the pieces that pages share.

A page is one file that needs nothing from outside and runs no script; it says so itself, in a policy that browsers
enforce. Its photos are small JPEG files beside it. It is well-formed XML too, so anything can read it. What a stranger
named, a file or a class, goes in as `str` and cannot become markup: only `tag` makes that.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from PIL import Image

from . import __version__
from .draw import scene
from .errors import PhotoError
from .output import printable

if TYPE_CHECKING:
    from .confidence import Share

Attributes: TypeAlias = Mapping[str, str | int | float | None]


@dataclass(frozen=True, slots=True)
class Markup:
    """A piece of a page, as `tag` makes it: safe to be put into another as it is."""

    text: str


Child: TypeAlias = Union[Markup, str, int, Sequence["Child"], None]  # noqa: UP007  # a name in quotes takes no |

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9:-]*")
_HERE = re.compile(r"#?[A-Za-z0-9_][A-Za-z0-9_/-]*(\.[a-z]+)?")  # a place on the page, or a file beside it
_EMPTY = frozenset(["meta", "img", "br"])
_NO_CHARACTERS = re.compile("[\ufffe\uffff]")  # printable, by and large, but nothing that XML may hold
_LONGEST = 300  # characters of a stranger's text


def clean(text: str) -> str:
    """Return a stranger's text as one harmless line of at most 300 characters, with an ellipsis in its middle."""
    text = _NO_CHARACTERS.sub("\ufffd", printable(text))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}…{text[1 - _LONGEST // 2 :]}"


def tag(name: str, attributes: Attributes | None = None, *children: Child) -> Markup:
    """Return an element. Text in `children` is escaped; None is nothing; an attribute of None is left out.

    Raises ValueError for what this module's pages never hold: scripts, and links to anywhere else.
    """
    if not _NAME.fullmatch(name) or name == "script":
        raise ValueError(f"no element of a page: {name!r}")
    parts = [name]
    for key, value in (attributes or {}).items():
        if not _NAME.fullmatch(key) or key.startswith("on"):
            raise ValueError(f"no attribute of a page: {key!r}")
        if value is not None:
            if key in ("href", "src") and not _HERE.fullmatch(str(value)):
                raise ValueError(f"leads away from the page: {value!r}")
            parts.append(f'{key}="{_escaped(str(value))}"')
    inside = join(*children).text
    opened = " ".join(parts)
    return Markup(f"<{opened} />" if name in _EMPTY else f"<{opened}>{inside}</{name}>")


def join(*children: Child) -> Markup:
    """Return pieces one after the other."""
    return Markup("".join(_pieces(children)))


def _pieces(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if isinstance(child, Markup):
            yield child.text
        elif isinstance(child, str | int):
            yield _escaped(str(child))
        elif child is not None:
            yield from _pieces(child)


def _escaped(text: str) -> str:
    return escape(_NO_CHARACTERS.sub("\ufffd", printable(text)))


def foreign(text: str) -> Markup:
    """Return a stranger's text, cleaned, so that its direction of writing stays its own."""
    return tag("bdi", None, clean(text))


def drawing(page: scene.Scene) -> Markup:
    """Return a drawn page as part of this one. In the dark, page.css exchanges its colours."""
    text = scene.svg(page).decode("utf-8")
    return tag("div", {"class": "drawing"}, Markup(text.partition("?>")[2].strip().replace("\n", " ")))


# -- numbers

DASH = "\N{EN DASH}"
NOTHING = DASH  # in place of what is not a number


def percent(share: float) -> str:
    """Return a share as `12.3%`; what is not quite nothing or all does not look as if it were."""
    if math.isnan(share):
        return NOTHING
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{share:.1%}"


def interval(share: Share) -> str:
    """Return the 95 % interval of a share as `8.0-11.7%`, with the dash that goes between numbers."""
    return f"{share.low * 100:.1f}{DASH}{share.high * 100:.1f}%"


def several(count: int, word: str, words: str | None = None) -> str:
    """Return `1 photo`, `2,000 photos`."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"


# -- pieces


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of a page under its heading; `anchor` is a word by which the page's list of parts leads to it."""

    anchor: str
    heading: str
    content: Child


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """A big figure: what it is, its value, and a line or more on it."""

    label: str
    value: str
    notes: Sequence[Child] = ()


def tiles(figures: Iterable[Tile]) -> Markup:
    """Return figures side by side."""
    return tag(
        "dl",
        {"class": "tiles"},
        [
            tag(
                "div",
                None,
                tag("dt", None, each.label),
                tag("dd", {"class": "value"}, each.value),
                [tag("dd", None, note) for note in each.notes if note is not None],
            )
            for each in figures
        ],
    )


def gauge(share: Share, published: float | None = None) -> Markup:
    """Return a small picture of a share, its interval and, as a tick, a published value: for those who see it."""
    scale = 200 / max(1e-9, min(1.0, 1.3 * max(share.high, published or 0)))
    parts = [
        tag("rect", {"class": "track", "x": 0, "y": 9, "width": 200, "height": 4, "rx": 2}),
        tag(
            "rect",
            {
                "class": "interval",
                "x": f"{share.low * scale:.1f}",
                "y": 7,
                "width": f"{max(2.0, (share.high - share.low) * scale):.1f}",
                "height": 8,
                "rx": 4,
            },
        ),
    ]
    if published is not None:
        parts.append(
            tag("rect", {"class": "tick", "x": f"{published * scale - 1:.1f}", "y": 1, "width": 2, "height": 20})
        )
    if share.of:
        parts.append(tag("circle", {"class": "dot", "cx": f"{share.value * scale:.1f}", "cy": 11, "r": 5}))
    return tag("svg", {"class": "gauge", "viewBox": "-6 0 212 22", "aria-hidden": "true"}, parts)


def bar(share: float) -> Markup:
    """Return a bar as long as a share, 0..1: for those who see it, beside the number."""
    return tag(
        "svg",
        {"class": "bar", "viewBox": "0 0 100 10", "preserveAspectRatio": "none", "aria-hidden": "true"},
        tag("rect", {"class": "track", "width": 100, "height": 10}),
        tag("rect", {"class": "fill", "width": f"{100 * share:.2f}", "height": 10}),
    )


def table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[Child]],
    *,
    numbers: Iterable[int] = (),
    bars: Iterable[int] = (),
) -> Markup:
    """Return a table whose first column says what each row is; `numbers` and `bars` are columns of these."""
    kinds = dict.fromkeys(numbers, "number") | dict.fromkeys(bars, "bars")

    def cell(name: str, column: int, child: Child, scope: str | None = None) -> Markup:
        return tag(name, {"scope": scope, "class": kinds.get(column)}, child)

    return tag(
        "div",
        {"class": "scroll", "role": "region", "aria-label": caption, "tabindex": 0},
        tag(
            "table",
            None,
            tag("caption", None, caption),
            tag("thead", None, tag("tr", None, [cell("th", i, head, "col") for i, head in enumerate(heads)])),
            tag(
                "tbody",
                None,
                [
                    tag(
                        "tr",
                        None,
                        cell("th", 0, row[0], "row"),
                        [cell("td", i, child) for i, child in enumerate(row[1:], 1)],
                    )
                    for row in rows
                ],
            ),
        ),
    )


def details(summary: str, *children: Child, opened: bool = False) -> Markup:
    """Return what is shown when somebody asks for it, or until somebody is done with it."""
    return tag("details", {"open": "" if opened else None}, tag("summary", None, summary), children)


def note(*children: Child) -> Markup:
    """Return a paragraph that explains."""
    return tag("p", {"class": "note"}, children)


def group(kind: str, *children: Child) -> Markup:
    """Return pieces that page.css lays out together: `beside` and `words`, `pairs` and `pair`, `narrow`, `many`."""
    return tag("div", {"class": kind}, children)


def figure(content: Markup, caption: Child) -> Markup:
    """Return a drawing with what it shows in words."""
    return tag("figure", None, content, tag("figcaption", None, caption))


# -- photos


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


# -- the page


def document(
    title: str, *, kind: str, lead: Child, facts: Sequence[tuple[str, Child]], sections: Sequence[Section]
) -> bytes:
    """Return a whole page as UTF-8: its title, a sentence, facts by name, and sections with a list that leads to them.

    `kind` is a word by which `is_page` knows it again.
    """
    policy = "default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'"
    page = tag(
        "html",
        {"lang": "en"},
        tag(
            "head",
            None,
            tag("meta", {"charset": "utf-8"}),
            tag("meta", {"name": "generator", "content": _mark(kind)}),
            tag("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
            tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
            tag("meta", {"name": "color-scheme", "content": "light dark"}),
            tag("meta", {"name": "referrer", "content": "no-referrer"}),
            tag("title", None, clean(title)),
            tag("style", None, Markup(_style())),
        ),
        tag(
            "body",
            None,
            tag("a", {"class": "skip", "href": "#content"}, "To the content"),
            tag(
                "header",
                None,
                tag("h1", None, foreign(title)),
                tag("p", {"class": "lead"}, lead),
                tag(
                    "dl",
                    {"class": "facts"},
                    [tag("div", None, tag("dt", None, name), tag("dd", None, value)) for name, value in facts],
                ),
                tag(
                    "nav",
                    {"aria-label": "Parts of this page"},
                    tag(
                        "ul",
                        None,
                        [tag("li", None, tag("a", {"href": f"#{s.anchor}"}, s.heading)) for s in sections],
                    ),
                ),
            ),
            tag(
                "main",
                {"id": "content"},
                [
                    tag(
                        "section",
                        {"id": s.anchor, "aria-labelledby": f"{s.anchor}-heading"},
                        tag("h2", {"id": f"{s.anchor}-heading"}, s.heading),
                        s.content,
                    )
                    for s in sections
                ],
            ),
            tag("footer", None, tag("p", None, f"Made by photolabel {__version__}.")),
        ),
    )
    return f"<!DOCTYPE html>\n{page.text}\n".encode()


def _mark(kind: str) -> str:
    return f"photolabel {kind}"


@functools.cache
def _style() -> str:
    text = (resources.files("photolabel") / "data" / "page.css").read_text("utf-8")
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", text).strip()


_PHOTO = re.compile(r"[0-9]{4,}\.jpg")


def is_page(folder: Path, kind: str) -> bool:
    """Return whether a folder holds a page of this kind and its photos, and nothing else. Raises OSError."""
    head = tag("meta", {"name": "generator", "content": _mark(kind)}).text.encode()
    for each in folder.iterdir():
        if each.is_symlink():
            return False
        if each.name == "photos" and each.is_dir():
            if not all(_PHOTO.fullmatch(inner.name) and inner.is_file() for inner in each.iterdir()):
                return False
        elif each.name != "index.html" or not each.is_file():
            return False
    index = folder / "index.html"
    if not index.is_file():
        return False
    with index.open("rb") as file:
        return head in file.read(1000)
