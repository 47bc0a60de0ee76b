"""The head of a request, and what is decided on it alone: who may come in, how much may be sent, whether there is room.

Nothing here waits, so that whoever has only a head can ask, before anything is made ready for the request.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import quote

from . import problems, turns
from .crowds import Crowd
from .problems import Problem, RefusedError, refused
from .settings import Settings
from .visitors import Visitors

Scope: TypeAlias = MutableMapping[str, Any]
Seen: TypeAlias = Callable[[str, str, int, float], None]

KEYLESS = frozenset(["/v2/health/live", "/v2/health/ready"])  # probes of orchestrators carry no key

log = logging.getLogger("photolabel.server")

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_LENGTH = re.compile("[0-9]{1,18}", re.ASCII)
_LONGEST_PATH = 200  # characters of a log line
_FULL, _ = problems.OWN["queue-full"]
_SMALL_REST = 1 << 20  # bytes of a refused body that are let run out, so that the connection can go on
_SAID_ALWAYS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cache-control": b"no-store",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, with all the headers that it has of us."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


class Head:
    """What the head of a request says, and since when it is known."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.begun = time.monotonic()
        self.headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            self.headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        asked = self.headers.get("x-request-id", [""])
        self.id = asked[0] if len(asked) == 1 and _REQUEST_ID.fullmatch(asked[0]) else secrets.token_hex(8)
        self.declared = _declared(self.headers)
        self.origin: str | None = None  # of a page elsewhere that may call
        self.most = 0  # bytes of a body

    @property
    def caller(self) -> str | None:
        """The address that it came from."""
        address: str | None = (self.scope.get("client") or (None,))[0]
        return address

    def common(
        self, said: Collection[bytes], received: int = 0, *, whole: bool = False
    ) -> Iterable[tuple[bytes, bytes]]:
        """The headers that all answers have, beside those that are said; so much of the body has come, or all."""
        for name, value in _SAID_ALWAYS.items():
            if name not in said:
                yield name, value
        yield b"x-request-id", self.id.encode("ascii")
        if self.origin is not None:
            yield b"access-control-allow-origin", self.origin.encode("ascii")
            yield b"access-control-expose-headers", b"inference-header-content-length, retry-after, x-request-id"
            yield b"vary", b"Origin"
        if not whole and (self.declared is None or self.declared - received > _SMALL_REST):
            yield b"connection", b"close"  # rather than take the rest of it

    def refused(self, problem: Problem) -> tuple[dict[str, str], bytes]:
        """The headers and the body of the answer that says what is wrong."""
        body = problem.body(self.scope["path"])
        return {"content-type": problems.MEDIA_TYPE, **problem.headers, "content-length": str(len(body))}, body

    def log(self, status: int, received: int, sent: int, seconds: float) -> None:
        """Say in one line what came of it.

        The query stays out: nothing in it is worth it, and it may hold secrets.
        """
        raw = self.scope.get("raw_path") or self.scope["path"].encode("utf-8", "replace")
        path = quote(raw[: _LONGEST_PATH + 1], safe="/%:@!$&'()*+,;=~")
        log.info(
            "%s %s %s %s %d in=%d out=%d ms=%.0f",
            self.id,
            self.caller or "-",
            quote(self.scope["method"][:20]),
            path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}...",
            status,
            received,
            sent,
            seconds * 1000,
        )


class Door:
    """Where every request comes in. `bodies` says how many bytes a path takes; all others take none.

    `keyless` are the paths that need no key. `room` raises `RefusedError` while no body can be taken. `place` says
    which of `bodies` a path is, and `seen` is told of each request that has its answer: the place, method, status, and
    seconds that it took.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        bodies: Mapping[str, int],
        keyless: Collection[str] = KEYLESS,
        room: Callable[[], None] = lambda: None,
        place: Callable[[str], str] = lambda path: path,
        seen: Seen = lambda place, method, status, seconds: None,
    ) -> None:
        self.settings = settings
        self._bodies, self._keyless, self._room, self._place, self._seen = bodies, keyless, room, place, seen
        self._visitors = Visitors(settings)
        self.crowd = Crowd(lambda count: log.info("%d more were refused for want of room (%d)", count, _FULL))

    def check(self, head: Head) -> bool:
        """Look at a request's head; return whether it only asks, for a web page, what it may send.

        Raises `RefusedError`.
        """
        self._check_size(head.scope)
        headers = head.headers
        host = self._visitors.check_host(headers.get("host", []))
        head.origin = self._visitors.check_origin(headers.get("origin", []), host)
        if head.scope["method"] == "OPTIONS" and head.origin and "access-control-request-method" in headers:
            return True
        if head.scope["path"] not in self._keyless:
            self._visitors.check_key(headers)
        head.most = self._bodies.get(self._place(head.scope["path"]), 0)
        _check_body(head)
        if head.most and head.scope["method"] == "POST":
            self._room()
        return False

    def refusal(self, scope: Scope) -> Answer | None:
        """Return the answer to a request that is refused for its head; None where it is for the application to answer.

        It is what the application would have answered with, but costs less; and when there are many to refuse, what
        each of them costs is taken from those who are answered.
        """
        head = Head(scope)
        try:
            with turns.answering(head.caller):
                self.check(head)
        except RefusedError as error:
            said, body = head.refused(error.problem)
            headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in said.items()]
            headers += head.common(dict(headers))
            sent = b"" if scope["method"] == "HEAD" else body
            self.answered(head, error.problem.status, 0, len(sent))
            return Answer(error.problem.status, headers, sent)
        return None

    def answered(self, head: Head, status: int, received: int, sent: int) -> None:
        """Take note of a request that has its answer."""
        seconds = time.monotonic() - head.begun
        if status != _FULL or self.crowd.refused():
            head.log(status, received, sent, seconds)
        self._seen(self._place(head.scope["path"]), head.scope["method"], status, seconds)

    def _check_size(self, scope: Scope) -> None:
        settings, headers = self.settings, scope["headers"]
        target = len(scope.get("raw_path") or scope["path"].encode()) + 1 + len(scope["query_string"])
        if target > settings.target_bytes:
            raise refused("target-too-long", f"Path and query may have {settings.target_bytes:,} bytes.")
        size = target + sum(len(name) + len(value) + 4 for name, value in headers)
        if size > settings.head_bytes or len(headers) > settings.headers:
            raise refused(
                "head-too-large",
                f"A request's line and headers may have {settings.head_bytes:,} bytes, in {settings.headers} headers.",
            )


def _check_body(head: Head) -> None:
    """Raise `RefusedError` for a body that says it is too large, or not clearly how large."""
    lengths, codings = head.headers.get("content-length", []), head.headers.get("transfer-encoding", [])
    if codings and (lengths or [each.strip().lower() for each in codings] != ["chunked"]):
        raise refused("bad-request", "Expected Content-Length, or Transfer-Encoding: chunked.")
    if lengths and (len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0])):
        raise refused("bad-request", "Expected one Content-Length, a whole number.")
    if head.declared is not None and head.declared > head.most:
        raise too_large(head)
    if any(each.strip().lower() not in ("", "identity") for each in head.headers.get("content-encoding", [])):
        raise refused("unsupported-encoding", "A body is sent as it is: without Content-Encoding.")


def too_large(head: Head) -> RefusedError:
    """Return the refusal of a body with too many bytes, to be raised."""
    what = f"may have {head.most:,} bytes" if head.most else "takes no body"
    return refused("request-too-large", f"A request to this path {what}.")


def _declared(headers: Mapping[str, Sequence[str]]) -> int | None:
    """How long the body says it is; None where it does not say, or not so that it could be understood."""
    if "transfer-encoding" in headers:
        return None
    lengths = headers.get("content-length", ["0"])
    return int(lengths[0]) if len(lengths) == 1 and _LENGTH.fullmatch(lengths[0]) else None
