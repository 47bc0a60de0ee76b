"""The VGG family as true `keras.Model`s, trainable, with weights from photolabel's store; and their weights back.

>>> import photolabel.keras
>>> model = photolabel.keras.VGG16(include_top=False, pooling="avg")     # a keras.Model on whichever backend there is
>>> native = photolabel.VGG16(False, photolabel.keras.weights(model), pooling="avg")

Keras itself is the extra `keras`; it is imported when a function is called.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import extras, spec, vgg
from .errors import MissingExtraError, UsageError, WeightsMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from .spec import Layer, Spec
    from .vgg import Pooling, Shape, Weights
    from .weights import Arrays

    Activation = str | Callable[[Any], Any] | None

BACKENDS = ("jax", "torch", "tensorflow")


def VGG16(  # noqa: N802  # Keras' name
    include_top: bool = True,
    weights: Weights = "imagenet",
    input_tensor: Any = None,
    input_shape: Shape | None = None,
    pooling: Pooling = None,
    classes: int = 1000,
    classifier_activation: Activation = "softmax",
    name: str = "vgg16",
) -> Any:
    """Return a `keras.Model` of VGG16, with the arguments of `keras.applications.VGG16`.

    `weights` is as in `photolabel.VGG16`: "imagenet" are those of photolabel's store, a file may be of any format, and
    arrays by layer are welcome too. `input_tensor` is a Keras tensor or layer output to build upon. With weights of
    None any activation of Keras' will do. Raises `UsageError`, a ValueError, where Keras raises ValueError,
    `MissingExtraError` without Keras, and what loading weights raises.
    """
    made = (include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name)
    return _model(spec.VGG16, *made)


def VGG19(  # noqa: N802
    include_top: bool = True,
    weights: Weights = "imagenet",
    input_tensor: Any = None,
    input_shape: Shape | None = None,
    pooling: Pooling = None,
    classes: int = 1000,
    classifier_activation: Activation = "softmax",
    name: str = "vgg19",
) -> Any:
    """Return a `keras.Model` of VGG19; everything else as in `VGG16`."""
    made = (include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name)
    return _model(spec.VGG19, *made)


def weights(model: Any) -> Arrays:
    """Return kernel and bias by a layer's name, float32 copies, of a `keras.Model` that has a VGG's layers.

    Layers without weights are left out, as is a nested model. `photolabel.VGG16(weights=...)` takes what is returned.
    Raises `WeightsMismatchError` for a layer whose weights are no kernel and bias.
    """
    import numpy as np

    found = {}
    numpy = imported().ops.convert_to_numpy
    for layer in model.layers:
        if not layer.weights or hasattr(layer, "layers"):
            continue
        arrays = [np.array(numpy(variable.value), np.float32) for variable in layer.weights]
        if len(arrays) != 2:
            raise WeightsMismatchError(
                f"layer {layer.name} has {len(arrays)} arrays of weights; those of a VGG have two, kernel and bias."
            )
        found[str(layer.name)] = arrays[0], arrays[1]
    return found


def imported() -> Any:
    """Return the package keras, on the backend that it is set to, else on the first of BACKENDS that is installed.

    It is set by KERAS_BACKEND, or by its own file of settings; but Keras itself writes "tensorflow" there where nobody
    chose. Raises `MissingExtraError` where Keras is not installed, or has nothing to run on.
    """
    if "keras" not in sys.modules and not os.environ.get("KERAS_BACKEND"):
        there = [name for name in BACKENDS if importlib.util.find_spec(name) is not None]
        if not there and importlib.util.find_spec("keras") is not None:
            raise MissingExtraError(
                f"Keras is installed, but nothing that it runs on: pip install one of {', '.join(BACKENDS)}."
            )
        if there and _set() not in there:
            os.environ["KERAS_BACKEND"] = there[0]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # else TensorFlow tells stderr about the processor
    with extras.needed("keras"):
        import keras

        return keras


def _set() -> str:
    """The backend in Keras' own file of settings; TensorFlow is what it takes without one."""
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")  # noqa: PTH111, PTH118
    try:
        with open(os.path.join(home, "keras.json"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
            found = json.load(file).get("backend")
    except (OSError, ValueError, AttributeError, RecursionError):
        found = None
    return found if isinstance(found, str) else "tensorflow"


def tail(
    family: Spec,
    arrays: Arrays,
    blocks: int,
    shape: tuple[int, int, int],
    head: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> Any:
    """Return a `keras.Model` of a VGG's last convolutional `blocks` and a linear head, all of it trainable.

    Its input is the map that the pooling before those blocks makes, float32 (N, height, width, channels) of the given
    `shape`. Its layer `features` averages the last map over all places, float32 (N, channels), and its output is that
    of the layer `logits`, float32 (N, classes). `arrays` are the weights of `family`, of which those of the blocks are
    used, and `head` is the kernel (channels, classes) and the bias (classes,). Raises UsageError unless a block is left
    before the last ones, and `MissingExtraError` without Keras.
    """
    keras = imported()
    kept = len(family.blocks) - blocks
    if blocks < 1 or kept < 1:
        raise UsageError(f"blocks={blocks!r}: {family.name} can have its last 1 to {len(family.blocks) - 1} trained.")
    inner = replace(family, top=False, pooling=None).layers
    begins = [layer.name for layer in inner].index(f"block{kept}_pool") + 1
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # whatever Keras is set to: what is learnt goes into a file of float32
    try:
        x = entering = keras.Input(shape)
        for layer in inner[begins:]:
            x = _layer(keras.layers, layer, None)(x)
        features = keras.layers.GlobalAveragePooling2D(data_format=_LAST, name="features")(x)
        logits = keras.layers.Dense(len(head[1]), name="logits")(features)
    finally:
        keras.config.set_dtype_policy(policy)
    model = keras.Model(entering, logits)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([*(head if layer.name == "logits" else arrays[layer.name])])
    return model


def _model(
    family: Spec,
    include_top: bool,
    given: Weights,
    input_tensor: Any,
    input_shape: Shape | None,
    pooling: Pooling,
    classes: int,
    activation: Activation,
    name: str,
) -> Any:
    keras = imported()
    # Any activation Keras has will do with random weights; the architecture knows the two of trained ones.
    own = given is None and activation not in ("softmax", "linear", None)
    made = vgg.configured(
        family,
        include_top=include_top,
        weights=given,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=None if own else activation,  # type: ignore[arg-type]
    )
    arrays = None if given is None else vgg.loaded(made, given, kind=vgg.VGG).weights
    if input_tensor is None:
        entering = keras.Input(made.shape)
    elif keras.backend.is_keras_tensor(input_tensor):
        entering = input_tensor
    else:
        entering = keras.Input(made.shape, tensor=input_tensor)
    x = entering
    for layer in made.layers[1:]:
        x = _layer(keras.layers, layer, activation if own else made.activation)(x)
    inputs = entering if input_tensor is None else keras.utils.get_source_inputs(entering)
    model = keras.Model(inputs, x, name=name)
    for layer_name, pair in (arrays or {}).items():
        model.get_layer(layer_name).set_weights(list(pair))
    return model


_LAST = "channels_last"  # whatever Keras is set to: the weights are


def _layer(layers: Any, layer: Layer, end: Activation) -> Any:
    match layer.kind:
        case "Conv2D":
            *sides, _, filters = layer.kernel
            return layers.Conv2D(
                filters, tuple(sides), padding="same", activation="relu", data_format=_LAST, name=layer.name
            )
        case "MaxPooling2D":
            return layers.MaxPooling2D((2, 2), strides=(2, 2), data_format=_LAST, name=layer.name)
        case "Flatten":
            return layers.Flatten(data_format=_LAST, name=layer.name)
        case "Dense":
            last = layer.name == "predictions"
            return layers.Dense(layer.kernel[-1], activation=end if last else "relu", name=layer.name)
        case "GlobalAveragePooling2D":
            return layers.GlobalAveragePooling2D(data_format=_LAST)
        case "GlobalMaxPooling2D":
            return layers.GlobalMaxPooling2D(data_format=_LAST)
    raise AssertionError(layer.kind)
