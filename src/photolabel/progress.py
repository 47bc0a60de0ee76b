"""What a waiting person sees: a bar or one line, on a terminal only, on stderr only."""

from __future__ import annotations

import os
import sys
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
    with suppress(OSError):  # the terminal has gone: nobody is looking
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
    _show(line)
    try:
        yield
    finally:
        _show("\r\x1b[K")
