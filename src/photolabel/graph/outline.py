"""An ONNX file without its weights: its nodes parsed, and where in the file each weight lies."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import protobuf
from ..errors import InvalidModelError
from ..records import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_METADATA, _GRAPH_INITIALIZER, _TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME = 7, 14, 5, 1, 2, 8
_MOST_FIELDS = 2_000_000
_MOST_NODES = 1 << 28  # bytes of a graph without its weights: a stranger's may be in its nodes
_LONGEST_NAME = 1 << 12


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored tensor: its name, shape and type, and where in the file the field lies that holds it."""

    name: str
    dims: tuple[int, ...]
    kind: int
    start: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A network whose weights stay in the file: `model` without its graph and metadata, `network` the graph."""

    model: Any
    network: Any
    stored: list[Stored]


def read(source: Path) -> Outline:
    """Return the network at `source` without its weights. Raises `InvalidModelError` for a file that is none."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        with source.open("rb") as file:
            walker = protobuf.Walker(file, most=_MOST_FIELDS)
            outer, inner = bytearray(), bytearray()
            stored: list[Stored] = []
            at = 0
            for field in walker.fields(0, os.fstat(file.fileno()).st_size):
                begun, at = at, field.start + field.size
                if field.number == _MODEL_GRAPH and field.wire == protobuf.BYTES:
                    stored += _read_graph(walker, field, inner)
                elif field.number != _MODEL_METADATA:
                    outer += _span(walker, begun, at)
        model = onnx.ModelProto.FromString(bytes(outer))
        network = onnx.GraphProto.FromString(bytes(inner))
    except (protobuf.BrokenMessageError, DecodeError, UnicodeDecodeError):
        raise InvalidModelError(f"{source}: not an ONNX file, or a broken one.") from None
    except OSError as error:
        raise InvalidModelError(f"{source}: cannot be read: {error.strerror}.") from None
    return Outline(model=model, network=network, stored=stored)


def _read_graph(walker: protobuf.Walker, graph: protobuf.Field, inner: bytearray) -> Iterator[Stored]:
    """Yield the graph's weights; the bytes of all else become a part of `inner`."""
    at = graph.start
    for field in walker.fields(graph.start, graph.start + graph.size):
        begun, at = at, field.start + field.size
        if field.number == _GRAPH_INITIALIZER and field.wire == protobuf.BYTES:
            yield _stored(walker, field, begun)
        elif len(inner) + at - begun > _MOST_NODES:
            raise protobuf.BrokenMessageError("weights in the nodes")
        else:
            inner += _span(walker, begun, at)


def _span(walker: protobuf.Walker, start: int, end: int) -> bytes:
    if end - start > _MOST_NODES:
        raise protobuf.BrokenMessageError("too large a field")
    return walker.bytes(protobuf.Field(0, protobuf.BYTES, 0, start, end - start))


def _stored(walker: protobuf.Walker, message: protobuf.Field, begun: int) -> Stored:
    name, dims, kind = "", [], 0
    for field in walker.fields(message.start, message.start + message.size):
        if field.number == _TENSOR_NAME and field.wire == protobuf.BYTES and field.size <= _LONGEST_NAME:
            name = walker.bytes(field).decode("utf-8")
        elif field.number == _TENSOR_DIMS:
            dims += [*walker.varints(field)] if field.wire == protobuf.BYTES else [field.value]
        elif field.number == _TENSOR_TYPE:
            kind = field.value
    return Stored(name, tuple(dims), kind, begun, message.start + message.size - begun)


def copied(source: Path, kept: Iterable[Stored]) -> Iterator[bytes]:
    """Yield the fields of these weights as they stand in the file, piece by piece."""
    with source.open("rb") as file:
        for each in kept:
            file.seek(each.start)
            left = each.size
            while left:
                data = file.read(min(CHUNK, left))
                if not data:
                    raise InvalidModelError(f"{source}: it became shorter while it was read. Try again.")
                left -= len(data)
                yield data
