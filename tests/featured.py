"""The tiny network up to a layer, photos for it, and what it should make of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import photolabel
from photolabel import batch, images, store
from photolabel.classifier import Classifier
from photolabel.prepared import Prepared
from photolabel.sources import Item
from photolabel.teaching.backbone import Backbone
from photolabel.teaching.fingerprint import fingerprint

import oracle
from training import plant


@pytest.fixture
def classifier(tiny: Path) -> Iterator[Classifier]:
    with photolabel.load(tiny) as made:
        yield made


@pytest.fixture
def backbone(classifier: Classifier) -> Backbone:
    return Backbone.of(classifier)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return plant(tmp_path / "photos", 7)


class Counted(batch.Here):
    """Decoders that count."""

    def __init__(self) -> None:
        self.decoded: list[str] = []

    def prepare(self, item: Item, *recipes: Any, limits: images.Limits) -> Future[Prepared]:
        self.decoded.append(item.photo)
        return super().prepare(item, *recipes, limits=limits)


def pixels(path: str | Path, recipe: images.Recipe = oracle.TINY_RECIPE) -> np.ndarray:
    return np.stack(images.views(images.read(path), recipe)).astype(np.float32)


def expected(path: str | Path, layer: str = "fc2", recipe: images.Recipe = oracle.TINY_RECIPE) -> np.ndarray:
    found = oracle.forward(oracle.TINY, oracle.he_normal(oracle.TINY), pixels(path, recipe))[layer]
    return found.mean(axis=(1, 2)) if found.ndim == 4 else found


def prints(photos: Sequence[str], recipe: images.Recipe = oracle.TINY_RECIPE) -> np.ndarray:
    """Of what the recipe's one view shows."""
    return np.stack([fingerprint(images.views(images.read(path), recipe.plain)[0]) for path in photos])


def files() -> list[Path]:
    return sorted((store.cache_folder() / "features").glob("*.sqlite"))
