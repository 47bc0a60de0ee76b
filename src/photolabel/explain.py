"""Where in a photo the evidence for a name is: a map over it, and the box round the most of it.

Three ways, none of which needs a framework that trains:

- "gradient", for VGG: Grad-CAM (Selvaraju et al., ICCV 2017) on the last convolution. The gradient goes through three
  dense layers and a pooling, so it is written down in NumPy, exactly.
- "activation", for networks that average their last map and end in one dense layer: class activation maps (Zhou et al.,
  CVPR 2016), of the class beside its rivals: a map of the log-odds, not of the logit. Softmax sees only differences of
  logits, so what speaks for all classes alike, or for a likely rival as much, is no evidence (Wang and Wang, "Why Not
  Other Classes?", NeurIPS 2022).
- "occlusion", for all others, and to check the first two by: how much of the probability goes when a patch of the input
  is greyed out (Zeiler and Fergus, ECCV 2014). It runs the network some 170 times.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import engine, graph, images, progress
from .classifier import BATCH, Classifier, RankedLabel
from .draw import scene
from .draw.evidence import evidence
from .errors import UsageError
from .images import Photo
from .output import printable
from .prepared import prepare
from .spec import Spec
from .tree import everyday

Method = Literal["gradient", "activation", "occlusion"]

_PATCH, _STEPS = 5, 13  # a patch is a fifth of the input wide; places for it along each side
_THRESHOLD = 0.4  # of the map's greatest value: what is above belongs to the evidence
_SHOWN = 840  # pixels of the longer side of a picture that is drawn
_HOW: dict[Method, str] = {
    "gradient": "by the gradients of the last convolution",
    "activation": "by the last map that the network averages",
    "occlusion": "by what is lost where it is covered",
}
_FINE = 8  # times finer than the map is the box found


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Where in one photo the evidence for `label` is.

    `map` is float32 (size, size), 0..1, over the network's input; 1 is where most of the evidence is, and all zeros
    says that there is none. `box` is round the largest part of it: left, top, right, bottom in pixels of `photo`, the
    photo upright; None where the map is empty. `cut` is what of the photo the network saw, likewise. `raw` is the map
    as the method has it, of the method's own size and unit.
    """

    photo: Image.Image
    label: RankedLabel
    method: Method
    map: NDArray[np.float32]
    raw: NDArray[np.float32]
    cut: tuple[float, float, float, float]
    box: tuple[float, float, float, float] | None

    def over_photo(self, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """Return the map over the whole photo, float32 (height, width) 0..1; zero where the network saw nothing.

        `size` is another width and height for the photo.
        """
        width, height = size or self.photo.size
        x, y = width / self.photo.width, height / self.photo.height
        left, top, right, bottom = (round(edge * by) for edge, by in zip(self.cut, (x, y, x, y), strict=True))
        whole = np.zeros((height, width), np.float32)
        if right > left and bottom > top:
            small = Image.fromarray(self.map).resize((right - left, bottom - top), Image.Resampling.BICUBIC)
            whole[top:bottom, left:right] = np.clip(np.asarray(small), 0, 1)[: height - top, : width - left]
        return whole

    def save(self, path: str | Path, *, name: str = "the photo") -> None:
        """Draw the map over the photo, with the box and a legend, into the PNG or SVG at `path`.

        A file that is there is replaced, once the new one is whole. Raises UsageError for another ending, OutputError
        where it cannot be written.
        """
        scale = min(1.0, _SHOWN / max(self.photo.size))
        size = (max(1, round(self.photo.width * scale)), max(1, round(self.photo.height * scale)))
        said = f"{self.label.name.replace('_', ' ')} ({self.label.probability:.2%})"
        page = evidence(
            printable(name), printable(said), _HOW[self.method], self.photo, self.over_photo(size), self.box
        )
        scene.save(page, Path(path))


def explain(
    classifier: Classifier, photo: Photo, *, label: str | int | None = None, method: Method | None = None
) -> Evidence:
    """Return where in a photo the evidence for a class is.

    `label` is the class: its name, or people's word for it, its WordNet id or its index; by default the likeliest.
    `method` is by default the best that the network allows. Raises `UsageError` for a label that is not the model's or
    a method that its network does not allow, and the `PhotoError` of a photo that cannot be read.
    """
    if hasattr(photo, "read"):  # which gives its bytes once only
        photo = images.content(photo, classifier.limits)
    recipe = classifier.recipe.plain
    made = prepare(photo, recipe, limits=classifier.limits)
    if made.error is not None:
        raise made.error
    assert made.pixels is not None
    pixels = made.pixels.astype(np.float32)
    used, layers = _method(classifier, method)
    places: tuple[float, float] | None = None
    probabilities, *inner = _outputs(classifier, pixels, layers)
    wanted = _label(classifier, probabilities, label)
    if used == "gradient":
        raw = _gradient_map(classifier, inner, wanted.index)
    elif used == "activation":
        head = _averaged_head(classifier)
        assert head is not None
        places = head.places
        raw = activation_map(inner[0], head.weights, probabilities, wanted.index)
    else:
        raw = _occlusion_map(classifier, pixels, wanted)
    whole = images.read(photo, limits=classifier.limits)
    cut = images.cut(whole.size, recipe)
    frame = _frame(raw, recipe.size, places)
    return Evidence(
        photo=whole,
        label=_as_said(classifier, probabilities, wanted),
        method=used,
        map=_scaled(raw, recipe.size, frame),
        raw=raw,
        cut=cut,
        box=_in_photo(_box(raw, frame), raw.shape, cut),
    )


def _label(classifier: Classifier, probabilities: NDArray[np.float32], wanted: str | int | None) -> RankedLabel:
    labels = classifier.model.labels
    ranked = [labels[i] for i in np.argsort(-probabilities, kind="stable")]
    found = ranked
    if wanted is not None:
        name = str(wanted)
        plain = _plain(name)
        found = [x for x in ranked if name in (x.wnid, str(x.index))]
        found = found or [x for x in ranked if _plain(x.name) == plain]  # of two the likelier
        found = found or [x for x in ranked if _plain(everyday(x.wnid) or "") == plain]
    if not found:
        close = [x.name for x in ranked if name.casefold() in x.name.casefold()][:5]
        raise UsageError(f"label {name!r}: not one of the model's.{' Close: ' + ', '.join(close) if close else ''}")
    best = found[0]
    return RankedLabel.of(best, probabilities)


def _plain(name: str) -> str:
    return name.replace(" ", "_").casefold()


def _as_said(classifier: Classifier, probabilities: NDArray[np.float32], label: RankedLabel) -> RankedLabel:
    """The label with the probability that the classifier gives it, which may be calibrated."""
    if classifier.calibration is None:
        return label
    said = classifier.calibration.probabilities(probabilities)
    return replace(label, probability=float(said[label.index]))


def _method(classifier: Classifier, asked: Method | None) -> tuple[Method, tuple[str, ...]]:
    """The method to be used, and the inner layers that it needs."""
    if asked not in (None, "gradient", "activation", "occlusion"):
        raise UsageError(f"method {asked!r}: expected gradient, activation or occlusion.")
    spec, fp32 = classifier.model.spec, classifier.precision != "int8"
    if asked in (None, "gradient") and spec is not None and spec.top and fp32:
        convolution = next(layer.name for layer in reversed(spec.layers) if layer.kind == "Conv2D")
        return "gradient", (convolution, *[layer.name for layer in spec.layers if layer.kind == "Dense"][:-1])
    if asked in (None, "activation") and (head := _averaged_head(classifier)) is not None:
        return "activation", (head.layer,)
    if asked in (None, "occlusion"):
        return "occlusion", ()
    raise UsageError(
        f"method {asked}: {classifier.model.name} at {classifier.precision} does not allow it. Expected occlusion, or "
        "none, for the best that there is."
    )


def _outputs(classifier: Classifier, pixels: NDArray[np.float32], layers: tuple[str, ...]) -> list[NDArray[np.float32]]:
    """The probabilities of one photo, and what these layers make of it; in one run."""
    if not layers:
        return [classifier.run(pixels[np.newaxis])[0]]
    found = classifier.part(engine.Cut(layers=layers)).run(pixels[np.newaxis])
    main, *_ = found
    return [found[name][0] for name in (main, *layers)]


# -- gradients


def _gradient_map(classifier: Classifier, inner: list[NDArray[np.float32]], index: int) -> NDArray[np.float32]:
    spec, path = classifier.model.spec, classifier.network
    assert spec is not None and path is not None
    maps, *hidden = inner
    status = path.stat()
    arrays = _read_arrays(path, status.st_size, status.st_mtime_ns, spec)
    return grad_cam(maps, head_gradient(maps, hidden, arrays, spec, index))


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


def _averaged_head(classifier: Classifier) -> graph.AveragedHead | None:
    if classifier.network is None:
        return None
    status = classifier.network.stat()
    return _read_head(classifier.network, status.st_size, status.st_mtime_ns)


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


def _occlusion_map(classifier: Classifier, pixels: NDArray[np.float32], label: RankedLabel) -> NDArray[np.float32]:
    size = len(pixels)
    patch = max(1, size // _PATCH)
    places = np.linspace(0, size - patch, _STEPS).round().astype(int)
    grey = pixels.mean(axis=(0, 1))
    lost = np.zeros((size, size), np.float64)
    covered = np.zeros((size, size), np.float64)
    corners = [(top, left) for top in places for left in places]
    with progress.bar("covering", total=len(corners), unit="place") as tick:
        for start in range(0, len(corners), BATCH):
            batch = corners[start : start + BATCH]
            views = np.repeat(pixels[np.newaxis], len(batch), axis=0)
            for view, (top, left) in zip(views, batch, strict=True):
                view[top : top + patch, left : left + patch] = grey
            for (top, left), kept in zip(batch, classifier.run(views)[:, label.index], strict=True):
                lost[top : top + patch, left : left + patch] += label.probability - float(kept)
                covered[top : top + patch, left : left + patch] += 1
            tick(min(start + BATCH, len(corners)), len(corners))
    found: NDArray[np.float32] = np.maximum(lost / np.maximum(covered, 1), 0).astype(np.float32)
    return found


# -- from the map to the photo


_Frame = tuple[float, float, float, float]  # what of a map lies over the input, in the map's own units


def _frame(raw: NDArray[np.float32], size: int, places: tuple[float, float] | None) -> _Frame | None:
    """The frame of a map whose places are known; None where it is taken to lie evenly over the input, all of it.

    Places count where all are in the input, and no part of it is further than a step beyond them.
    """
    if places is None:
        return None
    step, first = places
    last = first + step * (max(raw.shape) - 1)
    near, far = 0.5 - first / step, 0.5 + (size - first) / step
    fits = first >= 0 and last <= size and near >= -1 and far <= min(raw.shape) + 1
    return (near, near, far, far) if fits else None


def _grown(raw: NDArray[np.float32], width: int, height: int, frame: _Frame | None) -> NDArray[np.float32]:
    """A map at another size, of which 1 is the greatest value that it had; the map must have one above 0."""
    part = raw / float(raw.max())
    if frame is None:
        return np.asarray(Image.fromarray(part).resize((width, height), Image.Resampling.BICUBIC))
    wider = Image.fromarray(np.pad(part, 1, mode="edge"))
    left, top, right, bottom = (edge + 1 for edge in frame)
    return np.asarray(wider.resize((width, height), Image.Resampling.BICUBIC, box=(left, top, right, bottom)))


def _scaled(raw: NDArray[np.float32], size: int, frame: _Frame | None) -> NDArray[np.float32]:
    if float(raw.max()) <= 0:
        return np.zeros((size, size), np.float32)
    scaled: NDArray[np.float32] = np.clip(_grown(raw, size, size, frame), 0, 1).astype(np.float32)
    return scaled


def _box(raw: NDArray[np.float32], frame: _Frame | None) -> tuple[float, float, float, float] | None:
    """The box round the part of a map that holds the most of its energy, as if the frame were spread over the map."""
    if float(raw.max()) <= 0:
        return None
    scale = _FINE if max(raw.shape) < 64 else 1
    grown = _grown(raw, raw.shape[1] * scale, raw.shape[0] * scale, frame)
    above = grown >= _THRESHOLD
    best: tuple[float, tuple[float, float, float, float]] | None = None
    left_over = above.copy()
    while left_over.any():
        part = _connected(left_over, *np.unravel_index(int(left_over.argmax()), left_over.shape))
        left_over &= ~part
        rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
        box = (columns[0] / scale, rows[0] / scale, (columns[-1] + 1) / scale, (rows[-1] + 1) / scale)
        energy = float(grown[part].sum())
        if best is None or energy > best[0]:
            best = energy, box
    return best and best[1]


def _connected(above: NDArray[np.bool_], row: Any, column: Any) -> NDArray[np.bool_]:
    """All that hangs together with one place: it grows by its neighbours until it does not."""
    part = np.zeros_like(above)
    part[row, column] = True
    while True:
        grown = part.copy()
        grown[1:] |= part[:-1]
        grown[:-1] |= part[1:]
        grown[:, 1:] |= part[:, :-1]
        grown[:, :-1] |= part[:, 1:]
        grown &= above
        if (grown == part).all():
            return part
        part = grown


def _in_photo(
    box: tuple[float, float, float, float] | None, shape: tuple[int, ...], cut: tuple[float, float, float, float]
) -> tuple[float, float, float, float] | None:
    if box is None:
        return None
    x, y = (cut[2] - cut[0]) / shape[1], (cut[3] - cut[1]) / shape[0]
    return cut[0] + box[0] * x, cut[1] + box[1] * y, cut[0] + box[2] * x, cut[1] + box[3] * y
