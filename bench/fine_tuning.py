"""Fine-tuning beside the frozen head: ants and bees, and the real convolutions of VGG16.

    python bench/fine_tuning.py --weights vgg16_notop.h5

The photos are the training's own to learn from, and its validation to judge by; they overlap ImageNet, so this is a
check, not a claim. Each way is judged twice: told when to stop by the validation photos themselves, and by a fifth of
the photos to learn from, so that the validation photos had no say in anything. It takes Keras with a backend, and some
minutes; `--rates` tries learning rates.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this checkout's, whatever is installed

import photolabel
from photolabel.teaching import Step, teach

import common
from common import Bar

SHARED = Path(os.environ.get("PHOTOLABEL_SHARED", common.ROOT.parent / "shared"))
PHOTOS = SHARED / "data" / "hymenoptera"
LEAST = 0.915  # of the validation photos, that the frozen head names rightly


def judged(path: Path) -> tuple[int, int]:
    """How many of the validation photos the network in a file names rightly, and how many there are."""
    photos = sorted(PHOTOS.glob("val/*/*"))
    with photolabel.load(path) as classifier:
        found = list(classifier.classify_many(photos, top=1))
    return sum(each.top.name == photo.parent.name for each, photo in zip(found, photos, strict=True)), len(photos)


def taught(folder: Path, weights: Path, **options: Any) -> dict[str, Any]:
    """Teach, and return what came of it and how long its parts took."""
    begun = time.perf_counter()
    seconds: list[float] = []
    last = begun

    def epoch(done: Any) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds.append(now - last)
        last = now
        print(f"  {done}", file=sys.stderr, flush=True)

    out = folder / "bees.onnx"
    lesson = teach(PHOTOS / "train", out, weights=weights, step=Step(epoch=epoch), **options)
    right, of = judged(out)
    out.unlink()
    return {
        "lesson": lesson, "right": right, "of": of, "seconds": time.perf_counter() - begun,
        "epoch": sum(seconds[1:]) / len(seconds[1:]) if seconds[1:] else float("nan"),
    }  # fmt: skip


def row(name: str, made: dict[str, Any]) -> tuple[str, ...]:
    tuned, share = made["lesson"].tuned, f"{made['right']} of {made['of']}, {made['right'] / made['of']:.1%}"
    if tuned is None:
        return name, share, "", "", "", f"{made['seconds']:.0f}"
    before, after = tuned.epochs[0], tuned.epochs[tuned.best]
    kept = f"{tuned.best} of {len(tuned.epochs) - 1}" if tuned.best else f"none of {len(tuned.epochs) - 1}"
    losses = f"{before.held_loss:.3f} to {after.held_loss:.3f}"
    return name, share, kept, losses, f"{made['epoch']:.0f}", f"{made['seconds']:.0f}"


def main() -> None:
    parser = common.options(__doc__, runs=1)
    parser.add_argument("--weights", type=Path, help="VGG16's convolutions, as Keras publishes them (notop)")
    parser.add_argument("--rates", default="1e-4", help="learning rates to try, joined by commas (default 1e-4)")
    parser.add_argument("--blocks", default="1", help="how many blocks to train, joined by commas (default 1)")
    args = parser.parse_args()
    if not PHOTOS.is_dir() or args.weights is None:
        print("fine tuning: skipped, for it takes the shared photos beside this checkout, and --weights")
        return
    rows, blocks = [], [int(each) for each in args.blocks.split(",")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.setdefault("PHOTOLABEL_CACHE", str(folder / "cache"))
        frozen = taught(folder, args.weights, views="ten-crop")
        rows.append(row("frozen, ten crops", frozen))
        best = frozen
        for count in blocks:
            for rate in args.rates.split(","):
                words = f"{count} block{'s' if count > 1 else ''} at {rate}"
                for how, more in (("held out", {}), ("given", {"validation": PHOTOS / "val"})):
                    made = taught(folder, args.weights, fine_tune=count, learning_rate=float(rate), **more)
                    rows.append(row(f"{words}, stopped by photos {how}", made))
                    if how == "held out":
                        best = max(best, made, key=lambda each: each["right"])
        import keras

        backend = keras.backend.backend()
    lines = [
        (
            "`python bench/fine_tuning.py`: ants and bees, 244 photos to learn from, 153 to judge by; the real "
            "convolutions of VGG16; SGD with momentum 0.9; ten crops, float16 maps. The frozen network's features are "
            "computed by the first row and kept; the maps below a block by the first row that trains it."
        ),
        f"{common.machine()}; Keras {keras.__version__} on {backend}.",
        "",
        *common.table(
            ["", "right, of 153", "epoch kept", "loss of the held-out photos", "seconds an epoch", "seconds in all"],
            rows,
        ),
    ]
    bars = [
        Bar("the frozen head, right", f"{frozen['right'] / frozen['of']:.1%}", f"at least {LEAST:.1%}",
            frozen["right"] >= LEAST * frozen["of"]),
    ]  # fmt: skip
    sys.exit(0 if common.report("Fine-tuning", lines, bars, args=args, of="ants and bees") else 1)


if __name__ == "__main__":
    main()
