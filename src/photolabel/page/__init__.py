"""HTML pages as values: text that is escaped unless it is markup already, and the pieces that pages share.

A page is one file that needs nothing from outside and runs no script; it says so itself, in a policy that browsers
enforce. Its photos are small JPEG files beside it. It is well-formed XML too, so anything can read it. What a stranger
named, a file or a class, goes in as `str` and cannot become markup: only `tag` makes that.
"""

from .confusion import matrix
from .frame import Section, document, is_page
from .markup import Child, Markup, clean, drawing, foreign, join, tag
from .numbers import DASH, NOTHING, interval, percent, several
from .parts import meanings, measured, tenths, unreadable
from .photos import Card, Thumbnails, cards
from .pieces import Tile, bar, details, figure, gauge, group, note, table, tiles

__all__ = [
    "DASH",
    "NOTHING",
    "Card",
    "Child",
    "Markup",
    "Section",
    "Thumbnails",
    "Tile",
    "bar",
    "cards",
    "clean",
    "details",
    "document",
    "drawing",
    "figure",
    "foreign",
    "gauge",
    "group",
    "interval",
    "is_page",
    "join",
    "matrix",
    "meanings",
    "measured",
    "note",
    "percent",
    "several",
    "table",
    "tag",
    "tenths",
    "tiles",
    "unreadable",
]
