"""Protobuf messages are walked as they are written, and no further; test_metadata.py and weights/ use it on files."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photolabel.protobuf import BYTES, VARINT, BrokenMessageError, Walker

from forms import field, varint

FIELDS = st.tuples(st.integers(1, 1 << 28), st.one_of(st.binary(max_size=300), st.integers(0, (1 << 64) - 1)))


def walk(data: bytes, *, most: int = 100) -> list[tuple[int, bytes | int]]:
    walker = Walker(io.BytesIO(data), most=most)
    return [(f.number, f.value if f.wire == VARINT else walker.bytes(f)) for f in walker.fields(0, len(data))]


@given(st.lists(FIELDS, max_size=9))
def test_what_was_written_is_read(fields: list[tuple[int, bytes | int]]) -> None:
    assert walk(b"".join(field(*each) for each in fields)) == fields


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_a_broken_message(data: bytes) -> None:
    try:
        found = walk(data)
    except BrokenMessageError:
        return
    assert sum(len(value) for _, value in found if isinstance(value, bytes)) <= len(data)


def test_numbers_of_fixed_size() -> None:
    assert walk(varint(1 << 3 | 5) + b"abcd" + varint(2 << 3 | 1) + b"abcdefgh") == [(1, b"abcd"), (2, b"abcdefgh")]


def test_a_budget_holds_for_all_messages_together() -> None:
    data = field(1, varint(300) * 10)
    walker = Walker(io.BytesIO(data), most=8)
    (message,) = walker.fields(0, len(data))
    assert message.wire == BYTES
    with pytest.raises(BrokenMessageError, match="too many numbers"):
        list(walker.varints(message))
    with pytest.raises(BrokenMessageError, match="too many fields"):
        list(walker.fields(0, len(data)))
    assert list(Walker(io.BytesIO(data), most=10).varints(message)) == [300] * 10


def test_a_file_that_shrinks_while_it_is_read() -> None:
    data = field(1, b"whole")
    (message,) = Walker(io.BytesIO(data), most=9).fields(0, len(data))
    with pytest.raises(BrokenMessageError, match="became shorter"):
        Walker(io.BytesIO(data[:-1]), most=9).bytes(message)
    with pytest.raises(BrokenMessageError, match="cut short"):
        list(Walker(io.BytesIO(b""), most=9).fields(0, 5))
