"""Kill -9 runs over many photos at random moments, go on with them, and look at what is left.

A nursery, one interpreter that has imported everything, forks a child per run: a kill then hits the run, not Python's
start.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NURSERY = """
import json, os, signal, sys, time
sys.modules.setdefault("openvino.tools.ovc", None)
import numpy, openvino, filelock
from photolabel import batch, classifier, cli, images, models, sidecars
from photolabel.cli import classify, photos
def has(path, size):  # it may go at any moment
    try:
        return os.path.getsize(path) >= size
    except FileNotFoundError:
        return False
for line in sys.stdin:
    folder, arguments, kill_after, watched, size = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(folder)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(log, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os._exit(cli.main(arguments))
    end = None
    while not (ended := os.waitpid(child, 0 if kill_after is None else os.WNOHANG))[0]:
        if end is None and (not watched or has(watched, size)):
            end = time.monotonic() + kill_after
        if end is not None and time.monotonic() >= end:
            os.kill(child, signal.SIGKILL)
            kill_after = None
        else:
            time.sleep(0.0005)
    print(ended[1], flush=True)
"""


class Nursery:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Nursery:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=30)

    def run(
        self, *arguments: str, kill_after: float | None = None, watched: Path | None = None, size: int = 0
    ) -> int | None:
        """Run the command in a child; its exit code, or None if it was killed.

        It is killed so many seconds after its start, or after the `watched` file has so many bytes.
        """
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(
            json.dumps([str(self.folder), arguments, kill_after, watched and str(watched), size]) + "\n"
        )
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL, status
            return None
        return os.waitstatus_to_exitcode(status)


def make_photos(folder: Path, count: int, *, broken: int = 0) -> Path:
    """Make so many small photos, of which some are cut short."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(count)
    for number in range(count):
        path = folder / f"{number:05}.png"
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path)
        if number < broken:
            path.write_bytes(path.read_bytes()[:60])
    return folder


def whole_lines(data: bytes) -> bytes:
    """What a journal holds: all whole lines but the first."""
    return data[: data.rfind(b"\n") + 1].partition(b"\n")[2]


def kill_runs(
    folder: Path, network: Path, *, kills: int, photos: int, seed: int, options: tuple[str, ...] = ()
) -> dict[str, int]:
    """Kill until `kills` runs died while they were at work; raises AssertionError on anything amiss."""
    rng = random.Random(seed)
    make_photos(folder / "photos", photos, broken=3)
    # Some twice: they have two records each.
    what = ["photos", "photos/00001.png", "photos/00007.png", "--model", str(network), "--threads", "1", *options]
    tally: dict[str, int] = {
        "killed": 0,
        "finished": 0,
        "resumed": 0,
        "not begun": 0,
        "cut lines": 0,
        "on its way out": 0,
        "strays": 0,
    }
    with Nursery(folder) as nursery:
        expected = {}
        for ending in ("jsonl", "csv", "txt"):
            begun = time.monotonic()
            assert nursery.run(*what, "--workers", "0", "--output", f"unbroken.{ending}") == 1, log(folder)
            took = time.monotonic() - begun
            expected[ending] = (folder / f"unbroken.{ending}").read_bytes()
        records = expected["jsonl"]
        assert records.count(b"\n") == photos + 2
        while tally["killed"] < kills:
            ending = rng.choice([*expected])
            output = folder / f"labels.{ending}"
            partial = folder / f"labels.{ending}.partial"
            older = rng.choice([None, b"older"])
            if older:
                output.write_bytes(older)
            code: int | None = None
            while True:
                before = partial.read_bytes() if partial.exists() else None
                workers = rng.choice(["0", "2"])
                arguments = ["--workers", workers, "--output", output.name]
                how = [*arguments, "--resume"] if before else [*what, *arguments]
                if before and not whole_lines(before) and not before.endswith(b"\n"):
                    how = [*what, *arguments]  # nothing was begun
                kill: dict[str, Any] = {}
                if tally["killed"] < kills and rng.random() < 0.2:
                    kill = {"kill_after": rng.uniform(0, 1.2) * took}
                elif tally["killed"] < kills:
                    size = rng.randrange(len(before or b""), len(records) + 1000)
                    kill = {"kill_after": rng.uniform(0, 0.02), "watched": partial, "size": size}
                code = nursery.run(*how, **kill)
                tally["resumed"] += "--resume" in how
                tally["killed"] += code is None
                if code is not None:
                    break
                there = output.read_bytes() if output.exists() else None
                assert there in (older, expected[ending]), "neither the older output nor the whole one"
                if not partial.exists() and there == expected[ending]:
                    tally["on its way out"] += 1
                    break
                now = partial.read_bytes() if partial.exists() else b""
                tally["not begun"] += not now
                tally["cut lines"] += not now.endswith(b"\n") and bool(now)
                assert records.startswith(whole_lines(now))
                assert len(now) >= len((before or b"").rpartition(b"\n")[0]), "something was lost"
            if code is not None:
                assert code == 1, log(folder)
                tally["finished"] += 1
            assert output.read_bytes() == expected[ending]
            assert not partial.exists()
            output.unlink()
            strays = [*folder.glob(".photolabel-*.tmp")]  # killed while the output itself was written
            tally["strays"] += len(strays)
            for stray in strays:
                stray.unlink()
    return tally


def log(folder: Path) -> str:
    return (folder / "log").read_text()
