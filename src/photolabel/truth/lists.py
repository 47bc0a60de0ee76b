"""A list of labelled photos, in the forms that people have -> the class of each photo, by its name.

- Caffe's val.txt: `ILSVRC2012_val_00000001.JPEG 65` a line, classes numbered from 0.
- The devkit's ground truth: a number a line, from 1, in an order of its own; the photo is that of the line's number.
- The same with a WordNet id a line.
- A table: a path and a label a row, separated by commas, tabs or semicolons, with a header or without.

Which it is, its first line says; every other line has to agree.
"""

from __future__ import annotations

import csv
import functools
import io
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, Protocol, TypeAlias, TypeVar

from .. import labels
from ..errors import TruthError
from ..sources import ENDINGS
from . import devkit
from .classes import WNID, Classes, How, NoClassError
from .texts import MAX_BYTES, content, lines, text

Found: TypeAlias = tuple[int, How]
_T = TypeVar("_T")

_NUMBER = re.compile(r"[0-9]{1,9}")
_CAFFE = re.compile(r"(.*[^\s,;\"])[ ]+([0-9]{1,9})")
# The photos of ImageNet's validation set, also where their WordNet id has been added.
_OF_IMAGENET = re.compile(r"(?:.*_)?([0-9]{8})(?:_n[0-9]{8})?")
_ILSVRC = re.compile(r"ILSVRC20[0-9]{2}_val_[0-9]{8}|n[0-9]{8}_[0-9]+")  # and of its training set
# Kaggle's LOC_val_solution.csv: boxes, each with its class and four numbers.
_BOXES = re.compile(r"n[0-9]{8}(?: [0-9]+){4}(?: n[0-9]{8}(?: [0-9]+){4})*")
_PATHS = frozenset(["path", "photo", "file", "filename", "file_name", "image", "image_id", "imageid"])
_LABELS = frozenset(["label", "class", "wnid", "category", "class_name", "predictionstring"])


class Listed(Protocol):
    """What a list says of photos. `what` is which list it is, for people."""

    what: str

    def __call__(self, photo: str) -> Found:
        """Return the class of the photo that is called so. Raises TruthError where the list does not say."""


def read(path: Path, classes: Classes, *, order: Path | None = None) -> Listed:
    """Read a list, once. `order` is the file with the devkit's order of classes; None looks for it beside the list.

    Raises TruthError for a list that is not there, is none, or contradicts itself.
    """
    found = _text(path)
    rows = lines(found)
    first = next(row for row in rows if row.strip()).strip()
    if _NUMBER.fullmatch(first):
        return _ground_truth(path, rows, classes, order)
    if WNID.fullmatch(first):
        wnids = list(_alike(path, rows, WNID, "a WordNet id"))
        return _ByNumber(path, [each[0] for each in wnids], classes, f"the WordNet ids of {path.name}, a photo a line")
    if (match := _CAFFE.fullmatch(first)) and (not set(match[1]) & set(',;\t"') or _is_photo(match[1])):
        return _caffe(path, rows, classes)
    return _table(path, found, classes)


def table(path: Path, find: Callable[[str], _T]) -> ByPath[_T]:
    """Read a table of path,label, once. `find` says what a label means, and raises NoClassError for one that is none.

    Raises TruthError for a table that is not there, is none, contradicts itself or has such a label.
    """

    def checked() -> Iterator[tuple[int, str, str]]:
        for line, name, label in _rows(path, _text(path), "Expected a table of path,label."):
            try:
                find(label)
            except NoClassError as error:
                raise TruthError(f"{path}: line {line}: {error}.") from None
            yield line, name, label

    return ByPath(path, checked(), find, f"the table {path.name}")


def _text(path: Path) -> str:
    found = text(path, content(path, MAX_BYTES))
    if not found.strip():
        raise TruthError(f"{path}: expected a list of labelled photos; this file is empty.")
    return found


# --- A photo a line, by its number ----------------------------------------------------------------


def _ground_truth(path: Path, rows: list[str], classes: Classes, order: Path | None) -> Listed:
    numbers = [int(each[0]) for each in _alike(path, rows, _NUMBER, "a number")]
    source, wnids = devkit.order(path, order)
    for line, number in enumerate(numbers, 1):
        if not 1 <= number <= len(wnids):
            raise TruthError(
                f"{path}: line {line}: {number} is out of range: the devkit numbers its classes from 1 to "
                f"{len(wnids)}. Numbers in another order are given as a table of path,label."
            )
    what = f"the devkit's ground truth {path.name}, in the order of {source.name}"
    return _ByNumber(path, [wnids[number - 1] for number in numbers], classes, what)


class _ByNumber:
    def __init__(self, path: Path, wnids: list[str], classes: Classes, what: str) -> None:
        self.what = what
        self._path, self._wnids = path, wnids
        self._find = functools.cache(classes.by_wnid)

    def __call__(self, photo: str) -> Found:
        match = _OF_IMAGENET.fullmatch(_stem(os.path.basename(photo)))  # noqa: PTH119
        if match is None:
            raise TruthError(
                f"{photo}: {self._path.name} is by the numbers of photos, and this name has none: expected one like "
                "ILSVRC2012_val_00000293.JPEG."
            )
        number = int(match[1])
        if not 1 <= number <= len(self._wnids):
            raise TruthError(
                f"{photo}: {self._path.name} has {len(self._wnids):,} lines, none for number {number:,}. Is it whole, "
                "and of this set of photos?"
            )
        try:
            return self._find(self._wnids[number - 1]), "id"
        except NoClassError as error:
            raise TruthError(f"{photo}: by line {number:,} of {self._path.name}, {error}.") from None


# --- A name and a class a line --------------------------------------------------------------------


def _caffe(path: Path, rows: list[str], classes: Classes) -> Listed:
    matches = list(_alike(path, rows, _CAFFE, "a photo's name, a blank and a number", blank=True))
    names = [each[1] for each in matches]
    count, wnids = len(classes.labels), [str(label.wnid) for label in labels.imagenet()]
    of_imagenet = _ILSVRC.match(os.path.basename(names[0])) is not None  # noqa: PTH119
    if of_imagenet:
        if not classes.has_wnids and len(classes.labels) != len(wnids):
            raise TruthError(
                f"{path}: its numbers are of ImageNet's {len(wnids):,} classes; the model has {count:,}, without "
                "WordNet ids. Give the model labels that have them."
            )
        count = len(wnids)

    def find(number: str) -> Found:
        by_id = of_imagenet and classes.has_wnids
        return classes.by_wnid(wnids[int(number)]) if by_id else classes.by_number(int(number)), "number"

    for name, number in (each.groups() for each in matches):
        if int(number) >= count:
            raise TruthError(
                f"{path}: the number of {name} is {number}, out of range: classes are numbered from 0 to {count - 1}. "
                "Do these count from 1?"
            )
    numbered = ((line, match[1], match[2]) for line, match in enumerate(matches, 1))
    return ByPath(path, numbered, find, f"Caffe's list {path.name}", means=_class)


def _table(path: Path, found: str, classes: Classes) -> Listed:
    def find(label: str) -> Found:
        if _BOXES.fullmatch(label):
            wnids = set(label.split()[::5])
            if len(wnids) > 1:
                raise NoClassError(f"{label[:80]!r} is of several classes")
            label = wnids.pop()
        return classes.must_find(label)

    return ByPath(path, _rows(path, found, _FORMS), find, f"the table {path.name}", means=_class)


def _class(found: Found) -> int:
    """What counts of it: not whether it was told by name or by number."""
    return found[0]


def _rows(path: Path, found: str, forms: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, path and label."""
    delimiter = next((each for each in ",\t;" if _separates(found, each)), ",")
    reader = csv.reader(io.StringIO(found, newline=""), delimiter=delimiter, strict=True)
    columns: tuple[int, int] | None = None
    width = 2
    line = 1
    try:
        for row in reader:
            start, line = line, reader.line_num + 1
            if not row:
                continue
            if columns is None:
                columns = _header(row)
                if columns is not None:
                    width = len(row)
                    continue
                columns = (0, 1)
            if len(row) != width or not row[columns[0]] or not row[columns[1]].strip():
                raise TruthError(
                    f"{path}: line {start}: expected {_expected(width)}, got {len(row)} columns or an empty one. "
                    + forms
                )
            yield start, row[columns[0]], row[columns[1]].strip()
    except csv.Error:
        raise TruthError(
            f"{path}: line {line}: expected a row of CSV; its quotes or its length are amiss. " + forms
        ) from None


def _separates(found: str, delimiter: str) -> bool:
    """Whether the first row has several columns so."""
    try:
        return len(next(filter(None, csv.reader(io.StringIO(found, newline=""), delimiter=delimiter)))) > 1
    except csv.Error:
        return False


_FORMS = (
    "A list is a table of path,label; or Caffe's val.txt, a name and a number a line; or the devkit's ground truth, a "
    "number a line."
)


def _expected(width: int) -> str:
    return "a path and a label" if width == 2 else f"{width} columns, as in the header"


def _header(row: list[str]) -> tuple[int, int] | None:
    """Return the columns of the path and the label, if this is a header."""
    names = [cell.strip().casefold() for cell in row]
    found = [[place for place, name in enumerate(names) if name in wanted] for wanted in (_PATHS, _LABELS)]
    return (found[0][0], found[1][0]) if len(found[0]) == len(found[1]) == 1 else None


class ByPath(Generic[_T]):
    """Photos by the ends of their paths: the longest end that is in the list counts.

    `rows` are line, path and label; `find` says what a label means, and `means` what of that must be alike where a
    photo has two.
    """

    def __init__(
        self,
        path: Path,
        rows: Iterator[tuple[int, str, str]],
        find: Callable[[str], _T],
        what: str,
        *,
        means: Callable[[_T], object] = lambda found: found,
    ) -> None:
        self.what = what
        self._path = path
        self._find = functools.cache(find)
        self._means = means
        self._labels: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._example = ""
        folder = os.path.abspath(path.parent)  # noqa: PTH100
        first: dict[str, int] = {}
        for line, name, label in rows:
            key = _key(name, folder)
            self._example = self._example or name
            if key in self._labels and not self._same(self._labels[key], label):
                raise TruthError(
                    f"{path}: lines {first[key]} and {line} contradict each other: {name} is {self._labels[key]!r} "
                    f"in one, {label!r} in the other."
                )
            self._labels.setdefault(key, label)
            self._names.setdefault(key, name)
            first.setdefault(key, line)
        self._lines = first
        self._taken: dict[str, str] = {}

    def _same(self, one: str, other: str) -> bool:
        try:
            return one == other or self._means(self._find(one)) == self._means(self._find(other))
        except NoClassError:
            return False

    @property
    def unused(self) -> int:
        """How many of the photos in the list nobody has asked for, so far."""
        return len(self._labels) - len(self._taken)

    def entries(self) -> Iterator[tuple[str, _T]]:
        """Yield each path as the list has it, and what its label means, in the list's order."""
        for key, name in self._names.items():
            yield name, self._find(self._labels[key])

    def __call__(self, photo: str) -> _T:
        """Return what the label of the photo of this path means. Raises TruthError where the list does not say."""
        key = next((each for each in _ends(photo) if each in self._labels), None)
        if key is None:
            never = "" if self._taken else " None of the photos so far is in it: is it the list of these?"
            raise TruthError(
                f"{photo}: is not in {self._path.name}, which lists {len(self._labels):,} photos, such as "
                f"{self._example}.{never}"
            )
        other = self._taken.setdefault(key, photo)
        if other != photo:
            raise TruthError(
                f"{photo}: line {self._lines[key]} of {self._path.name} is of this photo and of {other}: expected a "
                "list that tells them apart, by more of their paths."
            )
        try:
            return self._find(self._labels[key])
        except NoClassError as error:
            raise TruthError(f"{photo}: by line {self._lines[key]} of {self._path.name}, {error}.") from None


def _alike(
    path: Path, rows: list[str], form: re.Pattern[str], expected: str, *, blank: bool = False
) -> Iterator[re.Match[str]]:
    """Yield the match of each line. Blank ones may be between lines that have names, but not where lines count."""
    for line, row in enumerate(rows, 1):
        match = form.fullmatch(row.strip())
        if match:
            yield match
        elif row.strip() or not blank:
            raise TruthError(f"{path}: line {line}: expected {expected}, as in the first line, got {row[:80]!r}.")


def _key(name: str, folder: str) -> str:
    """Return a path as it is compared: what is absolute, or goes up, from the root on; else as it is."""
    plain = name.replace("\\", "/")
    if os.path.isabs(name) or ".." in plain.split("/"):  # noqa: PTH117  # a Path each would take most of the time
        plain = os.path.normpath(os.path.join(folder, plain)).replace("\\", "/")  # noqa: PTH118
        return unicodedata.normalize("NFC", plain)
    return unicodedata.normalize("NFC", "/".join(part for part in plain.split("/") if part not in ("", ".")))


def _ends(photo: str) -> Iterator[str]:
    """Yield a photo's path and its ends, the longest first; and then the same without the name's own ending."""
    whole = os.path.abspath(photo).replace("\\", "/")  # noqa: PTH100
    whole = unicodedata.normalize("NFC", whole)
    for path in dict.fromkeys((whole, _stem(whole))):
        yield path
        at = path.find("/")
        while at >= 0:
            yield path[at + 1 :]
            at = path.find("/", at + 1)


def _stem(name: str) -> str:
    return name.rpartition(".")[0] if _is_photo(name) else name


def _is_photo(name: str) -> bool:
    return "." in name and name.rpartition(".")[2].lower() in ENDINGS
