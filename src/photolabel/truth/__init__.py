"""Photos whose class is known, as people have them -> each with its place among a model's labels.

Nothing is guessed, and no photo is left out: either would make an accuracy look other than it is. So whatever does not
say its class, or says two, is an error that names it.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import tree
from ..errors import TruthError, UsageError
from ..labels import Label
from ..sources import Item
from . import lists
from .classes import WNID, Classes, NoClassError

__all__ = ["Labelled", "LabelledPhotos", "labelled"]

# A WordNet id in the name of a photo: n01440764_10026.JPEG, ILSVRC2012_val_00000293_n01440764.JPEG
_IN_NAME = re.compile(r"(?:^|_)(n[0-9]{8})(?=[_.]|$)")
_VALIDATION = re.compile(r"ILSVRC20[0-9]{2}_val_[0-9]{8}")
_FORMS = {
    "id": "folders named by WordNet ids",
    "name": "folders named by classes",
    "number": "folders named by class numbers",
    "file": "file names with WordNet ids",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """A photo and its true class: `index` is that of the class among the model's labels."""

    item: Item
    index: int

    @property
    def photo(self) -> str:
        """What a record calls it."""
        return self.item.photo

    @property
    def held(self) -> int:
        """How many bytes of the photo the item itself holds."""
        return self.item.held


class LabelledPhotos(Iterator[Labelled]):
    """The photos of `labelled`, one after the other, and what has been seen of them so far."""

    def __init__(self, items: Iterator[Item], classes: Classes, listed: lists.Listed | None) -> None:
        self._items, self._classes, self._listed = items, classes, listed
        self._folder = functools.lru_cache(maxsize=1 << 12)(classes.named)
        self._forms: dict[str, str] = {}  # and the first photo of each
        self._met: set[int] = set()

    @property
    def description(self) -> str:
        """How the classes were told and how many were met, so far: "Caffe's list val.txt, 1,000 of 1,000 classes"."""
        told = self._listed.what if self._listed else " and ".join(_FORMS[each] for each in self._forms)
        return f"{told or 'nothing'}, {len(self._met):,} of {len(self._classes.labels):,} classes"

    def __next__(self) -> Labelled:
        item = next(self._items)
        try:
            index, form = self._listed(item.photo) if self._listed else self._by_place(item)
            self._check_alike(item.photo, form)
        except TruthError:
            if item.error is not None:  # a folder that could not be read: what is wrong is that
                raise type(item.error)(f"{item.photo}: {item.error}") from None
            raise
        self._met.add(index)
        return Labelled(item=item, index=index)

    def _by_place(self, item: Item) -> tuple[int, str]:
        """Return the class that the photo's folder tells, or its name, and which of them does."""
        where = os.path.abspath(item.photo) if item.path else item.photo  # noqa: PTH100
        parent, name = os.path.split(where)
        folder = os.path.basename(parent)  # noqa: PTH119
        try:
            return self._told(folder, name)
        except NoClassError as error:
            raise TruthError(f"{item.photo}: {error}.") from None

    def _told(self, folder: str, name: str) -> tuple[int, str]:
        classes = self._classes
        wnid = _wnid(name)
        by_id = WNID.fullmatch(folder) is not None
        places = {classes.by_wnid(folder)} if by_id else self._folder(folder)
        real = wnid in tree.names() and classes.has_wnids  # photos are called n20240131, too
        if wnid is not None and real and places and not places & classes.with_wnid(wnid):
            raise NoClassError(f"its folder {folder!r} says one class, and {wnid} in its name another")
        if wnid is not None and len(places) != 1:
            return classes.by_wnid(wnid), "file"
        if by_id:
            return places.pop(), "id"
        found = classes.find(folder)
        if found is not None:
            return found
        if _VALIDATION.match(name):  # where the archive or folder is not called by a class, only spelled like one
            advice = (
                ". Its class is in a list: give Caffe's val.txt, the devkit's ILSVRC2012_validation_ground_truth.txt, "
                "or a table of path,label"
            )
        else:
            advice = (
                f"{classes.hint(folder)}. Expected a folder for each class, called by its name or its WordNet id, or a "
                "table of path,label"
            )
        raise NoClassError(
            f"neither its folder {folder!r} nor its name says which of the model's classes it shows{advice}"
        )

    def _check_alike(self, photo: str, form: str) -> None:
        self._forms.setdefault(form, photo)
        if "number" in self._forms and len(self._forms) > 1:
            other = next(first for each, first in self._forms.items() if each != form)
            raise TruthError(
                f"{photo}: one of this photo and {other} has its class by number, the other by name. Expected all "
                "alike: a number among names may be something else."
            )


def labelled(
    items: Iterable[Item],
    labels: Sequence[Label],
    *,
    file: str | os.PathLike[str] | None = None,
    order: str | os.PathLike[str] | None = None,
) -> LabelledPhotos:
    """Yield each of the items, in their order, with its class among `labels`, which are those of a model.

    Without `file`, a photo's folder says its class: by a WordNet id; by ImageNet's name, with blanks or underscores, in
    capitals or not, by the everyday name, or by the plain plural of either; or, where no class is called by a number,
    by the class's number from 0. Else a WordNet id does, at the beginning or the end of the photo's name.

    `file` is a list (its forms: see `lists`), which is read at once; then folders are not asked. `order` is the
    devkit's meta.mat, for a ground truth that it does not lie beside, or its 1000 WordNet ids, one a line.

    Items are taken one at a time. One with an error is passed on like others, or its own error is raised where its
    class cannot be told.

    Raises TruthError for a list that is broken or none, here; and, in its place, for a photo whose class is not told,
    is told twice in different ways, is none of the model's, or has a name that stands for several.
    """
    if not labels:
        raise UsageError("the model has no classes, so no photo can show one of them.")
    if file is None and order is not None:
        raise UsageError("order is that of the classes in the devkit's ground truth: give that as file.")
    classes = Classes(labels)
    listed = None
    if file is not None:
        listed = lists.read(Path(file), classes, order=None if order is None else Path(order))
    return LabelledPhotos(iter(items), classes, listed)


def _wnid(name: str) -> str | None:
    found = set(_IN_NAME.findall(name))
    if len(found) > 1:
        raise NoClassError(f"its name has several WordNet ids, {' and '.join(sorted(found))}")
    return found.pop() if found else None
