"""A run with --output: what it depends on, how it is gone on with, and what to say when it was stopped."""

from __future__ import annotations

import argparse
import os
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__, batch, engine
from ..classifier import DEFAULT_TOP
from ..errors import OutputError, UsageError
from ..output import files
from .streams import STDIN, Terminated

if TYPE_CHECKING:
    from ..batch import Journal, Tally
    from ..classifier import Classifier


_DEFAULTS = {"--precision": "fp32", "--engine": "openvino", "--top": DEFAULT_TOP}


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """What the records depend on, as the user says it."""
    return {
        "photos": args.photos,
        "--from": args.lists,
        "--include": args.include,
        "--exclude": args.exclude,
        "--model": args.model,
        "--weights": args.weights,
        "--labels": args.labels,
        "--recipe": args.recipe,
        "--precision": args.precision,
        "--engine": args.engine,
        "--threads": args.threads,
        "--top": args.top,
        "--sure": args.sure,
        "--max-pixels": args.max_pixels,
        "--xmp": args.xmp or None,
        "--xmp-threshold": args.xmp_threshold,
        "folder": str(Path.cwd()),
    }


def resumed(args: argparse.Namespace, tally: Tally, stack: ExitStack) -> Journal | None:
    """The run to go on with, if there is one; then the arguments are its own."""
    journal = batch.Journal.resume(Path(args.output), tally.add) if args.resume else None
    if journal is not None:
        stack.enter_context(journal)
        began = batch.pinned(_given(args), journal.settings.get("arguments"), defaults=_DEFAULTS)
        args.photos, args.lists = began["photos"], began["--from"]
        for option in began.keys() - {"photos", "--from", "folder"}:
            setattr(args, option.removeprefix("--").replace("-", "_"), began[option])
    return journal


def begun(args: argparse.Namespace, ready: Classifier, journal: Journal | None, stack: ExitStack) -> Journal | None:
    """The journal of a run with --output, begun or checked against the network that is there now."""
    if args.output is None:
        return None
    if journal is None:
        if args.model is None and args.weights is None:
            args.model = os.environ.get("PHOTOLABEL_MODEL") or ready.model.name  # tomorrow's default may be another one
        args.threads = args.threads or engine.available_threads()
        settings = {"arguments": _given(args), "network": ready.digest, "photolabel": __version__}
        return stack.enter_context(batch.Journal.begin(Path(args.output), settings))
    if journal.settings.get("network") != ready.digest:
        raise UsageError(
            f"{args.output}: the run began with another network under this name. Write to another file, or remove "
            f"{journal.path.name} to start anew."
        )
    return journal


def written(args: argparse.Namespace, journal: Journal, *, labels: int) -> None:
    """Make the output of the journal, which is then no longer needed."""
    try:
        files.write(Path(args.output), journal.lines(), labels=labels)
    except OutputError as error:
        raise OutputError(f"{error} {_kept(journal, args)}") from None
    journal.remove()


def stopped(stop: KeyboardInterrupt, journal: Journal | None, args: argparse.Namespace) -> KeyboardInterrupt:
    """What to tell whoever stopped us."""
    if journal is None:
        return stop
    how = "terminated" if isinstance(stop, Terminated) else "interrupted"
    return type(stop)(f"{how}; {_kept(journal, args)}")


def _kept(journal: Journal, args: argparse.Namespace) -> str:
    command = shlex.join(["photolabel", "--resume", f"--output={args.output}"])
    fed = ", with the same standard input" if STDIN in (*args.photos, *args.lists) else ""
    return f"what is done ({journal.done:,}) is kept in {journal.path}. To go on{fed}: {command}"
