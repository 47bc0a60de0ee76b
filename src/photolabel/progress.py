"""What a waiting person sees: a bar or one line, on a terminal only, on stderr only."""

from __future__ import annotations

import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NoReturn


def watched() -> bool:
    """Whether a person may be looking at stderr."""
    return sys.stderr is not None and sys.stderr.isatty()  # pythonw has no stderr


def _moves_cursor() -> bool:
    """Whether the terminal can wipe a line; Windows' consoles can since 2016 and set no TERM."""
    return os.environ.get("TERM", "" if os.name == "posix" else "console") not in ("", "dumb")


def _show(text: str) -> None:
    if sys.stderr is None:  # print would take that for standard output
        return
    with suppress(OSError, ValueError):  # the terminal has gone: nobody is looking
        print(text, end="", file=sys.stderr, flush=True)


@contextmanager
def bar(title: str, *, total: int, unit: str = "B") -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar, moved by calling what is yielded with (done, total); only on a terminal.

    It appears with the first call: what is done by then was done by an earlier run and says nothing about this one's
    speed. `unit` "B" counts bytes, as kB, MB, GB; anything else, say "photo", counts things.
    """
    if not watched():
        yield lambda done, total: None
        return
    if not _moves_cursor():
        with status(f"{title} ..."):
            yield lambda done, total: None
        return
    from tqdm import tqdm

    with ExitStack() as stack:
        shown: tqdm[NoReturn] | None = None

        def move(done: int, total: int) -> None:
            nonlocal shown
            if shown is None:
                scaled = unit == "B"
                made = tqdm(
                    desc=title, total=total, initial=done, unit=unit, unit_scale=scaled, file=sys.stderr, leave=False
                )
                shown = stack.enter_context(made)
            shown.total = total
            shown.update(done - shown.n)  # less than before when a download starts over

        yield move


@contextmanager
def status(text: str) -> Iterator[None]:
    """Show one line while something lasts ("compiling vgg16 for this processor, once ..."), then wipe it.

    A terminal that cannot wipe keeps the line.
    """
    if not watched():
        yield
        return
    line = "".join(c if c.isprintable() else "?" for c in text)
    if not _moves_cursor():
        _show(f"{line}\n")
        yield
        return
    _show(_fitting(line))
    try:
        yield
    finally:
        _show("\r\x1b[K")


class Watch:
    """How far a run over photos has come: a line that changes on a terminal, or now and then a line for a log.

    Use it in a `with` block. `kind` is "plain" for the log's lines, "none" for nothing, or "auto": on a terminal the
    line that changes, else nothing. `done` counts what an earlier start has done. `total` may be set when it is known.
    """

    def __init__(self, kind: str = "auto", *, done: int = 0) -> None:
        self.total: int | None = None
        self._done, self._earlier = done, done
        self._begun = time.monotonic()
        self.plain = kind == "plain" or (kind == "auto" and watched() and not _moves_cursor())
        self.shown = self.plain or (kind == "auto" and watched())
        self._said = self._begun if self.plain else -_EVERY
        self._visible = False

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.hide()

    def step(self, *, errors: int, last: str) -> None:
        """One more photo is done; `last` is what was said of it, harmless to a terminal."""
        self._done += 1
        now = time.monotonic()
        if not self.shown or now - self._said < (_EVERY if self.plain else _OFTEN):
            return
        self._said = now
        of = f" of {self.total:,}" if self.total else ""
        rate = (self._done - self._earlier) / max(now - self._begun, 1e-9)
        left = f", {duration((self.total - self._done) / rate)} left" if self.total else ""
        text = (
            f"{self._done:,}{of} {'photo' if self._done == 1 and not of else 'photos'}, {rate:.1f} a second{left}, "
            f"{errors:,} {'error' if errors == 1 else 'errors'}; {last}"
        )
        if self.plain:
            _show(f"photolabel: {text}\n")
        else:
            self._visible = True
            _show(f"\r{_fitting(text)}\x1b[K")

    def hide(self) -> None:
        """Make room for other lines; the next step shows it again."""
        if self._visible:
            self._visible = False
            self._said = -_EVERY
            _show("\r\x1b[K")


_EVERY = 10.0  # seconds between two lines of a log
_OFTEN = 0.1  # and between two changes of a line on a terminal


def _fitting(text: str) -> str:
    """Cut a line so that it fits the terminal: one that goes on in the next row could not be wiped."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError, AttributeError):  # no real one; none any more
        columns = 0
    room = (columns or 80) - 1
    for at, character in enumerate(text):
        room -= 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if room < 0:
            return text[:at]
    return text


def duration(seconds: float) -> str:
    """Return a time as people say it: "4 s", "3 min 20 s", "5 h 12 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"
