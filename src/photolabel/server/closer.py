"""A closer look at one photo: where the evidence for a name is, what the network saw, and what a layer makes of it.

The photo is decoded by a worker, like any other; what the network does, it does in its own thread, some runs at a time,
so that photos which wait to be named have their turns in between; the rest is done beside both.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from .. import explain, look
from ..errors import UsageError
from ..member import features, features_cut
from .admission import Admission
from .batching import Asked, Batcher
from .parts import Parts
from .problems import UNAVAILABLE, RefusedError, refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..classifier import Classifier
    from ..explain import Mapped, Method, Way
    from ..explain.places import Box
    from ..images import Recipe
    from ..prediction import Prediction
    from ..prepared import Prepared
    from .forms import Upload

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Why:
    """Which evidence is asked for, as `explain.explain` takes it."""

    label: str | None = None
    method: Method | None = None


@dataclass(frozen=True, kw_only=True)
class Closer:
    """The way of such photos through one classifier.

    `most` is how many inputs a run of the network may have, `coverings` how many explanations there may be at once that
    take it many runs. Whatever is done raises `RefusedError` where the service is ending, and the photo's own error.
    """

    classifier: Classifier
    batcher: Batcher
    parts: Parts
    coverings: Admission
    most: int

    async def check(self, why: Why) -> None:
        """Raise what is wrong with a request for evidence, before its photo is read: `UsageError`, `RefusedError`."""
        if why.label is not None:
            try:
                explain.check_label(self.classifier.model.labels, why.label)
            except UsageError:  # which says again what came
                raise refused(
                    "usage",
                    "label: expected a class of the model: its name, or people's word for it, its WordNet id or its "
                    "index. They are listed at /v1/labels.",
                ) from None
        if (await self.parts.way(why.method)).method == "occlusion":
            self.coverings.check()

    async def explain(self, upload: Upload, asked: Asked, why: Why) -> tuple[Prediction, dict[str, Any]]:
        """Return what is in a photo, and where the evidence for it is, as plain values: `explain.explain`'s."""
        way = await self.parts.way(why.method)
        many = way.method == "occlusion"
        with self.coverings.admitted(1) if many else nullcontext():
            running = None if way.cut is None else await self.parts.cut(way.cut)
            made = await self._prepared(upload)
            (prediction,) = await self._run(
                lambda each: each.predict([made], top=asked.top, sure=asked.sure, coverage=asked.coverage)
            )
            pieces = explain.pieces(self.classifier, made, way, label=why.label, running=running, inputs=self.most)
            mapped = None
            async with self.parts.turn if many else nullcontext():  # so names wait for one run of one of them at most
                while mapped is None:
                    mapped = await self._run(lambda _: next(pieces))
        return prediction, await asyncio.to_thread(self._evidence, mapped, way, made)

    def _evidence(self, mapped: Mapped, way: Way, made: Prepared) -> dict[str, Any]:
        found = explain.located(self.classifier, mapped, way, _upright(made))
        return {
            "label": dict(vars(found.label)),
            "method": found.method,
            "size": list(found.size),
            "cut": _edges(found.cut),
            "box": None if found.box is None else _edges(found.box),
            "map": _png((found.map * 255).round().astype(np.uint8)),
        }

    async def look(self, upload: Upload) -> dict[str, Any]:
        """Return what the network gets of a photo, as plain values: `look.look`'s."""
        recipe = self.classifier.recipe.plain
        made = await self._prepared(upload, recipe)
        seen = await asyncio.to_thread(_seen, made, recipe)
        return {"photo": made.photo, "model": self.classifier.model.name, "recipe": str(recipe), **seen}

    async def embed(self, upload: Upload, layer: str) -> dict[str, Any]:
        """Return what a layer makes of a photo, as plain values: `Classifier.features`'s."""
        running = await self.parts.cut(features_cut(layer))
        made = await self._prepared(upload)
        assert made.pixels is not None
        pixels = made.pixels
        (found,) = await self._run(lambda _: features(running, [pixels]))
        return {
            "photo": made.photo,
            "model": self.classifier.model.name,
            "layer": layer,
            "shape": list(found.shape),
            "features": found.ravel().tolist(),
        }

    async def _prepared(self, upload: Upload, *recipes: Recipe) -> Prepared:
        made = await self.batcher.prepare(upload.data, upload.name, *recipes)
        if made.error is not None:
            raise made.error
        return made

    async def _run(self, work: Callable[[Classifier], _T]) -> _T:
        try:
            return await self.batcher.run(work)
        except UsageError:  # what was asked has been checked, so it is closed: the service is ending
            raise RefusedError(UNAVAILABLE) from None


def _seen(made: Prepared, recipe: Recipe) -> dict[str, Any]:
    assert made.decoding is not None
    seen = look.seen(made, recipe, _upright(made))
    return {
        "facts": seen.facts(),
        "warnings": list(seen.warnings),
        "orientation": made.decoding.orientation,
        "size": list(seen.size),
        "cut": _edges(seen.cut),
        "input": _png(seen.pixels),
    }


def _upright(made: Prepared) -> tuple[int, int]:
    assert made.decoding is not None  # it came as a file, and is sound
    return made.decoding.upright


def _edges(box: Box) -> list[float]:
    return [float(edge) for edge in box]


def _png(pixels: NDArray[np.uint8]) -> str:
    """Pixels, uint8 (height, width) or (height, width, 3), as a PNG of our own in base64."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
