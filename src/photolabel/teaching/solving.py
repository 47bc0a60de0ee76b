"""A linear head's weights from features: rows that are centred, scaled and turned once, then solved as often as needed.

All features are divided by one number, so that rows have a mean square of 1 around their mean: what a strength means
does not depend on the network. One number, not one a feature: features that hardly vary would be made as loud as those
that tell. Centring and turning change neither logistic regression's answer nor that of the SVM here, whose biases are
free; they make solving quick.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..extras import needed

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["logistic", "svm"]

_DOUBLE = 1 << 28  # bytes of rows up to which they are float64
# How flat the loss is where a solver stops, beside how steep it is where all weights are nought. Of float64 it goes on
# until rounding hides whether the loss becomes less: probabilities are then those of the very least to some 1e-6. Where
# strengths are only compared, and of float32, which cannot be so exact, less will do.
_FINE, _NARROW, _ROUGH = 1e-12, 1e-4, 3e-4
_LEAST = 1e-14  # steepness: what is steeper nowhere has nothing to be solved
_AT_ONCE = 4096  # rows
_ITERATIONS = 5000


class Rows:
    """What heads are fitted to: the features of photos, and of further views of them, ready to be solved.

    `features` are float32 (photos, features) and `views` float32 (photos, views, features) or None; neither is changed.
    `truth` are the classes, (photos,). A copy of the features is kept: float32 where they are many, or if a `rough`
    solution is good enough.
    """

    def __init__(
        self,
        features: NDArray[np.float32],
        truth: NDArray[np.intp],
        *,
        classes: int,
        kind: Kind,
        views: NDArray[np.float32] | None = None,
        rough: bool = False,
    ) -> None:
        photos, dims = features.shape
        more = 0 if views is None else views.shape[1]
        self.classes, self.kind, self.truth = classes, kind, truth
        self._each = 1 + more  # rows of a photo
        self._mean = features.mean(axis=0, dtype=np.float64)
        rows = photos * self._each
        self._basis: NDArray[np.float64] | None = None
        wide = not rough and rows * dims * 8 <= _DOUBLE
        self._rows = np.empty((rows, dims), np.float64 if wide else np.float32)
        self._rows[:photos] = features
        if views is not None:
            self._rows[photos:] = views.reshape(-1, dims)
        self._rows -= self._mean.astype(self._rows.dtype)
        square = sum(
            float(np.square(self._rows[start : min(photos, start + _AT_ONCE)], dtype=np.float64).sum())
            for start in range(0, photos, _AT_ONCE)
        )
        self._scale = (square / photos) ** 0.5 or 1.0  # 0: all photos alike
        self._rows /= self._rows.dtype.type(self._scale)
        if rows < dims:
            # Weights are sums of rows, so all that there is to solve lies in the rows' own space: far fewer numbers.
            self._basis, turned = np.linalg.qr(self._rows.T)
            self._rows = np.ascontiguousarray(turned.T)

    def solve(
        self,
        strength: float,
        learnt: NDArray[np.bool_],
        start: NDArray[np.float64] | None = None,
        *,
        rough: bool = False,
    ) -> NDArray[np.float64]:
        """Return the solution for some of the photos, (classes, dimensions + 1), the biases last.

        `learnt` says which photos count, bool (photos,). Each class counts the same in all, however many photos it has.
        `start` is the solution of a like problem, to begin with. A `rough` one is good enough to compare strengths.
        """
        counts = np.bincount(self.truth[learnt], minlength=self.classes)
        there = counts > 0
        of_class = np.divide(counts.sum() / (there.sum() * self._each), counts, where=there, out=np.zeros(self.classes))
        weights = np.where(learnt, of_class[self.truth], 0.0)
        weights = np.concatenate([weights, np.repeat(weights, self._each - 1)]).astype(self._rows.dtype)
        truth = np.concatenate([self.truth, np.repeat(self.truth, self._each - 1)])
        narrow = self._rows.dtype == np.float32
        tolerance = _ROUGH if rough else _NARROW if narrow else _FINE
        by = _logistic if self.kind == "logistic" else _svm
        return by(self._rows, truth, weights, strength, start, tolerance)

    def logits(self, solution: NDArray[np.float64], photos: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the logits of some photos, by their indices: (photos, classes)."""
        weights = solution[:, :-1].T.astype(self._rows.dtype)
        found: NDArray[np.float64] = (self._rows[photos] @ weights).astype(np.float64) + solution[:, -1]
        return found

    def folded(self, solution: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weights (features, classes) and biases (classes,) that give the same logits of plain features."""
        weights = solution[:, :-1].T / self._scale
        if self._basis is not None:
            weights = self._basis @ weights
        return weights, solution[:, -1] - self._mean @ weights


@contextmanager
def one_thread() -> Iterator[None]:
    """Let linear algebra use one thread: with two the last digits differ, and a solver makes more of them."""
    with needed("teach"):
        # Their libraries must be there before they can be told.
        import scipy.optimize  # noqa: F401
        import sklearn.linear_model  # noqa: F401
        from threadpoolctl import threadpool_limits
    with threadpool_limits(limits=1, user_api="blas"):
        yield


def _sums(rows: NDArray[np.floating], truth: NDArray[np.intp], weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """The weighted sums of each class's rows, (classes, dimensions)."""
    every = np.arange(int(truth.max()) + 1)
    found = np.zeros((len(every), rows.shape[1]))
    for start in range(0, len(rows), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        found += ((truth[some] == every[:, np.newaxis]) * weights[some]) @ rows[some]
    return found


def _logistic(
    rows: NDArray[np.floating],
    truth: NDArray[np.intp],
    weights: NDArray[np.floating],
    strength: float,
    start: NDArray[np.float64] | None,
    tolerance: float,
) -> NDArray[np.float64]:
    """Multinomial logistic regression by scikit-learn; of two classes it has one row of weights, that of the second."""
    with needed("teach"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    sums = _sums(rows, truth, weights)
    begins = np.abs(sums.mean(axis=0) - sums).max() / weights.sum(dtype=np.float64)  # how steep it is at nought
    model = LogisticRegression(
        C=strength, tol=max(tolerance * begins, _LEAST), max_iter=_ITERATIONS, warm_start=start is not None
    )
    if start is not None:
        begun = start if len(start) > 2 else start[1:] - start[:1]
        model.coef_, model.intercept_ = begun[:, :-1], begun[:, -1]
    with warnings.catch_warnings():
        # How good the answer is, is measured on photos that were held out, whatever the solver thinks of it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows, truth, sample_weight=weights)
    found = np.column_stack([model.coef_, model.intercept_]).astype(np.float64)
    return found if len(found) > 1 else np.concatenate([-found / 2, found / 2])


def _svm(
    rows: NDArray[np.floating],
    truth: NDArray[np.intp],
    weights: NDArray[np.floating],
    strength: float,
    start: NDArray[np.float64] | None,
    tolerance: float,
) -> NDArray[np.float64]:
    """Linear SVMs, each class against all others, with squared hinges: what scikit-learn's LinearSVC minimises.

    But for two things: the biases are free, and all classes are solved together from rows that are not copied.
    LinearSVC takes four times the memory of the rows, and of 20,000 photos twenty times as long.
    """
    with needed("teach"):
        from scipy.optimize import minimize
    every = np.arange(int(truth.max()) + 1)
    shape = (len(every), rows.shape[1] + 1)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        solution = flat.reshape(shape)
        plain = solution.astype(rows.dtype)
        value, slope = 0.5 * float((solution[:, :-1] ** 2).sum()), np.zeros(shape)
        slope[:, :-1] = solution[:, :-1]
        for start in range(0, len(rows), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            side = np.where(truth[some, np.newaxis] == every, 1, -1).astype(rows.dtype)
            short = np.maximum(1 - side * (rows[some] @ plain[:, :-1].T + plain[:, -1]), 0)
            pull = weights[some, np.newaxis] * short
            value += strength * float((pull * short).sum(dtype=np.float64))
            pull *= side
            slope[:, :-1] -= 2 * strength * (pull.T @ rows[some])
            slope[:, -1] -= 2 * strength * pull.sum(axis=0, dtype=np.float64)
        return value / mass, slope.ravel() / mass

    mass = 1 + strength * float(weights.sum(dtype=np.float64))  # so that slopes are of one size whatever the strength
    sums = _sums(rows, truth, weights)
    begins = 2 * strength * np.abs(2 * sums - sums.sum(axis=0)).max() / mass
    begun = np.zeros(shape) if start is None else start
    # Of float32 what is lost to rounding looks like steps that lead nowhere: they are not to be searched for long.
    least = 1e-9 if rows.dtype == np.float32 else 64 * np.finfo(float).eps
    options = {"maxiter": _ITERATIONS, "maxls": 50, "gtol": max(tolerance * begins, _LEAST), "ftol": least}
    found = minimize(loss, begun.ravel(), jac=True, method="L-BFGS-B", options=options)
    solution: NDArray[np.float64] = found.x.reshape(shape)
    return solution
