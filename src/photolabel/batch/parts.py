"""A run whose records go into a folder: Parquet files of so many photos each, beside a manifest of what run it is.

Each file is written when its photos are done, and appears whole. Its name says which photos of which run it holds:
their place in the order, and a digest of the run's settings and of their names. So whatever dies, what is there is
finished, and to go on is to skip it; who does a file's photos once more, writes the same file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from .. import remote
from ..errors import OutputError, UsageError
from ..output import json_line, parquet
from .journal import P
from .places import Place

MANIFEST = "_photolabel.json"
PHOTOS = 1000  # of a file: some 100 kB, and no more than a minute's work of one machine
_FORMAT = "photolabel-parts/1"
_NAME = re.compile(r"part-([0-9]{8,12})-([0-9a-f]{32})\.parquet", re.ASCII)
_NOTES = "photolabel"
_WRITERS, _UNWRITTEN = 4, 8  # files at once, and those that may wait: an object store takes its time for each


@dataclass
class _Part:
    """Some photos that follow each other, from `first` on; `digest` is of their names."""

    number: int
    first: int
    digest: Any
    count: int = 0

    def see(self, photo: str) -> None:
        """Take note of the next photo."""
        name = photo.encode("utf-8", "surrogatepass")
        self.digest.update(len(name).to_bytes(8, "little") + name)
        self.count += 1

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"part-{self.number:08}-{self.digest.hexdigest()[:32]}.parquet"


@dataclass(frozen=True)
class _Kept:
    """A file that is there already: there may be many."""

    name: str
    photos: int


class Parts:
    """The folder of one run, open to be added to. Use it in a `with` block.

    `settings` are what all of the run's records depend on, as plain values.
    """

    def __init__(self, place: Place, settings: Mapping[str, Any], *, photos: int, lock: ExitStack) -> None:
        self.path, self.settings = place, settings
        self._done = 0
        self._photos, self._lock = photos, lock
        self._key = hashlib.sha256(json.dumps([settings, photos], sort_keys=True).encode("ascii")).digest()
        self._kept: dict[int, _Kept] = {}
        self._ours: set[str] = set()  # the files that are there, or being written
        self._open: deque[_Part] = deque()  # filled by the thread that looks for photos
        self._lines: list[bytes] = []
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="photolabel-write")
        self._writing: deque[Future[int]] = deque()
        self._errors: Counter[str] = Counter()
        self._names: Counter[str] = Counter()
        self._failed = 0

    @property
    def done(self) -> int:
        """How many photos are in files; those that are being written are waited for, whatever comes of them."""
        wait(self._writing)
        return self._done + sum(each.result() for each in self._writing if each.exception() is None)

    @staticmethod
    def check(place: Place) -> None:
        """Raise `UsageError` where a run was stopped, `OutputError` where there is something else. So does `begin`."""
        parquet.check()
        manifest = _manifest(place)
        if manifest is not None and manifest.get("complete"):
            raise OutputError(f"{place} holds the records of a run already. Write elsewhere, or remove it.")
        if manifest is not None:
            raise UsageError(f"{place} is of a run that was stopped. Go on with it: --resume. Or remove it.")
        if next((name for name in place.names() if not name.startswith(".photolabel-")), None) is not None:
            raise OutputError(f"{place}: cannot be written: the folder holds something else.")

    @staticmethod
    def ended(place: Place) -> bool:
        """Whether the last run has ended."""
        return bool((_manifest(place) or {}).get("complete"))

    @classmethod
    def begin(cls, place: Place, settings: Mapping[str, Any], *, photos: int = PHOTOS) -> Parts:
        """Begin a run, of `photos` a file. Raises what `check` raises; `BusyError` where another is at work there."""
        with ExitStack() as stack:
            place.hold(stack)
            cls.check(place)
            place.write(MANIFEST, _said(settings, photos, None), new=True)
            return cls(place, settings, photos=photos, lock=stack.pop_all())

    @classmethod
    def resume(cls, place: Place, seen: Callable[[Mapping[str, Any]], None]) -> Parts | None:
        """Go on with a run that was stopped; None where none has begun, or it has ended.

        `seen` is called for each photo in the files with what `Tally` needs of its record. A file that is not whole is
        written anew. Raises `UsageError` for a folder that is of no run, `BusyError` as `begin`.
        """
        parquet.check()
        with ExitStack() as stack:
            place.hold(stack)
            manifest = _manifest(place)
            if manifest is None or manifest.get("complete"):
                return None
            made = cls(place, manifest["settings"], photos=manifest["photos"], lock=stack)
            names = sorted(filter(_NAME.fullmatch, place.names()))
            for start in range(0, len(names), _WRITERS):  # an object store takes its time for each
                some = names[start : start + _WRITERS]
                for name, data in zip(some, made._writers.map(place.read, some), strict=True):
                    made._keep(name, data or b"", seen)
            made._lock = stack.pop_all()
            return made

    def _keep(self, name: str, data: bytes, seen: Callable[[Mapping[str, Any]], None]) -> None:
        number = int(name.split("-")[1])
        try:
            photos, notes = parquet.notes(data)
            told = json.loads(notes[_NOTES])
            errors, names = Counter[str](told["errors"]), Counter[str](told["names"])
        except (ValueError, KeyError, TypeError):
            return
        if number in self._kept:
            raise UsageError(f"{self.path}: {self._kept[number].name} and {name} are of the same photos. Remove one.")
        self._kept[number] = _Kept(name, photos)
        self._ours.add(name)
        self._done += photos
        self._failed += errors.total()
        for code, count in errors.items():
            for _ in range(count):
                seen({"error": {"code": code}})
        for said, count in names.items():
            for _ in range(count):
                seen({"error": None, "answer": {"name": said}})

    def remaining(self, items: Iterable[P]) -> Iterator[P]:
        """Yield the items that are in no file yet. They must be those of the first start, in the same order.

        Raises `UsageError`, after all before it, where photos have come or gone among those that are done.
        """
        part: _Part | None = None
        number = 0
        for item in items:
            part = part or _Part(number, number * self._photos, hashlib.sha256(self._key))
            part.see(item.photo)
            full, kept = part.count == self._photos, number in self._kept
            if full:  # first of all: its last record may be there before we are asked again
                self._list(part)
            if not kept:
                yield item
            if full:
                part, number = None, number + 1
        if part is not None:
            self._list(part)
            number += 1
        if (beyond := next((kept for each, kept in self._kept.items() if each >= number), None)) is not None:
            raise self._changed(beyond)

    def _list(self, part: _Part) -> None:
        kept = self._kept.get(part.number)
        if kept is None:
            self._open.append(part)
        elif kept.name != part.name or kept.photos != part.count:
            raise self._changed(kept)

    def _changed(self, kept: _Kept) -> UsageError:
        return UsageError(
            f"{self.path}: the photos are not those that the run began with: some have come or gone among those of "
            f"{kept.name} or before. Have them as they were, or write to another folder; or remove that file, and its "
            "photos are done anew. A list (--from) does not change by itself."
        )

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a record, of the next of the `remaining` photos. Raises `OutputError`: what is written stays good."""
        self._lines.append(json_line(record).encode("ascii") + b"\n")
        if record["error"] is not None:
            self._errors[record["error"]["code"]] += 1
        else:
            self._names[record["answer"]["name"]] += 1
        if self._open and len(self._lines) == self._open[0].count:
            self._write()

    def _write(self) -> None:
        part, lines, errors, names = self._open.popleft(), self._lines, self._errors, self._names
        self._lines, self._errors, self._names = [], Counter(), Counter()
        self._failed += errors.total()
        self._ours.add(part.name)

        def write() -> int:
            notes = {_NOTES: json.dumps({"errors": errors, "names": names})}
            self.path.write(part.name, parquet.part(lines, first=part.first, notes=notes))
            return part.count

        self._writing.append(self._writers.submit(write))
        self._see(most=_UNWRITTEN)

    def _see(self, *, most: int) -> None:
        """Wait until no more than so many files are being written."""
        while self._writing and (len(self._writing) > most or self._writing[0].done()):
            try:
                self._done += self._writing.popleft().result()
            except OutputError as error:
                raise OutputError(f"{error} What is in {self.path} stays good; to go on: --resume.") from None

    def finish(self) -> None:
        """Write what is left, and say that it is all. Raises `OutputError`."""
        if self._lines and self._open and len(self._lines) == self._open[0].count:
            self._write()
        self._see(most=0)
        if self._open or self._lines:
            raise OutputError(f"{self.path}: there are fewer records than photos. Go on: --resume.")
        for name in self.path.names():
            if name.startswith("part-") and name not in self._ours:
                raise OutputError(
                    f"{self.path}: {name} is of another run, which was at work there at the same time. Remove it, and "
                    "go on: --resume."
                )
        complete = {"photos": self.done, "errors": self._failed}
        self.path.write(MANIFEST, _said(self.settings, self._photos, complete))

    def close(self) -> None:
        """Let those files be finished whose photos are done, few as they are, and others at the folder."""
        self._writers.shutdown(wait=True)
        self._lock.close()

    def __enter__(self) -> Parts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _said(settings: Mapping[str, Any], photos: int, complete: Mapping[str, int] | None) -> bytes:
    said = {"parts": _FORMAT, "settings": settings, "photos": photos, "complete": complete}
    return json.dumps(said, indent=1).encode("ascii") + b"\n"


def _manifest(place: Place) -> dict[str, Any] | None:
    """What a folder says of its run; None where it says nothing. Raises `UsageError` where it makes no sense."""
    data = place.read(MANIFEST)
    if data is None:
        return None
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        said = None
    if (
        not isinstance(said, dict)
        or said.get("parts") != _FORMAT
        or not isinstance(said.get("settings"), dict)
        or not isinstance(said.get("photos"), int)
        or said["photos"] < 1
    ):
        raise UsageError(f"{place}: its {MANIFEST} is none of a run. Remove the folder, or write elsewhere.")
    return said


def is_folder(output: str, *, likely: bool = False) -> bool:
    """Whether an output is a folder of files: a URL, by a slash at its end, or because one is there without an ending.

    `likely`: also one that is not there, and has no ending as files have.
    """
    return (
        remote.is_url(output)
        or output.endswith(("/", os.sep))
        or (
            not Path(output).suffix and (likely or os.path.isdir(output))  # noqa: PTH112  # any text, also no path
        )
    )
