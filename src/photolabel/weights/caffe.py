"""Caffe's binary networks (.caffemodel) -> named arrays.

Such a file is one protobuf message, NetParameter: the network's layers, each with its `blobs`, kernel and bias. Layers
are in the field `layers` (of 2014, as Oxford's files) or `layer` (since), and a blob's shape in four numbers or in
a message of its own. Field numbers: BVLC/caffe, src/caffe/proto/caffe.proto.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from .. import protobuf
from ..errors import InvalidWeightsError
from ..protobuf import Field, Walker
from . import files
from .files import Array, Select

# Of NetParameter: the layers; then, of each of their two messages, the name and the blobs.
_LAYERS = {2: (4, 6), 100: (1, 7)}  # V1LayerParameter, LayerParameter
_NUM, _CHANNELS, _HEIGHT, _WIDTH, _DATA, _SHAPE, _DOUBLE_DATA = 1, 2, 3, 4, 5, 7, 8  # of BlobProto
_DIM = 1  # of BlobShape
_KINDS = {_DATA: "<f4", _DOUBLE_DATA: "<f8"}

_MAX_FIELDS = 20_000  # VGG19's has about a thousand
_MAX_NAME = 255
_MAX_AXES = 8


@dataclass(frozen=True, slots=True)
class _Blob:
    kind: str
    shape: tuple[int, ...]
    start: int


def read(path: Path, select: Select) -> dict[str, Array]:
    """Return those blobs that `select` names: `conv1_1/0` is the first one of the layer conv1_1, its kernel.

    Raises `InvalidWeightsError` for a file that is no network of Caffe's, is broken or cut short.
    """
    with files.opened(path) as (file, size):
        try:
            blobs = _blobs(Walker(file, most=_MAX_FIELDS), size)
        except (protobuf.BrokenMessageError, UnicodeDecodeError):
            raise InvalidWeightsError(
                "broken, cut short or of an unknown format: it begins like a .caffemodel of Caffe's, but is none."
            ) from None
        if not blobs:
            raise InvalidWeightsError("expected a .caffemodel with trained layers; this file holds no arrays.")
        wanted = select({name: blob.shape for name, blob in blobs.items()})
        return {
            name: files.array(file, blob.start, math.prod(blob.shape), blob.kind).reshape(blob.shape)
            for name, blob in blobs.items()
            if name in wanted
        }


def _blobs(walker: Walker, size: int) -> dict[str, _Blob]:
    found: dict[str, _Blob] = {}
    for layer in walker.fields(0, size):
        if layer.number not in _LAYERS or layer.wire != protobuf.BYTES:
            continue
        name_field, blobs_field = _LAYERS[layer.number]
        name, blobs = "", []
        for field in walker.fields(layer.start, layer.start + layer.size):
            if field.number == name_field and field.wire == protobuf.BYTES:
                if field.size > _MAX_NAME:
                    raise InvalidWeightsError(f"a layer's name has {field.size} bytes; at most {_MAX_NAME} are read.")
                name = walker.bytes(field).decode("utf-8")
            elif field.number == blobs_field and field.wire == protobuf.BYTES:
                blobs.append(_blob(walker, field))
        for i, blob in enumerate(blobs):
            if f"{name}/{i}" in found:
                raise InvalidWeightsError(f"the layer {name!a:.80} is there twice.")
            found[f"{name}/{i}"] = blob
    return found


def _blob(walker: Walker, message: Field) -> _Blob:
    old = dict.fromkeys((_NUM, _CHANNELS, _HEIGHT, _WIDTH), 0)
    shape: tuple[int, ...] | None = None
    data: list[Field] = []
    for field in walker.fields(message.start, message.start + message.size):
        if field.number in old and field.wire == protobuf.VARINT:
            old[field.number] = field.value
        elif field.number == _SHAPE and field.wire == protobuf.BYTES:
            shape = _shape(walker, field)
        elif field.number in _KINDS:
            data.append(field)
    shape = tuple(old.values()) if shape is None else shape
    # Protobuf allows the numbers in several pieces, each alone even; Caffe writes them in one.
    if len(data) != 1 or data[0].wire != protobuf.BYTES:
        raise InvalidWeightsError(f"a layer's numbers are in {len(data)} pieces; expected one run of floats.")
    kind = _KINDS[data[0].number]
    if math.prod(shape) * int(kind[-1]) != data[0].size:
        raise InvalidWeightsError(
            f"a layer claims the shape {shape!s:.80}, but {data[0].size} bytes stand for its numbers."
        )
    return _Blob(kind, shape, data[0].start)


def _shape(walker: Walker, message: Field) -> tuple[int, ...]:
    """The axes of a BlobShape, each a varint: in one packed field, as Caffe writes them, or one by one."""
    axes: list[int] = []
    for field in walker.fields(message.start, message.start + message.size):
        if field.number != _DIM:
            continue
        if field.wire == protobuf.VARINT:
            axes.append(field.value)
        elif field.wire == protobuf.BYTES:
            axes += walker.varints(field)
        if len(axes) > _MAX_AXES:
            raise InvalidWeightsError(f"a layer has an array of more than {_MAX_AXES} axes.")
    return tuple(axes)
