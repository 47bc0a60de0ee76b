"""Run in a process of its own: Keras takes the files that were exported.

usage: keras_takes.py FOLDER

Of each x.keras in FOLDER, writes x.keras.npy: what the model makes of x.npy. And x.weights.h5 is loaded into it, its
weights zeroed before, which must give the same weights. With the word `configs` for FOLDER: compares our
configurations with those of keras.applications.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np

from photolabel.spec import VGG16, VGG19
from photolabel.weights import keras3_file


def takes(folder: Path) -> None:
    for path in sorted(folder.glob("*.keras")):
        pixels = np.load(path.with_suffix(".npy"))
        model = keras.models.load_model(path)
        np.save(f"{path}.npy", model.predict(pixels, verbose=0))
        before = model.get_weights()
        for weight in model.weights:
            weight.assign(np.zeros(weight.shape))
        model.load_weights(path.with_suffix(".weights.h5"))
        assert all(np.array_equal(x, y) and x.any() for x, y in zip(before, model.get_weights(), strict=True))


def configs() -> None:
    # To draw random weights of large networks takes longer than all else, and no configuration speaks of them.
    keras.initializers.GlorotUniform.__call__ = lambda self, shape, dtype=None: np.zeros(shape, dtype)
    vgg16, vgg19 = (VGG16, keras.applications.VGG16), (VGG19, keras.applications.VGG19)
    top = {"include_top": True, "input_shape": (32, 32, 3), "classes": 7}
    cases: list[tuple[Any, dict[str, Any]]] = [
        (vgg16, {**top, "classifier_activation": None}),
        (vgg16, {"include_top": False}),
        (vgg16, {"include_top": False, "pooling": "avg"}),
        (vgg19, {"include_top": False, "pooling": "max", "input_shape": (64, 48, 3)}),
    ]
    for (spec, build), options in cases:
        keras.backend.clear_session()  # which counts the names of inputs anew
        own = replace(
            spec,
            top=options["include_top"],
            pooling=options.get("pooling"),
            classes=options.get("classes", 1000),
            shape=options.get("input_shape", (None, None, 3)),
            activation="linear" if "classifier_activation" in options else "softmax",
        )
        theirs = build(weights=None, **options)
        ours = keras.saving.deserialize_keras_object(keras3_file.config(own))
        assert type(ours) is type(theirs)
        assert plain(ours.get_config()) == plain(theirs.get_config()), (spec.name, options)


def plain(value: Any) -> Any:
    """Without what Keras numbers by itself."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if key != "shared_object_id"}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    configs() if sys.argv[1] == "configs" else takes(Path(sys.argv[1]))
