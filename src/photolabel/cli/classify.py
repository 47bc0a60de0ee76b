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


