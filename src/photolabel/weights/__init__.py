"""Weights files of every format, read as named arrays: one reader a format, none of which runs stored code.

And two of them written: Keras 3's (`keras3_file`) and safetensors.

`read` returns `Arrays`: for each layer that learns, by its name in the spec, the kernel and the bias, as Keras has
them. Kernels of convolutions are (height, width, in, out), dense ones (in, out); the rows of the first dense kernel
are in the order height, width, channels; the inputs of the first kernel are blue, green, red, whatever the file has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from ..errors import InvalidWeightsError, WeightsMismatchError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ..spec import Spec

    Arrays = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


Format: TypeAlias = Literal["keras-h5", "keras3", "torch", "safetensors", "caffe", "npz"]


@dataclass(frozen=True, kw_only=True)
class Description:
    """What can be told of a weights file before it is read: its format and how many convolutions it holds."""

    format: Format
    convolutions: int


def read(path: Path, spec: Spec) -> Arrays:
    """Return the weights of `spec` from a file of any known format, float32, checked by `check`.

    The format is told from the content, never from the name. With a spec without a top, a file's dense layers are
    left out. Raises `InvalidWeightsError` for a file that is broken, hostile or in no known format, and
    `WeightsMismatchError` for one that holds another network. Takes about twice the memory of the largest array
    beside the others.
    """
    from . import caffe, files, keras3, keras_h5, layouts, npz, safetensors, torch

    try:
        form = sniff(path)
        arrays: Arrays
        if form in ("keras-h5", "keras3"):
            arrays = (keras_h5 if form == "keras-h5" else keras3).read(path, spec)
        else:
            reader = {"torch": torch, "safetensors": safetensors, "caffe": caffe, "npz": npz}[form].read

            def layout(shapes: files.Shapes) -> layouts.Layout:
                return {"caffe": layouts.CAFFE, "npz": layouts.FROSSARD}.get(form) or layouts.of_torch(shapes)

            found = reader(path, lambda shapes: layouts.select(shapes, spec, layout(shapes)))
            arrays = layouts.arrays(found, spec, layout({name: array.shape for name, array in found.items()}))
        check(arrays, spec)
    except (InvalidWeightsError, WeightsMismatchError) as error:
        raise type(error)(f"{path.name}: {error}") from error
    return arrays


def describe(path: Path) -> Description:
    """Return the format of a weights file and how many convolutions it holds, without reading its numbers.

    Raises as `read` does.
    """
    from . import caffe, keras3, keras_h5, npz, safetensors, torch

    try:
        form = sniff(path)
        if form in ("keras-h5", "keras3"):
            kernels = (keras_h5 if form == "keras-h5" else keras3).kernels(path)
        else:
            kernels = []

            def note(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
                # Neither Caffe's biases of four axes, the first three of them 1, nor timm's dense layers count.
                dense = ("pre_logits.", "head.", "fc")
                kernels.extend(s for name, s in shapes.items() if s[:3] != (1, 1, 1) and not name.startswith(dense))
                return []

            {"torch": torch, "safetensors": safetensors, "caffe": caffe, "npz": npz}[form].read(path, note)
    except (InvalidWeightsError, WeightsMismatchError) as error:
        raise type(error)(f"{path.name}: {error}") from error
    return Description(format=form, convolutions=sum(len(shape) == 4 for shape in kernels))


def metadata(path: Path) -> dict[str, str]:
    """Return what a weights file says of itself, key to value: only safetensors files can; {} for all others.

    Raises `InvalidWeightsError` for a safetensors file that is broken, and for what cannot be read.
    """
    from . import safetensors

    try:
        return safetensors.metadata(path)
    except InvalidWeightsError as error:
        raise InvalidWeightsError(f"{path.name}: {error}") from error


def sniff(path: Path) -> Format:
    """Return the format of a weights file, told from its content. Raises `InvalidWeightsError` for any other."""
    from . import files, hdf5, keras3, npz, safetensors, stored_zip

    with files.opened(path) as (file, size):
        head = file.read(9)
        if head[:8] == b"\x89HDF\r\n\x1a\n":
            with hdf5.opened(path) as inner:
                published = "layer_names" in inner.attrs or "model_weights" in inner
                return "keras3" if not published and any(name in inner for name in keras3.ROOTS) else "keras-h5"
        if head[:4] == b"PK\3\4":
            if keras3.MEMBER in stored_zip.table(file, size):
                return "keras3"
            return "npz" if npz.is_npz(file, size) else "torch"
        if safetensors.begins(head):  # before the next two: its length may begin as they do
            return "safetensors"
        if head[:1] == b"\x80":  # a pickle of protocol 2, by which the older form begins
            return "torch"
        if head[:1] in (b"\x0a", b"\x12") or head[:2] == b"\xa2\x06":  # NetParameter's name, layers or layer
            return "caffe"
    raise InvalidWeightsError(
        "not a weights file of a known format. Read are: Keras .h5, .weights.h5 and .keras; PyTorch state dicts "
        f"(.pth); safetensors; Caffe .caffemodel; NumPy .npz. This file has {size} bytes and begins with {head[:4]!r}."
    )


def missing(spec: Spec, found: Collection[str]) -> WeightsMismatchError:
    """Return the error for weights of which only the layers `found` are there."""
    expected = spec.learned
    absent = [layer for name, layer in expected.items() if name not in found]
    dense = [layer for layer in expected.values() if layer.kind == "Dense"]
    if found and absent == dense:
        return WeightsMismatchError(
            f"not the weights of {spec.name} with its top: the file holds the convolutions only. Expected a file with "
            f"the dense layers {dense[0].name} to {dense[-1].name}, or a network without its top (include_top=False)."
        )
    return WeightsMismatchError(
        f"not the weights of {spec.name}: layer {absent[0].name} is missing. Expected {len(expected)} layers from "
        f"{next(iter(expected))} to {next(reversed(expected))}, came {len(found)}."
    )


def check(arrays: Arrays, spec: Spec) -> None:
    """Raise unless `arrays` are finite weights of exactly the layers and shapes of `spec`.

    `arrays` maps a layer's name to its kernel, (height, width, in, out) or (in, out), and its bias, (out,), both
    float32. Raises `WeightsMismatchError` for another network's weights, `InvalidWeightsError` for NaN or infinity.
    """
    import numpy as np

    expected = spec.learned
    for name, layer in expected.items():
        if name not in arrays:
            raise missing(spec, arrays)
        for part, array, shape in zip(("kernel", "bias"), arrays[name], (layer.kernel, layer.bias), strict=True):
            if array.shape != shape:
                raise WeightsMismatchError(
                    f"not the weights of {spec.name}: the {part} of {name} has shape {array.shape}, expected {shape}."
                )
            if not np.isfinite(array).all():
                raise InvalidWeightsError(f"the {part} of {name} holds NaN or infinity: the file is damaged.")
    extra = sorted(set(arrays) - set(expected))
    if extra:
        raise WeightsMismatchError(f"not the weights of {spec.name}: it has no layer {extra[0]}.")
