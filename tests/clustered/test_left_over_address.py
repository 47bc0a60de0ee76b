"""A cluster that was killed leaves its address behind: what asks for a cluster of this machine is not held up by it."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from photolabel import batch, cli
from photolabel.classifier import Classifier
from photolabel.cluster import Cluster, connecting
from photolabel.errors import ClusterError
from photolabel.loading import load
from photolabel.sources import Item

import clusters
from crews import eventually
from pictures import PNG

pytestmark = [clusters.LINUX, pytest.mark.filterwarnings("ignore")]  # what Ray warns of is Ray's


@pytest.fixture(scope="module")
def classifier(tiny: Path) -> Iterator[Classifier]:
    with load(tiny, threads=1) as loaded:
        yield loaded


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address that a dead cluster has left where Ray looks for it."""
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    from ray._private import services

    assert not ray.is_initialized()
    # Whoever else has a cluster on this machine: it would be taken, and is none of this.
    monkeypatch.setattr(services, "_cached_find_gcs_addresses", _none)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else a token would be written into the home folder
    monkeypatch.setenv("PYTHONPATH", str(clusters.SOURCE))
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        address = f"127.0.0.1:{clusters.free_port()}"
        Path(folder, "ray").mkdir()
        left_file().write_text(address)
        assert connecting._meant("auto") == address, "so Ray would take it"
        yield address
        assert not ray.is_initialized()


def left_file() -> Path:
    """Where Ray looks for it."""
    return Path(os.environ["RAY_TMPDIR"], "ray", "ray_current_cluster")


def _none() -> set[str]:
    return set()


_none.cache_clear = lambda: None  # type: ignore[attr-defined]


def test_whoever_asks_for_none_in_particular_gets_a_new_one(left: str, classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    items = [Item(photo="a.png", path=str(tmp_path / "a.png"))]
    expected = [each.record() for each in batch.predictions(items, classifier, batch.Here(), top=3)]
    before = clusters.descendants()
    with Cluster() as there:
        import ray

        assert ray.get_runtime_context().gcs_address != left
        found = [each.record() for each in batch.predictions(items, classifier, there, top=3)]
    assert found == expected
    assert eventually(lambda: not clusters.descendants() - before), "and it ends with its run"


@pytest.mark.parametrize("how", ["argument", "RAY_ADDRESS"])
def test_whoever_asks_for_the_one_of_this_machine_is_told(
    left: str, monkeypatch: pytest.MonkeyPatch, how: str, capsys: Any
) -> None:
    if how == "RAY_ADDRESS":
        monkeypatch.setenv(how, "auto")
    begun = time.monotonic()
    with pytest.raises(ClusterError, match="no Ray cluster answers on this machine"):
        Cluster("auto" if how == "argument" else None)
    assert cli.main([os.devnull, "--ray=auto" if how == "argument" else "--ray"]) == 3
    assert "no Ray cluster answers on this machine" in capsys.readouterr().err
    assert time.monotonic() - begun < connecting._PATIENCE


TORN = {
    "empty": b"",
    "no port": b"127.0.0.1",
    "no end": b"127.0.0.1:",
    "zeros": bytes(14),  # as a disk may have it that lost its power
    "no text": b"\xff\xfe",
}


@pytest.fixture(params=[*TORN.values(), None], ids=[*TORN, "a folder"])
def torn(left: str, request: pytest.FixtureRequest) -> None:
    """What was left is not what was written, or cannot be read."""
    if request.param is None:
        left_file().unlink()
        left_file().mkdir()
    else:
        left_file().write_bytes(request.param)


def test_what_is_torn_is_no_cluster(torn: None, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    asked: list[str] = []
    monkeypatch.setattr(connecting.Connection, "_init", lambda self, address: asked.append(address))
    Cluster().close()
    assert asked == ["local"], "whoever asks for none in particular gets a new one"
    assert cli.main([os.devnull, "--ray=auto"]) == 3
    assert capsys.readouterr().err.count("no Ray cluster answers on this machine") == 1 and len(asked) == 1


def test_a_new_one_begins_beside_what_is_torn(left: str) -> None:
    left_file().write_bytes(TORN["no text"])
    with Cluster():
        import ray

        assert ray.is_initialized()


def test_auto_is_the_cluster_that_is_named_in_the_environment(left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To Ray it is; and that one may be dead as well."""
    named = f"127.0.0.1:{clusters.free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", named)
    assert connecting._meant("auto") == named
    with pytest.raises(ClusterError, match="no Ray cluster answers"):
        Cluster("auto")
    monkeypatch.setenv("RAY_ADDRESS", "local")  # which is no address
    assert connecting._meant("auto") == "local"


def test_several_clusters_are_no_warning_of_ray_s(left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import services

    warned: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", warned.append)
    monkeypatch.setattr(services, "_cached_find_gcs_addresses", _two)
    logging.getLogger("ray").setLevel(logging.WARNING)  # as it is before anything connects
    services.logger.addHandler(handler)
    try:
        services.get_ray_address_from_environment("auto", None)
        assert warned, "Ray would warn"
        warned.clear()
        assert connecting._meant("auto") == left, "the latest"
    finally:
        services.logger.removeHandler(handler)
    assert not warned


def _two() -> set[str]:
    return {"127.0.0.1:1", "127.0.0.1:2"}


_two.cache_clear = lambda: None  # type: ignore[attr-defined]


def test_another_ray_that_does_not_tell_looks_for_itself(left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import services

    monkeypatch.delattr(services, "get_ray_address_from_environment")
    assert connecting._meant("auto") == "auto"
