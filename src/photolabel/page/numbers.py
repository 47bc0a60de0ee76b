"""Numbers as a page says them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..confidence import Share

DASH = "\N{EN DASH}"
NOTHING = DASH  # in place of what is not a number


def percent(share: float) -> str:
    """Return a share as `12.3%`; what is not quite nothing or all does not look as if it were."""
    if math.isnan(share):
        return NOTHING
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{share:.1%}"


def interval(share: Share) -> str:
    """Return the 95 % interval of a share as `8.0-11.7%`, with the dash that goes between numbers."""
    return f"{share.low * 100:.1f}{DASH}{share.high * 100:.1f}%"


def several(count: int, word: str, words: str | None = None) -> str:
    """Return `1 photo`, `2,000 photos`."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"
