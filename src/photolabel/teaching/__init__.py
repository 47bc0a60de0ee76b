"""Classes of a user's own: a linear head on a network's features, and what is to be doubted of it and its photos."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import batch, writing
from ..cluster import Cluster
from ..engine import available_threads
from ..errors import UsageError
from ..images import DEFAULT_LIMITS, Limits
from . import adding, backbone, checkpoint, elsewhere, examples, lesson, saving, solving, tuning
from .brought import from_keras
from .lesson import FEW, UNWATCHED, Lesson, Step

if TYPE_CHECKING:
    from ..recipes import Views
    from ..sources import Item
    from .solving import Kind

__all__ = ["Lesson", "Step", "from_keras", "teach"]

_TABLES = (".csv", ".tsv", ".txt")


def teach(
    photos: str | os.PathLike[str] | Iterable[str | os.PathLike[str] | Item] = (),
    out: str | os.PathLike[str] | None = None,
    *,
    labels: str | os.PathLike[str] | None = None,
    validation: str | os.PathLike[str] | None = None,
    add: str | os.PathLike[str] | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    model: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    classes: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    recipe: str | None = None,
    views: Views | None = None,
    precision: str | None = None,
    threads: int | None = None,
    engine: str = "openvino",
    head: Kind | None = None,
    strength: float | None = None,
    fine_tune: int | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    resume: bool = False,
    seed: int = 0,
    workers: int | None = None,
    seconds: float = batch.SECONDS,
    limits: Limits = DEFAULT_LIMITS,
    ray: str | bool | None = None,
    step: Step = UNWATCHED,
) -> Lesson:
    """Teach a network classes of your own: photos in a folder a class -> the ONNX file `out`, which names them.

    `photos` are folders or archives with a folder a class, or any photos with `labels`, a table (CSV) of path,label; a
    table alone says which photos there are. `include` and `exclude` are globs. `validation` is a folder or a table of
    photos of the same classes to judge by; without it, and beside it, photos are held out in turn (stratified
    cross-validation). With `add`, the file of a network that was taught before, what is given is taught to that one as
    well: new photos, new classes, or other classes for photos that it knows. `out` may then be left out: it is
    replaced.

    `model`, `weights`, `recipe`, `precision`, `threads` and `engine` choose the frozen network as in `photolabel.load`
    (whose `labels` are `classes` here), and `layer` where in it features are read, by default before its classes.
    `views` are how often each photo is looked at to learn from it: `"one"`, `"mirror"`, ...; by default its mirror
    image too where there are fewer than 20 photos a class. With `add` all of this is in the file and need not be given
    again, nor may it be another.

    `head` is `"logistic"` (default) or `"svm"`, with `add` by default what it was; `strength` is its C, by default
    chosen by cross-validation. The same photos and `seed` give the same file.

    `fine_tune` is how many of the last convolutional blocks of a VGG are trained together with the head, through Keras:
    for at most `epochs`, by default 30, at a `learning_rate` of 1e-4 if none is given. The photos of `validation`, else
    one in five that is held out, say when to stop, and whether the frozen head is better left alone. What was trained
    is kept after each epoch; `resume` goes on with it. `views` are then `"ten-crop"` by default where the recipe crops.

    Photos are decoded by `workers` processes within `seconds` and `limits`; `step` is called while it lasts. With `ray`
    what the network makes of them is computed on a Ray cluster, as by `classify_folder`, to the same bits where
    `threads` are the same; all else is done here. Returns what was found: how good it is, and what is to be doubted.
    Raises TruthError for photos that do not show at least two classes, UsageError for arguments that do not go
    together, `MissingExtraError` without scikit-learn or, to fine-tune, Keras, `OutputError` where `out` cannot be
    written, ClusterError where the cluster cannot be used, and what `photolabel.load` raises.
    """
    listed = [photos] if isinstance(photos, str | os.PathLike) else list(photos)
    if out is None and add is None:
        raise UsageError("expected a file to write, as in teach('training', 'pets.onnx').")
    written = Path(out if out is not None else add or "")
    writing.check(written)
    with solving.one_thread():  # what is needed for it is there
        pass
    tune = _tuning(fine_tune, epochs, learning_rate, resume, added=add is not None, kind=head or "logistic")
    if tune is not None:
        if ray:
            raise UsageError(
                "fine_tune: what it trains on is computed on the machine that trains. Leave ray (--ray) out."
            )
        checkpoint.check(written, resume=resume)
    earlier = None if add is None else adding.earlier(Path(add))
    found = examples.find(
        listed, table=labels, include=include, exclude=exclude, limits=limits, before=_photos_before(earlier)
    )
    there = found.survey(alone=earlier is None)
    held = None if validation is None else _validation(validation, limits, {*there.classes, *_before(earlier)})
    held_there = None if held is None else held.survey()
    if earlier is not None and model is None and weights is None and classes is None:
        made = earlier.backbone(threads=threads, engine=engine)
        again: Callable[[], backbone.Backbone]
        again = partial(elsewhere.added, earlier.path.absolute(), threads or available_threads(), engine)
        adding.check_options(earlier, layer=layer, recipe=recipe, views=views, precision=precision)
    else:
        if earlier is not None:
            origin = earlier.taught.origin
            layer, recipe = layer or origin.layer, recipe or origin.recipe.name
            views, precision = views or origin.recipe.views, precision or origin.precision
        made = backbone.find(
            model,
            weights=weights,
            classes=classes,
            layer=layer,
            recipe=recipe,
            views=views or ("mirror" if np.median([*there.counts.values()]) < FEW else "one"),
            precision=precision or "fp32",
            threads=threads,
            engine=engine,
        )
        if ray:
            again = backbone.again(
                made,
                model,
                weights=weights,
                classes=classes,
                recipe=recipe,
                precision=precision or "fp32",
                threads=threads,
                engine=engine,
            )
    if earlier is not None:
        adding.check_backbone(earlier.taught.origin, made)
    if tune is not None:
        made = tuning.base(made, layer=layer, blocks=tune.blocks)
        if views is None:
            most: Views = "mirror" if made.recipe.fit == "squash" else "ten-crop"
            made = replace(made, recipe=replace(made.recipe, views=most))
    saving.check(written, made)
    with ExitStack() as stack:
        tuner = None
        if tune is not None:
            tuner = stack.enter_context(tuning.Tuner(tune, made, written, seed=seed))
        place = batch.workplace(workers, seconds=seconds, stack=stack, ray=ray)
        work = elsewhere.Elsewhere(cluster=place, find=again) if isinstance(place, Cluster) else place
        step.counted(there, held_there)
        return lesson.teach(
            found,
            made,
            written,
            work,
            most=there.photos,
            validation=held or (),
            most_validation=0 if held_there is None else held_there.photos,
            earlier=earlier,
            tuner=tuner,
            kind=head or _kind(earlier),
            strength=strength,
            seed=seed,
            limits=limits,
            step=step,
        )


def _kind(earlier: adding.Earlier | None) -> Kind:
    return "svm" if earlier is not None and earlier.taught.kind == "svm" else "logistic"


def _tuning(
    blocks: int | None, epochs: int | None, learning_rate: float | None, resume: bool, *, added: bool, kind: str
) -> tuning.Options | None:
    """What is asked of fine-tuning, None without. Raises UsageError for what does not go together."""
    if blocks is None:
        for name, value in (("epochs", epochs), ("learning_rate", learning_rate), ("resume", resume or None)):
            if value is not None:
                raise UsageError(
                    f"{name}: goes with fine_tune (--fine-tune). Without it nothing is trained in epochs, and features "
                    "that are kept are not computed again anyway."
                )
        return None
    if added:
        raise UsageError("fine_tune: what is fine-tuned is not added to. Teach anew, with all photos.")
    if kind != "logistic":
        raise UsageError(f"head {kind}: what is fine-tuned ends in a softmax. Expected logistic.")
    return tuning.Options(
        blocks=blocks,
        epochs=tuning.EPOCHS if epochs is None else epochs,
        learning_rate=tuning.LEARNING_RATE if learning_rate is None else learning_rate,
        resume=resume,
    )


def _before(earlier: adding.Earlier | None) -> tuple[str, ...]:
    return () if earlier is None else earlier.labels


def _photos_before(earlier: adding.Earlier | None) -> tuple[str, ...]:
    return () if earlier is None else tuple(each.name for each in earlier.examples)


def _validation(given: str | os.PathLike[str], limits: Limits, classes: set[str]) -> examples.Examples:
    path = Path(given)
    if path.suffix.lower() in _TABLES:
        return examples.find(table=path, limits=limits, classes=classes)
    return examples.find([path], limits=limits, classes=classes)
