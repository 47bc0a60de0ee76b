"""A lesson -> what is said of it: text for a terminal, and plain values for JSON; and words that its page uses too."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..confidence import share
from ..output import columns, printable
from ..page import percent, several
from .plain import record
from .shown import kinds, pairs

if TYPE_CHECKING:
    from ..confidence import Share
    from .figures import Figures
    from .lesson import Lesson

__all__ = ["HEADS", "cautions", "how", "judged_by", "record", "text", "unseen", "wanted", "worst"]

HEADS = {"logistic": "logistic regression", "svm": "linear support vector machines"}

_WIDE = 0.2  # an interval wider than that proves little
_CLASSES = 20  # so many have a line each; of more there are the worst
_WORST = 10
_SHOWN = 5  # photos of each kind of doubt, and classes that need more photos


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
    head, origin, tuned = lesson.fitted.head, lesson.origin, lesson.tuned
    where = f"on layer {origin.layer} of {origin.name} ({origin.recipe}, {origin.precision})"
    if tuned is not None and tuned.best:
        blocks = "block" if tuned.blocks == 1 else f"{tuned.blocks} blocks"
        return f"the last {blocks} and a head, fine-tuned in {several(tuned.best, 'epoch')}, {where}"
    return f"{HEADS[head.kind]} of strength {head.strength:.3g} {where}"


def cautions(lesson: Lesson) -> Iterator[str]:
    """Yield sentences on how little the figures prove."""
    found, tuned = judged_by(lesson), lesson.tuned
    if tuned is not None and not tuned.best:
        yield "Fine-tuning made it no better by the photos held out: the frozen network was kept."
    if tuned is not None and tuned.best:
        yield "The epoch was chosen by the very photos that judge it: a little of how good it looks is luck."
    elif not lesson.fitted.folds:
        yield "No photo could be held out: no class has two that differ, so nothing was chosen by how well it works."
    elif lesson.figures.unjudged:
        yield (
            f"{several(lesson.figures.unjudged, 'photo')} could not be judged: nothing else of the same class would "
            "have been left to learn from."
        )
    if lesson.uniform and lesson.figures.accuracy.of:
        some = ", ".join(lesson.labels[i] for i in lesson.uniform[:_SHOWN])
        more = f" and {len(lesson.uniform) - _SHOWN:,} more" if len(lesson.uniform) > _SHOWN else ""
        yield (
            f"Most photos look alike in {several(len(lesson.uniform), 'class', 'classes')} ({some}{more}), and were "
            "held out one by one: if they are copies, cross-validation flatters."
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


def unseen(lesson: Lesson) -> str:
    """Return what the photos of the validation are called: they may be some of those that were to be learnt from."""
    tuned = lesson.tuned
    return "photos held out" if tuned is not None and tuned.best and tuned.held.any() else "validation photos"


def judged_by(lesson: Lesson) -> Figures | None:
    """Return what says the most of the head: photos held out in turn, else those for validation, else nothing."""
    if lesson.figures.accuracy.of:
        return lesson.figures
    return lesson.validation.figures if lesson.validation is not None else None


def worst(found: Figures) -> list[int]:
    """Return the classes of which photos were judged, the lowest recall first, of equals that of more photos."""
    there = [i for i, each in enumerate(found.classes) if each.recall.of]
    return sorted(there, key=lambda i: (found.classes[i].recall.value, -found.classes[i].recall.of, i))


def wanted(photos: int | None) -> str:
    """Return in words how many photos a class would need, of `Need.wanted`."""
    return "more photos would hardly help" if photos is None else f"about {several(photos, 'photo')}"


# -- text


def _made(lesson: Lesson) -> list[str]:
    before = f", {lesson.earlier:,} of them taught before" if lesson.earlier else ""
    photos, classes = several(len(lesson.photos), "photo"), several(len(lesson.labels), "class", "classes")
    lines = [f"{lesson.out}: {classes}, taught with {photos}{before}", how(lesson)]
    if lesson.corrected:
        lines.append(f"{several(len(lesson.corrected), 'photo has', 'photos have')} another class now")
    return lines


def _accuracies(lesson: Lesson) -> list[str]:
    rows, photos = [("", "right", "95 % interval", "photos")], unseen(lesson)
    for name, found in (
        ("cross-validation", lesson.figures),
        (
            "held out" if photos == "photos held out" else "validation",
            None if lesson.validation is None else lesson.validation.figures,
        ),
    ):
        if found is not None and found.accuracy.of:
            of = found.accuracy
            rows.append((name, percent(of.value), _interval(of), f"{of.count:,} of {of.of:,}"))
    lines = columns(rows).splitlines() if len(rows) > 1 else []
    known = lesson.familiar.photos  # else there is no line below which a photo is strange
    if lesson.validation is not None and (strange := lesson.validation.strange).of and known:
        lines.append(
            f"{strange.count:,} of {strange.of:,} {photos} ({percent(strange.value)}) would be said to show none of "
            "the classes"
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
    found = lesson.curve
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
    behind = several(len(found.needs), "class falls behind or has few photos", "classes fall behind or have few photos")
    return [f"{behind}; to halve the errors it takes:", *columns(rows).splitlines(), *_more(len(found.needs))]


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
