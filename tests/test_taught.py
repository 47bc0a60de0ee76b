"""What a file says of how it was taught comes back as it was, and nothing else is believed."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from photolabel import metadata, taught
from photolabel.errors import InvalidModelError, UsageError
from photolabel.images import CROP
from photolabel.taught import EXAMPLES, KEY_BYTES, TAUGHT, Known, Origin, Taught

ORIGIN = Origin(name="vgg16", network=f"sha256:{'a' * 64}", layer="fc2", recipe=CROP, precision="fp32")
HOW = Taught(
    origin=ORIGIN, kind="logistic", strength=0.5, seed=7, counts=(2, 1), floor=0.25, report={"right": [1, None, "ü"]}
)


def key(number: int) -> bytes:
    return number.to_bytes(KEY_BYTES, "big")


EXAMPLE = (
    Known(key=key(5), index=1, name="b/ü\n.jpg"),
    Known(key=key(2), index=0),
    Known(key=key(9), index=0, name="x"),
)


def told(how: Taught = HOW, examples: Any = EXAMPLE) -> dict[str, str]:
    return taught.describe(how, examples, {"photolabel.name": "pets"})


def test_it_comes_back_as_it_was() -> None:
    found = told()
    assert found["photolabel.name"] == "pets" and set(found) == {"photolabel.name", TAUGHT, EXAMPLES}
    assert taught.parse(found) == HOW
    assert taught.examples(found, HOW) == EXAMPLE
    assert told() == found
    bare = replace(HOW, floor=None, strength=None, report={})
    assert taught.parse(told(bare)) == bare


def test_other_files_say_nothing(tiny: Path) -> None:
    assert taught.read(tiny) is None and taught.parse({}) is None
    assert taught.examples({}, HOW) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"counts": (3,)},
        {"counts": (2, -1)},
        {"counts": (2, True)},
        {"seed": 1.5},
        {"floor": 1.5},
        {"floor": float("nan")},
        {"strength": float("inf")},
        {"strength": True},
        {"kind": ""},
        {"kind": "a\nb"},
        {"origin": replace(ORIGIN, network="sha256:1")},
        {"origin": replace(ORIGIN, layer="")},
        {"origin": replace(ORIGIN, name="x" * 101)},
    ],
)
def test_what_makes_no_sense_is_not_written(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(HOW, **change)


@pytest.mark.parametrize("report", [{"x": float("nan")}, {"x": object()}, {"x": "y" * (1 << 20)}])
def test_a_report_that_is_no_report(report: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="report"):
        told(replace(HOW, report=report))


@pytest.mark.parametrize(
    "examples",
    [
        EXAMPLE[:2],
        (*EXAMPLE[:2], EXAMPLE[0]),
        (*EXAMPLE[:2], replace(EXAMPLE[2], index=1)),
        (*EXAMPLE[:2], replace(EXAMPLE[2], key=b"short")),
    ],
)
def test_examples_that_contradict_the_counts(examples: Any) -> None:
    with pytest.raises(UsageError, match="expected"):
        told(HOW, examples)


def broken(change: Any) -> str:
    value = json.loads(told()[TAUGHT])
    change(value)
    return json.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{", "[" * 100_000,
        *(broken(lambda value, k=k: value.pop(k)) for k in ("format", "backbone", "head", "seed", "counts", "floor")),
        broken(lambda value: value.update(more=1)),
        broken(lambda value: value["head"].update(more=1)),
        broken(lambda value: value["backbone"].update(more=1)),
        broken(lambda value: value["backbone"].update(recipe={"name": "x"})),
        broken(lambda value: value["backbone"].update(network="md5:1")),
        broken(lambda value: value.update(counts=[1, "2"])),
        broken(lambda value: value.update(counts=[1])),
        broken(lambda value: value.update(floor=2)),
        broken(lambda value: value.update(floor="0")),
        broken(lambda value: value.update(floor=True)),
        broken(lambda value: value.update(seed=-1)),
        broken(lambda value: value.update(report=[])),
        broken(lambda value: value.update(report=float("nan"))),
        broken(lambda value: value["report"].update(x=float("inf"))),
    ],
)  # fmt: skip
def test_what_is_broken_is_refused(text: str) -> None:
    with pytest.raises(InvalidModelError, match=r"broken|format|recipe"):
        taught.parse({TAUGHT: text})


@pytest.mark.parametrize("form", [2, True, "1"])
def test_another_format_is_refused_by_name(form: object) -> None:
    with pytest.raises(InvalidModelError, match="another photolabel"):
        taught.parse({TAUGHT: broken(lambda value: value.update(format=form))})


def packed(data: bytes) -> dict[str, str]:
    return {EXAMPLES: base64.b64encode(zlib.compress(data)).decode()}


SOUND = zlib.decompress(base64.b64decode(told()[EXAMPLES]))


@pytest.mark.parametrize(
    "found",
    [
        {EXAMPLES: ""},
        {EXAMPLES: "!!!"},
        {EXAMPLES: told()[EXAMPLES][:-8]},
        {EXAMPLES: base64.b64encode(b"no zlib").decode()},
        packed(b""),
        packed(SOUND[:-30]),
        packed(SOUND + b"\0more"),
        packed((2**32 - 1).to_bytes(4, "little") + SOUND[4:]),
        packed((4).to_bytes(4, "little") + SOUND[4:]),
        packed(SOUND[:4] + SOUND[4 : 4 + KEY_BYTES] * 3 + SOUND[4 + 3 * KEY_BYTES :]),  # one photo thrice
        packed(SOUND.replace(b"\1\0\0\0", b"\2\0\0\0", 1)),  # a class that is not there
        packed(SOUND.replace(b"\1\0\0\0", b"\0\0\0\0", 1)),  # other counts
        packed(SOUND + b"x" * 400),
        {EXAMPLES: base64.b64encode(zlib.compress(SOUND) + b"after").decode()},
    ],
)
def test_a_broken_list_of_examples_is_refused(found: dict[str, str]) -> None:
    with pytest.raises(InvalidModelError, match="broken"):
        taught.examples(found, HOW)


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taught, "_MOST_PACKED", 1 << 16)
    with pytest.raises(InvalidModelError, match="broken"):
        taught.examples(packed(bytes(1 << 24)), HOW)


@pytest.mark.parametrize(
    ("most", "named", "listed"), [(100_000, True, True), (60_000, False, True), (4000, False, False)]
)
def test_what_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch, most: int, named: bool, listed: bool) -> None:
    monkeypatch.setattr(metadata, "MAX_BYTES", most)
    import hashlib

    many = [
        Known(
            key=hashlib.sha256(bytes([i % 256, i // 256])).digest()[:16],
            index=i % 2,
            name=hashlib.md5(bytes([i % 251, i // 251])).hexdigest(),
        )
        for i in range(2000)
    ]
    found = told(replace(HOW, counts=(1000, 1000)), many)
    assert sum(map(len, found.values())) <= most
    assert (EXAMPLES in found) == listed
    if listed:
        kept = taught.examples(found, replace(HOW, counts=(1000, 1000)))
        assert [each.key for each in kept] == [each.key for each in many]
        assert any(each.name for each in kept) == named


def test_a_hundred_thousand_fit() -> None:
    import random

    rng = random.Random(1)
    many = [Known(key=rng.randbytes(16), index=i % 100, name=f"class {i % 100}/IMG_{i:06}.jpg") for i in range(100_000)]
    how = replace(HOW, counts=(1000,) * 100)
    found = told(how, many)
    assert len(found[EXAMPLES]) < metadata.MAX_BYTES // 4
    assert taught.examples(found, how) == tuple(many)
