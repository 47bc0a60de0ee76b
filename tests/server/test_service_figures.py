"""What is counted is what happened, from however many threads; and words that strangers choose do not add up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from photolabel.server.figures import ERRAND, PHOTOS, Distribution, Figures, Measures, Tally


def test_a_tally_counts_by_words() -> None:
    tally = Tally()
    tally.add("a", "b")
    tally.add("a", "b", count=2)
    tally.add("a", "c")
    assert tally.read() == {("a", "b"): 3, ("a", "c"): 1}


def test_a_bound_is_within_and_what_is_above_all_is_counted_too() -> None:
    measures = Measures((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 7.0):
        measures.add(value, "x")
    assert measures.read() == {("x",): Distribution(counts=[2, 4, 5], total=12.0)}


def test_nothing_is_lost_between_threads() -> None:
    tally, measures = Tally(), Measures((0.5,))

    def work(_: int) -> None:
        for _ in range(2000):
            tally.add("x")
            measures.add(1.0)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert tally.read() == {("x",): 16_000}
    assert measures.read() == {(): Distribution(counts=[0, 16_000], total=16_000.0)}


def test_what_is_read_does_not_change_any_more() -> None:
    tally, measures = Tally(), Measures((1.0,))
    tally.add("x")
    measures.add(0.5)
    before = tally.read(), measures.read()
    tally.add("x")
    measures.add(0.5)
    assert before == ({("x",): 1}, {(): Distribution(counts=[1, 1], total=0.5)})


def test_methods_that_strangers_make_up_are_one() -> None:
    figures = Figures()
    for method in ("GET", "BREW", "X" * 1000, "get"):
        figures.request("/v1/models", method, 405, 0.001)
    assert figures.requests.read() == {("/v1/models", "GET", "405"): 1, ("/v1/models", "other", "405"): 3}


def test_an_errand_is_no_batch_of_photos() -> None:
    figures = Figures()
    figures.run("m", 3, 0.5)
    figures.run("m", None, 0.25)
    assert [*figures.batch_photos.read()] == [("m",)]
    found = figures.network_seconds.read()
    assert (found["m", PHOTOS].total, found["m", ERRAND].total) == (0.5, 0.25)
