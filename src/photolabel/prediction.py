"""What is known of one photo: the record that every output is a view of."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .answer import Answer
from .errors import PhotoError
from .prepared import Decoding, File

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = "photolabel/1"


@dataclass(frozen=True, kw_only=True)
class RankedLabel:
    """One class and its probability in 0..1; `wnid` is its WordNet id (`n03063599`), None outside ImageNet."""

    index: int
    wnid: str | None
    name: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What is known of one photo; the record that every output is a view of.

    `photo` is the path as it was given, or None for a photo from memory. `labels` are the likeliest classes,
    best first, as many as were asked for. `probabilities` are those of all classes in index order: float32,
    (classes,), 0..1, sum 1, read-only. A photo that could not be classified has an `error` and no labels. `file` is
    what its bytes were and `decoding` what was made of them; None where it did not come as a file, or not so far.
    `answer` is what photolabel is willing to say: its likeliest class, or what is `sure` enough, where that was asked
    for; None for a photo with an error.
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
    probabilities: NDArray[np.float32] = field(
        default_factory=lambda: np.empty(0, np.float32), repr=False, compare=False
    )

    @property
    def top(self) -> RankedLabel:
        """The likeliest class. Raises the photo's own error where it has one."""
        if self.error is not None:
            raise self.error
        return self.labels[0]

    def __post_init__(self) -> None:
        if self.answer is None and self.labels:
            best = self.labels[0]
            likeliest = Answer(kind="leaf", wnid=best.wnid, name=best.name, probability=best.probability)
            object.__setattr__(self, "answer", likeliest)

    def __str__(self) -> str:
        if self.error is not None:
            return f"error: {self.error}"
        assert self.answer is not None
        return self.answer.__str__()

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
        }
