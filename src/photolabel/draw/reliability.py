"""A reliability diagram: how often answers are right, against how sure the network was of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import style
from .scene import Box, Line, Scene, Text, fit

if TYPE_CHECKING:
    from ..confidence import Bins

_SIDE = 320.0  # of the square
_AXIS = 40.0  # left of it, for the shares
_GAP = 36.0  # between two panels
_TOP = 124.0
_HISTOGRAM = 64.0
_BETWEEN = 30.0  # the square and the histogram
_SMALL = 12.0

_POINT, _BAR, _OFF, _GRID = "#0072b2", "#bfdcec", "#ebab7a", "#dfe3e8"
COLOURS = (style.INK, style.PALE, style.EDGE, _POINT, _BAR, _OFF, _GRID, "#ffffff")  # a dark page maps each of them


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
        page.add(Text(x=left, y=90, text=facts, size=_SMALL, fill=style.PALE))
    page.add(Text(x=left, y=_TOP - 9, text="share that is right", size=_SMALL, fill=style.PALE))
    for step in range(6):
        y = bottom - _SIDE * step / 5
        page.add(
            Line(points=((left, y), (left + _SIDE, y)), stroke=_GRID, width=1),
            Text(x=left - 6, y=y + 4, text=f"{step * 20}%", size=_SMALL, anchor="end", fill=style.PALE),
        )
    width = _SIDE / len(bins.counts)
    filled = [i for i, count in enumerate(bins.counts) if count]
    for i in filled:
        x = left + i * width + 1
        right, sure = bins.accuracies[i].value * _SIDE, bins.confidences[i] * _SIDE
        page.add(Box(x=x, y=bottom - right, width=width - 2, height=right, fill=_BAR))
        page.add(Box(x=x, y=bottom - max(right, sure), width=width - 2, height=abs(right - sure), fill=_OFF))
    page.add(Line(points=((left, bottom), (left + _SIDE, _TOP)), stroke=style.PALE, width=1.4, dashed=True))
    for i in filled:
        share = bins.accuracies[i]
        x = left + bins.confidences[i] * _SIDE
        _whisker(page, x, bottom - share.low * _SIDE, bottom - share.high * _SIDE, bottom - share.value * _SIDE)
    page.add(Line(points=((left, bottom), (left + _SIDE, bottom)), stroke=style.EDGE, width=1.2))
    _histogram(page, left, bottom + _BETWEEN, width, bins)


def _whisker(page: Scene, x: float, low: float, high: float, at: float) -> None:
    """A point with its interval; a white edge lifts it off what is below."""
    page.add(
        Line(points=((x, low), (x, high)), stroke=_POINT, width=1.6),
        Line(points=((x - 3.5, low), (x + 3.5, low)), stroke=_POINT, width=1.6),
        Line(points=((x - 3.5, high), (x + 3.5, high)), stroke=_POINT, width=1.6),
        Box(x=x - 4.5, y=at - 4.5, width=9, height=9, radius=4.5, fill=_POINT, stroke="#ffffff"),
    )


def _histogram(page: Scene, left: float, top: float, width: float, bins: Bins) -> None:
    bottom = top + _HISTOGRAM
    most = max(bins.counts)
    if most:
        page.add(
            Text(x=left - 6, y=top + 9, text=f"{most / bins.total:.0%}", size=_SMALL, anchor="end", fill=style.PALE),
            Line(points=((left, top), (left + _SIDE, top)), stroke=_GRID, width=1),
        )
    page.add(Text(x=left, y=top - 7, text="share of all answers", size=_SMALL, fill=style.PALE))
    for i, count in enumerate(bins.counts):
        if count:
            height = max(_HISTOGRAM * count / most, 1.0)  # one answer of many is still to be seen
            page.add(Box(x=left + i * width + 1, y=bottom - height, width=width - 2, height=height, fill=_POINT))
    page.add(Line(points=((left, bottom), (left + _SIDE, bottom)), stroke=style.EDGE, width=1.2))
    for step in range(6):
        x = left + _SIDE * step / 5
        page.add(
            Line(points=((x, bottom), (x, bottom + 4)), stroke=style.EDGE, width=1.2),
            Text(x=x, y=bottom + 17, text=f"{step * 20}%", size=_SMALL, anchor="middle", fill=style.PALE),
        )
    page.add(
        Text(
            x=left + _SIDE / 2,
            y=bottom + 34,
            text="confidence: the probability of the answer",
            size=_SMALL,
            anchor="middle",
            fill=style.PALE,
        )
    )


def _legend(page: Scene, x: float, y: float) -> None:
    _whisker(page, x + 7, y + 6, y - 12, y - 3)
    page.add(
        Text(x=x + 20, y=y, text="right, with its 95% interval", size=_SMALL, fill=style.PALE),
        Box(x=x + 198, y=y - 10, width=14, height=14, fill=_OFF),
        Text(x=x + 218, y=y, text="off by so much", size=_SMALL, fill=style.PALE),
        Line(points=((x, y + 16), (x + 14, y + 16)), stroke=style.PALE, width=1.4, dashed=True),
        Text(x=x + 20, y=y + 20, text="as it should be: as often right as sure", size=_SMALL, fill=style.PALE),
    )
