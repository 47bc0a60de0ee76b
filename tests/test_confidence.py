"""Intervals against published ones, and calibration errors that can be had by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from photolabel.confidence import bins, share
from photolabel.errors import UsageError


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_intervals_are_the_published_ones(count: int, of: int, low: float, high: float) -> None:
    """R. G. Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3."""
    found = share(count, of)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert found.value == count / of


@given(st.integers(1, 100_000), st.data())
def test_an_interval_holds_its_share_and_lies_in_0_to_1(of: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, of))
    found, mirrored = share(count, of), share(of - count, of)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.holds(found.value) and found.high - found.low > 0
    assert (found.low, found.high) == (pytest.approx(1 - mirrored.high), pytest.approx(1 - mirrored.low))
    assert (found.low == 0) == (count == 0) and (found.high == 1) == (count == of)
    # Wilson's: its ends are where the share lies 1.96 standard errors off.
    for end in (found.low, found.high):
        if 0 < end < 1:
            assert abs(found.value - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / of), rel=1e-4)


def test_nothing_is_known_of_no_photos() -> None:
    found = share(0, 0)
    assert (found.low, found.high) == (0, 1) and math.isnan(found.value) and not found.holds(2)


@pytest.mark.parametrize(("count", "of"), [(-1, 2), (3, 2), (1, 0)])
def test_a_share_is_of_a_whole(count: int, of: int) -> None:
    with pytest.raises(UsageError):
        share(count, of)


def test_a_calibration_error_by_hand() -> None:
    """Ten at 95 % of which eight are right, and ten at 55 % of which five are: (10 x 0.15 + 10 x 0.05) / 20."""
    confidences = np.array([0.95] * 10 + [0.55] * 10)
    right = np.array([True] * 8 + [False] * 2 + [True] * 5 + [False] * 5)
    found = bins(confidences, right)
    assert found.ece == pytest.approx(0.1) and found.total == 20
    assert found.confidence == pytest.approx(0.75) and found.accuracy == pytest.approx(0.65)
    assert found.counts[14] == found.counts[8] == 10 and found.accuracies[14] == share(8, 10)
    assert found.confidences[8] == pytest.approx(0.55) and found.confidences[0] == pytest.approx(1 / 30)


def test_errors_of_both_signs_do_not_make_up_for_each_other_between_bins_but_do_in_one() -> None:
    assert bins(np.array([0.5, 1.0]), np.array([True, False])).ece == pytest.approx(0.75)
    assert bins(np.array([0.5, 0.5]), np.array([True, False])).ece == pytest.approx(0)


def test_a_bin_takes_its_upper_end() -> None:
    edges = np.arange(16) / 15
    found = bins(edges, np.zeros(16, bool))
    assert found.counts == (2, *[1] * 14)  # 0 is in the first as well
    assert bins(np.nextafter(edges[1:15], 2), np.zeros(14, bool)).counts == (0, *[1] * 14)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60), st.integers(1, 20))
def test_bins_against_the_plainest_of_ways(answers: list[tuple[float, bool]], count: int) -> None:
    confidences = np.array([each for each, _ in answers], float)
    found = bins(confidences, np.array([right for _, right in answers], bool), count=count)
    assert found.total == len(answers) and sum(found.right) == sum(right for _, right in answers)
    error = 0.0
    for i in range(count):
        inside = [(c, r) for c, r in answers if i / count < c <= (i + 1) / count or (i == 0 and c == 0)]
        assert found.counts[i] == len(inside)
        if inside:
            mean, accuracy = np.mean([c for c, _ in inside]), np.mean([r for _, r in inside])
            error += len(inside) / len(answers) * abs(mean - accuracy)
    assert found.ece == pytest.approx(error) if answers else math.isnan(found.ece)
    assert answers or (math.isnan(found.accuracy) and math.isnan(found.confidence))


@pytest.mark.parametrize("confidences", [[1.1, 0.5], [-0.1, 0.5], [math.nan, 0.5], [0.5], [[0.5, 0.5]]])
def test_what_is_no_confidence(confidences: list[float]) -> None:
    with pytest.raises(UsageError):
        bins(np.array(confidences), np.array([True, False]))


def test_at_least_one_bin() -> None:
    with pytest.raises(UsageError):
        bins(np.array([0.5]), np.array([True]), count=0)


def test_a_share_as_plain_values() -> None:
    assert share(1, 4).record() == {
        "count": 1,
        "of": 4,
        "share": 0.25,
        "low": share(1, 4).low,
        "high": share(1, 4).high,
    }
    assert share(0, 0).record() == {"count": 0, "of": 0, "share": None, "low": 0.0, "high": 1.0}
