"""Temperature and sets of names: right by their definitions, kept whole, and never used for another network."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import photolabel
from photolabel import answer, calibration, store
from photolabel.calibration import FEWEST, Calibration
from photolabel.errors import StoreError, UsageError

from conftest import ROOT

SCORES = tuple(i / 100 for i in range(100))


def drawn(photos: int, *, temperature: float, seed: int = 0, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """What a network says that is off by a temperature, and truths drawn from what it should have said."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (photos, classes))
    raised = np.exp(logits - logits.max(1, keepdims=True))
    right = raised / raised.sum(1, keepdims=True)
    truth = np.array([random.choice(classes, p=each) for each in right])
    said = answer.tempered(right.astype(np.float32), 1 / temperature)
    return said, truth


# -- temperature


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_found(temperature: float) -> None:
    said, truth = drawn(20_000, temperature=temperature)
    assert calibration.temperature(said, truth) == pytest.approx(temperature, rel=0.03)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), temperature=st.floats(0.3, 3))
def test_no_other_temperature_is_likelier(seed: int, temperature: float) -> None:
    said, truth = drawn(60, temperature=temperature, seed=seed)

    def loss(at: float) -> float:
        return float(-np.log(answer.tempered(said, at)[np.arange(len(truth)), truth].astype(np.float64)).mean())

    best = calibration.temperature(said, truth)
    assert all(loss(best) <= loss(min(20.0, max(0.05, best * by))) + 1e-5 for by in (0.8, 0.97, 1.03, 1.25))


def test_where_all_is_right_the_temperature_is_a_bound() -> None:
    sure = np.full((30, 5), 0.05, np.float32)
    sure[:, 2] = 0.8
    assert calibration.temperature(sure, np.full(30, 2)) == pytest.approx(1 / 20)
    assert calibration.temperature(sure, np.full(30, 3)) == pytest.approx(20)


def test_probabilities_of_nought_are_borne() -> None:
    said = np.zeros((FEWEST, 4), np.float32)
    said[:, 0] = 1
    learnt = calibration.fit(said, np.array([0] * (FEWEST - 2) + [1, 2]))
    assert all(map(math.isfinite, learnt.scores)) and learnt.right == FEWEST - 2
    made = learnt.probabilities(said)
    assert np.isfinite(made).all() and made.sum(axis=1) == pytest.approx(1)


def test_all_but_a_twentieth_of_the_photos_are_familiar() -> None:
    said, truth = drawn(200, temperature=1)
    learnt = calibration.fit(said, truth)
    assert int((answer.familiarity(said) < learnt.floor).sum()) == 10


# -- sets


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_hold_the_truth_as_often_as_they_promise(coverage: float) -> None:
    """In the mean over calibrations of n photos: ceil((n + 1) coverage) / (n + 1), where no two scores are equal."""
    photos, held = 60, []
    for seed in range(300):
        said, truth = drawn(2 * photos, temperature=2, seed=seed)
        learnt = calibration.fit(said[:photos], truth[:photos])
        made = learnt.probabilities(said[photos:])
        held += [index in learnt.names(each, coverage) for each, index in zip(made, truth[photos:], strict=True)]
    expected = math.ceil((photos + 1) * coverage) / (photos + 1)
    assert coverage - 0.005 <= np.mean(held) <= expected + 0.02


def test_a_set_is_the_likeliest_first_and_never_empty() -> None:
    learnt = Calibration(temperature=1.0, scores=SCORES, right=90, floor=0.0)
    probabilities = np.array([0.1, 0.5, 0.05, 0.35], np.float32)
    assert list(learnt.names(probabilities, 0.5)) == [1], "of a half, only what has a half"
    assert list(learnt.names(probabilities, 0.9)) == [1, 3, 0]
    assert list(learnt.names(np.full(4, 0.25, np.float32), 0.05)) == [0]


@given(st.lists(st.floats(0, 1), min_size=FEWEST, max_size=60), st.floats(0.01, 1))
def test_more_coverage_is_never_fewer_names(scores: list[float], coverage: float) -> None:
    learnt = Calibration(temperature=1.0, scores=tuple(sorted(scores)), right=0, floor=0.0)
    try:
        least = learnt.least(coverage)
    except UsageError:
        assert math.ceil((len(scores) + 1) * coverage - 1e-9) > len(scores)
        return
    assert sum(1 - score >= least for score in scores) >= math.ceil((len(scores) + 1) * coverage - 1e-9)
    assert learnt.least(coverage / 2) >= least


def test_a_coverage_that_so_few_photos_cannot_promise() -> None:
    learnt = Calibration(temperature=1.0, scores=SCORES, right=90, floor=0.0)
    assert learnt.least(0.99) == pytest.approx(1 - 0.99)
    with pytest.raises(UsageError, match="at least 199 photos; this model was calibrated with 100"):
        learnt.least(0.995)
    with pytest.raises(UsageError, match="no finite number of photos can promise that. Ask for less"):
        learnt.least(1)
    for wrong in (0, -1, 1.1, True, "0.9", None, float("nan")):
        with pytest.raises(UsageError, match="coverage="):
            learnt.least(wrong)  # type: ignore[arg-type]


# -- bad input


def test_photos_that_do_not_teach() -> None:
    said, truth = drawn(40, temperature=1)
    for probabilities, classes, why in (
        (said[:19], truth[:19], "at least 20 photos"),
        (said, truth[:39], "one class a photo"),
        (said[0], truth, "one class a photo"),
        (said, truth.astype(float), "one class a photo"),
        (said, truth + 8, "classes from 0 to 9"),
        (said, truth - 8, "classes from 0 to 9"),
    ):
        with pytest.raises(UsageError, match=why):
            calibration.fit(probabilities, classes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"temperature": True},
        {"temperature": 21},
        {"scores": SCORES[:19]},
        {"scores": SCORES[::-1]},
        {"scores": (*SCORES, 1.1)},
        {"scores": (float("nan"), *SCORES)},
        {"scores": (*SCORES, "1")},
        {"right": 101},
        {"right": -1},
        {"right": 1.0},
        {"floor": 1.5},
        {"floor": float("nan")},
        {"floor": None},
    ],
)
def test_what_is_no_calibration(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="expected a temperature"):
        Calibration(**{"temperature": 1.0, "scores": SCORES, "right": 50, "floor": 0.1, **wrong})  # type: ignore[arg-type]


# -- kept


WHAT = [["sha256:00", {"name": "crop"}, "fp32"]]


def test_kept_and_forgotten() -> None:
    assert calibration.kept(WHAT) is None and not calibration.forget(WHAT)
    first, second = (calibration.fit(*drawn(50, temperature=t)) for t in (2, 3))
    calibration.keep(WHAT, first)
    assert calibration.kept(WHAT) == first
    assert calibration.kept([["sha256:00", {"name": "crop"}, "int8"]]) is None, "another network's"
    calibration.keep(WHAT, second)
    found = calibration.kept(WHAT)
    assert found == second and found.digest == second.digest != first.digest
    assert calibration.forget(WHAT) and calibration.kept(WHAT) is None


def _file() -> Path:
    cache, name = calibration._place(WHAT)
    return cache.path(name)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        json.dumps(
            {"format": "photolabel-calibration/2", "temperature": 1.0, "scores": SCORES, "right": 5, "floor": 0.0}
        ).encode(),
        json.dumps(
            {"format": "photolabel-calibration/1", "temperature": 0, "scores": SCORES, "right": 5, "floor": 0.0}
        ).encode(),
        json.dumps(
            {"format": "photolabel-calibration/1", "temperature": 1.0, "scores": {}, "right": 5, "floor": 0.0}
        ).encode(),
    ],
)
def test_one_that_is_damaged_is_an_error(data: bytes) -> None:
    """Never left out without a word: every answer would be another."""
    calibration.keep(WHAT, calibration.fit(*drawn(50, temperature=2)))
    path = _file()
    path.write_bytes(data)  # another program's, or a failing disk
    with pytest.raises(StoreError, match="not what was written"):
        calibration.kept(WHAT)
    with store.Store(path.parent).create(path.name) as file:  # as if we had written it
        file.write(data)
    with pytest.raises(StoreError, match="not of the form|cannot be used"):
        calibration.kept(WHAT)
    assert calibration.forget(WHAT) and calibration.kept(WHAT) is None


# -- used


def test_a_classifier_uses_what_was_learnt_of_it(tiny: Path, photo: Path) -> None:
    with photolabel.load(tiny, threads=1) as plain:
        before = plain.classify(photo)
        assert before.calibration is None and plain.calibration is None
        with pytest.raises(UsageError, match="calibrate"):
            plain.classify(photo, coverage=0.9)
        learnt = Calibration(temperature=0.5, scores=SCORES, right=90, floor=0.0)
        calibration.keep(plain.identity, learnt)
    with photolabel.load(tiny, threads=1) as calibrated, photolabel.load(tiny, threads=1, calibrated=False) as not_so:
        found = calibrated.classify(photo, top=3, coverage=0.9, sure=0.9)
        np.testing.assert_array_equal(found.probabilities, answer.tempered(before.probabilities, 0.5))
        assert found.calibration is not None
        assert (found.calibration.digest, found.calibration.temperature) == (learnt.digest, 0.5)
        assert found.names is not None and found.names.coverage == 0.9
        expected = learnt.names(found.probabilities, 0.9)
        assert [label.index for label in found.names.labels] == list(expected)
        assert found.record()["names"]["labels"][0]["probability"] == found.top.probability
        np.testing.assert_array_equal(not_so.classify(photo).probabilities, before.probabilities)
        with pytest.raises(UsageError, match="at least 9,999 photos"):
            next(calibrated.classify_many([photo], coverage=0.9999))
        (many,) = calibrated.classify_many([photo], coverage=0.9)
        assert many.names == found.names
        (of_folder,) = photolabel.classify_folder(photo, calibrated, coverage=0.9, workers=0)
        assert of_folder.names == found.names


def test_another_recipe_is_another_way_of_looking() -> None:
    with photolabel.load("efficientnet-lite2") as plain:
        calibration.keep(plain.identity, Calibration(temperature=0.5, scores=SCORES, right=90, floor=0.0))
    with photolabel.load("efficientnet-lite2", views="mirror") as mirrored:
        assert mirrored.calibration is None
        assert mirrored.classify(ROOT / "samples" / "cat.jpg").calibration is None
