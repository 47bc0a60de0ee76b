"""A checkpoint is whole or refused, and of the very training that it goes on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from photolabel import writing
from photolabel.batch import Journal
from photolabel.errors import OutputError, UsageError
from photolabel.teaching import checkpoint
from photolabel.teaching.checkpoint import Checkpoint, State
from photolabel.teaching.epochs import Epoch

SETTINGS: dict[str, Any] = {
    "network": "sha256:" + "0" * 64,
    "recipe": {"name": "crop"},
    "photos": "1" * 64,
    "blocks": 1,
    "learning_rate": 1e-4,
}


def epoch(number: int, loss: float = 0.5, *, best: bool = True) -> Epoch:
    return Epoch(
        number=number,
        most=9,
        loss=None if not number else loss / 3,
        accuracy=None if not number else 0.1,
        held_loss=loss,
        held_accuracy=2 / 3,
        best=best,
    )


def state(epochs: int = 2, seed: int = 0) -> State:
    rng = np.random.default_rng(seed)

    def arrays() -> dict[str, np.ndarray]:
        return {
            "block5_conv1/kernel": rng.normal(size=(3, 3, 4, 5)).astype(np.float32),
            "logits/bias": rng.normal(size=5).astype(np.float32),
        }

    momentum = {"0": np.float32(epochs).reshape(()), "1": rng.normal(size=(2, 3)).astype(np.float32)}
    return State(
        history=tuple(epoch(number, 0.1 + 0.2 * number, best=number < 2) for number in range(epochs + 1)),
        now=arrays(),
        best=arrays(),
        momentum=momentum,
    )


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoint:
    return Checkpoint(out=tmp_path / "pets.onnx", settings=SETTINGS)


def test_what_was_written_comes_back(kept: Checkpoint) -> None:
    assert kept.read(state()) is None
    for number in (1, 2):
        written = state(number, seed=number)
        kept.write(written)
        found = kept.read(state())
        assert found is not None and found.history == written.history
        for part in ("now", "best", "momentum"):
            for name, array in getattr(written, part).items():
                np.testing.assert_array_equal(getattr(found, part)[name].reshape(array.shape), array)
    assert kept.path.name == "pets.onnx.partial" and [*kept.path.parent.iterdir()] == [kept.path]
    kept.remove()
    kept.remove()
    assert kept.read(state()) is None and not kept.path.exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"photos": "2" * 64}, "other photos"),
        ({"network": "sha256:" + "1" * 64}, "another network"),
        ({"recipe": {"name": "keras"}}, "another recipe"),
        ({"blocks": 2}, "with blocks 1, not 2"),
        ({"learning_rate": 1e-3}, "with learning rate 0.0001, not 0.001"),
        ({"seed": 1}, "with seed None, not 1"),
    ],
)
def test_that_of_another_training_is_refused_and_stays(kept: Checkpoint, changed: dict[str, Any], said: str) -> None:
    kept.write(state())
    before = kept.path.read_bytes()
    with pytest.raises(UsageError, match=f"pets.onnx.partial: .*{said}.*remove the file"):
        replace(kept, settings={**SETTINGS, **changed}).read(state())
    assert kept.path.read_bytes() == before


def test_a_wrong_byte_anywhere_is_found(kept: Checkpoint) -> None:
    kept.write(state())
    whole = kept.path.read_bytes()
    for place in range(0, len(whole), 7):
        kept.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(UsageError, match=r"pets\.onnx\.partial"):
            kept.read(state())
    for cut in (0, 1, 8, 100, len(whole) - 1):
        kept.path.write_bytes(whole[:cut])
        with pytest.raises(UsageError, match="no checkpoint of fine-tuning, or is damaged"):
            kept.read(state())


def test_another_file_is_no_checkpoint(kept: Checkpoint) -> None:
    for data in (b"", b"text", b"\0" * 100, b"\x02\0\0\0\0\0\0\0{}"):
        kept.path.write_bytes(data)
        with pytest.raises(UsageError, match="no checkpoint"):
            kept.read(state())
    kept.path.unlink()
    with Journal.begin(kept.out, {"a": 1}):
        pass
    with pytest.raises(UsageError, match="no checkpoint"):
        kept.read(state())
    kept.path.unlink()
    kept.path.mkdir()
    with pytest.raises(UsageError, match="no checkpoint"):
        kept.read(state())


@pytest.mark.parametrize("part", ["now", "best", "momentum"])
def test_arrays_of_another_network_are_refused(kept: Checkpoint, part: str) -> None:
    kept.write(state())
    for change in (lambda array: array[..., :1], lambda array: array.reshape(-1, 1)):
        other = {name: change(array) if array.ndim > 1 else array for name, array in getattr(state(), part).items()}
        with pytest.raises(UsageError, match="no checkpoint"):
            kept.read(replace(state(), **{part: other}))
    more = {**getattr(state(), part), "more": np.zeros(3, np.float32)}
    with pytest.raises(UsageError, match="no checkpoint"):
        kept.read(replace(state(), **{part: more}))


def test_what_it_says_is_checked_where_the_hash_is_right(kept: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    for history in ([], [{"number": 1}], ["x"], [1]):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "asdict", lambda each: each)
            kept.write(replace(state(), history=tuple(history)))
        with pytest.raises(UsageError, match="no checkpoint"):
            kept.read(state())


def test_a_full_disk_leaves_the_one_before(kept: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.write(state(1))
    before = kept.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing.os, "fsync", full)
        with pytest.raises(OutputError, match="No space left"):
            kept.write(state(2))
    assert kept.path.read_bytes() == before and [*kept.path.parent.iterdir()] == [kept.path]


def test_a_training_that_was_stopped_is_not_begun_anew_by_chance(kept: Checkpoint) -> None:
    checkpoint.check(kept.out, resume=False)
    kept.write(state())
    checkpoint.check(kept.out, resume=True)
    with pytest.raises(UsageError, match=r"pets\.onnx\.partial is of a training that was stopped.*--resume"):
        checkpoint.check(kept.out, resume=False)
