"""From a map of the evidence, of whatever size, to the network's input and to the photo."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom
_Frame: TypeAlias = Box  # what of a map lies over the input, in the map's own units

_THRESHOLD = 0.4  # of the map's greatest value: what is above belongs to the evidence
_FINE = 8  # times finer than the map is the box found


def frame(raw: NDArray[np.float32], size: int, places: tuple[float, float] | None) -> _Frame | None:
    """Return the frame of a map whose places are known; None where it is taken to lie evenly over the input, all of it.

    Places count where all are in the input, and no part of it is further than a step beyond them.
    """
    if places is None:
        return None
    step, first = places
    last = first + step * (max(raw.shape) - 1)
    near, far = 0.5 - first / step, 0.5 + (size - first) / step
    fits = first >= 0 and last <= size and near >= -1 and far <= min(raw.shape) + 1
    return (near, near, far, far) if fits else None


def _grown(raw: NDArray[np.float32], width: int, height: int, frame: _Frame | None) -> NDArray[np.float32]:
    """A map at another size, of which 1 is the greatest value that it had; the map must have one above 0."""
    part = raw / float(raw.max())
    if frame is None:
        return np.asarray(Image.fromarray(part).resize((width, height), Image.Resampling.BICUBIC))
    wider = Image.fromarray(np.pad(part, 1, mode="edge"))
    left, top, right, bottom = (edge + 1 for edge in frame)
    return np.asarray(wider.resize((width, height), Image.Resampling.BICUBIC, box=(left, top, right, bottom)))


def scaled(raw: NDArray[np.float32], size: int, frame: _Frame | None) -> NDArray[np.float32]:
    """Return a map over the network's input: float32 (size, size), 0..1; 1 is where it is greatest."""
    if float(raw.max()) <= 0:
        return np.zeros((size, size), np.float32)
    made: NDArray[np.float32] = np.clip(_grown(raw, size, size, frame), 0, 1).astype(np.float32)
    return made


def box(raw: NDArray[np.float32], frame: _Frame | None) -> Box | None:
    """Return the box round the part of a map that holds most of its energy, as if the frame were spread over it."""
    if float(raw.max()) <= 0:
        return None
    scale = _FINE if max(raw.shape) < 64 else 1
    grown = _grown(raw, raw.shape[1] * scale, raw.shape[0] * scale, frame)
    above = grown >= _THRESHOLD
    best: tuple[float, Box] | None = None
    left_over = above.copy()
    while left_over.any():
        part = _connected(left_over, *np.unravel_index(int(left_over.argmax()), left_over.shape))
        left_over &= ~part
        rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
        edges = (columns[0] / scale, rows[0] / scale, (columns[-1] + 1) / scale, (rows[-1] + 1) / scale)
        energy = float(grown[part].sum())
        if best is None or energy > best[0]:
            best = energy, edges
    return best and best[1]


def _connected(above: NDArray[np.bool_], row: Any, column: Any) -> NDArray[np.bool_]:
    """All that hangs together with one place: it grows by its neighbours until it does not."""
    part = np.zeros_like(above)
    part[row, column] = True
    while True:
        grown = part.copy()
        grown[1:] |= part[:-1]
        grown[:-1] |= part[1:]
        grown[:, 1:] |= part[:, :-1]
        grown[:, :-1] |= part[:, 1:]
        grown &= above
        if (grown == part).all():
            return part
        part = grown


def in_photo(box: Box | None, shape: tuple[int, ...], cut: Box) -> Box | None:
    """Return a box of a map of this shape in pixels of the photo, of which the map shows `cut`."""
    if box is None:
        return None
    x, y = (cut[2] - cut[0]) / shape[1], (cut[3] - cut[1]) / shape[0]
    return cut[0] + box[0] * x, cut[1] + box[1] * y, cut[0] + box[2] * x, cut[1] + box[3] * y
