"""Views of a record: harmless on a terminal, faithful in JSON, and of a schema that does not change unnoticed."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from photolabel import output
from photolabel.classifier import SCHEMA, Prediction, RankedLabel
from photolabel.errors import CorruptPhotoError
from photolabel.prepared import Decoding, File

LABELS = (
    RankedLabel(index=504, wnid="n03063599", name="coffee_mug", probability=0.75268),
    RankedLabel(index=968, wnid="n07930864", name="cup", probability=0.1),
    RankedLabel(index=3, wnid=None, name="my own class", probability=0.0),
)
ACTED_UPON = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
anything = st.text(st.characters(exclude_categories=[]))  # surrogates and control characters too


def good(photo: str | None = "mug.jpg", name: str = "coffee_mug") -> Prediction:
    first = RankedLabel(index=504, wnid="n03063599", name=name, probability=0.75268)
    labels = (first, *LABELS[1:])
    return Prediction(
        photo=photo, model="vgg16", recipe="crop", precision="fp32", labels=labels, file=FILE, decoding=DECODING
    )


FILE = File(sha256="ab" * 32, bytes=1234)
DECODING = Decoding(
    format="JPEG", width=4000, height=3000, orientation=6, scale=4, mode="RGB", profile=True, transparent=False
)


def bad(photo: str | None = "mug.jpg", message: str = "cut short") -> Prediction:
    error = CorruptPhotoError(message)
    return Prediction(photo=photo, model="vgg16", recipe="crop", precision="fp32", error=error)


# -- on a terminal


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mug.jpg", "mug.jpg"),
        ("", ""),
        ("café ☕ 猫 \U0001f600", "café ☕ 猫 \U0001f600"),
        ("a b\\c'd\"", "a b\\c'd\""),
        ("a\nb\r\tc", "a\\x0ab\\x0d\\x09c"),
        ("\x1b[31mred\x07\x00", "\\x1b[31mred\\x07\\x00"),
        ("\x7f\x80\x9b\x9f\xa0", "\\x7f\\x80\\x9b\\x9f\xa0"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("a\u202egnp.exe\u202c", "a\\u202egnp.exe\\u202c"),
        ("\u2066\u2067\u2068\u2069", "\\u2066\\u2067\\u2068\\u2069"),
        ("\udcff\udc80", "\\xff\\x80"),
        ("\ud800\udfff\udc7f", "\\ud800\\udfff\\udc7f"),
    ],
)
def test_what_a_terminal_would_act_upon_is_escaped(text: str, shown: str) -> None:
    assert output.printable(text) == shown


@given(anything)
@example("".join(map(chr, range(0x300))))
def test_printable_is_one_harmless_line(text: str) -> None:
    shown = output.printable(text)
    assert not ACTED_UPON.search(shown) and len(shown.splitlines()) <= 1
    assert output.printable(shown) == shown
    shown.encode("utf-8")


@given(photo=anything, name=anything, message=anything)
def test_lines_and_tables_are_harmless(photo: str, name: str, message: str) -> None:
    for named in (True, False):
        for line in (
            output.line(good(photo, name).record(), named=named),
            output.line(bad(photo, message).record(), named=named),
        ):
            assert not ACTED_UPON.search(line)
        lines = output.table(good(photo, name).record(), named=named).split("\n")
        assert len(lines) == 3 + named and not any(map(ACTED_UPON.search, lines))


def test_the_line() -> None:
    assert output.line(good().record(), named=False) == "coffee_mug (75.27%)"
    assert output.line(good().record(), named=True) == "mug.jpg: coffee_mug (75.27%)"
    assert output.line(good(None).record(), named=True) == "-: coffee_mug (75.27%)"
    assert output.line(good("a\nb", "c\nd").record(), named=True) == "a\\x0ab: c\\x0ad (75.27%)"
    assert output.line(bad().record(), named=True) == "mug.jpg: error: cut short"


@pytest.mark.parametrize(
    ("probability", "shown"), [(1.0, "100.00"), (0.0, "0.00"), (0.999951, "100.00"), (1e-9, "0.00")]
)
def test_two_decimals_always(probability: float, shown: str) -> None:
    label = RankedLabel(index=0, wnid=None, name="x", probability=probability)
    prediction = Prediction(photo=None, model="m", recipe="r", precision="fp32", labels=(label,))
    assert output.line(prediction.record(), named=False) == f"x ({shown}%)"


def test_the_table() -> None:
    assert output.table(good().record(), named=False) == (
        "coffee_mug     75.27%\ncup            10.00%\nmy own class    0.00%"
    )
    assert output.table(good("a\nb").record(), named=True) == (
        "a\\x0ab:\n  coffee_mug     75.27%\n  cup            10.00%\n  my own class    0.00%"
    )
    assert output.table(good(None).record(), named=True).startswith("-:\n")


# -- for machines


def shape(value: Any) -> Any:
    """A record's keys, their order and their types."""
    if isinstance(value, dict):
        return [(key, shape(each)) for key, each in value.items()]
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__


LABEL = [("index", "int"), ("wnid", "str"), ("name", "str"), ("probability", "float")]


def test_the_schema_of_a_record() -> None:
    """Every surface and every user's script speaks it: with any change here, SCHEMA must change too."""
    assert SCHEMA == "photolabel/1"
    head = [("schema", "str"), ("photo", "str"), ("model", "str"), ("recipe", "str"), ("precision", "str")]
    assert shape(json.loads(output.json_line(good().record()))) == [
        *head,
        ("labels", [LABEL, LABEL, [("index", "int"), ("wnid", "NoneType"), *LABEL[2:]]]),
        ("answer", [("kind", "str"), ("wnid", "str"), ("name", "str"), ("probability", "float")]),
        ("error", "NoneType"),
        ("file", [("sha256", "str"), ("bytes", "int")]),
        (
            "decoding",
            [
                *(("format", "str"), ("width", "int"), ("height", "int"), ("orientation", "int"), ("scale", "int")),
                *(("mode", "str"), ("profile", "bool"), ("transparent", "bool")),
            ],
        ),
    ]
    assert shape(json.loads(output.json_line(bad().record()))) == [
        *head,
        ("labels", []),
        ("answer", "NoneType"),
        ("error", [("code", "str"), ("message", "str")]),
        ("file", "NoneType"),
        ("decoding", "NoneType"),
    ]


def test_the_values_of_a_record() -> None:
    assert json.loads(output.json_line(good().record())) == {
        "schema": "photolabel/1",
        "photo": "mug.jpg",
        "model": "vgg16",
        "recipe": "crop",
        "precision": "fp32",
        "labels": [
            {"index": 504, "wnid": "n03063599", "name": "coffee_mug", "probability": 0.75268},
            {"index": 968, "wnid": "n07930864", "name": "cup", "probability": 0.1},
            {"index": 3, "wnid": None, "name": "my own class", "probability": 0.0},
        ],
        "answer": {"kind": "leaf", "wnid": "n03063599", "name": "coffee_mug", "probability": 0.75268},
        "error": None,
        "file": {"sha256": "ab" * 32, "bytes": 1234},
        "decoding": {
            "format": "JPEG",
            "width": 4000,
            "height": 3000,
            "orientation": 6,
            "scale": 4,
            "mode": "RGB",
            "profile": True,
            "transparent": False,
        },
    }
    record = json.loads(output.json_line(bad(None).record()))
    assert record["photo"] is None and record["answer"] is None and record["labels"] == []
    assert record["error"] == {"code": "corrupt-photo", "message": "cut short"}


def test_a_record_is_the_callers_own() -> None:
    prediction = good()
    prediction.record()["labels"].clear()
    prediction.record()["labels"][0]["name"] = "changed"
    prediction.record()["answer"]["name"] = "changed"
    assert prediction == good()


@given(photo=anything, name=anything, message=anything)
def test_json_is_one_line_of_ascii_and_comes_back_verbatim(photo: str, name: str, message: str) -> None:
    for prediction in (good(photo, name), bad(photo, message)):
        line = output.json_line(prediction.record())
        assert line.isascii() and line.isprintable()
        assert json.loads(line) == prediction.record()


@pytest.mark.skipif(sys.platform == "win32", reason="names are no bytes there")
@given(st.binary(min_size=1))
@example(b"\xff\xfe.jpg")
@example(b"caf\xc3\xa9\n\x1b[31m.jpg")
@example(b"\xed\xa0\x80")
def test_a_names_bytes_survive_json(name: bytes) -> None:
    line = output.json_line(good(os.fsdecode(name)).record())
    assert os.fsencode(json.loads(line)["photo"]) == name


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_holds_no_nan(value: float) -> None:
    """RFC 8259 knows none; other readers refuse it."""
    label = RankedLabel(index=0, wnid=None, name="x", probability=value)
    with pytest.raises(ValueError, match="JSON"):
        output.json_line(Prediction(photo=None, model="m", recipe="r", precision="fp32", labels=(label,)).record())
