"""Photos of made-up classes, and networks that are taught them with a head by least squares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from photolabel import batch
from photolabel.classifier import Classifier
from photolabel.models import Model
from photolabel.taught import Known
from photolabel.teaching import examples, saving
from photolabel.teaching.backbone import Backbone
from photolabel.teaching.features import Features, compute

COLOURS = {"blue sky": (40, 90, 220), "grass": (50, 170, 60), "röd": (210, 50, 40)}


def photo(path: Path, colour: tuple[int, int, int], seed: int, size: tuple[int, int] = (48, 40)) -> Path:
    """Write a noisy photo of one colour."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(-40, 41, (size[1], size[0], 3)) + np.array(colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(path)
    return path


def plant(top: Path, count: int = 8, colours: dict[str, tuple[int, int, int]] = COLOURS, seed: int = 0) -> Path:
    """Make a folder of photos for each class."""
    for place, (name, colour) in enumerate(colours.items()):
        for number in range(count):
            photo(top / name / f"{number:03}.png", colour, 1000 * seed + 100 * place + number)
    return top


def plant_varied(top: Path, count: int = 8, colours: dict[str, tuple[int, int, int]] = COLOURS, seed: int = 0) -> Path:
    """Make a folder of photos for each class, no two of which a good network takes for one and the same."""
    for place, (name, colour) in enumerate(colours.items()):
        for number in range(count):
            rng = np.random.default_rng([seed, place, number])
            patches = (rng.normal(0, 60, (4, 5, 3)) + np.array(colour)).clip(0, 255).astype(np.uint8)
            (top / name).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(patches).resize((48, 40), Image.Resampling.BICUBIC)
            image.save(top / name / f"{number:03}.png")
    return top


def computed(top: Path | Sequence[Path], backbone: Backbone, **options: Any) -> Features:
    found = examples.find([top] if isinstance(top, Path) else top)
    most = options.pop("most", None) or found.survey().photos
    with backbone.open() as running:
        return compute(found, running, options.pop("decoders", batch.Here()), most=most, **options)


def head(features: Features, labels: Sequence[str]) -> dict[str, Any]:
    """A linear head by least squares, and what else `saving.save` takes of it."""
    rows = features.numbers.mean(axis=1)
    truth = np.array([labels.index(name) for name in features.names])
    scale = float(np.sqrt((rows**2).mean()))
    entering = np.concatenate([rows / scale, np.ones((len(rows), 1))], axis=1).astype(np.float64)
    wanted = 8 * np.eye(len(labels))[truth] - 4
    gram = entering.T @ entering + 1e-3 * np.eye(entering.shape[1])
    solved = np.linalg.solve(gram, entering.T @ wanted)
    centres = np.stack([rows[truth == each].mean(axis=0) for each in range(len(labels))], axis=1)
    unit = centres / np.linalg.norm(centres, axis=0)
    cosines = (rows / np.linalg.norm(rows, axis=1, keepdims=True) @ unit).max(axis=1)
    return {
        "weights": (solved[:-1] / scale).astype(np.float32),
        "bias": solved[-1].astype(np.float32),
        "centres": centres.astype(np.float32),
        "floor": float(cosines.min()) - 1e-3,
    }


def known(features: Features, labels: Sequence[str]) -> list[Known]:
    truth = np.array([labels.index(name) for name in features.names])
    return saving.known(features.photos, truth, features.digests)


def taught(out: Path, features: Features, backbone: Backbone, **options: Any) -> Model:
    """Write a taught network."""
    labels = options.pop("labels", None) or sorted(set(features.names))
    return saving.save(
        out,
        backbone,
        **head(features, labels),
        labels=labels,
        examples=known(features, labels),
        averaged=features.averaged,
        kind="least squares",
        report={"photos": len(features.photos)},
        **options,
    )


def taught_by(out: Path, top: Path, classifier: Classifier, *, layer: str | None = None, **options: Any) -> Model:
    backbone = Backbone.of(classifier, layer=layer)
    return taught(out, computed(top, backbone), backbone, **options)
