from __future__ import annotations

import pytest

from photolabel.batch import Tally, Timing, summary
from test_journal import record


def tally(*records: tuple[str, str | None]) -> Tally:
    made = Tally()
    for name, error in records:
        each = record("x.jpg", error)
        if error is None:
            each["answer"]["name"] = name
        made.add(each)
    return made


def told(counted: Tally, *, seconds: float = 60.0, earlier: int = 0) -> list[str]:
    timing = Timing(reading=1.25, decoding=72.06, network=40.0)
    return summary(counted, timing, seconds=seconds, earlier=earlier).splitlines()


def test_a_run_in_words() -> None:
    counted = tally(*[("mug", None)] * 1500, ("cup", None), ("", "corrupt-photo"), *[("", "photo-not-found")] * 2)
    assert told(counted, seconds=200.0) == [
        "1,504 photos, in 3 min 20 s: 7.5 a second",
        "errors: 3 (photo-not-found 2, corrupt-photo 1)",
        "seconds: reading 1.2, decoding 72.1 (of all workers together), network 40.0",
        "commonest: mug 1,500, cup 1",
    ]
    assert counted.failed == 3


def test_a_run_that_went_on_counts_its_own_photos_for_its_speed() -> None:
    counted = tally(*[("mug", None)] * 1200)
    assert told(counted, earlier=1080)[0] == "1,200 photos, 120 of them now, in 1 min 0 s: 2.0 a second"
    assert told(counted, earlier=1200)[0] == "1,200 photos, 0 of them now, in 1 min 0 s: 0.0 a second"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_singular_and_plural(count: int) -> None:
    (first, *_) = told(tally(*[("mug", None)] * count), seconds=4.0)
    assert first == f"{count} photo{'s' * (count != 1)}, in 4 s: {count / 4:.1f} a second"


def test_no_time_at_all_is_no_division_by_zero() -> None:
    assert told(tally(("mug", None)), seconds=0.0)[0].startswith("1 photo, in 0 s: ")


def test_nothing_but_errors_has_no_commonest_name() -> None:
    assert [line.partition(":")[0] for line in told(tally(("", "photo-too-slow")))] == [
        "1 photo, in 1 min 0 s", "errors", "seconds"
    ]  # fmt: skip


def test_the_five_commonest_names_harmless_to_a_terminal() -> None:
    counted = tally(*[(f"\x1b[2J{n}", None) for n in range(9) for _ in range(9 - n)])
    assert told(counted)[-1] == r"commonest: \x1b[2J0 9, \x1b[2J1 8, \x1b[2J2 7, \x1b[2J3 6, \x1b[2J4 5"
