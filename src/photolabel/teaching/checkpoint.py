"""How far fine-tuning has come, in one file beside its output: written whole after each epoch, or not at all.

It is a safetensors file, so nothing in it can be run: what is trained, as it is now and as it was at its best, and the
optimizer's state. What the training depends on and what it has come to are in the file's metadata, with a hash over
all of it. `pets.onnx` has `pets.onnx.partial` until it is written itself.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import writing
from ..batch.journal import path_of
from ..errors import InvalidWeightsError, UsageError
from ..weights import safetensors
from ..weights.layouts import Stored, pieces
from .epochs import Epoch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Weights = Mapping[str, NDArray[np.float32]]

_FORMAT = "photolabel-fine-tuning/1"
_TOLD, _HASH = "photolabel.fine-tuning", "photolabel.sha256"
_PARTS = ("now", "best", "momentum")
# What is different, in words, where a number would say nothing.
_WORDS = {
    "photos": "with other photos, other classes of them, or others to judge by",
    "network": "from another network",
    "recipe": "with another recipe, or other views",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """Where a training stands after the last epoch of its `history`: `now`, at its `best`, and the optimizer's state.

    All three are float32 arrays by name, as `epochs.Trainer` has them.
    """

    history: tuple[Epoch, ...]
    now: Weights
    best: Weights
    momentum: Weights


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The checkpoint of the training whose network is to become the file `out`; `settings` are what it depends on."""

    out: Path
    settings: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """Where it is, or would be."""
        return path_of(self.out)

    def write(self, state: State) -> None:
        """Keep a state, in the place of an earlier one. Raises `OutputError`: then the earlier one stays."""
        arrays = _named(state)
        told = json.dumps(
            {
                "format": _FORMAT,
                "settings": dict(self.settings),
                "history": [asdict(each) for each in state.history],
            },
            allow_nan=False,
        )
        metadata = {_TOLD: told, _HASH: _hash(told, arrays)}
        stored = [
            Stored(name=name, shape=array.shape, pieces=functools.partial(pieces, array))
            for name, array in arrays.items()
        ]
        with writing.whole(self.path) as file:
            for chunk in safetensors.build(stored, metadata):
                file.write(chunk)

    def read(self, like: State) -> State | None:
        """Return the state that was kept last, of the same arrays as `like`; None where none was.

        Raises UsageError for a file that is no checkpoint, is damaged, or is of other `settings`.
        """
        if not os.path.lexists(self.path):
            return None
        try:
            found = safetensors.metadata(self.path)
            told, history = self._told(found)
            wanted = _named(like)
            arrays = safetensors.read(self.path, lambda shapes: [name for name in shapes if name in wanted])
        except InvalidWeightsError:
            raise self._broken() from None
        same = arrays.keys() == wanted.keys() and all(
            array.shape == wanted[name].shape and array.dtype == np.float32 for name, array in arrays.items()
        )
        if not same or _hash(told, {name: arrays[name] for name in wanted}) != found.get(_HASH):
            raise self._broken()
        parts = {
            part: {name.removeprefix(f"{part}/"): each for name, each in arrays.items() if name.startswith(f"{part}/")}
            for part in _PARTS
        }
        return State(history=history, **parts)

    def remove(self) -> None:
        """Remove it: its network is written."""
        self.path.unlink(missing_ok=True)

    def _told(self, found: Mapping[str, str]) -> tuple[str, tuple[Epoch, ...]]:
        try:
            match json.loads(found[_TOLD]):
                case {"format": form, "settings": dict() as settings, "history": [_, *_] as history} if form == _FORMAT:
                    self._check(settings)
                    return found[_TOLD], tuple(_epoch(each) for each in history)
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            if isinstance(error, UsageError):
                raise
        raise self._broken()

    def _check(self, began: Mapping[str, Any]) -> None:
        for name, value in self.settings.items():
            if began.get(name) != value:
                how = _WORDS.get(name) or f"with {name.replace('_', ' ')} {began.get(name)!r}, not {value!r}"
                raise UsageError(
                    f"{self.path}: what is to go on was begun {how}. Give what it was begun with, or remove the file, "
                    "to start anew."
                )

    def _broken(self) -> UsageError:
        return UsageError(
            f"{self.path}: is no checkpoint of fine-tuning, or is damaged. Remove it, to start anew, or write to "
            "another file."
        )


def check(out: Path, *, resume: bool) -> None:
    """Raise UsageError where a training to `out` was stopped that is not to be gone on with."""
    path = path_of(out)
    if not resume and os.path.lexists(path):
        raise UsageError(
            f"{path} is of a training that was stopped. Go on with it: --resume (resume=True). Or remove it, to start "
            "anew."
        )


def _named(state: State) -> dict[str, NDArray[np.float32]]:
    return {
        f"{part}/{name}": np.atleast_1d(array)
        for part in _PARTS
        for name, array in sorted(getattr(state, part).items())
    }


def _hash(told: str, arrays: Mapping[str, NDArray[np.float32]]) -> str:
    found = hashlib.sha256(told.encode("utf-8"))
    for name, array in arrays.items():
        found.update(f"{name} {array.shape}".encode())
        found.update(np.ascontiguousarray(array, "<f4").data.cast("B"))
    return found.hexdigest()


def _epoch(values: object) -> Epoch:
    """One of a file's own words. Raises UsageError, a ValueError, or TypeError for anything odd."""
    if not isinstance(values, dict) or set(values) != {field.name for field in fields(Epoch)}:
        raise TypeError
    return Epoch(**values)
