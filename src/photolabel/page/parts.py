"""Parts that several pages have: a share, confidence against truth, what could not be read, what words mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..draw.reliability import reliability
from .markup import Child, Markup, clean, drawing, foreign, join, tag
from .numbers import DASH, NOTHING, interval, percent, several
from .pieces import Tile, bar, details, figure, gauge, group, note, table

if TYPE_CHECKING:
    from ..confidence import Bins, Share

FEW = 12  # classes, or photos left out: of so many there is no summary

_PHOTOS = 50  # that could not be read are listed by name, and so many reasons
_REASONS = 10

MEANINGS = {
    "95% interval": (
        "What a share on all photos of this kind may be, judged by these few. It is Wilson's, which is sound for few "
        "photos and for shares near 0 and 1, where the plain one is not. It knows of chance only: not of photos that "
        "are of another kind, or whose labels are wrong."
    ),
    "Calibration error": (
        "After Guo et al., 2017: answers in 15 bins of equal width by the probability of the answer, and how far its "
        "mean is from the share of them that is right, weighed by how many there are."
    ),
}


def measured(label: str, share: Share, *notes: Child, published: float | None = None) -> Tile:
    """Return a share as a big figure, with its interval and what was published; `notes` follow."""
    if not share.of:
        return Tile(label=label, value=NOTHING, notes=["no photo could be read", *notes])
    return Tile(
        label=label,
        value=percent(share.value),
        notes=[
            gauge(share, published),
            ["95% interval ", tag("span", {"class": "keep"}, interval(share))],
            f"{share.count:,} of {several(share.of, 'photo')}",
            None if published is None else tag("span", {"class": "published"}, f"published: {percent(published)}"),
            *notes,
        ],
    )


def confidence(bins: Bins, title: str) -> Markup:
    """Return how often answers are right beside how sure the network was; `title` is what a stranger calls it."""
    off = bins.confidence - bins.accuracy
    if abs(off) < 0.005:
        verdict = "On average it is as sure as it is right."
    else:
        verdict = f"On average it is {'surer' if off > 0 else 'less sure'} than it is right, by {abs(off):.1%}."
    rows: list[list[Child]] = []
    for i, (count, sure, share) in enumerate(zip(bins.counts, bins.confidences, bins.accuracies, strict=True)):
        if count:
            span = f"{100 * i / len(bins.counts):.0f}{DASH}{100 * (i + 1) / len(bins.counts):.0f}%"
            rows.append([span, f"{count:,}", percent(sure), percent(share.value), interval(share)])
    drawn = drawing(reliability(bins, title=clean(title)))
    return group(
        "beside",
        figure(drawn, "How often answers are right, by how sure the model was of them."),
        group(
            "words",
            tag("p", None, verdict),
            tag(
                "p",
                None,
                f"The expected calibration error of {percent(bins.ece)} is how far the points are from the "
                "diagonal, each counting as much as there are answers in it. Where an interval crosses the "
                "diagonal, chance may be the reason.",
            ),
            details(
                "The same as a table",
                table(
                    "Answers by confidence, with 95% intervals",
                    ["Confidence", "Answers", "Mean", "Right", "Interval"],
                    rows,
                    numbers=range(1, 5),
                ),
                opened=True,
            ),
        ),
    )


def unreadable(failed: Sequence[tuple[str, str]]) -> Markup:
    """Return the photos that could not be read, by name and with what was wrong; of many also which reasons there are.

    Both are strangers' texts. Fifty are listed at most.
    """
    listed: list[list[Child]] = [[foreign(photo), foreign(error)] for photo, error in failed[:_PHOTOS]]
    made = group("files", table("Photos that could not be read", ["Photo", "What was wrong"], listed))
    if len(failed) <= FEW:
        return made
    reasons = Counter(clean(error) for _, error in failed)
    counted: list[list[Child]] = [[foreign(reason), f"{count:,}"] for reason, count in reasons.most_common(_REASONS)]
    others = len(reasons) - _REASONS
    shown = f"the first {len(listed)} of {len(failed):,}" if len(failed) > len(listed) else f"all {len(failed)}"
    return join(
        table("Why they could not be read", ["What was wrong", "Photos"], counted, numbers=[1]),
        note(f"and {several(others, 'other reason')}.") if others > 0 else None,
        details(f"The photos: {shown}", made),
    )


def tenths(caption: str, head: str, shares: Sequence[tuple[int, int]]) -> Markup:
    """Return how many classes have how large a share, (count, of), in tenths; those that have all by themselves."""
    found = Counter(10 * count // of for count, of in shares)
    most = max(found.values())
    rows: list[list[Child]] = []
    for tenth in range(10, -1, -1):
        span = "100%" if tenth == 10 else f"from {tenth * 10}%"
        rows.append([span, bar(found[tenth] / most), f"{found[tenth]:,}"])
    return group("narrow", table(caption, [head, "", "Classes"], rows, numbers=[2], bars=[1]))


def meanings(words: Mapping[str, str]) -> Markup:
    """Return what words mean."""
    return tag(
        "dl",
        {"class": "meanings"},
        [tag("div", None, tag("dt", None, name), tag("dd", None, meaning)) for name, meaning in words.items()],
    )
