"""Photos prepared in processes of their own, which may die.

A decoder can be killed by a photo, or never come back from one. Here that costs this photo an error: its worker is
ended and another one started; the others go on. (The executors of the standard library lose the whole pool with one
process, and start their processes in ways that need a main guard, or that are unsafe beside OpenVINO's threads.)
Workers run this package's own module and are spoken to over pipes, in JSON and bytes: see `wire`.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import DecoderCrashedError, PhotoTooSlowError, UsageError
from ..images import DEFAULT_LIMITS, Limits, Recipe
from ..prepared import Prepared
from ..sources import Item
from . import wire

__all__ = ["SECONDS", "Crew"]

SECONDS = 60.0  # that a photo may take: the largest within the limits takes a few
_START = 60.0  # seconds that a worker may take to start, on a machine that is busy with something else
_TICK = 0.1  # seconds between two looks for workers that are overdue

# Not -m: it would put the current folder, which may be one of photos from anywhere, before the libraries.
_PROGRAM = "import sys; seconds, *sys.path = sys.argv[1:]; from {0} import child; child.main(float(seconds))"


class Crew:
    """Workers that prepare photos. Use it in a `with` block, or close it.

    `count` is how many; `seconds` how long a photo may take. Safe to use from several threads.
    """

    def __init__(self, count: int, *, seconds: float = SECONDS) -> None:
        self._workers = [_Worker(seconds) for _ in range(count)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._closed = threading.Event()
        self._threads = ThreadPoolExecutor(count, "photolabel-worker")
        threading.Thread(target=self._watch, name="photolabel-watch", daemon=True).start()

    def start(self) -> None:
        """Start them all, and do not wait: whoever has other things to do first loses no time."""
        for worker in self._workers:
            self._threads.submit(worker.start)

    def prepare(self, item: Item, recipe: Recipe, limits: Limits = DEFAULT_LIMITS) -> Future[Prepared]:
        """Have a photo prepared as `prepared.prepare` does it; a worker that dies of it is an error of the photo.

        The future's only exception is `UsageError`, where this system lets no worker start.
        """
        if item.error is not None:  # known already
            done: Future[Prepared] = Future()
            done.set_result(Prepared(photo=item.photo, error=item.error))
            return done
        return self._threads.submit(self._prepare, item, recipe, limits)

    def _prepare(self, item: Item, recipe: Recipe, limits: Limits) -> Prepared:
        worker = self._idle.get()
        try:
            return worker.prepare(item, recipe, limits)
        finally:
            self._idle.put(worker)

    def _watch(self) -> None:
        while not self._closed.wait(_TICK):
            for worker in self._workers:
                worker.check()

    def close(self) -> None:
        """End the workers, in whatever they are doing. What was not begun is not done."""
        self._closed.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.end()
        self._threads.shutdown()
        for worker in self._workers:
            worker.close()

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Worker:
    """One process, started when it is first needed and again after its death."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()  # of what follows, which the watching thread looks at
        self._process: subprocess.Popen[bytes] | None = None
        self._until: float | None = None
        self._overdue = self._ended = False

    def start(self) -> None:
        """Start the process. Raises UsageError where there can be none."""
        with self._lock:
            if self._process is not None or self._ended:
                return
            options: dict[str, Any] = {}
            if os.name == "posix":
                options["process_group"] = 0  # Ctrl-C is for the parent: it decides what becomes of its workers
            else:
                options["creationflags"] = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
            paths = [str(Path(__file__).resolve().parents[2]), *(path for path in sys.path if path)]
            command = [sys.executable, "-P", "-c", _PROGRAM.format(__name__), str(self._seconds), *paths]
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **options
                )
            except (OSError, ValueError, TypeError) as error:  # no such program, no more processes, no executable
                raise _no_workers() from error
            self._process = process
            self._until = time.monotonic() + _START
        try:
            assert process.stdout is not None
            ready, _ = wire.receive(process.stdout, most=0)
        except (wire.WireError, EOFError, OSError, ValueError):
            ready = {}
        with self._lock:
            self._until = None
        if not ready and not self._ended:
            self._bury()
            raise _no_workers()

    def prepare(self, item: Item, recipe: Recipe, limits: Limits) -> Prepared:
        """Have one photo prepared. It is tried twice: what ended the worker may have been something else."""
        for _ in range(2):
            self.start()
            if (process := self._process) is None:  # ended for good
                break
            assert process.stdin and process.stdout
            with self._lock:
                self._until, self._overdue = time.monotonic() + self._seconds, False
            try:
                wire.ask(process.stdin, item, recipe, limits)
                return wire.answer(process.stdout, item.photo, recipe)
            except (wire.WireError, OSError, ValueError):  # ValueError: a pipe that is closed
                self._bury()
                if self._overdue:
                    return Prepared(photo=item.photo, error=_too_slow(self._seconds))
            finally:
                with self._lock:
                    self._until = None
        return Prepared(photo=item.photo, error=_crashed())

    def check(self) -> None:
        """End the process if its photo takes too long."""
        with self._lock:
            if self._until is not None and time.monotonic() > self._until and self._process is not None:
                self._overdue = True
                self._process.kill()

    def end(self) -> None:
        """End the process for good."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()

    def _bury(self) -> None:
        """Let go of a process that has died, or is no good any more."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # what is left in its buffer can go nowhere
                        pipe.close()

    def close(self) -> None:
        """Take away what is left of an ended one."""
        self._bury()


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
