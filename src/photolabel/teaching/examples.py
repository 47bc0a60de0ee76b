"""Photos of classes that only their owner knows, as people have them -> each with the name of its class.

A folder a class, also in archives; or a table of path,label. As in `truth` nothing is guessed and no photo is left out:
what does not say its class is an error that names it. A class is a text, whatever is in it: it never becomes a path.
"""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .. import sources
from ..errors import TruthError, UsageError
from ..images import DEFAULT_LIMITS, Limits
from ..sources import Item
from ..sources.names import Choice
from ..truth import lists
from ..truth.classes import NoClassError

__all__ = ["Example", "Examples", "Survey", "class_name", "find"]

LONGEST = 100  # characters of a class's name
_SHOWN = 5  # empty folders
_ADVICE = "Expected a folder for each class with its photos in it, or a table of path,label"


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A photo, and the name of the class that it is to teach."""

    item: Item
    name: str

    @property
    def photo(self) -> str:
        """What a record calls it."""
        return self.item.photo


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is there to be learnt from, before any photo is opened.

    `counts` are the photos of each class, by name, sorted. `empty` are folders that hold no photo, so that no class is
    called as they are. `unused` counts the rows of a table that are of no photo found. `left_out` is as of
    `sources.find`.
    """

    counts: dict[str, int]
    empty: tuple[str, ...]
    unused: int
    left_out: Counter[str]

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, sorted: the order of the taught network's labels."""
        return tuple(self.counts)

    @property
    def photos(self) -> int:
        """How many there are."""
        return sum(self.counts.values())


class Examples:
    """Photos with the names of their classes, looked for anew each time they are gone through. Made by `find`."""

    def __init__(
        self,
        given: Sequence[str | os.PathLike[str] | Item],
        table: Path | None,
        include: Sequence[str],
        exclude: Sequence[str],
        limits: Limits,
        classes: Collection[str] | None,
        before: Collection[str],
    ) -> None:
        self._given, self._table, self._limits = given, table, limits
        self._include, self._exclude, self._classes, self._before = include, exclude, classes, before
        self._choice = Choice.of(include, exclude, Counter())  # a pattern that makes no sense is said at once

    def __iter__(self) -> Iterator[Example]:
        return self._examples(Counter(), set(), self._listed())

    def survey(self, *, alone: bool = True) -> Survey:
        """Look for all photos, and count them; none is opened. Raises TruthError where there is none of them.

        These `alone` are to teach classes apart, so that one is too few, unless `find` was told which there are.

        Raises also what going through them raises: TruthError for a photo whose class cannot be told, and the
        PhotoError of a folder that may not be read where that leaves a class in doubt.
        """
        left_out: Counter[str] = Counter()
        met: set[tuple[int, str]] = set()
        listed = self._listed()
        counts = Counter(example.name for example in self._examples(left_out, met, listed))
        if not counts:
            raise TruthError(
                f"there are no photos to {'learn from' if self._classes is None else 'judge by'}. {_ADVICE}."
            )
        empty = tuple(sorted(self._empty(met))) if listed is None else ()
        if alone and len(counts) < 2 and self._classes is None:
            (name, count) = counts.popitem()
            bare = ", ".join([*empty[:_SHOWN], *(["..."] if len(empty) > _SHOWN else [])])
            raise TruthError(
                f"there are photos of one class only, {name!r} ({count:,}): to tell classes apart takes at least two."
                f"{f' In {bare} there is no photo.' if bare else ''} {_ADVICE}."
            )
        unused = listed.unused if listed is not None and self._given else 0
        return Survey(counts=dict(sorted(counts.items())), empty=empty, unused=unused, left_out=left_out)

    def _listed(self) -> lists.ByPath[str] | None:
        return None if self._table is None else lists.table(self._table, class_name)

    def _examples(
        self, left_out: Counter[str], met: set[tuple[int, str]], listed: lists.ByPath[str] | None
    ) -> Iterator[Example]:
        """`met` takes the folders, by the number of their source and their name in it, that photos lie in."""
        if listed is not None and not self._given:
            folder = os.path.dirname(self._table or "")  # noqa: PTH120
            for name, label in listed.entries():
                path, plain = os.path.join(folder, name), name.replace("\\", "/")  # noqa: PTH118  # as the table has it
                if plain != name and not os.path.lexists(path):  # a table that was made on Windows
                    path = os.path.join(folder, plain)  # noqa: PTH118
                photo = plain if plain in self._before and not os.path.lexists(path) else path
                yield self._of_known_class(Example(item=Item(photo=photo, path=path), name=label))
            return
        for number, source in enumerate(self._given):
            top = None if isinstance(source, Item) else os.fsdecode(source)
            found = sources.find(
                [source], include=self._include, exclude=self._exclude, left_out=left_out, limits=self._limits
            )
            for item in found:
                try:
                    if item.error is not None and item.photo == top:
                        raise TruthError
                    name = listed(item.photo) if listed is not None else _by_folder(item, top)
                except TruthError:
                    if item.error is not None:  # a folder, or an archive, that cannot be read: what is wrong is that
                        raise type(item.error)(f"{item.photo}: {item.error}") from None
                    raise
                if top is not None:
                    met.add((number, _within(item.photo, top).replace(os.sep, "/").partition("/")[0]))
                yield self._of_known_class(Example(item=item, name=name))

    def _of_known_class(self, example: Example) -> Example:
        if self._classes is not None and example.name not in self._classes:
            close = difflib.get_close_matches(example.name, self._classes, n=3)
            raise TruthError(
                f"{example.photo}: {example.name!r} is none of the {len(self._classes):,} classes that are taught"
                f"{'; close are: ' + ', '.join(close) if close else ''}."
            )
        return example

    def _empty(self, met: Collection[tuple[int, str]]) -> Iterator[str]:
        for number, source in enumerate(self._given):
            if isinstance(source, Item):
                continue
            with suppress(OSError, ValueError), os.scandir(source) as entries:  # a file; an archive
                for entry in entries:
                    if entry.is_dir() and self._choice.takes_folder((entry.name,)) and (number, entry.name) not in met:
                        yield entry.path


def find(
    given: Iterable[str | os.PathLike[str] | Item] = (),
    *,
    table: str | os.PathLike[str] | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    limits: Limits = DEFAULT_LIMITS,
    classes: Collection[str] | None = None,
    before: Collection[str] = (),
) -> Examples:
    """Return the photos of the sources `given`, as of `sources.find`, with the names of their classes.

    A photo's folder names its class. With a `table` of path,label its rows do, by the ends of the photos' paths;
    without any sources the table says which photos there are, by paths from its own folder on. `classes` are those that
    there may be, for photos to check by. `before` are the names of photos that were taught earlier: by such a name a
    table may mean one that does not lie where the table says. Names of classes are normalised (NFC) and stripped of
    blanks around them; they have 1 to 100 printable characters.

    Raises UsageError for arguments that make no sense; going through the Examples raises TruthError for a table that is
    broken, and for a photo whose class cannot be told.
    """
    if isinstance(given, str | bytes | os.PathLike):
        raise UsageError("the sources are a list of paths: ['photos'], not 'photos'.")
    listed, include, exclude = tuple(given), tuple(include), tuple(exclude)
    if not listed and table is None:
        raise UsageError(f"expected photos to learn from. {_ADVICE}.")
    if not listed and (include or exclude):
        raise UsageError("include and exclude are for photos in folders; here a table says which photos there are.")
    return Examples(
        listed, None if table is None else Path(table), include, exclude, limits, classes, frozenset(before)
    )


def class_name(text: str) -> str:
    """Return the name of a class as it is kept. Raises NoClassError for what can be none."""
    name = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(name) <= LONGEST or not name.isprintable():
        shown = name if len(name) <= LONGEST else f"{name[:LONGEST]}..."
        raise NoClassError(
            f"{shown!r} cannot name a class: expected 1 to {LONGEST} printable characters, without line breaks"
        )
    return name


def _by_folder(item: Item, top: str | None) -> str:
    """The name of the photo's folder; `top` is the source that it was found in."""
    if top is not None and item.photo != top and not os.path.split(_within(item.photo, top))[0]:
        raise TruthError(
            f"{item.photo}: it lies directly in {top}, so that no folder names its class. If {top} is its class, give "
            f"the folder above. {_ADVICE}."
        )
    where = os.path.abspath(item.photo) if item.path == item.photo else item.photo  # noqa: PTH100
    folder = os.path.basename(os.path.dirname(where))  # noqa: PTH119, PTH120
    try:
        return class_name(folder)
    except NoClassError as error:
        raise TruthError(f"{item.photo}: its folder names its class, and {error}. Rename it.") from None


def _within(photo: str, top: str) -> str:
    """The path of a photo from its source on."""
    return photo.removeprefix(top).lstrip("/" + os.sep)
