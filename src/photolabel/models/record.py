"""A model as a record, and as what an ONNX file says of itself: from one to the other, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from .. import metadata
from ..errors import InvalidModelError, UsageError
from ..images import Recipe
from ..labels import Label
from ..spec import Spec
from ..store import Asset

FORMAT = "1"  # of the metadata below; a file of another format is refused by name


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """What a graph's first nodes do to RGB pixels in 0-255: reorder, subtract `mean`, divide by `deviation`.

    `mean` and `deviation` are in the channel order `order`, on the scale 0-255.
    """

    order: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)


# Keras' mode 'caffe': ImageNet's mean colour, no scaling (keras/applications/imagenet_utils.py).
CAFFE = Normalisation(order="BGR", mean=(103.939, 116.779, 123.68))

# torchvision's: RGB in 0-1 less (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225) (torchvision/transforms/_presets.py);
# on the scale 0-255 and blue first, for `weights` turns every first kernel to that order.
TORCHVISION = Normalisation(
    order="BGR",
    mean=(0.406 * 255, 0.456 * 255, 0.485 * 255),
    deviation=(0.225 * 255, 0.224 * 255, 0.229 * 255),
)


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Published accuracy on ImageNet's validation photos, in per cent, and where it is published."""

    top1: float
    top5: float | None
    source: str


@dataclass(frozen=True, kw_only=True)
class Model:
    """A classifier as a record: what it is called, what goes in and comes out, and where it comes from.

    `recipes` are the ways to make its input, the default first; `labels` name its outputs in order. A model
    that photolabel builds itself has a `spec` and its `normalisation`; one of the known ones has its published
    `weights`, one that is an ONNX file already has its `path`, and one that a weights file describes neither.
    """

    name: str
    recipes: tuple[Recipe, ...]
    labels: tuple[Label, ...]
    source: str
    licence: str
    accuracy: Accuracy | None = None
    spec: Spec | None = None
    normalisation: Normalisation | None = None
    weights: Asset | None = None
    path: Path | None = None

    def recipe(self, name: str | None = None) -> Recipe:
        """Return the recipe of that name, or the default one. Raises `UsageError` where there is none."""
        if name is None:
            return self.recipes[0]
        for recipe in self.recipes:
            if recipe.name == name:
                return recipe
        raise UsageError(f"{self.name} has no recipe {name!r}. It has: {', '.join(r.name for r in self.recipes)}.")

    def describe(self) -> dict[str, str]:
        """Return the metadata that an ONNX file of this model carries; `read` turns them into a Model again."""
        described = {
            "format": FORMAT,
            "name": self.name,
            "recipes": _compact([recipe.to_dict() for recipe in self.recipes]),
            "labels": _compact([[label.wnid, label.name] for label in self.labels]),
            "source": self.source,
            "licence": self.licence,
        }
        if self.accuracy:
            described["accuracy"] = _compact(vars(self.accuracy))
        if self.spec and self.normalisation:
            described["spec"] = _compact(self.spec.to_dict())
            described["normalisation"] = _compact(asdict(self.normalisation))
        return {f"photolabel.{key}": value for key, value in described.items()}


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def read(path: Path) -> Model:
    """Return the model that the ONNX file at `path` describes in its own metadata.

    Everything in it is checked: the file may be a stranger's. Raises `InvalidModelError`.
    """
    found = said(path)
    if "photolabel.format" not in found:
        raise InvalidModelError(
            f"{path}: expected an ONNX file of photolabel's format {FORMAT}; this one says nothing of itself. For a "
            "classifier of your own, say what its classes and its input are: --labels FILE --recipe NAME."
        )
    try:
        return replace(parse(found), path=path)
    except InvalidModelError as error:
        raise InvalidModelError(f"{path}: {error}") from None


def parse(found: Mapping[str, str]) -> Model:
    """Return the model that the metadata of a file describe, as `Model.describe` made them.

    Everything in them is checked: the file may be a stranger's. Raises `InvalidModelError`.
    """
    form = found.get("photolabel.format")
    if form != FORMAT:
        came = "says nothing of itself" if form is None else f"is of format {form[:20]!r}"
        raise InvalidModelError(f"expected a file of photolabel's format {FORMAT}; this one {came}.")
    try:
        recipes = tuple(Recipe.from_dict(recipe) for recipe in json.loads(found["photolabel.recipes"]))
        labels = tuple(_label(i, pair) for i, pair in enumerate(json.loads(found["photolabel.labels"])))
        accuracy = _accuracy(json.loads(found["photolabel.accuracy"])) if "photolabel.accuracy" in found else None
        spec, normalisation = network(found) or (None, None)
        name, source, licence = (found[f"photolabel.{key}"] for key in ("name", "source", "licence"))
    except (KeyError, ValueError, TypeError, RecursionError):
        raise InvalidModelError("its description (photolabel.* metadata) is broken.") from None
    if not recipes or len(labels) < 2:
        raise InvalidModelError(f"its description holds {len(recipes)} recipes and {len(labels)} labels.")
    return Model(
        name=name,
        recipes=recipes,
        labels=labels,
        source=source,
        licence=licence,
        accuracy=accuracy,
        spec=spec,
        normalisation=normalisation,
    )


def network(found: Mapping[str, str]) -> tuple[Spec, Normalisation] | None:
    """Return the architecture and the normalisation that the metadata of a file tell, None where they tell neither.

    Raises `InvalidModelError` for what makes no sense: the file may be a stranger's.
    """
    if "photolabel.spec" not in found:
        return None
    try:
        told = json.loads(found["photolabel.spec"]), json.loads(found["photolabel.normalisation"])
        return Spec.from_dict(told[0]), _normalisation(told[1])
    except (KeyError, ValueError, TypeError, RecursionError):
        raise InvalidModelError("its description (photolabel.* metadata) is broken.") from None


def said(path: Path) -> dict[str, str]:
    """Return all that the ONNX file at `path` says of itself. Raises `InvalidModelError`."""
    try:
        return metadata.read(path)
    except OSError as error:
        raise InvalidModelError(f"{path}: cannot be read: {error.strerror}.") from None
    except InvalidModelError as error:
        raise InvalidModelError(f"{path}: {error}") from None


def _normalisation(value: object) -> Normalisation:
    match value:
        case {"order": "RGB" | "BGR" as order, "mean": [*mean], "deviation": [*deviation], **rest} if not rest and all(
            isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < 1e6 for x in (*mean, *deviation)
        ):
            first, second, third = mean
            a, b, c = deviation
            if min(a, b, c) > 0:
                return Normalisation(order=order, mean=(first, second, third), deviation=(a, b, c))
    raise ValueError("expected order, mean and deviation")


def _label(index: int, pair: object) -> Label:
    match pair:
        case [str() | None as wnid, str() as name]:
            return Label(index, wnid, name)
    raise ValueError("expected [wnid or null, name]")


def _accuracy(value: object) -> Accuracy:
    match value:
        case {
            "top1": int() | float() as top1,
            "top5": int() | float() | None as top5,
            "source": str() as source,
        } if all(0 <= each <= 100 and each is not True for each in (top1, top5 or 0)):  # NaN is refused too
            return Accuracy(top1=top1, top5=top5, source=source)
    raise ValueError("expected top1, top5 and source")
