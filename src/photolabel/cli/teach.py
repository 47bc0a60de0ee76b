"""photolabel teach PHOTOS -o FILE: classes of the user's own, from photos in a folder a class."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PhotoError, PhotoNotFoundError, TruthError, UsageError
from ..output import printable
from . import EXIT_CODES
from .parser import Parser, add_choice, add_max_pixels, add_model_options, add_own_network, add_work, positive, seed
from .streams import Terminated, complain, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL import Image

    from ..images import Limits
    from ..progress import Watch
    from ..teaching import Lesson, Step
    from ..teaching.examples import Example, Survey

_ENDING = ".onnx"
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
    made.add_argument("--json", action="store_true", help="print what was found as one JSON object")
    made.add_argument(
        "--report", metavar="DIR", help="write an HTML page with what is taken for what, photos to be doubted, and more"
    )
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
    add_work(made.add_argument_group("work"))
    add_model_options(made, own=False, views=False)
    add_own_network(made)
    return made


def run(argv: list[str]) -> int:
    """Run the verb and return its exit code."""
    args = parser().parse_intermixed_args(argv)
    out = _checked(args)
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # see classify
    from .. import batch, images, progress, teaching  # only now: --help must come at once
    from ..teaching import report, told

    if args.report is not None:
        report.check(Path(args.report))
    limits = images.Limits() if args.max_pixels is None else images.Limits(pixels=args.max_pixels)
    with ExitStack() as stack:
        watched = stack.enter_context(_Watched(stack.enter_context(progress.Watch(args.progress))))
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
                seed=args.seed,
                workers=args.workers,
                seconds=args.seconds or batch.SECONDS,
                limits=limits,
                step=watched.step(),
            )
        except KeyboardInterrupt as stop:
            raise watched.stopped(stop) from None
    for remark in lesson.remarks:
        complain(remark)
    page = None if args.report is None else Path(args.report)
    if page is not None:
        report.write(page, lesson, thumbnails=_Thumbnails(args, lesson, limits))
    say(json.dumps(told.record(lesson)) if args.json else told.text(lesson, report=page))
    return EXIT_CODES[PhotoError] if lesson.failures else 0


def _checked(args: argparse.Namespace) -> Path:
    """Return the file to write, when all that can be checked without a look at photos is."""
    if not args.photos and args.truth is None:
        raise UsageError("expected photos to learn from, in a folder a class. See: photolabel teach --help")
    if args.output is None and args.add is None:
        raise UsageError("expected a file to write, as in: photolabel teach training -o pets.onnx")
    out = Path(args.output if args.output is not None else args.add)
    if out.suffix.lower() != _ENDING:
        raise UsageError(f"{out}: what is taught is an ONNX file: expected a name that ends in {_ENDING}.")
    for name in (*args.photos, args.truth, args.validation):
        if name is not None and not os.path.lexists(name):
            raise PhotoNotFoundError(f"{name}: there is no such file or folder. Check the name.")
    return out


class _Thumbnails:
    """The photos that a report shows, looked for once more by their names: they may lie in archives."""

    def __init__(self, args: argparse.Namespace, lesson: Lesson, limits: Limits) -> None:
        from ..teaching import shown

        self._limits = limits
        names = shown.names(lesson)
        given = [(args.photos, args.truth, args.include, args.exclude)]
        if args.validation is not None:
            folder = os.path.isdir(args.validation)  # noqa: PTH112
            given.append(([args.validation] if folder else [], None if folder else args.validation, [], []))
        self._items = {
            each.photo: each.item
            for photos, table, include, exclude in given
            for each in self._found(photos, table, include, exclude)
            if each.photo in names and not each.held
        }

    def __call__(self, photo: str) -> Image.Image | None:
        from .. import decoding, images

        item = self._items.get(photo)
        if item is None:
            return None
        try:
            return images.upright(decoding.decode(item.read(self._limits), self._limits, enough=_SMALL))
        except PhotoError:
            return None

    def _found(self, photos: list[str], table: str | None, include: list[str], exclude: list[str]) -> Iterator[Example]:
        from ..teaching import examples

        with suppress(PhotoError, TruthError):  # what has changed meanwhile is not at hand, and no more
            yield from examples.find(photos, table=table, include=include, exclude=exclude, limits=self._limits)


_SMALL = 640  # pixels of the shorter side are enough for a thumbnail


class _Watched:
    """What is shown while it lasts: how many photos are done, what is wrong with one, how far fitting has come."""

    def __init__(self, watch: Watch) -> None:
        self._watch, self._stack = watch, ExitStack()
        self._failed = self._done = 0
        self._bar: Callable[[int, int], None] | None = None

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def step(self) -> Step:
        from ..teaching import Step

        return Step(counted=self._counted, photo=self._photo, fit=self._fit)

    def stopped(self, stop: KeyboardInterrupt) -> KeyboardInterrupt:
        """What to tell whoever stopped us."""
        if not self._done:
            return stop
        how = "terminated" if isinstance(stop, Terminated) else "interrupted"
        return type(stop)(
            f"{how}; what was computed of {self._done:,} photos is kept: the same command goes on from there"
        )

    def _counted(self, learnt: Survey, held: Survey | None) -> None:
        self._watch.total = learnt.photos + (0 if held is None else held.photos)
        for survey in (learnt, held):
            for folder in () if survey is None else survey.empty:
                complain(f"{folder}: there are no photos in it, so no class is called as it is")
            if survey is not None and survey.unused:
                complain(f"{survey.unused:,} lines of the table are of no photo that was found")

    def _photo(self, name: str, error: PhotoError | None) -> None:
        from .photos import in_words

        self._done += 1
        if error is not None:
            self._failed += 1
            self._watch.hide()
            complain(f"{name}: {in_words(str(error))}")
        self._watch.step(errors=self._failed, last=printable(name))

    def _fit(self, done: int, total: int) -> None:
        from .. import progress

        if not self._watch.shown:
            return
        if self._bar is None:
            self._watch.hide()
            if self._watch.plain:
                complain(f"{self._done:,} photos were looked at; now a head is fitted to them")
                self._bar = lambda done, total: None
            else:
                self._bar = self._stack.enter_context(progress.bar("fitting", total=total, unit="fit"))
        self._bar(done, total)
        if done == total:
            self._stack.close()
