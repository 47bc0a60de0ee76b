"""The service behind Ray Serve: the same routes, limits and answers."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import photolabel
from photolabel.errors import UsageError
from photolabel.ray import deploying, deployment
from photolabel.ray.deploying import Heard
from photolabel.server import Settings

import clusters
from crews import eventually
from pictures import PNG

pytest.importorskip("ray.serve", reason="the extra ray is not installed")
requests = pytest.importorskip("requests")

pytestmark = [clusters.LINUX, pytest.mark.filterwarnings("ignore")]  # what Ray warns of is Ray's


# No process of Python's between clients and replicas.
ADVISED = re.findall(
    r"^export (.+)$", (Path(__file__).parents[2] / "docs" / "scale.md").read_text("utf-8"), re.MULTILINE
)
FAST = dict(each.split("=", 1) for line in ADVISED for each in shlex.split(line))
assert FAST["RAY_SERVE_ENABLE_HA_PROXY"] == "1"


@pytest.fixture(scope="module", params=["as it comes", "fast"])
def url(request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = {}
    if request.param == "fast":
        folder = str(tmp_path_factory.mktemp("haproxy"))
        settings = {
            **FAST,  # and further ports and files, for none may be taken
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(clusters.free_port()),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(clusters.free_port()),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
        }
    with clusters.running(tmp_path_factory.mktemp("cache"), nodes=1, processors=2, settings=settings):
        from ray import serve

        port = clusters.free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(deployment({"model": str(tiny), "replicas": "2", "queue": "40"}), route_prefix="/")
        assert clusters.processes(b"ray::HAProxyManager") or request.param != "fast"
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            serve.shutdown()


def test_the_answer_is_the_record(url: str, tiny: Path) -> None:
    with photolabel.load(tiny, threads=1) as classifier:
        expected = classifier.classify(PNG).record()
    answer = requests.post(f"{url}/v1/classify", data=PNG, timeout=30)
    assert answer.status_code == 200 and answer.json() == json.loads(json.dumps(expected))
    assert requests.get(f"{url}/v1/models", timeout=30).json()["models"][0]["default"]


@pytest.mark.parametrize(
    ("way", "status"),
    [
        ({"data": b"no photo"}, 415),
        ({"data": PNG, "headers": {"Host": "evil.example"}}, 421),
        ({"data": PNG, "headers": {"Origin": "https://evil.example"}}, 403),
        ({"data": bytes(40 << 20)}, 413),
        ({"data": PNG, "params": {"top": "0"}}, 422),
    ],
)
def test_limits_and_refusals_are_those_of_the_service(url: str, way: dict[str, Any], status: int) -> None:
    answer = requests.post(f"{url}/v1/classify", timeout=30, **way)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def named(answers: list[Any]) -> list[Any]:
    return [each for each in answers if not isinstance(each, Exception) and each.status_code == 200]


def test_a_replica_that_is_killed_gives_no_wrong_answer(url: str) -> None:
    """And with the advised settings no more answers fail than there were requests under way."""
    expected = requests.post(f"{url}/v1/classify", data=PNG, timeout=30).json()
    answers: list[Any] = []
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            try:
                answers.append(requests.post(f"{url}/v1/classify", data=PNG, timeout=60))
            except requests.RequestException as error:
                answers.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: len(answers) > 5, 60)
    replicas = clusters.processes(b"ray::ServeReplica")
    assert len(replicas) == 2
    clusters.kill(replicas[0])
    before = len(named(answers))
    assert eventually(lambda: len(named(answers)) > before + 20, 60), "the other one goes on"
    stopped.set()
    for thread in threads:
        thread.join()
    assert all(each.json() == expected for each in named(answers))
    failed = len(answers) - len(named(answers))
    if clusters.processes(b"ray::HAProxyManager"):  # else how many fail is Serve's; but none says anything else
        assert failed <= len(threads)
    others = [each.status_code for each in answers if not isinstance(each, Exception) and each not in named(answers)]
    assert all(status >= 500 for status in others), others
    assert eventually(lambda: len(clusters.processes(b"ray::ServeReplica")) == 2, 60)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"modle": "vgg16"}, "modle: expected model"),
        ({"replicas": "0"}, "replicas='0'"),
        ({"replicas": "2", "max_replicas": "3"}, "replicas, or min_replicas"),
        ({"min_replicas": "3", "max_replicas": "2"}, "max_replicas=2"),
        ({"threads": "many"}, "threads='many'"),
        ({"queue": "x"}, "queue='x'"),
        ({"photo_seconds": "x"}, "photo_seconds='x'"),
        ({"docs": "maybe"}, "docs='maybe'"),
        ({"api_keys": "short"}, "API key"),
    ],
)
def test_arguments_that_make_no_sense_are_said(arguments: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        deployment(arguments)


def test_a_key_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is seen by nobody else then, as it would be on the command line."""
    monkeypatch.setenv("PHOTOLABEL_API_KEY", "short")
    with pytest.raises(UsageError, match="API key"):
        deployment({})
    with pytest.raises(UsageError, match="one of them"):
        deployment({"api_keys": "another-key-of-sixteen-and-more"})


@pytest.mark.parametrize("pieces", [0, 1, 5])
def test_a_refused_request_is_heard_out(pieces: int) -> None:
    """Else whoever still sends would see no answer, but a broken connection."""
    events: list[str] = []
    left = [b"x"] * pieces

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b"too large"})

    async def receive() -> Any:
        events.append("heard")
        body = left.pop() if left else b""
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message: Any) -> None:
        events.append(message["type"])

    asyncio.run(Heard(refuse)({"type": "http"}, receive, send))
    assert events == ["heard"] * max(1, pieces) + ["http.response.start", "http.response.body"]


def test_whoever_sends_without_end_is_not_heard_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploying, "_HEARD", 1000)
    monkeypatch.setattr(deploying, "_HEARS", 0.05)
    heard = [0]

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": []})

    async def endless() -> Any:
        heard[0] += 1
        return {"type": "http.request", "body": bytes(100), "more_body": True}

    async def silent() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        pass

    asyncio.run(Heard(refuse)({"type": "http"}, endless, send))
    assert heard == [10]
    asyncio.run(asyncio.wait_for(Heard(refuse)({"type": "http"}, silent, send), 30))


def test_arguments_of_the_command_are_the_settings() -> None:
    told = {"hosts": "a.example,b.example", "docs": "false", "queue": "40", "body_bytes": 1000, "photo_seconds": "2.5"}
    assert deploying._settings(told) == Settings(
        hosts=("a.example", "b.example"), docs=False, queue=40, body_bytes=1000, photo_seconds=2.5, workers=1
    )
    made = deployment({"min_replicas": "1", "max_replicas": "4", **told})
    options = made._bound_deployment._deployment_config
    assert options.autoscaling_config.max_replicas == 4
    assert options.autoscaling_config.target_ongoing_requests == 8
    assert options.max_ongoing_requests == 40
