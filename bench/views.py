"""Whether photos that are looked at many times go through the network as fast as it can go.

usage: python bench/views.py [--runs N] [--print]

Each way of looking, as `photolabel evaluate` does it: decoding and cropping in workers, the network in batches. Beside
it in the same run the network alone, with batches of the best size. By the bundled model and VGG16 with seeded weights,
which are as fast as the real ones; on photos of imagenet100, where the shared photos are beside the checkout, else on
packaged ones. Needs photolabel where it runs.
"""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import ExitStack, closing
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from photolabel import batch, load, models, sources
from photolabel.classifier import BATCH
from photolabel.evaluate import judging
from photolabel.truth import Labelled

import common
from common import Bar
from nearness import SHARED

PHOTOS = 8
ENOUGH = 0.95  # of the network's own speed
WAYS = {"crop": {}, "ten-crop": {"views": "ten-crop"}, "multi-crop": {"views": "multi-crop"}}


def photos() -> list[str]:
    """A few real photos."""
    shared = SHARED / "data" / "imagenet100"
    folder = shared if shared.is_dir() else Path(str(resources.files("photolabel") / "data" / "calibration"))
    return [str(path) for path in sorted(folder.iterdir())[:PHOTOS]]


def looked(classifier: Any, decoders: Any, names: list[str], times: int) -> float:
    """Inputs a second of a whole run."""
    labelled = [Labelled(item=sources.Item(photo=name, path=name), index=0) for name in names * times]
    begun = time.perf_counter()
    with closing(judging.judged(iter(labelled), classifier, decoders, top=5)) as stream:
        count = sum(each.error is None for each in stream)
    return count * classifier.recipe.inputs / (time.perf_counter() - begun)


def alone(classifier: Any) -> float:
    """Inputs a second of the network by itself."""
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, *[classifier.recipe.size] * 2, 3)).astype(np.float32)
    begun = time.perf_counter()
    rounds = 6
    for _ in range(rounds):
        classifier._members[0].run(pixels)
    return rounds * BATCH / (time.perf_counter() - begun)


def main() -> None:
    args = common.options(__doc__, runs=5).parse_args()
    names = photos()
    rows, bars = [], []
    for title, chosen in (
        (models.BUNDLED, {"model": models.BUNDLED}),
        ("vgg16", {"weights": common.seeded_weights(Path(sys.executable).parent)}),
    ):
        for way, how in WAYS.items():
            with ExitStack() as stack:
                decoders = batch.crew(None, stack=stack)
                classifier = stack.enter_context(load(**chosen, **how, calibrated=False))
                times = max(3, 50 // classifier.recipe.inputs)  # so that a run is long beside its first photo
                looked(classifier, decoders, names, 1)
                alone(classifier)
                pairs = [(looked(classifier, decoders, names, times), alone(classifier)) for _ in range(args.runs)]
            whole, network = (statistics.median(each) for each in zip(*pairs, strict=True))
            ratio = statistics.median(a / b for a, b in pairs)
            rows.append((title, way, str(classifier.recipe.inputs), f"{whole:.1f}", f"{network:.1f}", f"{ratio:.2f}"))
            if way == "multi-crop":
                what = f"{title}, {classifier.recipe.inputs} crops a photo"
                bars.append(Bar(what, f"{ratio:.2f}", f"at least {ENOUGH:g} of the network alone", ratio >= ENOUGH))
    lines = [
        f"`python bench/views.py`: inputs a second of whole runs, and of the network alone; medians of {args.runs}.",
        f"{common.machine()}.",
        "",
        *common.table(["model", "views", "inputs a photo", "whole run", "network alone", "ratio"], rows),
    ]
    sys.exit(0 if common.report("Many views", lines, bars, args=args, of="views") else 1)


if __name__ == "__main__":
    main()
