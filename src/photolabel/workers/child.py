"""The program of a worker: photos come in by one pipe, what becomes of them goes out by the other."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time

from ..prepared import prepare
from . import wire

_TICK = 0.5  # seconds between two looks for the parent
_LONGEST = 1_000_000_000  # seconds, which a C int holds


def main(questions: int, answers: int, seconds: float) -> None:
    """Answer until nobody asks any more, or nobody is there to ask.

    The parent ends a worker whose photo takes more than `seconds`. A parent that was killed cannot: then a thread ends
    it, or, where a decoder lets no other thread run, a signal.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    if sys.platform != "win32":
        _dump_no_core()
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    alarm = getattr(signal, "alarm", lambda seconds: None)  # not on Windows
    with (
        os.fdopen(questions, "rb") as coming,
        os.fdopen(answers, "wb") as going,
        contextlib.suppress(BrokenPipeError, EOFError),
    ):
        wire.send(going, {})
        while True:
            item, recipes, limits = wire.question(coming)
            alarm(int(min(2 * seconds + 10, _LONGEST)))
            made = prepare(item.file(limits), *recipes, limits=limits)
            wire.reply(going, made)
            del item, made
            alarm(0)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_TICK)
    os._exit(1)


def _dump_no_core() -> None:
    """A decoder that a photo made crash shall not leave a file as large as its memory in the current folder."""
    import resource  # not on Windows

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
