"""A service in a process of its own, for the tools that attack it; and what can be seen of it from outside.

The network is a tiny one, so that it is the service that is tried. Settings are those of `photolabel.server.Settings`.
`plant` is a Python file whose `plant(app)` returns the application to serve instead: faults that a tool must find.
For Linux.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
MODEL = "tiny"

# What a line of the log may be; a trace has others.
LOG_LINE = re.compile(
    r"[0-9-]{10} [0-9:,]{12} [A-Za-z0-9._-]{1,64} [0-9a-f.:-]+ (?P<method>[!-~]{1,60}) (?P<path>[!-~]{0,603}) "
    r"(?P<status>[0-9]{1,3}) in=[0-9]+ out=[0-9]+ ms=[0-9]+"
)
# The other line: of those that found no room, most have none of their own.
LOG_CROWD = re.compile(r"[0-9-]{10} [0-9:,]{12} [0-9]+ more were refused for want of room \(429\)")


class Served:
    """A service that runs."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.port, self._log = process, port, log

    @property
    def runs(self) -> bool:
        """Whether it still does."""
        return self.process.poll() is None

    def memory(self, what: str = "VmRSS") -> int:
        """How much its own process has in memory, in kB; with `VmHWM` the most ever; 0 once it has ended."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        found = re.search(rf"^{what}:\s+([0-9]+) kB", status, re.MULTILINE)
        return int(found[1]) if found else 0

    def descriptors(self) -> Counter[str]:
        """How many sockets, pipes, files and so on it has open."""
        found = Counter[str]()
        for each in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found[str(each.readlink()).partition(":")[0]] += 1
        return found

    def strange_lines(self) -> list[str]:
        """What its log has besides a line a request, and how many had none."""
        known = (LOG_LINE, LOG_CROWD)
        return [line for line in self._lines() if line and not any(each.fullmatch(line) for each in known)]

    def answered(self) -> Counter[tuple[str, str, int]]:
        """How often it has answered what, as its log has it, which may leave out some 429: method, path, status."""
        found = filter(None, map(LOG_LINE.fullmatch, self._lines()))
        return Counter((each["method"], each["path"], int(each["status"])) for each in found)

    def _lines(self) -> list[str]:
        return self._log.read_bytes().decode("utf-8", "replace").split("\n")

    def end(self) -> int:
        """Tell it to end; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def served(settings: Mapping[str, Any], plant: str | None = None) -> Iterator[Served]:
    """Start a service with such settings; kill it at the end, if it still runs."""
    with tempfile.TemporaryDirectory() as name:
        log = Path(name, "log")
        own = {"PHOTOLABEL_CACHE": f"{name}/cache", "PHOTOLABEL_OFFLINE": "1", "PHOTOLABEL_DEBUG": "1", "TMPDIR": name}
        command = [sys.executable, __file__, name, json.dumps(settings), *([plant] if plant else [])]
        with log.open("wb") as file:
            process = subprocess.Popen(command, env={**os.environ, **own}, stdout=subprocess.PIPE, stderr=file)
        assert process.stdout
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the service does not start: {log.read_text('utf-8', 'replace')}")
            yield Served(process, int(line), log)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _serve(folder: str, settings: str, plant: str | None = None) -> None:
    sys.path.insert(0, str(TESTS))
    import photolabel
    from photolabel.server import Settings, running

    import oracle

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line has it: SIGTERM is a good end
    network = Path(folder, f"{MODEL}.onnx")
    network.write_bytes(oracle.tiny_onnx())
    if plant is not None:
        made, planted = running.create_app, runpy.run_path(plant)["plant"]
        running.create_app = lambda *arguments, **named: planted(made(*arguments, **named))
    chosen = {name: tuple(each) if isinstance(each, list) else each for name, each in json.loads(settings).items()}
    with photolabel.load(network) as classifier:
        running.serve(
            {MODEL: classifier},
            port=0,
            settings=Settings(**chosen),
            listening=lambda url: print(url.rpartition(":")[2], flush=True),
        )


if __name__ == "__main__":
    _serve(*sys.argv[1:])
