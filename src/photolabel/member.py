"""One network, and how it looks at photos: what a classifier is made of."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import engine, graph, store
from .errors import InvalidModelError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .images import Recipe
    from .models import Model

BATCH = 16  # inputs in one run of the network: more are no faster


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network's file and how it is run."""

    path: Path
    precision: str
    threads: int | None
    runtime: str

    def open(self, cut: engine.Cut = engine.WHOLE) -> engine.Engine:
        """Return the network, or a cut of it, ready to run."""
        return engine.open_engine(
            self.path, precision=self.precision, threads=self.threads, cut=cut, runtime=self.runtime
        )


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What a network says of the views of one photo.

    `probabilities` are float32 (views, classes), 0..1; `familiarity`, of a taught network, float32 (views,), -1..1: how
    near each view is to the photos of its classes. None of a network that does not say.
    """

    probabilities: NDArray[np.float32]
    familiarity: NDArray[np.float32] | None = None


def layer_before_classes(model: Model, network: Network) -> str:
    """Return the name of the layer that the classes are read from. Raises `UsageError` where none is known as such."""
    names = [layer.name for layer in model.spec.layers] if model.spec else engine.layer_names(network.path)
    found = next((name for name in engine.BEFORE_CLASSES if name in names), None)
    if found is None:
        raise UsageError(
            f"{model.name} does not name the layer before its classes {' or '.join(engine.BEFORE_CLASSES)}: "
            f"say which, as in layer={names[-2:][0]!r}. Its last ones: {', '.join(names[-6:])}."
        )
    return found


def features_cut(layer: str) -> engine.Cut:
    """Return the part of a network that gives what `features` reads off a layer."""
    return engine.Cut(layers=(layer,), only=True)


def features(running: engine.Engine, batch: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Return what a network up to a layer makes of photos, each (size, size, 3) uint8, RGB 0..255: float32 (N, ...)."""
    return running(np.stack(batch).astype(np.float32))


class Member:
    """A model, its network ready to run, and the recipe by which it looks at photos. Safe to use from several threads.

    `network` is where the network came from, None for one that was not read from a file. `floor` is the familiarity, by
    the network's own output, below which a photo shows none of its classes; None where nobody learnt it. Raises
    `InvalidModelError` where network, labels and recipe do not go together.
    """

    def __init__(
        self,
        model: Model,
        run: engine.Engine,
        recipe: Recipe,
        network: Network | None = None,
        *,
        floor: float | None = None,
    ) -> None:
        self.model, self.recipe, self.network = model, recipe, network
        self._run = run
        self._part: tuple[engine.Cut, engine.Engine] | None = None
        self._closed = False
        self._lock = threading.Lock()
        side, (main, *_) = recipe.size, run.shapes.values()
        pictures = len(run.shape) == 4 and run.shape[0] in (None, 1) and run.shape[3] in (None, 3)
        if not pictures or len(main) != 2 or main[1] is None:
            raise InvalidModelError(
                f"{model.name}: expected a network from pixels (N, height, width, 3) to probabilities (N, classes)."
            )
        self._tells = graph.FAMILIARITY in run.shapes
        if self._tells and len(run.shapes[graph.FAMILIARITY]) != 1:
            raise InvalidModelError(f"{model.name}: expected one familiarity a photo, float32 (N,).")
        self.floor = floor if self._tells else None
        if main[1] != len(model.labels):
            raise InvalidModelError(f"{model.name} names {len(model.labels)} classes but its network has {main[1]}.")
        if not all(have in (None, side) for have in run.shape[1:3]):
            raise InvalidModelError(
                f"{model.name}: its network takes {run.shape[2]} x {run.shape[1]} pixels, but the recipe "
                f"{recipe.name} makes {side} x {side}."
            )

    @property
    def precision(self) -> str:
        """The arithmetic in use: `fp32`."""
        return self._run.precision

    @property
    def runtime(self) -> str:
        """What runs the network, a key of `engine.RUNTIMES`."""
        return self._run.runtime

    @property
    def digest(self) -> str | None:
        """`sha256:` and the hash of the network's file; None if there is none."""
        return None if self.network is None else store.Store().known_digest(self.network.path)

    @property
    def identity(self) -> list[Any]:
        """What its probabilities depend on, as plain values: the network, the recipe, the precision."""
        return [self.digest, self.recipe.to_dict(), self.precision]

    def run(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities of prepared pixels, float32 (N, height, width, 3) RGB 0..255: float32 (N, classes).

        Raises `InvalidModelError` for what are no probabilities.
        """
        return self._checked(self._run(pixels))

    def _checked(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        # In rounding, 1000 classes miss a sum of 1 by some 1e-6.
        if not (probabilities.min() >= 0 and np.abs(probabilities.sum(axis=1) - 1).max() <= 1e-3):
            raise InvalidModelError(
                f"{self.model.name}: its network does not answer with probabilities, which lie in 0..1 and sum to 1. "
                "Does it end before its softmax?"
            )
        return probabilities

    def opinions(self, photos: Sequence[Sequence[NDArray[np.uint8]]]) -> list[Said]:
        """Return what the network says of each view of each photo, in order.

        Views are (height, width, 3) uint8, RGB 0..255. Those of one size run together, in batches of about `BATCH`
        inputs of the recipe's own size, whichever photo they are of.
        """
        found = [
            Said(
                np.empty((len(views), len(self.model.labels)), np.float32),
                np.empty(len(views), np.float32) if self._tells else None,
            )
            for views in photos
        ]
        alike: defaultdict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
        for photo, views in enumerate(photos):
            for view, pixels in enumerate(views):
                alike[pixels.shape].append((photo, view))
        for (height, width, _), places in alike.items():
            most = max(1, BATCH * self.recipe.size**2 // (height * width))
            batches = np.array_split(np.arange(len(places)), -(-len(places) // most))
            room = np.empty((len(batches[0]), height, width, 3), np.float32)  # of all batches: new memory takes time
            for batch in batches:
                chosen, inputs = [places[i] for i in batch], room[: len(batch)]
                for place, (photo, view) in zip(inputs, chosen, strict=True):
                    place[...] = _straight(photos[photo][view])
                outputs = self._run.run(inputs)
                probabilities, familiarity = self._checked(next(iter(outputs.values()))), outputs.get(graph.FAMILIARITY)
                for row, (photo, view) in enumerate(chosen):
                    found[photo].probabilities[view] = probabilities[row]
                    if (told := found[photo].familiarity) is not None and familiarity is not None:
                        told[view] = familiarity[row]
        return found

    def part(self, cut: engine.Cut) -> engine.Engine:
        """Return a cut of the network, opened at the first use and kept until another is asked for; not to be closed.

        Raises `UsageError` for a layer that is not there.
        """
        with self._lock:
            if self._closed:
                raise UsageError("this classifier is closed.")
            if self.network is None:
                raise UsageError("only a classifier made by photolabel.load has parts.")
            if self._part is None or self._part[0] != cut:
                self._part = None  # let go of first, but not closed: another thread may be at work with it
                self._part = (cut, self.network.open(cut))
            return self._part[1]

    def layer_before_classes(self) -> str:
        """Return the name of the layer that the classes are read from. Raises `UsageError` where it has none."""
        if self.network is None:
            raise UsageError("only a classifier made by photolabel.load gives features.")
        return layer_before_classes(self.model, self.network)

    def close(self) -> None:
        """Free the network's memory. Closing twice does no harm."""
        self._run.close()
        with self._lock:
            self._closed = True
            if self._part is not None:
                self._part[1].close()
                self._part = None


def _straight(view: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same, a mirror image as it lies in memory: made pixel by pixel, for number by number takes longer."""
    if view.strides[1:] != (-3, 1):
        return view
    return np.ascontiguousarray(view.view("V3")).view(np.uint8)
