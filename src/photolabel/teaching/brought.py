"""What somebody trained by hand in Keras -> the one file that names their classes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import engine, images, keras, models, spec, taught, weights, writing
from ..errors import UsageError, WeightsMismatchError
from ..member import Network
from ..truth.classes import NoClassError
from . import heads, saving, tuned
from .backbone import Backbone
from .examples import class_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..images import Recipe
    from ..models import Model
    from ..spec import Spec
    from ..weights import Arrays

_NEAR = 1e-3  # how far probabilities may be from Keras' own


def from_keras(
    model: Any, out: str | os.PathLike[str], *, classes: Sequence[str], recipe: Recipe | None = None
) -> Model:
    """Write a `keras.Model` that somebody trained as an ONNX file that names its classes; return it as a model.

    `model` is the convolutions of VGG16 or VGG19 (`photolabel.keras.VGG16(include_top=False)`), the average of their
    last map, and one dense layer with a softmax. What `preprocess_input` makes is its input; the file's is plain
    pixels. `classes` are the names of its outputs, in order. `recipe` is how photos are prepared for it, by default
    as for ImageNet's: the shorter side scaled to 256, and 224 x 224 cut from the middle, or as much at the model's own
    size. The file is tried before it gets its name: on a photo it must say what Keras says.

    Raises `WeightsMismatchError` for a model that is built otherwise, UsageError for classes and a recipe that do not
    go with it, and what `saving.save` raises.
    """
    path = Path(out)
    writing.check(path)
    try:
        names = [class_name(each) for each in classes]
    except NoClassError as error:
        raise UsageError(f"{error}.") from None
    arrays, head = _parted(model)
    family = next(each for each in _FAMILIES if len(each.learned) == len(arrays))
    weights.check(arrays, family)
    channels = family.layers[-1].shape[-1]
    if len(head[0]) != channels:
        raise WeightsMismatchError(
            f"the dense layer takes {len(head[0])} numbers: expected the {channels} of the last map's average "
            "(pooling='avg')."
        )
    if len({*names}) != head[0].shape[1] or len(names) != head[0].shape[1] or len(names) < 2:
        raise UsageError(
            f"expected the names of the {head[0].shape[1]} classes of the model, all different; got {len(names)}."
        )
    looked = recipe or _recipe(model)
    if looked.inputs != 1:
        raise UsageError(f"recipe {looked}: expected one with one view.")
    known = models.known()[family.name.lower()]
    made = replace(
        known,
        name=family.name.lower(),
        labels=(),
        recipes=(looked,),
        spec=replace(family, shape=(looked.size, looked.size, 3)),
        source="weights of the user's own, trained in Keras",
        licence="unknown: that of the weights",
        accuracy=None,
        weights=None,
    )
    with ExitStack() as stack:
        file = tuned.kept(made, arrays, hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32], stack)
        network = Network(path=file, precision="fp32", threads=None, runtime="openvino")
        last = family.layers[-1].name
        _compare(model, network, last, looked, head)
        return saving.save(
            path,
            Backbone(model=made, network=network, layer=last, recipe=looked),
            *head,
            labels=names,
            examples=(),
            averaged=True,
            kind=taught.TUNED,
        )


_FAMILIES: tuple[Spec, ...] = tuple(replace(each, top=False) for each in (spec.VGG16, spec.VGG19))


def _parted(model: Any) -> tuple[Arrays, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The convolutions of a model, also where they are a model within it, and its one dense layer."""
    found = dict(keras.weights(model))
    for layer in model.layers:
        if hasattr(layer, "layers"):
            found.update(keras.weights(layer))
    others = [name for name, (kernel, _) in found.items() if kernel.ndim != 4]
    if len(others) != 1 or found[others[0]][0].ndim != 2 or len(found) - 1 not in {len(f.learned) for f in _FAMILIES}:
        raise WeightsMismatchError(
            "expected the convolutions of VGG16 or VGG19, the average of their last map, and one dense layer: "
            "keras.layers.Dense(classes, activation='softmax')(photolabel.keras.VGG16(include_top=False, "
            f"pooling='avg').output). Layers with weights are: {', '.join(found) or 'none'}."
        )
    head = found.pop(others[0])
    return found, head


def _recipe(model: Any) -> Recipe:
    """The usual recipe, at the size of the model's input where that has one."""
    usual, size = images.CROP, model.input_shape[1]
    if size is None or size == usual.size:
        return usual
    assert usual.side is not None
    return replace(usual, size=size, side=round(size * usual.side / usual.size))


def _compare(
    model: Any, network: Network, last: str, recipe: Recipe, head: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> None:
    folder = resources.files("photolabel").joinpath("data", "calibration")
    photo = min(folder.iterdir(), key=lambda each: each.name)
    pixels = images.prepare(images.read(photo.read_bytes()), recipe)[np.newaxis]
    running = network.open(engine.Cut(layers=(last,), only=True))
    try:
        features = running(pixels).mean(axis=(1, 2))
    finally:
        running.close()
    entering = pixels[..., ::-1] - np.array(models.CAFFE.mean, np.float32)
    said = np.asarray(model.predict_on_batch(entering))
    expected = heads.softmax(features @ head[0] + head[1])
    if said.shape != expected.shape or not np.allclose(said, expected, rtol=0, atol=_NEAR):
        raise WeightsMismatchError(
            "of a photo the model does not say what its weights should: expected it to take what preprocess_input "
            "makes, to average the last map over all places, and to end in one dense layer with a softmax."
        )
