"""A stranger's ONNX classifier -> photolabel's own form: plain RGB pixels in, probabilities out, described by itself.

The network stays as it is, sub-graphs and functions included. In front of it come the nodes that normalise; behind it
comes a softmax where it has none. Tensors of its own that are called as ours are get other names.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .. import graph
from ..errors import InvalidModelError, UsageError
from ..graph import INPUT, LOGITS, NORMALISED, PROBABILITIES, Drawing
from ..models import Model
from . import batch
from .names import fresh, names, rename

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ..conventions import Convention
    from ..labels import Label

MAX_BYTES = 2 * 10**9  # protobuf holds 2 GiB, and what is added needs some
_OLDEST = 7  # the opset since which Sub and Div broadcast as NumPy does
_STANDARD = ("", "ai.onnx")  # the domain of ONNX's own operators
_KEPT_BYTES = 4096  # constants that shapes are inferred from are small; weights are not
# What comes after a softmax and leaves its numbers in their order.
_TRANSPARENT = {
    "Cast", "DequantizeLinear", "Dropout", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Unsqueeze",
}  # fmt: skip
_CAST_IN, _CAST_OUT, _FLAT = "normalised_as", "leaving_as", "batch_by_classes"
_OURS = {
    INPUT, "bgr", "channel_order", "centred", "mean", "scaled", "deviation", NORMALISED, _CAST_IN, LOGITS, _CAST_OUT,
    _FLAT, PROBABILITIES,
}  # fmt: skip
_SHOWN = 8  # of inputs or outputs in a message

Shape = tuple[int | None, ...]


def adapt(
    path: Path,
    *,
    name: str,
    source: str,
    labels: Sequence[Label],
    convention: Convention,
    softmax: bool = True,
    many: bool = True,
) -> bytes:
    """Return the classifier in the ONNX file at `path` in photolabel's own form, called `name`.

    `labels` name its classes in order; `source` says where it comes from. Without `softmax` none is added, for a
    network whose own cannot be seen; without `many` it takes one photo at a time. The same arguments give the same
    bytes. Raises `InvalidModelError` for what is no such classifier, and says what to write into the recipe where that
    helps.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InvalidModelError(f"{path}: cannot be read: {error.strerror}.") from None
    if size > MAX_BYTES:
        raise InvalidModelError(f"{path}: {size:,} bytes; a network of at most {MAX_BYTES:,} can be adapted.")
    try:
        return _Stranger(graph.check(path), convention, labels).adapted(name, source, softmax=softmax, many=many)
    except _UnfitError as error:
        raise InvalidModelError(f"{path}: {error}") from None
    except (ValueError, TypeError):  # names that are no UTF-8, numbers of another size than their shape's, ...
        raise InvalidModelError(f"{path}: a broken ONNX file: what is in it contradicts itself.") from None


class _UnfitError(Exception):
    """Why a network is not one that can be adapted."""


class _Stranger:
    """A network with one input for pictures and one output for classes, both found."""

    def __init__(self, model: Any, convention: Convention, labels: Sequence[Label]) -> None:
        self.model, self.convention, self.labels = model, convention, labels
        self.graph = model.graph
        self.opset = max((x.version for x in model.opset_import if x.domain in _STANDARD), default=0)
        if any(function.domain in _STANDARD for function in model.functions):
            raise _UnfitError("it gives an operator of ONNX's own another meaning: refused.")
        if self.opset < _OLDEST:
            raise _UnfitError(f"its ONNX opset is {self.opset}: expected {_OLDEST} or later. Export it again.")
        self.input = self._input()
        self.entering = self.input.name  # its tensor of normalised photos
        self.kind: int = self.input.type.tensor_type.elem_type
        self.batch, self.channels_first, self.size = self._picture()
        try:
            self.recipe = convention.recipe(self.size)
        except UsageError as error:
            raise _UnfitError(f"the recipe {convention.name} does not fit it. {error}") from None
        self.shapes = self._inferred()
        self.leaving, self.leaving_kind = self._output()

    # -- what it is

    def _input(self) -> Any:
        stored = {x.name for x in self.graph.initializer} | {x.values.name for x in self.graph.sparse_initializer}
        inputs = [x for x in self.graph.input if x.name not in stored]
        if len(inputs) != 1:
            raise _UnfitError(f"expected a network with one input, photos; this one has {_named(inputs) or 'none'}.")
        return inputs[0]

    def _picture(self) -> tuple[int | None, bool, int | None]:
        """The batch size, whether channels come first, and the side of the photos; None is any."""
        from onnx import TensorProto

        called = f"its input {_harmless(self.entering)}"
        if self.kind not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8):
            raise _UnfitError(f"{called} holds {_kind(self.kind)}: expected float, float16, double or uint8.")
        normalisation = self.convention.normalisation
        if self.kind == TensorProto.UINT8 and (any(normalisation.mean) or set(normalisation.deviation) != {1.0}):
            raise _UnfitError(
                f"{called} is of uint8, so pixels enter it as they are: take the recipe raw, or in the "
                'recipe file "mean": [0, 0, 0] and "deviation": [1, 1, 1].'
            )
        declared = _declared(self.input)
        shape: Shape = (None,) * 4 if declared is None else declared
        if len(shape) != 4:
            raise _UnfitError(f"{called} has the shape {_written(shape)}: expected photos, (batch, 3, height, width).")
        first, last = shape[1] == 3, shape[3] == 3
        layout = self.convention.layout
        if layout is None:
            if first == last:
                raise _UnfitError(
                    f"{called} has the shape {_written(shape)}, by which it cannot be told which axis holds the three "
                    'colours: write the recipe as a JSON file, in it "layout": "NCHW" or "layout": "NHWC".'
                )
            layout = "NCHW" if first else "NHWC"
        channels, height, width = (shape[1], *shape[2:]) if layout == "NCHW" else (shape[3], *shape[1:3])
        if channels not in (3, None) or (None not in (height, width) and height != width):
            raise _UnfitError(
                f"{called} has the shape {_written(shape)}: expected photos of three colours and as wide as high, "
                f"by the layout {layout}."
            )
        size = height or width
        if size and self.convention.size not in (None, size):
            raise _UnfitError(f"{called} takes {size} x {size} pixels, but the recipe makes {self.convention.size}.")
        return shape[0], layout == "NCHW", size

    def _inferred(self) -> dict[str, Shape]:
        """The shapes of its tensors as far as they can be told, for photos as the recipe makes them."""
        import onnx
        from onnx import helper

        side = self.recipe.size
        sides: list[int | str] = [3, side, side] if self.channels_first else [side, side, 3]
        shape: list[int | str] = ["N" if self.batch is None else self.batch, *sides]
        skeleton = onnx.ModelProto(ir_version=max(self.model.ir_version, 4))
        skeleton.opset_import.extend(self.model.opset_import)
        skeleton.functions.extend(self.model.functions)
        inner = skeleton.graph
        inner.name = "skeleton"
        inner.node.extend(self.graph.node)
        inner.output.extend(self.graph.output)
        inner.input.append(helper.make_tensor_value_info(self.entering, self.kind, shape))
        for tensor in self.graph.initializer:
            if tensor.ByteSize() <= _KEPT_BYTES:
                inner.initializer.append(tensor)
            else:
                inner.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        found = inner
        # An operator that onnx does not know: then what the file declares must do.
        with suppress(onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError):
            found = onnx.shape_inference.infer_shapes(skeleton).graph
        shapes = {x.name: tuple(x.dims) for x in self.graph.initializer}
        for value in (*found.value_info, *found.input, *found.output):
            declared = _declared(value)
            if declared is not None:
                shapes[value.name] = declared
        return shapes

    def _output(self) -> tuple[str, int]:
        """The name of its output for the classes, and the kind of its numbers."""
        from onnx import TensorProto

        outputs, classes = list(self.graph.output), len(self.labels)
        described = _named(outputs, self.shapes)
        wanted = self.convention.output
        if wanted is not None:
            outputs = [x for x in outputs if x.name == wanted]
            if not outputs:
                raise _UnfitError(f"it has no output {wanted[:80]!r}. It has {described or 'none'}.")
        elif len(outputs) > 1:
            outputs = [x for x in outputs if len(self.shapes.get(x.name, ())) == 2 and self._classes(x.name) == classes]
            if len(outputs) != 1:
                raise _UnfitError(
                    f"it has several outputs: {described}. Expected one of shape (N, {classes}), as there are "
                    f'{classes} labels; or write the recipe as a JSON file, in it "output": "NAME".'
                )
        if len(outputs) != 1:
            raise _UnfitError("it has no output.")
        (chosen,) = outputs
        kind = chosen.type.tensor_type.elem_type
        if kind not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE):
            raise _UnfitError(
                f"its output {_harmless(chosen.name)} holds {_kind(kind)}: expected float, class by class."
            )
        found = self._classes(chosen.name)
        if found is not None and found != classes:
            raise _UnfitError(f"there are {classes} labels, but its output {described} has {found} classes.")
        return chosen.name, kind

    def _classes(self, name: str) -> int | None:
        """How many numbers a tensor holds for each photo; None where its shape does not say."""
        shape = self.shapes.get(name, ())
        rest = shape[1:] if len(shape) > 1 else shape
        return None if not rest or None in rest else math.prod(x for x in rest if x is not None)

    # -- what becomes of it

    def adapted(self, name: str, source: str, *, softmax: bool, many: bool) -> bytes:
        from onnx import TensorProto, helper, numpy_helper

        if many and self.batch is not None:
            many = batch.free(self.graph, self.entering, self.leaving, self.batch, self.shapes, self.opset)
        if not many and self.batch not in (None, 1):
            raise _UnfitError(f"it takes {self.batch} photos at a time: export it with a batch of 1, or of any size.")
        size = "N" if many else 1
        self._make_room()
        drawing = Drawing()
        entering = graph.normalise(drawing, self.convention.normalisation, channels_first=self.channels_first)
        if self.kind != TensorProto.FLOAT:
            entering = drawing.add("Cast", [entering], _CAST_IN, to=self.kind)
        rename(self.graph, {self.entering: entering})
        before, drawing.nodes = drawing.nodes, []
        self._finish(drawing, softmax=softmax)
        nodes = [*before, *self.graph.node, *drawing.nodes]
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        self.graph.initializer.extend(numpy_helper.from_array(array, each) for each, array in drawing.constants.items())
        del self.graph.input[:], self.graph.output[:], self.graph.value_info[:]
        side = self.recipe.size
        value = helper.make_tensor_value_info
        self.graph.input.append(value(INPUT, TensorProto.FLOAT, [size, side, side, 3]))
        self.graph.output.append(value(PROBABILITIES, TensorProto.FLOAT, [size, len(self.labels)]))
        return self._described(name, source)

    def _make_room(self) -> None:
        """Give what is called as a tensor of ours another name."""
        taken = names(self.graph)
        apart = {name: fresh(name, taken) for name in sorted(_OURS & taken)}
        rename(self.graph, apart)
        self.entering, self.leaving = (apart.get(x, x) for x in (self.entering, self.leaving))
        self.shapes = {apart.get(x, x): shape for x, shape in self.shapes.items()}

    def _finish(self, drawing: Drawing, *, softmax: bool) -> None:
        """Draw what is missing between the network's output and probabilities, (N, classes) float32."""
        import numpy as np
        from onnx import TensorProto

        makers = {output: node for node in self.graph.node for output in node.output}
        if self.leaving not in makers:
            raise _UnfitError("its output is not computed from its input: expected a classifier.")
        own, after = _softmax_before(self.leaving, makers)
        self.leaving = after or self.leaving
        if own is not None and own not in makers:
            raise _UnfitError("nothing comes before its softmax: expected a classifier.")
        steps: list[tuple[str, list[str], dict[str, Any]]] = []
        if self.leaving_kind != TensorProto.FLOAT:
            steps.append(("Cast", [], {"to": TensorProto.FLOAT}))
        shape = self.shapes.get(self.leaving)
        if shape is not None and len(shape) != 2:
            if self._classes(self.leaving) is None:
                raise _UnfitError(f"its output has the shape {_written(shape)}: expected (N, {len(self.labels)}).")
            classes = drawing.constant(_FLAT, np.array([-1, len(self.labels)], np.int64))
            steps.append(("Reshape", [classes], {}))
        if own is not None:
            rename(self.graph, {own: LOGITS})
        missing = softmax and own is None
        last = LOGITS if missing else PROBABILITIES
        if steps:
            x = self.leaving
            for i, (operation, more, attributes) in enumerate(steps, 1):
                x = drawing.add(operation, [x, *more], last if i == len(steps) else _CAST_OUT, **attributes)
        else:
            rename(self.graph, {self.leaving: last})
        if missing:
            drawing.add("Softmax", [LOGITS], PROBABILITIES, axis=1)

    def _described(self, name: str, source: str) -> bytes:
        from onnx import helper

        described = Model(
            name=name,
            recipes=(self.recipe,),
            labels=tuple(self.labels),
            source=source,
            licence="unknown: that of the network",
        )
        self.model.ir_version = max(self.model.ir_version, 4)  # since which a stored tensor need not be an input too
        self.model.ClearField("training_info")
        helper.set_model_props(self.model, described.describe())  # in the place of whatever it says of itself
        serialized: bytes = self.model.SerializeToString(deterministic=True)
        return serialized


def _softmax_before(name: str, makers: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """What enters the softmax from which the tensor `name` comes as it is, and what leaves it; None for none seen.

    What leaves it is None too where the numbers are rounded after it.
    """
    rounded = False
    for _ in makers:  # no further than there are nodes: a stranger's may go in a circle
        node = makers.get(name)
        if node is None or node.domain not in _STANDARD or not node.input:
            break
        if node.op_type == "Softmax":
            return str(node.input[0]), None if rounded else name
        if node.op_type in ("Sigmoid", "HardSigmoid"):
            raise _UnfitError(
                "it ends in a sigmoid, which finds each class by itself: expected a network that chooses between its "
                "classes, ending in a softmax or before it."
            )
        if node.op_type == "Div" and (power := _exponent(node, makers)):
            return power, None if rounded else name
        if node.op_type not in _TRANSPARENT:
            break
        rounded |= node.op_type in ("Cast", "DequantizeLinear", "QuantizeLinear")
        name = node.input[0]
    return None, None


def _exponent(node: Any, makers: Mapping[str, Any]) -> str | None:
    """What enters a softmax that is written out, Exp(x) / ReduceSum(Exp(x)), given its Div."""
    above, below = (makers.get(x) for x in node.input)
    if above is None or below is None or above.op_type != "Exp" or below.op_type != "ReduceSum":
        return None
    return str(above.input[0]) if below.input[0] == node.input[0] else None


def _declared(value: Any) -> Shape | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)


def _named(values: Sequence[Any], shapes: Mapping[str, Shape] | None = None) -> str:
    """Inputs or outputs in words."""
    listed = []
    for value in values[:_SHOWN]:
        shape = (shapes or {}).get(value.name) or _declared(value)
        listed.append(_harmless(value.name) + (f" {_written(shape)}" if shape is not None else ""))
    return ", ".join(listed) + (", ..." if len(values) > _SHOWN else "")


def _written(shape: Shape) -> str:
    return f"({', '.join('?' if x is None else str(x) for x in shape)})"


def _kind(number: int) -> str:
    from onnx import TensorProto

    return (
        str(TensorProto.DataType.Name(number).lower())
        if number in TensorProto.DataType.values() and number
        else "no tensor"
    )


def _harmless(name: str) -> str:
    return ascii(name[:80])
