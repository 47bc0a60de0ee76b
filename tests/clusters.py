"""A Ray cluster of two small nodes on this machine, whose processes may be killed."""

from __future__ import annotations

import gc
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import crews

SOURCE = Path(__file__).parent.parent / "src"
DECODING, NAMING = b"ray::photolabel: decode", b"ray::photolabel: name"


def spoil_decoders() -> None:
    """Have this process of Ray's spoil photos as their names say: see `crews.HOOK`."""
    from photolabel.workers import process

    if crews.HOOK not in process._PROGRAM:
        process._PROGRAM = process._PROGRAM.replace("child.main", crews.HOOK + "child.main")


@contextmanager
def running(cache: Path, *, nodes: int = 2, processors: int = 1, connected: bool = True) -> Iterator[Any]:
    """A cluster of so many nodes, which this process is connected to; skips where Ray is not installed."""
    pytest.importorskip("ray.data", reason="the extra ray is not installed")
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else a token would be written into the home folder
        patch.setenv("RAY_record_ref_creation_sites", "0")
        patch.setenv("PHOTOLABEL_CACHE", str(cache))
        patch.setenv("PHOTOLABEL_OFFLINE", "1")
        patch.setenv(
            "PYTHONPATH",
            os.pathsep.join([str(SOURCE), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
        )
        patch.setenv("PYTHONWARNINGS", "ignore")
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": processors, "object_store_memory": 200 << 20}
        )
        try:
            for _ in range(nodes - 1):
                add(cluster, processors)
            if connected:
                ray.init(
                    cluster.address,
                    log_to_driver=False,
                    logging_level="ERROR",
                    runtime_env={"worker_process_setup_hook": "clusters.spoil_decoders"},
                )
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
            del cluster
            with warnings.catch_warnings(action="ignore"):  # Ray leaves processes and files to the collector
                gc.collect()


def add(cluster: Any, processors: int = 1) -> Any:
    return cluster.add_node(num_cpus=processors, object_store_memory=200 << 20)


def processes(*titles: bytes) -> list[int]:
    """The processes of Ray's that are, or last were, at one of these."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            try:
                line = (each / "cmdline").read_bytes()
            except OSError:
                continue
            if any(line.startswith(title) for title in titles):
                found.append(int(each.name))
    return found


def kill(pid: int) -> None:
    """Kill a process, if it is there still."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
