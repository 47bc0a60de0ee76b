"""What lies in the cache, and what each model takes of it. Nothing is hashed: sizes and records are looked at."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from .. import artefacts, engine, models
from ..errors import InvalidModelError
from ..models import Model
from ..store import Store

State = Literal["yes", "Keras' copy", "changed", "no"]
ARTEFACT = re.compile(r"(?P<model>.+)-[0-9a-f]{16}(-int8)?\.onnx")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model and what it takes on this machine.

    `here` is "changed" where the file is not the one on record: it is hashed, and if need be made again, at the next
    use. `files` are all its files in the cache with their sizes in bytes; a bundled file counts, Keras' copy does not.
    `model` is None for an imported file that cannot be read any more; then `problem` says why.
    """

    name: str
    kind: Literal["known", "bundled", "imported"]
    here: State
    files: tuple[tuple[Path, int], ...]
    model: Model | None
    problem: str | None = None

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(size for _, size in self.files)

    def record(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        model = self.model
        return {
            "name": self.name,
            "kind": self.kind,
            "installed": self.here in ("yes", "Keras' copy"),
            "here": self.here,
            "bytes": self.size,
            "files": [{"path": str(path), "bytes": size} for path, size in self.files],
            "accuracy": dict(vars(model.accuracy)) if model and model.accuracy else None,
            "recipes": [recipe.name for recipe in model.recipes] if model else [],
            "licence": model.licence if model else None,
            "source": model.source if model else None,
            "problem": self.problem,
        }


def entries() -> list[Entry]:
    """Return the known models and the imported ones, with what they take on this machine."""
    found = [_known(model) for model in models.known().values()]
    return found + [_imported(name) for name in models.own()]


def _known(model: Model) -> Entry:
    cache = Store()
    files = files_of(cache, model.name)
    if model.weights is None:
        assert model.path
        files = [model.path, *files]
        return Entry(name=model.name, kind="bundled", here="yes", files=sized(files), model=model)
    names = (artefacts.published_name(model), model.weights.name)
    here: State = "no"
    if any(cache.recorded(name) for name in names):
        here = "yes"
    elif artefacts.others_copy(model):
        here = "Keras' copy"
    elif any(os.path.lexists(cache.path(name)) for name in names):
        here = "changed"
    return Entry(name=model.name, kind="known", here=here, files=sized(files), model=model)


def _imported(name: str) -> Entry:
    kept = models.own_store()
    file = models.own_file(name)
    here: State = "yes" if kept.recorded(file) else "changed"
    model = problem = None
    try:
        model = replace(models.read(kept.path(file)), name=name)
    except InvalidModelError as error:
        problem = str(error)
    files = [kept.path(file), *files_of(Store(), name)]
    return Entry(name=name, kind="imported", here=here, files=sized(files), model=model, problem=problem)


def files_of(cache: Store, name: str) -> list[Path]:
    """The files of the model `name` in the cache itself: artefacts, compiled networks, a download; no unknown ones."""
    found = []
    model = models.known().get(name)
    download = model.weights.name if model and model.weights and not is_keras(cache) else None
    for path in listed(cache.folder):
        artefact, blob = ARTEFACT.fullmatch(path.name), engine.BLOB_NAME.fullmatch(path.name)
        stem = artefact or (blob and ARTEFACT.fullmatch(f"{blob['stem']}.onnx"))
        if (stem and stem["model"] == name) or (blob and blob["stem"] == name) or path.name == download:
            found.append(path)
    return found


def is_keras(cache: Store) -> bool:
    """Whether somebody made Keras' folder our cache: then its downloads are Keras'."""
    return artefacts.is_anothers(cache.folder)


def listed(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted; nothing of one that cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:  # not there yet, or not ours to read
        return []


def sized(paths: Iterable[Path]) -> tuple[tuple[Path, int], ...]:
    """Return the files that are there, with their sizes in bytes."""
    sized = []
    for path in paths:
        with suppress(OSError):  # another process has just removed it
            sized.append((path, path.lstat().st_size))
    return tuple(sized)
