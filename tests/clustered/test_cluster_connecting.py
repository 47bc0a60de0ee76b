"""From an address to a cluster, or to an error that says what is wrong; no cluster runs here."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from photolabel import cli
from photolabel.cluster import Cluster, connecting
from photolabel.errors import ClusterError, MissingExtraError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore")  # what Ray warns of is Ray's


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package, not connected, and with nobody to connect to."""
    found = pytest.importorskip("ray", reason="the extra ray is not installed")
    assert not found.is_initialized()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return found


@pytest.mark.parametrize("address", ["photos", "host", "host:", "host:port", "ray://host:1", "http://host:1", ""])
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(UsageError, match="no address of a Ray cluster"):
        connecting.check(address)


def test_ray_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"photolabel\[ray\]"):
        Cluster()
    assert cli.main(["photos", "--ray"]) == 3
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:6379"])
@pytest.mark.parametrize("how", ["argument", "RAY_ADDRESS"])
def test_a_cluster_that_does_not_answer_is_said(
    ray: Any, monkeypatch: pytest.MonkeyPatch, address: str, how: str, capsys: Any
) -> None:
    """And at once: Ray itself would try for minutes, and end the process."""
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray was asked"))
    if how == "RAY_ADDRESS":
        monkeypatch.setenv(how, address)
    with pytest.raises(ClusterError, match="no Ray cluster answers at"):
        Cluster(address if how == "argument" else None)
    assert cli.main(["photos", f"--ray={address}" if how == "argument" else "--ray"]) == 3
    assert address in capsys.readouterr().err


@contextmanager
def listening(says: bytes) -> Iterator[str]:
    """A port at which somebody listens who is not Ray."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with suppress(OSError):  # as soon as nobody listens any more
                while True:
                    asked, _ = server.accept()
                    with asked:
                        asked.recv(100)
                        asked.sendall(says)
                        if not says:
                            ended.wait(30)

        ended = threading.Event()
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    "says", [b"HTTP/1.0 400 Bad Request\r\n\r\n", b"SSH-2", b""], ids=["a web server", "briefly", "nothing"]
)
def test_whoever_else_listens_there_is_no_cluster(ray: Any, monkeypatch: pytest.MonkeyPatch, says: bytes) -> None:
    """Ray itself would try for minutes."""
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray was asked"))
    monkeypatch.setattr(connecting, "_PATIENCE", 0.5)
    with listening(says) as address, pytest.raises(ClusterError, match="no Ray cluster answers at"):
        Cluster(address)


def test_whoever_says_nothing_may_be_a_cluster(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """That has much to do: it is not left for a new one, as whoever else listens where one has been."""
    asked: list[str] = []
    monkeypatch.setattr(connecting.Connection, "_init", lambda self, address: asked.append(address))
    monkeypatch.setattr(connecting, "_PATIENCE", 0.5)
    with listening(b"") as address, pytest.raises(ClusterError, match="no Ray cluster answers at"):
        monkeypatch.setattr(connecting, "_meant", lambda _: address)
        Cluster()
    assert not asked
    with listening(b"SSH-2") as address:
        monkeypatch.setattr(connecting, "_meant", lambda _: address)
        Cluster().close()
    assert asked == ["local"]


def test_a_cluster_with_certificates_of_its_own_is_left_to_ray(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(connecting.Connection, "_init", lambda self, address: asked.append(address))
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with listening(b"") as address:
        Cluster(address).close()
    assert asked == [address]


def test_another_version_of_ray_is_said(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.utils import check_version_info

    with pytest.raises(RuntimeError) as caught:
        check_version_info({"ray_version": "1.2.3", "python_version": "3.9.1"}, "this process")

    def init(*_: object, **__: object) -> None:
        raise caught.value

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(connecting, "_reach", lambda *_: None)
    with pytest.raises(ClusterError, match=r"another version of Ray or Python .*Ray 1\.2\.3.*Install the same"):
        Cluster("host:6379")


@pytest.mark.skipif(not hasattr(signal, "raise_signal") or sys.platform == "win32", reason="signals are POSIX's")
def test_sigterm_while_it_connects_is_what_it_is_else(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own handler, which is there meanwhile, exits with the signal's number and says nothing."""

    def init(*_: object, **__: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        os.kill(os.getpid(), signal.SIGTERM)

    came: list[int] = []

    def handler(number: int, frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    monkeypatch.setattr(ray, "init", init)
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Cluster("local")
        assert came == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
