"""The service's page: the bytes and the time of its first view, and how it stays with many photos at once.

usage: python bench/page.py [--runs N] [--photos N] [--print]

A service with the bundled model in a process of its own, and Chromium, on this machine's loopback. The first view is
without a cache: from the beginning until the samples are drawn. Of the photos every eighth is as large as a telephone's
(12 million pixels), all others are small; they are dropped, as from a file manager. A task is what keeps the page from
answering, of which the browser tells when it takes more than 50 ms. Before a page hears of dropped files, Chromium
makes ready what it will tell of them, and asks another process for the type of each: so it does on an empty page, which
is dropped the same for comparison, and no page can help it. The browser's own trace tells that apart: of such a task
only the page's event is the page's. The bar is held against both.
Needs photolabel[serve,test] and Chromium.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

import common
from common import Bar

CALIBRATION = common.ROOT / "src" / "photolabel" / "data" / "calibration"
BYTES, SECONDS, TASK = 150_000, 1.0, 100  # of the first view; milliseconds of one task
LARGE = (4000, 3000)
_LOOKUP = "MimeRegistry::GetMimeTypeFromExtension"
_WATCH = """window.tasks = [];
new PerformanceObserver(all => { for (const each of all.getEntries()) tasks.push(each.duration); })
    .observe({type: "longtask", buffered: true});"""


def first_view(browser: Any, url: str) -> tuple[int, float]:
    """Bytes, heads included, and seconds."""
    page = browser.new_page()
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    sizes: list[float] = []
    session.on("Network.loadingFinished", lambda told: sizes.append(told["encodedDataLength"]))
    begun = time.perf_counter()
    page.goto(url)
    page.wait_for_selector("#samples li:nth-child(4) img")
    page.evaluate("Promise.all(Array.from(document.querySelectorAll('#samples img'), each => each.decode()))")
    taken = time.perf_counter() - begun
    page.wait_for_timeout(200)
    page.close()
    return int(sum(sizes)), taken


def photos(folder: Path, count: int) -> list[Path]:
    """So many files, no two alike."""
    small = [path.read_bytes() for path in sorted(CALIBRATION.glob("*.jpg"))]
    large = []
    for path in sorted(CALIBRATION.glob("*.jpg")):
        with Image.open(path) as image:
            image.resize(LARGE, Image.Resampling.BICUBIC).save(folder / "large.jpg", quality=85)
        large.append((folder / "large.jpg").read_bytes())
    (folder / "large.jpg").unlink()
    for number in range(count):
        data = (small if number % 8 else large)[number % 4]
        (folder / f"photo {number:04d}.jpg").write_bytes(data + number.to_bytes(4, "big"))
    return sorted(folder.iterdir())


def many(browser: Any, url: str, files: list[Path], traced: Path) -> dict[str, float]:
    """Milliseconds of the longest task, all told and of what the page does, and of what was computed in one;
    megabytes; seconds; elements.
    """
    page = watched(browser)
    page.goto(url)
    page.wait_for_selector("#samples li")
    browser.start_tracing(page=page, path=traced, categories=["toplevel", "devtools.timeline", "mojom"])
    begun = time.perf_counter()
    dropped(page, files)
    page.wait_for_selector("#table tbody tr[data-id]")
    for _ in range(10):
        page.mouse.move(300, 600)
        page.mouse.wheel(0, 3000)
        page.wait_for_timeout(300)
    browser.stop_tracing()
    whole = max(page.evaluate("tasks.splice(0)"), default=0.0)
    page.wait_for_selector(f"#progress-text:text-is('{len(files)} photos named')", timeout=1_000_000)
    later = max(page.evaluate("[0, ...tasks]"))
    own, computed = longest(traced)
    found = {
        "all": max(whole, later),
        "own": max(own, later),
        "computed": computed,
        "heap": page.evaluate("performance.memory.usedJSHeapSize / 1e6"),
        "elements": page.evaluate("document.getElementsByTagName('*').length"),
        "seconds": time.perf_counter() - begun,
    }
    page.close()
    return found


def empty(browser: Any, files: list[Path]) -> float:
    """Milliseconds of the longest task of a page with nothing on it that takes the same drop."""
    page = watched(browser)
    page.goto("data:text/html,<script>for (const each of ['dragover', 'drop']) "
              "addEventListener(each, event => event.preventDefault())</script>")  # fmt: skip
    dropped(page, files)
    page.wait_for_timeout(1000)
    found = float(max(page.evaluate("tasks"), default=0.0))
    page.close()
    return found


def watched(browser: Any) -> Any:
    """A new page whose long tasks are taken note of."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.add_init_script(_WATCH)
    return page


def dropped(page: Any, files: list[Path]) -> None:
    """Have files of the disk dropped onto the page, as from a file manager."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in files], "dragOperationsMask": 1}
    for step in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": step, "x": 300, "y": 300, "data": data})


def longest(traced: Path) -> tuple[float, float]:
    """Milliseconds of the longest task of the page's thread, of those with lookups of types what the page itself did;
    and computed in one at most.
    """
    events = json.loads(traced.read_text("utf-8"))["traceEvents"]
    main = {
        (each["pid"], each["tid"])
        for each in events
        if each["name"] == "thread_name" and each["args"]["name"] == "CrRendererMain"
    }
    ours = [each for each in events if (each["pid"], each["tid"]) in main and "dur" in each]
    tasks = [each for each in ours if "RunTask" in each["name"]]
    lookups, heard = ([each for each in ours if each["name"] == name] for name in (_LOOKUP, "EventDispatch"))
    if not lookups or not heard:
        raise SystemExit(f"the trace has no {_LOOKUP}, or no EventDispatch: this Chromium calls them otherwise")

    def own(task: dict[str, Any]) -> float:
        if not any(within(each, task) for each in lookups):
            return float(task["dur"])
        return float(sum(each["dur"] for each in heard if within(each, task)))

    return max(map(own, tasks)) / 1000, max(each.get("tdur", 0) for each in tasks) / 1000


def within(inner: dict[str, Any], outer: dict[str, Any]) -> bool:
    """Whether one event is of the other's thread and time."""
    begun, ended = inner["ts"] - outer["ts"], inner["ts"] + inner["dur"] - outer["ts"]
    return inner["tid"] == outer["tid"] and inner["pid"] == outer["pid"] and begun >= 0 and ended <= outer["dur"]


def main() -> None:
    options = common.options(__doc__, runs=10)
    options.add_argument("--photos", type=int, default=500)
    args = options.parse_args()
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "photolabel", "serve", "--port", "0", "--model", "efficientnet-lite2"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("w") as file:
            service = subprocess.Popen(command, stderr=file)
        try:
            url = told(log)
            with sync_playwright() as driver:
                root = getattr(os, "geteuid", lambda: 1)() == 0
                browser = driver.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox"] if root else []
                )
                version = browser.version
                views = [first_view(browser, url) for _ in range(args.runs)]
                inner = Path(folder, "photos")
                inner.mkdir()
                files = photos(inner, args.photos)
                found = many(browser, url, files, Path(folder, "trace.json"))
                nothing = empty(browser, files)
                browser.close()
        finally:
            service.terminate()
            service.wait()
    size, seconds = max(size for size, _ in views), statistics.median(taken for _, taken in views)
    bars = [
        Bar("bytes of the first view", f"{size:,}", f"at most {BYTES:,}", size <= BYTES),
        Bar("seconds of the first view", f"{seconds:.2f}", f"at most {SECONDS:g}", seconds <= SECONDS),
        *(
            Bar(
                f"longest task with {args.photos} photos dropped{which}, milliseconds",
                f"{found[key]:.0f}",
                f"at most {TASK}",
                found[key] <= TASK,
            )
            for which, key in ((", all told", "all"), (", what the page does", "own"))
        ),
    ]
    how = (
        f"`python bench/page.py`: the bundled model's service and Chromium {version} on one machine; medians of "
        f"{args.runs} first views, without a cache."
    )
    while_many = (
        f"{args.photos} photos are dropped at once, every eighth of 12 million pixels, and scrolled through: the "
        f"longest task took {found['all']:.0f} ms with what Chromium does before the page hears of the drop (a page "
        f"with nothing on it: {nothing:.0f} ms), {found['own']:.0f} ms without; "
        f"{found['computed']:.0f} ms were computed in one at most; {found['heap']:.1f} MB of scripts' memory and "
        f"{found['elements']:.0f} elements in the end; all were named after {found['seconds']:.0f} s."
    )
    lines = [how, f"{common.machine()}.", "", while_many]
    sys.exit(0 if common.report("The service's page", lines, bars, args=args, of="page") else 1)


def told(log: Path) -> str:
    """The address that the service says."""
    for _ in range(600):
        for line in log.read_text("utf-8").splitlines():
            if " at http" in line:
                return line.split()[-1]
        time.sleep(0.1)
    raise SystemExit("the service does not start")


if __name__ == "__main__":
    main()
