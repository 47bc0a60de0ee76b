"""How long others wait beside clients that are slow, idle or hostile, and while decoders die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from common import Bar
from serving_client import Tally, closed_loop, milliseconds, open_loop, poisson, quantile, request
from serving_house import House, client

if TYPE_CHECKING:
    from serving import Found

SECONDS = 12.0  # of each kind
SLOW, READERS, IDLE, BOMBS = 200, 50, 1000, 32
DRIP = 1.0  # seconds between two pieces of what comes slowly
AGAIN = 1.0  # seconds between two volleys of bombs
KILL = 4.0  # seconds between two deaths of decoders
MOST_TIMES = 2.0
_BUFFER = 4096  # bytes that a client which reads nothing lets the system keep


async def measured(house: House, found: Found) -> None:
    """The same load alone, before and afterwards, and beside each kind of neighbour."""
    kinds: dict[str, Callable[[House], AbstractAsyncContextManager[object]]] = {
        f"{SLOW} clients whose heads come byte by byte": slow_heads,
        f"{SLOW} clients whose bodies come bit by bit": slow_bodies,
        f"{READERS} clients that do not read their answers": no_readers,
        f"{IDLE} idle connections": idle,
        f"{BOMBS} bombs at once, every second": bombs,
        f"a decoder killed, every {KILL:g} seconds": kills,
    }
    rate, seconds = found.capacity / 2, found.seconds(SECONDS)

    async def load(number: int) -> Tally:
        async with client(house) as calling:
            tally = await open_loop(calling, found.photos, poisson(rate, number), seconds)
        await asyncio.sleep(1)
        return tally

    alone = await load(0)
    beside: dict[str, Tally] = {}
    for name, neighbours in kinds.items():
        print(f"beside {name} ...", file=sys.stderr, flush=True)
        async with neighbours(house):
            beside[name] = await load(0)
    again = await load(0)
    alone.calls += again.calls
    base = quantile([call.seconds for call in alone.calls], 0.99)
    rows = [("nobody, before and afterwards", f"{len(alone.calls)}", *milliseconds(alone, 200), "")]
    for name, tally in beside.items():
        times = quantile([call.seconds for call in tally.calls], 0.99) / base
        rows.append((name, f"{len(tally.calls)}", *milliseconds(tally, 200), f"{times:.2f}"))
        others = tally.others(200)
        found.bars.append(
            Bar(
                f"beside {name}: p99, times that without them",
                f"{times:.2f}" + (f", and {sum(others.values())} without a name" if others else ""),
                f"at most {MOST_TIMES:g}",
                times <= MOST_TIMES and not others,
            )
        )
    found.lines += ["", f"{rate:.0f} photos a second, Poisson arrivals, from other clients beside:"]
    head = ["milliseconds", "answers", "p50", "p95", "p99", "most", "p99, times"]
    found.table(head, rows)


# -- neighbours; each is there for as long as the block takes


@asynccontextmanager
async def _many(count: int, act: Callable[[], object]) -> AsyncIterator[None]:
    """So many tasks at once, ended after the block."""
    tasks = [asyncio.ensure_future(act()) for _ in range(count)]  # type: ignore[arg-type]
    await asyncio.sleep(1)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _dripping(port: int, first: bytes, piece: bytes) -> None:
    """Send something slowly, for ever; anew where the service has had enough."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(first)
                while not writer.is_closing():
                    await asyncio.sleep(DRIP)
                    writer.write(piece)
                    await writer.drain()
            finally:
                writer.close()
        await asyncio.sleep(DRIP)


def slow_heads(house: House) -> AbstractAsyncContextManager[object]:
    return _many(SLOW, lambda: _dripping(house.port, b"POST /v1/classify HTTP/1.1\r\nX-Slow: ", b"a"))


def slow_bodies(house: House) -> AbstractAsyncContextManager[object]:
    begun = request("/v1/classify", bytes(100_000))[:-99_000]
    return _many(SLOW, lambda: _dripping(house.port, begun, bytes(100)))


def no_readers(house: House) -> AbstractAsyncContextManager[object]:
    return _many(READERS, lambda: _deaf(house.port))


async def _deaf(port: int) -> None:
    """Ask for much, and read nothing of it; anew where the service has had enough."""
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.suppress(OSError), socket.socket() as wire:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            wire.setblocking(False)
            await loop.sock_connect(wire, ("127.0.0.1", port))
            await loop.sock_sendall(wire, 12 * request("/v1/labels"))
            await asyncio.sleep(25)


@asynccontextmanager
async def idle(house: House) -> AsyncIterator[None]:
    """Connections on which nothing is ever said; new ones where some have been closed."""
    wires: list[socket.socket] = []
    loop = asyncio.get_running_loop()

    async def fill() -> None:
        while True:
            for wire in list(wires):
                with contextlib.suppress(BlockingIOError):
                    if wire.recv(1) == b"":
                        wire.close()
                        wires.remove(wire)
            while len(wires) < IDLE:
                wire = socket.socket()
                wire.setblocking(False)
                wires.append(wire)
                await loop.sock_connect(wire, ("127.0.0.1", house.port))
                if len(wires) % 20 == 0:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(1)

    task = asyncio.create_task(fill())
    await asyncio.sleep(3)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for wire in wires:
            wire.close()


def bomb(side: int = 30_000) -> bytes:
    """A PNG of a few kB that says it has so many pixels across and down, and begins with as many as fit."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(side * 3 * 40), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@asynccontextmanager
async def bombs(house: House) -> AsyncIterator[None]:
    """Photos that would fill the memory, many at once."""
    asked = [request("/v1/classify", bomb())]
    async with client(house) as calling:

        async def throw() -> None:
            while True:
                tally = await closed_loop(calling, asked, at_once=BOMBS, count=BOMBS)
                if others := tally.others(413, 429):
                    raise SystemExit(f"bombs were answered with {others}")
                await asyncio.sleep(AGAIN)

        task = asyncio.create_task(throw())
        try:
            yield
        finally:
            if task.done():
                task.result()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def kills(house: House) -> AsyncIterator[None]:
    """Decoders that die of a signal, as one does that a photo makes crash."""

    async def kill() -> None:
        number = 0
        while True:
            await asyncio.sleep(KILL / 2)
            decoders = house.decoders
            with contextlib.suppress(ProcessLookupError):
                os.kill(decoders[number % len(decoders)], signal.SIGSEGV)
            number += 1
            await asyncio.sleep(KILL / 2)

    task = asyncio.create_task(kill())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
