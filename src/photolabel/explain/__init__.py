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

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import engine, images, progress
from ..classifier import BATCH, Classifier, RankedLabel
from ..draw import scene
from ..draw.evidence import evidence
from ..images import Photo
from ..output import printable
from ..prepared import Prepared, prepare
from . import places
from .methods import COVERINGS, Mapped, Method, Way, activation_map, check_label, grad_cam, head_gradient, maps, way
from .places import Box

__all__ = [
    "Evidence",
    "Found",
    "Mapped",
    "Method",
    "Way",
    "activation_map",
    "check_label",
    "explain",
    "grad_cam",
    "head_gradient",
    "located",
    "pieces",
    "way",
]

_SHOWN = 840  # pixels of the longer side of a picture that is drawn
_HOW: dict[Method, str] = {
    "gradient": "by the gradients of the last convolution",
    "activation": "by the last map that the network averages",
    "occlusion": "by what is lost where it is covered",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Where in one photo the evidence for `label` is.

    `map` is float32 (size, size), 0..1, over the network's input; 1 is where most of the evidence is, and all zeros
    says that there is none. `box` is round the largest part of it: left, top, right, bottom in pixels of the photo
    upright, whose width and height are `size`; None where the map is empty. `cut` is what of the photo the network
    saw, likewise. `raw` is the map as the method has it, of the method's own size and unit.
    """

    label: RankedLabel
    method: Method
    map: NDArray[np.float32]
    raw: NDArray[np.float32]
    size: tuple[int, int]
    cut: Box
    box: Box | None

    def over_photo(self, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """Return the map over the whole photo, float32 (height, width) 0..1; zero where the network saw nothing.

        `size` is another width and height for the photo.
        """
        width, height = size or self.size
        x, y = width / self.size[0], height / self.size[1]
        left, top, right, bottom = (round(edge * by) for edge, by in zip(self.cut, (x, y, x, y), strict=True))
        whole = np.zeros((height, width), np.float32)
        if right > left and bottom > top:
            small = Image.fromarray(self.map).resize((right - left, bottom - top), Image.Resampling.BICUBIC)
            whole[top:bottom, left:right] = np.clip(np.asarray(small), 0, 1)[: height - top, : width - left]
        return whole


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence(Found):
    """The same, with the `photo` itself, upright."""

    photo: Image.Image

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
    used = way(classifier, method)
    if hasattr(photo, "read"):  # which gives its bytes once only
        photo = images.content(photo, classifier.limits)
    made = prepare(photo, classifier.recipe, limits=classifier.limits)
    running = None if used.cut is None else classifier.part(used.cut)
    work = pieces(classifier, made, used, label=label, running=running)
    if used.method == "occlusion":
        with progress.bar("covering", total=COVERINGS, unit="place") as tick:
            mapped = _last(work, lambda number: tick(min(number * BATCH, COVERINGS), COVERINGS))
    else:
        mapped = _last(work, lambda number: None)
    whole = images.read(photo, limits=classifier.limits)
    return Evidence(photo=whole, **vars(located(classifier, mapped, used, whole.size)))


def _last(work: Iterator[Mapped | None], tick: Callable[[int], None]) -> Mapped:
    """What comes of the work; `tick` is told after each piece how many there were before."""
    for number in itertools.count():
        if (mapped := next(work)) is not None:
            return mapped
        tick(number)
    raise AssertionError


def pieces(
    classifier: Classifier,
    made: Prepared,
    used: Way,
    *,
    label: str | int | None = None,
    running: engine.Engine | None = None,
    inputs: int = BATCH,
) -> Iterator[Mapped | None]:
    """Do what the network is needed for in an explanation, piece by piece: None after each, and the map at the end.

    `made` is the photo by the classifier's recipe, `used` its `way`, and `running` the engine of that way's cut, where
    it has one. A piece is one run of the network, of at most so many `inputs`: between two of them it is free for
    others. Raises, with the first piece, the photo's own error, and `UsageError` for a label that is not the model's.
    """
    if made.error is not None:
        raise made.error
    assert made.pixels is not None
    yield from maps(classifier, made.pixels, used, label=label, running=running, inputs=inputs)


def located(classifier: Classifier, mapped: Mapped, used: Way, size: tuple[int, int]) -> Found:
    """Return where in a photo, upright of this width and height, a map lies; the network is not needed for it."""
    recipe, raw = classifier.recipe, mapped.raw
    cut = images.cut(size, recipe)
    frame = places.frame(raw, recipe.size, None if used.head is None else used.head.places)
    return Found(
        label=mapped.label,
        method=used.method,
        map=places.scaled(raw, recipe.size, frame),
        raw=raw,
        size=size,
        cut=cut,
        box=places.in_photo(places.box(raw, frame), raw.shape, cut),
    )
