"""All pairs of many rows whose product is large, block by block: exact, and in a memory that is bounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

AT_ONCE = 1024  # rows of a block: its products take 4 MB


def pairs(
    rows: Callable[[slice], NDArray[np.float32]], count: int, *, least: float, most: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return the pairs of rows whose product is `least` or more, the largest first, of equals the lower rows.

    `rows` makes some of the `count` rows, float32 (rows, numbers). Returned are the lower index of each pair, the
    higher one, and the product, each (pairs,): `most` pairs, at most.
    """
    best = _Best(most=most, floor=np.float32(least))
    for row in range(0, count, AT_ONCE):
        mine = rows(slice(row, row + AT_ONCE))
        for column in range(row, count, AT_ONCE):
            if column > row:
                best.add(mine @ rows(slice(column, column + AT_ONCE)).T, row, column)
            else:
                products = mine @ mine.T
                products[np.tril_indices(len(mine))] = -np.inf  # each pair once, and none of a row with itself
                best.add(products, row, column)
        best.pass_over_equals()
    best.shorten()
    return best.ones[0], best.others[0], best.products[0]


@dataclass(kw_only=True)
class _Best:
    """The pairs that are kept, in parts, and what a further one must reach."""

    most: int
    floor: np.float32
    kept: int = 0
    ones: list[NDArray[np.intp]] = field(default_factory=lambda: [np.empty(0, np.intp)])
    others: list[NDArray[np.intp]] = field(default_factory=lambda: [np.empty(0, np.intp)])
    products: list[NDArray[np.float32]] = field(default_factory=lambda: [np.empty(0, np.float32)])

    def add(self, products: NDArray[np.float32], row: int, column: int) -> None:
        places = np.flatnonzero(products >= self.floor)  # many times as fast as `nonzero` of rows and columns
        if not len(places):
            return
        if len(places) > self.most:
            places = places[np.argsort(-products.reshape(-1)[places], kind="stable")[: self.most]]
        one, other = np.divmod(places, products.shape[1])
        found = products[one, other]
        self.ones.append(one + row)
        self.others.append(other + column)
        self.products.append(found)
        self.kept += len(one)
        if self.kept > 2 * self.most:
            self.shorten()

    def shorten(self) -> None:
        """Keep the largest, and from now on none that is less."""
        ones, others, products = np.concatenate(self.ones), np.concatenate(self.others), np.concatenate(self.products)
        order = np.lexsort((others, ones, -products))[: self.most]
        self.ones, self.others, self.products = [ones[order]], [others[order]], [products[order]]
        self.kept = len(order)
        if self.kept == self.most:
            self.floor = max(self.floor, products[order[-1]])

    def pass_over_equals(self) -> None:
        """All further pairs are of higher rows: of those that are only as large as the least that is kept, none is."""
        if self.kept >= self.most:
            self.shorten()
            self.floor = max(self.floor, np.nextafter(self.products[0][-1], np.float32(np.inf)))
