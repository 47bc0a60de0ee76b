"""How far answers move where JPEGs are decoded at a part of their size, and what that saves.

usage: python bench/reduced.py [--runs N] [--print]

The photos are JPEGs of 8 megapixels and more, of the folder that PHOTOLABEL_SHARED names, or that lies beside the
checkout as `shared`; without them, some made from the samples. Each is decoded whole, and as the bundled model's recipe
allows, and named both ways; and, where it is progressive, at the smaller size with all its scans too. Needs photolabel
where it runs.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from photolabel import decoding, images, load, models, prepared, scans
from photolabel.decoding import decode

import common
from common import Bar
from nearness import SHARED

LEAST_PIXELS = 8_000_000
SIZES = ((4000, 3000), (6000, 4000))
MOST_CHANGE = 0.02  # of a probability
TIE = 0.01  # by which the likeliest class leads at most where another may well come first
MOST_BY_SCANS = 0.6  # levels of 255: of the order of what reducing itself moves


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
                large = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
                large.save(folder / "large.jpg", quality=90, progressive=size == SIZES[-1])
            made.append((folder / "large.jpg").read_bytes())
    return made, "made from the samples"


def whole(data: bytes, recipe: images.Recipe) -> Any:
    """What `prepared.prepare` does, without reducing."""
    return np.asarray(images.fit(images.upright(decode(data, images.DEFAULT_LIMITS)), recipe))


def all_scans(data: bytes, recipe: images.Recipe) -> Any:
    """What `prepared.prepare` does, leaving out no scan."""
    with mock.patch.object(decoding, "without_detail", lambda data, scale: data):
        return prepared.prepare(data, recipe)


def apart(one: Any, other: Any) -> float:
    return float(np.abs(one.astype(int) - other).mean())


def main() -> None:
    args = common.options(__doc__, runs=5).parse_args()
    with tempfile.TemporaryDirectory() as name:
        files, origin = photos(Path(name))
    with load(models.BUNDLED, calibrated=False) as classifier:  # whatever this machine has learnt
        recipe = classifier.recipe
        rows, changes, gains, by_scans, gains_by_scans = [], [], [], [0.0], []
        led = same = ties = 0
        for data in files:
            reduced = prepared.prepare(data, recipe)
            assert reduced.decoding is not None and reduced.pixels is not None
            full = replace(reduced, views=(whole(data, recipe),))
            every = all_scans(data, recipe)
            one, middling, other = classifier.predict([full, every, reduced])
            change, before = (float(np.abs(one.probabilities - each.probabilities).max()) for each in (other, middling))
            slow = common.median(lambda data=data: whole(data, recipe), args.runs, time.process_time)
            quick = common.median(lambda data=data: prepared.prepare(data, recipe), args.runs, time.process_time)
            changes.append(change)
            gains.append(slow / quick)
            leads = one.labels[0].probability - one.labels[1].probability > TIE
            led += leads
            same += leads and one.top.name == other.top.name
            ties += not leads and one.top.name != other.top.name
            scale = reduced.decoding.scale
            read = 100 * len(scans.without_detail(data, scale)) / len(data)
            by, with_all, between = "", "", ""
            if read < 100:
                by_scans.append(apart(every.pixels, reduced.pixels))
                middle = common.median(lambda data=data: all_scans(data, recipe), args.runs, time.process_time)
                gains_by_scans.append(middle / quick)
                by, with_all, between = f"{by_scans[-1]:.2f}", f"{before:.4f}", f"{middle * 1000:.0f}"
            size = f"{reduced.decoding.width * reduced.decoding.height / 1e6:.0f}"
            rows.append(
                (size, f"1/{scale}", f"{read:.0f}", f"{apart(full.pixels, reduced.pixels):.2f}", by, f"{change:.4f}",
                 with_all, f"{slow * 1000:.0f}", between, f"{quick * 1000:.0f}")
            )  # fmt: skip
    lines = [
        (
            f"`python bench/reduced.py`: {len(files)} JPEGs {origin}, by the bundled model and its recipe; medians of "
            f"{args.runs} runs, in milliseconds of one processor."
        ),
        f"{common.machine()}.",
        "",
        *common.table(
            [
                "megapixels", "decoded at", "of the file read, %", "mean change of a pixel, levels",
                "by scans left out", "largest change of a probability", "the same with all scans", "whole, ms",
                "with all scans, ms", "reduced, ms",
            ],
            rows,
        ),
    ]  # fmt: skip
    bars = [
        Bar("largest change of a probability", f"{max(changes):.4f}", f"at most {MOST_CHANGE}",
            max(changes) <= MOST_CHANGE),
        Bar(f"same name, where it leads by more than {TIE:g}", f"{same} of {led}", "all", same == led),
        Bar("another name, where it does not", f"{ties} of {len(files) - led}", "", None),
        Bar("times as fast", f"{statistics.median(gains):.1f}", "more than 1", statistics.median(gains) > 1),
        Bar("mean change of a pixel by scans left out, levels", f"{max(by_scans):.2f}", f"at most {MOST_BY_SCANS}",
            max(by_scans) <= MOST_BY_SCANS),
    ]  # fmt: skip
    if gains_by_scans:
        gain = statistics.median(gains_by_scans)
        bars.append(Bar("progressive: times as fast as with all scans", f"{gain:.1f}", "more than 1", gain > 1))
    met = common.report("Reduced decoding", lines, bars, args=args, of="reduced beside whole")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
