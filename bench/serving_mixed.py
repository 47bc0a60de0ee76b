"""Good and bad requests for minutes: whether every answer is right, and whether memory grows with them."""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import common
import serving_house
from common import Bar
from folder_photos import SHARED
from serving_client import Call, closed_loop, milliseconds, poisson, request
from serving_house import CACHE, FOLDER, OTHER, House, Watch, client

HERE = Path(__file__).resolve().parent
KEY = "a-key-that-the-bench-made-up"
AUTH = f"X-API-Key: {KEY}"
MUTANTS = 200
HARD = 400_000  # bytes: of the hard photos, those that are not large
SHARE = 0.5  # of what the service can do
LEAK = 8192  # bytes a request that are planted
LEAK_MINUTES = 2.0  # in which a planted leak shall be found
LEAST_MINUTES = 0.5
ROUNDS = 4  # through all requests beforehand, as fast as they go: caches and heaps are filled
AT_ONCE = 16
WARM = 0.25  # of the time, in which they may still be
# Not what is mapped from files: how much of that counts depends on what else runs here.
MEMORY = "Pss_Anon"
MOST_SLOPE = 1.0  # MB in 1,000 requests


@dataclass(frozen=True)
class Case:
    """A request, and what its answer is to be: the status, and the body, or the code of the problem in it."""

    kind: str
    request: bytes
    status: int
    body: bytes | str

    def right(self, call: Call) -> bool:
        if call.status != self.status:
            return False
        if isinstance(self.body, bytes):
            return call.body == self.body
        return bool(json.loads(call.body)["code"] == self.body)


@dataclass
class Soaked:
    """What came of it."""

    requests: int
    kinds: Counter[str]
    wrong: list[tuple[str, int, bytes]]
    statuses: Counter[int]
    slope: float  # MB in 1,000 requests
    first: float
    last: float
    times: list[str]
    minutes: float


def soak(photos: Sequence[bytes], args: argparse.Namespace) -> tuple[list[str], list[Bar]]:
    """Return the lines and the bars of mixed traffic."""
    cases = made(photos)
    found = soaked(cases, photos, args.soak, leak=LEAK if args.plant_leak else 0)
    lines = [
        (
            f"`python bench/serving.py --soak {args.soak:g}`: {found.minutes:.1f} minutes of requests at Poisson "
            f"arrivals, half as many as the service can answer; {len(cases)} different ones, over and over. The body "
            "of every answer is compared with what the library says of the same bytes, to the last digit. "
            f"They go round {ROUNDS} times before it begins. The slope is that of the memory of all processes, without "
            "what is mapped from files, over the requests, after the first quarter."
        ),
        f"{common.machine()}; {common.versions(Path(sys.executable).parent, 'openvino', 'uvicorn', 'fastapi')}.",
        "",
        *common.table(
            ["requests", "answers compared"],
            [(kind, f"{count}") for kind, count in sorted(found.kinds.items())],
        ),
        "",
        (
            f"Milliseconds of those answered with 200, p50, p95, p99, most: {', '.join(found.times)}. All processes "
            f"held {found.first:.0f} MB when it had begun and {found.last:.0f} at the end."
        ),
    ]
    for kind, status, body in found.wrong[:20]:
        print(f"wrong: {kind}: {status} {body[:300]!r}", file=sys.stderr)
    ours = sum(count for status, count in found.statuses.items() if status >= 500)
    busy = found.statuses[429]
    bars = [
        Bar("wrong answers", f"{len(found.wrong)} of {found.requests}", "0", not found.wrong),
        Bar("answers of 500 and above", f"{ours}", "0", not ours),
        Bar("refused for want of room", f"{busy}", "", None),
        Bar("MB more with 1,000 requests", f"{found.slope:.2f}", f"less than {MOST_SLOPE:g}", found.slope < MOST_SLOPE),
    ]
    if not args.plant_leak:
        planted = soaked(cases, photos, min(args.soak, LEAK_MINUTES), leak=LEAK)
        bars.append(
            Bar(
                f"MB more with 1,000 requests of which each leaves {LEAK} bytes behind",
                f"{planted.slope:.2f}",
                f"at least {MOST_SLOPE:g}: a leak is seen",
                planted.slope >= MOST_SLOPE,
            )
        )
    return lines, bars


def soaked(cases: Sequence[Case], photos: Sequence[bytes], minutes: float, *, leak: int) -> Soaked:
    with serving_house.running([*OTHER, "--key", KEY, "--leak", f"{leak}"]) as house:
        found = asyncio.run(_soaked(house, cases, photos, 60 * max(minutes, LEAST_MINUTES)))
        if house.mistakes():
            raise SystemExit(f"the service made mistakes: {house.mistakes()[:3]}")
    return found


async def _soaked(house: House, cases: Sequence[Case], photos: Sequence[bytes], seconds: float) -> Soaked:
    kinds, statuses, wrong, times = Counter[str](), Counter[int](), list[tuple[str, int, bytes]](), list[Call]()
    answered = 0
    goes = asyncio.create_task(_goers(house.port, photos[0]))
    async with client(house, keep=True) as calling:
        requests = [case.request for case in cases]
        for _ in range(ROUNDS):
            pace = await closed_loop(calling, requests, at_once=AT_ONCE, count=len(requests))
        rate = SHARE * len(requests) / pace.seconds
        print(f"soak: {rate:.0f} requests a second ...", file=sys.stderr, flush=True)
        counts: list[tuple[float, int]] = []
        chance, gaps, due = random.Random(1), poisson(rate, 1), time.perf_counter()
        begun = due
        order = list(cases)

        def checked(case: Case, call: Call) -> None:
            nonlocal answered
            answered += 1
            statuses[call.status] += 1
            counts.append((call.ended, answered))
            if call.status == 429:
                return
            kinds[case.kind] += 1
            if not case.right(call):
                wrong.append((case.kind, call.status, call.body))
            elif call.status == 200:
                times.append(call)
            call.body = call.request = b""

        async with Watch(house, MEMORY) as watch:
            number = 0
            while due < begun + seconds:
                while due <= time.perf_counter():
                    if number % len(order) == 0:
                        chance.shuffle(order)
                    case = order[number % len(order)]
                    calling.call(case.request, due, lambda call, case=case: checked(case, call))
                    number += 1
                    due += next(gaps)
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await calling.settled()
    goes.cancel()
    await asyncio.gather(goes, return_exceptions=True)
    tally_times = _times(times)
    late = [look for look in watch.looks if look[0] >= begun + WARM * seconds]
    slope = _slope(late, counts)
    return Soaked(answered, kinds, wrong, statuses, slope, late[0][1], late[-1][1], tally_times, seconds / 60)


def _times(calls: list[Call]) -> list[str]:
    from serving_client import Tally

    return milliseconds(Tally(calls), 200)


def _slope(looks: Sequence[tuple[float, float]], counts: Sequence[tuple[float, int]]) -> float:
    """MB that come with 1,000 requests: the line that is nearest to all looks at the memory."""
    answered, place = [], 0
    for when, _ in looks:
        while place + 1 < len(counts) and counts[place + 1][0] <= when:
            place += 1
        answered.append(counts[place][1] / 1000)
    return statistics.linear_regression(answered, [megabytes for _, megabytes in looks]).slope


async def _goers(port: int, photo: bytes) -> None:
    """Clients that go in the middle of their photo, or of waiting for its answer."""
    asked = request("/v1/classify", photo, [AUTH])
    for number in range(1 << 62):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asked if number % 2 else asked[: len(asked) // 2])
        await asyncio.sleep(0.002)
        writer.transport.abort()
        await asyncio.sleep(0.5)


# -- what is sent


def made(photos: Sequence[bytes]) -> list[Case]:
    """All requests, with the answers that they should get."""
    place = FOLDER / "mixed"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    sources = {"photos": list(photos), "hard photos": hard(), "mutants": mutants(photos)}
    for kind, files in sources.items():
        for number, data in enumerate(files):
            (place / f"{kind}-{number:04}").write_bytes(data)
    print("asking the library ...", file=sys.stderr, flush=True)
    told = subprocess.run(
        [sys.executable, str(HERE / "serving_service.py"), "answers", str(place)],
        env={**os.environ, **common.offline(CACHE)},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    cases, lines = list[Case](), list[tuple[bytes, str]]()
    for line in told.splitlines():
        name, status, said = json.loads(line)
        data = (place / name).read_bytes()
        kind = name.rpartition("-")[0]
        if status == 200:
            lines.append((data, said))
            cases.append(Case(kind, request("/v1/classify", data, [AUTH]), 200, said.encode()))
        elif data:
            cases.append(Case(f"{kind}, refused", request("/v1/classify", data, [AUTH]), STATUSES[said], said))
    cases += forms(lines)
    cases += others(photos[0])
    shutil.rmtree(place)
    return cases


# What the service is to say of the library's errors.
STATUSES = {
    "unsupported-format": 415,
    "photo-too-large": 413,
    "corrupt-photo": 422,
    "photo-error": 422,
    "photo-too-slow": 422,
    "decoder-crashed": 422,
}


def hard() -> list[bytes]:
    """The hard photos that are at hand, but for large ones; none where they are not."""
    table = SHARED / "hard-images.tsv"
    if not table.is_file():
        return []
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    files = [SHARED / "hard-images" / row["path"] for row in rows]
    return [data for path in files if path.is_file() and 0 < len(data := path.read_bytes()) <= HARD]


def mutants(photos: Sequence[bytes]) -> list[bytes]:
    """Photos that were cut short, of which bytes were changed, or two of which were joined; always the same."""
    chance, found = random.Random(0), []
    for number in range(MUTANTS):
        data = bytearray(photos[number % len(photos)])
        if number % 4 == 0:
            del data[chance.randrange(len(data)) :]
        elif number % 4 == 1:
            other = photos[chance.randrange(len(photos))]
            at = chance.randrange(len(data))
            data[at:] = other[at:]
        else:
            for _ in range(1 if number % 4 == 2 else 30):
                data[chance.randrange(len(data))] = chance.randrange(256)
        found.append(bytes(data) or b"\0")
    return found


def _part(data: bytes, name: str) -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="photo"; filename="{name}"\r\n\r\n'
    return head.encode() + data + b"\r\n"


def forms(lines: Sequence[tuple[bytes, str]]) -> list[Case]:
    """Photos in forms, one and several, and forms that are broken."""
    head, found = [AUTH, "Content-Type: multipart/form-data; boundary=b"], []

    def named(line: str, name: str) -> str:
        return line.replace('"photo": null', f'"photo": "{name}"', 1)

    for data, line in lines[:50]:
        found.append(
            Case("a form", request("/v1/classify", _part(data, "a.jpg") + b"--b--\r\n", head), 200,
                 named(line, "a.jpg").encode())
        )  # fmt: skip
    for begin in range(0, min(len(lines), 60), 6):
        some = lines[begin : begin + 6]
        body = b"".join(_part(data, f"{i}.jpg") for i, (data, _) in enumerate(some)) + b"--b--\r\n"
        records = ", ".join(named(line, f"{i}.jpg") for i, (_, line) in enumerate(some))
        found.append(
            Case("a batch", request("/v1/classify/batch", body, head), 200, f'{{"records": [{records}]}}'.encode())
        )
    data = lines[0][0]
    for body in (
        _part(data, "a.jpg"),
        _part(data, "a.jpg")[:-500] + b"--b--\r\n",
        b"--b--\r\n",
        b"",
        _part(data, "a.jpg").replace(b'"photo"', b'"picture"') + b"--b--\r\n",
        b"--c" + _part(data, "a.jpg")[3:] + b"--c--\r\n",
        b"--b\r\n\r\n" + data + b"\r\n--b--\r\n",
    ):
        found.append(Case("broken forms", request("/v1/classify", body, head), 400, "bad-request"))
    return found


def others(photo: bytes) -> list[Case]:
    """Requests that are refused before anybody looks at a photo, and those that are for none."""
    classify, plain = "/v1/classify", [AUTH]
    asked: list[tuple[str, bytes, int, bytes | str]] = [
        ("wrong keys", request(classify, photo, ["X-API-Key: not-the-one-that-is-right"]), 401, "unauthorized"),
        ("wrong keys", request(classify, photo), 401, "unauthorized"),
        ("wrong keys", request("/v1/models", headers=["Authorization: Bearer no"]), 401, "unauthorized"),
        ("other requests", request(classify, photo, [AUTH, "Host: evil.example"]), 421, "unknown-host"),
        ("other requests", request(classify, photo, [AUTH, "Origin: http://evil.example"]), 403, "forbidden-origin"),
        ("other requests", request(f"{classify}?top=0", photo, plain), 422, "usage"),
        ("other requests", request(f"{classify}?tops=3", photo, plain), 422, "usage"),
        ("other requests", request(f"{classify}?model=nope", photo, plain), 404, "unknown-model"),
        ("other requests", request(classify, headers=plain), 405, "method-not-allowed"),
        ("other requests", request("/../etc/passwd", headers=plain), 404, "not-found"),
        ("other requests", request(classify, b"", plain), 400, "bad-request"),
        ("other requests", request(classify, photo, [AUTH, "Content-Encoding: gzip"]), 415, "unsupported-encoding"),
        ("other requests", request("/v2/health/live"), 200, b'{"live":true}'),
        ("other requests", request("/v2/health/ready"), 200, b'{"ready":true}'),
    ]
    return [Case(*each) for each in asked]
