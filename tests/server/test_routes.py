"""What is answered: the library's records for the same bytes, problems for all else; and a description that is true."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import photolabel
from photolabel.classifier import Classifier
from photolabel.errors import UsageError
from photolabel.models import BUNDLED
from photolabel.prediction import Prediction
from photolabel.server import Settings, create_app, schemas
from photolabel.server.heads import KEYLESS

from conftest import ROOT
from services import FORM, HOST, PHOTO_PART, Asking, form, misbehaving, problem

SETTINGS = Settings(workers=1, files=3, top=50, body_bytes=200_000, pixels=1_000_000)
COFFEE = (ROOT / "samples" / "coffee.jpg").read_bytes()


@pytest.fixture(scope="module")
def classifiers(tiny: Path) -> Iterator[dict[str, Classifier]]:
    with photolabel.load(tiny) as small, photolabel.load(BUNDLED) as bundled:
        yield {"tiny": small, BUNDLED: bundled}


@pytest.fixture(scope="module")
def ask(classifiers: dict[str, Classifier]) -> Iterator[Asking]:
    asking = Asking(classifiers, SETTINGS)
    yield asking
    asking.close()


def png(width: int, height: int) -> bytes:
    """A PNG that claims to be so large, and is empty."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


# -- photos


def test_what_is_asked_of_a_photo(ask: Asking, classifiers: dict[str, Classifier], photo: Path) -> None:
    data = photo.read_bytes()
    response = ask("POST", "/v1/classify", content=data)
    assert response.status_code == 200 and response.headers["content-type"] == "application/json"
    assert response.json() == classifiers["tiny"].classify(data).record()
    response = ask("POST", f"/v1/classify?model={BUNDLED}&top=7&sure=0.95", content=COFFEE)
    assert response.json() == classifiers[BUNDLED].classify(COFFEE, top=7, sure=0.95).record()
    assert response.json()["answer"]["kind"] != "leaf"


def test_a_form_s_photo_has_the_client_s_name_for_it(ask: Asking, photo: Path) -> None:
    data = photo.read_bytes()
    by_form = ask("POST", "/v1/classify", files={"photo": ("my photo é.png", data)}).json()
    assert by_form == {**ask("POST", "/v1/classify", content=data).json(), "photo": "my photo é.png"}


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "<img src=x onerror=alert(1)>", "a\\r\\nX: y", "=cmd()", "\u202egpj.exe"]
)
def test_a_hostile_name_is_only_a_name(ask: Asking, photo: Path, name: str) -> None:
    response = ask("POST", "/v1/classify", files={"photo": (name, photo.read_bytes())})
    assert response.json()["photo"] == name
    assert response.text.isascii() and response.headers["x-content-type-options"] == "nosniff"


def test_the_names_above_the_answer(ask: Asking, classifiers: dict[str, Classifier], photo: Path) -> None:
    found = ask("POST", f"/v1/classify?model={BUNDLED}&tree=true", content=COFFEE).json()
    plain = ask("POST", f"/v1/classify?model={BUNDLED}", content=COFFEE).json()
    above = found.pop("tree")
    assert found == plain
    assert above[-1]["wnid"] == plain["answer"]["wnid"] and len(above) > 3
    assert [each["probability"] for each in above] == sorted((each["probability"] for each in above), reverse=True)
    assert ask("POST", "/v1/classify?model=tiny&tree=true", content=photo.read_bytes()).json()["tree"] is None


def test_a_batch_has_a_record_each_in_order_errors_too(ask: Asking, photo: Path) -> None:
    data = photo.read_bytes()
    body = form([(PHOTO_PART, data), (PHOTO_PART.replace("a.png", "b.png"), b"no photo"), (PHOTO_PART, data[:-30])])
    response = ask("POST", "/v1/classify/batch?top=2&tree=1", content=body, headers=FORM)
    assert response.status_code == 200
    good, bad, short = response.json()["records"]
    assert good == {**ask("POST", "/v1/classify?top=2", content=data).json(), "photo": "a.png", "tree": None}
    assert (bad["photo"], bad["error"]["code"], bad["labels"]) == ("b.png", "unsupported-format", [])
    assert short["error"]["code"] == "corrupt-photo"


def test_a_photo_that_does_not_fit_a_batch(ask: Asking) -> None:
    response = ask("POST", "/v1/classify/batch", content=form([(PHOTO_PART, b"x")] * 4), headers=FORM)
    assert (response.status_code, problem(response)) == (413, "request-too-large")


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"plain text", 415, "unsupported-format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported-format"),
        (b"http://169.254.169.254/latest/meta-data/", 415, "unsupported-format"),
        (b"/etc/passwd", 415, "unsupported-format"),
        (COFFEE[: len(COFFEE) // 2], 422, "corrupt-photo"),
        (png(1001, 1000), 413, "photo-too-large"),
        (png(2**31 - 1, 2**31 - 1), 413, "photo-too-large"),
        (png(1000, 1000), 422, "corrupt-photo"),
        (b"", 400, "bad-request"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_photo_is_a_problem(ask: Asking, data: bytes, status: int, code: str) -> None:
    for _ in range(2):  # the same each time
        response = ask("POST", "/v1/classify", content=data)
        assert (response.status_code, problem(response)) == (status, code)
        assert not re.search(r"0x[0-9a-f]{6,}|Traceback|object at|/(home|tmp|work|usr)\b", response.text)


def test_the_largest_photo_that_fits(ask: Asking) -> None:
    file = io.BytesIO()
    Image.new("RGB", (1000, 1000)).save(file, "PNG")
    assert ask("POST", "/v1/classify", content=file.getvalue()).status_code == 200
    padded = COFFEE + b"\0" * (SETTINGS.body_bytes - len(COFFEE))
    assert ask("POST", "/v1/classify", content=padded).status_code == 200
    response = ask("POST", "/v1/classify", content=padded + b"\0")
    assert (response.status_code, problem(response)) == (413, "request-too-large")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("top=0", 422, "usage"),
        ("top=51", 422, "usage"),
        ("tpo=1", 422, "usage"),
        ("coverage=0.9", 422, "usage"),
        ("model=vgg16", 404, "unknown-model"),
        ("model=../tiny", 404, "unknown-model"),
        ("model=%2e%2e%2ftiny.onnx", 404, "unknown-model"),
        ("model=tiny%00", 404, "unknown-model"),
        ("url=http://127.0.0.1/", 422, "usage"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused_unread(ask: Asking, query: str, status: int, code: str) -> None:
    async def body() -> Any:
        raise AssertionError
        yield b""

    response = ask("POST", f"/v1/classify?{query}", content=body())
    assert (response.status_code, problem(response)) == (status, code)


def test_more_labels_than_there_are_classes(ask: Asking, photo: Path) -> None:
    assert len(ask("POST", "/v1/classify?top=50", content=photo.read_bytes()).json()["labels"]) == 10


def test_not_a_number_is_not_an_answer(tiny: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Prediction.record
    monkeypatch.setattr(Prediction, "record", lambda self: {**real(self), "labels": [{"probability": float("nan")}]})
    with photolabel.load(tiny) as classifier:
        asking = Asking(classifier, SETTINGS)
        try:
            response = asking("POST", "/v1/classify", content=photo.read_bytes())
            assert (response.status_code, problem(response)) == (500, "internal-error")
        finally:
            asking.close()


def test_a_decoder_that_dies_or_hangs_costs_one_answer(
    tiny: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    misbehaving(monkeypatch)
    with photolabel.load(tiny) as classifier:
        asking = Asking(classifier, Settings(workers=1, photo_seconds=1.5))
        try:
            for data, code in ((b"segv", "decoder-crashed"), (b"sleep", "photo-too-slow")):
                response = asking("POST", "/v1/classify", content=data)
                assert (response.status_code, problem(response)) == (422, code)
                assert asking("POST", "/v1/classify", content=photo.read_bytes()).status_code == 200
        finally:
            asking.close()


# -- what else there is


def test_models_are_listed(ask: Asking, classifiers: dict[str, Classifier]) -> None:
    response = ask("GET", "/v1/models")
    tiny, bundled = response.json()["models"]
    assert (tiny["name"], tiny["default"], tiny["classes"], tiny["calibration"]) == ("tiny", True, 10, None)
    assert (bundled["name"], bundled["default"], bundled["precision"]) == (BUNDLED, False, "fp32")
    assert bundled["digest"] == classifiers[BUNDLED].digest
    assert str(classifiers["tiny"].network) not in response.text
    assert problem(ask("GET", "/v1/models?x=1")) == "usage"


def test_labels_are_listed(ask: Asking) -> None:
    assert len(ask("GET", "/v1/labels").json()["labels"]) == 10
    labels = ask("GET", f"/v1/labels?model={BUNDLED}").json()["labels"]
    assert labels[967] == {"index": 967, "wnid": "n07920052", "name": "espresso", "everyday": "espresso"}
    response = ask("GET", "/v1/labels?model=x")
    assert (response.status_code, problem(response)) == (404, "unknown-model")
    assert response.json()["detail"] == f"This service has: tiny, {BUNDLED}."


def test_health(ask: Asking) -> None:
    assert ask("GET", "/v2/health/live").json() == {"live": True}
    assert ask("GET", "/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/classify/", "/v1//classify", "/v1/%2e%2e/etc", "/docs/../etc", "/page/..%5c", "/page/"]
)
def test_what_is_not_there_is_not_found(ask: Asking, path: str) -> None:
    for method in ("GET", "POST"):
        response = ask(method, path)
        assert (response.status_code, problem(response)) == (404, "not-found")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "PROPFIND", "TRACE"])
def test_other_methods_are_not_allowed(ask: Asking, method: str) -> None:
    response = ask(method, "/v1/classify")
    assert (response.status_code, problem(response)) == (405, "method-not-allowed")
    assert response.headers["allow"] == "POST, OPTIONS"


def test_options_and_head(ask: Asking) -> None:
    response = ask("OPTIONS", "/v1/models")
    assert (response.status_code, response.content, response.headers["allow"]) == (204, b"", "GET, HEAD, OPTIONS")
    got, headed = ask("GET", "/v1/models"), ask("HEAD", "/v1/models")
    assert headed.status_code == 200 and not headed.content
    assert headed.headers["content-length"] == got.headers["content-length"]


# -- the description


def document(ask: Asking) -> Any:
    return ask("GET", "/openapi.json").json()


def test_every_operation_says_what_it_may_answer(ask: Asking) -> None:
    described = document(ask)
    assert described["openapi"].startswith("3.1")
    paths = described["paths"]
    assert {"/v1/classify", "/v1/classify/batch", "/v1/models", "/v1/labels", "/metrics", *KEYLESS} <= set(paths)
    for path, operations in paths.items():
        kinds = {"/metrics": ["text/plain"]}.get(path, ["application/json"])
        kinds = [*kinds, "application/octet-stream"] if path.endswith("/infer") else kinds
        for operation in operations.values():
            statuses = set(operation["responses"])
            assert {str(status) for status in schemas.ALWAYS} <= statuses and "200" in statuses
            assert operation["summary"]
            for status, response in operation["responses"].items():
                assert [*response["content"]] == (kinds if status == "200" else ["application/problem+json"])
                assert response["description"]
    for path in ("/v1/classify", "/v1/classify/batch"):
        assert {"404", "429"} <= set(paths[path]["post"]["responses"])


def test_all_that_is_referred_to_is_there(ask: Asking) -> None:
    described = document(ask)
    for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(described)):
        assert name in described["components"]["schemas"]


def fits(value: Any, schema: Any, components: Any) -> bool:
    """Whether a value is as this much of JSON Schema says."""
    if "$ref" in schema:
        return fits(value, components[schema["$ref"].rsplit("/", 1)[1]], components)
    if "anyOf" in schema:
        return any(fits(value, each, components) for each in schema["anyOf"])
    kinds = {"null": type(None), "string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list,
             "object": dict}  # fmt: skip
    if not isinstance(value, kinds[schema["type"]]) or (isinstance(value, bool) and schema["type"] != "boolean"):
        return False
    if isinstance(value, dict):
        inner = schema.get("properties", {})
        known = not inner or set(value) <= set(inner)
        return (
            known
            and set(schema.get("required", ())) <= set(value)
            and all(fits(value[name], each, components) for name, each in inner.items() if name in value)
        )
    if isinstance(value, list):
        return all(fits(each, schema["items"], components) for each in value)
    return ("const" not in schema or value == schema["const"]) and ("enum" not in schema or value in schema["enum"])


def test_answers_and_examples_are_as_described(ask: Asking, photo: Path) -> None:
    described = document(ask)
    components = described["components"]["schemas"]

    def check(value: Any, path: str, method: str, status: int) -> None:
        schema = next(iter(described["paths"][path][method]["responses"][str(status)]["content"].values()))["schema"]
        assert fits(value, schema, components), (path, value)

    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if path == "/metrics":  # which is no JSON
                continue
            (example,) = operation["responses"]["200"]["content"]["application/json"]["examples"].values()
            name = example["$ref"].removeprefix("#/components/examples/")
            check(described["components"]["examples"][name]["value"], path, method, 200)
    data = photo.read_bytes()
    for query in ("", "?tree=true", f"?model={BUNDLED}&tree=true&sure=0.99"):
        check(ask("POST", f"/v1/classify{query}", content=data).json(), "/v1/classify", "post", 200)
    body = form([(PHOTO_PART, data), (PHOTO_PART, b"x")])
    batch = ask("POST", "/v1/classify/batch", content=body, headers=FORM).json()
    check(batch, "/v1/classify/batch", "post", 200)
    check(ask("GET", "/v1/models").json(), "/v1/models", "get", 200)
    check(ask("GET", "/v1/labels").json(), "/v1/labels", "get", 200)
    check(ask("POST", "/v1/classify", content=b"x").json(), "/v1/classify", "post", 415)
    assert not fits({**batch, "more": 1}, {"$ref": "#/components/schemas/Records"}, components)
    assert not fits({"records": [{}]}, {"$ref": "#/components/schemas/Records"}, components)


def test_it_describes_itself_to_people_without_anything_from_elsewhere(ask: Asking) -> None:
    response = ask("GET", "/docs")
    assert response.status_code == 200 and response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    style = re.search("<style>(.*?)</style>", response.text, re.DOTALL)
    assert style and base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode() in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.search(r"<script|https?://|style=|src=|href=\"[^#]", response.text)
    for path in document(ask)["paths"]:
        assert path in response.text
    assert "espresso" in response.text
    for heading in ("The query", "In the path", "In the headers"):
        assert heading in response.text


def test_a_key_is_described_where_one_is_needed(tiny: Path) -> None:
    with photolabel.load(tiny) as classifier:
        open_, locked = create_app(classifier), create_app(classifier, settings=Settings(api_keys=("k" * 16,)))
        assert "security" not in open_.openapi()
        assert locked.openapi()["security"] == [{"bearer": []}, {"header": []}]


def test_nothing_is_described_where_that_is_not_wanted(tiny: Path) -> None:
    with photolabel.load(tiny) as classifier:
        asking = Asking(classifier, Settings(workers=1, docs=False))
        try:
            assert asking("GET", "/openapi.json").status_code == 404
            assert asking("GET", "/docs").status_code == 404
        finally:
            asking.close()


# -- the table of models


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", "-x", "x" * 101, "é"])
def test_a_model_is_called_what_can_be_asked_for(tiny: Path, name: str) -> None:
    with photolabel.load(tiny) as classifier:
        with pytest.raises(UsageError, match="NAME=FILE"):
            create_app({name: classifier})
        with pytest.raises(UsageError):
            create_app({})


def test_no_traces_are_sent_anywhere(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    with photolabel.load(tiny) as classifier:
        config = getattr(create_app(classifier), "_telemetry", None)
    if config is None:
        pytest.skip("this FastAPI has nothing to send traces with")
    assert not any(config[name] for name in ("auto_configure", "tracing", "metrics", "logs"))


def test_host_is_this_machine() -> None:
    assert HOST == "http://localhost"  # else every test above would be of nothing but the guard's 421
