"""Networks made fully convolutional, beside the dense layers slid over the last map in NumPy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from photolabel import engine, graph, models, quantize
from photolabel.engine import cuts
from photolabel.errors import InvalidModelError, UsageError
from photolabel.models import CAFFE
from photolabel.spec import VGG16, Spec

import oracle
from conftest import ROOT
from oracle import TINY, forward, he_normal

DENSE = engine.Cut(dense=True, layers=("logits", "scores"))

# Networks whose last map is 1 x 1, 2 x 3 and 3 x 1; one with no hidden layer, one with three, one without a softmax.
SPECS = {
    "tiny": TINY,
    "wide": replace(TINY, shape=(64, 96, 3)),
    "high": replace(TINY, shape=(100, 63, 3), hidden=(), classes=3),
    "deep": replace(TINY, shape=(64, 64, 3), hidden=(7, 6, 5)),
    "linear": replace(TINY, shape=(64, 96, 3), activation="linear"),
}


@pytest.fixture(params=list(engine.RUNTIMES))
def runtime(request: pytest.FixtureRequest) -> str:
    """Each runtime that is installed."""
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.fixture(params=list(SPECS))
def spec(request: pytest.FixtureRequest) -> Spec:
    return SPECS[request.param]


@functools.cache
def built(spec: Spec) -> bytes:
    return b"".join(graph.build(spec, he_normal(spec), CAFFE, describe={}))


def written(spec: Spec, folder: Path) -> Path:
    path = folder / "network.onnx"
    path.write_bytes(built(spec))
    return path


def in_int8(path: Path, spec: Spec) -> Path:
    small = path.with_name("int8.onnx")
    small.write_bytes(quantize.quantize(path, pixels(4, spec), describe={"photolabel.precision": "int8"}))
    return small


def pixels(n: int, spec: Spec, more: tuple[int, int] = (0, 0)) -> oracle.Array:
    """Pictures that are so much larger than the network's own size."""
    height, width, _ = spec.shape
    assert height and width
    return np.random.default_rng(n).uniform(0, 255, (n, height + more[0], width + more[1], 3)).astype(np.float32)


Layers = list[tuple[oracle.Array, oracle.Array, Callable[[oracle.Array], oracle.Array]]]


def slid(spec: Spec, x: oracle.Array) -> tuple[oracle.Array, oracle.Array]:
    """The map of scores, (N, H, W, classes), and what the first dense layer makes at each place, by brute force."""
    weights = he_normal(spec)
    body = replace(spec, top=False, activation="softmax", shape=(*x.shape[1:3], 3))
    last_map = forward(body, weights, x)[f"block{len(spec.blocks)}_pool"]
    names = [layer.name for layer in spec.layers if layer.kind == "Dense"]
    return slid_over(last_map, spec, [(*weights[name], lambda made: made) for name in names])


def slid_over(last_map: oracle.Array, spec: Spec, layers: Layers) -> tuple[oracle.Array, oracle.Array]:
    """The same of a map; `layers` are the kernel and bias of each, and what rounds what it makes."""
    height, width = (side // 2 ** len(spec.blocks) for side in spec.shape[:2] if side)
    rows = []
    for top in range(last_map.shape[1] - height + 1):
        for left in range(last_map.shape[2] - width + 1):
            window = last_map[:, top : top + height, left : left + width]
            found = [window.reshape(len(last_map), -1).astype(np.float64)]
            for number, (kernel, bias, rounded) in enumerate(layers, 1):
                made = found[-1] @ kernel.astype(np.float64) + bias
                found.append(made if number == len(layers) else rounded(np.maximum(made, 0)))
            rows.append((found[-1], found[1]))
    places = (last_map.shape[1] - height + 1, last_map.shape[2] - width + 1)
    scores, first = (np.stack(each, axis=1).reshape(len(last_map), *places, -1) for each in zip(*rows, strict=True))
    return scores.astype(np.float32), first.astype(np.float32)


def in_integers(path: Path, spec: Spec) -> Layers:
    """The dense layers of an 8-bit network, with all that it rounds."""
    model = onnx.load(path)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    def layer(name: str) -> tuple[oracle.Array, oracle.Array, Callable[[oracle.Array], oracle.Array]]:
        made = f"{name}/linear" if name != "predictions" else "logits"
        bias = stored[node(model, made).input[2]]
        scale, zero = (stored.get(f"{name}/{part}", np.float32(1)) for part in ("scale", "zero"))

        def rounded(x: oracle.Array) -> oracle.Array:
            whole: oracle.Array = (np.clip(np.rint(x / scale) + float(zero), 0, 255) - float(zero)) * scale
            return whole

        return stored[f"{name}/kernel/int8"] * stored[f"{name}/kernel/scale"], bias, rounded

    return [layer(each.name) for each in spec.layers if each.kind == "Dense"]


def softmax(x: oracle.Array) -> oracle.Array:
    e = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    result: oracle.Array = (e / e.sum(axis=1, keepdims=True)).astype(np.float32)
    return result


def test_its_own_size_is_the_plain_network(spec: Spec, tmp_path: Path, runtime: str) -> None:
    path, x = written(spec, tmp_path), pixels(3, spec)
    plain = engine.open_engine(path, runtime=runtime)(x)
    running = engine.open_engine(path, cut=DENSE, runtime=runtime)
    assert running.shape == (None, None, None, 3)
    found = running.run(x)
    main = "logits" if spec.activation == "linear" else "probabilities"
    assert list(found) == list(dict.fromkeys((main, "logits", "scores"))) == list(running.shapes)
    assert running.shapes[main] == (None, spec.classes)
    assert found["scores"].shape == (3, 1, 1, spec.classes)
    np.testing.assert_allclose(found[main], plain, atol=1e-5)
    np.testing.assert_allclose(found["scores"][:, 0, 0], found["logits"], atol=1e-5)


@pytest.mark.parametrize("more", [(0, 40), (33, 0), (64, 64), (95, 31), (100, 170)], ids=str)
def test_a_larger_one_is_the_dense_layers_slid_over_it(
    spec: Spec, tmp_path: Path, runtime: str, more: tuple[int, int]
) -> None:
    path, x = written(spec, tmp_path), pixels(2, spec, more)
    running = engine.open_engine(path, cut=DENSE, runtime=runtime)
    for pictures in (x, x[:, :, ::-1], x[1:]):  # as they are, mirrored, and another number of them
        expected, _ = slid(spec, pictures)
        found = running.run(pictures)
        assert found["scores"].shape == expected.shape
        np.testing.assert_allclose(found["scores"], expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found["logits"], expected.mean(axis=(1, 2)), rtol=1e-4, atol=1e-4)
        if spec.activation == "softmax":
            np.testing.assert_allclose(found["probabilities"], softmax(expected.mean(axis=(1, 2))), atol=2e-5)


def test_pictures_of_any_size_one_after_the_other(tmp_path: Path, runtime: str) -> None:
    spec = SPECS["wide"]
    running = engine.open_engine(written(spec, tmp_path), cut=engine.Cut(dense=True), runtime=runtime)
    for more in ((0, 0), (70, 5), (0, 0), (5, 70), (70, 5)):
        x = pixels(2, spec, more)
        np.testing.assert_allclose(running(x), softmax(slid(spec, x)[0].mean(axis=(1, 2))), atol=2e-5)


def test_its_inner_layers_are_maps(tmp_path: Path, runtime: str) -> None:
    spec = SPECS["wide"]
    path, x = written(spec, tmp_path), pixels(2, spec, (40, 70))
    cut = engine.Cut(dense=True, layers=("fc1", "block5_pool", "scores"), only=True)
    found = engine.open_engine(path, cut=cut, runtime=runtime).run(x)
    assert list(found) == ["fc1", "block5_pool", "scores"]
    scores, first = slid(spec, x)
    np.testing.assert_allclose(found["fc1"], first, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-4, atol=1e-4)
    assert found["block5_pool"].shape == (2, 3, 5, 8)


def test_one_fixed_size(tmp_path: Path, runtime: str) -> None:
    spec = SPECS["wide"]
    path, x = written(spec, tmp_path), pixels(2, spec, (32, 64))
    for size in ((96, 160), (None, 160)):
        running = engine.open_engine(path, cut=replace(DENSE, size=size), runtime=runtime)
        assert running.shape == (None, *size, 3)
        np.testing.assert_allclose(running.run(x)["scores"], slid(spec, x)[0], rtol=1e-4, atol=1e-4)
    for too_small in ((63, 96), (64, 95), (None, 32)):
        with pytest.raises(UsageError, match="expected at least the network's own 64 x 96"):
            engine.open_engine(path, cut=replace(DENSE, size=too_small), runtime=runtime)


@pytest.mark.parametrize("shape", [(2, 63, 96, 3), (2, 64, 60, 3), (1, 32, 32, 3)], ids=str)
def test_a_smaller_picture_is_refused(tmp_path: Path, runtime: str, shape: tuple[int, ...]) -> None:
    """OpenVINO would average over no places, and answer."""
    running = engine.open_engine(written(SPECS["wide"], tmp_path), cut=engine.Cut(dense=True), runtime=runtime)
    with pytest.raises(UsageError, match="expected pictures of at least 64 x 96"):
        running(np.zeros(shape, np.float32))
    with pytest.raises(InvalidModelError, match="cannot be run on pixels of shape"):
        running(np.zeros((64, 96, 3), np.float32))


# --- Other precisions -------------------------------------------------------------------------------


def test_in_bf16(tmp_path: Path) -> None:
    if "BF16" not in engine.processor().abilities:
        pytest.skip("this processor does not compute in bf16")
    spec = SPECS["wide"]
    path = written(spec, tmp_path)
    plain = engine.open_engine(path, precision="bf16")
    running = engine.open_engine(path, precision="bf16", cut=DENSE)
    assert running.precision == "bf16"
    x = pixels(2, spec)
    np.testing.assert_allclose(running(x), plain(x), atol=5e-3)
    x = pixels(2, spec, (64, 70))
    expected, found = slid(spec, x)[0], running.run(x)["scores"]
    assert 1e-6 < np.abs(found - expected).max() < 0.03 * np.abs(expected).max(), "near, but in bf16"


@pytest.mark.parametrize("name", ["tiny", "wide", "deep"])
def test_in_8_bits(name: str, tmp_path: Path, runtime: str) -> None:
    spec = SPECS[name]
    path = written(spec, tmp_path)
    small = in_int8(path, spec)
    plain = engine.open_engine(small, runtime=runtime, cut=engine.Cut(layers=("logits",)))
    running = engine.open_engine(small, runtime=runtime, cut=DENSE)
    assert running.precision == "int8"
    x = pixels(3, spec)
    np.testing.assert_allclose(running.run(x)["logits"], plain.run(x)["logits"], atol=2e-2)  # a rounding or two apart
    x = pixels(2, spec, (64, 70))
    body = engine.Cut(layers=(f"block{len(spec.blocks)}_pool",), only=True, size=(None, None))
    last_map = engine.open_engine(small, runtime=runtime, cut=body)(x)
    expected, found = slid_over(last_map, spec, in_integers(small, spec))[0], running.run(x)["scores"]
    assert expected.shape == found.shape
    # In fp32 they would be the same; a value that is rounded the other way moves them by a step or two.
    off = np.abs(found - expected) / np.abs(expected).max()
    assert off.mean() < 2e-3 and off.max() < 0.05
    assert np.abs(found - slid(spec, x)[0]).max() > 1e-3 * np.abs(expected).max(), "in 8 bits"


@pytest.mark.parametrize("zero_points", [False, True])
def test_8_bit_kernels_lie_where_runtimes_look_for_them(tmp_path: Path, zero_points: bool) -> None:
    """Behind a node of any other kind OpenVINO would take them for fp32, four times as large and slow."""
    spec = SPECS["wide"]
    small = in_int8(written(spec, tmp_path), spec)
    made = onnx.load_from_string(cuts.read(small, DENSE, zero_points=zero_points).network)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    maker = {node.output[0]: node for node in made.graph.node}
    kernels = [node for node in made.graph.node if node.op_type == "Conv"][-3:]
    for node, shape in zip(kernels, [(16, 8, 2, 3), (16, 16, 1, 1), (10, 16, 1, 1)], strict=True):
        scaling = maker[node.input[1]]
        assert scaling.op_type == "DequantizeLinear" and len(scaling.input) == 2 + zero_points
        assert [(each.name, each.i) for each in scaling.attribute] == [("axis", 0)]
        assert stored[scaling.input[0]].dtype == np.int8 and stored[scaling.input[0]].shape == shape
        assert stored[scaling.input[1]].shape == shape[:1]


# --- Which networks -----------------------------------------------------------------------------------


def test_the_bundled_network_takes_larger_pictures_as_it_is(runtime: str) -> None:
    path = models.known()[models.BUNDLED].path
    assert path is not None
    plain = engine.open_engine(path, runtime=runtime)
    running = engine.open_engine(path, cut=engine.Cut(dense=True, layers=("logits",)), runtime=runtime)
    x = np.random.default_rng(0).uniform(0, 255, (2, 260, 260, 3)).astype(np.float32)
    np.testing.assert_allclose(running(x), plain(x), atol=1e-5)
    wide = np.concatenate([x, x[:, :, :61]], axis=2)
    found = running.run(wide)
    np.testing.assert_allclose(found["probabilities"], softmax(found["logits"]), atol=1e-5)
    cut = engine.Cut(size=(260, 321))
    np.testing.assert_allclose(found["probabilities"], engine.open_engine(path, cut=cut)(wide), atol=1e-5)
    with pytest.raises(UsageError, match="at least 260 x 260"):
        running(x[:, :259])


def test_an_averaged_network_in_8_bits(tmp_path: Path, runtime: str) -> None:
    """Rounding stands between its average and its dense layer."""
    path = averaged(tmp_path)
    x = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    small = tmp_path / "int8.onnx"
    small.write_bytes(quantize.quantize(path, x, describe={"photolabel.precision": "int8"}))
    for file in (path, small):
        wide = np.concatenate([x, x[:, :, :9]], axis=2)
        running = engine.open_engine(file, cut=engine.Cut(dense=True), runtime=runtime)
        np.testing.assert_allclose(running(x), engine.open_engine(file, runtime=runtime)(x), atol=1e-2)
        kernel = numpy_helper.to_array(onnx.load(path).graph.initializer[1])
        expected = softmax(np.maximum(wide, 0).mean(axis=(1, 2)) @ kernel)
        np.testing.assert_allclose(running(wide), expected, atol=2e-5 if file == path else 5e-2)


def averaged(folder: Path, *, pooling: str = "GlobalAveragePool") -> Path:
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["turned"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["turned", "eye"], ["map"], kernel_shape=[1, 1]),
        helper.make_node(pooling, ["map"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["features"]),
        helper.make_node("Gemm", ["features", "kernel", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    constants = [
        numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "eye"),
        numpy_helper.from_array(rng.normal(0, 0.01, (3, 5)).astype(np.float32), "kernel"),
        numpy_helper.from_array(np.zeros(5, np.float32), "bias"),
    ]
    path = folder / f"{pooling}.onnx"
    path.write_bytes(network(nodes, constants))
    return path


def network(nodes: list[Any], constants: list[Any]) -> bytes:
    """A small network of someone else's."""
    value = helper.make_tensor_value_info
    drawn = helper.make_graph(
        nodes, "stranger", [value("pixels", 1, ["N", 32, 32, 3])], [value("probabilities", 1, ["N", 5])], constants
    )
    imports = [helper.make_opsetid("", 17)]
    made: bytes = helper.make_model(drawn, opset_imports=imports, ir_version=8).SerializeToString()
    return made


def node(model: Any, name: str) -> Any:
    return next(each for each in model.graph.node if name in each.output)


def strangers() -> Iterator[tuple[str, Any]]:
    """Networks that are nearly one that can be made dense."""

    def near(spec: Spec = SPECS["wide"]) -> Any:
        return onnx.load_from_string(built(spec))

    yield "without its top", near(replace(TINY, top=False))
    yield "averaged, without a dense layer", near(replace(TINY, top=False, pooling="avg"))
    model = near()
    node(model, "channels_last").attribute[0].ints[:] = [0, 1, 2, 3]
    yield "flattens channels first", model
    model = near()
    node(model, "flatten").input[0] = "block5_pool"
    yield "does not turn before it flattens", model
    model = near()
    node(model, "fc2/linear").attribute.add(name="transB", type=2, i=1)
    yield "dense layers turned", model
    model = near()
    node(model, "fc1/linear").input[1] = "block5_pool"
    yield "weights that are no constant", model
    model = near()
    kernel = next(each for each in model.graph.initializer if each.name == "fc2/kernel")
    kernel.dims[:] = [4, 4, 16]
    yield "weights of three axes", model
    model = near()
    kernel = next(each for each in model.graph.initializer if each.name == "fc2/kernel")
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel).astype(np.int8), "fc2/whole"))
    model.graph.node.insert(0, helper.make_node("Cast", ["fc2/whole"], ["fc2/kernel"], to=1))
    yield "8-bit weights without a scale", model
    model = near()
    node(model, "flatten").op_type = "Softmax"
    yield "no flattening", model
    model = near()
    node(model, "fc1/linear").input[1] = ""
    yield "no weights", model
    model = near()
    del node(model, "fc1/linear").input[:]
    yield "a dense layer of nothing", model
    model = near()
    del node(model, "fc1").input[:]
    yield "a ReLU of nothing", model
    model = near()
    del node(model, "block1_conv1").input[:]
    yield "a map of nothing", model
    model = near()
    node(model, "block1_conv1").op_type = "Resize"
    yield "a map of who knows what size", model
    for name, ints in (("strides", [0, 0]), ("pads", [1, 1]), ("strides", [1]), ("dilations", [2, 2])):
        model = near()
        convolution = node(model, "block2_conv1/linear")
        kept = [each for each in convolution.attribute if each.name != name]
        del convolution.attribute[:]
        convolution.attribute.extend(kept)
        convolution.attribute.add(name=name, type=7, ints=ints)
        yield f"a convolution with {name} {ints}", model
    model = near()
    node(model, "block1_pool").attribute.add(name="ceil_mode", type=2, i=1)
    yield "a pooling that rounds up", model
    model = near()
    model.graph.input[0].type.tensor_type.shape.dim[1].Clear()
    yield "of no size of its own", model
    model = near()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 160
    yield "a size that its weights do not fit", model
    model = near()
    del model.graph.input[0].type.tensor_type.shape.dim[:]
    yield "a shape of no axes", model
    model = near()
    node(model, "fc1").input[0] = "fc1"
    yield "a circle", model
    model = near()
    node(model, "block1_pool").input[0] = "block3_pool"
    yield "a circle of maps", model


@pytest.mark.parametrize(("what", "model"), [pytest.param(*each, id=each[0]) for each in strangers()])
def test_other_networks_are_refused(what: str, model: Any, tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "stranger.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match="Expected a VGG of photolabel's with its dense layers, or a network that av"):
        engine.open_engine(path, cut=engine.Cut(dense=True), runtime=runtime)


def test_8_bit_weights_that_are_stored_otherwise_are_refused(tmp_path: Path) -> None:
    spec = SPECS["wide"]
    model = onnx.load(in_int8(written(spec, tmp_path), spec))
    tensor = next(each for each in model.graph.initializer if each.name == "fc2/kernel/int8")
    tensor.int32_data.extend(numpy_helper.to_array(tensor).ravel().tolist())
    tensor.ClearField("raw_data")
    path = tmp_path / "otherwise.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match="Expected a VGG of photolabel's"):
        engine.open_engine(path, cut=engine.Cut(dense=True))


def test_an_average_of_another_kind_is_refused(tmp_path: Path, runtime: str) -> None:
    path = averaged(tmp_path, pooling="GlobalMaxPool")
    with pytest.raises(UsageError, match="takes pictures of one size only"):
        engine.open_engine(path, cut=engine.Cut(dense=True), runtime=runtime)


@pytest.mark.parametrize("dense", [1, None, "yes"])
def test_dense_is_true_or_false(dense: Any) -> None:
    with pytest.raises(UsageError, match="expected True or False"):
        engine.Cut(dense=dense)


def test_the_score_map_is_of_dense_networks_only(tiny: Path, runtime: str) -> None:
    with pytest.raises(UsageError, match="no layer 'scores'"):
        engine.open_engine(tiny, cut=engine.Cut(layers=("scores",)), runtime=runtime)


# --- The large one ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG16 of the seeded weights that the benches make."""
    import h5py

    kept = ROOT / ".cache" / "bench" / "vgg16_seeded.h5"
    if not kept.exists():
        pytest.skip("no seeded VGG16 in .cache/bench: bench/whole_process.py makes it")
    weights = {}
    with h5py.File(kept) as file:
        for name in VGG16.learned:
            weights[name] = (file[f"{name}/{name}_W_1:0"][:], file[f"{name}/{name}_b_1:0"][:])
    weights["predictions"] = (weights["predictions"][0] * np.float32(0.02), weights["predictions"][1])
    path = tmp_path_factory.mktemp("vgg16") / "vgg16.onnx"
    with path.open("wb") as out:
        for chunk in graph.build(VGG16, weights, CAFFE, describe={}):
            out.write(chunk)
    return path


def test_vgg16_at_its_own_size_is_the_plain_network(vgg16: Path, runtime: str) -> None:
    x = np.random.default_rng(0).uniform(0, 255, (2, 256, 256, 3)).astype(np.float32)
    running = engine.open_engine(vgg16, cut=DENSE, runtime=runtime)
    found, larger = running.run(x[:, :224, :224]), running.run(x)
    running.close()
    plain = engine.open_engine(vgg16, cut=engine.Cut(layers=("logits",)), runtime=runtime)
    expected = plain.run(np.ascontiguousarray(x[:, :224, :224]))
    plain.close()
    np.testing.assert_allclose(found["probabilities"], expected["probabilities"], atol=1e-5)
    np.testing.assert_allclose(found["logits"], expected["logits"], atol=1e-4)
    assert larger["scores"].shape == (2, 2, 2, 1000)
    np.testing.assert_allclose(larger["logits"], larger["scores"].mean(axis=(1, 2)), atol=1e-4)
    assert expected["probabilities"].max() < 0.9, "or nothing would show"
