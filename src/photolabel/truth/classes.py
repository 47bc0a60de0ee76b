"""What people call a class -> its place among the model's labels; never a guess."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from .. import tree
from ..labels import Label

How: TypeAlias = Literal["id", "name", "number"]

WNID = re.compile(r"n[0-9]{8}")
_NUMBER = re.compile(r"[0-9]{1,9}")
_CLOSE = 3  # names that an error offers


class NoClassError(ValueError):
    """Not one class: why, as the end of a sentence about a photo or a line of a list."""


class Classes:
    """The labels of one model, by WordNet id, by name and by number."""

    def __init__(self, labels: Sequence[Label]) -> None:
        self.labels = tuple(labels)
        self._by_wnid: dict[str, set[int]] = {}
        self._by_name: dict[str, set[int]] = {}
        known = tree.names()
        for place, label in enumerate(self.labels):
            names = [label.name]
            if label.wnid is not None:
                self._by_wnid.setdefault(label.wnid, set()).add(place)
                if label.wnid in known:
                    names += [known[label.wnid].name, known[label.wnid].everyday]
            for name in names:
                self._by_name.setdefault(_plain(name), set()).add(place)
        # A network of digits has classes that are called like numbers: then "7" is a name, whatever its place.
        self._numbered = not any(_NUMBER.fullmatch(name) for name in self._by_name)

    @property
    def has_wnids(self) -> bool:
        """Whether any class has a WordNet id."""
        return bool(self._by_wnid)

    def with_wnid(self, wnid: str) -> set[int]:
        """Return the classes of this WordNet id; mostly one."""
        return self._by_wnid.get(wnid, set())

    def by_wnid(self, wnid: str) -> int:
        """Return the class of this WordNet id. Raises NoClassError where the model has none or several."""
        if not self._by_wnid:
            raise NoClassError(
                f"{wnid} is a WordNet id, and the model's classes have none: give the model labels that have them (the "
                "word imagenet, where its classes are ImageNet's), or name the photos' classes as the model does"
            )
        name = tree.names().get(wnid)
        shown = f"{wnid} ({name.everyday})" if name else wnid
        return self._one(shown, self.with_wnid(wnid))

    def by_number(self, number: int) -> int:
        """Return the class of this number, counted from 0. Raises NoClassError where there are not so many."""
        if number >= len(self.labels):
            raise NoClassError(
                f"there is no class {number}: the model's classes are numbered from 0 to {len(self.labels) - 1}"
            )
        return number

    def named(self, name: str) -> set[int]:
        """Return the classes that have this name, with blanks, underscores or hyphens, in capitals or not.

        Where no class has it, those of which it is a plain English plural: a folder of many an ant is `ants`.
        """
        plain = _plain(name)
        found = self._by_name.get(plain)
        if found is None:
            found = set[int]().union(*(self._by_name.get(each, ()) for each in _singulars(plain)))
        if len(found) > 1 and not any(self.labels[place].wnid for place in found):
            # Letters, say: `a` and `A`. ImageNet's Cardigan, a dog, and cardigan have ids, which leave no doubt.
            found = {place for place in found if self.labels[place].name == name} or found
        return found

    def find(self, text: str) -> tuple[int, How] | None:
        """Return the class that is meant by a WordNet id, a name or a number, and which it is; None for no class.

        Raises NoClassError for a name that several classes have, for an id that is none of the model's, and for a
        number that is too large.
        """
        if WNID.fullmatch(text):
            return self.by_wnid(text), "id"
        if found := self.named(text):
            return self._one(repr(text), found), "name"
        if self._numbered and _NUMBER.fullmatch(text):
            return self.by_number(int(text)), "number"
        return None

    def must_find(self, text: str) -> tuple[int, How]:
        """Return the same, and raise NoClassError for what is no class, too."""
        found = self.find(text)
        return found if found is not None else (self._one(repr(text), set(), self.hint(text)), "name")

    def hint(self, text: str) -> str:
        """Return what may have been meant by a name that is no class, as the end of a sentence; perhaps nothing."""
        plain = _plain(text)
        whole = tree.of(self.labels)
        for node, below in zip(whole.nodes, whole.leaves, strict=True) if whole else ():
            if _plain(node.everyday) in (plain, *_singulars(plain)):
                return f"; it is a name above {below} of them, and each photo's own class is needed"
        close = difflib.get_close_matches(plain, self._by_name, n=_CLOSE, cutoff=0.7)
        return f"; close are: {', '.join(self._called(min(self._by_name[name])) for name in close)}" if close else ""

    def _one(self, shown: str, found: Iterable[int], hint: str = "") -> int:
        places = sorted(found)
        if not places:
            raise NoClassError(f"{shown} is none of the model's {len(self.labels):,} classes{hint}")
        if len(places) > 1:
            each = " and ".join(self._called(place) for place in places)
            raise NoClassError(f"{shown} stands for {len(places)} classes, {each}: say which")
        return places[0]

    def _called(self, place: int) -> str:
        label = self.labels[place]
        known = tree.names().get(label.wnid or "")
        name = known.everyday if known else label.name
        return f"{label.wnid} ({name})" if label.wnid else f"{name} ({place})"


def _plain(name: str) -> str:
    return " ".join(re.sub("[_-]", " ", unicodedata.normalize("NFC", name)).casefold().split())


def _singulars(plain: str) -> list[str]:
    endings = {"ies": "y", "es": "", "s": ""}
    return [plain.removesuffix(end) + put for end, put in endings.items() if plain.endswith(end)]
