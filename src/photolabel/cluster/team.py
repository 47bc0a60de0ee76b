"""The networks of a run: which machines have one, which have room, and new ones for those that died."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .. import __version__
from ..errors import ClusterError, PhotolabelError

_LOOK = 1.0  # seconds between two looks at which machines there are
_ROOM = 2  # chunks that an actor has: one that it names, and one that comes meanwhile
_DEATHS = 12  # looks between which networks died, without a photo named: a machine has many, which die together
_PATIENCE = 600.0  # seconds without any machine: one that is ordered from a cloud takes some minutes


@dataclass(eq=False)
class _Worker:
    """A network on a machine. `loading` is the reference that says it is loaded; None once it is."""

    node: str
    actor: Any
    loading: Any
    work: set[Any] = field(default_factory=set)


class Team:
    """The networks of one run: as many on each machine as it has processors for, by the `threads` of one."""

    def __init__(self, ray: Any, actor: Any, work: bytes, identity: dict[str, str | None], *, threads: int) -> None:
        self._ray, self._actor, self._work, self._identity = ray, actor, work, identity
        self._threads = threads
        self._workers: list[_Worker] = []
        self._at: dict[Any, _Worker] = {}  # what is under way -> where
        self.processors = 1
        self._looked = float("-inf")
        self._seen = time.monotonic()  # when there was a machine
        self._deaths = 0
        self._last_death = float("-inf")  # when the last look before it was

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def loading(self) -> list[Any]:
        """The references of networks that are being loaded."""
        return [worker.loading for worker in self._workers if worker.loading is not None]

    def tend(self) -> None:
        """Have a network on every machine that there is, now and then. Raises `ClusterError` where there is none."""
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        processors = {
            node["NodeID"]: node["Resources"]["CPU"]
            for node in self._ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
        }
        if processors:
            self._seen = now
        elif now - self._seen > _PATIENCE:
            raise ClusterError("the cluster has no machine with a processor for this: see ray status.")
        self.processors = max(1, int(sum(processors.values())))
        for worker in [each for each in self._workers if each.node not in processors]:
            self._drop(worker)
        there = Counter(worker.node for worker in self._workers)
        for node, count in processors.items():
            for _ in range(max(1, int(count) // self._threads) - there[node]):
                self._begin(node)

    def _begin(self, node: str) -> None:
        only_there = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        actor = self._actor.options(name=None, scheduling_strategy=only_there).remote()
        self._workers.append(_Worker(node, actor, actor.load.remote(self._work, self._identity, __version__)))

    def loaded(self, reference: Any) -> None:
        """Take note that a network is loaded. Raises what loading raised there; one whose process died is given up."""
        worker = next((each for each in self._workers if each.loading is reference), None)
        if worker is None:
            return
        try:
            version = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            raise_ours(error)
            self._died(worker, error)
            return
        if version != __version__:
            raise ClusterError(
                f"the cluster's machines have photolabel {version}, this one {__version__}. Install the same."
            )
        worker.loading = None

    def name(self, prepared: Any, *, near: str) -> Any:
        """Have a chunk named, where it lies if there is room; return the reference, None where there is no room."""
        free = [each for each in self._workers if each.loading is None and len(each.work) < _ROOM]
        if not free:
            return None
        worker = min(free, key=lambda each: (len(each.work), each.node != near))
        reference = worker.actor.name.options(name="photolabel: name").remote(prepared)
        worker.work.add(reference)
        self._at[reference] = worker
        return reference

    def named(self, reference: Any) -> None:
        """Take note that a chunk is named."""
        self._deaths = 0
        self._free(reference)

    def failed(self, reference: Any, error: Exception, *, died: bool) -> None:
        """Take note that a chunk came to nothing; `died`: with its network."""
        worker = self._free(reference)
        if died and worker is not None and worker in self._workers:
            self._died(worker, error)

    def _free(self, reference: Any) -> _Worker | None:
        worker = self._at.pop(reference, None)
        if worker is not None:
            worker.work.discard(reference)
        return worker

    def _died(self, worker: _Worker, error: Exception) -> None:
        if self._last_death != self._looked:
            self._last_death = self._looked
            self._deaths += 1
        if self._deaths >= _DEATHS:
            raise ClusterError(
                f"the networks' processes on the cluster have died {self._deaths} times, and named nothing in between. "
                "Has each machine the memory for one?"
            ) from error
        self._drop(worker)

    def _drop(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(worker.actor)

    def close(self) -> None:
        """End the networks, in whatever they are doing."""
        for worker in [*self._workers]:
            self._drop(worker)


def raise_ours(error: Exception) -> None:
    """Raise what photolabel raised on another machine, and what is a mistake there; not what became of a process."""
    from ray.exceptions import RayError

    cause = getattr(error, "cause", None)
    if isinstance(cause, RayError):  # what a task was given is gone with its machine
        return
    if isinstance(cause, PhotolabelError):
        raise cause from None
    if "No module named" in str(error) and "photolabel" in str(error):
        raise ClusterError(
            f"photolabel is not installed on every machine of the cluster: pip install photolabel=={__version__} there."
        ) from error
    if isinstance(cause, Exception) and not isinstance(cause, OSError | MemoryError):
        raise cause
