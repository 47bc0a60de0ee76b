"""Kill -9 fine-tuning at random moments, and go on each time: in the end the same file is there as of an unbroken run.

A nursery, one interpreter that has imported everything, forks a child per start: a kill then hits the training or the
writing of a checkpoint, not Python's start.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from training import plant

TESTS = Path(__file__).parent
ALIKE = {"a": (120, 120, 120), "b": (140, 120, 120), "c": (120, 140, 120), "d": (120, 120, 140)}
# Nothing that has threads may have been started before a child is forked: JAX is imported, but has not computed.
NURSERY = """
import json, os, signal, sys, time, warnings
sys.path.insert(0, sys.argv[1])
sys.modules.setdefault("openvino.tools.ovc", None)
import jax, numpy, onnx, openvino, filelock, sqlite3, keras, sklearn.linear_model, scipy.optimize, threadpoolctl
import photolabel.keras, photolabel.teaching
from photolabel import classifier, loading
from photolabel.graph import head
from photolabel.teaching import Step, teach
warnings.filterwarnings("ignore", "os.fork")
for line in sys.stdin:
    out, photos, network, resume, kill_after = json.loads(line)
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        # Who is killed takes what was compiled, but writes none of it: a kill might leave half a function.
        if kill_after is not None:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)
        begun = Step(epoch=lambda epoch: os.write(tell, b"."))
        teach(photos, out, model=network, fine_tune=1, learning_rate=3e-4, epochs=6, resume=resume, workers=0,
              threads=1, step=begun)
        os._exit(0)
    os.close(tell)
    epochs = len(os.read(ready, 1))
    started = time.monotonic()
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    took = time.monotonic() - started
    while more := os.read(ready, 100):
        epochs += len(more)
    os.close(ready)
    print(json.dumps([status, took, epochs]), flush=True)
"""


def kill_tunings(folder: Path, network: Path, *, kills: int, seed: int) -> dict[str, int]:
    """Kill until `kills` trainings died on their way; raises AssertionError on anything amiss."""
    rng = random.Random(seed)
    photos = plant(folder / "photos", 12, ALIKE)
    tally = {"killed": 0, "finished": 0, "gone on with": 0, "strays": 0}
    environment = {
        **os.environ,
        "PHOTOLABEL_CACHE": str(folder / "cache"),
        "PHOTOLABEL_OFFLINE": "1",
        "KERAS_BACKEND": "jax",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),  # else each child compiles for seconds what the first did
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", NURSERY, str(TESTS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )

    def tuned(out: Path, *, resume: bool, kill_after: float | None) -> tuple[bool, float, int]:
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps([str(out), str(photos), str(network), resume, kill_after]) + "\n")
        process.stdin.flush()
        status, took, epochs = json.loads(process.stdout.readline())
        assert status in (0, signal.SIGKILL), status
        return status == 0, took, epochs

    try:
        whole = folder / "whole" / "pets.onnx"
        whole.parent.mkdir()
        assert tuned(whole, resume=False, kill_after=None)[0]
        again = folder / "again" / "pets.onnx"
        again.parent.mkdir()
        done, took, epochs = tuned(again, resume=False, kill_after=None)
        assert done and epochs == 7 and again.read_bytes() == whole.read_bytes()
        while tally["killed"] < kills:
            out = folder / f"{tally['killed']}-{tally['finished']}" / "pets.onnx"
            out.parent.mkdir()
            partial = out.with_name("pets.onnx.partial")
            while True:
                resume = partial.exists()
                finished, _, epochs = tuned(out, resume=resume, kill_after=rng.uniform(0, took))
                tally["gone on with"] += resume
                tally["finished" if finished else "killed"] += 1
                strays = [each for each in out.parent.iterdir() if each not in (out, partial)]
                assert all(each.name.startswith(".photolabel-") and each.suffix == ".tmp" for each in strays)
                tally["strays"] += len(strays)
                for each in strays:
                    each.unlink()
                if out.exists():
                    break
                assert not finished
            assert out.read_bytes() == whole.read_bytes(), "another file than of an unbroken run"
            if partial.exists():  # killed between the two: to go on makes the same again
                assert tuned(out, resume=True, kill_after=None)[0] and not partial.exists()
                assert out.read_bytes() == whole.read_bytes()
    finally:
        process.communicate(timeout=60)
    return tally
