"""Photos whose classes are known -> a calibration, and how much better the probabilities are by it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import calibration, confidence
from ..answer import tempered
from ..errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..calibration import Calibration
    from ..confidence import Bins, Share
    from ..prediction import Prediction

MOST = 50_000  # photos: of 1000 classes they take 200 MB
_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """A calibration, and what it is worth.

    `before` sorts the likeliest classes by the network's own probability, `after` by the calibrated one, which for each
    photo is of the temperature that the other four fifths of the photos teach. `right` is the share of photos whose
    likeliest class is the true one, `unreadable` how many photos could not be classified.
    """

    calibration: Calibration
    right: Share
    before: Bins
    after: Bins
    unreadable: int
    probabilities: NDArray[np.float32]

    def names(self, coverage: float) -> float:
        """Return how many names a set of that coverage has in the mean, over the photos learnt from."""
        calibrated = self.calibration.probabilities(self.probabilities)
        return float(self.calibration.sizes(calibrated, coverage).mean())


def learn(judged: Iterable[Prediction]) -> Learnt:
    """Return what the network's own, uncalibrated Predictions with their `truth` teach.

    Raises UsageError for too few of them, or more than `MOST`, and for such as are calibrated already.
    """
    found: list[NDArray[np.float32]] = []
    truth: list[int] = []
    unreadable = 0
    for prediction in judged:
        if prediction.calibration is not None or prediction.truth is None:
            raise UsageError("expected predictions that are not calibrated, of photos whose classes are known.")
        if prediction.error is not None:
            unreadable += 1
            continue
        found.append(prediction.probabilities)
        truth.append(prediction.truth.index)
        if len(found) > MOST:
            raise UsageError(f"expected at most {MOST:,} photos: more teach nothing that these do not.")
    if len(found) < calibration.FEWEST:
        left_out = f" ({unreadable} more could not be classified)" if unreadable else ""
        raise UsageError(
            f"expected at least {calibration.FEWEST} photos to calibrate with, got {len(found)}{left_out}."
        )
    probabilities, classes = np.stack(found), np.array(truth)
    right = probabilities.argmax(axis=1) == classes
    return Learnt(
        calibration=calibration.fit(probabilities, classes),
        right=confidence.share(int(right.sum()), len(right)),
        before=confidence.bins(probabilities.max(axis=1), right),
        after=confidence.bins(_cross_fitted(probabilities, classes).max(axis=1), right),
        unreadable=unreadable,
        probabilities=probabilities,
    )


def _cross_fitted(probabilities: NDArray[np.float32], classes: NDArray[np.intp]) -> NDArray[np.float32]:
    """The probabilities, of each fifth by what the others teach; which photos are in which is the same each time."""
    order = np.random.default_rng(0).permutation(len(classes))
    made = np.empty_like(probabilities)
    for fold in range(_FOLDS):
        held = order[fold::_FOLDS]
        others = np.setdiff1d(order, held)
        made[held] = tempered(probabilities[held], calibration.temperature(probabilities[others], classes[others]))
    return made
