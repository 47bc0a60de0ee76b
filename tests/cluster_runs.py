"""Runs over photos, here and on a cluster, to be held against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from photolabel import batch
from photolabel.classifier import Classifier, Prediction
from photolabel.cluster import Cluster, flow
from photolabel.sources import Item


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


def fail_soon(patch: pytest.MonkeyPatch) -> None:
    """Have the cluster fail when something is told, and much is not."""
    import ray

    real = flow.Flow._take

    def fail(self: Any, listing: Any) -> None:
        if self._next:
            raise ray.exceptions.RaySystemError("gone")
        if not self._coming:  # and then no more: all the others may be done before the first
            real(self, listing)

    patch.setattr(flow, "_PHOTOS", 2)
    patch.setattr(flow.Flow, "_take", fail)
