"""How the families of weights files name and turn a VGG's arrays, and the turning back: every transpose is here.

`weights.Arrays` are Keras': convolution kernels HWIO, dense kernels (in, out), fc1's rows in the order of a picture
flattened height, width, channels, and the first kernel's inputs blue, green, red. Other families differ in each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidWeightsError, WeightsMismatchError
from . import missing

if TYPE_CHECKING:
    from ..spec import Layer, Spec
    from . import Arrays
    from .files import Array, Shapes

_PIECE = 4 << 20  # bytes of an array handed on at a time
_BLOCK = 16  # rows of a kernel turned at once: what they touch stays in the processor's cache


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What one family of files does.

    `names` gives the names of a spec's arrays in the file, a (kernel, bias) for each layer that learns, in order; names
    that begin with one of `top` belong to the dense layers. `kernels` is the order of the axes: dense kernels are
    (in, out) with HWIO, (out, in) with OIHW. `inputs` is the order of the first kernel's channels, `rows` that of
    the first dense kernel's inputs.
    """

    names: Callable[[Spec], Iterator[tuple[str, str]]]
    top: tuple[str, ...]
    kernels: Literal["HWIO", "OIHW"]
    inputs: Literal["RGB", "BGR"]
    rows: Literal["HWC", "CHW"]


# -- names


def _features(spec: Spec) -> Iterator[tuple[str, str]]:
    """Names in torch.nn.Sequential: a convolution and its ReLU count for two, a pooling for one."""
    at = 0
    for block in spec.blocks:
        for _ in block:
            yield f"features.{at}.weight", f"features.{at}.bias"
            at += 2
        at += 1


def _torchvision(spec: Spec) -> Iterator[tuple[str, str]]:
    yield from _features(spec)
    if spec.top:
        for i in range(len(spec.hidden) + 1):  # Linear, ReLU, Dropout
            yield f"classifier.{3 * i}.weight", f"classifier.{3 * i}.bias"


def _timm(spec: Spec) -> Iterator[tuple[str, str]]:
    yield from _features(spec)
    if spec.top:
        for i in range(1, len(spec.hidden) + 1):
            yield f"pre_logits.fc{i}.weight", f"pre_logits.fc{i}.bias"
        yield "head.fc.weight", "head.fc.bias"


def _oxford(spec: Spec, kernel: str, bias: str) -> Iterator[tuple[str, str]]:
    """conv1_1 ... conv5_3, and then the dense layers count on from the blocks: fc6, fc7, fc8."""
    for b, block in enumerate(spec.blocks, 1):
        for c in range(1, len(block) + 1):
            yield f"conv{b}_{c}{kernel}", f"conv{b}_{c}{bias}"
    if spec.top:
        for i in range(len(spec.blocks) + 1, len(spec.blocks) + len(spec.hidden) + 2):
            yield f"fc{i}{kernel}", f"fc{i}{bias}"


def _caffe(spec: Spec) -> Iterator[tuple[str, str]]:
    return _oxford(spec, "/0", "/1")


def _frossard(spec: Spec) -> Iterator[tuple[str, str]]:
    return _oxford(spec, "_W", "_b")


# torchvision/models/vgg.py.
TORCHVISION = Layout(
    names=_torchvision, top=("classifier.",), kernels="OIHW", inputs="RGB", rows="CHW"
)  # fmt: skip
# timm/models/vgg.py: torchvision's numbers, but the hidden dense layers are convolutions of 7x7 and 1x1.
TIMM = Layout(names=_timm, top=("pre_logits.", "head."), kernels="OIHW", inputs="RGB", rows="CHW")
# Oxford's VGG_ILSVRC_16_layers.caffemodel. Caffe reads pictures by OpenCV: blue first.
CAFFE = Layout(names=_caffe, top=("fc",), kernels="OIHW", inputs="BGR", rows="CHW")
# cs.toronto.edu/~frossard/post/vgg16: Oxford's, turned for TensorFlow and for red first.
FROSSARD = Layout(names=_frossard, top=("fc",), kernels="HWIO", inputs="RGB", rows="HWC")


def of_torch(shapes: Shapes) -> Layout:
    """Return the layout of PyTorch's names: timm's or torchvision's."""
    return TIMM if any(name.startswith(TIMM.top) for name in shapes) else TORCHVISION


# -- which arrays to read


def select(shapes: Shapes, spec: Spec, layout: Layout) -> set[str]:
    """Return the names of the arrays that `spec` needs of a file with these `shapes`.

    A spec without a top passes a file's dense layers over. Raises `WeightsMismatchError` for another network.
    """
    if any(name.endswith("running_mean") for name in shapes):
        raise WeightsMismatchError(
            f"not the weights of {spec.name}: they are of a variant with batch normalisation, such as vgg16_bn, which "
            "is another network. Expected weights of the plain one."
        )
    wanted: set[str] = set()
    present: set[str] = set()
    pairs = list(zip(spec.learned.values(), layout.names(spec), strict=True))
    for layer, names in pairs:
        if all(name in shapes for name in names):
            present.add(layer.name)
    for layer, names in pairs:
        if layer.name not in present:
            raise missing(spec, present)
        for part, name, expected in zip(("kernel", "bias"), names, _shapes(layer, spec, layout), strict=True):
            if shapes[name] not in expected:
                raise WeightsMismatchError(
                    f"not the weights of {spec.name}: the {part} of {layer.name} ({name}) has shape {shapes[name]}, "
                    f"expected {expected[0]}."
                )
            wanted.add(name)
    for name in shapes:
        if name not in wanted and not (name.startswith(layout.top) and not spec.top):
            raise WeightsMismatchError(f"not the weights of {spec.name}: it has no layer for {name!a:.80}.")
    return wanted


def _shapes(layer: Layer, spec: Spec, layout: Layout) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """The shapes that a layer's kernel and bias may have in the file, the usual one first."""
    kernel, bias = layer.kernel, layer.bias
    if layout.kernels == "HWIO":
        return (kernel,), (bias,)
    if len(kernel) == 4:
        height, width, inputs, outputs = kernel
        return ((outputs, inputs, height, width),), (bias, (1, 1, 1, *bias))
    inputs, outputs = kernel
    as_convolution = (outputs, inputs, 1, 1)  # timm
    if layer.name == _first_dense(spec):
        height, width, channels = _flattened(spec)
        as_convolution = (outputs, channels, height, width)
    # Caffe before 2014 knew arrays of four axes only.
    return ((outputs, inputs), as_convolution, (1, 1, outputs, inputs)), (bias, (1, 1, 1, *bias))


def _first_dense(spec: Spec) -> str:
    return next((layer.name for layer in spec.layers if layer.kind == "Dense"), "")


def _flattened(spec: Spec) -> tuple[int, int, int]:
    """Height, width and channels of what the first dense layer sees."""
    before = spec.layers[[layer.kind for layer in spec.layers].index("Flatten") - 1]
    _, height, width, channels = before.shape
    assert height and width and channels
    return height, width, channels


# -- turning


def arrays(found: dict[str, Array], spec: Spec, layout: Layout) -> Arrays:
    """Return the arrays of a file, which passed `select`, as Keras has them: float32, by layer name.

    Takes them out of `found` one by one, so that at no time more than one of them is held twice.
    """
    turned = {}
    first = next(iter(spec.learned))
    for layer, (kernel_name, bias_name) in zip(spec.learned.values(), layout.names(spec), strict=True):
        kernel = _float32(found.pop(kernel_name), kernel_name)
        if len(layer.kernel) == 2:
            kernel = _dense(kernel, layer, spec, layout)
        elif layout.kernels == "OIHW":
            kernel = kernel.transpose(2, 3, 1, 0)  # a view: the ONNX file wants them as they were
        if layer.name == first and layout.inputs == "RGB" and layer.kernel[2] == 3:
            kernel = np.ascontiguousarray(kernel[:, :, ::-1])
        turned[layer.name] = (kernel, _float32(found.pop(bias_name), bias_name).reshape(layer.bias))
        del kernel
    return turned


def _dense(kernel: NDArray[np.float32], layer: Layer, spec: Spec, layout: Layout) -> NDArray[np.float32]:
    if layout.kernels == "HWIO":
        return kernel
    inputs, outputs = layer.kernel
    height, width, channels = 1, 1, inputs
    if layer.name == _first_dense(spec) and layout.rows == "CHW":
        height, width, channels = _flattened(spec)
    source = kernel.reshape(outputs, channels, height, width)
    target = np.empty((height, width, channels, outputs), np.float32)
    # In blocks: NumPy's own copy of 25088 x 4096 numbers across takes several times as long.
    for start in range(0, outputs, _BLOCK):
        target[..., start : start + _BLOCK] = source[start : start + _BLOCK].transpose(2, 3, 1, 0)
    return target.reshape(inputs, outputs)


# -- turning back


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An array as a file of some layout stores it: its name and shape there, and its numbers, piece by piece."""

    name: str
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[NDArray[np.float32]]]


def stored(found: Arrays, spec: Spec, layout: Layout) -> Iterator[Stored]:
    """Turn `found`, Keras' arrays, into those of a file of that `layout`, of which `arrays` makes the same again.

    Takes the memory of a few pieces, not of an array.
    """
    first = next(iter(spec.learned))
    for layer, names in zip(spec.learned.values(), layout.names(spec), strict=True):
        kernel, bias = found[layer.name]
        if layer.name == first and layout.inputs == "RGB" and layer.kernel[2] == 3:
            kernel = kernel[:, :, ::-1]
        turn = functools.partial(pieces, kernel)
        if layout.kernels == "OIHW":
            turn = (
                functools.partial(pieces, kernel.transpose(3, 2, 0, 1))
                if kernel.ndim == 4
                else functools.partial(_dense_pieces, kernel, layer, spec, layout)
            )
        shapes = [usual for usual, *_ in _shapes(layer, spec, layout)]
        yield Stored(name=names[0], shape=shapes[0], pieces=turn)
        yield Stored(name=names[1], shape=shapes[1], pieces=functools.partial(pieces, bias))


def _dense_pieces(kernel: Any, layer: Layer, spec: Spec, layout: Layout) -> Iterator[NDArray[np.float32]]:
    """Undo `_dense`."""
    inputs, outputs = layer.kernel
    height, width, channels = 1, 1, inputs
    if layer.name == _first_dense(spec) and layout.rows == "CHW":
        height, width, channels = _flattened(spec)
    source = kernel.reshape(height, width, channels, outputs)  # a view
    for start in range(0, outputs, _BLOCK):
        yield _plain(source[..., start : start + _BLOCK].transpose(3, 2, 0, 1))


def pieces(array: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Cut an array along its first axis into pieces of some megabytes; each is little-endian and in one piece."""
    rows = max(1, _PIECE // max(1, array.nbytes // len(array)))
    for start in range(0, len(array), rows):
        yield _plain(array[start : start + rows])


def _plain(array: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, "<f4")


def _float32(array: Array, name: str) -> NDArray[np.float32]:
    if array.dtype.kind != "f":
        raise InvalidWeightsError(f"{name!a:.80} does not hold floating-point numbers.")
    with np.errstate(over="ignore"):  # a float64 too large becomes infinity, which `check` refuses
        return np.asarray(array, np.float32)
