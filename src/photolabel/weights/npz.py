"""NumPy's .npz archives -> named arrays, such as Frossard's vgg16_weights.npz.

An .npy file begins with a Python dict as text, which numpy.load hands to Python's own parser, and it may hold pickled
objects. Here the one form of that text that NumPy writes is matched as text, and only arrays of floats pass. The
archive must be stored, not compressed (numpy.savez does so), hence no array can be larger than the file.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import InvalidWeightsError
from . import files, stored_zip
from .files import Array, Select

_MAGIC = b"\x93NUMPY"
_MAX_HEAD = 512  # bytes; NumPy pads the text to 64 or 128
# numpy/lib/format.py; the L is Python 2's.
_TEXT = re.compile(
    r"\{'descr': '([<>]f[248])', 'fortran_order': (True|False), 'shape': \(((?:\d{1,18}L?, ?)*(?:\d{1,18}L?)?)\), \}\s*"
)


def read(path: Path, select: Select) -> dict[str, Array]:
    """Return those arrays of the archive that `select` names, by name, in their own types.

    Raises `InvalidWeightsError` for an archive that is broken, cut short or compressed, or holds anything but floats.
    """
    with files.opened(path) as (file, size):
        entries = stored_zip.table(file, size)
        heads = {}
        for name, entry in entries.items():
            start = stored_zip.data_start(file, size, entry)
            file.seek(start)
            heads[name.removesuffix(".npy")] = (*_head(file.read(min(_MAX_HEAD, entry.size)), entry), entry)
        found = {}
        for name in select({name: shape for name, (_, shape, _, _, _) in heads.items()}):
            dtype, shape, transposed, length, entry = heads[name]
            data = stored_zip.read(file, size, entry)
            array = np.frombuffer(data, dtype, offset=length)
            found[name] = array.reshape(shape[::-1]).T if transposed else array.reshape(shape)
    return found


def _head(raw: bytes, entry: stored_zip.Entry) -> tuple[str, tuple[int, ...], bool, int]:
    """Return an .npy file's type, shape, whether its axes are stored in reverse, and the length of its head."""
    name = f"{entry.name!a:.80} in the archive"
    width = {1: 2, 2: 4, 3: 4}.get(raw[6] if len(raw) > 10 else 0)
    if raw[:6] != _MAGIC or width is None:
        raise InvalidWeightsError(f"{name} is no array of NumPy's: expected .npy files only.")
    length = 8 + width + int.from_bytes(raw[8 : 8 + width], "little")
    text = _TEXT.fullmatch(raw[8 + width : length].decode("latin-1")) if length <= len(raw) else None
    if text is None:
        raise InvalidWeightsError(
            f"{name} is not a plain array of floats (float16, 32 or 64): objects and other types are not read."
        )
    dtype, fortran, sizes = text.groups()
    shape = tuple(int(n.rstrip("L")) for n in sizes.replace(" ", "").split(",") if n)
    if len(shape) > 8 or math.prod(shape) * np.dtype(dtype).itemsize != entry.size - length:
        raise InvalidWeightsError(
            f"{name} claims the shape {shape!s:.80} of {dtype}, but {entry.size - length} bytes stand for it."
        )
    return dtype, shape, fortran == "True", length


def is_npz(file: BinaryIO, size: int) -> bool:
    """Whether the archive holds .npy files only, by their names."""
    return all(name.endswith(".npy") for name in stored_zip.table(file, size))
