"""From a published model to its one file on this machine, on a tiny model that a server of our own publishes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import photolabel
from photolabel import artefacts, models, progress, records
from photolabel.errors import (
    CacheUnwritableError,
    HashMismatchError,
    InvalidWeightsError,
    MissingWeightsError,
    StoreError,
    UnknownModelError,
    UsageError,
    WeightsMismatchError,
)
from photolabel.models import Model
from photolabel.store import Store

import oracle
import servers
from oracle import TINY, he_normal, tiny_model
from servers import Server

NAME = "tiny_weights_tf_dim_ordering_tf_kernels.h5"
PHOTO = np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)


def weights_file(path: Path, *, seed: int = 0, without: str = "") -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([name.encode() for name in TINY.learned])
        for name, (kernel, bias) in he_normal(TINY, seed).items():
            if name == without:
                continue
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array([b"kernel", b"bias"])
            group["kernel"], group["bias"] = kernel, bias
    return path


@dataclass
class Published:
    model: Model
    server: Server
    body: bytes

    @property
    def requests(self) -> int:
        return len(self.server.requests)


def publish(server: Server) -> Published:
    asset = servers.asset(server.url, body=server.body, name=NAME, algorithm="md5")
    return Published(replace(tiny_model(), weights=asset), server, server.body)


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return weights_file(tmp_path_factory.mktemp("h5") / NAME).read_bytes()


@pytest.fixture
def published(body: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    monkeypatch.delenv("PHOTOLABEL_OFFLINE")
    with Server(body) as server:
        yield publish(server)


@pytest.fixture
def keras_copy() -> Path:
    folder = Path(os.environ["KERAS_HOME"]) / "models"
    folder.mkdir()
    return folder / NAME


def cached() -> list[str]:
    """The files in the cache, but for locks and records."""
    folder = Store().folder
    return sorted(
        path.name for path in folder.iterdir() if path.is_file() and not path.name.endswith((".lock", ".record.json"))
    )


def flip(path: Path) -> None:
    """Change a byte in the middle; size and mtime stay."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# -- fetched and made


def test_fetched_made_once_and_the_download_removed(published: Published) -> None:
    path = artefacts.locate(published.model)
    assert cached() == [path.name] and published.requests == 1
    assert path.name == f"tiny-{hashlib.md5(published.body).hexdigest()[:16]}.onnx"
    assert path.read_bytes() == oracle.tiny_onnx()
    assert models.read(path).labels == published.model.labels
    before = {each.name: each.stat().st_mtime_ns for each in Store().folder.iterdir()}
    assert artefacts.locate(published.model) == path
    assert {each.name: each.stat().st_mtime_ns for each in Store().folder.iterdir()} == before
    assert published.requests == 1


def test_it_answers(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "known", lambda: {"tiny": published.model})
    assert not artefacts.available(published.model)
    with photolabel.load("tiny") as classifier:
        assert classifier.model.path is not None
        found = classifier.classify(PHOTO, top=None).probabilities
    assert artefacts.available(published.model)
    with photolabel.load(artefacts.locate(published.model)) as classifier:
        np.testing.assert_array_equal(classifier.classify(PHOTO, top=None).probabilities, found)


def test_a_person_sees_what_happens(
    published: Published, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "watched", lambda: True)
    artefacts.locate(published.model)
    shown = capsys.readouterr()
    assert "downloading tiny" in shown.err and "preparing tiny (once)" in shown.err and shown.out == ""


@pytest.mark.parametrize("harm", ["deleted", "changed", "cut", "no record"])
def test_a_damaged_artefact_is_made_again(published: Published, harm: str) -> None:
    path = artefacts.locate(published.model)
    good = path.read_bytes()
    if harm == "deleted":
        path.unlink()
    elif harm == "changed":
        path.write_bytes(good[:-1] + b"x")
    elif harm == "cut":
        path.write_bytes(good[:-1])
    else:
        path.with_name(f"{path.name}.record.json").unlink()
    assert not artefacts.available(published.model)
    assert artefacts.locate(published.model) == path
    assert path.read_bytes() == good and published.requests == 2


def test_verify_finds_what_size_and_date_hide_and_the_next_use_heals(published: Published) -> None:
    path = artefacts.locate(published.model)
    assert artefacts.verify(published.model) == [(path, True)]
    flip(path)
    assert artefacts.verify(published.model) == [(path, False)]
    assert not path.exists() and artefacts.verify(published.model) == []
    assert artefacts.locate(published.model).read_bytes() == oracle.tiny_onnx()


def test_verify_believes_no_record(published: Published) -> None:
    """A failing disk changes bytes and nothing that stat tells."""
    path = artefacts.locate(published.model)
    record_path = path.with_name(f"{path.name}.record.json")
    record = records.read_record(record_path)
    assert record
    flip(path)
    records.write_record(record_path, records.Record.of(record.digest, path.stat()))
    assert Store().check(path.name)
    assert artefacts.verify(published.model) == [(path, False)]


def test_verify_finds_a_damaged_blob(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would load without complaint and name another class."""
    monkeypatch.setattr(models, "known", lambda: {"tiny": published.model})
    photolabel.load("tiny").close()
    (blob,) = Store().folder.glob("*.blob")
    assert sorted(sound for _, sound in artefacts.verify(published.model)) == [True, True]
    flip(blob)
    assert (blob, False) in artefacts.verify(published.model) and not blob.exists()
    assert cached() == [artefacts.locate(published.model).name]


def test_verify_looks_at_the_download_and_at_nothing_of_others(published: Published) -> None:
    cache = Store()
    cache.fetch(published.model.weights)  # type: ignore[arg-type]
    with cache.create("tinyother-123.onnx") as file:
        file.write(b"of another model")
    assert artefacts.verify(published.model) == [(cache.path(NAME), True)]
    flip(cache.path(NAME))
    assert artefacts.verify(published.model) == [(cache.path(NAME), False)]
    assert cached() == ["tinyother-123.onnx"]


@pytest.mark.parametrize("name", ["*", "/etc", "../x", "", "[", "**/"])
def test_a_strangers_name_is_no_pattern(published: Published, name: str) -> None:
    cache = Store()
    with cache.create("tiny-123.onnx") as file:
        file.write(b"of another model")
    flip(cache.path("tiny-123.onnx"))
    assert artefacts.verify(replace(tiny_model(), name=name)) == []


def test_verify_of_the_bundled_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundled = models.known()[models.BUNDLED]
    assert artefacts.verify(bundled) == [(bundled.path, True)]
    assert bundled.path
    copy = Path(shutil.copy(bundled.path, tmp_path))
    flip(copy)
    assert artefacts.verify(replace(bundled, path=copy)) == [(copy, False)]
    assert copy.exists(), "what pip installed is not ours to remove"


# -- where the weights lie already


def test_keras_own_copy_is_used_and_left_alone(published: Published, keras_copy: Path) -> None:
    keras_copy.write_bytes(published.body)
    assert artefacts.available(published.model)
    assert artefacts.locate(published.model).read_bytes() == oracle.tiny_onnx()
    assert published.requests == 0 and keras_copy.read_bytes() == published.body


def test_keras_copy_is_left_alone_even_where_it_is_the_cache(
    published: Published, keras_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras_copy.write_bytes(published.body)
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(keras_copy.parent))
    artefacts.locate(published.model)
    assert keras_copy.read_bytes() == published.body


@pytest.mark.parametrize("harm", ["flipped", "cut", "a folder", "a loop"])
def test_a_wrong_copy_of_keras_is_ignored(published: Published, keras_copy: Path, harm: str) -> None:
    if harm == "a folder":
        keras_copy.mkdir()
    elif harm == "a loop":
        keras_copy.symlink_to(keras_copy)
    else:
        keras_copy.write_bytes(published.body[: -1 if harm == "cut" else None])
        if harm == "flipped":
            flip(keras_copy)
    assert not artefacts.available(published.model)
    assert artefacts.locate(published.model).read_bytes() == oracle.tiny_onnx()
    assert published.requests == 1 and os.path.lexists(keras_copy)


def test_a_copy_of_another_size_is_not_hashed(
    published: Published, keras_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """553 MB take a second."""
    keras_copy.write_bytes(published.body + b"more")
    monkeypatch.setattr(Store, "known_digest", lambda *_: pytest.fail("hashed"))
    assert not artefacts.available(published.model)


def test_an_unreadable_copy_is_ignored(published: Published, keras_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_: object) -> str:
        raise StoreError("cannot be read")

    keras_copy.write_bytes(published.body)
    monkeypatch.setattr(Store, "known_digest", unreadable)
    assert not artefacts.available(published.model)


def test_keras_folder_is_in_the_home_folder(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KERAS_HOME")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert not artefacts.available(published.model)
    (tmp_path / ".keras" / "models").mkdir(parents=True)
    (tmp_path / ".keras" / "models" / NAME).write_bytes(published.body)
    assert artefacts.available(published.model)


def test_our_own_finished_download_is_used(published: Published) -> None:
    Store().fetch(published.model.weights)  # type: ignore[arg-type]
    assert artefacts.available(published.model)
    artefacts.locate(published.model)
    assert published.requests == 1 and NAME not in cached()


# -- weights of the user's own


def test_a_users_weights(tmp_path: Path, published: Published) -> None:
    file = weights_file(tmp_path / "mine.h5", seed=9)
    path = artefacts.locate(published.model, weights_file=file)
    assert published.requests == 0 and file.exists()
    described = models.read(path)
    assert hashlib.sha256(file.read_bytes()).hexdigest() in described.source and described.accuracy is None
    made = path.stat()
    assert artefacts.locate(published.model, weights_file=file).stat() == made
    assert artefacts.locate(published.model) != path, "the published ones are something else"
    weights_file(file, seed=10)
    other = artefacts.locate(published.model, weights_file=file)
    assert other not in (path, artefacts.locate(published.model)), "the same name with other weights"


@pytest.mark.parametrize(
    "name", ["th_dim_ordering_th_kernels.h5", "tf_dim_ordering_th_kernels.h5", "th_dim_ordering_tf_kernels.h5"]
)
def test_theanos_kernels_are_refused_by_name(tmp_path: Path, published: Published, name: str) -> None:
    file = weights_file(tmp_path / name)
    with pytest.raises(InvalidWeightsError, match="Theano's order. Expected .*tf_dim_ordering_tf_kernels"):
        artefacts.locate(published.model, weights_file=file)


@pytest.mark.parametrize("name", ["", "missing.h5", "x" * 5000])
def test_weights_that_are_no_file_are_missing(tmp_path: Path, published: Published, name: str) -> None:
    with pytest.raises(MissingWeightsError, match="no such weights file"):
        artefacts.locate(published.model, weights_file=tmp_path / name)


def test_an_onnx_file_takes_no_other_weights(tmp_path: Path, tiny: Path) -> None:
    model = models.resolve(tiny)
    assert artefacts.locate(model) == tiny and artefacts.available(model)
    with pytest.raises(UsageError, match="takes no other"):
        artefacts.locate(model, weights_file=weights_file(tmp_path / "mine.h5"))


def wrong(change: str, path: Path) -> Path:
    if change == "a layer less":
        return weights_file(path, without="fc1")
    weights_file(path)
    if change == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif change == "NaN":
        with h5py.File(path, "r+") as file:
            file["fc1"]["bias"][0] = np.nan
    return path


@pytest.mark.parametrize(
    ("change", "error"),
    [("a layer less", WeightsMismatchError), ("cut", InvalidWeightsError), ("NaN", InvalidWeightsError)],
)
def test_wrong_weights_leave_nothing_behind(
    tmp_path: Path, published: Published, change: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        artefacts.locate(published.model, weights_file=wrong(change, tmp_path / "mine.h5"))
    assert cached() == []
    assert not list(Store().folder.glob("*.record.json"))


# -- what fails


def test_offline_and_cold_names_the_remedy(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOLABEL_OFFLINE", "1")
    with pytest.raises(MissingWeightsError, match="PHOTOLABEL_OFFLINE.*run once without it.*--weights FILE"):
        artefacts.locate(published.model)
    assert published.requests == 0


def test_offline_and_warm_works(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    path = artefacts.locate(published.model)
    monkeypatch.setenv("PHOTOLABEL_OFFLINE", "1")
    assert artefacts.locate(published.model) == path


def test_wrong_bytes_from_the_server_are_never_used(published: Published) -> None:
    published.server.script = (servers.wrong_bytes,)
    with pytest.raises(HashMismatchError):
        artefacts.locate(published.model)
    assert cached() == []


def test_a_disk_that_reads_back_other_bytes_is_reported(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Store.check

    def failing(self: Store, name: str, *, deep: bool = False) -> bool:
        if deep:
            flip(self.path(name))
        return original(self, name, deep=deep)

    monkeypatch.setattr(Store, "check", failing)
    with pytest.raises(StoreError, match="read back, it is not what was written"):
        artefacts.locate(published.model)
    assert cached() == [NAME], "the download is kept: it was right"


def test_no_cache_to_write_to(published: Published, keras_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOLABEL_CACHE", os.devnull + "/nowhere")
    keras_copy.write_bytes(published.body)
    with pytest.raises(CacheUnwritableError, match="PHOTOLABEL_CACHE"):
        artefacts.locate(published.model)
    assert keras_copy.exists()


# -- which model answers


def test_default_is_the_bundled_model_at_once() -> None:
    assert artefacts.default() is models.known()[models.BUNDLED]


def known_with(vgg16: Model) -> Callable[[], dict[str, Model]]:
    known = models.known()
    return lambda: {**known, "vgg16": vgg16}


def test_default_is_vgg16_where_its_weights_are(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "known", known_with(published.model))
    assert artefacts.default().name == models.BUNDLED and published.requests == 0, "no surprise download"
    artefacts.locate(published.model)
    assert artefacts.default() is published.model


def test_the_environment_pins_the_choice(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOLABEL_MODEL", "vgg19")
    assert artefacts.default() is models.known()["vgg19"]
    monkeypatch.setenv("PHOTOLABEL_MODEL", str(tiny))
    assert artefacts.default().name == "tiny"
    monkeypatch.setenv("PHOTOLABEL_MODEL", "")
    assert artefacts.default().name == models.BUNDLED
    monkeypatch.setenv("PHOTOLABEL_MODEL", "nope")
    with pytest.raises(UnknownModelError, match="nope"):
        artefacts.default()


def test_the_default_needs_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOLABEL_CACHE", os.devnull + "/nowhere")
    with photolabel.load() as classifier:
        assert classifier.model.name == models.BUNDLED
        assert classifier.classify(PHOTO).labels


# -- several at once

PROGRAM = """
import sys
from dataclasses import replace
from photolabel import artefacts
import oracle, servers
body = open(sys.argv[2], "rb").read()
asset = servers.asset(sys.argv[1], body=body, name=sys.argv[3], algorithm="md5")
print(artefacts.locate(replace(oracle.tiny_model(), weights=asset)), flush=True)
"""


def test_two_processes_make_one_artefact(published: Published, tmp_path: Path) -> None:
    published.server.script = (servers.throttled(8192, 0.1),)  # slow, so that both are at it
    copy = tmp_path / "body"
    copy.write_bytes(published.body)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROGRAM, published.server.url, str(copy), NAME]
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert answers[0] == answers[1] and published.requests == 1
    assert cached() == [Path(answers[0][0].strip()).name]


def test_weights_rewritten_while_they_are_read_are_refused(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training run saves its best weights anew at any time; the cache must not keep the new under the old's hash."""
    from photolabel import weights

    original = weights.read

    def overtaken(path: Path, spec: Any) -> Any:
        arrays = original(path, spec)
        path.write_bytes(path.read_bytes() + b"\0")
        return arrays

    monkeypatch.setattr(weights, "read", overtaken)
    mine = weights_file(tmp_path / "best.h5")
    with pytest.raises(InvalidWeightsError, match="changed while it was read"):
        artefacts.locate(published.model, weights_file=mine)
    assert not list(Store().folder.glob("*.onnx"))
