"""The one structure array of a MATLAB 5 file that is asked for.

SciPy reads such files, too, but its reader is compiled and trusts what the file says of itself: of files with two
bytes changed some end the process. This one knows only what the devkit of ImageNet needs: names, text and numbers.
The format: MathWorks, "MAT-File Format", chapter 1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from typing import TypeAlias

Value: TypeAlias = str | float | None

MAGIC = b"MATLAB 5.0 MAT-file"
_HEAD = 128
_MOST = 16 << 20  # bytes of all compressed variables together, unpacked
_MOST_STRUCTURES, _MOST_FIELDS = 100_000, 1_000
_MOST_NUMBERS = 1 << 10  # bytes: of a matrix' dimensions, or of one number
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_STRUCT, _CHAR, _FIRST_NUMBER, _LAST_NUMBER = 2, 4, 6, 15  # classes of matrices
_NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


class BrokenMatError(ValueError):
    """Not a sound MATLAB 5 file, or one without the array that was asked for."""


def structures(data: bytes, variable: str, fields: Collection[str]) -> list[dict[str, Value]]:
    """Return the structures of the array `variable`, of each those of `fields` that are text or a number, else None.

    Raises BrokenMatError.
    """
    if len(data) < _HEAD or not data.startswith(MAGIC) or data[126:128] not in (b"IM", b"MI"):
        raise BrokenMatError("it does not begin like one")
    order = "<" if data[126:128] == b"IM" else ">"
    left, whole = _MOST, _Reader(memoryview(data)[_HEAD:], order)
    while not whole.done:
        kind, part = whole.element()
        if kind == _COMPRESSED:
            unpacked = _unpacked(part, left)
            left -= len(unpacked)
            kind, part = _Reader(memoryview(unpacked), order).element()
        if kind == _MATRIX and len(part):
            matrix = _Reader(part, order)
            number_of, name, matrix_class = matrix.head()
            if name == variable.encode():
                if matrix_class != _STRUCT:
                    raise BrokenMatError(f"{variable} is no array of structures")
                return _structures(matrix, number_of, fields)
    raise BrokenMatError(f"it has no {variable}")


class _Reader:
    """Elements one behind the other. What does not fit into the bytes that are there is an error."""

    def __init__(self, data: memoryview, order: str) -> None:
        self._data, self._order, self._at = data, order, 0

    @property
    def done(self) -> bool:
        return self._at >= len(self._data)

    def element(self) -> tuple[int, memoryview]:
        """Return the type and the bytes of the next element."""
        kind, size = self._words(self._at)
        start = self._at + 8
        if kind >> 16:  # a small one: its size, its type and its bytes share eight bytes
            kind, size, start = kind & 0xFFFF, kind >> 16, self._at + 4
            if size > 4:
                raise BrokenMatError("an element is larger than its place")
            self._at += 8
        else:
            self._at = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if start + size > len(self._data):
            raise BrokenMatError("it is cut short")
        return kind, self._data[start : start + size]

    def inside(self, part: memoryview) -> _Reader:
        return _Reader(part, self._order)

    def head(self) -> tuple[int, bytes, int]:
        """Return how many elements a matrix has, its name and its class."""
        flags = self.integers()
        dimensions = self.integers()
        _, name = self.element()
        count = 1
        for each in dimensions:
            count *= max(0, each)
        return count, bytes(name), flags[0] & 0xFF if flags else 0

    def integers(self) -> list[int]:
        numbers = self.numbers()
        if not all(isinstance(each, int) for each in numbers):
            raise BrokenMatError("where integers should be is something else")
        return [int(each) for each in numbers]

    def numbers(self) -> tuple[float, ...]:
        kind, data = self.element()
        code = _NUMBERS.get(kind)
        width = struct.calcsize("<" + code) if code else 1
        if code is None or len(data) % width or len(data) > _MOST_NUMBERS:
            raise BrokenMatError("where numbers should be is something else")
        values: tuple[float, ...] = struct.unpack(f"{self._order}{len(data) // width}{code}", data)
        return values

    def text(self) -> str:
        kind, data = self.element()
        encoding = _TEXTS.get(kind)
        if encoding is None:
            raise BrokenMatError("where text should be is something else")
        if encoding in ("utf-16", "utf-32"):
            encoding += "-le" if self._order == "<" else "-be"
        return bytes(data).decode(encoding, "replace")

    def _words(self, at: int) -> tuple[int, int]:
        if at + 8 > len(self._data):
            raise BrokenMatError("it is cut short")
        first, second = struct.unpack_from(self._order + "2I", self._data, at)
        return first, second


def _unpacked(data: memoryview, most: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(data, most + 1)
    except zlib.error:
        raise BrokenMatError("what is compressed in it is damaged") from None
    if len(unpacked) > most or not unpacker.eof:
        raise BrokenMatError("what is compressed in it is cut short, or larger than any such file")
    return unpacked


def _structures(matrix: _Reader, count: int, wanted: Collection[str]) -> list[dict[str, Value]]:
    length = (matrix.integers() or [0])[0]
    _, packed = matrix.element()
    if not 0 < length <= len(packed) <= length * _MOST_FIELDS or count > _MOST_STRUCTURES:
        raise BrokenMatError("its structures have no fields, or there are more than in any such file")
    fields = [bytes(packed[at : at + length]).partition(b"\0")[0] for at in range(0, len(packed), length)]
    names = [name.decode("latin-1") for name in fields]
    found: list[dict[str, Value]] = []
    for _ in range(count):
        values: dict[str, Value] = {}
        for name in names:
            kind, part = matrix.element()
            if kind != _MATRIX:
                raise BrokenMatError("where a field's value should be is something else")
            if name in wanted:
                values[name] = _value(matrix.inside(part)) if len(part) else None
        found.append(values)
    return found


def _value(matrix: _Reader) -> Value:
    count, _, matrix_class = matrix.head()
    if matrix_class == _CHAR:
        return matrix.text() if count else ""
    if _FIRST_NUMBER <= matrix_class <= _LAST_NUMBER and count == 1:
        numbers = matrix.numbers()
        return numbers[0] if len(numbers) == 1 else None
    return None
