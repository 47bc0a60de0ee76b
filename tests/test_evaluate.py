"""Outcomes -> figures: against counting by hand, the plainest of ways, and WordNet as it is packaged."""

from __future__ import annotations

import functools
import json
import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from photolabel import labels, tree
from photolabel.confidence import share
from photolabel.errors import UsageError
from photolabel.evaluate import distance, measures
from photolabel.evaluate.measures import measure
from photolabel.evaluate.outcomes import Outcome
from photolabel.labels import Label


def said(truth: int, *top: int, sure: float = 0.5, of_truth: float = 0.25, photo: str = "x.jpg") -> Outcome:
    return Outcome(photo=photo, truth=truth, top=top, probability=sure, of_truth=of_truth)


def unread(truth: int, error: str = "broken") -> Outcome:
    return Outcome(photo="bad.jpg", truth=truth, error=error)


INDEX = {label.name: label.index for label in labels.imagenet()}


@pytest.fixture(scope="module")
def whole() -> tree.Tree:
    made = tree.of(labels.imagenet())
    assert made is not None
    return made


@pytest.mark.parametrize("given_", [{}, {"top": (1,), "error": "broken"}])
def test_an_outcome_is_an_answer_or_an_error(given_: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"x\.jpg: expected"):
        Outcome(photo="x.jpg", truth=0, **given_)  # type: ignore[arg-type]


def test_errors_by_hand() -> None:
    outcomes = [
        said(0, 0, 1, 2, 3, 4),  # right
        said(1, 0, 1, 2, 3, 4),  # among the five
        said(6, 0, 1, 2, 3, 4),  # not
        said(6, 6, 1, 2, 3, 4),
        unread(6),
    ]
    found = measure(outcomes, classes=7)
    assert (found.photos, found.unreadable) == (5, 1)
    assert found.top1 == share(2, 4) and found.top5 == share(1, 4)
    assert found.counting_unreadable() == share(3, 5)
    assert found.classes.photos == (1, 1, 0, 0, 0, 0, 2)
    assert found.classes.right == (1, 0, 0, 0, 0, 0, 1)
    assert found.classes.top5 == (1, 1, 0, 0, 0, 0, 1)
    assert found.classes.said == (3, 0, 0, 0, 0, 0, 1)
    assert found.classes.taken_for == (None, 0, None, None, None, None, 0)
    assert found.classes.present == 3 and found.classes.mean_accuracy == pytest.approx((1 + 0 + 0.5) / 3)
    assert found.distances is None
    assert found.likelihood == pytest.approx(math.log(4))
    assert [outcome.right for outcome in outcomes] == [True, False, False, True, False]


def test_only_five_count_however_many_are_given() -> None:
    found = measure([said(5, 0, 1, 2, 3, 4, 5)], classes=7)
    assert found.top5 == share(1, 1)


@pytest.mark.parametrize("classes", [2, 5])
def test_a_top_5_error_of_five_classes_says_nothing(classes: int) -> None:
    found = measure([said(1, 0, 1)], classes=classes)
    assert found.top5 is None and found.classes.top5 is None and found.record()["top5_error"] is None


@pytest.mark.parametrize("outcomes", [[], [unread(0), unread(1)]])
def test_nothing_to_measure(outcomes: list[Outcome], whole: tree.Tree) -> None:
    found = measure(outcomes, classes=1000, tree=whole)
    assert found.unreadable == found.photos == len(outcomes) and found.top1 == share(0, 0)
    assert math.isnan(found.likelihood) and math.isnan(found.classes.mean_accuracy)
    assert not (found.worst or found.best or found.unsure or found.confusions)
    assert json.loads(json.dumps(found.record(), allow_nan=False))["calibration_error"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        said(7, 0),
        said(-1, 0),
        said(0, 7),
        said(0, 1, -2),
        said(0, 0, sure=1.5),
        said(0, 0, sure=math.nan),
        said(0, 0, of_truth=-0.1),
        said(0, 0, of_truth=math.nan),
    ],
)
def test_what_makes_no_sense(wrong: Outcome) -> None:
    with pytest.raises(UsageError):
        measure([said(0, 0), wrong], classes=7)


def test_a_tree_of_other_classes(whole: tree.Tree) -> None:
    with pytest.raises(UsageError, match="expected a tree of 7 classes"):
        measure([said(0, 0)], classes=7, tree=whole)


def test_a_certain_mistake_is_not_infinitely_unlikely() -> None:
    assert measure([said(0, 1, of_truth=0.0)], classes=7).likelihood == pytest.approx(-math.log(1e-12))


def test_confusions_are_counted_and_their_photos_the_surest() -> None:
    outcomes = [said(0, 1, sure=i / 10) for i in range(6)]
    outcomes += [said(1, 0, sure=0.9)] * 2 + [said(2, 2)] * 9 + [said(3, 1)] * 2
    found = measure(outcomes, classes=7).confusions
    assert [(pair.truth, pair.said, pair.count) for pair in found] == [(0, 1, 6), (1, 0, 2), (3, 1, 2)]
    assert found[0].photos == (5, 4, 3, 2)


def test_the_worst_the_best_and_the_least_sure() -> None:
    sure = [0.9, 0.8, 0.95, 0.7, 0.1, 0.99]
    answers = [(0, 1), (0, 0), (0, 0), (1, 1), (1, 0), (2, 3)]
    outcomes = [unread(0), *(said(t, s, sure=p) for (t, s), p in zip(answers, sure, strict=True))]
    found = measure(outcomes, classes=7)
    assert found.worst == (6, 1, 5)
    assert found.best == (3, 4)  # no class twice
    assert found.unsure == (5, 4, 2, 1, 3, 6)


ANSWERS = st.lists(
    st.tuples(st.integers(0, 7), st.permutations(range(8)), st.floats(0, 1), st.sampled_from([None, "broken"])),
    max_size=40,
)


@given(ANSWERS)
def test_against_the_plainest_of_ways(answers: list[tuple[int, list[int], float, str | None]]) -> None:
    outcomes = [
        unread(truth, error) if error else said(truth, *order[:5], sure=sure) for truth, order, sure, error in answers
    ]
    found = measure(outcomes, classes=8)
    read = [each for each in outcomes if each.error is None]
    wrong = [each for each in read if each.top[0] != each.truth]
    assert found.top1 == share(len(wrong), len(read))
    assert found.top5 == share(sum(each.truth not in each.top for each in read), len(read))
    assert found.unreadable == len(outcomes) - len(read) and found.bins.total == len(read)
    pairs = Counter((each.truth, each.top[0]) for each in wrong)
    assert [pair.count for pair in found.confusions] == sorted(pairs.values(), reverse=True)[: measures.PAIRS]
    assert all(pairs[pair.truth, pair.said] == pair.count for pair in found.confusions)
    for truth, most in enumerate(found.classes.taken_for):
        times = {s: count for (t, s), count in pairs.items() if t == truth}
        assert (most is None) == (not times)
        assert most is None or times[most] == max(times.values())
    assert sum(found.classes.photos) == sum(found.classes.said) == len(read)
    assert sum(found.classes.right) == len(read) - len(wrong)


def test_lists_are_bounded_and_the_time_is_that_of_arrays(whole: tree.Tree) -> None:
    rng = random.Random(0)
    outcomes = [said(i % 1000, *rng.sample(range(1000), 5), sure=rng.random()) for i in range(50_000)]
    found = measure(outcomes, classes=1000, tree=whole)
    assert len(found.confusions) == measures.PAIRS
    assert {len(pair.photos) for pair in found.confusions} <= set(range(1, measures.PHOTOS_OF_A_PAIR + 1))
    assert len(found.worst) == len(found.best) == len(found.unsure) == measures.EXAMPLES
    assert found.distances is not None
    assert len(found.distances.near) == len(found.distances.far) == measures.EXTREMES
    assert sum(found.distances.counts) == found.top1.count


# -- how far off


@functools.cache
def height_by_walking(wnid: str) -> int:
    """The longest way down to a class, by the plainest of ways."""
    known = tree.names()
    below = [name.wnid for name in known.values() if wnid in name.above]
    return max((1 + height_by_walking(each) for each in below), default=0)


@functools.cache
def above_by_walking(wnid: str) -> frozenset[str]:
    return frozenset([wnid]).union(*(above_by_walking(each) for each in tree.names()[wnid].above))


def between(whole: tree.Tree, one: str, other: str) -> tuple[int, str]:
    height, node = distance.between(whole, np.array([INDEX[one]]), np.array([INDEX[other]]))
    return int(height[0]), whole.nodes[node[0]].name


def test_two_cats_are_nearer_than_a_cat_and_a_mug(whole: tree.Tree) -> None:
    assert between(whole, "tabby", "Egyptian_cat") == (1, "domestic_cat")
    assert between(whole, "tabby", "tiger") == (3, "feline")
    assert between(whole, "tabby", "coffee_mug") == (15, "whole")
    assert between(whole, "tabby", "tabby") == (0, "tabby")
    assert between(whole, "coffee_mug", "tabby") == between(whole, "tabby", "coffee_mug")


def test_a_height_is_the_longest_way_down(whole: tree.Tree) -> None:
    found = distance.heights(whole)
    assert found.max() == found[-1] == 18 and whole.nodes[-1].name == "entity"
    for row in range(0, len(whole.nodes), 97):
        assert found[row] == height_by_walking(whole.nodes[row].wnid)
    assert (found == 0).sum() == 1000


def test_the_lowest_of_all_names_above_both_counts(whole: tree.Tree) -> None:
    """Both are animals by several ways: the smallest height of any common name, and no other."""
    rng = random.Random(1)
    one = np.array([rng.randrange(1000) for _ in range(40)])
    other = np.array([rng.randrange(1000) for _ in range(40)])
    found, nodes = distance.between(whole, one, other)
    for a, b, height, node in zip(one, other, found, nodes, strict=True):
        ids = [labels.imagenet()[i].wnid or "" for i in (a, b)]
        common = above_by_walking(ids[0]) & above_by_walking(ids[1])
        assert height == min(map(height_by_walking, common))
        assert whole.nodes[node].wnid in common and height_by_walking(whole.nodes[node].wnid) == height


def test_the_smallest_height_is_not_always_that_of_the_fewest_classes() -> None:
    """Under x are two classes, one of them far below; y stands right above three. None of ImageNet's are like this."""
    ways = {"a": "d y", "d": "e", "b": "x y", "c": "y", "e": "x", "x": "root", "y": "root", "root": ""}
    classes = {"a": "a", "d": "a", "b": "b", "c": "c", "e": "a", "x": "ab", "y": "abc", "root": "abc"}
    nodes = tuple(tree.Name(name, name, name, tuple(above.split())) for name, above in ways.items())
    under = np.array([[each in classes[node.wnid] for each in "abc"] for node in nodes], np.float32)
    above = tree.Tree(nodes, under, under.sum(axis=1).astype(np.int64))
    assert distance.heights(above).tolist() == [0, 1, 0, 0, 2, 3, 1, 4]
    height, node = distance.between(above, np.array([0]), np.array([1]))
    assert height.tolist() == [1] and nodes[node[0]].name == "y"


def test_many_pairs_come_in_their_order(whole: tree.Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = np.arange(200) * 5, np.arange(200)[::-1] * 5
    expected = distance.between(whole, one, other)
    monkeypatch.setattr(distance, "_AT_ONCE", 7)
    for part, all_ in zip(distance.between(whole, one, other), expected, strict=True):
        np.testing.assert_array_equal(part, all_)


def test_a_class_that_stands_above_another_is_its_lowest_name() -> None:
    cats = [Label(0, "n02121808", "domestic cat"), Label(1, "n02123045", "tabby"), Label(2, "n03063599", "coffee_mug")]
    above = tree.of(cats)
    assert above is not None
    height, node = distance.between(above, np.array([0, 0]), np.array([1, 0]))
    assert height.tolist() == [1, 1] and above.nodes[node[0]].wnid == "n02121808"


def test_distances_of_mistakes(whole: tree.Tree) -> None:
    cat, other, mug = INDEX["tabby"], INDEX["Egyptian_cat"], INDEX["coffee_mug"]
    outcomes = [
        said(cat, cat),
        said(cat, mug, sure=0.4),
        said(cat, other, sure=0.3),
        said(cat, other, sure=0.6),
        said(cat, other, sure=0.5),
        unread(cat),
    ]
    found = measure(outcomes, classes=1000, tree=whole).distances
    assert found is not None
    assert len(found.counts) == 19 and (found.counts[1], found.counts[15]) == (3, 1)
    assert found.of_mistakes == (3 * 1 + 15) / 4 and found.of_all == (3 * 1 + 15) / 5
    assert [each.outcome for each in found.near] == [3] and [each.outcome for each in found.far] == [1]
    assert found.surest[1] == found.near[0] and found.surest[15] == found.far[0] and found.surest[2] is None
    assert whole.nodes[found.near[0].node].name == "domestic_cat" and found.near[0].height == 1


def test_no_mistake_is_no_distance(whole: tree.Tree) -> None:
    found = measure([said(0, 0)], classes=1000, tree=whole).distances
    assert found is not None and sum(found.counts) == 0 and math.isnan(found.of_mistakes) and found.of_all == 0
    assert found.near == found.far == ()


def test_the_record_is_plain(whole: tree.Tree) -> None:
    record = measure([said(0, 0), said(0, 1), unread(0)], classes=1000, tree=whole).record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["top1_error"] == {
        "count": 1,
        "of": 2,
        "share": 0.5,
        "low": share(1, 2).low,
        "high": share(1, 2).high,
    }
    assert record["photos"] == 3 and record["unreadable"] == 1
    assert record["top1_error_counting_unreadable"]["share"] == pytest.approx(2 / 3)
