"""Outcomes -> a folder with a page that shows how right a model is, where it is wrong, and the photos themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import page, writing
from ..output import printable
from ..page import Card, Markup, Section, Thumbnails, Tile, foreign, join, measured, note, parts, percent, several, tag
from .measures import Measures, Mistake, measure
from .outcomes import Outcome

if TYPE_CHECKING:
    from PIL import Image

    from ..labels import Label
    from ..tree import Name, Tree

KIND = "evaluation"

_ROWS = 1000  # classes in the table, the worst; ImageNet's all
_OPEN = 30  # a table of so many classes is shown at once


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What others report for the model: errors as shares, 0..1, and where they say so."""

    top1: float | None = None
    top5: float | None = None
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What a report says of how its outcomes came about.

    `photos` is what the set is called, `protocol` how a photo became what the model saw, in words; `remarks` are
    sentences that a reader must know, as that the model has learned from these very photos.
    """

    model: str
    photos: str
    protocol: str
    precision: str
    calibration: str | None = None
    published: Published | None = None
    remarks: tuple[str, ...] = ()


_MEANINGS = {
    "Top-1 and top-5 error": (
        "The share of photos whose true class is not the likeliest one, or is not among the five likeliest."
    ),
    **parts.MEANINGS,
    "Height": (
        "After Deng et al., 2010: the longest way down from the lowest name above two classes to any class. In WordNet "
        "several ways lead up, so of all names above both that of the smallest height counts."
    ),
}


def check(folder: Path) -> None:
    """Raise `OutputError` if a report can plainly not be written to `folder`: better said before long work."""
    writing.check_folder(folder, ours=_ours)


def write(
    folder: Path,
    outcomes: Sequence[Outcome],
    context: Context,
    *,
    labels: Sequence[Label],
    tree: Tree | None,
    thumbnails: Callable[[str], Image.Image | None],
) -> Measures:
    """Write the report: `index.html`, and small copies of the photos it shows in `photos/`. Returns what it says.

    The folder appears whole or not at all, and takes the place of an earlier report; another folder that holds anything
    is left alone. `labels` are the model's classes and `tree` what stands above them. `thumbnails` gives the upright
    photo of an outcome's name, or None for one that is gone; it is asked for some hundred at most. The same outcomes
    give the same page. Raises `OutputError` where it cannot be written, and what `measure` raises.
    """
    found = measure(outcomes, classes=len(labels), tree=tree)
    with writing.whole_folder(folder, ours=_ours) as new:
        made = _Report(outcomes, found, context, labels, tree, Thumbnails(folder=new, read=thumbnails))
        (new / "index.html").write_bytes(made.html())
    return found


def _ours(folder: Path) -> bool:
    return page.is_page(folder, KIND)


class _Report:
    """The page, section by section."""

    def __init__(
        self,
        outcomes: Sequence[Outcome],
        found: Measures,
        context: Context,
        labels: Sequence[Label],
        tree: Tree | None,
        thumbnails: Thumbnails,
    ) -> None:
        self._outcomes, self._found, self._context, self._tree = outcomes, found, context, tree
        self._thumbnails = thumbnails
        self._names = _names(labels)
        self._of_classes = found.classes

    def html(self) -> bytes:
        context, found = self._context, self._found
        read = found.photos - found.unreadable
        facts: list[tuple[str, page.Child]] = [
            ("Model", foreign(context.model)),
            ("Precision", foreign(context.precision)),
            ("Protocol", foreign(context.protocol)),
            ("Calibration", foreign(context.calibration or "none")),
            ("Photos", f"{found.photos:,}"),
            ("Classes", f"{len(self._names):,}, {self._of_classes.present:,} of them with photos"),
        ]
        return page.document(
            f"{context.model} on {context.photos}",
            kind=KIND,
            lead=f"How often it is right, how sure it is, and where it is wrong: {several(read, 'photo')}.",
            facts=facts,
            sections=list(self._sections()),
        )

    def _sections(self) -> Iterator[Section]:
        found = self._found
        yield Section(anchor="figures", heading="In figures", content=self._figures())
        if found.unreadable:
            yield Section(anchor="left-out", heading="Photos left out", content=self._left_out())
        if found.photos == found.unreadable:
            return
        yield Section(
            anchor="confidence",
            heading="Is it as sure as it is right?",
            content=parts.confidence(found.bins, self._context.model),
        )
        yield Section(anchor="classes", heading="Class by class", content=self._classes())
        yield Section(anchor="confused", heading="What it confuses", content=self._confused())
        yield Section(anchor="distance", heading="How far off the mistakes are", content=self._distance())
        yield Section(anchor="photos", heading="The photos themselves", content=self._photos())
        yield Section(anchor="measures", heading="What the figures mean", content=page.meanings(_MEANINGS))

    # -- figures

    def _figures(self) -> Markup:
        found, published = self._found, self._context.published
        shown = [measured("Top-1 error", found.top1, published=published.top1 if published else None)]
        if found.top5 is not None:
            shown.append(measured("Top-5 error", found.top5, published=published.top5 if published else None))
        shown.append(
            Tile(
                label="Class accuracy",
                value=percent(self._of_classes.mean_accuracy),
                notes=[f"mean of {several(self._of_classes.present, 'class', 'classes')}"],
            )
        )
        shown.append(
            Tile(
                label="Calibration error",
                value=percent(found.bins.ece),
                notes=[f"{percent(found.bins.confidence)} sure on average, {percent(found.bins.accuracy)} right"],
            )
        )
        if found.distances is not None and found.top1.count:
            shown.append(
                Tile(
                    label="Height of mistakes",
                    value=f"{found.distances.of_mistakes:.1f}",
                    notes=[f"mean, in WordNet; {len(found.distances.counts) - 1} at most"],
                )
            )
        lines = [*self._verdicts(), *self._context.remarks]
        if found.top5 is None:
            lines.append(f"There is no top-5 error: the model has no more than {len(self._names)} classes.")
        return join(page.tiles(shown), [tag("p", {"class": "verdict"}, foreign(line)) for line in lines])

    def _verdicts(self) -> Iterator[str]:
        """Whether the intervals hold what was published."""
        published = self._context.published
        if published is None or not self._found.top1.of:
            return
        for name, share, value in (
            ("top-1", self._found.top1, published.top1),
            ("top-5", self._found.top5, published.top5),
        ):
            if share is None or value is None:
                continue
            said = f"The published {name} error of {percent(value)} ({published.source}) lies"
            held = page.interval(share)
            if share.holds(value):
                yield f"{said} in the interval of {held}: these photos do not contradict it."
            else:
                lower = "lower" if share.value < value else "higher"
                yield (
                    f"{said} outside the interval of {held}: the error on these photos is {lower} by more than chance "
                    "explains. Other photos, or another protocol, may."
                )

    def _left_out(self) -> Markup:
        found = self._found
        failed = [each for each in self._outcomes if each.error is not None]
        worst = found.counting_unreadable()
        words = (
            f"{several(found.unreadable, 'photo')} of {found.photos:,} could not be read and "
            f"{'is' if found.unreadable == 1 else 'are'} in no other figure. Counted as mistakes, they would make the "
            f"top-1 error {percent(worst.value)}."
        )
        return join(tag("p", None, words), page.unreadable([(each.photo, each.error or "") for each in failed]))

    # -- classes

    def _classes(self) -> Markup:
        each = self._of_classes
        present = [i for i, count in enumerate(each.photos) if count]
        worst = sorted(present, key=lambda i: (each.right[i] / each.photos[i], -each.photos[i], i))
        rows: list[list[page.Child]] = []
        for i in worst[:_ROWS]:
            right, count, mistaken = each.right[i], each.photos[i], each.taken_for[i]
            row: list[page.Child] = [
                self._name(i),
                page.bar(right / count),
                percent(right / count),
                f"{right:,}/{count:,}",
            ]
            if each.top5 is not None:
                row.append(percent(each.top5[i] / count))
            rows.append([*row, "" if mistaken is None else self._name(mistaken)])
        fifth = [] if each.top5 is None else ["Top 5"]
        caption = "Classes, the worst first"
        if len(worst) > _ROWS:
            caption += f": {_ROWS:,} of {len(worst):,}"
        listed = page.table(
            caption,
            ["Class", "", "Accuracy", "Right", *fifth, "Most often taken for"],
            rows,
            numbers=range(2, 4 + len(fifth)),
            bars=[1],
        )
        listed = page.group("many", listed)
        absent = len(self._names) - len(present)
        return join(
            note(f"{several(absent, 'class has', 'classes have')} no photo in this set and are not shown.")
            if absent
            else None,
            self._distribution(present) if len(present) > parts.FEW else None,
            listed if len(worst) <= _OPEN else page.details(f"All {len(rows):,} classes, the worst first", listed),
        )

    def _distribution(self, present: list[int]) -> Markup:
        each = self._of_classes
        shares = [(each.right[i], each.photos[i]) for i in present]
        return page.tenths("How many classes are how accurate", "Accuracy", shares)

    # -- mistakes

    def _confused(self) -> Markup:
        if not self._found.top1.count:
            return tag("p", None, "Nothing: every photo was named right.")
        often = [pair for pair in self._found.confusions if pair.count > 1]
        if not often:
            return tag("p", None, "No two mistakes are alike: no class was taken for the same other class twice.")
        parts = []
        for pair in often:
            of = self._of_classes.photos[pair.truth]
            shown = [self._card(i, truth=False, said=False) for i in pair.photos]
            parts.append(
                page.group(
                    "pair",
                    tag("h3", None, self._name(pair.truth), ", taken for ", self._name(pair.said)),
                    note(f"{several(pair.count, 'time')}, of {several(of, 'photo')} ({percent(pair.count / of)})"),
                    page.cards(shown, self._thumbnails),
                )
            )
        return join(
            note("The commonest mistakes, with the photos of which the model was surest."), page.group("pairs", parts)
        )

    def _distance(self) -> Markup:
        found, tree = self._found.distances, self._tree
        if found is None or tree is None:
            return note("Not measured: some of the model's classes are not in WordNet, so nothing is known above them.")
        if not self._found.top1.count:
            return tag("p", None, "There are no mistakes.")
        most = max(found.counts)
        rows: list[list[page.Child]] = []
        for height, (count, mistake) in enumerate(zip(found.counts, found.surest, strict=True)):
            if mistake is not None:
                outcome = self._outcomes[mistake.outcome]
                above = foreign(_said(tree.nodes[mistake.node]))
                example: list[page.Child] = [self._name(outcome.truth), " for ", self._name(outcome.top[0]), ": both "]
                rows.append([height, page.bar(count / most), f"{count:,}", [*example, above]])
        return join(
            tag(
                "p",
                None,
                "A dog for another dog is nearer than a dog for a mug. The height is that of the lowest name above "
                f"both in WordNet: {found.of_mistakes:.1f} is the mean of the mistakes, and {found.of_all:.2f} that of "
                "all photos, a right one having 0.",
            ),
            page.table("Mistakes by height", ["Height", "", "Mistakes", "For example"], rows, numbers=[2], bars=[1]),
            self._extremes("The nearest mistakes", found.near, tree),
            self._extremes("The farthest mistakes", found.far, tree),
        )

    def _extremes(self, heading: str, mistakes: Sequence[Mistake], tree: Tree) -> Markup | None:
        if not mistakes:
            return None
        shown = []
        for each in mistakes:
            card = self._card(each.outcome)
            above = foreign(_said(tree.nodes[each.node]))
            shown.append(
                Card(photo=card.photo, right=False, lines=[*card.lines, ["both ", above, f" ({each.height})"]])
            )
        return join(tag("h3", None, heading), page.cards(shown, self._thumbnails))

    def _photos(self) -> Markup:
        found = self._found
        lists = [
            ("Sure and wrong", "The worst mistakes. Some of them are often mistakes of the labels.", found.worst),
            ("Least sure", "Right or wrong, the model hardly decided.", found.unsure),
            ("Sure and right", "The surest of each class.", found.best),
        ]
        return join(
            [
                join(
                    tag("h3", None, heading),
                    note(words),
                    page.cards([self._card(i) for i in which], self._thumbnails),
                )
                for heading, words, which in lists
                if which
            ]
        )

    def _card(self, index: int, *, truth: bool = True, said: bool = True) -> Card:
        outcome = self._outcomes[index]
        sure = percent(outcome.probability)
        lines: list[page.Child] = []
        if outcome.right:
            lines.append([tag("b", None, "right: "), self._name(outcome.truth), f" {sure}"])
        else:
            if said:
                lines.append([tag("b", None, "said "), self._name(outcome.top[0]), f" {sure}"])
            if truth:
                lines.append(["is ", self._name(outcome.truth), f" {percent(outcome.of_truth)}"])
            if not lines:
                lines.append([tag("b", None, sure), f" sure; of the truth {percent(outcome.of_truth)}"])
        return Card(photo=outcome.photo, lines=lines, right=outcome.right)

    def _name(self, index: int) -> Markup:
        return foreign(self._names[index])


def _names(labels: Sequence[Label]) -> list[str]:
    """What people call the classes, each told apart from the others: ImageNet has two cranes."""
    plain = [printable(label.name.replace("_", " ")) for label in labels]
    times = Counter(plain)
    return [
        name if times[name] == 1 else f"{name} ({label.wnid or label.index})"
        for name, label in zip(plain, labels, strict=True)
    ]


def _said(node: Name) -> str:
    return node.name.replace("_", " ")
