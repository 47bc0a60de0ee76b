"""Kill -9 downloads at random moments and look at what is left.

A nursery, one interpreter that has imported everything, forks a child per download: a kill then hits the
download, not Python's start.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

from photolabel.store import Asset, Store

from servers import Server, throttled

NURSERY = """
import json, os, signal, sys, time
import requests, filelock, urllib3
from photolabel.store import Asset, Store
for line in sys.stdin:
    folder, fields, kill_after = json.loads(line)
    child = os.fork()
    if not child:
        Store(__import__("pathlib").Path(folder)).fetch(Asset(**{**fields, "urls": tuple(fields["urls"])}))
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Nursery:
    def __enter__(self) -> Nursery:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=10)

    def fetch(self, folder: Path, want: Asset, *, kill_after: float | None) -> bool:
        """Download in a child; True if it ended well, False if it was killed."""
        assert self.process.stdin and self.process.stdout
        fields = {"name": want.name, "urls": want.urls, "digest": want.digest, "size": want.size}
        self.process.stdin.write(json.dumps([str(folder), fields, kill_after]) + "\n")
        self.process.stdin.flush()
        ended = int(self.process.stdout.readline())
        assert ended in (0, signal.SIGKILL), ended
        return ended == 0


def kill_downloads(folder: Path, *, kills: int, size: int, seed: int) -> dict[str, int]:
    """Kill until `kills` downloads died while they ran; raises AssertionError on anything amiss."""
    rng = random.Random(seed)
    body = rng.randbytes(size)
    store = Store(folder)
    tally = {"killed": 0, "finished": 0, "resumed": 0, "fetched again (bytes)": 0}
    with Server(body, throttled(1 << 15, 0.002)) as server, Nursery() as nursery:
        want = Asset(
            name="weights.h5",
            urls=(server.url,),
            digest="sha256:" + hashlib.sha256(body).hexdigest(),
            size=size,
        )
        path, partial = store.path(want.name), folder / f"{want.name}.partial"
        whole = size / (1 << 15) * 0.0024 + 0.05  # about what an undisturbed download takes

        def look() -> None:
            names = {each.name for each in folder.iterdir()}
            strays = {name for name in names if name.endswith(".tmp")}
            regular = {path.name, partial.name, f"{path.name}.lock", f"{path.name}.record.json"}
            assert names - strays <= regular, names
            assert len(strays) <= 1, strays  # of a record; the next download sweeps it
            if path.exists():
                assert path.read_bytes() == body, "a bad file under the good name"
            if partial.exists():
                assert body.startswith(partial.read_bytes())

        while tally["killed"] < kills:
            before = partial.stat().st_size if partial.exists() else 0
            asked = len(server.requests)
            finished = nursery.fetch(folder, want, kill_after=rng.uniform(0, whole))
            tally["finished" if finished else "killed"] += 1
            look()
            if len(server.requests) > asked and before:
                start = int((server.ranges[asked] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
                tally["fetched again (bytes)"] += before - start
                tally["resumed"] += 1
            if path.exists() and rng.random() < 0.7:
                path.unlink()
        assert nursery.fetch(folder, want, kill_after=None)
        look()
        assert path.exists()
        assert not partial.exists()
        assert not [each for each in folder.iterdir() if each.suffix == ".tmp"]
        assert store.find(want, deep=True) == path
    return tally
