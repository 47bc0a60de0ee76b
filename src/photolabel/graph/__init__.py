"""A spec and its weights -> one ONNX graph that takes plain RGB pixels and describes itself.

Input `pixels`: float32 (N, H, W, 3), RGB, 0-255. Output `probabilities`: float32 (N, classes). Every layer's output
carries the layer's name from the spec, so that `fc2` or `block5_pool` can be asked for at load; `logits` is
what enters the softmax, `normalised` what enters the first convolution, channels first. Weights are stored as Keras
has them but for convolution kernels, which ONNX wants OIHW.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import protobuf, weights
from ..errors import InvalidModelError, InvalidWeightsError, WeightsMismatchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ..models import Normalisation
    from ..spec import Layer, Spec
    from ..weights import Arrays

INPUT, NORMALISED, LOGITS, PROBABILITIES, FEATURES = "pixels", "normalised", "logits", "probabilities", "features"
FAMILIARITY = "familiarity"  # the second output of a taught network: how near a photo is to those of its classes
_OPSET, _IR_VERSION = 17, 8  # old enough for every runtime of the last years


def build(
    spec: Spec, arrays: Arrays, normalisation: Normalisation | None, *, describe: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """The ONNX model of `spec` with the weights `arrays`, which must have passed `weights.check`, as chunks of a file.

    Without `normalisation` the input is what Keras' `preprocess_input` makes, not pixels. `describe` becomes the
    file's metadata. The same arguments give the same bytes.
    """
    from onnx import TensorProto, helper

    drawing = Drawing()
    x = normalise(drawing, normalisation)
    for layer in spec.layers:
        x = _DRAW[layer.kind](drawing, x, layer, arrays)
    last = spec.layers[-1]
    if not spec.top and len(last.shape) == 4:
        name = drawing.add("Transpose", [x], FEATURES, perm=[0, 2, 3, 1])
    elif not spec.top:
        name = drawing.add("Identity", [x], FEATURES)
    elif spec.activation == "softmax":
        name = drawing.add("Softmax", [x], PROBABILITIES, axis=-1)
    else:
        name = LOGITS

    value = helper.make_tensor_value_info
    shape = ["N", *(axis or f"axis_{i}" for i, axis in enumerate(spec.shape, 1))]
    graph = helper.make_graph(
        drawing.nodes,
        spec.name,
        [value(INPUT, TensorProto.FLOAT, shape)],
        [value(name, TensorProto.FLOAT, ["N", *(axis or f"out_{i}" for i, axis in enumerate(last.shape[1:], 1))])],
    )
    model = helper.make_model(
        helper.make_graph([], "", [], []),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="photolabel",
    )
    model.ClearField("graph")
    helper.set_model_props(model, dict(describe))
    yield from serialized(model, graph, drawing.constants)


# Field numbers of onnx.proto.
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9


def serialized(
    model: Any,
    graph: Any,
    constants: Mapping[str, NDArray[Any]],
    *,
    copied: Iterable[bytes] = (),
    copied_bytes: int = 0,
) -> Iterator[bytes | memoryview]:
    """Yield the bytes of `model` holding `graph` holding `constants`, without ever holding them all.

    protobuf would copy 553 MB of weights into messages and again into bytes, 3 GB at the peak. But a message is its
    fields one after the other, so the weights are written as fields of the graph straight from their arrays. `copied`
    are other fields of the graph, `copied_bytes` in all, that stand in another file as they are to stand here.
    """
    from onnx import TensorProto, helper

    outer = model.SerializeToString(deterministic=True)
    inner = graph.SerializeToString(deterministic=True)
    heads = {}
    for name, array in constants.items():
        tensor = TensorProto(name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype))
        head = tensor.SerializeToString(deterministic=True) + _field(_TENSOR_RAW_DATA, array.nbytes)
        heads[name] = _field(_GRAPH_INITIALIZER, len(head) + array.nbytes) + head
    size = len(inner) + copied_bytes + sum(len(heads[name]) + array.nbytes for name, array in constants.items())
    yield outer + _field(_MODEL_GRAPH, size) + inner
    yield from copied
    for name, array in constants.items():
        yield heads[name]
        yield _little_endian(array)


def _field(number: int, size: int) -> bytes:
    """The head of a protobuf field of `size` bytes."""
    encoded = bytearray()
    for value in (number << 3 | 2, size):
        while value >= 0x80:
            encoded.append(value & 0x7F | 0x80)
            value >>= 7
        encoded.append(value)
    return bytes(encoded)


def _little_endian(array: Any) -> memoryview:
    import numpy as np

    ordered = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return ordered.data.cast("B")


class Drawing:
    """The nodes and constants of a graph, as they are drawn."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def add(self, operation: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Draw a node of one output, called as that; return its name."""
        from onnx import helper

        self.nodes.append(helper.make_node(operation, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, array: Any) -> str:
        """Keep an array as a stored tensor; return its name."""
        self.constants[name] = array
        return name


def normalise(drawing: Drawing, normalisation: Normalisation | None, *, channels_first: bool = True) -> str:
    """Draw what makes a network's input of pixels; return the name of the last tensor."""
    import numpy as np

    x = INPUT
    if normalisation is not None:
        if normalisation.order == "BGR":
            x = drawing.add("Gather", [x, drawing.constant("channel_order", np.array([2, 1, 0]))], "bgr", axis=3)
        if any(normalisation.mean):
            x = drawing.add("Sub", [x, drawing.constant("mean", np.array(normalisation.mean, np.float32))], "centred")
        if set(normalisation.deviation) != {1.0}:
            deviation = drawing.constant("deviation", np.array(normalisation.deviation, np.float32))
            x = drawing.add("Div", [x, deviation], "scaled")
    return drawing.add("Transpose", [x], NORMALISED, perm=[0, 3, 1, 2]) if channels_first else x


def _input(_drawing: Drawing, x: str, _layer: Layer, _arrays: Arrays) -> str:
    return x


def _convolution(drawing: Drawing, x: str, layer: Layer, arrays: Arrays) -> str:
    kernel, bias = arrays[layer.name]
    side = kernel.shape[0]
    inputs = [
        x,
        drawing.constant(f"{layer.name}/kernel", kernel.transpose(3, 2, 0, 1)),
        drawing.constant(f"{layer.name}/bias", bias),
    ]
    x = drawing.add("Conv", inputs, f"{layer.name}/linear", kernel_shape=[side, side], pads=[side // 2] * 4)
    return drawing.add("Relu", [x], layer.name)


def _pooling(drawing: Drawing, x: str, layer: Layer, _arrays: Arrays) -> str:
    return drawing.add("MaxPool", [x], layer.name, kernel_shape=[2, 2], strides=[2, 2])


def _flatten(drawing: Drawing, x: str, layer: Layer, _arrays: Arrays) -> str:
    # Keras flattens channels last, and fc1's kernel has its rows in that order.
    x = drawing.add("Transpose", [x], "channels_last", perm=[0, 2, 3, 1])
    return drawing.add("Flatten", [x], layer.name)


def _dense(drawing: Drawing, x: str, layer: Layer, arrays: Arrays) -> str:
    kernel, bias = arrays[layer.name]
    inputs = [
        x,
        drawing.constant(f"{layer.name}/kernel", kernel),
        drawing.constant(f"{layer.name}/bias", bias),
    ]
    if layer.name == "predictions":
        return drawing.add("Gemm", inputs, LOGITS)
    return drawing.add("Relu", [drawing.add("Gemm", inputs, f"{layer.name}/linear")], layer.name)


def _average(drawing: Drawing, x: str, layer: Layer, _arrays: Arrays) -> str:
    return drawing.add("Flatten", [drawing.add("GlobalAveragePool", [x], f"{layer.name}/map")], layer.name)


def _maximum(drawing: Drawing, x: str, layer: Layer, _arrays: Arrays) -> str:
    return drawing.add("Flatten", [drawing.add("GlobalMaxPool", [x], f"{layer.name}/map")], layer.name)


_DRAW = {
    "InputLayer": _input,
    "Conv2D": _convolution,
    "MaxPooling2D": _pooling,
    "Flatten": _flatten,
    "Dense": _dense,
    "GlobalAveragePooling2D": _average,
    "GlobalMaxPooling2D": _maximum,
}


# Field numbers of onnx.proto.
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _FLOAT = 1, 2, 8, 1


def arrays(path: Path, spec: Spec) -> Arrays:
    """Return the weights of `spec` out of the ONNX file at `path`, which `build` made; `weights.check` has passed.

    They are mapped, read-only, not read: 553 MB need no memory until they are used. Raises `InvalidModelError`
    for a file that holds no such network in fp32.
    """
    found = {}
    expected = {f"{name}/{part}" for name in spec.learned for part in ("kernel", "bias")}
    try:
        with path.open("rb") as file:
            walker = protobuf.Walker(file, most=100_000)
            for outer in walker.fields(0, os.fstat(file.fileno()).st_size):
                if outer.number != _MODEL_GRAPH or outer.wire != protobuf.BYTES:
                    continue
                for field in walker.fields(outer.start, outer.start + outer.size):
                    if field.number == _GRAPH_INITIALIZER and field.wire == protobuf.BYTES:
                        name, array = _mapped(path, walker, field)
                        if name in expected and array is not None:
                            found[name] = array
    except (protobuf.BrokenMessageError, ValueError, OSError):  # ValueError: mapped beyond the file's end
        raise InvalidModelError(f"{path}: not an ONNX file, or a broken one.") from None
    if missing := sorted(expected - set(found)):
        raise InvalidModelError(f"{path}: expected the fp32 network of {spec.name}; it stores no {missing[0]} as such.")
    result = {}
    for name, layer in spec.learned.items():
        kernel, bias = found[f"{name}/kernel"], found[f"{name}/bias"]
        result[name] = (kernel.transpose(2, 3, 1, 0) if layer.kind == "Conv2D" and kernel.ndim == 4 else kernel, bias)
    try:
        weights.check(result, spec)
    except (InvalidWeightsError, WeightsMismatchError) as error:
        raise InvalidModelError(f"{path}: {error}") from error
    return result


def _mapped(path: Path, walker: protobuf.Walker, message: protobuf.Field) -> tuple[str, Any]:
    """The name of a stored tensor, and its numbers if they are float32 and lie in the file in one piece."""
    import numpy as np

    name, dims, kind, data = "", [], 0, None
    for field in walker.fields(message.start, message.start + message.size):
        if field.number == _TENSOR_NAME and field.wire == protobuf.BYTES and field.size <= 200:
            name = walker.bytes(field).decode("utf-8", "replace")
        elif field.number == _TENSOR_DIMS:
            dims += [*walker.varints(field)] if field.wire == protobuf.BYTES else [field.value]
        elif field.number == _TENSOR_TYPE:
            kind = field.value
        elif field.number == _TENSOR_RAW_DATA:
            data = field
    if kind != _FLOAT or data is None or math.prod(dims) * 4 != data.size or not data.size:
        return name, None
    return name, np.memmap(path, "<f4", "r", offset=data.start, shape=tuple(dims))


@dataclass(frozen=True, kw_only=True, eq=False)
class AveragedHead:
    """The end of a network that averages its last map, `layer`, before one dense layer with `weights`.

    `weights` is float32 (classes, channels). `places` says where in the input the map's values belong, along either
    side: how many pixels lie between one and the next, and where the first has its centre; None where the network does
    something that it cannot be told of.
    """

    layer: str
    weights: NDArray[np.float32]
    places: tuple[float, float] | None


def averaged_head(path: Path) -> AveragedHead | None:
    """Return the end of a network that averages its last map before one dense layer; None for any other, or 8 bits.

    Raises `InvalidModelError` for a file that is no sound network.
    """
    import numpy as np
    from onnx import numpy_helper

    network = check(path).graph
    maker = {name: node for node in network.node for name in node.output}
    constants = {tensor.name: tensor for tensor in network.initializer}

    def came_from(name: str, *kinds: str) -> Any:
        node = maker.get(name)
        while node is not None and node.op_type in ("Flatten", "Reshape", "Squeeze", "Identity", "Dropout", "Softmax"):
            node = maker.get(node.input[0])
        return node if node is not None and node.op_type in kinds else None

    dense = came_from(network.output[0].name, "Gemm")
    if dense is None:
        return None
    pooling = came_from(dense.input[0], "GlobalAveragePool")
    stored = dense.input[1]
    if stored in maker and maker[stored].op_type == "Cast":
        stored = maker[stored].input[0]
    if pooling is None or stored not in constants:
        return None
    array = numpy_helper.to_array(constants[stored]).astype(np.float32)
    turned = any(each.name == "transB" and each.i for each in dense.attribute)
    layer = pooling.input[0]
    return AveragedHead(
        layer=layer, weights=array if turned else np.ascontiguousarray(array.T), places=_places(network).get(layer)
    )


# What leaves every value where it is, and what takes each from a window of values.
_STAY = {"Add", "BatchNormalization", "Cast", "Clip", "Concat", "Div", "HardSigmoid", "HardSwish", "Identity"}
_STAY |= {"LeakyRelu", "Mul", "PRelu", "Relu", "Sigmoid", "Sub", "Tanh", "Transpose"}
_WINDOWS = {"Conv", "MaxPool", "AveragePool"}


def _places(network: Any) -> dict[str, tuple[float, float]]:
    """Where in the input the values of maps have their centres, as `AveragedHead.places`, of all that it is clear for.

    A window's centre, and so its value's place, follows from its size, step and padding. The places need not lie evenly
    over the input: the outermost may be centred on its very edge. Where ways join that differ by a fraction of a step,
    as they do round some shortcuts, the first counts.
    """
    found = {network.input[0].name: (1.0, 0.5)}
    for node in network.node:
        place = next((found[name] for name in node.input if name in found), None)
        if place is not None and node.op_type in _WINDOWS:
            place = _behind_window(node, *place)
        elif node.op_type not in _STAY:
            place = None
        if place is not None:
            found[node.output[0]] = place
    return found


def _behind_window(node: Any, step: float, first: float) -> tuple[float, float] | None:
    given = {each.name: each for each in node.attribute}
    if "kernel_shape" not in given or ("auto_pad" in given and given["auto_pad"].s not in (b"NOTSET", b"VALID")):
        return None
    sizes = list(given["kernel_shape"].ints)
    strides, dilations, pads = (
        list(given[name].ints) if name in given else [default] * len(sizes)
        for name, default in (("strides", 1), ("dilations", 1), ("pads", 0))
    )
    sides = {*zip(sizes, strides, dilations, pads, strict=False)}  # pads: those before all come first
    if len(sides) != 1:  # another along each side
        return None
    ((size, stride, dilation, pad),) = sides
    return step * stride, first + step * ((size - 1) * dilation / 2 - pad)


def check(path: Path) -> Any:
    """Return the network at `path`, parsed; raise `InvalidModelError` unless it is ONNX that keeps to itself.

    ONNX may store tensors outside the file, under any path: such a network could read any file of the machine.
    Weights of NaN or infinity are refused too: they make every answer NaN.
    """
    import numpy as np
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)  # by its bytes, not its suffix
    except (DecodeError, OSError, ValueError):
        raise InvalidModelError(f"{path}: not an ONNX file, or a broken one.") from None
    stored = [*_tensors(model.graph)]
    for function in model.functions:
        stored += _in_nodes(function.node)
    for tensor in stored:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise InvalidModelError(f"{path}: it takes its weights from other files: refused.")
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
            try:
                array = numpy_helper.to_array(tensor)
            except (ValueError, TypeError):
                raise InvalidModelError(f"{path}: a weight's size and shape differ: the file is damaged.") from None
            if not np.isfinite(array).all():
                raise InvalidModelError(f"{path}: a weight holds NaN or infinity: the file is damaged.")
    return model


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor stored in a graph, those in its nodes' attributes and sub-graphs included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _in_nodes(graph.node)


def _in_nodes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)
