"""photolabel evaluate PHOTOS: how right a model is, on photos whose classes are known."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OutputError, PhotoError, UsageError
from ..output import columns, printable
from . import EXIT_CODES, judged
from .parser import Parser, add_ray, whole
from .streams import complain, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL import Image

    from ..classifier import Classifier
    from ..confidence import Share
    from ..evaluate.measures import Measures
    from ..evaluate.outcomes import Outcome
    from ..evaluate.report import Published
    from ..images import Limits
    from ..sources import Item
    from ..truth import Labelled

_PROTOCOLS = """protocols:
  crop          one view, the middle of the photo (default)
  keras         one view, the whole photo squashed, by nearest neighbour (VGG)
  ten-crop      corners and middle, and mirrored
  single-scale  the paper's: dense at 384, and mirrored
  multi-scale   dense at 256, 384 and 512, and mirrored
  multi-crop    a grid of 5 x 5, mirrored, at these sizes: 150 views
  dense         another name for multi-scale
  both          multi-crop and dense, averaged

Sizes are those for VGG's input of 224 pixels; for another input they are in proportion."""


def parser() -> Parser:
    """Return the verb's parser."""
    made = Parser(
        prog="photolabel evaluate",
        description="Say how right a model is, on photos whose classes are known: ImageNet's validation set as people "
        "have it, or any folders of classes.",
        epilog=_PROTOCOLS,
    )
    judged.add_options(made, uncalibrated=True)
    made.add_argument("--protocol", metavar="NAME", help="how each photo is looked at, by name: see below")
    made.add_argument("--every", type=whole, metavar="K", help="take only each Kth photo, for a quick look")
    made.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    made.add_argument(
        "--report", metavar="DIR", help="write an HTML page with confusions, doubtful and wrong photos, and more"
    )
    made.add_argument(
        "--predictions",
        dest="output",
        metavar="FILE",
        help="write a record a photo, with the truth: .jsonl, .csv, .txt, or .parquet (an extra)",
    )
    made.add_argument("--resume", action="store_true", help="with --predictions: go on with a run that was stopped")
    add_ray(made)
    return made


def run(argv: list[str]) -> int:
    """Run the verb and return its exit code."""
    args = parser().parse_intermixed_args(argv)
    _check(args)
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # see classify
    from .. import batch, images, progress  # only now: --help must come at once
    from ..evaluate import judging, measures, protocols, report
    from . import runs
    from .network import loaded

    if args.report is not None:
        report.check(Path(args.report))
    kind = runs.Kind(
        command=("photolabel", "evaluate"), option="--predictions", given=_given, places=_PLACES, beside=_beside
    )
    with ExitStack() as stack:
        if args.output is not None and not args.resume:
            batch.Journal.check(Path(args.output))
        journal = runs.resumed(args, kind, lambda record: None, stack)
        if journal is None and args.resume and batch.Journal.ended(Path(args.output)):
            if args.report is not None and not os.path.lexists(args.report):
                raise UsageError(
                    f"{args.output} is complete: there is nothing to go on with, so {args.report} is not written. For "
                    "a report evaluate anew, without --resume."
                )
            complain(f"{args.output} is complete: there is nothing to go on with")
            return 0
        if not args.photos:
            raise UsageError("expected photos of known classes. See: photolabel evaluate --help")
        looking = args if args.recipe or args.views or args.scales else _by_protocol(args)
        protocol = None if looking is args else args.protocol or _DEFAULT
        limits = images.Limits() if args.max_pixels is None else images.Limits(pixels=args.max_pixels)
        seconds = args.seconds or batch.SECONDS
        decoders = batch.workplace(args.workers, seconds=seconds, stack=stack, ray=args.ray)
        try:
            ready = loaded(looking, limits)
            labelled, _ = judged.labelled(args, ready, limits)  # a list that is none begins no run
            journal = runs.begun(args, kind, ready, journal, stack)
            assert not isinstance(journal, batch.Parts)  # `_check` takes no folder
            seen = _Seen(limits)
            photos = seen.passing(labelled, every=args.every or 1)
            watch = stack.enter_context(progress.Watch(args.progress, done=0 if journal is None else journal.done))
            judged.count(args, watch, limits, every=args.every or 1)
            outcomes = []
            left = photos if journal is None else journal.remaining(photos)
            stream = judging.judged(left, ready, decoders, top=_TOP)
            with runs.guarded(journal, kind, args), closing(stream):
                for prediction in judged.watched(stream, watch):
                    record = prediction.record()
                    if journal is None:
                        outcomes.append(judging.outcome(record))
                    else:
                        journal.add(record)
            watch.hide()
            if journal is not None:
                outcomes = [judging.outcome(json.loads(line)) for line in journal.lines()]
            if not outcomes:
                if journal is not None:
                    journal.remove()
                raise UsageError("no photos found")
            found = measures.measure(outcomes, classes=len(ready.model.labels), tree=ready.tree)
            others = None if protocol is None else protocols.published(ready.model, protocol)
            told = _Told(args, ready, protocol, labelled.description, found, others)
            if args.report is not None:
                try:
                    told.report(Path(args.report), outcomes, seen.thumbnail)
                except OutputError as error:
                    if journal is None:
                        raise
                    raise OutputError(f"{error} {runs.kept(journal, kind, args)}") from None
            if journal is not None:
                runs.written(args, kind, journal, labels=_TOP)
        except KeyboardInterrupt as stop:
            raise runs.stopped(stop, kind, journal, args) from None
        except runs.FAILURES as error:
            raise runs.failed(error, kind, journal, args) from None
        say(json.dumps(told.record()) if args.json else told.text())
        ready.close()  # only here, as in classify
    return EXIT_CODES[PhotoError] if found.unreadable else 0


_TOP = 5
_DEFAULT = "crop"


def _check(args: argparse.Namespace) -> None:
    from . import runs

    runs.check_ray(args)
    if args.resume and args.output is None:
        raise UsageError("--resume goes with --predictions FILE: what it goes on with is in FILE.partial.")
    if args.protocol is not None and (args.recipe or args.views or args.scales):
        raise UsageError("--protocol says how photos are looked at: without --recipe, --views and --scales.")
    if args.output is not None:
        from ..output import files

        files.check(Path(args.output))
        if runs.place(args) is not None:
            raise UsageError(f"{args.output} is a folder: expected a file to write, as in --predictions labels.jsonl.")
        place = os.path.realpath(args.output)
        if args.report is not None and Path(place).is_relative_to(os.path.realpath(args.report)):
            raise UsageError(
                f"{args.output} would lie in the report's folder, which is replaced as a whole. Write it elsewhere."
            )
        if args.truth is not None and place == os.path.realpath(args.truth):
            raise UsageError(f"{args.output} is the list that --labels reads: it would be lost. Write elsewhere.")


# Under which names the arguments have these options: --labels is what the photos show, not the network's classes.
_PLACES = {"--labels": "truth", "--classes": "labels"}


def _beside(args: argparse.Namespace) -> list[str]:
    from . import runs

    report = [] if args.report is None else [f"--report={args.report}"]
    return [*report, *(["--json"] if args.json else []), *runs.ray_words(args)]


def _given(args: argparse.Namespace) -> dict[str, Any]:
    return {**judged.given(args), "--protocol": args.protocol, "--every": args.every}


def _by_protocol(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments with those that say how photos are looked at."""
    from ..evaluate import protocols

    found = protocols.find(args.protocol or _DEFAULT)
    return argparse.Namespace(**{**vars(args), "recipe": found.recipe, "views": found.views, "scales": found.scales})


class _Seen:
    """The photos that were judged, to be found again for the report."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._items: dict[str, Item] = {}

    def passing(self, photos: Iterator[Labelled], *, every: int) -> Iterator[Labelled]:
        for number, photo in enumerate(photos):
            if number % every == 0:
                if not photo.item.held:  # else its bytes came in passing, and are not to be had again
                    self._items[photo.item.photo] = photo.item
                yield photo

    def thumbnail(self, photo: str) -> Image.Image | None:
        from .photos import small

        item = self._items.get(photo)
        return None if item is None else small(item, self._limits)


class _Told:
    """What is said of the whole."""

    def __init__(
        self,
        args: argparse.Namespace,
        ready: Classifier,
        protocol: str | None,
        photos: str,
        found: Measures,
        others: Published | None,
    ) -> None:
        self._model, self._tree, self._photos = ready.model, ready.tree, photos
        self._protocol, self._found, self._others = protocol, found, others
        self._looked = " + ".join(str(recipe) for recipe in ready.recipes)
        self._precision = ready.precision
        self._calibration = ready.calibration
        self._every, self._sources = args.every or 1, args.photos

    def record(self) -> dict[str, Any]:
        others = self._others
        return {
            "model": self._model.name,
            "protocol": self._protocol,
            "recipe": self._looked,
            "precision": self._precision,
            "calibration": self._calibration and self._calibration.digest,
            "set": self._photos,
            "every": self._every,
            **self._found.record(),
            "published": others and {"top1_error": others.top1, "top5_error": others.top5, "source": others.source},
        }

    def text(self) -> str:
        found, others = self._found, self._others
        rows = [("", "error", "95 % interval", "published" if others else "")]
        for name, share, value in (
            ("top-1", found.top1, others and others.top1),
            ("top-5", found.top5, others and others.top5),
        ):
            if share is not None:
                rows.append((name, *_share(share), "" if value is None else f"{value:.1%}"))
        read = found.photos - found.unreadable
        photos = f"{read:,} {'photo' if read == 1 else 'photos'}" + (
            f", one in {self._every}" if self._every > 1 else ""
        )
        lines = [f"{self._model.name}, {self._how}, {self._precision}: {photos} ({self._photos})"]
        if not read:
            lines.append(f"none of the {found.photos:,} could be read")
            return "\n".join(map(printable, lines))
        lines += columns(rows).splitlines()
        learnt = "calibrated; of the photos that taught it this flatters" if self._calibration else "not calibrated"
        lines.append(f"calibration error: {found.bins.ece:.1%} ({learnt})")
        if others is not None:
            lines.append(f"published: {others.source}, on all 50,000 of ImageNet's validation photos")
        if found.unreadable:
            lines.append(
                f"{found.unreadable:,} more could not be read; counted as mistakes, top-1: "
                f"{found.counting_unreadable().value:.2%}"
            )
        return "\n".join(map(printable, lines))

    @property
    def _how(self) -> str:
        return f"protocol {self._protocol} ({self._looked})" if self._protocol else self._looked

    def report(self, folder: Path, outcomes: list[Outcome], thumbnails: Callable[[str], Image.Image | None]) -> None:
        from ..evaluate import report

        context = report.Context(
            model=self._model.name,
            photos=", ".join(printable(Path(name).name or name) for name in self._sources[:3])
            + (f" and {len(self._sources) - 3} more" if len(self._sources) > 3 else ""),
            protocol=self._how.removeprefix("protocol "),
            precision=self._precision,
            calibration=None if self._calibration is None else f"temperature {self._calibration.temperature:.3f}",
            published=self._others,
            remarks=(
                f"The classes are those of {printable(self._photos)}.",
                *([f"Only one photo in {self._every} was looked at."] if self._every > 1 else []),
            ),
        )
        report.write(folder, outcomes, context, labels=self._model.labels, tree=self._tree, thumbnails=thumbnails)


def _share(share: Share) -> tuple[str, str]:
    return f"{share.value:.2%}", f"{share.low:.2%} to {share.high:.2%}"
