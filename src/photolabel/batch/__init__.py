"""A hundred thousand photos: found, decoded in parallel, named in batches, kept as they come."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from .. import engine, remote, sources
from ..classifier import DEFAULT_TOP, Classifier, Prediction
from ..cluster import Cluster
from ..errors import UsageError
from ..images import DEFAULT_LIMITS
from ..loading import load
from ..output import files
from ..workers import SECONDS, Crew
from .journal import Journal, pinned
from .parts import PHOTOS, Parts, is_folder
from .pipeline import Decoders, Here, Timing, predictions, through
from .places import Folder, Objects, Place
from .report import Tally, summary

__all__ = [
    "PHOTOS", "SECONDS", "Decoders", "Here", "Journal", "Parts", "Tally", "Timing", "classify_folder", "crew", "folder",
    "is_folder", "pinned", "predictions", "summary", "through", "workplace",
]  # fmt: skip

_MOST_WORKERS = 256


def classify_folder(
    photos: str | os.PathLike[str] | Iterable[str | os.PathLike[str] | sources.Item],
    classifier: Classifier | None = None,
    *,
    top: int | None = DEFAULT_TOP,
    sure: float | None = None,
    coverage: float | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    workers: int | None = None,
    seconds: float = SECONDS,
    ray: str | bool | None = None,
) -> Iterator[Prediction]:
    """Name what is in all photos of a folder, and beneath it: one Prediction a photo found, in a stable order.

    `photos` is a folder, an archive (tar, ZIP) or a file, or a list of those; `include` and `exclude` are globs, all
    as in `sources.find`. `classifier` is one that `photolabel.load` made, by default the default one. A photo that
    cannot be read gives a Prediction with an `error`, and the others go on. `top`, `sure` and `coverage`
    are as in `Classifier.classify`.

    Photos are decoded by `workers` processes, by default one a processor, so that one that makes its decoder crash,
    or takes more than `seconds`, costs an error and no more; 0 decodes in this process, without a limit of time.
    Everything is bounded: ask for the next Prediction as slowly as you like.

    `ray` has it done on a Ray cluster instead, an extra: True for the one that RAY_ADDRESS names or that runs on this
    machine, else one that is started for the purpose; or its address. The Predictions are the same, to the bit if the
    classifier has the same number of threads. Every machine must find the photos by the same paths, or they are on an
    object store, and have photolabel and the model, or may download it.

    Raises UsageError for a wrong argument, what `photolabel.load` raises, and ClusterError where the cluster cannot be
    used, when the first Prediction is asked for.
    """
    if classifier is not None and not isinstance(classifier, Classifier):
        raise UsageError(f"classifier is what photolabel.load returns, not of type {type(classifier).__name__}.")
    listed = [photos] if isinstance(photos, str | os.PathLike) else photos
    with ExitStack() as stack:
        limits = DEFAULT_LIMITS if classifier is None else classifier.limits
        found = sources.find(listed, include=include, exclude=exclude, limits=limits)
        decoders = workplace(workers, seconds=seconds, stack=stack, ray=ray)
        if classifier is None:
            classifier = stack.enter_context(load())
        yield from predictions(found, classifier, decoders, top=top, sure=sure, coverage=coverage)


def workplace(
    workers: int | None, *, seconds: float = SECONDS, stack: ExitStack, ray: str | bool | None = None
) -> Decoders | Cluster:
    """Return where `predictions` is to have its work done, to be closed with `stack`: a `crew`, or a cluster.

    `ray` is as of `classify_folder`. Raises UsageError, and what `Cluster` raises.
    """
    if ray is None or ray is False:
        return crew(workers, seconds=seconds, stack=stack)
    if workers is not None:
        raise UsageError("workers are processes of this machine: expected them, or a Ray cluster, not both.")
    return stack.enter_context(Cluster(None if ray is True else ray, seconds=seconds))


def crew(workers: int | None, *, seconds: float = SECONDS, stack: ExitStack) -> Decoders:
    """Return who decodes, started already, and to be closed with `stack`.

    `workers` processes, by default one a processor that this one may use; 0: this process. Raises UsageError.
    """
    if workers is None:
        workers = engine.available_threads()
    if not isinstance(workers, int) or isinstance(workers, bool) or not 0 <= workers <= _MOST_WORKERS:
        raise UsageError(f"workers={workers!r}: expected a whole number from 0 to {_MOST_WORKERS}.")
    if not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
        raise UsageError(f"seconds={seconds!r}: expected a number of seconds above 0.")
    if workers == 0:
        return Here()
    return stack.enter_context(Crew(workers, seconds=seconds))


def folder(output: str) -> Place:
    """Return the folder that is called so, to be written to; by a URL, of an object store."""
    if remote.is_url(output) and remote.is_web(output):
        raise UsageError(f"{output}: a web server cannot be written to: expected a folder, s3:// or gs://.")
    if remote.is_url(output) and Path(output).suffix.lower() in files.VIEWS and not output.endswith("/"):
        raise UsageError(f"{output}: files on an object store are Parquet files in a folder: expected a folder's URL.")
    return Objects(output) if remote.is_url(output) else Folder(Path(output))
