"""What is known of one photo: the record that every output is a view of."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .answer import Answer
from .errors import PhotoError
from .prepared import Decoding, File
from .tree import everyday

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .labels import Label

SCHEMA = "photolabel/1"
SHOWN = 10  # names of a set, on one line


@dataclass(frozen=True, kw_only=True)
class RankedLabel:
    """One class and its probability in 0..1.

    `wnid` is its WordNet id (`n03063599`), and `everyday` what people say for it; both None outside ImageNet.
    """

    index: int
    wnid: str | None
    name: str
    probability: float
    everyday: str | None = None

    @classmethod
    def of(cls, label: Label, probabilities: NDArray[np.float32]) -> RankedLabel:
        """Return a class with its probability, which is among those of all classes, float32 (classes,)."""
        return cls(
            index=label.index,
            wnid=label.wnid,
            name=label.name,
            probability=float(probabilities[label.index]),
            everyday=everyday(label.wnid),
        )


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """By which calibration probabilities were made what they are: its `digest`, and the `temperature` it learnt."""

    digest: str
    temperature: float


@dataclass(frozen=True, kw_only=True)
class Names:
    """The smallest set of names, the likeliest first, that holds the truth as often as `coverage`, a share."""

    coverage: float
    labels: tuple[RankedLabel, ...]

    def __str__(self) -> str:
        shown = [f"{label.name} ({label.probability * 100:.2f}%)" for label in self.labels[:SHOWN]]
        more = len(self.labels) - len(shown)
        return ", ".join(shown) + (f", and {more:,} more" if more else "")


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What one model says of a photo by itself: its likeliest class, over all the views that it had.

    `agreement` is the share of its views whose likeliest class is that of the whole answer.
    """

    model: str
    recipe: str
    views: int
    label: RankedLabel
    agreement: float


@dataclass(frozen=True, kw_only=True)
class Opinions:
    """What several models, or several views of the photo, say each; `agreement` is the mean over the models."""

    agreement: float
    members: tuple[Opinion, ...]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The class that a photo is known to show, how probable it was thought, and its place by that, from 1.

    The last two are None where the photo could not be classified.
    """

    index: int
    wnid: str | None
    name: str
    probability: float | None = None
    rank: int | None = None


AGREED = 0.75  # of all opinions; with fewer a photo is worth a person's look


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What is known of one photo; the record that every output is a view of.

    `photo` is the path as it was given, or None for a photo from memory. `labels` are the likeliest classes,
    best first, as many as were asked for. `probabilities` are those of all classes in index order: float32,
    (classes,), 0..1, sum 1, read-only. A photo that could not be classified has an `error` and no labels. `file` is
    what its bytes were and `decoding` what was made of them; None where it did not come as a file, or not so far.
    `answer` is what photolabel is willing to say: its likeliest class, or what is `sure` enough, where that was asked
    for; None for a photo with an error. `names` is the set that was asked for with `coverage`, `opinions` those
    of several models or views, `calibration` is what all probabilities were calibrated by, `truth` the class that the
    photo is known to show, where it was judged; None where there is none.
    """

    photo: str | None
    model: str
    recipe: str
    precision: str
    labels: tuple[RankedLabel, ...] = ()
    answer: Answer | None = None
    error: PhotoError | None = None
    file: File | None = None
    decoding: Decoding | None = None
    names: Names | None = None
    opinions: Opinions | None = None
    calibration: Calibrated | None = None
    truth: Truth | None = None
    probabilities: NDArray[np.float32] = field(
        default_factory=lambda: np.empty(0, np.float32), repr=False, compare=False
    )

    @property
    def top(self) -> RankedLabel:
        """The likeliest class. Raises the photo's own error where it has one."""
        if self.error is not None:
            raise self.error
        return self.labels[0]

    @property
    def disagreeing(self) -> bool:
        """Whether fewer than three in four opinions are those of the whole answer: worth a person's look."""
        return self.opinions is not None and self.opinions.agreement < AGREED

    def __post_init__(self) -> None:
        if self.answer is None and self.labels:
            best = self.labels[0]
            likeliest = Answer(
                kind="leaf",
                wnid=best.wnid,
                name=best.name,
                probability=best.probability,
                everyday=best.everyday,
            )
            object.__setattr__(self, "answer", likeliest)

    def __str__(self) -> str:
        if self.error is not None:
            return f"error: {self.error}"
        if self.names is not None:
            return str(self.names)
        assert self.answer is not None
        return str(self.answer)

    def record(self) -> dict[str, Any]:
        """Return the record of schema `photolabel/1` as plain values, ready for JSON."""
        return {
            "schema": SCHEMA,
            "photo": self.photo,
            "model": self.model,
            "recipe": self.recipe,
            "precision": self.precision,
            "labels": [dict(vars(label)) for label in self.labels],
            "answer": asdict(self.answer) if self.answer else None,
            "error": {"code": self.error.code, "message": str(self.error)} if self.error else None,
            "file": asdict(self.file) if self.file else None,
            "decoding": asdict(self.decoding) if self.decoding else None,
            "names": _plain(self.names),
            "opinions": _plain(self.opinions),
            "calibration": asdict(self.calibration) if self.calibration else None,
            "truth": asdict(self.truth) if self.truth else None,
        }


def _plain(value: Names | Opinions | None) -> dict[str, Any] | None:
    """The fields as JSON has them, which knows no tuples."""
    if value is None:
        return None
    return {name: list(each) if isinstance(each, tuple) else each for name, each in asdict(value).items()}
