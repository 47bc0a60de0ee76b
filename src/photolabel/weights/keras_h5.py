"""Keras' HDF5 weights, in the three dialects that people have.

- the published files: attribute `layer_names` lists the groups, each group's `weight_names` its data sets, called
  `block1_conv1_W_1:0` and `block1_conv1_b_1:0`;
- what Keras 3's `save_weights` to a legacy `.h5` writes: the same with `kernel` and `bias`;
- `model.save("x.h5")`: the same under the group `model_weights`.

In each, a layer's first array is its kernel, (height, width, in, out) or (in, out), and its second its bias. Only
names, shapes and numbers are read: `model_config`, which can hold code, is never looked at.

HDF5 can point outside itself (external links, external storage, virtual data sets), which would let a weights
file read any file of the machine; and it can declare terabytes in a few bytes. Both are refused before any read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InvalidWeightsError, WeightsMismatchError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ..spec import Spec
    from . import Arrays

# What h5py was seen to raise on broken files.
_BROKEN = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    UnicodeDecodeError,
    MemoryError,
)
_MAX_NAMES = 10_000


def read(path: Path, spec: Spec) -> Arrays:
    """Return the weights of `spec`'s layers from a Keras HDF5 file, float32, by layer name.

    Layers that learn nothing are passed over. Raises `InvalidWeightsError` for a file that is broken, or that
    points outside itself, and `WeightsMismatchError` for one that holds another network.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            root = _group(file, "model_weights") if "model_weights" in file else file
            if "layer_names" not in root.attrs:
                raise WeightsMismatchError(
                    "not a Keras weights file: expected an attribute layer_names, which this HDF5 file lacks."
                )
            return _layers(root, spec)
    except _BROKEN:
        # The library's own words hold addresses and paths, and help nobody.
        raise InvalidWeightsError(
            "the weights file cannot be read as Keras HDF5: it is broken, cut short or of another format."
        ) from None


def _layers(root: Any, spec: Spec) -> Arrays:
    expected = spec.learned
    found: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    for name in _names(root, "layer_names"):
        group = _group(root, name)
        names = _names(group, "weight_names")
        if not names:
            continue
        if name not in expected:
            raise WeightsMismatchError(f"not the weights of {spec.name}: it has no layer {name!a:.80}.")
        if len(names) != 2:
            raise WeightsMismatchError(
                f"not the weights of {spec.name}: layer {name} has {len(names)} arrays, expected kernel and bias."
            )
        kernel, bias = names
        layer = expected[name]
        found[name] = (_array(group, kernel, layer.kernel, name), _array(group, bias, layer.bias, name))
    return found


def _names(group: Any, attribute: str) -> list[str]:
    values = group.attrs[attribute]
    if len(values) > _MAX_NAMES:
        raise InvalidWeightsError(f"the weights file lists {len(values)} names in {attribute}: no network has them.")
    return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]


def _walk(group: Any, name: str) -> Any:
    """The member `name`, which may be a path of several steps, reached by hard links only."""
    import h5py

    for step in name.split("/"):
        link = group.get(step, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise InvalidWeightsError(
                "the weights file points outside itself or in circles (an HDF5 soft or external link): refused."
            )
        group = group[step]
    return group


def _group(parent: Any, name: str) -> Any:
    import h5py

    member = _walk(parent, name)
    if not isinstance(member, h5py.Group):
        raise InvalidWeightsError(f"the weights file is broken: {name!a:.80} is no group.")
    return member


def _array(group: Any, name: str, shape: tuple[int, ...], layer: str) -> NDArray[np.float32]:
    import h5py
    import numpy as np

    data = _walk(group, name)
    if not isinstance(data, h5py.Dataset):
        raise InvalidWeightsError(f"the weights file is broken: {name!a:.80} is no data set.")
    if data.external or data.is_virtual:
        raise InvalidWeightsError("the weights file takes its numbers from other files: refused.")
    # The shape is checked before a byte is read: a data set may declare any size at no cost.
    if data.shape != shape:
        raise WeightsMismatchError(
            f"layer {layer} has an array of shape {data.shape}, expected {shape}: these are another network's weights."
        )
    if data.dtype.kind != "f" or data.dtype.itemsize > 8:
        raise InvalidWeightsError(f"layer {layer} does not hold floating-point numbers.")
    return np.asarray(data[()], dtype=np.float32)
