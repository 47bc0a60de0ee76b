"""How right what is taught is, and how long it takes, on ants and bees, by whole processes.

usage: python bench/teaching.py [--runs N] [--print]

The photos are those of hymenoptera in the folder that PHOTOLABEL_SHARED names, or that lies beside the checkout as
`shared`, whose tool makes VGG16's convolutional base; without them nothing is measured. Each run is `photolabel teach`
with an empty cache: networks are compiled and all features computed. Ants and bees are among ImageNet's classes, which
both networks were trained on, so the figures are a check and no claim. Needs photolabel where it runs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from photolabel import models

import common
from common import Bar
from nearness import SHARED, base

PHOTOS = SHARED / "data" / "hymenoptera"
DRAWS, FEW = 5, 5


@dataclass
class Teaching:
    """A backbone and a head, what is asked of them, and what runs gave."""

    name: str
    options: list[str]
    least: float
    most_seconds: float
    seconds: list[float] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def time(self) -> float:
        return statistics.median(self.seconds)

    @property
    def right(self) -> float:
        """The share of the validation photos that was named rightly."""
        return float(self.told["validation"]["accuracy"]["share"])


def taught(photos: Path, options: list[str], cache: str) -> tuple[dict[str, Any], float]:
    """Run the verb; return what it says and how long it took."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "photolabel", "teach", str(photos), "--validation", str(PHOTOS / "val")]
        command += ["-o", f"{folder}/taught.onnx", "--json", "--progress", "none", *options]
        begun = time.perf_counter()
        made = subprocess.run(
            command, env={**os.environ, **common.offline(Path(cache))}, stdout=subprocess.PIPE, check=True
        )
        return json.loads(made.stdout), time.perf_counter() - begun


def few(seed: int, folder: Path) -> Path:
    """A folder with a few photos of each class, drawn by chance."""
    import random

    for each in sorted((PHOTOS / "train").iterdir()):
        (folder / each.name).mkdir()
        for photo in random.Random(seed).sample(sorted(each.iterdir()), FEW):
            (folder / each.name / photo.name).symlink_to(photo)
    return folder


def main() -> None:
    args = common.options(__doc__, runs=3).parse_args()
    if not PHOTOS.is_dir():
        print("teaching: skipped, for the shared photos are not beside this checkout")
        return
    ways = [
        Teaching("bundled, logistic", ["--model", models.BUNDLED], 0.955, 20),
        Teaching("bundled, SVM", ["--model", models.BUNDLED, "--head", "svm"], 0.955, 20),
    ]
    if (source := base()) is not None:
        vgg = ["--model", "vgg16", "--weights", str(source)]
        ways += [
            Teaching("VGG16's base, logistic", vgg, 0.915, 60),
            Teaching("VGG16's base, SVM", [*vgg, "--head", "svm"], 0.915, 60),
        ]
    for number in range(args.runs):
        for way in ways:
            print(f"{way.name}, {number + 1} of {args.runs} ...", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as cache:
                way.told, seconds = taught(PHOTOS / "train", way.options, cache)
                way.seconds.append(seconds)
    drawn = []
    with tempfile.TemporaryDirectory() as cache:
        for seed in range(DRAWS):
            with tempfile.TemporaryDirectory() as folder:
                told, _ = taught(few(seed, Path(folder)), ways[0].options, cache)
                drawn.append(float(told["validation"]["accuracy"]["share"]))
    held = ways[0].told["validation"]["accuracy"]["of"]
    lines = [
        (
            f"`python bench/teaching.py`: ants and bees, {ways[0].told['photos']} photos to learn from and {held} "
            f"others to judge by; whole processes with empty caches, medians of {args.runs} runs. Both are ImageNet's "
            "classes, so the figures are a check and no claim."
        ),
        f"{common.machine()}.",
        "",
        *common.table(
            ["backbone and head", "right", "95 % interval", "right by cross-validation", "seconds"],
            [
                (
                    way.name,
                    f"{way.right:.1%}",
                    " to ".join(f"{way.told['validation']['accuracy'][end]:.1%}" for end in ("low", "high")),
                    f"{way.told['cross_validation']['accuracy']['share']:.1%}",
                    f"{way.time:.1f}",
                )
                for way in ways
            ],
        ),
        "",
        (
            f"With {FEW} photos a class, {ways[0].name}: {statistics.mean(drawn):.1%}, the mean of {DRAWS} draws "
            f"({', '.join(f'{each:.1%}' for each in drawn)})."
        ),
    ]
    bars = []
    for way in ways:
        bars.append(Bar(f"{way.name}: right", f"{way.right:.1%}", f"at least {way.least:.1%}", way.right >= way.least))
        what = f"{way.name}: seconds, features included"
        bars.append(Bar(what, f"{way.time:.1f}", f"at most {way.most_seconds:g}", way.time <= way.most_seconds))
    sys.exit(0 if common.report("Ants and bees", lines, bars, args=args, of="teach") else 1)


if __name__ == "__main__":
    main()
