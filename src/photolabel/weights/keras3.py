"""Keras 3's own forms: `.weights.h5`, and `.keras`, an archive whose member model.weights.h5 is such a file.

The file names layers by their classes, in the model's order (`layers/conv2d`, `layers/conv2d_1`, `layers/dense`, ...),
whatever they are called in the model, and each has `vars/0`, its kernel, and `vars/1`, its bias. So layers are matched
in order and by shape. Of the archive nothing else is read: its config.json can hold code. Source:
keras/src/saving/saving_lib.py of Keras 3.15; TensorFlow 2.13 writes `_layer_checkpoint_dependencies` for `layers`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import InvalidWeightsError, WeightsMismatchError
from . import files, hdf5, missing, stored_zip

if TYPE_CHECKING:
    from ..spec import Spec
    from . import Arrays

MEMBER = "model.weights.h5"
ROOTS = ("layers", "_layer_checkpoint_dependencies")
_KINDS = {"conv2d": "Conv2D", "dense": "Dense"}
_NAME = re.compile(r"(.*?)(?:_(\d{1,4}))?", re.DOTALL)
_MAX_LAYERS = 1000


def read(path: Path, spec: Spec) -> Arrays:
    """Return the weights of `spec`'s layers from a `.weights.h5` or `.keras` file, float32, by layer name.

    Dense layers are passed over where `spec` has no top. Raises `InvalidWeightsError` for a file that is broken or
    that points outside itself, and `WeightsMismatchError` for one that holds another network.
    """
    with _opened(path) as file:
        found = {}
        stored = _layers(file)
        for kind in _KINDS.values():
            groups = [group for name, group in stored if name == kind]
            expected = [layer for layer in spec.learned.values() if layer.kind == kind]
            if len(groups) > len(expected) and (expected or spec.top):
                raise WeightsMismatchError(
                    f"not the weights of {spec.name}: the file has {len(groups)} layers of kind {kind}, "
                    f"expected {len(expected)}."
                )
            for layer, group in zip(expected, groups, strict=False):
                found[layer.name] = (
                    hdf5.array(group, "0", layer.kernel, layer.name),
                    hdf5.array(group, "1", layer.bias, layer.name),
                )
            if len(groups) < len(expected):
                raise missing(spec, found)
    return found


def kernels(path: Path) -> list[tuple[int, ...]]:
    """Return the shapes of the kernels; nothing else is read."""
    with _opened(path) as file:
        return [hdf5.dataset(group, "0").shape for _, group in _layers(file)]


def _layers(file: Any) -> list[tuple[str, Any]]:
    """Return (kind, group of the arrays) of each layer that has some, in the model's order."""
    root = hdf5.group(file, next((name for name in ROOTS if name in file), ROOTS[0]))
    if len(root) > _MAX_LAYERS:
        raise WeightsMismatchError(f"the file has {len(root)} layers, more than any VGG.")
    found = []
    for name in root:
        match = _NAME.fullmatch(name)
        layer = hdf5.group(root, name)
        if any(inner in layer for inner in ROOTS):
            raise WeightsMismatchError(
                f"the layer {name!a:.80} is a model of its own; expected the layers of a VGG one after the other. In "
                "Keras, save that layer's weights alone: model.layers[i].save_weights(path)."
            )
        arrays = hdf5.group(layer, "vars") if "vars" in layer else None
        if arrays is None or len(arrays) == 0:  # pooling, dropout, ...
            continue
        assert match
        kind = _KINDS.get(match[1])
        if kind is None or len(arrays) != 2:
            raise WeightsMismatchError(
                f"the layer {name!a:.80} has {len(arrays)} arrays; expected convolutions and dense layers only, "
                "each with a kernel and a bias."
            )
        found.append((int(match[2] or 0), kind, arrays))
    return [(kind, arrays) for _, kind, arrays in sorted(found, key=lambda layer: layer[0])]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with files.opened(path) as (file, size):
        if file.read(2) != b"PK":
            with hdf5.opened(path) as inner:
                yield inner
            return
        entry = stored_zip.table(file, size).get(MEMBER)
        if entry is None:
            raise InvalidWeightsError(f"expected a .keras archive with the member {MEMBER}, which this one lacks.")
        stored_zip.check(file, size, entry)
        with hdf5.opened(_Window(file, stored_zip.data_start(file, size, entry), entry.size)) as inner:
            yield inner


class _Window(io.RawIOBase):
    """A part of a file as a file of its own, which is how h5py reads a member without unpacking it."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(0, self._size - self._at)]
        self._file.seek(self._start + self._at)
        count = self._file.readinto(view)  # type: ignore[attr-defined]
        self._at += count
        return int(count)
