"""A reliability diagram: how often answers are right, against how sure the network was of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import style
from .chart import BAR, GRID, OFF, POINT, SMALL, axis, grid, tick, whisker
from .scene import Box, Line, Scene, Text, fit

if TYPE_CHECKING:
    from ..confidence import Bins

_SIDE = 320.0  # of the square
_AXIS = 40.0  # left of it, for the shares
_GAP = 36.0  # between two panels
_TOP = 124.0
_HISTOGRAM = 64.0
_BETWEEN = 30.0  # the square and the histogram


def reliability(before: Bins, after: Bins | None = None, *, title: str) -> Scene:
    """Return the page: accuracy against confidence, bin by bin, with 95 % intervals; below, how many answers there are.

    With `after`, bins of the same answers once calibrated, two panels stand side by side. Write it with `scene.save`.
    """
    panels = [("", before)] if after is None else [("before: ", before), ("after: ", after)]
    left = float(style.MARGIN)
    page = Scene(f"{title}: how often its answers are right, against how sure it was")
    page.width = 2 * left + len(panels) * (_AXIS + _SIDE) + (len(panels) - 1) * _GAP + 8
    page.add(Text(x=left, y=38, text=fit(title, 18, page.width - 2 * left), size=18))
    for number, (name, bins) in enumerate(panels):
        _panel(page, left + _AXIS + number * (_AXIS + _SIDE + _GAP), name, bins)
    y = _TOP + _SIDE + _BETWEEN + _HISTOGRAM + 68
    _legend(page, left + _AXIS, y)
    page.height = y + 34
    return page


def _panel(page: Scene, left: float, name: str, bins: Bins) -> None:
    bottom = _TOP + _SIDE
    head = f"{name}calibration error {bins.ece:.1%}" if bins.total else f"{name}no answers"
    page.add(Text(x=left, y=72, text=head, size=14))
    if bins.total:
        facts = f"{bins.total:,} answers: {bins.accuracy:.1%} right, {bins.confidence:.1%} sure on average"
        page.add(Text(x=left, y=90, text=facts, size=SMALL, fill=style.PALE))
    page.add(Text(x=left, y=_TOP - 9, text="share that is right", size=SMALL, fill=style.PALE))
    grid(page, left, bottom, _SIDE, _SIDE)
    width = _SIDE / len(bins.counts)
    filled = [i for i, count in enumerate(bins.counts) if count]
    for i in filled:
        x = left + i * width + 1
        right, sure = bins.accuracies[i].value * _SIDE, bins.confidences[i] * _SIDE
        page.add(Box(x=x, y=bottom - right, width=width - 2, height=right, fill=BAR))
        page.add(Box(x=x, y=bottom - max(right, sure), width=width - 2, height=abs(right - sure), fill=OFF))
    page.add(Line(points=((left, bottom), (left + _SIDE, _TOP)), stroke=style.PALE, width=1.4, dashed=True))
    for i in filled:
        share = bins.accuracies[i]
        x = left + bins.confidences[i] * _SIDE
        whisker(page, x, bottom - share.low * _SIDE, bottom - share.high * _SIDE, bottom - share.value * _SIDE)
    page.add(Line(points=((left, bottom), (left + _SIDE, bottom)), stroke=style.EDGE, width=1.2))
    _histogram(page, left, bottom + _BETWEEN, width, bins)


def _histogram(page: Scene, left: float, top: float, width: float, bins: Bins) -> None:
    bottom = top + _HISTOGRAM
    most = max(bins.counts)
    if most:
        page.add(
            Text(x=left - 6, y=top + 9, text=f"{most / bins.total:.0%}", size=SMALL, anchor="end", fill=style.PALE),
            Line(points=((left, top), (left + _SIDE, top)), stroke=GRID, width=1),
        )
    page.add(Text(x=left, y=top - 7, text="share of all answers", size=SMALL, fill=style.PALE))
    for i, count in enumerate(bins.counts):
        if count:
            height = max(_HISTOGRAM * count / most, 1.0)  # one answer of many is still to be seen
            page.add(Box(x=left + i * width + 1, y=bottom - height, width=width - 2, height=height, fill=POINT))
    page.add(Line(points=((left, bottom), (left + _SIDE, bottom)), stroke=style.EDGE, width=1.2))
    for step in range(6):
        tick(page, left + _SIDE * step / 5, bottom, f"{step * 20}%")
    axis(page, left, bottom, _SIDE, "confidence: the probability of the answer")


def _legend(page: Scene, x: float, y: float) -> None:
    whisker(page, x + 7, y + 6, y - 12, y - 3)
    page.add(
        Text(x=x + 20, y=y, text="right, with its 95% interval", size=SMALL, fill=style.PALE),
        Box(x=x + 198, y=y - 10, width=14, height=14, fill=OFF),
        Text(x=x + 218, y=y, text="off by so much", size=SMALL, fill=style.PALE),
        Line(points=((x, y + 16), (x + 14, y + 16)), stroke=style.PALE, width=1.4, dashed=True),
        Text(x=x + 20, y=y + 20, text="as it should be: as often right as sure", size=SMALL, fill=style.PALE),
    )
