"""What was said of one photo whose class is known."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError

TOP = 5  # of the likeliest classes are kept


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What was said of one photo, and what is so.

    `photo` is what the record calls it. `truth` is the index of its true class, `top` are those of the likeliest
    classes, best first: `TOP` of them, or as many as the model has. `probability` is that of the likeliest, 0..1,
    calibrated where a calibration was in use, and `of_truth` that of the true class. A photo that could not be read has
    an `error` in words, no `top`, and both are 0. Raises UsageError for one that has both or neither.
    """

    photo: str
    truth: int
    top: tuple[int, ...] = ()
    probability: float = 0.0
    of_truth: float = 0.0
    error: str | None = None

    def __post_init__(self) -> None:
        if bool(self.top) == (self.error is not None):
            raise UsageError(f"{self.photo}: expected the likeliest classes, or an error, and not both.")

    @property
    def right(self) -> bool:
        """Whether the likeliest class is the true one."""
        return self.top[:1] == (self.truth,)
