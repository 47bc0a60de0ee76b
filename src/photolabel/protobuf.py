"""Protobuf messages walked field by field, without a schema and without holding them.

ONNX and Caffe files are protobuf messages of half a gigabyte of which a few fields matter: this reads the heads of
fields and seeks past the rest. The encoding: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4, groups, nobody writes any more
_FIXED = {FIXED64: 8, FIXED32: 4}


class BrokenMessageError(ValueError):
    """Not a sound protobuf message. Callers turn it into the error of what they read."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its number, wire type, the value of a varint (else 0), and where its bytes lie in the file."""

    number: int
    wire: int
    value: int
    start: int
    size: int


class Walker:
    """Reads fields from a file, no more than `most` of them in all: each costs time, and they may be of two bytes."""

    def __init__(self, file: BinaryIO, *, most: int) -> None:
        self._file = file
        self._left = most

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message that lies at `start` to `end`, of which nothing is held.

        Raises `BrokenMessageError` where one reaches beyond its message, and for too many of them.
        """
        at = start
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise BrokenMessageError("too many fields")
            self._file.seek(at)
            tag, head = self._varint(end - at)
            number, wire = divmod(tag, 8)
            at += head
            value, size = 0, _FIXED.get(wire, 0)
            if wire == VARINT:
                value, size = self._varint(end - at)
            elif wire == BYTES:
                size, head = self._varint(end - at)
                at += head
            elif wire not in _FIXED:
                raise BrokenMessageError("an unknown wire type")
            if number == 0 or size > end - at:
                raise BrokenMessageError("a field reaches beyond its message")
            yield Field(number, wire, value, at, size)
            at += size

    def bytes(self, field: Field) -> bytes:
        """Return the content of a field; the caller looks at its size before."""
        self._file.seek(field.start)
        data = self._file.read(field.size)
        if len(data) != field.size:
            raise BrokenMessageError("the file became shorter while it was read")
        return data

    def varints(self, field: Field) -> Iterator[int]:
        """Yield the numbers of a packed field of varints."""
        at, end = field.start, field.start + field.size
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise BrokenMessageError("too many numbers")
            self._file.seek(at)
            value, length = self._varint(end - at)
            at += length
            yield value

    def _varint(self, room: int) -> tuple[int, int]:
        """Return the number at the file's position and its length in bytes, at most `room`."""
        value = 0
        for length in range(1, min(10, room) + 1):  # at most ten bytes of seven bits
            byte = self._file.read(1)
            if not byte:
                break
            value |= (byte[0] & 0x7F) << 7 * (length - 1)
            if byte[0] < 0x80:
                return value, length
        raise BrokenMessageError("a number is cut short")
