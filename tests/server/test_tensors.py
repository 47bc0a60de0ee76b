"""A tensor request is read strictly: what it says of itself must be so, and nothing in it can ask for much memory."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest

from photolabel.recipes import KERAS
from photolabel.server import tensors
from photolabel.server.problems import RefusedError

SIZE, MOST = 2, 3
COUNT = SIZE * SIZE * 3
NUMBERS = list(range(COUNT))


def asked(**tensor: Any) -> dict[str, Any]:
    """A request with one picture; what is None is left out."""
    made = {"name": "pixels", "datatype": "UINT8", "shape": [1, SIZE, SIZE, 3], "data": NUMBERS, **tensor}
    return {"inputs": [{name: value for name, value in made.items() if value is not None}]}


def read(request: Any, binary: bytes | None = None, header: int | None = None) -> tensors.Inference:
    text = request if isinstance(request, bytes) else json.dumps(request).encode()
    if header is None and binary is not None:
        header = len(text)
    return tensors.read(text + (binary or b""), header, model="m", size=SIZE, most=MOST)


def code(request: Any, binary: bytes | None = None, header: int | None = None) -> str:
    with pytest.raises(RefusedError) as caught:
        read(request, binary, header)
    assert len(caught.value.problem.detail) < 400
    return caught.value.problem.code


# -- what is read


def test_numbers_are_read_in_every_form() -> None:
    flat = read(asked())
    assert flat.pixels.dtype == np.uint8 and flat.pixels.shape == (1, SIZE, SIZE, 3)
    assert flat.pixels.ravel().tolist() == NUMBERS and not flat.binary and flat.id is None
    nested = read(asked(data=flat.pixels.tolist()))
    assert nested.pixels.tobytes() == flat.pixels.tobytes()
    size = {"binary_data_size": COUNT}
    behind = read(asked(data=None, parameters=size), bytes(NUMBERS))
    assert behind.pixels.dtype == np.uint8 and behind.pixels.tobytes() == flat.pixels.tobytes()
    floats = read(asked(datatype="FP32", data=[0.1, 255, *NUMBERS[2:]]))
    assert floats.pixels.dtype == np.float32
    assert floats.pixels.ravel()[:2].tolist() == [float(np.float32(0.1)), 255.0]


def test_binary_numbers_may_lie_anywhere() -> None:
    values = np.linspace(0, 255, COUNT, dtype="<f4")
    for blanks in range(5):  # so that they are aligned, and are not
        text = json.dumps(asked(datatype="FP32", data=None, parameters={"binary_data_size": 4 * COUNT})).encode()
        found = read(text + b" " * blanks, values.tobytes())
        assert found.pixels.astype(np.float32).tobytes() == values.tobytes()


def test_numbers_of_json_are_the_float32_s_that_they_were() -> None:
    values = np.random.default_rng(1).uniform(0, 255, COUNT).astype(np.float32)
    assert read(asked(datatype="FP32", data=values.tolist())).pixels.tobytes() == values.tobytes()


def test_several_pictures_up_to_a_number() -> None:
    assert len(read(asked(shape=[MOST, SIZE, SIZE, 3], data=NUMBERS * MOST)).pixels) == MOST
    shape = [MOST + 1, SIZE, SIZE, 3]
    assert code(asked(shape=shape, data=NUMBERS * (MOST + 1))) == "request-too-large"


def test_a_binary_answer_is_asked_for_as_a_whole_or_by_its_output() -> None:
    def binary(all_: bool | None, one: bool | None) -> bool:
        more: dict[str, Any] = {} if all_ is None else {"parameters": {"binary_data_output": all_}}
        if one is not None:
            more["outputs"] = [{"name": "probabilities", "parameters": {"binary_data": one}}]
        return read({**asked(), **more}).binary

    assert [binary(None, None), binary(True, None), binary(True, False), binary(False, True)] == [
        False, True, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [
        {"id": None, "parameters": None, "outputs": None},
        {"parameters": {}, "outputs": []},
        {"parameters": {"content_type": "np"}},
        {"model_name": "m", "model_version": "1"},
        {"outputs": [{"name": "probabilities", "parameters": None}]},
    ],
)
def test_what_clients_say_besides_changes_nothing(more: dict[str, Any]) -> None:
    found = read({**asked(parameters={"content_type": "np"}), **more})
    assert found.pixels.ravel().tolist() == NUMBERS and not found.binary


# -- what is refused

LIES: list[Any] = [
    # names and kinds
    asked(name="input"), asked(name=None), asked(name=1), asked(name=["pixels"]),
    asked(datatype="FP16"), asked(datatype="uint8"), asked(datatype=None), asked(datatype=["UINT8"]),
    asked(datatype="BYTES"), asked(datatype="INT64"),
    # shapes
    asked(shape=[1, 3, SIZE, SIZE]), asked(shape=[SIZE, SIZE, 3]), asked(shape=[1, SIZE, SIZE, 4]),
    asked(shape=[0, SIZE, SIZE, 3], data=[]), asked(shape=[-1, SIZE, SIZE, 3]), asked(shape=[2, SIZE, SIZE, 3]),
    asked(shape=[1.0, SIZE, SIZE, 3]), asked(shape=[True, SIZE, SIZE, 3]), asked(shape="1,2,2,3"), asked(shape=None),
    asked(shape=[[1], SIZE, SIZE, 3]), asked(shape=[]),
    # numbers
    asked(data=NUMBERS[1:]), asked(data=[*NUMBERS, 1]), asked(data=[]), asked(data="x"), asked(data=7), asked(data={}),
    asked(data=[*NUMBERS[1:], 256]), asked(data=[*NUMBERS[1:], -1]), asked(data=[*NUMBERS[1:], 1.0]),
    asked(data=[*NUMBERS[1:], True]), asked(data=[*NUMBERS[1:], "1"]), asked(data=[*NUMBERS[1:], None]),
    asked(data=[*NUMBERS[1:], [1]]), asked(data=[*NUMBERS[1:], 10**400]),
    asked(datatype="FP32", data=[*NUMBERS[1:], 255.1]), asked(datatype="FP32", data=[*NUMBERS[1:], -0.001]),
    asked(datatype="FP32", data=[*NUMBERS[1:], True]), asked(datatype="FP32", data=[*NUMBERS[1:], 10**400]),
    # nested, but not as the shape is
    asked(data=[NUMBERS]), asked(data=[[[NUMBERS]]]), asked(data=[[[[0, 1]], [[2, 3]]]]),
    asked(data=[[[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10]]]]), asked(data=[[[[0, 1, 2], [3, 4, 5]], [6, 7]]]),
    asked(data=[[[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, [1]]]]]), asked(data=[[[[[0]]]]]),
    asked(data=[[]] * COUNT),
    # parameters
    asked(parameters={"shared_memory_region": "x"}), asked(parameters=[]), asked(parameters={"content_type": "base64"}),
    {**asked(), "parameters": {"binary_data_output": 1}}, {**asked(), "parameters": {"binary_data": True}},
    {**asked(), "parameters": {"sequence_id": 1}}, {**asked(), "parameters": "x"},
    # outputs
    {**asked(), "outputs": [{"name": "logits"}]}, {**asked(), "outputs": {}}, {**asked(), "outputs": "probabilities"},
    {**asked(), "outputs": [{"name": "probabilities"}] * 2}, {**asked(), "outputs": [{}]}, {**asked(), "outputs": [1]},
    {**asked(), "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}]},
    {**asked(), "outputs": [{"name": "probabilities", "parameters": {"binary_data": "true"}}]},
    {**asked(), "outputs": [{"name": "probabilities", "shape": [1]}]},
    # the request
    {}, [], 1, None, "x", {"inputs": []}, {"inputs": {}}, {"inputs": asked()["inputs"] * 2}, {"inputs": [1]},
    {**asked(), "more": 1}, {**asked(), "id": 1}, {**asked(), "id": "x" * 257}, {**asked(), "id": ["x"]},
    {**asked(), "model_name": "n"}, {**asked(), "model_version": 1}, {**asked(), "model_name": ["m"]},
    {"inputs": [{**asked()["inputs"][0], "more": 1}]},
]  # fmt: skip


@pytest.mark.parametrize("request_", LIES, ids=lambda value: json.dumps(value)[:60])
def test_lies_are_refused(request_: Any) -> None:
    assert code(request_) == "bad-request"


TEXT = json.dumps(asked())


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"x", TEXT.encode()[:-1], TEXT.encode() + b"x", TEXT.encode("utf-16"),
        b"\xef\xbb\xbf" + TEXT.encode(), b"\xff" + TEXT.encode(), TEXT.replace('"UINT8"', "NaN").encode(),
        TEXT.replace("[0, 1,", "[NaN, 1,").replace("UINT8", "FP32").encode(),
        TEXT.replace("[0, 1,", "[Infinity, 1,").replace("UINT8", "FP32").encode(),
        TEXT.replace("[0, 1,", "[1e999, 1,").replace("UINT8", "FP32").encode(),
        TEXT.replace("[0, 1,", f"[{'1' * 5000}, 1,").encode(),
        TEXT.replace('{"inputs"', '{"inputs": [], "inputs"').encode(),
        TEXT.replace('"datatype"', '"datatype": "FP32", "datatype"').encode(),
        b"[" * 200_000, b'{"a":' * 200_000, b'{"inputs": ' + b"[" * 200_000, b"[[]," * 10_000 + b"1]",
    ],
    ids=lambda value: value[:40].decode("latin-1"),
)  # fmt: skip
def test_other_texts_are_refused(text: bytes) -> None:
    assert code(text) == "bad-request"


def test_json_besides_the_numbers_is_short() -> None:
    assert read(TEXT.encode() + b" " * 60_000).pixels.ravel().tolist() == NUMBERS
    assert code(TEXT.encode() + b" " * 66_000) == "bad-request"
    assert read(TEXT.replace("[0,", "[" + " " * 66_000 + "0,").encode()).pixels.ravel().tolist() == NUMBERS


def test_a_list_is_the_input_s_own() -> None:
    """One that is called data, and lies anywhere else, is none; nor is one in whose place there is another."""
    elsewhere = {**asked(data=None), "parameters": {"data": NUMBERS}}
    assert code(elsewhere) == "bad-request"
    assert code({**asked(data=[]), "parameters": {"data": NUMBERS}}) == "bad-request"
    assert code({**asked(data=None), "data": NUMBERS}) == "bad-request"
    assert read({**asked(), "id": '"data": [1, 2], "data":[3]'}).id == '"data": [1, 2], "data":[3]'
    assert code({**asked(data=None), "id": '"data": [1, 2]'}) == "bad-request"


@pytest.mark.parametrize(
    ("said", "length", "header"),
    [
        (COUNT, COUNT - 1, None), (COUNT, COUNT + 1, None), (COUNT - 1, COUNT - 1, None), (COUNT + 1, COUNT + 1, None),
        (-COUNT, COUNT, None), (str(COUNT), COUNT, None), (float(COUNT), COUNT, None), (True, COUNT, None),
        (None, COUNT, None), (10**30, COUNT, None), (COUNT, COUNT, 10**9), (COUNT, COUNT, 0), (COUNT, COUNT, 10),
    ],
)  # fmt: skip
def test_binary_data_is_as_long_as_it_says_and_must(said: Any, length: int, header: int | None) -> None:
    request = asked(data=None, parameters={"binary_data_size": said})
    assert code(request, b"\1" * length, header) == "bad-request"


def test_no_pictures_are_too_few_in_binary_data_too() -> None:
    for shape in ([0, SIZE, SIZE, 3], [-1, SIZE, SIZE, 3]):
        assert code(asked(shape=shape, data=None, parameters={"binary_data_size": 0}), b"") == "bad-request"


def test_json_is_no_longer_than_the_body() -> None:
    length = len(json.dumps(asked()))
    assert read(asked(), header=length).pixels.ravel().tolist() == NUMBERS
    assert code(asked(), header=length + 1) == "bad-request"


def test_binary_data_is_no_pixels_either_where_it_is_none() -> None:
    request = asked(datatype="FP32", data=None, parameters={"binary_data_size": 4 * COUNT})
    for odd in (np.nan, np.inf, -np.inf, -0.5, 255.5):
        values = np.array([*NUMBERS[1:], odd], "<f4")
        assert code(request, values.tobytes()) == "bad-request"


def test_numbers_come_once_and_in_one_way() -> None:
    size = {"binary_data_size": COUNT}
    assert code(asked(parameters=size), bytes(NUMBERS)) == "bad-request"
    assert code(asked(data=None)) == "bad-request"
    assert code(asked(data=7, parameters=size), bytes(NUMBERS)) == "bad-request"
    assert code(asked(), b"\1") == "bad-request"
    assert code(asked(data=None, parameters=size)) == "bad-request"


def test_what_is_asked_for_in_few_letters_takes_little_memory() -> None:
    """Shapes are reckoned with, never made; and lists and objects are not made either, but for a few."""
    huge = [MOST, 4096, 4096, 3]
    size = {"binary_data_size": int(np.prod(huge))}
    begins = (b'{"inputs":[', b'{"inputs":[{"name":"pixels","datatype":"FP32","shape":[1,4096,4096,3],"data":[')
    floods = [
        begin + piece * (400_000 // len(piece)) + b"1]}]}" for begin in begins for piece in (b"[],", b"{},", b"1.5,")
    ]
    tracemalloc.start()
    try:
        for request in (asked(data=None, shape=huge, parameters=size), *floods):
            text = request if isinstance(request, bytes) else json.dumps(request).encode()
            with pytest.raises(RefusedError):
                tensors.read(text, len(text), model="m", size=4096, most=MOST)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# -- what is answered


def test_an_answer_is_json_or_has_its_numbers_behind_it() -> None:
    probabilities = np.array([[0.25, 0.75], [1, 0]], np.float32)
    question = read({**asked(), "id": "q"})
    text, length = tensors.answer(question, probabilities, "m")
    assert length is None and json.loads(text) == {
        "model_name": "m", "model_version": "1", "id": "q",
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [2, 2], "data": [0.25, 0.75, 1.0, 0.0]}],
    }  # fmt: skip
    question = read({**asked(), "parameters": {"binary_data_output": True}})
    body, length = tensors.answer(question, probabilities, "m")
    assert length is not None and body[length:] == probabilities.astype("<f4").tobytes()
    assert json.loads(body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 16}


def test_a_recipe_that_squashes_has_no_side() -> None:
    (pixels,) = tensors.described("m", KERAS, 10)["inputs"]
    assert pixels["parameters"] == {"channels": "RGB", "recipe": "keras", "fit": "squash", "filter": "nearest"}
