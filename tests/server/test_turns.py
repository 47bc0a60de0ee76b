"""Turns are taken by callers, and by the requests of one caller; and no place is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from photolabel.server import turns
from photolabel.server.turns import Turns


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(60):
            await work()

    asyncio.run(within())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Asking:
    """Requests that take places and keep them until they are let go; `had` tells in which order they got them."""

    def __init__(self, places: int) -> None:
        self.turns, self.had = Turns(places), list[str]()
        self._let = dict[str, asyncio.Event]()

    def request(self, address: str | None, *names: str) -> list[asyncio.Task[None]]:
        """One request with photos of these names."""
        with turns.answering(address):
            return [asyncio.ensure_future(self._take(name)) for name in names]

    async def _take(self, name: str) -> None:
        self._let[name] = asyncio.Event()
        async with self.turns.taken():
            self.had.append(name)
            await self._let[name].wait()

    async def let(self) -> None:
        """One who has a place after the other goes."""
        for at in range(100):
            await settle()
            if at == len(self.had):
                return
            self._let[self.had[at]].set()


def test_places_are_taken_at_once_where_there_are_some() -> None:
    async def work() -> None:
        asking = Asking(2)
        tasks = asking.request("10.0.0.1", "a", "b", "c")
        await settle()
        assert asking.had == ["a", "b"]
        await asking.let()
        assert asking.had == ["a", "b", "c"]
        await asyncio.gather(*tasks)

    run(work)


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", None])
def test_a_lone_photo_passes_a_batch(address: str | None) -> None:
    async def work() -> None:
        asking = Asking(1)
        tasks = asking.request(address, "a1", "a2", "a3", "a4")
        await settle()
        tasks += asking.request(address, "b")
        await asking.let()
        assert asking.had == ["a1", "a2", "b", "a3", "a4"]
        await asyncio.gather(*tasks)

    run(work)


def test_many_requests_of_one_caller_count_as_one() -> None:
    async def work() -> None:
        asking = Asking(1)
        tasks = [task for at in range(5) for task in asking.request("10.0.0.1", f"a{at}")]
        await settle()
        tasks += asking.request("10.0.0.2", "b0", "b1", "b2")
        tasks += asking.request("2001:db8::1", "c0")
        tasks += asking.request("2001:db8::2", "c1")
        await asking.let()
        assert asking.had == ["a0", "a1", "b0", "c0", "a2", "b1", "c1", "a3", "b2", "a4"]
        await asyncio.gather(*tasks)

    run(work)


def test_whoever_goes_loses_no_place() -> None:
    async def work() -> None:
        asking = Asking(1)
        has, *_ = asking.request("10.0.0.1", "a")
        waits = asking.request("10.0.0.1", "b1", "b2")
        await settle()
        waits[0].cancel()  # while it waits
        await settle()
        has.cancel()  # and at the moment at which its turn comes
        await asyncio.sleep(0)
        waits[1].cancel()
        await asyncio.gather(has, *waits, return_exceptions=True)
        assert not asking.turns._waiting and asking.turns._free == 1
        last = asking.request("10.0.0.1", "c")
        await asking.let()
        assert asking.had == ["a", "c"]
        await asyncio.gather(*last)

    run(work)


@pytest.mark.parametrize(
    ("address", "caller"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::1"),
        ("/run/socket", None),
        ("", None),
        (None, None),
    ],
)
def test_callers_are_known_by_their_addresses(address: str | None, caller: str | None) -> None:
    with turns.answering(address) as request:
        assert turns.current() is request and request.caller == caller
    assert turns.current().caller is None
