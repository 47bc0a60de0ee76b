"""Lessons that are taught on the tiny network, in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from photolabel import batch, images
from photolabel.prepared import Prepared
from photolabel.sources import Item
from photolabel.teaching import Lesson, doubts, teach

from training import COLOURS, plant

LABELS = tuple(sorted(COLOURS))
Teach = Callable[..., Lesson]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "pets.onnx"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The photos that were decoded, as they come."""
    found: list[str] = []
    real = batch.Here.prepare

    def prepare(self: batch.Here, item: Item, *recipes: Any, limits: images.Limits) -> Future[Prepared]:
        found.append(item.photo)
        return real(self, item, *recipes, limits=limits)

    monkeypatch.setattr(batch.Here, "prepare", prepare)
    return found


@pytest.fixture
def sharp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the very same pixels look alike: to a network as small as this one all photos of a class do."""
    monkeypatch.setattr(doubts, "near", partial(doubts.near, least=0.99999))


@pytest.fixture
def learn(tiny: Path, out: Path, decoded: list[str]) -> Teach:
    """Teach on the tiny network, in this process."""

    def call(photos: Any, **options: Any) -> Lesson:
        return teach(photos, **{"out": out, "model": tiny, "views": "one", "workers": 0, **options})

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return plant(tmp_path / "photos", 12)


def names(given: Any) -> list[str]:
    """Of photos or paths: folder and name."""
    return ["/".join(Path(each).parts[-2:]) for each in getattr(given, "names", given)]


def counts(lesson: Lesson) -> list[int]:
    return np.bincount(lesson.photos.truth, minlength=len(lesson.labels)).tolist()


def copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(source, target))
