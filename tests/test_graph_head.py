"""A head on a backbone computes what it should, in both runtimes, and the file is no larger than it must be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from photolabel import engine, graph, models
from photolabel.errors import InvalidModelError, UsageError
from photolabel.graph.head import digest, with_head

import oracle

BUNDLED = models.known()[models.BUNDLED].path
RUNTIMES = ["openvino", "onnxruntime"]


def arrays(numbers: int, classes: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "weights": rng.normal(0, 0.1, (numbers, classes)).astype(np.float32),
        "bias": rng.normal(0, 1, classes).astype(np.float32),
        "centres": rng.normal(0, 3, (numbers, classes)).astype(np.float32),
    }


def made(source: Path, layer: str, given: dict[str, np.ndarray], **options: Any) -> bytes:
    options = {"averaged": False, "describe": {"photolabel.x": "y"}, **options}
    return b"".join(with_head(source, layer, **given, **options))


def run(path: Path, runtime: str, pixels: np.ndarray, *layers: str) -> dict[str, np.ndarray]:
    running = engine.open_engine(path, cut=engine.Cut(layers=layers) if layers else engine.WHOLE, runtime=runtime)
    try:
        return running.run(pixels)
    finally:
        running.close()


def check(found: dict[str, np.ndarray], features: np.ndarray, given: dict[str, np.ndarray]) -> None:
    logits = features.astype(np.float64) @ given["weights"] + given["bias"]
    near = 1e-4 * np.abs(logits).max()
    if "logits" in found:
        np.testing.assert_allclose(found["logits"], logits, atol=near)
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found["probabilities"], raised / raised.sum(axis=1, keepdims=True), atol=near)
    unit = given["centres"] / np.linalg.norm(given["centres"], axis=0)
    cosines = (features / np.linalg.norm(features, axis=1, keepdims=True)) @ unit
    np.testing.assert_allclose(found["familiarity"], cosines.max(axis=1), atol=1e-4)


def tiny_pixels(count: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3)).astype(np.float32)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("layer", ["fc2", "fc1", "block5_pool", "block3_pool", "normalised"])
def test_on_a_vgg(tiny: Path, tmp_path: Path, layer: str, runtime: str) -> None:
    pixels = tiny_pixels()
    inner = oracle.forward(oracle.TINY, oracle.he_normal(oracle.TINY), pixels)
    if layer == "normalised":
        features = (pixels[..., ::-1] - oracle.CAFFE.mean).mean(axis=(1, 2))
    else:
        features = inner[layer].mean(axis=(1, 2)) if inner[layer].ndim == 4 else inner[layer]
    given = arrays(features.shape[1])
    path = tmp_path / "x.onnx"
    path.write_bytes(made(tiny, layer, given, averaged=layer[:2] != "fc"))
    onnx.checker.check_model(onnx.load(path), full_check=True)
    whole = run(path, runtime, pixels)
    assert list(whole) == ["probabilities", "familiarity"]
    assert whole["familiarity"].shape == (3,) and whole["familiarity"].dtype == np.float32
    check(whole, features, given)
    check(run(path, runtime, pixels, "logits", "familiarity"), features, given)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_on_the_bundled_model(tmp_path: Path, runtime: str) -> None:
    assert BUNDLED is not None
    pixels = np.random.default_rng(2).integers(0, 256, (2, 260, 260, 3)).astype(np.float32)
    features = run(BUNDLED, runtime, pixels, "features")["features"]
    given = arrays(1280)
    path = tmp_path / "x.onnx"
    path.write_bytes(made(BUNDLED, "features", given))
    check(run(path, runtime, pixels), features, given)
    found = graph.averaged_head(path)
    assert found is not None and found.layer == "feature_map"
    np.testing.assert_array_equal(found.weights, given["weights"].T)


def test_averaged_maps_show_where_the_evidence_is(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(made(tiny, "block5_pool", arrays(8), averaged=True))
    found = graph.averaged_head(path)
    assert found is not None and found.layer == "block5_pool"
    path.write_bytes(made(tiny, "fc2", arrays(16)))
    assert graph.averaged_head(path) is None


def test_without_centres_there_is_one_output(tiny: Path, tmp_path: Path) -> None:
    given = arrays(16)
    del given["centres"]
    path = tmp_path / "x.onnx"
    path.write_bytes(made(tiny, "fc2", given))
    assert list(run(path, "openvino", tiny_pixels())) == ["probabilities"]
    assert [each.name for each in onnx.load(path).graph.output] == ["probabilities"]


def test_what_the_layer_does_not_need_is_left_behind(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(made(tiny, "block1_pool", arrays(8), averaged=True))
    network = onnx.load(path).graph
    stored = {each.name for each in network.initializer}
    assert {name for name in stored if name.startswith("block")} == {"block1_conv1/kernel", "block1_conv1/bias"}
    assert not [node for node in network.node if node.name.startswith(("block2", "fc"))]
    assert {each.key: each.value for each in onnx.load(path).metadata_props} == {"photolabel.x": "y"}


def test_the_same_gives_the_same_bytes_and_weights_are_not_changed(tiny: Path, tmp_path: Path) -> None:
    given = arrays(16)
    data = made(tiny, "fc2", given)
    assert made(tiny, "fc2", given) == data
    network = onnx.load_from_string(data).graph
    stored = {each.name: numpy_helper.to_array(each) for each in network.initializer}
    np.testing.assert_array_equal(stored["head/kernel"], given["weights"])
    kernel, _ = oracle.he_normal(oracle.TINY)["fc1"]
    np.testing.assert_array_equal(stored["fc1/kernel"], kernel)


def test_a_head_can_take_the_place_of_a_head(tiny: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "1.onnx", tmp_path / "2.onnx"
    one.write_bytes(made(tiny, "fc2", arrays(16, 4)))
    other.write_bytes(made(one, "fc2", arrays(16, 3, seed=1)))
    assert other.read_bytes() == made(tiny, "fc2", arrays(16, 3, seed=1))


def test_a_network_is_known_by_what_computes_its_layer(tiny: Path, tmp_path: Path) -> None:
    """A head, names, or what lies behind the layer make no other network of it."""
    known, path = digest(tiny, "fc1"), tmp_path / "head.onnx"
    assert known.startswith("sha256:") and len(known) == 71
    for seed in (1, 2):
        path.write_bytes(made(tiny, "fc1", arrays(oracle.TINY.hidden[0], seed=seed)))
        assert digest(path, "fc1") == known
    behind = onnx.load(tiny)
    kernel = next(each for each in behind.graph.initializer if each.name == "fc2/kernel")
    kernel.raw_data = bytes(len(kernel.raw_data))
    behind.doc_string = "another"
    onnx.save(behind, path)
    assert digest(path, "fc1") == known != digest(tiny, "fc2")
    assert digest(path, "fc2") != digest(tiny, "fc2")


def _weight(model: onnx.ModelProto) -> None:
    tensor = next(each for each in model.graph.initializer if each.name == "block1_conv1/kernel")
    tensor.raw_data = tensor.raw_data[:-1] + bytes([tensor.raw_data[-1] ^ 1])


def _swapped(model: onnx.ModelProto) -> None:
    one, other = [each for each in model.graph.initializer if each.name.startswith("block1_conv")][:2]
    one.name, other.name = other.name, one.name


def _node(model: onnx.ModelProto) -> None:
    next(each for each in model.graph.node if each.op_type == "Relu").op_type = "Sigmoid"


def _opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version += 1


def _input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value += 1


def _function(model: onnx.ModelProto) -> None:
    model.functions.add(name="Relu", domain="")


def _sparse(model: onnx.ModelProto) -> None:
    tensor = model.graph.sparse_initializer.add()
    tensor.values.name = model.graph.input[0].name


@pytest.mark.parametrize("change", [_weight, _swapped, _node, _opset, _input, _function, _sparse])
def test_all_that_computes_a_layer_counts(tiny: Path, tmp_path: Path, change: Callable[[Any], None]) -> None:
    model = onnx.load(tiny)
    change(model)
    onnx.save(model, tmp_path / "x.onnx")
    assert digest(tmp_path / "x.onnx", "fc1") != digest(tiny, "fc1")


@pytest.mark.parametrize("layer", ["logits", "probabilities"])
def test_a_layer_behind_the_scores_is_refused(tiny: Path, layer: str) -> None:
    with pytest.raises(UsageError, match=f"layer {layer}: it needs .* before the classes' scores"):
        made(tiny, layer, arrays(10))


def test_a_layer_that_is_not_there(tiny: Path) -> None:
    with pytest.raises(UsageError, match="no layer 'fc7'"):
        made(tiny, "fc7", arrays(10))


@pytest.mark.parametrize(
    "change",
    [
        {"bias": np.zeros(2, np.float32)},
        {"centres": np.zeros((16, 2), np.float32)},
        {"weights": np.zeros((16, 1), np.float32), "bias": np.zeros(1, np.float32)},
        {"weights": np.full((16, 3), np.nan, np.float32)},
        {"weights": np.zeros((16, 3))},
    ],
)
def test_arrays_that_do_not_fit(tiny: Path, change: dict[str, np.ndarray]) -> None:
    with pytest.raises(UsageError, match="expected"):
        made(tiny, "fc2", {**arrays(16), **change})


@pytest.mark.parametrize("data", [b"", b"no network", b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_network(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(data)
    with pytest.raises((InvalidModelError, UsageError)):
        made(path, "fc2", arrays(16))


def test_any_damage_is_an_error_or_another_network(tiny: Path, tmp_path: Path) -> None:
    """Bytes changed and cut anywhere: an error of ours, or a file whose soundness is for the engine to check."""
    data = tiny.read_bytes()
    path = tmp_path / "x.onnx"
    rng = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data)
        for place in rng.integers(0, len(changed), rng.integers(1, 4)):
            changed[place] = rng.integers(0, 256)
        path.write_bytes(changed)
        try:
            made(path, "fc2", arrays(16))
        except (InvalidModelError, UsageError):
            continue


def stranger(path: Path, *, opset: int, kind: int = TensorProto.FLOAT, last: bool = False, batch: object = "N") -> Path:
    """A network of someone else: 1 x 1 convolution of pixels to 4 maps, channels first or last."""
    number = np.float16 if kind == TensorProto.FLOAT16 else np.float32
    kernel = np.random.default_rng(3).normal(0, 0.01, (4, 3, 1, 1)).astype(number)
    nodes = [helper.make_node("Transpose", ["pixels"], ["first"], perm=[0, 3, 1, 2])]
    if kind == TensorProto.FLOAT16:
        nodes.append(helper.make_node("Cast", ["first"], ["half"], to=kind))
    nodes.append(helper.make_node("Conv", [nodes[-1].output[0], "kernel"], ["maps"], kernel_shape=[1, 1]))
    if last:
        nodes.append(helper.make_node("Transpose", ["maps"], ["features_last"], perm=[0, 2, 3, 1]))
    nodes.append(helper.make_node("GlobalAveragePool", ["maps"], ["out"]))
    network = helper.make_graph(
        nodes,
        "x",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 8, 8, 3])],
        [helper.make_tensor_value_info("out", kind, [batch, 4, 1, 1])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    path.write_bytes(
        helper.make_model(network, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()
    )
    return path


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("opset", [11, 13, 17, 18, 20])
@pytest.mark.parametrize("last", [False, True])
def test_strangers_of_any_time_and_order(tmp_path: Path, runtime: str, opset: int, last: bool) -> None:
    source = stranger(tmp_path / "s.onnx", opset=opset, last=last)
    pixels = np.random.default_rng(4).integers(0, 256, (2, 8, 8, 3)).astype(np.float32)
    layer = "features_last" if last else "maps"
    features = run(source, runtime, pixels, layer)[layer].mean(axis=(1, 2))
    path = tmp_path / "x.onnx"
    path.write_bytes(made(source, layer, arrays(4), averaged=True))
    check(run(path, runtime, pixels, "familiarity"), features, arrays(4))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_strangers_halves_become_whole_floats(tmp_path: Path, runtime: str) -> None:
    source = stranger(tmp_path / "s.onnx", opset=17, kind=TensorProto.FLOAT16)
    pixels = np.random.default_rng(4).integers(0, 256, (2, 8, 8, 3)).astype(np.float32)
    path = tmp_path / "x.onnx"
    path.write_bytes(made(source, "maps", arrays(4), averaged=True))
    found = run(path, runtime, pixels)
    assert found["probabilities"].shape == (2, 3) and abs(found["probabilities"].sum(axis=1) - 1).max() < 1e-3


def test_a_batch_of_one_stays_one(tmp_path: Path) -> None:
    data = made(stranger(tmp_path / "s.onnx", opset=17, batch=1), "maps", arrays(4), averaged=True)
    outputs = onnx.load_from_string(data).graph.output
    assert [each.type.tensor_type.shape.dim[0].dim_value for each in outputs] == [1, 1]
