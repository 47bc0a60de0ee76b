"""Ray Serve's own command starts the service, by arguments or by a file, as docs/scale.md has them, and ends it.

There are as many replicas meanwhile as requests ask for.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import photolabel
from photolabel.ray import deploying

import clusters
from crews import eventually
from pictures import PNG, encoded, large

pytest.importorskip("ray.serve", reason="the extra ray is not installed")
requests = pytest.importorskip("requests")

pytestmark = [clusters.LINUX, pytest.mark.filterwarnings("ignore")]  # what Ray warns of is Ray's

DOCS = Path(__file__).parent.parent.parent / "docs" / "scale.md"
SERVE = str(Path(sys.executable).with_name("serve"))
TITLES = (b"ray::ServeReplica", b"ray::ServeController", b"ray::ProxyActor")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with clusters.running(tmp_path_factory.mktemp("cache"), nodes=1, processors=2) as running:
        yield running


@contextmanager
def command(cluster: Any, *arguments: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`serve run` with these, on the cluster; it is interrupted in the end, and then nothing of it is left."""
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            [SERVE, "run", *arguments],
            env={**os.environ, "RAY_ADDRESS": cluster.address},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield running
        assert running.poll() is None, (folder / "log").read_text("utf-8", "replace")[-3000:]
        assert clusters.processes(*TITLES) and decoders()
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0
        assert eventually(lambda: not clusters.processes(*TITLES) and not decoders(), 30)
    finally:
        if running.poll() is None:  # the next test shall find nothing of it
            running.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                running.wait(30)
        running.kill()
        running.wait()


def decoders() -> list[int]:
    """The processes of photolabel's that decode, in all that this one has started."""
    found = []
    for pid, _ in clusters.descendants():
        with suppress(OSError):
            if b"photolabel.workers" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def answers(url: str) -> bool:
    with suppress(requests.RequestException):
        return bool(requests.get(f"{url}/v1/models", timeout=5).status_code == 200)
    return False


def expected(tiny: Path, photo: bytes) -> Any:
    with photolabel.load(tiny, threads=1) as classifier:
        return json.loads(json.dumps(classifier.classify(photo).record()))


def test_a_command_of_the_docs(cluster: Any, tiny: Path, tmp_path: Path) -> None:
    line = "serve run photolabel.ray:deployment model=vgg16 replicas=2"
    assert line in DOCS.read_text("utf-8").splitlines()
    port = clusters.free_port()
    # 8000 else, which others may have.
    begun = ["start", "--http-host=127.0.0.1", f"--http-port={port}", f"--address={cluster.address}"]
    subprocess.run([SERVE, *begun], check=True, capture_output=True, timeout=60)
    url = f"http://127.0.0.1:{port}"
    words = line.replace("vgg16", str(tiny)).split()[2:]
    with command(cluster, *words, folder=tmp_path):
        assert eventually(lambda: answers(url), 90), (tmp_path / "log").read_text("utf-8", "replace")[-3000:]
        answer = requests.post(f"{url}/v1/classify", data=PNG, timeout=30)
        assert answer.status_code == 200 and answer.json() == expected(tiny, PNG)
        assert eventually(lambda: len(clusters.processes(b"ray::ServeReplica")) == 2, 60)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/v1/models", timeout=5)


def test_there_are_as_many_replicas_as_requests_ask_for(cluster: Any, tiny: Path, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    (block,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    config = yaml.safe_load(block)
    (application,) = config["applications"]
    application["args"]["model"] = str(tiny)
    (scaled,) = application["deployments"]
    assert scaled["autoscaling_config"].pop("target_ongoing_requests") == deploying._PER_REPLICA
    # Serve's own settings, of which the test waits for none.
    scaled["autoscaling_config"] |= {
        "target_ongoing_requests": 4,
        "max_replicas": 2,
        "upscale_delay_s": 1,
        "downscale_delay_s": 1,
        "look_back_period_s": 2,
        "metrics_interval_s": 0.5,
    }
    port = clusters.free_port()
    config["http_options"] = {"host": "127.0.0.1", "port": port}
    (tmp_path / "photos.yaml").write_text(yaml.safe_dump(config))
    url, photo = f"http://127.0.0.1:{port}", encoded(large(2400, 1800), "JPEG")
    found: list[Any] = []
    enough = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            while not enough.is_set():
                found.append(session.post(f"{url}/v1/classify", data=photo, timeout=120))

    with command(cluster, "photos.yaml", folder=tmp_path):
        assert eventually(lambda: answers(url), 90), (tmp_path / "log").read_text("utf-8", "replace")[-3000:]
        assert replicas() == 1
        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        try:
            assert eventually(lambda: replicas() == 2, 120), "a second one runs"
            named = len(found)
            assert eventually(lambda: len(found) > named + 40, 120)
        finally:
            enough.set()
            for thread in threads:
                thread.join()
        assert eventually(lambda: replicas() == 1, 120), "and goes when it is not asked for"
    assert {each.status_code for each in found} == {200}
    wanted = expected(tiny, photo)
    assert all(each.json() == wanted for each in found)


def replicas() -> int:
    """How many replicas run."""
    from ray import serve

    (application,) = serve.status().applications.values()
    return int(application.deployments["photolabel"].replica_states.get("RUNNING", 0))
