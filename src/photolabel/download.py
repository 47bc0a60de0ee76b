"""URL -> bytes in an open file: resume, retry, and limits on everything a server can do.

`store` gives this room an open partial file, the exact size, and a function that says whether the bytes are
right; it fills the file or raises a `StoreError`. It knows HTTP and nothing of caches. The rules:

- Never more than `size` bytes are written, whatever the server sends; the hash, not the server, decides.
- Silence is bounded in total, over all addresses, redirects, tries and URLs: `SILENCE` seconds without a
  first byte of the body are the end. After the first byte, `STALL` seconds without noticeable progress are.
- What a second request could cure (a cut, a stall, 429, 5xx) is tried again while there is progress; anything
  else (an unknown host, a refused connection, 404, an encoded body) leads to the next URL at once.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from urllib.parse import urljoin, urlsplit, urlunsplit

from .errors import DownloadError, HashMismatchError
from .network import GiveUpError, Requests, Response, Transport, TryAgainError

SILENCE = 8.0  # seconds without any body byte, over all URLs and tries: a black hole is reported within 10 s
STALL = 60.0  # seconds without noticeable progress once bytes have come
TRIES = 5  # in a row without noticeable progress
BACKOFF = 0.5  # seconds before the second try; doubles each time, with jitter
RETRY_AFTER = 30.0  # seconds: the longest Retry-After that is honoured
REDIRECTS = 8
CHUNK = 1 << 16  # bytes a read: what a cut or a kill can lose
NOTICEABLE = 1 << 16  # bytes (or 1/1000 of a small file): less does not count as progress

Progress = Callable[[int, int], None]


class _StartOverError(Exception):
    """The server cannot continue where we are: begin again from zero, once."""


class _WrongBytesError(GiveUpError):
    """All bytes came and their hash is wrong."""


class _Patience:
    """How long one URL may still keep us waiting."""

    def __init__(self, seconds: float, *, noticeable: int) -> None:
        self.deadline = time.monotonic() + seconds
        self.heard = False
        self._noticeable = noticeable
        self._gained = 0

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def gain(self, count: int) -> None:
        self._gained += count
        if not self.heard or self._gained >= self._noticeable:
            self.heard = True
            self._gained = 0
            self.deadline = time.monotonic() + STALL

    def wait(self, seconds: float, *, asked: bool) -> bool:
        """Sleep if there is time for it. A wait that the server asked for does not count as its silence."""
        if asked:
            self.deadline += seconds
        if seconds >= self.left():
            return False
        time.sleep(seconds)
        return True


def download(
    descriptor: int,
    urls: Sequence[str],
    *,
    size: int,
    right: Callable[[], bool],
    progress: Progress | None = None,
    transport: Transport | None = None,
) -> None:
    """Fill the open file with `size` bytes for which `right()` is true, from the first URL that has them.

    Bytes that are in the file already are kept and continued. Raises `DownloadError` or `HashMismatchError`;
    an `OSError` that comes out of here is the file's, never the network's.
    """
    transport = transport or Requests()
    reasons: dict[str, list[str]] = {}  # what went wrong -> the hosts where it did
    wrong = False
    silence = SILENCE
    for position, url in enumerate(urls):
        # A silent first URL must leave the others their share of the patience.
        patience = _Patience(silence / (len(urls) - position), noticeable=_noticeable(size))
        began = time.monotonic()
        try:
            _from_url(url, descriptor, size, right, progress or _ignore, transport, patience)
        except GiveUpError as error:
            reasons.setdefault(str(error), []).append(_host(url))
            wrong = wrong or isinstance(error, _WrongBytesError)
            if not patience.heard:
                silence = max(0.1, silence - (time.monotonic() - began))
        else:
            return
    raise (HashMismatchError if wrong else DownloadError)(
        "; ".join(f"{', '.join(dict.fromkeys(hosts))}: {reason}" for reason, hosts in reasons.items())
        or "there is no URL to fetch it from"
    )


def _ignore(done: int, total: int) -> None:
    """Nobody watches."""


def _noticeable(size: int) -> int:
    return min(NOTICEABLE, size // 1000 + 1)


def _from_url(
    url: str,
    descriptor: int,
    size: int,
    right: Callable[[], bool],
    progress: Progress,
    transport: Transport,
    patience: _Patience,
) -> None:
    for _ in range(2):
        one_piece = _fill(url, descriptor, size, progress, transport, patience)
        if right():
            return
        os.ftruncate(descriptor, 0)
        if one_piece:
            break
        # An old partial, another URL's beginning or a change between two answers may be to blame:
        # once more from zero.
    raise _WrongBytesError("sent other bytes than were published (wrong hash)")


def _fill(url: str, descriptor: int, size: int, progress: Progress, transport: Transport, patience: _Patience) -> bool:
    """Bring the file to `size` bytes. True if one answer brought them all."""
    have = best = os.fstat(descriptor).st_size
    one_piece = False
    tries, delay = TRIES, BACKOFF
    etag: str | None = None
    started_over = False
    progress(have, size)
    while have < size:
        try:
            with closing(_open(url, have, etag, transport, patience)) as answer:
                start = _start(answer, have, size)
                if start != have:  # the server ignores Range, or its file changed under our ETag
                    os.ftruncate(descriptor, 0)
                    have = 0
                one_piece = have == 0
                etag = _strong_etag(answer)
                os.lseek(descriptor, have, os.SEEK_SET)
                for data in _body(answer, have, size, patience):
                    _write_all(descriptor, data)
                    have += len(data)
                    progress(have, size)
        except _StartOverError as error:
            if started_over or not have:
                raise GiveUpError(str(error)) from error
            started_over = True
            os.ftruncate(descriptor, 0)
            have, etag = 0, None
        except TryAgainError as error:
            if have - best >= _noticeable(size):
                tries, delay, best = TRIES, BACKOFF, have
            tries -= 1
            pause = delay * random.uniform(0.5, 1.0) if error.after is None else min(error.after, RETRY_AFTER)  # noqa: S311
            delay *= 2
            if tries <= 0 or not patience.wait(pause, asked=error.after is not None):
                raise GiveUpError(str(error)) from error
    return one_piece


def _open(url: str, have: int, etag: str | None, transport: Transport, patience: _Patience) -> Response:
    """Ask for the bytes from `have` on, through at most `REDIRECTS` redirects; the status is 200 or 206."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "photolabel"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if etag:
            headers["If-Range"] = etag
    here = url
    check_scheme(here)
    for _ in range(REDIRECTS + 1):
        if patience.left() <= 0:
            raise GiveUpError("no answer in time")
        answer = transport.get(here, headers, seconds=patience.left())
        try:
            if answer.status not in (301, 302, 303, 307, 308):
                _check(answer)
                return answer
            here = next_hop(here, answer.headers.get("location"))
        except BaseException:
            answer.close()
            raise
        answer.close()
    raise GiveUpError(f"more than {REDIRECTS} redirects")


def next_hop(url: str, location: str | None) -> str:
    """Where a redirect leads; never from https to anything else."""
    if not location:
        raise GiveUpError("a redirect to nowhere")
    try:
        target = urljoin(url, location)
        check_scheme(target)
    except ValueError as error:
        raise GiveUpError("a redirect to what is not a URL") from error
    if urlsplit(url).scheme.lower() == "https" and urlsplit(target).scheme.lower() != "https":
        raise GiveUpError(f"a redirect from https to {_shown(target)} was refused")
    return target


def check_scheme(url: str) -> None:
    """Refuse everything but http and https."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise GiveUpError("not a URL") from error
    if parts.scheme.lower() not in ("http", "https") or not parts.netloc:
        raise GiveUpError("expected an http:// or https:// URL")


def _check(answer: Response) -> None:
    status = answer.status
    if status == 416:
        raise _StartOverError("the server refuses every range (416)")
    if status in (408, 425, 429) or 500 <= status <= 599:
        raise TryAgainError(f"the server answered {status}", after=_seconds(answer.headers.get("retry-after")))
    if status not in (200, 206):
        raise GiveUpError(f"the server answered {status}")
    encoding = answer.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        # Never expanded: a few bytes may stand for gigabytes, and the hash is that of the plain file.
        raise GiveUpError(f"the server sent an encoded body ({encoding[:20]!r}), though asked not to")


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds. Its other form, a date, is treated as absent: clocks differ."""
    return float(retry_after) if retry_after and re.fullmatch(r"[0-9]{1,9}", retry_after.strip()) else None


def _strong_etag(answer: Response) -> str | None:
    etag = answer.headers.get("etag", "").strip()
    return etag if re.fullmatch(r'"[\x21\x23-\x7e]{1,200}"', etag) else None  # If-Range allows no weak one


def _start(answer: Response, have: int, size: int) -> int:
    """Find the offset of the body's first byte: `have`, or 0 when the server sends the whole file."""
    if answer.status == 200:
        return 0
    said = answer.headers.get("content-range", "")
    match = re.fullmatch(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15}|\*)", said.strip(), re.IGNORECASE)
    if not match or int(match[1]) != have or match[3] not in ("*", str(size)):
        raise _StartOverError(f"expected bytes {have}- of {size}, the server said {said[:80]!r}")
    return have


def _body(answer: Response, have: int, size: int, patience: _Patience) -> Iterator[bytes]:
    """Yield the body's pieces up to `size`; not one byte more is asked for or handed on."""
    while have < size:
        data = answer.read(min(CHUNK, size - have))[: size - have]
        if not data:
            raise TryAgainError(f"the body ended after {have:,} of {size:,} bytes")
        have += len(data)
        patience.gain(len(data))
        yield data
        if patience.left() <= 0:
            raise TryAgainError(f"next to nothing came for {STALL:.0f} s at {have:,} of {size:,} bytes")


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _host(url: str) -> str:
    """Return the host that a URL names, for messages."""
    shown = _shown(url)
    return shown.partition("//")[2].partition("/")[0] or shown


def _shown(url: str) -> str:
    """Strip the URL of a password or a signed query, for messages."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    shown = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return "".join(c if c.isprintable() else "?" for c in shown)[:200]
