"""A lesson -> what is said of it: text for a terminal, and plain values for JSON."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..confidence import share
from ..output import columns, printable
from ..page import percent, several
from .shown import everyone, kinds, pairs

if TYPE_CHECKING:
    from ..confidence import Share
    from .figures import Figures
    from .lesson import Lesson

HEADS = {"logistic": "logistic regression", "svm": "linear support vector machines"}

_WIDE = 0.2  # an interval wider than that proves little
_CLASSES = 20  # so many have a line each; of more there are the worst
_WORST = 10
_SHOWN = 5  # photos of each kind of doubt, and classes that need more photos


def record(lesson: Lesson) -> dict[str, Any]:
    """Return all that was found as plain values, ready for JSON; what is not a number, or not known, is None.

    A share is `{"count", "of", "share", "low", "high"}`, the last two its 95 % interval, 0..1. Names of photos and
    classes are as they are.

    - `file`: the network that was written; `labels`: its classes, in their order; `photos`: how many were learnt from,
      each content once; `from_cache`: how many had kept features; `earlier`: how many were taught before; `corrected`:
      which of these have another class now.
    - `backbone`: the frozen network: `model`, `network` (the hash of its file), `layer`, `recipe` with its views, and
      `precision`.
    - `head`: `kind`; `strength`, scikit-learn's C; `temperature`; `tried`, a list of `strength`, `loss` and `accuracy`
      of each strength that was tried.
    - `cross_validation`, None where no photo could be held out, and `validation`, None where no photos were given for
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
        "cross_validation": None
        if not lesson.fitted.folds
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


def text(lesson: Lesson, *, report: Path | None = None) -> str:
    """Return what a terminal says of a lesson, as lines without control characters; `report` is where its page lies."""
    parts = [
        _made(lesson),
        _accuracies(lesson),
        list(cautions(lesson)),
        _classes(lesson),
        _needs(lesson),
        _doubts(lesson),
        _onwards(lesson, report),
    ]
    return "\n\n".join("\n".join(map(printable, lines)) for lines in parts if lines)


def how(lesson: Lesson) -> str:
    """Return what was fitted to which numbers."""
    head, origin = lesson.fitted.head, lesson.origin
    return (
        f"{HEADS[head.kind]} of strength {head.strength:.3g} on layer {origin.layer} of {origin.name} "
        f"({origin.recipe}, {origin.precision})"
    )


def cautions(lesson: Lesson) -> Iterator[str]:
    """Yield sentences on how little the figures prove."""
    found = judged_by(lesson)
    if not lesson.fitted.folds:
        yield "No photo could be held out: no class has two that differ, so nothing was chosen by how well it works."
    elif lesson.figures.unjudged:
        yield (
            f"{several(lesson.figures.unjudged, 'photo')} could not be judged: without them none of their class is "
            "left to learn from."
        )
    if found is None:
        yield "Nothing says how often it is right. Give photos to judge by (--validation), or more of each class."
        return
    if found.accuracy.high - found.accuracy.low > _WIDE:
        yield (
            f"{several(found.accuracy.of, 'photo proves', 'photos prove')} little: of others it may name anything "
            f"from {percent(found.accuracy.low)} to {percent(found.accuracy.high)} rightly."
        )
        return
    of_class = int(np.median([each.recall.of for each in found.classes if each.recall.of]))
    least = share(of_class, of_class).low
    if 1 - least > _WIDE:
        yield (
            f"Of a single class they say little: even where all {several(of_class, 'photo')} judged are named rightly, "
            f"its recall may be no more than {percent(least)}."
        )


def judged_by(lesson: Lesson) -> Figures | None:
    """Return what says the most of the head: photos held out in turn, else those for validation, else nothing."""
    if lesson.figures.accuracy.of:
        return lesson.figures
    return lesson.validation.figures if lesson.validation is not None else None


def worst(found: Figures) -> list[int]:
    """Return the classes of which photos were judged, the lowest recall first, of equals that of more photos."""
    there = [i for i, each in enumerate(found.classes) if each.recall.of]
    return sorted(there, key=lambda i: (found.classes[i].recall.value, -found.classes[i].recall.of, i))


Curve: TypeAlias = Any  # of `points` and `needs`


def curve(lesson: Lesson) -> Curve | None:
    """Return how accuracy grows with the number of photos, where that is known."""
    return getattr(lesson, "curve", None)


def wanted(photos: int | None) -> str:
    """Return in words how many photos a class would need, of `Need.wanted`."""
    return "more photos would hardly help" if photos is None else f"about {several(photos, 'photo')}"


# -- JSON


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
            {"class": labels[truth], "said": labels[said], "count": count} for truth, said, count in confusions(found)
        ],
    }


def confusions(found: Figures) -> list[tuple[int, int, int]]:
    """Return what was taken for what how often, (true class, said, count), the commonest first."""
    truth, said = np.nonzero(found.confusion)
    off = truth != said
    truth, said = truth[off], said[off]
    counts = found.confusion[truth, said]
    order = np.argsort(-counts, kind="stable")
    return [*zip(truth[order].tolist(), said[order].tolist(), counts[order].tolist(), strict=True)]


def _curve(lesson: Lesson) -> dict[str, Any] | None:
    found = curve(lesson)
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


# -- text


def _made(lesson: Lesson) -> list[str]:
    before = f", {lesson.earlier:,} of them taught before" if lesson.earlier else ""
    photos, classes = several(len(lesson.photos), "photo"), several(len(lesson.labels), "class", "classes")
    lines = [f"{lesson.out}: {classes}, taught with {photos}{before}", how(lesson)]
    if lesson.corrected:
        lines.append(f"{several(len(lesson.corrected), 'photo has', 'photos have')} another class now")
    return lines


def _accuracies(lesson: Lesson) -> list[str]:
    rows = [("", "right", "95 % interval", "photos")]
    for name, found in (
        ("cross-validation", lesson.figures),
        ("validation", None if lesson.validation is None else lesson.validation.figures),
    ):
        if found is not None and found.accuracy.of:
            of = found.accuracy
            rows.append((name, percent(of.value), _interval(of), f"{of.count:,} of {of.of:,}"))
    lines = columns(rows).splitlines() if len(rows) > 1 else []
    known = lesson.familiar.photos  # else there is no line below which a photo is strange
    if lesson.validation is not None and (strange := lesson.validation.strange).of and known:
        lines.append(
            f"{strange.count:,} of {several(strange.of, 'validation photo')} ({percent(strange.value)}) would be said "
            "to show none of the classes"
        )
    return lines


def _classes(lesson: Lesson) -> list[str]:
    found = judged_by(lesson)
    if found is None:
        return []
    order = worst(found)
    shown = order if len(order) <= _CLASSES else order[:_WORST]
    rows = [("class", "photos", "recall", "", "precision", "")]
    for i in shown:
        of = found.classes[i]
        learnt = lesson.figures.classes[i].photos
        rows.append((lesson.labels[i], f"{learnt:,}", *_counted(of.recall), *_counted(of.precision)))
    lines = columns(rows).splitlines()
    if more := len(order) - len(shown):
        least = percent(found.classes[order[len(shown)]].recall.value)
        lines.append(f"and {more:,} more, with a recall of {least} or above")
    return lines


def _needs(lesson: Lesson) -> list[str]:
    found = curve(lesson)
    if found is None or not found.needs:
        return []
    rows = [
        (
            f"  {lesson.labels[each.index]}",
            f"{several(each.photos, 'photo')} now",
            wanted(each.wanted),
        )
        for each in found.needs[:_SHOWN]
    ]
    head = f"{several(len(found.needs), 'class needs', 'classes need')} more photos; to halve the errors it takes"
    return [f"{head}:", *columns(rows).splitlines(), *_more(len(found.needs))]


def _doubts(lesson: Lesson) -> list[str]:
    labels, lines = lesson.labels, []
    if lesson.mislabelled:
        lines.append(f"{several(len(lesson.mislabelled), 'photo is', 'photos are')} likely mislabelled:")
        lines += [
            f"  {lesson.photos.names[each.photo]}: said to be {labels[each.truth]}, likelier {labels[each.said]}"
            for each in lesson.mislabelled[:_SHOWN]
        ]
        lines += _more(len(lesson.mislabelled))
    contradictory, across, others = kinds(lesson.repeated)
    if contradictory:
        lines.append(
            f"{several(len(contradictory), 'photo is', 'photos are')} there in several classes, and not learnt from or "
            "not judged by:"
        )
        for each in contradictory[:_SHOWN]:
            named = [f"{photo} ({name})" for photo, name in zip(each.photos, each.classes, strict=True)]
            lines.append(f"  {' = '.join(named[:3])}{f' = {len(named) - 3} more' if len(named) > 3 else ''}")
        lines += _more(len(contradictory))
    if across:
        lines.append(f"{several(len(across), 'photo is', 'photos are')} there to learn from too, and not judged by")
    if others:
        lines.append(f"{several(len(others), 'photo is', 'photos are')} there more than once, and used once")
    if lesson.alike:
        of_two = sum(each.contradictory for each in lesson.alike)
        apart = sum(each.across for each in lesson.alike)
        lines.append(
            f"{pairs(lesson)} of photos look alike"
            + (f", {of_two:,} of them in two classes" if of_two else "")
            + (f", {apart:,} across training and validation" if apart else "")
        )
    if lesson.failures:
        lines.append(f"{several(len(lesson.failures), 'photo')} could not be read")
    return lines


def _onwards(lesson: Lesson, report: Path | None) -> list[str]:
    file = shlex.quote(str(lesson.out))
    lines = [f"to name photos: photolabel --model {file} photo.jpg"]
    if lesson.mislabelled or any(each.contradictory for each in lesson.repeated):
        lines.append(
            f"to correct classes: photolabel teach --add {file} --labels corrections.csv, with lines of path,label"
        )
    lines.append(
        f"report: {report / 'index.html'}" if report is not None else "to see it all, with the photos: --report DIR"
    )
    return lines


def _counted(found: Share) -> tuple[str, str]:
    return percent(found.value) if found.of else "-", f"{found.count:,}/{found.of:,}"


def _interval(found: Share) -> str:
    return f"{percent(found.low)} to {percent(found.high)}"


def _more(count: int) -> list[str]:
    return [f"  and {count - _SHOWN:,} more"] if count > _SHOWN else []
