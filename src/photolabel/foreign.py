"""A user's own ONNX network, which does not describe itself -> an artefact of photolabel's.

What the user says of it (labels, and the convention of its input) is tried on packaged photos before the file gets its
name: whether it takes many photos at a time, and whether it ends in a softmax, only a run shows.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import adapt, conventions, engine, graph, images, labels, models, progress, store
from .errors import InvalidModelError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .conventions import Convention
    from .labels import Label

_ADAPTED = "adapted-"  # begins the name of what was made from a stranger's ONNX file
_ADAPTION = 1  # counts the ways in which `adapt` has changed what it makes


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A user's own ONNX file that does not describe itself, and what the user says of it."""

    path: Path
    digest: str
    labels: tuple[Label, ...]
    convention: Convention


def describe(
    model: str | os.PathLike[str], *, labels_file: str | os.PathLike[str], recipe: str | os.PathLike[str] | None
) -> Foreign:
    """Return the user's own ONNX network `model`, its labels and the convention of its input, all looked into.

    Raises `UsageError` for a model that describes itself, and for labels or a recipe that are none.
    """
    path = models.stranger(model if isinstance(model, str) else Path(model))
    if recipe is None:
        raise UsageError(
            f"{path}: a network of your own needs to be told its input too: --recipe with one of "
            f"{', '.join(conventions.CONVENTIONS)}, or a JSON file."
        )
    named, convention = labels.read(labels_file), conventions.resolve(recipe)
    return Foreign(path=path, digest=store.Store().known_digest(path), labels=named, convention=convention)


def adapted(network: Foreign) -> Path:
    """Return the user's own network in photolabel's form, made once in the cache from all that `network` holds.

    Raises `InvalidModelError` where it is no classifier that can be adapted.
    """
    cache = store.Store()
    stem = network.path.stem
    name = stem if stem.isprintable() and 1 <= len(stem) <= 100 else "network"
    said = [
        _ADAPTION,
        name,
        network.digest,
        [[label.wnid, label.name] for label in network.labels],
        network.convention.to_dict(),
    ]
    key = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
    short = re.sub("[^A-Za-z0-9_-]", "_", stem)[:15]  # the file's name is to begin that of its compiled network too
    made = f"{_ADAPTED}{short}-{key}.onnx"
    if not cache.check(made):
        bring(network, name, into=cache, file=made)
    return cache.path(made)


def bring(network: Foreign, name: str, *, into: store.Store, file: str) -> None:
    """Write the user's own network, as the model `name`, into the store `into` as `file`; then it has been run once."""
    with into.lock(file):
        if into.check(file):  # another process was quicker
            return
        with progress.status(f"preparing {name} (once) ..."):
            said = {"softmax": True, "many": True}
            while wrong := _adapt(network, name, into, file, said):
                said[wrong] = False


def _adapt(network: Foreign, name: str, into: store.Store, file: str, said: Mapping[str, bool]) -> str | None:
    """Write the network, adapted as `said`; or return what of that does not hold, and nothing is written."""
    made = adapt.adapt(
        network.path,
        name=name,
        source=f"a network of the user's own, {network.digest}",
        labels=network.labels,
        convention=network.convention,
        **said,
    )
    if store.Store().known_digest(network.path) != network.digest:
        raise InvalidModelError(f"{network.path}: it was changed while it was read. Try again.")
    try:
        with into.create(file) as kept:
            kept.write(made)
            try:
                if said["softmax"]:  # else it has been tried with one
                    _try(kept.temporary, classes=len(network.labels))
            except InvalidModelError as error:
                raise InvalidModelError(str(error).replace(str(kept.temporary), str(network.path))) from None
    except _WrongError as wrong:
        return str(wrong)
    return None


class _WrongError(Exception):
    """What a run shows not to hold: "many" photos at a time, or a "softmax" of what is no probabilities yet."""


def _try(path: Path, *, classes: int) -> None:
    """Raise `InvalidModelError` unless the network at `path` names a photo."""
    recipe = models.read(path).recipe()
    folder = resources.files("photolabel").joinpath("data", "calibration")
    photos = sorted(folder.iterdir(), key=lambda photo: photo.name)[:2]
    pixels = np.stack([images.prepare(images.read(photo.read_bytes()), recipe) for photo in photos])
    running = engine.open_engine(path, cut=engine.Cut(layers=(graph.LOGITS,)))
    try:
        (found, *_) = running.shapes.values()
        if len(found) != 2 or found[1] != classes:
            raise InvalidModelError(
                f"{path}: there are {classes} labels, but its network answers in the shape {found}."
            )
        alone = [list(running.run(photo[np.newaxis]).values()) for photo in pixels]
        if running.shape[0] is None:
            try:
                together = next(iter(running.run(pixels).values()))
            except InvalidModelError:  # exported for any number, but that is not so
                raise _WrongError("many") from None
            each = np.concatenate([probabilities for probabilities, _ in alone])
            if together.shape != each.shape or not np.allclose(together, each, atol=1e-4):
                raise _WrongError("many")
    finally:
        running.close()
    if all(_are_probabilities(logits) for _, logits in alone):
        raise _WrongError("softmax")
    if not all(_are_probabilities(probabilities) for probabilities, _ in alone):
        raise InvalidModelError(
            f"{path}: its network does not answer with probabilities, which lie in 0..1 and sum to 1."
        )


def _are_probabilities(numbers: NDArray[np.float32]) -> bool:
    return bool(numbers.min() >= 0 and abs(float(numbers.sum(dtype=np.float64)) - len(numbers)) <= 1e-3)
