"""The solver's answers are scikit-learn's own, solved tightly; and the same whatever rows are called."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from photolabel.teaching import solving
from photolabel.teaching.heads import softmax
from photolabel.teaching.solving import Kind, Rows, one_thread

from gaussians import clouds

linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
svm = pytest.importorskip("sklearn.svm")

KINDS: list[Kind] = ["logistic", "svm"]
UNEVEN = {2: (60, 20), 3: (50, 25, 12), 20: 2 * tuple(range(2, 12))}
# (classes, features): of few features there are more rows than features, of many there are fewer, also with the views.
SHAPES = [(2, 20), (2, 300), (3, 20), (3, 300), (20, 20), (20, 400)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As whoever solves has it: several spin while they wait for each other, and cost many times the work."""
    with one_thread():
        yield


def photos(classes: int, features: int, views: int = 0, **options: Any) -> tuple[Any, Any, Any]:
    made, truth = clouds(UNEVEN[classes], features, **options)
    if not views:
        return made, truth, None
    noise = np.random.default_rng(7).normal(0, 0.5 / np.sqrt(features), (len(truth), views, features))
    return made, truth, (made[:, np.newaxis] + noise).astype(np.float32)


def frame(features: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """The features' mean, and the root of their mean square around it."""
    middle = features.mean(axis=0, dtype=np.float64)
    return middle, float(np.sqrt(((features - middle) ** 2).sum(axis=1).mean()))


def plain(
    features: NDArray[np.float32], truth: NDArray[np.intp], views: NDArray[np.float32] | None
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
    """Rows, classes and weights as anybody would give them to scikit-learn."""
    middle, scale = frame(features)
    rows = (features - middle) / scale
    classes, counts = np.unique(truth, return_counts=True)
    weights = len(truth) / (len(classes) * counts[truth])
    if views is None:
        return rows, truth, weights
    times = 1 + views.shape[1]
    rows = np.concatenate([rows, *np.moveaxis((views - middle) / scale, 1, 0)])
    return rows, np.tile(truth, times), np.tile(weights / times, times)


def by_sklearn(model: Any, rows: NDArray[Any], truth: NDArray[Any], weights: NDArray[Any] | None = None) -> Any:
    """Fitted, whatever it warns of: it is asked for more than rounding allows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(rows, truth, sample_weight=weights)


def solved(rows: Rows, strength: float, **options: Any) -> NDArray[np.float64]:
    return rows.solve(strength, np.ones(len(rows.truth), bool), **options)


def all_logits(rows: Rows, solution: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows.logits(solution, np.arange(len(rows.truth)))


# -- parity with scikit-learn


@pytest.mark.parametrize("views", [0, 2])
@pytest.mark.parametrize(("classes", "features"), SHAPES)
@pytest.mark.parametrize("strength", [0.1, 10.0, 316.0])
def test_logistic_regression_is_scikit_learns(classes: int, features: int, views: int, strength: float) -> None:
    given, truth, others = photos(classes, features, views)
    rows = Rows(given, truth, classes=classes, kind="logistic", views=others)
    solution = solved(rows, strength)
    entering, classes_of, weights = plain(given, truth, others)
    model = linear_model.LogisticRegression(C=strength, solver="newton-cg", tol=1e-11, max_iter=1000)
    by_sklearn(model, entering, classes_of, weights)
    wanted = model.predict_proba(entering[: len(truth)])
    np.testing.assert_allclose(softmax(all_logits(rows, solution)), wanted, atol=1e-6, rtol=0)
    # Of photos that it has not seen, by the weights for plain features.
    fresh = clouds(UNEVEN[classes], features, seed=1)[0]
    folded, bias = rows.folded(solution)
    middle, scale = frame(given)
    wanted = model.predict_proba((fresh - middle) / scale)
    np.testing.assert_allclose(softmax(fresh @ folded + bias), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_each_class_counts_the_same_is_balanced_there(strength: float) -> None:
    given, truth, _ = photos(3, 20)
    entering = plain(given, truth, None)[0]
    model = linear_model.LogisticRegression(C=strength, tol=1e-12, max_iter=10_000, class_weight="balanced")
    wanted = by_sklearn(model, entering, truth).predict_proba(entering)
    rows = Rows(given, truth, classes=3, kind="logistic")
    np.testing.assert_allclose(softmax(all_logits(rows, solved(rows, strength))), wanted, atol=1e-6, rtol=0)


def linear_svc(
    rows: NDArray[np.float64], truth: NDArray[np.intp], weights: NDArray[np.float64], strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (classes, features) and biases (classes,)."""
    model = svm.LinearSVC(C=strength, dual=False, tol=1e-8, max_iter=10_000, intercept_scaling=100)
    by_sklearn(model, rows, truth, weights)
    if len(model.classes_) > 2:
        return model.coef_, model.intercept_
    return np.concatenate([-model.coef_, model.coef_]), np.concatenate([-model.intercept_, model.intercept_])


def svm_loss(
    rows: NDArray[np.float64],
    truth: NDArray[np.intp],
    weights: NDArray[np.float64],
    strength: float,
    directions: NDArray[np.float64],
    biases: NDArray[np.float64],
) -> float:
    """What LinearSVC minimises, over all classes, but with free biases."""
    side = np.where(truth[:, np.newaxis] == np.arange(len(directions)), 1, -1)
    short = np.maximum(0, 1 - side * (rows @ directions.T + biases))
    return float(0.5 * (directions**2).sum() + strength * (weights[:, np.newaxis] * short**2).sum())


@pytest.mark.parametrize("views", [0, 2])
@pytest.mark.parametrize(("classes", "features"), SHAPES)
@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_the_svm_is_scikit_learns(classes: int, features: int, views: int, strength: float) -> None:
    """Its bias is nearly free with `intercept_scaling` of 100: decision values are then the same within 0.001."""
    given, truth, others = photos(classes, features, views)
    rows = Rows(given, truth, classes=classes, kind="svm", views=others)
    solution = solved(rows, strength)
    entering, classes_of, weights = plain(given, truth, others)
    directions, biases = linear_svc(entering, classes_of, weights, strength)
    wanted = entering[: len(truth)] @ directions.T + biases
    np.testing.assert_allclose(all_logits(rows, solution), wanted, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("classes", "features"), SHAPES[:4])
def test_the_svm_is_no_worse_where_scikit_learns_is_not_exact(classes: int, features: int) -> None:
    """At the greatest strength both are compared by what they minimise."""
    given, truth, _ = photos(classes, features)
    rows = Rows(given, truth, classes=classes, kind="svm")
    entering, _, weights = plain(given, truth, None)
    theirs = svm_loss(entering, truth, weights, 316, *linear_svc(entering, truth, weights, 316))
    folded, bias = rows.folded(solved(rows, 316))
    middle, scale = frame(given)
    ours = svm_loss(entering, truth, weights, 316, (folded * scale).T, bias + middle @ folded)
    assert ours <= theirs * (1 + 1e-7)


# -- what does not matter


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", [20, 300])
def test_weights_of_plain_features_give_the_same_logits(kind: Kind, features: int) -> None:
    given, truth, others = photos(3, features, 1)
    rows = Rows(given, truth, classes=3, kind=kind, views=others)
    solution = solved(rows, 10)
    weights, bias = rows.folded(solution)
    assert solution.shape == (3, min(features, 2 * len(truth)) + 1)  # no more numbers than there are rows
    assert weights.shape == (features, 3) and bias.shape == (3,)
    np.testing.assert_allclose(given @ weights + bias, all_logits(rows, solution), atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_strength_means_does_not_depend_on_the_network(kind: Kind) -> None:
    given, truth, _ = photos(3, 20)
    rows = Rows(given, truth, classes=3, kind=kind)
    others = Rows(np.asarray(64 * given - 2, np.float32), truth, classes=3, kind=kind)
    np.testing.assert_allclose(
        all_logits(others, solved(others, 10)), all_logits(rows, solved(rows, 10)), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", [20, 300])
def test_views_like_the_photo_are_the_photo(kind: Kind, features: int) -> None:
    """All views of a photo count as much as one photo."""
    given, truth, _ = photos(3, features)
    alone = Rows(given, truth, classes=3, kind=kind)
    again = Rows(given, truth, classes=3, kind=kind, views=np.repeat(given[:, np.newaxis], 3, axis=1))
    np.testing.assert_allclose(
        all_logits(again, solved(again, 10)), all_logits(alone, solved(alone, 10)), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", [20, 300])
def test_photos_that_are_held_out_do_not_count(kind: Kind, features: int) -> None:
    """Nor do their views: whatever class is said of them, the answer is the same."""
    given, truth, others = photos(3, features, 1)
    learnt = np.arange(len(truth)) % 5 > 0
    rows = Rows(given, truth, classes=3, kind=kind, views=others)
    solution = rows.solve(10, learnt)
    truth = np.where(learnt, truth, (truth + 1) % 3)
    lied = Rows(given, truth, classes=3, kind=kind, views=others)
    np.testing.assert_allclose(lied.solve(10, learnt), solution, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_none_of_which_is_learnt_is_never_named(kind: Kind) -> None:
    given, truth, _ = photos(3, 20)
    rows = Rows(given, truth, classes=3, kind=kind)
    found = all_logits(rows, rows.solve(10, truth != 1))
    assert np.isfinite(found).all() and (found.argmax(axis=1) != 1).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 3])
def test_where_it_begins_does_not_matter(kind: Kind, classes: int) -> None:
    given, truth, _ = photos(classes, 20)
    rows = Rows(given, truth, classes=classes, kind=kind)
    wanted = all_logits(rows, solved(rows, 10))
    begun = solved(rows, 1)
    np.testing.assert_allclose(all_logits(rows, solved(rows, 10, start=begun)), wanted, atol=1e-4, rtol=0)
    # What is good enough to compare strengths is some hundredths off at most.
    rough = all_logits(rows, solved(rows, 10, start=begun, rough=True))
    np.testing.assert_allclose(softmax(rough), softmax(wanted), atol=0.02, rtol=0)
    # And it does begin there: from the solution itself it has nowhere to go.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solving, "_ITERATIONS", 1)
        near = all_logits(rows, solved(rows, 10, start=solved(rows, 10, start=begun)))
        far = all_logits(rows, solved(rows, 10))
    assert np.abs(near - wanted).max() < np.abs(far - wanted).max()


@pytest.mark.parametrize("kind", KINDS)
def test_of_many_classes_it_does_not_stop_at_once(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """There all slopes are small: what is small enough to stop is measured by how steep it is at nought."""
    import scipy.optimize

    flat: list[float] = []
    real = scipy.optimize.minimize

    def minimize(*given: Any, **options: Any) -> Any:
        flat.append(options["options"]["gtol"])
        return real(*given, **options)

    monkeypatch.setattr(scipy.optimize, "minimize", minimize)
    for classes in (2, 40):
        given, truth = clouds([160 // classes] * classes, 20)
        solved(Rows(given, truth, classes=classes, kind=kind), 1, rough=True)
    assert flat[1] < flat[0] / 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", [20, 300])
def test_many_rows_are_float32_and_the_answer_nearly_the_same(
    kind: Kind, features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, truth, others = photos(3, features, 1)
    wide = Rows(given, truth, classes=3, kind=kind, views=others)
    monkeypatch.setattr(solving, "_DOUBLE", 0)
    monkeypatch.setattr(solving, "_AT_ONCE", 10)
    narrow = Rows(given, truth, classes=3, kind=kind, views=others)
    assert narrow._rows.dtype == np.float32 and wide._rows.dtype == np.float64
    assert narrow._scale == pytest.approx(wide._scale, rel=1e-6)
    found, wanted = (softmax(all_logits(rows, solved(rows, 10))) for rows in (narrow, wide))
    np.testing.assert_allclose(found, wanted, atol=2e-3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("double", [0, 1 << 28])
def test_what_is_given_is_not_changed(kind: Kind, double: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solving, "_DOUBLE", double)
    given, truth, others = photos(2, 20, 1)
    copies = given.copy(), truth.copy(), others.copy()
    for each in (given, truth, others):
        each.flags.writeable = False
    rows = Rows(given, truth, classes=2, kind=kind, views=others)
    begun = solved(rows, 1)
    begun.flags.writeable = False
    solved(rows, 10, start=begun)
    for each, copy in zip((given, truth, others), copies, strict=True):
        np.testing.assert_array_equal(each, copy)


@pytest.mark.parametrize("kind", KINDS)
def test_photos_that_are_all_alike_are_no_error(kind: Kind) -> None:
    rows = Rows(np.full((6, 4), 3, np.float32), np.repeat([0, 1], 3), classes=2, kind=kind)
    found = all_logits(rows, solved(rows, 10))
    np.testing.assert_allclose(softmax(found), 0.5, atol=1e-6)


def test_one_thread_is_used_inside_and_given_back() -> None:
    from threadpoolctl import threadpool_info, threadpool_limits

    def threads() -> list[int]:
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    with threadpool_limits(limits=2, user_api="blas"):
        assert set(threads()) == {2}
        with one_thread():
            assert set(threads()) == {1}
        assert set(threads()) == {2}
