"""What a file that a VGG is to be made of holds: its weights, and what they were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import graph, metadata, models, weights
from ..errors import InvalidModelError

if TYPE_CHECKING:
    from ..models import Normalisation
    from ..spec import Spec
    from ..weights import Arrays


def read(made: Spec, path: Path) -> tuple[Normalisation, Arrays]:
    """Return what the weights at `path`, in any format that photolabel reads, were trained on, and those of `made`.

    Raises `InvalidModelError` for an ONNX file of another program, and what reading and checking weights raises.
    """
    if not _is_onnx(path):
        return models.normalisation_of(path), weights.read(path, made)
    stored, normalisation = network(path)
    arrays = graph.arrays(path, stored)
    kept = {name: arrays[name] for name in arrays if made.top or name in made.learned}
    weights.check(kept, made)
    return normalisation, kept


def network(path: Path) -> tuple[Spec, Normalisation]:
    """Return the architecture in an ONNX file of ours, and its normalisation. Raises `InvalidModelError` for others."""
    found = models.network(metadata.read(path))
    if found is None:
        raise InvalidModelError(f"{path}: an ONNX file, but of no network of the VGG family that photolabel made.")
    return found


def _is_onnx(path: Path) -> bool:
    """Whether the file begins as ONNX does, with its version. The length by which safetensors begin may look so too."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[:1] == b"\x08" and head[4:] != bytes(4) + b"{"
