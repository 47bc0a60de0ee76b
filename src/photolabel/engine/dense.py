"""A network for pictures of one size -> the same one, fully convolutional, for all that are larger.

Simonyan and Zisserman (arXiv 1409.1556, 3.2): the first dense layer becomes a convolution as large as the last map, the
others become 1 x 1; what was one score a class becomes a map of them, and its average over all places enters the
softmax. Stored weights become kernels by nodes that a runtime computes once, when it compiles. Not those of 8 bits:
behind such nodes OpenVINO takes them for plain numbers, and computes in fp32. They are turned here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError

SCORES = "scores"
_INT, _INTS = 2, 7  # of AttributeProto
_INT8, _INT64 = 3, 7  # of TensorProto
_CHANNELS_LAST, _CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")
# What leaves each place of a map where it is; and what leaves the numbers of a vector, or of a map of one place.
_BY_PLACE = (*_ROUNDING, "Relu", "Identity", "Gather", "Sub", "Div", "Transpose")
_RESHAPING = (*_ROUNDING, "Flatten", "Reshape", "Squeeze", "Identity", "Dropout")


def spread(network: Any, source: Any) -> tuple[int, int]:
    """Make a parsed graph run on larger pictures than those of its input `source`; return the least height and width.

    Its main output stays what it is, probabilities (N, classes). Of a VGG as `graph.build` draws it the dense layers
    become convolutions, `scores` is the map of the classes' scores and `logits` its average over all places. A network
    that averages its last map before its only dense layer can do all this already. Raises `UsageError` for others.
    """
    height, width = [*(axis.dim_value for axis in source.type.tensor_type.shape.dim), 0, 0, 0][1:3]
    maker = {name: node for node in network.node for name in node.output if name}
    if not _is_averaged(network.output[0].name, maker):
        head = _head(network, maker)
        places = _places(head.last_map, maker, source.name, [height, width]) if head else None
        if head is None or places is None or head.dense[0].rows % math.prod(places):
            raise UsageError(
                "dense: this network takes pictures of one size only. Expected a VGG of photolabel's with its dense "
                "layers, or a network that averages its last map before its only dense layer, as the bundled one does."
            )
        _make_convolutional(network, head, places)
    return height, width


@dataclass(frozen=True)
class _Dense:
    """A dense layer: its node, its stored weights (rows, columns), and the node that scales those of 8 bits."""

    node: Any
    stored: Any
    scaling: Any

    @property
    def rows(self) -> int:
        return int(self.stored.dims[0])


@dataclass(frozen=True)
class _Head:
    """The dense layers of a network, in order, and the map, channels first, that the first one flattens."""

    dense: list[_Dense]
    last_map: str


def _before(name: str, maker: Mapping[str, Any], passed: tuple[str, ...]) -> Any:
    """The node that makes a tensor, passing over those of some kinds; None where it comes from outside."""
    node, steps = maker.get(name), 0
    while node is not None and node.op_type in passed and steps < len(maker):  # a circle ends
        node, steps = maker.get(_input(node)), steps + 1
    return node


def _is_averaged(main: str, maker: Mapping[str, Any]) -> bool:
    dense = _before(main, maker, ("Softmax", *_RESHAPING))
    pooling = _before(_input(dense), maker, _RESHAPING) if dense is not None and dense.op_type == "Gemm" else None
    return pooling is not None and pooling.op_type == "GlobalAveragePool"


def _head(network: Any, maker: Mapping[str, Any]) -> _Head | None:
    """The dense layers of a VGG as photolabel draws it, or None for another network."""
    constants = {tensor.name: tensor for tensor in network.initializer}
    dense: list[_Dense] = []
    node = _before(network.output[0].name, maker, ("Softmax",))
    while node is not None and node.op_type == "Gemm" and len(dense) < len(maker):
        scaling = maker.get(_input(node, 1))
        stored = constants.get(_input(node, 1) if scaling is None else _input(scaling))
        # transB and others are of networks by someone else, of whose order of numbers nothing is known.
        if node.attribute or stored is None or len(stored.dims) != 2:
            return None
        if scaling is not None and (scaling.op_type != "DequantizeLinear" or not _is_int8(stored)):
            return None
        dense.insert(0, _Dense(node, stored, scaling))
        flattening = maker.get(_input(node))
        node = _before(_input(node), maker, (*_ROUNDING, "Relu"))
    if not dense or flattening is None or flattening.op_type != "Flatten":
        return None
    turning = maker.get(_input(flattening))
    if turning is None or turning.op_type != "Transpose" or _ints(turning, "perm") != _CHANNELS_LAST:
        return None
    return _Head(dense, _input(turning))


def _places(last_map: str, maker: Mapping[str, Any], source: str, own: list[int]) -> list[int] | None:
    """Height and width of the last map, of pictures of the network's own size; None where that cannot be told."""
    chain: list[Any] = []
    while last_map in maker and len(chain) < len(maker):
        chain.insert(0, maker[last_map])
        last_map = _input(chain[0])
    if last_map != source:
        return None
    sides = own
    for node in chain:
        if node.op_type in ("Conv", "MaxPool"):
            kernel, pads, strides = (_ints(node, name) for name in ("kernel_shape", "pads", "strides"))
            pads, strides = pads or [0] * 4, strides or [1, 1]
            if (len(kernel), len(pads), len(strides)) != (2, 4, 2) or min(strides) < 1:
                return None
            if {each.name for each in node.attribute} - {"kernel_shape", "pads", "strides"}:
                return None
            sides = [(sides[i] + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i in (0, 1)]
        elif node.op_type not in _BY_PLACE:
            return None
    return sides if min(sides) >= 1 else None


def _make_convolutional(network: Any, head: _Head, places: list[int]) -> None:
    make, nodes = type(head.dense[0].node), []
    for layer in head.dense:
        height, width = places if layer is head.dense[0] else (1, 1)
        rows, columns = layer.stored.dims
        shape = [columns, height, width, rows // (height * width)]  # Keras flattens channels last
        if layer.scaling is None:
            name = layer.stored.name
            turned, spread, kernel = (f"{name}/{step}" for step in ("turned", "spread", "kernel"))
            given = type(layer.stored)(name=f"{name}/shape", data_type=_INT64, dims=[4], int64_data=shape)
            network.initializer.append(given)
            # In two steps: at once, which jumps through 411 MB, takes OpenVINO twice as long.
            nodes += [
                _with(make(op_type="Transpose", input=[name], output=[turned]), perm=[1, 0]),
                make(op_type="Reshape", input=[turned, given.name], output=[spread]),
                _with(make(op_type="Transpose", input=[spread], output=[kernel]), perm=_CHANNELS_FIRST),
            ]
            layer.node.input[1] = kernel
        else:
            numbers = np.frombuffer(layer.stored.raw_data, np.int8).reshape(rows, columns)
            kernels = numbers.T.reshape(shape).transpose(_CHANNELS_FIRST)
            layer.stored.raw_data = kernels.tobytes()
            layer.stored.dims[:] = kernels.shape
            del layer.scaling.attribute[:]
            _with(layer.scaling, axis=0)
        layer.node.op_type = "Conv"
        _with(layer.node, kernel_shape=[height, width])
    first, last = head.dense[0].node, head.dense[-1].node
    first.input[0] = head.last_map
    logits, average = last.output[0], f"{SCORES}/average"
    last.output[0] = SCORES
    for node in network.node:
        nodes.append(make.FromString(node.SerializeToString()))  # a copy, for the place in between
        if SCORES in node.output:
            nodes += [
                make(op_type="GlobalAveragePool", input=[SCORES], output=[average]),
                make(op_type="Flatten", input=[average], output=[logits]),
            ]
    del network.node[:]
    network.node.extend(nodes)


def _is_int8(stored: Any) -> bool:
    return bool(stored.data_type == _INT8 and len(stored.raw_data) == math.prod(stored.dims))


def _input(node: Any, place: int = 0) -> str:
    """What a node reads there; a stranger's may read nothing."""
    return str(node.input[place]) if place < len(node.input) else ""


def _ints(node: Any, name: str) -> list[int]:
    return next((list(each.ints) for each in node.attribute if each.name == name), [])


def _with(node: Any, **attributes: int | list[int]) -> Any:
    for name, value in attributes.items():
        if isinstance(value, int):
            node.attribute.add(name=name, type=_INT, i=value)
        else:
            node.attribute.add(name=name, type=_INTS, ints=value)
    return node
