"""Evidence: the gradient is the gradient, the map adds up to the logit, and what is marked matters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from PIL import Image

import photolabel
from photolabel import calibration, cli, engine, graph, images, models
from photolabel.classifier import Classifier
from photolabel.errors import CorruptPhotoError, UsageError
from photolabel.explain import (
    Evidence,
    Method,
    activation_map,
    check_label,
    explain,
    grad_cam,
    head_gradient,
    located,
    pieces,
    places,
    way,
)
from photolabel.prepared import prepare

import oracle
from conftest import ROOT

COFFEE, CAT = ROOT / "samples" / "coffee.jpg", ROOT / "samples" / "cat.jpg"


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTOLABEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        return photolabel.load(models.BUNDLED)


@pytest.fixture(scope="module")
def vgg(tiny: Path) -> Classifier:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTOLABEL_CACHE", str(tiny.parent / "cache"))
        return photolabel.load(tiny)


# -- gradients


def logit_of(maps: np.ndarray, index: int) -> float:
    """What the head of the tiny VGG makes of the last convolution's output, in plain NumPy and double precision."""
    arrays = oracle.he_normal(oracle.TINY)
    height, width, channels = maps.shape
    x = maps.reshape(height // 2, 2, width // 2, 2, channels).max(axis=(1, 3)).reshape(-1)
    for name in ("fc1", "fc2"):
        x = np.maximum(x @ arrays[name][0].astype(np.float64) + arrays[name][1], 0)
    return float(x @ arrays["predictions"][0][:, index].astype(np.float64) + arrays["predictions"][1][index])


def inner(vgg: Classifier) -> tuple[np.ndarray, list[np.ndarray]]:
    pixels = np.random.default_rng(4).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    layers = ("block5_conv1", "fc1", "fc2")
    assert vgg.network is not None
    running = engine.open_engine(vgg.network, cut=engine.Cut(layers=layers))
    found = running.run(pixels)
    running.close()
    return found[layers[0]][0], [found[name][0] for name in layers[1:]]


def test_the_gradient_is_that_of_the_head(vgg: Classifier) -> None:
    """Against differences, at every value: the head is linear in pieces, so small ones are exact."""
    maps, hidden = inner(vgg)
    assert vgg.network is not None and vgg.model.spec is not None
    arrays = graph.arrays(vgg.network, vgg.model.spec)
    for index in (0, 3):
        found = head_gradient(maps, hidden, arrays, vgg.model.spec, index)
        assert found.shape == maps.shape and found.dtype == np.float32
        step = 1e-4 * float(maps.max())
        base = maps.astype(np.float64)
        for place in np.ndindex(maps.shape):
            window = base[place[0] // 2 * 2 :, place[1] // 2 * 2 :, place[2]][:2, :2]
            if not window.any():  # all alike: there the pooling has a kink, and several slopes
                continue
            up, down = base.copy(), base.copy()
            up[place] += step
            down[place] -= step
            slope = (logit_of(up, index) - logit_of(down, index)) / (2 * step)
            assert found[place] == pytest.approx(slope, rel=1e-3, abs=1e-4 * float(np.abs(found).max())), place


def test_grad_cam_is_its_formula() -> None:
    rng = np.random.default_rng(1)
    maps, gradient = rng.random((4, 5, 6), np.float32), rng.normal(size=(4, 5, 6)).astype(np.float32)
    expected = sum(maps[..., k] * gradient[..., k].mean() for k in range(6))
    np.testing.assert_allclose(grad_cam(maps, gradient), np.maximum(expected, 0), rtol=1e-5, atol=1e-6)


def test_the_gradient_is_keras(tmp_path: Path) -> None:
    """VGG16's own, at 64 x 64 pixels, through Keras' layers and JAX's differentiation."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("keras_gradient.py"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["largest difference, relative"] <= 1e-4


# -- averaged maps


def test_the_map_adds_up_to_the_logit(bundled: Classifier) -> None:
    """The mean of a class activation map, before what is below 0 goes, is the logit but for its bias."""
    assert bundled.network is not None
    head = graph.averaged_head(bundled.network)
    assert head is not None
    name, weights = head.layer, head.weights
    running = engine.open_engine(bundled.network, cut=engine.Cut(layers=(name, "logits"), only=True))
    pixels = images.prepare(images.read(COFFEE), bundled.recipe)[np.newaxis]
    found = running.run(pixels)
    running.close()
    summed = (found[name][0] @ weights.T).mean(axis=(0, 1))
    rest = found["logits"][0] - summed
    again = images.prepare(images.read(CAT), bundled.recipe)[np.newaxis]
    running = engine.open_engine(bundled.network, cut=engine.Cut(layers=(name, "logits"), only=True))
    other = running.run(again)
    running.close()
    np.testing.assert_allclose(other["logits"][0] - (other[name][0] @ weights.T).mean(axis=(0, 1)), rest, atol=1e-3)


def of_features(features: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Probabilities, by the dense layer behind an average."""
    logits = features @ weights.T + bias
    exponents = np.exp(logits - logits.max())
    return exponents / exponents.sum()  # type: ignore[no-any-return]


def test_the_map_is_that_of_the_log_odds() -> None:
    """Against differences: each channel is weighed by what the log-odds gain where its average grows."""
    rng = np.random.default_rng(2)
    maps, weights, bias = rng.random((4, 4, 6)), rng.normal(size=(5, 6)), rng.normal(size=5)
    features = maps.mean(axis=(0, 1))

    def log_odds(features: np.ndarray) -> float:
        p = of_features(features, weights, bias)[3]
        return float(np.log(p / (1 - p)))

    steps = np.eye(6) * 1e-5
    slopes = np.array([(log_odds(features + step) - log_odds(features - step)) / 2e-5 for step in steps])
    found = activation_map(maps, weights, of_features(features, weights, bias), 3)
    assert found.any() and not found.all(), "neither all above 0 nor all below"
    np.testing.assert_allclose(found, np.maximum(maps @ slopes, 0), rtol=1e-4, atol=1e-6)


def test_what_speaks_for_all_classes_alike_is_no_evidence() -> None:
    rng = np.random.default_rng(3)
    maps = rng.random((4, 4, 6), np.float32)
    weights = rng.normal(size=(5, 6)).astype(np.float32)
    probabilities = np.array([0.5, 0.3, 0.1, 0.1, 0], np.float32)
    plain = activation_map(maps, weights, probabilities, 0)
    alike = weights + rng.normal(size=6).astype(np.float32)
    np.testing.assert_allclose(activation_map(maps, alike, probabilities, 0), plain, atol=1e-5)
    weights[1] = weights[0]  # a rival beside which there is no other, and all speaks for it as much
    assert not activation_map(maps, weights, np.array([0.5, 0.5, 0, 0, 0], np.float32), 0).any()


def test_a_class_without_a_rival_has_a_map_too() -> None:
    maps, weights = np.ones((2, 2, 1), np.float32), np.array([[2], [1]], np.float32)
    np.testing.assert_array_equal(activation_map(maps, weights, np.array([1, 0], np.float32), 0), np.full((2, 2), 2))
    nearly = activation_map(maps, weights, np.array([1, 1e-40], np.float32), 0)
    np.testing.assert_allclose(nearly, np.ones((2, 2)), rtol=1e-5)


# -- places


SIDE = 64


def averaging(path: Path, nodes: list[onnx.NodeProto], stored: dict[str, np.ndarray]) -> Path:
    """A network of these nodes, from "x", channels first, to "map", which is averaged before a dense layer."""
    first = helper.make_node("Transpose", ["pixels"], ["x"], perm=[0, 3, 1, 2])
    last = [
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    value = helper.make_tensor_value_info
    made = helper.make_graph(
        [first, *nodes, *last],
        "averaging",
        [value("pixels", onnx.TensorProto.FLOAT, ["N", SIDE, SIDE, 1])],
        [value("probabilities", onnx.TensorProto.FLOAT, ["N", 2]), value("map", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    path.write_bytes(helper.make_model(made, opset_imports=opset, ir_version=8).SerializeToString())
    return path


STORED = {"dense": np.ones((1, 2)), "k3": np.ones((1, 1, 3, 3)), "k5": np.ones((1, 1, 5, 5)), "half": np.full(1, 0.5)}


def window(kind: str, source: str, made: str, size: int, **given: Any) -> onnx.NodeProto:
    inputs = [source, f"k{size}"] if kind == "Conv" else [source]
    return helper.make_node(kind, inputs, [made], kernel_shape=[size, size], **given)


def test_places_are_where_the_pixels_come_in(tmp_path: Path) -> None:
    """Each column of the input is lit alone: a place of the map is the middle of all columns that reach it."""
    nodes = [
        window("Conv", "x", "a", 3, strides=[2, 2], pads=[0, 0, 1, 1]),
        window("AveragePool", "a", "b", 3, strides=[2, 2], pads=[1, 1, 1, 1]),
        window("Conv", "b", "c", 3, dilations=[2, 2], pads=[2, 2, 2, 2]),
        helper.make_node("Add", ["c", "b"], ["joined"]),
        helper.make_node("Mul", ["half", "joined"], ["d"]),
        window("Conv", "d", "map", 5, strides=[2, 2], pads=[1, 1, 2, 2]),
    ]
    head = graph.averaged_head(averaging(tmp_path / "n.onnx", nodes, STORED))
    assert head is not None and head.places is not None and head.layer == "map"
    columns = np.repeat(np.eye(SIDE, dtype=np.float32)[:, np.newaxis, :, np.newaxis], SIDE, axis=1)
    (found,) = ReferenceEvaluator(str(tmp_path / "n.onnx")).run(["map"], {"pixels": columns})
    step, first = head.places
    middle = found.shape[3] // 2
    for place in (middle - 1, middle):  # not at the borders, where padding cuts windows off
        reached = found[:, 0, middle, place]
        centre = float((reached * (np.arange(SIDE) + 0.5)).sum() / reached.sum())
        assert first + step * place == pytest.approx(centre, abs=1e-3)


def test_places_go_past_a_gate(tmp_path: Path) -> None:
    """What was averaged over the whole photo has no place: the other input of the product gives it."""
    nodes = [
        window("Conv", "x", "a", 3, strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["a"], ["gate"]),
        helper.make_node("Sigmoid", ["gate"], ["opened"]),
        helper.make_node("Mul", ["opened", "a"], ["map"]),
    ]
    head = graph.averaged_head(averaging(tmp_path / "n.onnx", nodes, STORED))
    assert head is not None and head.places == (2, 0.5)


@pytest.mark.parametrize(
    "nodes",
    [
        [window("Conv", "x", "map", 3, strides=[2, 2], auto_pad="SAME_UPPER")],
        [window("Conv", "x", "map", 3, strides=[2, 1], pads=[1, 1, 1, 1])],
        [helper.make_node("Conv", ["x", "k3"], ["map"])],
        [helper.make_node("Softsign", ["x"], ["map"])],
    ],
    ids=["padded by itself", "sides differ", "size not said", "unknown node"],
)
def test_places_that_are_not_clear(tmp_path: Path, nodes: list[onnx.NodeProto]) -> None:
    head = graph.averaged_head(averaging(tmp_path / "n.onnx", nodes, STORED))
    assert head is not None and head.places is None


def test_places_of_the_bundled_network(bundled: Classifier) -> None:
    assert bundled.network is not None
    head = graph.averaged_head(bundled.network)
    assert head is not None and head.places == (32, 3.5)


@pytest.mark.parametrize("steps", [(32, 3.5), (32, 16), (28, 30)])
def test_a_map_lies_where_its_places_are(steps: tuple[float, float]) -> None:
    step, first = steps
    for row, column in ((0, 0), (4, 4), (3, 7)):
        raw = np.zeros((8, 8), np.float32)
        raw[row, column] = 5
        frame = places.frame(raw, 260, steps)
        assert frame is not None
        grown = places.scaled(raw, 260, frame)
        assert grown[int(first + step * row), int(first + step * column)] > 0.98
        left, top, right, bottom = np.multiply(places.box(raw, frame) or (), 260 / 8)
        assert left <= first + step * column <= right and top <= first + step * row <= bottom
        assert right - left < 2 * step and bottom - top < 2 * step


@pytest.mark.parametrize("steps", [None, (32, -1), (32, 60), (40, 3), (16, 3)])
def test_a_map_whose_places_do_not_fit_lies_evenly(steps: tuple[float, float] | None) -> None:
    assert places.frame(np.ones((8, 8), np.float32), 260, steps) is None


def test_a_network_that_ends_otherwise_has_no_averaged_head(tiny: Path) -> None:
    assert graph.averaged_head(tiny) is None


# -- evidence


def checked(found: Evidence, size: int) -> None:
    assert found.map.shape == (size, size) and found.map.dtype == np.float32
    assert found.map.min() >= 0 and 0.9 < found.map.max() <= 1
    left, top, right, bottom = found.box or (0, 0, 0, 0)
    assert found.cut[0] - 1 <= left < right <= found.cut[2] + 1 and found.cut[1] - 1 <= top < bottom <= found.cut[3] + 1
    over = found.over_photo()
    assert over.shape == found.photo.size[::-1]
    inside = over[round(top) : round(bottom), round(left) : round(right)].mean()
    assert inside > over.mean()
    outside = over.copy()
    outside[round(found.cut[1]) : round(found.cut[3]), round(found.cut[0]) : round(found.cut[2])] = 0
    assert not outside.any(), "the network saw nothing there"


def test_the_best_method_is_taken(bundled: Classifier, vgg: Classifier, photo: Path) -> None:
    found = explain(bundled, COFFEE)
    assert (found.method, found.label.name) == ("activation", "espresso")
    assert found.label.probability == pytest.approx(bundled.classify(COFFEE).top.probability, abs=1e-6)
    checked(found, 260)
    assert explain(vgg, photo).method == "gradient"


def test_what_is_marked_matters(bundled: Classifier) -> None:
    """Where the box is greyed out the probability falls further than where the same area elsewhere is."""
    for photo in (COFFEE, CAT):
        found = explain(bundled, photo)
        assert found.box is not None
        whole = np.asarray(found.photo).copy()
        left, top, right, bottom = (round(edge) for edge in found.box)
        marked, elsewhere = whole.copy(), whole.copy()
        marked[top:bottom, left:right] = 128
        x = 0 if left > whole.shape[1] - right else whole.shape[1] - (right - left)
        elsewhere[top:bottom, x : x + right - left] = 128
        kept = [bundled.classify(each, top=None).probabilities[found.label.index] for each in (marked, elsewhere)]
        assert kept[0] < kept[1]


def test_methods_agree(bundled: Classifier) -> None:
    averaged, covered = (explain(bundled, COFFEE, method=each) for each in ("activation", "occlusion"))  # type: ignore[arg-type]
    checked(covered, 260)
    assert np.corrcoef(averaged.map.ravel(), covered.map.ravel())[0, 1] > 0.3


def test_another_label(bundled: Classifier) -> None:
    by_name, by_wnid, by_index = (explain(bundled, COFFEE, label=x) for x in ("coffee mug", "n03063599", 504))
    assert by_name.label == by_wnid.label == by_index.label
    np.testing.assert_array_equal(by_name.map, by_index.map)
    assert not np.array_equal(by_name.map, explain(bundled, COFFEE).map)
    for everyday, wnid in (("orca", "n02071294"), ("Crane (wading bird)", "n02012849")):
        assert explain(bundled, COFFEE, label=everyday).label.wnid == wnid
    with pytest.raises(UsageError, match="not one of the model's. Close: .*coffee"):
        explain(bundled, COFFEE, label="coffee")
    with pytest.raises(UsageError, match="method 'x'"):
        explain(bundled, COFFEE, method="x")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="does not allow it"):
        explain(bundled, COFFEE, method="gradient")


def test_in_eight_bits_there_is_occlusion() -> None:
    with photolabel.load(models.BUNDLED, precision="int8") as small:
        assert explain(small, COFFEE).method == "occlusion"


@pytest.mark.parametrize("method", ["activation", "occlusion"])
def test_the_network_s_part_may_be_done_piece_by_piece(bundled: Classifier, method: Method) -> None:
    """By others, of a photo that was prepared elsewhere: what comes of it does not depend on the pieces."""
    whole, used = explain(bundled, CAT, method=method), way(bundled, method)
    made = prepare(CAT, bundled.recipe)
    running = None if used.cut is None else bundled.part(used.cut)
    *before, mapped = pieces(bundled, made, used, running=running, inputs=5)
    assert [*before] == [None] * (34 if method == "occlusion" else 0) and mapped is not None
    assert made.decoding is not None
    found = located(bundled, mapped, used, made.decoding.upright)
    for name, value in vars(found).items():
        np.testing.assert_array_equal(value, getattr(whole, name), name)
    np.testing.assert_array_equal(found.over_photo(), whole.over_photo())
    broken = pieces(bundled, prepare(CAT.read_bytes()[:4000], bundled.recipe), used)
    with pytest.raises(CorruptPhotoError):
        next(broken)
    with pytest.raises(UsageError, match="not one of the model's"):
        next(pieces(bundled, made, used, running=running, label="no such"))


def test_a_label_can_be_looked_for_before_there_is_a_photo(bundled: Classifier) -> None:
    for name in ("espresso", "coffee mug", "n03063599", "504", 504, "orca"):
        check_label(bundled.model.labels, name)
    for name in ("", "1000", -1, "n0306359", "espresso "):
        with pytest.raises(UsageError, match="not one of the model's"):
            check_label(bundled.model.labels, name)


def test_a_photo_without_evidence_has_an_empty_map(bundled: Classifier) -> None:
    plain = Image.new("RGB", (300, 200), (128, 128, 128))
    found = explain(bundled, plain, method="occlusion")  # covering grey by grey changes nothing
    assert found.box is None and not found.map.any() and not found.over_photo().any()


def test_a_turned_photo_has_its_box_upright(bundled: Classifier) -> None:
    upright, sideways = explain(bundled, CAT), explain(bundled, ROOT / "samples" / "sideways.jpg")
    assert upright.photo.size == sideways.photo.size and upright.box and sideways.box
    assert np.abs(np.subtract(upright.box, sideways.box)).max() < 40


def test_the_picture_and_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "why.png"
    assert cli.main(["explain", str(COFFEE), "--model", models.BUNDLED, "-o", str(out)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("espresso (88.") and "evidence: " in told
    with Image.open(out) as drawn:
        colours = np.asarray(drawn.convert("RGB")).astype(int)
    assert (np.abs(colours - (0xD5, 0x5E, 0)).sum(axis=2) < 30).sum() > 500, "the box"
    assert (colours[..., 0] - colours[..., 2] > 60).sum() > 2000, "the map's bright end"
    svg = tmp_path / "why.svg"
    arguments: list[Any] = [COFFEE, "--model", models.BUNDLED, "--label", "cup", "-o", svg]
    assert cli.main(["explain", *map(str, arguments)]) == 0 and svg.read_bytes().startswith(b"<?xml")
    assert cli.main(["explain", str(COFFEE), "--model", models.BUNDLED, "--label", "nothing"]) == 2
    capsys.readouterr()
    (tmp_path / "half.jpg").write_bytes(COFFEE.read_bytes()[:4000])
    assert cli.main(["explain", str(tmp_path / "half.jpg"), "--model", models.BUNDLED]) == 1
    assert capsys.readouterr().err.startswith(f"photolabel: {tmp_path / 'half.jpg'}: ")
    with pytest.raises(CorruptPhotoError):
        explain(photolabel.load(models.BUNDLED), COFFEE.read_bytes()[:4000])


def test_what_is_said_of_a_label_is_what_the_classifier_says() -> None:
    """Also where it is calibrated; the map stays as it is."""
    cat = ROOT / "samples" / "cat.jpg"
    with photolabel.load("efficientnet-lite2") as plain:
        before = explain(plain, cat)
        scores = tuple(i / 100 for i in range(100))
        learnt = calibration.Calibration(temperature=0.5, scores=scores, right=90, floor=0.0)
        calibration.keep(plain.identity, learnt)
    with photolabel.load("efficientnet-lite2") as calibrated:
        found = explain(calibrated, cat)
        assert found.label == calibrated.classify(cat).top
        assert found.label.probability > before.label.probability
    np.testing.assert_array_equal(found.map, before.map)
