"""What a network is made of: a small common view of its layers, from a spec or from any ONNX file.

Kinds are Keras' words where there is one ("Conv2D", "DepthwiseConv2D"), else ONNX's. As in Keras' summary an
activation belongs to the layer before it, and what only moves or casts numbers is no layer at all. No weights are
needed for a known VGG, and of an ONNX file none is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InvalidModelError
from .graph import FAMILIARITY, parts
from .spec import Spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .models import Model

Shape = tuple[int | None, ...]

MAX_LAYERS = 20_000  # no classifier comes near; a stranger's file might
_MAX_RANK = 8
_MAX_NAME = 120
_MAX_BYTES = 2**31 - 1  # protobuf's own limit
_KEPT_BYTES = 4096  # constants that shapes are inferred from are small; weights are not, and are dropped


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer as a reader of a summary wants it.

    `shape` is the output's, channels last, with None for what is not fixed, and None as a whole where it is not
    known. `parameters` counts all the numbers it learned, `frozen` those of them that are no longer trained.
    `inputs` are the positions, in the network's own order, of the layers that it reads.
    """

    name: str
    kind: str
    shape: Shape | None
    parameters: int = 0
    frozen: int = 0
    inputs: tuple[int, ...] = ()
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()


def layers(model: Model | Spec) -> tuple[Layer, ...]:
    """Return the layers of a model, in order, the input first.

    A model with a spec needs no file. Raises `InvalidModelError` where its ONNX file is none or holds no network.
    """
    if not isinstance(model, Spec) and model.path:  # what is in the file counts, not what it says of itself
        return read(model.path)
    spec = model if isinstance(model, Spec) else model.spec
    assert spec
    return tuple(_of_spec(spec))


def _of_spec(spec: Spec) -> Iterator[Layer]:
    for i, layer in enumerate(spec.layers):
        kernel: tuple[int, ...] = ()
        if layer.kind == "Conv2D":
            kernel = layer.kernel[:2]
        elif layer.kind == "MaxPooling2D":
            kernel = (2, 2)
        yield Layer(
            name=layer.name,
            kind=layer.kind,
            shape=layer.shape,
            parameters=layer.parameters,
            inputs=(i - 1,) if i else (),
            kernel=kernel,
            strides=(2, 2) if layer.kind == "MaxPooling2D" else (),
        )


# ONNX's operators in Keras' words. {n} is the number of spatial axes.
_KERAS = {
    "Conv": "Conv{n}D",
    "ConvTranspose": "Conv{n}DTranspose",
    "MaxPool": "MaxPooling{n}D",
    "AveragePool": "AveragePooling{n}D",
    "GlobalMaxPool": "GlobalMaxPooling{n}D",
    "GlobalAveragePool": "GlobalAveragePooling{n}D",
    "BatchNormalization": "BatchNormalization",
    "LayerNormalization": "LayerNormalization",
    "GroupNormalization": "GroupNormalization",
    "Gemm": "Dense",
    "Flatten": "Flatten",
    "Add": "Add",
    "Sum": "Add",
    "Sub": "Subtract",
    "Mul": "Multiply",
    "Concat": "Concatenate",
    "Pad": "ZeroPadding{n}D",
    "Resize": "UpSampling{n}D",
    "Upsample": "UpSampling{n}D",
}
# The layer before owns these: activations.
_ACTIVATIONS = {
    "Relu", "Clip", "LeakyRelu", "Elu", "Selu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softmax", "LogSoftmax",
    "Gelu", "Softplus", "Mish", "Erf", "Sqrt", "Pow", "Exp", "Log", "Neg", "Abs", "Min", "Max", "Reciprocal",
}  # fmt: skip
# These move, cast or make numbers, but compute nothing.
_PLUMBING = {
    "Cast", "CastLike", "Constant", "ConstantOfShape", "DequantizeLinear", "Dropout", "Expand", "Gather", "Identity",
    "QuantizeLinear", "Range", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
_POINTWISE = {"Add", "Sub", "Mul", "Div", "Sum", "PRelu"}
# Their constants say how far, along which axes or between which bounds: nobody learned them.
_UNLEARNED = {"Pad", "ReduceMax", "ReduceMean", "ReduceSum", "Resize", "Tile", "TopK", "Upsample"}
_BIAS_AFTER = {"MatMul", "Gemm", "Conv", "ConvTranspose"}
# Suffixes under which our own graphs keep what comes before a layer's activation or squeezing: see graph.py.
_OUR_INNER = ("/linear", "/map")


def read(path: Path) -> tuple[Layer, ...]:
    """Return the layers of the ONNX file at `path`, whoever made it. Raises `InvalidModelError`."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise InvalidModelError(f"{path}: {size:,} bytes; an ONNX file has at most {_MAX_BYTES:,}.")
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError):
        raise InvalidModelError(f"{path}: not an ONNX file, or a broken one.") from None
    if len(model.graph.node) > 10 * MAX_LAYERS:
        raise InvalidModelError(f"{path}: {len(model.graph.node):,} nodes are more than any classifier has.")
    _leave_out_familiarity(model.graph)
    try:
        found = _Reader(model).layers()
    except _BrokenError as error:
        raise InvalidModelError(f"{path}: {error}") from None
    if len(found) < 2:
        raise InvalidModelError(f"{path}: an ONNX file without a layer: expected a network.")
    return found


def _leave_out_familiarity(network: Any) -> None:
    """Take out what a taught network has beside its classes, to say how familiar a photo is: it is no layer of it."""
    outputs = [each.name for each in network.output]
    if FAMILIARITY in outputs[1:]:
        maker = {name: node for node in network.node for name in node.output if name}
        needed = parts.reachable([name for name in outputs if name != FAMILIARITY], maker)
        parts.remove(network.node, [needed.isdisjoint(node.output) for node in network.node])
        parts.remove(network.output, [name == FAMILIARITY for name in outputs])


class _BrokenError(Exception):
    """The network contradicts itself or is beyond all bounds."""


def harmless(name: str) -> str:
    r"""Return a stranger's name as one short line: what could act upon a terminal or break XML becomes `\x1b`."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name[:_MAX_NAME])
    return text if len(text) < _MAX_NAME else f"{text[: _MAX_NAME - 1]}…"


class _Reader:
    """One pass over a graph's nodes, which ONNX demands in an order in which each reads only what is before it."""

    def __init__(self, model: Any) -> None:
        self.sizes = {tensor.name: _dims(tensor) for tensor in model.graph.initializer}  # name -> shape
        for node in model.graph.node:
            if node.op_type == "Constant" and node.output:
                for attribute in node.attribute:
                    if attribute.name == "value":
                        self.sizes[node.output[0]] = _dims(attribute.t)
        self.graph = _inferred(model)
        self.shapes = {}
        self.whole = set()  # tensors of whole numbers: shapes and indices, which are no layer's business
        for value in (*self.graph.value_info, *self.graph.input, *self.graph.output):
            tensor = value.type.tensor_type
            if tensor.HasField("shape") and len(tensor.shape.dim) <= _MAX_RANK:
                self.shapes[value.name] = tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)
            if tensor.elem_type in (2, 3, 4, 5, 6, 7, 9, 12, 13):  # integers and bool, in TensorProto.DataType
                self.whole.add(value.name)
        self.counted: set[str] = set()
        self.found: list[Layer] = []
        self.kinds: list[str] = []  # ONNX's word for each of them
        self.source: dict[str, int] = {}  # tensor -> the layer it comes from
        self.constant = {name: name for name in self.sizes}  # tensor -> the stored one it is a form of
        self.ours = model.producer_name == "photolabel" and any(
            node.name.startswith("block1_conv1") for node in self.graph.node
        )

    def layers(self) -> tuple[Layer, ...]:
        for value in self.graph.input:
            if value.name not in self.sizes:
                name = "input_1" if self.ours else value.name
                self._keep(name, "InputLayer", "", _batched(_channels_last(self.shapes.get(value.name))), [value.name])
        for node in self.graph.node:
            self._node(node)
            if len(self.found) > MAX_LAYERS:
                raise _BrokenError(f"more than {MAX_LAYERS:,} layers are more than any classifier has.")
        return tuple(self.found)

    def _node(self, node: Any) -> None:
        reads = [self.source[name] for name in node.input if name in self.source]
        if not reads:  # made of constants only
            if node.op_type in _PLUMBING and node.input and node.input[0] in self.constant and node.output:
                self.constant[node.output[0]] = self.constant[node.input[0]]
            return
        op, output = node.op_type, next(iter(node.output), "")
        if op in _ACTIVATIONS or (op in _PLUMBING and not self._flattens(node)) or output in self.whole:
            self._pass(node, reads)
        elif op in _POINTWISE and len(set(reads)) == 1:
            # With a constant: a bias, or a scaling that nobody learned. With itself, as in x * sigmoid(x): activation.
            last = reads[0]
            if (op == "Add" and self.kinds[last] in _BIAS_AFTER) or op == "PRelu":
                self._grow(last, self._count(node.input))
            self._pass(node, reads)
        elif op == "Flatten" and not self._flattens(node):
            self._pass(node, reads)
        else:
            self._layer(node, reads)

    def _pass(self, node: Any, reads: list[int]) -> None:
        """The node's outputs count as those of the layer before it."""
        self.source.update(dict.fromkeys(node.output, max(reads)))

    def _flattens(self, node: Any) -> bool:
        """Whether a Flatten or Reshape lays a map out in a row; of a single place there is nothing to lay out."""
        if node.op_type not in ("Flatten", "Reshape"):
            return False
        before, after = self.shapes.get(node.input[0]), self.shapes.get(node.output[0]) if node.output else None
        if node.op_type == "Reshape" and (before is None or after is None):
            return False
        return before is None or (len(before) > 2 and set(before[2:]) != {1} and (after is None or len(after) == 2))

    def _layer(self, node: Any, reads: list[int]) -> None:
        output = next(iter(node.output), "")
        shape = self.shapes.get(output)
        attributes = {a.name: tuple(a.ints) or a.i for a in node.attribute}
        weights = next((self.sizes[self.constant[n]] for n in node.input[1:2] if n in self.constant), ())
        rank = len(weights or self.shapes.get(node.input[0]) or (0, 0, 0, 0)) - 2
        kernel = weights[2:] if node.op_type in ("Conv", "ConvTranspose") else _ints(attributes.get("kernel_shape"))
        kind = _KERAS.get(node.op_type, node.op_type).format(n=max(rank, 1))
        if node.op_type == "Conv" and attributes.get("group", 1) not in (0, 1) and weights[1:2] == (1,):
            kind = "Depthwise" + kind
        elif node.op_type == "MatMul" and weights:
            kind = "Dense"
        elif node.op_type == "Reshape":
            kind = "Flatten"
        elif node.op_type == "ReduceMean" and len(self.shapes.get(node.input[0]) or ()) == 4:
            kind = "GlobalAveragePooling2D"
        if kind.startswith("Global") and shape:
            shape = shape[:2]
        frozen = self._count(node.input[3:5]) if node.op_type == "BatchNormalization" else 0
        self._keep(
            self._name(node, kind),
            kind,
            node.op_type,
            _batched((shape[0], *shape[2:], shape[1]) if shape and len(shape) > 3 else shape),
            node.output,
            parameters=0 if node.op_type in _UNLEARNED else self._count(node.input) + frozen,
            frozen=frozen,
            inputs=tuple(sorted(set(reads))),
            kernel=kernel,
            strides=_ints(attributes.get("strides")),
        )

    def _name(self, node: Any, kind: str) -> str:
        name = node.name or next(iter(node.output), "") or f"{kind.lower()}_{len(self.found)}"
        if self.ours:
            for inner in _OUR_INNER:
                name = name.removesuffix(inner)
            return "predictions" if name == "logits" else str(name)
        return str(name)

    def _keep(self, name: str, kind: str, op: str, shape: Shape | None, outputs: Iterable[str], **more: Any) -> None:
        self.source.update(dict.fromkeys(outputs, len(self.found)))
        self.kinds.append(op)
        self.found.append(Layer(name=harmless(name), kind=harmless(kind), shape=shape, **more))

    def _count(self, names: Iterable[str]) -> int:
        """How many numbers the stored tensors behind `names` hold; one that serves twice is counted once."""
        total = 0
        for name in names:
            stored = self.constant.get(name)
            if stored is not None and stored not in self.counted and stored not in self.whole:
                self.counted.add(stored)
                total += math.prod(self.sizes[stored])
        return total

    def _grow(self, position: int, parameters: int) -> None:
        from dataclasses import replace

        layer = self.found[position]
        self.found[position] = replace(layer, parameters=layer.parameters + parameters)


def _inferred(model: Any) -> Any:
    """The graph with the shapes of its tensors, but without its weights: their sizes stand in for them."""
    import onnx
    from onnx import helper

    graph = model.graph
    small = [tensor for tensor in graph.initializer if tensor.ByteSize() <= _KEPT_BYTES]
    known = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if tensor.ByteSize() > _KEPT_BYTES and tensor.name not in known:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in small]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    try:
        return onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError):
        return graph  # an operator that onnx does not know: the shapes are those that the file states


def _dims(tensor: Any) -> tuple[int, ...]:
    dims = tuple(tensor.dims)
    if len(dims) > _MAX_RANK or any(d < 0 for d in dims):
        raise _BrokenError("a weight has an impossible shape: the file is damaged.")
    return dims


def _ints(value: object) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else ()


def _channels_last(shape: Shape | None) -> Shape | None:
    """An input's shape; (N, 3, H, W) is turned, (N, H, W, 3) is left."""
    if shape and len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
        return (shape[0], *shape[2:], shape[1])
    return shape


def _batched(shape: Shape | None) -> Shape | None:
    return (None, *shape[1:]) if shape else shape
