"""Servers that misbehave, on 127.0.0.1: each request is answered by the next behaviour of a script."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

import pytest

from photolabel.store import Asset

Behaviour = Callable[["Handler", bytes], None]


def asset(
    *urls: str, body: bytes, name: str = "weights.h5", algorithm: str = "sha256", size: int | None = None
) -> Asset:
    digest = f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"
    return Asset(name=name, urls=urls, digest=digest, size=len(body) if size is None else size)


def certificate(folder: Path, *, names: str = "IP:127.0.0.1") -> Path:
    """A certificate of a server that is called so, and its key, in one file; cert.pem beside it is whom to trust."""
    if not shutil.which("openssl"):
        pytest.skip("needs the openssl command to make a certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", f"subjectAltName={names}", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        with self.server.guard:
            self.server.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            number = len(self.server.requests) - 1
        script = self.server.script
        self.close_connection = True
        with contextlib.suppress(OSError):  # the client hung up, as it may
            script[min(number, len(script) - 1)](self, self.server.body)

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    @property
    def start(self) -> int:
        """Where the asked range begins, or 0."""
        asked = self.headers.get("Range", "")
        return int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, body: bytes, *script: Behaviour, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = body
        self.script = script or (honest,)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.guard = threading.Lock()
        self.scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
            self.scheme = "https"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/weights.h5"

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("range") for _, headers in self.requests]

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a TLS client that refuses our certificate is no error of the server

    def __enter__(self) -> Server:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.shutdown()
        self.server_close()


# --- behaviours


def honest(h: Handler, body: bytes) -> None:
    """Answer as a good server does, Range and If-Range included."""
    start = h.start
    if "If-Range" in h.headers and h.headers["If-Range"] != '"v1"':
        start = 0
    if start >= len(body):
        h.head(416, Content_Range=f"bytes */{len(body)}", Content_Length=0)
        return
    rest = body[start:]
    if start:
        span = f"bytes {start}-{len(body) - 1}/{len(body)}"
        h.head(206, Content_Range=span, Content_Length=len(rest), ETag='"v1"')
    else:
        h.head(200, Content_Length=len(rest), ETag='"v1"')
    h.wfile.write(rest)


def throttled(chunk: int, pause: float) -> Behaviour:
    """Be honest, but slow."""

    def answer(h: Handler, body: bytes) -> None:
        start, size = h.start, len(body)
        if start:
            h.head(206, Content_Range=f"bytes {start}-{size - 1}/{size}", Content_Length=size - start)
        else:
            h.head(200, Content_Length=size)
        for at in range(start, size, chunk):
            h.wfile.write(body[at : at + chunk])
            time.sleep(pause)

    return answer


def cut(count: int) -> Behaviour:
    """Promise everything from where was asked, send `count` bytes, hang up."""

    def answer(h: Handler, body: bytes) -> None:
        start, size = h.start, len(body)
        if start:
            h.head(
                206,
                Content_Range=f"bytes {start}-{size - 1}/{size}",
                Content_Length=size - start,
                ETag='"v1"',
            )
        else:
            h.head(200, Content_Length=size, ETag='"v1"')
        h.wfile.write(body[start : start + count])

    return answer


def stall(count: int, seconds: float = 30) -> Behaviour:
    """Send `count` bytes, then nothing, but hold the line."""

    def answer(h: Handler, body: bytes) -> None:
        cut(count)(h, body)
        h.wfile.flush()
        h.connection.settimeout(seconds)
        h.connection.recv(1)

    return answer


def status(code: int, **headers: object) -> Behaviour:
    return lambda h, _: h.head(code, **{"Content_Length": 0, **headers})


def ignores_range(h: Handler, body: bytes) -> None:
    h.head(200, Content_Length=len(body))
    h.wfile.write(body)


def wrong_range(h: Handler, body: bytes) -> None:
    """Claim another start than was asked for."""
    h.head(206, Content_Range=f"bytes 1-{len(body) - 1}/{len(body)}", Content_Length=len(body) - 1)
    h.wfile.write(body[1:])


def wrong_total(h: Handler, body: bytes) -> None:
    start = h.start
    h.head(206, Content_Range=f"bytes {start}-{len(body)}/{len(body) + 1}", Content_Length=len(body) - start)
    h.wfile.write(body[start:])


def short_length(h: Handler, body: bytes) -> None:
    """Announce and send half of what is left, or 1000 bytes, as if that were all."""
    start = h.start
    half = min(len(body) - start, max(1000, (len(body) - start) // 2))
    if start:
        h.head(206, Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}", Content_Length=half)
    else:
        h.head(200, Content_Length=half)
    h.wfile.write(body[start : start + half])


def long_length(h: Handler, body: bytes) -> None:
    h.head(200, Content_Length=2 * len(body))
    h.wfile.write(body * 2)


def endless(h: Handler, body: bytes) -> None:
    """Send the right bytes, then more without end."""
    h.head(200)
    h.wfile.write(body)
    while True:
        h.wfile.write(b"\0" * 65536)


def chunked(h: Handler, body: bytes) -> None:
    h.head(200, Transfer_Encoding="chunked")
    for at in range(0, len(body), 1000):
        piece = body[at : at + 1000]
        h.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    h.wfile.write(b"0\r\n\r\n")


def wrong_bytes(h: Handler, body: bytes) -> None:
    h.head(200, Content_Length=len(body))
    h.wfile.write(bytes(255 - b for b in body))


def encoded(data: bytes, encoding: str = "gzip") -> Behaviour:
    def answer(h: Handler, body: bytes) -> None:
        h.head(200, Content_Encoding=encoding, Content_Length=len(data))
        h.wfile.write(data)

    return answer


def endless_redirect(h: Handler, body: bytes) -> None:
    """Redirect, with a body without end."""
    h.head(302, Location="/there")
    while True:
        h.wfile.write(b"\0" * 65536)


def redirect(target: str, code: int = 302) -> Behaviour:
    return status(code, Location=target)


def header_drip(h: Handler, body: bytes) -> None:
    """One byte of a header now and then: no read ever times out."""
    h.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        h.wfile.write(b"a")
        h.wfile.flush()
        time.sleep(0.1)


def silent(h: Handler, body: bytes) -> None:
    """Take the request and never answer."""
    h.connection.settimeout(30)
    h.connection.recv(1)


class Deaf:
    """A port whose connects are never answered: its backlog is full."""

    def __enter__(self) -> Deaf:
        self.sockets = [socket.create_server(("127.0.0.1", 0), backlog=0)]
        self.port = self.sockets[0].getsockname()[1]
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", self.port))
            self.sockets.append(client)
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.sockets:
            each.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/weights.h5"
