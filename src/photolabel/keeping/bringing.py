"""A file of the user's own -> a model in the cache, under a name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from .. import artefacts, foreign, graph, models
from ..errors import InvalidModelError, MissingWeightsError, UsageError
from ..models import Model
from ..records import CHUNK
from ..store import Store


def bring(
    name: str,
    path: Path,
    *,
    model: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    recipe: str | os.PathLike[str] | None = None,
) -> Path:
    """Keep a file of the user's as the model `name`; return where. What it was made from may go.

    The file is an ONNX file that describes itself, or one that does not, with its `labels` and the `recipe` of its
    input as in `photolabel.load`, or weights for the known network `model` (default: the one that `models.fitting`
    finds, as for weights that are named with and not kept). Raises `UsageError` for a name that is taken, and the
    `ModelError` of whatever is wrong with the file.
    """
    kept, file = models.own_store(), models.own_file(name)
    if os.path.lexists(kept.path(file)):
        raise UsageError(f"there is a model {name} already. Remove it first (photolabel models remove {name}).")
    if not os.path.isfile(path):  # noqa: PTH113  # pathlib raises for a name that is too long
        raise MissingWeightsError(f"{path}: no such file.")
    if labels is not None:
        if model is not None:
            raise UsageError("labels are for an ONNX file, which has its own network: there is no --model to choose.")
        network = foreign.describe(path, labels_file=labels, recipe=recipe)
        foreign.bring(network, name, into=kept, file=file)
        return kept.path(file)
    if recipe is not None:
        raise UsageError("a recipe goes with --labels, for an ONNX file that does not describe itself.")
    if path.suffix.lower() == ".onnx" or _describes_itself(path):
        if model is not None:
            raise UsageError(f"{path} is an ONNX file: it has its own network, so there is no --model to choose.")
        _copy(kept, file, path)
        return kept.path(file)
    known = models.known().get(model) if model else models.fitting(path)
    if known is None or known.spec is None:
        able = ", ".join(each.name for each in models.known().values() if each.spec)
        raise UsageError(f"--model {model}: weights can be given to one of {able}.")
    artefacts.import_weights(replace(known, name=name), path, into=kept, name=file)
    return kept.path(file)


def _describes_itself(path: Path) -> bool:
    try:
        models.read(path)
    except InvalidModelError:
        return False
    return True


def _copy(kept: Store, file: str, path: Path) -> None:
    with kept.create(file) as copy:
        try:
            with path.open("rb") as source:
                while data := source.read(CHUNK):
                    copy.write(data)
        except OSError as error:
            raise InvalidModelError(f"{path}: cannot be read: {error.strerror}.") from None
        check_file(copy.temporary, shown=path)


def check_file(path: Path, *, shown: Path | str) -> Model:
    """Return the model in a stranger's file, its network checked too. Errors call the file `shown`."""
    try:
        model = models.read(path)
        graph.check(path)
    except InvalidModelError as error:
        raise InvalidModelError(str(error).replace(str(path), str(shown))) from None
    return model
