"""Heads: what held-out photos say is what heads say that had not seen them; and what makes no sense is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photolabel.errors import MissingExtraError, UsageError
from photolabel.teaching import heads, solving
from photolabel.teaching.folds import NEVER
from photolabel.teaching.heads import STRENGTHS, USUAL, Fitted, Head, Tried, cooled, fit, softmax
from photolabel.teaching.solving import Kind, Rows

from gaussians import clouds

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

KINDS: list[Kind] = ["logistic", "svm"]
ROOT = Path(__file__).parents[2]


def fitted(counts: tuple[int, ...] = (30, 20, 10), features: int = 24, *, apart: float = 1.5, **options: Any) -> Fitted:
    made, truth = clouds(counts, features, apart=apart)
    return fit(made, truth, classes=len(counts), **options)


def same(one: Fitted, other: Fitted) -> bool:
    return (
        one.head.weights.tobytes() == other.head.weights.tobytes()
        and one.head.bias.tobytes() == other.head.bias.tobytes()
        and one.probabilities.tobytes() == other.probabilities.tobytes()
        and one.tried == other.tried
        and one.temperature == other.temperature
    )


# -- what is found


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_photos_are_judged_by_a_head_that_has_not_seen_them(kind: Kind) -> None:
    made, truth = clouds((20, 15, 10), 24, apart=1.5)
    found = fit(made, truth, classes=3, kind=kind, strength=10)
    assert found.folds == 10 and found.judged.all() and (found.fold >= 0).all()
    rows = Rows(made, truth, classes=3, kind=kind)
    for each in range(found.folds):
        out = np.flatnonzero(found.fold == each)
        wanted = rows.logits(rows.solve(10, found.fold != each), out) / found.temperature
        np.testing.assert_allclose(found.probabilities[out], softmax(wanted), atol=1e-6)
    weights, bias = rows.folded(rows.solve(10, np.ones(45, bool)))
    np.testing.assert_allclose(found.head.weights, weights / found.temperature, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.head.bias, bias / found.temperature, rtol=1e-4, atol=1e-5)
    assert found.head.weights.dtype == found.head.bias.dtype == found.probabilities.dtype == np.float32
    assert found.head.kind == kind and found.head.strength == 10 and found.tried == ()


@pytest.mark.parametrize("double", [1 << 28, 0], ids=["float64", "float32"])
@pytest.mark.parametrize("many", [100, 1000], ids=["five folds", "ten folds"])
@pytest.mark.parametrize("kind", KINDS)
def test_heads_that_fit_anything_do_not_know_the_photos_that_they_judge(
    kind: Kind, many: int, double: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of photos with wrong labels they say what these are; who has seen them says what their labels say."""
    monkeypatch.setattr(heads, "_MANY", many)
    monkeypatch.setattr(solving, "_DOUBLE", double)
    made, truth = clouds((150, 150), 700, apart=3)
    wrong = np.arange(300) % 5 == 0
    labels = np.where(wrong, 1 - truth, truth)
    found = fit(made, labels, classes=2, kind=kind, strength=316)
    assert (found.head.logits(made).argmax(axis=1) == labels).mean() > 0.99
    assert (found.probabilities.argmax(axis=1) == labels)[wrong].mean() < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_classes_are_told_apart_and_how_well_is_told_rightly(kind: Kind) -> None:
    found = fitted((60, 40, 20), kind=kind)
    fresh, truth = clouds((500, 500, 500), 24, apart=1.5, seed=1)
    said = found.head.probabilities(fresh)
    assert np.allclose(said.sum(axis=1), 1, atol=1e-5) and said.dtype == np.float32
    right = (said.argmax(axis=1) == truth).mean()
    held = np.repeat([0, 1, 2], [60, 40, 20])
    of_held = np.mean([(found.probabilities.argmax(axis=1) == held)[held == each].mean() for each in range(3)])
    assert right > 0.75 and abs(of_held - right) < 0.1
    # Calibrated: as sure as it is right, on photos that it has not seen.
    assert abs(said.max(axis=1).mean() - right) < 0.07


def test_logits_and_probabilities_are_of_plain_features() -> None:
    head = Head(
        weights=np.array([[1, 0], [0, 2]], np.float32), bias=np.array([0, 1], np.float32), kind="svm", strength=1
    )
    features = np.array([[1, 2], [0, 0]], np.float32)
    np.testing.assert_array_equal(head.logits(features), [[1, 5], [0, 1]])
    np.testing.assert_allclose(head.probabilities(features)[1], [1 / (1 + np.e), np.e / (1 + np.e)], rtol=1e-6)
    for wrong in (features[:, :1], features[0]):
        with pytest.raises(UsageError, match=r"expected features \(photos, 2\)"):
            head.logits(wrong)


def test_softmax_of_huge_logits_is_finite() -> None:
    found = softmax(np.array([[1e30, -1e30], [1000.0, 1000.0]]))
    np.testing.assert_array_equal(found, np.array([[1, 0], [0.5, 0.5]], np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_of_few_photos_is_found_nearly_as_well(kind: Kind) -> None:
    found = fitted((300, 15), 8, kind=kind)
    fresh, truth = clouds((500, 500), 8, apart=1.5, seed=1)
    right = found.head.probabilities(fresh).argmax(axis=1) == truth
    assert abs(right[truth == 0].mean() - right[truth == 1].mean()) < 0.15


# -- how strong


def test_the_strength_is_the_least_that_is_as_good_as_any() -> None:
    found = fitted()
    assert [each.strength for each in found.tried] == list(STRENGTHS[: len(found.tried)])
    least = min(each.loss for each in found.tried)
    assert found.head.strength == next(each.strength for each in found.tried if each.loss <= 1.001 * least)
    assert all(0 <= each.accuracy <= 1 for each in found.tried)
    nearly = [Tried(strength=i, loss=loss, accuracy=1) for i, loss in enumerate((2, 1.0005, 1, 1.5))]
    assert heads._best(nearly) == 1


def test_what_becomes_worse_twice_is_not_tried_further() -> None:
    """Hopeless classes want the most restraint: the greatest strengths are never reached."""
    found = fitted((40, 40), 24, apart=0)
    losses = [each.loss for each in found.tried]
    assert 3 <= len(losses) < len(STRENGTHS) and losses[-1] > losses[-2] > losses[-3]
    assert found.head.strength == STRENGTHS[0]


def test_a_strength_that_is_given_is_used() -> None:
    assert fitted(strength=3.0).head.strength == 3.0


@pytest.mark.parametrize("photos", [60, 3000])
def test_many_photos_choose_by_some_of_them(photos: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And by five folds instead of ten."""
    sizes: list[int] = []
    plain = Rows.__init__

    def noted(self: Rows, features: Any, *rest: Any, **options: Any) -> None:
        sizes.append(len(features))
        plain(self, features, *rest, **options)

    monkeypatch.setattr(heads, "_ENOUGH", 500)
    monkeypatch.setattr(Rows, "__init__", noted)
    found = fitted((photos // 2, photos // 4, photos // 4), 6)
    assert sizes == ([60] if photos == 60 else [500, 3000]) and found.tried
    assert found.folds == (10 if photos == 60 else 5)


# -- how sure


def test_the_temperature_is_the_one_of_the_least_loss() -> None:
    random = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [300, 200, 100])
    logits = 7 * (np.eye(3)[truth] + random.normal(0, 0.7, (600, 3)))
    found = cooled(logits, truth)
    doubt, weights = 1 / 602, 1 / (3 * np.bincount(truth)[truth])
    wanted = (1 - doubt) * np.eye(3)[truth] + doubt / 2 * (1 - np.eye(3)[truth])

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        chances = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
        return -float(weights @ (wanted * chances).sum(axis=1))

    assert found > 1 and loss(found) < min(loss(found * 1.01), loss(found / 1.01))
    assert cooled(10 * logits, truth) == pytest.approx(10 * found, rel=1e-6)


def test_few_photos_that_are_all_named_rightly_do_not_make_it_certain() -> None:
    truth = np.array([0, 0, 0, 1, 1])
    logits = 8 * np.eye(2)[truth] - 4
    surest = [softmax(logits[:n] / cooled(logits[:n], truth[:n])).max() for n in (4, 5)]
    assert surest[1] == pytest.approx(1 - 1 / 7, abs=1e-6) and surest[0] < surest[1]


def test_logits_that_say_nothing_are_no_error() -> None:
    truth = np.array([0, 1, 0, 1])
    assert cooled(np.zeros((4, 2)), truth) == 1
    wrong = 8 * np.eye(2)[1 - truth] - 4
    assert cooled(wrong, truth) == pytest.approx(4 * 1000)
    np.testing.assert_allclose(softmax(wrong / cooled(wrong, truth)), 0.5, atol=1e-3)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_a_head_that_is_worse_than_chance_keeps_the_order_of_its_classes(size: float) -> None:
    random = np.random.default_rng(0)
    logits = size * random.normal(0, 1, (26, 13))
    truth = logits.argmin(axis=1)
    made = softmax(logits / cooled(logits, truth))
    np.testing.assert_allclose(made, 1 / 13, rtol=0.01)
    assert (made.argsort(axis=1) == logits.argsort(axis=1)).all()


# -- what can be judged


@pytest.mark.parametrize("kind", KINDS)
def test_where_no_photo_can_be_held_out_nothing_is_calibrated(kind: Kind) -> None:
    found = fitted((1, 1, 1), kind=kind)
    assert found.folds == 0 and not found.judged.any() and np.isnan(found.probabilities).all()
    assert found.head.strength == USUAL and found.temperature == 1 and found.tried == ()
    assert (found.fold == NEVER).all()
    made, truth = clouds((1, 1, 1), 24, apart=1.5)
    assert (found.head.probabilities(made).argmax(axis=1) == truth).all()


@pytest.mark.parametrize("kind", KINDS)
def test_two_photos_a_class_are_judged(kind: Kind) -> None:
    found = fitted((2, 2), apart=4, kind=kind)
    assert found.folds == 2 and found.judged.all() and len(found.tried) >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_one_photo_of_a_class_is_learnt_from_and_never_judged(kind: Kind) -> None:
    found = fitted((20, 1, 20), kind=kind)
    assert found.judged.tolist() == [True] * 20 + [False] + [True] * 20
    assert np.isnan(found.probabilities[20]).all() and np.isfinite(found.probabilities[found.judged]).all()
    assert found.fold[20] == NEVER
    made, _ = clouds((20, 1, 20), 24, apart=1.5)
    assert found.head.probabilities(made)[20].argmax() == 1


def test_a_class_whose_photos_are_all_of_one_fold_is_not_judged() -> None:
    """The only photo of class 1 is of one group with one of class 0, so that it is held out with it."""
    made, truth = clouds((9, 1), 24)
    found = fit(made, truth, classes=2, groups=np.array([*range(9), 8]))
    assert found.fold[8] == found.fold[9] != NEVER
    assert found.judged.tolist() == [True] * 9 + [False]
    assert np.isnan(found.probabilities[9]).all() and np.isfinite(found.probabilities[:9]).all()
    assert all(each.accuracy == 1 for each in found.tried)  # of class 0, the only one that can be judged


def test_groups_are_held_out_together() -> None:
    made, truth = clouds((20, 20), 24)
    groups = np.array([f"series {i // 4}" for i in range(40)])
    found = fit(made, truth, classes=2, groups=groups)  # any numbers, or names, will do
    assert all(len(set(found.fold[groups == each])) == 1 for each in set(groups)) and found.folds == 5


def test_the_same_photo_twice_does_not_vouch_for_itself() -> None:
    """Of noise, copies in other folds would be named rightly; held out with each other, no better than chance."""
    made, truth = clouds((30, 30), 100, apart=0)
    twice, said = np.concatenate([made, made]), np.concatenate([truth, truth])
    apart = fit(twice, said, classes=2, strength=100)
    held = fit(twice, said, classes=2, strength=100, groups=np.tile(np.arange(60), 2))
    right = [(each.probabilities.argmax(axis=1) == said).mean() for each in (apart, held)]
    assert right[0] > 0.9 and right[1] < 0.7


def test_other_views_are_learnt_from_and_never_judged() -> None:
    made, truth = clouds((20, 20), 24, apart=1)
    views = clouds((60, 60), 24, apart=1, seed=5)[0].reshape(40, 3, 24)
    found, without = (fit(made, truth, classes=2, strength=10, views=each) for each in (views, None))
    assert found.probabilities.shape == (40, 2) and found.judged.all()
    assert not np.allclose(found.head.weights, without.head.weights, rtol=0.01)
    # They are of the same classes: with them it is more often right.
    fresh, other = clouds((500, 500), 24, apart=1, seed=1)
    right = [(each.head.probabilities(fresh).argmax(axis=1) == other).mean() for each in (found, without)]
    assert right[0] > right[1]


# -- the same again


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bytes(kind: Kind) -> None:
    assert same(fitted(kind=kind), fitted(kind=kind))
    other = fitted(kind=kind, seed=1)
    assert (fitted(kind=kind).fold != other.fold).any()


PROGRAM = """
import hashlib, sys
sys.path[:0] = sys.argv[1:3]
from gaussians import clouds
from photolabel.teaching.heads import fit
hashed = hashlib.sha256()
for kind in ("logistic", "svm"):
    for counts, features in (((90, 80, 70), 300), ((150, 150, 150), 60)):  # fewer rows than features, and more
        made, truth = clouds(counts, features)
        found = fit(made, truth, classes=3, kind=kind)
        for each in (found.head.weights, found.head.bias, found.probabilities):
            hashed.update(each.tobytes())
print(hashed.hexdigest())
"""


def test_the_number_of_threads_does_not_show() -> None:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    paths = [str(ROOT / "src"), str(ROOT / "tests")]
    found = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, *paths],
            env={**os.environ, **dict.fromkeys(names, threads)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    ]
    assert found[0] == found[1] and len(found[0].strip()) == 64


def test_progress_ends_with_all_done() -> None:
    for options in ({}, {"strength": 1.0}):
        told: list[tuple[int, int]] = []
        found = fitted(progress=lambda done, total, told=told: told.append((done, total)), **options)
        assert [done for done, _ in told] == list(range(1, len(told) + 1))
        assert all(done <= total for done, total in told) and told[-1][0] == told[-1][1]
        assert len(told) == (len(found.tried) + 1) * found.folds + 1


def test_what_is_given_is_not_changed() -> None:
    made, truth = clouds((10, 10), 24)
    groups, views = np.arange(20), made[:, np.newaxis] + np.float32(0.1)
    copies = [each.copy() for each in (made, truth, groups, views)]
    for each in (made, truth, groups, views):
        each.flags.writeable = False
    fit(made, truth, classes=2, groups=groups, views=views)
    for each, copy in zip((made, truth, groups, views), copies, strict=True):
        np.testing.assert_array_equal(each, copy)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), max_size=20),
    st.sampled_from(KINDS),
    st.integers(0, 3),
)
def test_whatever_few_photos_there_are_the_answer_is_whole(more: list[tuple[int, int]], kind: Kind, seed: int) -> None:
    truth = np.array([0, 1, 2, *(each for each, _ in more)])
    groups = np.array([0, 1, 1, *(group for _, group in more)])
    made = np.random.default_rng(seed).normal(0, 1, (len(truth), 5)).astype(np.float32)
    found = fit(made, truth, classes=3, kind=kind, groups=groups, seed=seed)
    assert np.isfinite(found.head.weights).all() and np.isfinite(found.head.bias).all()
    assert (np.isfinite(found.probabilities).all(axis=1) == found.judged).all()
    assert not found.judged[found.fold == NEVER].any() and 0 < found.temperature < np.inf
    assert found.folds == found.fold.max() + 1


# -- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"features": np.zeros((4, 3))}, r"expected features \(photos, features\), float32"),
        ({"features": np.zeros((4, 3, 1), np.float32)}, r"expected features \(photos, features\), float32"),
        ({"features": np.zeros((4, 0), np.float32)}, r"expected features \(photos, features\), float32"),
        ({"features": np.full((4, 3), np.nan, np.float32)}, "finite"),
        ({"views": np.full((4, 1, 3), np.inf, np.float32)}, "finite"),
        ({"truth": np.array([0, 1, 0])}, "expected a class for each of 4 photos"),
        ({"truth": np.array([0.0, 1, 0, 1])}, "expected a class for each of 4 photos"),
        ({"truth": np.array([0, 1, 0, -1])}, "expected classes from 0 to 1"),
        ({"truth": np.array([0, 1, 0, 2])}, "expected classes from 0 to 1"),
        ({"truth": np.zeros(4, int)}, "there is none of class 1"),
        ({"classes": 3}, "there is none of class 2"),
        ({"classes": 1, "truth": np.zeros(4, int)}, "at least two classes"),
        ({"kind": "forest"}, "kind='forest': expected logistic or svm"),
        ({"strength": 0.0}, "strength=0.0: expected a number above 0"),
        ({"strength": -1.0}, "expected a number above 0"),
        ({"strength": float("nan")}, "expected a number above 0"),
        ({"strength": float("inf")}, "expected a number above 0"),
        ({"strength": "10"}, "strength='10': expected a number above 0"),
        ({"seed": -1}, "seed=-1: expected a whole number from 0"),
        ({"seed": 1 << 63}, "expected a whole number from 0"),
        ({"seed": 1.0}, "seed=1.0: expected a whole number from 0"),
        ({"views": np.zeros((4, 3), np.float32)}, r"expected views \(4, views, 3\)"),
        ({"views": np.zeros((3, 1, 3), np.float32)}, r"expected views \(4, views, 3\)"),
        ({"views": np.zeros((4, 1, 2), np.float32)}, r"expected views \(4, views, 3\)"),
        ({"views": np.zeros((4, 1, 3))}, r"expected views \(4, views, 3\), float32; got \(4, 1, 3\), float64"),
        ({"groups": np.zeros(3, int)}, "expected a group for each of 4 photos"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    usual = {"features": np.zeros((4, 3), np.float32), "truth": np.array([0, 1, 0, 1]), "classes": 2}
    arguments = {**usual, **options}
    with pytest.raises(UsageError, match=said):
        fit(arguments.pop("features"), arguments.pop("truth"), **arguments)


def test_without_scikit_learn_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(MissingExtraError, match=r"photolabel\[teach\]"):
        fitted((2, 2))
