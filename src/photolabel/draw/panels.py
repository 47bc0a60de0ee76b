"""Layers -> the groups in which a reader sees them; what repeats is shown once."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..layers import Layer

# `block1_conv2`, `block03.depthwise`, `/layer1/layer1.0/conv1/Conv`: a first word that ends in a number.
_NAMED = re.compile(r"/?([A-Za-z]+[A-Za-z_]*\d+)[._/]\w")
_FOLD_ABOVE = 40  # layers; a network of fewer is shown as it is
_LONGEST_PATTERN = 24


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Some layers under one title. `copies` holds the positions of each repetition; the first is the one drawn.

    `titles` has one for each repetition that has a name of its own.
    """

    titles: tuple[str, ...]
    copies: tuple[tuple[int, ...], ...]

    @property
    def title(self) -> str:
        """The title over all of them."""
        return span(self.titles)

    @property
    def members(self) -> tuple[int, ...]:
        """The positions of the layers that are drawn."""
        return self.copies[0]


def span(names: Sequence[str]) -> str:
    """Return `block1_conv1 - 3` for names that run from block1_conv1 to block1_conv3."""
    first, last = names[0], names[-1]
    if first == last:
        return first
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    common = first[:same].rstrip("0123456789")
    return f"{first} - {last[len(common) :]}"


def panels(layers: Sequence[Layer]) -> list[Panel]:
    """Group layers by the blocks that their names tell of, or else by the size of their maps."""
    words = [_NAMED.match(layer.name) for layer in layers]
    fold = len(layers) > _FOLD_ABOVE
    if sum(word is not None for word in words) * 2 >= len(layers):
        keys = [word[1] if word else "" for word in words]
        found = [
            Panel(titles=(key or _title(layers, run),), copies=(run,))
            for key, run in _runs(keys)
            for run in _cut(layers, run)
        ]
        return _merge(layers, found) if fold else found
    found = []
    for size, run in _runs([_size(layer) for layer in layers]):
        for part in _cut(layers, run):
            for copies in _fold(layers, part) if fold else [(part,)]:
                found.append(Panel(titles=(size or _title(layers, part),), copies=copies))
    return found


def _runs(keys: Sequence[str]) -> list[tuple[str, tuple[int, ...]]]:
    """Stretches of equal keys, with the positions of each."""
    return [
        (key, tuple(i for i, _ in group)) for key, group in itertools.groupby(enumerate(keys), key=lambda pair: pair[1])
    ]


def _cut(layers: Sequence[Layer], run: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The input stands by itself."""
    inputs = tuple(i for i in run if layers[i].kind == "InputLayer")
    return [part for part in (inputs, run[len(inputs) :]) if part]


def _size(layer: Layer) -> str:
    if layer.shape is None or len(layer.shape) < 4:
        return ""
    return " x ".join("?" if axis is None else str(axis) for axis in layer.shape[1:-1])


def _title(layers: Sequence[Layer], run: tuple[int, ...]) -> str:
    if layers[run[0]].kind == "InputLayer":
        return "input"
    if run[-1] == len(layers) - 1:
        return "top"
    return "stem" if run[0] <= 1 else ""


def _likeness(layer: Layer, position: int) -> tuple[object, ...]:
    """Layers of equal likeness do the same to the same; names and values of weights aside."""
    reads = tuple(position - i for i in layer.inputs)
    return layer.kind, layer.kernel, layer.strides, layer.shape, layer.parameters, reads


def _merge(layers: Sequence[Layer], found: list[Panel]) -> list[Panel]:
    """Join neighbouring panels that are alike."""
    merged = []
    for _, group in itertools.groupby(found, key=lambda panel: [_likeness(layers[i], i) for i in panel.members]):
        alike = list(group)
        merged.append(
            Panel(titles=tuple(panel.title for panel in alike), copies=tuple(panel.members for panel in alike))
        )
    return merged


def _fold(layers: Sequence[Layer], run: tuple[int, ...]) -> list[tuple[tuple[int, ...], ...]]:
    """Cut a stretch into patterns and how often they repeat one after the other, the longest savings first."""
    likeness = [_likeness(layers[i], i) for i in run]
    parts: list[tuple[tuple[int, ...], ...]] = []
    loose: list[int] = []
    at = 0
    while at < len(run):
        saved, length = max(((_repeats(likeness, at, p) - 1) * p, -p) for p in range(1, _LONGEST_PATTERN + 1))
        if saved < 2:
            loose.append(run[at])
            at += 1
            continue
        length = -length
        if loose:
            parts.append((tuple(loose),))
            loose = []
        end = at + saved + length
        parts.append(tuple(run[i : i + length] for i in range(at, end, length)))
        at = end
    return [*parts, (tuple(loose),)] if loose else parts


def _repeats(likeness: Sequence[object], at: int, length: int) -> int:
    """How often the `length` layers from `at` on come one after the other."""
    count, pattern = 1, likeness[at : at + length]
    while likeness[at + count * length : at + (count + 1) * length] == pattern:
        count += 1
    return count if len(pattern) == length else 1
