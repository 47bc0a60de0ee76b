"""Layers read out of ONNX files: ours, strangers', hostile ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from photolabel import graph, layers, models
from photolabel.errors import InvalidModelError
from photolabel.spec import VGG16

import oracle
from oracle import TINY, he_normal


def write(
    path: Path,
    nodes: list[Any],
    weights: dict[str, tuple[int, ...]],
    shape: tuple[Any, ...] = ("N", 3, 32, 32),
) -> Path:
    """An ONNX file as another tool would write it: channels first, nothing said of itself."""
    tensors = [numpy_helper.from_array(np.zeros(size, np.float32), name) for name, size in weights.items()]
    value = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, shape)],
        [value(nodes[-1].output[0], TensorProto.FLOAT, None)],
        tensors,
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def residual(path: Path, name: str = "first") -> Path:
    """Two convolutions with batch normalisation, one skipped by an addition, pooled into a dense layer."""
    node = helper.make_node
    return write(
        path,
        [
            node("Conv", ["x", "k1", "b1"], ["a"], name=name, pads=[1, 1, 1, 1]),
            node("BatchNormalization", ["a", "s", "o", "m", "v"], ["n"], name="norm"),
            node("Relu", ["n"], ["r"]),
            node("Conv", ["r", "k2"], ["c"], name="second", pads=[1, 1, 1, 1], strides=[1, 1]),
            node("Add", ["c", "r"], ["d"], name="sum"),
            node("Sigmoid", ["d"], ["e"]),
            node("Mul", ["d", "e"], ["f"], name="swish"),
            node("GlobalAveragePool", ["f"], ["g"], name="pool"),
            node("Flatten", ["g"], ["h"], name="flat"),
            node("MatMul", ["h", "w"], ["i"], name="dense"),
            node("Add", ["i", "wb"], ["j"], name="bias"),
            node("Softmax", ["j"], ["p"]),
        ],
        {
            "k1": (8, 3, 3, 3), "b1": (8,), "s": (8,), "o": (8,), "m": (8,), "v": (8,),
            "k2": (8, 8, 3, 3), "w": (8, 5), "wb": (5,),
        },
    )  # fmt: skip


@pytest.mark.parametrize(
    "spec",
    [
        TINY,
        dataclasses.replace(TINY, activation="linear"),
        dataclasses.replace(TINY, top=False),
        dataclasses.replace(TINY, top=False, shape=(None, None, 3)),
        dataclasses.replace(TINY, top=False, pooling="avg"),
        dataclasses.replace(TINY, top=False, pooling="max"),
    ],
    ids=["tiny", "linear", "no top", "any size", "avg", "max"],
)
def test_what_photolabel_made_of_a_spec_reads_like_the_spec(tmp_path: Path, spec: Any) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"".join(graph.build(spec, he_normal(spec), models.CAFFE, describe={})))
    assert layers.read(path) == layers.layers(spec)


def test_a_known_vgg_needs_no_file() -> None:
    model = models.resolve("vgg16")
    assert layers.layers(model) == layers.layers(VGG16)
    assert sum(layer.parameters for layer in layers.layers(model)) == VGG16.parameters


def test_the_bundled_model_counts_each_weight_once() -> None:
    model = models.resolve(models.BUNDLED)
    found = layers.layers(model)
    stored = onnx.load(str(model.path)).graph.initializer
    not_learned = {"mean", "deviation", "zero", "six"}
    expected = sum(int(np.prod(tensor.dims)) for tensor in stored if tensor.name not in not_learned)
    assert sum(layer.parameters for layer in found) == expected > 6_000_000
    assert found[0].shape == (None, 260, 260, 3) and found[-1].shape == (None, 1000)
    kinds = {layer.kind for layer in found}
    assert kinds == {"InputLayer", "Conv2D", "DepthwiseConv2D", "Add", "GlobalAveragePooling2D", "Dense"}
    assert sum(layer.kind == "DepthwiseConv2D" for layer in found) == 21, "one in each block"
    assert all(layer.shape is not None for layer in found)


def test_a_stranger_s_network(tmp_path: Path) -> None:
    found = layers.read(residual(tmp_path / "x.onnx"))
    assert [(x.name, x.kind, x.shape, x.parameters, x.frozen, x.inputs) for x in found] == [
        ("x", "InputLayer", (None, 32, 32, 3), 0, 0, ()),
        ("first", "Conv2D", (None, 32, 32, 8), 8 * 27 + 8, 0, (0,)),
        ("norm", "BatchNormalization", (None, 32, 32, 8), 32, 16, (1,)),
        ("second", "Conv2D", (None, 32, 32, 8), 8 * 72, 0, (2,)),
        ("sum", "Add", (None, 32, 32, 8), 0, 0, (2, 3)),
        ("pool", "GlobalAveragePooling2D", (None, 8), 0, 0, (4,)),
        ("dense", "Dense", (None, 5), 45, 0, (5,)),
    ]


def test_shared_weights_count_once(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [node("Conv", [x, "k"], [y], name=y, pads=[1, 1, 1, 1]) for x, y in (("x", "a"), ("a", "b"))]
    found = layers.read(write(tmp_path / "x.onnx", nodes, {"k": (3, 3, 3, 3)}))
    assert [layer.parameters for layer in found] == [0, 81, 0]


def test_what_nobody_learned_is_not_counted(tmp_path: Path) -> None:
    nodes = [helper.make_node("Resize", ["x", "", "scales"], ["y"], name="up")]
    (_, layer) = layers.read(write(tmp_path / "x.onnx", nodes, {"scales": (4,)}))
    assert (layer.kind, layer.parameters) == ("UpSampling2D", 0)


def test_an_operator_that_onnx_does_not_know_is_a_layer_of_unknown_shape(tmp_path: Path) -> None:
    nodes = [helper.make_node("Telepathy", ["x"], ["y"], name="t", domain="of.mine")]
    (_, layer) = layers.read(write(tmp_path / "x.onnx", nodes, {}))
    assert (layer.name, layer.kind, layer.shape) == ("t", "Telepathy", None)


def test_weights_outside_the_file_are_not_touched(tmp_path: Path) -> None:
    path = residual(tmp_path / "x.onnx")
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/nowhere")
        tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    assert sum(layer.parameters for layer in layers.read(path)) == 224 + 32 + 576 + 45


@pytest.mark.parametrize(
    "bad", ["junk", "empty", "cut", "negative", "rank", "no nodes", "endless", "folder", "missing"]
)
def test_hostile_files_are_a_typed_error(tmp_path: Path, bad: str) -> None:
    path = residual(tmp_path / "hostile.onnx")
    model = onnx.load(path)
    if bad in ("junk", "empty"):
        path.write_bytes(b"\x00\x01\x02" * 50 if bad == "junk" else b"")
    elif bad == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif bad == "negative":
        model.graph.initializer[0].dims[0] = -1
    elif bad == "rank":
        model.graph.initializer[0].dims[:] = [2**62] * 400
    elif bad == "no nodes":
        del model.graph.node[:]
    elif bad == "endless":
        node = helper.make_node("Add", ["x", "r"], ["r"])
        del model.graph.node[5:]
        model.graph.node.extend([node] * (layers.MAX_LAYERS + 1))
    elif bad == "folder":
        path = tmp_path
    elif bad == "missing":
        path = tmp_path / "missing.onnx"
    if bad in ("negative", "rank", "no nodes", "endless"):
        path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidModelError, match=path.name):
        layers.read(path)


def test_a_file_beyond_protobuf_s_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)  # sparse: no byte of it is stored
    with pytest.raises(InvalidModelError, match="2,147,483,648 bytes"):
        layers.read(path)


def test_every_cut_of_a_file_is_read_or_refused(tmp_path: Path) -> None:
    whole = oracle.tiny_onnx()
    path = tmp_path / "cut.onnx"
    for end in range(0, len(whole), 211):
        path.write_bytes(whole[:end])
        try:
            layers.read(path)
        except InvalidModelError:
            continue


def test_names_are_made_harmless(tmp_path: Path) -> None:
    name = "a\x1b[2J\n<b>&\u202e\ufffe" + "x" * 500
    found = layers.read(residual(tmp_path / "x.onnx", name))[1].name
    assert found.startswith(r"a\x1b[2J\n<b>&\u202e\ufffexxx") and len(found) <= 120 and found.endswith("…")
    assert found.isprintable()
