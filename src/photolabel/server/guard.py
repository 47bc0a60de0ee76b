"""What stands before every route: who may come in, and how much may be sent how slowly; and what every answer carries.

Plain ASGI: nothing is buffered, and nothing runs beside the application. It needs nothing of the server that it runs
in, so what `protocol` looks at in HTTP itself is looked at here too, wherever ASGI lets it be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import quote

from ..errors import PhotolabelError
from ..output import printable
from . import problems, turns
from .problems import GoneError, Problem, RefusedError, refused
from .settings import Settings
from .visitors import Visitors

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Seen: TypeAlias = Callable[[str, str, int, float], None]

KEYLESS = frozenset(["/v2/health/live", "/v2/health/ready"])  # probes of orchestrators carry no key

log = logging.getLogger("photolabel.server")

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_LENGTH = re.compile("[0-9]{1,18}", re.ASCII)
_LONGEST_PATH = 200  # characters of a log line
_SMALL_REST = 1 << 20  # bytes of a refused body that are let run out, so that the connection can go on
_GONE = 499  # in the log: there is no status for an answer that nobody waits for
_TAKEN = ("authorization", "content-type", "inference-header-content-length", "x-api-key", "x-request-id")
_SAID_ALWAYS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cache-control": b"no-store",
}


class Guard:
    """The application behind it, guarded. `bodies` says how many bytes a path takes; all others take none.

    `keyless` are the paths that need no key. `room` raises `RefusedError` while no body can be taken. It is asked here,
    for when there are many to refuse, what each of them costs is taken from those who are answered. `place` says which
    of `bodies` a path is, and `seen` is told of each request that has its answer: the place, method, status, and
    seconds that it took.

    To be put before an application with `add_middleware`, or around it.
    """

    def __init__(
        self,
        app: App,
        *,
        settings: Settings,
        bodies: Mapping[str, int],
        keyless: Collection[str] = KEYLESS,
        room: Callable[[], None] = lambda: None,
        place: Callable[[str], str] = lambda path: path,
        seen: Seen = lambda place, method, status, seconds: None,
    ) -> None:
        self._app, self._settings, self._bodies, self._room = app, settings, bodies, room
        self._keyless, self._place, self._seen = keyless, place, seen
        self._visitors = Visitors(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand on the application's beginning and end."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            with turns.answering((scope.get("client") or (None,))[0]):
                await self._answer(scope, _Visit(scope, receive, send, self._settings))
        else:  # there are no web sockets here
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, visit: _Visit) -> None:
        try:
            if not await self._preflight(scope, visit):
                inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
                await self._app(inner, visit.receive, visit.send)
        except RefusedError as error:
            await visit.refuse(error.problem)
        except PhotolabelError as error:
            made = problems.of(error)
            if made is problems.INTERNAL:
                log.error("%s %s: %s", visit.id, error.code, printable(str(error)))
            await visit.refuse(made)
        except GoneError:
            visit.status = _GONE
        except asyncio.CancelledError:  # the server ends and does not wait any longer; else it would call that a 500
            await visit.refuse(problems.UNAVAILABLE)
        except Exception as error:  # the last resort, as of the command line: a mistake tells nobody how we look
            log.error("%s a mistake in photolabel (%s)", visit.id, type(error).__name__, exc_info=_debugging())
            await visit.refuse(problems.INTERNAL)
        finally:
            visit.log()
            self._seen(self._place(scope["path"]), scope["method"], visit.status, visit.seconds)

    async def _preflight(self, scope: Scope, visit: _Visit) -> bool:
        """Look at a request's head; return whether it is answered already. Raises `RefusedError`."""
        self._check_head(scope)
        headers = visit.headers
        host = self._visitors.check_host(headers.get("host", []))
        visit.origin = self._visitors.check_origin(headers.get("origin", []), host)
        if scope["method"] == "OPTIONS" and visit.origin and "access-control-request-method" in headers:
            await visit.answer(
                204,
                {
                    "access-control-allow-methods": "GET, POST",
                    "access-control-allow-headers": ", ".join(_TAKEN),
                    "access-control-max-age": "600",
                },
            )
            return True
        if scope["path"] not in self._keyless:
            self._visitors.check_key(headers)
        most = self._bodies.get(self._place(scope["path"]), 0)
        visit.expect(most)
        if most and scope["method"] == "POST":
            self._room()
        return False

    def _check_head(self, scope: Scope) -> None:
        settings, headers = self._settings, scope["headers"]
        target = len(scope.get("raw_path") or scope["path"].encode()) + 1 + len(scope["query_string"])
        if target > settings.target_bytes:
            raise refused("target-too-long", f"Path and query may have {settings.target_bytes:,} bytes.")
        size = target + sum(len(name) + len(value) + 4 for name, value in headers)
        if size > settings.head_bytes or len(headers) > settings.headers:
            raise refused(
                "head-too-large",
                f"A request's line and headers may have {settings.head_bytes:,} bytes, in {settings.headers} headers.",
            )


class _Visit:
    """One request and its answer: what came, what was said, and for how long it may go on."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: Settings) -> None:
        self._scope, self._receive, self._send, self._settings = scope, receive, send, settings
        self._begun = time.monotonic()
        self.headers = _headers(scope["headers"])
        asked = self.headers.get("x-request-id", [""])
        self.id = asked[0] if len(asked) == 1 and _REQUEST_ID.fullmatch(asked[0]) else secrets.token_hex(8)
        self.origin: str | None = None
        self.status = 0
        self._most = 0
        self._declared = _declared(self.headers)
        self._received = self._sent = 0
        self._whole = False  # the body has come to its end
        self._ended = False  # the answer has

    def expect(self, most: int) -> None:
        """Take a body of at most so many bytes. Raises `RefusedError` for one that says it is larger, or unclear."""
        self._most = most
        lengths, codings = self.headers.get("content-length", []), self.headers.get("transfer-encoding", [])
        if codings and (lengths or [each.strip().lower() for each in codings] != ["chunked"]):
            raise refused("bad-request", "Expected Content-Length, or Transfer-Encoding: chunked.")
        if lengths and (len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0])):
            raise refused("bad-request", "Expected one Content-Length, a whole number.")
        if self._declared is not None and self._declared > most:
            raise self._too_large()
        if any(each.strip().lower() not in ("", "identity") for each in self.headers.get("content-encoding", [])):
            raise refused("unsupported-encoding", "A body is sent as it is: without Content-Encoding.")

    def _too_large(self) -> RefusedError:
        what = f"may have {self._most:,} bytes" if self._most else "takes no body"
        return refused("request-too-large", f"A request to this path {what}.")

    # -- what the application gets

    async def receive(self) -> Message:
        """The next piece of the body, which comes in time or not at all. Raises `RefusedError` and `GoneError`."""
        if self._whole:  # from here on only the client's going is waited for, however long
            return await self._receive()
        left = self._begun + self._settings.body_seconds - time.monotonic()
        try:
            async with asyncio.timeout(min(left, self._settings.pause_seconds)):
                message = await self._receive()
        except TimeoutError:
            raise refused(
                "request-timeout",
                f"A body may take {self._settings.body_seconds:g} seconds to come, and "
                f"{self._settings.pause_seconds:g} from one piece to the next.",
            ) from None
        if message["type"] != "http.request":
            raise GoneError
        self._received += len(message.get("body", b""))
        if self._received > self._most:
            raise self._too_large()
        self._whole = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass on the answer, with the headers that all answers have."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), *self._common(message)]}
        elif message["type"] == "http.response.body":
            if self._scope["method"] == "HEAD":
                message = {**message, "body": b""}
            self._sent += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
        await self._send(message)

    def _common(self, message: Message) -> Iterable[tuple[bytes, bytes]]:
        said = {name.lower() for name, _ in message.get("headers", [])}
        for name, value in _SAID_ALWAYS.items():
            if name not in said:
                yield name, value
        yield b"x-request-id", self.id.encode("ascii")
        if self.origin is not None:
            yield b"access-control-allow-origin", self.origin.encode("ascii")
            yield b"access-control-expose-headers", b"inference-header-content-length, retry-after, x-request-id"
            yield b"vary", b"Origin"
        if not self._whole and (self._declared is None or self._declared - self._received > _SMALL_REST):
            yield b"connection", b"close"  # rather than take the rest of it

    # -- what is answered here

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem, unless there is an answer already: then it breaks off."""
        if not self.status:
            body = problem.body(self._scope["path"])
            await self.answer(problem.status, {"content-type": problems.MEDIA_TYPE, **problem.headers}, body)
        elif not self._ended:
            raise RefusedError(problem)  # the server closes the connection, so that nobody takes it for whole

    async def answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Answer, without the application."""
        length = {} if status == 204 else {"content-length": str(len(body))}
        pairs = [(name.encode("ascii"), value.encode("ascii")) for name, value in {**headers, **length}.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body})

    @property
    def seconds(self) -> float:
        """For how long it has gone on."""
        return time.monotonic() - self._begun

    def log(self) -> None:
        """Say in one line what came of it. The query stays out: nothing in it is worth it, and it may hold secrets."""
        raw = self._scope.get("raw_path") or self._scope["path"].encode("utf-8", "replace")
        path = quote(raw[: _LONGEST_PATH + 1], safe="/%:@!$&'()*+,;=~")
        client = self._scope.get("client") or ("-",)
        log.info(
            "%s %s %s %s %d in=%d out=%d ms=%.0f",
            self.id,
            client[0],
            quote(self._scope["method"][:20]),
            path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}...",
            self.status,
            self._received,
            self._sent,
            self.seconds * 1000,
        )


def _headers(pairs: Iterable[Sequence[bytes]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _declared(headers: Mapping[str, Sequence[str]]) -> int | None:
    """How long the body says it is; None where it does not say, or not so that it could be understood."""
    if "transfer-encoding" in headers:
        return None
    lengths = headers.get("content-length", ["0"])
    return int(lengths[0]) if len(lengths) == 1 and _LENGTH.fullmatch(lengths[0]) else None


def _debugging() -> bool:
    return bool(os.environ.get("PHOTOLABEL_DEBUG"))


async def gone(receive: Receive) -> None:
    """Return when the client has gone; to be asked only once the body is whole."""
    with contextlib.suppress(GoneError):
        while (await receive())["type"] != "http.disconnect":
            pass
