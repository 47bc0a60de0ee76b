"""A Ray cluster of local nodes beside the local pipeline: pace, flat costs, kills, the driver's memory, the service.

usage: python bench/cluster.py [pace] [flat] [kills] [memory] [serve] [--photos N] [--names N] [--model NAME] [--print]

  pace    photos a second of two local nodes, beside the local pipeline and Ray Data, taken in turns
  flat    what a photo costs from 1,000 to 20,000 photos, samples repeated, and what all processes hold meanwhile
  kills   20 kills of workers and 5 of a node during runs over 2,000 photos: complete and equal each time
  memory  the driver's memory over a synthetic listing of a million names
  serve   Ray Serve with two replicas beside the plain service, in turns; then replicas are killed under load

Without a name all of them, in half an hour; each writes its own section of docs/benchmarks.md. Start-up is left out:
each run is timed from its first photos on. Ray's dashboard is left out, too, for it would take its share of two
processors. Exits with 1 where a bar is missed. Needs the extras ray, parquet and serve; for Linux, and a quiet machine.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import resource
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this checkout's, whatever is installed

import photolabel
from photolabel import batch, sources
from photolabel.cluster import Cluster
from photolabel.errors import PhotoNotFoundError
from photolabel.sources import Item

import common
from cluster_nodes import DECODER, NAMER, Held, cluster, node, say, workers
from cluster_service import serve
from common import Bar

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", PYTHONPATH=str(common.ROOT / "src"))
Section = tuple[str, list[str], list[Bar]]  # its title, what stands above the bars, and these

SAMPLES = common.ROOT / "samples"


def photos(count: int, folder: Path) -> list[Item]:
    """So many photos: those of a folder, again and again."""
    return list(itertools.islice(itertools.cycle(sources.find([folder])), count))


def paced(stream: Any, count: int, warm: int, held: Held | None = None) -> float:
    """Photos a second, once so many are done."""
    begun = 0.0
    with closing(stream):
        for number, _ in enumerate(stream, 1):
            if number == warm:
                begun = time.perf_counter()
            if held is not None and number % max(1, count // 40) == 0:
                held.look()
    return (count - warm) / (time.perf_counter() - begun)


class Ways:
    """The two ways that a run may take."""

    def __init__(self, args: argparse.Namespace, stack: ExitStack) -> None:
        self.args = args
        self.classifier = stack.enter_context(photolabel.load(args.model, threads=args.threads))
        self.here = batch.crew(None, stack=stack)

    def there(self, count: int, held: Held | None = None) -> float:
        items = photos(count + self.args.warm, self.args.folder)
        with Cluster() as remote:
            stream = batch.predictions(items, self.classifier, remote, top=5)
            return paced(stream, len(items), self.args.warm, held)

    def local(self, count: int) -> float:
        """With as many threads as one machine has for one network: the local pipeline at its best."""
        items = photos(count + self.args.warm, self.args.folder)
        with photolabel.load(self.args.model) as classifier:
            return paced(batch.predictions(items, classifier, self.here, top=5), len(items), self.args.warm)

    def data(self, count: int) -> float:
        """Ray Data, as docs/scale.md has it: a `map_batches` over `photolabel.ray.Labeler`."""
        import ray

        from photolabel.ray import Labeler

        items = photos(count + self.args.warm, self.args.folder)
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = ray.data.from_items(
            [{"path": item.path} for item in items], override_num_blocks=max(1, len(items) // 32)
        )
        named = rows.map_batches(
            Labeler,
            fn_constructor_kwargs={"model": self.args.model, "threads": self.args.threads},
            batch_size=32,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=self.args.nodes),
        )
        return paced(closed(named.iter_rows()), len(items), self.args.warm)


def closed(rows: Any) -> Iterator[Any]:
    """The same, as a generator, which can be closed."""
    yield from rows


def pace(args: argparse.Namespace) -> Section:
    rows, shares = [], []
    with ExitStack() as stack:
        ways = Ways(args, stack)
        stack.enter_context(cluster(args.nodes, args.processors))
        ways.there(args.warm)  # Ray's processes are there
        for number in range(args.runs):
            local, there, data = (way(args.photos) for way in (ways.local, ways.there, ways.data))
            shares.append(there / local)
            rows.append((f"{number + 1}", f"{local:.1f}", f"{there:.1f}", f"{there / local:.1%}", f"{data:.1f}"))
            say("pace", rows[-1])
    share = statistics.median(shares)
    about = (
        f"{args.photos:,} photos a run, the samples again and again, in turns with the local pipeline at its best, and "
        "with a Dataset of Ray Data whose `map_batches` has `photolabel.ray.Labeler`."
    )
    head = ["run", "local, photos a second", f"{args.nodes} nodes", "share", "Ray Data"]
    lines = [about, "", *common.table(head, rows)]
    bar = Bar(f"{args.nodes} nodes, of the local pace, median", f"{share:.1%}", "at least 85%", share >= 0.85)
    return "A cluster: pace", lines, [bar]


def flat(args: argparse.Namespace) -> Section:
    costs = {}
    counts = [max(1, args.photos * times // 2) for times in (1, 5, 20)]
    with ExitStack() as stack:
        ways = Ways(args, stack)
        stack.enter_context(cluster(args.nodes, args.processors))
        ways.there(args.warm)
        for count in counts:
            held = Held()  # of the last, which is the longest
            costs[count] = 1000 / ways.there(count, held)
            say("flat", (f"{count:,}", f"{costs[count]:.2f}", f"{held.growth():.3f}"))
    most, growth = max(costs.values()) / min(costs.values()), held.growth()
    lines = common.table(["photos", "ms each"], [(f"{count:,}", f"{cost:.2f}") for count, cost in costs.items()])
    lines += ["", "What all processes of a kind hold together on the way through the most photos, in MB.", ""]
    lines += common.table(*held.table())
    bars = [
        Bar("the dearest, times the cheapest", f"{most:.3f}", "at most 1.1", most <= 1.1),
        Bar("the most memory, times that after a quarter", f"{growth:.3f}", "at most 1.1", growth <= 1.1),
    ]
    return "A cluster: cost a photo", lines, bars


def kills(args: argparse.Namespace) -> Section:
    items = [
        Item(photo=f"{number}-{each.photo}", path=each.path)
        for number, each in enumerate(photos(args.photos, args.folder))
    ]
    rng, dead, runs, unequal = random.Random(0), Counter[str](), 0, 0
    with ExitStack() as stack:
        ways = Ways(args, stack)
        expected = [each.record() for each in batch.predictions(items, ways.classifier, ways.here, top=5)]
        nodes = stack.enter_context(cluster(args.nodes, args.processors))
        while dead["workers"] < args.kills or dead["nodes"] < args.node_kills:
            done = threading.Event()
            extra = [nodes.add_node(**node(args.processors))] if dead["nodes"] < args.node_kills else []

            def murder(extra: list[Any] = extra, done: threading.Event = done) -> None:
                while not done.wait(rng.uniform(1, 4)):
                    if extra and rng.random() < 0.5:
                        nodes.remove_node(extra.pop(), allow_graceful=False)
                        dead["nodes"] += 1
                    elif dead["workers"] < args.kills and (there := workers(DECODER, NAMER)):
                        with suppress(ProcessLookupError):  # it has ended in the meantime
                            os.kill(rng.choice(there), signal.SIGKILL)
                            dead["workers"] += 1

            thread = threading.Thread(target=murder)
            thread.start()
            with Cluster() as remote:
                found = [each.record() for each in batch.predictions(items, ways.classifier, remote, top=5)]
            done.set()
            thread.join()
            for each in extra:
                nodes.remove_node(each)
            runs, unequal = runs + 1, unequal + (found != expected)
            say("kills", (f"{runs} runs", f"{dict(dead)}", f"{unequal} unequal"))
    about = (
        f"{runs} runs over {args.photos:,} photos each, in which {dead['workers']} random processes of Ray's that "
        f"decode or name were killed, and {dead['nodes']} times a node with all that it had. Each run's records "
        "are compared with those of the local pipeline."
    )
    bar = Bar("runs that were not complete and equal", f"{unequal} of {runs}", "0", not unequal)
    return "A cluster: kills", [about], [bar]


def memory(args: argparse.Namespace) -> Section:
    """Names whose photos are known to be gone: nothing is decoded, all else is as ever."""
    gone = PhotoNotFoundError("There is no such file.")
    items = (Item(photo=f"photos/{number:012}.jpg", error=gone) for number in range(args.names))
    held: list[tuple[int, int]] = []
    with ExitStack() as stack:
        ways = Ways(args, stack)
        stack.enter_context(cluster(args.nodes, args.processors))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        parts = stack.enter_context(batch.Parts.begin(batch.folder(f"{folder}/out/"), {}))
        begun = time.perf_counter()
        with Cluster() as remote:
            stream = batch.predictions(parts.remaining(items), ways.classifier, remote, top=5)
            for number, prediction in enumerate(stream):
                parts.add(prediction.record())
                if number % max(1, args.names // 20) == 0:
                    held.append((number, resident()))
                    say("memory", (f"{number:,}", f"{held[-1][1] / 1e6:.0f} MB"))
        parts.finish()
        seconds = time.perf_counter() - begun
    later = [each for _, each in held[len(held) // 4 :]]
    most = max(later) / later[0]
    about = (
        f"{args.names:,} names that a program makes up, of photos that are not there, into a folder of Parquet files, "
        f"in {seconds:.0f} s; the driver's resident memory on the way."
    )
    rows = [(f"{number:,}", f"{size / 1e6:.0f}") for number, size in held[:: max(1, len(held) // 5)]]
    bar = Bar("the most, times that after a quarter", f"{most:.3f}", "at most 1.1", most <= 1.1)
    return "A cluster: the driver's memory", [about, "", *common.table(["names", "MB"], rows)], [bar]


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


BENCHES: dict[str, Callable[[argparse.Namespace], Section]] = {
    each.__name__: each for each in (pace, flat, kills, memory, serve)
}


def main() -> int:
    parser = common.options(__doc__, runs=3)
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=f"{', '.join(BENCHES)}; by default all")
    parser.add_argument("--folder", type=Path, default=SAMPLES, help="photos, which are taken again and again")
    parser.add_argument("--model", default="efficientnet-lite2")
    parser.add_argument("--photos", type=int, default=2000, help="of a run; flat takes from half as many to ten times")
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--node-kills", type=int, default=5)
    parser.add_argument("--replica-kills", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--processors", type=int, default=1, help="of a node")
    parser.add_argument("--threads", type=int, default=1, help="of a network")
    parser.add_argument("--warm", type=int, default=100, help="photos before the clock starts")
    args = parser.parse_args()
    if unknown := set(args.benches) - set(BENCHES):
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(BENCHES)}")
    reached = []
    for name in args.benches or BENCHES:
        begun = time.perf_counter()
        title, lines, bars = BENCHES[name](args)
        took = f"`python bench/cluster.py {name}`, {(time.perf_counter() - begun) / 60:.0f} minutes."
        reached.append(common.report(title, [took, f"{common.machine()}.", "", *lines], bars, args=args, of=name))
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
