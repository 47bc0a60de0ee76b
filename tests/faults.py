"""A network in memory that answers at random: thousands of downloads a minute, each from its seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

from photolabel.errors import StoreError
from photolabel.network import GiveUpError, TryAgainError
from photolabel.store import Store

from servers import asset  # isort: skip


class Scripted:
    """A `Response` of a status, headers, and pieces of a body; None in place of a piece is a broken line."""

    def __init__(self, status: int, headers: Mapping[str, str], pieces: list[bytes | None]) -> None:
        self.status = status
        self.headers = headers
        self._pieces = pieces
        self.closed = False

    def read(self, limit: int) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if piece is None:
            raise TryAgainError("the connection broke")
        if len(piece) > limit:
            self._pieces.insert(0, piece[limit:])
        return piece[:limit]

    def close(self) -> None:
        self.closed = True


def pieces(rng: random.Random, data: bytes) -> list[bytes | None]:
    """Cut `data` anywhere, break the line or lose the end now and then."""
    result: list[bytes | None] = []
    at = 0
    while at < len(data):
        step = rng.randint(1, max(1, len(data) // rng.randint(1, 8)))
        result.append(data[at : at + step])
        at += step
    fate = rng.random()
    if fate < 0.15:
        result[rng.randint(0, len(result)) :] = [None]
    elif fate < 0.25:
        del result[rng.randint(0, len(result)) :]
    return result


def random_response(rng: random.Random, body: bytes, asked: int | None = None) -> Scripted:
    """One answer to a request for `body` from `asked` on (None: for all of it): right, wrong or absurd."""
    start = asked or 0
    size = len(body)
    headers: dict[str, str] = {}
    if rng.random() < 0.5:
        headers["etag"] = rng.choice(['"v1"', '"v2"', 'W/"v1"', "", '"' + "e" * 5000 + '"', '"\x00\r\n"'])
    if rng.random() < 0.05:
        headers["content-encoding"] = rng.choice(["gzip", "br", "identity", "gzip, gzip", "\x1b[31m"])
    if rng.random() < 0.2:
        headers["content-length"] = rng.choice(["0", "-1", "99999999999999999999", "x", str(size), str(size // 2)])
    kind = rng.random()
    if kind < 0.45:  # what a good server would say
        if start and rng.random() < 0.8:
            headers["content-range"] = f"bytes {start}-{size - 1}/{rng.choice([str(size), '*'])}"
            return Scripted(206, headers, pieces(rng, body[start:]))
        return Scripted(200, headers, pieces(rng, body))
    if kind < 0.60:  # wrong bytes, perhaps too few or too many
        data = bytearray(body[start:] if rng.random() < 0.5 else body)
        for _ in range(rng.randint(0, 3)):
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        data += rng.randbytes(rng.choice([0, 0, 1, 1000, 100_000]))
        headers["content-range"] = f"bytes {start}-{size - 1}/{size}"
        return Scripted(rng.choice([200, 206]), headers, pieces(rng, bytes(data)))
    if kind < 0.75:  # a wrong or absurd Content-Range
        headers["content-range"] = rng.choice(
            [
                f"bytes {start + 1}-{size}/{size}",
                f"bytes {start}-{size}/{size + 1}",
                f"bytes */{size}",
                "bytes 0-0/0",
                "",
                "x" * 10_000,
                f"bytes {'9' * 5000}-1/1",
                f"bytes -{start}-{size}/{size}",
            ]
        )
        return Scripted(206, headers, pieces(rng, body[start:]))
    if kind < 0.85:
        headers["location"] = rng.choice(
            [
                "/x",
                "https://other.test/x",
                "http://other.test/x",
                "//[",
                "",
                "file:///etc/passwd",
                "http://",
                "\x00",
            ]
        )
        return Scripted(rng.choice([301, 302, 303, 307, 308]), headers, [])
    if kind < 0.93:
        headers["retry-after"] = rng.choice(["0", "-1", "x", "Fri, 31 Dec 1999 23:59:59 GMT", "", "9" * 400])
        return Scripted(rng.choice([408, 416, 429, 500, 502, 503]), headers, [])
    return Scripted(rng.choice([-1, 0, 100, 204, 206, 304, 400, 401, 403, 404, 410, 418, 600, 999]), headers, [])


class Chaos:
    """A `Transport` that answers at random for `patience` requests, then as a good server would, or never."""

    def __init__(self, rng: random.Random, body: bytes, watch: Callable[[], None]) -> None:
        self.rng = rng
        self.body = body
        self.watch = watch
        self.answers: list[Scripted] = []

    def get(self, url: str, headers: Mapping[str, str], *, seconds: float) -> Scripted:
        self.watch()
        assert url.startswith(("http://", "https://"))
        fate = self.rng.random()
        if fate < 0.05:
            raise GiveUpError("the host's name does not resolve")
        if fate < 0.10:
            raise TryAgainError("no answer: timed out", after=self.rng.choice([None, 0.0]))
        asked = headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else None
        answer = random_response(self.rng, self.body, start)
        self.answers.append(answer)
        return answer


def random_case(seed: int, folder: Path) -> str:
    """Run one download from its seed; the result is the right file or a StoreError, or this raises.

    Returns "ok" or the error's code, for a tally.
    """
    rng = random.Random(seed)
    body = rng.randbytes(rng.choice([1, 2, 100, 5000, 70_000]))
    store = Store(folder)
    want = asset(
        *[f"{rng.choice(['http', 'https'])}://host{n}.test/x" for n in range(rng.randint(1, 3))],
        body=body,
        algorithm=rng.choice(["md5", "sha256"]),
    )
    path, partial = store.path(want.name), folder / f"{want.name}.partial"
    for each in (path, partial):
        fate = rng.random()
        if fate < 0.2:
            each.write_bytes(body[: rng.randint(0, len(body))])
        elif fate < 0.4:
            each.write_bytes(rng.randbytes(rng.choice([1, len(body), len(body) + 5])))
    record = folder / f"{want.name}.record.json"
    if rng.random() < 0.3:
        record.write_bytes(rng.choice([b"", b"[" * 3000, b'{"digest": 1}', b"{}" * 9000, rng.randbytes(50)]))

    def watch() -> None:
        assert partial.lstat().st_size <= len(body), "more bytes written than the file has"
        assert not path.exists() or path.read_bytes() != body, "downloads though the file is right"

    network = Chaos(rng, body, watch)
    try:
        found = store.fetch(want, transport=network)
    except StoreError as error:
        outcome = error.code
        assert all(c.isprintable() for c in str(error)), str(error)
    else:
        outcome = "ok"
        assert found.read_bytes() == body, "a wrong file under the right name"
        assert store.find(want) == found
        assert store.find(want, deep=True) == found
    assert all(answer.closed for answer in network.answers)
    if network.answers:
        watch_size = partial.stat().st_size if partial.exists() else 0
        assert watch_size <= len(body)
    left = {each.name for each in folder.iterdir()}
    assert left <= {path.name, partial.name, record.name, f"{path.name}.lock"}, left
    return outcome
