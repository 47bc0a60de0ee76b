"""A client of the service that costs little, for it shares the processors with what it measures.

Connections are kept, and the one that was used last is used next. Requests are whole bytes, made beforehand. The time
of a request counts from when it is due, not from when the client got round to it: what waits for a connection, or for a
client that is late, waits. In an open loop requests come when they come, however many have no answer yet.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

MOST = 800  # connections; the service takes 1000
BROKEN = 0  # the status of what got no answer
_PATIENCE = 60.0  # seconds that the last answers may take


@dataclass(slots=True)
class Call:
    """One request and what became of it."""

    request: bytes
    due: float
    then: Callable[[Call], None] | None = None
    sent: float = 0.0
    ended: float = 0.0
    status: int = BROKEN
    head: bytes = b""
    body: bytes = b""
    again: bool = False  # it is sent a second time, for its connection was closed while it was idle

    @property
    def seconds(self) -> float:
        return self.ended - self.due


@dataclass
class Tally:
    """The calls of one load, and the seconds that it took."""

    calls: list[Call] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    offered: float = 0.0  # seconds in which they were sent

    def those(self, *statuses: int) -> list[Call]:
        return [call for call in self.calls if call.status in statuses]

    def others(self, *statuses: int) -> dict[int, int]:
        """How many had another status."""
        found: dict[int, int] = {}
        for call in self.calls:
            if call.status not in statuses:
                found[call.status] = found.get(call.status, 0) + 1
        return found


def request(path: str, body: bytes | None = None, headers: Iterable[str] = (), method: str = "") -> bytes:
    """Return a whole request, as bytes."""
    method = method or ("GET" if body is None else "POST")
    lines = [f"{method} {path} HTTP/1.1", *headers]
    if not any(line.lower().startswith("host:") for line in lines):
        lines.append("Host: localhost")
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def quantile(seconds: Sequence[float], part: float) -> float:
    """Return the value that so large a part of them does not exceed; infinite where there are none."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("inf")


def milliseconds(tally: Tally, *statuses: int) -> list[str]:
    """The median, the 95th and the 99th percentile, and the most, of answers of these statuses."""
    seconds = [call.seconds for call in tally.those(*statuses)]
    return [f"{1000 * quantile(seconds, part):.1f}" if seconds else "" for part in (0.5, 0.95, 0.99, 1)]


class _Connection(asyncio.Protocol):
    def __init__(self, client: Client) -> None:
        self._client = client
        self._transport: asyncio.Transport
        self._call: Call | None = None
        self._parts: list[bytes] = []
        self._head = b""
        self._left = -1  # bytes of a body; -1: its head is not whole
        self._fresh = True
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # A client that writes what the system takes at once and keeps the rest needs no more than that.
        transport.set_write_buffer_limits(high=1 << 30)

    def ask(self, call: Call) -> None:
        self._call, self._head, self._left = call, b"", -1
        self._parts.clear()
        call.sent = time.perf_counter()
        self._transport.write(call.request)

    def data_received(self, data: bytes) -> None:
        if self._call is None:
            return
        if self._left < 0:
            self._head += data
            head, blank, data = self._head.partition(b"\r\n\r\n")
            if not blank:
                return
            self._call.head, self._call.status = head, int(head[9:12])
            self._left = _length(head)
        self._parts.append(data)
        self._left -= len(data)
        if self._left <= 0:
            call, self._call, self._fresh = self._call, None, False
            call.body = b"".join(self._parts)
            if b"\r\nconnection: close" in call.head:
                self.close()
            else:
                self._client.rests(self)
            self._client.ended(call)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._client.gone(self)
        call, self._call = self._call, None
        if call is None:
            return
        if not self._fresh and not self._head and not call.again:
            call.again = True
            self._client.ask(call)
        else:
            call.status = BROKEN
            self._client.ended(call)

    def close(self) -> None:
        self.lost = True
        self._transport.close()


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length: ")
    return int(rest.partition(b"\r\n")[0]) if found else 0


class Client:
    """Connections to one port, as many as are needed up to `most`. To be made and used in a running event loop."""

    def __init__(self, port: int, *, most: int = MOST, keep: bool = False) -> None:
        self._port, self._most, self._keep = port, most, keep
        self._resting: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._opening = 0
        self._waiting: deque[Call] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_its_way = 0

    def call(self, asked: bytes, due: float | None = None, then: Callable[[Call], None] | None = None) -> Call:
        """Send a request, or have it wait for a connection; `then` is called with it at its end."""
        made = Call(asked, time.perf_counter() if due is None else due, then)
        self.on_its_way += 1
        self.ask(made)
        return made

    async def answer(self, asked: bytes) -> Call:
        """Send a request and wait for its answer."""
        done: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        self.call(asked, then=lambda call: None if done.done() else done.set_result(call))
        return await done

    def ask(self, call: Call) -> None:
        while self._resting:
            connection = self._resting.pop()
            if not connection.lost:
                connection.ask(call)
                return
        self._waiting.append(call)
        if self._opening < len(self._waiting) and len(self._all) + self._opening < self._most:
            self._opening += 1
            task = asyncio.get_running_loop().create_task(self._open())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
        except OSError:
            if self._waiting:
                self.ended(self._waiting.popleft())
            return
        finally:
            self._opening -= 1
        self._all.add(connection)
        self.rests(connection)

    def rests(self, connection: _Connection) -> None:
        if self._waiting:
            connection.ask(self._waiting.popleft())
        else:
            self._resting.append(connection)

    def gone(self, connection: _Connection) -> None:
        self._all.discard(connection)
        if self._waiting:  # there is room for another one
            self.ask(self._waiting.popleft())

    def ended(self, call: Call) -> None:
        call.ended = time.perf_counter()
        self.on_its_way -= 1
        if not self._keep and call.status == 200:
            call.body = b""
        if call.then is not None:
            call.then(call)

    async def settled(self, seconds: float = _PATIENCE) -> None:
        """Wait until nothing is on its way, or so long."""
        until = time.perf_counter() + seconds
        while self.on_its_way and time.perf_counter() < until:
            await asyncio.sleep(0.005)

    def close(self) -> None:
        for connection in list(self._all):
            connection.close()


def evenly(rate: float) -> Iterator[float]:
    """Seconds from one arrival to the next, always the same."""
    while True:
        yield 1 / rate


def poisson(rate: float, seed: int = 0) -> Iterator[float]:
    """Seconds from one arrival to the next, where each comes without regard to the others."""
    chance = random.Random(seed)
    while True:
        yield chance.expovariate(rate)


async def open_loop(client: Client, requests: Sequence[bytes], gaps: Iterator[float], seconds: float) -> Tally:
    """Send requests, one after the other of these, as they are due; return when all have their answers."""
    tally = Tally()
    due, number, end = tally.begun, 0, tally.begun + seconds
    while due < end:
        now = time.perf_counter()
        while due <= now and due < end:
            tally.calls.append(client.call(requests[number % len(requests)], due))
            number += 1
            due += next(gaps)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    tally.offered = time.perf_counter() - tally.begun
    await client.settled()
    tally.seconds = time.perf_counter() - tally.begun
    return tally


async def closed_loop(client: Client, requests: Sequence[bytes], *, at_once: int, count: int) -> Tally:
    """Send so many requests, always so many of them at once: each answer has the next one sent."""
    tally, done = Tally(), asyncio.Event()

    def next_one(_: Call) -> None:
        if len(tally.calls) < count:
            tally.calls.append(client.call(requests[len(tally.calls) % len(requests)], then=next_one))
        elif not client.on_its_way:
            done.set()

    for _ in range(min(at_once, count)):
        tally.calls.append(client.call(requests[len(tally.calls) % len(requests)], then=next_one))
    await done.wait()
    tally.seconds = tally.offered = time.perf_counter() - tally.begun
    return tally
