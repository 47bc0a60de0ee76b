"""What held-out photos say of a head: how often it is right, of each class, and what it takes for what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..confidence import Bins, Share, bins, share
from ..errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class OfClass:
    """Of one class: `recall` is the share of its photos that were named so, `precision` that of the so named that are.

    `photos` is how many it has in all, those included that could not be judged.
    """

    photos: int
    recall: Share
    precision: Share


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What photos say of a head that had not seen them.

    `accuracy` is the share that was named rightly. `confusion` are counts, (classes, classes): a row is a true class, a
    column what was said. `bins` are of the likeliest class's probability. `unjudged` is how many photos could not be
    judged; they are in no other figure but `OfClass.photos`.
    """

    accuracy: Share
    classes: tuple[OfClass, ...]
    confusion: NDArray[np.int64]
    bins: Bins
    unjudged: int

    @property
    def mean_recall(self) -> float:
        """The mean of the recalls of all classes of which a photo was judged, 0..1; not a number where none was."""
        found = [each.recall.value for each in self.classes if each.recall.of]
        return float(np.mean(found)) if found else float("nan")

    def confusions(self) -> list[tuple[int, int, int]]:
        """Return what was taken for what how often, (true class, said, count), the commonest first."""
        truth, said = np.nonzero(self.confusion)
        off = truth != said
        truth, said = truth[off], said[off]
        counts = self.confusion[truth, said]
        order = np.argsort(-counts, kind="stable")
        return [*zip(truth[order].tolist(), said[order].tolist(), counts[order].tolist(), strict=True)]


def figures(
    probabilities: NDArray[np.float32], truth: NDArray[np.intp], judged: NDArray[np.bool_] | None = None
) -> Figures:
    """Return what photos of known classes say of the head that made their probabilities.

    `probabilities` are float32 (photos, classes), 0..1; `truth` and `judged` are (photos,), all judged if it is None.
    Raises UsageError for numbers that do not fit together.
    """
    if probabilities.ndim != 2 or truth.shape != probabilities.shape[:1]:
        raise UsageError(f"expected probabilities (photos, classes) and one class a photo, got {probabilities.shape}.")
    count = probabilities.shape[1]
    if len(truth) and not (truth.min() >= 0 and truth.max() < count):
        raise UsageError(f"expected classes from 0 to {count - 1}.")
    which = np.arange(len(truth)) if judged is None else np.flatnonzero(judged)
    given, known = probabilities[which], truth[which]
    said = given.argmax(axis=1)
    confusion = np.bincount(known * count + said, minlength=count * count).reshape(count, count)
    right = said == known
    photos = np.bincount(truth, minlength=count)
    return Figures(
        accuracy=share(int(right.sum()), len(known)),
        classes=tuple(
            OfClass(
                photos=int(photos[i]),
                recall=share(int(confusion[i, i]), int(confusion[i].sum())),
                precision=share(int(confusion[i, i]), int(confusion[:, i].sum())),
            )
            for i in range(count)
        ),
        confusion=confusion.astype(np.int64),
        bins=bins(np.minimum(given.max(axis=1, initial=0), 1), right),
        unjudged=len(truth) - len(which),
    )
