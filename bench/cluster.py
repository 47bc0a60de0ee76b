"""A Ray cluster of local nodes beside the local pipeline: pace, flat costs, kills, the driver's memory, the service.

usage: python bench/cluster.py [pace] [flat] [kills] [memory] [serve] [--photos N] [--names N] [--model NAME] [--print]

  pace    photos a second of two local nodes, beside the local pipeline in the same run, taken in turns
  flat    what a photo costs from 1,000 to 20,000 photos, samples repeated
  kills   20 kills of workers and 5 of a node during runs over 2,000 photos: complete and equal each time
  memory  the driver's memory over a synthetic listing of a million names
  serve   Ray Serve with two replicas beside the plain service, in turns; then a replica is killed under load

Without a name all of them, in half an hour; each writes its own section of docs/benchmarks.md. Start-up is left out:
each run is timed from its first photos on. Ray's dashboard is left out, too, for it would take its share of two
processors. Exits with 1 where a bar is missed. Needs the extras ray, parquet and serve; for Linux, and a quiet machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this checkout's, whatever is installed

import photolabel
from photolabel import batch, sources
from photolabel.cluster import Cluster
from photolabel.errors import PhotoNotFoundError
from photolabel.sources import Item

import common
from common import Bar

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", PYTHONPATH=str(common.ROOT / "src"))
# As docs/scale.md advises for the service: no process of Python's between clients and replicas.
FAST = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
}

Section = tuple[str, list[str], list[Bar]]  # its title, what stands above the bars, and these

SAMPLES = common.ROOT / "samples"
CLIENTS = 8  # of a service, at once


@contextmanager
def cluster(nodes: int, processors: int) -> Iterator[Any]:
    """Local nodes of so many processors each, connected."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    made = Nodes(initialize_head=True, head_node_args={**node(processors), "include_dashboard": False})
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


def pace(args: argparse.Namespace) -> Section:
    rows, shares = [], []
    with ExitStack() as stack:
        ways = Ways(args, stack)
        stack.enter_context(cluster(args.nodes, args.processors))
        ways.there(args.warm)  # Ray's processes are there
        for number in range(args.runs):
            local, there = ways.local(args.photos), ways.there(args.photos)
            shares.append(there / local)
            rows.append((f"{number + 1}", f"{local:.1f}", f"{there:.1f}", f"{there / local:.1%}"))
            say("pace", rows[-1])
    share = statistics.median(shares)
    about = f"{args.photos:,} photos a run, the samples again and again, in turns with the local pipeline at its best."
    lines = [about, "", *common.table(["run", "local, photos a second", f"{args.nodes} nodes", "share"], rows)]
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
            costs[count] = 1000 / ways.there(count)
            say("flat", (f"{count:,}", f"{costs[count]:.2f}"))
    most = max(costs.values()) / min(costs.values())
    lines = common.table(["photos", "ms each"], [(f"{count:,}", f"{cost:.2f}") for count, cost in costs.items()])
    bar = Bar("the dearest, times the cheapest", f"{most:.3f}", "at most 1.1", most <= 1.1)
    return "A cluster: cost a photo", lines, [bar]


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
                    elif dead["workers"] < args.kills and (there := workers(b"ray::photolabel", b"ray::Namer")):
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


def workers(*titles: bytes) -> list[int]:
    """Processes of our cluster, which are this process's own descendants, that are at one of these."""
    parents, lines = {}, {}
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            with suppress(OSError):
                parents[int(each.name)] = int(
                    (each / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1]
                )
                lines[int(each.name)] = (each / "cmdline").read_bytes()
    ours: set[int] = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return [pid for pid in ours if lines.get(pid, b"").startswith(titles)]


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


def serve(args: argparse.Namespace) -> Section:
    """Both with as many processors: the plain service with all threads, Serve with two replicas of their share."""
    data = (SAMPLES / "coffee.jpg").read_bytes()
    ports = [free_port() for _ in range(4)]
    plain, there = (f"http://127.0.0.1:{port}/v1/classify" for port in ports[:2])
    os.environ.update(FAST, RAY_SERVE_HAPROXY_METRICS_PORT=f"{ports[2]}", RAY_SERVE_HAPROXY_STATS_PORT=f"{ports[3]}")
    rows, shares = [], []
    with cluster(1, max(2, args.processors * args.nodes)):
        from ray import serve as theirs

        from photolabel.ray import deployment  # made of Ray

        command = [sys.executable, "-m", "photolabel", "serve", "--model", args.model, "--port", f"{ports[0]}"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            theirs.start(http_options={"host": "127.0.0.1", "port": ports[1]})
            theirs.run(deployment({"model": args.model, "replicas": 2}), route_prefix="/")
            for number in range(args.runs):
                first, second = asked(plain, data, args), asked(there, data, args)
                shares.append(second / first)
                rows.append((f"{number + 1}", f"{first:.1f}", f"{second:.1f}", f"{second / first:.1%}"))
                say("serve", rows[-1])
            answers = killed(there, data, args)
        finally:
            process.terminate()
            process.wait()
            theirs.shutdown()
    share, wrong, failed = statistics.median(shares), answers["wrong"], answers["failed"]
    settings = " ".join(f"{name}='{value}'" for name, value in FAST.items())
    about = (
        "The plain service beside Ray Serve with two replicas, each with half of the processors, in turns: "
        f"{args.requests} requests of one photo, {CLIENTS} at once, with `{settings}`. Then a replica is killed under "
        f"load, while {answers.total()} requests are made."
    )
    lines = [about, "", *common.table(["run", "plain, requests a second", "Ray Serve", "share"], rows)]
    bars = [
        Bar("Ray Serve, of the plain service's pace, median", f"{share:.1%}", "at least 80%", share >= 0.8),
        Bar("wrong answers when a replica is killed", f"{wrong}", "0", not wrong),
        Bar("requests that failed then", f"{failed}", f"at most {CLIENTS}, which were in flight", failed <= CLIENTS),
    ]
    return "Ray Serve", lines, bars


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def killed(url: str, data: bytes, args: argparse.Namespace) -> Counter[str]:
    """Kill a replica while it is asked; how many answers were right, wrong, and none."""
    import requests

    expected = requests.post(url, data=data, timeout=60).json()
    found: Counter[str] = Counter()
    killing = threading.Event()

    def ask(number: int) -> None:
        if number == args.requests // 4 and not killing.is_set():
            killing.set()
            os.kill(workers(b"ray::ServeReplica")[0], signal.SIGKILL)
        try:
            answer = requests.post(url, data=data, timeout=60)
        except requests.RequestException:
            found["failed"] += 1
            return
        found["failed" if answer.status_code != 200 else "right" if answer.json() == expected else "wrong"] += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(ask, range(args.requests)))
    return found


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
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(ask, range(args.warm)))
        begun = time.perf_counter()
        assert set(pool.map(ask, range(args.requests))) == {expected}
        return args.requests / (time.perf_counter() - begun)


def say(bench: str, told: tuple[str, ...]) -> None:
    print(f"{bench}: {', '.join(told)}", file=sys.stderr, flush=True)


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
