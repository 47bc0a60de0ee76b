"""What stands before every route: nobody comes in but through the door, or sends more, or slower; and all is answered.

Plain ASGI: nothing is buffered, and nothing runs beside the application. It needs nothing of the server that it runs
in, so what `protocol` looks at in HTTP itself is looked at here too, wherever ASGI lets it be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

from ..errors import PhotolabelError
from ..output import printable
from . import problems, turns
from .heads import Door, Head, Scope, log, too_large
from .problems import GoneError, Problem, RefusedError, refused
from .settings import Settings

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_GONE = 499  # in the log: there is no status for an answer that nobody waits for
_TAKEN = ("authorization", "content-type", "inference-header-content-length", "x-api-key", "x-request-id")
_MAY = {
    "access-control-allow-methods": "GET, POST",
    "access-control-allow-headers": ", ".join(_TAKEN),
    "access-control-max-age": "600",
}


class Guard:
    """The application behind it, guarded: what comes in has come through the `door`.

    To be put before an application with `add_middleware`, or around it.
    """

    def __init__(self, app: App, *, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand on the application's beginning and end."""
        if scope["type"] == "lifespan":
            try:
                await self._app(scope, receive, send)
            finally:
                self._door.crowd.tell()
        elif scope["type"] == "http":
            head = Head(scope)
            with turns.answering(head.caller):
                await self._answer(head, _Visit(head, receive, send, self._door.settings))
        else:  # there are no web sockets here
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, head: Head, visit: _Visit) -> None:
        scope = head.scope
        try:
            if self._door.check(head):
                await visit.answer(204, _MAY)
            else:
                inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
                await self._app(inner, visit.receive, visit.send)
        except RefusedError as error:
            await visit.refuse(error.problem)
        except PhotolabelError as error:
            made = problems.of(error)
            if made is problems.INTERNAL:
                log.error("%s %s: %s", head.id, error.code, printable(str(error)))
            await visit.refuse(made)
        except GoneError:
            visit.status = _GONE
        except asyncio.CancelledError:  # the server ends and does not wait any longer; else it would call that a 500
            await visit.refuse(problems.UNAVAILABLE)
        except Exception as error:  # the last resort, as of the command line: a mistake tells nobody how we look
            log.error("%s a mistake in photolabel (%s)", head.id, type(error).__name__, exc_info=_debugging())
            await visit.refuse(problems.INTERNAL)
        finally:
            self._door.answered(head, visit.status, visit.received, visit.sent)


class _Visit:
    """One request and its answer: what came, what was said, and for how long it may go on."""

    def __init__(self, head: Head, receive: Receive, send: Send, settings: Settings) -> None:
        self._head, self._receive, self._send, self._settings = head, receive, send, settings
        self.status = 0
        self.received = self.sent = 0  # bytes of the bodies
        self._whole = False  # the body has come to its end
        self._ended = False  # the answer has

    # -- what the application gets

    async def receive(self) -> Message:
        """The next piece of the body, which comes in time or not at all. Raises `RefusedError` and `GoneError`."""
        if self._whole:  # from here on only the client's going is waited for, however long
            return await self._receive()
        left = self._head.begun + self._settings.body_seconds - time.monotonic()
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
        self.received += len(message.get("body", b""))
        if self.received > self._head.most:
            raise too_large(self._head)
        self._whole = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass on the answer, with the headers that all answers have."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            said = list(message.get("headers", []))
            common = self._head.common({name.lower() for name, _ in said}, self.received, whole=self._whole)
            message = {**message, "headers": [*said, *common]}
        elif message["type"] == "http.response.body":
            if self._head.scope["method"] == "HEAD":
                message = {**message, "body": b""}
            self.sent += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
        await self._send(message)

    # -- what is answered here

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem, unless there is an answer already: then it breaks off."""
        if not self.status:
            await self.answer(problem.status, *self._head.refused(problem))
        elif not self._ended:
            raise RefusedError(problem)  # the server closes the connection, so that nobody takes it for whole

    async def answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Answer, without the application."""
        pairs = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body})


def _debugging() -> bool:
    return bool(os.environ.get("PHOTOLABEL_DEBUG"))


async def gone(receive: Receive) -> None:
    """Return when the client has gone; to be asked only once the body is whole."""
    with contextlib.suppress(GoneError):
        while (await receive())["type"] != "http.disconnect":
            pass
