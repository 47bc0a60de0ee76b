"""Services to test: in this process by ASGI, on a loopback port, and classifiers that can be held."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest

from photolabel.classifier import Classifier
from photolabel.prediction import Prediction
from photolabel.prepared import Prepared
from photolabel.server import Settings, create_app

import crews

HOST = "http://localhost"


@asynccontextmanager
async def here(
    classifiers: Any, settings: Settings | None = None, *, raising: bool = True
) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
    """A client of an application in this event loop, and the application's service."""
    app = create_app(classifiers, settings=settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=raising), base_url=HOST) as client,
    ):
        yield client, app.state.service


@contextmanager
def there(classifiers: Any, settings: Settings | None = None) -> Iterator[tuple[int, Any]]:
    """The port of a server in a thread of this process, and its service."""
    from photolabel.server.running import Server, listen

    settings = settings or Settings()
    bound = listen("127.0.0.1", 0, settings)
    listens = threading.Event()
    app = create_app(classifiers, settings=settings)
    server = Server(app, settings, listens.set)
    thread = threading.Thread(target=server.run, args=([bound],))
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    thread.start()
    try:
        assert listens.wait(60)
        yield bound.getsockname()[1], app.state.service
    finally:
        server.should_exit = True
        thread.join(60)
        bound.close()
        assert not thread.is_alive()


class Asking:
    """An application that answers one request after the other, in a loop of its own."""

    def __init__(self, classifiers: Any, settings: Settings) -> None:
        self._runner = asyncio.Runner()
        self._there = here(classifiers, settings)
        self.client, self.service = self._runner.run(self._there.__aenter__())

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        response: httpx.Response = self._runner.run(self.client.request(method, path, **options))
        return response

    def close(self) -> None:
        self._runner.run(self._there.__aexit__(None, None, None))
        self._runner.close()


class Held(Classifier):
    """A classifier whose network works on a batch only when it is let; it tells of which batches it had."""

    def __init__(self, inner: Classifier, *, held: bool = True) -> None:
        self._inner = inner
        self._let = threading.Event()
        if not held:
            self._let.set()
        self.at_work = threading.Event()
        self.batches: list[int] = []
        self.fails: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_inner"], name)

    # Classifier's own properties would be found before __getattr__.
    recipe = property(lambda self: self._inner.recipe)
    precision = property(lambda self: self._inner.precision)
    digest = property(lambda self: self._inner.digest)
    calibration = property(lambda self: self._inner.calibration)
    tree = property(lambda self: self._inner.tree)

    def let(self) -> None:
        self._let.set()

    def predict(
        self,
        batch: Sequence[Prepared],
        *,
        top: int | None = 5,
        sure: float | None = None,
        coverage: float | None = None,
    ) -> list[Prediction]:
        if any(each.error is None for each in batch):
            self.batches.append(len(batch))
            self.at_work.set()
            assert self._let.wait(60)
            if self.fails is not None:
                raise self.fails
        return self._inner.predict(batch, top=top, sure=sure, coverage=coverage)


def client_at(client: httpx.AsyncClient, address: str) -> httpx.AsyncClient:
    """Another client of the application that `here` gave one of, which calls from an address."""
    app = client._transport.app  # type: ignore[attr-defined]
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(address, 1)), base_url=HOST)


def problem(response: httpx.Response) -> str:
    """The code of a problem, which is one in every respect."""
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == response.status_code
    assert document["type"] == f"urn:photolabel:problem:{document['code']}"
    if f"{response.request.url.path}/".startswith("/v2/"):
        assert document.pop("error") == f"{document['title']}. {document['detail']}"
    assert set(document) == {"type", "title", "status", "detail", "code"}
    return str(document["code"])


def form(parts: Sequence[tuple[str, bytes]], boundary: str = "b") -> bytes:
    """A form of these parts: of each the headers, and what is in it."""
    made = b"".join(f"--{boundary}\r\n{headers}\r\n\r\n".encode() + data + b"\r\n" for headers, data in parts)
    return made + f"--{boundary}--\r\n".encode()


PHOTO_PART = 'Content-Disposition: form-data; name="photo"; filename="a.png"'
FORM = {"content-type": "multipart/form-data; boundary=b"}


# -- raw HTTP


class Wire:
    """A connection on which anything can be said."""

    def __init__(self, port: int, seconds: float = 30, buffer: int | None = None, source: str | None = None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(seconds)
        if buffer is not None:  # before it is connected, or it is too late
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        if source is not None:
            self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        self._kept = b""

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next whole response: status, headers, body."""
        while b"\r\n\r\n" not in self._kept:
            self._more()
        head, _, self._kept = self._kept.partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        while len(self._kept) < int(headers.get("content-length", 0)):
            self._more()
        length = int(headers.get("content-length", 0))
        body, self._kept = self._kept[:length], self._kept[length:]
        return int(first.split()[1]), headers, body

    def _more(self) -> None:
        piece = self.socket.recv(65536)
        if not piece:
            raise EOFError(self._kept)
        self._kept += piece

    def ended(self) -> bool:
        """Whether the other side closes, and says nothing more."""
        try:
            return not self._kept and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()


def post(body: bytes, path: str = "/v1/classify", headers: Mapping[str, str] | None = None) -> bytes:
    """A request with a body."""
    said = {"Host": "localhost", "Content-Length": str(len(body)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def get(path: str = "/v2/health/live", headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode()


def code(body: bytes) -> str:
    return str(json.loads(body)["code"])


# -- workers that misbehave as their photos say

HOOK = """
import io, signal, time
real = child.prepare
def prepare(photo, *recipes, **options):
    data = photo.read()
    if data == b"segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    if data == b"sleep":
        time.sleep(600)
    return real(io.BytesIO(data), *recipes, **options)
child.prepare = prepare
"""


def misbehaving(patch: pytest.MonkeyPatch) -> None:
    crews.hook(patch, HOOK)
