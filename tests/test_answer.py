"""What photolabel is willing to say: the most specific name that is sure enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import photolabel
from photolabel import answer, calibration, cli, labels, output, tree
from photolabel.errors import UsageError
from photolabel.labels import Label

from conftest import ROOT

CLASSES = labels.imagenet()
TREE = tree.of(CLASSES)
INDEX = {label.name: label.index for label in CLASSES}


def spread(**shares: float) -> np.ndarray:
    """Probabilities of these classes; what is left goes to all alike."""
    found = np.full(1000, (1 - sum(shares.values())) / 1000, np.float32)
    for name, share in shares.items():
        found[INDEX[name]] += share
    return found


def test_a_class_that_is_sure_enough_is_the_answer() -> None:
    found = answer.hedged(spread(Egyptian_cat=0.95), CLASSES, TREE, sure=0.9)
    assert (found.kind, found.name, found.wnid) == ("leaf", "Egyptian_cat", "n02124075")
    assert str(found) == "Egyptian_cat (95.00%)"


def test_else_the_most_specific_name_that_is() -> None:
    cats = spread(Egyptian_cat=0.5, tabby=0.3, tiger_cat=0.14)
    found = answer.hedged(cats, CLASSES, TREE, sure=0.9)
    assert (found.kind, found.name) == ("broader", "domestic_cat")
    assert found.probability == pytest.approx(0.94, abs=1e-3)
    wild = spread(Egyptian_cat=0.5, cougar=0.45)
    assert answer.hedged(wild, CLASSES, TREE, sure=0.9).name == "cat"


def test_or_that_it_is_unsure() -> None:
    for probabilities in (np.full(1000, 0.001, np.float32), spread(Egyptian_cat=0.4, espresso=0.3, alp=0.2)):
        found = answer.hedged(probabilities, CLASSES, TREE, sure=0.9)
        assert (found.kind, found.wnid, str(found)) == ("unsure", None, "unsure"), found


def test_without_a_tree_there_are_only_the_classes() -> None:
    mine = [Label(0, None, "ants"), Label(1, None, "bees")]
    assert answer.hedged(np.array([0.3, 0.7], np.float32), mine, None, sure=0.9).kind == "unsure"
    assert answer.hedged(np.array([0.05, 0.95], np.float32), mine, None, sure=0.9).name == "bees"


@given(seed=st.integers(0, 2**32 - 1), peak=st.floats(0.001, 0.3), sure=st.floats(0.05, 1))
def test_no_other_name_that_reaches_it_is_more_specific(seed: int, peak: float, sure: float) -> None:
    assert TREE is not None
    probabilities = np.random.default_rng(seed).dirichlet(np.full(1000, peak)).astype(np.float32)
    found = answer.hedged(probabilities, CLASSES, TREE, sure=sure)
    sums = TREE.probabilities(probabilities)
    reached = [n for p, n, node in zip(sums, TREE.leaves, TREE.nodes, strict=True) if p >= sure and n <= 900]
    if found.kind == "unsure":
        assert not reached
    else:
        row = next(i for i, node in enumerate(TREE.nodes) if node.wnid == found.wnid)
        assert sums[row] >= sure - 1e-6 and TREE.leaves[row] == min(reached, default=1)
    told = answer.information(found, 1000, TREE)
    assert 0 <= told <= 1 and (told == 1) == (
        found.kind == "leaf" or (found.kind == "broader" and row_leaves(found) == 1)
    )


def row_leaves(found: answer.Answer) -> int:
    assert TREE is not None
    return next(int(n) for n, node in zip(TREE.leaves, TREE.nodes, strict=True) if node.wnid == found.wnid)


def test_temperature_is_that_of_the_softmax() -> None:
    logits = np.random.default_rng(3).normal(0, 4, (5, 20))
    soft = lambda x: np.exp(x - x.max(1, keepdims=True)) / np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True)  # noqa: E731
    for temperature in (0.5, 1.0, 2.5):
        found = answer.tempered(soft(logits).astype(np.float32), temperature)
        np.testing.assert_allclose(found, soft(logits / temperature), rtol=2e-4, atol=1e-7)
    sure = np.array([1, 0, 0], np.float32)
    np.testing.assert_array_equal(answer.tempered(sure, 0.7), sure)


def test_familiarity_is_one_less_a_share_of_the_greatest_entropy() -> None:
    sure = np.zeros(1000, np.float32)
    sure[7] = 1
    assert answer.familiarity(sure) == 1
    hundred = np.zeros(1000, np.float32)
    hundred[:100] = 0.01
    assert answer.familiarity(hundred) == pytest.approx(0, abs=1e-6), "no hundred classes can be more alike"
    assert answer.familiarity(np.full(7, 1 / 7, np.float32)) == pytest.approx(0, abs=1e-6)
    several = np.random.default_rng(0).dirichlet(np.full(1000, 0.02), 50).astype(np.float32)
    by_hand = [
        1 - sum(float(p * (1 - p)) ** 0.1 for p in sorted(map(float, x))[-100:]) / (100 * 0.0099**0.1) for x in several
    ]
    np.testing.assert_allclose(answer.familiarity(several), by_hand, atol=1e-5)


@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 300), peak=st.floats(0.01, 10))
def test_familiarity_is_from_nought_to_one(seed: int, classes: int, peak: float) -> None:
    found = np.random.default_rng(seed).dirichlet(np.full(classes, peak), 5).astype(np.float32)
    assert (answer.familiarity(found) >= -1e-6).all() and (answer.familiarity(found) <= 1).all()


def test_a_photo_of_none_of_its_classes() -> None:
    """The line that was measured for the bundled model; only where an honest answer is asked for."""
    noise = np.random.default_rng(1).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    cat = ROOT / "samples" / "cat.jpg"
    with photolabel.load("efficientnet-lite2") as classifier:
        (bold,), (found,) = classifier.classify_many([noise]), classifier.classify_many([noise], sure=0.01)
        assert answer.familiarity(bold.probabilities) < calibration.OF_BUNDLED
        assert bold.answer is not None and bold.answer.kind == "leaf"
        assert found.answer is not None and found.answer.reason == "none of its classes"
        assert found.answer.probability == bold.top.probability and str(found) == "unsure (none of its classes)"
        assert classifier.classify(cat, sure=0.01).answer.kind == "leaf"  # type: ignore[union-attr]
    with photolabel.load("efficientnet-lite2", views="mirror") as twice:  # of which it was not measured
        assert twice.classify(noise, sure=0.01).answer.reason is None  # type: ignore[union-attr]


def test_a_calibration_has_a_line_of_its_own(tiny: Path, photo: Path) -> None:
    with photolabel.load(tiny, threads=1) as plain:
        assert plain.classify(photo, sure=0.001).answer.kind == "leaf"  # type: ignore[union-attr]
        found = float(answer.familiarity(plain.classify(photo).probabilities))
        what = plain.identity
    scores = tuple(i / 100 for i in range(100))
    for floor, reason in ((found - 1e-9, None), (found + 1e-9, "none of its classes")):
        calibration.keep(what, calibration.Calibration(temperature=1.0, scores=scores, right=9, floor=floor))
        with photolabel.load(tiny, threads=1) as classifier:
            assert classifier.classify(photo, sure=0.001).answer.reason == reason  # type: ignore[union-attr]


def test_a_classifier_and_its_records() -> None:
    with photolabel.load("efficientnet-lite2") as classifier:
        cat = ROOT / "samples" / "cat.jpg"
        bold, careful = classifier.classify(cat), classifier.classify(cat, sure=0.8)
        assert bold.answer is not None and careful.answer is not None
        assert (bold.answer.kind, careful.answer.kind, careful.answer.name) == ("leaf", "broader", "domestic_cat")
        assert careful.labels == bold.labels, "what the network says stays"
        assert careful.record()["answer"]["kind"] == "broader"
        assert output.line(careful.record(), named=False) == str(careful)
        (unsure,) = classifier.classify_many([ROOT / "samples" / "rocket.jpg"], sure=0.99)
        assert str(unsure) == output.line(unsure.record(), named=False) == "unsure"
        for wrong in (0, 1.5, -1, True, "0.9"):
            with pytest.raises(UsageError, match="sure="):
                classifier.classify(cat, sure=wrong)  # type: ignore[arg-type]


def test_folders_answer_so_too() -> None:
    with photolabel.load("efficientnet-lite2") as classifier:
        found = photolabel.classify_folder(ROOT / "samples", classifier, sure=0.8, workers=0)
        assert [str(each) for each in found] == [
            str(each) for each in classifier.classify_many(sorted((ROOT / "samples").glob("*.jpg")), sure=0.8)
        ]
        with pytest.raises(UsageError, match="sure="):
            next(photolabel.classify_folder(ROOT / "samples", classifier, sure=2, workers=0))


def test_the_names_above_an_answer_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    cat = str(ROOT / "samples" / "cat.jpg")
    assert cli.main(["--model", "efficientnet-lite2", "--tree", "--sure", "0.8", cat]) == 0
    first, *path = capsys.readouterr().out.splitlines()
    assert first == "domestic_cat (84.27%)" and path[0].split() == ["living", "thing", "90.76%"]
    assert path[-1].split() == ["domestic", "cat", "84.27%"]
    shares = [float(line.split()[-1].rstrip("%")) for line in path]
    assert shares == sorted(shares, reverse=True), "the narrower, the less probable"
    for other in (["--json"], ["--output", "x.csv"]):
        assert cli.main(["--tree", *other, cat]) == 2


def test_a_table_does_not_hide_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    cat = str(ROOT / "samples" / "cat.jpg")
    assert cli.main(["--model", "efficientnet-lite2", "--sure", "0.8", "--top", "1", cat]) == 0
    assert capsys.readouterr().out.split() == ["domestic_cat", "(84.27%)", "Egyptian_cat", "59.51%"]
