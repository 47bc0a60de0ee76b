"""Run in a process of its own: Keras saves the tiny VGG, seeded, in each of its forms.

usage: keras_forms.py OUT_FOLDER

Writes into its folders `functional` (a model with the spec's names) and `sequential` (with names of Keras' own)
x.weights.h5 and x.keras, into the first x.h5 and legacy.h5 too, and x.npz with the arrays (`fc1_0` its kernel,
`fc1_1` its bias).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"
sys.path.insert(0, str(Path(__file__).parent))

import h5py
import keras
import numpy as np
from keras.src.legacy.saving import legacy_h5_format

from oracle import TINY


def main(kind: str, folder: Path) -> None:
    keras.utils.set_random_seed(7)
    x = inputs = keras.Input(TINY.shape)
    layers = []
    for layer in TINY.layers[1:]:
        named = {"name": layer.name} if kind == "functional" else {}
        if layer.kind == "Conv2D":
            made = keras.layers.Conv2D(layer.kernel[-1], layer.kernel[:2], padding="same", activation="relu", **named)
        elif layer.kind == "MaxPooling2D":
            made = keras.layers.MaxPooling2D(2, **named)
        elif layer.kind == "Flatten":
            made = keras.layers.Flatten(**named)
        else:
            layers.append(keras.layers.Dropout(0.5))  # it keeps a seed: an array in a layer that learns nothing
            made = keras.layers.Dense(layer.kernel[-1], **named)
        layers.append(made)
    if kind == "functional":
        for layer in layers:
            x = layer(x)
        model = keras.Model(inputs, x)
    else:
        model = keras.Sequential([inputs, *layers])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)  # Adam's moments are saved too
    for weight in model.trainable_variables:
        weight.assign(keras.random.normal(weight.shape))
    model.save_weights(folder / "x.weights.h5")
    model.save(folder / "x.keras")
    if kind == "functional":
        model.save(folder / "x.h5")
        with h5py.File(folder / "legacy.h5", "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
    learned = [layer.get_weights() for layer in model.layers if layer.trainable_weights]
    pairs = zip(TINY.learned, learned, strict=True)
    arrays = {f"{name}_{i}": array for name, pair in pairs for i, array in enumerate(pair)}
    np.savez(folder / "x.npz", **arrays)


if __name__ == "__main__":
    for kind in ("functional", "sequential"):
        folder = Path(sys.argv[1]) / kind
        folder.mkdir()
        main(kind, folder)
