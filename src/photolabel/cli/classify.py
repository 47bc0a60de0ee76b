"""photolabel [classify] PHOTO ...: name what is in photos."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import OutputError, PhotoError, UsageError
from ..output import printable
from . import EXIT_CODES, VERBS
from . import __doc__ as exit_codes
from .parser import Parser, add_choice, add_max_pixels, add_model_options, add_ray, add_work, probability, share, whole
from .streams import STDIN, complain, say

if TYPE_CHECKING:
    from ..batch import Tally
    from ..classifier import Classifier, Prediction
    from ..progress import Watch
    from ..sidecars import Writer
    from .runs import Log

_ALL = "all"


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
    made.add_argument(
        "--sure",
        type=share,
        metavar="P",
        help="say the most specific name that is as sure as this, as in 0.9: a class, else a broader name (cat), else "
        "unsure",
    )
    made.add_argument(
        "--tree", action="store_true", help="print beneath each answer the names above it, and how probable each is"
    )
    made.add_argument("--json", action="store_true", help="print one JSON record a photo, errors included")
    made.add_argument(
        "--coverage",
        type=share,
        metavar="SHARE",
        help="print the smallest set of names that holds the true one as often as this, as in 0.95; for a model that "
        "photolabel calibrate has calibrated",
    )
    made.add_argument(
        "--disagreeing",
        action="store_true",
        help="print only the photos on which the models or views disagree (fewer than three in four say the same): "
        "those worth a look of yours",
    )
    add_max_pixels(made)
    found = made.add_argument_group("many photos")
    found.add_argument(
        "--from",
        dest="lists",
        action="append",
        default=[],
        metavar="FILE|-",
        help="a list of photos, folders and archives, a line each or separated by NUL bytes",
    )
    add_choice(found)
    found.add_argument(
        "--output",
        "-o",
        metavar="FILE|DIR",
        help="write the records into this file when all are done: .jsonl, .csv, .txt, or .parquet (an extra); until "
        "then they are kept in FILE.partial. Or into Parquet files in this folder, as they come: by a slash at its "
        "end, as a URL (s3://), or with --ray",
    )
    found.add_argument(
        "--part-photos", type=whole, metavar="N", help="with --output DIR: photos a file (default: 1000)"
    )
    found.add_argument(
        "--resume",
        action="store_true",
        help="with --output: go on with a run that was stopped, with the model and options that it began with",
    )
    add_work(found)
    add_ray(found)
    keywords = made.add_argument_group("keywords")
    keywords.add_argument(
        "--xmp",
        action="store_true",
        help="write each photo's name into a sidecar beside it, IMG.jpg.xmp, merged with what is there; "
        "photolabel undo takes it back",
    )
    keywords.add_argument(
        "--xmp-threshold", type=probability, metavar="P", help="only names of at least this probability (default: 0.5)"
    )
    keywords.add_argument("--dry-run", action="store_true", help="with --xmp: only say what would be written")
    add_model_options(made)
    return made


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
    from .. import batch, classifier, images  # only now: --help must come at once
    from . import runs
    from .network import loaded
    from .photos import Found

    kind = runs.Kind(
        command=("photolabel",), option="--output", given=_given, places={"--from": "lists"}, beside=runs.ray_words
    )
    tally, timing = batch.Tally(), batch.Timing()
    with ExitStack() as stack:
        if args.output is not None and not args.resume:
            runs.check(args)
        journal = runs.resumed(args, kind, tally.add, stack)
        if journal is None and args.resume and runs.ended(args):
            complain(f"{args.output} is complete: there is nothing to go on with")
            return 0
        if not args.photos and not args.lists:
            raise UsageError("expected a photo, as in: photolabel mug.jpg. See: photolabel --help")
        limits = images.Limits() if args.max_pixels is None else images.Limits(pixels=args.max_pixels)
        found = Found(args, limits)
        workers = 0 if args.workers is None and found.alone and args.ray is None else args.workers
        seconds = args.seconds or batch.SECONDS
        decoders = batch.workplace(workers, seconds=seconds, stack=stack, ray=args.ray)  # starting meanwhile
        try:
            ready = loaded(args, limits)
            if args.disagreeing and not ready.several:
                raise UsageError("--disagreeing goes with several models (--model vgg16+vgg19) or --views.")
            top = classifier.DEFAULT_TOP if args.top is None else None if args.top == _ALL else args.top
            chosen = args.model is not None or bool(os.environ.get("PHOTOLABEL_MODEL"))
            journal = runs.begun(args, kind, ready, journal, stack)
            watch = stack.enter_context(_watch(args, journal, alone=found.alone))
            found.count(watch)
            begun, earlier = time.monotonic(), tally.photos
            items = found.items if journal is None else journal.remaining(found.items)
            told = _Told(args, ready, journal, stack.enter_context(_keywords(args)), watch, tally)
            stream = batch.predictions(
                items, ready, decoders, top=top, sure=args.sure, coverage=args.coverage, timing=timing
            )
            with closing(stream):
                for prediction in stream:
                    told.take(prediction)
                    if not chosen and prediction.error is None:
                        chosen = True
                        told.who_answers()
            if journal is not None:
                runs.written(args, kind, journal, labels=ready.check_top(top))
        except KeyboardInterrupt as stop:
            raise runs.stopped(stop, kind, journal, args) from None
        except runs.FAILURES as error:
            raise runs.failed(error, kind, journal, args) from None
        watch.hide()
        if not tally.photos:
            complain(f"no photos found{found.left_out}")
        elif watch.shown:
            for line in batch.summary(tally, timing, seconds=time.monotonic() - begun, earlier=earlier).splitlines():
                complain(line)
        ready.close()  # only here: whoever was interrupted shall not wait for the network
    return EXIT_CODES[OutputError] if told.unwritten else EXIT_CODES[PhotoError] if tally.failed else 0


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """What the records depend on, as the user says it."""
    from . import runs

    return {
        "photos": args.photos,
        "--from": args.lists,
        "--include": args.include,
        "--exclude": args.exclude,
        "--labels": args.labels,
        **runs.of_network(args),
        "--top": args.top,
        "--sure": args.sure,
        "--coverage": args.coverage,
        "--xmp": args.xmp or None,
        "--xmp-threshold": args.xmp_threshold,
    }


def _check(args: argparse.Namespace) -> None:
    from . import runs

    runs.check_ray(args)
    if [*args.photos, *args.lists].count(STDIN) > 1:
        raise UsageError("standard input (-) can be read once only.")
    if not args.xmp and (args.dry_run or args.xmp_threshold is not None):
        raise UsageError("--dry-run and --xmp-threshold go with --xmp.")
    if args.disagreeing and (args.output is not None or args.xmp):
        raise UsageError("--disagreeing is for looking at: without --output and --xmp. Their records have `opinions`.")
    if args.tree and (args.json or args.output is not None):
        raise UsageError("--tree is for people: without --json and --output.")
    if args.resume and args.output is None:
        raise UsageError("--resume goes with --output FILE: what it goes on with is in FILE.partial.")
    if args.part_photos is not None and (args.output is None or args.resume):
        raise UsageError("--part-photos goes with --output DIR, when the run begins.")
    if args.output is not None and (args.json or args.dry_run):
        raise UsageError("--output writes all records into its file: without --json and --dry-run.")
    if args.output is not None:
        from ..output import files

        if runs.place(args) is None:
            files.check(Path(args.output))
        if os.path.realpath(args.output) in map(os.path.realpath, args.lists):
            raise UsageError(f"{args.output} is the list that --from reads: it would be lost. Write elsewhere.")


# -- what is said


def _watch(args: argparse.Namespace, journal: Log | None, *, alone: bool) -> Watch:
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


class _Told:
    """What is said and written of each photo, as they come."""

    def __init__(
        self,
        args: argparse.Namespace,
        ready: Classifier,
        journal: Log | None,
        keywords: Writer | None,
        watch: Watch,
        tally: Tally,
    ) -> None:
        self._args, self._journal, self._keywords, self._watch, self._tally = args, journal, keywords, watch, tally
        self._ready = ready
        self.unwritten = False  # some sidecar

    def take(self, prediction: Prediction) -> None:
        record = prediction.record()
        if self._keywords is not None:
            self._write(self._keywords, record)
        if self._journal is not None:  # last: a photo whose record is kept is done
            self._journal.add(record)
        elif not self._args.dry_run and (prediction.disagreeing or record["error"] or not self._args.disagreeing):
            self._show(record)
            if self._args.tree:
                self._show_path(prediction)
        self._tally.add(record)
        self._watch.step(errors=self._tally.failed, last=printable(str(prediction)))

    def _write(self, keywords: Writer, record: Mapping[str, Any]) -> None:
        try:
            change = keywords.write(record)
        except OutputError as error:  # this sidecar's; the next may be written
            self._complain(str(error))
            self.unwritten = True
            return
        if change and self._args.dry_run:
            say(printable(str(change)))

    def _show(self, record: Mapping[str, Any]) -> None:
        """Print one photo's result: results to standard output; an error too if it is a record, else to stderr."""
        from .. import output
        from .photos import is_named

        named = not is_named(self._args, record["photo"])
        if self._args.json:
            say(output.json_line(record))
        elif record["error"] is not None:
            self._complain(f"{record['photo']}: {record['error']['message']}")
        elif self._args.top is not None:
            say(output.table(record, named=named, answered=self._args.sure is not None or bool(record["names"])))
        else:
            say(output.line(record, named=named))

    def _show_path(self, prediction: Prediction) -> None:
        """Print the names above the answer, or above the likeliest class where that is unsure."""
        from .. import output

        if prediction.answer is None or (tree := self._ready.tree) is None:
            return
        wnid = prediction.answer.wnid or prediction.top.wnid
        rows = [
            (f"  {'  ' * depth}{name.everyday}", f"{probability * 100:.2f}%")
            for depth, (name, probability) in enumerate(tree.along(str(wnid), prediction.probabilities))
        ]
        say(output.columns(rows))

    def who_answers(self) -> None:
        """Say that it is the bundled model, which nobody asked for."""
        from .. import models

        if self._ready.model.name == models.BUNDLED:
            self._complain(
                f"answered by {models.BUNDLED}, which comes with photolabel; "
                "to have VGG16 answer: photolabel models download vgg16"
            )

    def _complain(self, message: str) -> None:
        self._watch.hide()
        complain(message)
