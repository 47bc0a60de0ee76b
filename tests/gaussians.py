"""Features of made-up classes: clouds around a mean each, as far apart as is wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def clouds(
    counts: Sequence[int], features: int, *, apart: float = 1.0, seed: int = 0, places: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Features (photos, features) of so many photos of each class, and their classes.

    `apart` is how far the means are from their middle, where photos are 1 from theirs. `places` seeds the means: of the
    same classes they are the same, whatever the photos.
    """
    means = np.random.default_rng([places, 1]).normal(0, apart / np.sqrt(features), (len(counts), features))
    random = np.random.default_rng([seed, 2])
    truth = np.repeat(np.arange(len(counts)), counts)
    around = random.normal(0, 1 / np.sqrt(features), (len(truth), features))
    return (5 + means[truth] + around).astype(np.float32), truth
