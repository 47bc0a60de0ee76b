"""What goes wrong, as RFC 9457 says it: one table from this package's errors, and the service's own, to HTTP.

A body is `application/problem+json` with `type` (a URN that does not change), `title`, `status`, `detail` (what was
expected, what came, what to do) and `code`, the stable word of the type. None says a path, an address, a trace or
another library's words: what is our own mistake says only that it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from ..errors import (
    CorruptPhotoError,
    DecoderCrashedError,
    PhotoError,
    PhotolabelError,
    PhotoTooLargeError,
    PhotoTooSlowError,
    UnsupportedFormatError,
    UsageError,
)

MEDIA_TYPE = "application/problem+json"
URN = "urn:photolabel:problem:"
INFERENCE = "/v2"  # whose clients look for what is wrong in a member of their own protocol

# What each error of the tree is in HTTP; the nearest ancestor counts. All others are the service's own fault: 500.
STATUSES: dict[type[PhotolabelError], int] = {
    UnsupportedFormatError: 415,
    PhotoTooLargeError: 413,
    CorruptPhotoError: 422,
    PhotoTooSlowError: 422,
    DecoderCrashedError: 422,
    PhotoError: 422,
    UsageError: 422,
}

_TITLES = {
    "photo-error": "The photo cannot be classified",
    "unsupported-format": "Not a photo, or in a format that is not read",
    "photo-too-large": "The photo is larger than allowed",
    "corrupt-photo": "The photo is broken or cut short",
    "photo-too-slow": "The photo takes too long to decode",
    "decoder-crashed": "The photo makes its decoder crash",
    "usage": "An argument makes no sense",
}

# The service's own: code -> status and title.
OWN: dict[str, tuple[int, str]] = {
    "bad-request": (400, "The request makes no sense"),
    "unauthorized": (401, "An API key is needed"),
    "forbidden-origin": (403, "This web page may not call"),
    "not-found": (404, "There is nothing at this path"),
    "unknown-model": (404, "This service has no such model"),
    "method-not-allowed": (405, "This path does not take this method"),
    "request-timeout": (408, "The request came too slowly"),
    "request-too-large": (413, "The request is larger than allowed"),
    "target-too-long": (414, "Path and query are longer than allowed"),
    "unsupported-encoding": (415, "The body is encoded"),
    "unknown-host": (421, "The service is not called so"),
    "usage": (422, "An argument makes no sense"),
    "no-pixels": (422, "This model takes photos, not pixels"),
    "queue-full": (429, "Too many photos are waiting"),
    "head-too-large": (431, "The headers are larger than allowed"),
    "internal-error": (500, "A mistake in the service"),
    "unavailable": (503, "The service cannot answer now"),
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem: its `code`, of the tables above, what to tell, and headers to send with it."""

    code: str
    detail: str
    status: int
    title: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, path: str = "") -> bytes:
        """Return the document, as ASCII JSON; for one of the paths of `INFERENCE` with the member `error` as well."""
        document = {
            "type": URN + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if path == INFERENCE or path.startswith(f"{INFERENCE}/"):
            document["error"] = f"{self.title}. {self.detail}"
        return json.dumps(document).encode("ascii")

    def response(self) -> bytes:
        """Return a whole HTTP/1.1 response after which the connection ends, for where there is no application yet."""
        body = self.body()
        headers = {
            "content-type": MEDIA_TYPE,
            "content-length": str(len(body)),
            "x-content-type-options": "nosniff",
            "cache-control": "no-store",
            "connection": "close",
            **self.headers,
        }
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("ascii") + body


class RefusedError(Exception):
    """A request that is answered with a problem, wherever it has got to."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


class GoneError(Exception):
    """The client has gone before it had its answer."""


def problem(code: str, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """Return one of the service's own problems."""
    status, title = OWN[code]
    return Problem(code=code, detail=detail, status=status, title=title, headers=headers or {})


def refused(code: str, detail: str, headers: Mapping[str, str] | None = None) -> RefusedError:
    """Return one of the service's own problems, to be raised."""
    return RefusedError(problem(code, detail, headers))


def of(error: PhotolabelError) -> Problem:
    """Return what an error of this package is over HTTP."""
    kinds = [kind for kind in type(error).__mro__ if kind in STATUSES]
    if not kinds:
        return INTERNAL
    return Problem(
        code=error.code,
        detail=str(error),
        status=STATUSES[kinds[0]],
        title=_TITLES.get(error.code, _TITLES[kinds[0].code]),
    )


INTERNAL = problem("internal-error", "A mistake in the service, which its log tells of. The request was well.")
UNAVAILABLE = problem(
    "unavailable", "The service is starting, or coming to its end. Ask again, or another one.", {"retry-after": "1"}
)
