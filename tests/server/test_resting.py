"""The event loop's pauses while the house is full."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator

import pytest

from photolabel.server import resting

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its loop has no selector")


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    yield pauses


@pytest.mark.parametrize(
    "full, timeout, pauses",
    [
        (False, None, []),
        (False, 1.0, []),
        (True, None, [resting.PAUSE]),
        (True, 1.0, [resting.PAUSE]),
        (True, 0.001, [0.001]),  # no longer than until something is due
        (True, 0, []),  # there is something to do
        (True, -1.0, [0.0]),
    ],
)
def test_a_full_house_is_looked_at_less_often(
    full: bool, timeout: float | None, pauses: list[float], paused: list[float]
) -> None:
    end, other = os.pipe()
    with resting.Selector(lambda: full) as selector:
        selector.register(end, 1)
        os.write(other, b"there is something to read")
        ((key, _),) = selector.select(timeout)
    assert key.fd == end and paused == pauses
    os.close(end)
    os.close(other)


def test_what_is_due_is_done(paused: list[float]) -> None:
    """Timers, and what other threads have done, also while it rests."""

    async def work() -> int:
        await asyncio.sleep(0.01)
        return await asyncio.to_thread(lambda: 7)

    with asyncio.Runner(loop_factory=lambda: resting.new_loop(lambda: True)) as runner:
        assert runner.run(work()) == 7
    assert paused
