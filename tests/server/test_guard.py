"""What stands before every route, held against an application that does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from photolabel import errors
from photolabel.server import Settings
from photolabel.server.guard import Guard
from photolabel.server.heads import Door
from photolabel.server.problems import GoneError, refused

from services import HOST, problem

KEY = "first-key-of-16-characters"
BODIES = {"/takes": 1000}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Say how long the body is."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    body = json.dumps({"size": size, "method": scope["method"]}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def failing(error: BaseException) -> Callable[..., Awaitable[None]]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    return app


def ask(method: str, path: str, app: Any = echo, settings: Settings | None = None, **options: Any) -> httpx.Response:
    guarded = Guard(app, door=Door(settings=settings or Settings(), bodies=BODIES))

    async def work() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url=HOST) as client:
            return await client.request(method, path, **options)

    return asyncio.run(work())


def raw(scope: dict[str, Any], messages: list[Any], app: Any = echo, settings: Settings | None = None) -> list[Any]:
    """What is sent in answer to a request of just these headers and pieces; a float is a pause."""
    sent: list[Any] = []
    left = list(messages)

    async def receive() -> Any:
        while left and isinstance(left[0], float):
            await asyncio.sleep(left.pop(0))
        if not left:
            await asyncio.sleep(600)
        return left.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    base = {"type": "http", "method": "POST", "path": "/takes", "raw_path": b"/takes", "query_string": b"",
            "headers": [(b"host", b"localhost")], "client": ("1.2.3.4", 5)}  # fmt: skip
    guarded = Guard(app, door=Door(settings=settings or Settings(), bodies=BODIES))

    async def work() -> None:
        async with asyncio.timeout(30):
            await guarded({**base, **scope}, receive, send)

    asyncio.run(work())
    return sent


def piece(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


CHUNKED = {"headers": [(b"host", b"localhost"), (b"transfer-encoding", b"chunked")]}

# -- who may come in


@pytest.mark.parametrize("path", ["/takes", "/v2/health/live", "/v2/health/ready", "/openapi.json", "/nowhere", "/"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "DELETE"])
def test_hosts_and_origins_are_looked_at_on_every_path(method: str, path: str) -> None:
    assert ask(method, path, headers={"host": "evil.com"}).status_code == 421
    for origin in ("http://evil.com", "null"):
        response = ask(method, path, headers={"origin": origin, "access-control-request-method": "POST"})
        assert response.status_code == 403
        assert "access-control-allow-origin" not in response.headers
    assert ask(method, path).status_code == 200


def test_a_key_is_asked_for_everywhere_but_by_probes() -> None:
    locked = Settings(api_keys=(KEY,))
    for path in ("/takes", "/openapi.json", "/nowhere", "/v2/health", "/v2/health/live/", "/V2/health/live"):
        response = ask("GET", path, settings=locked)
        assert response.status_code == 401 and problem(response) == "unauthorized"
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert ask("GET", path, settings=locked, headers={"x-api-key": KEY}).status_code == 200
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert ask("GET", path, settings=locked).status_code == 200


def test_a_page_that_may_call_is_told_so_and_no_other() -> None:
    settings = Settings(origins=("https://page.example",), api_keys=(KEY,))
    asks = {"origin": "https://page.example", "access-control-request-method": "POST"}
    response = ask("OPTIONS", "/takes", settings=settings, headers=asks)  # browsers send no key along
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == "https://page.example"
    assert response.headers["vary"] == "Origin" and "x-api-key" in response.headers["access-control-allow-headers"]
    assert "inference-header-content-length" in response.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in response.headers
    response = ask("POST", "/takes", settings=settings, headers={"origin": "https://page.example", "x-api-key": KEY})
    assert response.headers["access-control-allow-origin"] == "https://page.example"
    assert "inference-header-content-length" in response.headers["access-control-expose-headers"]
    for headers in ({}, {"origin": HOST}):
        response = ask("POST", "/takes", settings=settings, headers={**headers, "x-api-key": KEY})
        assert response.status_code == 200 and "access-control-allow-origin" not in response.headers


def test_clients_of_the_inference_protocol_find_what_is_wrong_in_their_own_member() -> None:
    for path, speaks in (("/v2", True), ("/v2/models/x", True), ("/v20", False), ("/v1/v2/", False), ("/", False)):
        for app, headers in ((echo, {"host": "evil.com"}), (failing(refused("bad-request", "so")), {})):
            response = ask("GET", path, app, headers=headers)
            assert ("error" in response.json()) is speaks and problem(response)


# -- what becomes known of it


def test_each_request_is_told_of_by_its_place_once_it_is_answered() -> None:
    seen: list[Any] = []

    def guarded(app: Any, **settings: Any) -> Any:
        return Guard(
            app,
            door=Door(
                settings=Settings(**settings),
                bodies={"takes": 3},
                place=lambda path: path[1:6],
                seen=lambda *told: seen.append(told),
            ),
        )

    async def work() -> None:
        for app, key, content in (
            (echo, KEY, b"abc"),
            (echo, KEY, b"abcd"),
            (echo, "x", b""),
            (failing(GoneError()), KEY, b""),
            (failing(KeyError("mine")), KEY, b""),
        ):
            transport = httpx.ASGITransport(guarded(app, api_keys=(KEY,)), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=HOST) as client:
                with contextlib.suppress(AssertionError):  # of httpx, where there is no answer
                    await client.post("/takes/this", content=content, headers={"x-api-key": key})

    asyncio.run(work())
    assert [told[:3] for told in seen] == [("takes", "POST", status) for status in (200, 413, 401, 499, 500)]
    assert all(0 <= seconds < 30 for *_, seconds in seen)


# -- how much


def test_a_body_has_its_limit_before_it_is_read() -> None:
    assert ask("POST", "/takes", content=b"x" * 1000).json()["size"] == 1000
    response = ask("POST", "/takes", content=b"x" * 1001, app=failing(AssertionError()))
    assert response.status_code == 413 and problem(response) == "request-too-large"


def test_a_body_that_does_not_say_how_long_it_is_has_it_too() -> None:
    for sizes, status in (([500, 500], 200), ([500, 501], 413)):
        pieces = [piece(b"x" * size, more=i == 0) for i, size in enumerate(sizes)]
        assert raw(CHUNKED, pieces)[0]["status"] == status


def test_a_path_that_takes_no_body_takes_none() -> None:
    assert ask("POST", "/other", content=b"x").status_code == 413
    assert ask("POST", "/other", content=b"").status_code == 200
    assert ask("GET", "/other").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"-1")],
        [(b"content-length", b"+1")],
        [(b"content-length", b"1_0")],
        [(b"content-length", b"\xb2")],
        [(b"content-length", b"9" * 30)],
        [(b"content-length", b"1"), (b"content-length", b"1")],
        [(b"content-length", b"1"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"identity")],
        [(b"host", b"localhost")],
    ],
)
def test_unclear_requests_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    sent = raw({"headers": [(b"host", b"localhost"), *headers]}, [piece(b"x")], app=failing(AssertionError()))
    assert sent[0]["status"] == 400


def test_a_full_house_is_said_at_the_door() -> None:
    def full() -> None:
        raise refused("queue-full", "Ask again later.", {"retry-after": "3"})

    guarded = Guard(echo, door=Door(settings=Settings(api_keys=(KEY,)), bodies=BODIES, room=full))

    async def work() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url=HOST) as client:
            stranger = await client.post("/takes", content=b"a")
            assert (stranger.status_code, problem(stranger)) == (401, "unauthorized")  # who is told nothing else
            client.headers["x-api-key"] = KEY
            answer = await client.post("/takes", content=b"a")
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
            assert (await client.get("/takes")).status_code == 200  # whatever it says to that
            assert (await client.post("/takes-none")).status_code == 200

    asyncio.run(work())


def test_an_encoded_body_is_refused() -> None:
    assert ask("POST", "/takes", content=b"x", headers={"content-encoding": "gzip"}).status_code == 415
    assert ask("POST", "/takes", content=b"x", headers={"content-encoding": "identity"}).status_code == 200


def test_path_and_query_have_their_limit() -> None:
    assert ask("GET", "/" + "p" * 2040).status_code == 200
    for path in ("/" + "p" * 2100, "/?" + "q" * 2100):
        response = ask("GET", path)
        assert response.status_code == 414 and problem(response) == "target-too-long"


def test_headers_have_their_limits() -> None:
    for headers in ({"x": "y" * 20_000}, {f"x-{i}": "y" for i in range(100)}):
        response = ask("GET", "/", headers=headers)
        assert response.status_code == 431 and problem(response) == "head-too-large"
    assert ask("GET", "/", headers={"x": "y" * 10_000}).status_code == 200


# -- how slowly

QUICK = Settings(body_seconds=0.3, pause_seconds=0.1)
HOUR = 3600.0


def test_a_body_that_pauses_is_given_up() -> None:
    sent = raw(CHUNKED, [piece(b"x", more=True), HOUR], settings=Settings(body_seconds=HOUR, pause_seconds=0.1))
    assert sent[0]["status"] == 408 and (b"connection", b"close") in sent[0]["headers"]


def test_a_body_that_dribbles_is_given_up() -> None:
    drops = [each for _ in range(100_000) for each in (piece(b"", more=True), 0.02)]
    sent = raw(CHUNKED, drops, settings=Settings(body_seconds=0.3, pause_seconds=HOUR))
    assert sent[0]["status"] == 408


def test_an_answer_may_take_longer_than_a_body() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        gone = asyncio.ensure_future(receive())  # whoever waits for the client's going
        await asyncio.sleep(0.5)
        assert not gone.done()
        gone.cancel()
        await echo(scope, lambda: asyncio.sleep(0, piece(b"")), send)

    assert raw({}, [piece(b"x")], app=slow, settings=QUICK)[0]["status"] == 200


def test_a_client_that_goes_is_not_answered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "photolabel.server")
    assert raw(CHUNKED, [piece(b"x", more=True), {"type": "http.disconnect"}]) == []
    assert raw({}, [piece(b"x")], app=failing(GoneError())) == []
    assert [record.getMessage().split()[4] for record in caplog.records] == ["499", "499"]


# -- what every answer carries


@pytest.mark.parametrize("path", ["/takes", "/" + "p" * 3000])
def test_answers_carry_their_headers(path: str) -> None:
    headers = ask("GET", path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert re.fullmatch("[0-9a-f]{16}", headers["x-request-id"])


def test_an_application_may_say_something_else() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"Content-Security-Policy", b"default-src 'self'")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    assert ask("GET", "/", app=app).headers.get_list("content-security-policy") == ["default-src 'self'"]


def test_a_request_keeps_its_name_if_it_is_one() -> None:
    assert ask("GET", "/", headers={"x-request-id": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"
    for wrong in ("", "a b", "x" * 65, "é", "-x", "a\tb", "<script>"):
        sent = raw({"headers": [(b"host", b"localhost"), (b"x-request-id", wrong.encode("latin-1"))]}, [piece(b"")])
        names = dict(sent[0]["headers"])
        assert re.fullmatch(b"[0-9a-f]{16}", names[b"x-request-id"])


def test_head_is_get_without_the_body() -> None:
    got, headed = ask("GET", "/"), ask("HEAD", "/")
    assert headed.status_code == 200 and headed.content == b""
    assert headed.headers["content-length"] == got.headers["content-length"]
    assert raw({"method": "HEAD", "path": "/"}, [piece(b"")])[1]["body"] == b""


def test_what_would_be_much_to_pass_over_is_not_waited_for() -> None:
    def closes(length: int) -> bool:
        headers = [(b"host", b"evil.com"), (b"content-length", str(length).encode())]
        return (b"connection", b"close") in raw({"headers": headers}, [])[0]["headers"]

    assert not closes(100_000)
    assert closes(10_000_000)


# -- what goes wrong


def test_errors_become_problems() -> None:
    response = ask("GET", "/", app=failing(errors.CorruptPhotoError("cut short")))
    assert (response.status_code, problem(response), response.json()["detail"]) == (422, "corrupt-photo", "cut short")
    response = ask("GET", "/", app=failing(refused("queue-full", "later", {"retry-after": "7"})))
    assert response.status_code == 429 and response.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("<object at 0x7f12345678> in /home/someone/x.py"),
        errors.InvalidModelError("/home/someone/model.onnx is\nbroken"),
        errors.CacheUnwritableError("/home/someone/.cache"),
        ExceptionGroup("several", [ValueError("/home/someone")]),
        RecursionError("/home/someone"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_mistake_of_ours_tells_nothing(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    response = ask("GET", "/", app=failing(error))
    assert response.status_code == 500 and problem(response) == "internal-error"
    assert not re.search(r"0x[0-9a-f]{6,}|/home|Traceback|object at|\.py", response.text)
    assert "Traceback" not in caplog.text
    (line,) = [record.getMessage() for record in caplog.records]  # where the owner of the machine reads it
    assert response.headers["x-request-id"] in line
    if isinstance(error, errors.PhotolabelError):
        assert error.code in line and str(error).replace("\n", "\\x0a") in line
    else:  # its words may be made of what was sent
        assert type(error).__name__ in line and "/home" not in line


def test_an_end_that_does_not_wait_is_no_mistake() -> None:
    response = ask("GET", "/", app=failing(asyncio.CancelledError()))
    assert response.status_code == 503 and problem(response) == "unavailable" and "retry-after" in response.headers


def test_a_mistake_shows_where_it_is_to_whoever_asks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PHOTOLABEL_DEBUG", "1")
    response = ask("GET", "/", app=failing(RuntimeError("there")))
    assert "there" not in response.text and "RuntimeError: there" in caplog.text


def test_an_answer_that_breaks_off_is_not_taken_for_whole() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError

    with pytest.raises(Exception, match="internal-error"):  # the server closes the connection
        ask("GET", "/", app=app)


def test_web_sockets_are_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    guarded = Guard(failing(AssertionError()), door=Door(settings=Settings(), bodies={}))
    asyncio.run(guarded({"type": "websocket", "path": "/"}, None, send))  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]


# -- the log


def test_a_request_is_one_line_whatever_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "photolabel.server")
    nasty = "/a\r\n2026 fake 200\x1b[31m\x00\u2028 end"
    raw({"path": nasty, "raw_path": nasty.encode(), "method": "PO\nST", "query_string": b"key=secret"}, [piece(b"x")])
    raw({"path": nasty, "raw_path": None}, [piece(b"x")])
    raw({"path": "/" + "x" * 900, "raw_path": b"/" + b"x" * 900}, [piece(b"x")])
    assert len(caplog.records) == 3
    for record in caplog.records:
        line = record.getMessage()
        assert len(line) < 400 and line.isprintable() and line.isascii()
        assert len(line.split()) == 8 and "secret" not in line


def test_a_line_says_what_came_of_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "photolabel.server")
    response = ask("POST", "/takes?top=1", content=b"x" * 10, headers={"x-request-id": "mine"})
    (record,) = caplog.records
    expected = rf"mine 127\.0\.0\.1 POST /takes 200 in=10 out={len(response.content)} ms=[0-9]+"
    assert re.fullmatch(expected, record.getMessage())
