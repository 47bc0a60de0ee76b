"""A learning curve: how often a network is right, against how many photos it has learnt from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import style
from .chart import POINT, SMALL, axis, grid, tick, whisker
from .scene import Line, Scene, Text, fit, measure

if TYPE_CHECKING:
    from ..confidence import Share

_WIDTH, _HEIGHT = 400.0, 240.0
_AXIS = 40.0  # left of it, for the shares
_TOP = 84.0
_INSIDE = 34.0  # between the edge and the first and last point
_APART = 10.0  # between what two marks say


def growth(points: Sequence[tuple[float, Share]], *, title: str) -> Scene:
    """Return the page: the share that was named rightly, with its 95 % interval, by the number of photos a class.

    `points` come by their numbers, which are above 0 and drawn on a logarithmic scale. Write it with `scene.save`.
    """
    left, bottom = style.MARGIN + _AXIS, _TOP + _HEIGHT
    page = Scene(f"{title}: how often it is right, against how many photos it has learnt from")
    page.width, page.height = left + _WIDTH + style.MARGIN, bottom + 58
    page.add(
        Text(x=style.MARGIN, y=38, text=fit(title, 18, page.width - 2 * style.MARGIN), size=18),
        Text(x=left, y=_TOP - 13, text="share that is right", size=SMALL, fill=style.PALE),
    )
    least = min((share.low for _, share in points), default=0.0)
    low = min(80, math.floor(10 * least) * 10)
    grid(page, left, bottom, _WIDTH, _HEIGHT, low=low, step=20 if low < 60 else 10 if low < 80 else 5)
    page.add(Line(points=((left, bottom), (left + _WIDTH, bottom)), stroke=style.EDGE, width=1.2))
    places = _places([count for count, _ in points], left)

    def height(value: float) -> float:
        return bottom - _HEIGHT * (100 * value - low) / (100 - low)

    if len(points) > 1:
        line = tuple((x, height(share.value)) for x, (_, share) in zip(places, points, strict=True))
        page.add(Line(points=line, stroke=POINT, width=1.2))
    said = -math.inf  # where the last mark's text ends
    for x, (count, share) in zip(places, points, strict=True):
        whisker(page, x, height(share.low), height(share.high), height(share.value))
        text = f"{count:,.0f}" if count >= 10 else f"{count:.1f}".removesuffix(".0")
        half = measure(text, SMALL) / 2
        if x - half >= said + _APART:
            tick(page, x, bottom, text)
            said = x + half
    axis(page, left, bottom, _WIDTH, "photos a class that it has learnt from")
    return page


def _places(counts: Sequence[float], left: float) -> list[float]:
    """Where points lie from left to right."""
    first, last = (math.log(counts[0]), math.log(counts[-1])) if counts else (0.0, 0.0)
    if first == last:
        return [left + _WIDTH / 2 for _ in counts]
    room = _WIDTH - 2 * _INSIDE
    return [left + _INSIDE + room * (math.log(count) - first) / (last - first) for count in counts]
