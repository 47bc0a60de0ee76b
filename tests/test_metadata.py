"""Metadata read without parsing the network: as onnx itself reads them, whatever a stranger put there."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from photolabel import metadata
from photolabel.errors import InvalidModelError

import oracle
from costs import cheap


def small(entries: Mapping[str, str]) -> bytes:
    """A sound ONNX file of one node that carries these entries."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [answer])
    model = helper.make_model(graph, producer_name="tests", doc_string="words", model_version=3)
    helper.set_model_props(model, dict(entries))
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def read(data: bytes) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.onnx"
        path.write_bytes(data)
        return metadata.read(path)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def entry(key: bytes, value: bytes) -> bytes:
    return field(14, field(1, key) + field(2, value))


def test_the_tiny_network_as_onnx_reads_it(tmp_path: Path) -> None:
    data = oracle.tiny_onnx()
    assert read(data) == {p.key: p.value for p in onnx.load_from_string(data).metadata_props}


@given(st.dictionaries(st.text(), st.text(), max_size=8))
@example({"": "", "empty": "", "café ☕": "\0\n\x1b", "long": "x" * 200_000})
def test_every_entry_comes_back(entries: dict[str, str]) -> None:
    assert read(small(entries)) == entries


def test_no_entries_are_no_error() -> None:
    assert read(small({})) == {}


def test_the_graph_may_stand_anywhere() -> None:
    """Writers differ in the order of fields."""
    plain = small({})
    assert read(plain + entry(b"k", b"v")) == {"k": "v"}
    assert read(entry(b"k", b"v") + plain) == {"k": "v"}
    assert read(entry(b"a", b"1") + plain + entry(b"b", b"2")) == {"a": "1", "b": "2"}


def test_an_entry_may_lack_a_part_and_the_last_of_doubles_counts() -> None:
    """As protobuf has it."""
    data = field(14, field(1, b"k")) + field(14, field(2, b"v")) + field(14, b"")
    assert read(data) == {"k": "", "": ""}
    assert read(entry(b"k", b"first") + entry(b"k", b"last")) == {"k": "last"}
    assert read(field(14, field(2, b"v") + field(1, b"k") + field(3, b"unknown"))) == {"k": "v"}


def test_fields_of_every_size_are_passed_over() -> None:
    other = varint(1 << 3 | 0) + varint(2**63) + varint(50 << 3 | 1) + bytes(8) + varint(51 << 3 | 5) + bytes(4)
    wrong_type = varint(14 << 3 | 0) + varint(5) + varint(14 << 3 | 5) + b"\xff" * 4
    assert read(other + entry(b"k", b"v") + other + wrong_type) == {"k": "v"}


def test_a_file_cut_anywhere_is_an_error_or_right(tmp_path: Path) -> None:
    entries = {"name": "tiny", "labels": "x" * 300, "empty": "", "last": "é"}
    data = small(entries) + varint(50 << 3 | 1) + bytes(8) + varint(51 << 3 | 5) + bytes(4)
    path = tmp_path / "x.onnx"
    whole = cut = 0
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            found = metadata.read(path)
        except InvalidModelError:
            cut += 1
        else:
            whole += 1
            assert found.items() <= entries.items()
    assert whole < 20 < cut, "only a cut between two fields can go unseen"


HOSTILE = {
    "nothing": b"",
    "text": b"not a network\n" * 100,
    "zeros": bytes(100),
    "field number 0": field(0, b"x"),
    "a tag without end": b"\xff" * 20,
    "a varint of eleven bytes": b"\x08" + b"\x80" * 10 + b"\x01",
    "a varint that is cut": b"\x08\x80",
    "a length of 2**63": b"\x72" + varint(2**63),
    "a length of 2**70 - 1": b"\x72" + b"\xff" * 9 + b"\x7f",
    "a graph longer than the file": b"\x3a" + varint(1000) + bytes(999),
    "an entry longer than the file": b"\x72" + varint(1000) + bytes(999),
    "a fixed64 that is cut": b"\x09" + bytes(7),
    "a fixed32 that is cut": b"\x0d" + bytes(3),
    "a group": b"\x0b\x0c",
    "a group's end": b"\x0c",
    "wire type 6": b"\x0e",
    "wire type 7": b"\x0f",
    "an entry with a number": field(14, b"\x08\x00"),
    "an entry with a group": field(14, b"\x0b\x00"),
    "an entry cut in a tag": field(14, b"\x80"),
    "an entry cut in a length": field(14, b"\x0a\x80"),
    "a key longer than its entry": field(14, b"\x0a\x05abc") + bytes(50),
    "a value of 2**63 in its entry": field(14, b"\x12" + varint(2**63)),
    "a key not UTF-8": entry(b"\xff", b"v"),
    "a value not UTF-8": entry(b"k", b"\xed\xa0\x80"),
    "too many fields": b"\x08\x01" * 100_001,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_sound_message_is_invalid(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(data)
    with cheap(megabytes=20), pytest.raises(InvalidModelError, match="not an ONNX file, or a broken one"):
        metadata.read(path)


def test_metadata_may_be_large_but_not_without_end() -> None:
    room = metadata.MAX_BYTES - len(field(1, b"k")) - len(field(2, bytes(metadata.MAX_BYTES // 2))) + 2**23
    assert len(read(entry(b"k", bytes(room)))["k"]) == room
    with pytest.raises(InvalidModelError, match="metadata is too large"):
        read(entry(b"k", bytes(room + 1)))


@pytest.mark.parametrize("name", [b"k", b"%d"], ids=["one key", "many keys"])
def test_many_entries_cost_no_more_than_one(tmp_path: Path, name: bytes) -> None:
    """A sparse file of 3 GB takes no room on a disk, but its entries would take it in memory."""
    path = tmp_path / "x.onnx"
    size = 15 * 2**20
    with path.open("wb") as file:
        for i in range(200):
            key = field(1, name.replace(b"%d", b"%03d" % i))
            head = key + varint(2 << 3 | 2) + varint(size)
            file.write(varint(14 << 3 | 2) + varint(len(head) + size) + head)
            file.seek(size, 1)
        file.truncate()
    with cheap(), pytest.raises(InvalidModelError, match="too large"):
        metadata.read(path)


def test_a_large_network_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    size = 553_000_000
    with path.open("wb") as file:
        file.write(b"\x08\x08" + varint(7 << 3 | 2) + varint(size))
        file.seek(size, 1)  # sparse: nothing is written
        file.write(entry(b"photolabel.name", b"large"))
    with cheap(seconds=0.05, megabytes=5):
        assert metadata.read(path) == {"photolabel.name": "large"}


@given(st.binary(max_size=200))
@example(b"\x72\x02\x0a\x00")
def test_any_bytes_give_a_dictionary_or_a_typed_error(data: bytes) -> None:
    try:
        found = read(data)
    except InvalidModelError:
        return
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in found.items())


@given(st.data())
def test_any_change_gives_a_dictionary_or_a_typed_error(draw: st.DataObject) -> None:
    data = bytearray(small({"name": "tiny", "labels": "a b c"}))
    for at in draw.draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=4)):
        data[at] = draw.draw(st.integers(0, 255))
    try:
        found = read(bytes(data))
    except InvalidModelError:
        return
    assert isinstance(found, dict)
