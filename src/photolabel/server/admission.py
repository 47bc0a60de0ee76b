"""How much may be in the house at once: photos, and bytes of bodies. Used in the event loop's thread only."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import turns
from .problems import RefusedError, refused

_MOST_RETRY = 60  # seconds: what is to be done by then is not known so far ahead
_PHOTOS, _BYTES, _SHARE = "photos", "bytes", "share"  # of which there was none left: the last is a caller's
_WEIGHT = 0.2  # of the newest measure in the pace


class Admission:
    """Counts what is in the house, and how fast it leaves; whoever comes when it is full is refused at once.

    One caller (see `turns`) may have `caller_photos` and `caller_held` of it, so that room is left for others; one that
    may be many, all. None: there are no such limits. `what` are those that wait, for people.
    """

    def __init__(
        self,
        *,
        photos: int,
        held: int,
        caller_photos: int | None = None,
        caller_held: int | None = None,
        what: str = "photos",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._photos, self._held = _Room(photos, caller_photos), _Room(held, caller_held)
        self._what, self._clock = what, clock
        self._busy_since = 0.0  # when the last photo left, or the first came to an empty house
        self._pace: float | None = None
        self.admitted_photos = 0  # since the beginning
        self.refusals = dict.fromkeys((_PHOTOS, _BYTES, _SHARE), 0)  # by what there was no room for

    @property
    def photos(self) -> int:
        """How many photos are in the house."""
        return self._photos.taken

    @property
    def held(self) -> int:
        """How many bytes of bodies are."""
        return self._held.taken

    def check(self, count: int = 1) -> None:
        """Raise the refusal of so many photos if there is no room: worth asking before a body is read."""
        room, caller, what = self._photos, turns.current(), self._what
        if not room.fits(count):
            raise self._full(_PHOTOS, f"{room.taken} {what} are waiting, and at most {room.most} may.")
        if not room.fits_caller(count, caller):
            raise self._full(
                _SHARE, f"Of this address {room.of(caller)} {what} are waiting, and at most {room.each} may."
            )

    @contextmanager
    def admitted(self, count: int) -> Iterator[None]:
        """Have so many photos in the house for as long as the block takes. Raises the refusal if there is no room."""
        self.check(count)
        if self.photos == 0:
            self._busy_since = self._clock()
        caller = turns.current()
        self._photos.take(count, caller)
        self.admitted_photos += count
        try:
            yield
        finally:
            self._photos.take(-count, caller)
            self._left(count)

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Give a function that asks for room for so many more bytes, which are given back after the block.

        It raises the refusal where there is no room.
        """
        caller, mine = turns.current(), 0

        def hold(count: int) -> None:
            nonlocal mine
            if not self._held.fits(count):
                raise self._full(_BYTES, "The photos that are being received take all the memory that is for them.")
            if not self._held.fits_caller(count, caller):
                raise self._full(_SHARE, "The photos of this address take all the memory that one address may have.")
            self._held.take(count, caller)
            mine += count

        try:
            yield hold
        finally:
            self._held.take(-mine, caller)

    @property
    def retry_after(self) -> int:
        """In how many whole seconds those who are in the house will have left it, by the pace that was measured."""
        return min(max(1, math.ceil(self.photos * (self._pace or 0.0))), _MOST_RETRY)

    def _left(self, count: int) -> None:
        now = self._clock()
        measured = (now - self._busy_since) / count
        self._pace = measured if self._pace is None else self._pace + _WEIGHT * (measured - self._pace)
        self._busy_since = now

    def _full(self, what: str, why: str) -> RefusedError:
        self.refusals[what] += 1
        return refused("queue-full", f"{why} Ask again later.", {"retry-after": str(self.retry_after)})


class _Room:
    """Something that there is so much of, and what of it each caller has."""

    def __init__(self, most: int, each: int | None) -> None:
        self.most, self.each = most, each
        self.taken = 0
        self._callers: Counter[str] = Counter()

    def fits(self, count: int) -> bool:
        return self.taken + count <= self.most

    def fits_caller(self, count: int, request: turns.Request) -> bool:
        return request.shared or self.each is None or self.of(request) + count <= self.each

    def of(self, request: turns.Request) -> int:
        return 0 if request.caller is None else self._callers[request.caller]

    def take(self, count: int, request: turns.Request) -> None:
        self.taken += count
        if request.caller is not None:
            self._callers[request.caller] += count
            if not self._callers[request.caller]:  # whoever has left is forgotten
                del self._callers[request.caller]
