"""URL + hash -> local file: resume, verify, heal, lock, cache, offline. Knows no models.

A file in the store is trusted because of its record (see `records`): it was hashed and has not changed since.
`deep=True` hashes regardless: it finds what a failing disk changed.

Beside a file `x` lie `x.record.json`, `x.lock` and, while it is being made, `x.partial` (a download, kept for
resuming) or `x.<pid>-<random>.tmp` (anything else).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from . import progress as shown
from .errors import (
    BusyError,
    CacheUnwritableError,
    DiskFullError,
    DownloadError,
    HashMismatchError,
    OfflineError,
    StoreError,
    UsageError,
)
from .records import (
    ALGORITHMS,
    SAFE,
    Record,
    digest_of,
    hash_of,
    opened,
    read_record,
    temporary_path,
    write_record,
)

if TYPE_CHECKING:
    from .download import Progress
    from .network import Transport

__all__ = ["Asset", "Store", "Writer", "cache_folder", "digest_of", "explained", "is_name", "offline", "urls_of"]

# Positive, so that separators, "..", NUL, colons (NTFS streams) and terminal codes need no rule each.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=@-]{0,149}", re.ASCII)
_OURS = (".record.json", ".lock", ".partial", ".tmp")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)  # files on no Windows disk

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One published file: its name in the cache, where it is to be had, and what it must be."""

    name: str
    urls: tuple[str, ...]  # tried in this order
    digest: str  # "md5:<32 hex digits>" or "sha256:<64 hex digits>"
    size: int  # bytes, exactly

    def __post_init__(self) -> None:
        _check_name(self.name)
        algorithm, _, digits = self.digest.partition(":")
        if ALGORITHMS.get(algorithm) != len(digits) or not re.fullmatch("[0-9a-f]*", digits):
            raise UsageError(
                f"{self.name}: expected a digest like 'sha256:' and 64 lower-case hexadecimal digits "
                f"(or 'md5:' and 32), "
                f"got {self.digest[:80]!r}"
            )
        if self.size < 1:
            raise UsageError(f"{self.name}: expected a size in bytes of 1 or more, got {self.size}")


def cache_folder() -> Path:
    """Where files are kept: $PHOTOLABEL_CACHE, else the user's cache folder by the platform's custom."""
    if chosen := os.environ.get("PHOTOLABEL_CACHE"):
        return Path(os.path.abspath(os.path.expanduser(chosen)))  # noqa: PTH100, PTH111  # pathlib raises without a home
    import platformdirs

    # Without any home platformdirs raises or, in older versions, takes "~/.cache/..." literally: a folder
    # named ~ wherever we are. A place that cannot exist instead: nothing is found there, and writing is a
    # CacheUnwritableError that names the remedy.
    with suppress(RuntimeError):
        folder = platformdirs.user_cache_path("photolabel")
        if folder.is_absolute():
            return folder
    return Path(os.devnull) / "no-home-folder"


def offline() -> bool:
    """Whether $PHOTOLABEL_OFFLINE forbids the network: any value does that is not a plain no."""
    return os.environ.get("PHOTOLABEL_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def urls_of(asset: Asset) -> tuple[str, ...]:
    """Where the file is fetched from: its own URLs, or $PHOTOLABEL_MIRROR instead."""
    if mirror := os.environ.get("PHOTOLABEL_MIRROR"):
        return (f"{mirror.rstrip('/')}/{quote(asset.name)}",)
    return asset.urls


@dataclass(frozen=True)
class Store:
    """The files in one folder. Nothing is created before something must be written."""

    folder: Path = field(default_factory=cache_folder)

    def path(self, name: str) -> Path:
        """Where the file of this name is, or would be."""
        _check_name(name)
        return self.folder / name

    def find(self, asset: Asset, *, deep: bool = False) -> Path | None:
        """Return the file if it is here and right; `deep` hashes it even if nothing about it changed."""
        path = self.path(asset.name)
        return path if self._holds(path, asset.digest, asset.size, deep) else None

    def check(self, name: str, *, deep: bool = False) -> bool:
        """Whether a file made by `create` is still what it was. If not, make it again."""
        path = self.path(name)
        record = read_record(_record_path(path))
        return record is not None and self._holds(path, record.digest, record.size, deep)

    def recorded(self, name: str) -> Record | None:
        """Return the record of a file that has not changed since. Reads none of the file's bytes: for lists."""
        path = self.path(name)
        record = read_record(_record_path(path))
        with suppress(OSError), opened(path) as descriptor:
            if record == Record.of(record.digest if record else "", os.fstat(descriptor)):
                return record
        return None

    def fetch(self, asset: Asset, *, progress: Progress | None = None, transport: Transport | None = None) -> Path:
        """Return the verified file, downloaded if it is not here or not right.

        A file that is right needs no lock, no network and no writing, so a read-only cache will do.
        `progress` is called with (bytes here, bytes in all), first with those of an earlier download.
        """
        if found := self.find(asset):
            return found
        path = self.path(asset.name)
        by_hand = f"put the file there yourself: {path} ({asset.size:,} bytes, {asset.digest})"
        if offline():
            damaged = " (the one that is there is damaged)" if os.path.lexists(path) else ""
            raise OfflineError(
                f"{asset.name} is not on this machine{damaged}, and PHOTOLABEL_OFFLINE forbids to fetch it. "
                f"Run once without PHOTOLABEL_OFFLINE, or {by_hand}"
            )
        with self.lock(asset.name) as private:
            if found := self.find(asset):  # another process was faster
                return found
            partial = path.with_name(f"{asset.name}{private}.partial")
            try:
                self._download(asset, partial, progress, transport)
            except (DownloadError, HashMismatchError) as error:
                published = f", expected {asset.digest}" if isinstance(error, HashMismatchError) else ""
                raise type(error)(
                    f"{asset.name} could not be fetched: {error}{published}. Try again, set PHOTOLABEL_MIRROR, "
                    f"give a copy as --weights FILE, or put one at {path}"
                ) from error
            finally:
                if private:  # without a lock nobody may resume it
                    with suppress(OSError):
                        partial.unlink()
        return path

    @contextmanager
    def create(self, name: str) -> Iterator[Writer]:
        """Write a derived file: `with store.create("x.onnx") as file: file.write(...)`.

        It appears under its name whole or not at all, with its sha256 on record. What the block raises passes
        through.
        """
        path = self.path(name)
        with self.lock(name):
            temporary = temporary_path(path)
            with explained(self.folder):
                descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | SAFE, 0o666)
            writer = Writer(descriptor, temporary)
            try:
                try:
                    yield writer
                    with explained(self.folder):
                        os.fsync(descriptor)
                        status = os.fstat(descriptor)
                finally:
                    os.close(descriptor)
                with explained(self.folder):
                    _publish(temporary, path, writer.digest, status)
            finally:
                with suppress(OSError):
                    temporary.unlink()

    def known_digest(self, path: Path, algorithm: str = "sha256") -> str:
        """`digest_of` a file outside the store, remembered while its path and stat stay the same."""
        try:
            real = path.resolve(strict=True)
            key = hashlib.sha256(f"{algorithm}:{real}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
            record_path = self.folder / "digests" / f"{key}.json"
            record = read_record(record_path)
            with opened(real) as descriptor:
                status = os.fstat(descriptor)
                if record and record.digest.startswith(f"{algorithm}:") and record == Record.of(record.digest, status):
                    return record.digest
                digest = hash_of(descriptor, algorithm)
                if Record.of(digest, os.fstat(descriptor)) != Record.of(digest, status):
                    raise StoreError(f"{path}: it is being written to. Try again when it is complete")
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
            raise StoreError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
        with suppress(OSError):  # only a memory
            record_path.parent.mkdir(parents=True, exist_ok=True)
            write_record(record_path, Record.of(digest, status))
        return digest

    def remove(self, name: str) -> None:
        """Delete the file and what belongs to it, except the lock file: others may be waiting on it."""
        path = self.path(name)
        with self.lock(name), explained(self.folder):
            for each in (path, _record_path(path), path.with_name(f"{name}.partial")):
                each.unlink(missing_ok=True)

    @contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[str]:
        """Hold the name: of several processes one fetches or builds, the others wait and then find.

        The kernel frees a dead holder's lock. The same thread may lock a name again. Yields "" or, where the
        filesystem knows no locks, a random suffix with which each process keeps its partial file to itself.
        Without `wait`, a name that another holds is a `BusyError` at once.
        """
        from filelock import FileLock, Timeout

        path = self.path(name)
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            # No soft lock in a real one's stead: a dead holder's would stay for ever.
            held = FileLock(path.with_name(f"{name}.lock"), is_singleton=True, fallback_to_soft=False)
            private = ""
            try:
                try:
                    held.acquire(blocking=False)
                except Timeout:
                    if not wait:
                        raise
                    with shown.status(f"another photolabel is at work on {name}; waiting ..."):
                        held.acquire(poll_interval=0.1)
            except Timeout:
                raise BusyError(f"{name}: another process is at work on it. Try again when it has ended") from None
            except NotImplementedError:
                private = f".{secrets.token_hex(4)}"
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                private = f".{secrets.token_hex(4)}"
        try:
            if not private and held.lock_counter == 1:  # not inside our own `create`
                _sweep(path)
            yield private
        finally:
            if not private:
                held.release()

    def _holds(self, path: Path, digest: str, size: int, deep: bool) -> bool:
        """Whether `path` is a regular file, no link, with these bytes; refreshes its record."""
        record_path = _record_path(path)
        try:
            with opened(path) as descriptor:
                status = os.fstat(descriptor)
                if status.st_size != size:
                    return False
                known = read_record(record_path) == Record.of(digest, status)
                if known and not deep:
                    return True
                algorithm = digest.partition(":")[0]
                if algorithm not in ALGORITHMS or hash_of(descriptor, algorithm) != digest:
                    return False
                if Record.of(digest, os.fstat(descriptor)) != Record.of(digest, status):
                    return False  # it was written to while we read
        except OSError:
            return False
        if not known:
            with suppress(OSError):  # a read-only cache: hashed again the next time
                write_record(record_path, Record.of(digest, status))
        return True

    def _download(self, asset: Asset, partial: Path, progress: Progress | None, transport: Transport | None) -> None:
        from .download import download  # with all of HTTP behind it, which a warm start never needs

        urls = urls_of(asset)
        algorithm = asset.digest.partition(":")[0]
        with explained(self.folder, size=asset.size, partial=partial):
            descriptor = _open_partial(partial, asset.size)
            hashed = os.fstat(descriptor)

            def right() -> bool:
                nonlocal hashed
                hashed = os.fstat(descriptor)
                return hash_of(descriptor, algorithm) == asset.digest

            try:
                missing = asset.size - os.fstat(descriptor).st_size
                free = shutil.disk_usage(self.folder).free
                if free < missing:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                download(
                    descriptor,
                    urls,
                    size=asset.size,
                    right=right,
                    progress=progress,
                    transport=transport,
                )
                os.fsync(descriptor)
            except HashMismatchError:
                with suppress(OSError):
                    partial.unlink()
                raise
            finally:
                os.close(descriptor)
            _publish(partial, self.path(asset.name), asset.digest, hashed)


class Writer:
    """What `Store.create` hands out: bytes are hashed as they pass, and a full disk is a typed error."""

    def __init__(self, descriptor: int, temporary: Path) -> None:
        self.temporary = temporary  # to look at what was written before it gets its name
        self._descriptor = descriptor
        self._hash = hashlib.sha256()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append all of `data`."""
        view = memoryview(data).cast("B")
        self._hash.update(view)
        count = len(view)
        with explained(self.temporary.parent):
            while view:
                view = view[os.write(self._descriptor, view) :]
        return count

    def flush(self) -> None:
        """Nothing is buffered here; writers that call it may."""

    @property
    def digest(self) -> str:
        """'sha256:<hex>' of what was written."""
        return f"sha256:{self._hash.hexdigest()}"


def is_name(text: str) -> bool:
    """Whether a file of the store may be called so."""
    return bool(_NAME.fullmatch(text)) and not text.endswith((".", *_OURS)) and not _DEVICES.fullmatch(text)


def _check_name(name: str) -> None:
    if not is_name(name):
        raise UsageError(
            f"expected a plain file name of letters, digits and ._+=@-, not ending in {', '.join(_OURS)}; "
            f"got {name[:80]!r}"
        )


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.record.json")


def _sweep(path: Path) -> None:
    """Delete what killed writers of this name left behind; we hold its lock, so no living one is writing."""
    stray = re.compile(rf"{re.escape(path.name)}(\.record\.json)?\.[0-9]+-[0-9a-f]{{8}}\.tmp")
    with suppress(OSError):
        for each in path.parent.iterdir():
            if stray.fullmatch(each.name):
                each.unlink(missing_ok=True)


def _open_partial(path: Path, size: int) -> int:
    """Open the unfinished download, or a new one.

    What cannot be ours is removed, never written to: a link, a second name of someone's file, a device, or
    more bytes than there should be.
    """
    with suppress(FileNotFoundError):
        before = os.lstat(path)
        if not stat.S_ISREG(before.st_mode) or before.st_nlink > 1 or before.st_size > size:
            path.unlink()
        else:
            descriptor = os.open(path, os.O_RDWR | SAFE)
            if os.path.samestat(before, os.fstat(descriptor)):
                return descriptor
            os.close(descriptor)
            path.unlink()
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | SAFE, 0o666)  # O_EXCL follows no link either


def _publish(temporary: Path, path: Path, digest: str, hashed: os.stat_result) -> None:
    """Give a finished file, hashed when its stat was `hashed`, its name and its record."""
    temporary.replace(path)
    _sync_folder(path.parent)
    status = os.lstat(path)  # renaming changes the ctime
    same = ("st_ino", "st_size", "st_mtime_ns")
    if any(getattr(status, each) != getattr(hashed, each) for each in same):
        raise HashMismatchError(f"{path} was changed by someone else while it was being stored. Try again")
    write_record(_record_path(path), Record.of(digest, status))


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a power cut, where a folder can be synced."""
    if hasattr(os, "O_DIRECTORY"):
        with suppress(OSError):  # some network filesystems refuse
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextmanager
def explained(folder: Path, *, size: int = 0, partial: Path | None = None) -> Iterator[None]:
    """Turn what the filesystem says of the cache into our errors, with the remedy.

    `size` is how many bytes were to be written in all, `partial` the file that has a part of them, which is kept.
    """
    try:
        yield
    except OSError as error:
        remedy = "or set PHOTOLABEL_CACHE to a folder with room"
        if error.errno in _FULL:
            need = size
            if partial is not None:
                with suppress(OSError):
                    need -= os.lstat(partial).st_size
            free = "unknown"
            with suppress(OSError):
                free = f"{shutil.disk_usage(folder).free:,}"
            needed = f"needed {need:,} more bytes, free {free}" if size else f"free {free} bytes"
            kept = " What has come is kept and will be continued." if partial is not None else ""
            raise DiskFullError(
                f"{folder}: no room ({error.strerror}): {needed}. Free some, {remedy}.{kept}"
            ) from error
        raise CacheUnwritableError(
            f"the cache folder {folder} cannot be written ({error.strerror or type(error).__name__}). "
            f"Set PHOTOLABEL_CACHE to a folder that can"
        ) from error
