"""What a record says, as keywords."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import tree
from ..errors import UsageError

THRESHOLD = 0.5
MOST = 100  # keywords of one photo
LONGEST = 200  # characters of a name
DEEPEST = 32  # names of a path

# What XML 1.0 has no way to write, not even as a reference, and the noncharacters that some parsers refuse.
_IMPOSSIBLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Keyword:
    """One keyword, as the names on the way to it in a tree of keywords: `("drink", "espresso")`, or one alone."""

    path: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.path) <= DEEPEST:
            raise UsageError(f"a keyword has from 1 to {DEEPEST} names on its path, got {len(self.path)}.")
        for name in self.path:
            if not name or name != clean(name) or len(name) > LONGEST:
                raise UsageError(
                    f"a keyword's name is 1 to {LONGEST} characters in one line, without '|', got {name[:80]!a}."
                )

    @property
    def name(self) -> str:
        """The keyword itself, without what is above it."""
        return self.path[-1]

    @classmethod
    def of(cls, *path: str) -> Keyword:
        """Make a keyword of names as they come: cleaned, and cut where they are too long."""
        return cls(tuple(clean(name)[:LONGEST].rstrip() for name in path))


def clean(name: str) -> str:
    """Return a name as one line without what XML cannot hold, and without `|`, which separates the names of a path."""
    return " ".join(_IMPOSSIBLE.sub("", name.replace("|", " ")).split())


def of_record(
    record: Mapping[str, Any], *, threshold: float = THRESHOLD, under: Sequence[str] | None = None
) -> list[Keyword]:
    """Return the keywords of a photo: its answer, if that is at least as probable as the threshold; none if unsure.

    `coffee_mug` is written `coffee mug`. `under`: the names above it in the tree of keywords, by default WordNet's.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"the threshold is a probability from 0 to 1, got {threshold}.")
    answer = record["answer"]
    if answer is None or answer.get("kind") == "unsure" or answer["probability"] < threshold:
        return []
    name = answer["name"].replace("_", " ")
    if not clean(name):
        return []
    if under is None:
        under = [above.name.replace("_", " ") for above in tree.telling_path(answer.get("wnid"))[:-1]]
    return [Keyword.of(*under, name)]
