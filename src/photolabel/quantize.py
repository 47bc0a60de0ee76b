"""An fp32 ONNX network and some photos -> the same network computing in 8-bit integers.

Convolutions and dense layers get int8 weights, one scale for each output channel, and 8-bit inputs, one scale for
each tensor, whose range is the largest that the calibration photos showed. In the graph this is written as pairs of
QuantizeLinear and DequantizeLinear, which every runtime understands; the engine fuses them into integer kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import engine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

# Where the multiplications are, and which axis of their weights is the output channel's.
_WEIGHTED = {"Conv": 0, "Gemm": 1}
# What gives out values of its input, so that rounding before it is rounding after it. A quantized tensor is smaller:
# before a pooling it makes the pooling four times as fast too.
_PASSES_VALUES = {"MaxPool", "Transpose", "Flatten", "Reshape", "Identity"}


def quantize(source: Path, inputs: Iterable[NDArray[np.float32]], *, describe: Mapping[str, str]) -> bytes:
    """Return the ONNX network at `source` with 8-bit arithmetic, its ranges those that `inputs` give rise to.

    `inputs` are prepared photos, float32 (H, W, 3) RGB 0-255; a handful that differ suffices. `describe` is added to
    the file's metadata. The same arguments give the same bytes.
    """
    import onnx

    model = onnx.load(source, format="protobuf")
    network = _Network(model.graph)
    ranges, means = _observe(source, network, inputs)
    network.quantize_weights(means)
    network.quantize_activations(ranges)
    known = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**known, **describe})
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


# Neither weights nor inputs use all of their 8 bits. Processors without 8-bit dot products (VNNI) add up pairs of
# products in 16 bits, and cut off what does not fit: 2 x 255 x 127 does not, 2 x 162 x 100 does. What the calibration
# photos did not show has the steps above 162. Of the ways to share the loss between the two, this costs least.
_WEIGHT_STEPS, _INPUT_STEPS = 100, 162

# Pixels have 256 steps already. Rounded to fewer, whole areas of one colour would shift the same way; and none lies
# beyond what the calibration photos show. So there it is the weights that give way: 2 x 255 x 64 fits as well.
_PIXEL_WEIGHT_STEPS, _PIXEL_STEPS = 64, 255
_CHANNELS = 3

# The share of a tensor's values, at either end, that may lie outside its range. Single outliers of a VGG are several
# times all else; to spend the 256 steps on them costs everything else its resolution.
_OUTSIDE = 1e-5


def _observe(
    source: Path, network: _Network, inputs: Iterable[NDArray[np.float32]]
) -> tuple[dict[str, tuple[float, float]], dict[str, NDArray[np.float64]]]:
    """What the inputs give rise to.

    The least and greatest value of each site, but for the few beyond all others; and the mean of each channel of what
    enters a weighted node.
    """
    sites, entering = network.sites(), [node.input[0] for node in network.weighted()]
    # What is not computed is the input, that nothing normalises.
    computed = tuple(dict.fromkeys(name for name in (*sites, *entering) if name in network.maker))
    running = engine.open_engine(source, cut=engine.Cut(layers=computed, only=bool(computed)))
    found = dict.fromkeys(sites, (0.0, 0.0))  # zero must be a value: padding is zero
    sums: dict[str, NDArray[np.float64]] = {}
    photos = 0
    try:
        for pixels in inputs:
            outputs = running.run(pixels[np.newaxis])
            photos += 1
            for name in dict.fromkeys(entering):
                if name in outputs:
                    values = outputs[name]  # channels last
                    mean = values.mean(axis=tuple(range(values.ndim - 1)), dtype=np.float64)
                    sums[name] = sums.get(name, np.zeros_like(mean)) + mean
            for site in sites:
                low, high = found[site]
                values = outputs.get(site, pixels)
                found[site] = (min(low, -_greatest(-values)), max(high, _greatest(values)))
    finally:
        running.close()
    return found, {name: total / photos for name, total in sums.items()}


def _greatest(array: NDArray[np.float32]) -> float:
    place = array.size - 1 - int(array.size * _OUTSIDE)
    return float(np.partition(array.ravel(), place)[place])


class _Network:
    """A graph with the two questions asked of it: who makes a tensor, and what constant it is."""

    def __init__(self, parsed: Any) -> None:
        self.graph = parsed
        self.maker = {output: node for node in parsed.node for output in node.output}
        self.constants = {tensor.name: tensor for tensor in parsed.initializer}
        self.pixels = {self._origin(node.input[0]) for node in self.weighted() if self._takes_pixels(node)}

    def weighted(self) -> list[Any]:
        """The nodes to be quantized."""
        return [node for node in self.graph.node if self._is_weighted(node)]

    def sites(self) -> list[str]:
        """The tensors to be rounded: what enters a weighted node or an addition of two results, as early as can be."""
        sites: dict[str, None] = {}
        for node in self.graph.node:
            if self._is_weighted(node):
                sites[self._origin(node.input[0])] = None
            elif node.op_type == "Add" and not any(name in self.constants for name in node.input):
                for name in node.input:
                    sites[self._origin(name)] = None
        return list(sites)

    def _is_weighted(self, node: Any) -> bool:
        return node.op_type in _WEIGHTED and self._constant(node.input[1]) is not None

    def _takes_pixels(self, node: Any) -> bool:
        """Whether a convolution looks at all channels of a photo at once, as only the first does."""
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        return node.op_type == "Conv" and groups == 1 and self._constant(node.input[1]).shape[1] <= _CHANNELS

    def _origin(self, name: str) -> str:
        while name in self.maker and self.maker[name].op_type in _PASSES_VALUES:
            name = self.maker[name].input[0]
        return name

    def _constant(self, name: str) -> Any:
        """The array that a tensor always is, seen through a cast, or None."""
        from onnx import numpy_helper

        if name in self.constants:
            return numpy_helper.to_array(self.constants[name])
        node = self.maker.get(name)
        if node is not None and node.op_type == "Cast" and node.input[0] in self.constants:
            return numpy_helper.to_array(self.constants[node.input[0]]).astype(np.float32)
        return None

    def quantize_weights(self, means: Mapping[str, NDArray[np.float64]]) -> None:
        """Store each weight as int8, -100 to 100 or as pixels want it, with a scale for each output channel.

        What their rounding adds to each output on average, for inputs of these `means`, is taken from the bias.
        """
        from onnx import helper

        for node in self.weighted():
            name, axis = node.input[1], _WEIGHTED[node.op_type]
            weight = self._constant(name)
            if node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute):
                axis = 0
            others = tuple(i for i in range(weight.ndim) if i != axis)
            steps = _PIXEL_WEIGHT_STEPS if self._takes_pixels(node) else _WEIGHT_STEPS
            scale = np.maximum(np.abs(weight).max(axis=others), 1e-12).astype(np.float32) / np.float32(steps)
            shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
            rounded = np.clip(np.rint(weight / scale.reshape(shape)), -steps, steps).astype(np.int8)
            if node.input[0] in means:
                error = rounded * scale.reshape(shape) - weight
                self._correct(node, np.moveaxis(error, axis, 0), means[node.input[0]])
            stored = [self._store(f"{name}/int8", rounded), self._store(f"{name}/scale", scale)]
            self._insert(helper.make_node("DequantizeLinear", stored, [f"{name}/dequantized"], axis=axis), before=node)
            node.input[1] = f"{name}/dequantized"
        self._drop_unused()

    def _correct(self, node: Any, error: Any, means: NDArray[np.float64]) -> None:
        """Take from the bias of `node` what `error`, (outputs, inputs, ...), makes of the inputs' means."""
        bias = self._constant(node.input[2]) if len(node.input) > 2 else None
        summed = error.reshape(*error.shape[:2], -1).sum(axis=2, dtype=np.float64)
        depthwise = summed.shape == (len(means), 1)
        if bias is None or bias.shape != summed.shape[:1] or not (depthwise or summed.shape[1] == len(means)):
            return
        shift = summed[:, 0] * means if depthwise else summed @ means
        node.input[2] = self._store(f"{node.input[1]}/bias", (bias - shift).astype(np.float32))

    def quantize_activations(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Round each site to 8 bits, zero exactly: padding and ReLUs make many."""
        from onnx import helper

        for name, (low, high) in ranges.items():
            step = max(high - low, 1e-12) / (_PIXEL_STEPS if name in self.pixels else _INPUT_STEPS)
            scale = self._store(f"{name}/scale", np.array(step, np.float32))
            zero = self._store(f"{name}/zero", np.array(round(-low / step), np.uint8))
            rounded, back = f"{name}/quantized", f"{name}/dequantized"
            consumers = [node for node in self.graph.node if name in node.input]
            first = consumers[0]
            self._insert(helper.make_node("QuantizeLinear", [name, scale, zero], [rounded]), before=first)
            self._insert(helper.make_node("DequantizeLinear", [rounded, scale, zero], [back]), before=first)
            for node in consumers:
                for i, entering in enumerate(node.input):
                    if entering == name:
                        node.input[i] = back

    def _store(self, name: str, array: Any) -> str:
        from onnx import numpy_helper

        self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def _insert(self, made: Any, *, before: Any) -> None:
        position = next(i for i, node in enumerate(self.graph.node) if node == before)
        self.graph.node.insert(position, made)

    def _drop_unused(self) -> None:
        """Remove the fp32 weights, and the casts in front of them, that nothing uses any more."""
        for things in (self.graph.node, self.graph.initializer):
            used = {name for node in self.graph.node for name in node.input} | {x.name for x in self.graph.output}
            for i in reversed(range(len(things))):
                made = [things[i].name] if things is self.graph.initializer else things[i].output
                if used.isdisjoint(made):
                    del things[i]
