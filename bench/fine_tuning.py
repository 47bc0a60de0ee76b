"""Fine-tuning beside the frozen head, with the real convolutions of VGG16, on what is like ImageNet and what is not.

    python bench/fine_tuning.py --weights vgg16_notop.h5

Ants and bees overlap ImageNet, so they are a check, not a claim; handwritten digits, which come with scikit-learn, are
nothing like it. A fifth of what is learnt from says when to stop, so that what is judged by has had no say in anything.
It takes Keras with a backend, and some minutes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this checkout's, whatever is installed

import photolabel
from photolabel.teaching import Step, teach

import common
from common import Bar
from nearness import base

SHARED = Path(os.environ.get("PHOTOLABEL_SHARED", common.ROOT.parent / "shared"))
LEAST = 0.915  # of ants and bees, that the frozen head names rightly
LEARNT, JUDGED = 30, 30  # digits of each class


@dataclass(frozen=True, kw_only=True)
class Set:
    """Photos to learn from and photos to judge by, each a folder a class, and the views that make sense of them."""

    name: str
    learnt: Path
    judged: Path
    views: str


def digits(folder: Path) -> Set:
    """Handwritten digits of 8 x 8 pixels, drawn larger. A mirror image of one is none."""
    from sklearn.datasets import load_digits

    given = load_digits()
    random = np.random.default_rng(0)
    for each in range(10):
        places = random.permutation(np.flatnonzero(given.target == each))[: LEARNT + JUDGED]
        for number, place in enumerate(places.tolist()):
            path = folder / ("learnt" if number < LEARNT else "judged") / f"{each}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray((given.images[place] * 15.9).astype(np.uint8)).convert("RGB")
            picture.resize((224, 224), Image.Resampling.BICUBIC).save(path)
    return Set(name="digits", learnt=folder / "learnt", judged=folder / "judged", views="one")


def right(network: Path, top: Path) -> tuple[int, int]:
    """How many of the photos the network in a file names rightly, and how many there are."""
    photos = sorted(top.glob("*/*"))
    with photolabel.load(network) as classifier:
        found = list(classifier.classify_many(photos, top=1))
    return sum(each.top.name == photo.parent.name for each, photo in zip(found, photos, strict=True)), len(photos)


@dataclass(frozen=True, kw_only=True)
class Made:
    """What came of one way to teach: photos named rightly, of how many, its fine-tuning if any, and what it took."""

    right: int
    of: int
    tuned: Any
    seconds: float
    epoch: float

    @property
    def share(self) -> str:
        return f"{self.right} of {self.of}, {self.right / self.of:.1%}"

    def row(self, *names: str) -> Sequence[str]:
        if self.tuned is None:
            return *names, self.share, "", "", "", f"{self.seconds:.0f}"
        history, best = self.tuned.epochs, self.tuned.best
        kept = f"{best or 'none'} of {len(history) - 1}"
        losses = f"{history[0].held_loss:.3f} to {history[best].held_loss:.3f}"
        return *names, self.share, kept, losses, f"{self.epoch:.0f}", f"{self.seconds:.0f}"


def taught(photos: Set, weights: Path, out: Path, **options: Any) -> Made:
    begun = time.perf_counter()
    ends: list[float] = []

    def epoch(done: Any) -> None:
        ends.append(time.perf_counter())
        print(f"  {photos.name} {done}", file=sys.stderr, flush=True)

    lesson = teach(photos.learnt, out, weights=weights, views=photos.views, step=Step(epoch=epoch), **options)
    seconds = time.perf_counter() - begun
    named, of = right(out, photos.judged)
    each = (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else float("nan")
    return Made(right=named, of=of, tuned=lesson.tuned, seconds=seconds, epoch=each)


def main() -> None:
    parser = common.options(__doc__, runs=1)
    parser.add_argument("--weights", type=Path, help="VGG16's convolutions, as Keras publishes them (notop)")
    parser.add_argument("--rates", default="1e-4,3e-4", help="learning rates to try, joined by commas")
    parser.add_argument("--blocks", default="1", help="how many blocks to train, joined by commas (default 1)")
    parser.add_argument("--sets", default="bees,digits", help="which sets, joined by commas (default: both)")
    args = parser.parse_args()
    weights: Path | None = args.weights or base()
    if weights is None:
        print("fine-tuning: skipped, for it takes the convolutions of VGG16: --weights")
        return
    bees = SHARED / "data" / "hymenoptera"
    rows: list[Sequence[str]] = []
    bars: list[Bar] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.setdefault("PHOTOLABEL_CACHE", str(folder / "cache"))
        sets = {"digits": digits(folder / "digits")}
        if bees.is_dir():
            sets["bees"] = Set(name="ants and bees", learnt=bees / "train", judged=bees / "val", views="ten-crop")
        for each in (sets[which] for which in args.sets.split(",") if which in sets):
            out = folder / "taught.onnx"
            frozen = taught(each, weights, out)
            rows.append(frozen.row(each.name, "frozen"))
            ways = [(int(count), float(rate)) for count in args.blocks.split(",") for rate in args.rates.split(",")]
            found = []
            for count, rate in ways:
                made = taught(each, weights, out, fine_tune=count, learning_rate=rate)
                found.append(made)
                rows.append(made.row(each.name, f"{count} block{'s' if count > 1 else ''} at {rate:g}"))
            if each.name == "digits":
                more = f"more than {frozen.right}"
                bars.append(Bar("digits, right", f"{found[0].right}", more, found[0].right > frozen.right))
            else:
                least = frozen.right >= LEAST * frozen.of
                bars.append(Bar("ants and bees, frozen, right", frozen.share, f"at least {LEAST:.1%}", least))
        import keras

        backend = keras.backend.backend()
    lines = [
        (
            "`python bench/fine_tuning.py --weights vgg16_notop.h5`: the real convolutions of VGG16; 244 ants and bees "
            f"to learn from and 153 to judge by, ten crops each; {LEARNT} digits of each class to learn from and "
            f"{JUDGED} to judge by, as they are. A fifth of what is learnt from is held out, and says when to stop. "
            "What is computed once is in the seconds of the first row that needs it: features in the first, maps in "
            "the second."
        ),
        f"{common.machine()}; Keras {keras.__version__} on {backend}.",
        "",
        *common.table(
            ["", "", "right", "epoch kept", "loss of the held-out photos", "seconds an epoch", "seconds in all"], rows
        ),
    ]
    sys.exit(0 if common.report("Fine-tuning", lines, bars, args=args, of="fine-tuning") else 1)


if __name__ == "__main__":
    main()
