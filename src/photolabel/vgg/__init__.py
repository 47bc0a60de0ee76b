"""The VGG family as objects to predict with, to look into, to take features from: Keras' `VGG16()` without Keras.

The functions `VGG16`, `VGG19`, `VGG13`, `VGG11` and `VGG16C` take Keras' arguments and check them as Keras does
(keras/applications/vgg16.py, imagenet_utils.py); they return a `VGG`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from .. import artefacts, models, spec, weights
from ..errors import MissingWeightsError, UsageError
from ..spec import Spec
from . import stored
from .network import MIN_SIDE, VGG

if TYPE_CHECKING:
    from ..weights import Arrays

__all__ = ["MIN_SIDE", "VGG", "VGG11", "VGG13", "VGG16", "VGG16C", "VGG19", "configured", "loaded"]

Pooling: TypeAlias = Literal["avg", "max"] | None
Activation: TypeAlias = Literal["softmax", "linear"] | None
Weights: TypeAlias = "str | os.PathLike[str] | Arrays | None"
Shape: TypeAlias = Sequence[int | None]


def VGG16(  # noqa: N802  # Keras' name
    include_top: bool = True,
    weights: Weights = "imagenet",
    *,
    input_shape: Shape | None = None,
    pooling: Pooling = None,
    classes: int = 1000,
    classifier_activation: Activation = "softmax",
) -> VGG:
    """Return VGG16 (configuration D), natively: no Keras is needed.

    `weights` is "imagenet", None for random ones (Glorot's, as Keras draws them), a file of any format that
    photolabel reads, or arrays by layer as `VGG.weights` gives them. With "imagenet" they are fetched if they are not
    on this machine (553 MB), as `photolabel.load("vgg16")` does. `include_top=False` leaves the dense layers out;
    then `input_shape` may be any (height, width, 3) of at least 32 pixels, None for any, and `pooling` averages
    ("avg") or takes the maximum ("max") over all places. `classes` and an `input_shape` of a network with its
    top are for weights other than "imagenet". `classifier_activation` None or "linear" gives logits.
    Raises `UsageError`, which is a ValueError, where Keras raises ValueError, and what loading weights raises.
    """
    return _make(spec.VGG16, include_top, weights, input_shape, pooling, classes, classifier_activation)


def VGG19(  # noqa: N802
    include_top: bool = True,
    weights: Weights = "imagenet",
    *,
    input_shape: Shape | None = None,
    pooling: Pooling = None,
    classes: int = 1000,
    classifier_activation: Activation = "softmax",
) -> VGG:
    """Return VGG19 (configuration E); everything else as in `VGG16`. Its weights are 575 MB."""
    return _make(spec.VGG19, include_top, weights, input_shape, pooling, classes, classifier_activation)


def VGG11(  # noqa: N802
    include_top: bool = True,
    weights: Weights = None,
    *,
    input_shape: Shape | None = None,
    pooling: Pooling = None,
    classes: int = 1000,
    classifier_activation: Activation = "softmax",
) -> VGG:
    """Return configuration A of the paper, for which there are no published weights here; as in `VGG16` otherwise."""
    return _make(spec.VGG11, include_top, weights, input_shape, pooling, classes, classifier_activation)


def VGG13(  # noqa: N802
    include_top: bool = True,
    weights: Weights = None,
    *,
    input_shape: Shape | None = None,
    pooling: Pooling = None,
    classes: int = 1000,
    classifier_activation: Activation = "softmax",
) -> VGG:
    """Return configuration B of the paper, for which there are no published weights here; as in `VGG16` otherwise."""
    return _make(spec.VGG13, include_top, weights, input_shape, pooling, classes, classifier_activation)


def VGG16C(  # noqa: N802
    include_top: bool = True,
    weights: Weights = None,
    *,
    input_shape: Shape | None = None,
    pooling: Pooling = None,
    classes: int = 1000,
    classifier_activation: Activation = "softmax",
) -> VGG:
    """Return configuration C of the paper, with 1 x 1 convolutions; no published weights; as in `VGG16` otherwise."""
    return _make(spec.VGG16C, include_top, weights, input_shape, pooling, classes, classifier_activation)


def _make(
    family: Spec,
    include_top: bool,
    given: Weights,
    input_shape: Shape | None,
    pooling: Pooling,
    classes: int,
    activation: Activation,
) -> VGG:
    made = configured(
        family,
        include_top=include_top,
        weights=given,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=activation,
    )
    return loaded(made, given, kind=VGG)


def configured(
    family: Spec,
    *,
    include_top: bool,
    weights: Weights,
    input_shape: Shape | None,
    pooling: Pooling,
    classes: int,
    classifier_activation: Activation,
) -> Spec:
    """Return the architecture that Keras' arguments ask for. Raises `UsageError` where Keras raises ValueError."""
    published = isinstance(weights, str) and weights == "imagenet"
    if published and family.name.lower() not in models.known():
        raise UsageError(f"weights='imagenet': there are none of {family.name}. Expected None or a file.")
    if published and include_top and classes != 1000:
        raise UsageError(f"classes={classes!r}: with weights='imagenet' and the top there are 1000.")
    if input_shape is not None and not (isinstance(input_shape, Sequence) and len(input_shape) == 3):
        raise UsageError(f"input_shape={input_shape!r}: expected (height, width, channels).")
    shape = None if input_shape is None else tuple(input_shape)
    if published and include_top and shape not in (None, family.shape):
        raise UsageError(f"input_shape={shape}: with weights='imagenet' and the top it is {family.shape}.")
    if published and shape is not None and shape[2] != 3:
        raise UsageError(f"input_shape={shape}: with weights='imagenet' there are 3 channels.")
    height, width, channels = shape or (family.shape if include_top else (None, None, 3))
    for side in (height, width):
        if isinstance(side, int) and side < MIN_SIDE:
            raise UsageError(f"input_shape={shape}: expected at least {MIN_SIDE} x {MIN_SIDE} pixels.")
    return replace(
        family,
        classes=classes,
        shape=(height, width, channels),  # type: ignore[arg-type]  # checked by Spec itself
        top=bool(include_top),
        # As in Keras, what is of the other kind of network has no say.
        pooling=None if include_top else pooling,
        activation=(classifier_activation or "linear") if include_top else "softmax",
    )


V = TypeVar("V", bound="VGG")


def loaded(made: Spec, given: Weights, *, kind: type[V]) -> V:
    """Return the network `made`, of the class `kind`, with weights as `VGG16` takes them."""
    if given is None:
        return kind(made)
    if isinstance(given, Mapping):
        own = {name: given[name] for name in given if made.top or name in made.learned}
        weights.check(own, made)
        return kind(made, arrays=own)
    if given == "imagenet":
        model = models.known()[made.name.lower()]
        return kind(made, path=artefacts.locate(model))
    path = Path(given)
    if not os.path.isfile(path):  # noqa: PTH113  # pathlib raises for a name that is too long
        raise MissingWeightsError(f"{str(given)[:200]}: no such weights file. Expected None, 'imagenet' or a file.")
    normalisation, arrays = stored.read(made, path)
    return kind(made, normalisation=normalisation, arrays=arrays)
