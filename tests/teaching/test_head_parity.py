"""What a taught network's file says of photos is what scikit-learn's own estimator says of their features."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import photolabel
from photolabel.teaching import teach
from photolabel.teaching.backbone import Backbone

from training import computed, plant

linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
svm = pytest.importorskip("sklearn.svm")

# Greys that are hard to tell apart, so that probabilities are of all sizes.
GREYS = {name: (120 + 2 * i, 120 - i, 120 + i % 2) for i, name in enumerate("abcde")}


def softmax(logits: Any) -> Any:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("views", ["one", "mirror"])
@pytest.mark.parametrize(("classes", "head"), [(2, "logistic"), (3, "logistic"), (5, "logistic"), (3, "svm")])
def test_the_files_probabilities_are_scikit_learns(
    tiny: Path, tmp_path: Path, classes: int, head: Any, views: Any
) -> None:
    colours = dict(list(GREYS.items())[:classes])
    training = plant(tmp_path / "training", 12, colours)
    for number in range(7):  # one class has fewer photos
        (training / "b" / f"{number:03}.png").unlink()
    fresh = plant(tmp_path / "fresh", 4, colours, seed=3)
    out = tmp_path / "greys.onnx"
    lesson = teach(training, out, model=tiny, views=views, head=head, workers=0)
    with photolabel.load(tiny, views=views) as frozen:
        backbone = Backbone.of(frozen)
        learnt, judged = (computed(top, backbone) for top in (training, fresh))
    middle = backbone.recipe.middle
    plain = learnt.numbers[:, middle].astype(np.float64)
    centre = plain.mean(axis=0)
    scale = np.sqrt(((plain - centre) ** 2).sum(axis=1).mean())
    truth = np.array([list(colours).index(name) for name in learnt.names])
    times = learnt.numbers.shape[1]
    options = {"C": lesson.fitted.head.strength, "tol": 1e-10, "max_iter": 100_000}
    # All views of a photo weigh as much as one photo; each class the same.
    weights = len(truth) / (classes * times * np.bincount(truth)[truth])
    estimator = (
        linear_model.LogisticRegression(**options, solver="newton-cg")
        if head == "logistic"
        else svm.LinearSVC(**options, dual=False, intercept_scaling=100)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is asked for more than rounding allows
        estimator.fit(
            (learnt.numbers.reshape(-1, plain.shape[1]) - centre) / scale,
            np.repeat(truth, times),
            sample_weight=np.repeat(weights, times),
        )
    rows = (judged.numbers[:, middle] - centre) / scale
    logits = estimator.decision_function(rows)
    if classes == 2:
        logits = np.stack([np.zeros(len(logits)), logits], axis=1)
    wanted = softmax(logits / lesson.fitted.temperature)
    if head == "logistic":
        np.testing.assert_allclose(softmax(logits), estimator.predict_proba(rows), atol=1e-12)
    with photolabel.load(out, views="one", calibrated=False) as made:
        found = np.stack([made.classify(photo).probabilities for photo in judged.photos])
    assert wanted.max(axis=1).min() < 0.9, "photos that are told apart too well prove little"
    np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)
