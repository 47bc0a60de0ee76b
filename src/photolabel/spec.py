"""The VGG architectures as data; shapes and parameter counts are derived, never typed.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
arXiv 1409.1556, table 1. Layer names are Keras' (`block1_conv1` ... `predictions`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from .errors import InvalidModelError, UsageError

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

    Raises UsageError for values of which no network can be built.
    """

    name: str
    blocks: tuple[tuple[tuple[int, int], ...], ...]
    hidden: tuple[int, ...] = (4096, 4096)
    classes: int = 1000
    shape: tuple[int | None, int | None, int] = (224, 224, 3)
    top: bool = True
    pooling: Literal["avg", "max"] | None = None
    activation: Literal["softmax", "linear"] = "softmax"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 1 <= len(self.name) <= 64 or not self.name.isprintable():
            raise UsageError("A spec's name must be 1 to 64 printable characters.")
        if not 1 <= len(self.blocks) <= _MOST or not all(1 <= len(block) <= _MOST for block in self.blocks):
            raise UsageError(f"A spec must have 1 to {_MOST} blocks of 1 to {_MOST} convolutions.")
        for side, filters in (convolution for block in self.blocks for convolution in block):
            if side not in (1, 3) or not _is_count(filters):
                raise UsageError(f"A convolution must have sides of 1 or 3 and 1 to {_WIDEST} filters.")
        if len(self.hidden) > _MOST or not all(map(_is_count, (*self.hidden, self.classes))):
            raise UsageError(f"classes={self.classes!r}: expected a whole number from 1 to {_WIDEST}.")
        height, width, channels = self.shape
        smallest = 2 ** len(self.blocks)  # of which the last pooling leaves one place
        if not _is_count(channels) or not all(x is None or (_is_count(x) and x >= smallest) for x in (height, width)):
            raise UsageError(
                f"input_shape={self.shape}: expected (height, width, channels), {smallest} to {_WIDEST} pixels high "
                "and wide, or None for any."
            )
        if self.pooling not in (None, "avg", "max") or self.activation not in ("softmax", "linear"):
            raise UsageError(
                f"pooling={self.pooling!r}, activation {self.activation!r}: expected None, avg or max, and softmax or "
                "linear."
            )
        if self.top and None in (height, width):
            raise UsageError(f"{self.name} with its top needs a height and a width, as in {(224, 224, 3)}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> Spec:
        """Build from what a model file says, which is not trusted: InvalidModelError for anything odd."""
        names = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != names:
            raise InvalidModelError(f"The model's spec must hold exactly {', '.join(sorted(names))}.")
        try:
            given = dict(values)
            blocks = tuple(tuple((side, filters) for side, filters in block) for block in given.pop("blocks"))
            hidden, (height, width, channels) = tuple(given.pop("hidden")), given.pop("shape")
            made = cls(blocks=blocks, hidden=hidden, shape=(height, width, channels), **given)
        except (TypeError, ValueError) as error:  # UsageError is a ValueError
            raise InvalidModelError("The model's spec makes no sense.") from error
        if not isinstance(made.top, bool):
            raise InvalidModelError("The model's spec makes no sense: its top is neither true nor false.")
        return made

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
            assert height and width
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


_MOST = 64  # blocks, convolutions in one, hidden layers: a stranger's file must not ask for a million
_WIDEST = 2**20


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _WIDEST


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
