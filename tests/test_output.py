"""Views of a record: harmless on a terminal, faithful in JSON, and of a schema that does not change unnoticed."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from photolabel import answer, output
from photolabel.classifier import SCHEMA, Prediction, RankedLabel
from photolabel.errors import CorruptPhotoError
from photolabel.output import csvs
from photolabel.prediction import Names
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


def test_what_people_say_stands_beside_names_that_are_other_words() -> None:
    labels = [
        RankedLabel(index=i, wnid=wnid, name=name, probability=0.5, everyday=everyday)
        for i, (wnid, name, everyday) in enumerate(
            [
                ("n02012849", "crane", "crane (wading bird)"),
                ("n03126707", "crane", "crane (lifting device)"),
                ("n02124075", "Egyptian_cat", "Egyptian cat"),
                ("n02071294", "killer_whale", "orca\x1b"),
            ]
        )
    ]
    made = Prediction(photo="x.jpg", model="vgg16", recipe="crop", precision="fp32", labels=tuple(labels))
    assert output.table(made.record(), named=False).splitlines() == [
        "crane          50.00%  crane (wading bird)",
        "crane          50.00%  crane (lifting device)",
        "Egyptian_cat   50.00%",
        "killer_whale   50.00%  orca\\x1b",
    ]


def test_a_table_beneath_what_was_asked_for() -> None:
    sure = dataclasses.replace(good(), answer=answer.unsure(0.75, reason="not sure enough"))
    rows = "  coffee_mug     75.27%\n  cup            10.00%\n  my own class    0.00%"
    assert output.table(sure.record(), named=True, answered=True) == f"mug.jpg: unsure\n{rows}"
    assert output.table(sure.record(), named=False, answered=True) == f"unsure\n{rows}"


def test_a_set_of_names_is_one_line() -> None:
    def those(count: int) -> Prediction:
        labels = tuple(RankedLabel(index=i, wnid=None, name=f"c{i}", probability=0.01) for i in range(count))
        return dataclasses.replace(good(), names=Names(coverage=0.95, labels=labels))

    assert output.line(those(2).record(), named=True) == "mug.jpg: c0 (1.00%), c1 (1.00%)"
    assert output.line(those(13).record(), named=False).endswith("c9 (1.00%), and 3 more")
    for count in (1, 10, 13):
        assert output.line(those(count).record(), named=False) == str(those(count))


def test_why_it_is_unsure() -> None:
    for reason, shown in (("not sure enough", "unsure"), ("none of its classes", "unsure (none of its classes)")):
        made = dataclasses.replace(good(), answer=answer.unsure(0.2, reason=reason))  # type: ignore[arg-type]
        assert output.line(made.record(), named=False) == str(made) == shown


def test_a_record_of_an_earlier_version_can_be_shown() -> None:
    """Fields were added within the schema; a run may go on with records that lack them."""
    old = good().record()
    for added in ("names", "opinions", "calibration", "truth"):
        del old[added]
    for label in (*old["labels"], old["answer"]):
        del label["everyday"]
    del old["answer"]["reason"]
    assert output.line(old, named=False) == "coffee_mug (75.27%)"
    assert output.table(old, named=False) == output.table(good().record(), named=False)
    file = io.BytesIO()
    csvs.write(file, [f"{output.json_line(old)}\n".encode()], 3)
    assert b"coffee_mug" in file.getvalue()


# -- for machines


def shape(value: Any) -> Any:
    """A record's keys, their order and their types."""
    if isinstance(value, dict):
        return [(key, shape(each)) for key, each in value.items()]
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__


LABEL = [("index", "int"), ("wnid", "str"), ("name", "str"), ("probability", "float"), ("everyday", "NoneType")]


NOTHING = [(name, "NoneType") for name in ("names", "opinions", "calibration", "truth")]


def test_the_schema_of_a_record() -> None:
    """Every surface and every user's script speaks it: with any change here, SCHEMA must change too."""
    assert SCHEMA == "photolabel/1"
    head = [("schema", "str"), ("photo", "str"), ("model", "str"), ("recipe", "str"), ("precision", "str")]
    assert shape(json.loads(output.json_line(good().record()))) == [
        *head,
        ("labels", [LABEL, LABEL, [("index", "int"), ("wnid", "NoneType"), *LABEL[2:]]]),
        ("answer", [("kind", "str"), *LABEL[1:], ("reason", "NoneType")]),
        ("error", "NoneType"),
        ("file", [("sha256", "str"), ("bytes", "int")]),
        (
            "decoding",
            [
                *(("format", "str"), ("width", "int"), ("height", "int"), ("orientation", "int"), ("scale", "int")),
                *(("mode", "str"), ("profile", "bool"), ("transparent", "bool")),
            ],
        ),
        *NOTHING,
    ]
    assert shape(json.loads(output.json_line(bad().record()))) == [
        *head,
        ("labels", []),
        ("answer", "NoneType"),
        ("error", [("code", "str"), ("message", "str")]),
        ("file", "NoneType"),
        ("decoding", "NoneType"),
        *NOTHING,
    ]


def test_the_values_of_a_record() -> None:
    assert json.loads(output.json_line(good().record())) == {
        "schema": "photolabel/1",
        "photo": "mug.jpg",
        "model": "vgg16",
        "recipe": "crop",
        "precision": "fp32",
        "labels": [
            {"index": 504, "wnid": "n03063599", "name": "coffee_mug", "probability": 0.75268, "everyday": None},
            {"index": 968, "wnid": "n07930864", "name": "cup", "probability": 0.1, "everyday": None},
            {"index": 3, "wnid": None, "name": "my own class", "probability": 0.0, "everyday": None},
        ],
        "answer": {
            "kind": "leaf",
            "wnid": "n03063599",
            "name": "coffee_mug",
            "probability": 0.75268,
            "everyday": None,
            "reason": None,
        },
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
        "names": None,
        "opinions": None,
        "calibration": None,
        "truth": None,
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
