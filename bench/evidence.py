"""How well heat maps mark what they should: boxes drawn by hand, pixels deleted, and the time it takes.

usage: python bench/evidence.py [--runs N] [--print]

The photos are those of imagenet100 in the folder that PHOTOLABEL_SHARED names, or that lies beside the checkout as
`shared`; without it nothing is measured. evidence_boxes.tsv has a box round the thing in each of some of them, drawn
by eye, in parts of the photo's sides, before any map of that photo was seen. Those of "eye" were chosen by eye too,
among photos whose thing takes up less than half of the picture: above that no map could hold much more of its energy
inside than the box is large. Of what is left of the photo once it is cut to the network's input some boxes are more
than that, up to 0.78; none was taken out for it. Later all other photos were gone through, and those of "rule" were
added: that show one thing of their class, bounded to the eye, with a box of at most half of what the network sees;
whatever is part of the thing, as feelers are, is in the box. By the bundled model; times also by VGG16 with seeded
weights. Needs photolabel where it runs.
"""

from __future__ import annotations

import csv
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from photolabel import load, models, prepared
from photolabel.explain import explain

import common
from common import Bar
from nearness import SHARED

BOXES = Path(__file__).with_name("evidence_boxes.tsv")
SHARES = (0.05, 0.1, 0.2, 0.3)  # of the input's pixels that are deleted
BLOBS = 5  # random ones, to be averaged
TIMES, OF_THEM = 1.5, 0.8
SLOWER = 3.0


def energy(found: Any, box: tuple[float, ...]) -> tuple[float, float]:
    """How many times as much of the map's energy is in the box as the box is large, and how large that is.

    Both are shares of what the network saw.
    """
    over = found.over_photo()
    left, top, right, bottom = (round(edge) for edge in found.cut)
    seen = np.zeros(over.shape, bool)
    seen[max(top, 0) : bottom, max(left, 0) : right] = True
    inside = np.zeros(over.shape, bool)
    height, width = over.shape
    inside[round(box[1] * height) : round(box[3] * height), round(box[0] * width) : round(box[2] * width)] = True
    area = (inside & seen).sum() / seen.sum()
    return float(over[inside & seen].sum() / max(over.sum(), 1e-9) / area) if area else 0.0, float(area)


def blob(size: int, share: float, centre: tuple[float, float]) -> Any:
    """The pixels nearest to a place, so many of them."""
    y, x = np.mgrid[:size, :size]
    distance = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
    return distance <= np.partition(distance.ravel(), int(share * size * size))[int(share * size * size)]


def kept(classifier: Any, made: Any, index: int, mask: Any) -> float:
    """The class's probability once the pixels of a mask are grey."""
    pixels = made.pixels.copy()
    pixels[mask] = pixels.reshape(-1, 3).mean(axis=0).round()
    (prediction,) = classifier.predict([replace(made, views=(pixels,))])
    return float(prediction.probabilities[index])


def main() -> None:
    args = common.options(__doc__, runs=7).parse_args()
    folder = SHARED / "data" / "imagenet100"
    if not folder.is_dir():
        print("evidence: skipped, for the shared photos are not beside this checkout")
        return
    with BOXES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    boxes = {row["photo"]: tuple(float(row[edge]) for edge in ("left", "top", "right", "bottom")) for row in rows}
    chosen = {row["photo"]: row["chosen"] for row in rows}
    rng = np.random.default_rng(0)
    with load(models.BUNDLED, calibrated=False) as classifier:  # whatever this machine has learnt
        times: dict[str, float] = {}
        large: dict[str, float] = {}
        left: dict[str, dict[float, list[float]]] = {
            how: {share: [] for share in SHARES} for how in ("marked", "random", "middle")
        }
        for name, box in boxes.items():
            wnid = name.partition("_")[0]
            found = explain(classifier, folder / name, label=wnid)
            times[name], large[name] = energy(found, box)
            made = prepared.prepare(folder / name, classifier.recipe)
            size = classifier.recipe.size
            order = np.argsort(-found.map.ravel(), kind="stable")
            for share in SHARES:
                marked = np.zeros(size * size, bool)
                marked[order[: int(share * size * size)]] = True
                masks = {"marked": [marked.reshape(size, size)], "middle": [blob(size, share, (size / 2, size / 2))]}
                masks["random"] = [blob(size, share, tuple(rng.uniform(0, size, 2))) for _ in range(BLOBS)]
                for how, several in masks.items():
                    index = found.label.index
                    left[how][share].append(statistics.mean(kept(classifier, made, index, m) for m in several))
        one = folder / next(iter(boxes))
        plain = common.median(lambda: classifier.classify(one), args.runs)
        slower = {"activation, bundled model": common.median(lambda: explain(classifier, one), args.runs) / plain}
    weights = common.seeded_weights(Path(sys.executable).parent)
    with load(weights=weights, calibrated=False) as vgg:
        plain = common.median(lambda: vgg.classify(one), args.runs)
        slower["gradient, VGG16"] = common.median(lambda: explain(vgg, one), args.runs) / plain
    mean = {how: {share: statistics.mean(each) for share, each in by.items()} for how, by in left.items()}
    enough = sum(each >= TIMES for each in times.values())
    hopeless = sum(each > 1 / TIMES for each in large.values())

    def by_choice(how: str) -> str:
        those = [each for name, each in times.items() if chosen[name] == how]
        return f"{sum(each >= TIMES for each in those)} of {len(those)}"

    missed = [f"{name[10:-5].replace('_', ' ')} {each:.2f}" for name, each in times.items() if each < TIMES]
    lines = [
        (
            f"`python bench/evidence.py`: {len(boxes)} photos of ImageNet's, which the network was trained on; class "
            f"activation maps of the bundled model for the right class; medians of {args.runs} runs."
        ),
        f"{common.machine()}.",
        "",
        (
            f"Energy in the boxes, as times what the boxes are large: median {statistics.median(times.values()):.2f}; "
            f"at least {TIMES:g} on {by_choice('eye')} chosen by eye, on {by_choice('rule')} added by a rule. "
            f"{hopeless} boxes are more than 1/{TIMES:g} of what the network sees: no map could have {TIMES:g} times "
            f"as much in them. They count all the same. Below {TIMES:g}: {', '.join(missed)}."
        ),
        "",
        *common.table(
            ["deleted", *(f"{share:.0%} of the pixels" for share in SHARES)],
            [(f"{how}, mean probability left", *(f"{by[share]:.3f}" for share in SHARES)) for how, by in mean.items()],
        ),
    ]
    bars = [
        Bar(f"photos with {TIMES:g} times as much energy in the box", f"{enough} of {len(times)}",
            f"at least {OF_THEM:.0%}", enough >= OF_THEM * len(times)),
        *(
            Bar(
                f"marked pixels deleted, beside {how} ones",
                ", ".join(f"{mean['marked'][share]:.3f}/{mean[how][share]:.3f}" for share in SHARES),
                "less left at every share",
                all(mean["marked"][share] < mean[how][share] for share in SHARES),
            )
            for how in ("random", "middle")
        ),
        *(Bar(f"{how}, times as long as the plain network", f"{ratio:.2f}", f"at most {SLOWER:g}", ratio <= SLOWER)
          for how, ratio in slower.items()),
    ]  # fmt: skip
    sys.exit(0 if common.report("Evidence", lines, bars, args=args, of="explain") else 1)


if __name__ == "__main__":
    main()
