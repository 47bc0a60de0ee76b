"""Whether a network that was exported for a fixed number of photos looks at each by itself; then for any number.

The tensors whose first axis is the photos are followed from the input on. Each node that reads one must be known to
treat what lies along that axis one by one, and so to do with any number of them what it does with those; the first
that is not known leaves the network as it is. Numbers written into the targets of Reshape are the only things changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .names import fresh, names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Shape = tuple[int | None, ...]

# Number by number, or each photo by weights: what is read besides the first input is constant.
_ONE_BY_ONE = {
    "Abs", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Celu", "Clip", "Conv", "ConvTranspose", "Dropout",
    "Elu", "Erf", "Exp", "Floor", "Gelu", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity",
    "InstanceNormalization", "LRN", "LeakyRelu", "Log", "MaxPool", "Mish", "Neg", "Reciprocal", "Relu", "Round",
    "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh",
}  # fmt: skip
_BROADCAST = {"Add", "Div", "Max", "Mean", "Min", "Mul", "PRelu", "Pow", "Sub", "Sum"}
_BY_AXIS = {"LogSoftmax": 1, "Softmax": 1, "LayerNormalization": -1}  # and the axis if none is given, before opset 13
_BY_AXES = {"ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Squeeze", "Unsqueeze"}


def free(graph: Any, entering: str, leaving: str, size: int, shapes: Mapping[str, Shape], opset: int) -> bool:
    """Make `graph` take any number of photos in place of `size`; False, and nothing is changed, where that may not be.

    `shapes` are those of its tensors, as far as they are known, for `size` photos.
    """
    walk = _Walk(graph, entering, size, shapes, opset)
    if not all(walk.passes(node) for node in graph.node) or leaving not in walk.batched:
        return False
    walk.write()
    return True


class _Walk:
    def __init__(self, graph: Any, entering: str, size: int, shapes: Mapping[str, Shape], opset: int) -> None:
        self.graph, self.size, self.shapes, self.opset = graph, size, shapes, opset
        self.batched = {entering}
        self.stored = {tensor.name: tensor for tensor in graph.initializer}
        self.reshapes: list[tuple[Any, list[int]]] = []

    def passes(self, node: Any) -> bool:
        """Whether the node does to each photo what it would do to it alone; its outputs are photos then."""
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if any(a.HasField("g") or a.graphs for a in node.attribute):
            return False  # a sub-graph may read whatever is around it
        if not self.batched.intersection(node.input):
            if node.op_type == "Constant" and "value" in attributes:
                self.stored[node.output[0]] = attributes["value"].t
            return True  # made of constants
        outputs = [name for name in node.output if name]
        if node.domain not in ("", "ai.onnx") or len(outputs) != 1 or not self._rule(node, attributes):
            return False
        self.batched.update(outputs)
        return True

    def _rule(self, node: Any, attributes: Mapping[str, Any]) -> bool:
        operation, (first, *others) = node.op_type, node.input
        if operation in _BROADCAST:
            return self._broadcasts(node.input)
        if operation == "Concat":
            axis = self._axis(first, attributes["axis"].i) if "axis" in attributes else None
            return bool(axis) and self.batched.issuperset(node.input)
        if first not in self.batched or self.batched.intersection(others):
            return False
        if operation in _ONE_BY_ONE:
            training = attributes.get("training_mode")
            return not (training and training.i)
        if operation == "Flatten":
            return "axis" not in attributes or attributes["axis"].i == 1
        if operation in _BY_AXIS:
            default = -1 if self.opset >= 13 else _BY_AXIS[operation]
            return bool(self._axis(first, attributes["axis"].i if "axis" in attributes else default))
        rules: dict[str, Callable[[Any, Mapping[str, Any]], bool]] = {
            "Gemm": self._gemm, "MatMul": self._matmul, "Transpose": self._transpose, "Pad": self._pad,
            "Reshape": self._reshape,
        }  # fmt: skip
        if operation in _BY_AXES:
            return self._axes(node, attributes)
        return operation in rules and rules[operation](node, attributes)

    def _rank(self, name: str) -> int | None:
        shape = self.shapes.get(name)
        return None if shape is None else len(shape)

    def _axis(self, name: str, axis: int) -> int | None:
        """The axis counted from the front; None where the rank is not known."""
        rank = self._rank(name)
        return axis if axis >= 0 else None if rank is None else axis + rank

    def _numbers(self, name: str) -> list[int] | None:
        """The whole numbers that a tensor always is."""
        from onnx import TensorProto, numpy_helper

        tensor = self.stored.get(name)
        if tensor is None or tensor.data_type not in (TensorProto.INT64, TensorProto.INT32):
            return None
        return [int(x) for x in numpy_helper.to_array(tensor).ravel()]

    def _broadcasts(self, inputs: Any) -> bool:
        """Whether all photos among `inputs` are of one rank, and all else is the same for every photo."""
        ranks = {self._rank(name) for name in inputs if name in self.batched}
        if len(ranks) != 1 or None in ranks:
            return len(ranks) == 1 and self.batched.issuperset(inputs) and len(set(inputs)) == 1
        (rank,) = ranks
        assert rank is not None
        return all(name in self.batched or self._same_for_all(name, rank) for name in inputs)

    def _same_for_all(self, name: str, rank: int) -> bool:
        shape = self.shapes.get(name)
        return shape is not None and (len(shape) < rank or (len(shape) == rank and shape[0] == 1))

    def _gemm(self, node: Any, attributes: Mapping[str, Any]) -> bool:
        return not ("transA" in attributes and attributes["transA"].i) and (
            len(node.input) < 3 or not node.input[2] or self._same_for_all(node.input[2], 2)
        )

    def _matmul(self, node: Any, _attributes: Mapping[str, Any]) -> bool:
        rank, other = self._rank(node.input[0]), self._rank(node.input[1])
        return rank is not None and rank >= 2 and other == 2

    def _transpose(self, _node: Any, attributes: Mapping[str, Any]) -> bool:
        return "perm" in attributes and list(attributes["perm"].ints)[:1] == [0]

    def _pad(self, node: Any, attributes: Mapping[str, Any]) -> bool:
        pads = list(attributes["pads"].ints) if "pads" in attributes else self._numbers((*node.input, "", "")[1])
        return pads is not None and len(node.input) < 4 and not any((*pads[:1], *pads[len(pads) // 2 :][:1]))

    def _axes(self, node: Any, attributes: Mapping[str, Any]) -> bool:
        axes = list(attributes["axes"].ints) if "axes" in attributes else self._numbers((*node.input, "")[1])
        counted = node.output[0] if node.op_type == "Unsqueeze" else node.input[0]
        return axes is not None and axes != [] and all(self._axis(counted, axis) for axis in axes)

    def _reshape(self, node: Any, attributes: Mapping[str, Any]) -> bool:
        target = self._numbers(node.input[1]) if len(node.input) == 2 else None
        if not target or len(target) < 2 or ("allowzero" in attributes and attributes["allowzero"].i):
            return False
        if target[0] == -1 and self.shapes.get(node.output[0], (None,))[0] != self.size:
            return False
        if target[0] not in (0, -1, self.size):
            return False
        if target[0]:
            self.reshapes.append((node, [0, *target[1:]]))  # as many as there are
        return True

    def write(self) -> None:
        """Let the targets of Reshape name no number of photos any more."""
        import numpy as np
        from onnx import numpy_helper

        taken = names(self.graph)
        for node, target in self.reshapes:
            name = fresh(node.input[1], taken)
            taken.add(name)
            self.graph.initializer.append(numpy_helper.from_array(np.array(target, np.int64), name))
            node.input[1] = name
