"""Weights that are on this machine already: Keras' own copy, our own download, and files of the user's."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from photolabel import artefacts, models
from photolabel.errors import (
    InvalidWeightsError,
    MissingWeightsError,
    StoreError,
    UsageError,
    WeightsMismatchError,
)
from photolabel.store import Store

import oracle
from published import NAME, Published, body, cached, flip, keras_copy, published, weights_file

__all__ = ["body", "keras_copy", "published"]


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
