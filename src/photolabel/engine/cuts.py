"""A network, parsed -> the part of it that is asked for.

What is not needed for the outputs is taken out, so that a runtime neither keeps nor computes it. Both runtimes cut
here, before they see the network, so a cut means the same in both.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import graph
from ..errors import InvalidModelError, UsageError
from ..graph import outline, parts
from . import dense, soundness

NO_PICTURE_NETWORK = "expected a network from pixels, its one input, to outputs that have names."
# The layer before the classes, by what photolabel's own networks call it.
BEFORE_CLASSES = ("fc2", "features")
_INT8 = 3  # TensorProto.INT8


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What to take of a network.

    `layers` names inner tensors to be given out, float32, those of rank 4 channels last (N, H, W, C): beside the
    network's own output, or with `only` instead of it. `size` is another height and width of the
    input, None for any, for what lies before dense layers. `dense` makes those convolutions, so that the whole network
    runs on pictures of any size from its own upwards (or of `size`) and answers with probabilities (N, classes) still;
    `logits` is then the average of `scores`, (N, H, W, classes). Networks that cannot be so are a `UsageError`.
    """

    layers: tuple[str, ...] = ()
    only: bool = False
    size: tuple[int | None, int | None] | None = None
    dense: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.layers, tuple) or not all(isinstance(name, str) for name in self.layers):
            raise UsageError(f"layers={self.layers!r}: expected a tuple of names.")
        if self.only and not self.layers:
            raise UsageError("only: expected at least one layer to be given out instead of the network's own output.")
        if not isinstance(self.dense, bool):
            raise UsageError(f"dense={self.dense!r}: expected True or False.")
        if self.size is not None and not (len(self.size) == 2 and all(map(_is_side, self.size))):
            raise UsageError(f"size={self.size!r}: expected a height and a width of at least 1, or None for any.")


def _is_side(side: object) -> bool:
    return side is None or (isinstance(side, int) and not isinstance(side, bool) and side >= 1)


WHOLE = Cut()


@dataclass(frozen=True, kw_only=True)
class Part:
    """A cut of a network: `network`, the bytes of an ONNX file, and `outputs`, what it gives out.

    These are, in order, each tensor's name, and whether it is channels first if it is of rank 4. `least` is the height
    and width that its pictures must have where they may be of any size.
    """

    network: bytes
    outputs: dict[str, bool]
    least: tuple[int, int] = (0, 0)


def read(path: Path, cut: Cut, *, zero_points: bool = False) -> Part:
    """Return the cut of the network at `path`.

    `zero_points` writes out those of 8-bit weights, which may be left out where they are zero. Raises `UsageError` for
    a layer that is not there or cannot be computed, and `InvalidModelError` for a file that is no sound network.
    """
    if soundness.is_ours(path) and not (zero_points or cut.dense):
        return _copied(path, cut)
    model = graph.check(path)
    outputs, least = _apply(model, cut, path)
    if zero_points:
        _write_zero_points(model.graph)
    return Part(network=model.SerializeToString(), outputs=outputs, least=least)


def _copied(path: Path, cut: Cut) -> Part:
    """The same for a network that was looked into before, and none of whose weights change.

    They are copied as they lie in the file: to parse and write half a gigabyte again takes seconds, in which no other
    thread of Python gets anywhere.
    """
    found = outline.read(path)
    model, network = found.model, found.network
    for each in found.stored:
        network.initializer.add(name=each.name)  # which is all that is asked of them
    model.graph.CopyFrom(network)
    outputs, least = _apply(model, cut, path)
    needed = {tensor.name for tensor in model.graph.initializer}
    network.CopyFrom(model.graph)
    del network.initializer[:]
    model.ClearField("graph")
    kept = [each for each in found.stored if each.name in needed]
    size = sum(each.size for each in kept)
    made = graph.serialized(model, network, {}, copied=outline.copied(path, kept), copied_bytes=size)
    return Part(network=b"".join(made), outputs=outputs, least=least)


def _apply(model: Any, cut: Cut, path: Path) -> tuple[dict[str, bool], tuple[int, int]]:
    network = model.graph
    constants = {tensor.name for tensor in network.initializer}
    inputs = [each for each in network.input if each.name not in constants]
    if len(inputs) != 1 or not network.output:
        raise InvalidModelError(f"{path}: {NO_PICTURE_NETWORK}")
    source, main, size, least = inputs[0], network.output[0].name, cut.size, (0, 0)
    if cut.dense:
        least = dense.spread(network, source)
        size = size or (None, None)
        if any(side is not None and side < own for side, own in zip(size, least, strict=True)):
            raise UsageError(f"size={size}: expected at least the network's own {least[0]} x {least[1]}.")
        constants = {tensor.name for tensor in network.initializer}
    maker = {name: node for node in network.node for name in node.output if name}
    for layer in cut.layers:
        if layer not in maker:
            raise _no_such_layer(layer, model)
    own = given_out([each.name for each in network.output]) if cut == WHOLE else [main]
    wanted = list(dict.fromkeys(cut.layers if cut.only else (*own, *cut.layers)))
    found = {name: name not in own and parts.is_channels_first(name, maker, constants) for name in wanted}
    needed = parts.reachable(wanted, maker)
    if size is not None:
        _resize(source, size)
    parts.remove(network.node, [needed.isdisjoint(node.output) for node in network.node])
    parts.remove(network.initializer, [tensor.name not in needed for tensor in network.initializer])
    # Types and shapes are the runtime's to find out: those in the file may be of another size.
    del network.value_info[:]
    kind = type(source)
    del network.output[:]
    network.output.extend([kind(name=name) for name in wanted])
    return found, least


def given_out(outputs: Sequence[str]) -> list[str]:
    """Return which of a whole network's outputs are given out: the first, and how familiar photos are to it."""
    return [*outputs[:1], *(name for name in outputs[1:] if name == graph.FAMILIARITY)]


def names(model: Any) -> list[str]:
    """The names of what a parsed network computes, in order; its layers without their steps, such as `fc2/linear`."""
    found = [name for node in model.graph.node for name in node.output if name]
    return [name for name in found if "/" not in name] or found


def _no_such_layer(layer: str, model: Any) -> UsageError:
    every = [name for node in model.graph.node for name in node.output if name]
    close = difflib.get_close_matches(layer, names(model), n=3) or difflib.get_close_matches(layer, every, n=3)
    told = f"Close: {', '.join(close)}." if close else f"Its last ones: {', '.join(names(model)[-6:])}."
    return UsageError(f"the network has no layer {layer!r}. {told}")


def _resize(source: Any, size: tuple[int | None, int | None]) -> None:
    axes = source.type.tensor_type.shape.dim
    if len(axes) != 4:
        raise UsageError(f"size: the network's input has {len(axes)} axes: expected (N, height, width, 3).")
    for i, side in enumerate(size, 1):
        axes[i].Clear()
        if side is None:
            axes[i].dim_param = f"axis_{i}"
        else:
            axes[i].dim_value = side


def _write_zero_points(network: Any) -> None:
    constants = {tensor.name: tensor for tensor in network.initializer}
    for node in network.node:
        if node.op_type == "DequantizeLinear" and len(node.input) == 2 and set(node.input) <= set(constants):
            weight, scale = (constants[name] for name in node.input)
            if weight.data_type == _INT8:
                zeros = type(weight)(name=f"{weight.name}/zero", data_type=_INT8, dims=scale.dims)
                zeros.raw_data = bytes(math.prod(scale.dims))
                network.initializer.append(zeros)
                node.input.append(zeros.name)
