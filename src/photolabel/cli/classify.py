"""photolabel [classify] PHOTO ...: name what is in photos."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import OutputError, PhotoError, UsageError
from ..output import files, printable
from . import EXIT_CODES, VERBS
from . import __doc__ as exit_codes
from .parser import Parser, add_model_options, whole
from .streams import STDIN, Terminated, complain, say

if TYPE_CHECKING:
    from ..batch import Journal, Tally
    from ..classifier import Classifier
    from ..images import Limits
    from ..progress import Watch
    from ..sidecars import Writer

_ALL = "all"
_SECONDS = 60  # workers.SECONDS, which --help has no time to import


def parser() -> Parser:
    """Return the verb's parser."""
    verbs = "\n".join(f"  {verb:<10} {summary}" for verb, summary in VERBS.items())
    made = Parser(
        prog="photolabel",
        usage="photolabel PHOTO [PHOTO ...] [options]\n       photolabel VERB [options]",
        description="Name what is in photographs.",
        epilog=f"verbs (each has its own --help):\n{verbs}\n\n{(exit_codes or '').partition(chr(10) * 2)[2].strip()}",
    )
    made.add_argument(
        "photos",
        nargs="*",
        metavar="PHOTO",
        help="an image file, a folder of them, a tar or ZIP archive, or - to read one photo from standard input",
    )
    made.add_argument("--version", "-V", action="version", version=f"photolabel {__version__}")
    made.add_argument("--top", type=_top, metavar="N|all", help="show the N likeliest names, or all of them")
    made.add_argument("--json", action="store_true", help="print one JSON record a photo, errors included")
    made.add_argument(
        "--max-pixels",
        type=whole,
        metavar="N",
        help="refuse larger photos before decoding (default: 100 million)",
    )
    found = made.add_argument_group("many photos")
    found.add_argument(
        "--from",
        dest="lists",
        action="append",
        default=[],
        metavar="FILE|-",
        help="a list of photos, folders and archives, a line each or separated by NUL bytes",
    )
    found.add_argument(
        "--include", action="append", default=[], metavar="GLOB", help="of folders and archives take only what matches"
    )
    found.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="of folders and archives leave out what matches"
    )
    found.add_argument(
        "--output",
        "-o",
        metavar="FILE",
        help="write the records into this file when all are done: .jsonl, .csv, .txt, or .parquet (an extra); until "
        "then they are kept in FILE.partial",
    )
    found.add_argument(
        "--resume",
        action="store_true",
        help="with --output: go on with a run that was stopped, with the model and options that it began with",
    )
    found.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="processes that read and decode; 0: none but this one (default: one a processor, for one photo 0)",
    )
    found.add_argument(
        "--seconds",
        type=_seconds,
        metavar="S",
        help=f"how long a worker may take for a photo (default: {_SECONDS})",
    )
    found.add_argument(
        "--progress",
        choices=["auto", "plain", "none"],
        default="auto",
        help="what to show meanwhile, and a summary at the end: on a terminal a line that changes (auto, the default), "
        "lines for a log (plain), or nothing (none)",
    )
    keywords = made.add_argument_group("keywords")
    keywords.add_argument(
        "--xmp",
        action="store_true",
        help="write each photo's name into a sidecar beside it, IMG.jpg.xmp, merged with what is there; "
        "photolabel undo takes it back",
    )
    keywords.add_argument(
        "--xmp-threshold", type=_probability, metavar="P", help="only names of at least this probability (default: 0.5)"
    )
    keywords.add_argument("--dry-run", action="store_true", help="with --xmp: only say what would be written")
    add_model_options(made)
    return made


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a probability from 0 to 1")
    return value


def _workers(text: str) -> int:
    return 0 if text == "0" else whole(text, most=256)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds above 0")
    return value


def _top(text: str) -> int | str:
    if text == _ALL:
        return _ALL
    try:
        return whole(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or all") from None


def run(argv: list[str]) -> int:
    """Run the verb and return its exit code."""
    # argparse cannot take photos and options in any order and know "--" as well, so what follows "--" is ours.
    end = argv.index("--") if "--" in argv else len(argv)
    args = parser().parse_intermixed_args(argv[:end])
    args.photos += argv[end + 1 :]
    _check(args)

    # OpenVINO's package loads its model converter and a telemetry client if they are there. No verb needs them, and
    # without them a photo has its name sooner.
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # which stands for: not there
    from .. import batch, classifier, images, models  # only now: --help must come at once
    from .photos import Found

    tally = batch.Tally()
    with ExitStack() as stack:
        if args.output is not None and not args.resume:
            batch.Journal.check(Path(args.output))
        journal = _resumed(args, tally, stack)
        if journal is None and args.resume and batch.Journal.ended(Path(args.output)):
            complain(f"{args.output} is complete: there is nothing to go on with")
            return 0
        if not args.photos and not args.lists:
            raise UsageError("expected a photo, as in: photolabel mug.jpg. See: photolabel --help")
        limits = images.Limits() if args.max_pixels is None else images.Limits(pixels=args.max_pixels)
        found = Found(args, limits)
        workers = 0 if args.workers is None and found.alone else args.workers
        decoders = batch.crew(workers, seconds=args.seconds or batch.SECONDS, stack=stack)
        ready = _loaded(args, limits)
        chosen = args.model is not None or bool(os.environ.get("PHOTOLABEL_MODEL"))
        top = classifier.DEFAULT_TOP if args.top is None else None if args.top == _ALL else args.top
        journal = _begun(args, ready, journal, stack)
        keywords = stack.enter_context(_keywords(args))
        watch = stack.enter_context(_watch(args, journal, alone=found.alone))
        found.count(watch)
        timing, begun, earlier = batch.Timing(), time.monotonic(), tally.photos
        items = found.items if journal is None else journal.remaining(found.items)
        stream = batch.predictions(items, ready, decoders, top=top, timing=timing)
        unwritten = False
        try:
            with closing(stream):
                for prediction in stream:
                    record = prediction.record()
                    if keywords is not None and not _write(keywords, record, args, watch):
                        unwritten = True
                    if journal is not None:
                        journal.add(record)
                    elif not args.dry_run:
                        _show(record, args, watch)
                    tally.add(record)
                    watch.step(errors=tally.failed, last=printable(str(prediction)))
                    if not chosen and prediction.error is None and ready.model.name == models.BUNDLED:
                        chosen = True
                        watch.hide()
                        complain(
                            f"answered by {models.BUNDLED}, which comes with photolabel; "
                            "to have VGG16 answer: photolabel models download vgg16"
                        )
            if journal is not None:
                files.write(Path(args.output), journal.lines(), labels=ready.check_top(top))
                journal.remove()
        except KeyboardInterrupt as stop:
            raise _stopped(stop, journal, args) from None
        watch.hide()
        if not tally.photos:
            complain(f"no photos found{found.left_out}")
        elif watch.shown:
            for line in batch.summary(tally, timing, seconds=time.monotonic() - begun, earlier=earlier).splitlines():
                complain(line)
        ready.close()  # only here: whoever was interrupted shall not wait for the network
    return EXIT_CODES[OutputError] if unwritten else EXIT_CODES[PhotoError] if tally.failed else 0


def _check(args: argparse.Namespace) -> None:
    if [*args.photos, *args.lists].count(STDIN) > 1:
        raise UsageError("standard input (-) can be read once only.")
    if not args.xmp and (args.dry_run or args.xmp_threshold is not None):
        raise UsageError("--dry-run and --xmp-threshold go with --xmp.")
    if args.resume and args.output is None:
        raise UsageError("--resume goes with --output FILE: what it goes on with is in FILE.partial.")
    if args.output is not None and (args.json or args.dry_run):
        raise UsageError("--output writes all records into its file: without --json and --dry-run.")
    if args.output is not None:
        files.check(Path(args.output))


# -- what a run depends on


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
        "--max-pixels": args.max_pixels,
        "--xmp": args.xmp or None,
        "--xmp-threshold": args.xmp_threshold,
        "folder": str(Path.cwd()),
    }


def _resumed(args: argparse.Namespace, tally: Tally, stack: ExitStack) -> Journal | None:
    """The run to go on with, if there is one; then the arguments are its own."""
    from .. import batch

    journal = batch.Journal.resume(Path(args.output), tally.add) if args.resume else None
    if journal is not None:
        stack.enter_context(journal)
        began = batch.pinned(_given(args), journal.settings.get("arguments"))
        args.photos, args.lists = began["photos"], began["--from"]
        for option in began.keys() - {"photos", "--from", "folder"}:
            setattr(args, option.removeprefix("--").replace("-", "_"), began[option])
    return journal


def _begun(args: argparse.Namespace, ready: Classifier, journal: Journal | None, stack: ExitStack) -> Journal | None:
    """The journal of a run with --output, begun or checked against the network that is there now."""
    from .. import batch, engine

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


def _stopped(stop: KeyboardInterrupt, journal: Journal | None, args: argparse.Namespace) -> KeyboardInterrupt:
    """What to tell whoever stopped us."""
    if journal is None:
        return stop
    how = "terminated" if isinstance(stop, Terminated) else "interrupted"
    command = shlex.join(["photolabel", "--resume", f"--output={args.output}"])
    fed = ", with the same standard input" if STDIN in (*args.photos, *args.lists) else ""
    return type(stop)(f"{how}; what is done ({journal.done:,}) is kept in {journal.path}. To go on{fed}: {command}")


def _loaded(args: argparse.Namespace, limits: Limits) -> Classifier:
    from .. import classifier, models

    try:
        return classifier.load(
            args.model,
            weights=args.weights,
            labels=args.labels,
            recipe=args.recipe,
            precision=args.precision or "fp32",
            threads=args.threads,
            engine=args.engine or "openvino",
            limits=limits,
        )
    except UsageError as error:
        owners = [x for x in models.known() if any(y.name == args.recipe for y in models.resolve(x).recipes)]
        if "has no recipe" not in str(error) or not owners:
            raise
        raise UsageError(f"{error} That one is of {', '.join(owners)}: add --model {owners[0]}") from error


# -- what is said


def _watch(args: argparse.Namespace, journal: Journal | None, *, alone: bool) -> Watch:
    from .. import progress

    # Names that go to the same terminal are progress enough.
    unseen = args.progress == "auto" and journal is None and (alone or sys.stdout is None or sys.stdout.isatty())
    return progress.Watch("none" if unseen else args.progress, done=0 if journal is None else journal.done)


def _keywords(args: argparse.Namespace) -> AbstractContextManager[Writer | None]:
    if not args.xmp:
        return nullcontext()
    from .. import sidecars

    threshold = sidecars.THRESHOLD if args.xmp_threshold is None else args.xmp_threshold
    return sidecars.Writer(threshold=threshold, dry_run=args.dry_run)


def _write(keywords: Writer, record: Mapping[str, Any], args: argparse.Namespace, watch: Watch) -> bool:
    """Give a photo its keywords; return whether that went well."""
    try:
        change = keywords.write(record)
    except OutputError as error:  # this sidecar's; the next may be written
        watch.hide()
        complain(str(error))
        return False
    if change and args.dry_run:
        say(printable(str(change)))
    return True


def _show(record: Mapping[str, Any], args: argparse.Namespace, watch: Watch) -> None:
    """Print one photo's result: results to standard output; an error too if it is a record, else to stderr."""
    from .. import output
    from .photos import is_named

    named = not is_named(args, record["photo"])
    if args.json:
        say(output.json_line(record))
    elif record["error"] is not None:
        watch.hide()
        complain(f"{record['photo']}: {record['error']['message'].replace('Limits.pixels', '--max-pixels')}")
    elif args.top is not None:
        say(output.table(record, named=named))
    else:
        say(output.line(record, named=named))
