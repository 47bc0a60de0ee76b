"""What the service allows: every limit in one place, with its default and why it is that."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields

from ..errors import UsageError

_MB = 1024 * 1024
SHORTEST_KEY = 16  # characters: what is shorter can be guessed
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
ANY_HOST = "*"

# A name, or an address as a Host header has it; without the port.
HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]{2,45}\]", re.ASCII)
_ORIGIN = re.compile(rf"https?://({HOST.pattern})(:[0-9]{{1,5}})?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The limits of a service, and who may call it. Raises `UsageError` for what makes no sense."""

    # -- what one request may be
    body_bytes: int = 32 * _MB  # of a photo: larger ones are scans and panoramas, or no photos
    batch_bytes: int = 128 * _MB  # of all photos of a batch: 32 of 4 MB, as telephones make them
    files: int = 32  # photos of a batch: half of what may wait at once, so that one leaves room for others
    pixels: int = 50_000_000  # of a photo: above every telephone's usual mode; a plain decode takes 200 MB
    json_bytes: int = 8 * _MB  # of pixels as JSON: two photos of 260 x 260 with all digits; more go as binary data
    form_bytes: int = 65_536  # that a form may have besides its photos: boundaries, names
    part_bytes: int = 4096  # of headers of one part of a form: a long file name in UTF-8, and more
    parts: int = 64  # of a form, those included that are no photos
    head_bytes: int = 16_384  # of a request's line and headers: twice what common proxies allow for a line
    headers: int = 100  # of a request: browsers send some 20, proxies add some 10
    target_bytes: int = 2048  # of a request's path and query: ours have less than 200
    top: int = 1000  # labels in an answer: ImageNet's classes

    # -- how long things may take, in seconds
    head_seconds: float = 10.0  # to send a request's head: a slow network takes one
    body_seconds: float = 60.0  # to send a body: 32 MB at 4 Mbit/s
    pause_seconds: float = 10.0  # between two pieces of a body: who pauses longer has gone
    idle_seconds: float = 15.0  # between two requests on a connection
    send_seconds: float = 20.0  # for a client to take what it was sent
    photo_seconds: float = 20.0  # to decode a photo: the slowest within the limits takes a few
    stuck_seconds: float = 60.0  # a run of the network: if it takes longer, the service is not ready
    notice_seconds: float = 1.0  # between saying that it is not ready, at the end, and closing the door
    drain_seconds: float = 7.0  # for what is under way at the end; in all, with the notice, under ten

    # -- how many at once
    connections: int = 1000  # idle ones cost a few kB each; the oldest idle one makes room for a new one
    queue: int = 64  # photos between their arrival and their answer: some seconds of work for VGG16
    held_bytes: int = 256 * _MB  # of bodies in memory, those that still come included
    share: float = 0.5  # of all three that one address may have; of this machine's own, where a proxy may be, all
    batch: int = 4  # inputs in one run of the network: more gain little, and keep those who come next waiting
    wait_seconds: float = 0.005  # that an idle network waits for photos which are being decoded
    workers: int | None = None  # processes that decode; None: one a processor
    explanations: int = 4  # that cover the photo place by place: each takes the network as much as 170 photos
    layers: tuple[str, ...] = ()  # that may be asked for besides the last one: each is one more network in memory

    # -- who may call
    # Any of these keys, so that one can be replaced without an interruption; none: no key is asked for.
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    hosts: tuple[str, ...] = ()  # names by which the service is called, besides those of this machine's loopback
    origins: tuple[str, ...] = ()  # web pages elsewhere that may call, as in https://photos.example
    docs: bool = True  # whether it describes itself at /openapi.json and /docs
    page: bool = True  # whether it has a page for people at /

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.type == "int":
                _check_whole(each.name, value)
            elif each.type == "float":
                _check_seconds(each.name, value)
        if self.workers is not None:
            _check_whole("workers", self.workers, most=256)
        if not 0 < self.share <= 1:
            raise UsageError(f"share={self.share!r}: expected a share above 0 and at most 1.")
        if self.files > self.queue:
            raise UsageError(f"files={self.files}: expected at most queue={self.queue}, for they wait there together.")
        for key in self.api_keys:
            check_key(key)
        for host in self.hosts:
            if host != ANY_HOST and not HOST.fullmatch(host):
                raise UsageError(
                    f"hosts: {host!r}: expected a name or an address without a port, as in photos.example."
                )
        if ANY_HOST in self.hosts and not self.api_keys:
            raise UsageError("hosts: '*' goes with an API key only: without one any web page could call by its name.")
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise UsageError(f"origins: {origin!r}: expected a page's origin, as in https://photos.example.")

    @property
    def largest(self) -> int:
        """The most bytes that any body may have."""
        return max(self.body_bytes, self.batch_bytes, self.json_bytes) + self.form_bytes

    @property
    def caller_photos(self) -> int:
        """The most photos of one address that may wait at once: its share, but a whole batch in any case."""
        return max(int(self.queue * self.share), self.files)

    @property
    def caller_connections(self) -> int:
        """The most connections of one address."""
        return max(int(self.connections * self.share), 1)

    @property
    def caller_bytes(self) -> int:
        """The most bytes of one address that may be in memory: its share, but a whole body in any case."""
        return max(int(self.held_bytes * self.share), self.largest)


def check_key(key: object) -> None:
    """Raise `UsageError` where an API key is too short to keep anybody out, or cannot stand in a header."""
    if not isinstance(key, str) or len(key) < SHORTEST_KEY or not re.fullmatch(r"[!-~]+", key, re.ASCII):
        raise UsageError(
            f"an API key: expected at least {SHORTEST_KEY} printable ASCII characters without blanks, as from: "
            'python -c "import secrets; print(secrets.token_urlsafe())"'
        )


def _check_whole(name: str, value: object, *, most: int | None = None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1 or (most is not None and value > most):
        wanted = "of at least 1" if most is None else f"from 1 to {most}"
        raise UsageError(f"{name}={value!r}: expected a whole number {wanted}.")


def _check_seconds(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise UsageError(f"{name}={value!r}: expected a number of seconds.")
