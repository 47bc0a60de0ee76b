"""The program of a worker: photos come in on standard input, what becomes of them goes out on standard output."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from ..prepared import prepare
from . import wire


def main(seconds: float) -> None:
    """Answer until nobody asks any more.

    A photo that takes far longer than the parent waits ends the process: the parent, which should have done so, must
    be gone.
    """
    # The pipes for ourselves alone: whatever a library prints must not come between the answers.
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "r+b", buffering=0) as nowhere:  # noqa: PTH123  # of the system's own name
        os.dup2(nowhere.fileno(), 0)
        os.dup2(nowhere.fileno(), 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    alarm = getattr(signal, "alarm", lambda seconds: None)  # not on Windows
    with contextlib.suppress(BrokenPipeError, EOFError):
        wire.send(answers, {"ready": True})
        while True:
            item, recipe, limits = wire.question(questions)
            alarm(int(2 * seconds) + 10)
            made = prepare(item.file(limits), recipe, limits=limits, name=item.photo)
            wire.reply(answers, made)
            del item, made
            alarm(0)


if __name__ == "__main__":
    main(float(sys.argv[1]))
