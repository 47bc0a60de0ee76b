"""An event loop that looks less often at its connections while the house is full.

Every look takes a processor from a network that computes on all of them, and its other threads then wait for the one
that was stopped. While there is room, that is the price of answers at once. A refusal may come some milliseconds later,
and so many are given in one go: those who are named get theirs visibly sooner.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import time
from collections.abc import Callable
from typing import Any

PAUSE = 0.015  # seconds between two looks: a batch of a small network takes some 50


class Selector(selectors.DefaultSelector):
    """Waits for files to be ready, and while `full` says so for a while longer."""

    def __init__(self, full: Callable[[], bool]) -> None:
        super().__init__()
        self.full = full

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, Any]]:
        """Return what is ready. With nothing to do meanwhile (`timeout` is not 0) it may rest first."""
        if timeout != 0 and self.full():
            pause = PAUSE if timeout is None else min(PAUSE, max(0.0, timeout))
            time.sleep(pause)
            timeout = None if timeout is None else timeout - pause
        return super().select(timeout)


def new_loop(full: Callable[[], bool]) -> asyncio.AbstractEventLoop:
    """Return an event loop that rests while the house is `full`; on Windows, whose loop has no selector, one of its."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    return asyncio.SelectorEventLoop(Selector(full))
