"""How much may be in the house at once: photos, and bytes of bodies. Used in the event loop's thread only."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .problems import RefusedError, refused

_MOST_RETRY = 60  # seconds: what is to be done by then is not known so far ahead
_WEIGHT = 0.2  # of the newest measure in the pace


class Admission:
    """Counts what is in the house, and how fast it leaves; whoever comes when it is full is refused at once."""

    def __init__(self, *, photos: int, held: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_photos, self._most_held, self._clock = photos, held, clock
        self._busy_since = 0.0  # when the last photo left, or the first came to an empty house
        self._pace: float | None = None
        self.photos = self.held = 0

    def check(self, count: int = 1) -> None:
        """Raise the refusal of so many photos if there is no room: worth asking before a body is read."""
        if self.photos + count > self._most_photos:
            raise self._full(f"{self.photos} photos are waiting, and at most {self._most_photos} may.")

    @contextmanager
    def admitted(self, count: int) -> Iterator[None]:
        """Have so many photos in the house for as long as the block takes. Raises the refusal if there is no room."""
        self.check(count)
        if self.photos == 0:
            self._busy_since = self._clock()
        self.photos += count
        try:
            yield
        finally:
            self.photos -= count
            self._left(count)

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Give a function that asks for room for so many more bytes, which are given back after the block.

        It raises the refusal where there is no room.
        """
        mine = 0

        def hold(count: int) -> None:
            nonlocal mine
            if self.held + count > self._most_held:
                raise self._full("The photos that are being received take all the memory that is for them.")
            self.held += count
            mine += count

        try:
            yield hold
        finally:
            self.held -= mine

    @property
    def retry_after(self) -> int:
        """In how many whole seconds those who are in the house will have left it, by the pace that was measured."""
        return min(max(1, math.ceil(self.photos * (self._pace or 0.0))), _MOST_RETRY)

    def _left(self, count: int) -> None:
        now = self._clock()
        measured = (now - self._busy_since) / count
        self._pace = measured if self._pace is None else self._pace + _WEIGHT * (measured - self._pace)
        self._busy_since = now

    def _full(self, why: str) -> RefusedError:
        return refused("queue-full", f"{why} Ask again later.", {"retry-after": str(self.retry_after)})
