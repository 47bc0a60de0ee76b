"""Where a folder of output lies: here, or on an object store. Each file in it appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol

from .. import remote, writing
from ..errors import OutputError
from .journal import hold

_MOST = 1 << 30  # bytes of a file of ours: a thousand records of a thousand labels have some hundred million
_STRAY = ".photolabel-*.tmp"  # as `writing.whole` names what is not whole yet


class Place(Protocol):
    """A folder that is written to. What goes wrong is an `OutputError`."""

    def hold(self, stack: ExitStack) -> None:
        """Keep others from writing there, as far as that can be. Raises `BusyError`."""

    def names(self) -> Iterator[str]:
        """Yield what is in it; nothing where it is not there yet."""

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes; None where it is not there."""

    def write(self, name: str, data: bytes, *, new: bool = False) -> None:
        """Write a file, whole or not at all, in the place of an older one; if `new` there must be none."""


class Folder:
    """A folder on this machine, made when it is first written to."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def hold(self, stack: ExitStack) -> None:
        """See `Place`."""
        hold(self._path, stack)
        for stray in self._path.glob(_STRAY):  # of a run that was killed
            with suppress(OSError):
                stray.unlink()

    def names(self) -> Iterator[str]:
        """See `Place`."""
        try:
            with os.scandir(self._path) as entries:
                yield from (entry.name for entry in entries)
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"{self}: cannot be written to: {error.strerror}.") from None

    def read(self, name: str) -> bytes | None:
        """See `Place`."""
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(f"{self._path / name}: cannot be read: {error.strerror}.") from None

    def write(self, name: str, data: bytes, *, new: bool = False) -> None:
        """See `Place`."""
        path = self._path / name
        try:
            self._path.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self}: cannot be made: {error.strerror}.") from None
        with writing.whole(path) as file:  # of whoever comes new, `hold` has kept off all others
            file.write(data)


class Objects:
    """A folder of an object store; its URL ends in a slash. Raises `MissingExtraError`."""

    def __init__(self, url: str) -> None:
        remote.check(url)
        self._url = url if url.endswith("/") else f"{url}/"

    def __str__(self) -> str:
        return self._url

    def hold(self, stack: ExitStack) -> None:
        """Nobody is kept off: stores have no locks. Two runs at once write the same files."""

    def names(self) -> Iterator[str]:
        """See `Place`."""
        try:
            for url in remote.beneath(self._url):
                if name := url[len(self._url) :]:  # else it is how consoles mark a folder that is empty
                    yield name
        except remote.NoBucketError as error:
            raise OutputError(f"{self}: cannot be written to: {error.strerror}.") from None
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"{self}: cannot be written to: {error.strerror}.") from None

    def read(self, name: str) -> bytes | None:
        """See `Place`."""
        try:
            return remote.read(self._url + name, _MOST)
        except remote.NoBucketError as error:
            raise OutputError(f"{self}: cannot be written to: {error.strerror}.") from None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(f"{self}: cannot be written to: {error.strerror}.") from None

    def write(self, name: str, data: bytes, *, new: bool = False) -> None:
        """See `Place`."""
        try:
            remote.write(self._url + name, data, new=new)
        except FileExistsError:
            raise OutputError(f"{self}{name}: another run has begun there this moment.") from None
        except OSError as error:
            raise OutputError(f"{self}{name}: cannot be written: {error.strerror}.") from None
