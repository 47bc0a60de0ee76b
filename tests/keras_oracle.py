"""Run in a process of its own: Keras itself makes seeded weights, saves them, and classifies photos.

usage: keras_oracle.py vgg16|vgg19|tiny DIALECT OUT_FOLDER BASE.h5|- PHOTO ...

Writes OUT_FOLDER/weights.h5 and OUT_FOLDER/answers.npz (arrays `inputs`, `probabilities`; `inputs` are what Keras'
own load_img and preprocess_input made). DIALECT is `published` (the layout and names of the files on Keras' storage),
`legacy` (Keras 3's saver of weights) or `model` (`model.save("x.h5")`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import h5py
import keras
import numpy as np
from keras.applications.imagenet_utils import preprocess_input
from keras.src.legacy.saving import legacy_h5_format

sys.path.insert(0, str(Path(__file__).parent))


def build(name: str) -> keras.Model:
    if name == "vgg16":
        return keras.applications.VGG16(weights=None)
    if name == "vgg19":
        return keras.applications.VGG19(weights=None)
    from oracle import TINY

    layers: list[keras.Layer] = [keras.Input(TINY.shape)]
    for layer in TINY.layers:
        if layer.kind == "Conv2D":
            layers.append(
                keras.layers.Conv2D(
                    layer.kernel[-1], layer.kernel[:2], padding="same", activation="relu", name=layer.name
                )
            )
        elif layer.kind == "MaxPooling2D":
            layers.append(keras.layers.MaxPooling2D(2, name=layer.name))
        elif layer.kind == "Flatten":
            layers.append(keras.layers.Flatten(name=layer.name))
        elif layer.kind == "Dense":
            end = "softmax" if layer.name == "predictions" else "relu"
            layers.append(keras.layers.Dense(layer.kernel[-1], activation=end, name=layer.name))
    return keras.Sequential(layers)


def seed(model: keras.Model, base: str) -> None:
    """He-normal weights throughout, or the real convolutional base under a He-normal head."""
    rng = np.random.default_rng(2014)
    real = h5py.File(base, "r") if base != "-" else None
    for layer in model.layers:
        if not layer.weights:
            continue
        kernel, bias = (tuple(w.shape) for w in layer.weights)
        if real is not None and layer.name in real:
            group = real[layer.name]
            layer.set_weights([group[name][()] for name in group.attrs["weight_names"]])
            continue
        deviation = np.sqrt(2 / np.prod(kernel[:-1]))
        drawn = rng.standard_normal(kernel, dtype=np.float32) * np.float32(deviation)
        layer.set_weights([drawn, rng.normal(0, 0.1, bias).astype(np.float32)])


def temper(model: keras.Model, inputs: np.ndarray) -> None:
    """Scale the last kernel until the winners' mean probability is 0.7.

    As drawn, nearly every winner has probability 1, and agreement would prove little.
    """
    last = model.get_layer("predictions")
    kernel, bias = last.get_weights()
    before = keras.Model(model.inputs, last.input).predict(inputs, batch_size=4, verbose=0)
    logits = before @ kernel

    def mean_winner(scale: float) -> float:
        x = logits * scale + bias
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return float((e.max(axis=1) / e.sum(axis=1)).mean())

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_winner(middle) < 0.7 else (low, middle)
    last.set_weights([(kernel * high).astype(np.float32), bias])


def save(model: keras.Model, dialect: str, path: Path) -> None:
    if dialect == "model":
        model.save(path)
        return
    with h5py.File(path, "w") as file:
        if dialect == "legacy":
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
            return
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.2.4"
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}_W_1:0", f"{layer.name}_b_1:0"] if layer.weights else []
            group.attrs["weight_names"] = np.array([name.encode() for name in names], dtype="S40")
            for name, array in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name, data=array)


def main(name: str, dialect: str, folder: str, base: str, *photos: str) -> None:
    model = build(name)
    seed(model, base)
    side = model.input_shape[1]
    images = [keras.utils.img_to_array(keras.utils.load_img(p, target_size=(side, side))) for p in photos]
    inputs = np.stack(images)
    prepared = preprocess_input(inputs.copy(), mode="caffe")
    temper(model, prepared)
    save(model, dialect, Path(folder) / "weights.h5")
    answers = model.predict(prepared, batch_size=4, verbose=0)
    np.savez(Path(folder) / "answers.npz", inputs=inputs, probabilities=answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
