"""Photos whose classes are known because a tiny network says so; and that network, which says several things."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

import photolabel

import oracle

WRONG = 4  # every fourth photo is of another class than the network says
BROKEN = b"\xff\xd8\xff\xe0 no photo"


def telling(folder: Path, *, more: float = 0.0, name: str = "telling") -> Path:
    """Write a tiny VGG that says several things of `smooth` photos; class 5 the oftener the `more`."""
    weights = oracle.he_normal(oracle.TINY, seed=1)
    weights["predictions"][1][5] += more
    path = folder / f"{name}.onnx"
    path.write_bytes(oracle.tiny_onnx(weights, replace(oracle.tiny_model(), name=name)))
    return path


def smooth(count: int, *, seed: int = 0) -> list[Image.Image]:
    """So many small pictures of smooth colours, no two alike."""
    rng = np.random.default_rng(seed)
    size = (48, 36)
    return [
        Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        for _ in range(count)
    ]


@dataclass(frozen=True, kw_only=True)
class Known:
    """Photos in a folder, and what is so: their classes by their names in it, in the order of a run."""

    folder: Path
    truth: dict[str, int]
    wrong: int  # of how many the network says another class
    absent: int  # and of how many the true class is not even among the likeliest five


def known_photos(folder: Path, network: Path, count: int, *, form: str = "n{:08}", wrong: int = WRONG) -> Known:
    """Put photos into folders of their classes, which are called by `form`, most of them as the network says.

    Of each `wrong` photos one has another class: in turn the second likeliest, and the unlikeliest.
    """
    places: dict[str, int] = {}
    tally: Counter[str] = Counter()
    with photolabel.load(network, threads=1, calibrated=False) as classifier:
        for number, image in enumerate(smooth(count)):
            ranked = np.argsort(-classifier.classify(image).probabilities, kind="stable")
            place = 0
            if wrong and number % wrong == 0:
                place = 9 if number % (2 * wrong) else 1
                tally["wrong"] += 1
                tally["absent"] += place >= 5
            truth = int(ranked[place])
            path = folder / form.format(truth) / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
            places[str(path.relative_to(folder))] = truth
    return Known(folder=folder, truth=dict(sorted(places.items())), wrong=tally["wrong"], absent=tally["absent"])
