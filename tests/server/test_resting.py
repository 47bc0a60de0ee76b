"""The event loop's rests: how often it looks, and what it does not hold up."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from photolabel.server import resting

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its loop has no selector")


@pytest.fixture
def pipe() -> Iterator[int]:
    """The end of a pipe at which there is something to read."""
    end, other = os.pipe()
    os.write(other, b"something")
    yield end
    os.close(end)
    os.close(other)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was slept; and the clock stands still meanwhile, at 100."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    return found


@pytest.mark.parametrize(
    "rests, timeout, expected",
    [
        (False, None, []),
        (False, 1.0, []),
        (True, None, [resting.PAUSE]),
        (True, 1.0, [resting.PAUSE]),
        (True, 0.001, [0.001]),  # no longer than until something is due
        (True, 0, []),  # there is something to do
    ],
)
def test_how_long_it_rests(
    rests: bool, timeout: float | None, expected: list[float], pipe: int, slept: list[float]
) -> None:
    with resting.Selector(lambda: rests) as selector:
        selector.register(pipe, 1)
        selector.select(0)
        ((key, _),) = selector.select(timeout)
    assert key.fd == pipe and slept == pytest.approx(expected)


def test_it_rests_from_one_look_to_the_next(pipe: int, slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done meanwhile counts."""
    with resting.Selector(lambda: True) as selector:
        selector.register(pipe, 1)
        selector.select()
        assert not slept  # the first look
        monkeypatch.setattr(time, "monotonic", lambda: 100 + resting.PAUSE / 4)
        selector.select()
        assert slept == pytest.approx([resting.PAUSE * 3 / 4])
        monkeypatch.setattr(time, "monotonic", lambda: 101.0)
        selector.select()
        assert len(slept) == 1


def test_what_is_due_is_done_and_what_others_did_is_seen() -> None:
    """In a loop that always rests, and really: a rest that overslept, or was never left, would not end in order."""
    order: list[str] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(resting.PAUSE * 10, order.append, "late")
        loop.call_later(resting.PAUSE / 10, order.append, "soon")
        done = asyncio.Event()
        threading.Timer(resting.PAUSE * 2, loop.call_soon_threadsafe, [done.set]).start()
        await done.wait()
        order.append("told")
        await asyncio.sleep(resting.PAUSE * 10)

    with asyncio.Runner(loop_factory=lambda: resting.new_loop(lambda: True)) as runner:
        runner.run(work())
    assert order == ["soon", "told", "late"]
