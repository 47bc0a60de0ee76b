"""The undo journal: what each run did to which sidecar, on the disk before it is done.

A run is one file of JSON lines in the cache's folder `undo/`, and lies there until it is undone or twenty newer ones
have come. A line that a killed process left unfinished stands for a change that was not begun.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import BusyError, CacheUnwritableError, SidecarError
from ..records import SAFE
from ..store import Store, cache_folder
from .xmp import LISTS, Edit, Merge

KEPT = 20  # runs
_SUFFIX = ".jsonl"
_RUN = re.compile(r"[0-9]{8}T[0-9]{12}-[0-9a-f]{8}")
_TEMPORARY = re.compile(r"\.photolabel-[0-9a-f]{16}\.tmp")
_DIGEST = re.compile("[0-9a-f]{64}")
_MOST_BYTES = 2**20  # of a line: one has some hundred


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change to one sidecar."""

    path: str  # absolute
    temporary: str  # the name, beside it, of the file that becomes it
    before: str | None  # SHA-256 of the former bytes; None: it was not there
    after: str
    merged: Merge = field(default_factory=Merge)

    def line(self) -> bytes:
        """Return the entry as a line of the journal."""
        edits = [
            [x.start, base64.b64encode(x.old).decode(), base64.b64encode(x.new).decode()] for x in self.merged.edits
        ]
        merged = {**asdict(self.merged), "edits": edits}
        # Pure ASCII: a path that is no UTF-8 is lone surrogates in a str, and escapes here.
        return json.dumps({**vars(self), "merged": merged}).encode("ascii") + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Entry:
        """Read a line. Raises ValueError for anything but what `line` writes."""
        try:
            data = json.loads(line)
            merged = data["merged"]
            entry = cls(
                **{
                    **data,
                    "merged": Merge(
                        edits=tuple(
                            Edit(start, base64.b64decode(old), base64.b64decode(new))
                            for start, old, new in merged["edits"]
                        ),
                        added={name: tuple(values) for name, values in merged["added"].items()},
                        repeated=tuple(merged["repeated"]),
                        made=tuple(merged["made"]),
                    ),
                }
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError("not an entry") from error
        if not entry._sound():
            raise ValueError("not an entry")
        return entry

    def _sound(self) -> bool:
        """Whether this is about a sidecar and nothing else: undo removes files on its word."""
        merged = self.merged
        strings = [self.path, self.temporary, self.after, "" if self.before is None else self.before]
        strings += [*merged.repeated, *merged.made, *(value for values in merged.added.values() for value in values)]
        return (
            all(isinstance(x, str) for x in strings)
            and Path(self.path).is_absolute()
            and self.path.endswith(".xmp")
            and "\0" not in self.path
            and _TEMPORARY.fullmatch(self.temporary) is not None
            and _DIGEST.fullmatch(self.after) is not None
            and (self.before is None or _DIGEST.fullmatch(self.before) is not None)
            and set(merged.added) <= {each.name for each in LISTS}
            and all(isinstance(x.start, int) and x.start >= 0 for x in merged.edits)
        )


def new_temporary() -> str:
    """Return a name for a file that nobody else writes."""
    return f".photolabel-{secrets.token_hex(8)}.tmp"


def store() -> Store:
    """Return the folder of the journals."""
    return Store(cache_folder() / "undo")


def at_work() -> AbstractContextManager[str]:
    """Hold all sidecars: from reading one to having replaced it nobody else of us changes any."""
    return store().lock("writing")


def runs() -> list[str]:
    """Return the runs that can be undone, the oldest first."""
    try:
        names = [path.name for path in store().folder.iterdir()]
    except OSError:  # none yet
        return []
    return sorted(
        name.removesuffix(_SUFFIX)
        for name in names
        if name.endswith(_SUFFIX) and _RUN.fullmatch(name.removesuffix(_SUFFIX))
    )


def _path(run: str) -> Path:
    return store().path(run + _SUFFIX)


def read(run: str) -> Iterator[Entry | None]:
    """Yield what a run did, the newest first; None for a line that makes no sense."""
    try:
        with _path(run).open("rb") as file:
            lines, at = [], 0
            while line := file.readline(_MOST_BYTES):
                if line.endswith(b"\n"):
                    lines.append((at, len(line)))
                at = file.tell()  # what has no end was cut short, before its change, or is longer than ours are
            for start, length in reversed(lines):
                file.seek(start)
                try:
                    yield Entry.parse(file.read(length))
                except ValueError:
                    yield None
    except OSError as error:
        raise CacheUnwritableError(f"the undo journal {_path(run)} cannot be read ({error.strerror}).") from None


def last() -> Entry | None:
    """Return the last entry of the last run: a killed process may have left its temporary file."""
    with suppress(OSError, ValueError):
        for run in runs()[-1:]:
            with _path(run).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 2 * _MOST_BYTES))
                return Entry.parse(file.read().rpartition(b"\n")[0].rpartition(b"\n")[2])
    return None


def held(run: str) -> AbstractContextManager[str]:
    """Hold a run's journal. Raises `BusyError` while another process does: the run goes on, or is being undone."""
    return store().lock(run, wait=False)


def forget(run: str) -> None:
    """Remove a run's journal."""
    with _explained():
        _path(run).unlink(missing_ok=True)
    with suppress(OSError):  # its lock's file; Windows keeps it while we hold it
        _path(run).with_name(f"{run}.lock").unlink(missing_ok=True)


class Journal:
    """The journal of a run that goes on. No file is made before the first entry."""

    def __init__(self) -> None:
        now = time.time_ns() // 1000
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 10**6)) + f"{now % 10**6:06}"
        self.run = f"{stamp}-{secrets.token_hex(4)}"
        self._descriptor: int | None = None
        self._size = 0
        self._held: AbstractContextManager[str] | None = None

    @property
    def begun(self) -> bool:
        """Whether there is an entry."""
        return self._descriptor is not None

    def add(self, entry: Entry) -> None:
        """Put an entry on the disk."""
        line = entry.line()
        if len(line) > _MOST_BYTES:
            raise SidecarError(f"{entry.path}: has too many keywords to be merged. It is left as it is")
        with _explained():
            if self._descriptor is None:
                self._descriptor = self._begin()
            try:
                if os.write(self._descriptor, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._descriptor)
            except OSError:
                os.ftruncate(self._descriptor, self._size)  # or the next entry would be a part of a broken line
                raise
            self._size += len(line)

    def _begin(self) -> int:
        for run in runs()[: 1 - KEPT]:
            with suppress(BusyError), held(run):
                forget(run)
        self._held = held(self.run)
        self._held.__enter__()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | SAFE
        descriptor = os.open(_path(self.run), flags, 0o600)
        sync_folder(store().folder)
        return descriptor

    def close(self) -> None:
        """Let others undo the run."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._held is not None:
            self._held.__exit__(None, None, None)
            self._held = None


def sync_folder(folder: Path) -> None:
    """Put a folder's list of names on the disk, where the system can."""
    with suppress(OSError):  # Windows opens no folders
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CacheUnwritableError(
            f"the undo journal in {store().folder} cannot be written ({error.strerror}), so no sidecar is changed. "
            "Set PHOTOLABEL_CACHE to a folder that can"
        ) from None
