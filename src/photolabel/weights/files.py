"""Opening a stranger's file, and reading from it no more than it has."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from ..errors import InvalidWeightsError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
# Given the shapes of all arrays in a file, says which to read, or raises: before a number of them is read.
Select: TypeAlias = Callable[[Shapes], Collection[str]]


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file to read, and say its size; whatever the system objects is an `InvalidWeightsError`."""
    try:
        # A pipe would be waited for and a device read without end: look before opening, not after.
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidWeightsError("expected a weights file, but it is no regular file")
        with path.open("rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InvalidWeightsError(f"cannot be read: {error.strerror}") from error


def array(file: BinaryIO, start: int, count: int, dtype: str) -> Array:
    """Read `count` numbers of `dtype` at `start`; the caller has seen that the file has them."""
    read = np.empty(count, dtype)
    file.seek(start)
    if count and file.readinto(read.view(np.uint8).data) != read.nbytes:  # type: ignore[attr-defined]
        raise InvalidWeightsError("the file became shorter while it was read")
    return read
