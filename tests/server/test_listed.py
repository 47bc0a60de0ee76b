"""Numbers that are cut out of their JSON are those that JSON has there, and what is not JSON is not read."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from photolabel.server import listed

SHAPE = (2, 2, 2, 3)
COUNT = 24
NUMBERS = np.arange(COUNT).reshape(SHAPE)


def pixels(text: str, kind: Any = np.uint8) -> Any:
    return listed.pixels(text.encode(), SHAPE, kind)


def test_a_list_is_cut_out_and_the_rest_is_left_as_it_is() -> None:
    text = b'{"a": [1], "data" :\n [[1, 2],\t[3]] , "b": {"c": []}}'
    assert listed.taken(text) == (b'{"a": [1], "data" :\n [] , "b": {"c": []}}', b"[[1, 2],\t[3]]")
    assert listed.taken(b'{"data":[1],"shape":[2]}') == (b'{"data":[],"shape":[2]}', b"[1]")
    for text in (b'{"date": [1]}', b'{"data": 1}', b'{"data": "[1]"}', b'"data"', b"", b'"data":'):
        assert listed.taken(text) == (text, None)


def test_no_string_is_taken_for_a_name() -> None:
    for value in ('"data": [1, 2]', 'x"data":[1]', '\\"data": [1]', '\\\\"data": [1]'):
        text = json.dumps({"id": value, "more": [value]}).encode()
        assert listed.taken(text) == (text, None)


def test_of_two_lists_neither_is_taken() -> None:
    for text in (b'{"data": [1], "data": [2]}', b'[{"data": [1]}, {"data": []}]', b'{"data": [1, "data": [2]'):
        with pytest.raises(ValueError, match="^$"):
            listed.taken(text)
    with pytest.raises(ValueError, match="^$"):
        listed.taken(b'{"data": [1, 2')


@pytest.mark.parametrize("indent", [None, 0, 3])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_numbers_are_those_of_json(indent: int | None, kind: Any) -> None:
    for values in (NUMBERS.tolist(), NUMBERS.ravel().tolist()):
        found = pixels(json.dumps(values, indent=indent), kind)
        assert found.dtype == kind and found.shape == SHAPE and (found == NUMBERS).all()


def test_pieces_meet_without_a_seam() -> None:
    values = np.random.default_rng(2).uniform(0, 255, (1, 80, 80, 3)).astype(np.float32)
    for blanks in ("", " " * 7, "\n" * 100_000):
        text = json.dumps(values.ravel().tolist()).replace(",", f"{blanks},", 3).encode()
        assert len(text) > 4 * listed._PIECE  # else there is no seam
        found = listed.pixels(text, values.shape, np.float32)
        assert found is not None and found.tobytes() == values.tobytes()


def test_numbers_in_every_way_of_writing_them() -> None:
    for text, value in (
        ("1e2", 100.0),
        ("1.5E+1", 15.0),
        ("0.5e-3", 0.0005),
        ("-0", 0.0),
        ("255", 255.0),
        ("-0.0", 0.0),
    ):
        found = pixels(json.dumps(NUMBERS.ravel().tolist()).replace("[0,", f"[{text},"), np.float32)
        assert found.ravel()[0] == np.float32(value)


NESTED = json.dumps(NUMBERS.tolist(), separators=(",", ":"))
FLAT = json.dumps(NUMBERS.ravel().tolist(), separators=(",", ":"))


@pytest.mark.parametrize(
    "text",
    [
        "[]", "[1]", FLAT[:-4] + "]", FLAT[:-1] + ",1]", f"[{FLAT}]", NESTED[1:-1], f"[{NESTED}]", "[" * 60 + "]" * 60,
        NESTED.replace("[0,1,2]", "[0,1,2],[0,1,2]"), NESTED.replace("[0,1,2]", "[0,1]"), "[[]]" * 30,
        "[" + "[1]," * 60,
        json.dumps(NUMBERS.reshape(2, 2, 3, 2).tolist()), json.dumps(NUMBERS.reshape(4, 2, 3).tolist()),
        json.dumps(NUMBERS.reshape(2, 12).tolist()),
        NESTED.replace("[0,1,2]", "0[,1,2]"), NESTED.replace("[0,1,2]", "[0,1,]2"), NESTED.replace("[0,", "[ 0 [ ,", 1),
        NESTED.replace("2],[3", "2],3["), NESTED.replace("2],[3", "]2,[3"), NESTED.replace("2],[3", "] 2,[3"),
        NESTED.replace("2],[3", "]-0,[3"),
    ],
)  # fmt: skip
def test_lists_of_other_shapes_are_none(text: str) -> None:
    assert pixels(text) is None


@pytest.mark.parametrize("number", [
    "", " ", "01", "+1", ".5", "1.", "1e", "--1", "1 2", "1e5", "256", "255.5", "-1", "1e999", "-1e-9",
    "1" * 5000, "1-1", "e", "-", "1.5.5", "00",
])  # fmt: skip
@pytest.mark.parametrize("text", [FLAT, NESTED], ids=["flat", "nested"])
@pytest.mark.parametrize("place", ["0,", ",23", ",7"])
def test_what_is_no_pixel_is_not_read(number: str, text: str, place: str) -> None:
    spoilt = text.replace(place, place.replace(place.strip(","), number), 1)
    assert spoilt != text
    with pytest.raises(ValueError):  # of json, or of ours
        pixels(spoilt, np.float32)


@pytest.mark.parametrize("number", ["1.0", "1e2", "0.0", "1.5", "-0.0"])
def test_whole_numbers_are_whole(number: str) -> None:
    with pytest.raises(ValueError, match="^$"):
        pixels(FLAT.replace("[0,", f"[{number},"))
    assert pixels(FLAT.replace("[0,", f"[{number},"), np.float32) is not None
