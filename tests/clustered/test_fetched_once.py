"""A known model is fetched once a machine, however many networks begin there at once."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import photolabel
from photolabel import batch, models
from photolabel.cluster import Cluster, team
from photolabel.sources import Item

import clusters
import oracle
import servers
from crews import eventually
from pictures import PNG
from published import NAME, weights_file
from servers import Handler, Server, honest

pytestmark = [clusters.LINUX, pytest.mark.filterwarnings("ignore")]  # what Ray warns of is Ray's

PUBLISHED = "PHOTOLABEL_TEST_PUBLISHED"  # in the environment of the cluster's processes: the table of models
NODES, NETWORKS = 2, 2


def publish() -> None:
    """Have this process know the model that is published here."""
    table = pickle.loads(Path(os.environ[PUBLISHED]).read_bytes())
    models.known = lambda: table


def networks() -> set[int]:
    """The processes of networks, those that are being loaded among them."""
    return {*clusters.processes(b"ray::Namer", clusters.NAMING)}


def once_loaded(items: list[Item]) -> Iterator[Item]:
    """The first of them, and the others when all networks are there."""
    loaded, real = [0], team.Team.loaded

    def see(self: team.Team, reference: Any) -> None:
        real(self, reference)
        loaded[0] += 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(team.Team, "loaded", see)
        yield items[0]
        assert eventually(lambda: loaded[0] == NODES * NETWORKS, 90)
    yield from items[1:]


class Slowly:
    """A server's answer that is not whole before all networks wait for it, and a while longer."""

    def __init__(self) -> None:
        self.waited: set[int] = set()

    def __call__(self, handler: Handler, body: bytes) -> None:
        assert eventually(lambda: len(networks()) >= NODES * NETWORKS, 60)
        time.sleep(3)
        self.waited |= networks()
        honest(handler, body)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(
        weights_file(tmp_path / NAME).read_bytes(), honest, Slowly()
    ) as running:  # the driver's own comes first
        yield running


def test_networks_that_begin_together_fetch_it_once_a_machine(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = servers.asset(server.url, body=server.body, name=NAME, algorithm="md5")
    table = {"tiny": replace(oracle.tiny_model(), weights=asset)}
    (tmp_path / "table").write_bytes(pickle.dumps(table))
    monkeypatch.setenv("PHOTOLABEL_OFFLINE", "0")
    monkeypatch.setattr(models, "known", lambda: table)
    (tmp_path / "a.png").write_bytes(PNG)
    items = [Item(photo=f"{number}", path=str(tmp_path / "a.png")) for number in range(10)]
    caches = [tmp_path / f"cache-{number}" for number in range(NODES)]
    with photolabel.load("tiny", threads=1) as classifier:
        expected = [each.record() for each in batch.predictions(items, classifier, batch.Here(), top=3)]
        assert len(server.requests) == 1, "the driver's own"
        options: Any = {"settings": {PUBLISHED: str(tmp_path / "table")}, "hook": "test_fetched_once.publish"}
        with clusters.running(tmp_path / "none", nodes=1, processors=0, **options) as cluster:
            for cache in caches:
                settings = {"PHOTOLABEL_CACHE": str(cache), "PHOTOLABEL_OFFLINE": "0"}
                clusters.add(cluster, NETWORKS, settings=settings)
            for _ in range(2):
                with Cluster() as there:
                    found = [each.record() for each in batch.predictions(once_loaded(items), classifier, there, top=3)]
                assert found == expected
                assert len(server.requests) == 1 + NODES and set(server.ranges) == {None}
    slowly = server.script[1]
    assert isinstance(slowly, Slowly) and len(slowly.waited) == NODES * NETWORKS, "all of them were there"
    for cache in caches:
        assert len([*cache.glob("tiny-*.onnx")]) == 1
