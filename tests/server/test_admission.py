"""What is in the house is counted, and who is too much is refused."""

from __future__ import annotations

import pytest

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
