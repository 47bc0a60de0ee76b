"""From a published model to its one file on this machine, on a tiny model that a server of our own publishes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

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
)
from photolabel.models import Model
from photolabel.store import Store

import oracle
import servers
from oracle import tiny_model
from published import NAME, PHOTO, Published, body, cached, flip, keras_copy, published, weights_file

__all__ = ["body", "keras_copy", "published"]


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
