"""Whether more photos would help, and about how many: from what heads made of parts of the photos, and on from there.

Errors are taken to fall as a power of the number of photos, error(n) = a * n ** -b + floor, as they have been found to
do in many tasks (Cortes and others, "Learning Curves: Asymptotic Values and Rate of Convergence", NIPS 1993).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..confidence import Share, share
from ..errors import UsageError
from .folds import NEVER, deal, portion
from .solving import Rows, one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .heads import Fitted

FEW = 10  # photos: of fewer, even if all are named rightly, the interval of the recall is wider than 30 points
_SHARES = (1 / 8, 1 / 4, 1 / 2)  # of the photos that are learnt from while others are held out
_FOLDS = 5
_REPEATS = 3  # of all folds, where photos are few
_ENOUGH = 10_000  # photos that are learnt from and judged
_JUDGED = 3000  # answers at each share, from where on no further fold is held out
_MOST = 32  # times as many photos: what takes more is as good as never, and cannot be told from so far away
# By how much twice the log-likelihood must grow for a curve that falls, and for one that ends at a floor.
_FALLS, _ENDS = 2.71, 3.84
_SPREAD = 0.25  # of the exponents of classes around that of all
_EXPONENTS = np.arange(0, 31) / 20
_LEVELS = np.geomspace(1e-4, 100, 400)  # of a
_FLOORS = np.array([0, 0.25, 0.5, 0.75, 0.9])  # of the error there is now
_TINY = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """What heads were like that learnt from fewer photos: `accuracy` is the share of held-out photos named rightly.

    `photos` is how many a class they learnt from, in the mean over the classes.
    """

    photos: float
    accuracy: Share


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """A class of which more photos are needed.

    `index` is the class's, `photos` how many it has, `recall` the share of its held-out photos that were named rightly.
    `wanted` is about how many photos it would take, those included that are there, for its error to be halved, all
    other classes growing alike; None where more photos would not help, as far as can be told.
    """

    index: int
    photos: int
    recall: Share
    wanted: int | None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How accuracy grows with the number of photos. `points` come by their number; the last is of all that are there.

    `needs` are the classes that need more photos, the lowest recall first.
    """

    points: tuple[Point, ...]
    needs: tuple[Need, ...]


def measure(
    features: NDArray[np.float32],
    truth: NDArray[np.intp],
    fitted: Fitted,
    *,
    classes: int,
    groups: NDArray[np.intp] | None = None,
    views: NDArray[np.float32] | None = None,
    seed: int = 0,
) -> Curve | None:
    """Return how accuracy grows with the number of photos; None where it cannot be told.

    `features`, `truth`, `groups` and `views` are those that `fitted` was fitted to. Heads of the same kind and strength
    learn from an eighth, a quarter and a half of each class's photos, and are judged by photos that are held out with
    their groups; the last point is what `fitted` says. At most some 10,000 photos are looked at for the others. It
    cannot be told where half of the classes have fewer than 10 photos, or none could be held out.

    A class needs more photos when its recall is below that of all other classes' photos together by more than chance
    makes it, or when it has fewer than 10. About how many is read off the curve error(n) = a * n ** -b + floor, which
    is fitted to the class's own errors by their likelihood; b is not negative, and is held near that of all classes
    together, since a class's own errors are few. The curve has a floor only where the errors are plainly likelier with
    one, and falls only where they are plainly likelier than if they stayed the same. More photos would not help where
    it does not fall, where the floor is half of the error or more, and where it would take more than 32 times as many.
    A class of fewer than 10 photos wants 10 at least. Numbers are rounded to two digits; of classes made up they were
    mostly within a factor of two of the truth.

    The same photos and seed give the same answer. Raises UsageError for numbers that do not fit together.
    """
    together = np.arange(len(truth)) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    if features.ndim != 2 or not len(features) == len(truth) == len(together) == len(fitted.judged):
        raise UsageError("expected features (photos, features), and a class and a group for each photo of the head.")
    counts = np.bincount(truth, minlength=classes)
    if not fitted.folds or not fitted.judged.any() or np.median(counts) < FEW:
        return None
    part = portion(truth, together, share=_ENOUGH / len(truth), least=FEW, seed=seed)
    with one_thread():
        tried = [
            *_tried(
                features if len(part) == len(truth) else features[part],  # no copy
                truth[part],
                together[part],
                fitted,
                None if views is None else views[part],
                seed,
            ),
            _whole(truth, fitted, classes),
        ]
    points = tuple(Point(photos=round(float(each.sizes.mean()), 1), accuracy=each.accuracy) for each in tried)
    return Curve(points=points, needs=_needs(tried, truth, counts))


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """What became of heads that learnt from `sizes` photos of each class, (classes,).

    `errors` are the shares of wrong answers of each photo, not numbers where it was not judged, (photos,).
    """

    sizes: NDArray[np.float64]
    errors: NDArray[np.float64]
    truth: NDArray[np.intp]

    @property
    def accuracy(self) -> Share:
        judged = self.errors[~np.isnan(self.errors)]
        return share(round(float((1 - judged).sum())), len(judged))

    def of(self, which: int | None) -> tuple[float, int]:
        """The error of a class, or of all, and by how many photos."""
        there = ~np.isnan(self.errors) if which is None else ~np.isnan(self.errors) & (self.truth == which)
        count = int(there.sum())
        return (float(self.errors[there].mean()) if count else 0.0), count


def _whole(truth: NDArray[np.intp], fitted: Fitted, classes: int) -> _Tried:
    """What the folds of the head itself say."""
    held = [np.bincount(truth[fitted.fold == each], minlength=classes) for each in range(fitted.folds)]
    errors = np.full(len(truth), np.nan)
    errors[fitted.judged] = fitted.probabilities[fitted.judged].argmax(axis=1) != truth[fitted.judged]
    return _Tried(sizes=np.bincount(truth, minlength=classes) - np.mean(held, axis=0), errors=errors, truth=truth)


def _tried(
    features: NDArray[np.float32],
    truth: NDArray[np.intp],
    groups: NDArray[np.intp],
    fitted: Fitted,
    views: NDArray[np.float32] | None,
    seed: int,
) -> list[_Tried]:
    """What became of heads that learnt from shares of the photos, the least first."""
    classes = fitted.head.weights.shape[1]
    wrong = np.zeros((len(_SHARES), len(truth)))
    times = np.zeros(len(truth))
    sizes = np.zeros((len(_SHARES), classes))
    rounds = judged = 0
    for repeat in range(_REPEATS):
        fold = deal(truth, groups, most=_FOLDS, seed=seed + repeat)
        for each in range(int(fold.max(initial=NEVER)) + 1):
            if judged >= _JUDGED:
                break
            rest = np.flatnonzero(fold != each)
            out = np.flatnonzero((fold == each) & np.isin(truth, truth[rest]))
            for place, part in enumerate(_SHARES):
                learnt = rest[portion(truth[rest], groups[rest], share=part, least=1, seed=seed + repeat)]
                said = _said(features, truth, views, learnt, out, fitted)
                wrong[place, out] += said != truth[out]
                sizes[place] += np.bincount(truth[learnt], minlength=classes)
            times[out] += 1
            rounds, judged = rounds + 1, judged + len(out)
    errors = np.divide(wrong, times, where=times > 0, out=np.full_like(wrong, np.nan))
    return [
        _Tried(sizes=size / max(rounds, 1), errors=error, truth=truth)
        for size, error in zip(sizes, errors, strict=True)
    ]


def _said(
    features: NDArray[np.float32],
    truth: NDArray[np.intp],
    views: NDArray[np.float32] | None,
    learnt: NDArray[np.intp],
    out: NDArray[np.intp],
    fitted: Fitted,
) -> NDArray[np.intp]:
    """The classes that photos are named by a head that learnt from some others."""
    there, inner = np.unique(truth[learnt], return_inverse=True)
    of_learnt = None if views is None else views[learnt]
    rows = Rows(features[learnt], inner, classes=len(there), kind=fitted.head.kind, views=of_learnt)
    weights, bias = rows.folded(rows.solve(fitted.head.strength, np.ones(len(learnt), bool), rough=True))
    said: NDArray[np.intp] = there[(features[out] @ weights.astype(np.float32) + bias).argmax(axis=1)]
    return said


def _needs(tried: list[_Tried], truth: NDArray[np.intp], counts: NDArray[np.intp]) -> tuple[Need, ...]:
    whole = tried[-1]
    recalls = []
    for which in range(len(counts)):
        error, judged = whole.of(which)
        recalls.append(share(round((1 - error) * judged), judged))
    right, judged_in_all = sum(each.count for each in recalls), sum(each.of for each in recalls)
    usual = _Law.fit([each.sizes.mean() for each in tried], [each.of(None) for each in tried]).exponent
    needs = []
    for which, recall in enumerate(recalls):
        others = share(right - recall.count, judged_in_all - recall.of)
        few = counts[which] < FEW
        if not (_is_lower(recall, others) or few):
            continue
        law = _Law.fit([each.sizes[which] for each in tried], [each.of(which) for each in tried], usual)
        wanted = law.halved(int(counts[which]))
        if few:
            wanted = max(FEW, wanted or 0)
        needs.append(Need(index=which, photos=int(counts[which]), recall=recall, wanted=wanted))
    return tuple(sorted(needs, key=lambda need: (need.recall.value if need.recall.of else -1.0, need.index)))


def _is_lower(one: Share, other: Share) -> bool:
    """Whether a share is lower than another by more than chance makes it.

    By the interval of a difference: Newcombe, "Interval Estimation for the Difference Between Independent Proportions",
    1998, its method 10.
    """
    if not (one.of and other.of):
        return False
    return other.value - one.value > math.hypot(other.value - other.low, one.high - one.value)


@dataclass(frozen=True, kw_only=True)
class _Law:
    """error(n) = level * n ** -exponent + floor."""

    level: float
    exponent: float
    floor: float

    @classmethod
    def fit(cls, sizes: list[float], errors: list[tuple[float, int]], usual: float | None = None) -> _Law:
        """Return the likeliest law; `usual` is what its exponent is likely near, if that is known."""
        found = np.array([error for error, _ in errors])
        judged = np.array([count for _, count in errors])
        powers = np.maximum(sizes, 1)[:, np.newaxis] ** -_EXPONENTS  # (points, exponents)
        floors = found[-1] * _FLOORS
        held = np.zeros(len(_EXPONENTS)) if usual is None else ((_EXPONENTS - usual) / _SPREAD) ** 2

        def misfit(floor: float) -> NDArray[np.float64]:
            """Minus twice the log-likelihood, (exponents, levels), of counts of wrong answers."""
            said = np.clip(powers[..., np.newaxis] * _LEVELS + floor, _TINY, 1 - _TINY)
            chances = found[:, np.newaxis, np.newaxis] * np.log(said)
            chances += (1 - found)[:, np.newaxis, np.newaxis] * np.log1p(-said)
            total: NDArray[np.float64] = -2 * np.tensordot(judged, chances, axes=1)
            return total + held[:, np.newaxis]

        misfits = [misfit(floor) for floor in floors]
        least = [float(each.min()) for each in misfits]
        chosen = int(np.argmin(least)) if least[0] - min(least) > _ENDS else 0
        exponent, level = np.unravel_index(int(misfits[chosen].argmin()), misfits[chosen].shape)
        if misfits[0][0].min() - least[chosen] < _FALLS:
            exponent = np.intp(0)
        return cls(level=float(_LEVELS[level]), exponent=float(_EXPONENTS[exponent]), floor=float(floors[chosen]))

    def halved(self, photos: int) -> int | None:
        """About how many photos halve the error that so many make; None where none do."""
        falling = self.level * photos**-self.exponent
        left = (falling + self.floor) / 2 - self.floor  # of what falls
        if not self.exponent or left <= 0 or not photos:
            return None
        times = (falling / left) ** (1 / self.exponent)
        return _rounded(times * photos) if times <= _MOST else None


def _rounded(count: float) -> int:
    """To two digits."""
    return round(count, 1 - int(np.log10(count))) if (count := round(count)) >= 100 else count
