"""A lesson as plain values, for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .shown import everyone

if TYPE_CHECKING:
    from .figures import Figures
    from .lesson import Lesson
    from .tuning import Tuned


def record(lesson: Lesson) -> dict[str, Any]:
    """Return all that was found as plain values, ready for JSON; what is not a number, or not known, is None.

    A share is `{"count", "of", "share", "low", "high"}`, the last two its 95 % interval, 0..1. Names of photos and
    classes are as they are.

    - `file`: the network that was written; `labels`: its classes, in their order; `photos`: how many were learnt from,
      each content once; `from_cache`: how many had kept features; `earlier`: how many were taught before; `corrected`:
      which of these have another class now.
    - `backbone`: the frozen network: `model`, `network` (the hash of what computes `layer`), `layer`, `recipe` with its
      views, and `precision`.
    - `head`: `kind`; `strength`, scikit-learn's C; `temperature`; `tried`, a list of `strength`, `loss` and `accuracy`
      of each strength that was tried.
    - `fine_tuning`, None without: `blocks`, how many of the last ones were trained, `learning_rate`, `best`, the epoch
      that was kept, 0 where that is the frozen head, `held_out`, how many of the photos that took, and `epochs`, a list
      of `number`, `loss` and `accuracy` while learning, None for the frozen head, `held_loss` and `held_accuracy`.
    - `cross_validation`, None where no photo was judged by it, and `validation`, None where no photos were given for
      it: `accuracy`, a share; `mean_recall`; `calibration_error`; `unjudged`, how many photos could not be judged;
      `classes`, a list of `class`, `photos`, `recall` and `precision`, both shares; `confusions`, a list of `class`,
      `said` and `count`, the commonest first. `cross_validation` has its `folds`, and `validation` has
      `none_of_the_classes`, the share of its photos that would be said to show none of the classes.
    - `learning_curve`, None where it cannot be told: `points`, a list of `photos` (a class) and `accuracy`, a share;
      `needs`, a list of `class`, `photos`, `recall` and `wanted`, about how many photos would halve its errors, None
      where more would not help.
    - `mislabelled`: a list of `photo`, `class`, the likelier class `likelier`, and by how much it is likelier,
      `margin`, the likeliest mistakes first.
    - `near_duplicates`: pairs of photos that look alike, the most alike first: `photos` and `classes`, both two,
      `bits`, how many of 255 bits of their fingerprints differ, None where one has none, `likeness`, the cosine of
      their features, -1..1, `contradictory`, whether they are of two classes, and `across`, whether one is learnt from
      and the other judged by. `duplicates`: the same content under several names, likewise, without the two numbers.
    - `uniform`: the classes most of whose photos look alike, which are held out one by one all the same.
    - `unreadable`: a list of `photo`, `class`, and `error`: its `code` and `message`.
    - `remarks`: what was amiss with features that were kept.
    """
    labels, head, origin = lesson.labels, lesson.fitted.head, lesson.origin
    names, truth = everyone(lesson)
    judgement = lesson.validation
    return {
        "file": str(lesson.out),
        "labels": list(labels),
        "photos": len(lesson.photos),
        "from_cache": lesson.from_cache,
        "earlier": lesson.earlier,
        "corrected": list(lesson.corrected),
        "backbone": {
            "model": origin.name,
            "network": origin.network,
            "layer": origin.layer,
            "recipe": str(origin.recipe),
            "precision": origin.precision,
        },
        "head": {
            "kind": head.kind,
            "strength": head.strength,
            "temperature": lesson.fitted.temperature,
            "tried": [
                {"strength": each.strength, "loss": each.loss, "accuracy": each.accuracy}
                for each in lesson.fitted.tried
            ],
        },
        "fine_tuning": None if lesson.tuned is None else _tuned(lesson.tuned),
        "cross_validation": None
        if not lesson.figures.accuracy.of
        else {"folds": lesson.fitted.folds, **_figures(lesson.figures, labels)},
        "validation": None
        if judgement is None
        else {**_figures(judgement.figures, labels), "none_of_the_classes": judgement.strange.record()},
        "learning_curve": _curve(lesson),
        "mislabelled": [
            {
                "photo": names[each.photo],
                "class": labels[each.truth],
                "likelier": labels[each.said],
                "margin": each.margin,
            }
            for each in lesson.mislabelled
        ],
        "near_duplicates": [
            {
                "photos": [names[each.one], names[each.other]],
                "classes": [labels[truth[each.one]], labels[truth[each.other]]],
                "bits": each.bits,
                "likeness": each.likeness,
                "contradictory": each.contradictory,
                "across": each.across,
            }
            for each in lesson.alike
        ],
        "duplicates": [
            {
                "photos": list(each.photos),
                "classes": list(each.classes),
                "contradictory": each.contradictory,
                "across": each.across,
            }
            for each in lesson.repeated
        ],
        "uniform": [labels[i] for i in lesson.uniform],
        "unreadable": [
            {
                "photo": each.photo,
                "class": each.name,
                "error": {"code": each.error.code, "message": str(each.error)},
            }
            for each in lesson.failures
        ],
        "remarks": list(lesson.remarks),
    }


def _figures(found: Figures, labels: Sequence[str]) -> dict[str, Any]:
    return {
        "accuracy": found.accuracy.record(),
        "mean_recall": _number(found.mean_recall),
        "calibration_error": _number(found.bins.ece),
        "unjudged": found.unjudged,
        "classes": [
            {
                "class": name,
                "photos": each.photos,
                "recall": each.recall.record(),
                "precision": each.precision.record(),
            }
            for name, each in zip(labels, found.classes, strict=True)
        ],
        "confusions": [
            {"class": labels[truth], "said": labels[said], "count": count} for truth, said, count in found.confusions()
        ],
    }


def _curve(lesson: Lesson) -> dict[str, Any] | None:
    found = lesson.curve
    if found is None:
        return None
    return {
        "points": [{"photos": each.photos, "accuracy": each.accuracy.record()} for each in found.points],
        "needs": [
            {
                "class": lesson.labels[each.index],
                "photos": each.photos,
                "recall": each.recall.record(),
                "wanted": each.wanted,
            }
            for each in found.needs
        ],
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _tuned(tuned: Tuned) -> dict[str, Any]:
    return {
        "blocks": tuned.blocks,
        "learning_rate": tuned.learning_rate,
        "best": tuned.best,
        "held_out": int(tuned.held.sum()),
        "epochs": [
            {
                "number": each.number,
                "loss": each.loss,
                "accuracy": each.accuracy,
                "held_loss": each.held_loss,
                "held_accuracy": each.held_accuracy,
            }
            for each in tuned.epochs
        ],
    }
