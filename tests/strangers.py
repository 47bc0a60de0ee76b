"""ONNX classifiers as other people export them: they say nothing of themselves. And what they compute, in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CLASSES = 5
NAMES = ("ant", "bee", "crane", "crane", "eel")
FLOAT, HALF, DOUBLE, BYTE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8
Array = NDArray[Any]


def weights() -> tuple[Array, Array, Array]:
    """A 3 x 3 kernel (8, 3, 3, 3), a dense one (8, CLASSES) and its bias."""
    rng = np.random.default_rng(7)
    return rng.normal(0, 0.3, (8, 3, 3, 3)), rng.normal(0, 2, (8, CLASSES)), rng.normal(0, 0.5, CLASSES)


def logits(x: Array) -> Array:
    """What the network gives for its own input x (N, 3, H, W): float64 (N, CLASSES)."""
    kernel, dense, bias = weights()
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), axis=(2, 3))
    found = np.maximum(np.einsum("nchwij,ocij->nohw", windows, kernel), 0)
    return np.asarray(found.mean(axis=(2, 3)) @ dense + bias)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def network(
    *,
    kind: int = FLOAT,
    shape: tuple[int | str | None, ...] | None = ("N", 3, 16, 16),
    last: bool = False,
    end: str = "logits",
    input_name: str = "input",
    output: tuple[int | str | None, ...] | None = ("N", CLASSES),
    names: dict[str, str] | None = None,
    opset: int = 17,
    extra: list[Any] | None = None,
    outputs: list[Any] | None = None,
    flatten: str = "Flatten",
) -> onnx.ModelProto:
    """The network in the form wanted; `names` calls its inner tensors otherwise, `last` puts channels last."""
    called = {"conv": "conv", "relu": "relu", "pool": "pool", "flat": "flat", "scores": "scores", **(names or {})}
    kernel, dense, bias = weights()
    real = kind if kind in (HALF, DOUBLE) else FLOAT
    array = {HALF: np.float16, DOUBLE: np.float64}.get(real, np.float32)
    stored = [("kernel", kernel), ("dense", dense), ("bias", bias)]
    tensors = [numpy_helper.from_array(value.astype(array), called.get(name, name)) for name, value in stored]
    nodes, x = [], input_name
    if kind == BYTE:
        nodes.append(helper.make_node("Cast", [x], ["as_float"], to=FLOAT))
        x = "as_float"
    if last:
        nodes.append(helper.make_node("Transpose", [x], ["turned"], perm=[0, 3, 1, 2]))
        x = "turned"
    nodes += [
        helper.make_node("Conv", [x, called.get("kernel", "kernel")], [called["conv"]], kernel_shape=[3, 3]),
        helper.make_node("Relu", [called["conv"]], [called["relu"]]),
        helper.make_node("GlobalAveragePool", [called["relu"]], [called["pool"]]),
    ]
    if flatten == "Flatten":
        nodes.append(helper.make_node("Flatten", [called["pool"]], [called["flat"]]))
    else:
        first = {"Reshape 1": 1, "Reshape -1": -1, "Reshape 0": 0, "Reshape 4": 4}[flatten]
        tensors.append(numpy_helper.from_array(np.array([first, 8], np.int64), "target"))
        nodes.append(helper.make_node("Reshape", [called["pool"], "target"], [called["flat"]]))
    inputs = [called["flat"], called.get("dense", "dense"), called.get("bias", "bias")]
    nodes.append(helper.make_node("Gemm", inputs, [called["scores"]]))
    final = called["scores"]
    for operation in end.split()[1:]:
        attributes: dict[str, Any] = {"axis": 1} if operation in ("Softmax", "LogSoftmax") else {}
        made = f"{operation}_{len(nodes)}".lower()
        if operation == "Reshape":
            tensors.append(numpy_helper.from_array(np.array([-1, CLASSES, 1, 1], np.int64), made + "_to"))
            nodes.append(helper.make_node("Reshape", [final, made + "_to"], [made]))
        elif operation == "Written":  # a softmax as exporters of old wrote it
            axes = {"axes": [1]} if opset < 13 else {}
            more = [] if opset < 13 else ["axis_one"]
            if more:
                tensors.append(numpy_helper.from_array(np.array([1], np.int64), "axis_one"))
            nodes.append(helper.make_node("Exp", [final], ["power"]))
            nodes.append(helper.make_node("ReduceSum", ["power", *more], ["powers"], keepdims=1, **axes))
            nodes.append(helper.make_node("Div", ["power", "powers"], [made]))
        else:
            nodes.append(helper.make_node(operation, [final], [made], **attributes))
        final = made
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [*nodes, *(extra or [])],
        "stranger",
        [value(input_name, kind, shape)],
        [value(final, real, output), *(outputs or [])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def write(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def labels(folder: Path) -> Path:
    path = folder / "classes.txt"
    path.write_text("\n".join(NAMES) + "\n", "utf-8")
    return path
