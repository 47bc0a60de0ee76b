"""The service as a process of its own, and what it holds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import common
import pipeline
from serving_client import Client

HERE = Path(__file__).resolve().parent
FOLDER = common.WORK / "serving"
CACHE = common.WORK / "cache"
PLAIN = ["-P", "-m", "photolabel", "serve", "--model", "efficientnet-lite2", "--precision", "int8", "--port", "0"]
OTHER = [str(HERE / "serving_service.py"), "serve"]
_START = 120.0  # seconds: at the first time the network is made and compiled
_END = 15.0
_LOOK = 1.0  # seconds between two looks at the memory


class House:
    """A running service: its port, its processes, and its log."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self._process, self.port, self._log = process, port, log

    @property
    def decoders(self) -> list[int]:
        """The numbers of the processes that decode."""
        return pipeline.tree(self._process.pid)[1:]

    def megabytes(self, kind: str = "Pss") -> float:
        """What all its processes hold together, pages that several hold counted once; or a kind of that."""
        found = 0.0
        for each in pipeline.tree(self._process.pid):
            with contextlib.suppress(OSError, TypeError):  # it has just ended
                found += pipeline.megabytes(Path(f"/proc/{each}/smaps_rollup"), kind)
        return found

    def files(self) -> int:
        """How many files the service itself has open."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def mistakes(self) -> list[str]:
        """The lines of its log that tell of mistakes of its own."""
        with self._log.open(encoding="utf-8", errors="replace") as lines:
            return [line.strip() for line in lines if "a mistake in photolabel" in line or "Traceback" in line]

    def end(self) -> None:
        """Tell it to end. Stops the bench where it does not do so in order."""
        if self._process.poll() is not None:
            raise SystemExit(f"the service died ({self._process.returncode}): see {self._log}")
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise SystemExit("the service did not end when it was told to") from None
        if status:
            raise SystemExit(f"the service ended with {status}: see {self._log}")


@contextmanager
def running(arguments: Sequence[str] = PLAIN, environment: dict[str, str] | None = None) -> Iterator[House]:
    """Have a service run, of these arguments of Python; end it after the block."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    log = FOLDER / "service.log"
    settings = {**os.environ, **common.offline(CACHE), **(environment or {})}
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, *arguments], env=settings, stderr=file, stdout=subprocess.DEVNULL)
    try:
        house = House(process, _port(process, log), log)
        yield house
        house.end()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    until = time.monotonic() + _START
    while time.monotonic() < until and process.poll() is None:
        if told := re.search(r"at http://127\.0\.0\.1:(\d+)", log.read_text("utf-8")):
            return int(told[1])
        time.sleep(0.05)
    raise SystemExit(f"the service did not start:\n{log.read_text('utf-8')[-2000:]}")


@asynccontextmanager
async def client(house: House, *, keep: bool = False) -> AsyncIterator[Client]:
    """A client of a service, closed after the block."""
    made = Client(house.port, keep=keep)
    try:
        yield made
    finally:
        made.close()
        await asyncio.sleep(0.05)


class Watch:
    """Looks at a service's memory, or a kind of it, now and then; `looks` are the seconds and the megabytes of each."""

    def __init__(self, house: House, kind: str = "Pss") -> None:
        self._house, self._kind = house, kind
        self.looks: list[tuple[float, float]] = []

    @property
    def most(self) -> float:
        return max(megabytes for _, megabytes in self.looks)

    async def _look(self) -> None:
        while True:
            self.looks.append((time.perf_counter(), await asyncio.to_thread(self._house.megabytes, self._kind)))
            await asyncio.sleep(_LOOK)

    async def __aenter__(self) -> Watch:
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *error: object) -> None:
        self.looks.append((time.perf_counter(), await asyncio.to_thread(self._house.megabytes, self._kind)))
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
