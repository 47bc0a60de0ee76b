"""HTTP/1.1 itself, with its limits of time, of waste, and of connections.

uvicorn's protocol on llhttp, strict, and with what it leaves open: it waits for heads without end, keeps whatever
trailers come, and closes upon bytes that are still coming, so that a client may lose the answer which says why.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from . import turns
from .heads import Answer, Scope
from .problems import Problem, problem
from .settings import Settings

_MOST_WASTE = 1 << 20  # bytes of a body that are none of its own: sizes of chunks, trailers
_MOST_PIPELINED = 16  # requests sent without waiting for the answers to those before them
_PIECE = 256 << 10  # bytes that asyncio takes at most from a connection in one look: then there may be more
_LINGER_SECONDS = 2.0  # that what still comes is passed over after the last answer, so that this is read
_LINGER_BYTES = 64 << 20  # and how much of it: what is on its way already when a large photo is refused

_BAD = problem("bad-request", "This is no request of HTTP/1.1, or not one as strict as it must be here.")
_SLOW = problem("request-timeout", "The request line and the headers took too long to come.")
_TOO_LONG = problem("head-too-large", "The request line and the headers are larger than is allowed here.")
_WASTEFUL = problem("request-too-large", "The body comes in chunks so small that most of it is their sizes.")
_CROWDED = problem("unavailable", "There are too many connections. Ask again later.", {"retry-after": "5"})


class Gate:
    """The connections of a server, by callers; and those that wait for nothing, the longest idle first.

    `refusal` is the answer to a request that its head is refused for: the application is not asked then.
    """

    def __init__(self, settings: Settings, refusal: Callable[[Scope], Answer | None] = lambda scope: None) -> None:
        self.settings, self.refusal = settings, refusal
        self.idle: dict[Connection, None] = {}
        self._callers: Counter[str] = Counter()
        self._pouring = False

    def pour(self, count: int) -> None:
        """Take note of so many bytes that came in one piece."""
        self._pouring |= count >= _PIECE

    def poured(self) -> bool:
        """Return whether more lies there than could be taken in one piece, since this was asked the last time."""
        pouring, self._pouring = self._pouring, False
        return pouring

    def enter(self, connection: Connection, count: int) -> bool:
        """Count a connection, the last of so many; return whether there is room for it, which is made if it can be."""
        caller = connection.caller
        if caller is not None:
            self._callers[caller] += 1
            if not turns.is_shared(caller) and self._callers[caller] > self.settings.caller_connections:
                return self._make_room(each for each in self.idle if each.caller == caller)
        return count <= self.settings.connections or self._make_room(iter(self.idle))

    def leave(self, connection: Connection) -> None:
        """Count it no more."""
        self.idle.pop(connection, None)
        if (caller := connection.caller) is not None:
            self._callers[caller] -= 1
            if not self._callers[caller]:  # whoever has left is forgotten
                del self._callers[caller]

    def _make_room(self, idle: Iterator[Connection]) -> bool:
        """Close the first of these, if there is one."""
        oldest = next(idle, None)
        if oldest is None:
            return False
        del self.idle[oldest]
        oldest.transport.close()
        return True


def connections(gate: Gate) -> type[Connection]:
    """Return the class of connections that go through this gate, as uvicorn wants one."""
    return type("GatedConnection", (Connection,), {"gate": gate})


class _Transport:
    """A transport that closes without taking its last words back.

    A socket that is closed while bytes come in resets its connection, and the other side may lose what it was sent.
    Closed here, it says that no more will follow, and `deafen` has what still comes passed over until the other side
    closes too, for a little while.
    """

    def __init__(self, transport: asyncio.Transport, deafen: Callable[[], bool]) -> None:
        self._transport, self._deafen = transport, deafen
        self._closing = False

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._deafen() and self._transport.can_write_eof() and not self._transport.is_closing():
            try:
                self._transport.write_eof()
            except OSError:  # the other side has reset the connection, and will never read anything
                self._transport.abort()
            else:
                self._transport.resume_reading()
        else:
            self._transport.close()

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)


class Connection(HttpToolsProtocol):
    """One connection. Its requests are answered one after the other, in their order."""

    gate: Gate

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._settings = self.gate.settings
        self.caller: str | None = None
        self._deadline: asyncio.TimerHandle | None = None  # of what is awaited from the client
        self._taking: asyncio.TimerHandle | None = None  # of what the client is sent
        self._deaf = False  # what comes is passed over
        self._passed_over = 0  # bytes
        self._in_head = self._in_body = self._head_is_due = False
        self._wire = self._own = 0  # bytes of a request since the piece that it began in, and those of its body
        self._cycles: list[RequestResponseCycle] = []  # those that are not answered

    # -- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, if there is room for it."""
        super().connection_made(cast("asyncio.Transport", _Transport(transport, self._deafen)))
        self._wait(self._settings.head_seconds, self._hang_up)
        self.caller = turns.caller(self.client[0] if self.client else None)
        if not self.gate.enter(self, len(self.connections)):
            self._refuse(_CROWDED)
            return
        self.gate.idle[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who answer on it that nobody listens any more."""
        self.gate.leave(self)
        self.resume_writing()
        for cycle in self._unanswered():  # uvicorn tells the last one only
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._wait_no_more()

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is too late or too much."""
        self.gate.pour(len(data))
        if self._deaf:
            self._passed_over += len(data)
            if self._passed_over > _LINGER_BYTES:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        if not (self._in_body or self._in_head):  # blank lines are not a beginning yet
            self._begin_head()
        self._wire += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # to another protocol: answered in this one, the last time
            self._hear_no_more()
        except httptools.HttpParserError:
            self._malformed()
        else:
            self._check_waste()

    def eof_received(self) -> None:
        """Let the transport close, as it does by itself."""

    # -- what the parser finds

    def on_message_begin(self) -> None:
        """Begin a request. Raises ValueError, which breaks off, where too many wait before it, or none is heard."""
        if self._deaf or len(self._unanswered()) >= _MOST_PIPELINED:
            raise ValueError
        super().on_message_begin()
        self._in_head, self._in_body = True, False
        self._wire = self._own = 0
        self._begin_head()  # it may have come with the end of the one before it

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is passed over, for nobody here asks for it."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Have a request answered. Raises ValueError, which breaks off, for one that is made of a proxy."""
        if not self.url.startswith(b"/"):
            raise ValueError
        self._in_head, self._in_body, self._head_is_due = False, True, False
        self._wait_no_more()
        super().on_headers_complete()
        self._cycles = [*self._unanswered(), self.cycle]

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._own += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See that a request is whole."""
        super().on_message_complete()
        self._in_body = False
        self._wait_no_more()
        self._rest()

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for one."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._in_body:  # an early answer: the rest may come, and is passed over, but not for ever
            self._wait(self._settings.head_seconds, self._hang_up)
        self._rest()

    # -- what is answered

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Have a request answered, in its turn; one that is refused for its head, here and now."""
        answer = self.gate.refusal(cast("Scope", cycle.scope))
        if answer is None:
            super()._start_asgi_task(cycle, app)
            return
        headers = [*cycle.default_headers, *answer.headers]
        if not cycle.keep_alive and (b"connection", b"close") not in headers:
            headers.append((b"connection", b"close"))
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}".encode("ascii")]
        lines += [b"%b: %b" % each for each in headers]
        self.transport.write(b"\r\n".join([*lines, b"", answer.body]))
        cycle.response_started = cycle.response_complete = True
        if (b"connection", b"close") in headers:
            self.transport.close()
        self.on_response_complete()

    # -- limits

    def _check_waste(self) -> None:
        if self._in_head and self._wire > self._settings.head_bytes:  # `guard` looks at those that are complete
            self._break_off(_TOO_LONG)
        elif self._in_body and self._wire - self._own > _MOST_WASTE:
            self._break_off(_WASTEFUL)

    def _rest(self) -> None:
        """See whether the connection is idle: all is answered, and nothing has begun."""
        if not (self._in_head or self._in_body or self._unanswered() or self.transport.is_closing()):
            self.gate.idle[self] = None
            self._wait(self._settings.idle_seconds, self._hang_up)

    def _unanswered(self) -> list[RequestResponseCycle]:
        return [cycle for cycle in self._cycles if not cycle.response_complete]

    def _begin_head(self) -> None:
        """Have a head come in time, from its first byte on."""
        self.gate.idle.pop(self, None)
        if not self._head_is_due:
            self._head_is_due = True
            self._wait(self._settings.head_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        self._break_off(_SLOW)

    def _hang_up(self) -> None:
        self.transport.close()

    def pause_writing(self) -> None:
        """Give the client so long to take what it was sent."""
        super().pause_writing()
        if self._taking is None:
            self._taking = self.loop.call_later(self._settings.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """See that it has taken enough."""
        super().resume_writing()
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        """Have something done if what is awaited has not come in so many seconds."""
        self._wait_no_more()
        self._deadline = self.loop.call_later(seconds, then)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # -- the end

    def _malformed(self) -> None:
        self._break_off(_BAD)

    def _break_off(self, why: Problem) -> None:
        """Say what is wrong with what came last, and close; but requests before it get their answers first."""
        if self._deaf:  # it came with a request that was refused, in one piece: that was the last answer
            return
        waiting = self._unanswered()
        if any(not cycle.more_body for cycle in waiting):
            self._hear_no_more()
        elif waiting and waiting[0].response_started:  # its answer is on its way, and this would be in the middle of it
            self.transport.abort()
        else:
            self._refuse(why)

    def _refuse(self, why: Problem) -> None:
        self._in_body = True  # whatever it is that still comes
        self.transport.write(why.response())
        self.transport.close()
        for cycle in self._unanswered():
            cycle.disconnected = True
            cycle.message_event.set()

    def _hear_no_more(self) -> None:
        """Pass over what still comes, and close after the last answer that is due."""
        self._deaf = True
        self._wait(self._settings.body_seconds, self.transport.abort)
        waiting = self._unanswered()
        for cycle in waiting:
            if cycle.more_body:  # what came of it is all that there will be
                cycle.disconnected = True
                cycle.message_event.set()
        if waiting:
            waiting[-1].keep_alive = False
        else:
            self.transport.close()

    def _deafen(self) -> bool:
        """Pass over what still comes, for as long as it takes the other side to see that this one has closed.

        Return whether anything may still come; and have an end of it in any case.
        """
        self.gate.idle.pop(self, None)
        self._deaf = True
        coming = self._in_head or self._in_body
        self._wait(_LINGER_SECONDS if coming else self._settings.send_seconds, self._abort)
        return coming

    def _abort(self) -> None:
        self.transport.abort()
