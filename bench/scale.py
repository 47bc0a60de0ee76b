"""What a million and a billion photos take, worked out from what one costs on this machine.

usage: python bench/scale.py [FOLDER] [--model NAME] [--photos N] [--cores N ...]

Names photos of FOLDER (by default the samples, again and again) in one thread, and measures in processor seconds what
reading, decoding, the network and the driver of a cluster take for each, and in bytes what is read and written. Prints
the tables of docs/scale.md. Processor seconds hardly depend on what else the machine does, but for its caches.
"""

from __future__ import annotations

import argparse
import itertools
import pickle
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import photolabel
from photolabel import batch, sources
from photolabel.classifier import Classifier, Prediction
from photolabel.sources import Item

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"a million photos": 10**6, "a billion photos": 10**9}
LISTED, PART = 1000, batch.PHOTOS  # names an answer of an object store has, and records a file
AGAIN = 10


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What one photo costs: in processor seconds, and in bytes."""

    decoding: float
    network: float
    driver: float
    read: float
    written: float

    @property
    def core_seconds(self) -> float:
        """On the machines of the cluster."""
        return self.decoding + self.network


def measured(folder: Path, model: str, photos: int) -> Costs:
    """Measure."""
    with photolabel.load(model, threads=1) as classifier:
        items = list(itertools.islice(itertools.cycle(sources.find([folder])), photos))
        list(run(items[:16], classifier, batch.Timing()))  # what is slow the first time
        timing, begun = batch.Timing(), time.process_time()
        found = list(run(items, classifier, timing))
        spent = time.process_time() - begun
    shares = timing.reading + timing.decoding + timing.network
    driver, written = told(found)
    return Costs(
        decoding=spent * (timing.reading + timing.decoding) / shares / photos,
        network=spent * timing.network / shares / photos,
        driver=driver,
        read=sum(each.file.bytes for each in found if each.file) / photos,
        written=written,
    )


def run(items: list[Item], classifier: Classifier, timing: batch.Timing) -> Iterator[Prediction]:
    """Name photos in this process."""
    return batch.predictions(items, classifier, batch.Here(), top=5, timing=timing)


def told(found: list[Prediction]) -> tuple[float, float]:
    """What the driver does with a Prediction that comes from another machine, in seconds; and the bytes written."""
    distinct = list({each.photo: each for each in found}.values())[:PART]  # the same again would hardly take any room
    size = len(distinct)
    sent = [pickle.dumps(distinct[start : start + 32]) for start in range(0, size, 32)]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        for number in range(AGAIN):
            with batch.Parts.begin(batch.folder(f"{folder}/{number}/"), {}, photos=size) as parts:
                names = parts.remaining(Item(photo=each.photo or "") for each in distinct)
                for prediction in itertools.chain.from_iterable(map(pickle.loads, sent)):
                    next(names)
                    parts.add(prediction.record())
                next(names, None)
                parts.finish()
        spent = time.process_time() - begun
        written = sum(path.stat().st_size for path in Path(folder, "0").glob("part-*"))
    return spent / (size * AGAIN), written / size


def tables(costs: Costs, cores: list[int]) -> str:
    """The tables of docs/scale.md."""
    rows = [
        ("one photo", "measured"),
        ("read and decoded", f"{costs.decoding * 1000:.1f} ms of a core"),
        ("named", f"{costs.network * 1000:.1f} ms of a core"),
        ("told by the driver", f"{costs.driver * 1000:.2f} ms of a core"),
        ("read", f"{costs.read / 1000:.0f} kB"),
        ("written", f"{costs.written:.0f} bytes"),
    ]
    lines = [f"| {left} | {right} |" for left, right in rows]
    lines.insert(1, "|---|---|")
    counts = SIZES.values()
    work = [
        ("core-hours", [f"{count * costs.core_seconds / 3600:,.0f}" for count in counts]),
        *(
            (f"hours on {each:,} cores", [_hours(count * costs.core_seconds / each) for count in counts])
            for each in cores
        ),
        ("hours of one driver", [_hours(count * costs.driver) for count in counts]),
        ("bytes read", [_bytes(count * costs.read) for count in counts]),
        ("bytes written", [_bytes(count * costs.written) for count in counts]),
        ("files written", [f"{-(-count // PART):,}" for count in counts]),
        ("requests to list", [f"{-(-count // LISTED):,}" for count in counts]),
        ("requests to read", [f"{count:,}" for count in counts]),
    ]
    lines += ["", f"| | {' | '.join(SIZES)} |", f"|---|{'---|' * len(SIZES)}"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in work]
    keeps = costs.core_seconds / costs.driver
    return "\n".join([*lines, "", f"One driver keeps at most some {keeps:,.0f} cores at work."])


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}"


def _bytes(count: float) -> str:
    units = ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        del units[0]
    return f"{count:,.0f} {units[0]}" if count >= 10 else f"{count:.1f} {units[0]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "samples")
    parser.add_argument("--model", default="efficientnet-lite2")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--cores", type=int, nargs="*", default=[64, 1000])
    args = parser.parse_args()
    print(tables(measured(args.folder, args.model, args.photos), args.cores))


if __name__ == "__main__":
    main()
