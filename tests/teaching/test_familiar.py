"""The line below which a photo shows none of the classes."""

from __future__ import annotations

import numpy as np
import pytest

from photolabel.errors import UsageError
from photolabel.teaching.familiar import learn
from photolabel.teaching.folds import NEVER, deal


def photos(count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = np.arange(count) % 3
    features = np.maximum(0, 3 * np.eye(3, 40, dtype=np.float32)[truth] + random.normal(0, 0.3, (count, 40)))
    return features.astype(np.float32), truth


def test_about_a_twentieth_of_the_classes_own_is_given_up_and_strangers_are_known() -> None:
    features, truth = photos(300)
    known = learn(features, truth, deal(truth, np.arange(300), most=10, seed=0), classes=3)
    assert known.photos == 300 and 0.01 < (known.scores(photos(3000, seed=1)[0]) < known.floor).mean() < 0.1
    strangers = np.roll(features, 20, axis=1)
    assert (known.scores(strangers) < known.floor).all()


def test_scores_are_cosines_with_the_means() -> None:
    features, truth = photos(30)
    known = learn(features, truth, deal(truth, np.arange(30), most=10, seed=0), classes=3)
    means = np.stack([features[truth == each].mean(axis=0) for each in range(3)])
    cosines = [[x @ m / np.linalg.norm(x) / np.linalg.norm(m) for m in means] for x in features]
    assert known.scores(features) == pytest.approx(np.max(cosines, axis=1), abs=1e-6)
    assert np.linalg.norm(known.centres, axis=0) == pytest.approx(1, abs=1e-6)
    assert known.scores(1000 * features) == pytest.approx(known.scores(features), abs=1e-6)


def test_a_photo_does_not_vouch_for_itself() -> None:
    """Two photos a class that are nothing like each other: held out, neither is familiar."""
    features, truth = np.eye(4, dtype=np.float32), np.array([0, 0, 1, 1])
    assert learn(features, truth, np.array([0, 1, 0, 1]), classes=2).floor == 0


def test_where_nothing_can_be_held_out_nothing_is_given_up() -> None:
    features, truth = photos(3)
    known = learn(features, truth, np.full(3, NEVER), classes=3)
    assert known.floor == -1 and known.photos == 0 and known.centres.shape == (40, 3)


def test_a_class_in_one_fold_alone_tells_nothing() -> None:
    features, truth = photos(30)
    fold = np.where(truth == 2, 0, np.arange(30) % 2)
    assert learn(features, truth, fold, classes=3).photos == 20


def test_features_of_nought_are_no_error() -> None:
    known = learn(*photos(30), np.arange(30) % 5, classes=3)
    assert known.scores(np.zeros((1, 40), np.float32)) == 0


def test_what_rounding_leaves_of_a_class_is_no_direction() -> None:
    """A class whose photos cancel each other out has no mean; whatever its last digits point to says nothing."""
    away = np.float32([0.1, 0.7, -0.2, 0.3])
    features = np.stack([away, 2 * away, -3 * away, away, away])
    assert features[:3].sum(axis=0, dtype=np.float64).any()
    known = learn(features, np.array([0, 0, 0, 1, 1]), np.array([0, 1, NEVER, 0, 1]), classes=2)
    assert not known.centres[:, 0].any() and np.linalg.norm(known.centres[:, 1]) == pytest.approx(1)


def test_numbers_that_do_not_fit_are_refused() -> None:
    features, truth = photos(9)
    fold = np.zeros(9, np.intp)
    with pytest.raises(UsageError, match="each of the 4"):
        learn(features, truth, fold, classes=4)
    with pytest.raises(UsageError, match="from 0 to 1"):
        learn(features, truth, fold, classes=2)
    with pytest.raises(UsageError, match="a fold for each"):
        learn(features, truth, fold[:3], classes=3)
    with pytest.raises(UsageError, match="40"):
        learn(features, truth, fold, classes=3).scores(features[:, :7])
