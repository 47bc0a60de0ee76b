"""A real browser that looks at the service's page, and a service that can be stopped and started.

The browser is Chromium, driven by Playwright. It reaches this machine's loopback only, and it is an error if a page
says one in its console, breaks its policy, or asks anybody but the service for anything.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from photolabel.classifier import Classifier
from photolabel.server import Settings, create_app

from conftest import ROOT

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: the extra test has it")

SAMPLES = ROOT / "samples"
CALIBRATION = ROOT / "src" / "photolabel" / "data" / "calibration"
_PATIENCE = 60_000  # milliseconds: a machine may have much else to do
_ALONE = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"  # no name leads anywhere, no address but this one either


def chromium() -> str | None:
    """The system's Chromium, or Chrome."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for one file of tests: what drives it must not outlive them, for it keeps its thread's event loop."""
    path = chromium()
    with playwright.sync_playwright() as driver:
        if path is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip("there is no Chromium here: apt-get install chromium, or playwright install chromium")
        arguments = [
            f"--host-resolver-rules={_ALONE}",
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            *(["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []),
        ]
        browser = driver.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


class Watched:
    """One page, of which all is kept that should not be: `wrong` must be empty in the end but for what is `allowed`."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.url, self.wrong = url, []
        self._allowed: list[str] = []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.context.set_default_timeout(_PATIENCE)
        playwright.expect.set_options(timeout=_PATIENCE)
        self.page = self.context.new_page()
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.wrong.append(said.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", self._asked)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:")):
            self.wrong.append(f"asks elsewhere: {request.url}")

    def open(self) -> Any:
        self.page.goto(self.url)
        playwright.expect(self.page.locator("#asked")).to_be_visible()
        return self.page

    def allow(self, *patterns: str) -> None:
        """Take what the browser itself says of an answer, or of none, for no mistake."""
        self._allowed += patterns

    def close(self) -> None:
        self.context.close()
        wrong = [each for each in self.wrong if not any(re.search(allowed, each) for allowed in self._allowed)]
        assert not wrong, wrong


class Stoppable:
    """A service at one port, which can be stopped, at once, and started again."""

    def __init__(self, classifiers: Any, settings: Settings | None = None) -> None:
        self._classifiers = classifiers
        self._settings = settings or Settings(workers=1, notice_seconds=0.0, drain_seconds=0.1)
        self._port = 0
        self.start()

    def start(self) -> None:
        from photolabel.server.running import Server, listen

        self._bound = listen("127.0.0.1", self._port, self._settings)
        self._port = self._bound.getsockname()[1]
        app = create_app(self._classifiers, settings=self._settings)
        self.service: Any = app.state.service
        listens = threading.Event()
        self._server = Server(app, self._settings, listens.set)
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        self._thread = threading.Thread(target=self._server.run, args=([self._bound],))
        self._thread.start()
        assert listens.wait(60)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(60)
        self._bound.close()
        assert not self._thread.is_alive()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"


def give(page: Any, files: Sequence[Path | tuple[str, bytes]]) -> None:
    """Choose files, as a person does with the button's dialog; a pair is a name and what is in it."""
    if all(isinstance(each, Path) for each in files):
        page.set_input_files("#file", files)
        return
    pairs = [(each.name, each.read_bytes()) if isinstance(each, Path) else each for each in files]
    payloads = [{"name": name, "mimeType": "application/octet-stream", "buffer": data} for name, data in pairs]
    page.set_input_files("#file", payloads)


def drop(page: Any, paths: Sequence[Path]) -> None:
    """Drag files or folders over the page, and let go: as the system does it, not as a script would."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})
    session.detach()


def done(page: Any, text: str) -> None:
    """Wait until the page says this of all its photos."""
    playwright.expect(page.locator("#progress-text")).to_have_text(text)


def until(page: Any, true: str, *given: Any) -> None:
    """Wait until this is so in the page: asked from outside, for the page's policy lets nothing inside ask again."""
    for _ in range(_PATIENCE // 20):
        if page.evaluate(true, *given):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"{true} is not so, given {given}")


def rows(page: Any) -> list[list[str]]:
    """The rows that are there: name, how sure, file."""
    read = "rows => rows.map(row => ['.said', '.sure', 'td.file'].map(each => row.querySelector(each).textContent))"
    found: list[list[str]] = page.locator("#table tbody tr[data-id]").evaluate_all(read)
    return found


def rows_by_place(page: Any) -> dict[int, list[str]]:
    """The same, and the place of each among all, in one look: the page may be scrolling."""
    read = """rows => rows.map(row => [
        row.ariaRowIndex - 2, ['.said', '.sure', 'td.file'].map(each => row.querySelector(each).textContent)
    ])"""
    return dict(page.locator("#table tbody tr[data-id]").evaluate_all(read))


def closed_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


__all__ = ["CALIBRATION", "SAMPLES", "Classifier", "Stoppable", "Watched", "browser", "done", "drop", "give", "rows"]
