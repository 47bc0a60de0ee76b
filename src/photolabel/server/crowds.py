"""Refusals for want of room, when they come by the hundred: which of them the log tells, and whether it is so just now.

Used in the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

LINES, SECONDS = 10, 1.0  # so many refusals have a line of the log in so many seconds
_JUST = 0.05  # seconds: a crowd comes faster


class Crowd:
    """Those who found no room; `say` is told how many had no line of their own, when their second is over."""

    def __init__(self, say: Callable[[int], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._since = self._last = float("-inf")  # of the second that is counted; when the last one was refused
        self._told = self._untold = 0

    @property
    def there(self) -> bool:
        """Whether one was refused just now."""
        return self._clock() - self._last < _JUST

    def refused(self) -> bool:
        """Take note of one more; return whether it has a line of its own."""
        self._last = now = self._clock()
        if now - self._since >= SECONDS:
            self.tell()
            self._since, self._told = now, 0
        self._told += 1
        if self._told <= LINES:
            return True
        if not self._untold:
            with suppress(RuntimeError):  # there is no loop: the next one, or the end, has it told
                asyncio.get_running_loop().call_later(SECONDS, self.tell)
        self._untold += 1
        return False

    def tell(self) -> None:
        """Say how many were not told, if there are any."""
        if self._untold:
            self._say(self._untold)
            self._untold = 0
