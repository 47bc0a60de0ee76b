"""Whether a photo shows any of the classes at all: how like the nearest class's mean photo its features are.

The score is a cosine of plain features, so a graph computes it with a few operators. Where none of the classes' kind is
shown it does better than the distance to the nearest mean, plain or by Mahalanobis, and as well as the nearest photo,
which would take all photos along. It cannot tell what is much like the classes: another garment among garments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError
from .folds import NEVER

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNFAMILIAR = 0.05  # of the photos of its classes that are given up, so that others are known for what they are


@dataclass(frozen=True, kw_only=True)
class Familiar:
    """The classes' directions, and the line: what is less like each of them than `floor` shows none of them.

    `centres` are float32 (features, classes), columns of length 1. `floor` is -1, which nothing is below, where no
    photo could be held out to tell. `photos` is how many it was drawn by.
    """

    centres: NDArray[np.float32]
    floor: float
    photos: int

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the largest cosine with a class's direction: float32 (photos, features) -> float32 (photos,), -1..1.

        Raises UsageError for features of another network.
        """
        if features.ndim != 2 or features.shape[1] != len(self.centres):
            raise UsageError(f"expected features (photos, {len(self.centres)}), got {features.shape}.")
        return _likeness(features, self.centres)


def learn(features: NDArray[np.float32], truth: NDArray[np.intp], fold: NDArray[np.intp], *, classes: int) -> Familiar:
    """Return what photos of known classes tell: all but 5 % of them, each held out with its fold, reach the floor.

    `features` are float32 (photos, features), `truth` and `fold` (photos,); photos of the fold NEVER are learnt from
    only. Each class needs a photo. Raises UsageError where one has none, or numbers do not fit together.
    """
    if features.ndim != 2 or truth.shape != features.shape[:1] or fold.shape != truth.shape:
        raise UsageError("expected features (photos, features), and a class and a fold for each photo.")
    if len(truth) and not (truth.min() >= 0 and truth.max() < classes):
        raise UsageError(f"expected classes from 0 to {classes - 1}.")
    if not np.bincount(truth, minlength=classes).all():
        raise UsageError(f"expected a photo of each of the {classes} classes.")
    which = range(int(fold.max(initial=NEVER)) + 1)
    sums = {each: _sums(features[fold == each], truth[fold == each], classes) for each in (NEVER, *which)}
    whole = np.sum(list(sums.values()), axis=0)
    held = np.full(len(truth), np.nan, np.float32)
    for each in which:
        out = np.flatnonzero(fold == each)
        rest = _unit(whole - sums[each])
        # Of a class that lies in this fold alone there is no direction left: its photos tell nothing.
        there = np.any(rest, axis=0)
        out = out[there[truth[out]]]
        held[out] = _likeness(features[out], rest)
    told = np.sort(held[~np.isnan(held)])
    return Familiar(
        centres=_unit(whole),
        floor=float(told[int(UNFAMILIAR * len(told))]) if len(told) else -1.0,
        photos=len(told),
    )


def _sums(features: NDArray[np.float32], truth: NDArray[np.intp], classes: int) -> NDArray[np.float64]:
    """The sum of the features of each class, (features, classes)."""
    found = np.zeros((features.shape[1], classes))
    for each in range(classes):
        found[:, each] = features[truth == each].sum(axis=0, dtype=np.float64)
    return found


def _unit(columns: NDArray[np.float64]) -> NDArray[np.float32]:
    """Columns of length 1; those of a millionth of the greatest or less are what rounding left, and become 0."""
    sizes = np.linalg.norm(columns, axis=0)
    there = sizes > 1e-6 * sizes.max(initial=0)
    found: NDArray[np.float32] = np.divide(columns, sizes, where=there, out=np.zeros_like(columns)).astype(np.float32)
    return found


def _likeness(features: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.float32]:
    sizes = np.maximum(np.linalg.norm(features, axis=1), np.finfo(np.float32).tiny)
    found: NDArray[np.float32] = (features @ centres).max(axis=1) / sizes
    return found
