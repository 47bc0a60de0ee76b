"""All pairs of many rows whose product is large, block by block: exact, and in a memory that is bounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

AT_ONCE = 1024  # rows of a block: its products take 4 MB
_SHADOW = 128  # numbers of a shadow
_SAMPLE = 4096  # rows by which shadows are cast
_WIDE = 4 * _SHADOW  # numbers of a row, from where on shadows are worth their making
_SLACK = 3e-4  # for rounding, of which a root makes more
_FEW = 1 / 500  # of a block: no more products than these are made one by one, of copies of their rows

Rows: TypeAlias = "Callable[[slice | NDArray[np.intp]], NDArray[np.float32]]"


def pairs(
    rows: Rows, count: int, *, least: float, most: int, shadows: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return the pairs of rows whose product is `least` or more, the largest first, of equals the lower rows.

    `rows` makes some of the `count` rows, float32 (rows, numbers). `shadows`, float32 (count, numbers), are rows of
    fewer numbers whose products are no less: only pairs that these let pass are looked at. Returned are the lower index
    of each pair, the higher one, and the product, each (pairs,): `most` pairs, at most.
    """
    best = _Best(most=most, floor=np.float32(least))
    for row in range(0, count, AT_ONCE):
        here = slice(row, row + AT_ONCE)
        mine = rows(here)
        for column in range(row, count, AT_ONCE):
            there = slice(column, column + AT_ONCE)
            if shadows is not None:
                reach = _upper(shadows[here] @ shadows[there].T, row, column) >= best.floor - np.float32(_SLACK)
                places = np.flatnonzero(reach)
                if len(places) <= _FEW * reach.size:
                    one, other = np.divmod(places, reach.shape[1])
                    if len(one):
                        best.add(one + row, other + column, np.vecdot(mine[one], rows(column + other)))
                    continue
            best.block(_upper(mine @ (mine if row == column else rows(there)).T, row, column), row, column)
        best.pass_over_equals()
    best.shorten()
    return best.ones[0], best.others[0], best.products[0]


def cast(rows: Rows, count: int) -> NDArray[np.float32] | None:
    """Return shadows of rows that are no longer than 1, float32 (count, numbers); None where they would save nothing.

    A shadow is what a row is in the space in which most of what the rows differ by lies, and how much of it lies
    outside. Of two rows the parts outside have a product that is no more than that of their lengths, so whatever space
    is chosen, the product of two shadows is no less than that of their rows.
    """
    sample = rows(np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.intp)))
    if sample.shape[1] < _WIDE or count < 2 * AT_ONCE:
        return None
    begun = sample @ np.random.default_rng(0).standard_normal((sample.shape[1], _SHADOW), np.float32)
    basis = np.linalg.qr(sample.T @ begun)[0]
    made = np.empty((count, _SHADOW + 1), np.float32)
    for start in range(0, count, AT_ONCE):
        some = slice(start, start + AT_ONCE)
        whole = rows(some)
        inside = made[some, :-1] = whole @ basis
        made[some, -1] = np.sqrt(np.maximum(np.vecdot(whole, whole) - np.vecdot(inside, inside), 0))
    return made


def _upper(products: NDArray[np.float32], row: int, column: int) -> NDArray[np.float32]:
    """Leave each pair once, and none of a row with itself, in a block of products; it is changed."""
    if row == column:
        products[np.tril_indices(len(products))] = -np.inf
    return products


@dataclass(kw_only=True)
class _Best:
    """The pairs that are kept, in parts, and what a further one must reach."""

    most: int
    floor: np.float32
    kept: int = 0
    ones: list[NDArray[np.intp]] = field(default_factory=lambda: [np.empty(0, np.intp)])
    others: list[NDArray[np.intp]] = field(default_factory=lambda: [np.empty(0, np.intp)])
    products: list[NDArray[np.float32]] = field(default_factory=lambda: [np.empty(0, np.float32)])

    def block(self, products: NDArray[np.float32], row: int, column: int) -> None:
        """Add a block of products, whose first is of these two rows."""
        places = self._largest(products.reshape(-1))
        one, other = np.divmod(places, products.shape[1])
        self._keep(one + row, other + column, products[one, other])

    def add(self, ones: NDArray[np.intp], others: NDArray[np.intp], products: NDArray[np.float32]) -> None:
        """Add the products of some pairs."""
        places = self._largest(products)
        self._keep(ones[places], others[places], products[places])

    def _largest(self, products: NDArray[np.float32]) -> NDArray[np.intp]:
        """The places of those that reach the floor, but no more than are wanted in all."""
        places = np.flatnonzero(products >= self.floor)  # many times as fast as `nonzero` of rows and columns
        if len(places) > self.most:
            places = places[np.argsort(-products[places], kind="stable")[: self.most]]
        return places

    def _keep(self, ones: NDArray[np.intp], others: NDArray[np.intp], products: NDArray[np.float32]) -> None:
        if not len(ones):
            return
        self.ones.append(ones)
        self.others.append(others)
        self.products.append(products)
        self.kept += len(ones)
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
