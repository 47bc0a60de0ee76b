"""What is taken for what, as a table of counts that is shaded by their shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .markup import Markup, clean, foreign, tag
from .numbers import percent
from .pieces import region

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST = 30  # classes: a larger matrix shows nothing
STEPS = 5  # of shading
_UPRIGHT = 6  # columns whose heads are written as usual; of more they stand on end


def matrix(caption: str, names: Sequence[str], counts: NDArray[np.int64]) -> Markup:
    """Return the table of `counts`, (classes, classes): a row is a true class, a column what was said.

    The larger a part of its row a cell is, the stronger is its colour: one on the diagonal, which is framed, and
    another off it; the numbers say it as well. `names` are strangers' texts. Meant for at most MOST classes.
    """
    totals = counts.sum(axis=1).tolist()

    def cell(row: int, column: int, count: int) -> Markup:
        right = row == column
        kind = "right" if right else "wrong"
        if not count:
            return tag("td", {"class": kind if right else None}, "0" if right and totals[row] else None)
        share = count / totals[row]
        said = f"{clean(names[row])}, named {clean(names[column])}: {count:,} of {totals[row]:,}, {percent(share)}"
        return tag("td", {"class": f"{kind} step{math.ceil(STEPS * share)}", "title": said}, f"{count:,}")

    on_end = len(names) > _UPRIGHT
    heads = [tag("th", {"scope": "col", "title": clean(name)}, tag("span", None, foreign(name))) for name in names]
    return region(
        caption,
        tag("thead", None, tag("tr", None, tag("td", None, None), heads)),
        tag(
            "tbody",
            None,
            [
                tag(
                    "tr",
                    None,
                    tag("th", {"scope": "row", "title": clean(name)}, tag("span", None, foreign(name))),
                    [cell(row, column, count) for column, count in enumerate(counts[row].tolist())],
                )
                for row, name in enumerate(names)
            ],
        ),
        kind="matrix on-end" if on_end else "matrix",
    )
