"""Peak memory and seconds of teaching from 100,000 photos, once their features are there.

usage: python bench/teaching_memory.py [--photos N] [--print]

The features are made up: 1280 numbers a photo, float32, uneven as a network's are, each class around a mean of its own,
as far from the others as makes most of the photos told apart; one in a hundred is nearly another. Of them a fresh
process, for each kind of head and for few classes and many, finds what looks alike, fits the head with its folds,
learns what is familiar, draws the learning curve and makes the figures.
Memory is the process's peak in all, with Python, its libraries and the features. Writes what it found to
docs/benchmarks.md, and exits with 1 where it is 2 GB or more. Needs photolabel with its extra `teach` where it runs.
For Linux.
"""

from __future__ import annotations

import json
import subprocess
import sys

import common
from common import Bar

PHOTOS, FEATURES = 100_000, 1280
CLASSES = (10, 100)
KINDS = ("logistic", "svm")
MOST_MEGABYTES = 2000

PROGRAM = f"""
import json, re, sys, time
from pathlib import Path
import numpy as np
from photolabel.teaching import curve, doubts, familiar, figures, heads, solving
photos, features, classes, kind = int(sys.argv[1]), {FEATURES}, int(sys.argv[2]), sys.argv[3]
peak = lambda: int(re.search(r"VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1]) / 1000
random = np.random.default_rng(0)
spread = np.arange(1, features + 1, dtype=np.float32) ** -0.5
means = 0.25 * random.standard_normal((classes, features), np.float32) * spread
truth = np.arange(photos) % classes
rows = np.empty((photos, 1, features), np.float32)  # as they are computed: with an axis of views
for start in range(0, photos, 1000):
    some = truth[start:start + 1000]
    rows[start:start + 1000, 0] = means[some] + random.standard_normal((len(some), features), np.float32) * spread
for some in range(0, photos // 2, 100):  # nearly the same photo
    rows[-1 - some] = rows[some] + 0.1 * spread * random.standard_normal((1, features), np.float32)
rows = rows[:, 0]
told = [("made", peak(), 0.0)]
def step(name, work):
    begun = time.perf_counter()
    found = work()
    told.append((name, peak(), time.perf_counter() - begun))
    return found
with solving.one_thread():
    alike = step("alike", lambda: doubts.near(rows, truth))
    groups = doubts.together(truth, [(pair.one, pair.other) for pair in alike]).of_photo
    fitted = step("head", lambda: heads.fit(rows, truth, classes=classes, kind=kind, groups=groups))
    known = step("familiar", lambda: familiar.learn(rows, truth, fitted.fold, classes=classes))
    grown = step("curve", lambda: curve.measure(rows, truth, fitted, classes=classes, groups=groups))
    made = step("figures", lambda: figures.figures(fitted.probabilities, truth, fitted.judged))
    wrong = step("mislabelled", lambda: doubts.mislabelled(fitted.probabilities, truth, fitted.judged))
print(json.dumps([told, made.accuracy.value, fitted.head.strength, len(fitted.tried)]))
"""

STEPS = {"alike": "what looks alike", "head": "head", "curve": "learning curve"}


def measured(photos: int, classes: int, kind: str) -> tuple[dict[str, tuple[float, float]], float, float, int]:
    """Return megabytes so far and seconds of each step, the accuracy, the strength, and how many were tried."""
    command = [sys.executable, "-c", PROGRAM, str(photos), str(classes), kind]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    told, accuracy, strength, tried = json.loads(done.stdout)
    return {name: (megabytes, seconds) for name, megabytes, seconds in told}, accuracy, strength, tried


def main() -> None:
    parser = common.options(__doc__, runs=1)
    parser.add_argument("--photos", type=int, default=PHOTOS, help=f"how many (default {PHOTOS:,})")
    args = parser.parse_args()
    rows, peaks = [], {}
    for classes in CLASSES:
        for kind in KINDS:
            print(f"{kind}, {classes} classes ...", file=sys.stderr, flush=True)
            found, accuracy, strength, tried = measured(args.photos, classes, kind)
            peaks[f"{kind}, {classes} classes"] = megabytes = max(each for each, _ in found.values())
            seconds = [f"{found[name][1]:.0f}" for name in STEPS]
            rest = sum(each for name, (_, each) in found.items() if name not in STEPS)
            rows.append(
                (kind, f"{classes}", f"{100 * accuracy:.1f}%", f"{strength:.3g} of {tried}", f"{megabytes:.0f}",
                 *seconds, f"{rest:.0f}")
            )  # fmt: skip
            print(json.dumps(found), file=sys.stderr, flush=True)
    worst = max(peaks, key=lambda name: peaks[name])
    lines = [
        (
            f"`python bench/teaching_memory.py`: {args.photos:,} photos of {FEATURES} features, made up; of them "
            f"{args.photos * FEATURES * 4 / 1e6:.0f} MB. Peaks of whole processes; seconds by one thread; one run each."
        ),
        f"{common.machine()}.",
        "",
        *common.table(
            ["head", "classes", "accuracy", "strength", "MB", *(f"{name}, s" for name in STEPS.values()), "rest, s"],
            rows,
        ),
    ]
    bars = [Bar("MB", f"{peaks[worst]:.0f} ({worst})", f"less than {MOST_MEGABYTES}", peaks[worst] < MOST_MEGABYTES)]
    met = common.report("Teaching from many photos", lines, bars, args=args, of="the most of any head", most="bar")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
