"""The service under load: how much it does, how long its answers take, and what it does when there is too much.

usage: python bench/serving.py [--runs N] [--only SECTION ...] [--short] [--print]
       python bench/serving.py --soak MINUTES [--plant-leak] [--print]

`photolabel serve --precision int8` with the bundled model runs as a process of its own; the client shares this
machine's processors with it. Sections: `throughput` beside classify_folder; `half`, the times of answers at half of
what it can do; `overload`, ten times as much as it can do, in rounds; `neighbours`, others beside clients that are
slow, idle or hostile; `batches`, other sizes of batches. --soak sends good and bad requests, compares every answer with
the library's, and watches the memory; with --plant-leak the service leaks on purpose, and the bar must be missed.
--short tries all for a moment each. Writes what it found to docs/benchmarks.md, unless it was only a part, and exits
with 1 where a bar is missed. Times are those of a quiet machine only. For Linux; needs photolabel where it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import common
import folder_photos
import serving_house
import serving_mixed
import serving_neighbours
from common import Bar, Lasting
from serving_client import Client, Tally, closed_loop, evenly, milliseconds, open_loop, poisson, quantile, request
from serving_house import CACHE, FOLDER, House, Watch, client

HERE = Path(__file__).resolve().parent
SECTIONS = ("throughput", "half", "overload", "neighbours", "batches")
CLASSIFY, LIVE = "/v1/classify", "/v2/health/live"
TIMES = 8  # that each photo is gone through in a round
AT_ONCE = 16  # requests that keep the service busy
QUEUE, HELD = 64, 256  # of the service: photos, and megabytes of bodies; its defaults
BATCHES = (1, 2, 4, 8)
HALF_SECONDS, OVERLOAD_SECONDS, BATCH_SECONDS = 20.0, 20.0, 8.0
HALF_ROUNDS, OVERLOAD_ROUNDS = 5, 5
OVER = 10.0
LEAST_SHARE = 0.85
MOST_EVENLY, MOST_POISSON = 3.0, 6.0
MOST_REFUSAL = MOST_HEALTH = 0.250
MOST_RECOVERY = 5.0
FILES = 4096


@dataclass
class Found:
    """What the sections say, and what is known after the first of them."""

    photos: list[bytes]
    args: argparse.Namespace
    capacity: float = 0.0  # photos a second
    alone: float = 0.0  # seconds of one photo while nothing else is asked for
    lines: list[str] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    def seconds(self, usual: float) -> float:
        return max(2.0, usual / 8) if self.args.short else usual

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.lines += ["", *common.table(head, rows)]


def main() -> None:
    parser = common.options(__doc__, runs=5)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="measure these alone, and print only")
    parser.add_argument("--short", action="store_true", help="a moment of each, and print only")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="mixed traffic for so long, and nothing else")
    parser.add_argument("--plant-leak", action="store_true", help="with --soak: the service leaks; print only")
    args = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, FILES)), hard))
    args.print |= bool(args.only or args.short or args.plant_leak)
    said, photos = made(2 if args.short else TIMES)
    gc.freeze()
    gc.disable()  # the client makes no rings, and shall not pause
    if args.soak:
        lines, bars = serving_mixed.soak(photos, args)
        title = "The service, mixed traffic"
    else:
        found = Found([request(CLASSIFY, photo) for photo in photos], args)
        asyncio.run(measured(found))
        title, bars = "The service under load", found.bars
        lines = [
            (
                "`python bench/serving.py`: `photolabel serve --precision int8`, the bundled model, on the loopback; "
                f"{said}. The client shares the processors with the service. Times are from when a request is due to "
                "the end of its answer."
            ),
            f"{common.machine()}; {common.versions(Path(sys.executable).parent, 'openvino', 'uvicorn', 'fastapi')}.",
            *found.lines,
        ]
    sys.exit(0 if common.report(title, lines, bars, args=args, most="bar") else 1)


def made(times: int) -> tuple[str, list[bytes]]:
    """Make the folder of photos, each so many times; return what they are, and each one's file."""
    once = FOLDER / "once"
    shutil.rmtree(once, ignore_errors=True)
    once.mkdir(parents=True)
    said = folder_photos.small(once)
    files = sorted(once.iterdir())
    folder_photos.linked(files, FOLDER / "photos", times * len(files))
    return said, [path.read_bytes() for path in files]


async def measured(found: Found) -> None:
    """Go through the sections."""
    wanted = found.args.only or SECTIONS
    with serving_house.running() as house:
        idle = house.megabytes()
        async with client(house) as calling:
            await closed_loop(calling, found.photos, at_once=AT_ONCE, count=200)  # warm
            alone = await closed_loop(calling, found.photos, at_once=1, count=100)
            found.alone = quantile([call.seconds for call in alone.calls], 0.5)
        await throughput(house, found, judged="throughput" in wanted)
        sections: dict[str, Callable[[], Awaitable[None]]] = {
            "half": lambda: half(house, found),
            "overload": lambda: overload(house, found, idle),
            "neighbours": lambda: serving_neighbours.measured(house, found),
        }
        for name, section in sections.items():
            if name in wanted:
                say(f"{name} ...")
                await section()
        if house.mistakes():
            raise SystemExit(f"the service made mistakes: {house.mistakes()[:3]}")
    if "batches" in wanted:
        await batches(found)


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


# -- how much


async def throughput(house: House, found: Found, *, judged: bool) -> None:
    """The pace of the busy service and of the library, in turn; without the library where only the pace is needed."""
    count, paces, theirs = len(list((FOLDER / "photos").iterdir())), list[float](), list[float]()
    library = Lasting("classify_folder", "folder", "", folder=Path(sys.executable).parent)
    rounds = min(2, found.args.runs) if found.args.short or not judged else found.args.runs
    try:
        if judged:
            library.start(HERE / "serving_service.py", FOLDER, CACHE)
        for run in range(rounds):
            say(f"throughput {run + 1} of {rounds} ...")
            if judged:
                answer = await asyncio.to_thread(library.ask, "go")
                theirs.append(count / answer["seconds"])
            async with client(house) as calling:
                tally = await closed_loop(calling, found.photos, at_once=AT_ONCE, count=count)
            if tally.others(200):
                raise SystemExit(f"photos were not answered: {tally.others(200)}")
            paces.append(count / tally.seconds)
    finally:
        library.end()
    found.capacity = statistics.median(paces)
    say(f"capacity {found.capacity:.1f} photos a second, alone {1000 * found.alone:.1f} ms")
    if not judged:
        return
    pace = statistics.median(theirs)
    shares = [ours / other for ours, other in zip(paces, theirs, strict=True)]
    share = statistics.median(shares)
    found.lines += [
        "",
        (
            f"Busy with {AT_ONCE} requests at once it names {found.capacity:.1f} photos a second, `classify_folder` "
            f"{pace:.1f} of the same, in turn; medians of {rounds} rounds, whose shares go from "
            f"{100 * min(shares):.0f} % to {100 * max(shares):.0f} %. One photo while nothing else is asked for takes "
            f"{1000 * found.alone:.1f} ms."
        ),
    ]
    found.bars.append(
        Bar(
            "photos a second, of classify_folder's",
            f"{100 * share:.0f} %",
            f"at least {100 * LEAST_SHARE:.0f} %",
            share >= LEAST_SHARE,
        )
    )


# -- how long


async def half(house: House, found: Found) -> None:
    """The times of answers at half of what the service can do, some rounds of each, in turn."""
    rate = found.capacity / 2
    arrivals = {"evenly spaced": (evenly, MOST_EVENLY), "Poisson": (poisson, MOST_POISSON)}
    rounds: dict[str, list[Tally]] = {name: [] for name in arrivals}
    for run in range(1 if found.args.short else HALF_ROUNDS):
        for name, (gaps, _) in arrivals.items():
            say(f"half, {name}, {run + 1} of {HALF_ROUNDS} ...")
            async with client(house) as calling:
                tally = await open_loop(calling, found.photos, gaps(rate), found.seconds(HALF_SECONDS))
            if tally.others(200):
                raise SystemExit(f"at half load photos were not answered: {tally.others(200)}")
            rounds[name].append(tally)
    rows = []
    for name, (_, most) in arrivals.items():
        ordered = sorted(rounds[name], key=spread)
        tally = ordered[len(ordered) // 2]
        all_of = ", ".join(f"{spread(each):.2f}" for each in ordered)
        rows.append((name, f"{len(tally.calls) / tally.offered:.1f}", *milliseconds(tally, 200), all_of))
        found.bars.append(
            Bar(
                f"half load, {name} arrivals: p99, times p50",
                f"{spread(tally):.2f}",
                f"at most {most:g}",
                spread(tally) <= most,
            )
        )
    found.lines += [
        "",
        f"At half load, {len(ordered)} rounds of each kind in turn; the table has the middle one of each.",
    ]
    found.table(["half load, milliseconds", "a second", "p50", "p95", "p99", "most", "p99 / p50, all rounds"], rows)


def spread(tally: Tally) -> float:
    """How many times the median the 99th percentile is."""
    seconds = [call.seconds for call in tally.calls]
    return quantile(seconds, 0.99) / quantile(seconds, 0.5)


# -- too much


@dataclass
class Crowd:
    """A round of too much: what a photo took alone just before, what became of all, and how long until it was over."""

    alone: float
    tally: Tally
    healthy: Tally
    recovered: float

    @property
    def waited(self) -> float:
        """The 99th percentile of those that were named, in service times."""
        return quantile([call.seconds for call in self.tally.those(200)], 0.99) / self.alone


async def overload(house: House, found: Found, idle: float) -> None:
    """Ten times what the service can do, some rounds of it, and what is so afterwards."""
    rate, seconds = OVER * found.capacity, found.seconds(OVERLOAD_SECONDS)
    rounds = []
    async with Watch(house) as watch:
        for run in range(many := 1 if found.args.short else OVERLOAD_ROUNDS):
            say(f"overload, {run + 1} of {many} ...")
            rounds.append(await crowded(house, found, rate, seconds))
    ordered = sorted(rounds, key=lambda each: each.waited)
    middle = ordered[len(ordered) // 2]
    tally, healthy = middle.tally, middle.healthy
    calls = [call for each in rounds for call in each.tally.calls]
    probes = [call for each in rounds for call in each.healthy.calls]
    refusals = [call for call in calls if call.status in (429, 503)]
    refused = quantile([call.seconds for call in refusals], 0.99)
    probed = quantile([call.seconds for call in probes if call.status == 200], 0.99)
    untold = sum(b"\r\nretry-after: " not in call.head for call in refusals)
    others = {**Tally(calls).others(200, 429, 503), **Tally(probes).others(200)}
    late = quantile([call.sent - call.due for call in tally.calls if call.sent], 0.99)
    pace = len(tally.those(200)) / tally.offered
    found.lines += [
        "",
        (
            f"{OVER:g} times as much for {seconds:.0f} s, {len(rounds)} rounds; the table has the middle one. In it "
            f"{rate:.0f} photos a second were due, {len(tally.calls) / tally.offered:.0f} came, {pace:.1f} were named, "
            f"{100 * pace / found.capacity:.0f} % of what it names when nobody is refused. The client had a connection "
            f"and sent within {1000 * late:.0f} ms of when it should have, in 99 of 100 cases; that is in the times. A "
            f"service time is what one photo takes while nothing else is asked for, measured before each round: "
            f"{1000 * middle.alone:.1f} ms. 99 of 100 of those named had waited for at most "
            f"{', '.join(f'{each.waited:.1f}' for each in ordered)} service times."
        ),
    ]
    found.table(
        ["milliseconds", "answers", "p50", "p95", "p99", "most"],
        [
            ("named", f"{len(tally.those(200))}", *milliseconds(tally, 200)),
            ("refused", f"{len(tally.those(429, 503))}", *milliseconds(tally, 429, 503)),
            ("health", f"{len(healthy.calls)}", *milliseconds(healthy, 200)),
        ],
    )
    most, recovered = idle + HELD, max(each.recovered for each in rounds)
    found.bars += [
        Bar(
            "overload: p99 of those that are named, middle round, service times",
            f"{middle.waited:.1f}",
            f"at most {QUEUE} + 1",
            middle.waited <= QUEUE + 1,
        ),
        Bar(
            "overload: p99 of refusals, all rounds, ms",
            f"{1000 * refused:.0f}",
            f"less than {1000 * MOST_REFUSAL:.0f}",
            refused < MOST_REFUSAL,
        ),
        Bar(
            "overload: p99 of health, all rounds, ms",
            f"{1000 * probed:.0f}",
            f"less than {1000 * MOST_HEALTH:.0f}",
            probed < MOST_HEALTH,
        ),
        Bar("overload: refusals without Retry-After", f"{untold}", "0", not untold),
        Bar("overload: other answers", told(others), "none", not others),
        Bar(
            "overload: MB, all processes (PSS)",
            f"{watch.most:.0f}",
            f"at most {idle:.0f} idle + {HELD} for bodies",
            watch.most <= most,
        ),
        Bar(
            "overload: seconds until all is as before, at most",
            f"{recovered:.1f}",
            f"at most {MOST_RECOVERY:g}",
            recovered <= MOST_RECOVERY,
        ),
    ]


async def crowded(house: House, found: Found, rate: float, seconds: float) -> Crowd:
    """One round."""
    async with client(house) as calling:
        before = await closed_loop(calling, found.photos, at_once=1, count=100)
    if before.others(200):
        raise SystemExit(f"photos were not answered: {before.others(200)}")
    alone = quantile([call.seconds for call in before.calls], 0.5)
    async with client(house) as calling, client(house) as probing:
        health = asyncio.create_task(open_loop(probing, [request(LIVE)], evenly(20), seconds))
        tally = await open_loop(calling, found.photos, evenly(rate), seconds)
        healthy = await health
    begun = time.perf_counter()
    async with client(house) as calling:
        recovered = await recovery(calling, found.photos[0], alone) - begun
    return Crowd(alone, tally, healthy, recovered)


def told(statuses: dict[int, int]) -> str:
    """How many of which status there were."""
    if not statuses:
        return "none"
    return ", ".join(f"{count} of {status or 'no answer'}" for status, count in sorted(statuses.items()))


async def recovery(calling: Client, photo: bytes, alone: float) -> float:
    """Wait until photos are named as fast as before, five times; return when the first of these was asked for."""
    good: list[float] = []
    until = time.perf_counter() + 4 * MOST_RECOVERY
    while len(good) < 5 and time.perf_counter() < until:
        call = await calling.answer(photo)
        good = [*good, call.due] if call.status == 200 and call.seconds <= 2 * alone else []
        await asyncio.sleep(0.1)
    return good[0] if len(good) == 5 else float("inf")


# -- other sizes of batches


async def batches(found: Found) -> None:
    """What the service does with other numbers of photos in one run of the network."""
    rows = []
    for size in BATCHES:
        say(f"batches of {size} ...")
        with serving_house.running([*serving_house.OTHER, "--batch", str(size)]) as house:
            async with client(house) as calling:
                await closed_loop(calling, found.photos, at_once=AT_ONCE, count=200)
                rounds = [
                    await closed_loop(calling, found.photos, at_once=AT_ONCE, count=2 * len(found.photos))
                    for _ in range(1 if found.args.short else 3)
                ]
                alone = await closed_loop(calling, found.photos, at_once=1, count=100)
                tally = await open_loop(
                    calling, found.photos, poisson(found.capacity / 2), found.seconds(BATCH_SECONDS)
                )
            pace = statistics.median(len(each.calls) / each.seconds for each in rounds)
            rows.append(
                (
                    f"{size}",
                    f"{pace:.1f}",
                    f"{1000 * quantile([call.seconds for call in alone.calls], 0.5):.1f}",
                    *milliseconds(tally, 200)[:3],
                    f"{house.megabytes():.0f}",
                )
            )
    found.table(
        ["batches of at most", "photos a second", "alone, ms", "half load, Poisson, p50", "p95", "p99", "MB"], rows
    )


if __name__ == "__main__":
    main()
