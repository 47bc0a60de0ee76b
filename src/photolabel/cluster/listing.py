"""Photos in chunks, as they are listed by a thread of its own.

A chunk is to be had when it is full, and half a second after its first photo in any case: photos that come slowly do
not wait for each other.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from .nodes import absolute

if TYPE_CHECKING:
    from ..sources import Item

WAITING = 8  # chunks that are listed and wait
_FILLING = 0.5  # seconds that a chunk waits to be filled


class Listing:
    """What `items` yield, in chunks of so many `photos` or, about, so many bytes that they `held`."""

    def __init__(self, items: Iterable[Item], *, photos: int, held: int) -> None:
        self._photos, self._held = photos, held
        self._chunks: deque[list[Item]] = deque()  # all but the last are full
        self._begun = 0.0  # when the last one was
        self._holds = 0  # bytes, the last one
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._list, args=(items,), name="photolabel-list", daemon=True).start()

    def take(self) -> list[Item]:
        """Return the next chunk; an empty one where there is none yet."""
        with self._changed:
            if not self._chunks:
                return []
            growing = len(self._chunks) == 1 and not self._full() and not self._ended
            if growing and time.monotonic() - self._begun < _FILLING:
                return []
            self._changed.notify()
            return self._chunks.popleft()

    def exhausted(self) -> bool:
        """Whether all is listed and taken. Raises what `items` raised, when all before it is."""
        with self._changed:
            if not self._ended or self._chunks:
                return False
            if self._error is not None:
                raise self._error
            return True

    def stop(self) -> None:
        """Have no more listed."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _full(self) -> bool:
        """Whether the last chunk is."""
        return len(self._chunks[-1]) >= self._photos or self._holds >= self._held

    def _list(self, items: Iterable[Item]) -> None:
        try:
            for item in items:
                if not self._add(replace(item, path=absolute(item.path)) if item.path else item):
                    break
        except BaseException as error:  # whatever it is, it is the caller's
            self._error = error
        with self._changed:
            self._ended = True

    def _add(self, item: Item) -> bool:
        """Add a photo when there is room; False: nobody wants it."""
        with self._changed:
            if not self._chunks or self._full():
                self._changed.wait_for(lambda: self._stopped or len(self._chunks) < WAITING)
                self._chunks.append([])
                self._begun, self._holds = time.monotonic(), 0
            self._chunks[-1].append(item)
            self._holds += item.held
            return not self._stopped
