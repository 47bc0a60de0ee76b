"""What labelled photos teach, and what it is worth on photos that taught nothing of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from photolabel import calibration, confidence
from photolabel.answer import tempered
from photolabel.calibration import FEWEST
from photolabel.errors import CorruptPhotoError, UsageError
from photolabel.evaluate import calibrating
from photolabel.prediction import Calibrated, Prediction, Truth
from test_calibration import drawn


def judged(probabilities: np.ndarray, classes: Iterable[int]) -> list[Prediction]:
    blank = Prediction(photo="x.jpg", model="m", recipe="r", precision="fp32")
    return [
        replace(blank, probabilities=each, truth=Truth(index=int(index), wnid=None, name="x"))
        for each, index in zip(probabilities, classes, strict=True)
    ]


BAD = Prediction(
    photo="bad.jpg", model="m", recipe="r", precision="fp32", error=CorruptPhotoError("cut short"),
    truth=Truth(index=0, wnid=None, name="x"),
)  # fmt: skip


def test_what_is_learnt_is_what_all_of_them_teach() -> None:
    said, classes = drawn(300, temperature=2.5)
    found = calibrating.learn(judged(said, classes))
    assert found.calibration == calibration.fit(said, classes)
    right = said.argmax(axis=1) == classes
    assert found.right == confidence.share(int(right.sum()), 300) and found.unreadable == 0
    assert found.before == confidence.bins(said.max(axis=1), right)
    assert found.after.total == 300 and sum(found.after.right) == right.sum()
    assert found.after.ece < found.before.ece / 2
    np.testing.assert_array_equal(found.probabilities, said)


def test_photos_that_could_not_be_read_are_counted_and_left_out() -> None:
    said, classes = drawn(40, temperature=2)
    made = judged(said, classes)
    found = calibrating.learn([BAD, *made[:7], BAD, *made[7:]])
    assert found.unreadable == 2 and found.calibration == calibration.fit(said, classes)


# -- no photo's own truth


@pytest.mark.parametrize("photos", [FEWEST, 33, 100])
def test_what_a_photo_shows_has_no_part_in_what_is_made_of_it(photos: int) -> None:
    """With another truth for one photo all others of its fifth, and itself, stay as they are, and the rest move."""
    said, classes = drawn(photos, temperature=0.4)
    before = calibrating._cross_fitted(said, classes)
    folds = []
    for photo in range(photos):
        changed = classes.copy()
        changed[photo] = int(said[photo].argmin())
        same = (calibrating._cross_fitted(said, changed) == before).all(axis=1)
        assert same[photo]
        folds.append(frozenset(np.flatnonzero(same).tolist()))
    fifths = set(folds)
    assert len(fifths) == 5 and sorted(i for fifth in fifths for i in fifth) == list(range(photos))
    assert all(photo in fold for photo, fold in enumerate(folds))
    assert max(map(len, fifths)) - min(map(len, fifths)) <= 1


def test_of_each_fifth_by_what_the_others_teach() -> None:
    said, classes = drawn(50, temperature=2)
    found = calibrating._cross_fitted(said, classes)
    order = np.random.default_rng(0).permutation(50)
    for fold in range(5):
        held = order[fold::5]
        others = [i for i in range(50) if i not in held]
        at = calibration.temperature(said[others], classes[others])
        np.testing.assert_allclose(found[held], tempered(said[held], at), rtol=1e-6)
    assert found.argmax(axis=1).tolist() == said.argmax(axis=1).tolist(), "a temperature changes no order"


def test_it_does_not_flatter_itself() -> None:
    """Truths drawn at random teach nothing: who fits and judges by the same photos still finds something."""
    rng = np.random.default_rng(0)
    flattered, honest = [], []
    for seed in range(30):
        said, _ = drawn(FEWEST, temperature=1, seed=seed)
        classes = np.array([rng.choice(10, p=each / each.sum()) for each in said.astype(np.float64)])
        right = said.argmax(axis=1) == classes

        def loss(made: np.ndarray, classes: np.ndarray = classes) -> float:
            return float(-np.log(made[np.arange(FEWEST), classes].astype(np.float64)).mean())

        flattered.append(loss(tempered(said, calibration.temperature(said, classes))))
        honest.append(loss(calibrating._cross_fitted(said, classes)))
        assert (
            calibrating.learn(judged(said, classes)).after.right
            == confidence.bins(calibrating._cross_fitted(said, classes).max(axis=1), right).right
        )
    assert np.mean(honest) > np.mean(flattered)


def test_the_same_photos_teach_the_same() -> None:
    said, classes = drawn(60, temperature=2)
    one, two = (calibrating.learn(judged(said, classes)) for _ in range(2))
    assert (one.calibration, one.before, one.after) == (two.calibration, two.before, two.after)


# -- sets of names


def test_how_many_names_a_set_has() -> None:
    said, classes = drawn(200, temperature=2)
    found = calibrating.learn(judged(said, classes))
    for coverage in (0.5, 0.9, 0.95):
        sets = [found.calibration.names(each, coverage) for each in found.calibration.probabilities(said)]
        assert found.names(coverage) == pytest.approx(np.mean([len(each) for each in sets]), abs=0.02)
    assert 1 <= found.names(0.5) < found.names(0.95) <= 10
    with pytest.raises(UsageError, match="needs at least 999 photos"):
        found.names(0.999)


# -- refused


def test_too_few() -> None:
    said, classes = drawn(FEWEST, temperature=1)
    made = judged(said, classes)
    calibrating.learn(made)
    with pytest.raises(UsageError, match=r"at least 20 photos to calibrate with, got 19\."):
        calibrating.learn(made[1:])
    with pytest.raises(UsageError, match=r"got 19 \(2 more could not be classified\)"):
        calibrating.learn([BAD, *made[1:], BAD])
    with pytest.raises(UsageError, match="got 0"):
        calibrating.learn([])


def test_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they take is bounded, whoever gives them."""
    said, classes = drawn(40, temperature=1)
    monkeypatch.setattr(calibrating, "MOST", 40)
    calibrating.learn(judged(said, classes))
    asked = []

    def endless() -> Iterable[Prediction]:
        while True:
            for each in judged(said, classes):
                asked.append(each)
                yield each

    with pytest.raises(UsageError, match="at most 40 photos"):
        calibrating.learn(endless())
    assert len(asked) == 41


def test_what_was_calibrated_or_has_no_truth() -> None:
    said, classes = drawn(FEWEST, temperature=1)
    made = judged(said, classes)
    for wrong in (
        replace(made[0], calibration=Calibrated(digest="0" * 16, temperature=2.0)),
        replace(made[0], truth=None),
        replace(BAD, truth=None),
    ):
        with pytest.raises(UsageError, match="not calibrated, of photos whose classes are known"):
            calibrating.learn([*made, wrong])


def test_where_all_is_right() -> None:
    said, _ = drawn(40, temperature=1)
    found = calibrating.learn(judged(said, said.argmax(axis=1)))
    assert found.right.count == found.right.of == 40
    assert found.calibration.temperature == pytest.approx(1 / 20), "the bound"
