"""A Ray cluster of local nodes beside the local pipeline: pace, flat costs, kills, the driver's memory, a service.

usage: python bench/cluster.py [pace] [flat] [kills] [memory] [serve] [--photos N] [--names N] [--model NAME]

  pace    photos a second of two local nodes, beside the local pipeline in the same run, taken in turns (bar: 85 %)
  flat    what a photo costs from 1,000 to 20,000 photos, samples repeated (bar: within 10 %)
  kills   20 kills of workers and 5 of a node during runs over 2,000 photos: complete and equal each time
  memory  the driver's memory over a synthetic listing of a million names (bar: it does not grow)
  serve   Ray Serve with two replicas beside the plain service, requests a second (bar: 80 %)

Without a name all of them. Start-up is left out: each run is timed from its first photo to its last. Exits with 1 where
a bar is missed. Needs the extras ray, parquet and serve; for Linux, and a quiet machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["PYTHONPATH"] = str(ROOT / "src")

import photolabel  # noqa: E402
from photolabel import batch, sources  # noqa: E402
from photolabel.cluster import Cluster  # noqa: E402
from photolabel.errors import PhotoNotFoundError  # noqa: E402
from photolabel.sources import Item  # noqa: E402

SAMPLES = ROOT / "samples"
PORT = 18621


@contextmanager
def cluster(nodes: int, processors: int) -> Iterator[Any]:
    """Local nodes of so many processors each, connected."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    made = Nodes(initialize_head=True, head_node_args=node(processors))
    try:
        for _ in range(nodes - 1):
            made.add_node(**node(processors))
        ray.init(made.address, log_to_driver=False, logging_level="ERROR")
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def node(processors: int) -> dict[str, int]:
    return {"num_cpus": processors, "object_store_memory": 500 << 20}


def photos(count: int, folder: Path) -> list[Item]:
    """So many photos: those of a folder, again and again."""
    return list(itertools.islice(itertools.cycle(sources.find([folder])), count))


def paced(stream: Any, count: int, warm: int) -> float:
    """Photos a second, once so many are done."""
    begun = 0.0
    with closing(stream):
        for number, _ in enumerate(stream, 1):
            if number == warm:
                begun = time.perf_counter()
    return (count - warm) / (time.perf_counter() - begun)


class Ways:
    """The two ways that a run may take."""

    def __init__(self, args: argparse.Namespace, stack: ExitStack) -> None:
        self.args = args
        self.classifier = stack.enter_context(photolabel.load(args.model, threads=args.threads))
        self.here = batch.crew(None, stack=stack)

    def there(self, count: int) -> float:
        items = photos(count + self.args.warm, self.args.folder)
        with Cluster() as remote:
            stream = batch.predictions(items, self.classifier, remote, top=5)
            return paced(stream, len(items), self.args.warm)

    def local(self, count: int) -> float:
        """With as many threads as one machine has for one network: the local pipeline at its best."""
        items = photos(count + self.args.warm, self.args.folder)
        with photolabel.load(self.args.model) as classifier:
            return paced(batch.predictions(items, classifier, self.here, top=5), len(items), self.args.warm)


def pace(args: argparse.Namespace) -> bool:
    shares = []
    with ExitStack() as stack:
        ways = Ways(args, stack)
        stack.enter_context(cluster(args.nodes, args.processors))
        ways.there(args.warm)  # Ray's processes are there
        for _ in range(args.runs):
            local, there = ways.local(args.photos), ways.there(args.photos)
            shares.append(there / local)
            print(f"pace: local {local:.1f}, {args.nodes} nodes {there:.1f} photos a second: {there / local:.1%}")
    return bar("pace", statistics.median(shares), at_least=0.85)


def flat(args: argparse.Namespace) -> bool:
    costs = {}
    with ExitStack() as stack:
        ways = Ways(args, stack)
        stack.enter_context(cluster(args.nodes, args.processors))
        for count in (1000, 5000, 20_000):
            costs[count] = 1000 / ways.there(count)
            print(f"flat: {count:,} photos: {costs[count]:.2f} ms each")
    return bar("flat", max(costs.values()) / min(costs.values()), at_most=1.1)


def kills(args: argparse.Namespace) -> bool:
    items = [
        Item(photo=f"{number}-{each.photo}", path=each.path)
        for number, each in enumerate(photos(args.photos, args.folder))
    ]
    rng, equal, dead = random.Random(0), True, {"workers": 0, "nodes": 0}
    with ExitStack() as stack:
        ways = Ways(args, stack)
        expected = [each.record() for each in batch.predictions(items, ways.classifier, ways.here, top=5)]
        nodes = stack.enter_context(cluster(args.nodes, args.processors))
        while dead["workers"] < args.kills or dead["nodes"] < args.node_kills:
            done = threading.Event()
            extra = [nodes.add_node(**node(args.processors))] if dead["nodes"] < args.node_kills else []

            def murder(extra: list[Any] = extra, done: threading.Event = done) -> None:
                while not done.wait(rng.uniform(0.5, 3)):
                    if extra and rng.random() < 0.5:
                        nodes.remove_node(extra.pop(), allow_graceful=False)
                        dead["nodes"] += 1
                    elif dead["workers"] < args.kills and (there := workers()):
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
            equal = equal and found == expected
            print(f"kills: {dead}; {len(found):,} records, {'equal' if found == expected else 'NOT EQUAL'}")
    return bar("kills", float(equal), at_least=1)


def workers() -> list[int]:
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            try:
                line = (each / "cmdline").read_bytes()
            except OSError:
                continue
            if line.startswith((b"ray::photolabel", b"ray::Namer")):
                found.append(int(each.name))
    return found


def memory(args: argparse.Namespace) -> bool:
    """Names whose photos are known to be gone: nothing is decoded, all else is as ever."""
    gone = PhotoNotFoundError("There is no such file.")
    items = (Item(photo=f"photos/{number:012}.jpg", error=gone) for number in range(args.names))
    held: list[int] = []
    with ExitStack() as stack:
        ways = Ways(args, stack)
        stack.enter_context(cluster(args.nodes, args.processors))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        parts = stack.enter_context(batch.Parts.begin(batch.folder(f"{folder}/out/"), {}))
        with Cluster() as remote:
            stream = batch.predictions(parts.remaining(items), ways.classifier, remote, top=5)
            for number, prediction in enumerate(stream):
                parts.add(prediction.record())
                if number % max(1, args.names // 20) == 0:
                    held.append(resident())
                    print(f"memory: {number:,} names, {held[-1] / 1e6:.0f} MB")
        parts.finish()
    later = held[len(held) // 4 :]
    return bar("memory", max(later) / later[0], at_most=1.1)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def serve(args: argparse.Namespace) -> bool:
    """Both with as many processors: the plain service with all threads, Serve with two replicas of their share."""
    data = (SAMPLES / "coffee.jpg").read_bytes()
    plain = [sys.executable, "-m", "photolabel", "serve", "--model", args.model, "--port", str(PORT)]
    process = subprocess.Popen(plain, stderr=subprocess.DEVNULL)
    try:
        first = asked(f"http://127.0.0.1:{PORT}/v1/classify", data, args)
    finally:
        process.terminate()
        process.wait()
    print(f"serve: plain {first:.1f} requests a second")
    with cluster(1, max(2, args.processors * args.nodes)):
        from ray import serve as theirs

        from photolabel.ray import deployment  # made of Ray

        theirs.start(http_options={"host": "127.0.0.1", "port": PORT + 1})
        theirs.run(deployment({"model": args.model, "replicas": 2}), route_prefix="/")
        second = asked(f"http://127.0.0.1:{PORT + 1}/v1/classify", data, args)
        theirs.shutdown()
    print(f"serve: Ray Serve {second:.1f} requests a second")
    return bar("serve", second / first, at_least=0.8)


def asked(url: str, data: bytes, args: argparse.Namespace) -> float:
    import requests

    sessions = threading.local()

    def ask(_: int) -> str:
        if not hasattr(sessions, "own"):
            sessions.own = requests.Session()
        answer = sessions.own.post(url, data=data, timeout=60)
        answer.raise_for_status()
        return str(json.loads(answer.content)["answer"]["name"])

    until = time.monotonic() + 120
    while True:
        try:
            expected = ask(0)
            break
        except requests.RequestException:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(args.warm)))
        begun = time.perf_counter()
        assert set(pool.map(ask, range(args.requests))) == {expected}
        return args.requests / (time.perf_counter() - begun)


def bar(name: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> bool:
    reached = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    wanted = f"at least {at_least:g}" if at_least is not None else f"at most {at_most:g}"
    print(f"{name}: {value:.3f}, {wanted}: {'reached' if reached else 'MISSED'}", flush=True)
    return reached


BENCHES: dict[str, Callable[[argparse.Namespace], bool]] = {
    each.__name__: each for each in (pace, flat, kills, memory, serve)
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benches", nargs="*", metavar="BENCH")
    parser.add_argument("--folder", type=Path, default=SAMPLES, help="photos, which are taken again and again")
    parser.add_argument("--model", default="efficientnet-lite2")
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--node-kills", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--processors", type=int, default=1, help="of a node")
    parser.add_argument("--threads", type=int, default=1, help="of a network")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--warm", type=int, default=100, help="photos before the clock starts")
    args = parser.parse_args()
    reached = [BENCHES[name](args) for name in args.benches or BENCHES]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
