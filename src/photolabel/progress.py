"""What a waiting person sees: a bar or one line, on a terminal only, on stderr only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def watched() -> bool:
    """Whether a person may be looking at stderr."""
    return sys.stderr is not None and sys.stderr.isatty()  # pythonw has no stderr


@contextmanager
def bar(title: str, *, total: int, unit: str = "B") -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar, moved by calling what is yielded with (done, total); only on a terminal.

    `unit` "B" counts bytes, as kB, MB, GB; anything else, say "photo", counts things.
    """
    if not watched():
        yield lambda done, total: None
        return
    from tqdm import tqdm

    with tqdm(desc=title, total=total, unit=unit, unit_scale=unit == "B", file=sys.stderr, leave=False) as shown:

        def move(done: int, total: int) -> None:
            shown.total = total
            if not shown.n and done:
                shown.initial = done  # what an earlier run fetched says nothing about this one's speed
            shown.update(done - shown.n)  # less than before when a download starts over

        yield move


@contextmanager
def status(text: str) -> Iterator[None]:
    """Show one line while something lasts ("compiling vgg16 for this processor, once ..."), then wipe it."""
    if not watched():
        yield
        return
    line = "".join(c if c.isprintable() else "?" for c in text)
    print(line, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        # \r and "erase to the end of the line": Windows' consoles know both since 2016
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
