"""HTTP itself, on a loopback port, said byte by byte: what is slow, endless or too much, and who does not stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from photolabel.server import turns

from crews import eventually
from services import Held, Wire, code, get, post, there
from wires import LONG, held, port, quick, still_answers

__all__ = ["held", "port", "quick"]


def answers(come: Callable[[], Wire]) -> bool:
    with come() as wire:
        return wire.answer()[0] == 200


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
