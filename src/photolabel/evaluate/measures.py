"""Outcomes -> figures: how often a model is right, how sure of how much, and where it is wrong.

Errors are shares of the photos that could be read. How many could not is a figure beside them, and
`Measures.counting_unreadable` says what the error would be if each of these were a mistake.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..confidence import Bins, Share, bins, share
from ..errors import UsageError
from .distance import between, heights
from .outcomes import TOP, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..tree import Tree

PAIRS = 12  # most confused, with so many photos each
PHOTOS_OF_A_PAIR = 4
EXAMPLES = 12  # of mistakes and of right answers of each kind
EXTREMES = 6  # the nearest mistakes, and the farthest

_LEAST = 1e-12  # a probability is taken for no less in the likelihood, where 0 would be infinite


@dataclass(frozen=True, kw_only=True, slots=True)
class OfClasses:
    """Per class, in the order of the model's classes: how many photos were read, and how many of them are right.

    `right` are those with the class as the likeliest, `top5` those with it among the five, or None where the model has
    no more classes than that. `said` counts how often the class was the likeliest, of whatever photo. `taken_for` is
    the class that it was most often mistaken for, or None where it never was.
    """

    photos: tuple[int, ...]
    right: tuple[int, ...]
    top5: tuple[int, ...] | None
    said: tuple[int, ...]
    taken_for: tuple[int | None, ...]

    @property
    def present(self) -> int:
        """How many classes have a photo."""
        return sum(count > 0 for count in self.photos)

    @property
    def mean_accuracy(self) -> float:
        """The mean of the accuracies of all classes that have a photo, 0..1; not a number where none has."""
        found = [right / count for right, count in zip(self.right, self.photos, strict=True) if count]
        return math.fsum(found) / len(found) if found else math.nan


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """A class that was taken for another so many times; `photos` are indices of outcomes, the surest first."""

    truth: int
    said: int
    count: int
    photos: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """An outcome, by its index, how far off it is, and the lowest name above both: an index into the tree's nodes."""

    outcome: int
    height: int
    node: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Distances:
    """How far off the mistakes are, by WordNet; see `distance`.

    `counts` are the mistakes of height 0, 1, ... up to that of the whole tree, and `surest` is the surest of each.
    `of_mistakes` is their mean height, not a number of none, and `of_all` that of all photos, a right one having 0.
    `near` and `far` are the extremes, no pair of classes twice, the surest of those alike first.
    """

    counts: tuple[int, ...]
    surest: tuple[Mistake | None, ...]
    of_mistakes: float
    of_all: float
    near: tuple[Mistake, ...]
    far: tuple[Mistake, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """What outcomes amount to.

    `photos` is how many there are, `unreadable` how many of them have an error: these are in none of the other
    figures. `top1` and `top5` are shares of mistakes; `top5` is None for a model of five classes or fewer, for which
    it says nothing. `bins` are of the likeliest class's probability. `likelihood` is the mean negative logarithm of
    the true class's probability, which counts as 1e-12 at least; not a number of no photos. (Brier's score would need
    the probabilities of all classes.) `confusions` are the commonest first. `distances` is None for a model without a
    tree. `worst`, `best` and `unsure` are indices of outcomes: the surest mistakes; the surest that are right, no class
    twice; and those of the smallest probability.
    """

    photos: int
    unreadable: int
    top1: Share
    top5: Share | None
    bins: Bins
    likelihood: float
    classes: OfClasses
    confusions: tuple[Confusion, ...]
    distances: Distances | None
    worst: tuple[int, ...]
    best: tuple[int, ...]
    unsure: tuple[int, ...]

    def counting_unreadable(self) -> Share:
        """Return the top-1 error with each photo that could not be read as a mistake."""
        return share(self.top1.count + self.unreadable, self.photos)

    def record(self) -> dict[str, Any]:
        """Return the figures as plain values, ready for JSON; what is not a number is None."""
        return {
            "photos": self.photos,
            "unreadable": self.unreadable,
            "top1_error": self.top1.record(),
            "top5_error": None if self.top5 is None else self.top5.record(),
            "top1_error_counting_unreadable": self.counting_unreadable().record(),
            "mean_class_accuracy": _number(self.classes.mean_accuracy),
            "classes_present": self.classes.present,
            "calibration_error": _number(self.bins.ece),
            "mean_confidence": _number(self.bins.confidence),
            "negative_log_likelihood": _number(self.likelihood),
            "mean_height_of_mistakes": None if self.distances is None else _number(self.distances.of_mistakes),
        }


def measure(outcomes: Sequence[Outcome], *, classes: int, tree: Tree | None = None) -> Measures:
    """Return what the outcomes of a model of so many classes amount to; `tree` is what stands above them.

    Raises UsageError for an index that is none of a class, a probability outside 0..1, or a tree of other classes.
    """
    if tree is not None and tree.under.shape[1] != classes:
        raise UsageError(f"expected a tree of {classes} classes, got one of {tree.under.shape[1]}.")
    read = np.array([i for i, each in enumerate(outcomes) if each.error is None], np.int64)
    few = min(TOP, classes)
    top = np.full((len(read), few), -1, np.int64)
    for row, i in enumerate(read):
        best = outcomes[i].top[:few]
        top[row, : len(best)] = best
    truth = np.array([outcomes[i].truth for i in read], np.int64)
    confidence = np.array([outcomes[i].probability for i in read], np.float64)
    of_truth = np.array([outcomes[i].of_truth for i in read], np.float64)
    if len(read) and not (truth.min() >= 0 and max(truth.max(), top.max()) < classes and top.min() >= -1):
        raise UsageError(f"expected indices of classes from 0 to {classes - 1}.")
    if not ((of_truth >= 0) & (of_truth <= 1)).all():
        raise UsageError("expected probabilities of the true class from 0 to 1.")

    said = top[:, 0]
    right = said == truth
    among = (top == truth[:, np.newaxis]).any(axis=1)
    wrong = np.flatnonzero(~right)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]  # the surest mistakes first; equals in their order
    surest = np.argsort(-confidence, kind="stable")
    sound = surest[right[surest]]
    first_of_class = np.sort(np.unique(truth[sound], return_index=True)[1])
    telling = classes > TOP
    return Measures(
        photos=len(outcomes),
        unreadable=len(outcomes) - len(read),
        top1=share(len(wrong), len(read)),
        top5=share(int((~among).sum()), len(read)) if telling else None,
        bins=bins(confidence, right),
        likelihood=float(-np.log(np.maximum(of_truth, _LEAST)).mean()) if len(read) else math.nan,
        classes=OfClasses(
            photos=_counts(truth, classes),
            right=_counts(truth[right], classes),
            top5=_counts(truth[among], classes) if telling else None,
            said=_counts(said, classes),
            taken_for=_taken_for(truth[wrong], said[wrong], classes),
        ),
        confusions=_confusions(truth[wrong], said[wrong], read[wrong], classes),
        distances=None if tree is None else _distances(tree, truth[wrong], said[wrong], read[wrong], len(read)),
        worst=_indices(read[wrong][:EXAMPLES]),
        best=_indices(read[sound[first_of_class]][:EXAMPLES]),
        unsure=_indices(read[surest[::-1]][:EXAMPLES]),
    )


def _counts(which: NDArray[np.int64], classes: int) -> tuple[int, ...]:
    return tuple(np.bincount(which, minlength=classes).tolist())


def _taken_for(truth: NDArray[np.int64], said: NDArray[np.int64], classes: int) -> tuple[int | None, ...]:
    """The commonest mistake of each class; of equally common ones the lower class."""
    pairs, counts = np.unique(truth * classes + said, return_counts=True)
    found: list[int | None] = [None] * classes
    for pair in pairs[np.argsort(-counts, kind="stable")].tolist():
        if found[pair // classes] is None:
            found[pair // classes] = pair % classes
    return tuple(found)


def _indices(found: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(found.tolist())


def _confusions(
    truth: NDArray[np.int64], said: NDArray[np.int64], outcome: NDArray[np.int64], classes: int
) -> tuple[Confusion, ...]:
    """The commonest pairs of mistakes, which come the surest first; of equally common ones the lower classes first."""
    pairs, which, counts = np.unique(truth * classes + said, return_inverse=True, return_counts=True)
    found = []
    for pair in np.argsort(-counts, kind="stable")[:PAIRS]:
        photos = outcome[np.flatnonzero(which == pair)[:PHOTOS_OF_A_PAIR]]
        is_, said_ = divmod(int(pairs[pair]), classes)
        found.append(Confusion(truth=is_, said=said_, count=int(counts[pair]), photos=_indices(photos)))
    return tuple(found)


def _distances(
    tree: Tree, truth: NDArray[np.int64], said: NDArray[np.int64], outcome: NDArray[np.int64], photos: int
) -> Distances:
    """`truth`, `said` and `outcome` are of the mistakes, the surest first; `photos` is how many were read."""
    height, node = between(tree, truth, said)
    levels = int(heights(tree).max(initial=0)) + 1
    _, first = np.unique(truth * tree.under.shape[1] + said, return_index=True)
    first = np.sort(first)  # the surest of each pair of classes
    order = first[np.argsort(height[first], kind="stable")]
    back = first[np.argsort(-height[first], kind="stable")]
    many = min(EXTREMES, (len(first) + 1) // 2)  # so that none is near and far

    def mistake(i: int) -> Mistake:
        return Mistake(outcome=int(outcome[i]), height=int(height[i]), node=int(node[i]))

    surest: list[Mistake | None] = [None] * levels
    for level, i in zip(*np.unique(height, return_index=True), strict=True):
        surest[level] = mistake(i)
    return Distances(
        counts=_counts(height, levels),
        surest=tuple(surest),
        of_mistakes=float(height.mean()) if len(height) else math.nan,
        of_all=float(height.sum() / photos) if photos else math.nan,
        near=tuple(mistake(i) for i in order[:many]),
        far=tuple(mistake(i) for i in back[: min(many, len(first) - many)]),
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
