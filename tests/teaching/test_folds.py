"""Folds: groups stay whole, classes are spread evenly, and what cannot be judged is in none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photolabel.teaching.folds import NEVER, deal, hold_out, portion


def test_a_class_is_spread_evenly() -> None:
    truth = np.repeat([0, 1, 2], [50, 20, 7])
    fold = deal(truth, np.arange(77), most=5, seed=0)
    for each in range(3):
        counts = np.bincount(fold[truth == each], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_two_photos_a_class_are_two_folds() -> None:
    fold = deal(np.array([0, 0, 1, 1]), np.arange(4), most=10, seed=0)
    assert sorted(fold[:2]) == sorted(fold[2:]) == [0, 1]


def test_a_class_of_one_group_is_never_held_out() -> None:
    truth, groups = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 3, 3, 4])
    fold = deal(truth, groups, most=10, seed=0)
    assert (fold[3:] == NEVER).all() and sorted(fold[:3]) == [0, 1, 2]


def test_where_every_class_has_one_photo_there_are_no_folds() -> None:
    assert (deal(np.arange(3), np.arange(3), most=10, seed=0) == NEVER).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=60), st.integers(0, 5))
def test_groups_are_whole_and_chance_is_the_seeds(photos: list[tuple[int, int]], seed: int) -> None:
    truth, groups = np.array(photos).T
    groups = np.unique(groups, return_inverse=True)[1]
    fold = deal(truth, groups, most=4, seed=seed)
    assert all(len(set(fold[groups == each])) == 1 for each in set(groups))
    assert (fold == deal(truth, groups, most=4, seed=seed)).all()
    assert fold.min() >= NEVER and fold.max() < 4


def test_a_portion_is_a_like_share_of_each_class_and_whole_groups() -> None:
    truth = np.repeat([0, 1, 2], [800, 196, 4])
    groups = np.arange(1000) // 2
    some = portion(truth, groups, share=0.1, least=3, seed=0)
    assert np.bincount(truth[some]).tolist() == [80, 20, 3]
    assert (np.diff(some) > 0).all()
    halved = [np.count_nonzero(groups[some] == each) == 1 for each in np.unique(groups[some])]
    assert sum(halved) <= 3  # at the edge of a class
    assert (some == portion(truth, groups, share=0.1, least=3, seed=0)).all()
    assert (some != portion(truth, groups, share=0.1, least=3, seed=1)).any()
    assert set(some) < set(portion(truth, groups, share=0.2, least=3, seed=0))


@pytest.mark.parametrize("share", [1, 7.5])
def test_all_of_it_is_a_portion(share: float) -> None:
    assert portion(np.array([0, 1, 0]), np.arange(3), share=share, least=1, seed=0).tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_held_out_once_is_a_like_share_of_each_class(seed: int) -> None:
    truth = np.repeat([0, 1, 2], [50, 20, 10])
    held = hold_out(truth, np.arange(80), most=5, seed=seed)
    assert np.bincount(truth[held]).tolist() == [10, 4, 2]


def test_large_groups_are_not_what_is_held_out_if_it_can_be_helped() -> None:
    truth = np.repeat([0, 1], 50)
    groups = np.arange(100)
    groups[:26] = 0  # the largest goes into the first fold
    held = hold_out(truth, groups, most=5, seed=0)
    assert 5 <= held[:50].sum() <= 10 and held[50:].sum() == 10


def test_some_of_each_class_are_left_and_without_two_groups_none_are_held_out() -> None:
    truth = np.array([0, 0, 1, 1, 2])
    held = hold_out(truth, np.arange(5), most=5, seed=0)
    assert held.sum() == 2 and np.bincount(truth[~held], minlength=3).tolist() == [1, 1, 1]
    assert not hold_out(truth, np.array([0, 0, 1, 1, 2]), most=5, seed=0).any()
