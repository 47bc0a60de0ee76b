"""Keras' HDF5 weights, in the three dialects that people have.

- the published files: a group a layer, whose attribute `weight_names` lists its data sets, called
  `block1_conv1_W_1:0` and `block1_conv1_b_1:0`;
- what Keras 3's `save_weights` to a legacy `.h5` writes: the same with `kernel` and `bias`;
- `model.save("x.h5")`: the same under the group `model_weights`.

In each, a layer's first array is its kernel, (height, width, in, out) or (in, out), and its second its bias. Only
names, shapes and numbers are read: `model_config`, which can hold code, is never looked at.

HDF5 can point outside itself (external links, external storage, virtual data sets), which would let a weights
file read any file of the machine; it can declare terabytes in a few bytes, and hide them in a compressed chunk. All
that is refused before a byte of it is read or followed. The list `layer_names` is not read: a million of its entries
may be one and the same long string, and the groups themselves say as much.
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

_BROKEN = (OSError, KeyError, ValueError, TypeError, RuntimeError)  # what h5py makes of the HDF5 library's errors
_MAX_LAYERS = 1000  # VGG19 has 26
_MAX_NAME = 255  # bytes; a name is a path in the file, and each of its steps costs time


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
    if len(root) > _MAX_LAYERS:
        raise WeightsMismatchError(f"not the weights of {spec.name}: the file has {len(root)} layers.")
    for name in root:
        group = _group(root, name)
        stored = group.attrs.get_id("weight_names")
        if stored.shape == (0,):
            continue
        if name not in expected:
            raise WeightsMismatchError(f"not the weights of {spec.name}: it has no layer {name!a:.80}.")
        if stored.shape != (2,):
            raise WeightsMismatchError(
                f"not the weights of {spec.name}: layer {name} does not have two arrays, expected kernel and bias."
            )
        kernel, bias = map(_text, group.attrs["weight_names"])
        layer = expected[name]
        found[name] = (_array(group, kernel, layer.kernel, name), _array(group, bias, layer.bias, name))
    return found


def _text(name: object) -> str:
    text = name.decode("utf-8") if isinstance(name, bytes) else str(name)
    if len(text) > _MAX_NAME:
        raise InvalidWeightsError(f"the weights file is broken: a name of {len(text)} characters.")
    return text


def _walk(group: Any, name: str) -> Any:
    """The member `name`, which may be a path of several steps, reached by hard links only."""
    import h5py

    for step in name.split("/"):
        if not isinstance(group, h5py.Group):
            raise InvalidWeightsError(f"the weights file is broken: there is no {name!a:.80} in it.")
        # The link is asked before it is followed: opening what it points to can be harm enough.
        if group.id.links.get_info(step.encode()).type != h5py.h5l.TYPE_HARD:
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
    if data.dtype.kind != "f":
        raise InvalidWeightsError(f"layer {layer} does not hold floating-point numbers.")
    # A compressed chunk may unpack to any size. Keras writes neither chunks nor compressed data.
    if data.chunks is not None:
        raise InvalidWeightsError(
            f"layer {layer} is stored compressed or in chunks, which is not read: save the weights with Keras again, "
            "or unpack them with: h5repack -f NONE -l CONTI IN.h5 OUT.h5"
        )
    if data.id.get_storage_size() != data.nbytes:  # HDF5 would make up the rest
        raise InvalidWeightsError(f"the weights file is cut short: the numbers of layer {layer} were never written.")
    with np.errstate(over="ignore"):  # a float64 too large becomes infinity, which `check` refuses
        return np.asarray(data[()], dtype=np.float32)
