"""Parity with Keras itself, through the whole path, at full size: the promise of the `keras` recipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import photolabel
from photolabel import artefacts, engine, graph, models
from photolabel.labels import imagenet
from photolabel.models import CAFFE, Normalisation
from photolabel.spec import VGG16
from photolabel.weights import keras_h5

from conftest import ROOT

ABSOLUTE = 5e-5  # of a probability
PERCENT = 0.01  # of a printed percentage


@dataclass
class Oracle:
    photos: list[str]
    weights: Path
    inputs: np.ndarray
    probabilities: np.ndarray


def ask_keras(name: str, dialect: str, folder: Path, base: str, photos: list[str]) -> Oracle:
    script = Path(__file__).with_name("keras_oracle.py")
    command = [sys.executable, str(script), name, dialect, str(folder), base, *photos]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(folder / "answers.npz") as answers:
        return Oracle(photos, folder / "weights.h5", answers["inputs"], answers["probabilities"])


def has_profile(path: Path) -> bool:
    with Image.open(path) as image:
        return "icc_profile" in image.info


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A dozen real photos, upright and in sRGB: the shared ones where they are, else views of the samples.

    Photos with another colour profile are left out: Keras ignores it, photolabel converts, on purpose.
    """
    folder = ROOT.parent / "shared" / "data" / "imagenet100"
    if folder.is_dir():
        plain = [str(path) for path in sorted(folder.iterdir()) if not has_profile(path)]
        assert len(plain[::6][:12]) == 12
        return plain[::6][:12]
    folder = tmp_path_factory.mktemp("views")
    views = []
    for sample in ("coffee.jpg", "cat.jpg", "rocket.jpg"):
        with Image.open(ROOT / "samples" / sample) as image:
            w, h = image.size
            for i, box in enumerate([(0, 0, w, h), (0, 0, w // 2, h), (w // 3, 0, w, h), (0, h // 4, w, h)]):
                path = folder / f"{i}-{Path(sample).stem}.png"
                Image.fromarray(np.asarray(image.crop(box))).save(path)  # as array, to leave the profile behind
                views.append(str(path))
    return views


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory: pytest.TempPathFactory, photos: list[str], real_base: Path | None) -> Oracle:
    """With the real convolutional base where it can be had, else He-normal throughout."""
    folder = tmp_path_factory.mktemp("vgg16")
    return ask_keras("vgg16", "published", folder, str(real_base or "-"), photos)


def agree(found: list[photolabel.Prediction], oracle: Oracle) -> None:
    for prediction, expected in zip(found, oracle.probabilities, strict=True):
        assert prediction.error is None
        np.testing.assert_allclose(prediction.probabilities, expected, rtol=0, atol=ABSOLUTE)
        assert prediction.top.index == expected.argmax()
        assert abs(float(str(prediction).split("(")[1][:-2]) - expected.max() * 100) <= PERCENT


def check_spread(oracle: Oracle) -> None:
    """A winner of probability 1 would agree with anything: the test must bite."""
    winners = oracle.probabilities.max(axis=1)
    assert winners.min() < 0.5 < 0.9 < winners.max(), np.sort(winners)


def test_vgg16_agrees_with_keras(vgg16: Oracle) -> None:
    check_spread(vgg16)
    with photolabel.load("vgg16", weights=vgg16.weights, recipe="keras") as classifier:
        agree(list(classifier.classify_many(vgg16.photos)), vgg16)


def test_vgg19_agrees_with_keras(tmp_path: Path, photos: list[str]) -> None:
    oracle = ask_keras("vgg19", "legacy", tmp_path, "-", photos)
    check_spread(oracle)
    with photolabel.load("vgg19", weights=oracle.weights, recipe="keras") as classifier:
        agree(list(classifier.classify_many(oracle.photos)), oracle)


def bf16(array: np.ndarray) -> np.ndarray:
    """`array` rounded to bfloat16, whatever the processor has."""
    bits = array.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("fault", ["bf16", "RGB and BGR exchanged"])
def test_the_parity_test_bites(vgg16: Oracle, tmp_path: Path, fault: str) -> None:
    """With the two faults that such code commonly has, the bounds above do not hold."""
    arrays = dict(keras_h5.read(vgg16.weights, VGG16))
    normalisation = CAFFE
    if fault == "bf16":
        arrays = {name: (bf16(np.ascontiguousarray(kernel)), bias) for name, (kernel, bias) in arrays.items()}
    else:
        normalisation = Normalisation(order="RGB", mean=CAFFE.mean)
    path = tmp_path / "faulty.onnx"
    path.write_bytes(b"".join(graph.build(VGG16, arrays, normalisation, describe={})))
    network = engine.open_engine(path)
    found = np.concatenate([network(x[None]) for x in vgg16.inputs[:4]])
    network.close()
    assert np.abs(found - vgg16.probabilities[:4]).max() > 2 * ABSOLUTE


@pytest.mark.parametrize("dialect", ["published", "legacy", "model"])
def test_all_three_dialects_of_h5_are_read(dialect: str, tmp_path: Path, photo: Path) -> None:
    """Keras writes them, and what we make of them answers as Keras does."""
    import oracle as numpy_oracle

    keras = ask_keras("tiny", dialect, tmp_path, "-", [str(photo)])
    arrays = keras_h5.read(keras.weights, numpy_oracle.TINY)
    path = tmp_path / "tiny.onnx"
    model = numpy_oracle.tiny_model()
    path.write_bytes(b"".join(graph.build(numpy_oracle.TINY, arrays, CAFFE, describe=model.describe())))
    with photolabel.load(path, recipe="keras") as classifier:
        agree([classifier.classify(photo)], keras)


def test_the_artefact_is_made_once(vgg16: Oracle) -> None:
    model = models.known()["vgg16"]
    first = artefacts.locate(model, weights_file=vgg16.weights)
    made = first.stat()
    assert artefacts.locate(model, weights_file=vgg16.weights).stat() == made
    assert models.read(first).accuracy is None, "nobody published the accuracy of a user's weights"


SCRIPT = """
import sys
import numpy as np
{imports}
model = VGG16(weights=sys.argv[1])
image = load_img(sys.argv[2], target_size=(224, 224))
image = img_to_array(image)
image = image.reshape((1, image.shape[0], image.shape[1], image.shape[2]))
image = preprocess_input(image)
yhat = model.predict(image)
label = decode_predictions(yhat)
label = label[0][0]
print('%s (%.2f%%)' % (label[1], label[2]*100))
np.savez(sys.argv[3], image=image, yhat=yhat)
"""
KERAS_IMPORTS = """
from keras.utils import load_img, img_to_array
from keras.applications.vgg16 import VGG16, preprocess_input, decode_predictions
"""
OUR_IMPORTS = """
from photolabel.keras_compat import load_img, img_to_array
from photolabel.keras_compat import VGG16, preprocess_input, decode_predictions
"""


def test_the_classic_script_runs_with_only_its_imports_changed(vgg16: Oracle, tmp_path: Path) -> None:
    home = tmp_path / "keras" / "models"
    home.mkdir(parents=True)
    index = {str(label.index): [label.wnid, label.name] for label in imagenet()}
    (home / "imagenet_class_index.json").write_text(json.dumps(index))  # byte for byte the published file
    printed, arrays = [], []
    for name, imports in {"keras": KERAS_IMPORTS, "ours": OUR_IMPORTS}.items():
        (tmp_path / f"with_{name}.py").write_text(SCRIPT.format(imports=imports))
        done = subprocess.run(
            [sys.executable, f"with_{name}.py", str(vgg16.weights), vgg16.photos[0], f"{name}.npz"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "KERAS_BACKEND": "jax", "KERAS_HOME": str(home.parent)},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        printed.append(done.stdout.splitlines()[-1])  # Keras draws a bar before it
        with np.load(tmp_path / f"{name}.npz") as found:
            arrays.append(dict(found))
    assert printed[0] == printed[1]
    np.testing.assert_array_equal(arrays[0]["image"], arrays[1]["image"])
    np.testing.assert_allclose(arrays[0]["yhat"], arrays[1]["yhat"], rtol=0, atol=ABSOLUTE)
