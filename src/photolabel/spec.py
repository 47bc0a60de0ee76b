"""The VGG architectures as data; shapes and parameter counts are derived, never typed.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
arXiv 1409.1556, table 1. Layer names are Keras' (`block1_conv1` ... `predictions`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["InputLayer", "Conv2D", "MaxPooling2D", "Flatten", "Dense"]

# Columns A to E of table 1 in its own notation: convK-F is a KxK convolution with F filters; every block ends
# in a 2x2 max pooling of stride 2. All convolutions have stride 1, 'same' padding and a ReLU.
_TABLE_1 = {
    "A": "conv3-64 | conv3-128 | conv3-256 conv3-256 | conv3-512 conv3-512 | conv3-512 conv3-512",
    "B": "conv3-64 conv3-64 | conv3-128 conv3-128 | conv3-256 conv3-256 | conv3-512 conv3-512 | conv3-512 conv3-512",
    "C": "conv3-64 conv3-64 | conv3-128 conv3-128 | conv3-256 conv3-256 conv1-256"
    " | conv3-512 conv3-512 conv1-512 | conv3-512 conv3-512 conv1-512",
    "D": "conv3-64 conv3-64 | conv3-128 conv3-128 | conv3-256 conv3-256 conv3-256"
    " | conv3-512 conv3-512 conv3-512 | conv3-512 conv3-512 conv3-512",
    "E": "conv3-64 conv3-64 | conv3-128 conv3-128 | conv3-256 conv3-256 conv3-256 conv3-256"
    " | conv3-512 conv3-512 conv3-512 conv3-512 | conv3-512 conv3-512 conv3-512 conv3-512",
}


@dataclass(frozen=True)
class Layer:
    """One layer: Keras' name and kind, output shape, and the shapes of its weights.

    `shape` is the output's, channels last, with None for the batch axis. `kernel` is (height, width, in, out)
    for a convolution, (in, out) for a dense layer, and () where there is nothing to learn; the bias is (out,).
    """

    name: str
    kind: Kind
    shape: tuple[int | None, ...]
    kernel: tuple[int, ...] = ()

    @property
    def bias(self) -> tuple[int, ...]:
        """Shape of the bias: (out,), or () where there is nothing to learn."""
        return self.kernel[-1:]

    @property
    def parameters(self) -> int:
        """How many numbers the layer learns."""
        return math.prod(self.kernel) + self.kernel[-1] if self.kernel else 0


@dataclass(frozen=True, kw_only=True)
class Spec:
    """An architecture of the VGG family.

    `blocks` holds, for each block, the (kernel side, filters) of its convolutions; `hidden` the widths of the
    dense layers before the classifier; `size` the side of the square RGB input in pixels.
    """

    name: str
    blocks: tuple[tuple[tuple[int, int], ...], ...]
    hidden: tuple[int, ...] = (4096, 4096)
    classes: int = 1000
    size: int = 224

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers from the input to the class probabilities, in order."""
        return tuple(self._layers())

    @property
    def learned(self) -> dict[str, Layer]:
        """The layers that have weights, by name, in order."""
        return {layer.name: layer for layer in self._layers() if layer.kernel}

    @property
    def parameters(self) -> int:
        """How many numbers the network learns; table 2 of the paper rounds them to millions."""
        return sum(layer.parameters for layer in self._layers())

    def _layers(self) -> Iterator[Layer]:
        side, channels = self.size, 3
        yield Layer("input", "InputLayer", (None, side, side, channels))
        for b, block in enumerate(self.blocks, 1):
            for c, (kernel, filters) in enumerate(block, 1):
                shape = (None, side, side, filters)
                yield Layer(f"block{b}_conv{c}", "Conv2D", shape, (kernel, kernel, channels, filters))
                channels = filters
            side //= 2
            yield Layer(f"block{b}_pool", "MaxPooling2D", (None, side, side, channels))
        width = side * side * channels
        yield Layer("flatten", "Flatten", (None, width))
        names = [f"fc{i}" for i in range(1, len(self.hidden) + 1)] + ["predictions"]
        for name, units in zip(names, (*self.hidden, self.classes), strict=True):
            yield Layer(name, "Dense", (None, units), (width, units))
            width = units


def _parse(row: str) -> tuple[tuple[tuple[int, int], ...], ...]:
    def convolution(cell: str) -> tuple[int, int]:
        kernel, filters = cell.removeprefix("conv").split("-")
        return int(kernel), int(filters)

    return tuple(tuple(convolution(cell) for cell in block.split()) for block in row.split("|"))


VGG11 = Spec(name="VGG11", blocks=_parse(_TABLE_1["A"]))
VGG13 = Spec(name="VGG13", blocks=_parse(_TABLE_1["B"]))
VGG16C = Spec(name="VGG16C", blocks=_parse(_TABLE_1["C"]))
VGG16 = Spec(name="VGG16", blocks=_parse(_TABLE_1["D"]))
VGG19 = Spec(name="VGG19", blocks=_parse(_TABLE_1["E"]))
