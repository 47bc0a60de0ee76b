"""From an address to a cluster, or to an error that says what is wrong; no cluster runs here."""

from __future__ import annotations

import os
import signal
import sys
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
