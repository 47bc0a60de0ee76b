"""The driver's part: a bounded number of chunks on their way through tasks and actors, and what is lost done again.

A chunk of photos is decoded by a task, then named by an actor on the same machine if that has room. All that is known
of a chunk is in this process, and nothing is told of it but its whole result: so each photo has its record once,
whatever dies on the way. Results come in the order of the photos.
"""

from __future__ import annotations

import os
import pickle
import time
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import ClusterError
from . import nodes
from .listing import WAITING, Listing
from .signals import deferred
from .team import Team, raise_ours

if TYPE_CHECKING:
    from ..sources import Item
    from .work import Work

_PHOTOS, _BYTES = 32, 16 << 20  # of a chunk: some tasks a second, and objects that move in passing
_AHEAD = 2  # chunks that are decoded or being so, besides one a processor, for each network
_UNTOLD = 4 << 20  # bytes, about, of what is said of photos that are done and wait for some before them
_LEAST_UNTOLD = 8  # chunks
_TRIES = 12  # of a chunk: what killed its process may have been something else, and may be so again
_TICK = 0.5  # seconds


class Timing(Protocol):
    """Seconds that the parts of a run took, added up."""

    reading: float
    decoding: float
    network: float


@dataclass(eq=False)
class _Chunk:
    """Some photos on their way; `decoding` and `naming` are the references of what is under way."""

    number: int
    items: list[Item]
    tries: int = 0
    not_before: float = 0.0
    decoding: Any = None
    decoded: Any = None
    node: str = ""
    naming: Any = None
    result: list[Any] | None = None


class Flow:
    """One run over some photos."""

    def __init__(self, ray: Any, work: Work[Any], *, seconds: float, timing: Timing | None) -> None:
        self._ray, self._timing = ray, timing
        self._recipes, self._limits, self._seconds = work.recipes, work.limits, seconds
        most = max(1, sum(recipe.most_bytes for recipe in work.recipes))
        self._size = max(1, min(_PHOTOS, _BYTES // most))
        task, actor = nodes.remote(ray)
        self._untold = max(_LEAST_UNTOLD, _UNTOLD // (self._size * work.told))
        self._decode = task
        self._team = Team(ray, actor, pickle.dumps(work), work.identity, threads=work.threads)
        self._fresh: deque[_Chunk] = deque()  # to be decoded: those that were lost, first of all
        self._decoding: dict[Any, _Chunk] = {}
        self._decoded: deque[_Chunk] = deque()
        self._naming: dict[Any, _Chunk] = {}
        self._done: dict[int, _Chunk] = {}
        self._next = self._coming = 0

    def results(self, items: Iterable[Item]) -> Generator[list[Any]]:
        """Yield what is said of each chunk of photos, in their order."""
        listing = Listing(items, photos=self._size, held=_BYTES)
        try:
            while True:
                with deferred():
                    self._take(listing)
                    if self._coming:  # else there may be nothing to load a network for
                        self._team.tend()
                    self._start()
                    self._hand_out()
                    self._wait()
                while (chunk := self._done.pop(self._next, None)) is not None:
                    self._next += 1
                    assert chunk.result is not None
                    yield chunk.result
                with deferred():  # a lock is in it, which Ctrl-C shall not leave taken
                    if self._next == self._coming and listing.exhausted():
                        return
        except self._ray.exceptions.RayError as error:  # of none of the chunks: it is the cluster itself
            raise ClusterError(f"the Ray cluster has failed ({type(error).__name__}).") from error
        finally:
            with deferred():
                listing.stop()
                self._cancel()

    def _take(self, listing: Listing) -> None:
        """Take chunks from the list while there is room for them."""
        while len(self._fresh) < WAITING and len(self._done) < self._untold and (items := listing.take()):
            self._fresh.append(_Chunk(self._coming, items))
            self._coming += 1

    def _start(self) -> None:
        """Have chunks decoded: as many as there are processors, and some that wait for a network."""
        now = time.monotonic()
        for chunk in [each for each in self._fresh if each.not_before <= now]:
            if len(self._decoding) + len(self._decoded) >= self._team.processors + _AHEAD * len(self._team):
                return
            self._fresh.remove(chunk)
            chunk.decoding, chunk.decoded = self._decode.remote(chunk.items, self._recipes, self._limits, self._seconds)
            self._decoding[chunk.decoding] = chunk

    def _hand_out(self) -> None:
        """Give decoded chunks to networks that have room."""
        for _ in range(len(self._decoded)):
            chunk = self._decoded.popleft()
            reference = self._team.name(chunk.decoded, near=chunk.node)
            if reference is None:
                self._decoded.appendleft(chunk)
                return
            chunk.naming = reference
            self._naming[reference] = chunk

    def _wait(self) -> None:
        """Wait for something to be done, and see what it is."""
        waiting = [*self._decoding, *self._naming, *self._team.loading]
        if not waiting:
            time.sleep(_TICK / 10)
            return
        # Most often more is done than the one that was waited for.
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=_TICK, fetch_local=False)
        if ready:
            ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        for reference in ready:
            if reference in self._decoding:
                self._see_decoded(reference)
            elif reference in self._naming:
                self._see_named(reference)
            else:
                self._team.loaded(reference)

    def _see_decoded(self, reference: Any) -> None:
        chunk = self._decoding.pop(reference)
        try:
            told = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return self._lost(chunk, error)
        for path in told.missing:
            if os.path.exists(path):  # noqa: PTH110  # of a link that leads nowhere there is no photo here either
                raise ClusterError(
                    f"{path}: is here, but not on every machine of the cluster. Have photos where all of them find "
                    "them by the same path, or on an object store."
                )
        chunk.node = told.node
        if self._timing is not None:
            self._timing.reading += told.reading
            self._timing.decoding += told.decoding
        self._decoded.append(chunk)
        return None

    def _see_named(self, reference: Any) -> None:
        chunk = self._naming.pop(reference)
        exceptions = self._ray.exceptions
        try:
            chunk.result, seconds = self._ray.get(reference)
        except exceptions.RayActorError as error:  # the network has died: the photos are decoded still
            self._team.failed(reference, error, died=True)
            self._count(chunk, error)
            self._decoded.appendleft(chunk)
            return
        except exceptions.RayError as error:
            self._team.failed(reference, error, died=False)
            return self._lost(chunk, error)
        self._team.named(reference)
        if self._timing is not None:
            self._timing.network += seconds
        chunk.decoding = chunk.decoded = chunk.naming = None
        chunk.items = []  # those of a compressed archive hold their photos, and it may wait long for others
        self._done[chunk.number] = chunk
        return

    def _lost(self, chunk: _Chunk, error: Exception) -> None:
        """Do a chunk again, from the beginning."""
        self._count(chunk, error)
        chunk.decoding = chunk.decoded = chunk.naming = None
        chunk.not_before = time.monotonic() + min(10.0, 0.1 * 2**chunk.tries)
        self._fresh.appendleft(chunk)

    def _count(self, chunk: _Chunk, error: Exception) -> None:
        raise_ours(error)
        chunk.tries += 1
        if chunk.tries >= _TRIES:
            first, last = chunk.items[0].photo, chunk.items[-1].photo
            cause = getattr(error, "cause", None)
            lost = f"{type(cause or error).__name__}. Has it enough memory and disk?"
            raise ClusterError(
                f"the cluster has lost the same {len(chunk.items)} photos {chunk.tries} times ({first} to {last}), the "
                f"last time so: {cause if isinstance(cause, OSError) else lost}"
            ) from error

    def _cancel(self) -> None:
        for chunk in self._decoding.values():
            with suppress(self._ray.exceptions.RayError, ValueError, TypeError):
                self._ray.cancel(chunk.decoding, force=False)
        self._team.close()
