"""What is known of a file's bytes: its hash, on record under its size, times and inode.

While those are the same nothing is read again, so that 553 MB are hashed once and not at each start. A record
only ever saves time: where it is missing, broken or out of date, the file is hashed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import StoreError

ALGORITHMS = {"md5": 32, "sha256": 64}  # hexadecimal digits; md5 because that is what Keras publishes
RECORD_LIMIT = 4096  # bytes of a record that are read: a real one has about 200
CHUNK = 1 << 20

# What Windows lacks is 0 there; `opened` compares with lstat as well.
SAFE = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # do not hang on a FIFO that someone put there
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


@dataclass(frozen=True)
class Record:
    """What a file was when its hash was taken.

    The change time (on Windows: of creation) catches what size and mtime cannot: a byte changed in place
    and the mtime set back.
    """

    digest: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, digest: str, status: os.stat_result) -> Record:
        """Put a hash on record for a file with this stat."""
        return cls(digest, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """'<algorithm>:<hex>' of a file's bytes; links are followed. An unreadable file is a `StoreError`."""
    try:
        with opened(path.resolve()) as descriptor:
            return hash_of(descriptor, algorithm)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise StoreError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a regular file that is itself at `path`, not behind a link. Raises OSError."""
    before = os.lstat(path)  # O_NOFOLLOW does not exist everywhere
    if not stat.S_ISREG(before.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    descriptor = os.open(path, os.O_RDONLY | SAFE)
    try:
        if not os.path.samestat(before, os.fstat(descriptor)):
            raise OSError(errno.EINVAL, "was replaced while it was being opened")
        yield descriptor
    finally:
        os.close(descriptor)


def hash_of(descriptor: int, algorithm: str) -> str:
    """Hash an open file from its beginning: '<algorithm>:<hex>'."""
    digest = hashlib.new(algorithm, usedforsecurity=False)  # FIPS builds forbid md5 otherwise; we match Keras' list
    os.lseek(descriptor, 0, os.SEEK_SET)
    while data := os.read(descriptor, CHUNK):
        digest.update(data)
    return f"{algorithm}:{digest.hexdigest()}"


def read_record(path: Path) -> Record | None:
    """Read a record; None if there is none that makes sense."""
    try:
        with opened(path) as descriptor:
            data = json.loads(os.read(descriptor, RECORD_LIMIT))
    except (OSError, ValueError, RecursionError):  # RecursionError: json on "[[[[..."
        return None
    if not isinstance(data, dict) or set(data) != set(Record.__dataclass_fields__):
        return None
    # The numbers are only ever compared, so whatever stands in their place just differs.
    return Record(**data) if isinstance(data["digest"], str) else None


def write_record(path: Path, record: Record) -> None:
    """Write a record, whole or not at all. Raises OSError."""
    temporary = temporary_path(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, 0o666)
    try:
        try:
            os.write(descriptor, json.dumps(asdict(record)).encode())
        finally:
            os.close(descriptor)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """Name a file beside `path` that nobody else writes; `store` sweeps those of killed writers."""
    return path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
