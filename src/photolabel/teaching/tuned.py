"""What Keras trained -> a network in ONNX, the head on it, and what held-out photos say of both."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import engine, graph, images, store
from ..errors import InvalidModelError
from . import activations, familiar, folds, heads
from .epochs import judge
from .solving import one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..models import Model
    from ..weights import Arrays
    from .backbone import Backbone
    from .epochs import Seen, Trainer
    from .familiar import Familiar
    from .heads import Head

_NEAR = 1e-3  # how far the network in ONNX may be from what Keras makes, as a part of its largest number


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A tuned network: its `backbone`, the head on it, and what the held-out photos say of both.

    `probabilities` are float32 (held-out photos, classes), 0..1, `scores` how familiar they are, float32 (photos,).
    `temperature` is what the logits were divided by, for the head and for `probabilities` alike.
    """

    backbone: Backbone
    head: Head
    temperature: float
    known: Familiar
    probabilities: NDArray[np.float32]
    scores: NDArray[np.float32]


def network(
    trainer: Trainer,
    arrays: Arrays,
    learnt: Seen,
    held: Seen,
    *,
    base: Backbone,
    below: str,
    blocks: int,
    began: Head,
    classes: int,
    name: str,
    stack: ExitStack,
) -> Network:
    """Return what was trained as a network, whose file is in the cache under that `name` until `stack` is closed.

    `arrays` are the weights of `base`, whose last `blocks`, behind the layer `below`, were trained, and `began` is the
    head that they were trained from. Its temperature and what is familiar are learnt of `held`.

    Raises `InvalidModelError` where the network computes something else than Keras does, and what `Store.create`
    raises.
    """
    features, logits = trainer.look(held)
    temperature = judge(logits, held.truth)[2]
    weights = trainer.weights
    head = heads.Head(
        weights=weights["logits/kernel"] / np.float32(temperature),
        bias=weights["logits/bias"] / np.float32(temperature),
        kind="logistic",
        strength=began.strength,
    )
    with one_thread():
        known = _familiar(trainer.look(learnt)[0], learnt.truth, features, held.truth, classes)
    backbone = _written(trainer, arrays, base, blocks, name, stack)
    _compare(trainer, backbone, below)
    return Network(
        backbone=backbone,
        head=head,
        temperature=temperature,
        known=known,
        probabilities=head.probabilities(features),
        scores=known.scores(features),
    )


def _written(trainer: Trainer, arrays: Arrays, base: Backbone, blocks: int, name: str, stack: ExitStack) -> Backbone:
    model, weights = base.model, trainer.weights
    assert model.spec is not None
    tuned = {
        layer: (weights[f"{layer}/kernel"], weights[f"{layer}/bias"]) if f"{layer}/kernel" in weights else pair
        for layer, pair in arrays.items()
    }
    what = "last block" if blocks == 1 else f"last {blocks} blocks"
    made = replace(
        model,
        name=f"{model.name}, fine-tuned",
        labels=(),
        spec=replace(model.spec, top=False),
        accuracy=None,
        weights=None,
        path=None,
        source=f"fine-tuned in its {what} from {model.name}, {base.origin.network}: {model.source}",
    )
    return replace(base, model=made, network=replace(base.network, path=kept(made, tuned, name, stack)))


def kept(model: Model, arrays: Arrays, name: str, stack: ExitStack) -> Path:
    """Return where the network of a model and its weights lies as ONNX: in the cache, until `stack` is closed.

    Raises what `Store.create` raises.
    """
    assert model.spec is not None
    described = {key: text for key, text in model.describe().items() if key.endswith((".spec", ".normalisation"))}
    cache, file_name = store.Store(store.cache_folder() / activations.FOLDER), f"{name}.onnx"
    stack.enter_context(cache.lock(file_name))
    stack.callback(cache.remove, file_name)
    with cache.create(file_name) as file:
        for chunk in graph.build(model.spec, arrays, model.normalisation, describe=described):
            file.write(chunk)
    return cache.path(file_name)


def _compare(trainer: Trainer, backbone: Backbone, below: str) -> None:
    """Raise `InvalidModelError` unless the network makes of a photo what Keras makes of it."""
    folder = resources.files("photolabel").joinpath("data", "calibration")
    photo = min(folder.iterdir(), key=lambda each: each.name)
    pixels = images.prepare(images.read(photo.read_bytes()), backbone.recipe.plain)[np.newaxis]
    running = backbone.network.open(engine.Cut(layers=(below, backbone.layer), only=True))
    try:
        found = running.run(pixels)
    finally:
        running.close()
    made = trainer.features(found[below])
    near = _NEAR * max(1.0, float(np.abs(made).max()))
    if not np.allclose(found[backbone.layer].mean(axis=(1, 2)), made, rtol=0, atol=near):
        raise InvalidModelError(
            f"what Keras on {trainer.backend} trained does not compute the same as a network in ONNX. Try another "
            "backend (KERAS_BACKEND)."
        )


def _familiar(
    learnt: NDArray[np.float32],
    truth: NDArray[np.intp],
    held: NDArray[np.float32],
    held_truth: NDArray[np.intp],
    classes: int,
) -> Familiar:
    """The classes' directions by the photos that were learnt from, and the line that the others draw."""
    never = np.full(len(truth), folds.NEVER)
    by_held = familiar.learn(
        np.concatenate([learnt, held]),
        np.concatenate([truth, held_truth]),
        np.concatenate([never, np.zeros(len(held_truth), never.dtype)]),
        classes=classes,
    )
    known = familiar.learn(learnt, truth, never, classes=classes)
    return replace(known, floor=by_held.floor, photos=by_held.photos)
