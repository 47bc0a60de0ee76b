"""Photos in chunks as they are listed: full ones, or what has come in a while; no cluster runs here."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from photolabel.cluster import listing
from photolabel.cluster.listing import WAITING, Listing
from photolabel.errors import UsageError
from photolabel.sources import Item

from crews import eventually


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk waits until it is full, for as long as it takes."""
    monkeypatch.setattr(listing, "_FILLING", float("inf"))


def endless(listed: list[int]) -> Iterator[Item]:
    for number in itertools.count():
        listed.append(number)
        yield Item(photo=f"{number}")


def taken(made: Listing) -> Iterator[list[str]]:
    """What is in each chunk, to the end."""
    until = time.monotonic() + 20
    while not made.exhausted():
        assert time.monotonic() < until
        if chunk := made.take():
            yield [item.photo for item in chunk]


def test_chunks_are_full_but_for_the_last() -> None:
    names = [f"{number}" for number in range(8)]
    made = Listing([Item(photo=name) for name in names], photos=3, held=1)
    assert [*taken(made)] == [names[:3], names[3:6], names[6:]]


def test_photos_that_come_with_their_bytes_fill_a_chunk_sooner() -> None:
    held = [0, 40, 60, 100, 20]
    items = [Item(photo=f"{number}", data=bytes(size)) for number, size in enumerate(held)]
    assert [*taken(Listing(items, photos=3, held=100))] == [["0", "1", "2"], ["3"], ["4"]]


def test_listing_is_not_far_ahead() -> None:
    listed: list[int] = []
    made = Listing(endless(listed), photos=3, held=1)
    try:
        for chunks in range(3):
            most = (WAITING + chunks) * 3 + 1  # one is in hand
            assert eventually(lambda most=most: len(listed) >= most)
            time.sleep(0.1)
            assert len(listed) == most
            assert len(made.take()) == 3
    finally:
        made.stop()


def test_a_chunk_waits_for_more_but_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    more, listed = threading.Event(), threading.Event()

    def slowly() -> Iterator[Item]:
        yield Item(photo="a")
        listed.set()
        assert more.wait(20)
        yield Item(photo="b")

    made = Listing(slowly(), photos=3, held=1)
    assert listed.wait(20) and made.take() == []
    monkeypatch.setattr(listing, "_FILLING", 0.1)
    assert eventually(lambda: [item.photo for item in made.take()] == ["a"])
    assert not made.exhausted() and made.take() == []
    more.set()
    assert [*taken(made)] == [["b"]]


def test_what_listing_raises_comes_when_all_before_it_is_taken() -> None:
    def broken() -> Iterator[Item]:
        yield Item(photo="a")
        raise UsageError("the list is broken.")

    coming = taken(Listing(broken(), photos=3, held=1))
    assert next(coming) == ["a"]
    with pytest.raises(UsageError, match="the list is broken"):
        next(coming)


def test_whoever_stops_has_no_more_listed() -> None:
    listed: list[int] = []
    before = {*threading.enumerate()}
    made = Listing(endless(listed), photos=3, held=1)
    (thread,) = {*threading.enumerate()} - before
    assert eventually(lambda: len(listed) == WAITING * 3 + 1), "it waits for room"
    made.stop()
    thread.join(20)
    assert not thread.is_alive()
