"""photolabel teach PHOTOS -o FILE: classes of the user's own, from photos in a folder a class."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ClusterError, OutputError, PhotoError, PhotoNotFoundError, UsageError
from . import EXIT_CODES
from .parser import (
    Parser,
    add_choice,
    add_max_pixels,
    add_model_options,
    add_own_network,
    add_ray,
    add_work,
    positive,
    seed,
    whole,
)
from .streams import complain, say

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from PIL import Image

    from ..images import Limits
    from ..sources import Item

_ENDING = ".onnx"
_ROOM = 1 << 28  # bytes of photos that are kept for a page
_EXAMPLES = """examples:
  photolabel teach training -o pets.onnx        training/cat/1.jpg, training/dog/2.jpg, ...
  photolabel --model pets.onnx new.jpg
  photolabel teach more --add pets.onnx         new photos, or new classes, on top of what it knows
  photolabel teach --add pets.onnx --labels corrections.csv"""


def parser() -> Parser:
    """Return the verb's parser."""
    made = Parser(
        prog="photolabel teach",
        description="Teach a network classes of your own: photos in a folder a class become one ONNX file that names "
        "them, and that every other verb takes with --model FILE.",
        epilog=_EXAMPLES,
    )
    made.add_argument(
        "photos",
        nargs="*",
        metavar="PHOTOS",
        help="folders or archives of photos, a folder a class; or any photos, with --labels",
    )
    made.add_argument(
        "-o", "--output", metavar="FILE", help="the file to write, as in pets.onnx; with --add that file, if left out"
    )
    made.add_argument(
        "--labels",
        dest="truth",
        metavar="FILE",
        help="a table (CSV) of path,label that says what the photos show; without PHOTOS also which there are",
    )
    made.add_argument(
        "--validation",
        metavar="DIR|FILE",
        help="photos to judge by and not to learn from: a folder of the same classes, or a table; without them, and "
        "beside them, photos are held out in turn",
    )
    made.add_argument(
        "--add",
        metavar="FILE",
        help="go on with a network that was taught before: new photos, new classes, or corrections, without looking at "
        "the old photos again",
    )
    made.add_argument(
        "--report",
        metavar="DIR",
        help="write an HTML page: how good it is, what it confuses, and the photos that are to be doubted",
    )
    made.add_argument("--json", action="store_true", help="print what was found as one JSON object")
    add_max_pixels(made)
    add_choice(made.add_argument_group("photos"))
    learning = made.add_argument_group("learning")
    learning.add_argument(
        "--head",
        choices=["logistic", "svm"],
        help="what is fitted to the features: logistic regression (default), or linear support vector machines, whose "
        "margins are calibrated; with --add what it was",
    )
    learning.add_argument(
        "--strength",
        type=positive,
        metavar="C",
        help="how closely it follows the photos, as scikit-learn's C (default: chosen by cross-validation)",
    )
    learning.add_argument(
        "--views",
        choices=["one", "mirror", "ten-crop", "multi-crop"],
        help="how often each photo is looked at to learn from it: once, its mirror image too, also its corners, or 50 "
        "times (default: mirror where there are fewer than 20 photos a class, else one)",
    )
    learning.add_argument(
        "--layer",
        metavar="NAME",
        help="the layer whose numbers are a photo's features (default: the last before its classes)",
    )
    learning.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="the same photos and seed give the same file (default: 0)"
    )
    tuning = made.add_argument_group("fine-tuning (VGG; an extra: pip install 'photolabel[keras]')")
    tuning.add_argument(
        "--fine-tune",
        type=_blocks,
        nargs="?",
        const=1,
        metavar="BLOCKS",
        help="train the last BLOCKS of a VGG's convolutional blocks too, one if no number is said, through Keras",
    )
    tuning.add_argument("--epochs", type=whole, metavar="N", help="train so many times through all photos at most")
    tuning.add_argument("--learning-rate", type=positive, metavar="RATE", help="how far each step goes")
    tuning.add_argument("--resume", action="store_true", help="go on with a fine-tuning that was stopped")
    add_work(made.add_argument_group("work"))
    add_model_options(made, own=False, views=False)
    add_own_network(made)
    add_ray(made)
    return made


def _blocks(text: str) -> int:
    try:
        return whole(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected how many blocks, as in --fine-tune 2; photos come before it"
        ) from None


def run(argv: list[str]) -> int:
    """Run the verb and return its exit code."""
    args = parser().parse_intermixed_args(argv)
    out = _checked(args)
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # see classify
    from .. import batch, images, progress, teaching  # only now: --help must come at once
    from ..teaching import report, shown, told
    from .lesson_watch import Watched, how

    if args.report is not None:
        report.check(Path(args.report))
    limits = images.Limits() if args.max_pixels is None else images.Limits(pixels=args.max_pixels)
    with Watched(progress.Watch(args.progress)) as watched:
        try:
            lesson = teaching.teach(
                args.photos,
                out,
                labels=args.truth,
                validation=args.validation,
                add=args.add,
                include=args.include,
                exclude=args.exclude,
                model=args.model,
                weights=args.weights,
                classes=args.labels,
                layer=args.layer,
                recipe=args.recipe,
                views=args.views,
                precision=args.precision,
                threads=args.threads,
                engine=args.engine or "openvino",
                head=args.head,
                strength=args.strength,
                fine_tune=args.fine_tune,
                epochs=args.epochs,
                learning_rate=args.learning_rate,
                resume=args.resume,
                seed=args.seed,
                workers=args.workers,
                seconds=args.seconds or batch.SECONDS,
                limits=limits,
                ray=args.ray,
                step=watched.step,
            )
        except KeyboardInterrupt as stop:
            raise watched.stopped(stop) from None
        except ClusterError as error:
            raise watched.failed(error) from None
    for remark in lesson.remarks:
        complain(remark)
    page, unwritten = None, None
    if args.report is not None:
        page = Path(args.report)
        try:
            report.write(page, lesson, thumbnails=_Again(args, shown.names(lesson), limits).small)
        except OutputError as error:  # what was taught is there all the same, and what came of it is said
            page, unwritten = None, error
        except KeyboardInterrupt as stop:
            raise type(stop)(f"{how(stop)}; {out} is written, {page} is not") from None
    say(json.dumps(told.record(lesson)) if args.json else told.text(lesson, report=page))
    if unwritten is not None:
        raise unwritten
    return EXIT_CODES[PhotoError] if lesson.failures else 0


def _checked(args: argparse.Namespace) -> Path:
    """Return the file to write, when all that can be checked without a look at photos is."""
    if not args.photos and args.truth is None:
        raise UsageError("expected photos to learn from, in a folder a class. See: photolabel teach --help")
    if args.output is None and args.add is None:
        raise UsageError("expected a file to write, as in: photolabel teach training -o pets.onnx")
    from . import runs

    runs.check_ray(args)
    out = Path(args.output if args.output is not None else args.add)
    if out.suffix.lower() != _ENDING:
        raise UsageError(f"{out}: what is taught is an ONNX file: expected a name that ends in {_ENDING}.")
    for name in (*args.photos, args.truth, args.validation):
        if name is not None and not os.path.lexists(name):
            raise PhotoNotFoundError(f"{name}: there is no such file or folder. Check the name.")
    if args.report is not None and Path(os.path.realpath(out)).is_relative_to(os.path.realpath(args.report)):
        raise UsageError(f"{out} would lie in the report's folder, which is replaced as a whole. Write it elsewhere.")
    return out


class _Again:
    """The photos that a page shows, found again: by their names, those in archives by a look through these."""

    def __init__(self, args: argparse.Namespace, names: Collection[str], limits: Limits) -> None:
        self._args, self._limits = args, limits
        self._names = frozenset(names)
        self._found: dict[str, Item] | None = None

    def small(self, photo: str) -> Image.Image | None:
        """Return a small picture of the photo, None for one that is not at hand."""
        from .. import sources
        from .photos import small

        if os.path.isfile(photo):  # noqa: PTH113
            return small(sources.Item(photo=photo, path=photo), self._limits)
        if self._found is None:
            self._found = self._look()
        item = self._found.get(photo)
        return None if item is None else small(item, self._limits)

    def _look(self) -> dict[str, Item]:
        found: dict[str, Item] = {}
        room = _ROOM  # for those of compressed archives, whose bytes are had only in passing
        for item in self._items():
            if item.photo in self._names and item.held <= room:
                room -= item.held
                found[item.photo] = item
        return found

    def _items(self) -> Iterator[Item]:
        from .. import sources

        held = [] if self._args.validation is None else [self._args.validation]
        for source in (*self._args.photos, *held):
            if not os.path.isdir(source):  # noqa: PTH112  # photos in folders are files, and are not looked for
                yield from sources.find([source], limits=self._limits)
