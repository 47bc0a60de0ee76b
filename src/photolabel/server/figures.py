"""What a service counts and measures of itself, in plain numbers; `metrics` tells it to whoever asks.

To count costs about a microsecond, and may be done in any thread.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Bounds in seconds: of an answer from memory to one that waited long; of a small photo's decoding to one that is
# broken off; of one run of a small network to many of a large one.
_REQUEST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_DECODE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
_NETWORK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_PHOTOS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

_METHODS = frozenset(["GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"])
OTHER = "other"

PHOTOS, ERRAND = "photos", "errand"  # what a network works at: photos together, or one thing for one request


class Tally:
    """How often each of a few things happened; they are called by words, as many for each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, *words: str, count: int = 1) -> None:
        """Count one thing more."""
        with self._lock:
            self._counts[words] = self._counts.get(words, 0) + count

    def read(self) -> dict[tuple[str, ...], int]:
        """Return all counts."""
        with self._lock:
            return dict(self._counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """`counts` of values up to each bound, those below it included, the last one of all values; and their `total`."""

    counts: Sequence[int]
    total: float


class Measures:
    """Values of a few things, as distributions; they are called by words, as many for each."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self._lock = threading.Lock()
        self._found: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}

    def add(self, value: float, *words: str) -> None:
        """Take note of one value."""
        with self._lock:
            found = self._found.get(words)
            if found is None:
                found = self._found[words] = ([0] * (len(self.bounds) + 1), [0.0])
            counts, total = found
            counts[bisect_left(self.bounds, value)] += 1
            total[0] += value

    def read(self) -> dict[tuple[str, ...], Distribution]:
        """Return all distributions."""
        with self._lock:
            copied = [(words, [*counts], total[0]) for words, (counts, total) in self._found.items()]
        found = {}
        for words, counts, total in copied:
            sums = [sum(counts[: place + 1]) for place in range(len(counts))]
            found[words] = Distribution(counts=sums, total=total)
        return found


class Figures:
    """All that one service counts and measures; what can be asked for at any time is not here."""

    def __init__(self) -> None:
        self.requests = Tally()  # place, method, status
        self.request_seconds = Measures(_REQUEST)  # place
        self.batch_photos = Measures(_PHOTOS)  # model
        self.network_seconds = Measures(_NETWORK)  # model, PHOTOS or ERRAND
        self.decode_seconds = Measures(_DECODE)
        self.connections: Callable[[], int] | None = None  # how many are open; None where the server does not say

    def request(self, place: str, method: str, status: int, seconds: float) -> None:
        """Take note of a request that has its answer."""
        self.requests.add(place, method if method in _METHODS else OTHER, str(status))
        self.request_seconds.add(seconds, place)

    def run(self, model: str, photos: int | None, seconds: float) -> None:
        """Take note of what a network was at: so many photos, or None for an errand."""
        self.network_seconds.add(seconds, model, ERRAND if photos is None else PHOTOS)
        if photos is not None:
            self.batch_photos.add(photos, model)
