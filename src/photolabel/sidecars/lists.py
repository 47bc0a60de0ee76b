"""The lists of keywords that a sidecar may hold, each with its namespaces, and how a keyword is written in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .keywords import Keyword


@dataclass(frozen=True, kw_only=True)
class List:
    """A property that holds keywords: in which namespaces, joined by what, and whether we make it where it lacks."""

    name: str  # as people write it; the prefix is the one that we declare
    uris: tuple[str, ...]
    separator: str | None  # between the names of a path; None: only the leaf's name is in it
    made: bool

    @property
    def local(self) -> str:
        """The name without its prefix."""
        return self.name.partition(":")[2]

    def entry(self, keyword: Keyword) -> str:
        """What stands for the keyword in this list."""
        if self.separator is None:
            return keyword.name
        # A name that has a slash, in a list of paths with slashes: digiKam writes a backslash for it.
        names = [name.replace("/", "\\") if self.separator == "/" else name for name in keyword.path]
        return self.separator.join(names)


SUBJECT = List(name="dc:subject", uris=("http://purl.org/dc/elements/1.1/",), separator=None, made=True)
HIERARCHY = List(name="lr:hierarchicalSubject", uris=("http://ns.adobe.com/lightroom/1.0/",), separator="|", made=True)
LISTS = (
    SUBJECT,
    HIERARCHY,
    List(name="digiKam:TagsList", uris=("http://www.digikam.org/ns/1.0/",), separator="/", made=False),
    List(
        name="MicrosoftPhoto:LastKeywordXMP",
        uris=("http://ns.microsoft.com/photo/1.0/", "http://ns.microsoft.com/photo/1.0"),
        separator="/",
        made=False,
    ),
)
BY_NAME = {(uri, each.local): each for each in LISTS for uri in each.uris}
