"""A VGG's forward pass in plain NumPy: slow, obvious, and the judge of the engines. And the tiny VGG to run it on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from photolabel import graph
from photolabel.images import Recipe
from photolabel.labels import Label
from photolabel.models import CAFFE, Model, Normalisation
from photolabel.spec import Spec

Array = NDArray[np.float32]
Weights = dict[str, tuple[Array, Array]]

TINY = Spec(
    name="TinyVGG",
    blocks=(((3, 8),), ((3, 8), (1, 8)), ((3, 8),), ((3, 8),), ((3, 8),)),
    hidden=(16, 16),
    classes=10,
    shape=(32, 32, 3),
)
TINY_RECIPE = Recipe(name="tiny", size=32, fit="resize-crop", side=36, filter="bicubic")
TINY_SQUASH = Recipe(name="keras", size=32, fit="squash", side=None, filter="nearest")
TINY_LABELS = tuple(Label(i, f"n{i:08d}", f"class_{i}") for i in range(10))


def he_normal(spec: Spec, seed: int = 0) -> Weights:
    """Seeded weights: He-normal kernels, small biases so that a forgotten bias shows.

    The last kernel is small, or inputs of some hundred would saturate the softmax.
    """
    rng = np.random.default_rng(seed)
    weights = {}
    for name, layer in spec.learned.items():
        deviation = np.sqrt(2 / np.prod(layer.kernel[:-1])) * (0.02 if name == "predictions" else 1)
        kernel = rng.normal(0, deviation, layer.kernel).astype(np.float32)
        weights[name] = (kernel, rng.normal(0, 0.1, layer.bias).astype(np.float32))
    return weights


def forward(
    spec: Spec, weights: Weights, pixels: Array, normalisation: Normalisation | None = CAFFE
) -> dict[str, Array]:
    """Every layer's output by name, channels last, for pixels (N, H, W, 3) RGB 0-255; and `logits`."""
    x = pixels.astype(np.float64)
    if normalisation:
        x = x[..., ::-1] if normalisation.order == "BGR" else x
        x = (x - np.array(normalisation.mean)) / np.array(normalisation.deviation)
    outputs = {}
    for layer in spec.layers:
        if layer.kind == "Conv2D":
            kernel, bias = weights[layer.name]
            pad = kernel.shape[0] // 2
            padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))
            x = np.maximum(np.einsum("nhwcij,ijco->nhwo", windows, kernel.astype(np.float64)) + bias, 0)
        elif layer.kind == "MaxPooling2D":
            n, h, w, c = x.shape
            x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
        elif layer.kind == "GlobalAveragePooling2D":
            x = x.mean(axis=(1, 2))
        elif layer.kind == "GlobalMaxPooling2D":
            x = x.max(axis=(1, 2))
        elif layer.kind == "Flatten":
            x = x.reshape(len(x), -1)
        elif layer.kind == "Dense":
            kernel, bias = weights[layer.name]
            x = x @ kernel.astype(np.float64) + bias
            if layer.name == "predictions":
                outputs["logits"] = x
                e = np.exp(x - x.max(axis=1, keepdims=True))
                x = e / e.sum(axis=1, keepdims=True)
            else:
                x = np.maximum(x, 0)
        outputs[layer.name] = x
    return {name: array.astype(np.float32) for name, array in outputs.items()}


def tiny_model() -> Model:
    return Model(
        name="tiny",
        recipes=(TINY_RECIPE, TINY_SQUASH),
        labels=TINY_LABELS,
        source="seeded",
        licence="CC0",
        spec=TINY,
        normalisation=CAFFE,
    )


def tiny_onnx(weights: Weights | None = None, model: Model | None = None) -> bytes:
    model = model or tiny_model()
    return b"".join(graph.build(TINY, weights or he_normal(TINY), CAFFE, describe=model.describe()))
