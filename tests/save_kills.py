"""Kill -9 the saving of a taught network at random moments and look at what is left.

A nursery, one interpreter that has imported everything and computed the features, forks a child per saving: a kill then
hits the saving, not Python's start.
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

from training import plant

TESTS = Path(__file__).parent
# A child runs the network itself, so nothing that has threads may have been started before it is forked: the features
# are those that the first child computed, which are kept.
NURSERY = """
import json, os, signal, sys, time
sys.path.insert(0, sys.argv[1])
sys.modules.setdefault("openvino.tools.ovc", None)
import numpy, onnx, openvino, filelock, sqlite3
import photolabel, training
from pathlib import Path
from photolabel import classifier, loading
from photolabel.graph import head
from photolabel.teaching import saving
from photolabel.teaching.backbone import Backbone
for line in sys.stdin:
    out, photos, network, seed, kill_after = json.loads(line)
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        with photolabel.load(Path(network), threads=1) as made:
            backbone = Backbone.of(made)
            features = training.computed(Path(photos), backbone)
            os.write(tell, b".")
            training.taught(Path(out), features, backbone, seed=seed)
        os._exit(0)
    os.read(ready, 1)
    os.close(ready), os.close(tell)
    begun = time.monotonic()
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    print(json.dumps([status, time.monotonic() - begun]), flush=True)
"""


def kill_saves(folder: Path, network: Path, *, kills: int, seed: int) -> dict[str, int]:
    """Kill until `kills` savings died on their way; raises AssertionError on anything amiss.

    Each new file differs from the one before it by its seed, so it shows which one is there.
    """
    rng = random.Random(seed)
    photos = plant(folder / "photos", 3)
    out = folder / "out" / "pets.onnx"
    out.parent.mkdir()
    tally = {"killed": 0, "finished": 0, "new although killed": 0, "strays": 0}
    environment = {**os.environ, "PHOTOLABEL_CACHE": str(folder / "cache"), "PHOTOLABEL_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", NURSERY, str(TESTS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )

    def saved(seed: int, kill_after: float | None) -> tuple[bool, float]:
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps([str(out), str(photos), str(network), seed, kill_after]) + "\n")
        process.stdin.flush()
        status, took = json.loads(process.stdout.readline())
        assert status in (0, signal.SIGKILL), status
        return status == 0, took

    try:
        whole = {}
        for number in (0, 1):
            assert saved(number, None)[0]
            whole[number] = out.read_bytes()
        begun = time.monotonic()
        assert saved(0, None)[0]
        took = min(saved(0, None)[1], time.monotonic() - begun)
        older = 0
        while tally["killed"] < kills:
            finished, _ = saved(1 - older, rng.uniform(0, took))
            tally["finished" if finished else "killed"] += 1
            now = out.read_bytes()
            assert now in whole.values(), "neither the older file nor the new one"
            if now == whole[1 - older]:
                tally["new although killed"] += not finished
                older = 1 - older
            else:
                assert not finished
            strays = [each for each in out.parent.iterdir() if each != out]
            assert all(each.name.startswith(".photolabel-") and each.suffix == ".tmp" for each in strays)
            tally["strays"] += len(strays)
            for each in strays:
                each.unlink()
        assert saved(1 - older, None)[0] and out.read_bytes() == whole[1 - older]
    finally:
        process.communicate(timeout=30)
    return tally


# Two children at a time compute features of the same photos, and write each row at once.
COMPUTING = """
import json, os, signal, sys, time
sys.path.insert(0, sys.argv[1])
sys.modules.setdefault("openvino.tools.ovc", None)
import numpy, onnx, openvino, filelock, sqlite3
import photolabel, training
from pathlib import Path
from photolabel import classifier, loading, store
from photolabel.teaching import kept
from photolabel.teaching.backbone import Backbone
kept._EVERY = 0
def work(photos, network):
    with photolabel.load(Path(network), threads=1) as made:
        return training.computed(Path(photos), Backbone.of(made))
for line in sys.stdin:
    photos, network, kills = json.loads(line)
    children = []
    for kill_after in kills:
        child = os.fork()
        if not child:
            found = work(photos, network)
            os._exit(len(found.remarks) + 2 * len(found.failures))
        children.append((kill_after, child))
    begun, ended = time.monotonic(), []
    for kill_after, child in sorted(children, key=lambda each: each[0] if each[0] is not None else 1e9):
        if kill_after is not None:
            time.sleep(max(0, begun + kill_after - time.monotonic()))
            os.kill(child, signal.SIGKILL)
        ended.append(os.waitpid(child, 0)[1])
    print(json.dumps([ended, time.monotonic() - begun]), flush=True)
"""


def kill_computing(folder: Path, network: Path, *, kills: int, seed: int) -> dict[str, int]:
    """Kill until `kills` computations of features died; raises AssertionError where any other one says anything amiss.

    The caller looks at what is kept in the end, in the cache `folder`/cache of the photos `folder`/photos.
    """
    rng = random.Random(seed)
    photos = plant(folder / "photos", 40)
    environment = {**os.environ, "PHOTOLABEL_CACHE": str(folder / "cache"), "PHOTOLABEL_OFFLINE": "1"}
    tally = {"killed": 0, "finished": 0, "journals left": 0}
    process = subprocess.Popen(
        [sys.executable, "-c", COMPUTING, str(TESTS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )

    def ran(*kill_after: float | None) -> tuple[list[int], float]:
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps([str(photos), str(network), kill_after]) + "\n")
        process.stdin.flush()
        ended, took = json.loads(process.stdout.readline())
        assert set(ended) <= {0, signal.SIGKILL}, ended
        tally["finished"] += ended.count(0)
        return ended, took

    try:
        kept = folder / "cache" / "features"
        ran(None)
        for path in kept.iterdir():
            path.unlink()
        took = ran(None)[1]
        while tally["killed"] < kills:
            for path in [*kept.glob("*.sqlite")] if rng.random() < 0.3 else []:
                path.unlink()
                Path(f"{path}-journal").unlink(missing_ok=True)
            for other in (rng.uniform(0, took), None):
                tally["killed"] += ran(rng.uniform(0, took), other)[0].count(signal.SIGKILL)
                tally["journals left"] += len([*kept.glob("*-journal")])
        ran(None)
    finally:
        process.communicate(timeout=30)
    return tally
