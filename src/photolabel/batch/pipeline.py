"""Photos -> Predictions, read and decoded ahead of the network, in the order of the photos.

Three things go on at once: one thread looks for photos and hands them to those who decode, never more than a few
batches ahead; one gathers what they made into batches and runs the network; the caller has the Predictions. What one
photo costs does not depend on how many there are, nor does the memory.
"""

from __future__ import annotations

import atexit
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from ..classifier import BATCH, Classifier, Prediction
from ..cluster import Cluster
from ..errors import DownloadError, PhotoUnavailableError
from ..images import Limits, Recipe
from ..naming import Naming
from ..prepared import Prepared, prepare, refused
from ..sources import Item

_AHEAD = 4  # batches: decoders go on while the network is at work on one
_LEAST_AHEAD = 4  # photos, however many views each has
_DONE = 2  # batches that wait for the caller
_PATIENCE = 0.5  # seconds that a batch waits to be filled before it goes as it is
_PARTING = 30.0  # seconds that a process which ends waits for a batch that is under way


_T = TypeVar("_T")


class Decoders(Protocol):
    """Who prepares photos: `workers.Crew`, in processes of their own, or `Here`."""

    def prepare(self, item: Item, *recipes: Recipe, limits: Limits) -> Future[Prepared]:
        """Have a photo prepared; what is wrong with it is part of the result."""


class Here:
    """Prepares photos in this process, one after the other."""

    def prepare(self, item: Item, *recipes: Recipe, limits: Limits) -> Future[Prepared]:
        """Prepare a photo, now."""
        done: Future[Prepared] = Future()
        if item.error is not None:
            done.set_result(refused(item.photo, item.error))
        else:
            done.set_result(prepare(item.file(limits), *recipes, limits=limits, name=item.photo))
        return done


@dataclass
class Timing:
    """Seconds that the parts of a run took; of the decoders added up, however many work at once."""

    reading: float = 0.0
    decoding: float = 0.0
    network: float = 0.0


def predictions(
    items: Iterable[Item],
    classifier: Classifier,
    decoders: Decoders | Cluster,
    *,
    top: int | None,
    sure: float | None = None,
    coverage: float | None = None,
    timing: Timing | None = None,
) -> Generator[Prediction]:
    """Yield one Prediction an item, in their order; `timing` is kept up to date.

    Where it is done is an argument: with `decoders` of this machine and the classifier's own network, or on a `Cluster`
    whose machines load the network for themselves. `items` are asked for in another thread. What they raise is raised
    here, after the Predictions of all before.
    """
    naming = Naming(classifier=classifier, top=top, sure=sure, coverage=coverage)
    naming.check()  # a wrong argument should not wait for a photo
    if isinstance(decoders, Cluster):
        return decoders.through(items, naming, timing=timing)
    return through(items, naming.recipes, decoders, naming, limits=naming.limits, timing=timing)


def through(
    items: Iterable[Item],
    recipes: Sequence[Recipe],
    decoders: Decoders,
    work: Callable[[Sequence[Prepared]], list[_T]],
    *,
    limits: Limits,
    timing: Timing | None = None,
) -> Generator[_T]:
    """Yield what `work` makes of each item, prepared by `recipes`, in their order; as `predictions` does.

    `work` has some photos at a time, of about `BATCH` inputs, and returns one result each.
    """
    run = _Run(items, recipes, limits, decoders, work, timing or Timing())
    try:
        yield from run.results()
    finally:
        run.stop()


class _Run:
    def __init__(
        self,
        items: Iterable[Item],
        recipes: Sequence[Recipe],
        limits: Limits,
        decoders: Decoders,
        work: Callable[[Sequence[Prepared]], list[Any]],
        timing: Timing,
    ) -> None:
        self._items, self._recipes, self._limits, self._decoders = items, recipes, limits, decoders
        self._work, self._timing = work, timing
        # None: no more. An exception: no more, and why.
        self._waiting: queue.SimpleQueue[Future[Prepared] | BaseException | None] = queue.SimpleQueue()
        # The caller's thread waits here, and Ctrl-C may strike it at any moment: in the lock of a Queue, which is
        # Python, it would leave that locked. This one is C, and so is the room that it lacks for more batches.
        self._done: queue.SimpleQueue[list[Any] | BaseException | None] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(_DONE):
            self._room.put(None)
        inputs = sum(recipe.inputs for recipe in recipes)
        self._batch = -(-BATCH // inputs)  # photos
        self._window = _Window(max(_LEAST_AHEAD, _AHEAD * BATCH // inputs), limits.file_bytes)
        self._stopped = threading.Event()
        self._coming: Future[Prepared] | None = None  # that the last batch did not wait for

    def results(self) -> Iterator[Any]:
        for work in (self._feed, self._answer):
            # Daemons: whoever waits for a pipe or a network that hangs shall not keep the process from ending.
            threading.Thread(target=work, name=f"photolabel{work.__name__}", daemon=True).start()
        while True:
            try:
                batch = self._done.get(timeout=_PATIENCE)  # without one, Ctrl-C would not come through on Windows
            except queue.Empty:
                continue
            self._room.put(None)
            if batch is None:
                return
            if isinstance(batch, BaseException):
                try:
                    raise batch
                finally:
                    del batch  # as in _answer
            yield from batch

    def stop(self) -> None:
        """Let the threads end by themselves, at the next photo or batch."""
        self._stopped.set()
        self._window.open()
        self._waiting.put(None)
        self._room.put(None)

    # -- the first thread

    def _feed(self) -> None:
        recipes, limits = self._recipes, self._limits
        end: BaseException | None = None
        try:
            for item in self._items:
                self._window.enter(item.held)
                if self._stopped.is_set():
                    break
                future = self._decoders.prepare(item, *recipes, limits=limits)
                future.add_done_callback(partial(self._window.let_go, item.held))
                del item  # its bytes, if it has any, are the decoder's now
                self._waiting.put(future)
        except BaseException as error:  # whatever it is, it is the caller's
            end = error
        self._waiting.put(end)
        del end  # its traceback knows this frame, which would keep all of us

    # -- the second thread

    def _answer(self) -> None:
        end: BaseException | None = None
        _running[self] = threading.current_thread()
        try:
            more = True
            while more and not self._stopped.is_set():
                batch, end, more = self._gather()
                if batch:
                    begun = time.perf_counter()
                    answers = self._work(batch)
                    self._timing.network += time.perf_counter() - begun
                    self._room.get()
                    self._done.put(answers)
                    del batch, answers
        except BaseException as error:  # as above
            end = error
        self._done.put(end)
        del _running[self], end  # its traceback knows this frame, which would keep all of us

    def _gather(self) -> tuple[list[Prepared], BaseException | None, bool]:
        """The next batch, none if nothing came for a while; what ended the photos; and whether there are more."""
        batch: list[Prepared] = []
        until = time.monotonic() + _PATIENCE
        while len(batch) < self._batch:
            try:
                coming = self._coming or self._waiting.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if coming is None or isinstance(coming, BaseException):
                return batch, coming, False
            self._coming = coming
            if not wait([coming], timeout=max(0.0, until - time.monotonic())).done:
                break  # one that takes long shall not keep back those before it
            self._coming = None
            if (error := coming.exception()) is not None:
                return batch, error, False
            made = coming.result()
            if isinstance(made.error, PhotoUnavailableError):  # nor will it give the others: no record shall say so
                return batch, DownloadError(f"{made.photo}: {made.error}"), False
            batch.append(made)
            self._window.leave()
            self._timing.reading += batch[-1].seconds.reading
            self._timing.decoding += batch[-1].seconds.decoding
            if len(batch) == 1:
                until = time.monotonic() + _PATIENCE
        return batch, None, True


_running: dict[_Run, threading.Thread] = {}


def _part() -> None:
    """Let networks finish what they are at: one that comes back to an interpreter which is gone aborts the process."""
    for run, thread in list(_running.items()):
        run.stop()
        thread.join(_PARTING)


atexit.register(_part)


class _Window:
    """How far the decoders may be ahead: so many photos, and so many bytes of those that carry their own."""

    def __init__(self, photos: int, held: int) -> None:
        self._photos, self._held = photos, held
        self._inside = self._bytes = 0
        self._changed = threading.Condition()
        self._opened = False

    def enter(self, held: int) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._opened
                    or (self._inside < self._photos and (self._bytes == 0 or self._bytes + held <= self._held))
                )
            )
            self._inside += 1
            self._bytes += held

    def let_go(self, held: int, decoded: object = None) -> None:
        """The photo's own bytes are no longer needed."""
        with self._changed:
            self._bytes -= held
            self._changed.notify_all()

    def leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def open(self) -> None:
        with self._changed:
            self._opened = True
            self._changed.notify_all()
