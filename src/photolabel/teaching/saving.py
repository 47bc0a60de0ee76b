"""A backbone and what was taught on it -> one file that every other verb takes by path, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import engine, graph, images, metadata, models, taught, writing
from ..errors import InvalidModelError, UsageError
from ..graph.head import digest, with_head
from ..labels import Label
from ..taught import KEY_BYTES, Known, Taught
from .backbone import source_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..models import Model
    from .backbone import Backbone, Opened

_CARRIED = ("photolabel.precision", "photolabel.calibration")  # of a backbone in 8-bit integers
_PARTS = 2  # of an example's path that are kept: no more than it takes to know it again
_NEAR = 1e-3


def save(
    out: Path,
    backbone: Backbone,
    weights: NDArray[np.float32],
    bias: NDArray[np.float32],
    *,
    labels: Sequence[str],
    examples: Sequence[Known],
    averaged: bool,
    kind: str,
    strength: float | None = None,
    seed: int = 0,
    report: Mapping[str, Any] | None = None,
    centres: NDArray[np.float32] | None = None,
    floor: float | None = None,
) -> Model:
    """Write the network that a linear head makes of `backbone` to `out`, and return it as a model.

    `weights` are float32 (numbers, classes), `bias` float32 (classes,), `labels` the classes' names in the same order.
    `centres`, float32 (numbers, classes), are where the classes' photos lie, and `floor` the largest cosine to them,
    -1..1, below which a photo shows none of the classes; both or neither. `examples` are the photos that it was taught
    with (`known`), `averaged` is that of their `Features`, `kind`, `strength` and `seed` are of the head, and `report`
    is what is to be told of the teaching, in plain values of JSON.

    The network has named a photo before the file gets its name; an older file stays until then, whatever happens. The
    same arguments give the same bytes. Raises UsageError for arguments that do not fit together, `OutputError` where
    the file cannot be written, and `InvalidModelError` for a backbone whose file was changed or that takes no head.
    """
    if weights.shape[-1:] != (len(labels),) or len(set(labels)) != len(labels):
        raise UsageError(f"expected one name for each of the head's classes, {weights.shape[-1:]}, all different.")
    if (centres is None) != (floor is None):
        raise UsageError("expected both the centres of the classes and the floor of familiarity, or neither.")
    check(out, backbone)
    told = Taught(
        origin=backbone.origin,
        kind=kind,
        strength=strength,
        seed=seed,
        counts=tuple(np.bincount(np.array([each.index for each in examples], int), minlength=len(labels)).tolist()),
        floor=floor,
        report=report or {},
    )
    chunks = with_head(
        backbone.network.path,
        backbone.layer,
        weights,
        bias,
        averaged=averaged,
        centres=centres,
        describe=taught.describe(told, examples, _described(out, backbone, labels)),
    )
    with writing.whole(out) as file:
        file.writelines(chunks)
        file.flush()
        if digest(Path(file.name), backbone.layer) != backbone.origin.network:
            raise InvalidModelError(f"{backbone.network.path}: it was changed while it was read. Try again.")
        try:
            _try(Path(file.name), backbone, weights, bias, averaged=averaged)
        except InvalidModelError as error:
            raise InvalidModelError(str(error).replace(file.name, str(out))) from None
    return models.read(out)


def check(out: Path, backbone: Backbone) -> None:
    """Raise `OutputError` or UsageError if a network taught on `backbone` can plainly not be written to `out`.

    The file that a backbone is read from is not written over, unless it was taught itself: then the new one has the
    same backbone.
    """
    writing.check(out)
    own = out.exists() and out.samefile(backbone.network.path)
    if own and taught.parse(metadata.read(out)) is None:
        raise UsageError(f"{out} is the very file that the backbone is read from: choose another.")


def check_head(running: Opened) -> None:
    """Raise UsageError or `InvalidModelError` for a layer that takes no head, such as one behind the classes' scores.

    Better said before photos are looked at than after.
    """
    nothing = np.zeros((running.dimensions, 2), np.float32)
    backbone = running.backbone
    with_head(
        backbone.network.path,
        backbone.layer,
        nothing,
        nothing[0],
        averaged=running.averaged,
        centres=nothing,
        describe={},
    )


def known(photos: Sequence[str], truth: NDArray[np.intp], digests: Sequence[bytes]) -> list[Known]:
    """Return photos as a network's file lists them: each content once, in their order.

    Raises UsageError for a photo that is there in two classes: which of them it shows has to be decided before.
    """
    found: dict[bytes, Known] = {}
    for photo, index, content in zip(photos, truth.tolist(), digests, strict=True):
        short = "/".join(photo.replace("\\", "/").split("/")[-_PARTS:])
        new = Known(key=content[:KEY_BYTES], index=index, name=short)
        each = found.setdefault(new.key, new)
        if each.index != new.index:
            raise UsageError(f"{photo}: it is the same photo as {each.name}, in another class. Leave out one of them.")
    return list(found.values())


def _described(out: Path, backbone: Backbone, labels: Sequence[str]) -> dict[str, str]:
    """What every model's file says of itself."""
    model, recipe = backbone.model, backbone.recipe.plain
    made = models.Model(
        name=out.stem if out.stem.isprintable() and 1 <= len(out.stem) <= 100 else "taught",
        recipes=(recipe, *(each for each in model.recipes if each.name != recipe.name)),
        labels=tuple(Label(index, None, label) for index, label in enumerate(labels)),
        source=f"{source_of(backbone.origin)}{backbone.source}",
        licence=model.licence,
    )
    stored = metadata.read(backbone.network.path)
    return made.describe() | {key: stored[key] for key in _CARRIED if key in stored}


def _try(
    path: Path, backbone: Backbone, weights: NDArray[np.float32], bias: NDArray[np.float32], *, averaged: bool
) -> None:
    """Raise `InvalidModelError` unless the network at `path` makes of a photo what backbone and head make of it."""
    folder = resources.files("photolabel").joinpath("data", "calibration")
    photo = min(folder.iterdir(), key=lambda each: each.name)
    pixels = images.prepare(images.read(photo.read_bytes()), backbone.recipe.plain)[np.newaxis]
    precision = "int8" if backbone.precision == "int8" else "fp32"  # of what is computed, bf16 would show little
    network = replace(backbone.network, path=path, precision=precision)
    running = network.open(engine.Cut(layers=(backbone.layer, graph.LOGITS)))
    try:
        found = running.run(pixels)
    finally:
        running.close()
    features = found[backbone.layer].astype(np.float64)
    logits = (features.mean(axis=(1, 2)) if averaged else features) @ weights + bias
    raised = np.exp(logits - logits.max())
    near = _NEAR * max(1.0, float(np.abs(logits).max()))
    alike = np.allclose(found[graph.LOGITS], logits, atol=near, rtol=0)
    if not alike or not np.allclose(found[graph.PROBABILITIES], raised / raised.sum(), atol=near, rtol=0):
        raise InvalidModelError(f"{path}: it does not compute what its backbone and its head do apart.")
