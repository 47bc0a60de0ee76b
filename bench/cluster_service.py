"""Ray Serve beside the plain service, and replicas killed under load; for bench/cluster.py."""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import common
from cluster_nodes import REPLICA, cluster, say, workers
from common import Bar

CLIENTS = 8  # of a service, at once


def advised() -> dict[str, str]:
    """What docs/scale.md has the environment say, of how requests come to replicas."""
    page = (common.ROOT / "docs" / "scale.md").read_text("utf-8")
    lines = re.findall(r"^export (.+)$", page, re.MULTILINE)
    found = dict(each.split("=", 1) for line in lines for each in shlex.split(line))
    assert found["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    return found


def serve(args: argparse.Namespace) -> tuple[str, list[str], list[Bar]]:
    """Both with as many processors: the plain service with all threads, Serve with two replicas of their share."""
    data = (common.ROOT / "samples" / "coffee.jpg").read_bytes()
    ports = [free_port() for _ in range(4)]
    plain, there = (f"http://127.0.0.1:{port}/v1/classify" for port in ports[:2])
    rows, shares = [], []
    os.environ.update(advised())
    os.environ.update(RAY_SERVE_HAPROXY_METRICS_PORT=f"{ports[2]}", RAY_SERVE_HAPROXY_STATS_PORT=f"{ports[3]}")
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
            deaths = []
            for number in range(args.replica_kills):
                deaths.append(death := killed(there, data, Proxy(ports[3])))
                say("serve", (f"kill {number + 1}", *death.row()))
        finally:
            process.terminate()
            process.wait()
            theirs.shutdown()
    share = statistics.median(shares)
    settings = " ".join(f"{name}='{value}'" for name, value in advised().items())
    about = (
        "The plain service beside Ray Serve with two replicas, each with half of the processors, in turns: "
        f"{args.requests} requests of one photo, {CLIENTS} at once, with `{settings}`."
    )
    of_kills = (
        f"Then {len(deaths)} times one of the two is killed, while {CLIENTS} clients go on asking. In flight there are "
        "the requests that HAProxy had sent to it and that had no answer yet when its connections broke. HAProxy asks "
        "these of the other one, if it has them whole, and perhaps of the dead one once more; else the client has to."
    )
    dead = [(f"{number}", *death.row()) for number, death in enumerate(deaths, 1)]
    head = ["kill", "in flight there", "answers that broke", "asked again by clients", "right", "wrong"]
    lines = [about, "", *common.table(["run", "plain, requests a second", "Ray Serve", "share"], rows)]
    lines += ["", of_kills, "", *common.table(head, dead)]
    wrong = sum(each.wrong for each in deaths)
    worst = max(deaths, key=lambda death: death.again - death.flight)
    most = f"at most {worst.flight}, in flight there"
    bars = [
        Bar("Ray Serve, of the plain service's pace, median", f"{share:.1%}", "at least 80%", share >= 0.8),
        Bar("wrong answers when a replica is killed", f"{wrong}", "0", not wrong),
        Bar("asked again by clients, at the worst kill", f"{worst.again}", most, worst.again <= worst.flight),
    ]
    return "Ray Serve", lines, bars


@dataclass
class Death:
    """What became of the requests around the death of a replica."""

    flight: int = 0
    lost: int = 0
    again: int = 0
    right: int = 0
    wrong: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def row(self) -> tuple[str, ...]:
        return tuple(f"{each}" for each in (self.flight, self.lost, self.again, self.right, self.wrong))


class Proxy:
    """What HAProxy says of each replica, by name: how many requests are there, and of how many the answer broke."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/stats;csv"

    def __call__(self) -> dict[str, tuple[int, int]]:
        import requests

        told = requests.get(self._url, timeout=10).text
        rows = [row for row in csv.DictReader(told.removeprefix("# ").splitlines()) if row["status"] != "MAINT"]
        return {row["svname"]: (int(row["scur"]), int(row["eresp"])) for row in rows if "REPLICA" in row["svname"]}


def killed(url: str, data: bytes, proxy: Proxy) -> Death:
    """Kill one of two replicas while they are asked, until there are two again."""
    expected = _answer(url, data)
    death, stopped = Death(), threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            while (answer := _answer(url, data)) is None:
                with death.lock:
                    death.again += 1
            with death.lock:
                death.right += answer == expected
                death.wrong += answer != expected

    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in range(CLIENTS):
            pool.submit(ask)
        try:
            _until(lambda: len(proxy()) == 2 and min(now for now, _ in proxy().values()) > 1)
            begun = {name: broke for name, (_, broke) in proxy().items()}
            os.kill(workers(REPLICA)[0], signal.SIGKILL)
            flights: Counter[str] = Counter()
            dead: list[str] = []
            until = time.monotonic() + 30
            while not dead:  # a look takes some milliseconds, the death a tenth of a second
                if time.monotonic() > until:
                    raise TimeoutError("No request broke with the replica that was killed.")
                looked = proxy()
                dead = [name for name, (_, broke) in looked.items() if broke > begun.get(name, 0)]
                for name, (now, _) in looked.items():
                    flights[name] = max(flights[name], now)
            death.flight = flights[dead[0]]
            lost = lambda: proxy().get(dead[0], (0, 0))[1] - begun[dead[0]]  # noqa: E731
            until = time.monotonic() + 2  # then it is given up, and forgotten
            while time.monotonic() < until:
                death.lost = max(death.lost, lost())
            _until(lambda: len(proxy()) == 2 and dead[0] not in proxy() and len(workers(REPLICA)) == 2)
            time.sleep(5)  # whoever asks finds the new one, too
        finally:
            stopped.set()
    return death


def _answer(url: str, data: bytes) -> Any:
    """What is answered; None where nothing is."""
    import requests

    with suppress(requests.RequestException):
        answer = requests.post(url, data=data, timeout=60)
        if answer.status_code == 200:
            return answer.json()
    return None


def _until(true: Callable[[], bool], seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while not true():
        if time.monotonic() > ends:
            raise TimeoutError("Ray Serve has not two replicas.")
        time.sleep(0.05)


def asked(url: str, data: bytes, args: argparse.Namespace) -> float:
    """Requests a second."""
    import requests

    sessions = threading.local()

    def ask(_: int) -> str:
        if not hasattr(sessions, "own"):
            sessions.own = requests.Session()
        answer = sessions.own.post(url, data=data, timeout=60)
        answer.raise_for_status()
        return str(json.loads(answer.content)["answer"]["name"])

    _until(lambda: _answer(url, data) is not None)
    expected = ask(0)
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(ask, range(args.warm)))
        begun = time.perf_counter()
        assert set(pool.map(ask, range(args.requests))) == {expected}
        return args.requests / (time.perf_counter() - begun)


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])
