"""How a network's evidence is found: which ways it allows, and the map that each gives of one photo."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import engine, graph
from ..classifier import Classifier, RankedLabel
from ..errors import UsageError
from ..tree import everyday

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..labels import Label
    from ..spec import Spec

Method = Literal["gradient", "activation", "occlusion"]

_PATCH, _STEPS = 5, 13  # a patch is a fifth of the input wide; places for it along each side
COVERINGS = _STEPS**2  # runs of the network that "occlusion" takes, of one input each


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """How the evidence of one classifier is found: the method, and all that it needs to know of the network's file.

    `cut` is the part of the network that gives what the method looks at; None where the whole network is enough.
    """

    method: Method
    cut: engine.Cut | None = None
    spec: Spec | None = None
    arrays: Mapping[str, Any] = field(default_factory=dict, repr=False)
    head: graph.AveragedHead | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Mapped:
    """The map of one photo as the method has it, and for which class, as probable as the classifier says."""

    label: RankedLabel
    raw: NDArray[np.float32]


def way(classifier: Classifier, asked: Method | None = None) -> Way:
    """Return how evidence is found by a method, or by the best that the network allows.

    May read the network's file. Raises `UsageError` for a method that its network does not allow, and where several
    answers are averaged.
    """
    if asked not in (None, "gradient", "activation", "occlusion"):
        raise UsageError(f"method {asked!r}: expected gradient, activation or occlusion.")
    classifier.only()
    path, spec, fp32 = classifier.network, classifier.model.spec, classifier.precision != "int8"
    if asked in (None, "gradient") and path is not None and spec is not None and spec.top and fp32:
        convolution = next(layer.name for layer in reversed(spec.layers) if layer.kind == "Conv2D")
        layers = (convolution, *[layer.name for layer in spec.layers if layer.kind == "Dense"][:-1])
        status = path.stat()
        arrays = _read_arrays(path, status.st_size, status.st_mtime_ns, spec)
        return Way(method="gradient", cut=engine.Cut(layers=layers), spec=spec, arrays=arrays)
    if asked in (None, "activation") and path is not None:
        status = path.stat()
        if (head := _read_head(path, status.st_size, status.st_mtime_ns)) is not None:
            return Way(method="activation", cut=engine.Cut(layers=(head.layer,)), head=head)
    if asked in (None, "occlusion"):
        return Way(method="occlusion")
    raise UsageError(
        f"method {asked}: {classifier.model.name} at {classifier.precision} does not allow it. Expected occlusion, or "
        "none, for the best that there is."
    )


def maps(
    classifier: Classifier,
    pixels: NDArray[np.uint8],
    way: Way,
    *,
    label: str | int | None,
    running: engine.Engine | None,
    inputs: int,
) -> Iterator[Mapped | None]:
    """Yield None after each piece of work, and at the end the map of a photo, whose pixels are uint8 (size, size, 3).

    `running` is the engine of the way's cut. A piece is a run of the network, of at most so many `inputs`. Raises
    `UsageError` for a label that is not the model's.
    """
    inner: list[NDArray[np.float32]] = []
    if way.cut is None:
        probabilities = classifier.run(pixels[np.newaxis].astype(np.float32))[0]
    else:
        assert running is not None
        found = running.run(pixels[np.newaxis].astype(np.float32))
        main, *_ = found
        probabilities, *inner = [found[name][0] for name in (main, *way.cut.layers)]
    wanted = _label(classifier, probabilities, label)
    if way.method == "gradient":
        assert way.spec is not None
        maps, *hidden = inner
        raw = grad_cam(maps, head_gradient(maps, hidden, way.arrays, way.spec, wanted.index))
    elif way.method == "activation":
        assert way.head is not None
        raw = activation_map(inner[0], way.head.weights, probabilities, wanted.index)
    else:
        lost = _Lost(pixels.astype(np.float32), wanted)
        for batch in lost.batches(inputs):
            yield None
            lost.take(batch, classifier.run(lost.views(batch)))
        raw = lost.map()
    yield Mapped(label=_as_said(classifier, probabilities, wanted), raw=raw)


# -- the label


def check_label(labels: Sequence[Label], wanted: str | int) -> None:
    """Raise `UsageError` for what is no class of these: no name, nor people's word for it, nor WordNet id or index."""
    _matching(labels, wanted)


def _label(classifier: Classifier, probabilities: NDArray[np.float32], wanted: str | int | None) -> RankedLabel:
    labels = classifier.model.labels
    ranked = [labels[i] for i in np.argsort(-probabilities, kind="stable")]
    found = ranked if wanted is None else _matching(ranked, wanted)  # of two the likelier
    return RankedLabel.of(found[0], probabilities)


def _matching(labels: Sequence[Label], wanted: str | int) -> list[Label]:
    """Those of the labels that are called so, in their order; at least one."""
    name = str(wanted)
    plain = _plain(name)
    found = [x for x in labels if name in (x.wnid, str(x.index))]
    found = found or [x for x in labels if _plain(x.name) == plain]
    found = found or [x for x in labels if _plain(everyday(x.wnid) or "") == plain]
    if not found:
        close = [x.name for x in labels if name.casefold() in x.name.casefold()][:5]
        raise UsageError(f"label {name!r}: not one of the model's.{' Close: ' + ', '.join(close) if close else ''}")
    return found


def _plain(name: str) -> str:
    return name.replace(" ", "_").casefold()


def _as_said(classifier: Classifier, probabilities: NDArray[np.float32], label: RankedLabel) -> RankedLabel:
    """The label with the probability that the classifier gives it, which may be calibrated."""
    if classifier.calibration is None:
        return label
    said = classifier.calibration.probabilities(probabilities)
    return replace(label, probability=float(said[label.index]))


# -- gradients


@functools.lru_cache(maxsize=2)
def _read_arrays(path: Path, size: int, changed: int, spec: Spec) -> Mapping[str, Any]:
    """Looked through once, not for each photo, while the file stays what it is; mapped, so they hold no memory."""
    return graph.arrays(path, spec)


def head_gradient(
    maps: NDArray[np.float32], hidden: list[NDArray[np.float32]], arrays: Mapping[str, Any], spec: Spec, index: int
) -> NDArray[np.float32]:
    """Return the gradient of a class's logit with respect to the last convolution of a VGG: float32 like `maps`.

    `maps` (H, W, C) is what the last convolution gives, after its ReLU, `hidden` what the dense layers before the last
    give, after theirs; `arrays` the weights by layer.
    """
    dense = [layer.name for layer in spec.layers if layer.kind == "Dense"]
    gradient = np.ascontiguousarray(arrays[dense[-1]][0][:, index])
    for name, active in zip(reversed(dense[:-1]), reversed(hidden), strict=True):
        gradient = np.asarray(arrays[name][0]) @ np.where(active > 0, gradient, 0)
    height, width, channels = maps.shape
    pooled = gradient.reshape(height // 2, width // 2, channels)
    # Of each 2 x 2 values the largest was taken: the first of equals, as Keras' backends do.
    windows = maps[: height // 2 * 2, : width // 2 * 2].reshape(height // 2, 2, width // 2, 2, channels)
    windows = windows.transpose(0, 2, 1, 3, 4).reshape(height // 2, width // 2, 4, channels)
    first = windows.argmax(axis=2)
    spread = np.where(np.arange(4)[:, np.newaxis] == first[:, :, np.newaxis], pooled[:, :, np.newaxis], 0)
    back = np.zeros_like(maps)
    back[: height // 2 * 2, : width // 2 * 2] = (
        spread.reshape(height // 2, width // 2, 2, 2, channels)
        .transpose(0, 2, 1, 3, 4)
        .reshape(height // 2 * 2, width // 2 * 2, channels)
    )
    return back.astype(np.float32)


def grad_cam(maps: NDArray[np.float32], gradient: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return Grad-CAM's map, float32 (H, W): the maps (H, W, C) weighed by their mean gradients; below 0 it is 0."""
    weighed: NDArray[np.float32] = np.maximum(maps @ gradient.mean(axis=(0, 1)), 0).astype(np.float32)
    return weighed


# -- averaged maps


@functools.lru_cache(maxsize=2)
def _read_head(path: Path, size: int, changed: int) -> graph.AveragedHead | None:
    """Parsed once, not for each photo, while the file stays what it is."""
    return graph.averaged_head(path)


def activation_map(
    maps: NDArray[np.float32], weights: NDArray[np.float32], probabilities: NDArray[np.float32], index: int
) -> NDArray[np.float32]:
    """Return the class activation map of a class beside its rivals, float32 (H, W); below 0 it is 0.

    `maps` (H, W, C) is what is averaged, `weights` (classes, C) the dense layer behind it, `probabilities` (classes,)
    what comes out. The maps are weighed by the gradient of log p/(1 - p), p being the class's probability: by its
    weights less the mean of all other classes', each as much as it is probable. The gradient of log p is the same but
    for its scale, and vanishes in rounding where p is almost 1.
    """
    rivals = probabilities.astype(np.float64)
    rivals[index] = 0
    shares = (rivals / (rivals.sum() or 1)).astype(np.float32)  # before the product: the weights are many
    beside = weights[index] - shares @ weights
    weighed: NDArray[np.float32] = np.maximum(maps @ beside, 0).astype(np.float32)
    return weighed


# -- occlusion


class _Lost:
    """How much of a probability goes where a patch of the input, float32 (size, size, 3), is greyed out."""

    def __init__(self, pixels: NDArray[np.float32], label: RankedLabel) -> None:
        size = len(pixels)
        self._pixels, self._label = pixels, label
        self._patch = max(1, size // _PATCH)
        self._grey = pixels.mean(axis=(0, 1))
        self._lost = np.zeros((size, size), np.float64)
        self._covered = np.zeros((size, size), np.float64)

    def batches(self, inputs: int) -> Iterator[list[tuple[int, int]]]:
        """The corners of all patches, top and left, so many at a time."""
        places = np.linspace(0, len(self._pixels) - self._patch, _STEPS).round().astype(int)
        corners = [(int(top), int(left)) for top in places for left in places]
        for start in range(0, len(corners), inputs):
            yield corners[start : start + inputs]

    def views(self, batch: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
        """The input with each of these patches greyed out: float32 (patches, size, size, 3)."""
        views = np.repeat(self._pixels[np.newaxis], len(batch), axis=0)
        for view, (top, left) in zip(views, batch, strict=True):
            view[top : top + self._patch, left : left + self._patch] = self._grey
        return views

    def take(self, batch: Sequence[tuple[int, int]], probabilities: NDArray[np.float32]) -> None:
        """Take in what the network says of these views: float32 (patches, classes)."""
        for (top, left), kept in zip(batch, probabilities[:, self._label.index], strict=True):
            rows, columns = slice(top, top + self._patch), slice(left, left + self._patch)
            self._lost[rows, columns] += self._label.probability - float(kept)
            self._covered[rows, columns] += 1

    def map(self) -> NDArray[np.float32]:
        """What was lost at each pixel, float32 (size, size); where the probability grew it is 0."""
        found: NDArray[np.float32] = np.maximum(self._lost / np.maximum(self._covered, 1), 0).astype(np.float32)
        return found
