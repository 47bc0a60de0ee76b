"""A spec and its weights -> Keras 3's own files: `.weights.h5`, and `.keras` with the network in it. Without Keras.

What `keras.Model.save` makes of the functional model that `keras.applications` would build: the same layers of the
same names, the same groups in the HDF5 file. Keras' own defaults are left out of the configuration, so that every
Keras 3 takes it. Sources: keras/src/saving/saving_lib.py, keras/src/models/functional.py, keras/applications/vgg16.py.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from . import layouts
from .keras3 import MEMBER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..spec import Layer, Spec
    from . import Arrays

_INPUT = "input_layer"  # Keras' own name; Oxford's files, and our specs, have that of an older Keras
_VERSION = "3.0.0"  # the first of this form
_GROUPS = {
    "InputLayer": _INPUT,
    "Conv2D": "conv2d",
    "MaxPooling2D": "max_pooling2d",
    "Flatten": "flatten",
    "Dense": "dense",
    "GlobalAveragePooling2D": "global_average_pooling2d",
    "GlobalMaxPooling2D": "global_max_pooling2d",
}


# -- the weights


def weights(spec: Spec, arrays: Arrays) -> Iterator[bytes | memoryview]:
    """The `.weights.h5` file as chunks, from its beginning to its end. The same arguments give the same bytes.

    The HDF5 library is given a file that only notes what it writes, and is never given the numbers: it says where
    each array belongs. So they go from where they are straight into the file, and no library is at work on a disk
    that may be full.
    """
    notes = _Notes()
    at = 0
    for start, array in sorted(_outline(notes, spec, arrays), key=lambda place: place[0]):
        yield notes.read_at(at, start)
        at = start + 4 * array.size
        for piece in layouts.pieces(array):
            yield piece.data.cast("B")
    yield notes.read_at(at, notes.size)


def _outline(notes: _Notes, spec: Spec, arrays: Arrays) -> list[tuple[int, NDArray[np.float32]]]:
    """Write all but the numbers; return where those of each array belong."""
    import h5py

    room = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    room.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    room.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    room.set_obj_track_times(False)
    places = []
    counts: dict[str, int] = {}
    with h5py.File(notes, "w") as file:
        layers = file.create_group("layers")
        for layer in spec.layers:
            kind = _GROUPS[layer.kind]
            count = counts[kind] = counts.get(kind, -1) + 1
            group = layers.create_group(f"{kind}_{count}" if count else kind).create_group("vars")
            group.attrs["name"] = _named(layer)
            for i, array in enumerate(arrays[layer.name] if layer.kernel else ()):
                space = h5py.h5s.create_simple(array.shape)
                made = h5py.h5d.create(group.id, str(i).encode(), h5py.h5t.IEEE_F32LE, space, room)
                places.append((made.get_offset(), array))
        file.create_group("vars").attrs["name"] = _title(spec)
    return places


class _Notes(io.RawIOBase):
    """A file that keeps the few pages that are written to, however long it is."""

    _PAGE = 4096

    def __init__(self) -> None:
        self.size, self._at, self._pages = 0, 0, dict[int, bytearray]()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def truncate(self, size: int | None = None) -> int:
        self.size = self._at if size is None else size
        return self.size

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        for page, inside, start, end in self._cut(self._at, self._at + len(view)):
            room = self._pages.setdefault(page, bytearray(self._PAGE))
            room[inside : inside + end - start] = view[start - self._at : end - self._at]
        self._at += len(view)
        self.size = max(self.size, self._at)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read_at(self._at, min(self._at + len(view), self.size))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def read_at(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end`; zero where nothing was written."""
        blank = bytes(self._PAGE)
        return b"".join(
            self._pages.get(page, blank)[inside : inside + end - start]
            for page, inside, start, end in self._cut(start, end)
        )

    def _cut(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """(page, where in it, from where to where) of each page between `start` and `end`."""
        while start < end:
            page, inside = divmod(start, self._PAGE)
            stop = min(end, start - inside + self._PAGE)
            yield page, inside, start, stop
            start = stop


# -- the network


def archive(
    file: BinaryIO, spec: Spec, numbers: Iterator[bytes | memoryview], size: int, metadata: Mapping[str, str]
) -> None:
    """Write the `.keras` archive into `file`, with `numbers`, about `size` bytes, as its member model.weights.h5.

    Its members are stored, not compressed, as Keras stores them. `metadata` goes beside Keras' own, which Keras
    passes over.
    """
    with zipfile.ZipFile(file, "w") as zipped:
        about = {"keras_version": _VERSION, **metadata}
        for name, value in (("metadata.json", about), ("config.json", config(spec))):
            zipped.writestr(zipfile.ZipInfo(name), json.dumps(value))
        with zipped.open(zipfile.ZipInfo(MEMBER), "w", force_zip64=size >= zipfile.ZIP64_LIMIT * 0.99) as member:
            for chunk in numbers:
                member.write(chunk)


def config(spec: Spec) -> dict[str, Any]:
    """The network as Keras' Functional model of Keras 3, ready for JSON."""
    chain: list[dict[str, Any]] = []
    for layer in spec.layers:
        nodes = []
        if chain:
            before = spec.layers[len(chain) - 1]
            tensor = {"shape": before.shape, "dtype": "float32", "keras_history": [_named(before), 0, 0]}
            nodes = [{"args": [{"class_name": "__keras_tensor__", "config": tensor}], "kwargs": {}}]
        chain.append(
            {
                "module": "keras.layers",
                "class_name": layer.kind,
                "config": {"name": _named(layer), "dtype": "float32", **_settings(layer, spec)},
                "registered_name": None,
                "name": _named(layer),
                "inbound_nodes": nodes,
            }
        )
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {
            "name": _title(spec),
            "trainable": True,
            "layers": chain,
            "input_layers": [chain[0]["name"], 0, 0],
            "output_layers": [chain[-1]["name"], 0, 0],
        },
        "registered_name": "Functional",
    }


def _settings(layer: Layer, spec: Spec) -> dict[str, Any]:
    """What Keras' layer is to be made with beside its name and type."""
    pictures = {"data_format": "channels_last"}
    match layer.kind:
        case "InputLayer":
            return {"batch_shape": layer.shape}
        case "Conv2D":
            side, _, _, filters = layer.kernel
            return {
                "filters": filters,
                "kernel_size": [side, side],
                "strides": [1, 1],
                "padding": "same",
                "activation": "relu",
                **pictures,
            }
        case "MaxPooling2D":
            return {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid", **pictures}
        case "Dense":
            last_one = layer.name == spec.layers[-1].name
            return {"units": layer.kernel[-1], "activation": spec.activation if last_one else "relu"}
        case _:
            return pictures


def _named(layer: Layer) -> str:
    return _INPUT if layer.kind == "InputLayer" else layer.name


def _title(spec: Spec) -> str:
    """The model's name: Keras takes no slash in one."""
    return spec.name.lower().replace("/", "_")
