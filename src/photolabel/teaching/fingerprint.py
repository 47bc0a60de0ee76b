"""A photo's prepared pixels -> 32 bytes that hardly change where it was saved again, shrunk, brightened or marked.

Which of the photo's 255 lowest frequencies, of a discrete cosine transform in grey, are above zero: a bit each. Of two
photos of different things half of the bits differ, nearly as if they were tossed, so a bound far below is hardly ever
met by chance. Differences between neighbouring places, the other common way, follow each other: where a wall is plain
in two photos, they agree.

The same pixels give the same bits on every machine: all is reckoned in whole numbers. They lie in floats, which are
multiplied faster, but stay below what a float holds exactly, so the order in which they are added does not matter.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BYTES = 32

_SIDE = 16  # frequencies along each side: 0 to 15
_CELLS = 32  # places along each side, over which pixels are averaged first
_LUMA = (77, 150, 29)  # of 256: red, green and blue as television weighs them (BT.601)
_FINE = 1 << 12  # a cosine of 1
# What a frequency must reach at least in a half of them, or there is too little to be known by: 2 of 256 grey levels,
# in a transform that keeps lengths. One saved again as a JPEG file of quality 30 moves them by half a level.
_LEAST = 2 * 256 * (_CELLS // 2) * _FINE**2
_MOST_SIDE = 1 << 16  # pixels: beyond, sums would not be exact


def fingerprint(view: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the fingerprint of a photo, (32,) uint8, from a view of it, (height, width, 3) uint8, RGB 0..255.

    It is all zeros, and says nothing, of a photo with too little on it to be known by: one of a single colour, of a
    smooth gradient, of faint noise. The first bit of all others is set. Raises UsageError for other arrays.
    """
    if (
        view.ndim != 3
        or view.shape[2] != 3
        or view.dtype != np.uint8
        or not min(view.shape)
        or max(view.shape) >= _MOST_SIDE
    ):
        raise UsageError(f"expected pixels (height, width, 3) uint8, got {view.shape} {view.dtype}.")
    found = _frequencies(_averages(view)).reshape(-1)
    if np.count_nonzero(np.abs(found[1:]) >= _LEAST) < found.size // 2:
        return np.zeros(BYTES, np.uint8)
    bits = found > 0
    bits[0] = True  # the mean brightness says nothing of what is shown
    return np.packbits(bits)


def _averages(view: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The mean grey of 32 x 32 places, in whole 256ths of a level."""
    height, width, _ = view.shape
    rows = _shares(height) @ view.reshape(height, -1).astype(np.float32)  # at most 255 x height: exact below 2**24
    grey = rows.reshape(_CELLS, width, 3) @ np.array(_LUMA, np.float64)  # float64 from here
    sums = grey @ _shares(width).T  # at most 256 x 255 x height x width: exact below 2**53
    averages: NDArray[np.float64] = (sums.astype(np.int64) // (height * width)).astype(np.float64)
    return averages


def _frequencies(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lowest 16 x 16 frequencies, in whole numbers; the first is the mean."""
    cosines = _cosines()
    found: NDArray[np.float64] = cosines @ cells @ cosines.T  # at most 2**50
    return found


@lru_cache(maxsize=8)
def _shares(pixels: int) -> NDArray[np.float32]:
    """How much of each of a line's pixels lies in each of its 32 places, in 32nds of a pixel: (32, pixels)."""
    place, pixel = np.arange(_CELLS)[:, np.newaxis] * pixels, np.arange(pixels) * _CELLS
    overlap = np.minimum(place + pixels, pixel + _CELLS) - np.maximum(place, pixel)
    shares: NDArray[np.float32] = np.maximum(overlap, 0).astype(np.float32)
    return shares


@lru_cache(maxsize=1)
def _cosines() -> NDArray[np.float64]:
    """The cosines of the frequencies at the places, in whole 4096ths: (16, 32)."""
    turns = [[math.pi * k * (2 * place + 1) / (2 * _CELLS) for place in range(_CELLS)] for k in range(_SIDE)]
    return np.array([[round(_FINE * math.cos(turn)) for turn in row] for row in turns], np.float64)
