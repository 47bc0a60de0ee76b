"""8-bit networks: what is rounded and where, how near they stay, and that none passes for another precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import photolabel
from photolabel import artefacts, engine, graph, images, metadata, models, quantize
from photolabel.cli import main
from photolabel.errors import UsageError
from photolabel.spec import VGG16
from photolabel.store import Store

import oracle
from conftest import ROOT
from oracle import TINY


def inputs(n: int = 6) -> list[oracle.Array]:
    return list(np.random.default_rng(8).uniform(0, 255, (n, 32, 32, 3)).astype(np.float32))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    path = tmp_path_factory.mktemp("int8") / "tiny-int8.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTOLABEL_CACHE", str(path.parent / "cache"))
        path.write_bytes(quantize.quantize(tiny, inputs(), describe={"photolabel.precision": "int8"}))
    return path


PIXELS = "block1_conv1"  # has the pixels themselves for its input, which keep all their steps


def test_weights_are_integers_of_one_scale_a_channel(small: Path, tiny: Path) -> None:
    model = onnx.load(small)
    onnx.checker.check_model(model, full_check=True)
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    original = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tiny).graph.initializer}
    for name, layer in TINY.learned.items():
        assert f"{name}/kernel" not in arrays, "the fp32 weights are gone"
        stored, scale = arrays[f"{name}/kernel/int8"], arrays[f"{name}/kernel/scale"]
        assert stored.dtype == np.int8 and scale.shape == (layer.kernel[-1],)
        shape = (-1, 1, 1, 1) if stored.ndim == 4 else (1, -1)
        step = scale.reshape(shape)
        assert (np.abs(stored * step - original[f"{name}/kernel"]) <= step / 2 * 1.001).all()
        most, inputs_to = (64, quantize._PIXEL_STEPS) if name == PIXELS else (100, quantize._INPUT_STEPS)
        assert (np.abs(stored).max(axis=tuple(i for i in range(stored.ndim) if shape[i] == 1)) == most).all()
        # Two products of 8-bit inputs, added up in 16 bits, as processors without VNNI do it.
        assert 2 * inputs_to * int(np.abs(stored).max()) <= np.iinfo(np.int16).max


def test_pixels_keep_all_their_steps(small: Path) -> None:
    graph = onnx.load(small).graph
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear")
    assert 0.9 < float(arrays[first.input[1]]) < 1.1, "a level of 255 is about one step"


def test_rounding_comes_before_each_pooling(small: Path) -> None:
    """The largest of rounded values is the rounding of the largest, and a quarter of the work."""
    nodes = list(onnx.load(small).graph.node)
    maker = {output: node for node in nodes for output in node.output}
    poolings = [node for node in nodes if node.op_type == "MaxPool"]
    assert len(poolings) == 5
    for node in poolings:
        assert maker[node.input[0]].op_type == "DequantizeLinear"
    for node in nodes:
        if node.op_type in ("Conv", "Gemm"):
            before = maker[node.input[0]]
            while before.op_type in ("MaxPool", "Transpose", "Flatten"):
                before = maker[before.input[0]]
            assert before.op_type == "DequantizeLinear", node.name


def test_it_stays_near(small: Path, tiny: Path) -> None:
    x = np.stack(inputs(20)[6:])
    found, expected = (
        engine.open_engine(path, cut=engine.Cut(layers=("fc2",), only=True)).run(x)["fc2"] for path in (small, tiny)
    )
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.99
    assert not np.array_equal(found, expected), "else nothing was rounded"


def test_single_outliers_do_not_set_the_range() -> None:
    values = np.zeros(1_000_000, np.float32)
    values[:5], values[5:20] = 1000, 3
    assert quantize._greatest(values) == 3
    assert quantize._greatest(np.array([1, 7, 3], np.float32)) == 7


def test_the_same_photos_give_the_same_bytes(small: Path, tiny: Path) -> None:
    again = quantize.quantize(tiny, inputs(), describe={"photolabel.precision": "int8"})
    assert again == small.read_bytes()


def test_it_describes_itself_and_runs_as_nothing_else(small: Path, tiny: Path, photo: Path) -> None:
    assert models.read(small).labels == models.read(tiny).labels
    for precision in ("fp32", "int8"):
        with photolabel.load(small, precision=precision) as classifier:
            assert classifier.classify(photo).precision == "int8", "never int8 under the name of fp32"
    with pytest.raises(UsageError, match="not 8-bit"):
        engine.open_engine(tiny, precision="int8")


def test_made_once_and_kept(tiny: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with photolabel.load(tiny, precision="int8") as classifier, photolabel.load(tiny) as plain:
        first = classifier.classify(photo)
        assert first.precision == "int8" and first.record()["precision"] == "int8"
        assert abs(first.probabilities - plain.classify(photo).probabilities).max() < 0.05
    (made,) = Store().folder.glob("tiny-*-int8.onnx")
    assert metadata.read(made)["photolabel.precision"] == "int8"
    monkeypatch.setattr(quantize, "quantize", lambda *_, **__: pytest.fail("made again"))
    with photolabel.load(tiny, precision="int8") as classifier:
        np.testing.assert_array_equal(classifier.classify(photo).probabilities, first.probabilities)
    assert (made, True) in artefacts.verify(models.read(tiny))


def test_ranges_from_photos_of_the_users_own(tiny: Path, photo: Path, tmp_path: Path) -> None:
    model = models.read(tiny)
    packaged = artefacts.quantized(model, tiny).read_bytes()
    rng = np.random.default_rng(0)
    dark = [rng.integers(0, 30, (40, 40, 3), np.uint8) for _ in range(3)]
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no photo")
    path, unreadable = artefacts.calibrate(model, [*dark, bad])
    assert unreadable == 1 and path.read_bytes() != packaged
    assert metadata.read(path)["photolabel.calibration"] == "3 photos of the user's own"
    assert artefacts.quantized(model, tiny) == path, "from now on it is the model's 8-bit form"
    scale = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}["block1_conv1/scale"]
    before = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(packaged).graph.initializer}
    assert scale != before["block1_conv1/scale"]
    with photolabel.load(tiny, precision="int8") as classifier, photolabel.load(tiny) as plain:
        found, expected = classifier.classify(dark[0]), plain.classify(dark[0])
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=0.02)


def test_what_cannot_be_calibrated(tiny: Path, small: Path, tmp_path: Path, photo: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    model = models.read(tiny)
    with pytest.raises(UsageError, match="none of the 2 photos"):
        artefacts.calibrate(model, [tmp_path / "bad.jpg", tmp_path / "none.jpg"])
    with pytest.raises(UsageError, match="at most 300"):
        artefacts.calibrate(model, [photo] * 301)
    with pytest.raises(UsageError, match="in 8-bit integers already"):
        artefacts.calibrate(models.read(small), [photo])
    assert not [*Store().folder.glob("*.onnx")], "nothing is left behind"


def test_models_quantize(tiny: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "quantize", str(tiny), str(photo), str(tmp_path / "none.jpg")]) == 0
    said = capsys.readouterr()
    assert "8-bit form made from 1 photos" in said.out and "1 photos cannot be read" in said.out and not said.err
    assert main(["models", "quantize", str(tiny)]) == 2


def test_bf16_only_where_the_processor_has_it(tiny: Path, photo: Path) -> None:
    if "BF16" in engine.processor().abilities:
        with photolabel.load(tiny, precision="bf16") as classifier, photolabel.load(tiny) as plain:
            found, expected = classifier.classify(photo), plain.classify(photo)
            assert found.precision == "bf16"
            np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=0.02)
    else:
        with pytest.raises(UsageError, match="does not compute in bf16"):
            photolabel.load(tiny, precision="bf16")


def test_the_bundled_model_loses_at_most_two_points(shared: Path) -> None:
    photos = sorted((shared / "imagenet100").iterdir())
    right = {}
    for precision in ("fp32", "int8"):
        with photolabel.load(models.BUNDLED, precision=precision) as classifier:
            found = classifier.classify_many(photos, top=1)
            right[precision] = sum(
                photo.name.startswith(f"{each.top.wnid}_") for photo, each in zip(photos, found, strict=True)
            )
    assert right["int8"] >= right["fp32"] - 2, right


def test_features_of_the_real_base_stay(shared: Path, real_base: Path | None, tmp_path: Path) -> None:
    """Pooled features of block 5, on photos that took no part in the calibration."""
    from dataclasses import replace

    from photolabel import weights

    if real_base is None:
        pytest.skip("the real convolutional base could not be made")
    spec = replace(VGG16, top=False, pooling="avg")
    network = tmp_path / "base.onnx"
    network.write_bytes(b"".join(graph.build(spec, weights.read(real_base, spec), models.CAFFE, describe={})))
    calibration = [
        images.prepare(images.read(path), models.CROP)
        for path in sorted((ROOT / "src" / "photolabel" / "data" / "calibration").iterdir())
    ]
    small = tmp_path / "base-int8.onnx"
    small.write_bytes(quantize.quantize(network, calibration, describe={"photolabel.precision": "int8"}))
    x = [images.prepare(images.read(path), models.CROP) for path in sorted((shared / "imagenet100").iterdir())[::4]]
    features = []
    for path in (network, small):
        running = engine.open_engine(path)
        features.append(np.concatenate([running(each[None]) for each in x]))
        running.close()
    one, other = features
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosine.min() >= 0.999, np.sort(cosine)[:5]


def test_biases_make_up_for_what_rounding_adds_on_average(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shift() -> float:
        path = tmp_path / "x.onnx"
        path.write_bytes(quantize.quantize(tiny, inputs(), describe={"photolabel.precision": "int8"}))
        cut = engine.Cut(layers=("block4_conv1",), only=True)
        rounded, plain = (engine.open_engine(p, cut=cut)(np.stack(inputs())) for p in (path, tiny))
        return float(np.abs((rounded - plain).mean((0, 1, 2))).mean())

    corrected = shift()
    monkeypatch.setattr(quantize._Network, "_correct", lambda *_: None)
    assert corrected < 0.9 * shift()
