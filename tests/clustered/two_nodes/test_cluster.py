"""Photos named on a cluster: the same records as here, each once, or an error that says what does not fit."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import photolabel
from photolabel import batch
from photolabel.batch import Timing, classify_folder
from photolabel.classifier import Classifier
from photolabel.cluster import Cluster, flow, listing, team
from photolabel.errors import ClusterError, PhotoNotFoundError, UsageError
from photolabel.naming import Naming
from photolabel.prepared import prepare
from photolabel.sources import Item

import clusters
from cluster_runs import locally, plant, records, remotely
from clusters import NAMING
from crews import eventually
from pictures import PNG

pytestmark = [clusters.LINUX, pytest.mark.filterwarnings("ignore")]  # what Ray warns of is Ray's


# -- the same as here


def test_the_records_are_those_of_a_local_run(cluster: Any, classifier: Classifier, tmp_path: Path) -> None:
    items = plant(tmp_path, 70)
    items.insert(5, Item(photo="passing", data=PNG))
    items.insert(40, Item(photo="gone", path=str(tmp_path / "gone.png")))
    items.insert(41, Item(photo="known", error=PhotoNotFoundError("It is gone.")))
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    items.append(Item(photo="nowhere.png", path=str(tmp_path / "nowhere.png")))
    timing = Timing()
    expected, found = locally(items, classifier), remotely(items, classifier, timing=timing)
    assert records(found) == records(expected)
    assert all(np.array_equal(a.probabilities, b.probabilities) for a, b in zip(found, expected, strict=True))
    assert timing.decoding > 0 and timing.network > 0


def test_from_python_where_it_runs_is_an_argument(cluster: Any, classifier: Classifier, tmp_path: Path) -> None:
    plant(tmp_path, 5)
    expected = records(classify_folder(tmp_path, classifier, workers=0))
    assert records(classify_folder(tmp_path, classifier, ray=True)) == expected
    with pytest.raises(UsageError, match="not both"):
        next(classify_folder(tmp_path, classifier, ray=True, workers=2))


def test_paths_are_relative_to_the_folder_of_the_driver(
    cluster: Any, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path, 2)
    monkeypatch.chdir(tmp_path)
    (found,) = remotely([Item(photo="00000.png", path="00000.png")], classifier)
    assert found.error is None and found.photo == "00000.png"


def test_no_photos_are_no_predictions(cluster: Any, classifier: Classifier) -> None:
    assert remotely([], classifier) == []


def test_what_listing_raises_comes_after_what_was_listed(cluster: Any, classifier: Classifier, tmp_path: Path) -> None:
    def coming() -> Iterator[Item]:
        yield from plant(tmp_path, 3)
        raise UsageError("the list is broken.")

    with Cluster() as there, closing(batch.predictions(coming(), classifier, there, top=1)) as stream:
        found = [next(stream) for _ in range(3)]
        with pytest.raises(UsageError, match="the list is broken"):
            next(stream)
    assert [each.photo for each in found] == ["00000.png", "00001.png", "00002.png"]


def test_a_photo_is_told_of_before_the_next_is_listed(cluster: Any, classifier: Classifier, tmp_path: Path) -> None:
    """Whoever lists slowly, as a program of one's own may, has not to wait for the next photo."""
    items = plant(tmp_path, 3)
    told = threading.Semaphore(1)

    def slowly() -> Iterator[Item]:
        for item in items:
            assert told.acquire(timeout=60), "the one before it is told of"
            yield item

    with Cluster() as there, closing(batch.predictions(slowly(), classifier, there, top=3)) as stream:
        found = []
        for each in stream:
            found.append(each)
            told.release()
    assert records(found) == records(locally(items, classifier))


def test_listing_is_not_far_ahead(cluster: Any, classifier: Classifier, tmp_path: Path) -> None:
    """The driver's memory does not grow with the photos: a listing without end is asked for what is needed."""
    (photo,) = plant(tmp_path, 1)
    listed = [0]

    def coming() -> Iterator[Item]:
        while True:
            listed[0] += 1
            yield Item(photo=f"{listed[0]}", path=photo.path)

    with Cluster() as there, closing(batch.predictions(coming(), classifier, there, top=1)) as stream:
        for _ in range(100):
            next(stream)
        time.sleep(1)
        assert listed[0] < 100 + 32 * (listing.WAITING * 2 + 20)


def test_wrong_arguments_are_said_at_once(cluster: Any, classifier: Classifier) -> None:
    with Cluster() as there, pytest.raises(UsageError, match="top="):
        next(batch.predictions([], classifier, there, top=0))
    with pytest.raises(UsageError, match="seconds"):
        Cluster(seconds=0)


def test_photos_that_are_told_of_are_not_held(cluster: Any, classifier: Classifier, tmp_path: Path) -> None:
    """Those of a compressed archive come with their bytes, and wait where one before them takes long."""
    (tmp_path / "sleep-x.png").write_bytes(PNG)
    slow = Item(photo="slow", path=str(tmp_path / "sleep-x.png"))
    items = [slow, *(Item(photo=f"{number}", data=PNG) for number in range(400))]
    held = [0]
    real = flow.Flow._wait

    def wait(self: Any) -> None:
        real(self)
        held[0] = max(held[0], len(self._done))
        assert not [item for chunk in self._done.values() for item in chunk.items]

    with pytest.MonkeyPatch.context() as patch, Cluster(seconds=6) as there:
        patch.setattr(flow, "_PHOTOS", 20)
        patch.setattr(flow.Flow, "_wait", wait)
        found = list(batch.predictions(items, classifier, there, top=1))
    assert held[0] > 1, "some waited"
    assert [each.photo for each in found] == [item.photo for item in items]


def test_whoever_stops_leaves_nothing_at_work(
    cluster: Any, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network, and no photo is begun that was handed out and waits for a processor."""
    import ray

    handed: list[Any] = []
    real = flow.Flow._cancel

    def cancel(self: flow.Flow) -> None:
        handed.extend(self._decoding)
        real(self)

    def done(reference: Any) -> bool:
        try:
            ray.get(reference, timeout=60)
        except ray.exceptions.TaskCancelledError:
            return False
        return True

    monkeypatch.setattr(flow, "_PHOTOS", 1)  # a task each
    monkeypatch.setattr(flow, "_AHEAD", 6)  # so that many wait, also where the network takes long to begin
    monkeypatch.setattr(flow.Flow, "_cancel", cancel)
    items = plant(tmp_path, 1)
    for number in range(12):
        path = tmp_path / f"sleep-{number}.png"
        path.write_bytes(PNG)
        items.append(Item(photo=path.name, path=str(path)))
    with Cluster(seconds=4) as there:
        stream = batch.predictions(items, classifier, there, top=1)
        next(stream)
        stream.close()
    assert eventually(lambda: not clusters.processes(NAMING, b"ray::Namer"))
    assert len(handed) > 2 and sum(map(done, handed)) <= 2, "one a node was at work"


def test_how_far_it_is_is_among_ray_s_metrics(
    cluster: Any, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.util import metrics

    counted: list[tuple[str, float]] = []

    class Counter:
        def __init__(self, name: str, **_: object) -> None:
            self.name = name

        def inc(self, value: float) -> None:
            counted.append((self.name, value))

    monkeypatch.setattr(metrics, "Counter", Counter)
    naming = Naming(classifier=classifier)
    namer = flow.nodes.Namer()
    assert namer.load(pickle.dumps(naming), naming.identity, photolabel.__version__) == photolabel.__version__
    namer.name([prepare(item.path, *naming.recipes) for item in plant(tmp_path, 5)])
    namer.name([])
    assert counted == [("photolabel_photos", 5)]


# -- what does not fit


@pytest.mark.parametrize("what", ["network", "calibration"])
def test_another_model_on_the_machines_is_refused(
    cluster: Any, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    real = Naming(classifier=classifier).identity
    monkeypatch.setattr(Naming, "identity", property(lambda self: {**real, what: "another"}))
    with pytest.raises(UsageError, match="not the same on all machines"):
        remotely(plant(tmp_path, 3), classifier)


def test_a_model_that_the_machines_have_not_is_said(cluster: Any, tiny: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    own.write_bytes(tiny.read_bytes())
    with photolabel.load(own, threads=1) as classifier:
        own.unlink()
        with pytest.raises(photolabel.PhotolabelError, match="own.onnx"):
            remotely(plant(tmp_path, 3), classifier)


def test_another_photolabel_on_the_machines_is_refused(
    cluster: Any, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(team, "__version__", "99.0")
    monkeypatch.setattr(flow.pickle, "dumps", lambda work: b"what the other version does not understand")
    with pytest.raises(ClusterError, match=r"have photolabel .*, this one 99\.0"):
        remotely(plant(tmp_path, 3), classifier)


def test_photos_that_only_the_driver_sees_are_no_errors_of_theirs(
    cluster: Any, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = str(tmp_path / "here.png")
    real = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path == here or real(path))
    with pytest.raises(ClusterError, match="not on every machine"):
        remotely([Item(photo="here.png", path=here)], classifier)
