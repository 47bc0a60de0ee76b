"""Refusals for want of room by the hundred: which have a line, and how many had none."""

from __future__ import annotations

import asyncio

import pytest

from photolabel.server import crowds
from photolabel.server.crowds import LINES, Crowd


def test_some_have_a_line_and_the_others_are_counted() -> None:
    told: list[int] = []
    now = [100.0]
    crowd = Crowd(told.append, lambda: now[0])
    assert [crowd.refused() for _ in range(LINES + 15)] == [True] * LINES + [False] * 15 and not told
    now[0] += 1
    assert crowd.refused() and told == [15]  # the next second
    crowd.tell()
    assert told == [15]  # there are no others
    assert [crowd.refused() for _ in range(LINES)] == [True] * (LINES - 1) + [False]
    crowd.tell()  # the end
    assert told == [15, 1]


def test_those_who_had_no_line_are_told_when_their_second_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "SECONDS", 0.05)
    told: asyncio.Queue[int] = asyncio.Queue()

    async def crowded() -> int:
        crowd = Crowd(told.put_nowait, lambda: 100.0)
        for _ in range(LINES + 5):
            crowd.refused()
        return await asyncio.wait_for(told.get(), 60)

    assert asyncio.run(crowded()) == 5 and told.empty()


def test_it_is_there_for_a_moment() -> None:
    now = [100.0]
    crowd = Crowd(lambda count: None, lambda: now[0])
    assert not crowd.there
    crowd.refused()
    assert crowd.there
    now[0] += 0.04
    assert crowd.there
    now[0] += 0.02
    assert not crowd.there
