"""A lesson -> a folder with a page that shows how good it is, what it confuses, and which photos are to be doubted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import page, writing
from ..draw.growth import growth
from ..page import Card, Markup, Section, Thumbnails, foreign, join, measured, note, parts, percent, several, tag
from ..page.confusion import MOST
from . import doubted, shown, told

if TYPE_CHECKING:
    from PIL import Image

    from .curve import Curve
    from .figures import Figures
    from .lesson import Lesson
    from .shown import Wrong
    from .tuning import Tuned

KIND = "teaching"

_ROWS = 1000  # classes in the table, the worst
_OPEN = 30  # a table of so many classes is shown at once
_PAIRS = 50  # of classes that are confused, where they are too many for a matrix
_EPOCHS = 200
_NEEDS = 50  # classes that need more photos

_MEANINGS = {
    "Cross-validation": (
        "The photos are dealt into parts; each part is named by a head that has learnt from the others only. What "
        "looks alike is in one part. The strength is chosen by the same parts, which flatters a little."
    ),
    "Validation": "Photos that nothing was learnt from and nothing was chosen by.",
    "Recall and precision": (
        "Of a class: the share of its photos that were named so, and the share of the photos named so that are of it."
    ),
    **parts.MEANINGS,
    "Likely mislabelled": (
        "By confident learning (Northcutt et al., 2021): a head that has not seen the photo finds another class at "
        "least as likely as that class's own photos usually are, and at least twice as likely as the one that is said. "
        "Some of them are only hard."
    ),
    "None of the classes": (
        "A photo whose features are less like each class's mean than all but 5% of the photos learnt from were, each "
        "held out. Asked how sure it is, the network calls it unsure (none of its classes)."
    ),
}


def check(folder: Path) -> None:
    """Raise `OutputError` if a report can plainly not be written to `folder`: better said before long work."""
    writing.check_folder(folder, ours=_ours)


def write(folder: Path, lesson: Lesson, *, thumbnails: Callable[[str], Image.Image | None]) -> None:
    """Write the report: `index.html`, and small copies of the photos it shows in `photos/`.

    The folder appears whole or not at all, and takes the place of an earlier report of a teaching; another folder that
    holds anything is left alone. `thumbnails` gives the upright photo of a name, or None for one that is gone; it is
    asked for `shown.names(lesson)`. The same lesson gives the same page. Raises `OutputError` where it cannot be
    written.
    """
    with writing.whole_folder(folder, ours=_ours) as new:
        made = _Report(lesson, Thumbnails(folder=new, read=thumbnails))
        (new / "index.html").write_bytes(made.html())


def _ours(folder: Path) -> bool:
    return page.is_page(folder, KIND)


class _Report:
    """The page, section by section."""

    def __init__(self, lesson: Lesson, thumbnails: Thumbnails) -> None:
        self._lesson, self._thumbnails = lesson, thumbnails
        self._shown = shown.choose(lesson)
        self._found = told.judged_by(lesson)
        self._held = None if lesson.validation is None else lesson.validation.figures

    def html(self) -> bytes:
        lesson, origin, head = self._lesson, self._lesson.origin, self._lesson.fitted.head
        learnt, classes = several(len(lesson.photos), "photo"), several(len(lesson.labels), "class", "classes")
        held, tuned = lesson.validation, lesson.tuned is not None and lesson.tuned.best > 0
        apart = "of them" if told.unseen(lesson) == "photos held out" else "more"
        judging = "" if held is None else f", and {len(held.photos):,} {apart} to judge by"
        facts: list[tuple[str, page.Child]] = [
            ("Network underneath", foreign(origin.name)),
            ("Its layer", foreign(origin.layer)),
            ("Looked at", foreign(f"{origin.recipe}, {origin.precision}")),
            ("Head", "fine-tuned" if tuned else f"{told.HEADS[head.kind]}, strength {head.strength:.3g}"),
            ("Photos", f"{len(lesson.photos):,}{judging}"),
            ("Classes", f"{len(lesson.labels):,}"),
        ]
        return page.document(
            lesson.out.name,
            kind=KIND,
            lead=f"{classes} learnt from {learnt}: how often it is right of photos that it has not seen, what it "
            "confuses, and what is to be doubted of the photos.",
            facts=facts,
            sections=list(self._sections()),
        )

    def _sections(self) -> Iterator[Section]:
        lesson, found = self._lesson, self._found
        yield Section(anchor="figures", heading="In figures", content=self._figures())
        if lesson.failures:
            failed = [(each.photo, str(each.error)) for each in lesson.failures]
            words = f"{several(len(failed), 'photo')} could not be read, and taught nothing."
            content = join(tag("p", None, words), page.unreadable(failed))
            yield Section(anchor="left-out", heading="Photos that could not be read", content=content)
        if found is not None:
            yield Section(anchor="classes", heading="Class by class", content=self._classes(found))
            yield Section(anchor="confused", heading="What it takes for what", content=self._confused())
        if lesson.mislabelled:
            yield Section(
                anchor="mislabelled",
                heading="Likely mislabelled",
                content=doubted.mislabelled(lesson, self._thumbnails),
            )
        if lesson.repeated or lesson.alike:
            yield Section(
                anchor="twice", heading="Photos that are there twice", content=doubted.twice(lesson, self._thumbnails)
            )
        if lesson.curve is not None:
            yield Section(anchor="more", heading="Would more photos help?", content=self._more(lesson.curve))
        if found is not None:
            content = parts.confidence(found.bins, lesson.out.name)
            yield Section(anchor="confidence", heading="Is it as sure as it is right?", content=content)
        yield Section(anchor="head", heading="How it was fitted", content=self._head())
        yield Section(anchor="measures", heading="What the words mean", content=page.meanings(_MEANINGS))

    # -- figures

    def _figures(self) -> Markup:
        lesson, tiles = self._lesson, []
        if lesson.figures.accuracy.of:
            folds = f"in {lesson.fitted.folds} parts, each held out in turn"
            tiles.append(measured("Right, by cross-validation", lesson.figures.accuracy, folds))
        if lesson.validation is not None:
            tiles.append(measured(f"Right, of {told.unseen(lesson)}", lesson.validation.figures.accuracy))
            if lesson.familiar.photos:
                tiles.append(measured("Said to show none of the classes", lesson.validation.strange))
        if self._found is not None:
            judged = sum(each.recall.of > 0 for each in self._found.classes)
            mean = f"of {several(judged, 'class', 'classes')}, each counting the same"
            tiles.append(page.Tile(label="Mean recall", value=percent(self._found.mean_recall), notes=[mean]))
        lines = [*map(foreign, told.cautions(lesson)), *self._leads()]
        return join(page.tiles(tiles) if tiles else None, [tag("p", {"class": "verdict"}, line) for line in lines])

    def _leads(self) -> Iterator[Markup]:
        """What is to be doubted, as links to it."""
        lesson = self._lesson
        doubtful = len(lesson.mislabelled)
        contradictory = sum(each.contradictory for each in lesson.repeated)
        across = len({each.other for each in lesson.alike if each.across})
        leads = [
            (doubtful, "mislabelled", f"{several(doubtful, 'photo is', 'photos are')} likely mislabelled."),
            (contradictory, "twice", f"{several(contradictory, 'photo is', 'photos are')} there as several classes."),
            (across, "twice", f"{several(across, 'photo')} to judge by look like photos to learn from: that flatters."),
        ]
        for count, anchor, words in leads:
            if count:
                yield tag("a", {"href": f"#{anchor}"}, words)

    # -- classes

    def _classes(self, found: Figures) -> Markup:
        order = told.worst(found)
        held = self._held if self._held is not found else None
        confused = np.where(np.eye(len(found.classes), dtype=bool), 0, found.confusion)
        taken = confused.argmax(axis=1).tolist()
        rows: list[list[page.Child]] = []
        for i in order[:_ROWS]:
            each = found.classes[i]
            row: list[page.Child] = [
                self._name(i),
                page.bar(each.recall.value),
                f"{self._lesson.figures.classes[i].photos:,}",
                percent(each.recall.value),
                f"{each.recall.count:,}/{each.recall.of:,}",
                percent(each.precision.value),
            ]
            if held is not None:
                row += [percent(held.classes[i].recall.value), percent(held.classes[i].precision.value)]
            rows.append([*row, self._name(taken[i]) if confused[i, taken[i]] else ""])
        by = "photos held out" if found is self._lesson.figures else told.unseen(self._lesson)
        caption = f"Classes by {by}, the worst first"
        if len(order) > _ROWS:
            caption += f": {_ROWS:,} of {len(order):,}"
        beside = [] if held is None else ["Validation: recall", "precision"]
        heads = ["Class", "", "Photos", "Recall", "Right", "Precision", *beside, "Most often taken for"]
        listed = page.group("many", page.table(caption, heads, rows, numbers=range(2, 6 + len(beside)), bars=[1]))
        shares = [(found.classes[i].recall.count, found.classes[i].recall.of) for i in order]
        absent = len(found.classes) - len(order)
        return join(
            note(f"{several(absent, 'class has', 'classes have')} no photo that could be judged.") if absent else None,
            page.tenths("How many classes have which recall", "Recall", shares) if len(order) > parts.FEW else None,
            listed if len(order) <= _OPEN else page.details(f"All {len(rows):,} classes, the worst first", listed),
        )

    def _confused(self) -> Markup:
        lesson, made = self._lesson, []
        if lesson.figures.accuracy.of:
            made.append(self._confusion("By cross-validation", lesson.figures))
        if self._held is not None:
            made.append(self._confusion(f"Of {told.unseen(lesson)}", self._held))
        few = len(lesson.labels) <= MOST
        words = (
            "Rows are what photos show, columns what they were named. The larger a part of its row a cell "
            "is, the stronger is its colour; on the diagonal, framed, is what was named rightly."
        )
        but = "Those that are likely mislabelled are below." if lesson.mislabelled else None
        return join(
            note(words) if few else None,
            page.group("beside" if few else "narrow", made),
            self._wrong("The surest mistakes, of photos held out", self._shown.wrong, but),
            self._wrong(f"The surest mistakes, of {told.unseen(lesson)}", self._shown.wrong_validation),
        )

    def _confusion(self, heading: str, found: Figures) -> Markup:
        if len(self._lesson.labels) <= MOST:
            return page.matrix(heading, self._lesson.labels, found.confusion)
        often = found.confusions()
        if not often:
            return tag("p", None, f"{heading}: every photo was named rightly.")
        rows: list[list[page.Child]] = []
        for truth, said, count in often[:_PAIRS]:
            of = found.classes[truth].recall.of
            rows.append([self._name(truth), self._name(said), f"{count:,}/{of:,}", percent(count / of)])
        caption = f"{heading}, the commonest first"
        if len(often) > _PAIRS:
            caption += f": {_PAIRS} of {len(often):,} pairs of classes"
        return page.table(caption, ["What it is", "Taken for", "Photos", ""], rows, numbers=[2, 3])

    def _wrong(self, heading: str, photos: Sequence[Wrong], words: str | None = None) -> Markup | None:
        if not photos:
            return None
        made = [
            Card(
                photo=each.photo,
                right=False,
                lines=[
                    [tag("b", None, "said "), self._name(each.said), f" {percent(each.probability)}"],
                    ["is ", self._name(each.truth), f" {percent(each.of_truth)}"],
                ],
            )
            for each in photos
        ]
        return join(tag("h3", None, heading), note(words) if words else None, page.cards(made, self._thumbnails))

    # -- the head

    def _more(self, curve: Curve) -> Markup:
        points = [(each.photos, each.accuracy) for each in curve.points if each.photos > 0]
        drawn = page.drawing(growth(points, title="Learning curve"))
        rows: list[list[page.Child]] = [
            [
                self._name(each.index),
                f"{each.photos:,}",
                percent(each.recall.value),
                "would hardly help" if each.wanted is None else f"about {each.wanted:,}",
            ]
            for each in curve.needs[:_NEEDS]
        ]
        count = len(curve.needs)
        caption = "Classes that need more photos" + (f": {len(rows)} of {count:,}" if count > len(rows) else "")
        return page.group(
            "beside",
            page.figure(
                drawn,
                "How often heads on the frozen network that have learnt from a part of the photos are right of others.",
            ),
            page.group(
                "words",
                note(
                    "How many photos a class would need, with those that it has, to halve its errors, all other "
                    "classes growing alike: read off the curve, and no more than a rough guess."
                )
                if rows
                else tag("p", None, "No class stands out as one that needs more photos than the others."),
                page.table(caption, ["Class", "Photos", "Recall", "For half the errors"], rows, numbers=[1, 2, 3])
                if rows
                else None,
            ),
        )

    def _head(self) -> Markup:
        fitted, tuned = self._lesson.fitted, self._lesson.tuned
        rows: list[list[page.Child]] = [
            [
                f"{each.strength:.3g}",
                f"{each.loss:.4f}",
                percent(each.accuracy),
                "chosen" if each.strength == fitted.head.strength else "",
            ]
            for each in fitted.tried
        ]
        how = (
            f"Its logits are divided by {fitted.temperature:.3g}, by which probabilities hold on photos held out."
            if fitted.folds or tuned is not None
            else "No photo could be held out, so its probabilities are not calibrated."
        )
        said = told.how(self._lesson)
        return join(
            tag("p", None, foreign(f"{said[0].upper()}{said[1:]}."), f" {how}"),
            None if tuned is None else self._epochs(tuned),
            page.group(
                "narrow",
                page.table(
                    "Strengths that were tried, on photos held out",
                    ["Strength", "Loss", "Accuracy", ""],
                    rows,
                    numbers=[1, 2],
                ),
                note(
                    "The strength is scikit-learn's C: the larger, the closer the head follows the photos. The least "
                    "is chosen that is as good as the best, by the loss, -log of the probability of the true class. "
                    "Each class counts the same."
                ),
            )
            if rows
            else note("The strength was given, or no photo could be held out to choose it by."),
        )

    @staticmethod
    def _epochs(tuned: Tuned) -> Markup:
        rows: list[list[page.Child]] = [
            [
                f"{each.number}" if each.number else "0, frozen",
                page.NOTHING if each.loss is None else f"{each.loss:.4f}",
                page.NOTHING if each.accuracy is None else percent(each.accuracy),
                f"{each.held_loss:.4f}",
                percent(each.held_accuracy),
                "kept" if each.number == tuned.best else "",
            ]
            for each in tuned.epochs[:_EPOCHS]
        ]
        count = len(tuned.epochs)
        caption = "Epochs of fine-tuning" + (f": the first {len(rows)} of {count:,}" if count > len(rows) else "")
        heads = ["Epoch", "Loss", "Accuracy", "Held out: loss", "accuracy", ""]
        return page.group("narrow", page.table(caption, heads, rows, numbers=range(1, 5)))

    def _name(self, index: int) -> Markup:
        return foreign(self._lesson.labels[index])
