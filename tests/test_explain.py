"""Evidence: the gradient is the gradient, the map adds up to the logit, and what is marked matters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import photolabel
from photolabel import cli, engine, graph, images, models
from photolabel.classifier import Classifier
from photolabel.errors import CorruptPhotoError, UsageError
from photolabel.explain import Evidence, explain, grad_cam, head_gradient

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
    name, weights = head
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
    with pytest.raises(UsageError, match="not one of the model's. Close: .*coffee"):
        explain(bundled, COFFEE, label="coffee")
    with pytest.raises(UsageError, match="method 'x'"):
        explain(bundled, COFFEE, method="x")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="does not allow it"):
        explain(bundled, COFFEE, method="gradient")


def test_in_eight_bits_there_is_occlusion() -> None:
    with photolabel.load(models.BUNDLED, precision="int8") as small:
        assert explain(small, COFFEE).method == "occlusion"


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
    with pytest.raises(CorruptPhotoError):
        explain(photolabel.load(models.BUNDLED), COFFEE.read_bytes()[:4000])
