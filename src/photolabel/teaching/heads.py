"""A linear head on features: fitted, its strength chosen and its probabilities calibrated on held-out photos.

Each class counts the same, however many photos it has: a class of few photos is then found nearly as well, and
probabilities are those of photos of which no class is commoner than another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError
from .folds import NEVER, deal, portion
from .solving import Kind, Rows, one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What is tried, as scikit-learn's C where rows have a mean square of 1: from little more than the mean of each class to
# what few photos can no longer tell from no bound at all.
STRENGTHS = tuple(10 ** (half / 2) for half in range(-2, 6))
USUAL = 10.0  # where no photo can be held out
FOLDS = 10
_MANY = 2000  # photos: from here on five folds are as good as ten
_ENOUGH = 10_000  # photos to choose the strength by
_BARE = 1e-3  # of the loss: what is no better than by this much is not worth less restraint
_STEPS = 60  # of bisection
_FLATTEST, _SHARPEST = 1e-3, 1e6  # how large calibrated logits may be


@dataclass(frozen=True, kw_only=True)
class Head:
    """A dense layer on a network's plain features, whose logits are calibrated: softmax makes them probabilities.

    `weights` are float32 (features, classes) and `bias` float32 (classes,): logits = features @ weights + bias.
    `strength` is scikit-learn's C, of features that were scaled to a mean square of 1.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    kind: Kind
    strength: float

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits: float32 (photos, features) -> float32 (photos, classes). Raises UsageError."""
        if features.ndim != 2 or features.shape[1] != len(self.weights):
            raise UsageError(f"expected features (photos, {len(self.weights)}), got {features.shape}.")
        found: NDArray[np.float32] = features @ self.weights + self.bias
        return found

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities, 0..1: float32 (photos, features) -> float32 (photos, classes). Raises UsageError."""
        return softmax(self.logits(features))


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """A strength that was tried: what photos that were held out made of it.

    `loss` is the mean of -log p(true class) after calibration, `accuracy` the share that was named rightly, 0..1; in
    both each class counts the same.
    """

    strength: float
    loss: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A head, and what held-out photos say of it.

    `probabilities` are those of each photo by heads that saw neither it nor its group, float32 (photos, classes), 0..1;
    of photos that could not be judged so they are not numbers. `judged` says which could be, bool (photos,): those of
    which a class had a photo in another group. `folds` is how many heads judged, 0 where no photo could be held out;
    then the strength is USUAL and nothing is calibrated. `temperature` is what the logits were divided by, for the head
    and for `probabilities` alike. `tried` are the strengths, the least first.
    """

    head: Head
    probabilities: NDArray[np.float32]
    judged: NDArray[np.bool_]
    fold: NDArray[np.intp]
    folds: int
    temperature: float
    tried: tuple[Tried, ...]


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return probabilities, float32 (..., classes), of logits of the same shape."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: NDArray[np.float32] = (raised / raised.sum(axis=-1, keepdims=True)).astype(np.float32)
    return shares


def check(*, kind: str, strength: float | None, seed: int) -> None:
    """Raise UsageError unless a head can be fitted so, as far as can be said before its photos are looked at."""
    if kind not in ("logistic", "svm"):
        raise UsageError(f"kind={kind!r}: expected logistic or svm.")
    if strength is not None and not (isinstance(strength, int | float) and math.isfinite(strength) and strength > 0):
        raise UsageError(f"strength={strength!r}: expected a number above 0, or None to have it chosen.")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 63:
        raise UsageError(f"seed={seed!r}: expected a whole number from 0 to {(1 << 63) - 1}.")


def fit(
    features: NDArray[np.float32],
    truth: NDArray[np.intp],
    *,
    classes: int,
    kind: Kind = "logistic",
    strength: float | None = None,
    groups: NDArray[np.intp] | None = None,
    views: NDArray[np.float32] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Fitted:
    """Return a head for photos of known classes, with what held-out photos say of it.

    `features` are float32 (photos, features), finite; `truth` the photos' classes, 0 to `classes` - 1, (photos,). Each
    class needs a photo. `kind` is "logistic", multinomial logistic regression, or "svm", linear support vector machines
    whose margins are calibrated. `strength` is chosen by cross-validation if it is None. Photos of the same number in
    `groups`, (photos,), are held out together. `views` are features of other views of the photos, float32
    (photos, views, features): they are learnt from beside them, all views of a photo counting as much as one photo, and
    never judged. `progress` is called with how many fits are done, and how many there are.

    The same photos and seed give the same bytes, whatever the number of threads. Beside the features, one copy of them
    and of the views is in memory. Raises UsageError for what makes no sense, MissingExtraError without scikit-learn.
    """
    check(kind=kind, strength=strength, seed=seed)
    features, truth, groups = _checked(features, truth, groups, classes=classes, views=views)
    photos = len(truth)
    most = FOLDS if photos < _MANY else FOLDS // 2
    fold = deal(truth, groups, most=most, seed=seed)
    folds = int(fold.max(initial=NEVER)) + 1
    done, total = 0, (len(STRENGTHS) + 1) * folds + 1

    def step(fits: int = 1) -> None:
        nonlocal done
        done += fits
        if progress is not None:
            progress(done, total)

    tried: list[Tried] = []
    with one_thread():
        some = portion(truth, groups, share=_ENOUGH / max(photos, 1), least=10, seed=seed)
        if folds and strength is None and len(some) < photos:
            part = Rows(features[some], truth[some], classes=classes, kind=kind, views=_of(views, some), rough=True)
            tried = _try(part, deal(truth[some], groups[some], most=most, seed=seed), step)
            del part
        rows = Rows(features, truth, classes=classes, kind=kind, views=views)
        if folds and strength is None and not tried:
            tried = _try(rows, fold, step)
        best = strength or (_best(tried) if tried else USUAL)
        total = done + folds + 1
        held = np.full((photos, classes), np.nan)
        judged = _judged(fold, truth)
        solution = None
        for each in range(folds):
            out = np.flatnonzero(fold == each)
            # Each from nothing: a solver that is soon content would leave what another head knew of these photos.
            solution = rows.solve(best, fold != each)
            held[out] = rows.logits(solution, out)
            step()
        held[~judged] = np.nan
        temperature = cooled(held[judged], truth[judged]) if judged.any() else 1.0
        weights, bias = rows.folded(rows.solve(best, np.ones(photos, bool), solution))
        step()
    head = Head(
        weights=(weights / temperature).astype(np.float32),
        bias=(bias / temperature).astype(np.float32),
        kind=kind,
        strength=best,
    )
    return Fitted(
        head=head,
        probabilities=softmax(held / temperature),
        judged=judged,
        fold=fold,
        folds=folds,
        temperature=temperature,
        tried=tuple(tried),
    )


def _try(rows: Rows, fold: NDArray[np.intp], step: Callable[[int], None]) -> list[Tried]:
    """Try strengths, the least first, each fold from where it ended itself, until they have become worse twice."""
    folds = int(fold.max()) + 1
    starts: dict[int, NDArray[np.float64]] = {}  # nothing of a head that knows the photos held out
    judged = np.flatnonzero(_judged(fold, rows.truth))
    held = np.empty((len(fold), rows.classes))
    tried: list[Tried] = []
    for strength in STRENGTHS:
        for each in range(folds):
            solution = starts[each] = rows.solve(strength, fold != each, starts.get(each), rough=True)
            out = np.flatnonzero(fold == each)
            held[out] = rows.logits(solution, out)
            step(1)
        logits, truth = held[judged], rows.truth[judged]
        weights = even(truth)
        losses = losses_of(logits / cooled(logits, truth), truth)
        accuracy = min(1.0, float(weights @ (logits.argmax(axis=1) == truth)))  # shares may sum to a little more
        tried.append(Tried(strength=strength, loss=float(weights @ losses), accuracy=accuracy))
        if len(tried) > 2 and tried[-1].loss > tried[-2].loss > tried[-3].loss:
            break
    return tried


def _judged(fold: NDArray[np.intp], truth: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which photos can be judged by a head that has seen their class: one that lies in one fold alone it has not."""
    judged = np.zeros(len(truth), bool)
    for each in range(int(fold.max(initial=NEVER)) + 1):
        out = fold == each
        judged[out] = np.isin(truth[out], truth[~out])
    return judged


def _best(tried: list[Tried]) -> float:
    """The least strength whose loss is no worse than the least loss."""
    least = min(each.loss for each in tried)
    return next(each.strength for each in tried if each.loss <= least * (1 + _BARE))


def cooled(logits: NDArray[np.float64], truth: NDArray[np.intp]) -> float:
    """Return the temperature that logits (photos, classes) are to be divided by, so that shares of right names hold.

    The one at which the true classes are likeliest, each class counting the same; but as if of every photo, beside it,
    a small part had been named wrongly: as much as makes one photo in all and one class in all. After J. Platt,
    "Probabilistic Outputs for Support Vector Machines", 1999: without it, photos that are all named rightly, as five
    often are, would make any head certain.

    Of logits that are right less often than chance none is high enough: theirs is 1000 times the logits' size, the root
    mean square around each photo's mean. Probabilities are then as good as even, but their order is not lost in
    float32. Of logits that are all alike it is 1.
    """
    photos, classes = logits.shape
    size = float(np.sqrt(np.square(logits - logits.mean(axis=1, keepdims=True)).mean()))
    if not size:
        return 1.0
    doubt = 1 / (photos + 2)
    weights = even(truth)
    of_truth = np.take_along_axis(logits, truth[:, np.newaxis], axis=1)[:, 0]
    others = (logits.sum(axis=1) - of_truth) / (classes - 1)
    wanted = float(weights @ ((1 - doubt) * of_truth + doubt * others))
    # Of one over the temperature; the loss is convex in that.
    low, high = math.log(_FLATTEST / size), math.log(_SHARPEST / size)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        scaled = logits * math.exp(middle)
        raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        shares = raised / raised.sum(axis=1, keepdims=True)
        slope = float(weights @ np.einsum("ij,ij->i", shares, logits)) - wanted
        low, high = (low, middle) if slope > 0 else (middle, high)
    return math.exp(-(low + high) / 2)


def losses_of(logits: NDArray[np.float64], truth: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return -log p(true class) of each photo, (photos,), of logits (photos, classes) and their classes (photos,)."""
    lifted = logits - logits.max(axis=1, keepdims=True)
    of_truth = np.take_along_axis(lifted, truth[:, np.newaxis], axis=1)[:, 0]
    found: NDArray[np.float64] = np.log(np.exp(lifted).sum(axis=1)) - of_truth
    return found


def even(truth: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return weights of photos, (photos,), that sum to 1, each class of `truth`, (photos,), having the same share."""
    counts = np.bincount(truth)
    weights: NDArray[np.float64] = 1 / (counts[truth] * np.count_nonzero(counts))
    return weights


def _of(views: NDArray[np.float32] | None, photos: NDArray[np.intp]) -> NDArray[np.float32] | None:
    return None if views is None else views[photos]


def _checked(
    features: NDArray[np.float32],
    truth: NDArray[np.intp],
    groups: NDArray[np.intp] | None,
    *,
    classes: int,
    views: NDArray[np.float32] | None,
) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.intp]]:
    """The features, truth and groups as they are used; groups are numbered from 0. Raises UsageError."""
    given, known = np.asarray(features), np.asarray(truth)
    if given.ndim != 2 or given.dtype != np.float32 or not given.shape[1]:
        raise UsageError(f"expected features (photos, features), float32; got {given.shape}, {given.dtype}.")
    if known.shape != given.shape[:1] or known.dtype.kind not in "iu":
        raise UsageError(f"expected a class for each of {len(given)} photos, got {known.shape}, {known.dtype}.")
    if classes < 2:
        raise UsageError(f"expected at least two classes to tell apart, got {classes}.")
    if len(known) and not (known.min() >= 0 and known.max() < classes):
        raise UsageError(f"expected classes from 0 to {classes - 1}.")
    bare = np.flatnonzero(np.bincount(known.astype(np.intp), minlength=classes) == 0)
    if len(bare):
        raise UsageError(f"expected a photo of each of the {classes} classes; there is none of class {bare[0]}.")
    if views is not None and (
        views.ndim != 3 or views.dtype != np.float32 or (len(views), views.shape[2]) != given.shape
    ):
        raise UsageError(
            f"expected views ({len(given)}, views, {given.shape[1]}), float32; got {views.shape}, {views.dtype}."
        )
    if not np.isfinite(given).all() or (views is not None and not np.isfinite(views).all()):
        raise UsageError("expected features that are finite numbers.")
    together = np.arange(len(known)) if groups is None else np.asarray(groups)
    if together.shape != known.shape:
        raise UsageError(f"expected a group for each of {len(known)} photos, got {together.shape}.")
    return given, known.astype(np.intp), np.unique(together, return_inverse=True)[1].reshape(-1).astype(np.intp)
