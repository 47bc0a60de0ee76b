"""Pieces that pages are made of: figures side by side, tables, bars, what is shown when somebody asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .markup import Child, Markup, tag

if TYPE_CHECKING:
    from ..confidence import Share


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """A big figure: what it is, its value, and a line or more on it."""

    label: str
    value: str
    notes: Sequence[Child] = ()


def tiles(figures: Iterable[Tile]) -> Markup:
    """Return figures side by side."""
    return tag(
        "dl",
        {"class": "tiles"},
        [
            tag(
                "div",
                None,
                tag("dt", None, each.label),
                tag("dd", {"class": "value"}, each.value),
                [tag("dd", None, note) for note in each.notes if note is not None],
            )
            for each in figures
        ],
    )


def gauge(share: Share, published: float | None = None) -> Markup:
    """Return a small picture of a share, its interval and, as a tick, a published value: for those who see it."""
    scale = 200 / max(1e-9, min(1.0, 1.3 * max(share.high, published or 0)))
    parts = [
        tag("rect", {"class": "track", "x": 0, "y": 9, "width": 200, "height": 4, "rx": 2}),
        tag(
            "rect",
            {
                "class": "interval",
                "x": f"{share.low * scale:.1f}",
                "y": 7,
                "width": f"{max(2.0, (share.high - share.low) * scale):.1f}",
                "height": 8,
                "rx": 4,
            },
        ),
    ]
    if published is not None:
        parts.append(
            tag("rect", {"class": "tick", "x": f"{published * scale - 1:.1f}", "y": 1, "width": 2, "height": 20})
        )
    if share.of:
        parts.append(tag("circle", {"class": "dot", "cx": f"{share.value * scale:.1f}", "cy": 11, "r": 5}))
    return tag("svg", {"class": "gauge", "viewBox": "-6 0 212 22", "aria-hidden": "true"}, parts)


def bar(share: float) -> Markup:
    """Return a bar as long as a share, 0..1: for those who see it, beside the number."""
    return tag(
        "svg",
        {"class": "bar", "viewBox": "0 0 100 10", "preserveAspectRatio": "none", "aria-hidden": "true"},
        tag("rect", {"class": "track", "width": 100, "height": 10}),
        tag("rect", {"class": "fill", "width": f"{100 * share:.2f}", "height": 10}),
    )


def table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[Child]],
    *,
    numbers: Iterable[int] = (),
    bars: Iterable[int] = (),
) -> Markup:
    """Return a table whose first column says what each row is; `numbers` and `bars` are columns of these."""
    kinds = dict.fromkeys(numbers, "number") | dict.fromkeys(bars, "bars")

    def cell(name: str, column: int, child: Child, scope: str | None = None) -> Markup:
        return tag(name, {"scope": scope, "class": kinds.get(column)}, child)

    return region(
        caption,
        tag("thead", None, tag("tr", None, [cell("th", i, head, "col") for i, head in enumerate(heads)])),
        tag(
            "tbody",
            None,
            [
                tag(
                    "tr",
                    None,
                    cell("th", 0, row[0], "row"),
                    [cell("td", i, child) for i, child in enumerate(row[1:], 1)],
                )
                for row in rows
            ],
        ),
    )


def region(caption: str, *parts: Child, kind: str | None = None) -> Markup:
    """Return the parts of a table under its caption, in a place of its own that scrolls where it is too narrow."""
    return tag(
        "div",
        {"class": "scroll", "role": "region", "aria-label": caption, "tabindex": 0},
        tag("table", {"class": kind}, tag("caption", None, caption), parts),
    )


def details(summary: str, *children: Child, opened: bool = False) -> Markup:
    """Return what is shown when somebody asks for it, or until somebody is done with it."""
    return tag("details", {"open": "" if opened else None}, tag("summary", None, summary), children)


def note(*children: Child) -> Markup:
    """Return a paragraph that explains."""
    return tag("p", {"class": "note"}, children)


def group(kind: str, *children: Child) -> Markup:
    """Return pieces that page.css lays out together: `beside` and `words`, `pairs` and `pair`, `narrow`, ..."""
    return tag("div", {"class": kind}, children)


def figure(content: Markup, caption: Child) -> Markup:
    """Return a drawing with what it shows in words."""
    return tag("figure", None, content, tag("figcaption", None, caption))
