"""What is to be doubted of photos and their classes: likely mislabelled ones, and those that are there twice.

Mislabelled photos are found by confident learning (Northcutt, Jiang and Chuang, "Confident Learning: Estimating
Uncertainty in Dataset Labels", JAIR 2021), from probabilities by heads that had not seen the photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The cosine, around the mean of all, from which two photos are taken for one. Of three sets no photo of other things
# reached it but those of one series before one background; nine in ten of those cut by a twentieth do. Of copies that
# were saved again at a low quality or made much smaller it finds a third and less: features are no fingerprint.
NEAR = 0.9
MOST = 10_000  # pairs that are kept
_SERIES = 5  # photos of a class: fewer that are alike may well be one series
_AT_ONCE = 1024  # rows of a block of cosines: 4 MB


@dataclass(frozen=True, kw_only=True, slots=True)
class Mislabelled:
    """A photo that likely shows another class than is said of it.

    `photo` is its index, `truth` the class that is said, `said` the one that it likely shows. `margin` is how much
    likelier that is, 0..1: the difference of the two probabilities.
    """

    photo: int
    truth: int
    said: int
    margin: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two photos, by their indices, the lower first, that look alike: `likeness` is their cosine, 1 of the same one.

    `contradictory` says that they are of different classes, `across` that one is learnt from and the other judged by.
    """

    one: int
    other: int
    likeness: float
    contradictory: bool
    across: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """Which photos belong together: those of one number in `of_photo`, (photos,).

    `uniform` are the classes most of whose photos are alike, which are taken apart all the same.
    """

    of_photo: NDArray[np.intp]
    uniform: tuple[int, ...]


def mislabelled(
    probabilities: NDArray[np.float32], truth: NDArray[np.intp], judged: NDArray[np.bool_]
) -> tuple[Mislabelled, ...]:
    """Return the photos that likely show another class than is said of them, the likeliest mistakes first.

    `probabilities` are those of heads that had not seen the photo, float32 (photos, classes); `truth` and `judged`
    are (photos,): the others' probabilities are not looked at. A class is believed of a photo if its probability is at
    least what it has in the mean over the photos that are said to show it. A photo of which another class is believed,
    the likeliest of those believed, is returned.
    """
    photos = np.flatnonzero(judged)
    if not len(photos):
        return ()
    given, known = probabilities[photos].astype(np.float64), truth[photos]
    own = given[np.arange(len(photos)), known]
    counts = np.bincount(known, minlength=given.shape[1])
    means = np.bincount(known, own, minlength=given.shape[1]) / np.maximum(counts, 1)
    means[counts == 0] = np.inf  # no photo tells what is usual of the class
    believed = np.where(given >= means, given, -1.0)
    said = believed.argmax(axis=1)
    # One that is believed to be what is said of it may still be likelier another: what counts is the likeliest.
    amiss = (believed.max(axis=1) >= 0) & (said != known)
    margins = given[np.arange(len(photos)), said] - own
    amiss &= margins > 0
    order = np.flatnonzero(amiss)[np.argsort(-margins[amiss], kind="stable")]
    return tuple(
        Mislabelled(photo=int(photos[i]), truth=int(known[i]), said=int(said[i]), margin=float(margins[i]))
        for i in order
    )


def near(
    features: NDArray[np.float32],
    truth: NDArray[np.intp],
    *,
    learnt: NDArray[np.bool_] | None = None,
    least: float = NEAR,
    most: int = MOST,
) -> tuple[Pair, ...]:
    """Return pairs of photos that look like one and the same, the most alike first.

    `features` are float32 (photos, features), `truth` the photos' classes (photos,); `learnt`, bool (photos,), says
    which are learnt from, the others being there to judge by. Alike are those whose features, less the mean of all,
    have a cosine of `least` or more. At most `most` pairs are returned, the most alike. The memory that it takes is
    that of the features and some MB. Raises UsageError for numbers that do not fit together.
    """
    photos = len(features)
    if features.ndim != 2 or truth.shape != (photos,) or (learnt is not None and learnt.shape != (photos,)):
        raise UsageError("expected features (photos, features), and a class for each photo.")
    if not 0 < least <= 1 or most < 1:
        raise UsageError(
            f"least={least!r}, most={most!r}: expected a cosine above 0, at most 1, and a number of pairs."
        )
    if photos < 2:
        return ()
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    size = np.empty(photos, np.float32)
    for start in range(0, photos, _AT_ONCE):
        size[start : start + _AT_ONCE] = np.linalg.norm(features[start : start + _AT_ONCE] - mean, axis=1)
    size[size == 0] = 1

    def block(start: int) -> NDArray[np.float32]:
        some = slice(start, start + _AT_ONCE)
        made: NDArray[np.float32] = (features[some] - mean) / size[some, np.newaxis]
        return made

    ones: list[NDArray[np.intp]] = []
    others: list[NDArray[np.intp]] = []
    cosines: list[NDArray[np.float32]] = []
    kept, floor = 0, np.float32(least)
    for row in range(0, photos, _AT_ONCE):
        mine = block(row)
        for column in range(row, photos, _AT_ONCE):
            found = mine @ block(column).T
            if column == row:
                found[np.tril_indices(len(found), 0, found.shape[1])] = -1
            one, other = np.nonzero(found >= floor)
            if not len(one):
                continue
            ones.append(one + row)
            others.append(other + column)
            cosines.append(found[one, other])
            kept += len(one)
            if kept > 2 * most:  # the most alike of them, and from now on none that is less
                order = _first(ones, others, cosines)[:most]
                ones, others = [np.concatenate(ones)[order]], [np.concatenate(others)[order]]
                cosines = [np.concatenate(cosines)[order]]
                kept, floor = most, cosines[0][-1]
    if not kept:
        return ()
    order = _first(ones, others, cosines)[:most]
    pairs = zip(
        np.concatenate(ones)[order].tolist(),
        np.concatenate(others)[order].tolist(),
        np.concatenate(cosines)[order].tolist(),
        strict=True,
    )
    return tuple(
        Pair(
            one=one,
            other=other,
            likeness=min(1.0, likeness),
            contradictory=bool(truth[one] != truth[other]),
            across=learnt is not None and bool(learnt[one] != learnt[other]),
        )
        for one, other, likeness in pairs
    )


def together(truth: NDArray[np.intp], alike: Sequence[tuple[int, int]]) -> Groups:
    """Return which photos are to be held out together, so that none is judged by its like.

    `truth` are the photos' classes, (photos,), and `alike` pairs of indices. Those that are alike, also over others,
    are in one group. But where that would be most of a class of five photos or more, to be alike is what makes the
    class, as of documents among photographs, and tells nothing of copies: if they were all held out, nothing of the
    class were left to learn from. Such a class is `uniform`, and each of its photos is in a group by itself.
    """
    root = list(range(len(truth)))

    def top(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for one, other in alike:
        low, high = sorted((top(one), top(other)))
        root[high] = low
    of_photo = np.array([top(i) for i in range(len(truth))], np.intp)
    (classes, _), sizes = np.unique(np.stack([truth, of_photo]), axis=1, return_counts=True)
    counts = np.bincount(truth)
    largest = np.zeros(len(counts), np.intp)
    np.maximum.at(largest, classes, sizes)
    uniform = np.flatnonzero((2 * largest > counts) & (counts >= _SERIES))
    apart = np.flatnonzero(np.isin(truth, uniform))
    of_photo[apart] = len(truth) + apart
    return Groups(of_photo=of_photo, uniform=tuple(uniform.tolist()))


def _first(
    ones: list[NDArray[np.intp]], others: list[NDArray[np.intp]], cosines: list[NDArray[np.float32]]
) -> NDArray[np.intp]:
    """The order of pairs, the most alike first, of equals the lower photos."""
    return np.lexsort((np.concatenate(others), np.concatenate(ones), -np.concatenate(cosines)))
