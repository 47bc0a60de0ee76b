"""Standard input, output and error, any of which may be closed, full, or a pipe that nobody reads.

Output that cannot be written is an error; a message to standard error that cannot be is not.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from contextlib import suppress
from typing import BinaryIO, NoReturn, TextIO

from ..errors import OutputError
from ..output import printable

STDIN = "-"  # in place of a file


class ReaderGoneError(Exception):
    """Whoever read our output has seen enough (`| head`)."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: like Ctrl-C, somebody wants us to stop."""


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated


def prepare() -> None:
    """Make the streams safe to use, and SIGTERM end like Ctrl-C: once, before anything is opened."""
    with suppress(ValueError, AttributeError):  # not in the main thread; no such signal
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:  # it was closed: else the next file to be opened would become it
            with suppress(OSError):
                os.fstat(number)
                continue
            with suppress(OSError):
                opened = os.open(os.devnull, os.O_RDWR)
                if opened != number:
                    os.dup2(opened, number)
                    os.close(opened)
        elif number and isinstance(stream, io.TextIOWrapper):  # a name must not be able to break the output
            with suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print lines to standard output, at once. Raises `OutputError` or `ReaderGoneError`."""
    if sys.stdout is None:
        raise OutputError("the output cannot be written: standard output is closed")
    try:
        print(text, flush=True)
    except BrokenPipeError as error:
        _abandon(sys.stdout)
        raise ReaderGoneError from error
    except OSError as error:
        _abandon(sys.stdout)
        raise OutputError(f"the output cannot be written: {error.strerror}") from error


def complain(message: str) -> None:
    """Print one line to standard error, if anybody can be told."""
    if sys.stderr is None:  # print would take that for standard output
        return
    try:
        print(f"photolabel: {printable(message)}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _abandon(sys.stderr)


def standard_input() -> BinaryIO:
    """Return the bytes of standard input; where it is closed, a file that cannot be read."""
    return io.BufferedReader(_Closed()) if sys.stdin is None else sys.stdin.buffer


class _Closed(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        raise OSError(errno.EBADF, "standard input is closed")


def _abandon(stream: TextIO) -> None:
    """Let what is left in a stream's buffer go nowhere: at exit Python would fail to write it once more."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
