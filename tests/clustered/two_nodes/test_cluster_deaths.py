"""What dies on a cluster, and what gives nothing: each photo has its record once all the same, or the run ends."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from photolabel import batch, remote
from photolabel.classifier import Classifier, Prediction
from photolabel.cluster import Cluster, flow, team
from photolabel.errors import ClusterError
from photolabel.sources import Item

import clusters
from cluster_runs import locally, plant, records, remotely
from clusters import DECODING, NAMING
from crews import eventually
from pictures import PNG

pytestmark = [clusters.LINUX, pytest.mark.filterwarnings("ignore")]  # what Ray warns of is Ray's


def test_a_photo_that_kills_its_decoder_costs_one_error(cluster: Any, classifier: Classifier, tmp_path: Path) -> None:
    items = plant(tmp_path, 20)
    for number, name in ((4, "segv-x.png"), (17, "exit-x.png")):
        (tmp_path / name).write_bytes(PNG)
        items.insert(number, Item(photo=name, path=str(tmp_path / name)))
    found = remotely(items, classifier)
    codes = {each.photo: each.error.code for each in found if each.error is not None}
    assert codes["segv-x.png"] == codes["exit-x.png"] == "decoder-crashed"
    good = [each for each in found if each.photo and "-" not in each.photo]
    assert records(good) == records(locally(plant(tmp_path, 20), classifier))


def test_a_photo_that_takes_too_long_costs_one_error(cluster: Any, classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "sleep-x.png").write_bytes(PNG)
    items = [*plant(tmp_path, 3), Item(photo="slow", path=str(tmp_path / "sleep-x.png"))]
    with Cluster(seconds=2) as there:
        found = list(batch.predictions(items, classifier, there, top=1))
    assert found[-1].error is not None and found[-1].error.code == "photo-too-slow"


def murdered(
    items: list[Item], classifier: Classifier, victims: tuple[bytes, ...], kills: int, seed: int
) -> tuple[list[Prediction], int]:
    """The Predictions of a run of whose processes so many were killed, and how often something was lost by it."""
    rng, done, dead, felt = random.Random(seed), threading.Event(), [0], [0]
    lost, died = flow.Flow._count, team.Team._died

    def count(self: Any, *arguments: Any) -> None:
        felt[0] += 1
        lost(self, *arguments)

    def see(self: Any, *arguments: Any) -> None:
        felt[0] += 1
        died(self, *arguments)

    def murder() -> None:
        while (dead[0] < kills or not felt[0]) and not done.wait(rng.uniform(0.05, 0.6)):
            if there := clusters.processes(*victims):
                clusters.kill(rng.choice(there))
                dead[0] += 1

    def slowly() -> Iterator[Item]:
        for number, item in enumerate(items):
            # As long as nobody has felt it, there is more to do.
            if number % 32 == 0 and (dead[0] < kills or not felt[0]):
                time.sleep(0.2)
            yield item

    thread = threading.Thread(target=murder)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(flow.Flow, "_count", count)
            patch.setattr(team.Team, "_died", see)
            return remotely(slowly(), classifier), felt[0]
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("victims", [(DECODING,), (NAMING, b"ray::Namer")], ids=["decoding", "naming"])
def test_nothing_is_lost_or_doubled_when_workers_are_killed(
    cluster: Any, classifier: Classifier, tmp_path: Path, victims: tuple[bytes, ...]
) -> None:
    items = plant(tmp_path, 400)
    found, lost = murdered(items, classifier, victims, 3, seed=len(victims))
    assert lost
    assert records(found) == records(locally(items, classifier))


def test_nothing_is_lost_or_doubled_when_a_node_is(cluster: Any, classifier: Classifier, tmp_path: Path) -> None:
    items = plant(tmp_path, 300)
    node = clusters.add(cluster)
    there = 0

    def coming() -> Iterator[Item]:
        for number, item in enumerate(items):
            if number == 100:  # while some are under way there
                assert eventually(lambda: len(clusters.processes(NAMING, b"ray::Namer")) > 2, 60)
            if number == 150:
                cluster.remove_node(node, allow_graceful=False)
            yield item

    with Cluster() as two, closing(batch.predictions(coming(), classifier, two, top=3)) as stream:
        found = []
        for each in stream:
            found.append(each)
            there = max(there, len(clusters.processes(NAMING, b"ray::Namer")))
    assert records(found) == records(locally(items, classifier))
    assert there >= 2, "a node that came had a network"


def test_photos_that_were_prepared_on_a_lost_node_are_prepared_again(
    cluster: Any, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = plant(tmp_path, 700)
    node = clusters.add(cluster)
    real, gone, lost = flow.Flow._hand_out, [False], [0]

    def hand_out(self: Any) -> None:
        if not gone[0] and any(chunk.node == node.node_id for chunk in self._decoded):
            cluster.remove_node(node, allow_graceful=False)
            gone[0] = True
        if gone[0] or not self._decoding:  # the others may have been quicker with all that there was room for
            real(self)

    def count(self: Any, chunk: Any, error: Exception) -> None:
        lost[0] += 1
        counted(self, chunk, error)

    counted = flow.Flow._count
    monkeypatch.setattr(flow.Flow, "_hand_out", hand_out)
    monkeypatch.setattr(flow.Flow, "_count", count)
    monkeypatch.setattr(flow, "_PHOTOS", 64)  # so large that they lie where they were made, and not with the driver
    assert records(remotely(items, classifier)) == records(locally(items, classifier))
    assert lost[0]


def test_the_same_photos_lost_again_and_again_end_the_run(
    cluster: Any, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "_TRIES", 2)
    monkeypatch.setattr(flow.nodes, "decode", _die)
    with pytest.raises(ClusterError, match=r"lost the same 3 photos 2 times \(00000.png to 00002.png\)"):
        remotely(plant(tmp_path, 3), classifier)


def _die(*_: object) -> None:
    os._exit(1)


def test_a_store_that_gives_nothing_to_a_machine_ends_the_run_and_says_why(
    cluster: Any, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "_TRIES", 2)
    monkeypatch.setattr(flow.nodes, "decode", _without_credentials(flow.nodes.decode))
    pytest.importorskip("s3fs", reason="the extra remote is not installed")
    with pytest.raises(ClusterError, match=r"last time so: s3://bucket/a\.png: There are no credentials"):
        remotely([Item(photo="s3://bucket/a.png", url="s3://bucket/a.png")], classifier)


def _without_credentials(real: Callable[..., Any]) -> Callable[..., Any]:
    def decode(*arguments: Any) -> Any:

        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE="/nowhere", HOME="/nowhere")
        os.environ.update(AWS_SHARED_CREDENTIALS_FILE="/nowhere", AWS_ENDPOINT_URL="http://127.0.0.1:1")
        remote._stores.clear()
        return real(*arguments)

    return decode
