"""How sure one can be: of a share that was counted, by its interval; of probabilities, by how often they hold.

The intervals are Wilson's (E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference",
JASA 1927). The plain one, share +- 1.96 standard errors, has no width where nothing or all was right, reaches below 0
and above 1, and holds the truth less often than it claims with few photos; Wilson's does none of this and needs no more
(Brown, Cai and DasGupta, "Interval Estimation for a Binomial Proportion", Statistical Science 2001).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 15  # as Guo et al. have it

_Z = 1.959963984540054  # of 95 %, two-sided


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """`count` of `of` photos, and the 95 % interval of the share they were drawn from: `low` and `high`, 0..1."""

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself, 0..1; not a number of no photos."""
        return self.count / self.of if self.of else math.nan

    def holds(self, value: float) -> bool:
        """Whether the interval holds a value."""
        return self.low <= value <= self.high

    def record(self) -> dict[str, float | int | None]:
        """Return it as plain values, ready for JSON; the share of no photos is None."""
        value = self.value if self.of else None
        return {"count": self.count, "of": self.of, "share": value, "low": self.low, "high": self.high}


def share(count: int, of: int) -> Share:
    """Return a share with its 95 % interval; of no photos that is all from 0 to 1. Raises UsageError for no share."""
    if not 0 <= count <= of:
        raise UsageError(f"expected a count from 0 to {of}, got {count}.")
    if not of:
        return Share(count=0, of=0, low=0.0, high=1.0)
    found, square = count / of, _Z * _Z
    middle = (found + square / (2 * of)) / (1 + square / of)
    half = _Z / (1 + square / of) * math.sqrt(found * (1 - found) / of + square / (4 * of * of))
    # Where nothing or all was counted the end is exactly 0 or 1, but for rounding.
    low = middle - half if count else 0.0
    high = middle + half if count < of else 1.0
    return Share(count=count, of=of, low=low, high=high)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bins:
    """Answers sorted by their confidence into bins of equal width, for a reliability diagram.

    Bin i of n takes confidences above i / n up to (i + 1) / n; a confidence of 0 is in the first. A bin has `counts`
    answers, of which `right` were right, and whose confidences sum to `sums`.
    """

    counts: tuple[int, ...]
    right: tuple[int, ...]
    sums: tuple[float, ...]

    @property
    def total(self) -> int:
        """How many answers there are."""
        return sum(self.counts)

    @property
    def confidences(self) -> tuple[float, ...]:
        """The mean confidence in each bin, 0..1; the middle of one that is empty."""
        width = 1 / len(self.counts)
        return tuple(
            total / count if count else (i + 0.5) * width
            for i, (total, count) in enumerate(zip(self.sums, self.counts, strict=True))
        )

    @property
    def accuracies(self) -> tuple[Share, ...]:
        """The share of right answers in each bin, with its interval."""
        return tuple(share(right, count) for right, count in zip(self.right, self.counts, strict=True))

    @property
    def accuracy(self) -> float:
        """The share of right answers in all, 0..1; not a number of none."""
        return sum(self.right) / self.total if self.total else math.nan

    @property
    def confidence(self) -> float:
        """The mean confidence of all answers, 0..1; not a number of none."""
        return math.fsum(self.sums) / self.total if self.total else math.nan

    @property
    def ece(self) -> float:
        """The expected calibration error, 0..1: how far accuracy and confidence are apart, over all answers.

        After Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017: the distance in
        each bin, weighed by how many answers are in it. Not a number of no answers.
        """
        if not self.total:
            return math.nan
        return math.fsum(abs(right - sums) for right, sums in zip(self.right, self.sums, strict=True)) / self.total


def bins(confidences: NDArray[np.floating], right: NDArray[np.bool_], *, count: int = BINS) -> Bins:
    """Sort answers into bins: `confidences` (answers,) 0..1, and whether each was right, bool (answers,).

    Raises UsageError for confidences outside 0..1, or of another number than `right`.
    """
    given = np.asarray(confidences, np.float64)
    truth = np.asarray(right, bool)
    if given.ndim != 1 or given.shape != truth.shape:
        raise UsageError(f"expected a confidence for each answer, got {given.shape} and {truth.shape}.")
    if count < 1 or not ((given >= 0) & (given <= 1)).all():
        raise UsageError("expected confidences from 0 to 1, and at least one bin.")
    edges = np.arange(count + 1) / count
    which = np.maximum(np.searchsorted(edges, given, side="left") - 1, 0)
    counts = np.bincount(which, minlength=count)
    rights = np.bincount(which, truth, minlength=count)
    sums = np.bincount(which, given, minlength=count)
    return Bins(counts=tuple(counts.tolist()), right=tuple(map(int, rights)), sums=tuple(sums.tolist()))
