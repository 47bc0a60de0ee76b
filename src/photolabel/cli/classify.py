"""photolabel [classify] PHOTO ...: name what is in photos."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from .. import __version__
from ..errors import OutputError, PhotoError, UsageError
from ..output import printable
from . import EXIT_CODES, VERBS
from . import __doc__ as exit_codes
from .parser import Parser, add_model_options, whole
from .streams import complain, say, standard_input

if TYPE_CHECKING:
    from ..classifier import Prediction
    from ..images import Limits
    from ..sidecars import Writer
    from ..sources import Item

_STDIN, _ALL = "-", "all"


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
    if not args.photos and not args.lists:
        raise UsageError("expected a photo, as in: photolabel mug.jpg. See: photolabel --help")
    if [*args.photos, *args.lists].count(_STDIN) > 1:
        raise UsageError("standard input (-) can be read once only.")
    if not args.xmp and (args.dry_run or args.xmp_threshold is not None):
        raise UsageError("--dry-run and --xmp-threshold go with --xmp.")

    # OpenVINO's package loads its model converter and a telemetry client if they are there. No verb needs them, and
    # without them a photo has its name sooner.
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # which stands for: not there
    from .. import classifier, images, models  # only now: --help must come at once

    limits = images.Limits() if args.max_pixels is None else images.Limits(pixels=args.max_pixels)
    failed = unwritten = False
    try:
        loaded = classifier.load(
            args.model,
            weights=args.weights,
            labels=args.labels,
            recipe=args.recipe,
            precision=args.precision,
            threads=args.threads,
            engine=args.engine,
            limits=limits,
        )
    except UsageError as error:
        owners = [x for x in models.known() if any(y.name == args.recipe for y in models.resolve(x).recipes)]
        if "has no recipe" not in str(error) or not owners:
            raise
        raise UsageError(f"{error} That one is of {', '.join(owners)}: add --model {owners[0]}") from error
    with loaded as ready, _keywords(args) as keywords:
        top = classifier.DEFAULT_TOP if args.top is None else None if args.top == _ALL else args.top
        found = _Found(args, limits)
        chosen = args.model is not None or bool(os.environ.get("PHOTOLABEL_MODEL"))
        to_be_told = not chosen and ready.model.name == models.BUNDLED
        for prediction in ready.classify_many(found.photos(), top=top):
            named = replace(prediction, photo=found.name, error=_in_shell_words(prediction.error))
            if not args.dry_run:
                _show(named, args, many=found.many)
            if keywords is not None and not _write(keywords, named, args):
                unwritten = True
            if prediction.error is not None:
                failed = True
            elif to_be_told:
                to_be_told = False
                complain(
                    f"answered by {models.BUNDLED}, which comes with photolabel; "
                    "to have VGG16 answer: photolabel models download vgg16"
                )
        if found.name is None:
            complain(f"no photos found{found.left_out}")
    return EXIT_CODES[OutputError] if unwritten else EXIT_CODES[PhotoError] if failed else 0


# In the words of `sources.find`, and for people.
_LEFT_OUT = {
    "other": "files that are no photos",
    "hidden": "what is hidden",
    "excluded": "what --include and --exclude leave out",
    "archive": "archives, which are read when they are named",
    "link": "links in archives",
    "seen": "links to folders that are there already",
}


class _Found:
    """The photos that the command line asks for, one after the other, and what is being said of them."""

    def __init__(self, args: argparse.Namespace, limits: Limits) -> None:
        from .. import sources

        self.name: str | None = None  # of the photo that was handed out last
        self.many = len(args.photos) != 1 or bool(args.lists)
        self._passed: Counter[str] = Counter()
        self._limits = limits
        self._only = args.photos[0] if args.photos else None
        self._items = sources.find(
            self._sources(args), include=args.include, exclude=args.exclude, left_out=self._passed, limits=limits
        )

    @staticmethod
    def _sources(args: argparse.Namespace) -> Iterator[str | Item]:
        from .. import sources

        for name in args.photos:
            yield sources.Item(photo=name) if name == _STDIN else name  # one without a path: no file is called so
        for name in args.lists:
            if name == _STDIN:
                yield from sources.listed(standard_input(), name="standard input")
                continue
            try:
                file = open(name, "rb")  # noqa: PTH123, SIM115  # pathlib takes an empty name for this folder
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "no such name can be"
                raise UsageError(f"--from {name}: the list cannot be read: {reason}.") from None
            with file:
                yield from sources.listed(file, name=name)

    def photos(self) -> Iterator[str | BinaryIO]:
        """Yield each photo as `classify_many` takes it."""
        for item in self._items:
            self.name = item.photo
            self.many = self.many or item.photo != self._only
            if item.photo == _STDIN and not item.path:
                yield standard_input()
            else:
                yield item.file(self._limits)

    @property
    def left_out(self) -> str:
        """What was passed over, in words."""
        told = (f"{_LEFT_OUT[kind]} ({count})" for kind, count in self._passed.items())
        return "; left out: " + ", ".join(told) if self._passed else ""


def _keywords(args: argparse.Namespace) -> AbstractContextManager[Writer | None]:
    if not args.xmp:
        return nullcontext()
    from .. import sidecars

    threshold = sidecars.THRESHOLD if args.xmp_threshold is None else args.xmp_threshold
    return sidecars.Writer(threshold=threshold, dry_run=args.dry_run)


def _write(keywords: Writer, prediction: Prediction, args: argparse.Namespace) -> bool:
    """Give a photo its keywords; return whether that went well."""
    try:
        change = keywords.write(prediction.record())
    except OutputError as error:  # this sidecar's; the next may be written
        complain(str(error))
        return False
    if change and args.dry_run:
        say(printable(str(change)))
    return True


def _in_shell_words(error: PhotoError | None) -> PhotoError | None:
    """Return the error with the option in place of the argument that it names."""
    return error and type(error)(str(error).replace("Limits.pixels", "--max-pixels"))


def _show(prediction: Prediction, args: argparse.Namespace, *, many: bool) -> None:
    """Print one photo's result: results to standard output; an error too if it is a record, else to stderr."""
    from .. import output

    if args.json:
        say(output.json_line(prediction.record()))
    elif prediction.error is not None:
        complain(f"{prediction.photo}: {prediction.error}")
    elif args.top is not None:
        say(output.table(prediction.record(), named=many))
    else:
        say(output.line(prediction.record(), named=many))
