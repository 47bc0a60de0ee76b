"""The VGG architectures as data; shapes and parameter counts are derived, never typed.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
arXiv 1409.1556, table 1. Layer names are Keras' (`block1_conv1` ... `predictions`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .errors import UsageError

Kind = Literal[
    "InputLayer", "Conv2D", "MaxPooling2D", "Flatten", "Dense", "GlobalAveragePooling2D", "GlobalMaxPooling2D"
]

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
    dense layers before the classifier; `shape` the input's height, width and channels, where None is any.
    Without its `top` a network ends in its last block, or in the average or maximum over all places (`pooling`).
    """

    name: str
    blocks: tuple[tuple[tuple[int, int], ...], ...]
    hidden: tuple[int, ...] = (4096, 4096)
    classes: int = 1000
    shape: tuple[int | None, int | None, int] = (224, 224, 3)
    top: bool = True
    pooling: Literal["avg", "max"] | None = None
    activation: Literal["softmax", "linear"] = "softmax"

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers from the input to the last output, in order."""
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
        height, width, channels = self.shape
        yield Layer("input_1", "InputLayer", (None, height, width, channels))
        for b, block in enumerate(self.blocks, 1):
            for c, (side, filters) in enumerate(block, 1):
                kernel = (side, side, channels, filters)
                yield Layer(f"block{b}_conv{c}", "Conv2D", (None, height, width, filters), kernel)
                channels = filters
            height, width = (None if x is None else x // 2 for x in (height, width))
            yield Layer(f"block{b}_pool", "MaxPooling2D", (None, height, width, channels))
        if self.top:
            if height is None or width is None:
                raise UsageError(f"{self.name} with its top needs a height and a width, as in {(224, 224, 3)}.")
            yield from self._top(height * width * channels)
        elif self.pooling == "avg":
            yield Layer("global_average_pooling2d", "GlobalAveragePooling2D", (None, channels))
        elif self.pooling == "max":
            yield Layer("global_max_pooling2d", "GlobalMaxPooling2D", (None, channels))

    def _top(self, units: int) -> Iterator[Layer]:
        yield Layer("flatten", "Flatten", (None, units))
        names = [f"fc{i}" for i in range(1, len(self.hidden) + 1)] + ["predictions"]
        for name, wanted in zip(names, (*self.hidden, self.classes), strict=True):
            yield Layer(name, "Dense", (None, wanted), (units, wanted))
            units = wanted


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
