"""Make the pictures of the service's page that docs/ shows.

usage: python tools/make_page_pictures.py

Needs photolabel[serve,test] and Chromium; the photos are those of samples/ and of photolabel's own data.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SAMPLES = [ROOT / "samples" / f"{name}.jpg" for name in ("coffee", "cat", "rocket", "sideways")]
DATA = ROOT / "src" / "photolabel" / "data"
MANY = [*SAMPLES, DATA / "calibration" / "astronaut.jpg", DATA / "doctor" / "flat.heic", ROOT / "LICENSE"]
COLOURS = 256  # of a palette: a PNG is small by that


def main() -> None:
    command = [sys.executable, "-m", "photolabel", "serve", "--port", "0", "--model", "efficientnet-lite2"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("w") as file:
            service = subprocess.Popen(command, stderr=file)
        try:
            while " at http" not in log.read_text("utf-8"):
                if service.poll() is not None:
                    raise SystemExit("the service does not start")
                time.sleep(0.1)
            url = next(line.split()[-1] for line in log.read_text("utf-8").splitlines() if " at http" in line)
            pictures(url)
        finally:
            service.terminate()
            service.wait()


def pictures(url: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        arguments = ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = opened(browser, url, "light", 1180, 760)
        page.set_input_files("#file", SAMPLES[:1])
        page.click("#views [data-view=evidence]")
        page.wait_for_selector("#heat:visible")
        keep(page, "page.png")
        page = opened(browser, url, "dark", 1180, 760)
        page.set_input_files("#file", MANY)
        page.wait_for_selector("#progress-text:text-matches('named')")
        keep(page, "page-many.png")
        page = opened(browser, url, "light", 390, 780)
        page.set_input_files("#file", SAMPLES[1:2])
        page.wait_for_selector("#bars li")
        keep(page, "page-phone.png")
        browser.close()


def opened(browser: Any, url: str, scheme: str, width: int, height: int) -> Any:
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": height}, "reduced_motion": "reduce"}
    page = browser.new_context(**options).new_page()
    page.goto(url)
    page.wait_for_selector("#samples li")
    return page


def keep(page: Any, name: str) -> None:
    page.wait_for_timeout(1000)
    page.screenshot(path=DOCS / name)
    with Image.open(DOCS / name) as image:
        whole = image.convert("RGB")
    palette = whole.quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
    small = whole.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)  # which goes only with a palette
    small.save(DOCS / name, optimize=True)


if __name__ == "__main__":
    main()
