"""Strangers' networks, adapted and run; and what becomes of their pixels, by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from photolabel import adapt, engine
from photolabel.conventions import CONVENTIONS, Convention
from photolabel.labels import Label
from photolabel.models import Normalisation

import strangers
from strangers import NAMES, Array

LABELS = tuple(Label(i, None, name) for i, name in enumerate(NAMES))
TORCH = CONVENTIONS["torchvision"]
BLUE = Normalisation(order="BGR", mean=(104.0, 117.0, 124.0), deviation=(60.0, 50.0, 55.0))
SAID = {
    "torchvision": TORCH,
    "blue first": dataclasses.replace(TORCH, normalisation=BLUE),
    "raw": CONVENTIONS["raw"],
}


def adapted(path: Path, convention: Convention = TORCH, labels: tuple[Label, ...] = LABELS, **more: Any) -> bytes:
    return adapt.adapt(path, name="mine", source="a test", labels=labels, convention=convention, **more)


def made(tmp_path: Path, model: onnx.ModelProto, convention: Convention = TORCH, **more: Any) -> Path:
    source = strangers.write(tmp_path / "stranger.onnx", model)
    path = tmp_path / "made.onnx"
    path.write_bytes(adapted(source, convention, **more))
    onnx.checker.check_model(onnx.load(path), full_check=True)
    return path


def photos(n: int, side: int = 16) -> Array:
    return np.random.default_rng(3).integers(0, 256, (n, side, side, 3)).astype(np.float32)


def by_hand(pixels: Array, convention: Convention) -> Array:
    """What the convention makes of pixels, channels first, float64."""
    wanted = convention.normalisation
    x = pixels[..., ::-1] if wanted.order == "BGR" else pixels
    x = (x.astype(np.float64) - np.array(wanted.mean)) / np.array(wanted.deviation)
    return np.asarray(x.transpose(0, 3, 1, 2))


def run(path: Path, pixels: Array) -> Array:
    running = engine.open_engine(path)
    try:
        return np.asarray(running(pixels))
    finally:
        running.close()
