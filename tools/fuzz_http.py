"""Say mutated HTTP to a service: every answer must be whole and documented, soon, and nothing may be left behind.

usage: python tools/fuzz_http.py [--cases N] [--seed S] [--clients C] [--only CASE]

A case is some bytes, in pieces, and what the client does after them: it waits, dribbles, says that no more will come,
goes, or resets the connection. The bytes are real requests to all that /openapi.json tells of, changed in their heads,
queries, lengths, chunks, forms and photos, or several of them in a row. These are finds:

- an answer that is not whole HTTP, has a status that no path has, is a 5xx other than 503, is a 429 or 503 without
  Retry-After, or tells of files, addresses or traces;
- a connection that lives beyond the limits of time;
- a line of the log that is not one request's;
- a service that grows, keeps descriptors, ends badly, or answers a good request in between otherwise than at first.

Finds are kept in .cache/fuzz-http and printed; then the exit code is 1. A case depends on the seed, its number, and
what the service tells of itself. For Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import itertools
import json
import re
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

from http_cases import KEY, Case, case, photos, request, requests
from served import MODEL, Served, served

ROOT = Path(__file__).resolve().parents[1]
MOST_FINDS = 30  # something systematic: stop

# Much shorter than by default, so that whoever waits for an end of a connection has it soon.
SETTINGS = {
    "workers": 2,
    "body_bytes": 1 << 20,
    "batch_bytes": 4 << 20,
    "held_bytes": 32 << 20,
    "head_seconds": 1.0,
    "body_seconds": 3.0,
    "pause_seconds": 1.0,
    "idle_seconds": 1.0,
    "send_seconds": 2.0,
    "photo_seconds": 10.0,
    "api_keys": [KEY],
    "origins": ["https://page.example"],
}
LONGEST = 60.0  # seconds of a connection: the sum of all limits, several times, for a machine that is busy
GROWTH = 96 << 10  # kB above what the service had when it was warm: twice what may be held, and what libraries keep
WARM = 100  # cases after which libraries have taken what they keep
ROUND = 500  # cases between two looks at the service
STATUSES = {200, 204, 400, 401, 403, 404, 405, 408, 413, 414, 415, 421, 422, 429, 431, 503}
LEAK = re.compile(rb"0x[0-9a-f]{6,}|Traceback|/home/|/root/|/usr/|/tmp/|site-packages|\.py\b")


# --- What is answered ---------------------------------------------------------------------------


class FindError(Exception):
    """Something that must not be."""


def check_answers(said: bytes, heard: bytes, *, left: bool) -> list[int]:
    """Return the statuses of the answers in what was heard. `left`: the client went, so the last one may be cut.

    Raises `FindError`.
    """
    statuses: list[int] = []
    while heard:
        head, found, rest = heard.partition(b"\r\n\r\n")
        if not found:
            if left:
                return statuses
            raise FindError(f"an answer is cut short: {heard[:200]!r}")
        first, *lines = head.split(b"\r\n")
        status_line = re.fullmatch(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [A-Za-z -]+", first)
        headers = [re.fullmatch(rb"([a-zA-Z-]+): ([ -~]*)", line) for line in lines]
        if not status_line or not all(headers):
            raise FindError(f"this is no head of HTTP: {head[:300]!r}")
        status, named = int(status_line[1]), {each[1].lower(): each[2] for each in headers if each}
        if status == 100:
            heard = rest
            continue
        # What HEAD is told, its answer does not have; which answer is HEAD's cannot be known of mutated bytes.
        length = 0 if status == 204 else int(named.get(b"content-length", b"-1"))
        if length < 0:
            raise FindError(f"an answer does not say its length: {head[:300]!r}")
        if b"HEAD" in said and (not rest or rest.startswith(b"HTTP/1.1 ")):
            length = 0
        if len(rest) < length and not left:
            raise FindError(f"an answer is cut short: {length} bytes are {len(rest)}")
        check_answer(status, named, rest[:length], whole=len(rest) >= length and length > 0)
        statuses.append(status)
        heard = rest[length:]
    if len(statuses) > said.count(b"HTTP/") + said.count(b"\r\n\r\n") + said.count(b"\n\n") + 1:
        raise FindError(f"{len(statuses)} answers to fewer requests")
    return statuses


def check_answer(status: int, named: dict[bytes, bytes], body: bytes, *, whole: bool) -> None:
    """Raise `FindError` where one answer is not as it must be."""
    if status not in STATUSES:
        raise FindError(f"a status that is not documented: {status} {body[:200]!r}")
    if status in (429, 503) and not re.fullmatch(rb"[0-9]{1,2}", named.get(b"retry-after", b"")):
        raise FindError(f"{status} without Retry-After")
    if named.get(b"access-control-allow-origin", b"https://page.example") != b"https://page.example":
        raise FindError("an origin is let in that must not be")
    if status >= 400:
        if named.get(b"content-type") != b"application/problem+json":
            raise FindError(f"{status} is no problem document: {named.get(b'content-type')!r}")
        if whole and json.loads(body)["status"] != status:
            raise FindError(f"a problem document of another status than {status}: {body!r}")
    if status >= 400 and (leak := LEAK.search(body)):
        raise FindError(f"an error tells of {leak[0]!r}: {body[:300]!r}")


async def dribble(writer: asyncio.StreamWriter) -> None:
    """Never end, and never pause for long."""
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.3)


async def play(port: int, played: Case, longest: float) -> list[int]:
    """Say a case; return the statuses of its answers. Raises `FindError`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    said, heard, left = b"".join(played.pieces), b"", played.then in ("go", "reset")
    listening, dribbling = asyncio.ensure_future(reader.read()), None
    try:
        for piece in played.pieces:
            writer.write(piece)
            await writer.drain()
            if played.pause:
                await asyncio.sleep(played.pause)
        if played.then == "half" and not writer.transport.is_closing():
            writer.write_eof()
        elif played.then == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        elif played.then == "dribble":
            dribbling = asyncio.ensure_future(dribble(writer))
        if not left:
            heard = await asyncio.wait_for(asyncio.shield(listening), longest)
    except TimeoutError:
        raise FindError(f"the connection lives after {longest:g} seconds") from None
    except OSError:  # it was closed while this one was speaking
        left = True
    finally:
        if dribbling is not None:
            dribbling.cancel()
        writer.close()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    return check_answers(said, heard, left=left)


async def ask(port: int, said: bytes) -> tuple[int, bytes]:
    """Send a good request, as often as it takes not to be too much; return status and body. Raises `FindError`."""
    until = time.monotonic() + LONGEST
    while True:
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + LONGEST):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(said)
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = re.search(rb"(?i)\r\ncontent-length: ([0-9]+)", head)
                    body = await reader.readexactly(int(length[1]) if length else 0)
                finally:
                    writer.close()
        except (OSError, EOFError, TimeoutError) as error:
            raise FindError(f"a good request is not answered: {type(error).__name__}") from None
        status = int(head.split()[1])
        if status not in (429, 503) or time.monotonic() > until:
            return status, body
        await asyncio.sleep(0.2)


# --- A run --------------------------------------------------------------------------------------


class Run:
    """All cases against one service."""

    def __init__(self, options: argparse.Namespace, service: Served) -> None:
        self.options, self.service = options, service
        self.statuses, self.finds, self.played = collections.Counter[str](), 0, 0
        self.base, self.told = service.descriptors(), 0  # what it has open, and how many strange lines are known

    async def all(self) -> None:
        """Play all cases, some at once, and look at the service now and then."""
        good = request("POST", "/v1/classify?top=3", photos()[0])
        idle = 0
        try:
            expected = await ask(self.service.port, good)
            status, document = await ask(self.service.port, request("GET", "/openapi.json"))
            told, about = await ask(self.service.port, request("GET", f"/v2/models/{MODEL}"))
            if expected[0] != 200 or status != 200 or told != 200:
                raise FindError(f"the service does not work: {expected}, {status}, {told}")
        except FindError as error:
            self.note(str(error))
        else:
            whole = requests(json.loads(document), json.loads(about)["inputs"][0]["shape"][1])
            numbers = [self.options.only] if self.options.only is not None else range(self.options.cases)
            for waiting in (iter(numbers[at:to]) for at, to in itertools.pairwise([0, *range(WARM, 10**9, ROUND)])):
                if self.played == len(numbers) or self.finds >= MOST_FINDS or not self.service.runs:
                    break
                await asyncio.gather(*(self.client(waiting, whole) for _ in range(self.options.clients)))
                await self.look(good, expected)
                if not idle:
                    idle = self.service.memory()
                    sockets = self.base["socket"]  # clients may be there yet; but by now all workers are
                    self.base = self.service.descriptors()
                    self.base["socket"] = sockets
        await self.last_look(idle)

    async def client(self, numbers: Any, whole: list[bytes]) -> None:
        """Play cases that nobody else has taken."""
        for number in numbers:
            played = case(self.options.seed, number, whole)
            try:
                statuses = await play(self.service.port, played, self.options.longest)
            except FindError as error:
                self.note(f"case {number}: {error}", played, number)
            except ConnectionError as error:
                self.note(f"case {number}: no connection, {error}", played, number)
            else:
                self.statuses.update(map(str, statuses) if statuses else ["none"])
            self.played += 1

    async def look(self, good: bytes, expected: tuple[int, bytes]) -> None:
        """See that the service answers as at the beginning, and has said nothing strange."""
        try:
            if (answer := await ask(self.service.port, good)) != expected:
                self.note(f"a good request is answered otherwise than at the beginning: {answer}")
            if (await ask(self.service.port, request("GET", "/v2/health/ready", key=False)))[0] != 200:
                self.note("the service is not ready any more")
        except FindError as error:
            self.note(str(error))
        strange = [line for line in self.service.strange_lines() if not line.startswith(" ")]  # of traces the ends
        for line in strange[self.told :][:10]:
            self.note(f"the log has: {line[:200]!r}")
        self.told = len(strange)

    async def last_look(self, idle: int) -> None:
        """See what the service has kept, and that it ends well."""
        await asyncio.sleep(0.1)  # whoever was killed is dead by now
        if not self.service.runs:
            self.note(f"the service has ended: {self.service.process.returncode}")
            return
        if (grown := self.service.memory("VmHWM") - idle) > GROWTH:
            self.note(f"the service grew by {grown >> 10} MB")
        until = time.monotonic() + self.options.longest
        while (held := self.service.descriptors() - self.base) and time.monotonic() < until:
            await asyncio.sleep(0.1)
        if held:
            self.note(f"the service has more open than it had: {dict(held)}")
        if code := await asyncio.to_thread(self.service.end):
            self.note(f"the service ended with {code}")
        print(f"memory: {idle >> 10} MB when warm, at most {grown >> 10} MB more")

    def note(self, what: str, played: Case | None = None, number: int | None = None) -> None:
        """Print a find, and keep the case."""
        self.finds += 1
        self.statuses["find"] += 1
        print(what)
        if played is not None:
            self.options.out.mkdir(parents=True, exist_ok=True)
            kept = {"pieces": [each.hex() for each in played.pieces], "pause": played.pause, "then": played.then}
            (self.options.out / f"{self.options.seed}-{number}.json").write_text(json.dumps(kept))


def main() -> int:
    """Run the cases and print a tally."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=64, help="cases that are played at the same time")
    parser.add_argument("--longest", type=float, default=LONGEST, help="seconds that a connection may live")
    parser.add_argument("--only", type=int, metavar="CASE", help="play this one only")
    parser.add_argument("--out", type=Path, default=ROOT / ".cache" / "fuzz-http", help="where finds are kept")
    parser.add_argument("--plant", help="a Python file whose plant(app) makes faults that must be found")
    options = parser.parse_args()
    begun = time.monotonic()
    with served(SETTINGS, options.plant) as service:
        run = Run(options, service)
        asyncio.run(run.all())
    counts = ", ".join(f"{name} {count}" for name, count in sorted(run.statuses.items()))
    print(f"{run.played} cases in {time.monotonic() - begun:.0f} s, {run.finds} finds; answers: {counts}")
    return 1 if run.finds or run.played < (1 if options.only is not None else options.cases) else 0


if __name__ == "__main__":
    sys.exit(main())
