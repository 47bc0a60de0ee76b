"""An object store that is full, with a disk that is full as well: photos are done again until there is room."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import photolabel
from photolabel import batch, graph
from photolabel.classifier import Classifier
from photolabel.cluster import Cluster, flow
from photolabel.errors import ClusterError
from photolabel.sources import Item

import clusters
import oracle

pytestmark = [clusters.LINUX, pytest.mark.filterwarnings("ignore")]  # what Ray warns of is Ray's

SIDE = 512  # of the network's input: a chunk of photos has some 16 MB
STORE = 75 << 20  # bytes: Ray takes no less
# What does not fit is not written to the disk: as if nothing of that were free.
NO_ROOM = {"automatic_object_spilling_enabled": False, "local_fs_capacity_threshold": 0.0001}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    head = {"object_store_memory": STORE, "_system_config": NO_ROOM}
    with clusters.running(tmp_path_factory.mktemp("cache"), nodes=1, processors=2, head=head) as running:
        yield running


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classifier]:
    """A small network that looks at large inputs."""
    spec = replace(oracle.TINY, shape=(SIDE, SIDE, 3))
    recipe = replace(oracle.TINY_SQUASH, size=SIDE)
    model = replace(oracle.tiny_model(), spec=spec, recipes=(recipe,))
    path = tmp_path_factory.mktemp("large") / "large.onnx"
    path.write_bytes(b"".join(graph.build(spec, oracle.he_normal(spec), oracle.CAFFE, describe=model.describe())))
    with photolabel.load(path, threads=1) as loaded:
        assert loaded.recipes[0].most_bytes * flow._PHOTOS > flow._BYTES
        yield loaded


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    rng = np.random.default_rng(9)
    found = []
    for number in range(300):
        path = tmp_path / f"{number:05}.png"
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path)
        found.append(Item(photo=path.name, path=str(path)))
    return found


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why chunks were lost."""
    found: list[str] = []
    real = flow.Flow._count

    def count(self: flow.Flow, chunk: Any, error: Exception) -> None:
        found.append(type(getattr(error, "cause", error)).__name__)
        real(self, chunk, error)

    monkeypatch.setattr(flow.Flow, "_count", count)
    return found


def named(items: list[Item], classifier: Classifier, where: Any) -> list[dict[str, Any]]:
    return [each.record() for each in batch.predictions(items, classifier, where, top=3)]


def test_nothing_is_lost_or_doubled(cluster: Any, classifier: Classifier, items: list[Item], lost: list[str]) -> None:
    import ray

    others = ray.put(np.zeros(STORE // 2, np.uint8))  # the store is not ours alone
    with Cluster() as there:
        found = named(items, classifier, there)
    del others
    assert "OutOfDiskError" in lost, lost
    assert found == named(items, classifier, batch.Here())


def test_a_store_that_others_keep_full_ends_the_run(
    cluster: Any, classifier: Classifier, items: list[Item], lost: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(flow, "_TRIES", 3)
    others = ray.put(np.zeros(STORE - (8 << 20), np.uint8))
    with Cluster() as there, pytest.raises(ClusterError, match=r"lost the same .* OutOfDiskError. Has it enough"):
        named(items, classifier, there)
    del others
    assert {*lost} == {"OutOfDiskError"}
    with Cluster() as there:
        assert len(named(items[:40], classifier, there)) == 40, "and then there is room again"
