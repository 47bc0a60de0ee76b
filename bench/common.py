"""What the benches share: environments, whole processes, medians, bars, and the page that they write.

The process that measures others imports nothing heavy: what it holds itself would count as their peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / ".cache" / "bench"
PAGE = ROOT / "docs" / "benchmarks.md"
WEIGHTS = WORK / "vgg16_seeded.h5"

# The environments that several benches use, by the same names.
TENSORFLOW = ("tensorflow-cpu", "pillow")
JAX = ("keras", "h5py", "pillow", "jax")
TORCH = ("keras", "h5py", "pillow", "torch==2.13.0")
OPENVINO = ("openvino", "pillow")
ONNXRUNTIME = ("onnxruntime", "pillow")
NCNN = ("ncnn", "pillow")

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


# -- environments


def environment(name: str, packages: Sequence[str]) -> Path:
    """Return the bin folder of a virtual environment that has `packages`, made if need be.

    Raises `subprocess.CalledProcessError` where they cannot be installed.
    """
    folder = WORK / name
    stamp = folder / "done"
    wanted = "\n".join(packages)
    if not stamp.exists() or stamp.read_text("utf-8") != wanted:
        print(f"installing {' '.join(packages)} ...", file=sys.stderr, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        venv.create(folder, with_pip=True, clear=True)
        pip(folder / "bin", *packages)
        stamp.write_text(wanted, "utf-8")
    return folder / "bin"


def pip(bin_folder: Path, *arguments: str) -> None:
    quiet = ["-q", "--disable-pip-version-check"]
    subprocess.run([bin_folder / "python", "-m", "pip", "install", *quiet, *arguments], check=True)


def photolabel_environment() -> Path:
    """Return the bin folder of an environment with photolabel as it is in this checkout now."""
    folder = environment("photolabel", [str(ROOT)])
    pip(folder, "--no-deps", "--force-reinstall", str(ROOT))
    return folder


def seeded_weights(ours: Path) -> Path:
    """Return a Keras h5 file of VGG16 with seeded weights: their values do not change how long anything takes."""
    if not WEIGHTS.exists():
        unfinished = WEIGHTS.with_suffix(".part")
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([ours / "python", "-c", MAKE_WEIGHTS, unfinished], check=True)
        unfinished.replace(WEIGHTS)
    return WEIGHTS


def offline(cache: Path) -> dict[str, str]:
    """The settings under which every bench runs photolabel."""
    return {"PHOTOLABEL_CACHE": str(cache), "PHOTOLABEL_OFFLINE": "1"}


def version(bin_folder: Path, package: str) -> str:
    """Return the version of a package in an environment."""
    program = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run(
        [bin_folder / "python", "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()


def versions(bin_folder: Path, *packages: str) -> str:
    """Name packages of an environment and their versions."""
    return ", ".join(f"{package} {version(bin_folder, package)}" for package in packages)


def installed(environments: Mapping[str, Path]) -> str:
    """Name what was compared, and its versions, by the names of the environments that it was installed in."""
    names = {
        "photolabel": ["openvino"],
        "openvino": ["openvino"],
        "onnxruntime": ["onnxruntime"],
        "nncf": ["nncf", "openvino"],
        "ncnn": ["ncnn"],
        "tensorflow": ["keras", "tensorflow-cpu"],
        "jax": ["jax"],
        "torch": ["torch"],
    }
    told = (versions(folder, package) for name, folder in environments.items() for package in names[name])
    return ", ".join(dict.fromkeys(told))


# -- whole processes


@dataclass
class Whole:
    """A command that is run as a whole process, and what its runs took."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
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

    def forget(self) -> None:
        """Drop what was noted: caches are warm from here."""
        self.seconds.clear()
        self.megabytes.clear()

    @property
    def time(self) -> float:
        return statistics.median(self.seconds)

    @property
    def memory(self) -> float:
        return statistics.median(self.megabytes)


# -- processes that last


@dataclass
class Lasting:
    """A process in an environment of its own that loads once, and is stopped while others run.

    `away` says why it takes no part, if it does not. What it writes first is its `answer`.
    """

    name: str
    kind: str
    environment: str
    packages: Sequence[str] = ()
    away: str = ""
    folder: Path | None = None
    process: subprocess.Popen[str] | None = None
    answer: Any = None
    log: Path | None = None

    def install(self) -> None:
        """Find or make its environment."""
        try:
            self.folder = environment(self.environment, self.packages)
        except subprocess.CalledProcessError:
            self.away = "missing: cannot be installed"

    def start(self, program: Path, folder: Path, cache: Path) -> None:
        """Let it load, and stop it. `folder` is what its program is told, and where its log goes."""
        self.log = folder / f"{self.kind.replace(':', '-')}.log"
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [f"{self.folder}/python", str(program), self.kind, str(folder)],
                env={**os.environ, **offline(cache)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.answer = self._read()
        self.process.send_signal(signal.SIGSTOP)

    def ask(self, question: str) -> Any:
        """Let it answer one line, and stop it again."""
        assert self.process and self.process.stdin
        self.process.send_signal(signal.SIGCONT)
        print(question, file=self.process.stdin, flush=True)
        answer = self._read()
        self.process.send_signal(signal.SIGSTOP)
        return answer

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _read(self) -> Any:
        assert self.process and self.process.stdout and self.log
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} failed:\n{self.log.read_text('utf-8')[-2000:]}")
        return json.loads(line)


def median(work: Callable[[], object], runs: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the median seconds of some work in this process, after once that is not counted."""
    work()
    seconds = []
    for _ in range(runs):
        begun = clock()
        work()
        seconds.append(clock() - begun)
    return statistics.median(seconds)


# -- what is written


@dataclass(frozen=True)
class Bar:
    """One thing promised: what was found, what it should be, and whether it is; None where that cannot be told here."""

    what: str
    found: str
    bar: str
    reached: bool | None


def machine() -> str:
    """Say what this machine is, in as much as it decides how fast networks run."""
    model, flags = platform.processor(), ""
    if os.path.exists("/proc/cpuinfo"):  # noqa: PTH110  # not on macOS and Windows
        told = Path("/proc/cpuinfo").read_text("utf-8")
        model = _told(told, r"model name") or model
        flags = _told(told, r"flags")
    # What 8-bit and bf16 networks are fast by.
    kinds = [name for name in ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
             if name in flags.split()]  # fmt: skip
    parts = [platform.machine(), model, f"{os.cpu_count()} processors", " ".join(kinds)]
    return ", ".join(part for part in parts if part) + f"; Python {platform.python_version()}"


def _told(text: str, name: str) -> str:
    match = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [_row(head), "|" + "---|" * len(head), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def share(what: str, ratio: float, most: float) -> Bar:
    """A part of what another takes, which should be small."""
    return Bar(what, f"1/{1 / ratio:.1f}", f"1/{1 / most:.0f}", ratio <= most)


class Contender(Protocol):
    """Whoever takes part in a comparison, or is away from it."""

    name: str

    @property
    def away(self) -> str: ...


def faster(what: str, ours: Contender, peers: Sequence[Contender], least: float, took: Callable[[Any], float]) -> Bar:
    """Ours beside the quickest of its peers; `took` is infinite for one that is away, and who is missing is named."""
    asked = f"{least:g}"
    if ours.away:
        return Bar(what, ours.away, asked, None)
    missing = "".join(f"; {peer.name} {peer.away}" for peer in peers if peer.away)
    quickest = min(peers, key=took)
    if quickest.away:  # what cannot be compared is not reached either
        return Bar(what, missing.removeprefix("; "), asked, False)
    times = took(quickest) / took(ours)
    return Bar(what, f"{times:.2f} ({quickest.name}{missing})", asked, times >= least)


def options(about: str | None, *, runs: int) -> argparse.ArgumentParser:
    """Return the parser of what every bench takes."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=runs, help=f"counted runs of each (default {runs})")
    parser.add_argument("--print", action="store_true", help="print only; docs/benchmarks.md stays as it is")
    return parser


def report(
    title: str, lines: Sequence[str], bars: Sequence[Bar], *, args: argparse.Namespace, of: str = "", most: str = "bar"
) -> bool:
    """Print a bench's section, write it to the page unless told not to, and return whether no bar was missed."""
    said = {True: "reached", False: "**missed**", None: "not judged"}
    judged = table([of, "is", most, ""], [(x.what, x.found, x.bar, said[x.reached]) for x in bars])
    body = "\n".join([*lines, *(["", *judged] if bars else [])])
    print(f"## {title}\n\n{body}\n", flush=True)
    if not args.print:
        PAGE.write_text(with_section(PAGE.read_text("utf-8"), title, body), "utf-8")
    return all(bar.reached is not False for bar in bars)


def with_section(page: str, title: str, body: str) -> str:
    """Return `page` with its section `title` replaced, or added at the end; all else stays."""
    section = f"## {title}\n\n{body.strip()}\n"
    others = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    place = next((i for i, other in enumerate(others) if other.startswith(f"## {title}\n")), len(others))
    others[place : place + 1] = [section]
    return "\n".join(other.strip("\n") + "\n" for other in others)
