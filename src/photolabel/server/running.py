"""An application, served: a socket that is bound safely, uvicorn with all limits, and an end that lets nobody down."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import math
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import uvicorn

from ..errors import UsageError
from . import resting
from .app import create_app
from .heads import log
from .protocol import Gate, connections
from .settings import HOST, Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..classifier import Classifier
    from .service import Service

_BACKLOG = 1024  # connections that the system keeps while the event loop is busy
_FILES = 256  # open files that are none of clients: libraries, pipes to workers, networks
_TICK = 0.05
_EVERYWHERE = ("0.0.0.0", "[::]")  # noqa: S104  # addresses to listen at that are none to call


def serve(
    classifiers: Classifier | Mapping[str, Classifier],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    settings: Settings | None = None,
    listening: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve classifiers until the process is told to end (SIGTERM, Ctrl-C); then those who wait get their answers.

    `classifiers` and `settings` are those of `create_app`; the name or address `host` is one that the service goes by.
    `port` 0 is any free one; `listening` is told the URL. Raises `UsageError` where the address cannot be had, or is
    not this machine's own and there is no API key. A second Ctrl-C ends at once: raises KeyboardInterrupt.
    """
    settings = Settings() if settings is None else settings
    bound = listen(host, port, settings)
    try:
        url = _url(host, bound)
        name = url.removeprefix("http://").rpartition(":")[0]
        if HOST.fullmatch(name) and name not in _EVERYWHERE:
            settings = replace(settings, hosts=(*settings.hosts, name))
        settings = replace(settings, connections=_connections(settings.connections))
        server = Server(create_app(classifiers, settings=settings), settings, lambda: listening(url))
        with _logged(), _kept(), suppress(KeyboardInterrupt):  # uvicorn raises the signal once more when all is done
            server.run(sockets=[bound])
        if server.force_exit:
            raise KeyboardInterrupt
    finally:
        bound.close()


def listen(host: str, port: int, settings: Settings) -> socket.socket:
    """Return a socket bound to an address. Raises `UsageError` as `serve` does."""
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{host!r}: expected an address or a name of this machine, as in 127.0.0.1.") from error
    if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback and not settings.api_keys:
        raise UsageError(
            f"{host} can be reached from elsewhere, where anybody could have this machine work for them: give the "
            "service an API key (--api-key-file FILE, or PHOTOLABEL_API_KEY), or let it listen at 127.0.0.1."
        )
    bound = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # there it would let others listen at the same port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise UsageError(
            f"{host}, port {port}: {error.strerror or 'cannot be had'}. Another port: --port N, or 0 for any."
        ) from error
    return bound


def _url(host: str, bound: socket.socket) -> str:
    port = bound.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host.lower()}:{port}"


def _connections(wanted: int) -> int:
    """As many as there can be: more open files are asked for, where the system has them to give."""
    if sys.platform == "win32":
        return wanted
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    asked = wanted + _FILES if hard == resource.RLIM_INFINITY else min(hard, wanted + _FILES)
    if asked > soft:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (asked, hard))
            soft = asked
    return max(1, min(wanted, soft - _FILES))


class Server(uvicorn.Server):
    """uvicorn's, which says when it listens, and, for a while before the end, that it is not ready any more.

    To be `run` with sockets that `listen` made; where signals do not reach it, `should_exit = True` ends it.
    """

    def __init__(self, app: FastAPI, settings: Settings, listening: Callable[[], None] = lambda: None) -> None:
        gate, crowd = Gate(settings, app.state.door.refusal), app.state.door.crowd
        # Not while a large body comes, of which each look takes only a piece: it would come no faster than that.
        self._rests: Callable[[], bool] = lambda: not gate.poured() and crowd.there
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",  # `run` has its own
                http=connections(gate),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,  # `guard` has its own
                proxy_headers=False,  # whoever sends them could be anybody
                server_header=False,
                backlog=_BACKLOG,
                timeout_keep_alive=math.ceil(settings.idle_seconds),
                timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
            )
        )
        self._service: Service = app.state.service
        self._listening = listening
        self._service.figures.connections = lambda: len(self.server_state.connections)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the end is asked for."""
        # All that uvicorn's own does, with another loop.
        with asyncio.Runner(loop_factory=lambda: resting.new_loop(self._rests)) as runner:
            runner.run(self.serve(sockets=sockets))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        if self.started:
            self._listening()

    async def main_loop(self) -> None:
        """Serve until the end is asked for, and for a while longer to those who have not heard of it."""
        await super().main_loop()
        self._service.drain()
        until = time.monotonic() + self._service.settings.notice_seconds
        while time.monotonic() < until and not self.force_exit:
            await asyncio.sleep(_TICK)


@contextmanager
def _kept() -> Iterator[None]:
    """Have garbage not looked for among what is there already: it stays, and is much.

    Looking through it takes tens of milliseconds, in which nobody is answered, now and then.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _logged() -> Iterator[None]:
    """Have the service's log go to standard error, a line each; and nothing that uvicorn has to say but its errors."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    theirs = logging.getLogger("uvicorn")
    before = log.level, log.propagate, theirs.level, theirs.propagate
    for each, level in ((log, logging.INFO), (theirs, logging.CRITICAL)):
        each.addHandler(handler)
        each.setLevel(level)
        each.propagate = False
    try:
        yield
    finally:
        for each in (log, theirs):
            each.removeHandler(handler)
        log.level, log.propagate, theirs.level, theirs.propagate = before
