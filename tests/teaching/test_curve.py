"""The learning curve: what more photos would do is told where it is known, and nothing where it cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from photolabel.confidence import share
from photolabel.errors import UsageError
from photolabel.teaching import curve
from photolabel.teaching.curve import FEW, Curve, measure
from photolabel.teaching.heads import fit
from photolabel.teaching.solving import one_thread

from gaussians import clouds

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


def near_classes(counts: Sequence[int], *, seed: int = 0, near: float = 0.35, noise: float = 0.0) -> tuple[Any, Any]:
    """Classes 0 and 1 are so much nearer to each other than to the others; some photos of these two are exchanged.

    Features are of uneven variance, as a network's are, so that errors fall slowly.
    """
    features = 256
    sizes = np.arange(1, features + 1) ** -0.5
    means = np.random.default_rng(9).normal(0, 1, (len(counts), features)) * sizes
    means /= np.sqrt((means**2).sum(axis=1).mean())
    means[1] = means[0] + (means[1] - means[0]) * near
    spread = np.sqrt(sizes) / np.sqrt(sizes.sum())
    random = np.random.default_rng([seed, 3])
    truth = np.repeat(np.arange(len(counts)), counts)
    made = means[truth] + random.normal(0, 1, (len(truth), features)) * spread
    exchanged = (random.random(len(truth)) < noise) & (truth < 2)
    return made.astype(np.float32), np.where(exchanged, 1 - truth, truth)


def measured(made: Any, truth: Any, *, strength: float = 10.0, **options: Any) -> Curve | None:
    classes = int(truth.max()) + 1
    given = {name: options.get(name) for name in ("groups", "views")}
    found = fit(made, truth, classes=classes, strength=strength, kind=options.pop("kind", "logistic"), **given)
    return measure(made, truth, found, classes=classes, **options)


# -- the law by itself


def law(level: float, exponent: float, floor: float = 0.0, *, judged: int = 3000, usual: float | None = None) -> Any:
    sizes = [10.0, 20.0, 40.0, 90.0]
    return curve._Law.fit(sizes, [(level * n**-exponent + floor, judged) for n in sizes], usual)


@pytest.mark.parametrize("exponent", [0.3, 0.5, 1.0])
def test_a_power_is_read_off(exponent: float) -> None:
    found = law(0.8, exponent)
    assert found.exponent == pytest.approx(exponent, abs=0.051) and found.floor == 0
    assert found.halved(100) == pytest.approx(100 * 2 ** (1 / exponent), rel=0.2)


def test_errors_that_stay_the_same_are_flat() -> None:
    found = law(0.2, 0)
    assert found.exponent == 0 and found.halved(100) is None


def test_errors_that_grow_do_not_give_a_curve_that_does() -> None:
    found = curve._Law.fit([10.0, 20.0, 40.0, 90.0], [(0.1, 500), (0.12, 500), (0.2, 500), (0.3, 500)])
    assert found.exponent == 0 and found.halved(100) is None


def test_what_falls_too_little_for_few_answers_is_flat() -> None:
    assert law(0.3, 0.2, judged=20).halved(100) is None
    assert law(0.3, 0.3, judged=3000).halved(100) is not None


def test_a_floor_of_most_of_the_error_cannot_be_passed() -> None:
    found = law(4.0, 1.2, 0.2)
    assert found.floor > 0.1 and found.halved(90) is None
    # A floor of less than a half can: it takes more than without one.
    found = curve._Law(level=1, exponent=1, floor=0.01)
    assert found.halved(20) == pytest.approx(1 / ((0.06 / 2) - 0.01), rel=0.05)


def test_what_takes_far_too_many_is_never() -> None:
    assert curve._Law(level=0.5, exponent=0.2, floor=0).halved(100) == 3200
    assert curve._Law(level=0.5, exponent=0.19, floor=0).halved(100) is None


def test_a_class_of_few_answers_falls_as_all_do() -> None:
    assert law(0.8, 0.1, judged=2, usual=0.5).exponent == pytest.approx(0.5, abs=0.15)
    assert law(0.8, 0.1, judged=2).exponent == 0
    assert law(0.8, 0.2, judged=3000, usual=0.5).exponent == pytest.approx(0.2, abs=0.051)


@pytest.mark.parametrize("number", [0, 1, 5, 12, 99, 99.6, 123, 4567, 12345])
def test_numbers_are_of_two_digits(number: float) -> None:
    found = curve._rounded(number)
    assert isinstance(found, int) and found == pytest.approx(number, rel=0.05, abs=0.5)
    assert len(str(found).rstrip("0")) <= 2 or found < 100


# -- of heads


def test_accuracy_grows_with_photos_and_the_last_point_is_the_heads_own() -> None:
    made, truth = near_classes([60] * 4)
    found = fit(made, truth, classes=4, strength=10)
    told = measure(made, truth, found, classes=4)
    assert told is not None and len(told.points) == 4
    assert [each.photos for each in told.points] == [6, 12, 24, 54]  # of 48 while a fifth is held out; of 54
    shares = [each.accuracy for each in told.points]
    assert shares[0].value < shares[2].value and all(each.of == 240 for each in shares)
    right = found.probabilities.argmax(axis=1) == truth
    assert (shares[3].count, shares[3].of) == (right.sum(), 240)


def test_about_how_many_are_needed_is_about_right() -> None:
    """The truth is found by teaching with that many; over a few draws the estimates lie around it."""
    wanted = []
    for seed in range(4):
        told = measured(*near_classes([40] * 5, seed=seed, near=0.25), strength=100.0)
        assert told is not None and all(need.index < 2 for need in told.needs)
        wanted += [need.wanted for need in told.needs if need.wanted]
    judged, known = near_classes([1000] * 5, seed=100, near=0.25)

    def error(photos: int) -> float:
        """Of the two classes that are near each other, when all have so many."""
        found = []
        for seed in (200, 201):
            made, truth = near_classes([photos] * 5, seed=seed, near=0.25)
            said = fit(made, truth, classes=5, strength=100).head.logits(judged).argmax(axis=1)
            found.append((said != known)[known < 2].mean())
        return float(np.mean(found))

    middle = float(np.median(wanted))
    assert len(wanted) >= 3
    with one_thread():
        assert error(round(middle / 2)) > error(40) / 2 > error(round(2 * middle))


def test_classes_that_nothing_tells_apart_do_not_need_photos() -> None:
    told = measured(*near_classes([60] * 4, near=0.0))
    assert told is not None
    assert sorted(need.index for need in told.needs) == [0, 1]
    assert all(need.wanted is None and need.photos == 60 and need.recall.high < 0.9 for need in told.needs)


def test_where_all_is_well_no_class_needs_more() -> None:
    told = measured(*clouds([30, 40, 50], 40, apart=6))
    assert told is not None and told.needs == () and told.points[-1].accuracy.value == 1


@pytest.mark.parametrize(
    ("one", "other", "lower"),
    [
        ((9, 10), (10, 10), False),  # one mistake is no more than chance
        ((122, 123), (121, 121), False),
        ((60, 100), (95, 100), True),
        ((7, 10), (995, 1000), True),
        ((95, 100), (60, 100), False),
        ((0, 0), (10, 10), False),
        ((5, 10), (0, 0), False),
    ],
)
def test_a_class_falls_behind_by_more_than_chance(one: tuple[int, int], other: tuple[int, int], lower: bool) -> None:
    assert curve._is_lower(share(*one), share(*other)) is lower


def test_a_class_of_very_few_photos_needs_more_however_well_it_is_found() -> None:
    told = measured(*clouds([30, 40, FEW - 1], 40, apart=6))
    assert told is not None
    (need,) = told.needs
    assert (need.index, need.photos, need.wanted) == (2, FEW - 1, FEW) and need.recall.of == FEW - 1
    told = measured(*clouds([30, 40, 1], 40, apart=6))  # one that cannot be judged
    assert told is not None and told.needs[0].recall.of == 0 and told.needs[0].wanted == FEW


def test_the_lowest_recall_comes_first() -> None:
    told = measured(*near_classes([60, 120, 60, 60], near=0.0))
    assert told is not None and len(told.needs) == 2
    assert told.needs[0].recall.value <= told.needs[1].recall.value


def test_few_photos_say_nothing() -> None:
    assert measured(*clouds([FEW - 1] * 3, 40)) is None
    assert measured(*clouds([FEW] * 3, 40)) is not None
    assert measured(*clouds([1, 1], 40)) is None
    made, truth = clouds([20, 20], 40)
    assert measured(made, truth, groups=truth) is None  # each class is one series: nothing can be held out


@pytest.mark.parametrize("kind", ["logistic", "svm"])
def test_the_same_seed_tells_the_same(kind: str) -> None:
    made, truth = clouds([20, 20], 40, apart=0.3)
    assert measured(made, truth, kind=kind) == measured(made, truth, kind=kind)
    assert measured(made, truth, kind=kind) != measured(made, truth, kind=kind, seed=1)


def test_groups_are_held_out_together() -> None:
    """Copies of noise name each other, unless they are held out with each other."""
    made, truth = clouds([50, 50], 200, apart=0)
    copies, said = np.repeat(made, 4, axis=0), np.repeat(truth, 4)
    held, apart = (measured(copies, said, strength=100.0, groups=each) for each in (np.arange(400) // 4, None))
    assert held is not None and apart is not None
    assert all(each.accuracy.value < 0.62 for each in held.points) and apart.points[2].accuracy.value > 0.8


def test_a_class_that_lies_in_one_fold_is_not_judged() -> None:
    made, truth = clouds([30, 30, 1], 40, apart=3)
    groups = np.array([*range(60), 59])
    told = measured(made, truth, groups=groups)
    assert told is not None and told.points[0].accuracy.of == 60
    assert told.needs[0].index == 2 and told.needs[0].recall.of == 0


def test_views_are_learnt_from() -> None:
    made, truth = clouds([20, 20], 40, apart=0.25)
    views = clouds([100, 100], 40, apart=0.25, seed=5)[0].reshape(40, 5, 40)
    told, without = (measured(made, truth, views=each) for each in (views, None))
    assert told is not None and without is not None
    assert told.points[0].accuracy.count > without.points[0].accuracy.count


def test_of_many_photos_some_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "_ENOUGH", 200)
    monkeypatch.setattr(curve, "_JUDGED", 100)
    told = measured(*clouds([300, 300], 10))
    assert told is not None
    assert [each.photos for each in told.points] == [10, 20, 40, 270]
    assert [each.accuracy.of for each in told.points] == [120, 120, 120, 600]  # three folds of 40


def test_numbers_that_do_not_fit_are_refused() -> None:
    made, truth = clouds([20, 20], 10)
    found = fit(made, truth, classes=2, strength=1)
    for features, classes, groups in (
        (made[:30], truth, None),
        (made[0], truth, None),
        (made, truth[:30], None),
        (made, truth, np.arange(3)),
        (made[:30], truth[:30], None),
    ):
        with pytest.raises(UsageError, match="a class and a group for each photo"):
            measure(features, classes, found, classes=2, groups=groups)
