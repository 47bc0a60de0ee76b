"""One network of the VGG family, ready to run: what Keras' models do, by an engine of ours."""

from __future__ import annotations

import functools
import os
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import draw, engine, exporting, graph, images, labels, models, progress
from ..errors import UsageError
from ..labels import Label
from ..models import CAFFE, Normalisation
from ..prepared import inputs
from ..spec import Layer, Spec
from . import stored

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import ArrayLike, NDArray

    from ..weights import Arrays

MIN_SIDE = 32  # of which five poolings leave one place
_BATCH = 32


class VGG:
    """A network of the VGG family, ready to run. Make one with `VGG16`, `VGG19`, ...

    `spec` is its architecture, `normalisation` what its weights were trained on. Nothing is loaded before it is
    needed. Safe to use from several threads at once. Close it, or use it in a `with` block, to free its memory.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        normalisation: Normalisation = CAFFE,
        arrays: Arrays | None = None,
        path: Path | None = None,
    ) -> None:
        self.spec = spec
        self.normalisation = normalisation
        self._arrays = arrays  # None with a path: they are in the artefact; None without: to be drawn
        self._path = path
        self._engines: dict[tuple[Any, ...], engine.Engine] = {}
        self._closed = False
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """What the architecture is called: `vgg16`."""
        return self.spec.name.lower()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in order, the input first, with Keras' names, output shapes and numbers of parameters."""
        return self.spec.layers

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """(None, height, width, channels)."""
        return self.layers[0].shape

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """(None, classes) with the top, else (None, height, width, channels) or, pooled, (None, channels)."""
        return self.layers[-1].shape

    @functools.cached_property
    def weights(self) -> Arrays:
        """Kernel and bias by a layer's name, as Keras has them: float32, read-only.

        Kernels of convolutions are (height, width, in, out), those of dense layers (in, out); biases (out,). The
        first kernel's inputs are blue, green, red.
        """
        if self._path is not None:
            found = graph.arrays(self._path, stored.network(self._path)[0])
            return MappingProxyType({name: found[name] for name in self.spec.learned})
        arrays = self._arrays if self._arrays is not None else _glorot(self.spec)
        result = {}
        for name in self.spec.learned:
            kernel, bias = (np.asarray(array, np.float32).view() for array in arrays[name])
            kernel.setflags(write=False)
            bias.setflags(write=False)
            result[name] = kernel, bias
        return MappingProxyType(result)

    def summary(self) -> str:
        """Return the table of layers, output shapes and parameters that Keras prints."""
        return draw.summary(self.spec)

    def plot(self, path: str | os.PathLike[str], *, style: Literal["graph", "volumes"] = "graph") -> None:
        """Draw the network into the PNG or SVG file at `path`; see `photolabel.plot`."""
        draw.plot(self.spec, Path(path), style=style)

    def predict(self, x: ArrayLike, *, layer: str | None = None, batch_size: int = _BATCH) -> NDArray[np.float32]:
        """Return what the network, or the named layer of it, makes of preprocessed photos.

        `x` is (N, height, width, channels), any number type, as Keras' `preprocess_input` makes it: for Oxford's
        weights blue, green, red less ImageNet's mean colour, about -124..152. It is not changed. Returned is float32
        (N, classes), probabilities 0..1 with softmax; without the top, or of an inner layer, (N, height, width,
        channels) or (N, units). Raises `UsageError` for an `x` of another shape, one that holds NaN or infinity, and
        an unknown layer.
        """
        x = self._checked(x)
        return self._batches(x, self._layer(layer), batch_size, pixels=False)

    def features(
        self, photos: Iterable[images.Photo], *, layer: str | None = None, batch_size: int = _BATCH
    ) -> NDArray[np.float32]:
        """Return what the named layer makes of photos: float32 (N, units), or (N, height, width, channels) for a map.

        `photos` are paths, bytes, file objects, PIL images or arrays, as `photolabel.classify` takes them; they are
        turned upright, and scaled and cropped by the default recipe. `layer` is by default the last but the classes:
        `fc2`, or without the top the output. Raises `UsageError` for an unknown layer or an input that is not
        square, and the `PhotoError` of the first photo that cannot be read.
        """
        if isinstance(photos, str | bytes | bytearray | os.PathLike) or not isinstance(photos, Iterable):
            raise UsageError("expected a list of photos, as in features([photo]); got a single one.")
        hidden = [each for each in self.layers if each.kind == "Dense"][:-1]
        name = self._layer(layer or (hidden[-1].name if hidden else None))
        prepared = list(inputs(photos, self._recipe()))
        if not prepared:
            return np.empty((0, *(x or 0 for x in self._shape_of(name)[1:])), np.float32)
        return self._batches(np.stack(prepared).astype(np.float32), name, batch_size, pixels=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network into the file at `path`: `.onnx`, `.keras`, `.weights.h5` or `.safetensors`.

        Each can be given as `weights` to `VGG16` again. A file that is there already is replaced, once the new one is
        whole. Raises `UsageError` for another ending and `OutputError` where it cannot be written.
        """
        # The published means are of three channels: a network of others takes what it is given.
        normalisation = self.normalisation if self.spec.shape[2] == 3 else None
        exporting.write(self.spec, self.weights, Path(path), normalisation=normalisation, describe=self._description())

    def _description(self) -> dict[str, str]:
        """What a file says of the network: all that a classifier needs, where it is one of photos."""
        spec = self.spec
        told = models.Model(
            name=self.name,
            recipes=(),
            labels=(),
            source="weights of the user's own",
            licence="unknown: that of the weights",
            spec=spec,
            normalisation=self.normalisation,
        )
        height, width, channels = spec.shape
        names_photos = spec.top and spec.activation == "softmax" and spec.classes > 1
        if names_photos and channels == 3 and height == width:
            own = tuple(Label(i, None, f"class_{i}") for i in range(spec.classes))
            named = labels.imagenet() if spec.classes == 1000 else own
            return replace(told, recipes=(self._recipe(),), labels=named).describe()
        return {key: text for key, text in told.describe().items() if key.endswith((".spec", ".normalisation"))}

    def close(self) -> None:
        """Free the network's memory. Closing twice does no harm; a closed network raises `UsageError`."""
        with self._lock:
            self._closed = True
            while self._engines:
                self._engines.popitem()[1].close()

    def __enter__(self) -> VGG:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.spec.name} {self.input_shape} -> {self.output_shape}>"

    # -- what goes in

    def _checked(self, x: ArrayLike) -> NDArray[np.float32]:
        expected = self.input_shape
        array = np.asarray(x)
        wrong = array.ndim != 4 or any(
            want not in (None, have) for want, have in zip(expected, array.shape, strict=False)
        )
        if wrong or array.dtype.kind not in "fiu":
            raise UsageError(
                f"expected preprocessed photos of shape {('N', *expected[1:])} in numbers; got {array.shape} of "
                f"{array.dtype}. One photo is a batch of one: x[numpy.newaxis]."
            )
        if min(array.shape[1:3]) < 2 ** len(self.spec.blocks):
            raise UsageError(f"expected photos of at least {MIN_SIDE} x {MIN_SIDE} pixels; got {array.shape}.")
        array = array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise UsageError("expected preprocessed photos; x holds NaN or infinity.")
        return array

    def _recipe(self) -> images.Recipe:
        """The default recipe at the input's size: the paper's 256 pixels of which 224 are cut out, or as much."""
        height, width, channels = self.spec.shape
        if height != width or channels != 3:
            raise UsageError(
                f"photos become square RGB inputs; this network takes {self.input_shape[1:]}. Prepare them yourself, "
                "and call predict(x, layer=...)."
            )
        usual = images.CROP if self.normalisation == CAFFE else images.CROP_BILINEAR
        side = height or usual.size
        assert usual.side
        return replace(usual, size=side, side=round(side * usual.side / usual.size))

    # -- what comes out

    def _layer(self, name: str | None) -> str:
        known = [each.name for each in self.layers[1:]]
        if name is None:
            return known[-1]
        if name not in known:
            raise UsageError(f"{self.name} has no layer {name!r}. It has: {', '.join(known)}.")
        return name

    def _shape_of(self, name: str) -> tuple[int | None, ...]:
        return next(each.shape for each in self.layers if each.name == name)

    def _batches(self, x: NDArray[np.float32], layer: str, batch_size: int, *, pixels: bool) -> NDArray[np.float32]:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
            raise UsageError(f"batch_size={batch_size!r}: expected a whole number of at least 1.")
        if not len(x):
            return np.empty((0, *(x or 0 for x in self._shape_of(layer)[1:])), np.float32)
        pool = _POOLINGS.get(next(each.kind for each in self.layers if each.name == layer))
        inner = self._layer_before_pooling() if pool else layer
        found = []
        with self._lock, progress.bar(f"running {self.name}", total=len(x), unit="photo") as tick:
            running = self._engine(inner)
            for start in range(0, len(x), batch_size):
                out = running(self._entering(x[start : start + batch_size], pixels=pixels))
                found.append(pool(out) if pool else out)
                if len(x) > batch_size:
                    tick(min(start + batch_size, len(x)), len(x))
        return np.concatenate(found) if len(found) > 1 else found[0]

    def _layer_before_pooling(self) -> str:
        return next(each.name for each in reversed(self.layers) if each.kind == "MaxPooling2D")

    def _entering(self, x: NDArray[np.float32], *, pixels: bool) -> NDArray[np.float32]:
        """The engine's input: an artefact takes pixels, a network from arrays what is preprocessed."""
        if pixels == (self._path is not None):
            return x
        mean, deviation = (np.array(v, np.float32) for v in (self.normalisation.mean, self.normalisation.deviation))
        if pixels:
            blue_first = x[..., ::-1] if self.normalisation.order == "BGR" else x
            return (blue_first - mean) / deviation
        # The graph will take the mean away again. What that rounds is far below what two engines differ by, and
        # so this network and a classifier share one compiled file.
        back = x * deviation + mean
        return np.ascontiguousarray(back[..., ::-1] if self.normalisation.order == "BGR" else back)

    def _engine(self, layer: str) -> engine.Engine:
        if self._closed:
            raise UsageError("this network is closed.")
        last = layer == "predictions"
        tensor = (graph.PROBABILITIES if self.spec.activation == "softmax" else graph.LOGITS) if last else layer
        if self._path is not None and last and self.spec.activation == "softmax":
            key: tuple[Any, ...] = (tensor,)
            if key not in self._engines:
                self._engines[key] = engine.open_engine(self._path)
            return self._engines[key]
        key = (tensor, "cut")
        if key not in self._engines:
            # One at a time: each holds the weights.
            while self._engines:
                self._engines.popitem()[1].close()
            height, width, _ = self.spec.shape
            cut = engine.Cut(layers=(tensor,), only=True, size=(height, width))
            if self._path is not None:
                self._engines[key] = engine.open_engine(self._path, cut=cut)
            else:
                self._engines[key] = self._from_arrays(cut)
        return self._engines[key]

    def _from_arrays(self, cut: engine.Cut) -> engine.Engine:
        with tempfile.TemporaryDirectory(prefix="photolabel-") as folder:
            path = Path(folder) / f"{self.name}.onnx"
            with path.open("wb") as file:
                for chunk in graph.build(replace(self.spec, pooling=None), self.weights, None, describe={}):
                    file.write(chunk)
            return engine.open_engine(path, cut=cut)


def _glorot(made: Spec) -> Arrays:
    """Random weights as Keras draws them: uniform kernels (Glorot and Bengio, 2010, equation 16), biases of zero."""
    rng = np.random.default_rng()
    drawn = {}
    for name, layer in made.learned.items():
        *field, entering, leaving = layer.kernel
        bound = np.float32(np.sqrt(6 / (np.prod(field) * (entering + leaving))))
        kernel = rng.random(layer.kernel, np.float32)
        kernel *= 2 * bound
        kernel -= bound
        drawn[name] = kernel, np.zeros(layer.bias, np.float32)
    return drawn


def _average(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(maps.mean((1, 2)), np.float32)


def _maximum(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(maps.max((1, 2)), np.float32)


_POOLINGS = {"GlobalAveragePooling2D": _average, "GlobalMaxPooling2D": _maximum}
