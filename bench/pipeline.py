"""The pipeline of folders: how busy it keeps the processors, and that ten thousand photos need no more than a thousand.

usage: python bench/pipeline.py [--runs N] [--print]

VGG16 at int8, in fresh processes. How long a folder takes is set beside what the processors need for it: the seconds
of preparing the photos alone and of the network alone, shared out. Memory is that of the process and its workers
together, pages that several hold counted once (PSS), looked at several times a second; and the peak of each as the
system noted it (VmHWM), where shared pages count for each. Writes what it found to docs/benchmarks.md, and exits with
1 where a bar is missed. Runs are those of the time; memory is measured once. Needs photolabel where it runs. For Linux.
"""

from __future__ import annotations

import json
import os
import re
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import common
import folder_photos
from common import Bar

HERE = Path(__file__).resolve().parent
FOLDER = common.WORK / "pipeline"
CACHE = common.WORK / "cache"
KINDS = {"small": ("ImageNet-size", 1000), "large": ("camera-size", 96)}  # and how many of each
FEWER, MORE = 1000, 10_000
LOOK = 0.2  # seconds between two looks at the memory
CALM = 0.5  # seconds after which whatever was on its way is over
MOST_WALL, LEAST_BUSY = 1.1, 0.9
MOST_MEGABYTES, MOST_GROWTH = 700, 30


@dataclass(frozen=True)
class Work:
    """One run's seconds: of processors for each part alone, and for both together; and of the wall."""

    photos: int
    processors: int
    decoding: float
    network: float
    used: float
    wall: float

    @property
    def of_ideal(self) -> float:
        """The wall's time as a multiple of what there is to do, shared out among the processors."""
        return self.wall * self.processors / (self.decoding + self.network)

    @property
    def busy(self) -> float:
        return self.used / (self.wall * self.processors)


@dataclass
class Memory:
    """Megabytes at the peak, all processes together; and what was open when the last photo was named."""

    photos: int
    pss: float = 0.0
    marks: float = 0.0
    files: int = 0
    threads: int = 0


def main() -> None:
    args = common.options(__doc__, runs=3).parse_args()
    weights = common.seeded_weights(Path(sys.executable).parent)
    said = folder_photos.make(FOLDER)
    found: dict[str, list[Work]] = {kind: [] for kind in KINDS}
    for kind, (_, count) in KINDS.items():
        folder_photos.linked(sorted((FOLDER / kind / "once").iterdir()), FOLDER / "work" / kind, count)
    program = [sys.executable, str(HERE / "pipeline_run.py")]
    settings = {**os.environ, **common.offline(CACHE)}
    for run in range(args.runs):
        for kind, (name, count) in KINDS.items():
            print(f"{count} photos, {name}, {run + 1} of {args.runs} ...", file=sys.stderr, flush=True)
            command = [*program, "work", str(FOLDER / "work" / kind), str(weights)]
            done = subprocess.run(command, env=settings, stdout=subprocess.PIPE, text=True, check=True)
            found[kind].append(Work(**json.loads(done.stdout)))
    memories = []
    for count in (FEWER, MORE):
        print(f"memory of {count} photos ...", file=sys.stderr, flush=True)
        folder = folder_photos.linked(sorted((FOLDER / "small" / "once").iterdir()), FOLDER / "many", count)
        memories.append(remembered([*program, "memory", str(folder), str(weights)], settings, count))

    seconds = [
        (
            f"{name}, {count} photos",
            *(f"{statistics.median(getattr(x, part) for x in found[kind]):.1f}" for part in PARTS),
            f"{statistics.median(x.of_ideal for x in found[kind]):.2f}",
            f"{100 * statistics.median(x.busy for x in found[kind]):.0f} %",
        )
        for kind, (name, count) in KINDS.items()
    ]
    held = [(f"{x.photos}", f"{x.pss:.0f}", f"{x.marks:.0f}", f"{x.files}", f"{x.threads}") for x in memories]
    lines = [
        (
            "`python bench/pipeline.py`: VGG16 at int8 and `classify_folder`, workers started and ended included; "
            f"medians of {args.runs} runs. ImageNet-size: {said['small']}; camera-size: {said['large']}; each in the "
            "folder under several names."
        ),
        f"{common.machine()}; {common.versions(Path(sys.executable).parent, 'openvino')}.",
        "",
        *common.table(
            [
                "seconds",
                "of a processor, preparing alone",
                "network alone",
                "both in the pipeline",
                "of the wall",
                "times what is to do, shared out",
                "processors busy",
            ],
            seconds,
        ),
        "",
        "Memory, of the process and its workers together; files and threads as the last photo is named:",
        "",
        *common.table(["photos", "MB at the peak (PSS)", "sum of VmHWM", "files", "threads"], held),
    ]
    bars = judged(found["small"], *memories)
    sys.exit(0 if common.report("Pipeline", lines, bars, args=args, most="bar") else 1)


PARTS = ("decoding", "network", "used", "wall")


def judged(work: Sequence[Work], fewer: Memory, more: Memory) -> list[Bar]:
    """The bars."""
    wall, busy = statistics.median(x.of_ideal for x in work), statistics.median(x.busy for x in work)
    growth, peak = max(more.pss - fewer.pss, more.marks - fewer.marks), max(more.pss, fewer.pss)
    apart = f"than with {fewer.photos}"
    return [
        Bar(
            "wall, times (preparing + network) / processors, ImageNet-size",
            f"{wall:.2f}",
            f"at most {MOST_WALL:g}",
            wall <= MOST_WALL,
        ),
        Bar("processors busy, ImageNet-size", f"{100 * busy:.0f} %", f"at least {100 * LEAST_BUSY:.0f} %",
            busy >= LEAST_BUSY),
        Bar("MB at the peak", f"{peak:.0f}", f"at most {MOST_MEGABYTES}", peak <= MOST_MEGABYTES),
        Bar(f"MB more with {more.photos} photos {apart}", f"{growth:.0f}", f"at most {MOST_GROWTH}",
            growth <= MOST_GROWTH),
        *(
            Bar(f"{what} with {more.photos} photos", f"{many}", f"{few}, as with {fewer.photos}", many == few)
            for what, many, few in (("files", more.files, fewer.files), ("threads", more.threads, fewer.threads))
        ),
    ]  # fmt: skip


# -- what a tree of processes holds


def remembered(command: Sequence[str], settings: dict[str, str], photos: int) -> Memory:
    """Run a command until it prints that all photos are named, with an eye on what it holds."""
    found, marks = Memory(photos), dict[int, float]()
    with subprocess.Popen(command, env=settings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        while not select.select([process.stdout], [], [], LOOK)[0]:
            look(process.pid, found, marks)
        if not (said := process.stdout.readline()):
            raise SystemExit(f"failed: {' '.join(command)}")
        if int(said) != photos:
            raise SystemExit(f"{said.strip()} of {photos} photos were named: {' '.join(command)}")
        time.sleep(CALM)
        look(process.pid, found, marks)
        for pid in tree(process.pid):
            found.files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
            found.threads += len(list(Path(f"/proc/{pid}/task").iterdir()))
        print(file=process.stdin, flush=True)
    found.marks = sum(marks.values())
    return found


def look(pid: int, found: Memory, marks: dict[int, float]) -> None:
    """Note the most that the processes held together so far, and the peak of each."""
    together = 0.0
    for each in tree(pid):
        try:
            together += megabytes(Path(f"/proc/{each}/smaps_rollup"), "Pss")
            marks[each] = megabytes(Path(f"/proc/{each}/status"), "VmHWM")
        except (OSError, TypeError):  # it has just ended
            continue
    found.pss = max(found.pss, together)


def megabytes(file: Path, name: str) -> float:
    match = re.search(rf"^{name}:\s+(\d+) kB", file.read_text("utf-8"), re.MULTILINE)
    return int(match[1]) / 2**10  # type: ignore[index]


def tree(pid: int) -> list[int]:
    """A process and all beneath it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # After the name, which may hold anything, in brackets.
            parent = int((folder / "stat").read_text("utf-8").rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


if __name__ == "__main__":
    main()
