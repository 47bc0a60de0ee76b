"""HTTP itself, on a loopback port, said byte by byte: what works, what is unclear, and who goes."""

from __future__ import annotations

import asyncio
import errno
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

import photolabel
from photolabel.server.protocol import Gate, connections

from crews import eventually
from services import Held, Wire, code, get, post, there
from wires import LONG, SETTINGS, held, port, still_answers

__all__ = ["held", "port"]


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
