"""Local nodes of Ray, their processes, and what these hold; for bench/cluster.py."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NAMER, DECODER, REPLICA = b"ray::Namer", b"ray::photolabel", b"ray::ServeReplica"


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


def workers(*titles: bytes) -> list[int]:
    """Processes of our cluster, which are this process's own descendants, that are at one of these."""
    return [pid for pid, line in _ours().items() if line.startswith(titles)]


def _ours() -> dict[int, bytes]:
    """This process and its descendants, with how each was called."""
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
    return {pid: lines[pid] for pid in ours if pid in lines}


class Held:
    """What the processes of a run hold, by what they are, in bytes; looked at again and again.

    Memory that they share is left out: it is the object store's, which has a size of its own.
    """

    def __init__(self) -> None:
        self.looks: list[Counter[str]] = []

    def look(self) -> None:
        held = Counter[str]()
        for pid, line in _ours().items():
            with suppress(OSError, StopIteration):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                private = next(each for each in lines if each.startswith("RssAnon"))
                held[_kind(pid, line)] += int(private.split()[1]) << 10
        self.looks.append(held)

    def growth(self) -> float:
        """The most that all together held later, times what they did after a quarter."""
        totals = [look.total() for look in self.looks]
        after = len(totals) // 4
        return max(totals[after:]) / totals[after]

    def table(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """Kinds of processes, and what they held after a quarter of the looks, at the last, and at most, in MB."""
        after, last = self.looks[len(self.looks) // 4], self.looks[-1]
        most = {kind: max(look[kind] for look in self.looks) for kind in sorted(set[str]().union(*self.looks))}
        rows = [(kind, *(f"{size / 1e6:.0f}" for size in (after[kind], last[kind], most[kind]))) for kind in most]
        return ["", "after a quarter", "at the end", "at most"], rows


def _kind(pid: int, line: bytes) -> str:
    if pid == os.getpid():
        return "the driver"
    if line.startswith((NAMER, b"ray::photolabel: name")):
        return "networks"
    if line.startswith(b"ray::"):
        return "tasks, and Ray's workers that wait for one"
    return "decoders, which tasks have" if b"photolabel.workers" in line else "Ray itself"


def say(bench: str, told: tuple[str, ...]) -> None:
    print(f"{bench}: {', '.join(told)}", file=sys.stderr, flush=True)
