"""A heat map over a photo, with the box round the evidence and a legend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from . import style
from .scene import Box, Line, Picture, Scene, Text, fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIDE = 420
_TOP = 72.0
_BAR = 160  # width of the legend's ramp
_BOX = "#d55e00"

# From nothing to most, dark to light: it reads in grey and for the colour-blind. The ends of cividis (Nunez, Anderton
# and Renslow, "Optimizing colormaps with consideration for color vision deficiency", PLOS ONE 2018).
_LOW, _HIGH = np.array([0, 32, 76], np.float32), np.array([255, 233, 69], np.float32)
_OPAQUE = 0.72  # of the map at most: the photo stays to be seen


def evidence(
    name: str,
    said: str,
    how: str,
    photo: Image.Image,
    heat: NDArray[np.float32],
    box: tuple[float, float, float, float] | None,
) -> Scene:
    """Return the page: `heat` is float32 (height, width) 0..1 over `photo`, `box` in its pixels."""
    scale = _SIDE / max(photo.size)
    width, height = photo.width * scale, photo.height * scale
    left = float(style.MARGIN)
    page = Scene(f"Where the evidence for {said} is in {name}")
    page.width = max(width * 2 + 28, _BAR + 220.0) + 2 * left
    room = page.width - 2 * left
    right = left + width + 28
    page.add(
        Text(x=left, y=36, text=fit(said, 20, room), size=20),
        Text(x=left, y=60, text=fit(f"{name}, and where the evidence is: {how}", 11, room), fill=style.PALE),
        Picture(x=left, y=_TOP, width=width, height=height, image=_fitted(photo, heat.shape)),
        Picture(x=right, y=_TOP, width=width, height=height, image=_overlaid(photo, heat)),
    )
    if box is not None:
        x0, y0, x1, y1 = (edge * scale for edge in box)
        for at in (left, right):
            corners = ((at + x0, _TOP + y0), (at + x1, _TOP + y0), (at + x1, _TOP + y1), (at + x0, _TOP + y1))
            page.add(
                Line(points=(*corners, corners[0], corners[1]), stroke="#ffffff", width=4),
                Line(points=(*corners, corners[0], corners[1]), stroke=_BOX, width=2.2),
            )
    y = _TOP + height + 20
    steps = 32
    for step in range(steps):
        colour = _ramp(np.array([(step + 0.5) / steps], np.float32))[0]
        page.add(Box(x=left + step * _BAR / steps, y=y, width=_BAR / steps + 0.5, height=12, fill=_hex(colour)))
    page.add(
        Text(x=left + _BAR + 10, y=y + 10, text="none to most of the evidence", fill=style.PALE),
    )
    if box is not None:
        page.add(
            Box(x=left + _BAR + 190, y=y + 1, width=14, height=10, fill="#ffffff", stroke=_BOX),
            Text(x=left + _BAR + 210, y=y + 10, text="round the largest part of it", fill=style.PALE),
        )
    page.height = y + 12 + style.MARGIN
    return page


def _ramp(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours of values 0..1: float32 (..., 3) 0..255."""
    made: NDArray[np.float32] = _LOW + (_HIGH - _LOW) * heat[..., np.newaxis]
    return made


def _overlaid(photo: Image.Image, heat: NDArray[np.float32]) -> Image.Image:
    """The photo in grey where nothing is, and under the colours of the map where something is."""
    grey = np.asarray(_fitted(photo, heat.shape).convert("L").convert("RGB"), np.float32)
    share = (_OPAQUE * np.sqrt(np.clip(heat, 0, 1)))[..., np.newaxis]
    return Image.fromarray((grey * (1 - share) + _ramp(heat) * share).round().astype(np.uint8))


def _fitted(photo: Image.Image, shape: tuple[int, ...]) -> Image.Image:
    size = (shape[1], shape[0])
    return photo if photo.size == size else photo.resize(size, Image.Resampling.LANCZOS)


def _hex(colour: NDArray[np.float32]) -> str:
    return "#" + bytes(round(float(each)) for each in colour).hex()
