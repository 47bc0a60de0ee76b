"""Predictions that say how right they are: ranks, their order, and the same outcomes from records as from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import photolabel
from photolabel import sources, truth
from photolabel.batch import Here
from photolabel.classifier import Classifier
from photolabel.errors import CorruptPhotoError, TruthError
from photolabel.evaluate import judging
from photolabel.evaluate.outcomes import TOP, Outcome
from photolabel.prediction import Prediction, RankedLabel
from photolabel.truth import Labelled
from photolabel.workers import Crew

import oracle
from known_photos import BROKEN, Known, known_photos, telling

COUNT = 40


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return telling(tmp_path_factory.mktemp("telling"))


@pytest.fixture(autouse=True)
def _shared_cache(_own_world: None, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all of them, or each would compile the network anew."""
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(network.parent / "cache"))


@pytest.fixture
def classifier(network: Path) -> Iterator[Classifier]:
    with photolabel.load(network, threads=1) as loaded:
        yield loaded


@pytest.fixture
def known(tmp_path: Path, network: Path) -> Known:
    return known_photos(tmp_path / "set", network, COUNT)


def labelled(known: Known) -> truth.LabelledPhotos:
    return truth.labelled(sources.find([known.folder]), oracle.TINY_LABELS)


class Fixed(Classifier):
    """A classifier of which only the labels matter."""

    def __init__(self, classes: int) -> None:
        self.model = replace(oracle.tiny_model(), labels=tuple(oracle.TINY_LABELS[:classes]))


def prediction(probabilities: list[float]) -> Prediction:
    made = np.array(probabilities, np.float32)
    best = np.argsort(-made, kind="stable")
    labels = tuple(
        RankedLabel(index=int(i), wnid=f"n{i:08}", name=f"class_{i}", probability=float(made[i])) for i in best
    )
    return Prediction(photo="x.jpg", model="m", recipe="r", precision="fp32", labels=labels, probabilities=made)


# -- ranks


@given(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.3]), min_size=2, max_size=10), st.data())
def test_a_rank_is_the_place_among_the_labels(probabilities: list[float], data: st.DataObject) -> None:
    """Ties too: of equals the lower index is the likelier, there as here."""
    made = prediction(probabilities)
    index = data.draw(st.integers(0, len(probabilities) - 1))
    found = judging._judged(made, index, Fixed(len(probabilities))).truth
    assert found is not None and found.rank is not None
    assert made.labels[found.rank - 1].index == index == found.index
    assert found.probability == made.labels[found.rank - 1].probability
    assert (found.wnid, found.name) == (f"n{index:08}", f"class_{index}")


def test_a_photo_that_could_not_be_read_has_a_truth_and_no_rank() -> None:
    bad = Prediction(photo="x", model="m", recipe="r", precision="fp32", error=CorruptPhotoError("cut short"))
    found = judging._judged(bad, 3, Fixed(10))
    assert found.truth is not None
    assert (found.truth.index, found.truth.name, found.truth.probability, found.truth.rank) == (
        3,
        "class_3",
        None,
        None,
    )
    assert found.error is bad.error


# -- the stream


@pytest.mark.parametrize("workers", [0, 2])
def test_each_photo_has_its_own_truth_in_their_order(workers: int, known: Known, classifier: Classifier) -> None:
    broken = [*known.truth][1::7]
    for name in broken:
        (known.folder / name).write_bytes(BROKEN)
    if workers:
        with Crew(workers) as crew:
            found = list(judging.judged(labelled(known), classifier, crew, top=TOP))
    else:
        found = list(judging.judged(labelled(known), classifier, Here(), top=TOP))
    assert [each.photo for each in found] == [str(known.folder / name) for name in known.truth]
    assert [each.truth.index for each in found if each.truth] == list(known.truth.values())
    for name, each in zip(known.truth, found, strict=True):
        assert each.truth is not None and (each.error is not None) == (name in broken)
        if each.error is None:
            plain = classifier.classify(known.folder / name, top=None)
            assert replace(each, truth=None) == replace(plain, labels=plain.labels[:TOP])
            assert plain.labels[(each.truth.rank or 0) - 1].index == each.truth.index


def test_what_the_truth_raises_comes_after_what_is_known(known: Known, classifier: Classifier) -> None:
    (known.folder / "zebra").mkdir()
    (known.folder / "zebra" / "a.png").write_bytes((known.folder / next(iter(known.truth))).read_bytes())
    stream = judging.judged(labelled(known), classifier, Here(), top=1)
    for name in known.truth:
        assert next(stream).photo == str(known.folder / name)
    with pytest.raises(TruthError, match=r"zebra/a\.png: neither its folder 'zebra' nor its name"):
        next(stream)


def test_a_stream_that_is_left_asks_for_no_more(known: Known, classifier: Classifier) -> None:
    asked: list[Labelled] = []

    def photos() -> Iterator[Labelled]:
        (first, *_) = labelled(known)
        while True:
            asked.append(first)
            yield first

    stream = judging.judged(photos(), classifier, Here(), top=1)
    next(stream)
    stream.close()
    count = len(asked)
    assert count < 500
    with pytest.raises(StopIteration):
        next(stream)


# -- outcomes


def test_outcomes_of_records_are_those_of_predictions(known: Known, classifier: Classifier) -> None:
    """Through JSON, as a run that goes on has them."""
    (known.folder / [*known.truth][5]).write_bytes(BROKEN)
    for each in judging.judged(labelled(known), classifier, Here(), top=TOP):
        assert each.truth is not None
        if each.error is None:
            ranked = np.argsort(-each.probabilities, kind="stable")[:TOP]
            expected = Outcome(
                photo=str(each.photo),
                truth=each.truth.index,
                top=tuple(map(int, ranked)),
                probability=float(each.probabilities.max()),
                of_truth=float(each.probabilities[each.truth.index]),
            )
        else:
            expected = Outcome(photo=str(each.photo), truth=each.truth.index, error=str(each.error))
        assert judging.outcome(each.record()) == judging.outcome(json.loads(json.dumps(each.record()))) == expected


def test_rounding_does_not_make_a_probability_of_more_than_one() -> None:
    above = float(np.float32(1) + np.finfo(np.float32).eps)
    made = judging._judged(prediction([above, 0.0]), 0, Fixed(2))
    found = judging.outcome(made.record())
    assert (found.probability, found.of_truth) == (1.0, 1.0)


def test_more_labels_than_five_are_not_looked_at() -> None:
    made = judging._judged(prediction([0.1] * 10), 9, Fixed(10))
    assert judging.outcome(made.record()).top == (0, 1, 2, 3, 4)
