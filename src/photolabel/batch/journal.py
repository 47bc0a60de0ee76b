"""What a run has found out so far, on the disk: one JSON line a photo, behind one that says what the run is.

`labels.csv` is written when all photos are done; until then `labels.csv.partial` beside it is the journal. Whenever
the process dies, what is in it is whole but for its last line, and the run goes on from there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import BusyError, OutputError, StoreError, UsageError
from ..output import json_line
from ..records import SAFE, opened
from ..sources import Item
from ..store import Store, cache_folder

_FORMAT = "photolabel-journal/1"
_SYNC = 5.0  # seconds of work that a power failure may cost
_MOST_LINE = 1 << 24  # bytes: a record of 1000 labels has some 120 kB


def path_of(output: Path) -> Path:
    """Return where the journal of an output lies."""
    return output.with_name(f"{output.name}.partial")


class Journal:
    """The journal of one run, open to be added to. Use it in a `with` block.

    `settings` are what all of the run's records depend on, as plain values; `done` is how many photos it has.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, descriptor: int, done: int, lock: ExitStack) -> None:
        self.path, self.settings, self.done = path, settings, done
        self._descriptor, self._lock = descriptor, lock
        self._known = done  # of an earlier start
        self._synced = time.monotonic()

    @classmethod
    def begin(cls, output: Path, settings: Mapping[str, Any]) -> Journal:
        """Begin a run. Raises `UsageError` where there is one that was stopped, `OutputError` where none can be."""
        path = path_of(output)
        with ExitStack() as stack:
            _hold(output, stack)
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | SAFE, 0o666)
            except FileExistsError:
                raise UsageError(
                    f"{path} is of a run that was stopped. Go on with it: --resume. Or remove it, to start anew."
                ) from None
            except (OSError, ValueError) as error:
                raise _refused(path, error) from None
            stack.callback(os.close, descriptor)
            made = cls(path, settings, descriptor=descriptor, done=0, lock=stack.pop_all())
            made._write(json.dumps({"journal": _FORMAT, "settings": settings}).encode("ascii") + b"\n")
            return made

    @classmethod
    def resume(cls, output: Path, seen: Callable[[Mapping[str, Any]], None]) -> Journal | None:
        """Go on with a run that was stopped; None where there is none. `seen` is called with each record it has.

        A last line that is not whole is cut off, and so is all behind a line that is none of ours. Raises
        `UsageError` for a file that is no journal, `OutputError` where it cannot be written, `BusyError` where
        another process is at work on it.
        """
        path = path_of(output)
        with ExitStack() as stack:
            _hold(output, stack)
            try:
                descriptor = stack.enter_context(_reopened(path))
            except FileNotFoundError:
                return None
            except (OSError, ValueError) as error:
                raise _refused(path, error) from None
            lines = _lines(descriptor)
            head, end = next(lines, (b"", 0))
            settings = _head(head)
            if settings is None:
                raise UsageError(f"{path}: is no journal of a run. Remove it, or write to another file.")
            done = 0
            for line, after in lines:
                record = _record(line)
                if record is None:
                    break
                seen(record)
                done, end = done + 1, after
            try:
                os.ftruncate(descriptor, end)
                os.lseek(descriptor, end, os.SEEK_SET)
            except OSError as error:
                raise _refused(path, error) from None
            return cls(path, settings, descriptor=descriptor, done=done, lock=stack.pop_all())

    def remaining(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items that have no record yet.

        They are expected as they were at the first start, and skipped one by one. Where a photo has come or gone since,
        those that have a record are known by their names, and a new one comes where the run stands.
        """
        names = self._names()
        expected = next(names, None)
        missed: Counter[str] | None = None  # those done, from where the two differ
        for item in items:
            if missed is None and expected is not None and item.photo != expected:
                missed = Counter([expected, *names])
            if missed is not None:
                if missed[item.photo] > 0:
                    missed[item.photo] -= 1
                    continue
            elif expected is not None:
                expected = next(names, None)
                continue
            yield item

    def _names(self) -> Iterator[str]:
        """The photos that have a record of an earlier start."""
        for number, line in enumerate(self.lines()):
            if number == self._known:
                return
            yield json.loads(line)["photo"]

    def lines(self) -> Iterator[bytes]:
        """Yield all records, as JSON lines. The journal may be added to meanwhile."""
        with opened(self.path) as descriptor:
            lines = _lines(descriptor)
            next(lines)
            for line, _ in lines:
                yield line

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a record. Raises `OutputError` where the disk is full, or the like: what is there stays good."""
        self._write(json_line(record).encode("ascii") + b"\n")
        self.done += 1
        if time.monotonic() - self._synced > _SYNC:
            self._sync()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise _refused(self.path, error) from None

    def _sync(self) -> None:
        with suppress(OSError):  # a filesystem that knows no such thing
            os.fsync(self._descriptor)
        self._synced = time.monotonic()

    def remove(self) -> None:
        """Remove the journal: its output is written."""
        with suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """See what is written to the disk, and let others at it."""
        self._sync()
        self._lock.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pinned(given: Mapping[str, Any], began: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run goes on with: as it began, where nothing else is `given` (None, or an empty list).

    Raises `UsageError` where something else is: its records would not be like those that are there.
    """
    for name, value in given.items():
        before = began.get(name)
        if value not in (None, []) and value != before:
            how = "without it" if before in (None, []) else f"with {before!r}, not {value!r}"
            raise UsageError(f"{name}: the run that is to go on began {how}.")
    return {name: began.get(name) for name in given}


def _hold(output: Path, stack: ExitStack) -> None:
    """Keep other processes from writing to the same output, as far as the cache can keep a lock."""
    name = hashlib.sha256(os.fsencode(os.path.abspath(output))).hexdigest()  # noqa: PTH100  # links are not followed
    try:
        stack.enter_context(Store(cache_folder() / "runs").lock(name, wait=False))
    except BusyError:
        raise BusyError(f"{output}: another photolabel is writing it. Wait for it, or stop it.") from None
    except StoreError:  # no cache to be had: no reason not to write
        pass


@contextmanager
def _reopened(path: Path) -> Iterator[int]:
    """Open a journal that is there, to read and to write. Raises OSError."""
    with opened(path) as checked:  # a regular file, and no link
        descriptor = os.open(path, os.O_RDWR | SAFE)
        try:
            if not os.path.sameopenfile(checked, descriptor):
                raise OSError(errno.EINVAL, "was replaced while it was being opened")
            yield descriptor
        finally:
            os.close(descriptor)


def _lines(descriptor: int) -> Iterator[tuple[bytes, int]]:
    """Each whole line from the beginning on, with its newline, and where it ends."""
    position = 0
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        while (line := file.readline(_MOST_LINE)).endswith(b"\n"):
            position += len(line)
            yield line, position


def _head(line: bytes) -> dict[str, Any] | None:
    head = _json(line)
    settings = head.get("settings") if head.get("journal") == _FORMAT else None
    return settings if isinstance(settings, dict) else None


def _record(line: bytes) -> dict[str, Any] | None:
    record = _json(line)
    whole = isinstance(record.get("photo"), str) and ("error" in record) and isinstance(record.get("labels"), list)
    return record if whole else None


def _json(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _refused(path: Path, error: OSError | ValueError) -> OutputError:
    why = error.strerror if isinstance(error, OSError) else "no such path can be"
    return OutputError(f"{path}: cannot be written: {why or 'the system does not say why'}.")
