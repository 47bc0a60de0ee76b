"""Whole processes, one photo each, beside the classic Keras script on TensorFlow, interleaved in one run.

usage: python bench/whole_process.py [--runs N] [--print]

Each tool has a virtual environment of its own under .cache/bench. Prints medians of wall time and peak memory, their
ratios and the size of the installation, writes them to docs/benchmarks.md, and exits with 1 where a bar is missed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import common
from common import Bar, Whole, share

PHOTO = common.ROOT / "samples" / "coffee.jpg"


def installed_megabytes(bin_folder: Path) -> float:
    """Return what the packages take on disk, pip and setuptools aside: every venv has them before anything."""
    (site,) = (bin_folder.parent / "lib").glob("python*/site-packages")
    own = [
        p
        for p in site.iterdir()
        if not p.name.startswith(("pip", "setuptools", "_distutils", "distutils", "pkg_resources"))
    ]
    files = {
        f.stat().st_ino: f.stat().st_size for p in own for f in (p.rglob("*") if p.is_dir() else [p]) if f.is_file()
    }
    return sum(files.values()) / 2**20


def main() -> None:
    args = common.options(__doc__, runs=7).parse_args()
    ours = common.photolabel_environment()
    keras = common.environment("tensorflow", common.TENSORFLOW)
    weights = str(common.seeded_weights(ours))

    cache = common.offline(common.WORK / "cache")
    photolabel = str(ours / "photolabel")
    script = Whole(
        "Keras script, TensorFlow",
        [str(keras / "python"), str(common.ROOT / "bench" / "classic_script.py"), weights, str(PHOTO)],
        {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    bundled = Whole("photolabel, bundled model", [photolabel, "--model", "efficientnet-lite2", str(PHOTO)], cache)
    vgg16 = [photolabel, "--weights", weights, "--recipe", "keras"]
    fp32 = Whole("photolabel, VGG16 fp32", [*vgg16, str(PHOTO)], cache)
    int8 = Whole("photolabel, VGG16 int8", [*vgg16, "--precision", "int8", str(PHOTO)], cache)
    empty = Whole("empty Python", [str(ours / "python"), "-c", "pass"])
    helping = Whole("photolabel --help", [photolabel, "--help"])
    everyone = [script, bundled, fp32, int8, empty, helping]
    for run in range(args.runs + 1):
        for contestant in everyone:
            contestant.run()
            if run == 0:
                contestant.forget()

    size, theirs = installed_megabytes(ours), installed_megabytes(keras)
    allowed = 2 * empty.time + 0.1
    bars = [
        share("bundled model, time", bundled.time / script.time, 1 / 9),
        share("VGG16 fp32, time", fp32.time / script.time, 1 / 7),
        share("VGG16 fp32, memory", fp32.memory / script.memory, 1 / 2),
        share("VGG16 int8, time", int8.time / script.time, 1 / 10),
        share("VGG16 int8, memory", int8.memory / script.memory, 1 / 6),
        Bar(
            "--help, seconds",
            f"{helping.time:.3f}",
            f"2 x {empty.time:.3f} + 0.1 = {allowed:.3f}",
            helping.time <= allowed,
        ),
        Bar("installed, MB", f"{size:.0f} (the script's packages: {theirs:.0f})", "400", size <= 400),
    ]
    installed = f"{common.versions(keras, 'tensorflow-cpu', 'keras')}, {common.versions(ours, 'openvino')}"
    lines = [
        f"`python bench/whole_process.py`: one photo each, caches warm, interleaved; medians of {args.runs} runs.",
        f"{common.machine()}; {installed}.",
        "",
        *common.table(
            ["", "seconds", "MB at the peak"], [(x.name, f"{x.time:.3f}", f"{x.memory:.0f}") for x in everyone]
        ),
    ]
    met = common.report("Whole processes", lines, bars, args=args, of="of the Keras script's", most="at most")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
