"""An S3 store on loopback, and web servers that say what a test wants."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from photolabel import remote

Answer = tuple[int, Mapping[str, str], bytes]


@contextmanager
def server(answer: Callable[[str, str], Answer]) -> Iterator[str]:
    """A server whose answer to a method and a path is this; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            status, headers, body = answer(self.command, self.path)
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def environment(endpoint: str) -> dict[str, str]:
    """What makes an S3 client use this store, and ask nobody else."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    }


def use(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Have this process, and those that it starts, use a store."""
    for name, value in environment(endpoint).items():
        patch.setenv(name, value)
    forget()


def forget() -> None:
    """Let go of the store that was used."""
    remote._stores.clear()
    s3fs().clear_instance_cache()


def s3fs() -> Any:
    """The class of stores that are S3's."""
    return pytest.importorskip("s3fs", reason="the extra remote is not installed").S3FileSystem


@contextmanager
def s3(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real store, moto's, which this process uses; its endpoint."""
    pytest.importorskip("s3fs", reason="the extra remote is not installed")
    moto = pytest.importorskip("moto.server", reason="moto's server is not installed")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    try:
        use(patch, f"http://{host}:{port}")
        yield f"http://{host}:{port}"
    finally:
        running.stop()
        forget()
