"""A run whose records go into a file: what it depends on, how it is gone on with, what to say when it was stopped."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from .. import __version__, batch, engine
from ..classifier import DEFAULT_TOP
from ..errors import (
    ClusterError,
    MissingExtraError,
    OutputError,
    PhotoError,
    StoreError,
    TruthError,
    UsageError,
)
from ..output import files
from .streams import STDIN, Terminated

if TYPE_CHECKING:
    from ..batch.places import Place
    from ..classifier import Classifier

Log: TypeAlias = batch.Journal | batch.Parts  # what a run that can be gone on with keeps its records in

_DEFAULTS = {"--precision": "fp32", "--engine": "openvino", "--top": DEFAULT_TOP}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A verb whose runs can be gone on with: how it is called, by which option its file, and what records depend on.

    `given` reads that from the arguments, by their options; those without a dash are lists of words. `places` says
    under which name the arguments have an option, where that is another than its own. `beside` gives those words of the
    command that no record depends on, but that who goes on wants again.
    """

    command: tuple[str, ...]
    option: str
    given: Callable[[argparse.Namespace], dict[str, Any]]
    places: Mapping[str, str] = field(default_factory=dict)
    beside: Callable[[argparse.Namespace], list[str]] = lambda args: []


def of_network(args: argparse.Namespace) -> dict[str, Any]:
    """What records depend on that is of the network and of how it looks at photos, as the user says it."""
    return {
        "--model": args.model,
        "--weights": args.weights,
        "--recipe": args.recipe,
        "--views": args.views,
        "--scales": args.scales and list(args.scales),
        "--uncalibrated": args.uncalibrated or None,
        "--precision": args.precision,
        "--engine": args.engine,
        "--threads": args.threads,
        "--max-pixels": args.max_pixels,
    }


def _given(args: argparse.Namespace, kind: Kind) -> dict[str, Any]:
    return {**kind.given(args), "folder": str(Path.cwd())}


def place(args: argparse.Namespace) -> Place | None:
    """The folder that --output asks for; None where it is a file."""
    likely = getattr(args, "ray", None) is not None
    return batch.folder(args.output) if batch.is_folder(args.output, likely=likely) else None


def check_ray(args: argparse.Namespace) -> None:
    """Raise what is wrong with the cluster that --ray asks for, as far as that shows here."""
    if args.ray is not None:
        from ..cluster import connecting

        connecting.check(None if args.ray is True else args.ray)


def ray_words(args: argparse.Namespace) -> list[str]:
    """The words of the command that ask for a cluster: no record depends on them."""
    return [] if args.ray is None else ["--ray"] if args.ray is True else [f"--ray={args.ray}"]


def check(args: argparse.Namespace) -> None:
    """Raise what is wrong with where a run is to be begun, before long work."""
    if (folder := place(args)) is not None:
        batch.Parts.check(folder)
    else:
        batch.Journal.check(Path(args.output))


def ended(args: argparse.Namespace) -> bool:
    """Whether the last run has ended, so that there is nothing to go on with."""
    return batch.Journal.ended(Path(args.output)) if (folder := place(args)) is None else batch.Parts.ended(folder)


def resumed(
    args: argparse.Namespace, kind: Kind, seen: Callable[[Mapping[str, Any]], None], stack: ExitStack
) -> Log | None:
    """The run to go on with, if there is one; then the arguments are its own. `seen` is called with its records."""
    journal: Log | None = None
    if args.resume and (folder := place(args)) is not None:
        journal = batch.Parts.resume(folder, seen)
    elif args.resume:
        journal = batch.Journal.resume(Path(args.output), seen)
    if journal is not None:
        stack.enter_context(journal)
        began = batch.pinned(_given(args, kind), journal.settings.get("arguments"), defaults=_DEFAULTS)
        for option in began.keys() - {"folder"}:
            setattr(args, kind.places.get(option, option.removeprefix("--").replace("-", "_")), began[option])
    return journal


def begun(args: argparse.Namespace, kind: Kind, ready: Classifier, journal: Log | None, stack: ExitStack) -> Log | None:
    """The journal of a run with --output, begun or checked against the network that is there now."""
    if args.output is None:
        return None
    if journal is None:
        if args.model is None and args.weights is None:
            args.model = os.environ.get("PHOTOLABEL_MODEL") or ready.model.name  # tomorrow's default may be another one
        args.threads = args.threads or engine.available_threads()
        settings = {
            "arguments": _given(args, kind),
            "network": ready.digest,
            "calibration": ready.calibration and ready.calibration.digest,
            "photolabel": __version__,
        }
        if (folder := place(args)) is not None:
            return stack.enter_context(batch.Parts.begin(folder, settings, photos=args.part_photos or batch.PHOTOS))
        return stack.enter_context(batch.Journal.begin(Path(args.output), settings))
    if journal.settings.get("network") != ready.digest:
        raise UsageError(
            f"{args.output}: the run began with another network under this name. Write elsewhere, or remove "
            f"{journal.path} to start anew."
        )
    if journal.settings.get("calibration") != (ready.calibration and ready.calibration.digest):
        raise UsageError(
            f"{args.output}: the model has been calibrated anew since the run began, so its probabilities would be "
            f"others. Write elsewhere, or remove {journal.path} to start anew."
        )
    return journal


def written(args: argparse.Namespace, kind: Kind, journal: Log, *, labels: int) -> None:
    """Make the output of the journal, which is then no longer needed."""
    if isinstance(journal, batch.Parts):
        journal.finish()
        return
    try:
        files.write(Path(args.output), journal.lines(), labels=labels)
    except OutputError as error:
        raise OutputError(f"{error} {kept(journal, kind, args)}") from None
    journal.remove()


@contextmanager
def guarded(journal: batch.Journal | None, kind: Kind, args: argparse.Namespace) -> Iterator[None]:
    """Where what is done ends a run, say how to go on; where nothing was done by then, leave nothing behind.

    Else who has mended what was wrong, say an option, would be told that it is not as it was.
    """
    try:
        yield
    except (TruthError, PhotoError) as error:
        if journal is None:
            raise
        if journal.done:
            raise type(error)(f"{error} {kept(journal, kind, args)}") from None
        journal.remove()
        raise


def stopped(stop: KeyboardInterrupt, kind: Kind, journal: Log | None, args: argparse.Namespace) -> KeyboardInterrupt:
    """What to tell whoever stopped us."""
    if journal is None:
        return stop
    how = "terminated" if isinstance(stop, Terminated) else "interrupted"
    return type(stop)(f"{how}; {kept(journal, kind, args)}")


# What may happen in the midst of a run that has nothing to do with it: to a cluster, an object store, another machine.
FAILURES = (ClusterError, StoreError, MissingExtraError)
Failure: TypeAlias = ClusterError | StoreError | MissingExtraError


def failed(error: Failure, kind: Kind, journal: Log | None, args: argparse.Namespace) -> Failure:
    """What to tell where one of `FAILURES` ends a run: also how to go on, where something is done."""
    return error if journal is None or not journal.done else type(error)(f"{error} {kept(journal, kind, args)}")


def kept(journal: Log, kind: Kind, args: argparse.Namespace) -> str:
    """Return what is kept, and how to go on, as a sentence without its full stop."""
    command = shlex.join([*kind.command, "--resume", f"{kind.option}={args.output}", *kind.beside(args)])
    fed = ", with the same standard input" if STDIN in (*args.photos, *getattr(args, "lists", ())) else ""
    return f"what is done ({journal.done:,}) is kept in {journal.path}. To go on{fed}: {command}"
