"""The folders of photos that folders.py and pipeline.py go through.

usage: python bench/folder_photos.py FOLDER WEIGHTS.h5

Makes FOLDER/small (about ImageNet's sizes) and FOLDER/large (a camera's), in each of them `once` with photos and
`again` with the same under other names, FOLDER/few for a look at the answers, and facts.json. The photos are those of
the folder that PHOTOLABEL_SHARED names, or that lies beside the checkout as `shared`; where there are none they are
made of samples.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

import prepared
from decode_memory import photo

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("PHOTOLABEL_SHARED", ROOT.parent / "shared")) / "data"
COUNTS = {"small": 100, "large": 12}
TIMES = {"small": 4, "large": 8}  # each photo is in its folder so often, in `once` and `again` together
FEW = 8
CAMERA = 7_900_000  # pixels: cameras of 8 megapixels have a few less
MADE = ((3264, 2448), (3888, 2592), (4032, 3024), (4896, 3264), (5472, 3648), (6000, 4000))


def small(folder: Path) -> str:
    """Make photos of about ImageNet's sizes in `folder`, and say what they are."""
    count, place = COUNTS["small"], SHARED / "imagenet100"
    if photos := sorted(place.iterdir()) if place.is_dir() else []:
        _copy(photos, folder, count)
        return f"{count} photos of ImageNet's"
    chance = np.random.default_rng(0)
    samples = [Image.open(path).convert("RGB") for path in sorted((ROOT / "samples").glob("*.jpg"))]
    for i, sample in zip(range(count), cycle(samples), strict=False):
        across, down = (int(side * chance.uniform(0.6, 1)) for side in sample.size)
        left, top = (int(chance.integers(0, x - y + 1)) for x, y in zip(sample.size, (across, down), strict=True))
        size = (500, 375) if across >= down else (375, 500)
        cut = sample.crop((left, top, left + across, top + down)).resize(size, Image.Resampling.BICUBIC)
        cut.save(folder / f"{i:03}.jpg", quality=92)
    return f"{count} cuts of the sample photos, scaled to 500 x 375, for no photos of ImageNet's are at hand"


def large(folder: Path) -> str:
    """Make photos of 8 to 24 megapixels in `folder`, and say what they are."""
    count, place = COUNTS["large"], SHARED / "camera"
    photos = [path for path in sorted(place.glob("*.jpg")) if _pixels(path) >= CAMERA]
    whose = f"{len(photos)} different ones from cameras"
    if not photos:
        whose = "made of a sample photo, with grain, for no camera's are at hand"
        for i, size in enumerate(MADE):
            photo(size).save(folder / f"made-{i}.jpg", quality=90)
        photos = sorted(folder.iterdir())
    _copy(photos, folder, count)
    for path in folder.glob("made-*"):
        path.unlink()
    sizes = [_pixels(path) / 1e6 for path in folder.iterdir()]
    least, most, mean = min(sizes), max(sizes), sum(sizes) / count
    return f"{count} JPEGs of {least:.0f} to {most:.0f} megapixels, {mean:.0f} on average, {whose}"


def _pixels(path: Path) -> int:
    with Image.open(path) as image:
        return image.width * image.height


def _copy(photos: Sequence[Path], folder: Path, count: int) -> None:
    """Copy photos until there are so many; in names that all tools take for JPEGs'."""
    for i, path in enumerate(islice(cycle(photos), count)):
        shutil.copyfile(path, folder / f"{i:03}.jpg")


def linked(photos: Sequence[Path], folder: Path, count: int) -> Path:
    """Make `folder` with `count` names for these photos, and return it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for i, path in enumerate(islice(cycle(photos), count)):
        (folder / f"{i:05}.jpg").hardlink_to(path)
    return folder


def make(folder: Path) -> dict[str, str]:
    """Make all photos in `folder`, and say what they are."""
    said = {}
    for kind, fill in (("small", small), ("large", large)):
        shutil.rmtree(folder / kind, ignore_errors=True)
        once = folder / kind / "once"
        once.mkdir(parents=True)
        said[kind] = fill(once)
        linked(sorted(once.iterdir()), folder / kind / "again", COUNTS[kind] * (TIMES[kind] - 1))
    linked(sorted((folder / "small" / "once").iterdir())[:FEW], folder / "few", FEW)
    return said


def main() -> None:
    folder, weights = Path(sys.argv[1]), Path(sys.argv[2])
    facts = prepared.facts(weights) | {"photos": make(folder), "counts": list(COUNTS.values())}
    (folder / "facts.json").write_text(json.dumps(facts), "utf-8")


if __name__ == "__main__":
    main()
