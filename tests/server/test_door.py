"""What is decided on the head of a request: the same at the door as in the application, which is not asked then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from photolabel.server import Settings
from photolabel.server.crowds import LINES
from photolabel.server.guard import Guard
from photolabel.server.heads import Door
from photolabel.server.problems import refused
from photolabel.server.protocol import Gate, connections

KEY = "k" * 32
SETTINGS = Settings(api_keys=(KEY,), origins=("https://page.example",), target_bytes=500, head_bytes=1000, headers=8)
GOOD = [(b"host", b"localhost"), (b"x-api-key", KEY.encode()), (b"x-request-id", b"mine")]


def scope(*, method: str = "POST", path: str = "/takes", query: bytes = b"", headers: Any = GOOD) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query,
            "headers": [*headers], "client": ("1.2.3.4", 5)}  # fmt: skip


def full() -> None:
    raise refused("queue-full", "All places are taken.", {"retry-after": "3"})


def door(*, room: Callable[[], None] = lambda: None, seen: Any = lambda *told: None, **changed: Any) -> Door:
    return Door(settings=SETTINGS, bodies={"/takes": 5_000_000}, room=room, seen=seen, **changed)


def answered(door: Door, asked: dict[str, Any]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """The answer of an application behind its guard."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it has come in")

    async def receive() -> Any:
        raise AssertionError("nothing is read of what is refused")

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Guard(app, door=door)(asked, receive, send))
    start, body = sent
    return start["status"], start["headers"], body["body"]


REFUSED: dict[str, tuple[int, dict[str, Any]]] = {
    "no host": (400, {"headers": GOOD[1:]}),
    "another host": (421, {"headers": [(b"host", b"evil.com"), *GOOD[1:]]}),
    "another page": (403, {"headers": [*GOOD, (b"origin", b"https://evil.com")]}),
    "no key": (401, {"headers": [GOOD[0], GOOD[2]]}),
    "a long query": (414, {"query": b"a" * 500}),
    "a large head": (431, {"headers": [*GOOD, (b"x-a", b"a" * 1000)]}),
    "two lengths": (400, {"headers": [*GOOD, (b"content-length", b"1"), (b"content-length", b"2")]}),
    "too large": (413, {"headers": [*GOOD, (b"content-length", b"5000001")]}),
    "encoded": (415, {"headers": [*GOOD, (b"content-encoding", b"gzip")]}),
    "no room": (429, {"headers": [*GOOD, (b"content-length", b"100")]}),
    "no room for much": (429, {"headers": [*GOOD, (b"content-length", b"3000000")]}),
    "no room for chunks": (429, {"headers": [*GOOD, (b"transfer-encoding", b"chunked")]}),
    "no room for a page": (429, {"headers": [*GOOD, (b"origin", b"https://page.example")]}),
    "no body of a HEAD": (421, {"method": "HEAD", "headers": [(b"host", b"evil.com")]}),
}


@pytest.mark.parametrize("status, asked", REFUSED.values(), ids=list(REFUSED))
def test_the_door_answers_as_the_application_would(status: int, asked: dict[str, Any]) -> None:
    asked.setdefault("headers", GOOD)
    if (b"x-request-id", b"mine") not in asked["headers"]:
        asked["headers"] = [*asked["headers"], (b"x-request-id", b"mine")]
    found = door(room=full).refusal(scope(**asked))
    assert found is not None and found.status == status
    same = answered(door(room=full), scope(**asked))
    assert (found.status, sorted(found.headers), found.body) == (same[0], sorted(same[1]), same[2])
    assert (found.body == b"") == (asked.get("method") == "HEAD")


@pytest.mark.parametrize(
    "asked",
    [
        scope(),
        scope(method="GET", path="/other"),
        scope(path="/v2/health/live", headers=GOOD[:1]),
        scope(
            method="OPTIONS",
            headers=[GOOD[0], (b"origin", b"https://page.example"), (b"access-control-request-method", b"POST")],
        ),
    ],
    ids=["a post", "a get", "a probe", "a page that asks"],
)
def test_what_is_well_is_for_the_application(asked: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "photolabel.server")
    seen: list[Any] = []
    assert door(seen=lambda *told: seen.append(told)).refusal(asked) is None
    assert not seen and not caplog.messages  # the application does that, or it would be twice


def test_what_is_refused_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "photolabel.server")
    seen: list[Any] = []
    made = door(room=full, place=lambda path: path[:6], seen=lambda *told: seen.append(told))
    assert made.refusal(scope(path="/takes/more")) is not None
    assert [told[:3] for told in seen] == [("/takes", "POST", 429)] and seen[0][3] >= 0
    (line,) = caplog.messages
    assert line.startswith("mine 1.2.3.4 POST /takes/more 429 in=0 out=")


def test_a_crowd_that_is_refused_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "photolabel.server")
    seen: list[Any] = []
    made = door(room=full, seen=lambda *told: seen.append(told))
    made.crowd._clock = lambda: 100.0
    for number in range(LINES + 15):
        assert made.refusal(scope(headers=[*GOOD[:2], (b"x-request-id", b"%d" % number)])) is not None
    assert [line.split()[0] for line in caplog.messages] == [str(number) for number in range(LINES)]
    assert len(seen) == LINES + 15  # all are counted

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"

    async def unused(*told: Any) -> Any:
        raise AssertionError("nothing is said")

    asyncio.run(Guard(app, door=made)({"type": "lifespan"}, unused, unused))  # the end of the application
    assert caplog.messages[LINES:] == ["15 more were refused for want of room (429)"]


def test_other_refusals_have_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "photolabel.server")
    made = door()
    for _ in range(30):
        made.refusal(scope(headers=GOOD[1:]))
    assert len(caplog.messages) == 30


# -- on a connection


class Asked:
    """An application that answers, and remembers what it was asked."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class Wire(asyncio.Transport):
    """A connection's other side."""

    def __init__(self) -> None:
        super().__init__()
        self.said, self.closed, self.ended = b"", False, False

    def write(self, data: Any) -> None:
        assert not (self.closed or self.ended), "nothing is said after the end"
        self.said += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


def refusal(scope: Any) -> Any:
    made = Door(settings=Settings(), bodies={"/full": 5_000_000}, room=full)
    return made.refusal(scope) if scope["path"] == "/full" else None


@contextmanager
def connected(asked: Asked) -> Iterator[Any]:
    config = uvicorn.Config(asked, http=connections(Gate(Settings(), refusal)), ws="none", lifespan="off",
                            log_config=None)  # fmt: skip
    config.load()
    made = partial(config.http_protocol_class, config=config, server_state=ServerState(), app_state={})  # type: ignore[arg-type]
    yield made


def say(*pieces: bytes) -> tuple[bytes, list[str], str]:
    """What is answered to these pieces on one connection, what the application was asked, and whether it goes on."""
    asked, wire, found = Asked(), Wire(), list[str]()

    async def work() -> None:
        with connected(asked) as made:
            protocol = made()
            protocol.connection_made(wire)
            for piece in pieces:
                protocol.data_received(piece)
                while protocol.tasks:
                    await asyncio.gather(*protocol.tasks)
            found.append("closed" if wire.closed else "ending" if wire.ended else "open")
            protocol.connection_lost(None)

    asyncio.run(work())
    return wire.said, asked.paths, found[0]


def request(path: str, body: bytes = b"", *, version: str = "1.1", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"POST {path} HTTP/{version}\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode() + body


def statuses(said: bytes) -> list[bytes]:
    return [each[:3] for each in said.split(b"HTTP/1.1 ")[1:]]


def test_what_is_refused_does_not_reach_the_application_and_the_connection_goes_on() -> None:
    whole = request("/full", b"a" * 100)
    said, asked, state = say(whole[:-50], whole[-50:], request("/free", b"b"), whole, request("/free", b"c"))
    assert statuses(said) == [b"429", b"200", b"429", b"200"]
    assert asked == ["/free", "/free"]
    assert b"retry-after: 3\r\n" in said and state == "open"


def test_it_is_refused_in_its_turn() -> None:
    said, asked, _ = say(request("/free", b"a") + request("/full", b"b") + request("/full", b"c") + request("/free"))
    assert statuses(said) == [b"200", b"429", b"429", b"200"]
    assert asked == ["/free", "/free"]


def test_a_client_that_goes_on_no_further_is_told_so() -> None:
    said, asked, state = say(request("/full", b"a", version="1.0"))
    assert statuses(said) == [b"429"] and b"\r\nconnection: close\r\n" in said
    assert state == "ending" and not asked


def test_much_that_still_comes_is_passed_over_and_the_connection_ends() -> None:
    said, asked, state = say(request("/full", b"a" * 1000, length=3_000_000), b"a" * 1000)
    assert statuses(said) == [b"429"] and said.count(b"connection: close\r\n") == 1
    assert state == "ending" and not asked  # the answer is not taken back by a reset


@pytest.mark.parametrize(
    "rest", [request("/free", b"b"), request("/full", b"b"), b"no request\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
)
def test_after_the_last_answer_nothing_is_said_whatever_came_with_it(rest: bytes) -> None:
    """As fuzzing found: what is refused is answered while the parser is still at the piece that it came in."""
    chunked = b"POST /full HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    for refused_one in (chunked, request("/full", b"a", version="1.0")):
        said, asked, state = say(refused_one + rest, rest)
        assert statuses(said) == [b"429"] and said.endswith(b"}")
        assert state == "ending" and not asked


def test_a_body_that_makes_no_sense_is_refused_once() -> None:
    head = b"POST /full HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    said, asked, state = say(head + b"+5\r\n")
    assert statuses(said) == [b"429"] and state == "ending" and not asked
