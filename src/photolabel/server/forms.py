"""A request's body -> photos in memory, within limits; nothing of it ever gets to a disk.

A body is one photo as it is, whatever its type is said to be, or a form (`multipart/form-data`) with the photos in
fields named `photo`. Both are taken piece by piece, and refused at the first piece that is too much.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from .problems import RefusedError, refused
from .settings import Settings

if TYPE_CHECKING:
    from starlette.requests import Request

FIELD = "photo"
FORM = "multipart/form-data"
_LONGEST_BOUNDARY = 70  # characters, of RFC 2046
_LONGEST_NAME = 1024  # characters of a file's name

# The parser's own complaints quote what it was given.
_NOWHERE = logging.Logger("photolabel.nowhere", logging.CRITICAL + 1)


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A photo that was sent: the bytes of its file, and what the client calls it, None where it does not say."""

    data: bytes = field(repr=False)
    name: str | None = None


async def photo(request: Request, settings: Settings, hold: Callable[[int], None]) -> Upload:
    """Return the one photo of a request. `hold` is asked for room for every piece, and raises where there is none.

    Raises `RefusedError` for what is no photo, more than one, or too large.
    """
    if _is_form(request):
        found = await _form(request, settings, hold, files=1)
        return found[0]
    _check_size(int(request.headers.get("content-length", 0)), settings)  # before any of it is read
    pieces: list[bytes] = []
    size = 0
    async for piece in _pieces(request, hold):
        size += len(piece)
        _check_size(size, settings)
        pieces.append(piece)
    if not size:
        raise refused(
            "bad-request", "Expected a photo as the body, or a form with one in its field photo; got nothing."
        )
    return Upload(data=b"".join(pieces))


async def whole(request: Request, most: int, hold: Callable[[int], None]) -> bytes:
    """Return a body that is no photo, of at most so many bytes. Raises as `photo` does."""
    pieces: list[bytes] = []
    size = 0
    if int(request.headers.get("content-length", 0)) > most:  # before any of it is read
        raise _too_large(most)
    async for piece in _pieces(request, hold):
        size += len(piece)
        if size > most:
            raise _too_large(most)
        pieces.append(piece)
    return b"".join(pieces)


async def photos(request: Request, settings: Settings, hold: Callable[[int], None]) -> list[Upload]:
    """Return the photos of a form, in their order, at least one. Raises as `photo` does."""
    if not _is_form(request):
        raise refused("unsupported-encoding", f"Expected several photos as {FORM}, each in a field named {FIELD}.")
    return await _form(request, settings, hold, files=settings.files)


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM


async def _pieces(request: Request, hold: Callable[[int], None]) -> AsyncIterator[bytes]:
    """The body as it comes. What is slow, too long or broken off, `guard` raises out of `receive`."""
    more = True
    while more:
        message = await request.receive()
        piece, more = message.get("body", b""), message.get("more_body", False)
        if piece:
            hold(len(piece))
            yield piece


def _too_large(most: int) -> RefusedError:
    return refused("request-too-large", f"The body has more than {most:,} bytes, which is the limit for such a one.")


def _check_size(size: int, settings: Settings) -> None:
    if size > settings.body_bytes:
        raise refused(
            "request-too-large", f"The photo has more than {settings.body_bytes:,} bytes, which is the limit."
        )


async def _form(request: Request, settings: Settings, hold: Callable[[int], None], *, files: int) -> list[Upload]:
    _, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= _LONGEST_BOUNDARY:
        raise refused("bad-request", f"Expected {FORM}; boundary=..., of 1 to {_LONGEST_BOUNDARY} characters.")
    form = _Form(boundary, settings, files)
    async for piece in _pieces(request, hold):
        form.write(piece)
    return form.end()


class _Form:
    """The photos of one form, gathered from the parser's callbacks."""

    def __init__(self, boundary: bytes, settings: Settings, files: int) -> None:
        self._settings, self._files = settings, files
        self._delimiter = b"\r\n--" + boundary
        self._delimiters = self._parts = 0
        self._uploads: list[Upload] = []
        self._ended = False
        self._begin()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finished,
            },
        )
        self._parser.logger = _NOWHERE

    def write(self, piece: bytes) -> None:
        # Each is a part, or the end. What only looks like one would cost the parser time, byte by byte, so that a body
        # made of those would keep the service busy.
        self._delimiters += piece.count(self._delimiter)
        if self._delimiters > self._settings.parts + 1:
            raise self._too_many_parts()
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _malformed() from error

    def end(self) -> list[Upload]:
        if not self._ended:
            raise _malformed()
        if not self._uploads:
            raise refused("bad-request", f"Expected a photo in a field named {FIELD}; the form has none.")
        return self._uploads

    # -- what the parser calls

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > self._settings.parts + 1:  # one that is none: it is also begun here
            raise self._too_many_parts()
        self._headers: dict[bytes, bytes] = {}
        self._header = self._value = b""
        self._header_bytes = self._size = 0
        self._name: str | None = None
        self._pieces: list[bytes] = []

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += self._of_header(data, start, end)

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._of_header(data, start, end)

    def _of_header(self, data: bytes, start: int, end: int) -> bytes:
        self._header_bytes += end - start
        if self._header_bytes > self._settings.part_bytes:
            raise refused(
                "request-too-large",
                f"The headers of a part of the form have more than {self._settings.part_bytes:,} bytes.",
            )
        return data[start:end]

    def _header_end(self) -> None:
        self._headers.setdefault(self._header.lower(), self._value)
        self._header = self._value = b""
        self._header_bytes += 4  # one without a name and a value costs something too

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        where = options.get(b"name", b"").decode("utf-8", "replace")
        if kind != b"form-data" or where != FIELD:
            raise refused(
                "bad-request",
                f"Expected photos in fields named {FIELD}, and nothing else in the form. What is asked of them goes "
                "into the query, as in ?top=3.",
            )
        if len(self._uploads) == self._files:
            raise refused(
                "request-too-large",
                f"Expected {'one photo' if self._files == 1 else f'at most {self._files} photos'}; there are more."
                + (" Several go to /v1/classify/batch." if self._files == 1 else ""),
            )
        if self._headers.get(b"content-transfer-encoding", b"binary").strip().lower() not in (
            b"binary",
            b"8bit",
            b"7bit",
        ):
            raise refused(
                "unsupported-encoding", "A photo in a form is sent as it is: Content-Transfer-Encoding: binary."
            )
        if (name := options.get(b"filename")) is not None:
            self._name = name.decode("utf-8", "replace")[:_LONGEST_NAME]

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        _check_size(self._size, self._settings)
        self._pieces.append(data[start:end])

    def _end(self) -> None:
        self._uploads.append(Upload(data=b"".join(self._pieces), name=self._name))
        self._pieces = []

    def _finished(self) -> None:
        self._ended = True

    def _too_many_parts(self) -> RefusedError:
        return refused("request-too-large", f"The form has more than {self._settings.parts} parts, which is the limit.")


def _malformed() -> RefusedError:
    return refused("bad-request", f"The form is not as {FORM} is written, or it is cut short.")
