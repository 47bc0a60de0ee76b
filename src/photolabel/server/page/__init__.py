"""The page at `/`, on which anybody can drop photos: its files, and what they are sent with.

Which files there are is a table, so no path of a request ever becomes a path of the disk. They are the same for
everybody and hold no secret, so they need no key; where the service has keys, the page asks for one. Nothing is built:
what lies in `files/` is what is sent, and it needs nothing from elsewhere.

The scripts, from the ground up: `parts.js` makes elements of text, `words.js` says numbers and names, `service.js` is
the way to the service, `batch.js` the photos and their order, `queue.js` has them named, a few at once. `intake.js` is
where photos come from, `camera.js` one of these ways, `table.js` shows them all, `detail.js` one of them,
`evidence.js` what lies over it, `small.js` and `shrink.js` thumbnails, `files.js` what can be saved, `notice.js` what
is the matter; `page.js` puts it together.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

from ..settings import Settings

PATH = "/"
ABOUT = "/page/about.json"

_SCRIPTS = (
    *("batch", "camera", "detail", "evidence", "files", "intake", "notice", "page", "parts", "queue"),
    *("service", "shrink", "small", "table", "words"),
)
_SAMPLES = ("astronaut", "cat", "coffee", "rocket")
_HTML, _CSS, _SCRIPT, _SVG, _JPEG = "text/html", "text/css", "text/javascript", "image/svg+xml", "image/jpeg"

# What each path is: the file, from the package's folder on, and its media type.
FILES: dict[str, tuple[str, str]] = {
    PATH: ("server/page/files/index.html", _HTML),
    "/page/page.css": ("server/page/files/page.css", _CSS),
    "/page/icon.svg": ("server/page/files/icon.svg", _SVG),
    **{f"/page/{name}.js": (f"server/page/files/{name}.js", _SCRIPT) for name in _SCRIPTS},
    **{f"/page/samples/{name}.jpg": (f"data/calibration/{name}.jpg", _JPEG) for name in _SAMPLES},
    **{f"/page/samples/{name}-small.jpg": (f"data/samples/{name}.jpg", _JPEG) for name in _SAMPLES},
}
PATHS = frozenset([*FILES, ABOUT])
PLACES = (PATH, "/page/{file}", "/page/samples/{file}")  # what they are told of together, in the service's figures

# Scripts and styles are files of ours; photos that the page shows are its own (blob:) or samples. Trusted types: there
# is no way from a text to markup, whatever a script of ours might try; the one policy is for the worker's own address.
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types photolabel",
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """One file of the page: its bytes, its media type, and the headers to send it with."""

    content: bytes
    media_type: str
    headers: dict[str, str]


@functools.cache
def served(path: str) -> Served:
    """Return the file at one of the paths of `FILES`."""
    name, media_type = FILES[path]
    content = resources.files("photolabel").joinpath(*name.split("/")).read_bytes()
    headers = {
        "etag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        "cache-control": "no-cache",  # kept, and asked for each time: another version of the package shows at once
        "content-security-policy": _POLICY,
    }
    if media_type == _HTML:
        headers["permissions-policy"] = "camera=(self), microphone=(), geolocation=()"
        headers["cross-origin-opener-policy"] = "same-origin"
    return Served(content=content, media_type=media_type, headers=headers)


def unchanged(etag: str, asked: str | None) -> bool:
    """Return whether what a browser has, by its If-None-Match, is what would be sent."""
    return asked is not None and (
        asked.strip() == "*" or etag in {each.strip().removeprefix("W/") for each in asked.split(",")}
    )


def about(settings: Settings, *, explains: bool, looks: bool) -> bytes:
    """Return what the page needs to know of its service before it may have a key, as JSON."""
    known: dict[str, Any] = {
        "key": bool(settings.api_keys),
        "docs": settings.docs,
        "bytes": settings.body_bytes,
        "top": settings.top,
        "explain": explains,
        "look": looks,
        "samples": [{"name": f"{name}.jpg", "path": f"/page/samples/{name}.jpg"} for name in _SAMPLES],
    }
    return json.dumps(known).encode("ascii")
