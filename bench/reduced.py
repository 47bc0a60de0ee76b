"""How far answers move where JPEGs are decoded at a part of their size, and what that saves.

usage: python bench/reduced.py [--runs N] [--print]

The photos are JPEGs of 8 megapixels and more, of the folder that PHOTOLABEL_SHARED names, or that lies beside the
checkout as `shared`; without them, some made from the samples. Each is decoded whole, and as the bundled model's recipe
allows, and named both ways. Needs photolabel where it runs.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from photolabel import images, load, models, prepared
from photolabel.decoding import decode

import common
from common import Bar
from nearness import SHARED

LEAST_PIXELS = 8_000_000
SIZES = ((4000, 3000), (6000, 4000))
MOST_CHANGE = 0.02  # of a probability


def photos(folder: Path) -> tuple[list[bytes], str]:
    """Return photos as large as a camera's, and where they are from."""
    found = []
    for path in sorted((SHARED / "data" / "camera").glob("*.jp*g")):
        with Image.open(path) as image:
            if image.width * image.height >= LEAST_PIXELS:
                found.append(path.read_bytes())
    if found:
        return found, "of phones and cameras"
    made = []
    for path in sorted((common.ROOT / "samples").glob("*.jpg")):
        for size in SIZES:
            with Image.open(path) as image:
                image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(folder / "large.jpg", quality=90)
            made.append((folder / "large.jpg").read_bytes())
    return made, "made from the samples"


def whole(data: bytes, recipe: images.Recipe) -> Any:
    """What `prepared.prepare` does, without reducing."""
    return np.asarray(images.fit(images.upright(decode(data, images.DEFAULT_LIMITS)), recipe))


def main() -> None:
    args = common.options(__doc__, runs=5).parse_args()
    with tempfile.TemporaryDirectory() as name:
        files, origin = photos(Path(name))
    with load(models.BUNDLED) as classifier:
        recipe = classifier.recipe
        rows, changes, same, gains = [], [], 0, []
        for data in files:
            reduced = prepared.prepare(data, recipe)
            assert reduced.decoding is not None and reduced.pixels is not None
            full = replace(reduced, views=(whole(data, recipe),))
            one, other = classifier.predict([full, reduced])
            change = float(np.abs(one.probabilities - other.probabilities).max())
            levels = float(np.abs(full.pixels.astype(int) - reduced.pixels).mean())
            slow = common.median(lambda data=data: whole(data, recipe), args.runs)
            quick = common.median(lambda data=data: prepared.prepare(data, recipe), args.runs)
            changes.append(change)
            gains.append(slow / quick)
            same += one.top.name == other.top.name
            size = f"{reduced.decoding.width * reduced.decoding.height / 1e6:.0f}"
            rows.append(
                (size, f"1/{reduced.decoding.scale}", f"{levels:.2f}", f"{change:.4f}", f"{slow * 1000:.0f}",
                 f"{quick * 1000:.0f}")
            )  # fmt: skip
    lines = [
        (
            f"`python bench/reduced.py`: {len(files)} JPEGs {origin}, by the bundled model and its recipe; medians of "
            f"{args.runs} runs."
        ),
        f"{common.machine()}.",
        "",
        *common.table(
            [
                "megapixels", "decoded at", "mean change of a pixel, levels", "largest change of a probability",
                "whole, ms", "reduced, ms",
            ],
            rows,
        ),
    ]  # fmt: skip
    bars = [
        Bar("largest change of a probability", f"{max(changes):.4f}", f"at most {MOST_CHANGE}",
            max(changes) <= MOST_CHANGE),
        Bar("same name", f"{same} of {len(files)}", "all", same == len(files)),
        Bar("times as fast", f"{statistics.median(gains):.1f}", "more than 1", statistics.median(gains) > 1),
    ]  # fmt: skip
    met = common.report("Reduced decoding", lines, bars, args=args, of="reduced beside whole")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
