"""Text that is escaped unless it is markup already, which only `tag` makes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias, Union

from ..draw import scene
from ..output import printable

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
