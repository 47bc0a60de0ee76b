"""The parts of a lesson's page that show photos to be doubted: likely mislabelled ones, and what is there twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import page
from ..page import Card, Markup, foreign, join, note, percent, tag
from . import shown

if TYPE_CHECKING:
    from ..page import Thumbnails
    from .doubts import Mislabelled
    from .lesson import Lesson, Repeated

_MORE = 200  # photos that are likely mislabelled, in a list below those that are shown


def mislabelled(lesson: Lesson, thumbnails: Thumbnails) -> Markup:
    """Return the photos that are likely mislabelled: the likeliest mistakes as photos, and more of them as a list."""
    names, labels = lesson.photos.names, lesson.labels

    def sure(each: Mislabelled, index: int) -> str:
        return percent(float(lesson.fitted.probabilities[each.photo, index]))

    made = [
        Card(
            photo=names[each.photo],
            right=False,
            lines=[
                ["said to be ", foreign(labels[each.truth]), f" {sure(each, each.truth)}"],
                [tag("b", None, "likelier "), foreign(labels[each.said]), f" {sure(each, each.said)}"],
            ],
        )
        for each in shown.choose(lesson).mislabelled
    ]
    rows: list[list[page.Child]] = [
        [
            foreign(names[each.photo]),
            foreign(labels[each.truth]),
            sure(each, each.truth),
            foreign(labels[each.said]),
            sure(each, each.said),
        ]
        for each in lesson.mislabelled[:_MORE]
    ]
    cut = len(lesson.mislabelled) > len(rows)
    listed = page.table(
        f"The likeliest mistakes first{f': {len(rows)} of {len(lesson.mislabelled):,}' if cut else ''}",
        ["Photo", "Said to be", "", "Likelier", ""],
        rows,
        numbers=[2, 4],
    )
    return join(
        note(
            "Heads that had not seen the photo find another class likelier than the one that is said. Look at each: "
            "some are mistakes of the labels, others are merely hard. A table of path,label corrects them: photolabel "
            "teach --add FILE --labels TABLE."
        ),
        page.cards(made, thumbnails),
        page.details(f"The first {len(rows)} as a list" if cut else "As a list", page.group("files", listed)),
    )


def twice(lesson: Lesson, thumbnails: Thumbnails) -> Markup:
    """Return the photos that are there several times, or look so: what contradicts, or flatters, first."""
    chosen = shown.choose(lesson)
    contradictory, across, others = map(len, shown.kinds(lesson.repeated))
    return join(
        _repeated(
            "The same photo as several classes",
            "Only one can be right. Such a photo is not learnt from; where only those for validation say otherwise it "
            "is not judged by.",
            chosen.contradictory,
            contradictory,
            thumbnails,
        ),
        _repeated(
            "The same photo to learn from and to judge by",
            "Each is learnt from, and not judged by: that would flatter.",
            chosen.across,
            across,
            thumbnails,
        ),
        _alike(lesson, chosen, thumbnails),
        _repeated("The same photo several times", "Each is used once.", chosen.twice, others, thumbnails),
    )


def _repeated(heading: str, words: str, some: Sequence[Repeated], count: int, thumbnails: Thumbnails) -> Markup | None:
    if not some:
        return None
    made = []
    for each in some:
        photos = [*zip(each.photos, each.classes, strict=True)]
        listed = [
            Card(photo=photo, lines=[tag("b", None, foreign(name))], right=False if each.contradictory else None)
            for photo, name in photos[: shown.NAMES]
        ]
        more = len(photos) - len(listed)
        rest = note(f"and {more:,} more of the same") if more else None
        made.append(page.group("twin", page.cards(listed, thumbnails), rest))
    return _twins(heading, words, made, count)


def _alike(lesson: Lesson, chosen: shown.Shown, thumbnails: Thumbnails) -> Markup | None:
    if not lesson.alike:
        return None
    names, truth = shown.everyone(lesson)
    learnt = len(lesson.photos)
    made = []
    for pair in chosen.pairs:
        listed = []
        for i in (pair.one, pair.other):
            lines: list[page.Child] = [tag("b", None, foreign(lesson.labels[truth[i]]))]
            if pair.across:
                lines.append("to learn from" if i < learnt else "to judge by")
            listed.append(Card(photo=names[i], lines=lines, right=False if pair.contradictory else None))
        made.append(page.group("twin", page.cards(listed, thumbnails)))
    of_two, across = sum(each.contradictory for each in lesson.alike), sum(each.across for each in lesson.alike)
    words = (
        f"{shown.pairs(lesson)}, {of_two:,} of two classes, {across:,} of one photo to learn from and "
        "one to judge by. In cross-validation copies are held out together; in validation they flatter."
    )
    return _twins("Photos that look alike", words, made, len(lesson.alike))


def _twins(heading: str, words: str, made: list[Markup], count: int) -> Markup:
    left = note(f"{len(made)} of {count:,} are shown.") if count > len(made) else None
    return join(tag("h3", None, heading), note(words), page.group("twins", made), left)
