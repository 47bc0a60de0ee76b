"""The closest pairs are those of the whole matrix, whatever the blocks, however many are equal."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from photolabel.teaching import closest
from photolabel.teaching.closest import pairs


def whole(rows: np.ndarray, least: float, most: int) -> list[tuple[int, int, float]]:
    """From all products, sorted."""
    products = rows @ rows.T
    found = [
        (-float(products[one, other]), one, other)
        for one in range(len(rows))
        for other in range(one + 1, len(rows))
        if products[one, other] >= np.float32(least)
    ]
    return [(one, other, -product) for product, one, other in sorted(found)[:most]]


def by_blocks(rows: np.ndarray, least: float, most: int) -> list[tuple[int, int, float]]:
    found = pairs(lambda some: rows[some], len(rows), least=least, most=most)
    return [*zip(*(each.tolist() for each in found), strict=True)]


@pytest.mark.parametrize("block", [1, 3, 16, 1024])
@pytest.mark.parametrize("most", [1, 7, 40, 10_000])
def test_they_are_those_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch, block: int, most: int) -> None:
    monkeypatch.setattr(closest, "AT_ONCE", block)
    rng = np.random.default_rng(0)
    for seed in range(6):
        # Products of whole numbers are exact, and many are equal.
        rows = rng.integers(-2, 3, (50, 2 + seed)).astype(np.float32)
        for least in (1, 4, 1000):
            assert by_blocks(rows, least, most) == whole(rows, least, most)


@pytest.mark.parametrize("most", [1, 5, 20])
def test_the_next_number_is_larger(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Equals of those that are kept are passed over, block by block; what is larger by the last digit never is."""
    monkeypatch.setattr(closest, "AT_ONCE", 2)
    step = np.spacing(np.float32(1))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows = 1 + step * rng.choice([0, 0, 0, 0, 1], (24, 1)).astype(np.float32)
        assert by_blocks(rows, 0.5, most) == whole(rows, 0.5, most)


def test_what_cannot_be_among_the_first_is_not_kept() -> None:
    best = closest._Best(most=3, floor=np.float32(1))
    best.block(np.array([[2, 4, 0, 3, 3, 1, 3]], np.float32), 0, 10)
    best.block(np.array([[1, 1, 3, 3]], np.float32), 0, 20)
    best.block(np.array([[2]], np.float32), 0, 25)
    assert best.floor == 3 and best.kept == 3, "what is less needs no further look"
    best.block(np.array([[3, 5]], np.float32), 0, 30)
    best.pass_over_equals()
    assert 3 < best.floor < 3.001, "equals of higher rows come after those that are kept"
    assert [*zip(best.others[0].tolist(), best.products[0].tolist(), strict=True)] == [(31, 5), (11, 4), (13, 3)]


def test_equals_of_further_blocks_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closest, "AT_ONCE", 16)
    looked: list[tuple[int, int]] = []
    block = closest._Best.block

    def spied(self: closest._Best, products: np.ndarray, row: int, column: int) -> None:
        looked.append((row, int((products >= self.floor).sum())))
        block(self, products, row, column)

    monkeypatch.setattr(closest._Best, "block", spied)
    by_blocks(np.ones((80, 2), np.float32), 0.5, 10)
    assert sum(count for row, count in looked if row == 0) > 10
    assert [count for row, count in looked if row > 0] == [0] * 10


def test_no_rows_and_one() -> None:
    for count in (0, 1):
        rows = np.ones((count, 3), np.float32)
        assert by_blocks(rows, 0.5, 10) == []


def test_where_all_are_alike_the_memory_is_bounded() -> None:
    """Eight million pairs, all equal: of these the first."""
    rows = np.ones((4000, 4), np.float32)
    tracemalloc.start()
    found = by_blocks(rows, 0.5, 1000)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [pair[:2] for pair in found] == [(0, other) for other in range(1, 1001)]
    assert most < 64 << 20


def unit(count: int, *, seed: int = 0, copies: int = 0) -> np.ndarray:
    """Rows of length 1 that differ by some directions much more than by others, as features do, and near copies."""
    rng = np.random.default_rng(seed)
    spread = np.arange(1, 601) ** -0.7
    rows = rng.normal(0, 1, (count, 600)) * spread
    for place in range(copies):
        rows[count - 1 - place] = rows[3 * place] + rng.normal(0, rng.uniform(0.05, 0.6), 600) * spread
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_products_of_shadows_are_no_less() -> None:
    rows = unit(2500, copies=50)
    rows[7] = 0
    shadows = closest.cast(lambda some: rows[some], len(rows))
    assert shadows is not None and shadows.shape == (2500, 129) and shadows.dtype == np.float32
    reach, products = shadows @ shadows.T, rows @ rows.T
    assert (reach >= products - 3e-4).all()
    assert np.count_nonzero(reach >= 0.9) < 0.02 * reach.size  # and few of them are much larger


@pytest.mark.parametrize("most", [10, 10_000])
@pytest.mark.parametrize("few", [0, 1 / 100, 1])
def test_with_shadows_they_are_the_same(monkeypatch: pytest.MonkeyPatch, most: int, few: float) -> None:
    """Whether products are made one by one, or all of a block."""
    monkeypatch.setattr(closest, "_FEW", few)
    rows = unit(2500, copies=60)
    shadows = closest.cast(lambda some: rows[some], len(rows))
    assert shadows is not None
    blocks = 0

    def make(some: slice | np.ndarray) -> np.ndarray:
        nonlocal blocks
        blocks += isinstance(some, slice)
        return rows[some]

    ones, others, products = pairs(make, len(rows), least=0.8, most=most, shadows=shadows)
    wanted = by_blocks(rows, 0.8, most)
    assert len(wanted) == (10 if most == 10 else len(ones)) and len(wanted) >= 10
    assert {*zip(ones.tolist(), others.tolist(), strict=True)} == {(one, other) for one, other, _ in wanted}
    np.testing.assert_allclose(products, [product for *_, product in wanted], atol=2e-6)
    assert (blocks == 3) == (few > 0)  # each block once, and then only rows that are needed


def test_where_shadows_save_nothing_there_are_none() -> None:
    many, short = unit(2500), unit(2500)[:, :511]
    assert closest.cast(lambda some: many[some], 2500) is not None
    assert closest.cast(lambda some: short[some], 2500) is None
    assert closest.cast(lambda some: many[some], 2047) is None
    assert closest.cast(lambda some: many[:1][some], 1) is None


def test_shadows_that_tell_nothing_do_no_harm() -> None:
    """Of plain noise no space holds more than another."""
    rows = np.random.default_rng(0).normal(0, 1, (2100, 600))
    rows[2000] = rows[5] + 0.1
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    shadows = closest.cast(lambda some: rows[some], len(rows))
    found = pairs(lambda some: rows[some], len(rows), least=0.5, most=100, shadows=shadows)
    assert [each.tolist() for each in found[:2]] == [[5], [2000]]


def test_shadows_hide_no_pair_at_the_very_edge() -> None:
    """Where shadows hold all that rows differ by, their products are less than those of the rows by rounding."""
    random = np.random.default_rng(0)
    rows = (random.normal(size=(2100, 40)) @ random.normal(size=(40, 600))).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    shadows = closest.cast(lambda some: rows[some], len(rows))
    assert shadows is not None
    least = 0.55
    plain = pairs(lambda some: rows[some], len(rows), least=least, most=5000)
    found = pairs(lambda some: rows[some], len(rows), least=least, most=5000, shadows=shadows)
    assert 10 < len(plain[0]) < 5000 and np.count_nonzero(plain[2] < least + closest._SLACK) > 0
    assert [*zip(found[0], found[1], strict=True)] == [*zip(plain[0], plain[1], strict=True)]
