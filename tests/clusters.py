"""A Ray cluster of two small nodes on this machine, whose processes may be killed."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import crews
from crews import eventually

SOURCE = Path(__file__).parent.parent / "src"
TESTS = (
    Path(__file__).parent,
    Path(__file__).parent / "clustered",
)  # what of them goes to other processes is found there
DECODING, NAMING = b"ray::photolabel: decode", b"ray::photolabel: name"


def spoil_decoders() -> None:
    """Have this process of Ray's spoil photos as their names say: see `crews.HOOK`."""
    from photolabel.workers import process

    if crews.HOOK not in process._PROGRAM:
        process._PROGRAM = process._PROGRAM.replace("child.main", crews.HOOK + "child.main")


@contextmanager
def running(
    cache: Path,
    *,
    nodes: int = 2,
    processors: int = 1,
    settings: Mapping[str, str] | None = None,
    hook: str = "clusters.spoil_decoders",
    head: Mapping[str, Any] | None = None,
) -> Iterator[Any]:
    """A cluster of so many nodes, which this process is connected to; skips where Ray is not installed.

    `settings` are of the environment of its processes, `hook` is the function that each begins with, `head` is what
    Ray is told of the first node besides. When it ends none of them is left, nor anything on the disk.
    """
    pytest.importorskip("ray.data", reason="the extra ray is not installed")
    import ray
    from ray.cluster_utils import Cluster

    with (  # a short path: those of sockets lie in it
        tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)  # also what says to others that there is a cluster on this machine
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        for name, value in (settings or {}).items():
            patch.setenv(name, value)
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else a token would be written into the home folder
        patch.setenv("RAY_record_ref_creation_sites", "0")
        patch.setenv("PHOTOLABEL_CACHE", str(cache))
        patch.setenv("PHOTOLABEL_OFFLINE", "1")
        patch.setenv(
            "PYTHONPATH",
            os.pathsep.join([str(SOURCE), *map(str, TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]),
        )
        patch.setenv("PYTHONWARNINGS", "ignore")
        before, cluster = descendants(), None
        try:
            first = {**_node(processors), "include_dashboard": False, **(head or {})}
            cluster = Cluster(initialize_head=True, head_node_args=first)
            for _ in range(nodes - 1):
                add(cluster, processors)
            ray.init(
                cluster.address,
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env={"worker_process_setup_hook": hook},
            )
            yield cluster
        finally:
            left = descendants() - before
            ray.shutdown()
            if cluster is not None:
                cluster.shutdown()
            cluster = None
            with warnings.catch_warnings(action="ignore"):  # Ray leaves processes and files to the collector
                gc.collect()
            eventually(lambda: not left & _all(), 20)
            for pid, _ in left & _all():
                kill(pid)


def _node(processors: int) -> dict[str, Any]:
    # No port that another cluster on this machine would want.
    return {"num_cpus": processors, "object_store_memory": 200 << 20, "dashboard_agent_listen_port": None}


def add(cluster: Any, processors: int = 1, *, settings: Mapping[str, str] | None = None) -> Any:
    """One more node; `settings` are of the environment of its processes alone."""
    return cluster.add_node(**_node(processors), env_vars=dict(settings or {}))


Process = tuple[int, str]  # its number, and when it began: numbers come again


def _parents() -> dict[Process, int]:
    found = {}
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            try:
                said = (each / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            except OSError:
                continue
            if said[0] != "Z":
                found[int(each.name), said[19]] = int(said[1])
    return found


def _all() -> set[Process]:
    return {*_parents()}


def descendants() -> set[Process]:
    """The processes that this one has started, and those that they have."""
    parents, found = _parents(), set()
    ours = {os.getpid()}
    while more := {each for each, parent in parents.items() if parent in ours and each not in found}:
        found |= more
        ours |= {pid for pid, _ in more}
    return found


def processes(*titles: bytes) -> list[int]:
    """The processes of our cluster that are, or last were, at one of these."""
    found = []
    for pid, _ in descendants():
        with suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            if any(line.startswith(title) for title in titles):
                found.append(pid)
    return found


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def kill(pid: int) -> None:
    """Kill a process, if it is there still."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
