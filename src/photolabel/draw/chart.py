"""What charts of shares share: colours, points with their intervals, and a grid of per cents."""

from __future__ import annotations

from . import style
from .scene import Box, Line, Scene, Text

POINT, BAR, OFF, GRID = "#0072b2", "#bfdcec", "#ebab7a", "#dfe3e8"
COLOURS = (style.INK, style.PALE, style.EDGE, POINT, BAR, OFF, GRID, "#ffffff")  # a dark page maps each of them
SMALL = 12.0  # size of texts


def whisker(page: Scene, x: float, low: float, high: float, at: float) -> None:
    """Draw a point with its interval; a white edge lifts it off what is below."""
    page.add(
        Line(points=((x, low), (x, high)), stroke=POINT, width=1.6),
        Line(points=((x - 3.5, low), (x + 3.5, low)), stroke=POINT, width=1.6),
        Line(points=((x - 3.5, high), (x + 3.5, high)), stroke=POINT, width=1.6),
        Box(x=x - 4.5, y=at - 4.5, width=9, height=9, radius=4.5, fill=POINT, stroke="#ffffff"),
    )


def grid(page: Scene, left: float, bottom: float, width: float, height: float, *, low: int = 0, step: int = 20) -> None:
    """Draw a line each `step` per cent, from `low` at the `bottom` to 100, and say what it is."""
    for value in range(low, 101, step):
        y = bottom - height * (value - low) / (100 - low)
        page.add(
            Line(points=((left, y), (left + width, y)), stroke=GRID, width=1),
            Text(x=left - 6, y=y + 4, text=f"{value}%", size=SMALL, anchor="end", fill=style.PALE),
        )


def tick(page: Scene, x: float, bottom: float, text: str) -> None:
    """Draw a mark below the horizontal axis, and what it stands for."""
    page.add(
        Line(points=((x, bottom), (x, bottom + 4)), stroke=style.EDGE, width=1.2),
        Text(x=x, y=bottom + 17, text=text, size=SMALL, anchor="middle", fill=style.PALE),
    )


def axis(page: Scene, left: float, bottom: float, width: float, text: str) -> None:
    """Say below the horizontal axis what it is of."""
    page.add(
        Text(x=left + width / 2, y=bottom + 34, text=text, size=SMALL, anchor="middle", fill=style.PALE),
    )
