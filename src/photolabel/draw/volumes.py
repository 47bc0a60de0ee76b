"""The classic figure: a network as a row of shrinking volumes.

A volume's sides follow the height and width of a layer's output and its thickness the channels; both are drawn on
a compressed scale, or VGG16's last maps, 7 of 224 places wide, could not be seen. Dense layers are bars.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UsageError
from . import style
from .panels import panels, span
from .scene import Box, Line, Polygon, Scene, Text, fit, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..layers import Layer

MAX_GROUPS = 60  # more labels cannot be read in a row

_ONE_A_LAYER = 40  # larger networks are drawn one volume a block
_TALLEST, _SLANT_X, _SLANT_Y = 250, 0.32, 0.22  # and how far a side of length 1 goes back, to the right and up
_MOST_SLABS = 8  # of one shape one behind the other


@dataclass(frozen=True, kw_only=True)
class _Slabs:
    """Neighbours of one family and shape."""

    names: tuple[str, ...]
    kind: str
    shape: tuple[int, ...]  # without the batch

    @property
    def caption(self) -> str:
        """Whose output it is."""
        count = len(self.names)
        return fit(span(self.names), 10, 120) + (f" ({count})" if count > _MOST_SLABS else "")


def volumes(name: str, layers: Sequence[Layer]) -> Scene:
    """Return the figure. Raises `UsageError` where sizes are not fixed or there are too many."""
    groups = _groups(name, layers)
    if len(groups) > MAX_GROUPS:
        raise UsageError(
            f"{name} has {len(groups):,} volumes that differ; more than {MAX_GROUPS} cannot be read in a row. "
            "Its summary lists them."
        )
    return _draw(name, layers, groups)


def _groups(name: str, layers: Sequence[Layer]) -> list[_Slabs]:
    units: list[tuple[str, str, Layer]] = []
    if len(layers) <= _ONE_A_LAYER:
        units = [(layer.name, layer.kind, layer) for layer in layers]
    else:
        for panel in panels(layers):
            inside = [layers[i] for i in panel.members]
            last = inside[-1]
            if (
                style.family(last.kind) in ("input", "dense")
                or len(inside) == 1
                or panel.title in ("top", "stem", "input")
            ):
                units += [(layer.name, layer.kind, layer) for layer in inside]
                continue
            kind = next(
                (layer.kind for layer in reversed(inside) if style.family(layer.kind) == "convolution"), last.kind
            )
            titles = panel.titles if len(panel.titles) > 1 else panel.titles * len(panel.copies)
            units += [(title, kind, last) for title in titles]
    found: list[_Slabs] = []
    for title, kind, layer in units:
        if style.family(kind) in ("normalisation", "joining branches", "other") and kind != "Concatenate":
            continue  # they change numbers, not the volume
        if layer.shape is None or None in layer.shape[1:] or not 2 <= len(layer.shape) <= 4:
            continue
        shape = tuple(axis for axis in layer.shape[1:] if axis)
        if found and (found[-1].shape, style.family(found[-1].kind)) == (shape, style.family(kind)) and len(shape) > 1:
            before = found.pop()
            found.append(_Slabs(names=(*before.names, title), kind=kind, shape=shape))
        else:
            found.append(_Slabs(names=(title,), kind=kind, shape=shape))
    if not any(len(group.shape) > 1 and group.kind != "InputLayer" for group in found):
        raise UsageError(f"the volumes of {name} are not known: they need an input of fixed height and width.")
    return found


def _draw(name: str, layers: Sequence[Layer], groups: list[_Slabs]) -> Scene:
    scene = Scene(f"{name}: volumes")
    scale = _TALLEST / max(max(group.shape[:-1]) ** 0.7 for group in groups if len(group.shape) > 1)
    middle = style.HEAD + 30 + _TALLEST * (1 + _SLANT_Y) / 2 + _TALLEST * _SLANT_Y / 2
    first_row = middle + _TALLEST / 2 + 34
    shapes: list[Box | Line | Polygon | Text] = []
    labels: list[tuple[float, float, str, str, bool]] = []  # centre, bottom, shape, caption, upper row
    x: float = style.MARGIN + 10
    free = [x - 10, x - 10]  # right end of the last label of each row
    leader = -math.inf
    used = []
    for i, group in enumerate(groups):
        height, back, thick = _measures(group, scale)
        slabs = min(len(group.names), _MOST_SLABS)
        span = slabs * thick + (slabs - 1) * 5
        row = i % 2
        texts = style.extent((None, *group.shape)), group.caption
        half = max(measure(texts[0], 11), measure(texts[1], 10)) / 2
        # A label needs its own room, and no leader of the lower row may run through one of the upper row.
        centre = max(x + span / 2, free[row] + half + 10)
        if row == 0:
            centre = max(centre, leader + half + 6)
        else:
            centre = max(centre, free[0] + 6)
            leader = centre
        x = centre - span / 2
        free[row] = centre + half
        for n in range(slabs):
            shapes += _slab(x + n * (thick + 5), middle, height, back, thick, style.colour(group.kind))
        labels.append((centre, middle + height / 2, *texts, row == 0))
        used.append(group.kind)
        x += span + back * _SLANT_X * 0.62 + 12
        last_right = centre + span / 2 + back * _SLANT_X
    for centre, bottom, size, caption, upper in labels:
        y = first_row if upper else first_row + 40
        scene.add(Line(points=((centre, bottom + 3), (centre, y - 13)), stroke="#b9c0c8", width=0.8, dashed=True))
        shapes += [
            Text(x=centre, y=y, text=size, anchor="middle"),
            Text(x=centre, y=y + 14, text=caption, size=10, anchor="middle", fill=style.PALE),
        ]
    scene.add(*shapes)
    folded = "A volume a block. " if len(layers) > _ONE_A_LAYER else ""
    style.title(
        scene,
        name,
        layers,
        f"{folded}Sides follow height and width, thickness the channels; neither to a linear scale.",
    )
    right = max([last_right, *(text.bounds[2] for text in scene.texts), style.legend_width(used) + style.MARGIN])
    scene.width, scene.height = math.ceil(right + style.MARGIN), math.ceil(first_row + 62 + style.LEGEND)
    style.legend(scene, used, first_row + 74)
    return scene


def _measures(group: _Slabs, scale: float) -> tuple[float, float, float]:
    """Height, depth of the page and thickness as drawn."""
    if len(group.shape) == 1:
        return max(24.0, 42 * math.log10(group.shape[0])), 12, 12
    height = max(10.0, group.shape[0] ** 0.7 * scale)
    width = max(10.0, group.shape[1] ** 0.7 * scale) if len(group.shape) == 3 else 12
    return height, width, min(1.3 * math.sqrt(group.shape[-1]), 70) + 2


def _slab(
    x: float, middle: float, height: float, back: float, thick: float, hue: str
) -> list[Box | Line | Polygon | Text]:
    """A volume with its front face at `x`, seen from the right and from above."""
    dx, dy = back * _SLANT_X, back * _SLANT_Y
    top, bottom = middle - height / 2, middle + height / 2
    right = x + thick
    edge = style.mix(hue, "#000000", 0.55)
    faces = [
        (((x, top), (right, top), (right, bottom), (x, bottom)), style.mix(hue, "#ffffff", 0.8)),
        (((x, top), (x + dx, top - dy), (right + dx, top - dy), (right, top)), style.mix(hue, "#ffffff", 0.45)),
        (
            ((right, top), (right + dx, top - dy), (right + dx, bottom - dy), (right, bottom)),
            style.mix(hue, "#ffffff", 0.6),
        ),
    ]
    return [Polygon(points=points, fill=fill, stroke=edge) for points, fill in faces]
