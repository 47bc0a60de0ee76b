"""What a cluster is to make of prepared photos: `naming.Naming`, or `teaching.elsewhere.Featuring`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from ..images import Limits, Recipe
    from ..prepared import Prepared

T_co = TypeVar("T_co", covariant=True)


class Work(Protocol[T_co]):
    """Says one thing of each photo. Pickles: the other side loads the network again."""

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """How photos are to be prepared."""

    @property
    def limits(self) -> Limits:
        """What a photo may have."""

    @property
    def batch(self) -> int:
        """How many photos to do together; what is said of each does not depend on it."""

    @property
    def threads(self) -> int:
        """How many processors one network uses."""

    @property
    def told(self) -> int:
        """About how many bytes are said of a photo."""

    @property
    def identity(self) -> dict[str, str | None]:
        """What all that is said depends on, as plain values."""

    def check_same(self, identity: dict[str, str | None]) -> None:
        """Raise `UsageError` where this would say something else than that of another machine, whose this is."""

    def __call__(self, batch: Sequence[Prepared]) -> Sequence[T_co]:
        """Return what is said of each photo, in the same order."""
