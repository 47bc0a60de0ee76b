"""What can go from the cache: a model's files, and what belongs to no model.

What is removed is removed under the store's locks, so that nothing goes that another process is making. Keras' own
folder and what is bundled are never touched.
"""

from __future__ import annotations

import functools
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import artefacts, engine, models
from ..errors import BusyError, CacheUnwritableError, UnknownModelError, UsageError
from ..store import Store, is_name
from .listing import ARTEFACT, entries, files_of, is_keras, listed, sized

_TEMPORARY = re.compile(r"(?P<name>.+?)(\.record\.json)?\.[0-9]+-[0-9a-f]{8}\.tmp")
_PARTIAL = re.compile(r"(?P<name>.+?)(?P<private>\.[0-9a-f]{8})?\.partial")
_RECORD = ".record.json"
_OURS = (_RECORD, ".lock")
_AT_WORK = 3600.0  # seconds without a change after which what no lock protects counts as left behind
_FORGOTTEN = 30 * 86400.0  # seconds: a digest records no path, so only its age says that nobody may need it
# Of the cache, each with a keeper of its own.
_FOLDERS = ("activations", "calibrations", "digests", "features", "imported", "runs", "undo")


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A file in the cache that belongs to no model. `removable` is false for what photolabel did not put there."""

    path: Path
    size: int
    why: str
    removable: bool = True
    lock: tuple[Store, str] | None = None  # to be held while it is removed

    def record(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"path": str(self.path), "bytes": self.size, "why": self.why, "removable": self.removable}


def remove(name: str) -> list[tuple[Path, int]]:
    """Remove the files of a model from the cache; return them with their sizes.

    Raises `UnknownModelError` for what is no known or imported model, and `BusyError`, before anything is removed,
    while another process is at work on one of them.
    """
    cache, kept = Store(), models.own_store()
    todo = [(cache, path) for path in files_of(cache, name)]
    if name in models.known():
        weights = models.known()[name].weights
        if weights and not is_keras(cache):
            partial = cache.path(f"{weights.name}").with_name(f"{weights.name}.partial")
            todo += [(cache, partial)] if os.path.lexists(partial) else []
    else:
        file = _own_file(name)
        if file is None or not os.path.lexists(kept.path(file)):
            raise UnknownModelError(
                f"no model {name!r} to remove: expected one of {', '.join([*models.known(), *models.own()])}."
            )
        todo.append((kept, kept.path(file)))
    with ExitStack() as held:
        names = [(store, path.name.removesuffix(".partial")) for store, path in todo]
        for store, base in names:
            held.enter_context(store.lock(base, wait=False))
        freed = list(sized(path for _, path in todo))
        for store, base in names:
            store.remove(base)
    return freed


def _own_file(name: str) -> str | None:
    try:
        return models.own_file(name)
    except UsageError:
        return None


def leftovers(*, everything: bool = False) -> list[Leftover]:
    """Return what belongs to no model; with `everything`, also what is made again at need.

    That is the compiled networks, and the networks made of files of the user's own that lie elsewhere. Files that
    photolabel did not put there are in the list as not removable. Hashes only what has changed.
    """
    cache, kept = Store(), models.own_store()
    found = [*_in_store(cache, everything=everything), *_in_store(kept, everything=everything)]
    for keeper in (_digests, _features, _activations):
        found += keeper(cache, everything=everything)
    return found


def unknown() -> list[Leftover]:
    """Return the files in the cache that belong to no model, by their names alone: nothing is hashed or compiled."""
    known = {path for entry in entries() for path, _ in entry.files}
    found = []
    for store in (Store(), models.own_store()):
        for path in listed(store.folder):
            if path in known or path.name.endswith(_OURS) or path.name in _FOLDERS:
                continue
            why = "not photolabel's"
            if _TEMPORARY.fullmatch(path.name) or _PARTIAL.fullmatch(path.name):
                why = "unfinished: being made, or left behind"
            elif engine.BLOB_NAME.fullmatch(path.name):
                why = "compiled from a file of your own"
            elif ARTEFACT.fullmatch(path.name):
                why = "made of a file of your own"
            sizes = sized([path])
            found += [Leftover(path=path, size=size, why=why, removable=why[0] == "u") for _, size in sizes]
    return found


def _in_store(store: Store, *, everything: bool) -> Iterator[Leftover]:
    for path in listed(store.folder):
        try:
            status = path.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode) and store == Store() and path.name in _FOLDERS:
            continue
        ours = stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)  # a link is removed, not what it leads to
        verdict = _verdict(store, path, status, everything=everything) if ours else ("not photolabel's", None)
        if verdict is None:
            continue
        why, name = verdict
        lock = (store, name) if name else None
        yield Leftover(path=path, size=status.st_size, why=why, removable=lock is not None, lock=lock)


def _verdict(store: Store, path: Path, status: os.stat_result, *, everything: bool) -> tuple[str, str | None] | None:
    """Why a file should go and under whose lock; no lock for what is not ours; None for what should stay."""
    name = path.name
    if (part := _TEMPORARY.fullmatch(name)) and is_name(part["name"]):
        return "left by a process that was killed", part["name"]
    if (part := _PARTIAL.fullmatch(name)) and is_name(part["name"]):
        if part["private"] and time.time() - status.st_mtime < _AT_WORK:
            return None  # where there are no locks each process has a partial file of its own
        return "an unfinished download", part["name"]
    if name.endswith(_OURS) and is_name(base := name.removesuffix(_RECORD).removesuffix(".lock")):
        gone = name.endswith(_RECORD) and not os.path.lexists(store.path(base))
        return ("the record of a file that is gone", base) if gone else None
    if not is_name(name):
        return "not photolabel's", None
    if store == models.own_store():
        if not name.endswith(".onnx") or _own_file(name.removesuffix(".onnx")) is None:
            return "not photolabel's", None
        return None if store.check(name) else ("damaged: not what was imported", name)
    if blob := engine.BLOB_NAME.fullmatch(name):
        why = "a compiled network, made again at need" if everything else _stale(store, name, blob)
        return (why, name) if why else None
    if artefact := ARTEFACT.fullmatch(name):
        if everything and artefact["model"] not in {*models.known(), *models.own()}:
            return "made of a file of your own, made again at need", name
        return None if store.check(name) else ("damaged: not what is on record", name)
    for model in models.known().values():
        if model.weights and model.weights.name == name and not is_keras(store):
            made = store.check(artefacts.published_name(model))
            return ("a download that has been made into a network", name) if made else None
    if is_keras(store) and name.endswith(".h5"):
        return None
    return "not photolabel's", None


@functools.cache
def _tag() -> str:
    return engine.processor().tag


def _stale(cache: Store, name: str, blob: re.Match[str]) -> str | None:
    """Why a compiled network is of no use any more, if so."""
    if blob["made_for"] != _tag():
        return "compiled by another OpenVINO or for another processor"
    digest = None
    if blob["stem"] == models.BUNDLED:
        digest = models.BUNDLED_DIGEST
    else:
        for store in (cache, models.own_store()):
            if (file := f"{blob['stem']}.onnx") and is_name(file) and (record := store.recorded(file)):
                digest = record.digest
    if digest and digest.partition(":")[2][:16] != blob["network"]:
        return "compiled from a file that has been replaced"
    if digest is None and ARTEFACT.fullmatch(f"{blob['stem']}.onnx"):
        return "compiled from a file that is gone"
    return None if cache.check(name) else "damaged: not what is on record"


def _digests(cache: Store, *, everything: bool) -> Iterator[Leftover]:
    """Remembered hashes of files outside the cache. To lose one costs one hash of its file at the next use."""
    for path in listed(cache.folder / "digests"):
        with suppress(OSError):
            status = path.lstat()
            age = time.time() - status.st_mtime
            if path.suffix == ".tmp" and age > _AT_WORK:
                yield Leftover(path=path, size=status.st_size, why="left by a process that was killed")
            elif re.fullmatch(r"[0-9a-f]{32}\.json", path.name) and (everything or age > _FORGOTTEN):
                yield Leftover(path=path, size=status.st_size, why="a remembered hash, taken again at need")


def _features(cache: Store, *, everything: bool) -> Iterator[Leftover]:
    """What `teach` keeps: the features of photos, which can be computed again while their photos are there."""
    for path in listed(cache.folder / "features"):
        with suppress(OSError):
            size = path.lstat().st_size
            if path.suffix == ".damaged":
                yield Leftover(path=path, size=size, why="features that were damaged, and set aside")
            elif everything and path.suffix == ".sqlite":
                yield Leftover(path=path, size=size, why="the features of photos that were taught, computed at need")


def _activations(cache: Store, *, everything: bool) -> Iterator[Leftover]:
    """What fine-tuning keeps: maps of photos, which can be computed again; and for a moment a network that it tuned."""
    kept = Store(cache.folder / "activations")
    for path in listed(kept.folder):
        with suppress(OSError):
            size, lock = path.lstat().st_size, (kept, path.name)
            if path.suffix == ".onnx" and is_name(path.name):
                yield Leftover(path=path, size=size, why="left by fine-tuning that was killed", lock=lock)
            elif everything and path.suffix == ".maps" and is_name(path.name):
                why = "what fine-tuning computed of photos, computed again at need"
                yield Leftover(path=path, size=size, why=why, lock=lock)


def spared(name: str) -> list[str]:
    """Return, in words, what `remove` leaves where it is: it is not ours."""
    model = models.known().get(name)
    if model is None:
        return []
    if model.path is not None:
        return [f"{model.path} stays: it is a part of photolabel"]
    copy = artefacts.others_copy(model)
    return [f"{copy} stays: it is Keras' own"] if copy else []


def clean(*, everything: bool = False) -> tuple[list[Leftover], list[Leftover]]:
    """Remove `leftovers`; return what was removed and what was left because another process is at work on it."""
    gone, busy = [], []
    for each in leftovers(everything=everything):
        if each.removable:
            try:
                if _discard(each, everything=everything):
                    gone.append(each)
            except BusyError:
                busy.append(each)
    return gone, busy


def _discard(each: Leftover, *, everything: bool) -> bool:
    """Remove a file; False if it turns out, now that nobody else is at work on it, that it should stay."""
    try:
        if each.lock is None:
            each.path.unlink(missing_ok=True)
            return True
        store, name = each.lock
        with store.lock(name, wait=False):
            with suppress(FileNotFoundError):  # to take the lock swept it
                # Another process may have been about to write the record, and be done with it now.
                if _verdict(store, each.path, each.path.lstat(), everything=everything) is None:
                    return False
                each.path.unlink()
            if each.path == store.path(name):
                store.remove(name)
        return True
    except OSError as error:
        raise CacheUnwritableError(f"{each.path} cannot be removed ({error.strerror}).") from None
