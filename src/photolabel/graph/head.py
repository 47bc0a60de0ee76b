"""A network up to one of its layers, and a linear head -> one ONNX graph that names the head's classes.

The backbone is not parsed: of its half gigabyte only the nodes are, and the weights that are still needed are copied
from file to file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError
from . import FAMILIARITY, FEATURES, LOGITS, PROBABILITIES, Drawing, outline, parts, serialized

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

_AXES_ARE_AN_INPUT = 18  # of ReduceL2, ReduceMax and ReduceMean, since this opset
_TINY = 1e-12
_AVERAGED, _KERNEL, _BIAS = f"{FEATURES}/map", "head/kernel", "head/bias"
_LENGTH, _UNIT, _CENTRES, _LIKENESS = "features/length", "features/unit", "head/centres", "head/likeness"


def with_head(
    source: Path,
    layer: str,
    weights: NDArray[np.float32],
    bias: NDArray[np.float32],
    *,
    averaged: bool,
    centres: NDArray[np.float32] | None = None,
    describe: Mapping[str, str],
) -> Iterator[bytes | memoryview]:
    """Return the network at `source` up to `layer`, and a linear head on it, as chunks of a file.

    `weights` are float32 (numbers, classes), `bias` float32 (classes,). A layer that is a map, of rank 4, is to be
    `averaged` over its places first. The outputs are `probabilities`, float32 (N, classes), and with `centres`,
    float32 (numbers, classes), `familiarity`, float32 (N,), -1..1: the largest of the cosines between the layer's
    numbers and a centre. `logits` is what enters the softmax. `describe` becomes the file's metadata. The same
    arguments give the same bytes.

    Raises `UsageError` for a layer that is not there or lies behind the classes' scores, and for arrays that do not fit
    together; `InvalidModelError` for a file that is no sound network. The file must not change until all is written.
    """
    _check(weights, bias, centres)
    backbone = _read(source)
    _cut(backbone, layer, source)
    drawing = _drawn(backbone, layer, weights, bias, averaged=averaged, centres=centres)
    from onnx import helper

    network, model = backbone.network, backbone.model
    network.node.extend(drawing.nodes)
    _give_out(backbone, classes=weights.shape[1], familiarity=centres is not None)
    helper.set_model_props(model, dict(describe))
    kept = [each for each in backbone.stored if each.name in backbone.needed]
    size = sum(each.size for each in kept)
    return serialized(model, network, drawing.constants, copied=outline.copied(source, kept), copied_bytes=size)


def digest(source: Path, layer: str) -> str:
    """Return `sha256:` and the hash of all that computes a layer of the network at `source`: nodes, inputs and weights.

    `with_head` leaves that as it is, so a network with another head has the same. Raises what `with_head` does for
    the network and the layer.
    """
    backbone = _read(source)
    _cut(backbone, layer, source)
    network, model = backbone.network, backbone.model
    sets = sorted((each.domain, each.version) for each in model.opset_import)
    made = hashlib.sha256(f"photolabel layer 1\n{layer!r}\n{sets!r}\n".encode())
    for group in (model.functions, network.input, network.sparse_initializer, network.node):
        made.update(f"{len(group)}\n".encode())
        for each in group:
            text = each.SerializeToString(deterministic=True)
            made.update(f"{len(text)}\n".encode())
            made.update(text)
    kept = sorted((each for each in backbone.stored if each.name in backbone.needed), key=lambda each: each.name)
    made.update(f"{[each.size for each in kept]!r}\n".encode())
    for data in outline.copied(source, kept):
        made.update(data)
    return f"sha256:{made.hexdigest()}"


@dataclass
class _Backbone:
    """A network without its weights, which stay in the file; `needed` are its tensors that are to be kept."""

    model: Any
    network: Any
    stored: list[outline.Stored]
    needed: set[str]


def _check(weights: NDArray[np.float32], bias: NDArray[np.float32], centres: NDArray[np.float32] | None) -> None:
    if weights.ndim != 2 or weights.shape[1] < 2 or bias.shape != weights.shape[1:]:
        raise UsageError(
            f"expected weights (numbers, classes) and a bias (classes,), got {weights.shape} and {bias.shape}."
        )
    if centres is not None and centres.shape != weights.shape:
        raise UsageError(f"expected centres {weights.shape}, as the weights are; got {centres.shape}.")
    for array in (weights, bias, *(() if centres is None else (centres,))):
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise UsageError("expected a head of finite numbers, float32.")


def _read(source: Path) -> _Backbone:
    found = outline.read(source)
    found.model.ClearField("doc_string")
    return _Backbone(model=found.model, network=found.network, stored=found.stored, needed=set())


def _cut(backbone: _Backbone, layer: str, source: Path) -> None:
    """Take out of the graph what the layer does not need."""
    network = backbone.network
    maker = {name: node for node in network.node for name in node.output if name}
    if layer not in maker:
        raise UsageError(f"{source}: the network has no layer {layer!r}.")
    backbone.needed = needed = parts.reachable([layer], maker)
    stored = {each.name for each in backbone.stored}
    parts.remove(network.node, [needed.isdisjoint(node.output) for node in network.node])
    parts.remove(network.sparse_initializer, [each.values.name not in needed for each in network.sparse_initializer])
    parts.remove(network.input, [each.name in stored and each.name not in needed for each in network.input])
    parts.remove(network.value_info, [each.name not in needed for each in network.value_info])
    del network.quantization_annotation[:]  # only says, by name, what QuantizeLinear nodes say anyway
    network.ClearField("doc_string")


def _drawn(
    backbone: _Backbone,
    layer: str,
    weights: NDArray[np.float32],
    bias: NDArray[np.float32],
    *,
    averaged: bool,
    centres: NDArray[np.float32] | None,
) -> Drawing:
    """The head's nodes and arrays."""
    drawing = Drawing()
    opset = max((each.version for each in backbone.model.opset_import if each.domain in ("", "ai.onnx")), default=0)
    x = layer
    if averaged:
        x = _averaged(backbone, drawing, x, opset)
    if _is_no_float32(backbone, layer):
        from onnx import TensorProto

        x = drawing.add("Cast", [x], "features/float32", to=TensorProto.FLOAT)
    entering = [x, drawing.constant(_KERNEL, weights), drawing.constant(_BIAS, bias)]
    drawing.add("Softmax", [drawing.add("Gemm", entering, LOGITS)], PROBABILITIES, axis=1)
    if centres is not None:
        length = _reduced(drawing, "ReduceL2", x, f"{_LENGTH}/bare", [1], opset, keepdims=1)
        tiny = drawing.constant(f"{_LENGTH}/least", np.array([_TINY], np.float32))  # nobody may divide by zero
        unit = drawing.add("Div", [x, drawing.add("Add", [length, tiny], _LENGTH)], _UNIT)
        lengths = np.maximum(np.linalg.norm(centres.astype(np.float64), axis=0), _TINY)
        stored = drawing.constant(_CENTRES, (centres / lengths).astype(np.float32))
        likeness = drawing.add("MatMul", [unit, stored], _LIKENESS)
        _reduced(drawing, "ReduceMax", likeness, FAMILIARITY, [1], opset, keepdims=0)
    ours = {node.output[0] for node in drawing.nodes} | set(drawing.constants)
    if taken := sorted(ours & backbone.needed):
        raise UsageError(
            f"layer {layer}: it needs {taken[0]}, which is what photolabel calls a part of a head. Choose a layer "
            "before the classes' scores."
        )
    return drawing


def _averaged(backbone: _Backbone, drawing: Drawing, x: str, opset: int) -> str:
    maker = {name: node for node in backbone.network.node for name in node.output if name}
    if not parts.is_channels_first(x, maker, {each.name for each in backbone.stored}):
        return _reduced(drawing, "ReduceMean", x, FEATURES, [1, 2], opset, keepdims=0)
    return drawing.add("Flatten", [drawing.add("GlobalAveragePool", [x], _AVERAGED)], FEATURES)


def _reduced(drawing: Drawing, operation: str, x: str, name: str, axes: list[int], opset: int, *, keepdims: int) -> str:
    if opset < _AXES_ARE_AN_INPUT:
        return drawing.add(operation, [x], name, axes=axes, keepdims=keepdims)
    given = drawing.constant(f"{name}/axes", np.array(axes, np.int64))
    return drawing.add(operation, [x, given], name, keepdims=keepdims)


def _is_no_float32(backbone: _Backbone, layer: str) -> bool:
    """Whether the layer is known to be of another type than the head: float16, of a stranger's network."""
    import onnx

    known = onnx.ModelProto()
    known.CopyFrom(backbone.model)
    known.graph.CopyFrom(backbone.network)
    given = {each.name for each in known.graph.input}
    for each in backbone.stored:
        if each.name in backbone.needed and each.name not in given:
            known.graph.input.append(onnx.helper.make_tensor_value_info(each.name, each.kind, each.dims))
    try:
        found = onnx.shape_inference.infer_shapes(known).graph.value_info
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError):
        return False  # an operator that onnx does not know; a network in another type would not compile
    kinds = {value.name: value.type.tensor_type.elem_type for value in found}
    return kinds.get(layer, onnx.TensorProto.FLOAT) not in (0, onnx.TensorProto.FLOAT)


def _give_out(backbone: _Backbone, *, classes: int, familiarity: bool) -> None:
    from onnx import TensorProto, helper

    network, stored = backbone.network, {each.name for each in backbone.stored}
    axes = [each.type.tensor_type.shape.dim for each in network.input if each.name not in stored]
    first = next(iter(axes[0]), None) if axes else None
    batch: int | str = first.dim_value if first is not None and first.dim_value else "N"
    if first is not None and first.dim_param:
        batch = first.dim_param
    del network.output[:]
    outputs = {PROBABILITIES: [batch, classes], **({FAMILIARITY: [batch]} if familiarity else {})}
    network.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()
    )
