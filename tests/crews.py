"""Workers that misbehave as their photos' names say, and what a process holds."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from photolabel.workers import process

# Put into a worker's program. Of a photo `WORDS.png` the words before "-" say what happens when it is prepared; `once`
# that it does so the first time only. No braces: the program is a format.
HOOK = """
import signal, subprocess, time
real, reply = child.prepare, child.wire.reply
def spoil(photo):
    where, (*words, _) = os.path.dirname(photo), os.path.basename(photo).split("-")
    with open(photo + ".tries", "a") as tries:
        tries.write(str(os.getpid()) + chr(10))
    if "once" in words:
        try:
            os.close(os.open(photo + ".done", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    if "segv" in words:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "exit" in words:
        os._exit(0)
    if "raise" in words:
        raise MemoryError
    if "sleep" in words:
        time.sleep(600)
    if "stop" in words:
        os.kill(os.getpid(), signal.SIGSTOP)
    if "print" in words:
        print("from a library", flush=True)
        os.write(1, b"from C" * 10000)
        os.write(2, b"from C, as an error")
        subprocess.run([sys.executable, "-c", "print('from a program')"])
    if "heir" in words:  # it keeps the pipes, and is in no group of ours
        heir = os.fork()
        if not heir:
            os.setsid()
            with open(photo + ".heir", "w") as file:
                file.write(str(os.getpid()))
            time.sleep(600)
        while not os.path.exists(photo + ".heir"):
            time.sleep(0.01)
        os._exit(0)
    if "twice" in words:
        child.wire.reply = lambda stream, made: (reply(stream, made), reply(stream, made))
    if "garbage" in words:
        child.wire.reply = lambda stream, made: (stream.write(b"garbage" * 1000), stream.flush())
    if "drip" in words:
        def drip(stream, made):
            while True:
                stream.write(b"1")
                stream.flush()
                time.sleep(0.05)
        child.wire.reply = drip
def prepare(photo, *recipes, **options):
    if isinstance(photo, str) and "-" in os.path.basename(photo):
        spoil(photo)
    return real(photo, *recipes, **options)
child.prepare = prepare
"""


def hook(patch: pytest.MonkeyPatch, code: str = HOOK) -> None:
    assert "child.main" in process._PROGRAM
    patch.setattr(process, "_PROGRAM", process._PROGRAM.replace("child.main", code + "child.main"))


def eventually(true: Callable[[], object], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def children(pid: int | None = None) -> set[int]:
    """The processes that this one, or another, has started, zombies included."""
    found = set()
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            try:
                parent = (each / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if int(parent) == (pid or os.getpid()):
                found.add(int(each.name))
    return found


def runs(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def held() -> tuple[int, int, int]:
    """Descriptors, threads and processes."""
    return len([*Path("/proc/self/fd").iterdir()]), threading.active_count(), len(children())


def _each() -> set[Any]:
    """The same, each by itself: what others give back meanwhile makes up for nothing that is kept."""
    files: set[Any] = set()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists them
            files.add((each.name, str(each.readlink())))
    return {*files, *threading.enumerate(), *children()}


@contextmanager
def nothing_left(seconds: float = 10) -> Iterator[None]:
    """What is done inside gives back all that it takes, in so many seconds."""
    before = _each()
    yield
    assert eventually(lambda: not _each() - before, seconds), _each() - before
