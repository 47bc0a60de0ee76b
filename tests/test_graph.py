"""The graph against a NumPy forward pass, and its guards against hostile files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from photolabel import engine, graph, metadata
from photolabel.errors import InvalidModelError, UsageError
from photolabel.models import CAFFE, Normalisation
from photolabel.spec import Spec

import oracle
from oracle import TINY, forward, he_normal, tiny_model, tiny_onnx


def pixels(n: int, seed: int = 1) -> oracle.Array:
    return np.random.default_rng(seed).uniform(0, 255, (n, 32, 32, 3)).astype(np.float32)


def run(path: Path, x: oracle.Array) -> oracle.Array:
    network = engine.open_engine(path)
    try:
        return network(x)
    finally:
        network.close()


@pytest.mark.parametrize(
    "normalisation",
    [
        CAFFE,
        Normalisation(order="RGB", mean=(123.675, 116.28, 103.53), deviation=(58.395, 57.12, 57.375)),
    ],
    ids=["caffe", "mean and deviation"],
)
def test_the_network_is_the_oracle(tmp_path: Path, normalisation: Normalisation) -> None:
    weights = he_normal(TINY)
    path = tmp_path / "x.onnx"
    path.write_bytes(b"".join(graph.build(TINY, weights, normalisation, describe={})))
    x = pixels(4)
    expected = forward(TINY, weights, x, normalisation)["predictions"]
    assert expected.max() < 0.99, "a saturated softmax would prove little"
    np.testing.assert_allclose(run(path, x), expected, atol=2e-5)


@pytest.mark.parametrize("pooling", [None, "avg", "max"])
@pytest.mark.parametrize("shape", [(32, 32, 3), (None, None, 3), (None, None, 1)], ids=str)
def test_networks_without_their_top(tmp_path: Path, shape: tuple[int | None, int | None, int], pooling: Any) -> None:
    """They take preprocessed input of any size, and give features channels last, as Keras does."""
    import openvino

    spec = dataclasses.replace(TINY, top=False, pooling=pooling, shape=shape)
    weights = he_normal(spec)
    path = tmp_path / "x.onnx"
    path.write_bytes(b"".join(graph.build(spec, weights, None, describe={})))
    onnx.checker.check_model(onnx.load(path), full_check=True)
    network = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for height, width in [(32, 32)] if shape[0] else [(32, 32), (70, 33)]:
        x = np.random.default_rng(0).normal(0, 60, (2, height, width, shape[2])).astype(np.float32)
        expected = forward(spec, weights, x, None)[spec.layers[-1].name]
        found = network(x)["features"]
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_a_top_needs_a_size() -> None:
    with pytest.raises(UsageError, match="height and a width"):
        _ = dataclasses.replace(TINY, shape=(None, None, 3)).layers


def test_logits_instead_of_probabilities(tmp_path: Path) -> None:
    spec = dataclasses.replace(TINY, activation="linear")
    path = tmp_path / "x.onnx"
    path.write_bytes(b"".join(graph.build(spec, he_normal(TINY), CAFFE, describe={})))
    x = pixels(2)
    np.testing.assert_allclose(run(path, x), forward(TINY, he_normal(TINY), x)["logits"], rtol=1e-4, atol=1e-3)


def test_every_layer_can_be_asked_for_by_name(tmp_path: Path) -> None:
    """Outputs carry the spec's names and hold what the oracle computes there."""
    import openvino

    path = tmp_path / "x.onnx"
    path.write_bytes(oracle.tiny_onnx())
    core = openvino.Core()
    model = core.read_model(path)
    names = ["block1_conv1", "block3_pool", "block5_pool", "flatten", "fc1", "fc2", "logits"]
    model.add_outputs(names)
    network = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    x = pixels(2)
    expected = forward(TINY, he_normal(TINY), x)
    found = network(x)
    for name in names:
        want = expected[name]
        got = found[name]
        if want.ndim == 4:
            got = got.transpose(0, 2, 3, 1)  # maps are channels first inside the graph
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3 * np.abs(want).max())


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert oracle.tiny_onnx() == oracle.tiny_onnx()


def test_metadata_travels_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(oracle.tiny_onnx())
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert metadata.read(path) == tiny_model().describe()


def hostile(change: str) -> bytes:
    model = onnx.load_from_string(oracle.tiny_onnx())
    tensor = model.graph.initializer[2]
    if change == "external":
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/hostname")
        tensor.ClearField("raw_data")
    elif change == "external in an attribute":
        inner = helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0])
        inner.external_data.add(key="location", value="../secret")
        model.graph.node.append(helper.make_node("Constant", [], ["c"], value=inner))
    elif change == "external in a branch":
        inner = helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0])
        inner.data_location = TensorProto.EXTERNAL
        branch = helper.make_graph([], "branch", [], [], [inner])
        model.graph.node.append(helper.make_node("If", ["q"], ["c"], then_branch=branch, else_branch=branch))
    elif change == "external in a function":
        inner = helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0])
        inner.data_location = TensorProto.EXTERNAL
        node = helper.make_node("Constant", [], ["c"], value=inner)
        model.functions.append(helper.make_function("mine", "F", [], ["c"], [node], [helper.make_opsetid("", 17)]))
    elif change in ("nan", "infinity"):
        array = numpy_helper.to_array(tensor).copy()
        array.flat[3] = np.nan if change == "nan" else -np.inf
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    elif change == "wrong size":
        tensor.raw_data = tensor.raw_data[:-4]
    elif change == "bomb":
        tensor.dims[:] = [200_000, 200_000]
    elif change == "no network":
        return b"\x00\x01\x02" * 50
    return model.SerializeToString()


@pytest.mark.parametrize(
    "change",
    [
        "external",
        "external in an attribute",
        "external in a branch",
        "external in a function",
        "nan",
        "infinity",
        "wrong size",
        "bomb",
        "no network",
    ],
)
def test_hostile_networks_are_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "hostile.onnx"
    path.write_bytes(hostile(change))
    with pytest.raises(InvalidModelError, match="hostile.onnx"):
        graph.check(path)
    with pytest.raises(InvalidModelError):
        engine.open_engine(path)


def test_a_sound_network_passes(tiny: Path) -> None:
    graph.check(tiny)


@pytest.mark.parametrize("name", ["t.json", "x.onnxtxt", "x.textproto", "no-suffix"])
def test_the_suffix_has_no_say(tiny: Path, tmp_path: Path, name: str) -> None:
    """onnx.load() would choose a text format by it."""
    path = tmp_path / name
    path.write_bytes(tiny.read_bytes())
    graph.check(path)


# -- the weights of a graph, back


def test_the_weights_come_back_as_they_went_in(tmp_path: Path) -> None:
    weights = he_normal(TINY)
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_onnx(weights))
    found = graph.arrays(path, TINY)
    assert list(found) == list(TINY.learned)
    for name, (kernel, bias) in found.items():
        np.testing.assert_array_equal(kernel, weights[name][0])
        np.testing.assert_array_equal(bias, weights[name][1])
        assert not kernel.flags.writeable


@pytest.mark.parametrize(
    "other", [dataclasses.replace(TINY, classes=7), dataclasses.replace(TINY, hidden=(16, 16, 16))]
)
def test_the_weights_of_another_network_are_refused(tmp_path: Path, other: Spec) -> None:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_onnx())
    with pytest.raises(InvalidModelError, match="expected the fp32 network|not the weights of"):
        graph.arrays(path, other)


def test_a_graph_cut_short_or_altered_never_gives_other_weights_unseen(tmp_path: Path) -> None:
    whole, path = tiny_onnx(), tmp_path / "tiny.onnx"
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        if rng.random() < 0.5:
            del data[rng.integers(len(data)) :]
        for _ in range(rng.integers(1, 4)):
            if data:
                data[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(data)
        try:
            found = graph.arrays(path, TINY)
        except InvalidModelError:
            continue
        for name, layer in TINY.learned.items():
            assert found[name][0].shape == layer.kernel and np.isfinite(found[name][0]).all()
