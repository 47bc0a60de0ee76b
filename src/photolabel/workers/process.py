"""One process that prepares photos, and the two pipes to it, neither of which can keep us waiting for ever."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

_TICK = 0.1  # seconds between two looks whether somebody still waits
_DEATH = 2.0  # seconds that a killed process may take; one that waits for a disk may take for ever
_PIECE = 1 << 20  # bytes read at a time
_POSIX = os.name == "posix"

# Not -m: it would put the current folder, which may be one of photos from anywhere, before the libraries. The pipes are
# put aside first, so that nothing a library prints, when it is loaded or later, comes between the answers.
_PROGRAM = """
import os, sys
pipes = os.dup(0), os.dup(1)
nowhere = os.open(os.devnull, os.O_RDWR)
os.dup2(nowhere, 0)
os.dup2(nowhere, 1)
os.close(nowhere)
seconds, behind, *sys.path = sys.argv[1:]
if os.name == "posix":
    os.nice(int(behind))
from {package} import child
child.main(*pipes, float(seconds))
"""


class Process:
    """A process of `child`, which stands so far `behind` others (see nice(2)).

    Raises OSError, ValueError or TypeError where it cannot be started.
    """

    def __init__(self, seconds: float, behind: int = 0) -> None:
        options: dict[str, Any] = {}
        if _POSIX:
            options["process_group"] = 0  # Ctrl-C is for the parent: it decides what becomes of its workers
        else:
            options["creationflags"] = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        if getattr(sys, "frozen", False):  # a program made of us: it would start itself, and that one itself
            raise ValueError
        # The same names for the same files, whatever the environment says to a Python of its own.
        command = [sys.executable, "-P", "-X", f"utf8={sys.flags.utf8_mode}", "-c"]
        command += [_PROGRAM.format(package=__package__), str(seconds), str(behind), *_paths()]
        self._popen = subprocess.Popen(
            command,
            bufsize=0,
            env=_KEPT | os.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            **options,
        )
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._killed = threading.Event()
        self.questions = Pipe(self._popen.stdin, self._killed)
        self.answers = Pipe(self._popen.stdout, self._killed)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    @property
    def idle(self) -> bool:
        """Whether it runs, as far as is known, and says nothing that it was not asked."""
        return not self._killed.is_set() and self.answers.silent and (_POSIX or self._popen.poll() is None)

    def kill(self) -> None:
        """End it, and all that it has started; whoever waits for it comes back."""
        self._killed.set()
        with suppress(OSError):
            if sys.platform == "win32":
                self._popen.kill()
            elif self._popen.returncode is None:  # else its number may be another's by now
                os.killpg(self._popen.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it, and let go of it."""
        self.kill()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(_DEATH)
        self.questions.close()
        self.answers.close()
        with _lock:
            _left.append(self._popen)
            _left[:] = [each for each in _left if each.poll() is None]


# GNU's memory allocator told to keep what large photos need, up to so many bytes, instead of taking it anew for each, a
# page at a time: large progressive JPEGs take visibly less time so. Elsewhere nobody reads it.
_KEPT = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(256 << 20))

_left: list[subprocess.Popen[bytes]] = []  # which have not died yet of their kill
_lock = threading.Lock()


def _paths() -> list[str]:
    """Where a process finds what this one found: first of all the same photolabel.

    Not what is relative to the current folder, see above.
    """
    paths, root = [path for path in sys.path if Path(path).is_absolute()], str(Path(__file__).resolve().parents[2])
    return paths if root in paths else [root, *paths]


class Pipe:
    """Our end of a pipe, blocking but for `killed`.

    That the process is dead does not end a pipe: something that it started may hold the other end.
    """

    def __init__(self, file: IO[bytes], killed: threading.Event) -> None:
        self._file, self._killed = file, killed
        self._poll: select.poll | None = None
        if sys.platform != "win32":  # there pipes cannot be waited for: it is enough that nearly all end with a process
            os.set_blocking(file.fileno(), False)
            self._poll = select.poll()
            self._poll.register(file, select.POLLOUT if file.writable() else select.POLLIN)

    @property
    def silent(self) -> bool:
        """Whether there is nothing to read: neither bytes nor the end."""
        return self._poll is None or not self._poll.poll(0)

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, fewer at the end only. Raises OSError."""
        parts: list[bytes] = []
        while count > 0 and (part := self._some(count)):
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _some(self, count: int) -> bytes:
        while True:
            self._wait()
            with suppress(BlockingIOError):
                return os.read(self._file.fileno(), min(count, _PIECE))

    def write(self, data: bytes | memoryview) -> None:
        """Write all of it. Raises OSError."""
        left = memoryview(data)
        while left:
            self._wait()
            with suppress(BlockingIOError):
                left = left[os.write(self._file.fileno(), left[:_PIECE]) :]

    def flush(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        """Close our end."""
        with suppress(OSError):
            self._file.close()

    def _wait(self) -> None:
        while True:
            if self._killed.is_set():
                raise BrokenPipeError
            if self._poll is None or self._poll.poll(1000 * _TICK):
                return
