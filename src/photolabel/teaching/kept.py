"""Features that were computed once, and fingerprints, kept by the hash of their photo.

One SQLite file for all that they depend on (the network, the layer, the recipe, the precision), so that nothing is
ever mixed. The file is a memory and no more: each row has a checksum of its own, a file that is damaged or of someone
else is set aside, and where nothing can be kept the work goes on without. It has SQLite's rollback journal, not its
write-ahead log: that needs memory shared between processes, which network drives do not have. What a killed process
leaves is rolled back by the next one.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from .. import store
from ..errors import StoreError
from .fingerprint import BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..taught import Origin

FOLDER, ENDING, ASIDE = "features", ".sqlite", ".damaged"
_APPLICATION = int.from_bytes(b"PhlF", "big")  # SQLite keeps it in the file's head: whose file it is
_FORMAT = 2
_SCHEMA = (
    (
        "CREATE TABLE features (photo BLOB NOT NULL PRIMARY KEY, numbers BLOB NOT NULL, fingerprint BLOB NOT NULL, "
        "checksum BLOB NOT NULL)"
    ),
    "CREATE TABLE told (identity TEXT NOT NULL)",
)
_PAGE = 16384  # bytes: three rows of 1280 numbers fit
_WAITS = 20.0  # seconds for another process that is writing
_EVERY = 2.0  # seconds between two writings: of what is lost when the process is killed
_PENDING = 1 << 24  # bytes that wait to be written
_CHECKSUM = 16
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR}


class _DamagedError(Exception):
    """The file is no such file, or is broken."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Found:
    """What is kept of the photo whose SHA-256 is `photo`, 32 bytes.

    `numbers` are its features, float32 (views, dimensions), and `fingerprint` is that of its middle view, (32,) uint8.
    """

    photo: bytes
    numbers: NDArray[np.float32]
    fingerprint: NDArray[np.uint8]


class Kept:
    """The features of photos by one backbone: float32 (views, dimensions) a photo. Safe to use from several threads.

    Never raises for what is wrong with the file: `remarks` say it, each once.
    """

    def __init__(self, origin: Origin, dimensions: int) -> None:
        self.shape = (origin.recipe.inputs, dimensions)
        told = [_FORMAT, origin.network, origin.layer, origin.recipe.to_dict(), origin.precision, *self.shape]
        self._identity = json.dumps(told, sort_keys=True)
        name = hashlib.sha256(self._identity.encode()).hexdigest()[:32]
        self._store = store.Store(store.cache_folder() / FOLDER)
        self._name = f"{name}{ENDING}"
        self.remarks: list[str] = []
        self._lock = threading.RLock()
        self._pending: dict[bytes, tuple[bytes, bytes]] = {}
        self._written = time.monotonic()
        self._writes = True
        self._connection = self._opened()

    @property
    def path(self) -> Path:
        """Where the file is, or would be."""
        return self._store.path(self._name)

    @property
    def empty(self) -> bool:
        """Whether nothing is kept."""
        return self._ask("SELECT 1 FROM features LIMIT 1", ()) is None

    def get(self, photo: bytes) -> Found | None:
        """Return what is kept of the photo whose SHA-256 is this, or begins so; None for nothing, or nothing sound."""
        rest = 32 - len(photo)
        ends = (photo + bytes(rest), photo + b"\xff" * rest)
        row = self._ask(
            "SELECT photo, numbers, fingerprint, checksum FROM features WHERE photo BETWEEN ? AND ? LIMIT 1", ends
        )
        if row is None:
            return None
        if not all(isinstance(each, bytes) for each in row) or row[3] != _checksum(*row[:3]):
            self._remark("some features that were kept were damaged, and are computed anew.")
            return None
        photo, numbers, fingerprint, _ = row
        if len(numbers) != 4 * self.shape[0] * self.shape[1] or len(fingerprint) != BYTES:
            return None
        return Found(
            photo=photo,
            numbers=np.frombuffer(numbers, "<f4").reshape(self.shape).astype(np.float32, copy=False),
            fingerprint=np.frombuffer(fingerprint, np.uint8),
        )

    def put(self, photo: bytes, features: NDArray[np.float32], fingerprint: NDArray[np.uint8]) -> None:
        """Keep the features and the fingerprint of a photo; they are written now or soon, at the latest by `close`."""
        with self._lock:
            if self._connection is None or not self._writes:
                return
            self._pending[photo] = np.ascontiguousarray(features, "<f4").tobytes(), fingerprint.tobytes()
            full = len(self._pending) * 4 * self.shape[0] * self.shape[1] >= _PENDING
            if full or time.monotonic() - self._written >= _EVERY:
                self._write()

    def close(self) -> None:
        """Write what waits, and close the file. Closing twice does no harm."""
        with self._lock:
            self._write()
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the file

    def _ask(self, question: str, values: tuple[bytes, ...]) -> tuple[bytes, ...] | None:
        with self._lock:
            if self._connection is None:
                return None
            try:
                row: tuple[bytes, ...] | None = self._connection.execute(question, values).fetchone()
                return row
            except sqlite3.Error as error:
                self._fail(error)
                return None

    def _write(self) -> None:
        pending, self._pending = self._pending, {}
        self._written = time.monotonic()
        if self._connection is None or not pending:
            return
        rows = [(photo, *told, _checksum(photo, *told)) for photo, told in pending.items()]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", rows)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            self._fail(error, writing=True)

    def _fail(self, error: sqlite3.Error, *, writing: bool = False) -> None:
        """Go on without what fails: a damaged file is set aside, what cannot be written is not."""
        if _is_damage(error):
            assert self._connection is not None
            self._connection.close()
            self._connection = self._opened(damaged=True)
        elif writing:
            self._writes = False
            self._remark(f"the features of some photos could not be kept: {_why(error)}. They are computed again.")
        else:
            self._remark(f"the features that are kept cannot be read: {_why(error)}. They are computed again.")

    def _opened(self, *, damaged: bool = False) -> sqlite3.Connection | None:
        """The file, sound as far as can be seen; None where there can be none. One that is `damaged` is set aside."""
        try:
            self._store.folder.mkdir(parents=True, exist_ok=True)
            with self._store.lock(self._name):
                if not damaged:
                    with suppress(_DamagedError):
                        return self._connect("rwc")
                self._set_aside()
                return self._connect("rwc")
        except (StoreError, OSError, sqlite3.Error, _DamagedError) as error:
            self._writes = False
            why = _why(error) if isinstance(error, sqlite3.Error) else "the cache folder cannot be used"
            self._remark(f"the features of these photos cannot be kept: {why}. They are computed again the next time.")
            with suppress(sqlite3.Error, _DamagedError):  # a cache that may be read, but not be written
                return None if damaged else self._connect("ro")
            return None

    def _connect(self, mode: str) -> sqlite3.Connection:
        """Open the file and look into it. Raises `_DamagedError` for what is none of ours, and sqlite3.Error."""
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode={mode}",
            timeout=_WAITS,
            isolation_level=None,
            check_same_thread=False,
            uri=True,
        )
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            self._look(connection, new=mode == "rwc")
        except sqlite3.Error as error:
            connection.close()
            if _is_damage(error):
                raise _DamagedError from None
            raise
        except BaseException:
            connection.close()
            raise
        return connection

    def _look(self, connection: sqlite3.Connection, *, new: bool) -> None:
        schema = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY sql").fetchall()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if not schema and not application and new:
            connection.execute(f"PRAGMA page_size = {_PAGE}")
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO told VALUES (?)", (self._identity,))
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute("COMMIT")
            return
        if application != _APPLICATION or [each for (each,) in schema] != sorted(_SCHEMA):
            raise _DamagedError
        if connection.execute("SELECT identity FROM told LIMIT 2").fetchall() != [(self._identity,)]:
            raise _DamagedError

    def _set_aside(self) -> None:
        self._remark("the file of features that were kept was damaged: it was set aside, and they are computed anew.")
        with suppress(FileNotFoundError):
            self.path.replace(self.path.with_suffix(ASIDE))
        for left in ("-journal", "-wal", "-shm"):
            Path(f"{self.path}{left}").unlink(missing_ok=True)

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)


def _checksum(photo: bytes, numbers: bytes, fingerprint: bytes) -> bytes:
    told = hashlib.blake2b(fingerprint, digest_size=_CHECKSUM, key=photo[:64])
    told.update(numbers)
    return told.digest()


def _is_damage(error: sqlite3.Error) -> bool:
    return isinstance(error, sqlite3.DatabaseError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def _why(error: sqlite3.Error) -> str:
    """The system's trouble in our words; SQLite's own say nothing to who does not know it."""
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return "there is no room"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "another process keeps them locked"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_AUTH:
            return "the cache folder cannot be written"
        case _:
            return "the disk fails"
