"""How far a network's probabilities are to be believed, learnt from photos whose classes are known.

A *temperature* divides the logits, so that what is said with 80 % is right four times in five (Guo, Pleiss, Sun and
Weinberger, "On Calibration of Modern Neural Networks", ICML 2017). *Scores* of the same photos say how many names must
be said so that the true one is among them as often as is asked for (conformal prediction; Sadinle, Lei and Wasserman,
"Least Ambiguous Set-Valued Classifiers With Bounded Error Levels", JASA 2019). Both hold for photos like those that
they were learnt from, and for no others.

A calibration is kept in the cache's folder `calibrations/`, under what it is of: the networks' files, their recipes and
precisions.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from . import store
from .answer import FLOOR, familiarity, tempered
from .errors import StoreError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST = 20  # photos: of fewer, sets that hold the truth 95 times in 100 would have to hold every class
# The familiarity that 95 % of 122 photos of its classes have by the bundled model: bench/none_of_its_classes.py.
OF_BUNDLED = 0.102
_LEAST, _MOST = 1 / 20, 20.0  # temperature
_STEPS = 40  # of bisection: to some 1e-11 of the temperature's logarithm
_FORMAT = "photolabel-calibration/1"
_MAX_BYTES = 1 << 26
_UNFAMILIAR = 0.05  # of the photos of its classes that are given up, so that others are known for what they are
_DECIMALS = 9  # of scores that are kept


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was learnt from photos of known classes.

    `temperature` is above 0; more than 1 makes probabilities flatter, less makes them steeper. `scores` are 1 less the
    calibrated probability of each photo's true class, 0..1, in ascending order. `right` is how many of the photos'
    likeliest classes were the true ones. `floor` is the familiarity that all but 5 % of the photos reach: what has less
    shows none of the classes.
    """

    temperature: float
    scores: tuple[float, ...]
    right: int
    floor: float

    def __post_init__(self) -> None:
        numbers = (self.temperature, self.floor, *self.scores)
        if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in numbers) or not (
            _LEAST <= self.temperature <= _MOST
            and len(self.scores) >= FEWEST
            and all(0 <= x <= 1 for x in self.scores)
            and list(self.scores) == sorted(self.scores)
            and isinstance(self.right, int)
            and 0 <= self.right <= len(self.scores)
            and -1 <= self.floor <= 1
        ):
            raise UsageError(
                f"expected a temperature from {_LEAST} to {_MOST} and at least {FEWEST} scores in ascending order."
            )

    @property
    def photos(self) -> int:
        """How many photos it was learnt from."""
        return len(self.scores)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that stand for all that is in it."""
        return hashlib.sha256(_written(self)).hexdigest()[:16]

    def probabilities(self, of_network: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what a network's probabilities are worth: float32 (..., classes) -> the same."""
        return tempered(of_network, self.temperature)

    def least(self, coverage: float) -> float:
        """Return the probability that a name must have to be in the set that holds the truth so often.

        Of n photos it is that of the ceil((n + 1) coverage)th score, so that in the mean over all n-photo calibrations
        the sets hold the truth at least that often. Raises UsageError for a coverage that so few photos cannot promise.
        """
        check_coverage(coverage)
        place = math.ceil((self.photos + 1) * coverage - 1e-9)
        if place > self.photos:
            if coverage == 1:
                raise UsageError("coverage=1: no finite number of photos can promise that. Ask for less, as in 0.99.")
            enough = math.ceil(round(coverage / (1 - coverage), 6))
            raise UsageError(
                f"coverage={coverage:g}: needs at least {enough:,} photos; this model was calibrated with "
                f"{self.photos:,}. Calibrate it with more, or ask for less."
            )
        return 1 - self.scores[place - 1]

    def names(self, probabilities: NDArray[np.float32], coverage: float) -> NDArray[np.intp]:
        """Return the classes of the smallest set that holds the truth as often as `coverage`, the likeliest first.

        `probabilities` are calibrated ones, float32 (classes,). The likeliest class is always among them.
        """
        return np.argsort(-probabilities, kind="stable")[: int(self.sizes(probabilities, coverage))]

    def sizes(self, probabilities: NDArray[np.float32], coverage: float) -> NDArray[np.intp]:
        """Return how many names are in the sets that `names` gives: float32 (..., classes) -> whole numbers (...)."""
        # In rounding, a probability may miss the score that it made itself.
        sizes: NDArray[np.intp] = np.count_nonzero(probabilities >= self.least(coverage) - 1e-6, axis=-1)
        return np.maximum(1, sizes)


def check_coverage(coverage: object) -> None:
    """Raise UsageError for what is no share above 0 and below or at 1."""
    if not isinstance(coverage, int | float) or isinstance(coverage, bool) or not 0 < coverage <= 1:
        raise UsageError(f"coverage={coverage!r}: expected a share above 0, at most 1, as in 0.95.")


def fit(probabilities: NDArray[np.float32], truth: Sequence[int] | NDArray[np.intp]) -> Calibration:
    """Return the calibration that photos of known classes teach.

    `probabilities` are a network's own, float32 (photos, classes), 0..1; `truth` are the classes' indices, (photos,).
    Raises UsageError for fewer than FEWEST photos, and for numbers that do not fit together.
    """
    classes = np.asarray(truth)
    if probabilities.ndim != 2 or classes.shape != probabilities.shape[:1] or classes.dtype.kind not in "iu":
        raise UsageError("expected probabilities (photos, classes) and one class a photo.")
    if len(classes) < FEWEST:
        raise UsageError(f"expected at least {FEWEST} photos to calibrate with, got {len(classes)}.")
    if not (classes.min() >= 0 and classes.max() < probabilities.shape[1]):
        raise UsageError(f"expected classes from 0 to {probabilities.shape[1] - 1}.")
    best = temperature(probabilities, classes)
    of_truth = np.take_along_axis(tempered(probabilities, best), classes[:, np.newaxis], axis=1)[:, 0]
    right = int(np.count_nonzero(probabilities.argmax(axis=1) == classes))
    scores = sorted(round(1 - float(each), _DECIMALS) for each in of_truth)
    floor = float(np.sort(familiarity(probabilities))[int(_UNFAMILIAR * len(classes))])
    return Calibration(temperature=best, scores=tuple(scores), right=right, floor=floor)


def temperature(probabilities: NDArray[np.float32], truth: NDArray[np.intp]) -> float:
    """Return the temperature at which the true classes are likeliest, from 1/20 to 20.

    As for `fit`. The mean of -log p(true class) is convex in one over the temperature, so bisection finds its least;
    where every photo is named rightly it has none, and the bound is what there is.
    """
    logits = np.log(np.maximum(probabilities, FLOOR))
    wanted = np.take_along_axis(logits, truth[:, np.newaxis], axis=1)[:, 0]
    low, high = math.log(1 / _MOST), math.log(1 / _LEAST)  # of one over the temperature
    for _ in range(_STEPS):
        middle = (low + high) / 2
        share = logits * np.float32(math.exp(middle))
        share -= share.max(axis=1, keepdims=True)
        np.exp(share, out=share)
        share /= share.sum(axis=1, keepdims=True)
        slope = float(np.einsum("ij,ij->i", share, logits).mean(dtype=np.float64) - wanted.mean(dtype=np.float64))
        low, high = (low, middle) if slope > 0 else (middle, high)
    return math.exp(-(low + high) / 2)


# -- kept beside the models


def kept(what: Sequence[Any]) -> Calibration | None:
    """Return the calibration that is kept for `what`, a list of plain values; None where there is none.

    Raises StoreError for one that is damaged: to leave it out would change every answer without a word.
    """
    cache, name = _place(what)
    try:
        data = cache.path(name).read_bytes() if cache.path(name).stat().st_size <= _MAX_BYTES else b""
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _damaged(name, error.strerror) from None
    if not cache.check(name):
        raise _damaged(name, "it is not what was written")
    return _read(data, name)


def any_kept() -> bool:
    """Whether there is any calibration: if not, nobody needs to hash a network to find its own."""
    return (store.cache_folder() / "calibrations").is_dir()


def check_place(what: Sequence[Any]) -> None:
    """Raise StoreError where a calibration of `what` could plainly not be kept: better said before long work."""
    cache, name = _place(what)
    with cache.lock(name):
        pass


def keep(what: Sequence[Any], calibration: Calibration) -> None:
    """Keep a calibration for `what`; one that is there is replaced. Raises StoreError."""
    cache, name = _place(what)
    with cache.create(name) as file:
        file.write(_written(calibration))


def forget(what: Sequence[Any]) -> bool:
    """Remove the calibration that is kept for `what`; return whether there was one."""
    cache, name = _place(what)
    there = cache.path(name).exists()
    cache.remove(name)
    return there


def _place(what: Sequence[Any]) -> tuple[store.Store, str]:
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]
    return store.Store(store.cache_folder() / "calibrations"), f"{key}.json"


def _written(calibration: Calibration) -> bytes:
    return json.dumps({"format": _FORMAT, **asdict(calibration)}).encode()


def _read(data: bytes, name: str) -> Calibration:
    try:
        match json.loads(data):
            case {"format": str(form), "temperature": warmth, "scores": [*scores], "right": right, "floor": floor} if (
                form == _FORMAT
            ):
                return Calibration(temperature=warmth, scores=tuple(scores), right=right, floor=floor)
    except (ValueError, RecursionError):  # UsageError is one
        pass
    raise _damaged(name, f"it is not of the form {_FORMAT}")


def _damaged(name: str, why: str | None) -> StoreError:
    return StoreError(
        f"the calibration {name} cannot be used: {why or 'the system does not say why'}. Calibrate the model again, or "
        "remove it (photolabel calibrate --remove)."
    )
