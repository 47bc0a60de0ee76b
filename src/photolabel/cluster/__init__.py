"""Photos read and decoded, and networks run, on the machines of a Ray cluster. Ray is the extra `ray`.

`Cluster` is where the local pipeline has its decoders: `batch.predictions` and `teaching` take one or the other, and
what comes of it is the same. `connecting` finds the cluster, `work` says what it is to do, `nodes` is what runs on its
machines, `listing` cuts photos into chunks as they come, `flow` is what the driver does: it keeps a bounded number of
chunks on their way, and does again what was lost with a machine.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import UsageError

if TYPE_CHECKING:
    from ..sources import Item
    from .flow import Timing
    from .work import Work

__all__ = ["Cluster"]

_T = TypeVar("_T")


class Cluster:
    """A Ray cluster that names photos. Use it in a `with` block, or close it.

    `address` is Ray's: `HOST:PORT`, `auto` for the one that runs on this machine, `local` for one
    that is started for the purpose; None: the one that RAY_ADDRESS names or that runs on this machine, else a new one.
    A program that has called `ray.init` itself keeps its own connection. `seconds` is how long a photo may take.

    Raises `ClusterError` where there is none to be had, `UsageError` for what is no address, and `MissingExtraError`.
    """

    def __init__(self, address: str | None = None, *, seconds: float = 60.0) -> None:
        if not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
            raise UsageError(f"seconds={seconds!r}: expected a number of seconds above 0.")
        from .connecting import Connection  # only now: a run without a cluster should not wait for what it needs

        self._seconds = seconds
        self._connection = Connection(address)

    def through(self, items: Iterable[Item], work: Work[_T], *, timing: Timing | None = None) -> Generator[_T]:
        """Yield what `work` says of each item, in their order; as `batch.through` does on this machine.

        Photos are read and decoded in tasks of one processor each, by processes that may die of them; networks are in
        actors, as many on each machine as it has room for by the threads of one. What is lost with a process or a
        machine is done again. Files must be found by their paths on every machine.

        Raises what `items` raise, after all before it; what loading the model raises on any machine; `ClusterError`
        where the same photos are lost again and again.
        """
        from .flow import Flow

        flow = Flow(self._connection.ray, work, seconds=self._seconds, timing=timing)
        with closing(flow.results(items)) as results:
            for chunk in results:
                yield from chunk

    def close(self) -> None:
        """Let go of the cluster; one that was started for the purpose ends."""
        self._connection.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
