"""A frozen network up to the layer whose numbers are a photo's features."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import engine, graph, loading, metadata, models, store, taught, weights
from .. import engine as engines
from ..errors import InvalidModelError, UsageError, WeightsMismatchError
from ..graph import head
from ..member import BATCH, Network, layer_before_classes
from ..taught import Origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ..classifier import Classifier
    from ..images import Recipe
    from ..models import Model
    from ..recipes import Views

POOLED = "block5_pool"  # the last map of a VGG, whose average over all places makes good features too


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network, the layer to read, and the recipe by which it looks at photos.

    `model` says what it is, without labels where it has no classes of its own. Of a `layer` that is a map, such as
    `block5_pool` of a VGG, the average over all places is taken. `recipe` may have several views of one size.
    """

    model: Model
    network: Network
    layer: str
    recipe: Recipe

    def __post_init__(self) -> None:
        if self.recipe.views == "dense":
            raise UsageError(
                "views dense: features are of pictures of one size. Expected one, mirror, ten-crop or multi-crop."
            )

    @classmethod
    def of(cls, classifier: Classifier, *, layer: str | None = None) -> Backbone:
        """Return the backbone of a classifier; `layer` is by default the last before its classes.

        Raises UsageError for a classifier of several networks, or one whose layer has to be said.
        """
        member, *others = classifier.members
        if others or member.network is None:
            raise UsageError(
                "expected a classifier of one network, as photolabel.load makes it, to take features from."
            )
        return cls(
            model=member.model,
            network=member.network,
            layer=layer or member.layer_before_classes(),
            recipe=member.recipe,
        )

    @cached_property
    def origin(self) -> Origin:
        """What a taught network's file says of it: all that its features depend on.

        Raises UsageError for a layer that is not there, and `InvalidModelError` for a file that is no sound network.
        """
        return Origin(
            name=self.model.name,
            network=head.digest(self.network.path, self.layer),
            layer=self.layer,
            recipe=self.recipe,
            precision=self.precision,
        )

    @cached_property
    def precision(self) -> str:
        """The arithmetic in which it runs: `fp32`; that of an 8-bit network is `int8`, whatever is asked for."""
        stored = metadata.read(self.network.path).get("photolabel.precision")
        return "int8" if stored == "int8" else self.network.precision

    @property
    def source(self) -> str:
        """Where it comes from, in words. A head that was taught on it before is no part of it, and not told of.

        Raises `InvalidModelError` for a file whose description is broken.
        """
        before = taught.parse(metadata.read(self.network.path))  # no head is ever taught on another one
        return self.model.source if before is None else self.model.source.removeprefix(source_of(before.origin))

    def open(self) -> Opened:
        """Return it ready to run; close it, or use it in a `with` block. Raises UsageError for a layer not there."""
        return Opened(self)


class Opened:
    """A backbone ready to run. `dimensions` is how many numbers a view gives, `averaged` whether they are a map's."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._run = backbone.network.open(engine.Cut(layers=(backbone.layer,), only=True))
        (shape,) = self._run.shapes.values()
        if len(shape) not in (2, 4) or not shape[-1]:
            self._run.close()
            raise UsageError(
                f"layer {backbone.layer} of {backbone.model.name} has the shape {shape}: expected numbers, "
                "(N, numbers), or a map, (N, height, width, channels)."
            )
        self.dimensions: int = shape[-1]
        self.averaged = len(shape) == 4

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the features of prepared views: uint8 (N, size, size, 3) RGB 0..255 -> float32 (N, dimensions)."""
        found = np.empty((len(pixels), self.dimensions), np.float32)
        for chosen in np.array_split(np.arange(len(pixels)), -(-len(pixels) // BATCH)):
            made = self._run(pixels[chosen].astype(np.float32))
            found[chosen] = made.mean(axis=(1, 2)) if self.averaged else made
        return found

    def close(self) -> None:
        """Free its memory; closing twice does no harm."""
        self._run.close()

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def source_of(origin: Origin) -> str:
    """Return the words that a taught network's source begins with, before that of the network under it."""
    return f"a head taught on layer {origin.layer} of {origin.name}, {origin.network}: "


def find(
    model: str | os.PathLike[str] | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    classes: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    recipe: str | None = None,
    views: Views = "one",
    precision: str = "fp32",
    threads: int | None = None,
    engine: str = "openvino",
) -> Backbone:
    """Return the backbone that a model makes, as `photolabel.load` takes it, whose `labels` are `classes` here.

    `layer` is by default the last before its classes. `weights` of a VGG may be without the dense layers, as Keras
    publishes them ("notop"): then it is the average of its last map. Raises UsageError for a layer that has to be said,
    and what `photolabel.load` raises.
    """
    try:
        known, network, looked = loading.find(
            model, weights=weights, labels=classes, recipe=recipe, precision=precision, threads=threads, engine=engine
        )
    except WeightsMismatchError:
        if weights is None:
            raise
        named = models.fitting(Path(weights)).name if model is None else os.fspath(model)
        try:
            found = without_top(
                named, Path(weights), recipe=recipe, precision=precision, threads=threads, runtime=engine
            )
        except (WeightsMismatchError, UsageError):  # it is not that either: what was wrong first says more
            found = None
        if found is None:
            raise
        if precision == "int8":
            raise UsageError(
                f"{weights}: weights without dense layers run as fp32 or bf16. For 8-bit integers teach first: "
                "photolabel export FILE.onnx --precision int8 -o FILE8.onnx."
            ) from None
        return replace(found, layer=layer or found.layer, recipe=replace(found.recipe, views=views))
    return Backbone(
        model=known,
        network=network,
        layer=layer or layer_before_classes(known, network),
        recipe=replace(looked, views=views),
    )


def again(
    made: Backbone,
    model: str | os.PathLike[str] | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    classes: str | os.PathLike[str] | None = None,
    recipe: str | None = None,
    precision: str = "fp32",
    threads: int | None = None,
    engine: str = "openvino",
) -> Callable[[], Backbone]:
    """Return what finds `made` again on another machine, and pickles. The other arguments are those of `find`."""
    try:
        found = loading.again(model, weights=weights, labels=classes, recipe=recipe)
    except WeightsMismatchError:
        if weights is None:
            raise
        # Those of the convolutions alone, of which only their file and the model's name are asked.
        named = models.fitting(Path(weights)).name if model is None else os.fspath(model)
        found = {"model": named, "weights": Path(weights).absolute(), "labels": None}
    return partial(
        find,
        found["model"],
        weights=found["weights"],
        classes=found["labels"],
        recipe=recipe,
        layer=made.layer,
        views=made.recipe.views,
        precision=precision,
        threads=threads or engines.available_threads(),
        engine=engine,
    )


def without_top(
    name: str,
    weights_file: Path,
    *,
    layer: str = POOLED,
    recipe: str | None = None,
    precision: str = "fp32",
    threads: int | None = None,
    runtime: str = "openvino",
) -> Backbone:
    """Return the known VGG of that name with the weights of its convolutions alone, as Keras publishes them ("notop").

    A file with all weights will do; what it says of classes is left aside. Raises UsageError for a model that is no
    known VGG, `WeightsMismatchError` and `InvalidWeightsError` for weights that are not its.
    """
    known = models.known().get(name)
    if known is None or known.spec is None or known.normalisation is None:
        able = ", ".join(each.name for each in models.known().values() if each.spec)
        raise UsageError(f"{name}: expected one of {able}, which have a convolutional base.")
    spec = replace(known.spec, top=False)
    cache = store.Store()
    digest = cache.known_digest(weights_file)
    model = replace(models.with_weights(known, digest), labels=(), spec=spec)
    described = {key: text for key, text in model.describe().items() if key.endswith((".spec", ".normalisation"))}
    made = f"{name}-notop-{digest.partition(':')[2][:16]}.onnx"
    if not cache.check(made):
        with cache.lock(made):
            if not cache.check(made):
                arrays = weights.read(weights_file, spec)
                if cache.known_digest(weights_file) != digest:
                    raise InvalidModelError(f"{weights_file}: it was changed while it was read. Try again.")
                with cache.create(made) as file:
                    for chunk in graph.build(spec, arrays, known.normalisation, describe=described):
                        file.write(chunk)
    network = Network(path=cache.path(made), precision=precision, threads=threads, runtime=runtime)
    return Backbone(model=model, network=network, layer=layer, recipe=known.recipe(recipe))
