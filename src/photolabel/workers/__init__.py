"""Photos prepared in processes of their own, which may die.

A decoder can be killed by a photo, or never come back from one. Here that costs this photo an error: its worker is
ended and another one started; the others go on. (The executors of the standard library lose the whole pool with one
process, and start their processes in ways that need a main guard, or that are unsafe beside OpenVINO's threads.)
Workers run this package's own module and are spoken to over pipes, in JSON and bytes: see `wire`.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TypeAlias

from ..errors import DecoderCrashedError, PhotoTooSlowError, UsageError
from ..images import DEFAULT_LIMITS, Limits, Recipe
from ..prepared import Prepared, refused
from ..sources import Item
from . import wire
from .process import Process

__all__ = ["SECONDS", "Crew"]

SECONDS = 60.0  # that a photo may take: the largest within the limits takes a few
_START = 60.0  # seconds that a worker may take to start, on a machine that is busy with something else
_TICK = 0.1  # seconds between two looks for workers that are overdue
_TRIES = 2  # of a photo, and of a start: what ended the worker may have been something else

_Task: TypeAlias = tuple["Future[Prepared]", Item, Sequence[Recipe], Limits]


class Crew:
    """Workers that prepare photos, started at once. Use it in a `with` block, or close it.

    `count` is how many; `seconds` how long a photo may take; `behind` how far they stand back where others want the
    processor too, from 0 to 19 (nice(2); not on Windows). `took` is told how many seconds each photo took, in the
    thread of its worker. Safe to use from several threads.
    """

    def __init__(
        self,
        count: int,
        *,
        seconds: float = SECONDS,
        behind: int = 0,
        took: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._took = took
        self._workers = [_Worker(seconds, behind) for _ in range(count)]
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._lock = threading.Lock()  # no task is put behind the end
        self._home = os.getpid()
        # Daemons: a program that ends without closing us shall not wait for photos that nobody wants any more.
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), name="photolabel-worker", daemon=True)
            for worker in self._workers
        ]
        self._threads.append(threading.Thread(target=self._watch, name="photolabel-watch", daemon=True))
        for thread in self._threads:
            thread.start()

    def prepare(self, item: Item, *recipes: Recipe, limits: Limits = DEFAULT_LIMITS) -> Future[Prepared]:
        """Have a photo prepared as `prepared.prepare` does it; a worker that dies of it is an error of the photo.

        The future's only exception is `UsageError`, where this system lets no worker start, or the crew was closed
        meanwhile. Raises it where it is closed already.
        """
        future: Future[Prepared] = Future()
        if item.error is not None:  # known already
            future.set_result(refused(item.photo, item.error))
            return future
        with self._lock:
            if self._closed.is_set() or os.getpid() != self._home:  # fork() takes no threads along
                raise _closed()
            self._tasks.put((future, item, recipes, limits))
        return future

    @property
    def deaths(self) -> int:
        """How many processes have ended over a photo, or were ended because it took too long."""
        return sum(worker.deaths for worker in self._workers)

    def _serve(self, worker: _Worker) -> None:
        """Work as one of the workers: a thread each, so that nobody else speaks to its process."""
        with suppress(UsageError):  # if it cannot start, its first photo will tell
            worker.start()
        while (task := self._tasks.get()) is not None:
            _do(worker, self._took, *task)
            del task  # its item may hold the photo's bytes
        worker.close()

    def _watch(self) -> None:
        while not self._closed.wait(_TICK):
            for worker in self._workers:
                worker.check()

    def close(self) -> None:
        """End the workers, in whatever they are doing. What was not done is not done."""
        if os.getpid() != self._home:  # they are our parent's
            return
        with self._lock:
            self._closed.set()
        with suppress(queue.Empty):
            while True:
                task = self._tasks.get_nowait()
                if task is not None and task[0].set_running_or_notify_cancel():
                    task[0].set_exception(_closed())
        for worker in self._workers:
            worker.end()
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _do(
    worker: _Worker,
    took: Callable[[float], None],
    future: Future[Prepared],
    item: Item,
    recipes: Sequence[Recipe],
    limits: Limits,
) -> None:
    if not future.set_running_or_notify_cancel():
        return
    begun = time.monotonic()
    try:
        made = worker.prepare(item, recipes, limits)
    except BaseException as error:  # whatever it is, it is the caller's
        future.set_exception(error)
        del future  # its traceback knows this frame
    else:
        took(time.monotonic() - begun)
        future.set_result(made)


class _Worker:
    """One process, started when it is first needed and again after its death. Only one thread works with it."""

    def __init__(self, seconds: float, behind: int) -> None:
        self._seconds, self._behind = seconds, behind
        self._lock = threading.Lock()  # of what follows, which `check` and `end` look at from other threads
        self._process: Process | None = None
        self._until: float | None = None
        self._ended = False
        self.deaths = 0  # over photos

    def start(self) -> Process:
        """Return the process; start it if there is none. Raises UsageError where there can be none, or no more."""
        if self._process is not None and self._process.idle:
            return self._process
        for _ in range(_TRIES):
            self.close()
            with self._lock:
                if self._ended:
                    raise _closed()
                try:
                    process = self._process = Process(self._seconds, self._behind)
                except (OSError, ValueError, TypeError) as error:  # no program, no more processes, no executable
                    raise _no_workers() from error
            with self._at_most(_START), suppress(wire.WireError, EOFError, OSError):
                wire.receive(process.answers, most=0)
                return process
        self.close()
        raise _closed() if self._ended else _no_workers()

    def prepare(self, item: Item, recipes: Sequence[Recipe], limits: Limits) -> Prepared:
        """Have one photo prepared."""
        for _ in range(_TRIES):
            process = self.start()
            with self._at_most(self._seconds) as begun, suppress(wire.WireError, OSError):
                wire.ask(process.questions, item, recipes, limits)
                return wire.answer(process.answers, item.photo, recipes, limits)
            late = time.monotonic() - begun >= self._seconds
            self.close()
            if self._ended:
                raise _closed()
            self.deaths += 1
            if late:
                return Prepared(photo=item.photo, error=_too_slow(self._seconds))
        return Prepared(photo=item.photo, error=_crashed())

    @contextmanager
    def _at_most(self, seconds: float) -> Iterator[float]:
        """What is done inside may take so long, before its process is ended; gives the time when it began."""
        begun = time.monotonic()
        with self._lock:
            self._until = begun + seconds
        try:
            yield begun
        finally:
            with self._lock:
                self._until = None

    def check(self) -> None:
        """End the process if what it does takes too long."""
        with self._lock:
            if self._until is not None and time.monotonic() > self._until and self._process is not None:
                self._process.kill()

    def end(self) -> None:
        """End the process for good."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Let go of a process that has died, or is no good any more."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.close()


def _closed() -> UsageError:
    return UsageError("the workers that decode photos are closed.")


def _no_workers() -> UsageError:
    return UsageError(
        "no process that decodes photos can be started here: expected Python at sys.executable, and room for another "
        "process. With workers=0 (--workers 0) photos are decoded in this process."
    )


def _crashed() -> DecoderCrashedError:
    return DecoderCrashedError(
        "The photo made its decoder crash, twice. It is broken, or made to do so. A copy from the source, or one saved "
        "again by an image editor, may be whole."
    )


def _too_slow(seconds: float) -> PhotoTooSlowError:
    return PhotoTooSlowError(
        f"The photo took more than {seconds:g} seconds to read and decode, which is the limit. Is it on a disk that "
        "does not answer? A copy saved again by an image editor may be quicker."
    )
