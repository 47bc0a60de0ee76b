"""Names and files -> a Classifier, ready to run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import artefacts, calibration, foreign, images, metadata, models, taught
from . import engine as engines
from .classifier import DEFAULT_TOP, Classifier
from .errors import UsageError
from .member import Member, Network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .models import Model
    from .prediction import Prediction

_MOST_MEMBERS = 8


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | None = None,
    recipe: str | os.PathLike[str] | None = None,
    views: str | None = None,
    scales: Sequence[int] | Callable[[int], Sequence[int]] = (),
    precision: str = "fp32",
    threads: int | None = None,
    engine: str = "openvino",
    limits: images.Limits = images.DEFAULT_LIMITS,
    calibrated: bool = True,
) -> Classifier:
    """Return a classifier: a model by name (`"vgg16"`) or the path of an ONNX file, ready to run.

    Several models joined by +, as in `"vgg16+vgg19"`, are averaged: their classes must be the same.

    Without `model`, the one that PHOTOLABEL_MODEL names, else VGG16 where its weights are on this machine, else the
    bundled one. A named model whose weights are missing is downloaded (553 MB for VGG16), with a progress bar on a
    terminal. `weights` is a file to use instead of the published weights, in any format that `photolabel.weights`
    reads; without `model` it says itself whether it is VGG16 or VGG19, and torchvision's or Oxford's, and a safetensors
    file that `photolabel.export` wrote says all of itself. `recipe` is the way to make the input (`"crop"`, `"keras"`,
    ...), by default the model's own. An ONNX file that photolabel did not make needs `labels`, a file of its classes or
    the word `"imagenet"`, and as `recipe` one of `photolabel.conventions` (`"torchvision"`, ...) or a JSON file of that
    form. `precision` is `"fp32"`, `"bf16"` where the processor has it, or `"int8"`: weights of a quarter of the size,
    faster, and probabilities that differ a little (`photolabel models verify NAME --precision int8 PHOTO ...` says by
    how much). `threads` is how many processors to use, by default all. `engine` is what runs the network: `"openvino"`,
    or `"onnxruntime"`, an extra, which runs it on a GPU where the installed package can. Raises a `ModelError` or
    `StoreError` where there is no model to be had, `MissingExtraError` where the engine is not installed, and
    `UsageError` for a wrong argument.

    `views` has the network look at each photo several times, and averages: `"mirror"`, `"ten-crop"`, `"multi-crop"`,
    `"dense"`, or two of them joined by +; `scales` are the sides in pixels that the photo's shorter side is scaled to
    for that (`images.Recipe`), or a function from the size of the network's input to them. `calibrated` has the
    probabilities corrected by what `photolabel calibrate` learnt of exactly these networks, recipes and precision,
    where it did.
    """
    return _load(
        _Asked(
            model=model,
            weights=weights,
            labels=labels,
            recipe=recipe,
            views=views,
            scales=_sides(scales),
            precision=precision,
            threads=threads,
            engine=engine,
            limits=limits,
            calibrated=calibrated,
        )
    )


def find(
    model: str | os.PathLike[str] | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | None = None,
    recipe: str | os.PathLike[str] | None = None,
    precision: str = "fp32",
    threads: int | None = None,
    engine: str = "openvino",
) -> tuple[Model, Network, images.Recipe]:
    """Return what `load` would open, and not open it: one model, its network, and how it looks at photos.

    Arguments and errors are those of `load`.
    """
    asked = _Asked(
        model=model,
        weights=weights,
        labels=labels,
        recipe=recipe,
        precision=precision,
        threads=threads,
        engine=engine,
    )
    check_one(model)
    described, network, looked, _ = _found(asked)
    return described, network, looked


def again(
    model: str | os.PathLike[str] | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | None = None,
    recipe: str | os.PathLike[str] | None = None,
) -> dict[str, str | os.PathLike[str] | None]:
    """Return arguments of `find` by which another process finds the same, whatever its folder and its settings.

    Arguments and errors are those of `find`.
    """
    asked = _Asked(model=model, weights=weights, labels=labels, recipe=recipe)
    name = _found(asked)[3]
    return {
        "model": _anywhere(name),
        "weights": _anywhere(weights),
        "labels": _anywhere(labels),
        "recipe": _anywhere(recipe),
    }


def classify(photo: images.Photo, *, top: int | None = DEFAULT_TOP, model: str | None = None) -> Prediction:
    """Name what is in one photo: `load`, `classify` and `close` in one, for a first look or a short script.

    Loading takes far longer than looking: for more than one photo, `load` a classifier and keep it.
    """
    with load(model) as classifier:
        return classifier.classify(photo, top=top)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The arguments of `load`, by which another process loads the same again."""

    model: str | os.PathLike[str] | None
    weights: str | os.PathLike[str] | None
    labels: str | os.PathLike[str] | None
    recipe: str | os.PathLike[str] | None
    views: str | None = None
    scales: tuple[int, ...] | Callable[[int], Sequence[int]] = ()
    precision: str = "fp32"
    threads: int | None = None
    engine: str = "openvino"
    limits: images.Limits = images.DEFAULT_LIMITS
    calibrated: bool = False


def _sides(scales: object) -> tuple[int, ...] | Callable[[int], Sequence[int]]:
    if callable(scales):
        return scales
    if isinstance(scales, str | bytes) or not isinstance(scales, Iterable):
        raise UsageError(f"scales={scales!r}: expected several sides in pixels, as in scales=(256, 384).")
    return tuple(scales)


def _load(asked: _Asked) -> Classifier:
    names = _several(asked.model)
    if asked.views is not None and not isinstance(asked.views, str):
        raise UsageError(f"views={asked.views!r}: expected a word, as in views='ten-crop', or two joined by +.")
    ways = ["one"] if asked.views is None else asked.views.split("+")
    found = [_found(replace(asked, model=name)) for name in names] if names else [_found(asked)]
    if len(found) * len(ways) > _MOST_MEMBERS:
        raise UsageError(f"expected at most {_MOST_MEMBERS} models times views, got {len(found) * len(ways)}.")
    members: list[Member] = []
    try:
        for described, network, recipe, _ in found:
            scales = tuple(asked.scales(recipe.size)) if callable(asked.scales) else asked.scales
            for way in ways:
                looked = replace(recipe, views=way, scales=scales)  # type: ignore[arg-type]  # it is checked
                cut = engines.Cut(dense=True) if way == "dense" else engines.WHOLE
                floor = _taught_floor(network, looked, described)
                members.append(Member(described, network.open(cut), looked, network, floor=floor))
        asks = asked.calibrated and calibration.any_kept()
        learnt = calibration.kept([member.identity for member in members]) if asks else None
        # By the names that were found: a setting may be another one where, or when, it is unpickled. And with as many
        # threads: by those the last bits differ.
        again = replace(
            asked,
            model="+".join(str(_anywhere(name)) for name in names) if names else _anywhere(found[0][3]),
            weights=_anywhere(asked.weights),
            labels=_anywhere(asked.labels),
            recipe=_anywhere(asked.recipe),
            threads=asked.threads or engines.available_threads(),
        )
        return Classifier.of(
            members, limits=asked.limits, calibration=learnt, floor=_floor(members), reload=(_load, (again,))
        )
    except BaseException:
        for member in members:
            member.close()
        raise


def _anywhere(name: str | os.PathLike[str] | None) -> str | os.PathLike[str] | None:
    """The name of a file as a process finds it whatever its current folder; any other name as it is."""
    if name is None or not os.path.lexists(name):
        return name
    found = os.path.abspath(name)  # noqa: PTH100  # not resolved: the link may lead elsewhere there
    return found if isinstance(name, str) else Path(found)


def _floor(members: Sequence[Member]) -> float | None:
    """The familiarity that photos of its classes have, where it has been measured: of the bundled model."""
    (only, *others) = members
    if others or only.model.name != models.BUNDLED:
        return None
    known = models.known()[models.BUNDLED]
    if only.recipe != known.recipe():
        return None
    # By all that it says of itself, for another network's file may have the same name.
    return calibration.OF_BUNDLED if replace(only.model, path=None) == replace(known, path=None) else None


def _taught_floor(network: Network, recipe: images.Recipe, model: Model) -> float | None:
    """The familiarity that photos of the classes have of a network that was taught them, by the way it was taught."""
    told = taught.read(network.path)
    return told.floor if told is not None and recipe.plain == model.recipe().plain else None


def check_one(model: str | os.PathLike[str] | None) -> None:
    """Raise `UsageError` where `model`, or for None the setting that answers then, is several."""
    if names := _several(model):
        raise UsageError(f"{'+'.join(names)}: expected one model, not several.")


def _several(model: str | os.PathLike[str] | None) -> list[str]:
    """The names of several models; none where it is one."""
    name = os.environ.get("PHOTOLABEL_MODEL") if model is None else model
    if not isinstance(name, str) or "+" not in name or os.path.lexists(name):
        return []
    return name.split("+")


def _found(asked: _Asked) -> tuple[Model, Network, images.Recipe, str | Path | None]:
    """One model, its network, how it looks at photos, and what to call it when it is loaded again."""
    if asked.labels is not None:
        return _foreign(asked, asked.labels)
    if asked.recipe is not None and not isinstance(asked.recipe, str):
        raise UsageError(
            f"recipe={os.fspath(asked.recipe)!r}: a file of a recipe goes with labels, for a network of your own."
        )
    weights = None if asked.weights is None else Path(asked.weights)
    pinned = os.environ.get("PHOTOLABEL_MODEL")
    if asked.model is not None:
        known = models.resolve(asked.model)  # type: ignore[arg-type]
    elif weights is not None:
        known = models.described(weights) or (models.resolve(pinned) if pinned else models.fitting(weights))
    else:
        known = artefacts.default()
    known.recipe(asked.recipe)  # a wrong name should not wait for a download
    path = artefacts.locate(known, weights_file=weights)
    described = models.read(path) if known.path is None else known
    network = _network(described, path, asked)
    # By what it turned out to be: the default may be another model where, or when, it is unpickled.
    # A file may call itself anything. Neither name nor path: the weights say what they are.
    name = known.name if known == models.known().get(known.name) else known.path
    return described, network, described.recipe(asked.recipe), name


def _foreign(asked: _Asked, labels: str | os.PathLike[str]) -> tuple[Model, Network, images.Recipe, str | Path | None]:
    """The classifier in a user's ONNX file that does not describe itself."""
    model = asked.model or os.environ.get("PHOTOLABEL_MODEL")
    if asked.weights is not None or not model:
        raise UsageError(
            "labels are for an ONNX file of your own, which has its weights: "
            "--model FILE.onnx --labels FILE --recipe NAME."
        )
    network = foreign.describe(model, labels_file=labels, recipe=asked.recipe)
    path = foreign.adapted(network)
    described = models.read(path)
    return described, _network(described, path, asked), described.recipe(), network.path


def _network(described: Model, path: Path, asked: _Asked) -> Network:
    """The network of `described` at `path`, quantized first where that was asked for."""
    if asked.precision == "int8" and metadata.read(path).get("photolabel.precision") != "int8":
        path = artefacts.quantized(described, path)
    return Network(path=path, precision=asked.precision, threads=asked.threads, runtime=asked.engine)
