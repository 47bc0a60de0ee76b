"""Records -> XMP sidecar files beside the photos, with dry run and undo.

`IMG.jpg` has its keywords in `IMG.jpg.xmp`. One that is there is merged with, never overwritten; see `xmp`. The photo
itself, and an `IMG.xmp` beside it, are never touched. A file is replaced whole or not at all, and only if it is
still what was read::

    with sidecars.Writer() as writer:
        for prediction in classifier.classify_many(photos):
            writer.write(prediction.record())
    sidecars.undo()
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from ..errors import OutputError, SidecarError, UsageError
from ..records import CHUNK, SAFE, opened
from . import journal, xmp
from .journal import Entry, Journal, runs
from .keywords import MOST, THRESHOLD, Keyword, of_record

__all__ = [
    "THRESHOLD", "Change", "Journal", "Keyword", "Undone", "Writer",
    "apply", "of_record", "plan", "runs", "sidecar_of", "undo",
]  # fmt: skip


def sidecar_of(photo: str | os.PathLike[str]) -> Path:
    """Return where a photo's sidecar is: its whole name, and `.xmp`."""
    path = Path(photo)
    return path.with_name(path.name + ".xmp")


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is to be done to one sidecar."""

    sidecar: Path
    keywords: tuple[Keyword, ...]  # those that it lacks
    former: bytes | None  # what is there; None: nothing is
    merged: xmp.Merge

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.merged.edits)

    def __str__(self) -> str:
        new = "" if self.former is not None else " new,"
        return f"{self.sidecar}:{new} + {', '.join(keyword.name for keyword in self.keywords)}"

    def content(self) -> bytes:
        """Return what the sidecar becomes."""
        return xmp.edited(xmp.EMPTY if self.former is None else self.former, self.merged.edits)


def plan(photo: str | os.PathLike[str], keywords: Iterable[Keyword]) -> Change:
    """Return what adding the keywords to a photo's sidecar would change. Writes nothing.

    Raises `SidecarError` for a sidecar that cannot be merged with, `OutputError` for one that cannot be read.
    """
    wanted = tuple(dict.fromkeys(keywords))
    if len(wanted) > MOST:
        raise UsageError(f"a photo gets at most {MOST} keywords, got {len(wanted)}.")
    sidecar = sidecar_of(photo)
    former = _read(sidecar)
    try:
        merged = xmp.merge(xmp.EMPTY if former is None else former, wanted)
    except SidecarError as error:
        raise SidecarError(f"{sidecar}: {error} It is left as it is") from None
    lacking = tuple(k for k in wanted if any(each.entry(k) in merged.added.get(each.name, ()) for each in xmp.LISTS))
    return Change(sidecar=sidecar, keywords=lacking, former=former, merged=merged)


def apply(change: Change, to: Journal) -> None:
    """Do what is planned. Raises `SidecarError` if the sidecar is not what it was, `OutputError` if it cannot be done.

    The journal has the entry before anything is done: whenever the process dies, undo finds what there is to undo.
    """
    sidecar, content = change.sidecar, change.content()
    with journal.at_work():
        if _read(sidecar) != change.former:
            raise SidecarError(f"{sidecar}: changed by another program just now. Run again")
        entry = Entry(
            path=str(Path(os.path.abspath(sidecar))),  # noqa: PTH100  # `resolve` follows links, and a journal names what is there
            temporary=journal.new_temporary(),
            before=None if change.former is None else _digest(change.former),
            after=_digest(content),
            merged=change.merged,
        )
        to.add(entry)
        _replace(sidecar, content, temporary=entry.temporary, new=change.former is None)


class Writer:
    """Writes the sidecars of one run. Use it in a `with` block; each run is undone by itself.

    With `dry_run` it only plans. `threshold`: the least probability of an answer that becomes a keyword. `under`: the
    names above every keyword in the tree of keywords.
    """

    def __init__(
        self, *, threshold: float = THRESHOLD, under: Sequence[str] | None = None, dry_run: bool = False
    ) -> None:
        if not 0 <= threshold <= 1:
            raise UsageError(f"the threshold is a probability from 0 to 1, got {threshold}.")
        self._threshold, self._under, self._dry_run = threshold, under, dry_run
        self._journal = Journal()

    @property
    def run(self) -> str:
        """What `undo` knows the run by."""
        return self._journal.run

    def write(self, record: Mapping[str, Any]) -> Change | None:
        """Give a photo's sidecar the keywords of its record; return the change, None if there is none.

        None also for a photo with an error, without a file (standard input), or with an answer below the threshold.
        Raises `OutputError`, which is about this sidecar alone; the next can be written.
        """
        photo = record["photo"]
        if photo is None or photo == "-":
            return None
        wanted = of_record(record, threshold=self._threshold, under=self._under)
        if not wanted or not (change := plan(photo, wanted)):
            return None
        if not self._dry_run:
            if not self._journal.begun and (last := journal.last()):
                with journal.at_work():
                    _sweep(Path(last.path).with_name(last.temporary))
            apply(change, self._journal)
        return change

    def close(self) -> None:
        """End the run."""
        self._journal.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# -- undo

Outcome = Literal["deleted", "restored", "as it was", "keywords removed", "gone", "left", "failed"]


@dataclass(frozen=True, kw_only=True)
class Undone:
    """What undo did, or would do, to one sidecar."""

    sidecar: Path
    outcome: Outcome
    why: str = ""

    def __str__(self) -> str:
        return f"{self.sidecar}: {self.outcome}{f' ({self.why})' if self.why else ''}"


def undo(run: str | None = None, *, dry_run: bool = False) -> list[Undone]:
    """Undo a run, by default the last; return what became of each sidecar, the last written first.

    One that is still what the run made of it becomes what it was, byte for byte, or goes if it was not there. One
    that has changed since loses our keywords and keeps all else. What cannot be so is left; what the system forbids
    is "failed", and then the run can be undone again. Raises `UsageError` if there is no such run, and `BusyError`
    while it goes on.
    """
    known = runs()
    if run is None:
        if not known:
            return []
        run = known[-1]
    if run not in known:
        raise UsageError(f"no run {run[:80]!r} to undo. See: photolabel undo --list")
    with journal.held(run):
        done = []
        for entry in journal.read(run):
            if entry is None:
                done.append(Undone(sidecar=Path("?"), outcome="left", why="its line in the journal is damaged"))
                continue
            with journal.at_work():
                done.append(_undo(entry, dry_run=dry_run))
        if not dry_run and not any(each.outcome == "failed" for each in done):
            journal.forget(run)
    return done


def _undo(entry: Entry, *, dry_run: bool) -> Undone:
    path = Path(entry.path)
    try:
        if not dry_run:
            _sweep(path.with_name(entry.temporary))
        current = _read(path)
        outcome, content = _former(entry, current)
        if content != current and not dry_run:
            if content is None:
                path.unlink()
                journal.sync_folder(path.parent)
            else:
                _replace(path, content, temporary=entry.temporary, new=False)
    except SidecarError as error:
        return Undone(sidecar=path, outcome="left", why=str(error).removeprefix(f"{path}: "))
    except OutputError as error:
        return Undone(sidecar=path, outcome="failed", why=str(error).removeprefix(f"{path}: "))
    except OSError as error:
        return Undone(sidecar=path, outcome="failed", why=error.strerror or "cannot be removed")
    return Undone(sidecar=path, outcome=outcome, why="changed since" if outcome == "keywords removed" else "")


def _former(entry: Entry, current: bytes | None) -> tuple[Outcome, bytes | None]:
    """What is to become of a sidecar, and its bytes then. Raises `SidecarError`."""
    if current is None:
        return ("as it was" if entry.before is None else "gone"), None
    digest = _digest(current)
    if digest == entry.before:
        return "as it was", current
    if digest == entry.after:
        if entry.before is None:
            return "deleted", None
        former = xmp.edited(current, xmp.reversed_edits(entry.merged.edits))
        if _digest(former) != entry.before:
            raise SidecarError("its line in the journal is damaged.")
        return "restored", former
    edits = xmp.without(current, entry.merged)
    return ("keywords removed" if edits else "as it was"), xmp.edited(current, edits)


# -- files


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> bytes | None:
    """Return a sidecar's bytes, None if there is none. A link is not followed: what it leads to is somebody else's."""
    try:
        if path.is_symlink():
            raise SidecarError(f"{path}: is a link, and no file behind a link is changed. It is left as it is")
        with opened(path) as descriptor:
            if os.fstat(descriptor).st_size > xmp.MAX_BYTES:
                raise SidecarError(
                    f"{path}: too large to be merged: at most {xmp.MAX_BYTES:,} bytes are read. It is left as it is"
                )
            parts = []
            while data := os.read(descriptor, CHUNK):
                parts.append(data)
            return b"".join(parts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ValueError: a name that no system takes
        raise OutputError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'no such file can be'}"
        ) from None


def _replace(path: Path, content: bytes, *, temporary: str, new: bool) -> None:
    """Write a sidecar whole or not at all. One that is there keeps its mode and owner; a new one replaces nothing."""
    beside = path.with_name(temporary)
    try:
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, 0o666 if new else 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                if not new:
                    _like(path, beside)
                os.fsync(descriptor)
            if new:
                _first(beside, path)
            else:
                beside.replace(path)
            journal.sync_folder(path.parent)
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
    except FileExistsError:
        raise SidecarError(f"{path}: made by another program just now. Run again") from None
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from None


def _like(path: Path, beside: Path) -> None:
    """Give the new file the old one's owner, mode and extended attributes, as far as the system lets us."""
    status = path.stat()
    with suppress(OSError, AttributeError):  # Windows has no chown; a stranger's file cannot be given back to them
        os.chown(beside, status.st_uid, status.st_gid)
    with suppress(OSError):
        shutil.copystat(path, beside)
    os.utime(beside)  # programs look at the time for what is new


def _first(beside: Path, path: Path) -> None:
    """Give a file its name if nobody has it. Raises FileExistsError."""
    try:
        os.link(beside, path)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # a filesystem without hard links, as on memory cards
        if os.path.lexists(path):
            raise FileExistsError from None
        beside.replace(path)


def _sweep(beside: Path) -> None:
    """Remove what a killed process left; we hold the lock, so no living one is writing it."""
    with suppress(OSError), opened(beside):
        beside.unlink()
