"""Prepared photos -> Predictions: which network, and what is asked of it. The same wherever it runs.

How a photo becomes a record is three steps, each written once: `prepared.prepare`, in whichever process; `Naming`,
beside the network; `Prediction.record()`. The local pipeline, a cluster and people's own `map_batches` only differ in
who calls them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .classifier import BATCH, DEFAULT_TOP, Classifier
from .engine import available_threads
from .errors import UsageError

if TYPE_CHECKING:
    from .images import Limits, Recipe
    from .prediction import Prediction
    from .prepared import Prepared

_TOLD, _LEAST_LABELS = 100, 10  # bytes of a label; all else that is said of a photo is some thousand


@dataclass(frozen=True, kw_only=True)
class Naming:
    """What becomes of prepared photos; `top`, `sure` and `coverage` as in `Classifier.classify`.

    Pickles: the other side loads the network again, and `check_same` says whether it is the same.
    """

    classifier: Classifier
    top: int | None = DEFAULT_TOP
    sure: float | None = None
    coverage: float | None = None

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """How photos are to be prepared."""
        return self.classifier.recipes

    @property
    def limits(self) -> Limits:
        """What a photo may have."""
        return self.classifier.limits

    @property
    def batch(self) -> int:
        """How many photos to name together: about `BATCH` inputs. It does not change what is said of each."""
        return -(-BATCH // sum(recipe.inputs for recipe in self.recipes))

    @property
    def threads(self) -> int:
        """How many processors one network uses: by it the last bits of what is said differ."""
        asked = [member.network.threads for member in self.classifier.members if member.network is not None]
        return next(filter(None, asked), None) or available_threads()

    @property
    def told(self) -> int:
        """About how many bytes are said of a photo: those of its labels, of which there may be a thousand."""
        return _TOLD * max(_LEAST_LABELS, self.classifier.check_top(self.top))

    @property
    def identity(self) -> dict[str, str | None]:
        """Of which network and calibration all that is said is, by their digests."""
        calibration = self.classifier.calibration
        return {"network": self.classifier.digest, "calibration": None if calibration is None else calibration.digest}

    def check(self) -> None:
        """Raise `UsageError` for what makes no sense: better said before a photo is read."""
        self([])

    def __call__(self, batch: Sequence[Prepared]) -> list[Prediction]:
        """Return one Prediction each, in the same order; one with an error keeps it."""
        return self.classifier.predict(batch, top=self.top, sure=self.sure, coverage=self.coverage)

    def check_same(self, identity: dict[str, str | None]) -> None:
        """Raise `UsageError` where this would say something else than that of another machine, whose `identity` it is.

        For a classifier pickles as the arguments that it was loaded with.
        """
        if self.identity["network"] != identity["network"]:
            raise UsageError(
                f"the network {self.classifier.model.name} is not the same on all machines. Give every machine the "
                "same file."
            )
        if self.identity["calibration"] != identity["calibration"]:
            raise UsageError(
                f"what photolabel calibrate learnt of {self.classifier.model.name} is not the same on all machines. "
                "Give every machine the same, or go without it (--uncalibrated)."
            )
