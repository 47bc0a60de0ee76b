"""What is in the house is counted, and who is too much is refused."""

from __future__ import annotations

import pytest

from photolabel.server import turns
from photolabel.server.admission import Admission
from photolabel.server.problems import RefusedError


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_photos_are_counted_while_they_are_in_the_house() -> None:
    house = Admission(photos=3, held=10)
    with house.admitted(2):
        assert house.photos == 2
        house.check()
        with house.admitted(1), pytest.raises(RefusedError) as caught:
            house.check()
        assert (caught.value.problem.status, caught.value.problem.code) == (429, "queue-full")
        with pytest.raises(RefusedError), house.admitted(2):  # all or none
            pass
        assert house.photos == 2
    with pytest.raises(ValueError, match="mine"), house.admitted(3):
        raise ValueError("mine")
    assert house.photos == 0


def test_bytes_are_given_back() -> None:
    house = Admission(photos=1, held=10)
    with house.holding() as hold:
        hold(6)
        with house.holding() as other:
            other(4)
            with pytest.raises(RefusedError) as caught:
                hold(1)
            assert caught.value.problem.code == "queue-full"
            assert house.held == 10
        hold(4)
    assert house.held == 0


def test_when_to_ask_again_is_measured() -> None:
    clock = Clock()
    house = Admission(photos=8, held=1, clock=clock)
    assert house.retry_after == 1  # nothing is known yet
    with house.admitted(1):
        clock.now += 2
    with house.admitted(8):
        assert house.retry_after == 16  # eight at two seconds each
        with pytest.raises(RefusedError) as caught:
            house.check()
        assert caught.value.problem.headers["retry-after"] == "16"
    clock.now += 1000  # an empty house measures nothing
    with house.admitted(1):
        clock.now += 0.001
    assert house.retry_after == 1


def test_it_is_never_said_to_come_back_in_an_hour() -> None:
    clock = Clock()
    house = Admission(photos=64, held=1, clock=clock)
    with house.admitted(1):
        clock.now += 1000
    with house.admitted(64):
        assert house.retry_after == 60


def test_one_caller_leaves_room_for_others() -> None:
    house = Admission(photos=4, held=10, caller_photos=2, caller_held=6)
    with turns.answering("10.0.0.1"), house.admitted(2), house.holding() as hold:
        hold(6)
        with turns.answering("10.0.0.1"):  # another request of theirs
            with pytest.raises(RefusedError, match="queue-full") as caught:
                house.check()
            assert "Of this address 2 photos" in caught.value.problem.detail
            with house.holding() as more, pytest.raises(RefusedError, match="queue-full") as caught:
                more(1)
            assert "of this address" in caught.value.problem.detail
        for other in ("10.0.0.2", "127.0.0.1", None):
            with turns.answering(other), house.admitted(2), house.holding() as more:
                more(4)
    assert house.photos == house.held == 0
    assert not house._photos._callers and not house._held._callers
    with turns.answering("10.0.0.1"), house.admitted(2):  # what was given back can be had again
        pass


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", None, "/run/socket"])
def test_whoever_may_be_many_may_have_all(address: str | None) -> None:
    house = Admission(photos=4, held=10, caller_photos=1, caller_held=1)
    with turns.answering(address), house.admitted(4), house.holding() as hold:
        hold(10)


def test_who_came_in_and_who_did_not_is_remembered() -> None:
    house = Admission(photos=3, held=10)
    assert (house.admitted_photos, house.refusals) == (0, {"photos": 0, "bytes": 0, "share": 0})
    with house.admitted(2), house.holding() as hold:
        for refused in (lambda: house.check(2), lambda: house.admitted(2).__enter__(), lambda: hold(11)):
            with pytest.raises(RefusedError):
                refused()
        house.check(1)
        hold(10)
    with house.admitted(1):
        pass
    assert (house.admitted_photos, house.refusals) == (3, {"photos": 2, "bytes": 1, "share": 0})
    house = Admission(photos=3, held=10, caller_photos=1, caller_held=5)
    with turns.answering("10.0.0.1"), house.holding() as hold:
        for refused in (lambda: house.check(2), lambda: hold(6)):
            with pytest.raises(RefusedError):
                refused()
    assert (house.admitted_photos, house.refusals) == (0, {"photos": 0, "bytes": 0, "share": 2})
