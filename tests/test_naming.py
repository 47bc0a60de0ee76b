"""What is asked of a network, wherever it runs."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import photolabel
from photolabel.classifier import BATCH, Classifier
from photolabel.errors import UsageError
from photolabel.naming import Naming
from photolabel.prepared import prepare


@pytest.fixture
def classifier(tiny: Path) -> Iterator[Classifier]:
    with photolabel.load(tiny, threads=1) as loaded:
        yield loaded


def test_it_names_as_the_classifier_does(classifier: Classifier, photo: Path) -> None:
    made = prepare(photo, *classifier.recipes)
    naming = Naming(classifier=classifier, top=3, sure=0.5)
    assert naming([made]) == classifier.predict([made], top=3, sure=0.5)
    assert naming.told == 1000 and naming.batch == BATCH
    assert naming.limits is classifier.limits


def test_the_other_side_says_the_same(classifier: Classifier, photo: Path) -> None:
    naming = Naming(classifier=classifier, top=2)
    made = prepare(photo, *classifier.recipes)
    again = pickle.loads(pickle.dumps(naming))
    again.check_same(naming.identity)
    assert again(pickle.loads(pickle.dumps([made]))) == naming([made])


@pytest.mark.parametrize("what", ["network", "calibration"])
def test_another_network_or_calibration_is_refused(classifier: Classifier, what: str) -> None:
    naming = Naming(classifier=classifier)
    with pytest.raises(UsageError, match="not the same on all machines"):
        naming.check_same({**naming.identity, what: "another"})


def test_what_makes_no_sense_is_said_before_a_photo(classifier: Classifier) -> None:
    with pytest.raises(UsageError, match="top="):
        Naming(classifier=classifier, top=0).check()


def test_views_that_share_their_memory_are_pickled_once(classifier: Classifier, photo: Path) -> None:
    recipe = replace(classifier.recipe, views="mirror")
    made = prepare(photo, recipe)
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(made, protocol=5, buffer_callback=buffers.append)
    assert len(buffers) == 1 and len(data) < 2000
    again = pickle.loads(data, buffers=buffers)
    assert all(np.array_equal(one, other) for one, other in zip(made.views, again.views, strict=True))
    assert (again.photo, again.file, again.decoding, again.seconds) == (
        made.photo, made.file, made.decoding, made.seconds,
    )  # fmt: skip


def test_the_other_side_may_be_in_another_folder(
    tiny: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny.parent)
    with photolabel.load(tiny.name, threads=1) as one, photolabel.load(f"{tiny.name}+{tiny.name}", threads=1) as two:
        sent = pickle.dumps([Naming(classifier=one), Naming(classifier=two)])
    monkeypatch.chdir(tmp_path)
    for naming in pickle.loads(sent):
        assert naming([prepare(photo, *naming.recipes)])[0].error is None


def test_the_other_side_has_as_many_threads(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("photolabel.engine.available_threads", lambda: 3)
    with photolabel.load(tiny) as classifier:
        sent = pickle.dumps(Naming(classifier=classifier))
    monkeypatch.setattr("photolabel.engine.available_threads", lambda: 1)
    assert pickle.loads(sent).threads == 3
