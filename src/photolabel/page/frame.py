"""The whole page: its head, its policy, its style, and a list that leads to its parts."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from .. import __version__
from .markup import Child, Markup, clean, foreign, tag


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of a page under its heading; `anchor` is a word by which the page's list of parts leads to it."""

    anchor: str
    heading: str
    content: Child


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
