"""How surely copies of photos are known for what they are, by fingerprints and by features, and how rarely others are.

usage: python bench/near_duplicates.py [--runs N] [--print]

The photos are those of hymenoptera, imagenet100 and camera in the folder that PHOTOLABEL_SHARED names, or that lies
beside the checkout as `shared`; without it nothing is measured. Each is copied in several ways, and photos and copies
are searched as `photolabel.teach` does it, with the features of the bundled model. Needs photolabel where it runs.
"""

from __future__ import annotations

import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from photolabel import images, load, models, prepared
from photolabel.teaching import closest, doubts, solving
from photolabel.teaching.backbone import Backbone, Opened
from photolabel.teaching.fingerprint import BYTES, fingerprint

import common
from common import Bar
from nearness import SHARED

SETS = ("hymenoptera", "imagenet100", "camera")
LIKE, CUT = 0.99, 0.95  # of the copies, to be found
MANY, SECONDS = 100_000, 60.0
QUALITY = 90  # of copies that are not about quality
ALL_PAIRS = 1_000_000


def smaller(image: Image.Image, times: int) -> Image.Image:
    return image.resize((max(1, image.width // times), max(1, image.height // times)), Image.Resampling.BICUBIC)


def cut(image: Image.Image, share: float) -> Image.Image:
    """Without so much of its width and height, half on either side."""
    x, y = round(image.width * share / 2), round(image.height * share / 2)
    return image.crop((x, y, image.width - x, image.height - y))


def beheaded(image: Image.Image, share: float) -> Image.Image:
    """Without so much of its width and height, all at the right and the bottom."""
    return image.crop((0, 0, image.width - round(image.width * share), image.height - round(image.height * share)))


def brighter(image: Image.Image, share: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1 + share)


def marked(image: Image.Image) -> Image.Image:
    """With a light band in the lower right corner, as of a name or a date: 2 % of the photo."""
    copy, (width, height) = image.copy(), image.size
    band = (round(0.7 * width), round(0.88 * height), round(0.97 * width), round(0.96 * height))
    ImageDraw.Draw(copy, "RGBA").rectangle(band, fill=(255, 255, 255, 180))
    return copy


COPIES: dict[str, tuple[Callable[[Image.Image], Image.Image], int]] = {
    "saved again at quality 30": (lambda image: image, 30),
    "a quarter of each side": (lambda image: smaller(image, 4), QUALITY),
    "brighter by a fifth": (lambda image: brighter(image, 0.2), QUALITY),
    "with a small mark": (marked, QUALITY),
    "cut by 5 %": (lambda image: cut(image, 0.05), QUALITY),
    "cut by 10 %": (lambda image: cut(image, 0.1), QUALITY),
    "cut by 5 % on one side": (lambda image: beheaded(image, 0.05), QUALITY),
    "a third of each side, brighter by a tenth, marked, at quality 40": (
        lambda image: brighter(marked(smaller(image, 3)), 0.1), 40,
    ),
}  # fmt: skip
JUDGED, CROPPED = list(COPIES)[:4], list(COPIES)[4]


def photos() -> list[Path]:
    return sorted(path for name in SETS for path in (SHARED / "data" / name).rglob("*") if path.is_file())


def saved(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def seen(running: Opened, photo: Path | bytes) -> tuple[np.ndarray, np.ndarray]:
    """What is kept of a photo: its features and its fingerprint."""
    made = prepared.prepare(photo, running.backbone.recipe)
    if made.pixels is None:
        raise SystemExit(f"{photo if isinstance(photo, Path) else 'a copy'}: {made.error}")
    return running(made.pixels[np.newaxis])[0], fingerprint(made.pixels)


def pieces(paths: list[Path], recipe: images.Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprints of photos, of their quarters, and of the mirror images of all; and which photo each is of."""
    found, of = [], []
    for number, path in enumerate(paths):
        image = images.read(path)
        across, down = image.width // 2, image.height // 2
        corners = [(x, y) for x in (0, across) for y in (0, down)]
        for part in (image, *(image.crop((x, y, x + across, y + down)) for x, y in corners)):
            view = images.views(part, recipe)[0]
            found += [fingerprint(view), fingerprint(np.ascontiguousarray(view[:, ::-1]))]
            of += [number, number]
    return np.stack(found), np.array(of)


def differing(prints: np.ndarray, of: np.ndarray) -> np.ndarray:
    """How many bits differ in each pair of fingerprints of different photos, the fewest first."""
    signs = 2 * np.unpackbits(prints, axis=1).astype(np.float32) - 1
    pairs = np.triu(of[:, np.newaxis] != of)
    return np.sort(((8 * BYTES - signs @ signs.T) / 2)[pairs])


def searched(runs: int) -> float:
    """Seconds of a processor for a search through as many fingerprints as there may be photos, none of them alike."""
    prints = np.random.default_rng(0).integers(0, 256, (MANY, BYTES), np.uint8)
    signs = doubts._Signs(prints)
    seconds = []
    with solving.one_thread():  # as in teaching
        for _ in range(runs):
            begun = time.process_time()
            closest.pairs(signs.rows, MANY, least=signs.product(doubts.BITS), most=doubts.MOST)
            seconds.append(time.process_time() - begun)
    return statistics.median(seconds)


def main() -> None:
    args = common.options(__doc__, runs=1).parse_args()
    paths = photos()
    if not paths:
        print("near_duplicates: skipped, for the shared photos are not beside this checkout")
        return
    count = len(paths)
    rows, shares, wrong = [], {}, 0
    with load(models.BUNDLED, calibrated=False) as classifier:
        recipe = classifier.recipe
        with Backbone.of(classifier).open() as running:
            known = [seen(running, path) for path in paths]
            for kind, (change, quality) in COPIES.items():
                made = [*known, *(seen(running, saved(change(images.read(path)), quality)) for path in paths)]
                features, prints = (np.stack(each) for each in zip(*made, strict=True))
                truth = np.zeros(2 * count, np.intp)
                found = doubts.near(features, truth, fingerprints=prints, most=ALL_PAIRS)
                pairs = [pair for pair in found if pair.other == pair.one + count]
                wrong += len(found) - len(pairs)
                by_features = sum(pair.likeness >= doubts.NEAR for pair in pairs)
                by_prints = sum(pair.bits is not None and pair.bits <= doubts.BITS for pair in pairs)
                shares[kind] = len(pairs) / count
                bits = np.unpackbits(prints[:count] ^ prints[count:], axis=1).sum(axis=1)
                rows.append(
                    (kind, f"{by_features / count:.1%}", f"{by_prints / count:.1%}", f"{shares[kind]:.1%}",
                     f"{np.median(bits):.0f}", f"{np.quantile(bits, 0.95):.0f}", f"{bits.max()}")
                )  # fmt: skip
                print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    none = sum(not print_.any() for _, print_ in known)
    prints, of = pieces(paths, recipe)
    there = prints.any(axis=1)
    bits = differing(prints[there], of[there])
    seconds = searched(args.runs)
    lines = [
        (
            f"`python bench/near_duplicates.py`: {count} photos of {', '.join(SETS)}, and a copy of each, searched as "
            f"teaching does: features of the bundled model, of a cosine of {doubts.NEAR:g} or more around the mean, or "
            f"fingerprints of which no more than {doubts.BITS} of 255 bits differ."
        ),
        f"{common.machine()}.",
        "",
        *common.table(
            ["copies", "found by features", "by fingerprints", "by either", "bits that differ, median", "95 %", "most"],
            rows,
        ),
        "",
        (
            f"Of the photos, {none} have no fingerprint. Of the photos, their quarters and the mirror images of both, "
            f"{there.sum():,} of {len(there):,} have one; in the {len(bits):,} pairs of different photos among them "
            f"at least {bits[0]:.0f} bits differ, at least {bits[len(bits) // 1_000_000]:.0f} in all but one in a "
            f"million, {bits.mean():.1f} in the mean with a deviation of {bits.std():.1f}."
        ),
    ]
    least, cropped = min(shares[kind] for kind in JUDGED), shares[CROPPED]
    bars = [
        Bar(f"copies {'; '.join(JUDGED)}: the least of these", f"{least:.1%}", f"at least {LIKE:.0%}", least >= LIKE),
        Bar(f"copies {CROPPED}", f"{cropped:.1%}", f"at least {CUT:.0%}", cropped >= CUT),
        Bar("pairs of different photos, among all of the searches", f"{wrong}", "none", wrong == 0),
        Bar("pairs of different photos by fingerprints, among the pieces", f"{(bits <= doubts.BITS).sum()}", "none",
            bits[0] > doubts.BITS),
        Bar(f"seconds to search {MANY:,} fingerprints, on one processor", f"{seconds:.0f}", f"at most {SECONDS:.0f}",
            seconds <= SECONDS),
    ]  # fmt: skip
    sys.exit(0 if common.report("Near-duplicates", lines, bars, args=args, of="look alike") else 1)


if __name__ == "__main__":
    main()
