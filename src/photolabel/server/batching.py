"""Photos that come one by one, decoded in processes of their own and named by the network some at a time.

A photo is decoded as soon as a worker is free. The network takes what is decoded by then: while it is at work a batch
gathers by itself, and where it is idle it waits only for photos that are being decoded already, and no longer than a
few milliseconds; a lone photo does not wait at all. What is said of a photo does not depend on those beside it.

No more photos are on their way than keep decoders and network busy. The others wait for their turns, see `turns`.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..errors import UsageError
from ..sources import Item
from .problems import UNAVAILABLE, RefusedError
from .turns import Turns

if TYPE_CHECKING:
    from ..classifier import Classifier
    from ..images import Limits, Recipe
    from ..prediction import Prediction
    from ..prepared import Prepared


# How far decoders and the network stand back behind the event loop (nice(2): it gets three times as much of a processor
# that it shares with one of them). It needs little, but at once: refusals, answers about health, and those of the
# network itself wait for it.
BEHIND = 5

_T = TypeVar("_T")


class Decoders(Protocol):
    """Who prepares photos: `workers.Crew`."""

    def prepare(self, item: Item, *recipes: Recipe, limits: Limits) -> Future[Prepared]:
        """Have a photo prepared, without waiting; what is wrong with it is part of the result."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of a photo, as `Classifier.predict` takes it."""

    top: int | None = None
    sure: float | None = None
    coverage: float | None = None


@dataclass(eq=False, slots=True)
class _Job:
    """A photo on its way; `answer` is the event loop's, and cancelled where nobody waits for it any more."""

    name: str | None
    asked: Asked
    answer: asyncio.Future[Prediction]
    prepared: Prepared | None = None


@dataclass(eq=False, slots=True)
class _Errand:
    """Something else than naming that the network is needed for; `answer` is as a photo's."""

    work: Callable[[Classifier], Any]
    answer: asyncio.Future[Any]


class Batcher:
    """The way through one classifier; started at once. To be made in a running event loop, and closed.

    `decoding` is how many photos are decoded at the same time. `ran` is told, in the network's thread, how many photos
    the network was at, None for an errand, and for how many seconds.
    """

    def __init__(
        self,
        classifier: Classifier,
        decoders: Decoders,
        *,
        limits: Limits,
        inputs: int,
        wait: float,
        decoding: int = 1,
        ran: Callable[[int | None, float], None] = lambda photos, seconds: None,
    ) -> None:
        self._classifier, self._decoders, self._limits, self._wait = classifier, decoders, limits, wait
        self._ran = ran
        self._most = max(1, inputs // sum(recipe.inputs for recipe in classifier.recipes))  # photos
        # As many as are decoded, make the next batch, and are in the network.
        self._turns = Turns(decoding + 2 * self._most)
        self._loop = asyncio.get_running_loop()
        self._decoded: queue.SimpleQueue[_Job | _Errand | None] = queue.SimpleQueue()
        self._errand: _Errand | None = None  # that came while a batch was gathered
        self._lock = threading.Lock()
        self._coming = 0  # photos that are being decoded, or wait for it
        self._running_since: float | None = None
        self._closed = False
        # A daemon: a run of the network that does not come back shall not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="photolabel-batches", daemon=True)
        self._thread.start()

    async def predict(self, data: bytes, name: str | None, asked: Asked) -> Prediction:
        """Name what is in a photo, given the bytes of its file. What is wrong with it is in its Prediction.

        Cancelled, it takes its photo out of the way. Raises `RefusedError` where the service is ending.
        """
        async with self._turns.taken():
            return await self._predict(Item(photo="", data=data), name, asked)

    async def _predict(self, item: Item, name: str | None, asked: Asked) -> Prediction:
        job = _Job(name, asked, self._loop.create_future())
        try:
            decoding = self._decoders.prepare(item, *self._classifier.recipes, limits=self._limits)
        except UsageError:  # the workers are closed
            raise RefusedError(UNAVAILABLE) from None
        self._count(1)
        decoding.add_done_callback(partial(self._take, job))
        try:
            return await job.answer
        finally:
            decoding.cancel()  # does nothing to one that is done

    async def prepare(self, data: bytes, name: str | None, *recipes: Recipe) -> Prepared:
        """Have a photo prepared by other recipes, or by the classifier's own, and not named.

        Cancelled, it takes its photo out of the way. Raises `RefusedError` where the service is ending.
        """
        recipes = recipes or self._classifier.recipes
        async with self._turns.taken():
            try:
                decoding = self._decoders.prepare(Item(photo="", data=data), *recipes, limits=self._limits)
                return replace(await asyncio.wrap_future(decoding), photo=name)
            except UsageError:  # no process can be started, or all are ending
                raise RefusedError(UNAVAILABLE) from None

    async def run(self, work: Callable[[Classifier], _T]) -> _T:
        """Return what `work` returns, called with the classifier in the network's thread, in its turn.

        Cancelled before its turn, it is not called. Raises what `work` raises, and `RefusedError` where the service is
        ending. What it decodes it decodes in this process, so it should be given what a worker prepared.
        """
        async with self._turns.taken():
            errand = _Errand(work, self._loop.create_future())
            self._put(errand)
            found: _T = await errand.answer
            return found

    @property
    def running_for(self) -> float:
        """For how many seconds the network has been at its present batch; 0 while it is idle."""
        since = self._running_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """End the thread after the batch that it is at."""
        with self._lock:
            self._closed = True
            self._decoded.put(None)

    def join(self, seconds: float) -> bool:
        """Wait for the thread's end; return whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _put(self, job: _Job | _Errand) -> None:
        """Have it done in its turn; behind the end nothing would be."""
        with self._lock:
            if not self._closed:
                self._decoded.put(job)
                return
        self._settle([job], [RefusedError(UNAVAILABLE)])

    def _count(self, change: int) -> None:
        with self._lock:
            self._coming += change

    # -- in the thread of whoever decoded it

    def _take(self, job: _Job, decoding: Future[Prepared]) -> None:
        if decoding.cancelled() or job.answer.cancelled():
            self._count(-1)
        elif decoding.exception() is not None:  # no process can be started, or all are ending
            self._count(-1)
            self._settle([job], [RefusedError(UNAVAILABLE)])
        else:
            job.prepared = replace(decoding.result(), photo=job.name)
            if job.prepared.error is None:
                self._put(job)  # first, so that the network does not think that nothing comes
                self._count(-1)
            else:  # the network has nothing to do with it
                self._count(-1)
                self._run([job])

    # -- in the network's thread

    def _work(self) -> None:
        _stand_back()
        while batch := self._gather():
            self._running_since = time.monotonic()
            if isinstance(batch, _Errand):
                self._do(batch)
            else:
                self._name(batch)
            self._running_since = None
            del batch  # its pixels shall not wait for the next photo

    def _do(self, errand: _Errand) -> None:
        if errand.answer.cancelled():
            return
        begun = time.monotonic()
        answer: Any
        try:
            answer = errand.work(self._classifier)
        except BaseException as error:  # whatever it is, it is for whoever waits
            answer = error
        self._ran(None, time.monotonic() - begun)
        self._settle([errand], [answer])

    def _name(self, batch: Sequence[_Job]) -> None:
        """Name what is in these photos, those of which the same is asked together."""
        alike: dict[Asked, list[_Job]] = {}
        for job in batch:
            if not job.answer.cancelled():
                alike.setdefault(job.asked, []).append(job)
        for jobs in alike.values():
            self._run(jobs)

    def _gather(self) -> list[_Job] | _Errand:
        """The next photos, at least one, or the next errand; nothing at the end."""
        first = self._decoded.get() if self._errand is None else self._errand
        self._errand = None
        if first is None:
            return []
        if isinstance(first, _Errand):
            return first
        batch, until = [first], time.monotonic() + self._wait
        while len(batch) < self._most:
            try:
                left = until - time.monotonic() if self._coming else 0.0
                job = self._decoded.get(timeout=left) if left > 0 else self._decoded.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._decoded.put(None)  # the end, after this batch
                break
            if isinstance(job, _Errand):
                self._errand = job  # after this batch
                break
            batch.append(job)
        return batch

    def _run(self, jobs: Sequence[_Job]) -> None:
        asked = jobs[0].asked
        prepared = [job.prepared for job in jobs if job.prepared is not None]
        answers: Sequence[Prediction | BaseException]
        begun = time.monotonic()
        try:
            answers = self._classifier.predict(prepared, top=asked.top, sure=asked.sure, coverage=asked.coverage)
        except UsageError:  # what was asked has been checked, so it is closed: the service is ending
            answers = [RefusedError(UNAVAILABLE)] * len(jobs)
        except BaseException as error:  # whatever it is, it is for those who wait
            answers = [error] * len(jobs)
        if any(each.error is None for each in prepared):  # else the network had nothing to do
            self._ran(len(prepared), time.monotonic() - begun)
        for job in jobs:
            job.prepared = None
        self._settle(jobs, answers)

    def _settle(self, jobs: Sequence[_Job | _Errand], answers: Sequence[Any]) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it those who waited
            self._loop.call_soon_threadsafe(_settle, jobs, answers)


def _stand_back() -> None:
    """Let other threads go first where they want the processor too. On Linux a priority is a thread's own."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + BEHIND)


def _settle(jobs: Sequence[_Job | _Errand], answers: Sequence[Any]) -> None:
    for job, answer in zip(jobs, answers, strict=True):
        if job.answer.done():
            continue
        if isinstance(answer, BaseException):
            job.answer.set_exception(answer)
        else:
            job.answer.set_result(answer)
