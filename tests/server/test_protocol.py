"""HTTP itself, on a loopback port, said byte by byte: what is slow, endless, or unclear, and who does not stop."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

import photolabel
from photolabel.server import Settings, turns
from photolabel.server.protocol import Gate, connections

from crews import eventually
from services import Held, Wire, code, get, post, there

# Long enough for a machine that is busy, and short enough to be waited for.
SETTINGS = Settings(
    workers=1,
    queue=3,
    files=3,
    body_bytes=1_000_000,
    head_seconds=0.6,
    body_seconds=2.0,
    pause_seconds=0.6,
    idle_seconds=1.2,
    send_seconds=0.6,
    connections=4,
    notice_seconds=0.0,
)
LONG = replace(SETTINGS, head_seconds=60.0, body_seconds=60.0, pause_seconds=60.0, idle_seconds=60.0, send_seconds=60.0)


@pytest.fixture(scope="module")
def held(tiny: Path) -> Iterator[Held]:
    with photolabel.load(tiny) as inner:
        yield Held(inner, held=False)


@pytest.fixture(scope="module")
def quick(held: Held) -> Iterator[int]:
    """The port of a service that waits for nobody."""
    with there(held, SETTINGS) as (port, _):
        yield port


@pytest.fixture(scope="module")
def port(held: Held) -> Iterator[int]:
    """The port of a service that has time, and room for four connections."""
    with there(held, LONG) as (port, _):
        yield port


def still_answers(port: int) -> None:
    with Wire(port) as wire:
        wire.say(get())
        assert wire.answer()[0] == 200


def answers(come: Callable[[], Wire]) -> bool:
    with come() as wire:
        return wire.answer()[0] == 200


# -- what works


def test_a_connection_goes_on(port: int, photo: Path) -> None:
    with Wire(port) as wire:
        for _ in range(3):
            wire.say(post(photo.read_bytes()))
            status, headers, _ = wire.answer()
            assert status == 200 and headers.get("connection") != "close"
            assert "server" not in headers


def test_a_body_in_chunks(port: int, photo: Path) -> None:
    data = photo.read_bytes()
    with Wire(port) as wire:
        wire.say(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(0, len(data), 1000):
            wire.say(b"%x\r\n%s\r\n" % (len(data[i : i + 1000]), data[i : i + 1000]))
        wire.say(b"0\r\nHost: evil.com\r\nX-Trailer: y\r\n\r\n")
        assert wire.answer()[0] == 200
        wire.say(get())
        assert wire.answer()[0] == 200


def test_requests_sent_ahead_are_answered_in_their_order(port: int, photo: Path) -> None:
    with Wire(port) as wire:
        wire.say(post(photo.read_bytes(), headers={"X-Request-ID": "first"}) + get(headers="X-Request-ID: second\r\n"))
        for name in ("first", "second"):
            status, headers, _ = wire.answer()
            assert (status, headers["x-request-id"]) == (200, name)


def test_whoever_asks_first_is_told_to_go_on_or_why_not(port: int, photo: Path) -> None:
    data = photo.read_bytes()
    with Wire(port) as wire:
        wire.say(post(b"", headers={"Content-Length": str(len(data)), "Expect": "100-continue"}))
        assert wire.answer()[0] == 100
        wire.say(data)
        assert wire.answer()[0] == 200
    with Wire(port) as wire:
        wire.say(post(b"", headers={"Content-Length": "1000001", "Expect": "100-continue"}))
        assert wire.answer()[0] == 413


# -- what is slow


@pytest.mark.parametrize("begun", [b"G", b"GET /v1/models HTTP/1.1\r\nHost: local", b"\r\n"])
def test_a_head_that_does_not_come_is_not_waited_for(quick: int, begun: bytes) -> None:
    with Wire(quick) as wire:
        wire.say(begun)
        status, headers, body = wire.answer()
        assert (status, code(body), headers["connection"]) == (408, "request-timeout", "close")
        assert wire.ended()


@pytest.mark.parametrize("drop", [b"X-A: b\r\n", b"\r\n", b"a"])
def test_a_head_that_dribbles_is_not_waited_for(quick: int, drop: bytes) -> None:
    with Wire(quick) as wire:
        wire.say(b"" if drop == b"\r\n" else b"GET / HTTP/1.1\r\n")
        began = time.monotonic()
        with pytest.raises(OSError):  # whichever it is, it is closed
            while time.monotonic() < began + 30:
                wire.say(drop)
                time.sleep(0.1)


def test_a_second_head_has_its_time_too(quick: int) -> None:
    with Wire(quick) as wire:
        wire.say(get())
        assert wire.answer()[0] == 200
        wire.say(b"GET / HT")
        assert wire.answer()[0] == 408


@pytest.mark.parametrize("first", [get(), post(b"no photo"), post(b"no photo", headers={"Expect": "100-continue"})])
def test_a_head_that_comes_with_the_end_of_another_request_has_its_time_only(quick: int, first: bytes) -> None:
    with Wire(quick) as wire:
        wire.say(first + b"GET / HTTP/1.1\r\n")
        while wire.answer()[0] == 100:
            pass
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < began + 30:
                wire.say(b"x")
                time.sleep(0.1)


def test_silence_ends(quick: int) -> None:
    with Wire(quick) as wire:
        assert wire.ended()  # without a word: nothing was asked
    with Wire(quick) as wire:
        wire.say(get())
        assert wire.answer()[0] == 200
        assert wire.ended()


def test_a_body_that_does_not_come_is_not_waited_for(quick: int) -> None:
    with Wire(quick) as wire:
        wire.say(post(b"x" * 10, headers={"Content-Length": "100"}))
        status, _, body = wire.answer()
        assert (status, code(body)) == (408, "request-timeout")
    still_answers(quick)


def test_the_rest_of_a_refused_body_is_not_waited_for(quick: int) -> None:
    with Wire(quick) as wire:
        wire.say(post(b"x" * 10, "/v1/classify?top=0", headers={"Content-Length": "1000"}))
        status, headers, _ = wire.answer()
        assert status == 422 and headers.get("connection") != "close"  # the rest would be little
        assert wire.ended()


def test_the_rest_of_a_refused_body_may_not_dribble_in_for_ever(quick: int) -> None:
    with Wire(quick) as wire:
        wire.say(post(b"x" * 10, "/v1/classify?top=0", headers={"Content-Length": "1000"}))
        assert wire.answer()[0] == 422
        with pytest.raises(ConnectionError):
            for _ in range(300):
                wire.say(b"x")
                time.sleep(0.1)


def test_after_the_rest_of_a_refused_body_silence_ends(quick: int) -> None:
    with Wire(quick) as wire:
        wire.say(post(b"x" * 10, "/v1/classify?top=0", headers={"Content-Length": "1000"}))
        assert wire.answer()[0] == 422
        wire.say(b"x" * 990 + get())
        assert wire.answer()[0] == 200
        assert wire.ended()


def test_when_the_rest_has_come_silence_ends_too(quick: int) -> None:
    with Wire(quick) as wire:
        wire.say(post(b"x" * 10, "/v1/classify?top=0", headers={"Content-Length": "1000"}))
        assert wire.answer()[0] == 422
        wire.say(b"x" * 990)
        assert wire.ended()


def test_a_client_that_does_not_read_is_given_up(quick: int) -> None:
    with Wire(quick, seconds=60, buffer=4096) as wire, pytest.raises(ConnectionError):
        for _ in range(5000):  # until what is not read fills every buffer on the way
            wire.say(get("/openapi.json"))
            time.sleep(0.005)
    still_answers(quick)


# -- what is too much


def test_a_head_without_end_is_broken_off(port: int) -> None:
    with Wire(port) as wire:
        wire.say(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        wire.say(b"y" * 300_000)
        wire.say(b"y" * 300_000)
        status, _, body = wire.answer()
        assert (status, code(body)) == (431, "head-too-large")
        assert wire.ended()


def test_a_head_that_is_too_large_is_refused(port: int) -> None:
    with Wire(port) as wire:
        wire.say(get(headers=f"X: {'y' * 17_000}\r\n"))
        assert wire.answer()[0] == 431
    with Wire(port) as wire:
        wire.say(get(headers="X: y\r\n" * 101))
        assert wire.answer()[0] == 431
    with Wire(port) as wire:
        wire.say(get("/" + "p" * 3000))
        assert wire.answer()[0] == 414


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"", b"1\r\nx\r\n" * 60_000),
        (b"0\r\nX: ", b"y" * 300_000),
        (b"0\r\n", b"X: y\r\n" * 50_000),
        (b"1;", b"e" * 300_000),
    ],
    ids=["one-byte chunks", "a trailer without end", "trailers without end", "an extension without end"],
)
def test_a_body_that_is_mostly_no_body_is_broken_off(port: int, first: bytes, then: bytes) -> None:
    with Wire(port) as wire:
        wire.say(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + first)
        for _ in range(10):
            wire.say(then)
        status, _, body = wire.answer()
        assert (status, code(body)) == (413, "request-too-large") and b"their sizes" in body
        assert wire.ended()
    still_answers(port)


def test_a_client_that_sends_everything_first_reads_why_it_was_refused(port: int) -> None:
    """A socket that is closed upon bytes that still come takes its answer back."""
    for _ in range(5):
        with Wire(port) as wire:
            wire.say(post(b"x" * 20_000_000))
            status, headers, body = wire.answer()
            assert (status, code(body), headers["connection"]) == (413, "request-too-large", "close")
            assert wire.ended()


def test_what_is_passed_over_has_an_end_too(port: int) -> None:
    passed = 0
    with Wire(port) as wire:
        wire.say(post(b"", headers={"Content-Length": str(1 << 40)}))
        assert wire.answer()[0] == 413
        with pytest.raises(ConnectionError):
            while passed < 1 << 30:
                wire.say(bytes(1 << 20))
                passed += 1 << 20
    assert passed < 100 << 20


def test_requests_sent_ahead_are_so_many_and_no_more(held: Held, port: int, photo: Path) -> None:
    with Wire(port) as wire:
        wire.say(get() * 16)
        assert [wire.answer()[0] for _ in range(16)] == [200] * 16
    with Wire(port) as wire:
        wire.say(post(photo.read_bytes()) + get() * 5000)
        answered = []
        with pytest.raises((OSError, EOFError)):
            while True:
                answered.append(wire.answer()[0])
        assert len(answered) <= 16 and set(answered) <= {200}
    still_answers(port)


def test_the_longest_idle_connection_makes_room(port: int) -> None:
    idle = [Wire(port) for _ in range(4)]
    try:
        for wire in idle:
            wire.say(get())
            assert wire.answer()[0] == 200
        with Wire(port) as wire:
            wire.say(get())
            assert wire.answer()[0] == 200
            assert idle[0].ended()
            idle[3].say(get())
            assert idle[3].answer()[0] == 200
    finally:
        for wire in idle:
            wire.socket.close()


def test_one_address_leaves_room_for_others(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "is_shared", lambda caller: caller == "127.0.0.1")  # the others are told apart
    with there(held, LONG) as (port, _), ExitStack() as wires:

        def come(source: str, say: bytes) -> Wire:
            wire = wires.enter_context(Wire(port, source=source))
            wire.say(say)
            return wire

        first = come("127.0.0.2", get())
        assert first.answer()[0] == 200
        come("127.0.0.2", b"GET /")  # its share is two
        third = come("127.0.0.2", get())
        assert third.answer()[0] == 200
        assert first.ended()  # the one that was idle made room
        third.say(b"GET")
        fourth = come("127.0.0.2", b"")
        status, headers, body = fourth.answer()
        assert (status, code(body), headers["retry-after"]) == (503, "unavailable", "5")
        fourth.socket.close()
        assert come("127.0.0.3", get()).answer()[0] == 200
        assert come("127.0.0.1", get()).answer()[0] == 200
        third.socket.close()
        assert eventually(lambda: answers(lambda: come("127.0.0.2", get())))  # what was given back can be had again


def test_where_none_is_idle_there_is_no_room(held: Held) -> None:
    with there(held, LONG) as (port, _):
        busy = [Wire(port) for _ in range(4)]
        for wire in busy:
            wire.say(get() + b"GET /nothing HTTP/1.1\r\n")
            assert wire.answer()[0] == 200
        with Wire(port) as wire:
            status, headers, body = wire.answer()  # before it has asked for anything
            assert (status, code(body), headers["retry-after"]) == (503, "unavailable", "5")
            assert wire.ended()
        busy[0].say(b"Host: localhost\r\n\r\n")
        assert busy[0].answer()[0] == 404
        for wire in busy:
            wire.socket.close()
        assert eventually(lambda: _answers(port))


def _answers(port: int) -> bool:
    with Wire(port) as wire:
        wire.say(get())
        return wire.answer()[0] == 200


# -- what is unclear

HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"
UNCLEAR = {
    "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "length and chunks": HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n",
    "a length with a sign": HEAD + b"Content-Length: +1\r\n\r\nx",
    "a length in words": HEAD + b"Content-Length: one\r\n\r\nx",
    "a length beyond counting": HEAD + b"Content-Length: 99999999999999999999\r\n\r\nx",
    "chunks that are not last": HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunks by another name": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a size that is none": HEAD + b"Transfer-Encoding: chunked\r\n\r\nz\r\n",
    "a size with a sign": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n",
    "a size beyond counting": HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "a chunk longer than its size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxxx\r\n0\r\n\r\n",
    "a blank before the colon": HEAD + b"Content-Length : 1\r\n\r\nx",
    "a folded header": HEAD + b"X: a\r\n b\r\nContent-Length: 1\r\n\r\nx",
    "a bare LF": b"GET /v1/models HTTP/1.1\nHost: localhost\n\n",
    "a NUL": HEAD + b"X: a\0b\r\n\r\n",
    "a bare CR": HEAD + b"X: a\rb\r\n\r\n",
    "no host": b"GET /v1/models HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    "no method that there is": b"GRAB / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a method in small letters": b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another version": b"GET / HTTP/3.7\r\nHost: localhost\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "a request to a proxy": b"GET http://localhost/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another host in the target": b"GET http://evil.com/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a tunnel": b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "all that there is": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a blank in the target": b"GET /v1/ models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a target that is no ASCII": b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("said", UNCLEAR.values(), ids=UNCLEAR)
def test_what_is_unclear_is_refused(port: int, said: bytes) -> None:
    smuggled = get("/v1/models", "X-Request-ID: smuggled\r\n")
    with Wire(port) as wire:
        wire.say(said + smuggled)
        status, headers, body = wire.answer()
        assert (status, headers["content-type"]) == (400, "application/problem+json"), body
        assert code(body) == "bad-request"
        if headers.get("connection") == "close":
            assert wire.ended()  # what came behind it is not taken for a request
    still_answers(port)


def test_what_follows_a_last_request_is_passed_over(port: int) -> None:
    with Wire(port) as wire:
        wire.say(get(headers="Connection: close\r\n") + get())
        status, headers, _ = wire.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert wire.ended()


def test_what_is_before_garbage_is_answered_first(port: int, photo: Path) -> None:
    with Wire(port) as wire:
        wire.say(post(photo.read_bytes()) + b"\x00\x01 garbage\r\n\r\n" + get())
        assert wire.answer()[0] == 200
        assert wire.ended()


def test_a_body_that_is_longer_than_it_says_is_no_part_of_the_photo(port: int, photo: Path) -> None:
    data = photo.read_bytes()
    with Wire(port) as wire:
        wire.say(post(data + b"more", headers={"Content-Length": str(len(data))}))
        assert wire.answer()[0] == 200
        assert wire.ended()


@pytest.mark.parametrize("to", ["h2c", "websocket"])
def test_nothing_is_upgraded(port: int, to: str) -> None:
    asks = f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {to}\r\nHTTP2-Settings: AAMAAABk\r\n"
    with Wire(port) as wire:
        wire.say(get(headers=asks) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert wire.answer()[0] == 200
        assert wire.ended()


def test_a_header_cannot_be_made_of_another(port: int) -> None:
    with Wire(port) as wire:
        wire.say(get("/v1/%0d%0aX-Injected:%20yes", "X-Request-ID: a%0d%0aX-Injected: b\r\n"))
        status, headers, _ = wire.answer()
        assert status == 404 and "x-injected" not in headers


def test_no_refusal_is_said_in_the_middle_of_an_answer() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    async def work() -> bytes:
        config = uvicorn.Config(app, http=connections(Gate(LONG)), ws="none", lifespan="off", log_config=None)
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        made = partial(config.http_protocol_class, config=config, server_state=state, app_state={})  # type: ignore[arg-type]
        async with asyncio.timeout(30), await loop.create_server(made, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
            said = await reader.readuntil(b"half")
            writer.write(b"no size of a chunk\r\n")
            with suppress(ConnectionError):
                said += await reader.read()
            writer.close()
            await asyncio.gather(*state.tasks)
            return said

    said = asyncio.run(work())
    assert said.endswith(b"half") and b"400" not in said


class Reset(asyncio.Transport):
    """A transport whose other side has reset the connection, which only shows when it is told to end."""

    def __init__(self) -> None:
        super().__init__()
        self.said, self.aborted, self._eof = b"", False, False

    def write(self, data: Any) -> None:
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        self.said += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._eof = True
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def resume_reading(self) -> None:
        pass


def test_an_answer_to_a_connection_that_was_reset_is_no_mistake() -> None:
    """As fuzzing found: what was malformed is refused, the end of the connection fails, and a route answers then."""
    failed: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
        except RuntimeError as error:
            failed.append(str(error))

    async def work() -> bytes:
        config = uvicorn.Config(app, http=connections(Gate(LONG)), ws="none", lifespan="off", log_config=None)
        config.load()
        made: Any = config.http_protocol_class
        protocol, transport = made(config, ServerState(), {}), Reset()
        protocol.connection_made(transport)
        protocol.data_received(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\n")
        await asyncio.gather(*protocol.tasks)
        assert transport.aborted
        protocol.connection_lost(None)
        return transport.said

    assert b" 400 " in asyncio.run(work())
    assert not failed


# -- who goes


def test_whoever_goes_is_not_worked_for(held: Held, tiny: Path, photo: Path) -> None:
    data = photo.read_bytes()
    with photolabel.load(tiny) as inner:
        classifier = Held(inner)
        with there(classifier, LONG) as (port, service):
            first = Wire(port)
            first.say(post(data))
            assert classifier.at_work.wait(30)
            second = Wire(port)
            second.say(post(data) + post(data))  # and one sent ahead
            assert eventually(lambda: service.admission.photos == 2)
            second.socket.close()
            assert eventually(lambda: service.admission.photos == 1)
            classifier.let()
            assert first.answer()[0] == 200
            first.socket.close()
            assert eventually(lambda: service.admission.photos == 0)
        assert classifier.batches == [1]


def test_connections_are_given_back(held: Held) -> None:
    import os

    def descriptors() -> int:
        return len([*Path("/proc/self/fd").iterdir()])

    if not os.path.isdir("/proc/self/fd"):  # noqa: PTH112
        pytest.skip("only where the system tells of open files")
    with there(held, replace(SETTINGS, connections=200)) as (port, _):
        still_answers(port)
        before = descriptors()
        wires = [Wire(port) for _ in range(100)]
        for i, wire in enumerate(wires):
            wire.say((b"", b"GET", get(), post(b"x", headers={"Content-Length": "9"}))[i % 4])
        still_answers(port)
        for wire in wires[::2]:
            wire.socket.close()
        for wire in wires[1::2]:  # the other side ends these
            while wire.socket.recv(65536):
                pass
            wire.socket.close()
        assert eventually(lambda: descriptors() <= before)


def test_at_the_end_there_is_no_waiting_for_idle_ones(held: Held) -> None:
    wires: list[Any] = []
    began = time.monotonic()
    with there(held, LONG) as (port, _):
        wires = [Wire(port) for _ in range(3)]
        wires[1].say(get())
        assert wires[1].answer()[0] == 200
        wires[2].say(b"GET /")
    assert time.monotonic() - began < 50  # and not the sixty seconds that each of them may take
    for wire in wires:
        assert wire.ended()
        wire.socket.close()
