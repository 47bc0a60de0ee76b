"""photolabel [classify] PHOTO ...: name what is in photos."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import __version__
from ..errors import PhotoError, UsageError
from . import EXIT_CODES, VERBS
from . import __doc__ as exit_codes
from .parser import Parser, add_model_options, whole
from .streams import complain, say, standard_input

if TYPE_CHECKING:
    from ..classifier import Prediction

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
    made.add_argument("photos", nargs="*", metavar="PHOTO", help="an image file, or - to read one from standard input")
    made.add_argument("--version", "-V", action="version", version=f"photolabel {__version__}")
    made.add_argument("--top", type=_top, metavar="N|all", help="show the N likeliest names, or all of them")
    made.add_argument("--json", action="store_true", help="print one JSON record a photo, errors included")
    made.add_argument(
        "--max-pixels",
        type=whole,
        metavar="N",
        help="refuse larger photos before decoding (default: 100 million)",
    )
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
    if not args.photos:
        raise UsageError("expected a photo, as in: photolabel mug.jpg. See: photolabel --help")
    if args.photos.count(_STDIN) > 1:
        raise UsageError("standard input (-) can be read once only.")

    # OpenVINO's package loads its model converter and a telemetry client if they are there. No verb needs them, and
    # without them a photo has its name sooner.
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # which stands for: not there
    from .. import classifier, images, models  # only now: --help must come at once

    limits = images.Limits() if args.max_pixels is None else images.Limits(pixels=args.max_pixels)
    many = len(args.photos) > 1
    failed = False
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
    with loaded as ready:
        top = classifier.DEFAULT_TOP if args.top is None else None if args.top == _ALL else args.top
        photos = (standard_input() if name == _STDIN else name for name in args.photos)
        chosen = args.model is not None or bool(os.environ.get("PHOTOLABEL_MODEL"))
        to_be_told = not chosen and ready.model.name == models.BUNDLED
        for name, prediction in zip(args.photos, ready.classify_many(photos, top=top), strict=True):
            _show(replace(prediction, photo=name, error=_in_shell_words(prediction.error)), args, many=many)
            if prediction.error is not None:
                failed = True
            elif to_be_told:
                to_be_told = False
                complain(
                    f"answered by {models.BUNDLED}, which comes with photolabel; "
                    "to have VGG16 answer: photolabel models download vgg16"
                )
    return EXIT_CODES[PhotoError] if failed else 0


def _in_shell_words(error: PhotoError | None) -> PhotoError | None:
    """Return the error with the option in place of the argument that it names."""
    return error and type(error)(str(error).replace("Limits.pixels", "--max-pixels"))


def _show(prediction: Prediction, args: argparse.Namespace, *, many: bool) -> None:
    """Print one photo's result: results to standard output; an error too if it is a record, else to stderr."""
    from .. import output

    if args.json:
        say(output.json_line(prediction))
    elif prediction.error is not None:
        complain(f"{prediction.photo}: {prediction.error}")
    elif args.top is not None:
        say(output.table(prediction, named=many))
    else:
        say(output.line(prediction, named=many))
