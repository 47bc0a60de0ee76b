"""Run in a process of its own: what `photolabel.keras` makes. Prints a line for each check that holds.

On the backend that KERAS_BACKEND names, by default JAX.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ["PHOTOLABEL_OFFLINE"] = "1"
os.environ["PHOTOLABEL_CACHE"] = os.environ["KERAS_HOME"] = tempfile.mkdtemp()

import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import photolabel
import photolabel.keras as ours
from photolabel.errors import UsageError, WeightsMismatchError

FOLDER = Path(os.environ["KERAS_HOME"])
SHAPE = (32, 32, 3)


def inputs(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-124, 152, shape).astype(np.float32)


def equal(first: object, second: object) -> None:
    a, b = dict(first), dict(second)  # type: ignore[call-overload]
    assert list(a) == list(b)
    for name in a:
        for x, y in zip(a[name], b[name], strict=True):
            np.testing.assert_array_equal(x, y)


def a_round_trip_is_exact() -> None:
    for native_of, keras_of in ((photolabel.VGG16, ours.VGG16), (photolabel.VGG19, ours.VGG19)):
        native = native_of(weights=None, input_shape=SHAPE, classes=5)
        model = keras_of(weights=native.weights, input_shape=SHAPE, classes=5)
        assert isinstance(model, keras.Model)
        back = native_of(weights=ours.weights(model), input_shape=SHAPE, classes=5)
        equal(native.weights, back.weights)


def both_predict_the_same() -> None:
    native = photolabel.VGG16(weights=None, input_shape=SHAPE, classes=5)
    model = ours.VGG16(weights=native.weights, input_shape=SHAPE, classes=5)
    theirs = keras.applications.VGG16(weights=None, input_shape=SHAPE, classes=5)
    assert [(x.name, type(x)) for x in model.layers[1:]] == [(x.name, type(x)) for x in theirs.layers[1:]]
    assert model.count_params() == theirs.count_params()
    theirs.set_weights(model.get_weights())
    x = inputs(3, *SHAPE)
    np.testing.assert_array_equal(model.predict(x, verbose=0), theirs.predict(x, verbose=0))
    np.testing.assert_allclose(native.predict(x), model.predict(x, verbose=0), atol=2e-5)
    inner = keras.Model(model.inputs, model.get_layer("fc2").output).predict(x, verbose=0)
    np.testing.assert_allclose(native.predict(x, layer="fc2"), inner, rtol=1e-3, atol=1e-3 * np.abs(inner).max())


def any_size_without_the_top() -> None:
    for pooling in (None, "avg", "max"):
        model = ours.VGG16(include_top=False, weights=None, pooling=pooling)
        native = photolabel.VGG16(False, ours.weights(model), pooling=pooling)
        assert native.output_shape == model.output_shape
        x = inputs(2, 40, 70, 3)
        expected = model.predict(x, verbose=0)
        np.testing.assert_allclose(native.predict(x), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def an_input_tensor() -> None:
    entering = keras.Input((48, 48, 3))
    model = ours.VGG16(include_top=False, weights=None, input_tensor=entering, pooling="avg", name="mine")
    assert model.name == "mine" and model.inputs[0] is entering
    scaled = keras.layers.Rescaling(255.0)(entering)
    upon = ours.VGG16(include_top=False, weights=ours.weights(model), input_tensor=scaled, pooling="avg")
    assert upon.inputs[0] is entering
    x = np.random.default_rng(0).random((1, 48, 48, 3), np.float32)
    np.testing.assert_allclose(upon.predict(x, verbose=0), model.predict(x * 255, verbose=0), rtol=1e-4, atol=1e-4)


def a_model_that_trains() -> None:
    base = ours.VGG16(include_top=False, weights=None, input_shape=SHAPE, pooling="avg")
    for layer in base.layers[:-4]:
        layer.trainable = False
    model = keras.Model(base.inputs, keras.layers.Dense(2, activation="softmax")(base.output))
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = ours.weights(base)
    model.fit(inputs(8, *SHAPE), np.arange(8) % 2, epochs=2, batch_size=4, verbose=0)
    after = ours.weights(base)
    assert (before["block1_conv1"][0] == after["block1_conv1"][0]).all()
    assert (before["block5_conv3"][0] != after["block5_conv3"][0]).any()


def any_activation_with_random_weights() -> None:
    model = ours.VGG16(weights=None, input_shape=SHAPE, classes=3, classifier_activation="sigmoid")
    assert model.get_layer("predictions").activation is keras.activations.sigmoid
    linear = ours.VGG16(weights=None, input_shape=SHAPE, classes=3, classifier_activation=None)
    assert linear.get_layer("predictions").activation is keras.activations.linear


def wrong_arguments() -> None:
    for arguments in (
        {"weights": "imagenet", "classes": 5},
        {"weights": None, "input_shape": (31, 32, 3)},
        {"weights": None, "input_shape": (None, None, 3)},
        {"weights": "imagenet", "classifier_activation": "relu"},
    ):
        try:
            ours.VGG16(**arguments)
        except ValueError as error:
            assert isinstance(error, UsageError)
        else:
            raise AssertionError(arguments)


def a_file_of_weights() -> None:
    theirs = keras.applications.VGG16(weights=None, input_shape=SHAPE, classes=4)
    theirs.save(FOLDER / "theirs.keras")
    theirs.save_weights(FOLDER / "theirs.weights.h5")
    for name in ("theirs.keras", "theirs.weights.h5"):
        model = ours.VGG16(weights=FOLDER / name, input_shape=SHAPE, classes=4)
        equal(ours.weights(model), ours.weights(theirs))
        equal(photolabel.VGG16(weights=FOLDER / name, input_shape=SHAPE, classes=4).weights, ours.weights(theirs))


def a_saved_model_comes_back() -> None:
    native = photolabel.VGG16(weights=None, input_shape=SHAPE, classes=4)
    native.save(FOLDER / "ours.keras")
    native.save(FOLDER / "ours.weights.h5")
    model = keras.models.load_model(FOLDER / "ours.keras")
    equal(ours.weights(model), native.weights)
    other = keras.applications.VGG16(weights=None, input_shape=SHAPE, classes=4)
    other.load_weights(FOLDER / "ours.weights.h5")
    equal(ours.weights(other), native.weights)


def channels_first() -> None:
    keras.config.set_image_data_format("channels_first")
    try:
        model = ours.VGG16(include_top=False, weights=None, pooling="avg")
        assert model.input_shape == (None, None, None, 3)
    finally:
        keras.config.set_image_data_format("channels_last")
    native = photolabel.VGG16(False, ours.weights(model), pooling="avg")
    x = inputs(1, 40, 40, 3)
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(native.predict(x), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def other_layers() -> None:
    odd = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
    try:
        ours.weights(odd)
    except WeightsMismatchError as error:
        assert "4 arrays" in str(error)
    else:
        raise AssertionError


for check in (
    a_round_trip_is_exact,
    both_predict_the_same,
    any_size_without_the_top,
    an_input_tensor,
    a_model_that_trains,
    any_activation_with_random_weights,
    wrong_arguments,
    a_file_of_weights,
    a_saved_model_comes_back,
    channels_first,
    other_layers,
):
    check()
    print("ok:", check.__name__.replace("_", " "), flush=True)
