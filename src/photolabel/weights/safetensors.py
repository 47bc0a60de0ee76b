"""The safetensors format -> named arrays, and back: a length, that much JSON, and the numbers.

The JSON gives each tensor's type, shape and place; the places must fill the file without a gap or an overlap, as the
reference reader demands (huggingface/safetensors, tensor.rs). Nothing in such a file can be run.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from ..errors import InvalidWeightsError, UsageError
from . import files
from .files import Array, Select

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .layouts import Stored

# A VGG's has 3 kB, that of a network of thousands of tensors some hundred, and each label in a description some fifty
# bytes.
MAX_HEADER_BYTES = 1 << 20
_MAX_AXES = 8
_Tensors: TypeAlias = dict[str, tuple[str, tuple[int, ...], int]]
_BITS16 = "<u2"
# Bytes of a number, and NumPy's type of those that are read. bfloat16 is the upper half of a float32.
_KINDS = {
    "F64": (8, "<f8"), "F32": (4, "<f4"), "F16": (2, "<f2"), "BF16": (2, _BITS16),
    "I64": (8, "<i8"), "I32": (4, "<i4"), "I16": (2, "<i2"), "I8": (1, "|i1"), "U8": (1, "|u1"), "BOOL": (1, "|u1"),
    "U64": (8, "<u8"), "U32": (4, "<u4"), "U16": (2, _BITS16), "F8_E4M3": (1, "|u1"), "F8_E5M2": (1, "|u1"),
}  # fmt: skip


def read(path: Path, select: Select) -> dict[str, Array]:
    """Return those tensors of the file that `select` names, by name, in their own types (bfloat16 as float32).

    Raises `InvalidWeightsError` for a file that is broken, cut short or claims more than it has.
    """
    with files.opened(path) as (file, size):
        tensors, _, start_of_all = _opened(file, size)
        wanted = select({name: shape for name, (_, shape, _) in tensors.items()})
        return {
            name: _tensor(file, kind, shape, start_of_all + start)
            for name, (kind, shape, start) in tensors.items()
            if name in wanted
        }


def metadata(path: Path) -> dict[str, str]:
    """Return the free metadata that the file carries; {} for none, and for a file that is no safetensors file.

    Raises `InvalidWeightsError` as `read` does.
    """
    with files.opened(path) as (file, size):
        if not begins(file.read(9)):
            return {}
        file.seek(0)
        return _opened(file, size)[1]


def begins(head: bytes) -> bool:
    """Whether a file whose first nine bytes are `head` is of this format: a length below 4 GB, then JSON."""
    return head[4:] == bytes(4) + b"{"


def _opened(file: Any, size: int) -> tuple[_Tensors, dict[str, str], int]:
    """Return the tensors, the metadata and where the numbers begin."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
        raise InvalidWeightsError(
            f"the file is cut short or broken: a header of {length} bytes is announced in {size}; at most "
            f"{MAX_HEADER_BYTES} are read."
        )
    return (*_header(file.read(length), size - 8 - length), 8 + length)


def _tensor(file: Any, kind: str, shape: tuple[int, ...], start: int) -> Array:
    array = files.array(file, start, math.prod(shape), _KINDS[kind][1])
    if kind == "BF16":
        array = (array.astype("<u4") << np.uint32(16)).view("<f4")
    return array.reshape(shape)


def _header(raw: bytes, room: int) -> tuple[_Tensors, dict[str, str]]:
    """Return (type, shape, where it begins) of each tensor, which fill `room` bytes, and the metadata."""
    if raw[:1] != b"{":
        raise _broken("its header is no JSON object")
    try:
        described = json.loads(raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError, and so is an integer of 5000 digits
        raise _broken("its header is no JSON") from None
    free = described.pop("__metadata__", {})
    if not isinstance(free, dict) or not all(isinstance(value, str) for value in free.values()):
        raise _broken("its metadata are no texts")
    found = {}
    spans = []
    for name, entry in described.items():
        match entry:
            case {"dtype": str() as kind, "shape": list() as shape, "data_offsets": [int() as start, int() as end]} if (
                kind in _KINDS and len(shape) <= _MAX_AXES and all(type(n) is int and 0 <= n < 1 << 63 for n in shape)
            ):
                pass
            case _:
                raise _broken(f"the description of {name!a:.80}")
        if end - start != math.prod(shape) * _KINDS[kind][0]:
            raise _broken(f"{name!a:.80} of shape {tuple(shape)} has {end - start} bytes")
        spans.append((start, end))
        found[name] = (kind, tuple(shape), start)
    at = 0
    for start, end in sorted(spans):
        if start != at or end < start:
            raise _broken("its tensors overlap or leave gaps")
        at = end
    if at != room:
        raise _broken(f"its tensors take {at} bytes, but it has {room} for them")
    return found, free


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")


def _broken(what: str) -> InvalidWeightsError:
    return InvalidWeightsError(f"the safetensors file is broken or cut short: {what:.200}.")


def build(arrays: Iterable[Stored], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """The file of these float32 arrays and `metadata`, as chunks. The same arguments give the same bytes."""
    described: dict[str, Any] = {"__metadata__": dict(metadata)}
    at, stored = 0, list(arrays)
    for each in stored:
        size = 4 * math.prod(each.shape)
        described[each.name] = {"dtype": "F32", "shape": list(each.shape), "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(described, separators=(",", ":")).encode("ascii")
    head += b" " * (-len(head) % 8)  # so that the numbers may be mapped
    if len(head) > MAX_HEADER_BYTES:
        raise UsageError(
            f"the model's description takes {len(head)} bytes, too many for a safetensors file, whose header may have "
            f"{MAX_HEADER_BYTES}. Write .onnx instead."
        )
    yield len(head).to_bytes(8, "little") + head
    for each in stored:
        for piece in each.pieces():
            yield piece.data.cast("B")
