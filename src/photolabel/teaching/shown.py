"""Which photos of a lesson are worth a look: a bounded choice, the same for the same lesson."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..page import several
from .doubts import MOST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .doubts import Mislabelled, Pair
    from .lesson import Lesson, Photos, Repeated

MISLABELLED = 24
WRONG = 12  # of the photos learnt from, and of those for validation
PAIRS = 24
REPEATED = 12  # of each kind
NAMES = 4  # of one content


@dataclass(frozen=True, kw_only=True, slots=True)
class Wrong:
    """A photo that was named wrongly: its name, the true class and the one that was said, and both probabilities."""

    photo: str
    truth: int
    said: int
    probability: float
    of_truth: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """Photos of a lesson that are shown.

    `mislabelled` are the likeliest mistakes of the labels. `wrong` and `wrong_validation` are the surest mistakes of
    the network, of photos that were held out and of those for validation, without the former. `pairs` look alike: at
    first those across what is learnt from and what is judged by, then those of two classes, then the others; of each
    the most alike first. `contradictory`, `across` and `twice` are contents that are there several times: as several
    classes; else to learn from and to judge by; the others.
    """

    mislabelled: tuple[Mislabelled, ...]
    wrong: tuple[Wrong, ...]
    wrong_validation: tuple[Wrong, ...]
    pairs: tuple[Pair, ...]
    contradictory: tuple[Repeated, ...]
    across: tuple[Repeated, ...]
    twice: tuple[Repeated, ...]


def choose(lesson: Lesson) -> Shown:
    """Return the photos of a lesson that are shown, at most some hundred."""
    doubtful = {each.photo for each in lesson.mislabelled}
    judged = lesson.fitted.judged if lesson.figures.accuracy.of else np.zeros(len(lesson.photos), bool)
    held = lesson.validation
    contradictory, across, twice = kinds(lesson.repeated)
    return Shown(
        mislabelled=lesson.mislabelled[:MISLABELLED],
        wrong=_surest(lesson.photos, lesson.fitted.probabilities, judged, doubtful),
        wrong_validation=() if held is None else _surest(held.photos, held.probabilities),
        pairs=tuple(sorted(lesson.alike, key=lambda pair: (not pair.across, not pair.contradictory)))[:PAIRS],
        contradictory=tuple(contradictory[:REPEATED]),
        across=tuple(across[:REPEATED]),
        twice=tuple(twice[:REPEATED]),
    )


def names(lesson: Lesson) -> frozenset[str]:
    """Return the names of the photos that a page of a lesson asks for: whoever has them may forget all others."""
    shown, (every, _) = choose(lesson), everyone(lesson)
    repeated = (*shown.contradictory, *shown.across, *shown.twice)
    return frozenset(
        [
            *(every[each.photo] for each in shown.mislabelled),
            *(each.photo for each in (*shown.wrong, *shown.wrong_validation)),
            *(every[i] for pair in shown.pairs for i in (pair.one, pair.other)),
            *(photo for each in repeated for photo in each.photos[:NAMES]),
        ]
    )


def everyone(lesson: Lesson) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    """Return names and classes of the photos that pairs tell of: those that are learnt from, then the others."""
    held = lesson.validation
    if held is None:
        return lesson.photos.names, lesson.photos.truth
    return (*lesson.photos.names, *held.photos.names), np.concatenate([lesson.photos.truth, held.photos.truth])


def pairs(lesson: Lesson) -> str:
    """Return in words how many pairs of photos look alike; of very many only the most alike are known."""
    count = len(lesson.alike)
    return f"{'at least ' if count >= MOST else ''}{several(count, 'pair')}"


def kinds(repeated: Iterable[Repeated]) -> tuple[list[Repeated], list[Repeated], list[Repeated]]:
    """Return contents that are there several times: as several classes; else to learn and to judge by; the others."""
    found: tuple[list[Repeated], list[Repeated], list[Repeated]] = ([], [], [])
    for each in repeated:
        found[0 if each.contradictory else 1 if each.across else 2].append(each)
    return found


def _surest(
    photos: Photos,
    probabilities: NDArray[np.float32],
    judged: NDArray[np.bool_] | None = None,
    but: Iterable[int] = (),
) -> tuple[Wrong, ...]:
    """The mistakes of which the network was surest, of equals the first photo; those of `but` are left out."""
    said = probabilities.argmax(axis=1)  # of photos that were not judged it is anything
    amiss = said != photos.truth
    if judged is not None:
        amiss &= judged
    amiss[list(but)] = False
    which = np.flatnonzero(amiss)
    sure = probabilities[which, said[which]]
    return tuple(
        Wrong(
            photo=photos.names[i],
            truth=int(photos.truth[i]),
            said=int(said[i]),
            probability=float(probabilities[i, said[i]]),
            of_truth=float(probabilities[i, photos.truth[i]]),
        )
        for i in which[np.argsort(-sure, kind="stable")][:WRONG].tolist()
    )
