"""`photolabel models import` as a whole process, for a full-size VGG16 in each format of weights file.

usage: python bench/import_weights.py [--runs N] [--only FORMAT ...] [--print]

The files hold the same seeded numbers. One lies on the disk at a time, and goes with what is made of it; it was just
written, so it is read from memory. Prints medians of seconds and peak memory, writes them to docs/benchmarks.md, and
exits with 1 where a bar is missed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

import common
from common import Bar, Whole

FOLDER = common.WORK / "imports"
MOST_SECONDS, MOST_MEGABYTES = 20.0, 2500.0

# Format -> its writer in tests/forms.py, and a suffix that such files commonly have.
FORMATS = {
    "Keras, .h5": ("keras_h5", ".h5"),
    "Keras 3, .weights.h5": ("weights_h5", ".weights.h5"),
    "Keras 3, .keras": ("keras", ".keras"),
    "PyTorch, .pth": ("torch zip", ".pth"),
    "PyTorch before 1.6, .pth": ("torch legacy", ".pth"),
    "safetensors": ("safetensors", ".safetensors"),
    "Caffe, .caffemodel": ("caffe", ".caffemodel"),
    "NumPy, .npz": ("npz", ".npz"),
}

WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import forms
from photolabel import weights
from photolabel.spec import VGG16
source, target, form = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
forms.write(target, form, weights.read(source, VGG16), VGG16)
"""


def main() -> None:
    parser = common.options(__doc__, runs=3)
    parser.add_argument("--only", nargs="+", metavar="FORMAT", help="formats whose name begins so; not written down")
    args = parser.parse_args()
    ours = common.photolabel_environment()
    source = common.seeded_weights(ours)
    asked = {name: form for name, form in FORMATS.items() if not args.only or name.startswith(tuple(args.only))}
    args.print = args.print or asked != FORMATS
    done, sizes = [], []
    for name, (form, suffix) in asked.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        cache, file = FOLDER / "cache", FOLDER / f"vgg16{suffix}"
        imported = Whole(
            name, [str(ours / "photolabel"), "models", "import", "bench", str(file)], common.offline(cache)
        )
        try:
            FOLDER.mkdir(parents=True, exist_ok=True)
            write = [f"{ours}/python", "-c", WRITE, f"{common.ROOT}/tests", str(source), str(file), form]
            subprocess.run(write, check=True)
            sizes.append(file.stat().st_size / 2**20)
            for _ in range(args.runs):
                imported.run()
                shutil.rmtree(cache)
        finally:
            shutil.rmtree(FOLDER, ignore_errors=True)
        done.append(imported)

    rows = [
        (each.name, f"{size:.0f}", f"{each.time:.1f}", f"{each.memory:.0f}")
        for each, size in zip(done, sizes, strict=True)
    ]
    slowest, largest = max(done, key=lambda each: each.time), max(done, key=lambda each: each.memory)
    bars = [
        Bar("seconds", f"{slowest.time:.1f} ({slowest.name})", f"{MOST_SECONDS:g}", slowest.time <= MOST_SECONDS),
        Bar("MB at the peak", f"{largest.memory:.0f} ({largest.name})", f"{MOST_MEGABYTES:g}",
            largest.memory <= MOST_MEGABYTES),
    ]  # fmt: skip
    lines = [
        (
            "`python bench/import_weights.py`: `photolabel models import` as a whole process, VGG16 with seeded "
            f"weights; medians of {args.runs} runs."
        ),
        f"{common.machine()}; {common.versions(ours, 'photolabel', 'numpy', 'h5py')}.",
        "",
        *common.table(["format", "file, MB", "seconds", "MB at the peak"], rows),
    ]
    met = common.report("Importing weights", lines, bars, args=args, of="the most of any format", most="at most")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
