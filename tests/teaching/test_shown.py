"""Which photos of a lesson are shown: what matters first, a bounded number, all of them named beforehand."""

from __future__ import annotations

from dataclasses import replace

from photolabel.teaching import shown
from photolabel.teaching.doubts import MOST, Pair
from photolabel.teaching.lesson import Repeated

from lessons import lesson, same, tuned


def pair(one: int, other: int, likeness: float, *, contradictory: bool = False, across: bool = False) -> Pair:
    return Pair(one=one, other=other, likeness=likeness, contradictory=contradictory, across=across)


def test_pairs_that_flatter_or_contradict_come_first() -> None:
    alike = (
        pair(0, 1, 0.99),
        pair(2, 3, 0.98, contradictory=True),
        pair(4, 42, 0.97, across=True),
        pair(5, 43, 0.96, across=True, contradictory=True),
        pair(6, 44, 0.95, across=True, contradictory=True),
        pair(7, 8, 0.94),
    )
    found = lesson((20, 20), held=(5, 5), alike=alike)
    assert [each.one for each in shown.choose(found).pairs] == [5, 6, 4, 2, 0, 7]


def test_mistakes_are_the_surest_and_none_is_shown_twice() -> None:
    found = lesson((90, 90, 90), held=(40, 40, 40), noise=3.0, swapped=range(9))
    chosen = shown.choose(found)
    doubtful = {found.photos.names[each.photo] for each in found.mislabelled}
    assert len(chosen.mislabelled) == shown.MISLABELLED and chosen.mislabelled == found.mislabelled[: shown.MISLABELLED]
    for wrong, photos, probabilities in (
        (chosen.wrong, found.photos, found.fitted.probabilities),
        (chosen.wrong_validation, found.validation.photos, found.validation.probabilities),  # type: ignore[union-attr]
    ):
        of = {
            name: (int(truth), row) for name, truth, row in zip(photos.names, photos.truth, probabilities, strict=True)
        }
        missed = {
            name: float(row.max())
            for name, (truth, row) in of.items()
            if row.argmax() != truth and (photos is not found.photos or name not in doubtful)
        }
        assert len(missed) > shown.WRONG == len(wrong)
        assert [each.probability for each in wrong] == sorted(missed.values(), reverse=True)[: shown.WRONG]
        for each in wrong:
            truth, row = of[each.photo]
            assert (each.truth, each.said) == (truth, int(row.argmax())) and each.of_truth == row[truth]


def test_a_photo_that_was_not_judged_is_no_mistake() -> None:
    found = lesson((20, 1), noise=0.1)
    assert shown.choose(found).wrong == () and not found.fitted.judged[20]


def test_mistakes_of_frozen_heads_are_not_those_of_a_tuned_network() -> None:
    found = tuned(lesson((60, 60), noise=3.0))
    chosen = shown.choose(found)
    assert chosen.wrong == () and len(chosen.wrong_validation) > 0


def test_what_is_there_several_times_by_kind() -> None:
    repeated = (same("a", "a"), same("a", "b"), same("a", "a", across=True), same("a", "b", across=True))
    chosen = shown.choose(lesson(repeated=repeated))
    assert chosen.contradictory == (repeated[1], repeated[3])
    assert chosen.across == (repeated[2],) and chosen.twice == (repeated[0],)


def test_no_more_than_some_hundred() -> None:
    alike = tuple(pair(i, i + 1, 0.9) for i in range(200))
    repeated = tuple(
        Repeated(photos=tuple(f"{i}-{j}" for j in range(50)), classes=("a",) * 49 + ("ab"[i % 2],), across=i % 3 == 0)
        for i in range(90)
    )
    found = lesson((300, 300), held=(60, 60), noise=4.0, alike=alike, repeated=repeated)
    chosen = shown.choose(found)
    assert len(chosen.pairs) == shown.PAIRS and len(chosen.contradictory) == len(chosen.twice) == shown.REPEATED
    assert len(shown.names(found)) <= 24 + 2 * 12 + 2 * 24 + 3 * 12 * 4


def test_very_many_pairs_are_at_least_so_many() -> None:
    assert shown.pairs(lesson(alike=(pair(0, 1, 0.9),))) == "1 pair"
    assert shown.pairs(lesson(alike=(pair(0, 1, 0.9),) * MOST)) == "at least 10,000 pairs"


def test_names_are_those_of_all_that_is_shown() -> None:
    found = lesson((60, 50), held=(9, 12), noise=2.0, swapped=(3, 70), copied=((5, 115),), repeated=(same("a", "b"),))
    names = shown.names(found)
    assert {"3.jpg", "70.jpg", "5.jpg", "115.jpg", "0.jpg", "1.jpg"} <= names
    chosen = shown.choose(found)
    assert {each.photo for each in (*chosen.wrong, *chosen.wrong_validation)} <= names
    assert shown.names(replace(found, mislabelled=(), alike=(), repeated=())) < names
