"""A closer look: what the library says of the same bytes, decoded elsewhere; and what cannot be asked for."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import photolabel
from photolabel import decoding, images
from photolabel.classifier import Classifier
from photolabel.explain import explain
from photolabel.look import look
from photolabel.models import BUNDLED
from photolabel.server import Settings
from photolabel.server.looks import EMBED, EXPLAIN, LOOK

from conftest import ROOT
from pictures import bombs
from services import PHOTO_PART, Asking, form, misbehaving, problem

SETTINGS = Settings(workers=1, body_bytes=200_000, pixels=1_000_000, layers=("fc1", "block5_conv1"))
COFFEE = (ROOT / "samples" / "coffee.jpg").read_bytes()
SIDEWAYS = (ROOT / "samples" / "sideways.jpg").read_bytes()
PATHS = (EXPLAIN, LOOK, EMBED)


@pytest.fixture(scope="module")
def classifiers(tiny: Path) -> Iterator[dict[str, Classifier]]:
    with (
        photolabel.load(tiny) as small,
        photolabel.load(BUNDLED) as bundled,
        photolabel.load(tiny, views="ten-crop") as many,
    ):
        yield {"tiny": small, BUNDLED: bundled, "many": many}


@pytest.fixture(scope="module")
def ask(classifiers: dict[str, Classifier]) -> Iterator[Asking]:
    asking = Asking(classifiers, SETTINGS)
    yield asking
    asking.close()


def picture(text: str) -> np.ndarray:
    data = base64.b64decode(text, validate=True)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG" and not image.info
        return np.asarray(image)


def same(evidence: dict[str, Any], expected: Any) -> None:
    """The evidence is the library's, to the last digit; of the map what 8 bits hold."""
    assert evidence["label"] == vars(expected.label)
    assert evidence["method"] == expected.method
    assert evidence["size"] == list(expected.photo.size)
    assert evidence["cut"] == list(expected.cut)
    assert evidence["box"] == (None if expected.box is None else list(expected.box))
    np.testing.assert_array_equal(picture(evidence["map"]), (expected.map * 255).round().astype(np.uint8))


# -- evidence


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", {}),
        ("label=espresso", {"label": "espresso"}),
        ("label=coffee%20mug&method=activation", {"label": "coffee mug", "method": "activation"}),
        ("label=n03063599", {"label": "n03063599"}),
        ("label=504&method=occlusion", {"label": "504", "method": "occlusion"}),
    ],
)
def test_evidence_is_the_library_s(
    ask: Asking, classifiers: dict[str, Classifier], query: str, asked: dict[str, Any]
) -> None:
    response = ask("POST", f"{EXPLAIN}?model={BUNDLED}&{query}", content=COFFEE)
    assert response.status_code == 200, response.text
    record = response.json()
    same(record.pop("evidence"), explain(classifiers[BUNDLED], COFFEE, **asked))
    assert record == classifiers[BUNDLED].classify(COFFEE).record()


def test_evidence_by_gradients_and_in_a_turned_photo(
    ask: Asking, classifiers: dict[str, Classifier], photo: Path
) -> None:
    for data in (photo.read_bytes(), SIDEWAYS):
        for method in (None, "gradient", "occlusion"):
            query = "" if method is None else f"&method={method}"
            found = ask("POST", f"{EXPLAIN}?label=3{query}", content=data).json()["evidence"]
            same(found, explain(classifiers["tiny"], data, label=3, method=method))  # type: ignore[arg-type]
            assert found["method"] == (method or "gradient")
    assert found["size"] == [451, 300]


def test_a_record_may_have_its_evidence_beside_it(ask: Asking) -> None:
    for query in (f"model={BUNDLED}&top=3&sure=0.95&tree=true", "top=2"):
        found = ask("POST", f"/v1/classify?{query}&explain=true", content=COFFEE).json()
        evidence = found.pop("evidence")
        assert found == ask("POST", f"/v1/classify?{query}&explain=false", content=COFFEE).json()
        model = f"?model={BUNDLED}" if "model" in query else ""
        assert evidence == ask("POST", f"{EXPLAIN}{model}", content=COFFEE).json()["evidence"]
        assert evidence["label"]["index"] == found["labels"][0]["index"]
    response = ask("POST", "/v1/classify/batch?explain=true", content=form([(PHOTO_PART, COFFEE)]))
    assert (response.status_code, problem(response)) == (422, "usage")


def test_a_photo_without_evidence_has_an_empty_map(ask: Asking) -> None:
    file = io.BytesIO()
    Image.new("RGB", (300, 200), (128, 128, 128)).save(file, "PNG")
    query = f"?model={BUNDLED}&method=occlusion"  # covering grey by grey changes nothing
    found = ask("POST", f"{EXPLAIN}{query}", content=file.getvalue()).json()["evidence"]
    assert found["box"] is None and not picture(found["map"]).any()


@pytest.mark.parametrize("path", ["/v1/classify?explain=true&", f"{EXPLAIN}?"])
def test_what_cannot_be_explained_is_refused_as_elsewhere_and_unread(ask: Asking, path: str) -> None:
    async def body() -> Any:
        raise AssertionError
        yield b""

    response = ask("POST", f"{path}model=many", content=body())
    assert (response.status_code, problem(response)) == (422, "usage")
    assert "this one averages several answers" in response.json()["detail"]
    if path.startswith(EXPLAIN):
        for query, said in (
            ("method=activation", "tiny at fp32 does not allow it. Expected occlusion"),
            (f"method=gradient&model={BUNDLED}", "does not allow it"),
            ("method=magic", "expected one of gradient, activation, occlusion"),
            ("label=unheard-of", "expected a class of the model"),
            ("label=10", "expected a class of the model"),
            ("label=", "1 to 200 characters"),
            (f"label={'x' * 201}", "1 to 200 characters"),
            ("top=3", "another word"),
        ):
            for _ in range(2):
                response = ask("POST", f"{path}{query}", content=body())
                assert (response.status_code, problem(response)) == (422, "usage")
                assert said in response.json()["detail"]
                assert "unheard-of" not in response.text
    response = ask("POST", f"{path}model=vgg16", content=body())
    assert (response.status_code, problem(response)) == (404, "unknown-model")


# -- what the network saw


@pytest.mark.parametrize("model", ["tiny", BUNDLED, "many"])
@pytest.mark.parametrize("data", [COFFEE, SIDEWAYS], ids=["coffee", "sideways"])
def test_what_was_seen_is_the_library_s(
    ask: Asking, classifiers: dict[str, Classifier], model: str, data: bytes
) -> None:
    found = ask("POST", f"{LOOK}?model={model}", content=data).json()
    expected = look(data, classifiers[model].recipe)
    np.testing.assert_array_equal(picture(found.pop("input")), expected.pixels)
    assert found == {
        "photo": None,
        "model": classifiers[model].model.name,
        "recipe": str(expected.recipe),
        "facts": expected.facts(),
        "warnings": list(expected.warnings),
        "orientation": 6 if data == SIDEWAYS else 1,
        "size": list(expected.photo.size),
        "cut": list(expected.cut),
    }


def test_what_is_odd_is_said(ask: Asking) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (30, 90), (255, 0, 0, 9)).save(file, "PNG")
    found = ask("POST", f"{LOOK}?model={BUNDLED}", content=file.getvalue()).json()
    assert [each.partition(":")[0] for each in found["warnings"]] == [
        "tiny", "much cut off", "transparent", "nearly of one colour"
    ]  # fmt: skip


def test_no_network_runs_to_look(tiny: Path, photo: Path) -> None:
    with photolabel.load(tiny) as closed:
        asking = Asking(closed, Settings(workers=1))
        try:
            closed.close()
            assert asking("POST", LOOK, content=photo.read_bytes()).status_code == 200
            for path in (EXPLAIN, f"{EXPLAIN}?method=occlusion", "/v1/classify?explain=true"):
                response = asking("POST", path, content=photo.read_bytes())
                assert (response.status_code, problem(response)) == (503, "unavailable")
        finally:
            asking.close()


# -- features


@pytest.mark.parametrize(
    ("model", "layer"), [("tiny", None), ("tiny", "fc1"), ("tiny", "block5_conv1"), (BUNDLED, None)]
)
def test_features_are_the_library_s_bit_for_bit(
    ask: Asking, classifiers: dict[str, Classifier], photo: Path, model: str, layer: str | None
) -> None:
    for data in (COFFEE, photo.read_bytes()):
        query = f"?model={model}" + ("" if layer is None else f"&layer={layer}")
        found = ask("POST", f"{EMBED}{query}", files={"photo": ("mug.jpg", data)}).json()
        (expected,) = classifiers[model].features([data], layer=layer)
        numbers = np.array(found.pop("features"), np.float32).reshape(found["shape"])
        assert numbers.tobytes() == expected.tobytes() and numbers.any()
        assert found == {
            "photo": "mug.jpg",
            "model": classifiers[model].model.name,
            "layer": layer or {"tiny": "fc2", BUNDLED: "features"}[model],
            "shape": list(expected.shape),
        }


def test_layers_are_those_that_models_tell_of(ask: Asking) -> None:
    async def body() -> Any:
        raise AssertionError
        yield b""

    told = {each["name"]: each["layers"] for each in ask("GET", "/v1/models").json()["models"]}
    assert told == {"tiny": ["fc2", "fc1", "block5_conv1"], BUNDLED: ["features"], "many": []}
    for query, said in (
        ("layer=predictions", "layer: expected fc2, fc1, block5_conv1."),
        ("layer=../x", "layer: expected fc2"),
        ("layer=", "1 to 200 characters"),
        (f"model={BUNDLED}&layer=fc1", "layer: expected features."),
        ("model=many", "this one averages several answers"),
        ("model=many&layer=fc1", "this one averages several answers"),
        ("size=9", "another word"),
    ):
        response = ask("POST", f"{EMBED}?{query}", content=body())
        assert (response.status_code, problem(response)) == (422, "usage")
        assert said in response.json()["detail"], response.text


# -- photos from anywhere


@pytest.mark.parametrize("path", [*PATHS, "/v1/classify?explain=1"])
def test_what_is_no_photo_is_the_problem_that_it_is_when_named(ask: Asking, path: str) -> None:
    for data in (b"plain text", b"/etc/passwd", COFFEE[:9000], b"", bytes(200_001), *bombs().values()):
        named, found = ask("POST", "/v1/classify", content=data), ask("POST", path, content=data)
        assert (found.status_code, found.json()) == (named.status_code, named.json())
        assert found.status_code in (400, 413, 415, 422) and problem(found)


def test_a_photo_is_never_decoded_here(ask: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **options: Any) -> Any:
        raise AssertionError

    for module in (decoding, images):
        monkeypatch.setattr(module, "decode", never)
    monkeypatch.setattr("photolabel.prepared.decode", never)
    monkeypatch.setattr(Image, "open", never)
    for path in (*PATHS, "/v1/classify?explain=1"):
        assert ask("POST", path, content=COFFEE).status_code == 200


@pytest.mark.parametrize("path", [*PATHS, "/v1/classify?explain=1"])
def test_a_decoder_that_dies_or_hangs_costs_one_answer(
    tiny: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    misbehaving(monkeypatch)
    with photolabel.load(tiny) as classifier:
        asking = Asking(classifier, Settings(workers=1, photo_seconds=1.5))
        try:
            for data, code in ((b"segv", "decoder-crashed"), (b"sleep", "photo-too-slow")):
                response = asking("POST", path, content=data)
                assert (response.status_code, problem(response)) == (422, code)
                assert asking("POST", path, content=photo.read_bytes()).status_code == 200
            assert asking.service.admission.photos == asking.service.admission.held == 0
        finally:
            asking.close()


def test_nothing_of_an_upload_is_sent_back(ask: Asking, photo: Path) -> None:
    """Neither its bytes nor its pixels but those that the network saw, nor what stands beside them."""
    secret = b"an owner's name and address"
    data = COFFEE[:2] + b"\xff\xfe" + (len(secret) + 2).to_bytes(2, "big") + secret + COFFEE[2:]
    for path in PATHS:
        response = ask("POST", f"{path}?model={BUNDLED}", content=data)
        assert response.status_code == 200 and secret not in response.content
        for value in json.loads(response.text).values():
            assert not isinstance(value, str) or base64.b64encode(data[:300]).decode()[:200] not in value


# -- the description


def test_each_answer_is_as_described(ask: Asking) -> None:
    from test_routes import fits

    described = ask("GET", "/openapi.json").json()
    components = described["components"]["schemas"]

    def check(response: httpx.Response, path: str) -> None:
        operation = described["paths"][path]["post"]
        content = operation["responses"][str(response.status_code)]["content"]
        (schema,) = (each["schema"] for each in content.values())
        assert fits(response.json(), schema, components), (path, response.text[:500])

    for path in (*PATHS, "/v1/classify"):
        query = "?explain=true" if path == "/v1/classify" else ""
        check(ask("POST", f"{path}{query}", content=COFFEE), path)
        check(ask("POST", path, content=b"x"), path)
        assert {"404", "429"} <= set(described["paths"][path]["post"]["responses"])
    assert not fits({}, components["Explained"], components) and not fits({}, components["Look"], components)
    evidence = components["Explained"]["required"]
    assert "evidence" in evidence and "evidence" not in components["Record"]["required"]
    parameters = {each["name"]: each for each in described["paths"][EMBED]["post"]["parameters"]}
    assert parameters["layer"]["schema"]["enum"] == ["fc2", "fc1", "block5_conv1", "features"]
    parameters = {each["name"] for each in described["paths"][EXPLAIN]["post"]["parameters"]}
    assert parameters == {"model", "label", "method"}
    batch = described["paths"]["/v1/classify/batch"]["post"]["parameters"]
    assert "explain" not in {each["name"] for each in batch}
