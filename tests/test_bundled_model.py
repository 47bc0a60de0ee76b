"""The packaged network: the recorded bytes, self-describing, reproducible, and the same in both engines."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from PIL import Image

from photolabel import models
from photolabel.labels import imagenet
from photolabel.models import BUNDLED_DIGEST

ROOT = Path(__file__).parents[1]
DATA = ROOT / "src" / "photolabel" / "data"
FILE = DATA / "efficientnet-lite2.onnx"
SAMPLES = ROOT / "samples"

Run = Callable[[Any], dict[str, Any]]


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_efficientnet_lite2", ROOT / "tools" / "make_efficientnet_lite2.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


tool = load_tool()


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.load(FILE)


@pytest.fixture(scope="module")
def run() -> Run:
    graph = openvino.Core().read_model(FILE)
    graph.add_outputs(["logits", "features", "feature_map"])
    # Some processors would compute in bfloat16 when not told otherwise.
    compiled = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = ["probabilities", "logits", "features", "feature_map"]

    def call(pixels: Any) -> dict[str, Any]:
        results = compiled(pixels)
        return {name: np.array(results[name]) for name in names}

    return call


def noise(count: int) -> Any:
    return np.random.default_rng(7).uniform(0, 255, (count, 260, 260, 3)).astype(np.float32)


# -- the file --------------------------------------------------------------------------------------


def test_the_file_is_the_recorded_one() -> None:
    digest = hashlib.sha256(FILE.read_bytes()).hexdigest()
    assert digest == BUNDLED_DIGEST.removeprefix("sha256:")
    assert FILE.stat().st_size <= 14_000_000


def test_origins_record_every_file() -> None:
    origins = (DATA / "ORIGINS.md").read_text("utf-8")
    folders = [each for name in ("doctor", "calibration", "samples") for each in (DATA / name).iterdir()]
    for path in (FILE, DATA / "imagenet_classes.tsv", *folders):
        name = path.relative_to(DATA).as_posix()
        assert re.search(rf"`{name}`.*`{hashlib.sha256(path.read_bytes()).hexdigest()}`", origins)
    assert tool.WHEEL_SHA256 in origins
    assert {path.name for path in DATA.iterdir() if path.is_file()} == {
        *re.findall(r"`([\w.-]+\.(?:onnx|tsv|txt|css))`", origins),
        "ORIGINS.md",
    }
    for name in ("EFFICIENTNET-LITE-LICENSE.txt", "WORDNET-LICENSE.txt"):
        assert (DATA / name).stat().st_size > 1000


def test_made_again_it_is_the_same_bit_for_bit() -> None:
    try:
        weights = tool.fetch()
    except subprocess.CalledProcessError:
        pytest.skip(f"pip cannot download {tool.PACKAGE} {tool.VERSION} here")
    made = tool.build(tool.torch_weights.read(weights))
    assert hashlib.sha256(made).hexdigest() == BUNDLED_DIGEST.removeprefix("sha256:")


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "CACHE", tmp_path)
    (tmp_path / tool.WHEEL).write_bytes(b"other")
    with pytest.raises(SystemExit, match="expected sha256"):
        tool.fetch()


# -- the graph -------------------------------------------------------------------------------------


def test_valid_and_of_one_input_and_output(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert (model.ir_version, model.producer_name) == (8, "photolabel")

    def shapes(values: Any) -> dict[str, list[Any]]:
        return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}

    assert shapes(model.graph.input) == {"pixels": ["N", 260, 260, 3]}
    assert shapes(model.graph.output) == {"probabilities": ["N", 1000]}
    assert shapes(model.graph.value_info) == {
        "feature_map": ["N", 1280, 9, 9],
        "features": ["N", 1280],
        "logits": ["N", 1000],
    }
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_the_architecture(model: onnx.ModelProto) -> None:
    """21 blocks; 6.1 million parameters, as published for Lite2 (batch norms folded: a little fewer)."""
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Conv") == 1 + 2 + 20 * 3 + 1 and kinds.count("Add") == 14
    assert "BatchNormalization" not in kinds
    assert all(node.name and len(node.output) == 1 for node in model.graph.node)
    count = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    assert 6_000_000 < count < 6_100_000


def test_it_describes_itself() -> None:
    model = models.read(FILE)
    assert (model.name, model.labels, model.path) == (models.BUNDLED, imagenet(), FILE)
    (recipe,) = model.recipes
    assert (recipe.size, recipe.fit, recipe.side, recipe.filter) == (260, "crop-resize", 292, "bicubic")
    assert "Apache-2.0" in model.licence
    assert model.accuracy and model.accuracy.top1 == 77.6 and "tensorflow/tpu" in model.accuracy.source
    assert tool.WHEEL_SHA256 in model.source
    assert models.known()[models.BUNDLED] == model


# -- the numbers -----------------------------------------------------------------------------------


def test_inner_tensors_fit_together(run: Run) -> None:
    found = run(noise(2))
    assert {name: array.shape for name, array in found.items()} == {
        "probabilities": (2, 1000), "logits": (2, 1000),
        "features": (2, 1280), "feature_map": (2, 1280, 9, 9),
    }  # fmt: skip
    np.testing.assert_allclose(found["features"], found["feature_map"].mean((2, 3)), atol=1e-5)
    exp = np.exp(found["logits"] - found["logits"].max(1, keepdims=True))
    np.testing.assert_allclose(found["probabilities"], exp / exp.sum(1, keepdims=True), atol=1e-6)
    assert found["feature_map"].min() >= 0 and found["feature_map"].max() <= 6  # ReLU6


def test_a_batch_is_its_photos_one_by_one(run: Run) -> None:
    pixels = noise(3)
    together = run(pixels)
    for number in range(3):
        alone = run(pixels[number : number + 1])
        np.testing.assert_allclose(together["probabilities"][number], alone["probabilities"][0], atol=1e-6)
        np.testing.assert_allclose(together["features"][number], alone["features"][0], atol=1e-4)


def test_both_engines_agree(run: Run) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    session = runtime.InferenceSession(FILE, providers=["CPUExecutionProvider"])
    photos = np.stack([tool.prepared(SAMPLES / name) for name in ("coffee.jpg", "cat.jpg")])
    for pixels in (noise(2), photos):
        (theirs,) = session.run(["probabilities"], {"pixels": pixels})
        np.testing.assert_allclose(theirs, run(pixels)["probabilities"], atol=1e-4)


# -- the samples -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "label", "least"),
    [
        ("coffee.jpg", "espresso", 0.8),
        ("cat.jpg", "Egyptian_cat", 0.5),
        ("sideways.jpg", "Egyptian_cat", 0.5),
    ],
)
def test_samples_are_named(run: Run, name: str, label: str, least: float) -> None:
    probabilities = run(tool.prepared(SAMPLES / name)[None])["probabilities"][0]
    assert imagenet()[probabilities.argmax()].name == label
    assert probabilities.max() > least


def test_an_unlikely_sample_is_a_guess(run: Run) -> None:
    assert run(tool.prepared(SAMPLES / "rocket.jpg")[None])["probabilities"].max() < 0.3


def test_sideways_is_stored_turned() -> None:
    with Image.open(SAMPLES / "sideways.jpg") as turned, Image.open(SAMPLES / "cat.jpg") as upright:
        assert turned.getexif()[0x0112] == 6
        assert turned.size == upright.size[::-1]
    difference = tool.prepared(SAMPLES / "sideways.jpg") - tool.prepared(SAMPLES / "cat.jpg")
    assert np.abs(difference).mean() < 3  # of 255: JPEG's rounding in another direction


def test_sample_origins_are_recorded() -> None:
    origins = (SAMPLES / "ORIGINS.md").read_text("utf-8")
    for path in SAMPLES.glob("*.jpg"):
        assert f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" in origins
        assert path.stat().st_size < 150_000
