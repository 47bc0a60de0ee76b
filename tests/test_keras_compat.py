"""Against Keras itself, which runs in a process of its own: nothing here imports it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from photolabel import keras_compat, labels
from photolabel.errors import CorruptPhotoError, PhotoNotFoundError, UnsupportedFormatError, UsageError

import family_cases
from conftest import ROOT


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photos of every mode that people have, and one that its EXIF data turn, which Keras leaves as it is."""
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(3).integers(0, 256, (61, 90, 4), np.uint8)
    rgb = Image.fromarray(noise[..., :3]).resize((300, 203), Image.Resampling.BICUBIC)
    found = [ROOT / "samples" / "coffee.jpg", ROOT / "samples" / "sideways.jpg"]
    exif = Image.Exif()
    exif[274] = 6
    made: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "rgb.png": (rgb, {}),
        "turned.jpg": (rgb, {"exif": exif.tobytes()}),
        "rgba.png": (Image.fromarray(noise), {}),
        "grey.jpg": (rgb.convert("L"), {}),
        "grey alpha.png": (rgb.convert("LA"), {}),
        "16 bits.png": (Image.fromarray(noise[..., 0].astype(np.uint16) * 257), {}),
        "palette.gif": (rgb.quantize(40), {}),
        "transparent palette.png": (rgb.quantize(8), {"transparency": 3}),
        "one bit.png": (rgb.convert("1"), {}),
        "cmyk.jpg": (rgb.convert("CMYK"), {}),
        "photo.bmp": (rgb, {}),
        "photo.tiff": (rgb, {}),
        "photo.webp": (rgb, {}),
    }
    for name, (image, options) in made.items():
        image.save(folder / name, **options)
        found.append(folder / name)
    return found


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory, photos: list[Path]) -> Path:
    """The folder of Keras' answers."""
    folder = tmp_path_factory.mktemp("keras")
    index = {str(label.index): [label.wnid, label.name] for label in labels.imagenet()}
    (folder / "imagenet_class_index.json").write_text(json.dumps(index))
    script = Path(__file__).with_name("keras_family.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), *photos], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_arguments_are_checked_as_keras_checks_them(keras: Path) -> None:
    verdicts = json.loads((keras / "checks.json").read_text())
    assert len(verdicts) == len(family_cases.CHECKS)
    assert sum(verdict == "ValueError" for verdict in verdicts) >= 10
    for case, verdict in zip(family_cases.CHECKS, verdicts, strict=True):
        arguments = {name: tuple(v) if isinstance(v, list) else v for name, v in case.items() if name != "family"}
        made = getattr(keras_compat, case["family"])
        try:
            found: object = list(made(**arguments).output_shape)
        except UsageError:
            found = "ValueError"
        except Exception as error:
            found = {"MissingWeightsError": "fetch"}.get(type(error).__name__, repr(error))
            if case.get("weights") == "no such file":
                found = "ValueError"  # Keras knows no other
        assert found == verdict, case


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # Pillow's, as under Keras
def test_photos_are_read_as_keras_reads_them_bit_for_bit(keras: Path, photos: list[Path]) -> None:
    with np.load(keras / "arrays.npz") as arrays:
        expected = dict(arrays)
    assert len(expected) > 500
    seen = set()
    for i, photo in enumerate(photos):
        for j, options in enumerate(family_cases.IMAGES):
            for path in (str(photo), photo, io.BytesIO(photo.read_bytes())):
                loaded = keras_compat.load_img(path, **options)
                array = keras_compat.img_to_array(loaded)
                found = {
                    "array": array,
                    "first": keras_compat.img_to_array(loaded, data_format="channels_first", dtype="float64"),
                }
                if array.shape[-1] == 3:
                    turned = array.transpose(2, 0, 1).astype(np.float64)
                    found |= {
                        "input": keras_compat.preprocess_input(array),
                        "batch": keras_compat.preprocess_input(array[np.newaxis].astype(np.uint8)),
                        "input first": keras_compat.preprocess_input(turned, data_format="channels_first"),
                    }
                for what, each in found.items():
                    wanted = expected[f"{i}/{j}/{what}"]
                    assert each.dtype == wanted.dtype, (photo.name, options, what)
                    np.testing.assert_array_equal(each, wanted, err_msg=f"{photo.name} {options} {what}")
                    seen.add(f"{i}/{j}/{what}")
    assert seen == set(expected)


def test_predictions_are_decoded_as_keras_decodes_them(keras: Path) -> None:
    expected = json.loads((keras / "decoded.json").read_text())
    for (answers, top), rows in zip(family_cases.predictions(), expected, strict=True):
        found = keras_compat.decode_predictions(answers, top=top)
        assert [[[*x[:2], float(x[2])] for x in row] for row in found] == rows
        assert isinstance(found[0][0], tuple)


def test_preprocess_input_changes_nothing_of_the_callers() -> None:
    x = np.ones((1, 2, 2, 3), np.float32)
    keras_compat.preprocess_input(x)
    assert (x == 1).all()


@pytest.mark.parametrize("shape", [(3,), (1, 4, 4, 1), (4, 4), (3, 4, 4)])
def test_preprocess_input_wants_three_channels(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="three channels"):
        keras_compat.preprocess_input(np.zeros(shape))


@pytest.mark.parametrize("shape", [(1000,), (1, 999), (1, 1000, 1)])
def test_decode_predictions_wants_a_thousand_classes(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"\(N, 1000\)"):
        keras_compat.decode_predictions(np.zeros(shape))


def test_wrong_arguments_are_told(photo: Path) -> None:
    with pytest.raises(UsageError, match="color_mode 'cmyk'"):
        keras_compat.load_img(photo, color_mode="cmyk")
    with pytest.raises(UsageError, match="interpolation 'sharp'"):
        keras_compat.load_img(photo, target_size=(5, 5), interpolation="sharp")
    with pytest.raises(TypeError, match="not int"):
        keras_compat.load_img(5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="data_format 'last'"):
        keras_compat.img_to_array(Image.new("RGB", (2, 2)), data_format="last")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="expected an image"):
        keras_compat.img_to_array(np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="input_tensor is a tensor of Keras' own"):
        keras_compat.VGG16(input_tensor=3, weights=None)  # type: ignore[arg-type]


def test_a_bad_photo_is_an_error_and_never_half_of_it(tmp_path: Path) -> None:
    with pytest.raises(PhotoNotFoundError):
        keras_compat.load_img(tmp_path / "none.jpg")
    whole = (ROOT / "samples" / "coffee.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptPhotoError):
        keras_compat.load_img(tmp_path / "cut.jpg")
    (tmp_path / "no.jpg").write_text("<svg/>")
    with pytest.raises(UnsupportedFormatError):
        keras_compat.load_img(tmp_path / "no.jpg", target_size=(9, 9))


def test_a_model_is_called_as_keras_models_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with keras_compat.VGG16(weights=None, input_shape=(32, 32, 3), classes=7) as model:
        assert model.summary() is None
        printed = capsys.readouterr().out
        assert 'Model: "vgg16"' in printed and "(None, 7)" in printed
        lines: list[str] = []
        model.summary(print_fn=lines.append)
        assert "\n".join(lines) + "\n" == printed
        assert model.get_layer("fc1").shape == (None, 4096) == model.get_layer(index=-2 % len(model.layers)).shape
        with pytest.raises(UsageError, match="no layer 'fc9'"):
            model.get_layer("fc9")
        x = np.random.default_rng(0).normal(0, 50, (2, 32, 32, 3)).astype(np.float32)
        answer = model.predict(x, verbose=0)
        assert answer.shape == (2, 7)
        np.testing.assert_allclose(model(x), answer)
        np.testing.assert_allclose(model.predict(x, batch_size=1), answer, atol=1e-6)
        with pytest.raises(UsageError, match="no steps"):
            model.predict(x, steps=3)  # type: ignore[arg-type]
        keras_compat.plot_model(model, to_file=tmp_path / "x.svg", show_shapes=True)
        assert (tmp_path / "x.svg").read_text().startswith("<")


def test_nothing_of_keras_is_imported() -> None:
    program = (
        "import sys; from photolabel.keras_compat import *; VGG16(weights=None).summary(); "
        "assert not {'keras', 'tensorflow', 'jax', 'torch', 'h5py'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
