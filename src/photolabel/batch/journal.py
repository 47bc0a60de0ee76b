"""What a run has found out so far, on the disk: one JSON line a photo, behind one that says what the run is.

`labels.csv` is written when all photos are done; until then `labels.csv.partial` beside it is the journal. Whenever
the process dies, what is in it is whole but for its last line, and the run goes on from there. Where even the first
line is not whole, nothing had been done yet.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import reprlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

from ..classifier import SCHEMA
from ..errors import BusyError, OutputError, StoreError, UsageError
from ..output import json_line
from ..records import SAFE, opened
from ..store import Store, cache_folder

_FORMAT = "photolabel-journal/1"
_SYNC = 5.0  # seconds of work that a power failure may cost
_MOST_LINE = 1 << 26  # bytes: a record of 1000 labels has some 120 kB
_START = f'{{"journal": "{_FORMAT}", "settings": '.encode("ascii")
_FLAGS = os.O_RDWR | os.O_APPEND | SAFE
_HELD = 100  # new photos, until one comes that is known
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}  # of a filesystem that knows no such thing


class _Photo(Protocol):
    """What there is a record of, or is not yet: an Item, or one whose class is known."""

    @property
    def photo(self) -> str: ...
    @property
    def held(self) -> int: ...


P = TypeVar("P", bound=_Photo)


def path_of(output: Path) -> Path:
    """Return where the journal of an output lies."""
    return output.with_name(f"{output.name}.partial")


class Journal:
    """The journal of one run, open to be added to. Use it in a `with` block.

    `settings` are what all of the run's records depend on, as plain values; `done` is how many photos it has.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, Any], *, descriptor: int, done: int, end: int, lock: ExitStack
    ) -> None:
        self.path, self.settings, self.done = path, settings, done
        self._descriptor, self._end, self._lock = descriptor, end, lock
        self._known = done  # of an earlier start
        self._synced = time.monotonic()

    @staticmethod
    def check(output: Path) -> None:
        """Raise `UsageError` where a run was stopped, or another file is in the journal's place.

        `begin` does so too; but it is better said before long work.
        """
        path = path_of(output)
        try:
            with opened(path) as descriptor:
                _check(path, descriptor)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _refused(path, error) from None

    @staticmethod
    def ended(output: Path) -> bool:
        """Whether the last run has ended: its output is there, and no journal."""
        return os.path.lexists(output) and not os.path.lexists(path_of(output))

    @classmethod
    def begin(cls, output: Path, settings: Mapping[str, Any]) -> Journal:
        """Begin a run. Raises `OutputError` where none can be, and what `check` raises; `BusyError` as `resume`."""
        path = path_of(output)
        with ExitStack() as stack:
            hold(output, stack)
            try:
                try:
                    descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666)
                    stack.callback(os.close, descriptor)
                except FileExistsError:
                    descriptor = stack.enter_context(_reopened(path))
                    _check(path, descriptor)
                    os.ftruncate(descriptor, 0)
            except OSError as error:
                raise _refused(path, error) from None
            made = cls(path, settings, descriptor=descriptor, done=0, end=0, lock=stack)
            try:
                made._write(json.dumps({"journal": _FORMAT, "settings": settings}).encode("ascii") + b"\n")
                made._sync()
            except OutputError:
                made.remove()
                raise
            made._lock = stack.pop_all()
            return made

    @classmethod
    def resume(cls, output: Path, seen: Callable[[Mapping[str, Any]], None]) -> Journal | None:
        """Go on with a run that was stopped; None where none has begun. `seen` is called with each record it has.

        A last line that is not whole is cut off, and so is all behind a line that is none of ours. Raises
        `UsageError` for a file that is no journal, `OutputError` where it cannot be written, `BusyError` where
        another process is at work on it.
        """
        path = path_of(output)
        with ExitStack() as stack:
            hold(output, stack)
            try:
                descriptor = stack.enter_context(_reopened(path))
            except FileNotFoundError:
                return None
            except OSError as error:
                raise _refused(path, error) from None
            lines = _lines(descriptor)
            head, end = next(lines, (b"", 0))
            if not head and _unbegun(descriptor):
                return None
            settings = _head(head)
            if settings is None:
                raise _no_journal(path)
            done = 0
            for line, after in lines:
                record = _record(line)
                if record is None:
                    break
                seen(record)
                done, end = done + 1, after
            try:
                os.ftruncate(descriptor, end)
            except OSError as error:
                raise _refused(path, error) from None
            return cls(path, settings, descriptor=descriptor, done=done, end=end, lock=stack.pop_all())

    def remaining(self, items: Iterable[P]) -> Iterator[P]:
        """Yield the items that have no record yet.

        They are expected as they were at the first start, and skipped one by one. Where a photo has come or gone since,
        those that have a record are known by their names, and a new one comes where the run stands.

        Raises `UsageError` where no photo that has a record is found any more: a disk may not be there, and the run
        shall not end as if the photos on it were done.
        """
        names = self._names()
        expected = next(names, None)
        missed: Counter[str] | None = None  # those done, from where the two differ
        unsure = expected is not None
        held: list[P] = []
        for item in items:
            if missed is None and expected is not None and item.photo != expected:
                missed = Counter([expected, *names])
            if missed is not None:
                if known := missed[item.photo] > 0:
                    missed[item.photo] -= 1
            else:
                known = expected is not None
                expected = next(names, None)
            if unsure and not known and not item.held and len(held) < _HELD:
                held.append(item)
                continue
            unsure = False
            yield from held
            held.clear()
            if not known:
                yield item
        if unsure:
            raise UsageError(
                f"{self.path}: none of the photos in it ({self._known:,}) is found any more. Is their disk there? To "
                "start anew, remove the file."
            )

    def _names(self) -> Iterator[str]:
        """The photos that have a record of an earlier start: `remaining` is through with them before it yields any."""
        for line in self._written():
            yield json.loads(line)["photo"]

    def lines(self) -> Iterator[bytes]:
        """Yield all records, as JSON lines. Raises `OutputError` where they are not all there any more."""
        number = 0
        for line in self._written():
            yield line
            number += 1
        if number != self.done:
            raise OutputError(
                f"{self.path}: was changed by another program: it has {number:,} records, not {self.done:,}. Go on: "
                "--resume."
            )

    def _written(self) -> Iterator[bytes]:
        try:
            with opened(self.path) as descriptor:
                if not os.path.sameopenfile(descriptor, self._descriptor):
                    raise OSError(errno.EINVAL, "was replaced by another program")
                lines = _lines(descriptor)
                next(lines, None)
                for line, _ in lines:
                    yield line
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be read: {error.strerror}.") from None

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a record. Raises `OutputError` where the disk is full, or the like: what is there stays good."""
        line = json_line(record).encode("ascii") + b"\n"
        if len(line) > _MOST_LINE:
            raise OutputError(f"{self.path}: cannot be written: a record of more than {_MOST_LINE:,} bytes.")
        try:
            self._write(line)
            self.done += 1
            if time.monotonic() - self._synced > _SYNC:
                self._sync()
        except OutputError as error:
            raise OutputError(f"{error} What is in it stays good; to go on: --resume.") from None

    def _write(self, data: bytes) -> None:
        """Write, all or nothing."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
            self._end += len(data)
        except BaseException as error:  # Ctrl-C between two pieces, too
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            if isinstance(error, OSError):
                raise _refused(self.path, error) from None
            raise

    def _sync(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:  # some filesystems say only now that they are full
            if error.errno not in _NO_SYNC:
                raise _refused(self.path, error) from None
        self._synced = time.monotonic()

    def remove(self) -> None:
        """Remove the journal: its output is written."""
        with suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """See what is written to the disk, and let others at it."""
        with suppress(OutputError):
            self._sync()
        self._lock.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pinned(given: Mapping[str, Any], began: object, *, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what a run goes on with: as it began, where nothing else is `given` (None, or an empty list).

    `defaults` are what None stands for: to say one is to say nothing else. Raises `UsageError` where something else is
    given: its records would not be like those that are there.
    """
    if not isinstance(began, Mapping):
        raise UsageError("the run that is to go on does not say how it began. Remove its file, to start anew.")
    for name, value in given.items():
        before = began.get(name)
        said = (defaults or {}).get(name) if before is None else before
        if value not in (None, []) and value != said:
            how = "without it" if before in (None, []) else f"with {_short(before)}, not {_short(value)}"
            raise UsageError(f"{name}: the run that is to go on began {how}.")
    return {name: began.get(name) for name in given}


def hold(output: Path, stack: ExitStack) -> None:
    """Keep other processes from writing to the same output, as far as the cache can keep a lock. Raises `BusyError`."""
    where = os.path.join(os.path.realpath(output.parent), output.name)  # noqa: PTH118  # a link is replaced itself
    name = hashlib.sha256(os.fsencode(where)).hexdigest()
    try:
        stack.enter_context(Store(cache_folder() / "runs").lock(name, wait=False))
    except BusyError:
        raise BusyError(f"{output}: another photolabel is writing it. Wait for it, or stop it.") from None
    except StoreError:  # no cache to be had: no reason not to write
        pass


@contextmanager
def _reopened(path: Path) -> Iterator[int]:
    """Open a file that is there, to read and to add to. Raises OSError."""
    with opened(path) as checked:  # a regular file, and no link
        descriptor = os.open(path, _FLAGS)
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


def _check(path: Path, descriptor: int) -> None:
    if _unbegun(descriptor):
        return
    if _head(next(_lines(descriptor), (b"", 0))[0]) is None:
        raise _no_journal(path)
    raise UsageError(f"{path} is of a run that was stopped. Go on with it: --resume. Or remove it, to start anew.")


def _unbegun(descriptor: int) -> bool:
    """Whether this is a part of a journal's first line; after a power failure it may end in NULs."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        line = file.readline(_MOST_LINE)
    os.lseek(descriptor, 0, os.SEEK_SET)
    if line.endswith(b"\n") or len(line) == _MOST_LINE:
        return False
    line = line.rstrip(b"\0")
    return line.startswith(_START) or _START.startswith(line)


def _head(line: bytes) -> dict[str, Any] | None:
    head = _json(line)
    settings = head.get("settings") if head.get("journal") == _FORMAT else None
    return settings if isinstance(settings, dict) else None


def _record(line: bytes) -> dict[str, Any] | None:
    record = _json(line)
    error, answer = record.get("error"), record.get("answer")
    told = answer if error is None else error  # one of the two, as `report` counts them
    whole = (
        line.endswith(b"}\n")  # blanks there would be copied into the output
        and record.get("schema") == SCHEMA
        and isinstance(record.get("photo"), str)
        and isinstance(record.get("labels"), list)
        and isinstance(told, dict)
        and isinstance(told.get("name" if error is None else "code"), str)
    )
    return record if whole else None


def _json(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _short(value: Any) -> str:
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = 100
    return shown.repr(value)


def _no_journal(path: Path) -> UsageError:
    return UsageError(f"{path}: is no journal of a run. Remove it, or write to another file.")


def _refused(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written: {error.strerror or 'the system does not say why'}.")
