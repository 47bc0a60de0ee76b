"""Folders of photos, beside what people use instead: Keras, PyTorch, OpenVINO, ONNX Runtime and ncnn, interleaved.

usage: python bench/folders.py [--runs N] [--only NAME ...] [--print]

Each contestant loads VGG16 with the same weights once, in a process and a virtual environment of its own, and is
stopped while another one runs. Photos of two sizes, ImageNet's and a camera's; photolabel goes through each several
times, under other names: it starts its workers with every folder, which loops do not. Those that no bar is about run
in every other round. At last whole processes: photolabel at int8, and the classic script with a loop. Prints photos a
second, medians, and their ratios, writes them to docs/benchmarks.md, and exits with 1 where a bar is missed. All tools
at once take some 10 GB of memory. For Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import common
from common import Bar, Lasting, Whole

HERE = Path(__file__).resolve().parent
FOLDER = common.WORK / "folders"
CACHE = common.WORK / "cache"
NCNN = FOLDER / "vgg16.ncnn"
SIZES = {"small": "ImageNet-size", "large": "camera-size"}
WHOLE_RUNS = 3


@dataclass
class Contestant:
    """One way in which a tool goes through a folder."""

    name: str
    tool: Lasting
    way: str
    judged: bool = False
    paces: dict[str, list[float]] = field(default_factory=lambda: {size: [] for size in SIZES})

    @property
    def away(self) -> str:
        return self.tool.away

    @property
    def ours(self) -> bool:
        return self.tool.environment == "photolabel"

    def turn(self, size: str) -> None:
        """Go through a folder once, and note photos a second."""
        folder = FOLDER / size if self.ours else FOLDER / size / "once"
        self.paces[size].append(photos(folder) / self.tool.ask(f"{self.way} {folder}"))

    def pace(self, size: str) -> float:
        """Photos a second; 0 where it takes no part."""
        return statistics.median(self.paces[size]) if self.paces[size] else 0.0

    def seconds(self, size: str) -> float:
        """A photo's; infinity where it takes no part, so that it is never the quickest."""
        return 1 / self.pace(size) if self.paces[size] else float("inf")


def photos(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def contestants() -> dict[str, Contestant]:
    tensorflow = Lasting("Keras, TensorFlow", "keras:tensorflow", "tensorflow", common.TENSORFLOW)
    jax = Lasting("Keras, JAX", "keras:jax", "jax", common.JAX)
    peers = {
        "torch": Lasting("PyTorch", "torch:fp32", "torch", common.TORCH),
        "onnxruntime": Lasting("ONNX Runtime", "onnxruntime:fp32", "onnxruntime", common.ONNXRUNTIME),
        "openvino": Lasting("OpenVINO", "openvino:fp32", "openvino", common.OPENVINO),
    }
    ours = {x: Lasting(f"photolabel {x}", f"photolabel:{x}", "photolabel") for x in ("fp32", "bf16", "int8")}
    return {
        **{name: Contestant(tool.name, tool, "folder", judged=True) for name, tool in ours.items()},
        "loop": Contestant("Keras loop, TensorFlow", tensorflow, "loop", judged=True),
        "loop-jax": Contestant("Keras loop, JAX", jax, "loop"),
        "batched": Contestant("Keras batched, TensorFlow", tensorflow, "batched", judged=True),
        "batched-jax": Contestant("Keras batched, JAX", jax, "batched", judged=True),
        **{name: Contestant(f"{tool.name}, batched", tool, "batched") for name, tool in peers.items()},
        "ncnn": Contestant("ncnn loop", Lasting("ncnn", "ncnn:fp32", "ncnn", common.NCNN), "loop"),
    }


def main() -> None:
    parser = common.options(__doc__, runs=5)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contestants whose name begins so; not judged")
    args = parser.parse_args()
    ours = common.photolabel_environment()
    weights = common.seeded_weights(ours)
    FOLDER.mkdir(parents=True, exist_ok=True)
    settings = {**os.environ, **common.offline(CACHE)}
    made = [f"{ours}/python", str(HERE / "folder_photos.py"), str(FOLDER), str(weights)]
    subprocess.run(made, check=True, env=settings)
    facts = json.loads((FOLDER / "facts.json").read_text("utf-8"))

    everyone = contestants()
    tools = {id(each.tool): each.tool for each in everyone.values()}.values()
    for tool in tools:
        if args.only and not any(x.tool is tool and x.name.startswith(tuple(args.only)) for x in everyone.values()):
            tool.away = "not asked for"
        elif tool.kind == "photolabel:bf16" and "BF16" not in facts["abilities"]:
            tool.away = "not on this processor"
        elif tool.environment == "photolabel":
            tool.folder = ours
        else:
            tool.install()
    if not everyone["ncnn"].away:
        network = [f"{ours}/python", str(HERE / "ncnn_network.py"), str(weights), str(NCNN)]
        if subprocess.run(network, check=False, env=settings).returncode:
            everyone["ncnn"].tool.away = "missing: cannot be converted"
    try:
        for tool in tools:
            if not tool.away:
                print(f"loading {tool.name} ...", file=sys.stderr, flush=True)
                tool.start(HERE / "folder_contestant.py", FOLDER, CACHE)
        present = [each for each in everyone.values() if not each.away]
        check_alike(everyone)
        for run in range(args.runs):
            print(f"round {run + 1} of {args.runs} ...", file=sys.stderr, flush=True)
            for size in SIZES:
                for each in present:
                    if each.judged or run % 2 == 0:
                        each.turn(size)
    finally:
        for tool in tools:
            tool.end()
    if args.only:
        args.print = True
    lines, bars = told(everyone, facts["photos"], args), [] if args.only else judged(everyone)
    if not args.only and not everyone["loop"].away:
        lines += whole_processes(ours, everyone["loop"].tool.folder, weights, args.runs)
    sys.exit(0 if common.report("Folders", lines, bars, args=args, of="times as fast", most="at least") else 1)


# Who prepares photos in the same way, and computes at fp32.
ALIKE = (("fp32", "torch", "onnxruntime", "openvino", "ncnn"), ("loop", "loop-jax", "batched", "batched-jax"))


def check_alike(everyone: dict[str, Contestant]) -> None:
    """Stop where one names other classes than another does: then it is not the same network that is compared."""
    for names in ALIKE:
        group = [everyone[name] for name in names if not everyone[name].away]
        for each in group[1:]:
            first, other = (x.tool.answer[x.way] for x in (group[0], each))
            if first != other:
                raise SystemExit(f"{each.name} finds classes {other} likeliest, {group[0].name} {first}.")


def told(everyone: dict[str, Contestant], kinds: dict[str, str], args: argparse.Namespace) -> list[str]:
    """The page's lines."""
    environments = {x.tool.environment: x.tool.folder for x in everyone.values() if x.tool.folder and not x.away}
    loop, rows = everyone["loop"], []
    for each in everyone.values():
        cells = []
        for size in SIZES:
            times = each.pace(size) / loop.pace(size) if not loop.away else 0.0
            cells += [f"{each.pace(size):.1f}", f"{times:.2f}" if times else ""]
        rows.append((each.name, *([each.away, "", "", ""] if each.away else cells)))
    many = [photos(FOLDER / size) for size in SIZES]
    often = [count // photos(FOLDER / size / "once") for size, count in zip(SIZES, many, strict=True)]
    return [
        (
            "`python bench/folders.py`: VGG16, in process, after loading; each tool on all processors, the others "
            f"stopped meanwhile; interleaved in one run, medians of {args.runs} rounds, of every other one for "
            "those that no bar is about. photolabel is `classify_folder`; the others decode, then run: loops a photo "
            "at a time, batches 16. Keras' scale photos as the classic script does, all others as photolabel does."
        ),
        (
            f"ImageNet-size: {kinds['small']}; camera-size: {kinds['large']}. In photolabel's folders each is there "
            f"{' and '.join(map(str, often))} times, so that they are {' and '.join(map(str, many))} photos: it "
            "starts its workers anew for each folder, which is counted."
        ),
        f"{common.machine()}; {common.installed(environments)}.",
        "",
        *common.table(["photos a second", *(x for name in SIZES.values() for x in (name, "times the loop"))], rows),
        *ahead(everyone),
    ]


def ahead(everyone: dict[str, Contestant]) -> Iterable[str]:
    """Say which peers are faster than photolabel at the same precision, fp32."""
    ours = everyone["fp32"]
    for size, name in SIZES.items():
        faster = [x for x in everyone.values() if not x.ours and not ours.away and x.pace(size) > ours.pace(size)]
        if faster:
            listed = ", ".join(f"{x.name} ({x.pace(size) / ours.pace(size):.2f} times as fast)" for x in faster)
            yield from ("", f"Ahead of photolabel at fp32, {name}: {listed}.")


def judged(everyone: dict[str, Contestant]) -> list[Bar]:
    """The bars; a peer that is missing is named in each."""
    loop, batched = [everyone["loop"]], [everyone["batched"], everyone["batched-jax"]]
    asked: list[tuple[str, str, str, Sequence[Contestant], float]] = [
        ("int8", "small", "the loop", loop, 7.5),
        ("int8", "small", "Keras' fastest in batches", batched, 3.6),
        ("bf16", "small", "the loop", loop, 4),
        ("bf16", "small", "Keras' fastest in batches", batched, 2),
        ("fp32", "small", "the loop", loop, 1.8),
        ("int8", "large", "the loop", loop, 6),
    ]
    return [
        common.faster(
            f"{name}, than {than}, {SIZES[size]}", everyone[name], peers, least, lambda x, size=size: x.seconds(size)
        )
        for name, size, than, peers, least in asked
    ]


def whole_processes(ours: Path, keras: Path | None, weights: Path, runs: int) -> list[str]:
    """What both take from start to end, as the page's lines."""
    folder = str(FOLDER / "small" / "once")
    loop = Whole(
        "classic script, in a loop",
        [f"{keras}/python", str(HERE / "classic_loop.py"), str(weights), folder],
        {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    photolabel = Whole(
        "photolabel --json, int8",
        [f"{ours}/photolabel", "--json", "--weights", str(weights), "--precision", "int8", folder],
        common.offline(CACHE),
    )
    runs = min(runs, WHOLE_RUNS)
    for run in range(runs):
        print(f"whole processes {run + 1} of {runs} ...", file=sys.stderr, flush=True)
        for each in (loop, photolabel):
            each.run()
    return [
        "",
        f"Whole processes, {photos(FOLDER / 'small' / 'once')} photos of ImageNet-size; medians of {runs} runs:",
        "",
        *common.table(
            ["", "seconds", "times as fast"],
            [(each.name, f"{each.time:.2f}", f"{loop.time / each.time:.2f}") for each in (loop, photolabel)],
        ),
    ]


if __name__ == "__main__":
    main()
