"""A picture as data, and the two ways to write it: PNG by Pillow, SVG by hand.

Both are drawn from the same shapes at the same places. Lengths are in CSS pixels; the PNG has twice as many each way.
"""

from __future__ import annotations

import base64
import functools
import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias
from xml.sax.saxutils import escape, quoteattr

from PIL import Image, ImageDraw, ImageFont

from .. import writing
from ..errors import UsageError

Point = tuple[float, float]

ASCENT, DESCENT = 0.95, 0.25  # of the font, above and below the baseline, in sizes
_SCALE, _SMOOTH = 2, 2  # pixels a unit; and how many times larger still it is drawn, for smooth edges
_MOST_PIXELS = 40_000_000  # to draw on; a larger page is drawn without smoothing
_DASH = 4.0  # length of a dash and of the gap after it


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle, rounded by `radius`."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    stroke: str | None = None
    radius: float = 0


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line through `points`; with an arrow, it ends in a filled head."""

    points: tuple[Point, ...]
    stroke: str
    width: float = 1.2
    arrow: bool = False
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Polygon:
    """A filled area with an outline."""

    points: tuple[Point, ...]
    fill: str
    stroke: str


@dataclass(frozen=True, kw_only=True)
class Text:
    """One line of text; (`x`, `y`) is on its baseline, at its start, middle or end."""

    x: float
    y: float
    text: str
    size: float = 11
    anchor: Literal["start", "middle", "end"] = "start"
    fill: str = "#1b1f24"

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""
        width = measure(self.text, self.size)
        left = self.x - {"start": 0, "middle": width / 2, "end": width}[self.anchor]
        return left, self.y - ASCENT * self.size, left + width, self.y + DESCENT * self.size


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image, scaled to its place; enlarged, its pixels are to be seen."""

    x: float
    y: float
    width: float
    height: float
    image: Image.Image


Shape: TypeAlias = Box | Line | Polygon | Text | Picture


@dataclass
class Scene:
    """Shapes on a white page, painted in order."""

    title: str
    width: float = 0
    height: float = 0
    shapes: list[Shape] = field(default_factory=list)

    def add(self, *shapes: Shape) -> None:
        """Paint on top of what is there."""
        self.shapes += shapes

    @property
    def texts(self) -> list[Text]:
        """All its texts."""
        return [shape for shape in self.shapes if isinstance(shape, Text)]


@functools.cache
def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)  # Aileron, which comes within Pillow: the same on every machine


@functools.lru_cache(4096)
def measure(text: str, size: float) -> float:
    """The width of a text."""
    return _font(64).getlength(text) * size / 64


def fit(text: str, size: float, width: float) -> str:
    """Return `text`, its middle replaced by an ellipsis if it is wider than `width`.

    The middle, because layers of one network differ at the end of their names as often as at the beginning.
    """
    if measure(text, size) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        if measure(short, size) <= width:
            return short
    return "…"


def _head(line: Line) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """The line shortened, and the triangle that ends it."""
    (x0, y0), (x1, y1) = line.points[-2:]
    length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-6)
    dx, dy = (x1 - x0) / length, (y1 - y0) / length
    back = (x1 - 7 * dx, y1 - 7 * dy)
    wings = ((back[0] - 3.5 * dy, back[1] + 3.5 * dx), (back[0] + 3.5 * dy, back[1] - 3.5 * dx))
    return (*line.points[:-1], back), ((x1, y1), *wings)


# -- PNG


def png(scene: Scene) -> bytes:
    """The scene as a PNG of 192 pixels an inch."""
    pictures = any(isinstance(shape, Picture) for shape in scene.shapes)
    smooth = _SMOOTH if scene.width * scene.height * (_SCALE * _SMOOTH) ** 2 <= _MOST_PIXELS and not pictures else 1
    k = _SCALE * smooth
    image = Image.new("RGB", (round(scene.width * k), round(scene.height * k)), "white")
    canvas = ImageDraw.Draw(image)
    for shape in scene.shapes:
        if isinstance(shape, Picture):
            placed = _sized(shape, (round(shape.width * k), round(shape.height * k)))
            image.paste(placed, (round(shape.x * k), round(shape.y * k)))
        else:
            _paint(canvas, shape, k)
    small = image.reduce(smooth)
    if not pictures:
        # 256 colours are plenty for flat ones and their edges, and a third of the bytes.
        small = small.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    file = io.BytesIO()
    small.save(file, "PNG", optimize=True, dpi=(96 * _SCALE, 96 * _SCALE))
    return file.getvalue()


def _sized(shape: Picture, size: tuple[int, int]) -> Image.Image:
    larger = size[0] > shape.image.width
    return shape.image.resize(size, Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS)


def _paint(canvas: ImageDraw.ImageDraw, shape: Box | Line | Polygon | Text, k: int) -> None:
    if isinstance(shape, Box):
        corners = (shape.x * k, shape.y * k, (shape.x + shape.width) * k, (shape.y + shape.height) * k)
        canvas.rounded_rectangle(corners, shape.radius * k, shape.fill, shape.stroke, k)
    elif isinstance(shape, Polygon):
        outline = [(x * k, y * k) for x, y in shape.points]
        canvas.polygon(outline, shape.fill)
        canvas.line([*outline, outline[0], outline[1]], shape.stroke, round(0.8 * k), joint="curve")
    elif isinstance(shape, Line):
        points, head = _head(shape) if shape.arrow else (shape.points, ())
        for piece in _dashes(points) if shape.dashed else [points]:
            canvas.line([(x * k, y * k) for x, y in piece], shape.stroke, round(shape.width * k), joint="curve")
        if head:
            canvas.polygon([(x * k, y * k) for x, y in head], shape.stroke)
    else:
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
        canvas.text((shape.x * k, shape.y * k), shape.text, shape.fill, _font(shape.size * k), anchor)


def _dashes(points: tuple[Point, ...]) -> list[tuple[Point, Point]]:
    """The pieces of a dashed line."""
    pieces = []
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        at = 0.0
        while at < length:
            a, b = at / length, min(at + _DASH, length) / length
            pieces.append(((x0 + (x1 - x0) * a, y0 + (y1 - y0) * a), (x0 + (x1 - x0) * b, y0 + (y1 - y0) * b)))
            at += 2 * _DASH
    return pieces


# -- SVG


def svg(scene: Scene) -> bytes:
    """The scene as SVG of plain shapes and real text, without scripts, styles or anything from outside."""
    size = f'width="{_n(scene.width)}" height="{_n(scene.height)}"'
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {_n(scene.width)} {_n(scene.height)}"',
        'role="img" font-family="Aileron, Helvetica, Arial, sans-serif">',
        f"<title>{escape(scene.title)}</title>",
        f'<rect {size} fill="#ffffff"/>',
        *(_element(shape) for shape in scene.shapes),
        "</svg>",
        "",
    ]
    return "\n".join(lines).encode("utf-8")


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _points(points: tuple[Point, ...]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)


def _element(shape: Shape) -> str:
    if isinstance(shape, Picture):
        file = io.BytesIO()
        shape.image.save(file, "PNG", optimize=True)
        return (
            f'<image x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" height="{_n(shape.height)}" '
            'style="image-rendering: pixelated" preserveAspectRatio="none" '
            f'href="data:image/png;base64,{base64.b64encode(file.getvalue()).decode("ascii")}"/>'
        )
    if isinstance(shape, Box):
        return (
            f'<rect x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" height="{_n(shape.height)}" '
            f'rx="{_n(shape.radius)}" fill="{shape.fill}" stroke="{shape.stroke or "none"}"/>'
        )
    if isinstance(shape, Polygon):
        return (
            f'<polygon points="{_points(shape.points)}" fill="{shape.fill}" stroke="{shape.stroke}" '
            'stroke-width="0.8" stroke-linejoin="round"/>'
        )
    if isinstance(shape, Line):
        points, head = _head(shape) if shape.arrow else (shape.points, ())
        dashes = f' stroke-dasharray="{_n(_DASH)}"' if shape.dashed else ""
        line = (
            f'<polyline points="{_points(points)}" fill="none" stroke="{shape.stroke}" '
            f'stroke-width="{_n(shape.width)}" stroke-linejoin="round"{dashes}/>'
        )
        return line + (f'<polygon points="{_points(head)}" fill="{shape.stroke}"/>' if head else "")
    # The width is stated, so that another font than ours cannot make texts run into each other.
    return (
        f'<text x="{_n(shape.x)}" y="{_n(shape.y)}" font-size="{_n(shape.size)}" text-anchor="{shape.anchor}" '
        f'fill={quoteattr(shape.fill)} textLength="{_n(measure(shape.text, shape.size))}" '
        f'lengthAdjust="spacingAndGlyphs">{escape(shape.text)}</text>'
    )


_FORMS: dict[str, Callable[[Scene], bytes]] = {".png": png, ".svg": svg}


def form_of(path: Path) -> Callable[[Scene], bytes]:
    """Return what writes a scene in the form that a file's ending asks for. Raises UsageError."""
    form = _FORMS.get(path.suffix.lower())
    if form is None:
        raise UsageError(f"{path}: expected a file that ends in .png or .svg.")
    return form


def save(scene: Scene, path: Path) -> None:
    """Write a scene as PNG or SVG, by the file's ending; one that is there is replaced, once the new one is whole.

    Raises UsageError for another ending, OutputError where it cannot be written.
    """
    drawn = form_of(path)(scene)
    with writing.whole(path) as file:
        file.write(drawn)
