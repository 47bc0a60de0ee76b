"""A network for one photo at a time takes many where each is looked at alone; where that is not sure, it stays one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from photolabel import engine

import strangers
from adapted import TORCH, by_hand, made, photos, run
from strangers import CLASSES, network


def after_pool(*nodes: Any, tensors: tuple[Any, ...] = (), **more: Any) -> onnx.ModelProto:
    """A network for one photo with `nodes` that make `between` of `pool`."""
    model = network(shape=(1, 3, 16, 16), output=(1, CLASSES), **more)
    model.graph.initializer.extend(tensors)
    flatten = next(node for node in model.graph.node if node.op_type in ("Flatten", "Reshape"))
    place = list(model.graph.node).index(flatten)
    flatten.input[0] = "between"
    for node in reversed(nodes):
        model.graph.node.insert(place, node)
    return model


def stored(name: str, *numbers: float, kind: Any = np.int64) -> Any:
    return numpy_helper.from_array(np.array(numbers, kind), name)


MIXED = {
    "a mean over photos": [helper.make_node("ReduceMean", ["pool"], ["m"], axes=[0]),
                           helper.make_node("Sub", ["pool", "m"], ["between"])],
    "a mean over photos, counted backwards": [helper.make_node("ReduceMean", ["pool"], ["m"], axes=[-4]),
                                              helper.make_node("Add", ["pool", "m"], ["between"])],
    "a mean over everything": [helper.make_node("ReduceMean", ["pool"], ["m"]),
                               helper.make_node("Add", ["pool", "m"], ["between"])],
    "photos and channels change places": [helper.make_node("Transpose", ["pool"], ["t"], perm=[1, 0, 2, 3]),
                                          helper.make_node("Transpose", ["t"], ["between"], perm=[1, 0, 2, 3])],
    "reversed": [helper.make_node("Transpose", ["pool"], ["t"]), helper.make_node("Transpose", ["t"], ["between"])],
    "a softmax over photos": [helper.make_node("Softmax", ["pool"], ["between"], axis=0)],
    "a softmax over photos, counted backwards": [helper.make_node("Softmax", ["pool"], ["between"], axis=-4)],
    "statistics of the batch": [helper.make_node("BatchNormalization", ["pool", "o", "z", "z", "o"],
                                                 ["between", "r", "v"], training_mode=1)],
    "flattened with the photos": [helper.make_node("Flatten", ["pool"], ["f"], axis=0),
                                  helper.make_node("Reshape", ["f", "four"], ["between"])],
    "joined along the photos": [helper.make_node("Concat", ["pool", "pool"], ["c"], axis=0),
                                helper.make_node("ReduceSum", ["c", "zero"], ["between"], keepdims=1)],
    "padded with photos": [helper.make_node("Pad", ["pool", "pads"], ["p"]),
                           helper.make_node("ReduceSum", ["p", "zero"], ["between"], keepdims=1)],
    "an axis dropped": [helper.make_node("Squeeze", ["pool", "zero"], ["s"]),
                        helper.make_node("Unsqueeze", ["s", "zero"], ["between"])],
    "a product with itself": [helper.make_node("Reshape", ["pool", "eight"], ["f"]),
                              helper.make_node("Gemm", ["f", "f"], ["g"], transA=1),
                              helper.make_node("ReduceSum", ["g", "zero"], ["h"], keepdims=1),
                              helper.make_node("Reshape", ["h", "four"], ["between"])],
    "its shape asked for": [helper.make_node("Shape", ["pool"], ["s"]),
                            helper.make_node("Reshape", ["pool", "s"], ["between"])],
    "a shape of other numbers": [helper.make_node("Reshape", ["pool", "two"], ["f"]),
                                 helper.make_node("Reshape", ["f", "four"], ["between"])],
    "a constant for each photo": [helper.make_node("Concat", ["pool", "pool"], ["c"], axis=0),
                                  helper.make_node("ReduceSum", ["c", "zero"], ["between"], keepdims=1)],
    "no operator that is known": [helper.make_node("Einsum", ["pool"], ["between"], equation="abcd->abcd")],
}  # fmt: skip
_TENSORS = (
    stored("four", 1, 8, 1, 1), stored("two", 2, 4, 1, 1), stored("eight", 1, 8), stored("zero", 0),
    stored("pads", 1, 0, 0, 0, 0, 0, 0, 0), stored("o", *[1.0] * 8, kind=np.float32),
    stored("z", *[0.0] * 8, kind=np.float32),
)  # fmt: skip


@pytest.mark.parametrize("case", MIXED)
def test_a_network_that_may_look_at_several_photos_at_once_keeps_to_one(tmp_path: Path, case: str) -> None:
    path = made(tmp_path, after_pool(*MIXED[case], tensors=_TENSORS))
    running = engine.open_engine(path)
    assert running.shape == (1, 16, 16, 3)
    assert running(photos(1)).shape == (1, CLASSES)
    running.close()


ALONE = {
    "axes": [helper.make_node("Squeeze", ["pool", "places"], ["s"]),
             helper.make_node("Unsqueeze", ["s", "places"], ["between"])],
    "axes counted backwards": [helper.make_node("ReduceMean", ["pool"], ["between"], axes=[-1, -2])],
    "a constant for all": [helper.make_node("Add", ["pool", "each"], ["between"])],
    "itself": [helper.make_node("Mul", ["pool", "pool"], ["between"])],
    "a shape that a node holds": [helper.make_node("Constant", [], ["to"], value=stored("v", 1, -1, 1, 1)),
                                  helper.make_node("Reshape", ["pool", "to"], ["between"])],
    "channels joined": [helper.make_node("Concat", ["pool", "pool"], ["c"], axis=-3),
                        helper.make_node("Reshape", ["c", "halves"], ["h"]),
                        helper.make_node("ReduceSum", ["h", "one"], ["between"], keepdims=0)],
    "turned within the photo": [helper.make_node("Transpose", ["pool"], ["between"], perm=[0, 1, 3, 2])],
    "padded within the photo": [helper.make_node("Pad", ["pool", "inner"], ["p"]),
                                helper.make_node("ReduceSum", ["p", "places"], ["between"], keepdims=1)],
    "normalised": [helper.make_node("BatchNormalization", ["pool", "o", "z", "z", "o"], ["between"])],
    "a matrix": [helper.make_node("Reshape", ["pool", "eight"], ["f"]), helper.make_node("MatMul", ["f", "m"], ["g"]),
                 helper.make_node("Softmax", ["g"], ["h"]), helper.make_node("Reshape", ["h", "four"], ["between"])],
}  # fmt: skip


@pytest.mark.parametrize("case", ALONE)
def test_a_network_that_looks_at_each_photo_alone_takes_many(tmp_path: Path, case: str) -> None:
    more = (
        stored("places", 2, 3), stored("halves", 1, 2, 8, 1, 1), stored("one", 1),
        stored("inner", 0, 0, 1, 1, 0, 0, 1, 1),
        numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(1, 8, 1, 1), "each"),
        numpy_helper.from_array(np.eye(8, dtype=np.float32), "m"),
    )  # fmt: skip
    model = after_pool(*ALONE[case], tensors=(*_TENSORS, *more))
    x = photos(3)
    theirs = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    each = [theirs.run(None, {"input": by_hand(x[i : i + 1], TORCH).astype(np.float32)})[0][0] for i in range(3)]
    np.testing.assert_allclose(run(made(tmp_path, model), x), strangers.softmax(np.stack(each)), atol=2e-4)
