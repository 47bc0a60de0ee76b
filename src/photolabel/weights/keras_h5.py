"""Keras' HDF5 weights, in the three dialects that people have.

- the published files: a group a layer, whose attribute `weight_names` lists its data sets, called
  `block1_conv1_W_1:0` and `block1_conv1_b_1:0`;
- what Keras 3's `save_weights` to a legacy `.h5` writes: the same with `kernel` and `bias`;
- `model.save("x.h5")`: the same under the group `model_weights`.

In each, a layer's first array is its kernel, (height, width, in, out) or (in, out), and its second its bias. Only
names, shapes and numbers are read: `model_config`, which can hold code, is never looked at.

What HDF5 itself could be made to do, `hdf5` refuses. The list `layer_names` is not read: a million of its entries
may be one and the same long string, and the groups themselves say as much.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidWeightsError, WeightsMismatchError
from . import hdf5

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..spec import Spec
    from . import Arrays

_MAX_LAYERS = 1000  # VGG19 has 26
_MAX_NAME = 255  # bytes; a name is a path in the file, and each of its steps costs time


def read(path: Path, spec: Spec) -> Arrays:
    """Return the weights of `spec`'s layers from a Keras HDF5 file, float32, by layer name.

    Layers that learn nothing are passed over, and so are dense ones where `spec` has no top. Raises
    `InvalidWeightsError` for a file that is broken, or that points outside itself, and `WeightsMismatchError` for
    one that holds another network.
    """
    expected = spec.learned
    found: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    with hdf5.opened(path) as file:
        for name, group, stored in _layers(file):
            if name not in expected and not spec.top and stored.shape == (2,):
                kernel, _ = map(_text, group.attrs["weight_names"])
                if len(hdf5.dataset(group, kernel).shape) == 2:
                    continue
            if name not in expected:
                raise WeightsMismatchError(f"not the weights of {spec.name}: it has no layer {name!a:.80}.")
            if stored.shape != (2,):
                raise WeightsMismatchError(
                    f"not the weights of {spec.name}: layer {name} does not have two arrays, expected kernel and bias."
                )
            kernel, bias = map(_text, group.attrs["weight_names"])
            layer = expected[name]
            found[name] = (
                hdf5.array(group, kernel, layer.kernel, name),
                hdf5.array(group, bias, layer.bias, name),
            )
    return found


def kernels(path: Path) -> list[tuple[int, ...]]:
    """Return the shapes of the layers' first arrays, in no order; nothing else is read."""
    found = []
    with hdf5.opened(path) as file:
        for _, group, stored in _layers(file):
            if stored.shape != (2,):
                continue
            kernel, _ = map(_text, group.attrs["weight_names"])
            found.append(hdf5.dataset(group, kernel).shape)
    return found


def _layers(file: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, group and the attribute that lists the arrays, of each layer that has some."""
    root = hdf5.group(file, "model_weights") if "model_weights" in file else file
    if "layer_names" not in root.attrs:
        raise WeightsMismatchError(
            "not a Keras weights file: expected an attribute layer_names, which this HDF5 file lacks."
        )
    if len(root) > _MAX_LAYERS:
        raise WeightsMismatchError(f"the file has {len(root)} layers, more than any VGG.")
    for name in root:
        group = hdf5.group(root, name)
        stored = group.attrs.get_id("weight_names")
        if stored.shape != (0,):
            yield name, group, stored


def _text(name: object) -> str:
    text = name.decode("utf-8") if isinstance(name, bytes) else str(name)
    if len(text) > _MAX_NAME:
        raise InvalidWeightsError(f"the weights file is broken: a name of {len(text)} characters.")
    return text
