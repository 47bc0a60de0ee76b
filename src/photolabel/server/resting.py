"""An event loop that looks at its connections less often where it may rest: while a crowd is refused.

Every look takes a processor from a network that computes on all of them, and its other threads then wait for the one
that was stopped. As long as there is room, that is the price of answers at once. A refusal may come some milliseconds
later, and so many are given in one go: those who are named get theirs visibly sooner.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import time
from collections.abc import Callable
from typing import Any

PAUSE = 0.020  # seconds from one look to the next: a batch of a small network takes some 50


class Selector(selectors.DefaultSelector):
    """Waits for files to be ready; where `rests` says so, not sooner than `PAUSE` after the last time."""

    def __init__(self, rests: Callable[[], bool]) -> None:
        super().__init__()
        self.rests = rests
        self._looked = float("-inf")

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, Any]]:
        """Return what is ready. It never rests while there is something to do (`timeout` is 0), or beyond `timeout`."""
        if timeout != 0 and self.rests():
            left = self._looked + PAUSE - time.monotonic()
            if timeout is not None:
                left = min(left, timeout)
            if left > 0:
                time.sleep(left)
                timeout = None if timeout is None else timeout - left
        ready = super().select(timeout)
        self._looked = time.monotonic()
        return ready


def new_loop(rests: Callable[[], bool]) -> asyncio.AbstractEventLoop:
    """Return an event loop that rests where `rests` says so; on Windows, whose loop has no selector, its usual one."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    return asyncio.SelectorEventLoop(Selector(rests))
