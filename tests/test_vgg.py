"""The native objects, against the plain NumPy forward pass; their arguments are compared with Keras' in
test_keras_compat.py."""

from __future__ import annotations

import pickle
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import photolabel
from photolabel import graph, images, models, spec, vgg
from photolabel.errors import (
    CorruptPhotoError,
    InvalidModelError,
    MissingWeightsError,
    UsageError,
    WeightsMismatchError,
)
from photolabel.models import CAFFE, TORCHVISION
from photolabel.vgg import VGG

import forms
import oracle
from oracle import TINY, forward, he_normal, tiny_onnx

LAYERS = [layer.name for layer in TINY.layers[1:]]


def preprocessed(count: int, shape: tuple[int, int] = (32, 32), seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-124, 152, (count, *shape, 3)).astype(np.float32)


@pytest.fixture
def network() -> VGG:
    return VGG(TINY, arrays=he_normal(TINY))


@pytest.fixture
def stored(tiny: Path) -> VGG:
    """The same network out of its artefact, which takes pixels."""
    return VGG(TINY, path=tiny)


@pytest.mark.parametrize("source", ["network", "stored"])
def test_predict_gives_every_layer_channels_last(source: str, request: pytest.FixtureRequest) -> None:
    made: VGG = request.getfixturevalue(source)
    x = preprocessed(3)
    expected = forward(TINY, he_normal(TINY), x, None)
    for name in LAYERS:
        found = made.predict(x, layer=name)
        assert found.dtype == np.float32 and found.shape == expected[name].shape
        np.testing.assert_allclose(found, expected[name], rtol=2e-4, atol=2e-4 * np.abs(expected[name]).max())
    np.testing.assert_allclose(made.predict(x), expected["predictions"], atol=2e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_batches_make_no_difference(network: VGG, batch_size: int) -> None:
    x = preprocessed(7)
    np.testing.assert_allclose(network.predict(x, batch_size=batch_size), network.predict(x), atol=1e-6)


def test_no_photos_give_no_predictions(network: VGG) -> None:
    assert network.predict(np.empty((0, 32, 32, 3))).shape == (0, 10)
    assert network.features([]).shape == (0, 16)
    assert network.features([], layer="block5_pool").shape == (0, 1, 1, 8)


def test_the_callers_array_is_left_alone_and_any_number_type_will_do(network: VGG) -> None:
    x = preprocessed(2).round()
    expected = network.predict(x)
    for kind in (np.float64, np.float16, np.int16):
        given = x.astype(kind)
        before = given.copy()
        np.testing.assert_array_equal(network.predict(given), expected)
        np.testing.assert_array_equal(given, before)
    np.testing.assert_array_equal(network.predict(x.tolist()), expected)
    np.testing.assert_array_equal(network.predict(np.asfortranarray(x)), expected)


@pytest.mark.parametrize("shape", [(40, 56), (32, 32), (64, 35)])
@pytest.mark.parametrize("pooling", [None, "avg", "max"])
@pytest.mark.parametrize("source", ["arrays", "path"])
def test_without_the_top_any_size_will_do(tiny: Path, source: str, pooling: Any, shape: tuple[int, int]) -> None:
    bare = replace(TINY, top=False, pooling=pooling, shape=(None, None, 3))
    made = VGG(bare, arrays=he_normal(TINY)) if source == "arrays" else VGG(bare, path=tiny)
    x = preprocessed(2, shape)
    expected = forward(replace(bare, shape=(*shape, 3)), he_normal(TINY), x, None)
    last = list(expected)[-1]
    found = made.predict(x)
    assert found.shape == expected[last].shape and len(made.output_shape) == found.ndim
    np.testing.assert_allclose(found, expected[last], rtol=2e-4, atol=2e-4 * np.abs(expected[last]).max())
    assert list(made.weights) == list(bare.learned)


def test_logits_instead_of_probabilities(tiny: Path) -> None:
    x = preprocessed(2)
    linear = replace(TINY, activation="linear")
    expected = forward(TINY, he_normal(TINY), x, None)["logits"]
    for made in (VGG(linear, arrays=he_normal(TINY)), VGG(linear, path=tiny)):
        np.testing.assert_allclose(made.predict(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(channels: int, photo: Path) -> None:
    other = replace(TINY, shape=(32, 32, channels))
    made = VGG(other, arrays=he_normal(other))
    x = np.random.default_rng(0).normal(0, 60, (2, 32, 32, channels)).astype(np.float32)
    np.testing.assert_allclose(made.predict(x), forward(other, he_normal(other), x, None)["predictions"], atol=2e-5)
    with pytest.raises(UsageError, match="square RGB"):
        made.features([photo])


# -- features of photos


@pytest.mark.parametrize("source", ["network", "stored"])
@pytest.mark.parametrize("layer", [None, "fc1", "block3_pool", "predictions"])
def test_features_of_photos(source: str, layer: str | None, photo: Path, request: pytest.FixtureRequest) -> None:
    made: VGG = request.getfixturevalue(source)
    array = np.random.default_rng(2).integers(0, 256, (50, 40, 3), np.uint8)
    pixels = np.stack([images.prepare(images.read(p), oracle_recipe()) for p in (photo, array)])
    expected = forward(TINY, he_normal(TINY), pixels)[layer or "fc2"]
    found = made.features([photo, array], layer=layer)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())
    np.testing.assert_allclose(
        made.features(iter([photo, array]), layer=layer, batch_size=1), found, rtol=1e-5, atol=1e-5
    )


def oracle_recipe() -> images.Recipe:
    """The paper's: 256 pixels of which 224 are cut out, at 32."""
    return replace(images.CROP, size=32, side=37)


def test_a_single_photo_is_told_to_be_a_list(network: VGG, photo: Path) -> None:
    for single in (photo, str(photo), photo.read_bytes(), 5):
        with pytest.raises(UsageError, match="list of photos"):
            network.features(single)  # type: ignore[arg-type]


def test_a_bad_photo_is_named(network: VGG, photo: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(photo.read_bytes()[:60])
    with pytest.raises(CorruptPhotoError, match=r"bad\.png: "):
        network.features([photo, bad])


def test_without_a_top_features_are_the_output(photo: Path, tiny: Path) -> None:
    bare = replace(TINY, top=False, pooling="avg", shape=(None, None, 3))
    assert VGG(bare, path=tiny).features([photo]).shape == (1, 8)


# -- what is refused


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((32, 32, 3)),
        np.zeros((1, 33, 32, 3)),
        np.zeros((1, 32, 32, 1)),
        np.zeros((1, 3, 32, 32)),
        np.full((1, 32, 32, 3), "a"),
        np.zeros((1, 32, 32, 3), bool),
        [[1, 2], [3, 4]],
    ],
)
def test_what_is_no_batch_of_photos(network: VGG, x: Any) -> None:
    with pytest.raises(UsageError, match="expected preprocessed photos of shape"):
        network.predict(x)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(network: VGG, value: float) -> None:
    x = preprocessed(1)
    x[0, 5, 5, 1] = value
    with pytest.raises(UsageError, match="NaN or infinity"):
        network.predict(x)


def test_photos_too_small_for_the_poolings() -> None:
    bare = replace(TINY, top=False, shape=(None, None, 3))
    with pytest.raises(UsageError, match="at least 32 x 32"):
        VGG(bare, arrays=he_normal(TINY)).predict(preprocessed(1, (31, 40)))


@pytest.mark.parametrize("layer", ["fc3", "probabilities", "input_1", "fc2/kernel"])
def test_unknown_layers(network: VGG, layer: str, photo: Path) -> None:
    for call in (lambda: network.predict(preprocessed(1), layer=layer), lambda: network.features([photo], layer=layer)):
        with pytest.raises(UsageError, match=f"no layer '{layer}'. It has: block1_conv1"):
            call()


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True, None])
def test_impossible_batches(network: VGG, batch_size: Any) -> None:
    with pytest.raises(UsageError, match="batch_size"):
        network.predict(preprocessed(1), batch_size=batch_size)


def test_a_closed_network_says_so(network: VGG) -> None:
    network.predict(preprocessed(1))
    with network:
        pass
    network.close()
    with pytest.raises(UsageError, match="closed"):
        network.predict(preprocessed(1))


def test_several_threads_at_once(network: VGG) -> None:
    x = preprocessed(2)
    expected = {name: network.predict(x, layer=name) for name in ("fc1", "fc2", "predictions")}
    wrong: list[str] = []

    def work(name: str) -> None:
        for _ in range(3):
            if not np.allclose(network.predict(x, layer=name), expected[name], atol=1e-5):
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in (*expected, *expected)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "arguments",
    [
        {"input_shape": 32},
        {"input_shape": "abc"},
        {"input_shape": (32.0, 32, 3)},
        {"input_shape": (10**9, 32, 3)},
        {"input_shape": (32, 32, 0)},
        {"classes": 0},
        {"classes": 2.0},
        {"classes": True},
        {"include_top": False, "pooling": "sum"},
        {"classifier_activation": "sigmoid"},
    ],
)
def test_arguments_of_which_no_network_can_be_built(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        photolabel.VGG16(weights=None, **arguments)


# -- looking inside


def test_the_summary_and_the_plot_need_no_weights(tmp_path: Path) -> None:
    made = photolabel.VGG16(weights=None)
    assert "138,357,544" in made.summary() and made.summary() == photolabel.summary("vgg16")
    made.plot(tmp_path / "vgg.svg", style="volumes")
    assert (tmp_path / "vgg.svg").stat().st_size > 1000
    assert "weights" not in vars(made), "nothing was drawn"
    assert repr(made) == "<VGG16 (None, 224, 224, 3) -> (None, 1000)>"


@pytest.mark.parametrize("family", [spec.VGG11, spec.VGG13, spec.VGG16C, spec.VGG16, spec.VGG19], ids=lambda f: f.name)
def test_every_configuration_can_be_built_and_run(family: spec.Spec) -> None:
    made = getattr(photolabel, family.name)(weights=None, input_shape=(32, 32, 3), classes=5)
    assert [layer.name for layer in made.layers] == [layer.name for layer in family.layers]
    x = preprocessed(1)
    found = made.predict(x)
    expected = forward(made.spec, dict(made.weights), x, None)["predictions"]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    if family is spec.VGG16C:
        assert made.weights["block3_conv3"][0].shape == (1, 1, 256, 256)


def test_random_weights_are_glorots_and_stay() -> None:
    made = photolabel.VGG16(False, None)
    kernel, bias = made.weights["block4_conv2"]
    bound = np.sqrt(6 / (9 * (512 + 512)))
    assert np.abs(kernel).max() <= np.float32(bound)  # as near as float32 has it, which may be above
    assert abs(kernel.std() / (bound / np.sqrt(3)) - 1) < 0.01
    assert abs(kernel.mean()) < bound / 100 and not bias.any()
    assert made.weights["block4_conv2"][0] is kernel
    assert (photolabel.VGG16(False, None).weights["block4_conv2"][0] != kernel).any()


@pytest.mark.parametrize("source", ["network", "stored"])
def test_weights_by_layer_are_read_only(source: str, request: pytest.FixtureRequest) -> None:
    made: VGG = request.getfixturevalue(source)
    assert list(made.weights) == list(TINY.learned)
    for name, (kernel, bias) in he_normal(TINY).items():
        np.testing.assert_array_equal(made.weights[name][0], kernel)
        np.testing.assert_array_equal(made.weights[name][1], bias)
        with pytest.raises(ValueError, match="read-only"):
            made.weights[name][0][:] = 0
    with pytest.raises(TypeError):
        made.weights["fc1"] = made.weights["fc2"]  # type: ignore[index]


# -- where weights come from: `loaded`, as the functions call it


def test_published_weights_that_are_not_here() -> None:
    for make in (photolabel.VGG16, photolabel.VGG19):
        with pytest.raises(MissingWeightsError, match="PHOTOLABEL_OFFLINE"):
            make()


@pytest.mark.parametrize("name", ["VGG11", "VGG13", "VGG16C"])
def test_there_are_none_of_a_b_and_c(name: str) -> None:
    with pytest.raises(UsageError, match=f"none of {name}"):
        getattr(photolabel, name)(weights="imagenet")


def test_published_weights_make_one_artefact_that_all_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without the top, and its inner layers: never a second file."""
    arrays = he_normal(TINY)
    model = oracle.tiny_model()
    monkeypatch.setattr(models, "known", lambda: {"tinyvgg": model})
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_onnx(arrays))
    monkeypatch.setattr(vgg.artefacts, "locate", lambda found: path if found is model else None)
    monkeypatch.setattr(graph, "build", None)
    x = preprocessed(2)
    whole = vgg.loaded(TINY, "imagenet", kind=VGG)
    bare = vgg.loaded(replace(TINY, top=False, shape=(None, None, 3)), "imagenet", kind=VGG)
    expected = forward(TINY, arrays, x, None)
    np.testing.assert_allclose(whole.predict(x), expected["predictions"], atol=2e-5)
    np.testing.assert_allclose(whole.predict(x, layer="fc2"), expected["fc2"], rtol=2e-4, atol=2e-2)
    np.testing.assert_allclose(bare.predict(x), expected["block5_pool"], rtol=2e-4, atol=2e-2)


@pytest.mark.parametrize("form", ["keras_h5", "torch zip", "safetensors", "npz"])
def test_weights_out_of_a_file(tmp_path: Path, form: str, photo: Path) -> None:
    arrays = he_normal(TINY)
    path = forms.write(tmp_path / "weights", form, arrays, TINY)
    made = vgg.loaded(TINY, path, kind=VGG)
    for name, (kernel, bias) in arrays.items():
        np.testing.assert_array_equal(made.weights[name][0], kernel)
        np.testing.assert_array_equal(made.weights[name][1], bias)
    assert made.normalisation == (TORCHVISION if form in ("torch zip", "safetensors") else CAFFE)
    pixels = images.prepare(images.read(photo), replace(made._recipe()))[np.newaxis]
    expected = forward(TINY, arrays, pixels, made.normalisation)["fc2"]
    np.testing.assert_allclose(made.features([photo]), expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


def test_weights_out_of_arrays() -> None:
    arrays = he_normal(TINY)
    made = vgg.loaded(replace(TINY, top=False, shape=(None, None, 3)), arrays, kind=VGG)
    assert list(made.weights) == list(TINY.learned)[:6]
    with pytest.raises(WeightsMismatchError, match="layer fc1 is missing|convolutions only"):
        vgg.loaded(TINY, made.weights, kind=VGG)
    with pytest.raises(WeightsMismatchError, match=r"kernel of predictions has shape \(16, 10\), expected \(16, 3\)"):
        vgg.loaded(replace(TINY, classes=3), arrays, kind=VGG)


def test_a_wrong_head_or_network_in_a_file(tmp_path: Path) -> None:
    path = forms.write(tmp_path / "weights", "keras_h5", he_normal(TINY), TINY)
    with pytest.raises(WeightsMismatchError, match="predictions"):
        vgg.loaded(replace(TINY, classes=3), path, kind=VGG)
    with pytest.raises(WeightsMismatchError, match="another network|not the weights"):
        photolabel.VGG16(weights=path)
    (tmp_path / "x.onnx").write_bytes(tiny_onnx())
    with pytest.raises((WeightsMismatchError, InvalidModelError)):
        photolabel.VGG16(weights=tmp_path / "x.onnx")


def test_an_onnx_file_of_another_kind(tmp_path: Path) -> None:
    import onnx

    model = onnx.load_from_string(tiny_onnx())
    del model.metadata_props[:]
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InvalidModelError, match="of no network of the VGG family"):
        vgg.loaded(TINY, tmp_path / "x.onnx", kind=VGG)
    bundled = models.known()[models.BUNDLED].path
    with pytest.raises(InvalidModelError, match="of no network of the VGG family"):
        vgg.loaded(TINY, bundled, kind=VGG)


@pytest.mark.parametrize("name", ["x.onnx", "x.keras", "x.weights.h5", "x.safetensors"])
@pytest.mark.parametrize("top", [True, False])
def test_what_is_saved_comes_back(network: VGG, tmp_path: Path, name: str, top: bool) -> None:
    made = network if top else VGG(replace(TINY, top=False, shape=(None, None, 3)), arrays=he_normal(TINY))
    made.save(tmp_path / name)
    back = vgg.loaded(made.spec, tmp_path / name, kind=VGG)
    assert list(back.weights) == list(made.weights) and back.normalisation == made.normalisation
    for layer, (kernel, bias) in made.weights.items():
        np.testing.assert_array_equal(back.weights[layer][0], kernel)
        np.testing.assert_array_equal(back.weights[layer][1], bias)
    np.testing.assert_array_equal(back.predict(preprocessed(1)), made.predict(preprocessed(1)))


def test_without_the_top_out_of_a_file_that_has_it(network: VGG, tmp_path: Path) -> None:
    for name in ("x.onnx", "x.keras", "x.safetensors"):
        network.save(tmp_path / name)
        bare = vgg.loaded(replace(TINY, top=False, shape=(None, None, 3)), tmp_path / name, kind=VGG)
        assert list(bare.weights) == list(TINY.learned)[:6]


@pytest.mark.parametrize("path", ["nowhere/x.h5", "x" * 5000, "\0"])
def test_no_such_weights_file(path: str) -> None:
    with pytest.raises(MissingWeightsError, match="no such weights file"):
        photolabel.VGG16(weights=path)


def test_a_picture_is_no_weights_file(photo: Path) -> None:
    with pytest.raises(photolabel.errors.InvalidWeightsError, match="not a weights file of a known format"):
        photolabel.VGG16(weights=photo)


def test_a_network_cannot_be_pickled(network: VGG) -> None:
    with pytest.raises((TypeError, UsageError)):
        pickle.dumps(network)


def test_a_closed_picture_is_a_photo_error(network: VGG) -> None:
    image = Image.new("RGB", (40, 40))
    image.close()
    with pytest.raises(photolabel.errors.PhotoUnreadableError):
        network.features([image])
