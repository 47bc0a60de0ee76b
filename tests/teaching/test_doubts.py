"""Doubts: a wrong label, a photo twice, a leak; each found where it was put."""

from __future__ import annotations

import numpy as np
import pytest

from photolabel.errors import UsageError
from photolabel.teaching.doubts import BITS, NEAR, mislabelled, near, together
from photolabel.teaching.fingerprint import BYTES


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


@pytest.mark.parametrize(("lead", "found"), [(1e-3, 0), (0.15, 0), (0.17, 20)])
def test_a_head_that_tells_little_apart_doubts_nothing(lead: float, found: int) -> None:
    """Each photo is said to be of another class than the head thinks, so that no class is believed for a high value."""
    truth = np.arange(40) % 2
    said = np.full((40, 2), 0.5, np.float32)
    said[:20, 0] += lead
    said[:20, 1] -= lead
    said[20:] = 0.5 - 1e-6, 0.5 - 1e-6
    truth[:20], truth[20:] = 1, np.arange(20) % 2
    assert len(mislabelled(said, truth, np.ones(40, bool))) == found


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


def prints(photos: int, seed: int = 0) -> np.ndarray:
    """Fingerprints of photos of different things."""
    made = np.random.default_rng(seed).integers(0, 256, (photos, BYTES), np.uint8)
    made[:, 0] |= 0x80
    return made


def changed(fingerprint: np.ndarray, bits: int) -> np.ndarray:
    """The same with so many bits turned, not the first."""
    made = np.unpackbits(fingerprint)
    made[1 + 2 * np.arange(bits)] ^= 1
    return np.packbits(made)


def apart(photos: int) -> np.ndarray:
    """Features that are unlike each other."""
    return np.eye(photos, dtype=np.float32)


def test_copies_are_found_by_their_fingerprints_where_features_are_unlike() -> None:
    made = prints(8)
    made[6], made[5], made[7] = changed(made[1], BITS), changed(made[2], 3), changed(made[3], BITS + 1)
    truth = np.array([0, 0, 0, 0, 0, 0, 1, 0])
    learnt = np.arange(8) != 5
    found = near(apart(8), truth, fingerprints=made, learnt=learnt)
    assert [(each.one, each.other, each.bits) for each in found] == [(2, 5, 3), (1, 6, BITS)]
    assert [each.contradictory for each in found] == [False, True]
    assert [each.across for each in found] == [True, False]
    assert found[0].likeness == pytest.approx(-1 / 7, abs=1e-6), "the cosine around the mean, whatever found it"
    assert near(apart(8), truth) == ()
    further = near(apart(8), truth, fingerprints=made, bits=BITS + 1)
    assert [(each.one, each.other) for each in further] == [(2, 5), (1, 6), (3, 7)]
    assert near(apart(8), truth, fingerprints=made, bits=2) == ()


def test_either_is_enough_and_fingerprints_come_first() -> None:
    features, made = apart(9), prints(9)
    features[1], features[3] = features[0], features[2]
    features[5] = features[4] + 0.02 * features[6]
    made[1], made[8] = changed(made[0], 7), changed(made[7], 9)
    found = near(features, np.zeros(9, np.intp), fingerprints=made)
    assert [(each.one, each.other) for each in found] == [(0, 1), (7, 8), (2, 3), (4, 5)]
    assert found[0].bits == 7 and found[0].likeness == pytest.approx(1), "by both"
    assert found[1].bits == 9 and found[1].likeness < NEAR
    for each in found[2:]:
        assert each.bits is not None and each.bits > BITS and each.likeness >= NEAR
    assert near(features, np.zeros(9, np.intp), fingerprints=made, most=3) == found[:3]
    assert near(features, np.zeros(9, np.intp), fingerprints=made, most=1) == found[:1]


def test_photos_without_a_fingerprint_are_not_alike_for_that() -> None:
    features, made = apart(6), prints(6)
    made[:4] = 0
    features[3] = features[2]
    (found,) = near(features, np.zeros(6, np.intp), fingerprints=made)
    assert (found.one, found.other, found.bits) == (2, 3, None)


def test_a_fingerprint_is_not_near_to_none() -> None:
    made = np.zeros((4, BYTES), np.uint8)
    made[:2, 0] = 0x80  # which hardly differs from none, in bits
    (found,) = near(apart(4), np.zeros(4, np.intp), fingerprints=made, bits=127)
    assert (found.one, found.other, found.bits) == (0, 1, 0)


def test_fingerprints_over_several_blocks_are_those_of_the_whole_matrix() -> None:
    rng = np.random.default_rng(1)
    made = prints(2300)
    for copy in range(2000, 2300):
        made[copy] = changed(made[copy - int(rng.integers(1, 2000))], int(rng.integers(0, 2 * BITS)))
    made[rng.integers(0, 2300, 40)] = 0
    features = rng.normal(size=(2300, 8)).astype(np.float32)
    signs = np.unpackbits(made, axis=1).astype(np.int16)
    differ = signs @ (1 - signs).T
    differ = differ + differ.T
    there = made.any(axis=1)
    whole = np.triu((differ <= BITS) & there & there[:, np.newaxis], 1)
    found = near(features, np.zeros(2300, np.intp), fingerprints=made, least=1)
    wanted = sorted((int(differ[one, other]), one, other) for one, other in zip(*np.nonzero(whole), strict=True))
    assert len(wanted) > 100
    assert sorted((each.bits, each.one, each.other) for each in found) == wanted
    assert [each.bits for each in found] == [bits for bits, _, _ in wanted]


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
    # Of those that are taken apart copies stay together, but where most of them are copies.
    found = together(truth, [*chain, (0, 10)], [(1, 2), (2, 4), (0, 10), (11, 12)])
    assert found.uniform == (0,) and len({*found.of_photo[:6].tolist()}) == 4
    assert found.of_photo[1] == found.of_photo[2] == found.of_photo[4]
    assert len({*found.of_photo.tolist()}) == 4 + 1 + 1 + 5
    assert len({*together(truth, chain, chain).of_photo[:6].tolist()}) == 6
    assert together(truth, chain, chain).uniform == (0,)


def test_numbers_that_do_not_fit_are_refused() -> None:
    features = np.ones((3, 2), np.float32)
    with pytest.raises(UsageError):
        near(features, np.zeros(2, np.intp))
    with pytest.raises(UsageError):
        near(features, np.zeros(3, np.intp), least=0)
    for bits in (-1, 128):  # half of all differ between any two
        with pytest.raises(UsageError):
            near(features, np.zeros(3, np.intp), bits=bits)
    for wrong in (prints(2), prints(3)[:, :16], prints(3).astype(np.int64)):
        with pytest.raises(UsageError, match="expected fingerprints"):
            near(features, np.zeros(3, np.intp), fingerprints=wrong)
