"""Features that the machines of a cluster compute, of photos that they prepare: the same as they would be here."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine import available_threads
from ..errors import PhotoError, UsageError
from ..member import BATCH
from . import adding
from .backbone import Opened
from .fingerprint import BYTES, fingerprint
from .solving import one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..batch import Timing
    from ..cluster import Cluster
    from ..images import Limits, Recipe
    from ..prepared import Prepared
    from ..sources import Item
    from .backbone import Backbone


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Felt:
    """The features of one photo, as `features.Features` has them, and the SHA-256 of its file, 32 bytes.

    `numbers` are float32 (views, dimensions), `fingerprint` is uint8 (32,).
    """

    digest: bytes
    numbers: NDArray[np.float32]
    fingerprint: NDArray[np.uint8]


def digest(photo: Prepared) -> bytes:
    """Return the SHA-256 of a photo that was read from a file, 32 bytes."""
    assert photo.file is not None
    return bytes.fromhex(photo.file.sha256)


def felt(
    photos: Sequence[Prepared], recipe: Recipe, run: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
) -> list[Felt]:
    """Return the features of photos that could be prepared by `recipe`; `run` makes those of all their views."""
    if not photos:
        return []
    made = run(np.stack([view for each in photos for view in each.views]))
    numbers = made.reshape(len(photos), recipe.inputs, -1)
    return [
        Felt(digest=digest(each), numbers=of_photo, fingerprint=fingerprint(each.views[recipe.middle]))
        for each, of_photo in zip(photos, numbers, strict=True)
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Elsewhere:
    """A cluster, and how its machines find the backbone: `find` pickles, and returns it wherever it is called."""

    cluster: Cluster
    find: Callable[[], Backbone]

    def stream(
        self, items: Iterable[Item], running: Opened, limits: Limits, timing: Timing | None
    ) -> Generator[Felt | PhotoError]:
        """Yield the features of each item's photo, or what is wrong with it, in their order.

        Raises what `Cluster.through` raises, and UsageError where a machine has another backbone than `running`.
        """
        work = Featuring(running=running, limits=limits, find=self.find)
        yield from self.cluster.through(items, work, timing=timing)


def added(path: Path, threads: int, engine: str) -> Backbone:
    """Return the backbone of a network that was taught before, for `Elsewhere.find`."""
    return adding.earlier(path).backbone(threads=threads, engine=engine)


@dataclass(frozen=True, kw_only=True, eq=False)
class Featuring:
    """What becomes of prepared photos, as `cluster.work.Work` has it: their features.

    Pickles: the other side finds the backbone again, and `check_same` says whether it is the same.
    """

    running: Opened
    limits: Limits
    find: Callable[[], Backbone]

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """How photos are to be prepared."""
        return (self.running.backbone.recipe,)

    @property
    def batch(self) -> int:
        """How many photos to do together: about `BATCH` inputs."""
        return -(-BATCH // self.running.backbone.recipe.inputs)

    @property
    def threads(self) -> int:
        """How many processors one network uses."""
        return self.running.backbone.network.threads or available_threads()

    @property
    def told(self) -> int:
        """How many bytes are said of a photo."""
        return self.running.backbone.recipe.inputs * self.running.dimensions * np.float32().nbytes + BYTES

    @property
    def identity(self) -> dict[str, str | None]:
        """All that features depend on."""
        origin = self.running.backbone.origin
        recipe = json.dumps(origin.recipe.to_dict(), sort_keys=True)
        return {"network": origin.network, "layer": origin.layer, "recipe": recipe, "precision": origin.precision}

    def check_same(self, identity: dict[str, str | None]) -> None:
        """Raise `UsageError` where features would be others than those of another machine, whose `identity` it is."""
        if self.identity != identity:
            raise UsageError(
                f"the network {self.running.backbone.model.name} is not the same on all machines. Give every machine "
                "the same file."
            )

    def __call__(self, batch: Sequence[Prepared]) -> list[Felt | PhotoError]:
        """Return the features of each photo, in the same order, or its error."""
        sound = [each for each in batch if each.error is None]
        with one_thread():  # those of linear algebra would spin beside those of the network: see features.compute
            made = iter(felt(sound, self.running.backbone.recipe, self.running))
        return [next(made) if each.error is None else each.error for each in batch]

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.find, self.limits)


def _again(find: Callable[[], Backbone], limits: Limits) -> Featuring:
    return Featuring(running=find().open(), limits=limits, find=find)
