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
from . import closest
from .fingerprint import BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Two photos are taken for one if no more bits of their fingerprints differ, or if the cosine of their features, around
# the mean of all, is as large. Of 507 photos, fingerprints find all copies saved again at quality 30, and all of a
# quarter of each side, of which features find 18.9 % and 2.4 %; of copies cut by 5 % it is 75.3 % and 90.5 %, 95.9 % by
# either. No two different photos come as near: in 12.5 million pairs of pieces of them at least 57 bits differ
# (docs/benchmarks.md, Near-duplicates).
BITS = 48
NEAR = 0.9
MOST = 10_000  # pairs that are kept
_LIKELIER = 2  # times: of a head that tells little apart all classes are about as likely, which says nothing of a photo
_SERIES = 5  # photos of a class: fewer that are alike may well be one series


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
    """Two photos, by their indices, the lower first, that look alike by their fingerprints, their features, or both.

    `bits` is how many bits of the fingerprints differ, None where one of the photos has none; `likeness` is the cosine
    of the features, 1 of the same photo. `contradictory` says that they are of different classes, `across` that one is
    learnt from and the other judged by.
    """

    one: int
    other: int
    likeness: float
    bits: int | None = None
    contradictory: bool
    across: bool

    @property
    def copies(self) -> bool:
        """Whether they look alike by their fingerprints: as good as surely they are one photo, saved twice."""
        return self.bits is not None and self.bits <= BITS


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
    the likeliest of those believed, is returned if it is at least twice as likely as the one that is said.
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
    likely = given[np.arange(len(photos)), said]
    margins = likely - own
    amiss &= (margins > 0) & (likely >= _LIKELIER * own)
    order = np.flatnonzero(amiss)[np.argsort(-margins[amiss], kind="stable")]
    return tuple(
        Mislabelled(photo=int(photos[i]), truth=int(known[i]), said=int(said[i]), margin=float(margins[i]))
        for i in order
    )


def near(
    features: NDArray[np.float32],
    truth: NDArray[np.intp],
    *,
    fingerprints: NDArray[np.uint8] | None = None,
    learnt: NDArray[np.bool_] | None = None,
    bits: int = BITS,
    least: float = NEAR,
    most: int = MOST,
) -> tuple[Pair, ...]:
    """Return pairs of photos that look like one and the same, the most alike first.

    `features` are float32 (photos, features), `truth` the photos' classes (photos,); `learnt`, bool (photos,), says
    which are learnt from, the others being there to judge by. `fingerprints` are uint8 (photos, 32), zeros where there
    is none. Alike are those of whose fingerprints no more than `bits` bits differ, the fewest first; and after these
    those whose features, less the mean of all, have a cosine of `least` or more, the largest first. At most `most`
    pairs are returned, the most alike. Beside the features it takes half a kilobyte a photo, and some MB. Raises
    UsageError for numbers that do not fit together.
    """
    photos = len(features)
    if features.ndim != 2 or truth.shape != (photos,) or (learnt is not None and learnt.shape != (photos,)):
        raise UsageError("expected features (photos, features), and a class for each photo.")
    if fingerprints is not None and (fingerprints.shape != (photos, BYTES) or fingerprints.dtype != np.uint8):
        raise UsageError(
            f"expected fingerprints ({photos}, {BYTES}) uint8, got {fingerprints.shape} {fingerprints.dtype}."
        )
    if not 0 < least <= 1 or not 0 <= bits < 4 * BYTES or most < 1:
        raise UsageError(
            f"least={least!r}, bits={bits!r}, most={most!r}: expected a cosine above 0, at most 1, a number of bits "
            f"from 0 to {4 * BYTES - 1}, and a number of pairs."
        )
    if photos < 2:
        return ()
    centred = _Centred(features)
    shadows = closest.cast(centred.rows, photos)
    found = _told(*closest.pairs(centred.rows, photos, least=least, most=most, shadows=shadows))
    del shadows
    differing: dict[tuple[int, int], int] = {}
    if fingerprints is not None:
        signs = _Signs(fingerprints)
        alike = _told(*closest.pairs(signs.rows, photos, least=signs.product(bits), most=most))
        found.update(zip(alike, centred.cosines([*alike]), strict=True))
        differing = signs.differing([*found])
    ranks = [
        (differing[pair] if differing.get(pair, 8 * BYTES) <= bits else 8 * BYTES, -likeness, pair)
        for pair, likeness in found.items()
    ]
    return tuple(
        Pair(
            one=one,
            other=other,
            likeness=max(-1.0, min(1.0, -negative)),
            bits=differing.get((one, other)),
            contradictory=bool(truth[one] != truth[other]),
            across=learnt is not None and bool(learnt[one] != learnt[other]),
        )
        for _, negative, (one, other) in sorted(ranks)[:most]
    )


def together(
    truth: NDArray[np.intp], alike: Sequence[tuple[int, int]], copies: Sequence[tuple[int, int]] = ()
) -> Groups:
    """Return which photos are to be held out together, so that none is judged by its like.

    `truth` are the photos' classes, (photos,), and `alike` pairs of indices, of which `copies` look like one photo by
    more than their features. Those that are alike, also over others, are in one group. But where that would be most of
    a class of five photos or more, to be alike is what makes the class, as of documents among photographs: if they were
    all held out, nothing of the class were left to learn from. Such a class is `uniform`, and of its photos only the
    copies are in one group; where even these are most of the class, each photo is by itself.
    """
    of_photo = _linked(len(truth), alike)
    uniform = _mostly_one(truth, of_photo)
    if uniform.any():
        apart = uniform[truth]
        of_photo[apart] = (
            len(truth)
            + _linked(len(truth), [(one, other) for one, other in copies if apart[one] and apart[other]])[apart]
        )
        alone = np.flatnonzero((uniform & _mostly_one(truth, of_photo))[truth])
        of_photo[alone] = 2 * len(truth) + alone
    return Groups(of_photo=of_photo, uniform=tuple(np.flatnonzero(uniform).tolist()))


def _linked(photos: int, alike: Sequence[tuple[int, int]]) -> NDArray[np.intp]:
    """The group of each photo, (photos,), by the lowest index in it."""
    root = list(range(photos))

    def top(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for one, other in alike:
        low, high = sorted((top(one), top(other)))
        root[high] = low
    return np.array([top(i) for i in range(photos)], np.intp)


def _mostly_one(truth: NDArray[np.intp], groups: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Of which classes one group has most of the photos, bool (classes,); not of those with very few."""
    (classes, _), sizes = np.unique(np.stack([truth, groups]), axis=1, return_counts=True)
    counts = np.bincount(truth)
    largest = np.zeros(len(counts), np.intp)
    np.maximum.at(largest, classes, sizes)
    found: NDArray[np.bool_] = (2 * largest > counts) & (counts >= _SERIES)
    return found


class _Centred:
    """Features around the mean of all, of length 1, made a few rows at a time."""

    def __init__(self, features: NDArray[np.float32]) -> None:
        self._features = features
        self._mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._size = np.empty(len(features), np.float32)
        for start in range(0, len(features), closest.AT_ONCE):
            some = slice(start, start + closest.AT_ONCE)
            self._size[some] = np.linalg.norm(features[some] - self._mean, axis=1)
        self._size[self._size == 0] = 1

    def rows(self, some: slice | NDArray[np.intp]) -> NDArray[np.float32]:
        made: NDArray[np.float32] = (self._features[some] - self._mean) / self._size[some, np.newaxis]
        return made

    def cosines(self, pairs: Sequence[tuple[int, int]]) -> list[float]:
        made: list[float] = []
        for start in range(0, len(pairs), closest.AT_ONCE):
            one, other = np.array(pairs[start : start + closest.AT_ONCE], np.intp).T
            made += np.vecdot(self.rows(one), self.rows(other)).tolist()
        return made


class _Signs:
    """Fingerprints as numbers: 1 for a bit, -1 for none, so that the product of two says how many bits differ."""

    def __init__(self, fingerprints: NDArray[np.uint8]) -> None:
        self._fingerprints = fingerprints
        self._there: NDArray[np.bool_] = np.any(fingerprints != 0, axis=1)

    def rows(self, some: slice | NDArray[np.intp]) -> NDArray[np.float32]:
        made = 2 * np.unpackbits(self._fingerprints[some], axis=1).astype(np.float32) - 1
        made[~self._there[some]] = 0  # its product with any is that of fingerprints half of whose bits differ
        return made

    def product(self, bits: int) -> float:
        """The product of two of which so many bits differ."""
        return 8 * BYTES - 2 * bits

    def differing(self, pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
        """How many bits differ, of pairs that both have a fingerprint."""
        known = [pair for pair in pairs if self._there[[*pair]].all()]
        one, other = np.array(known, np.intp).reshape(-1, 2).T
        counts = np.unpackbits(self._fingerprints[one] ^ self._fingerprints[other], axis=1).sum(axis=1)
        return dict(zip(known, counts.tolist(), strict=True))


def _told(
    ones: NDArray[np.intp], others: NDArray[np.intp], products: NDArray[np.float32]
) -> dict[tuple[int, int], float]:
    return dict(zip(zip(ones.tolist(), others.tolist(), strict=True), products.tolist(), strict=True))
