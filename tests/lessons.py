"""Lessons made from arrays, without a network."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photolabel import models
from photolabel.confidence import share
from photolabel.errors import CorruptPhotoError
from photolabel.models import Model
from photolabel.recipes import CROP
from photolabel.taught import Origin
from photolabel.teaching import doubts, familiar, figures
from photolabel.teaching.curve import Curve, Need, Point
from photolabel.teaching.epochs import Epoch
from photolabel.teaching.features import Failure
from photolabel.teaching.folds import NEVER, deal
from photolabel.teaching.heads import Fitted, Head, Tried, softmax
from photolabel.teaching.lesson import Lesson, Photos, Repeated, Validation
from photolabel.teaching.tuning import Tuned

FEATURES = 24
ORIGIN = Origin(name="some-network", network=f"sha256:{'0' * 64}", layer="pool", recipe=CROP, precision="fp32")


def photos(truth: Sequence[int] | NDArray[np.intp], *, name: str = "{}.jpg", first: int = 0) -> Photos:
    names = tuple(name.format(first + i) for i in range(len(truth)))
    digests = tuple(hashlib.sha256(each.encode("utf-8", "surrogateescape")).digest() for each in names)
    return Photos(names=names, truth=np.asarray(truth, np.intp), digests=digests)


def model(labels: Sequence[str]) -> Model:
    return models.Model(name="taught", recipes=(CROP,), labels=(), source="a test", licence="none")


def lesson(
    counts: Sequence[int] = (20, 20),
    *,
    labels: Sequence[str] | None = None,
    held: Sequence[int] | None = None,
    noise: float = 1.0,
    swapped: Sequence[int] = (),
    copied: Sequence[tuple[int, int]] = (),
    name: str = "{}.jpg",
    seed: int = 0,
    **changed: Any,
) -> Lesson:
    """A lesson of Gaussian classes: `counts` photos of each to learn from and `held` for validation.

    Photos `swapped` are said to be of the next class; `copied` are pairs of photos, those to learn from before the
    others, of which the second looks like the first. `name` is a pattern of photos' names.
    """
    rng = np.random.default_rng(seed)
    classes = len(counts)
    labels = labels or [f"class {i}" for i in range(classes)]
    held = held or [0] * classes
    shown = np.concatenate([np.repeat(np.arange(classes), counts), np.repeat(np.arange(classes), held)])
    means = rng.normal(size=(classes, FEATURES))
    features = (means[shown] + noise * rng.normal(size=(len(shown), FEATURES))).astype(np.float32)
    for one, other in copied:
        features[other] = features[one] + 1e-3
    truth = shown.copy()
    truth[list(swapped)] = (truth[list(swapped)] + 1) % classes
    learnt, others = photos(truth[: sum(counts)], name=name), photos(truth[sum(counts) :], name=name, first=sum(counts))
    here = features[: len(learnt)]
    fold = deal(learnt.truth, np.arange(len(learnt)), most=10, seed=seed)
    folds = int(fold.max(initial=NEVER)) + 1
    logits = (2 / FEATURES) * (features @ means.T - 0.5 * (means**2).sum(axis=1)) * 4
    probabilities = softmax(logits).astype(np.float32)
    judged = fold != NEVER
    mine = probabilities[: len(learnt)].copy()
    mine[~judged] = np.nan
    fitted = Fitted(
        head=Head(
            weights=means.T.astype(np.float32), bias=np.zeros(classes, np.float32), kind="logistic", strength=1.0
        ),
        probabilities=mine,
        judged=judged,
        fold=fold,
        folds=folds,
        temperature=1.25,
        tried=tuple(Tried(strength=10.0**i, loss=0.2 + 0.1 * abs(i), accuracy=0.9) for i in (-1, 0, 1))
        if folds
        else (),
    )
    known = familiar.learn(here, learnt.truth, fold, classes=classes)
    validation = None
    if len(others):
        given = probabilities[len(learnt) :]
        strange = known.scores(features[len(learnt) :]) < known.floor
        validation = Validation(
            photos=others,
            probabilities=given,
            figures=figures.figures(given, others.truth),
            strange=share(int(strange.sum()), len(others)),
        )
    values: dict[str, Any] = {
        "out": Path("taught.onnx"),
        "model": model(labels),
        "origin": ORIGIN,
        "labels": tuple(labels),
        "photos": learnt,
        "fitted": fitted,
        "figures": figures.figures(mine, learnt.truth, judged),
        "familiar": known,
        "curve": None,
        "validation": validation,
        "mislabelled": doubts.mislabelled(mine, learnt.truth, judged),
        "alike": doubts.near(features, truth, learnt=np.arange(len(truth)) < len(learnt)) if copied else (),
        "repeated": (),
        "failures": (),
        "from_cache": 0,
    }
    return Lesson(**(values | changed))


def grown(found: Lesson, *needs: tuple[int, int | None]) -> Lesson:
    """The lesson with a learning curve: classes that need more photos, and how many."""
    made = Curve(
        points=tuple(Point(photos=2.5 * 2**i, accuracy=share(80 + 5 * i, 100)) for i in range(4)),
        needs=tuple(Need(index=i, photos=12, recall=found.figures.classes[i].recall, wanted=many) for i, many in needs),
    )
    return replace(found, curve=made)


def tuned(found: Lesson, *, best: int = 2, given: bool = False) -> Lesson:
    """The lesson as if fine-tuned; judged by some of its photos, or by those that were `given` for validation."""
    epochs = tuple(
        Epoch(
            number=i,
            most=30,
            loss=0.5 / i if i else None,
            accuracy=0.9 if i else None,
            held_loss=0.3 + 0.1 * abs(i - best),
            held_accuracy=0.95,
            best=i <= best,
        )
        for i in range(4)
    )
    held = np.zeros(len(found.photos), bool)
    if not given:
        held[::5] = True
    made = Tuned(blocks=1, learning_rate=1e-4, epochs=epochs, best=best, held=held)
    if not best:
        return replace(found, tuned=made)
    none = np.zeros(len(found.photos), bool)
    validation = found.validation
    if not given:
        photos, probabilities = found.photos.some(held), found.fitted.probabilities[held]
        validation = Validation(
            photos=photos,
            probabilities=probabilities,
            figures=figures.figures(probabilities, photos.truth),
            strange=share(1, len(photos)),
        )
    judged = figures.figures(found.fitted.probabilities, found.photos.truth, none)
    return replace(found, tuned=made, validation=validation, figures=judged)


def same(*classes: str, across: bool = False, name: str = "{}.jpg") -> Repeated:
    return Repeated(photos=tuple(name.format(i) for i in range(len(classes))), classes=classes, across=across)


REPEATED = (same("a", "b"), same("a", "b", across=True), same("a", "a", across=True), same("b", "b"))
FAILURES = (Failure(photo="bad.jpg", name="a", error=CorruptPhotoError("it is cut short")),)
ALL: dict[str, Any] = {
    "counts": (60, 50),
    "held": (9, 12),
    "labels": ["a", "b"],
    "noise": 2.0,
    "swapped": (3, 70, 90),
    "copied": ((1, 2), (5, 115)),
    "repeated": REPEATED,
    "failures": FAILURES,
    "earlier": 7,
    "corrected": ("1.jpg",),
    "from_cache": 5,
    "remarks": ("What was kept was damaged.",),
}
