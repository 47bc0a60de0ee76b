"""What both Keras and photolabel are asked, so that their answers can be compared; nothing of either is imported."""

from __future__ import annotations

from typing import Any

import numpy as np


def _case(family: str = "VGG16", **arguments: Any) -> dict[str, Any]:
    return {"family": family, **arguments}


# Arguments of VGG16 and VGG19: what Keras makes of them. Networks that would be large are left out.
CHECKS = [
    _case(),
    _case("VGG19"),
    _case(weights="imagenet", classes=10),
    _case(weights="imagenet", classes=10, include_top=False),
    _case(weights="imagenet", input_shape=[224, 224, 3]),
    _case(weights="imagenet", input_shape=[256, 256, 3]),
    _case(weights="imagenet", input_shape=[224, 224, 1]),
    _case(weights="imagenet", include_top=False, input_shape=[224, 224, 1]),
    _case(weights="imagenet", include_top=False, input_shape=[31, 224, 3]),
    _case(weights="imagenet", include_top=False, input_shape=[224, 31, 3]),
    _case(weights="imagenet", include_top=False, input_shape=[32, 32, 3]),
    _case(weights="imagenet", include_top=False, input_shape=[None, None, 3]),
    _case(weights="imagenet", include_top=False, input_shape=[224, 224]),
    _case(weights="imagenet", include_top=False, pooling="avg"),
    _case(weights="no such file"),
    _case(weights=None, include_top=False),
    _case(weights=None, include_top=False, pooling="avg"),
    _case(weights=None, include_top=False, pooling="max", input_shape=[64, 48, 3]),
    _case(weights=None, include_top=False, input_shape=[64, 48, 3]),
    _case("VGG19", weights=None, include_top=False, input_shape=[64, None, 3]),
    _case(weights=None, include_top=False, input_shape=[64, 48, 1]),
    _case(weights=None, include_top=False, input_shape=[64, 48, 4]),
    _case(weights=None, include_top=False, input_shape=[31, 48, 3]),
    _case(weights=None, include_top=False, input_shape=[32, 48, 3, 1]),
    _case(weights=None, input_shape=[None, None, 3]),
    _case(weights=None, input_shape=[None, 224, 3]),
    _case(weights=None, input_shape=[16, 16, 3]),
    _case(weights=None, input_shape=[32, 32, 3], classes=10),
    _case(weights=None, input_shape=[32, 64, 1], classes=2, classifier_activation=None),
    _case(weights="imagenet", classifier_activation=None),
    _case(weights="imagenet", classifier_activation="linear"),
    _case(weights="imagenet", classifier_activation="relu"),
    _case(weights="imagenet", include_top=False, classifier_activation="relu"),
]

# Options of load_img.
IMAGES: list[dict[str, Any]] = [
    {},
    {"target_size": (224, 224)},
    {"target_size": (50, 80), "interpolation": "bilinear"},
    {"target_size": (80, 50), "interpolation": "bicubic", "keep_aspect_ratio": True},
    {"target_size": (64, 64), "interpolation": "lanczos", "keep_aspect_ratio": True},
    {"target_size": (20, 30), "interpolation": "box"},
    {"target_size": (33, 31), "interpolation": "hamming"},
    {"color_mode": "grayscale", "target_size": (40, 40)},
    {"color_mode": "rgba", "target_size": (40, 40)},
]


def predictions() -> list[tuple[np.ndarray, int]]:
    """Rows of 1000 numbers, and how many of them to name; with equal ones among them."""
    rng = np.random.default_rng(7)
    plain = rng.dirichlet(np.full(1000, 0.01), 3).astype(np.float32)
    tied = np.zeros((2, 1000), np.float32)
    tied[0, [3, 500, 999]] = 0.25
    tied[1] = 0.001
    return [(plain, 5), (plain, 1), (plain, 1000), (tied, 5), (tied, 40)]
