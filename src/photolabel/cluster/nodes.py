"""What runs on the machines of a cluster: decoding in tasks, the network in actors."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .. import remote as elsewhere
from ..errors import PhotoUnavailableError, UsageError
from ..workers import Crew

if TYPE_CHECKING:
    from ..images import Limits, Recipe
    from ..prepared import Prepared
    from ..sources import Item
    from .work import Work


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What a task tells of a chunk that it has prepared: where, how long it took, and which files are not there."""

    node: str
    missing: tuple[str, ...]
    reading: float
    decoding: float


_ELSEWHERE = 3  # decoders of a task whose photos are on an object store: most of the time they wait for it

_crews: dict[tuple[int, float], Crew] = {}  # of this process of Ray's, which does one task after the other
_lock = threading.Lock()


def _crew(count: int, seconds: float) -> Crew:
    with _lock:
        if (count, seconds) not in _crews:
            _crews[count, seconds] = Crew(count, seconds=seconds)
        return _crews[count, seconds]


def decode(
    items: Sequence[Item], recipes: Sequence[Recipe], limits: Limits, seconds: float
) -> tuple[Decoded, list[Prepared]]:
    """Read, decode and prepare some photos, in a process that may die of them."""
    import ray

    urls = {item.url.partition("://")[0]: item.url for item in items if item.url}
    for url in urls.values():
        elsewhere.check(url)  # what this machine lacks is no error of the photos
    crew = _crew(_ELSEWHERE if urls else 1, seconds)
    try:
        made = [each.result() for each in [crew.prepare(item, *recipes, limits=limits) for item in items]]
    except UsageError as error:  # another machine may be able to, or this one later
        raise OSError("a machine of the cluster cannot start a process to decode in") from error
    for each in made:
        if isinstance(each.error, PhotoUnavailableError):  # another machine may have it, or this one later
            raise OSError(f"{each.photo}: {each.error}")
    missing = tuple(
        item.path
        for item, each in zip(items, made, strict=True)
        if each.error is not None and each.error.code == "photo-not-found" and item.error is None and item.path
    )
    told = Decoded(
        node=ray.get_runtime_context().get_node_id(),
        missing=missing,
        reading=sum(each.seconds.reading for each in made),
        decoding=sum(each.seconds.decoding for each in made),
    )
    return told, made


class Namer:
    """A network on one machine, loaded once."""

    def __init__(self) -> None:
        self._work: Work[Any] | None = None
        self._count: Any = None

    def load(self, work: bytes, identity: dict[str, str | None], version: str) -> str:
        """Load the network, from this machine's cache; return the version of photolabel here.

        Where that is not the driver's `version`, nothing is loaded. Not when it is made: what loading raises would come
        as an error of Ray's.
        """
        if version != __version__:
            return __version__
        # Our own driver's bytes: whoever can send others runs what he likes here anyway.
        self._work = pickle.loads(work)  # noqa: S301
        from ray.util.metrics import Counter

        # How far it is, for Ray's dashboard and whoever else reads its metrics.
        self._count = Counter("photolabel_photos", description="Photos done, by machines that have photolabel at work.")
        assert self._work is not None
        self._work.check_same(identity)
        return __version__

    def name(self, prepared: Sequence[Prepared]) -> tuple[list[Any], float]:
        """Return what is said of some photos, and how many seconds it took."""
        work, begun = self._work, time.perf_counter()
        assert work is not None
        size = work.batch
        said = [each for start in range(0, len(prepared), size) for each in work(prepared[start : start + size])]
        if said:
            self._count.inc(len(said))
        return said, time.perf_counter() - begun


def absolute(path: str) -> str:
    """Return a path as another process finds it, whatever its current folder."""
    return path and os.path.join(Path.cwd(), path)  # noqa: PTH118  # as it was given: pathlib would tidy it


def remote(ray: Any) -> tuple[Any, Any]:
    """Return Ray's forms of `decode` and `Namer`.

    A task takes a processor. An actor takes none, as in the local pipeline, where decoders and network share all
    processors and the system divides them: a machine of one processor could have no decoder else.
    """
    task = ray.remote(num_cpus=1, num_returns=2, max_retries=0)(decode)
    actor = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)(Namer)
    return task.options(name="photolabel: decode"), actor
