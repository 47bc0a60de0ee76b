"""Photos named on a cluster: the same records, each once, whatever dies."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import photolabel
from photolabel import batch, cli, remote
from photolabel.batch import Timing, classify_folder
from photolabel.classifier import Classifier, Prediction
from photolabel.cluster import Cluster, flow, listing, team
from photolabel.errors import ClusterError, PhotoNotFoundError, UsageError
from photolabel.naming import Naming
from photolabel.prepared import prepare
from photolabel.sources import Item
from photolabel.teaching import backbone
from photolabel.teaching.elsewhere import Elsewhere

import clusters
import stores
from clusters import DECODING, NAMING
from crews import eventually
from pictures import PNG
from training import computed, plant_varied

pytestmark = [clusters.LINUX, pytest.mark.filterwarnings("ignore")]  # what Ray warns of is Ray's


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with clusters.running(tmp_path_factory.mktemp("cache")) as running:
        yield running


@pytest.fixture(scope="module")
def classifier(tiny: Path) -> Iterator[Classifier]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTOLABEL_CACHE", str(tiny.parent / "cache"))
        with photolabel.load(tiny, threads=1) as loaded:
            yield loaded


def plant(folder: Path, count: int) -> list[Item]:
    """So many photos, no two of which are the same, and a few that are none."""
    from PIL import Image

    rng = np.random.default_rng(count)
    items = []
    for number in range(count):
        path = folder / f"{number:05}.png"
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path)
        if number % 10 == 3:
            path.write_bytes(path.read_bytes()[:60])
        items.append(Item(photo=path.name, path=str(path)))
    return items


def records(predictions: Any) -> list[dict[str, Any]]:
    return [prediction.record() for prediction in predictions]


def locally(items: list[Item], classifier: Classifier) -> list[Prediction]:
    return list(batch.predictions(items, classifier, batch.Here(), top=3))


def remotely(items: Any, classifier: Classifier, **options: Any) -> list[Prediction]:
    with Cluster() as there:
        return list(batch.predictions(items, classifier, there, top=3, **options))


# -- the same as here


def test_the_records_are_those_of_a_local_run(cluster: Any, classifier: Classifier, tmp_path: Path) -> None:
    items = plant(tmp_path, 70)
    items.insert(5, Item(photo="passing", data=PNG))
    items.insert(40, Item(photo="gone", path=str(tmp_path / "gone.png")))
    items.insert(41, Item(photo="known", error=PhotoNotFoundError("It is gone.")))
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


# -- what dies


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
            if number in (100, 101, 102):
                time.sleep(1)
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


def test_whoever_stops_leaves_nothing_at_work(cluster: Any, classifier: Classifier, tmp_path: Path) -> None:
    items = plant(tmp_path, 100)
    with Cluster() as there:
        stream = batch.predictions(items, classifier, there, top=1)
        next(stream)
        stream.close()
    assert eventually(lambda: not clusters.processes(NAMING, b"ray::Namer"))


def test_the_same_photos_lost_again_and_again_end_the_run(
    cluster: Any, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "_TRIES", 2)
    monkeypatch.setattr(flow.nodes, "decode", _die)
    with pytest.raises(ClusterError, match=r"lost the same 3 photos 2 times \(00000.png to 00002.png\)"):
        remotely(plant(tmp_path, 3), classifier)


def _die(*_: object) -> None:
    os._exit(1)


def fail_soon(patch: pytest.MonkeyPatch) -> None:
    """Have the cluster fail when something is told, and much is not."""
    import ray

    real = flow.Flow._take

    def fail(self: Any, listing: Any) -> None:
        if self._next:
            raise ray.exceptions.RaySystemError("gone")
        real(self, listing)

    patch.setattr(flow, "_PHOTOS", 2)
    patch.setattr(flow.Flow, "_take", fail)


def test_a_cluster_that_fails_says_how_to_go_on(
    cluster: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    plant(Path("photos"), 100)
    with monkeypatch.context() as patch:
        fail_soon(patch)
        what = ["photos", "--model", str(tiny), "--threads", "1", "--output", "l.jsonl", "--ray"]
        assert cli.main(what) == 3
    err = capsys.readouterr().err
    assert "the Ray cluster has failed (RaySystemError)" in err and "--resume --output=l.jsonl --ray" in err
    assert cli.main(["--resume", "--output", "l.jsonl", "--ray"]) == 1
    assert len(Path("l.jsonl").read_text().splitlines()) == 100


def test_photos_that_are_told_of_are_not_held(cluster: Any, classifier: Classifier, tmp_path: Path) -> None:
    """Those of a compressed archive come with their bytes, and wait where one before them takes long."""
    (tmp_path / "sleep-x.png").write_bytes(PNG)
    slow = Item(photo="slow", path=str(tmp_path / "sleep-x.png"))
    items = [slow, *(Item(photo=f"{number}", data=PNG) for number in range(400))]
    held = [0]
    real = flow.Flow._wait

    def wait(self: Any, listing: Any) -> None:
        real(self, listing)
        held[0] = max(held[0], len(self._done))
        assert not [item for chunk in self._done.values() for item in chunk.items]

    with pytest.MonkeyPatch.context() as patch, Cluster(seconds=6) as there:
        patch.setattr(flow, "_PHOTOS", 20)
        patch.setattr(flow.Flow, "_wait", wait)
        found = list(batch.predictions(items, classifier, there, top=1))
    assert held[0] > 1, "some waited"
    assert [each.photo for each in found] == [item.photo for item in items]


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
        from photolabel import remote

        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE="/nowhere", HOME="/nowhere")
        os.environ.update(AWS_SHARED_CREDENTIALS_FILE="/nowhere", AWS_ENDPOINT_URL="http://127.0.0.1:1")
        remote._stores.clear()
        return real(*arguments)

    return decode


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
    real = os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda path: path == here or real(path))
    with pytest.raises(ClusterError, match="not on every machine"):
        remotely([Item(photo="here.png", path=here)], classifier)


# -- the command line


def photolabel_cli(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "photolabel", *arguments],
        env={**os.environ, "PYTHONPATH": str(clusters.SOURCE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_lost_driver_is_gone_on_from(cluster: Any, tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "photos").mkdir()
    plant(tmp_path / "photos", 200)
    out = tmp_path / "out"
    what = ["photos", "--model", str(tiny), "--threads", "1", "--part-photos", "10", f"--ray={cluster.address}"]
    first = photolabel_cli(*what, "--output", "out", cwd=tmp_path)
    assert eventually(lambda: len([*out.glob("part-*")]) >= 3, 120)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = {path: path.stat().st_ino for path in out.glob("part-*")}
    again = photolabel_cli("--resume", "--output", "out", f"--ray={cluster.address}", cwd=tmp_path)
    _, err = again.communicate(timeout=120)
    assert again.returncode == 1, err
    assert before.items() <= {path: path.stat().st_ino for path in out.glob("part-*")}.items()
    local = photolabel_cli(*what[:-1], "--output", "local/", cwd=tmp_path)
    assert local.wait(120) == 1
    expected = {path.name: path.read_bytes() for path in (tmp_path / "local").iterdir()}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == expected


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_it_says_how_to_go_on(
    cluster: Any, tiny: Path, tmp_path: Path, stop: signal.Signals, code: int
) -> None:
    (tmp_path / "photos").mkdir()
    plant(tmp_path / "photos", 300)
    run = photolabel_cli(
        *["photos"] * 60, "--model", str(tiny), "--threads", "1", "--output", "l.jsonl", f"--ray={cluster.address}",
        cwd=tmp_path,
    )  # fmt: skip
    journal = tmp_path / "l.jsonl.partial"
    assert eventually(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 20, 120)
    run.send_signal(stop)
    _, err = run.communicate(timeout=30)
    assert run.returncode == code
    assert f"--resume --output=l.jsonl --ray={cluster.address}" in err


# -- elsewhere


def test_photos_of_an_object_store_and_records_into_it(
    cluster: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyarrow = pytest.importorskip("pyarrow.parquet")
    with pytest.MonkeyPatch.context() as patch, stores.s3(patch) as endpoint:
        # The processes of Ray's began before there was a store: they are told of it.
        monkeypatch.setattr(flow.nodes, "decode", _told_of(endpoint, flow.nodes.decode))
        remote._store("s3://x").mkdir("bucket")
        for number in range(7):
            remote.write(f"s3://bucket/in/{number}.png", PNG if number != 3 else b"none")
        what = ["s3://bucket/in/", "--model", str(tiny), "--threads", "1"]
        assert cli.main([*what, "--output", "s3://bucket/out/", "--part-photos", "3", "--ray"]) == 1
        assert cli.main([*what, "--output", str(tmp_path / "here.parquet"), "--workers", "0"]) == 1
        urls = [url for url in remote.beneath("s3://bucket/out/") if url.endswith(".parquet")]
        rows = [r for url in urls for r in pyarrow.read_table(io.BytesIO(remote.read(url, 1 << 30))).to_pylist()]
    assert [row.pop("sequence") for row in rows] == [*range(7)]
    assert rows == pyarrow.read_table(tmp_path / "here.parquet").to_pylist()


def _told_of(endpoint: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def decode(*arguments: Any) -> Any:
        os.environ.update(stores.environment(endpoint))
        return real(*arguments)

    return decode


def test_an_evaluation_takes_a_cluster(cluster: Any, tiny: Path, tmp_path: Path, capsys: Any) -> None:
    for number in range(3):
        (tmp_path / "photos" / f"class_{number}").mkdir(parents=True)
        (tmp_path / "photos" / f"class_{number}" / "a.png").write_bytes(PNG)
    what = ["evaluate", str(tmp_path / "photos"), "--model", str(tiny), "--threads", "1", "--json"]
    assert cli.main([*what, "--ray"]) == 0
    there = capsys.readouterr().out
    assert cli.main([*what, "--workers", "0"]) == 0
    assert json.loads(there) == json.loads(capsys.readouterr().out)


# -- teaching


def taught(*arguments: str, code: int) -> bytes:
    """The file that is taught, whose name is in it."""
    assert cli.main(["teach", "-o", "taught.onnx", "--threads", "1", *arguments]) == code
    return Path("taught.onnx").read_bytes()


@pytest.fixture
def classes(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Photos of three classes, one of which cannot be read and two of which are the same, in the current folder."""
    pytest.importorskip("sklearn", reason="the extra teach is not installed")
    monkeypatch.chdir(tmp_path)
    plant_varied(Path("set"), 8)
    (Path("set") / "grass" / "none.png").write_bytes(PNG[:40])
    (Path("set") / "grass" / "twice.png").write_bytes((Path("set") / "grass" / "001.png").read_bytes())
    return Path("set")


def test_features_are_those_of_this_machine_to_the_bit(
    cluster: Any, classes: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for where, cache in (("here", "one"), ("there", "two"), ("there", "two")):
        monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path / cache))
        made = backbone.find(tiny, views="mirror", threads=1)
        with ExitStack() as stack:
            work: Any = batch.Here()
            if where == "there":
                find = partial(backbone.find, tiny, views="mirror", threads=1)
                work = Elsewhere(cluster=stack.enter_context(Cluster()), find=find)
            found.append(computed(classes, made, decoders=work))
    here, there, again = found
    assert here.numbers.shape == (25, 2, 16) and len(here.failures) == 1
    for each in (there, again):
        assert each.numbers.tobytes() == here.numbers.tobytes()
        assert each.fingerprints.tobytes() == here.fingerprints.tobytes()
        assert (each.photos, each.names, each.digests) == (here.photos, here.names, here.digests)
        assert [failure.photo for failure in each.failures] == [failure.photo for failure in here.failures]
        assert [failure.error.code for failure in each.failures] == [failure.error.code for failure in here.failures]
    assert there.from_cache == 0 and again.from_cache == 25


def test_what_is_taught_on_a_cluster_is_the_same_file(
    cluster: Any, classes: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path / "one"))
    here = taught("set", "--model", str(tiny), "--workers", "0", code=1)
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path / "two"))
    assert taught("set", "--model", str(tiny), "--ray", code=1) == here
    Path("first.onnx").write_bytes(here)
    plant_varied(Path("more"), 3, seed=1)
    added = taught("more", "--add", "first.onnx", "--ray", code=0)
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path / "one"))
    assert taught("more", "--add", "first.onnx", "--workers", "0", code=0) == added


def test_a_cluster_that_fails_while_it_teaches_says_what_is_kept(
    cluster: Any, classes: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with monkeypatch.context() as patch:
        fail_soon(patch)
        assert cli.main(["teach", "set", "-o", "x.onnx", "--model", str(tiny), "--threads", "1", "--ray"]) == 3
    err = capsys.readouterr().err
    assert "the Ray cluster has failed" in err and "photos is kept: the same command goes on from there" in err
    assert not Path("x.onnx").exists()
    assert cli.main(["teach", "set", "-o", "x.onnx", "--model", str(tiny), "--threads", "1", "--ray"]) == 1


def test_another_backbone_on_the_machines_is_refused(cluster: Any, classes: Path, tiny: Path) -> None:
    made = backbone.find(tiny, threads=1)
    with Cluster() as there, pytest.raises(UsageError, match="not the same on all machines"):
        find = partial(backbone.find, tiny, threads=1, views="mirror")
        computed(classes, made, decoders=Elsewhere(cluster=there, find=find))


def test_what_teaching_cannot_have_of_a_cluster_is_said(classes: Path, tiny: Path, capsys: Any) -> None:
    what = ["teach", "set", "-o", "x.onnx", "--model", str(tiny), "--ray"]
    assert cli.main([*what, "--fine-tune"]) == 2
    assert "--ray" in capsys.readouterr().err
    assert cli.main([*what, "--workers", "1"]) == 2
    assert "not both" in capsys.readouterr().err
