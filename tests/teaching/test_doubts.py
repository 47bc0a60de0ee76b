"""Doubts: a wrong label, a photo twice, a leak; each found where it was put."""

from __future__ import annotations

import numpy as np
import pytest

from photolabel.errors import UsageError
from photolabel.teaching.doubts import mislabelled, near, together


def test_a_wrong_label_is_found_and_the_surest_comes_first() -> None:
    truth = np.repeat([0, 1], 20)
    said = np.full((40, 2), 0.1, np.float32)
    said[np.arange(40), truth] = 0.9
    said[3], said[25] = (0.05, 0.95), (0.92, 0.08)
    found = mislabelled(said, truth, np.ones(40, bool))
    assert [(each.photo, each.truth, each.said) for each in found] == [(3, 0, 1), (25, 1, 0)]
    assert found[0].margin == pytest.approx(0.9) and found[1].margin == pytest.approx(0.84)


def test_what_is_less_than_usual_of_a_class_is_not_believed() -> None:
    truth = np.repeat([0, 1], 20)
    said = np.full((40, 2), 0.02, np.float32)
    said[np.arange(40), truth] = 0.98
    said[3] = 0.4, 0.6  # wrong, but no photo of class 1 is as unsure as that
    assert mislabelled(said, truth, np.ones(40, bool)) == ()


def test_what_was_not_judged_is_not_doubted() -> None:
    truth, said = np.array([0, 0, 1, 1]), np.array([[0, 1], [1, 0], [0, 1], [0, 1]], np.float32)
    judged = np.ones(4, bool)
    assert [each.photo for each in mislabelled(said, truth, judged)] == [0]
    said[0], judged[0] = np.nan, False
    assert mislabelled(said, truth, judged) == () == mislabelled(said, truth, np.zeros(4, bool))


def test_pairs_over_several_blocks_are_those_of_the_whole_matrix() -> None:
    random = np.random.default_rng(0)
    features = random.random((2100, 8), np.float32)
    features[2050] = features[3] + 1e-4
    centred = features - features.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    whole = np.triu(centred @ centred.T, 1)
    truth = np.zeros(2100, np.intp)
    truth[3] = 1
    learnt = np.arange(2100) < 2000
    found = near(features, truth, learnt=learnt, least=0.97)
    assert {(each.one, each.other) for each in found} == set(zip(*map(list, np.nonzero(whole >= 0.97)), strict=True))
    assert (found[0].one, found[0].other) == (3, 2050) and found[0].contradictory and found[0].across
    assert [each.likeness for each in found] == sorted((each.likeness for each in found), reverse=True)
    few = near(features, truth, least=0.9, most=5)
    assert [(e.one, e.other) for e in few] == [(e.one, e.other) for e in near(features, truth, least=0.9)[:5]]


def test_photos_that_are_all_alike_are_no_error() -> None:
    assert near(np.ones((4, 3), np.float32), np.zeros(4, np.intp)) == ()
    assert near(np.ones((1, 3), np.float32), np.zeros(1, np.intp)) == ()


def test_likeness_is_handed_on() -> None:
    found = together(np.array([0, 1, 0, 1, 0, 1, 2, 2]), [(1, 2), (4, 5), (2, 4)])
    assert found.of_photo.tolist() == [0, 1, 1, 3, 1, 1, 6, 7] and found.uniform == ()
    assert together(np.array([0, 1]), []).of_photo.tolist() == [0, 1]


def test_a_class_whose_photos_are_all_alike_is_taken_apart() -> None:
    """But not a series of most of its photos where these are very few, nor what is alike in another class."""
    truth = np.repeat([0, 1, 2], [6, 4, 10])
    chain = [(i, i + 1) for start, count in ((0, 4), (6, 4), (10, 5)) for i in range(start, start + count - 1)]
    found = together(truth, [*chain, (0, 10)])
    assert found.uniform == (0,)
    assert len({*found.of_photo[:6].tolist()}) == 6 and not {*found.of_photo[:6]} & {*found.of_photo[6:]}
    assert len({*found.of_photo[6:10].tolist()}) == 1 and len({*found.of_photo[10:15].tolist()}) == 1
    assert len({*found.of_photo.tolist()}) == 6 + 1 + 1 + 5


def test_numbers_that_do_not_fit_are_refused() -> None:
    features = np.ones((3, 2), np.float32)
    with pytest.raises(UsageError):
        near(features, np.zeros(2, np.intp))
    with pytest.raises(UsageError):
        near(features, np.zeros(3, np.intp), least=0)
