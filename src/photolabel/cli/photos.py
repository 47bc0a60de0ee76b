"""The photos that the command line asks for."""

from __future__ import annotations

import argparse
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING

from .. import images, remote, sources
from ..errors import DownloadError, PhotoError, UsageError
from ..progress import Watch
from .streams import STDIN, standard_input

if TYPE_CHECKING:
    from PIL import Image

    from ..images import Limits
    from ..sources import Item

# In the words of `sources.find`, and for people.
_LEFT_OUT = {
    "other": "files that are no photos",
    "hidden": "what is hidden",
    "excluded": "what --include and --exclude leave out",
    "archive": "archives, which are read when they are named",
    "link": "links in archives",
    "seen": "links to folders that are there already",
}

_SMALL = 640  # pixels of the shorter side are enough for a page


class Found:
    """The photos that the command line asks for, in their order.

    `alone` is whether it is one photo, named itself: then nothing is gained by other processes.
    """

    def __init__(self, args: argparse.Namespace, limits: Limits) -> None:
        self._args, self._limits = args, limits
        self._passed: Counter[str] = Counter()
        self.items = self._find(self._passed)
        self.alone = False
        if len(args.photos) == 1 and not args.lists:  # a list may be slow to come: it is not waited for
            first = [] if args.photos == [STDIN] else list(islice(self.items, 2))
            self.alone = args.photos == [STDIN] or [each.photo for each in first] == args.photos
            self.items = chain(first, self.items)

    def count(self, watch: Watch) -> None:
        """Have the watch told how many there are, when somebody has counted them; not where they come only once."""
        lists = self._args.lists
        # A list that is a pipe, as of <(find ...), would lose to the counting what it has for the run.
        if watch.shown and STDIN not in (*self._args.photos, *lists) and all(map(os.path.isfile, lists)):
            threading.Thread(target=self._count, args=(watch,), daemon=True).start()

    def _count(self, watch: Watch) -> None:
        watch.total = sum(1 for _ in self._find(Counter()))

    def _find(self, passed: Counter[str]) -> Iterator[Item]:
        args = self._args
        return sources.find(
            self._sources(), include=args.include, exclude=args.exclude, left_out=passed, limits=self._limits
        )

    def _sources(self) -> Iterator[str | Item]:
        for name in self._args.photos:
            yield self._from_stdin() if name == STDIN else name
        for name in self._args.lists:
            if name == STDIN:
                yield from sources.listed(standard_input(), name="standard input")
                continue
            if remote.is_url(name) and not os.path.lexists(name):
                yield from self._from_url(name)
                continue
            try:
                file = open(name, "rb")  # noqa: PTH123, SIM115  # pathlib takes an empty name for this folder
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "no such name can be"
                raise UsageError(f"--from {name}: the list cannot be read: {reason}.") from None
            with file:
                yield from sources.listed(file, name=name)

    def _from_url(self, url: str) -> Iterator[str | Item]:
        try:
            with remote.opened(url) as stream:
                for source in sources.listed(stream, name=url):
                    if isinstance(source, sources.Item) and source.photo == url:  # it broke off: it may not, next time
                        raise DownloadError(f"--from {url}: {source.error}")
                    yield source
        except OSError as error:
            raise UsageError(f"--from {url}: the list cannot be read: {error.strerror}.") from None

    def _from_stdin(self) -> Item:
        try:
            return sources.Item(photo=STDIN, data=images.content(standard_input(), self._limits))
        except PhotoError as error:
            return sources.Item(photo=STDIN, error=error)

    @property
    def left_out(self) -> str:
        """What was passed over, in words."""
        told = (f"{_LEFT_OUT[kind]} ({count})" for kind, count in self._passed.items())
        return "; left out: " + ", ".join(told) if self._passed else ""


@contextmanager
def telling(photo: str) -> Iterator[None]:
    """Have what is wrong with the only photo say which one that is, as it is said of one among many."""
    try:
        yield
    except PhotoError as error:
        raise type(error)(f"{photo}: {error}") from None


def small(item: Item, limits: Limits) -> Image.Image | None:
    """Return an upright picture of a photo, no larger than a page needs it; None for one that is gone or broken."""
    from .. import decoding

    try:
        return images.upright(decoding.decode(item.read(limits), limits, enough=_SMALL))
    except PhotoError:
        return None


def is_named(args: argparse.Namespace, photo: str) -> bool:
    """Whether a photo is the only thing that the user named."""
    return args.photos == [photo] and not args.lists and not os.path.isdir(photo)  # noqa: PTH112
