"""Bodies into photos: each limit, and every way in which a form can be wrong."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from photolabel.server import Settings, forms
from photolabel.server.problems import RefusedError

from services import PHOTO_PART, form

SETTINGS = Settings(body_bytes=1000, files=3, parts=8, part_bytes=200)


def request(pieces: Iterable[bytes], headers: dict[str, str]) -> Request:
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        piece = left.pop(0) if left else b""
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw, "query_string": b"", "path": "/"}, receive)


def nothing(count: int) -> None:
    pass


def read(
    pieces: Iterable[bytes],
    kind: str | None = "multipart/form-data; boundary=b",
    *,
    several: bool = True,
    hold: Callable[[int], None] = nothing,
    settings: Settings = SETTINGS,
) -> list[forms.Upload]:
    asked = request(pieces, {} if kind is None else {"content-type": kind})
    if several:
        return asyncio.run(forms.photos(asked, settings, hold))
    return [asyncio.run(forms.photo(asked, settings, hold))]


def refusal(pieces: Iterable[bytes], *args: Any, **options: Any) -> tuple[int, str]:
    with pytest.raises(RefusedError) as caught:
        read(pieces, *args, **options)
    return caught.value.problem.status, caught.value.problem.code


# -- a body as it is


@pytest.mark.parametrize(
    "kind", [None, "image/jpeg", "application/x-www-form-urlencoded", "text/plain", "multipart/mixed"]
)
def test_a_body_is_a_photo_whatever_it_is_called(kind: str | None) -> None:
    (upload,) = read([b"ab", b"", b"cd"], kind, several=False)
    assert upload.data == b"abcd" and upload.name is None


def test_a_body_has_its_limit() -> None:
    (upload,) = read([b"x" * 600, b"x" * 400], None, several=False)
    assert len(upload.data) == 1000
    assert refusal([b"x" * 600, b"x" * 401], None, several=False) == (413, "request-too-large")


def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    asked = request([], {"content-length": "1001"})
    asked._receive = None  # type: ignore[assignment]  # would fail
    with pytest.raises(RefusedError) as caught:
        asyncio.run(forms.photo(asked, SETTINGS, nothing))
    assert caught.value.problem.status == 413


def test_no_body_is_no_photo() -> None:
    assert refusal([b""], None, several=False) == (400, "bad-request")


def test_every_piece_is_asked_room_for() -> None:
    held: list[int] = []
    read([b"abc", b"de"], None, several=False, hold=held.append)
    whole = form([(PHOTO_PART, b"abc")])
    read([whole[:50], whole[50:]], several=False, hold=held.append)
    assert held == [3, 2, 50, len(whole) - 50]


# -- forms


def test_photos_of_a_form_in_their_order() -> None:
    parts = [
        ('Content-Disposition: form-data; name="photo"; filename="a.jpg"\r\nContent-Type: image/jpeg', b"one"),
        ('content-disposition: form-data; name=photo; filename="\xc3\xa9 \\"q\\".png"', b""),
        ('Content-Disposition: form-data; name="photo"', b"\r\n--not the boundary\r\n"),
    ]
    found = read([form([(headers.encode("latin-1").decode(), data) for headers, data in parts])])
    assert [each.data for each in found] == [b"one", b"", b"\r\n--not the boundary\r\n"]
    assert found[0].name == "a.jpg" and found[2].name is None
    assert found[1].name and '"q".png' in found[1].name


def test_a_name_is_utf_8_or_made_so() -> None:
    body = form([(PHOTO_PART, b"x")]).replace(b"a.png", "mäuse 日本.png".encode())
    assert read([body])[0].name == "mäuse 日本.png"
    assert read([form([(PHOTO_PART, b"x")]).replace(b"a.png", b"\xff.png")])[0].name == "\ufffd.png"
    long = Settings(part_bytes=10_000)
    assert len(read([form([(PHOTO_PART, b"x")]).replace(b"a.png", b"n" * 3000)], settings=long)[0].name or "") == 1024


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 600), max_size=8))
def test_how_it_is_cut_does_not_matter(data: bytes, cuts: list[int]) -> None:
    tricky = b"\r\n--" + data.replace(b"b", b"\r\n--")[:400] + b"\r\n-"
    body = form([(PHOTO_PART, tricky), (PHOTO_PART, data)], boundary="0123456789abcdef")
    ends = sorted({min(cut, len(body)) for cut in cuts})
    pieces = [body[start:end] for start, end in zip([0, *ends], [*ends, len(body)], strict=True)]
    found = read(pieces, "multipart/form-data; boundary=0123456789abcdef")
    assert [each.data for each in found] == [tricky, data]


TWO = form([(PHOTO_PART, b"data" * 10)] * 2)


@given(end=st.integers(0, len(TWO) - 4))  # what is missing then is more than the last line's end
def test_a_form_that_is_cut_short_is_refused(end: int) -> None:
    assert refusal([TWO[:end]])[0] == 400


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/form-data; boundary={'x' * 71}",
        "multipart/form-data; border=b",
        "multipart/form-data; boundary=other",
    ],
)
def test_a_form_needs_its_boundary(kind: str) -> None:
    assert refusal([form([(PHOTO_PART, b"x")])], kind) == (400, "bad-request")


def test_what_is_no_form_is_no_batch() -> None:
    assert refusal([b"x"], "image/jpeg") == (415, "unsupported-encoding")


@pytest.mark.parametrize(
    "headers",
    [
        'Content-Disposition: form-data; name="image"',
        'Content-Disposition: form-data; name="top"',
        'Content-Disposition: attachment; name="photo"',
        "Content-Type: image/jpeg",
    ],
)
def test_other_fields_are_refused(headers: str) -> None:
    assert refusal([form([(headers, b"x")])]) == (400, "bad-request")


def test_an_encoded_part_is_refused() -> None:
    coded = form([(PHOTO_PART + "\r\nContent-Transfer-Encoding: base64", b"eA==")])
    assert refusal([coded]) == (415, "unsupported-encoding")
    assert read([coded.replace(b"base64", b"binary")])[0].data == b"eA=="


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\r\n",
        b"--b--\r\n",
        b"garbage",
        form([(PHOTO_PART, b"x")])[2:],
        form([("Content Disposition: form-data", b"x")]),
        form([(": empty", b"x")]),
        form([(PHOTO_PART, b"x")]).replace(b"--b\r\n", b"--b\n"),
    ],
)
def test_malformed_forms_are_refused(body: bytes) -> None:
    assert refusal([body]) == (400, "bad-request")


def test_there_are_no_more_photos_than_allowed() -> None:
    assert len(read([form([(PHOTO_PART, b"x")] * 3)])) == 3
    assert refusal([form([(PHOTO_PART, b"x")] * 4)]) == (413, "request-too-large")
    assert refusal([form([(PHOTO_PART, b"x")] * 2)], several=False) == (413, "request-too-large")


def test_a_photo_of_a_form_has_its_limit() -> None:
    assert len(read([form([(PHOTO_PART, b"x" * 1000)])])[0].data) == 1000
    assert refusal([form([(PHOTO_PART, b"x" * 1001)])]) == (413, "request-too-large")


def test_headers_of_a_part_have_their_limit() -> None:
    endless = f"--b\r\nX: {'y' * 190}".encode()
    assert refusal([endless, *[b"y" * 50] * 100]) == (413, "request-too-large")
    assert refusal([form([(f"A: {'1' * 60}\r\n" * 3 + PHOTO_PART, b"x")])]) == (413, "request-too-large")
    assert refusal([form([("A: 1\r\n" * 5000 + PHOTO_PART, b"x")])])[0] in (400, 413)


def test_parts_have_their_limit_also_those_that_are_none() -> None:
    """What looks like a boundary costs the parser time byte by byte: ten seconds for 32 MB, if it were let."""
    assert refusal([b"--b\r\n" * 10_000])[0] in (400, 413)
    looks = form([(PHOTO_PART, b"\r\n--bX" * 9)])
    assert refusal([looks]) == (413, "request-too-large")
    many = Settings(files=3, parts=2)
    assert refusal([form([(PHOTO_PART, b"x")] * 3)[i : i + 1] for i in range(300)], settings=many)[0] == 413


def test_complaints_of_the_parser_go_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    refusal([b"--b\r\nInjected\x1b[31m header\r\n\r\n"])
    assert not caplog.records


def test_a_photo_is_held_little_more_than_twice() -> None:
    size = 4_000_000
    settings = Settings(body_bytes=size)
    pieces = [b"x" * 65_536] * (size // 65_536)
    tracemalloc.start()
    try:
        read(pieces, None, several=False, settings=settings)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2.2 * size
