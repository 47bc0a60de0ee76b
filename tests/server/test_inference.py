"""Pixels by the Open Inference Protocol: the network's own probabilities, and a clear word where there can be none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import photolabel
from photolabel import __version__
from photolabel.classifier import Classifier
from photolabel.models import BUNDLED
from photolabel.server import Settings
from photolabel.server.problems import GoneError

from services import Asking, Held, here, problem

HEADER = "Inference-Header-Content-Length"
SETTINGS = Settings(workers=1, files=6, queue=8, batch=4, body_bytes=8_000_000, json_bytes=600_000)


@pytest.fixture(scope="module")
def classifiers(tiny: Path) -> Iterator[dict[str, Classifier]]:
    with (
        photolabel.load(tiny) as small,
        photolabel.load(BUNDLED) as bundled,
        photolabel.load(tiny, views="mirror") as views,
    ):
        yield {"tiny": small, BUNDLED: bundled, "views": views, "two": Classifier.of([*small.members] * 2)}


@pytest.fixture(scope="module")
def ask(classifiers: dict[str, Classifier]) -> Iterator[Asking]:
    asking = Asking(classifiers, SETTINGS)
    yield asking
    asking.close()


def noise(classifier: Classifier, count: int, kind: str = "UINT8") -> Any:
    size = classifier.recipe.size
    made = np.random.default_rng(count).uniform(0, 255, (count, size, size, 3))
    return made.astype(np.uint8 if kind == "UINT8" else np.float32)


def request(pixels: Any, kind: str = "UINT8", **more: Any) -> dict[str, Any]:
    tensor = {"name": "pixels", "datatype": kind, "shape": [*pixels.shape], "data": pixels.ravel().tolist()}
    return {"inputs": [tensor], **more}


def binary(pixels: Any, kind: str = "UINT8", **more: Any) -> dict[str, Any]:
    """What a client sends with binary data, as options of a request."""
    tensor = {"name": "pixels", "datatype": kind, "shape": [*pixels.shape]}
    tensor["parameters"] = {"binary_data_size": pixels.nbytes}
    text = json.dumps({"inputs": [tensor], **more}).encode()
    return {"content": text + pixels.tobytes(), "headers": {HEADER: str(len(text))}}


def probabilities(response: httpx.Response) -> Any:
    """What is in an answer, of either form."""
    assert response.status_code == 200, response.text
    length = response.headers.get(HEADER)
    kind = "application/json" if length is None else "application/octet-stream"
    assert response.headers["content-type"] == kind
    (output,) = json.loads(response.content[: None if length is None else int(length)])["outputs"]
    assert (output["name"], output["datatype"]) == ("probabilities", "FP32")
    if length is None:
        return np.array(output["data"], np.float32).reshape(output["shape"])
    data = response.content[int(length) :]
    assert output["parameters"] == {"binary_data_size": len(data)} and "data" not in output
    return np.frombuffer(data, "<f4").reshape(output["shape"])


# -- what there is


def test_the_server_says_what_it_is(ask: Asking) -> None:
    expected = {"name": "photolabel", "version": __version__, "extensions": ["binary_tensor_data"]}
    assert ask("GET", "/v2").json() == expected


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_a_model_says_what_it_takes(ask: Asking, classifiers: dict[str, Classifier], version: str) -> None:
    told = ask("GET", f"/v2/models/{BUNDLED}{version}").json()
    (pixels,), (output,) = told["inputs"], told["outputs"]
    assert (told["name"], told["versions"], told["platform"]) == (BUNDLED, ["1"], "onnx_onnxv1")
    assert (pixels["name"], pixels["datatype"], pixels["shape"]) == ("pixels", "UINT8", [-1, 260, 260, 3])
    assert pixels["parameters"] == {
        "channels": "RGB", "recipe": BUNDLED, "fit": "crop-resize", "side": 292, "filter": "bicubic",
    }  # fmt: skip
    assert output == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 1000]}
    assert ask("GET", f"/v2/models/{BUNDLED}{version}/ready").json() == {"name": BUNDLED, "ready": True}


@pytest.mark.parametrize("path", ["x", "x/ready", "x/infer", "tiny/versions/2", "tiny/versions/2/infer", "..%2ftiny"])
def test_other_models_and_versions_there_are_none_of(ask: Asking, path: str) -> None:
    method = "POST" if path.endswith("infer") else "GET"
    response = ask(method, f"/v2/models/{path}", **({"content": b"x" * 1000} if method == "POST" else {}))
    assert response.status_code == 404 and problem(response) in ("unknown-model", "not-found")


@pytest.mark.parametrize("name", ["views", "two"])
def test_who_averages_several_answers_takes_no_pixels(ask: Asking, name: str) -> None:
    for method, path in (("GET", ""), ("GET", "/ready"), ("POST", "/infer"), ("POST", "/versions/1/infer")):
        response = ask(method, f"/v2/models/{name}{path}")
        assert (response.status_code, problem(response)) == (422, "no-pixels")
        assert "/v1/classify" in response.json()["detail"]


def test_a_query_is_not_passed_over(ask: Asking) -> None:
    for method, path in (
        ("GET", ""),
        ("GET", "/models/tiny"),
        ("GET", "/models/tiny/ready"),
        ("POST", "/models/tiny/infer"),
    ):
        assert problem(ask(method, f"/v2{path}?top=3")) == "usage"


def test_problems_have_the_protocol_s_member_on_its_paths_only(ask: Asking) -> None:
    for method, path in (
        ("GET", "/v2/x"),
        ("PUT", "/v2/models/tiny/infer"),
        ("POST", "/v2/models/tiny/infer"),
        ("GET", "/v2/"),
    ):
        document = ask(method, path).json()
        assert document["error"] == f"{document['title']}. {document['detail']}"
    for path in ("/v1/x", "/v20", "/x"):
        assert "error" not in ask("GET", path).json()


# -- probabilities


@pytest.mark.parametrize("kind", ["UINT8", "FP32"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_they_are_the_library_s_bit_for_bit(
    ask: Asking, classifiers: dict[str, Classifier], kind: str, count: int
) -> None:
    pixels = noise(classifiers["tiny"], count, kind)
    expected = classifiers["tiny"].run(pixels.astype(np.float32))
    post = partial(ask, "POST", "/v2/models/tiny/infer")
    nested = request(pixels, kind)
    nested["inputs"][0]["data"] = pixels.tolist()
    wanted = {"outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}]}
    for options in (
        {"json": request(pixels, kind)},
        {"json": nested},
        {"json": request(pixels, kind, parameters={"binary_data_output": True})},
        binary(pixels, kind),
        binary(pixels, kind, **wanted),
    ):
        found = probabilities(post(**options))
        assert found.dtype == np.float32 and found.tobytes() == expected.tobytes()


def test_the_answer_says_who_gives_it_and_to_which_question(ask: Asking, classifiers: dict[str, Classifier]) -> None:
    pixels = noise(classifiers["tiny"], 1)
    for name in ("", 'é\u2028"\n', "x" * 256, "\ud800"):
        content = json.dumps(request(pixels, id=name)).encode()
        found = ask("POST", "/v2/models/tiny/infer", content=content).json()
        assert (found["model_name"], found["model_version"], found["id"]) == ("tiny", "1", name)
    found = ask("POST", "/v2/models/tiny/infer", json=request(pixels, id=None, parameters=None, outputs=[])).json()
    assert set(found) == {"model_name", "model_version", "outputs"}


def test_an_output_s_own_word_counts_more_than_the_request_s(ask: Asking, classifiers: dict[str, Classifier]) -> None:
    pixels = noise(classifiers["tiny"], 1)
    for all_, one in ((True, False), (False, True)):
        asked = request(
            pixels,
            parameters={"binary_data_output": all_},
            outputs=[{"name": "probabilities", "parameters": {"binary_data": one}}],
        )
        assert (HEADER in ask("POST", "/v2/models/tiny/infer", json=asked).headers) is one


def test_only_so_many_pictures_and_bytes(ask: Asking, classifiers: dict[str, Classifier]) -> None:
    tiny, bundled = classifiers["tiny"], classifiers[BUNDLED]
    assert len(probabilities(ask("POST", "/v2/models/tiny/infer", **binary(noise(tiny, 6))))) == 6
    too_long = json.dumps(request(noise(bundled, 1))).encode()
    declared = {"headers": {"content-length": "600001"}}
    for path, options in (
        ("tiny", binary(noise(tiny, 7))),
        (BUNDLED, {"content": too_long}),
        (BUNDLED, {"content": too_long, "headers": {HEADER: str(len(too_long))}}),
        (BUNDLED, {"content": never(), **declared}),
        (BUNDLED, {"content": never(), "headers": {HEADER: "600001", "content-length": "700000"}}),
        (BUNDLED, {"content": never(), "headers": {HEADER: "100", "content-length": "8000001"}}),
        (BUNDLED, {"content": pieces(10, 100_000)}),
        (BUNDLED, {"content": pieces(81, 100_000), "headers": {HEADER: "100"}}),
    ):
        response = ask("POST", f"/v2/models/{path}/infer", **options)
        assert (response.status_code, problem(response)) == (413, "request-too-large")


async def never() -> Any:
    raise AssertionError
    yield b""


async def pieces(count: int, size: int) -> Any:
    for _ in range(count):
        yield b" " * size


@pytest.mark.parametrize("said", ["x", "-1", "1.5", "", "٣", "9" * 19, "+3", "1,2"])
def test_a_length_that_is_none_is_refused(ask: Asking, said: str) -> None:
    response = ask("POST", "/v2/models/tiny/infer", content=never(), headers={HEADER: said.encode()})
    assert (response.status_code, problem(response)) == (400, "bad-request")


def test_two_lengths_are_one_too_many(ask: Asking) -> None:
    response = ask("POST", "/v2/models/tiny/infer", content=never(), headers=[(HEADER, "1"), (HEADER, "1")])
    assert (response.status_code, problem(response)) == (400, "bad-request")


# -- under load


async def turns(until: Any) -> None:
    async with asyncio.timeout(60):
        while not until():
            await asyncio.sleep(0.005)


def test_pictures_have_their_place_among_the_photos(tiny: Path, photo: Path) -> None:
    async def work(inner: Classifier) -> None:
        held = Held(inner)
        async with here(held, Settings(workers=1, files=3, queue=4)) as (client, service):
            name = service.default
            first = asyncio.ensure_future(client.post("/v1/classify", content=photo.read_bytes()))
            await turns(held.at_work.is_set)
            asked = asyncio.ensure_future(client.post(f"/v2/models/{name}/infer", **binary(noise(inner, 2))))
            await turns(lambda: service.admission.photos == 3)
            refused = await client.post(f"/v2/models/{name}/infer", **binary(noise(inner, 2)))
            assert (refused.status_code, problem(refused)) == (429, "queue-full") and refused.headers["retry-after"]
            last = asyncio.ensure_future(client.post(f"/v2/models/{name}/infer", **binary(noise(inner, 1))))
            await turns(lambda: service.admission.photos == 4)
            refused = await client.post(f"/v2/models/{name}/infer", content=never())
            assert problem(refused) == "queue-full"
            held.let()
            assert [each.status_code for each in await asyncio.gather(first, asked, last)] == [200] * 3
            assert service.admission.photos == service.admission.held == 0

    with photolabel.load(tiny) as inner:
        asyncio.run(work(inner))


def test_whoever_goes_is_taken_out_of_the_way(tiny: Path, photo: Path) -> None:
    async def work(inner: Classifier) -> None:
        held = Held(inner)
        async with here(held, Settings(workers=1)) as (client, service):
            first = asyncio.ensure_future(client.post("/v1/classify", content=photo.read_bytes()))
            await turns(held.at_work.is_set)
            gone = asyncio.Event()

            async def receive() -> Any:
                await gone.wait()
                raise GoneError

            asked = asyncio.ensure_future(service.infer(noise(inner, 3), service.default, receive))
            await turns(lambda: service.admission.photos == 4)
            gone.set()
            with pytest.raises(GoneError):
                await asked
            assert service.admission.photos == 1
            held.let()
            await first

    with photolabel.load(tiny) as inner:
        asyncio.run(work(inner))


def test_others_have_their_turns_between_pictures(tiny: Path) -> None:
    ran: list[int] = []

    class Counting(Held):
        def run(self, pixels: Any) -> Any:
            ran.append(len(pixels))
            return self._inner.run(pixels)

    async def work(inner: Classifier) -> Any:
        async with here(Counting(inner, held=False), Settings(workers=1, batch=2)) as (client, service):
            return probabilities(await client.post(f"/v2/models/{service.default}/infer", **binary(noise(inner, 5))))

    with photolabel.load(tiny) as inner:
        found = asyncio.run(work(inner))
        assert found.tobytes() == inner.run(noise(inner, 5).astype(np.float32)).tobytes()
    assert ran == [2, 2, 1]


def test_a_service_at_its_end_says_so(tiny: Path) -> None:
    async def work(inner: Classifier) -> None:
        async with here(inner, Settings(workers=1)) as (client, service):
            name = service.default
            inner.close()
            response = await client.post(f"/v2/models/{name}/infer", **binary(noise(inner, 1)))
            assert (response.status_code, problem(response)) == (503, "unavailable")
            service.drain()
            for method, path in (("GET", "ready"), ("POST", "infer")):
                response = await client.request(method, f"/v2/models/{name}/{path}")
                assert (response.status_code, problem(response)) == (503, "unavailable")
            assert (await client.get(f"/v2/models/{name}")).status_code == 200

    with photolabel.load(tiny) as inner:
        asyncio.run(work(inner))
