"""VGG16 at each precision in process, beside plain OpenVINO, NNCF, ONNX Runtime and Keras, interleaved in one run.

usage: python bench/precisions.py [--runs N] [--only NAME ...] [--agreement] [--print]

Each contestant loads the same weights once, in a process and a virtual environment of its own, uses all processors,
and is stopped while another one runs: nothing that spins disturbs. All of them at once take some 15 GB of memory.
Prints medians of milliseconds a photo, in batches of 1 and of 16, and their ratios, writes them to
docs/benchmarks.md, and exits with 1 where a bar is missed. With --agreement it says instead how near the answers of
bf16 and int8 stay to those of fp32, on real photos and networks where they are at hand. For Linux and macOS.
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
from common import Bar

HERE = Path(__file__).resolve().parent
FOLDER = common.WORK / "precisions"
CACHE = common.WORK / "cache"
TIMES = {1: 5, 16: 1}  # batch -> counted runs a turn, after one that is not
SLACK = 0.95  # what passes for no slower
ALIKE = 1e-3  # of a probability, between tools at fp32: another network, input or normalisation makes far more


@dataclass
class Contestant(common.Lasting):
    """One tool in one mode."""

    seconds: dict[int, list[float]] = field(default_factory=lambda: {batch: [] for batch in TIMES})

    def turn(self, batch: int) -> None:
        """Let it run some times, and stop it again."""
        self.seconds[batch] += self.ask(f"{batch} {TIMES[batch]}")

    def milliseconds(self, batch: int) -> float:
        """A photo's; infinity where it takes no part, so that it is never the quickest."""
        return statistics.median(self.seconds[batch]) * 1000 / batch if self.seconds[batch] else float("inf")


def contestants() -> dict[str, Contestant]:
    nncf = ("nncf", "openvino")
    listed = [
        Contestant("photolabel fp32", "photolabel:fp32", "photolabel"),
        Contestant("photolabel bf16", "photolabel:bf16", "photolabel"),
        Contestant("photolabel int8", "photolabel:int8", "photolabel"),
        Contestant("OpenVINO", "openvino:fp32", "openvino", common.OPENVINO),
        Contestant("ONNX Runtime", "onnxruntime:fp32", "onnxruntime", common.ONNXRUNTIME),
        Contestant("NNCF int8, performance preset", "nncf:PERFORMANCE", "nncf", nncf),
        Contestant("NNCF int8, mixed preset", "nncf:MIXED", "nncf", nncf),
        Contestant("Keras predict, TensorFlow", "keras:tensorflow", "tensorflow", common.TENSORFLOW),
        Contestant("Keras predict, JAX", "keras:jax", "jax", common.JAX),
        Contestant("Keras predict, PyTorch", "keras:torch", "torch", common.TORCH),
    ]
    return {each.kind: each for each in listed}


def main() -> None:
    parser = common.options(__doc__, runs=7)
    parser.add_argument("--agreement", action="store_true", help="how near bf16 and int8 stay to fp32, instead")
    parser.add_argument("--only", nargs="+", metavar="KIND", help="contestants whose kind begins so; not judged")
    args = parser.parse_args()
    ours = common.photolabel_environment()
    sys.exit(0 if (agreement(args, ours) if args.agreement else speed(args, ours)) else 1)


def speed(args: argparse.Namespace, ours: Path) -> bool:
    """Measure, report, and return whether no bar was missed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    prepare = [f"{ours}/python", str(HERE / "prepared.py"), str(FOLDER), str(common.seeded_weights(ours))]
    subprocess.run([*prepare, *map(str, TIMES)], check=True, env={**os.environ, **common.offline(CACHE)})
    abilities = json.loads((FOLDER / "facts.json").read_text("utf-8"))["abilities"]

    everyone = contestants()
    if "BF16" not in abilities:
        everyone["photolabel:bf16"].away = "not on this processor"
    for each in everyone.values():
        if args.only and not each.kind.startswith(tuple(args.only)):
            each.away = "not asked for"
        elif each.environment == "photolabel":
            each.folder = ours
        elif not each.away:
            each.install()
    present = [each for each in everyone.values() if not each.away]
    try:
        for each in present:
            print(f"loading {each.name} ...", file=sys.stderr, flush=True)
            each.start(HERE / "contestant.py", FOLDER, CACHE)
        check_alike(everyone, present)
        for run in range(args.runs):
            print(f"round {run + 1} of {args.runs} ...", file=sys.stderr, flush=True)
            for batch in TIMES:
                for each in present:
                    each.turn(batch)
    finally:
        for each in present:
            each.end()

    rows = [
        (each.name, *([f"{each.milliseconds(batch):.1f}" for batch in TIMES] if not each.away else [each.away, ""]))
        for each in everyone.values()
    ]
    folders = {each.environment: each.folder for each in present if each.folder}
    lines = [
        (
            "`python bench/precisions.py`: VGG16, in process, after loading; each tool on all processors, the others "
            f"stopped meanwhile; interleaved in one run, medians of {args.runs} rounds."
        ),
        f"{common.machine()}; {common.installed(folders)}.",
        "",
        *common.table(["milliseconds a photo", *(f"batch of {batch}" for batch in TIMES)], rows),
    ]
    bars = [] if args.only else judged(everyone)
    if args.only:
        args.print = True
    return common.report("Precisions", lines, bars, args=args, of="times as fast", most="at least")


def check_alike(everyone: dict[str, Contestant], present: Iterable[Contestant]) -> None:
    """Stop where a tool at fp32 answers otherwise than we do: then it is not the same network that is compared."""
    ours = everyone["photolabel:fp32"].answer
    for each in present:
        if ours and each.kind.partition(":")[0] in ("openvino", "onnxruntime", "keras"):
            apart = max(abs(one - other) for one, other in zip(ours, each.answer, strict=True))
            if apart > ALIKE:
                raise SystemExit(f"{each.name}: its probabilities differ from ours by up to {apart:.4f}.")


def judged(everyone: dict[str, Contestant]) -> list[Bar]:
    """The bars; a peer that is missing is named in each."""
    fp32, bf16, int8 = (everyone[f"photolabel:{precision}"] for precision in ("fp32", "bf16", "int8"))
    engines = [everyone["openvino:fp32"], everyone["onnxruntime:fp32"]]
    nncf = [each for each in everyone.values() if each.environment == "nncf"]
    keras = [each for each in everyone.values() if each.kind.startswith("keras:")]
    both = tuple(TIMES)
    asked = [
        *(Comparison("fp32", fp32, "the faster of OpenVINO and ONNX Runtime", engines, SLACK, batch) for batch in both),
        *(Comparison("bf16", bf16, "fp32", [fp32], 1.8, batch) for batch in both),
        *(Comparison("int8", int8, "fp32", [fp32], 3.3, batch) for batch in both),
        *(Comparison("int8", int8, "NNCF's faster", nncf, SLACK, batch) for batch in both),
        Comparison("fp32", fp32, "Keras' fastest", keras, 1.2, 1),
        Comparison("bf16", bf16, "Keras' fastest", keras, 2.4, 1),
        Comparison("int8", int8, "Keras' fastest", keras, 4.5, 1),
    ]
    return [each.bar() for each in asked]


@dataclass(frozen=True)
class Comparison:
    """One of ours beside the quickest of its peers."""

    name: str
    ours: Contestant
    than: str
    peers: Sequence[Contestant]
    least: float
    batch: int

    def bar(self) -> Bar:
        what = f"{self.name}, than {self.than}, batch of {self.batch}"
        return common.faster(what, self.ours, self.peers, self.least, lambda each: each.milliseconds(self.batch))


def agreement(args: argparse.Namespace, ours: Path) -> bool:
    """Say how near bf16 and int8 stay to fp32, as far as the photos are here, and return whether no bar was missed."""
    done = subprocess.run(
        [f"{ours}/python", str(HERE / "nearness.py"), str(FOLDER.parent)],
        env={**os.environ, **common.offline(CACHE)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    if "skipped" in found:
        print(found["skipped"])
        return True
    bars = []
    for precision, least in (("bf16", 0.9999), ("int8", 0.999)):
        cosine = found["cosine"].get(precision)
        what = f"{precision}, least cosine of VGG16's features"
        if isinstance(cosine, float):
            bars.append(Bar(what, f"{cosine:.5f}", f"at least {least:g}", cosine >= least))
        else:
            bars.append(Bar(what, cosine, f"at least {least:g}", None))
    fp32, int8 = found["right"]["fp32"], found["right"]["int8"]
    bars.append(
        Bar(
            "int8, bundled model, points of top-1 lost",
            f"{fp32 - int8:.1f} ({fp32:.1f} % at fp32, {int8:.1f} % at int8)",
            "at most 2",
            fp32 - int8 <= 2,
        )
    )
    lines = [
        (
            f"`python bench/precisions.py --agreement`: {found['photos']} photos of ImageNet's, which both networks "
            "were trained on: to compare precisions by, no accuracy of either."
        ),
        f"{common.machine()}; {common.versions(ours, 'openvino')}.",
    ]
    return common.report("Agreement of precisions", lines, bars, args=args)


if __name__ == "__main__":
    main()
