"""What an ONNX file says of itself, read without parsing its network.

An ONNX file is one protobuf message, ModelProto. Parsing 553 MB of it costs a second and 1.1 GB, only to find a
few strings; so this walks the message's top-level fields, seeks past the graph and reads the metadata.
Field numbers: onnx/onnx.proto of the ONNX standard.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from .errors import InvalidModelError

_METADATA_PROPS = 14  # of ModelProto: repeated StringStringEntryProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
_VARINT, _BYTES = 0, 2  # protobuf wire types
_FIXED = {1: 8, 5: 4}  # those of a fixed size: bytes

MAX_BYTES = 16 * 2**20  # of all entries: half a million labels fit, a bomb does not
_MAX_FIELDS = 100_000


def read(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX file, key to value.

    Takes 0.1 ms whatever the size of the network. Raises `InvalidModelError` where the file is not a sound
    protobuf message, or its metadata is larger than any real one.
    """
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        found: dict[str, str] = {}
        fields = total = 0
        while file.tell() < end:
            fields += 1
            number, wire = divmod(_varint(file), 8)
            if fields > _MAX_FIELDS or number == 0:
                raise _broken()
            if wire == _VARINT:
                _varint(file)
                continue
            size = _varint(file) if wire == _BYTES else _FIXED.get(wire)
            if size is None or size > end - file.tell():
                raise _broken()
            if number != _METADATA_PROPS or wire != _BYTES:
                file.seek(size, os.SEEK_CUR)
                continue
            total += size
            if total > MAX_BYTES:
                raise InvalidModelError(f"the ONNX file's metadata is too large: at most {MAX_BYTES} bytes are read.")
            key, value = _entry(file.read(size))
            found[key] = value
    if not fields:
        raise _broken()
    return found


def _broken() -> InvalidModelError:
    return InvalidModelError("not an ONNX file, or a broken one: expected a sound protobuf message.")


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):  # at most ten bytes of seven bits
        byte = file.read(1)
        if not byte:
            raise _broken()
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise _broken()


def _entry(message: bytes) -> tuple[str, str]:
    file = BytesIO(message)
    parts = {_KEY: "", _VALUE: ""}
    while file.tell() < len(message):
        number, wire = divmod(_varint(file), 8)
        if wire != _BYTES:
            raise _broken()
        size = _varint(file)
        if size > len(message) - file.tell():
            raise _broken()
        try:
            parts[number] = file.read(size).decode("utf-8")
        except UnicodeDecodeError:
            raise _broken() from None
    return parts[_KEY], parts[_VALUE]
