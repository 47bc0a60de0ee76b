"""Whole processes, one photo each, beside the classic Keras script on TensorFlow, interleaved in one run.

usage: python bench/whole_process.py [--runs N]

Each tool has a virtual environment of its own under .cache/bench. The VGG16 weights are seeded: their values do not
change how long anything takes. Prints medians of wall time and peak memory, their ratios and the size of the
installation, and writes them to docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / ".cache" / "bench"
PHOTO = ROOT / "samples" / "coffee.jpg"
WEIGHTS = WORK / "vgg16_seeded.h5"
PAGE = ROOT / "docs" / "benchmarks.md"
TENSORFLOW = ["tensorflow-cpu", "pillow"]

MAKE_WEIGHTS = """
import sys, h5py, numpy as np
from photolabel.spec import VGG16
rng = np.random.default_rng(0)
with h5py.File(sys.argv[1], "w") as file:
    names = ["input_1", *(layer.name for layer in VGG16.layers[1:])]
    file.attrs["layer_names"] = [name.encode() for name in names]
    file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.2.4"
    for name, layer in zip(names, VGG16.layers):
        group = file.create_group(name)
        arrays = {}
        if layer.kernel:
            scale = np.float32((2 / np.prod(layer.kernel[:-1])) ** 0.5)
            arrays[f"{name}_W_1:0"] = rng.standard_normal(layer.kernel, dtype=np.float32) * scale
            arrays[f"{name}_b_1:0"] = np.zeros(layer.bias, np.float32)
        group.attrs["weight_names"] = np.array([key.encode() for key in arrays], dtype="S40")
        for key, array in arrays.items():
            group.create_dataset(key, data=array)
"""


@dataclass
class Contestant:
    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Run once, and note wall seconds and the operating system's own count of peak memory."""
        environment = {**os.environ, **self.environment}
        begun = time.perf_counter()
        process = subprocess.Popen(self.command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        self.seconds.append(time.perf_counter() - begun)
        self.megabytes.append(usage.ru_maxrss / (2**10 if sys.platform != "darwin" else 2**20))
        if status:
            raise SystemExit(f"{self.name} failed: {' '.join(self.command)}")

    @property
    def time(self) -> float:
        return statistics.median(self.seconds)

    @property
    def memory(self) -> float:
        return statistics.median(self.megabytes)


def environment(name: str, packages: list[str]) -> Path:
    """Return the bin folder of a virtual environment that has `packages`, made if need be."""
    folder = WORK / name
    python = folder / "bin" / "python"
    if not (folder / "done").exists():
        print(f"installing {' '.join(packages)} ...", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        (folder / "done").touch()
    return folder / "bin"


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="counted runs of each, after one that is not (default 7)")
    runs = parser.parse_args().runs
    WORK.mkdir(parents=True, exist_ok=True)
    ours = environment("photolabel", [str(ROOT)])
    subprocess.run(
        [ours / "python", "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", str(ROOT)], check=True
    )
    keras = environment("tensorflow", TENSORFLOW)
    if not WEIGHTS.exists():
        subprocess.run([ours / "python", "-c", MAKE_WEIGHTS, WEIGHTS], check=True)

    cache = {"PHOTOLABEL_CACHE": str(WORK / "cache"), "PHOTOLABEL_OFFLINE": "1"}
    photolabel = str(ours / "photolabel")
    script = Contestant(
        "Keras script, TensorFlow",
        [str(keras / "python"), str(ROOT / "bench" / "classic_script.py"), str(WEIGHTS), str(PHOTO)],
        {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    bundled = Contestant("photolabel, bundled model", [photolabel, "--model", "efficientnet-lite2", str(PHOTO)], cache)
    vgg16 = Contestant(
        "photolabel, VGG16 fp32", [photolabel, "--weights", str(WEIGHTS), "--recipe", "keras", str(PHOTO)], cache
    )
    empty = Contestant("empty Python", [str(ours / "python"), "-c", "pass"])
    helping = Contestant("photolabel --help", [photolabel, "--help"])
    everyone = [script, bundled, vgg16, empty, helping]
    for run in range(runs + 1):
        for contestant in everyone:
            contestant.run()
        if run == 0:  # caches warm from here
            for contestant in everyone:
                contestant.seconds.clear()
                contestant.megabytes.clear()

    size, theirs = installed_megabytes(ours), installed_megabytes(keras)
    allowed = 2 * empty.time + 0.1
    bars = [
        share("bundled model, time", bundled.time / script.time, 1 / 9),
        share("VGG16 fp32, time", vgg16.time / script.time, 1 / 7),
        share("VGG16 fp32, memory", vgg16.memory / script.memory, 1 / 2),
        (
            "--help, seconds",
            f"{helping.time:.3f}",
            f"2 x {empty.time:.3f} + 0.1 = {allowed:.3f}",
            helping.time <= allowed,
        ),
        ("installed, MB", f"{size:.0f} (the script's packages: {theirs:.0f})", "400", size <= 400),
    ]
    machine = (
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, "
        f"TensorFlow {version(keras, 'tensorflow-cpu')}, Keras {version(keras, 'keras')}, "
        f"OpenVINO {version(ours, 'openvino')}; medians of {runs} runs."
    )
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`: whole processes, one photo each, caches warm, interleaved in one run.",
        machine,
        "",
        "| | seconds | MB at the peak |",
        "|---|---|---|",
        *(f"| {x.name} | {x.time:.3f} | {x.memory:.0f} |" for x in everyone),
        "",
        "| of the Keras script's | is | at most | |",
        "|---|---|---|---|",
        *(f"| {what} | {found} | {most} | {'reached' if ok else '**missed**'} |" for what, found, most, ok in bars),
        "",
    ]
    page = "\n".join(lines)
    print(page)
    PAGE.write_text(page, "utf-8")
    sys.exit(0 if all(ok for *_, ok in bars) else 1)


def share(what: str, ratio: float, most: float) -> tuple[str, str, str, bool]:
    """Say a share of the Keras script's and its bar."""
    return what, f"1/{1 / ratio:.1f}", f"1/{1 / most:.0f}", ratio <= most


def version(bin_folder: Path, package: str) -> str:
    """Return the version of a package in an environment."""
    program = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run(
        [bin_folder / "python", "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    main()
