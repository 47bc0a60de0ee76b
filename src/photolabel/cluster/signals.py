"""Signals that wait while Ray is at work: what a handler raises in the midst of it can end the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_WAITING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM do what they do when the block is done, and not in the midst of it."""
    if threading.current_thread() is not threading.main_thread():  # no handler runs in another
        yield
        return
    came: list[tuple[signal.Signals, FrameType | None]] = []
    before: dict[signal.Signals, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        came.append((signal.Signals(number), frame))

    for each in _WAITING:
        if callable(handler := signal.getsignal(each)):  # of Python's, so that it may raise
            before[each] = handler
            signal.signal(each, note)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        for which, frame in came[:1]:
            before[which](which, frame)
