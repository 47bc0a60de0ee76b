"""How near a model at one precision stays to itself at fp32, on photos of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import artefacts, engine, images, metadata, models, progress
from .errors import UsageError
from .prepared import prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two precisions of one model on the same photos.

    `same_top1` and `same_top5` count the photos with the same likeliest class, and the same five in any order;
    `largest` and `mean` are absolute changes of a probability, 0..1; `cosine` is the least similarity of the features
    before the classes, or None where the network names none. `unreadable` photos took no part.
    """

    model: str
    precision: str
    photos: int
    unreadable: int
    same_top1: int
    same_top5: int
    largest: float
    mean: float
    cosine: float | None


def agreement(
    model: str | Path, precision: str, photos: Sequence[images.Photo], *, threads: int | None = None
) -> Agreement:
    """Return how near `model` at `precision` stays to itself at fp32 on `photos`, prepared by its default recipe.

    Raises `UsageError` where no photo can be read or there is nothing to compare, and what `photolabel.load` raises.
    """
    described = models.resolve(model)
    network = artefacts.locate(described)
    if described.path is None:
        described = models.read(network)
    if precision == "fp32" or metadata.read(network).get("photolabel.precision") == "int8":
        raise UsageError(
            "expected a precision other than fp32, and a model whose fp32 network is here to compare with."
        )
    other = artefacts.quantized(described, network) if precision == "int8" else network
    made = [prepare(photo, described.recipe().plain).pixels for photo in photos]
    inputs = [pixels.astype(np.float32) for pixels in made if pixels is not None]
    unreadable = len(made) - len(inputs)
    if not inputs:
        raise UsageError(f"none of the {unreadable} photos can be read: give at least one that can.")
    named = engine.layer_names(network)
    layers = tuple(name for name in engine.BEFORE_CLASSES if name in named)[:1]
    reference, features = _run(network, "fp32", inputs, threads, layers)
    found, others = _run(other, precision, inputs, threads, layers)
    change = np.abs(found - reference)
    top = min(5, reference.shape[1])
    best, other_best = (np.argsort(-answers, axis=1, kind="stable")[:, :top] for answers in (reference, found))
    return Agreement(
        model=described.name,
        precision=precision,
        photos=len(inputs),
        unreadable=unreadable,
        same_top1=int((best[:, 0] == other_best[:, 0]).sum()),
        same_top5=int((np.sort(best) == np.sort(other_best)).all(axis=1).sum()),
        largest=float(change.max()),
        mean=float(change.mean()),
        cosine=None if features is None or others is None else _least_cosine(features, others),
    )


def _run(
    network: Path, precision: str, inputs: list[NDArray[np.float32]], threads: int | None, layers: tuple[str, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Probabilities, (photos, classes), and what the one of `layers` gives, (photos, units), of all inputs."""
    running = engine.open_engine(network, precision=precision, threads=threads, cut=engine.Cut(layers=layers))
    answers, features = [], []
    try:
        with progress.bar(f"{precision}", total=len(inputs), unit="photo") as tick:
            for done, pixels in enumerate(inputs, 1):
                main, *more = running.run(pixels[np.newaxis]).values()
                answers.append(main[0])
                features += [each[0].ravel() for each in more]
                tick(done, len(inputs))
    finally:
        running.close()
    return np.stack(answers), np.stack(features) if layers else None


def _least_cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / np.maximum(lengths, 1e-12)).min())
