"""What the plots share: colours by kind, the words for shapes, title and legend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .scene import Box, Scene, Text, measure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..layers import Layer, Shape

INK, PALE, EDGE = "#1b1f24", "#59636e", "#8c959f"
MARGIN = 24
HEAD = 64  # height of the title above the drawing
LEGEND = 40  # height of the legend below it

# Okabe and Ito's palette, which the colour-blind can tell apart (https://jfly.uni-koeln.de/color/).
_FAMILIES = {
    "input": "#999999",
    "convolution": "#0072b2",
    "depthwise convolution": "#56b4e9",
    "pooling": "#d55e00",
    "dense": "#009e73",
    "normalisation": "#f0e442",
    "joining branches": "#cc79a7",
    "other": "#e69f00",
}


def family(kind: str) -> str:
    """Return the family of kinds that shares a colour."""
    if kind == "InputLayer":
        return "input"
    if kind.startswith("Depthwise"):
        return "depthwise convolution"
    if kind.startswith("Conv") and "D" in kind:
        return "convolution"
    if "Pooling" in kind:
        return "pooling"
    if kind == "Dense":
        return "dense"
    if kind.endswith("Normalization"):
        return "normalisation"
    if kind in ("Add", "Concatenate", "Multiply", "Subtract"):
        return "joining branches"
    return "other"


def colour(kind: str) -> str:
    """Return a kind's colour."""
    return _FAMILIES[family(kind)]


def mix(one: str, other: str, share: float) -> str:
    """Return the colour that is `share` of `one` and the rest of `other`."""
    pairs = zip(bytes.fromhex(one[1:]), bytes.fromhex(other[1:]), strict=True)
    return "#" + bytes(round(a * share + b * (1 - share)) for a, b in pairs).hex()


def extent(shape: Shape | None) -> str:
    """Return a shape as `224 x 224 x 64`, without the batch; what is not fixed is a question mark."""
    return "" if shape is None else " x ".join("?" if axis is None else str(axis) for axis in shape[1:])


def title(scene: Scene, name: str, layers: Iterable[Layer], remark: str = "") -> None:
    """Write the title and, below, how large the network is."""
    layers = list(layers)
    count = sum(layer.parameters for layer in layers)
    facts = f"{len(layers)} layers, {count:,} parameters"
    scene.add(
        Text(x=MARGIN, y=36, text=name, size=20),
        Text(x=MARGIN, y=55, text=f"{facts}{'. ' if remark else ''}{remark}", size=11, fill=PALE),
    )


def legend_width(kinds: Iterable[str]) -> float:
    """Return the width of the legend."""
    return sum(measure(each, 11) + 38 for each in _present(kinds))


def legend(scene: Scene, kinds: Iterable[str], y: float, *, x: float = MARGIN) -> None:
    """Draw a swatch for each family of kinds present, from `x` on."""
    for each in _present(kinds):
        scene.add(
            Box(x=x, y=y, width=14, height=14, radius=3, fill=_FAMILIES[each]),
            Text(x=x + 20, y=y + 11, text=each, fill=PALE),
        )
        x += measure(each, 11) + 38


def _present(kinds: Iterable[str]) -> list[str]:
    here = {family(kind) for kind in kinds}
    return [each for each in _FAMILIES if each in here]
