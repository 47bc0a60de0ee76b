"""What Prometheus reads is what was done; and nothing that a stranger sends makes it more, or gets into it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

import photolabel
from photolabel import __version__
from photolabel.classifier import Classifier
from photolabel.server import Settings

from services import FORM, PHOTO_PART, Asking, Held, Wire, form, get, here, misbehaving, problem, there

SETTINGS = Settings(workers=1, files=3, queue=4)


@pytest.fixture
def classifier(tiny: Path) -> Iterator[Classifier]:
    with photolabel.load(tiny) as made:
        yield made


@pytest.fixture
def ask(classifier: Classifier) -> Iterator[Asking]:
    asking = Asking({"tiny": classifier, "other": classifier}, SETTINGS)
    yield asking
    asking.close()


class Figures:
    """An answer of /metrics, parsed."""

    def __init__(self, response: httpx.Response) -> None:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        self.families = {each.name: each for each in text_string_to_metric_families(response.text)}

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels."""
        found = [
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == f"photolabel_{name}" and labels.items() <= sample.labels.items()
        ]
        return sum(found)

    @property
    def names(self) -> set[str]:
        return {sample.name for family in self.families.values() for sample in family.samples}


def figures(ask: Asking) -> Figures:
    return Figures(ask("GET", "/metrics"))


def test_before_anything_was_done(ask: Asking) -> None:
    found = figures(ask)
    assert found("ready") == 1 and found("build_info", version=__version__) == 1
    assert found("photos_inside_max") == 4 and found("held_max_bytes") == SETTINGS.held_bytes
    for name in ("photos_inside", "held_bytes", "photos_admitted_total", "workers_died_total", "requests_total"):
        assert found(name) == 0
    assert found("refused_total") == 0 and "photolabel_refused_total" in found.names
    info = found.families["photolabel_model_info"].samples
    assert [each.labels["name"] for each in info] == ["tiny", "other"]
    assert info[0].labels["precision"] == "fp32" and info[0].labels["digest"].startswith("sha256:")
    assert "photolabel_connections" not in found.names  # which only the server knows
    assert "process_resident_memory_bytes" in found.names


def test_what_was_done_is_told(ask: Asking, photo: Path) -> None:
    data = photo.read_bytes()
    for _ in range(3):
        assert ask("POST", "/v1/classify", content=data).status_code == 200
    batch = form([(PHOTO_PART, data), (PHOTO_PART, data), (PHOTO_PART, b"no photo")])
    assert ask("POST", "/v1/classify/batch?model=other", content=batch, headers=FORM).status_code == 200
    assert ask("POST", "/v1/classify", content=b"no photo").status_code == 415
    pixels = np.zeros((2, *ask.service.classifiers["tiny"].recipe.size * np.ones(2, int), 3), np.uint8)
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [*pixels.shape], "data": pixels.ravel().tolist()}
    tensor["shape"] = [int(side) for side in pixels.shape]
    assert ask("POST", "/v2/models/tiny/infer", json={"inputs": [tensor]}).status_code == 200
    assert ask("POST", "/v2/models/nobody/infer", json={}).status_code == 404
    assert ask("HEAD", "/v1/models").status_code == 200
    found = figures(ask)
    classify = {"path": "/v1/classify", "method": "POST"}
    assert found("requests_total", **classify, status="200") == found("requests_total", **classify) - 1 == 3
    assert found("requests_total", **classify, status="415") == 1
    assert found("requests_total", path="/v1/classify/batch", status="200") == 1
    assert found("requests_total", path="/v2/models/{name}/infer", status="200") == 1
    assert found("requests_total", path="/v2/models/{name}/infer", status="404") == 1
    assert found("requests_total", path="/v1/models", method="HEAD", status="200") == 1
    assert found("requests_total") == found("request_seconds_count") == 8
    assert found("request_seconds_bucket", path="/v1/classify", le="+Inf") == 4
    assert found("request_seconds_sum", path="/v1/classify") > 0
    assert found("photos_admitted_total") == 3 + 3 + 1 + 2
    assert found("decode_seconds_count") == 3 + 3 + 1 and found("decode_seconds_sum") > 0
    assert found("batch_photos_sum", model="tiny") == found("batch_photos_count", model="tiny") == 3
    assert found("batch_photos_sum", model="other") == 2
    assert found("network_seconds_count", model="tiny", work="photos") == 3
    assert found("network_seconds_count", model="tiny", work="errand") == 1
    assert found("network_seconds_sum") > 0
    assert found("photos_inside") == found("held_bytes") == found("workers_died_total") == 0
    assert figures(ask)("requests_total", path="/metrics", method="GET", status="200") == 1


def test_what_is_in_the_house_and_what_was_turned_away(classifier: Classifier, photo: Path) -> None:
    data = photo.read_bytes()

    async def work(held: Held) -> None:
        async with here(held, Settings(workers=1, files=1, queue=2, held_bytes=3 * len(data))) as (client, service):
            tasks = [asyncio.ensure_future(client.post("/v1/classify", content=data)) for _ in range(2)]
            async with asyncio.timeout(60):
                while service.admission.photos < 2:
                    await asyncio.sleep(0.005)
            for _ in range(3):
                assert problem(await client.post("/v1/classify", content=data)) == "queue-full"
            found = Figures(await client.get("/metrics"))
            assert (found("photos_inside"), found("held_bytes")) == (2, 2 * len(data))
            assert found("refused_total", reason="photos") == 3 and found("refused_total", reason="bytes") == 0
            held.let()
            await asyncio.gather(*tasks)
            assert problem(await client.post("/v1/classify", content=data * 4)) == "queue-full"
            found = Figures(await client.get("/metrics"))
            assert found("refused_total", reason="bytes") == 1 and found("photos_admitted_total") == 2
            assert found("photos_inside") == found("held_bytes") == 0
            service.drain()
            assert Figures(await client.get("/metrics"))("ready") == 0

    asyncio.run(work(Held(classifier)))


def test_workers_that_die_are_counted(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    misbehaving(monkeypatch)
    asking = Asking(classifier, SETTINGS)
    try:
        assert asking("POST", "/v1/classify", content=b"segv").status_code == 422
        assert figures(asking)("workers_died_total") == 2  # it is tried twice
    finally:
        asking.close()


def test_no_words_of_strangers_get_in(ask: Asking) -> None:
    names = ["x" * 100, "\u202e", "a%0Ab", '"} 1', "\\", "%00"]
    for name in names:
        for path in (f"/{name}", f"/v2/models/{name}", f"/v2/models/{name}/ready", f"/v1/models/{name}"):
            ask("GET", path)
    for method in ("BREW", "PROPFIND", "X" * 50):
        ask(method, "/v1/models")
    text = ask("GET", "/metrics").text
    assert text.isascii() and "xxx" not in text and "BREW" not in text
    found = Figures(ask("GET", "/metrics"))
    labels = [each.labels for each in found.families["photolabel_requests"].samples]
    assert {each["path"] for each in labels} == {
        "/metrics", "/v1/models", "/v2/models/{name}", "/v2/models/{name}/ready", "other",
    }  # fmt: skip
    assert found("requests_total", path="/v1/models", method="other", status="405") == 3


def test_it_is_behind_the_key_and_takes_no_query(classifier: Classifier) -> None:
    key = "k" * 16
    asking = Asking(classifier, Settings(workers=1, api_keys=(key,)))
    try:
        assert problem(asking("GET", "/metrics")) == "unauthorized"
        found = Figures(asking("GET", "/metrics", headers={"authorization": f"Bearer {key}"}))
        assert found("requests_total", path="/metrics", status="401") == 1
        assert asking("GET", "/metrics?name[]=x", headers={"x-api-key": key}).status_code == 422
    finally:
        asking.close()


def test_connections_are_told_by_the_server_that_has_them(classifier: Classifier, photo: Path) -> None:
    with there(classifier, Settings(workers=1, connections=50)) as (port, _), Wire(port) as first, Wire(port) as second:
        for wire in (first, second):
            wire.say(get())
            assert wire.answer()[0] == 200
        second.say(get("/metrics"))
        status, headers, body = second.answer()
        found = Figures(httpx.Response(status, headers=headers, content=body))
        assert (found("connections"), found("connections_max")) == (2, 50)


def test_two_services_are_two_and_the_registry_of_all_is_left_alone(ask: Asking, tiny: Path, photo: Path) -> None:
    with photolabel.load(tiny) as classifier:
        another = Asking(classifier, SETTINGS)
        try:
            another("POST", "/v1/classify", content=photo.read_bytes())
            assert (figures(another)("photos_admitted_total"), figures(ask)("photos_admitted_total")) == (1, 0)
        finally:
            another.close()
    assert b"photolabel" not in prometheus_client.generate_latest()


def test_names_say_what_kind_and_in_which_unit(ask: Asking, photo: Path) -> None:
    ask("POST", "/v1/classify", content=photo.read_bytes())
    found = figures(ask)
    for family in found.families.values():
        assert family.documentation.endswith((".", "seconds")) or not family.name.startswith("photolabel")
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")
        assert not any(unit in family.name for unit in ("_ms", "_kb", "_mb", "milli"))
