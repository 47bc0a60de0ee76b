"""The layer graph: a box a layer, a panel a block, shapes on the arrows, in columns that make a page.

Within a column the network runs down; from the foot of a column it goes on at the head of the next. What skips
layers runs in lanes at the right of its panel.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..errors import UsageError
from . import style
from .panels import Panel, panels
from .scene import Box, Line, Scene, Text, fit, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..layers import Layer

MAX_BOXES = 160  # more cannot be read on any page

_BOX_WIDTH, _BOX_HEIGHT, _GAP = 268, 40, 31
_TITLE, _PAD, _LANE, _MOST_LANES = 22, 12, 11, 5
_GUTTER, _BETWEEN = 36, 16  # between columns, and between panels of a column
_MOST_COLUMNS = 24
_PAGE = math.sqrt(2)  # width to height: A4 on its side

Place = tuple[int, int]  # panel, box in it


def diagram(name: str, layers: Sequence[Layer]) -> Scene:
    """Return the layer graph of a network. Raises `UsageError` where it has too many layers that differ."""
    groups = panels(layers)
    boxes = sum(len(panel.members) for panel in groups)
    if boxes > MAX_BOXES:
        raise UsageError(
            f"{name} has {boxes:,} layers that differ; a graph of more than {MAX_BOXES} cannot be read. "
            "Its summary lists them."
        )
    return _Diagram(name, layers, groups).scene


class _Diagram:
    def __init__(self, name: str, layers: Sequence[Layer], groups: list[Panel]) -> None:
        self.layers, self.groups = layers, groups
        self.place: dict[int, Place] = {
            position: (p, b)
            for p, panel in enumerate(groups)
            for copy in panel.copies
            for b, position in enumerate(copy)
        }
        self.lanes = [self._lanes(p) for p in range(len(groups))]
        most = max((lane + 1 for each in self.lanes for *_, lane in each), default=0)
        self.width = _PAD + _BOX_WIDTH + _PAD + most * _LANE
        columns = self._columns()
        kinds = [layer.kind for layer in layers]
        self.scene = Scene(f"{name}: layers")
        inner = len(columns) * (self.width + _GUTTER) - _GUTTER
        folded = "Blocks that repeat are drawn once. " if any(len(panel.copies) > 1 for panel in groups) else ""
        style.title(self.scene, name, layers, f"{folded}On the arrows: height x width x channels.")
        needed = max(text.bounds[2] for text in self.scene.texts)
        legend = style.legend_width(kinds)
        self.scene.width = math.ceil(max(inner, legend, needed - style.MARGIN)) + 2 * style.MARGIN
        left = (self.scene.width - inner) / 2
        self.corner: list[tuple[float, float]] = []
        self.column = [c for c, column in enumerate(columns) for _ in column]
        top = style.HEAD + 14
        for c, column in enumerate(columns):
            y: float = top
            for p in column:
                self.corner.append((left + c * (self.width + _GUTTER), y))
                y += self._height(p) + _BETWEEN
        self.top = top
        foot = top + max(sum(self._height(p) + _BETWEEN for p in column) for column in columns)
        beside = self.scene.texts[0].bounds[2] + 2 * style.MARGIN + legend < self.scene.width
        self.scene.height = math.ceil(foot + 8 + (0 if beside else style.LEGEND))
        for p in range(len(groups)):
            self._panel(p)
        for p in range(len(groups)):
            self._flow(p)
        if beside:  # of the title
            style.legend(self.scene, kinds, 22, x=self.scene.width - style.MARGIN - legend + 18)
        else:
            style.legend(self.scene, kinds, foot + 12)

    def _height(self, p: int) -> float:
        last = _GAP - 4 if p == len(self.groups) - 1 else 0  # where the network's output leaves
        return self._first(p) + len(self.groups[p].members) * (_GAP + _BOX_HEIGHT) - _GAP + _PAD + last

    def _first(self, p: int) -> float:
        """Where in a panel its first box begins; no arrow leads to the very first."""
        return _TITLE + (_GAP if p else 6)

    def _columns(self) -> list[list[int]]:
        """Panels into columns, in order, so that the page comes nearest to its proportion."""
        heights = [self._height(p) + _BETWEEN for p in range(len(self.groups))]
        tried = []
        for count in range(1, min(len(heights), _MOST_COLUMNS) + 1):
            low, high = max(heights), sum(heights)
            while high - low > 1 and count > 1:  # the lowest height at which no more columns are needed
                half = (low + high) / 2
                low, high = (low, half) if len(_pack(heights, half)) <= count else (half, high)
            columns = _pack(heights, high)
            longest = max(sum(heights[p] for p in column) for column in columns)
            wide = len(columns) * (self.width + _GUTTER) - _GUTTER + 2 * style.MARGIN
            empty = 1 - sum(heights) / (longest * len(columns))
            badness = abs(math.log(wide / (longest + style.HEAD + 22) / _PAGE)) + empty
            tried.append((badness, columns))
        return min(tried)[1]

    # -- where the edges go

    def _before(self, p: int, b: int) -> Place | None:
        """The box from which the eye comes to this one."""
        if b:
            return p, b - 1
        return (p - 1, len(self.groups[p - 1].members) - 1) if p else None

    def _reads(self, p: int, b: int) -> list[Place]:
        return [self.place[i] for i in self.layers[self.groups[p].members[b]].inputs]

    def _enters(self, p: int) -> bool:
        """Whether the panel's first box reads the box before it."""
        return self._before(p, 0) in self._reads(p, 0)

    def _lanes(self, p: int) -> list[tuple[int, int, int]]:
        """(from, to, lane) for what skips layers within the panel; from -1 is what enters the panel."""
        wanted = []
        for b in range(len(self.groups[p].members)):
            for place in self._reads(p, b):
                if place == self._before(p, b):
                    continue
                if place[0] == p and place[1] < b:
                    wanted.append((place[1], b))
                elif b and self._enters(p) and place == self._before(p, 0):
                    wanted.append((-1, b))
        lanes: list[tuple[int, int, int]] = []
        for start, end in sorted(wanted, key=lambda pair: pair[1] - pair[0]):
            taken = {lane for a, z, lane in lanes if a <= end and start <= z}
            lane = next((n for n in range(_MOST_LANES) if n not in taken), None)
            if lane is not None:
                lanes.append((start, end, lane))
        return lanes

    def _elsewhere(self, p: int, b: int) -> list[str]:
        """The names of what the box reads that no line shows."""
        names = []
        for i in self.layers[self.groups[p].members[b]].inputs:
            place = self.place[i]
            start = place[1] if place[0] == p else -1
            inner = place[0] == p or (self._enters(p) and place == self._before(p, 0))
            if place != self._before(p, b) and not (inner and any(x[:2] == (start, b) for x in self.lanes[p])):
                names.append(self.layers[i].name)
        return names

    # -- drawing

    def _box(self, p: int, b: int) -> tuple[float, float]:
        x, y = self.corner[p]
        return x + _PAD, y + self._first(p) + b * (_GAP + _BOX_HEIGHT)

    def _panel(self, p: int) -> None:
        panel, (x, y) = self.groups[p], self.corner[p]
        height = self._height(p)
        self.scene.add(Box(x=x, y=y, width=self.width, height=height, radius=10, fill="#f6f7f9", stroke="#d8dde3"))
        half = _BOX_WIDTH / 2 - 10
        self.scene.add(Text(x=x + _PAD, y=y + 17, text=fit(panel.title, 12, half), size=12, fill=style.PALE))
        if len(panel.copies) > 1:
            end = x + self.width - _PAD
            self.scene.add(Text(x=end, y=y + 17, text=f"{len(panel.copies)} times", size=12, anchor="end"))
        for b, position in enumerate(panel.members):
            self._layer(self.layers[position], p, b)
        for start, end, lane in self.lanes[p]:
            right = x + _PAD + _BOX_WIDTH
            out = right + 8 + lane * _LANE
            into = (right, self._box(p, end)[1] + _BOX_HEIGHT * 0.62)
            first = (right, self._box(p, start)[1] + _BOX_HEIGHT * 0.38)
            if start < 0:
                first = (x + _PAD + _BOX_WIDTH / 2, self._box(p, 0)[1] - 10)
            points = (first, (out, first[1]), (out, into[1]), into)
            self.scene.add(Line(points=points, stroke=style.colour("Add"), width=1.5, arrow=True))

    def _layer(self, layer: Layer, p: int, b: int) -> None:
        x, y = self._box(p, b)
        hue = style.colour(layer.kind)
        size = {"width": _BOX_WIDTH, "height": _BOX_HEIGHT}
        self.scene.add(
            Box(x=x, y=y, **size, radius=5, fill=style.mix(hue, "#ffffff", 0.14), stroke=hue),
            Box(x=x, y=y, width=6, height=_BOX_HEIGHT, radius=2, fill=hue),
            Text(x=x + 14, y=y + 17, text=fit(layer.name, 13, _BOX_WIDTH - 24), size=13),
        )
        room: float = _BOX_WIDTH - 24
        if layer.parameters:
            count = f"{layer.parameters:,} params"
            self.scene.add(
                Text(x=x + _BOX_WIDTH - 10, y=y + 33, text=fit(count, 11, room / 2), fill=style.PALE, anchor="end")
            )
            room -= min(measure(count, 11), room / 2) + 10
        words = _detail(layer)
        if elsewhere := self._elsewhere(p, b):
            words += f", from {', '.join(elsewhere)}"
        self.scene.add(Text(x=x + 14, y=y + 33, text=fit(words, 11, room), fill=style.PALE))

    def _flow(self, p: int) -> None:
        """The arrows into the boxes of a panel, and the one out of the network."""
        for b in range(len(self.groups[p].members)):
            before = self._before(p, b)
            if before is None or before not in self._reads(p, b):
                continue
            x, y = self._box(p, b)
            x += _BOX_WIDTH / 2
            above = (self._box(*before)[0] + _BOX_WIDTH / 2, self._box(*before)[1] + _BOX_HEIGHT)
            points: tuple[tuple[float, float], ...] = (above, (x, y))
            if self.column[before[0]] != self.column[p]:
                low = self.corner[before[0]][1] + self._height(before[0]) + 10
                gutter = self.corner[p][0] - _GUTTER / 2
                high = self.top - 12
                points = (above, (above[0], low), (gutter, low), (gutter, high), (x, high), (x, y))
            self._arrow(points, self.layers[self.groups[before[0]].members[before[1]]])
        if p == len(self.groups) - 1:
            x, y = self._box(p, len(self.groups[p].members) - 1)
            x, y = x + _BOX_WIDTH / 2, y + _BOX_HEIGHT
            self._arrow(((x, y), (x, y + _GAP)), self.layers[self.groups[p].members[-1]])

    def _arrow(self, points: tuple[tuple[float, float], ...], source: Layer) -> None:
        x, y = points[-1]
        label = fit(style.extent(source.shape), 11, _BOX_WIDTH / 2 - 12)
        self.scene.add(Line(points=points, stroke=style.INK, arrow=True))
        if label:
            self.scene.add(Text(x=x + 9, y=y - 16, text=label, fill=style.INK))


def _pack(heights: list[float], capacity: float) -> list[list[int]]:
    """Positions into columns no higher than `capacity`, in order."""
    columns: list[list[int]] = [[]]
    full = 0.0
    for p, height in enumerate(heights):
        if columns[-1] and full + height > capacity:
            columns.append([])
            full = 0.0
        columns[-1].append(p)
        full += height
    return columns


def _detail(layer: Layer) -> str:
    """A layer's kind and what is to be known of it, as `Conv2D 3 x 3, 64 filters`."""
    words = layer.kind
    if layer.kernel:
        words += f" {' x '.join(map(str, layer.kernel))}"
    wide = layer.shape[-1] if layer.shape else None
    if layer.kind.startswith("Conv") and wide and layer.kernel:
        words += f", {wide} filters"
    elif layer.kind == "Dense" and wide:
        words += f", {wide} units"
    if layer.strides and set(layer.strides) != {1}:
        words += f", stride {layer.strides[0] if len(set(layer.strides)) == 1 else layer.strides}"
    return words
