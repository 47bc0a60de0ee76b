"""photolabel calibrate PHOTOS: learn how far a model's probabilities are to be believed."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PhotoError, UsageError
from ..output import columns, printable
from . import EXIT_CODES, judged
from .parser import Parser
from .streams import complain, say

if TYPE_CHECKING:
    from ..evaluate.calibrating import Learnt

_COVERAGES = (0.9, 0.95, 0.99)
_FEW = 200  # photos: with fewer the interval of what is learnt is wide


def parser() -> Parser:
    """Return the verb's parser."""
    made = Parser(
        prog="photolabel calibrate",
        description="Learn from photos whose classes are known how far a model's probabilities are to be believed. "
        "What is learnt is kept beside the model, and used from then on: what is said with 80 % is right four times in "
        "five, for photos like these.",
    )
    judged.add_options(made, uncalibrated=False)
    made.add_argument("--plot", metavar="FILE", help="draw the reliability diagram into this PNG or SVG file")
    made.add_argument(
        "--remove", action="store_true", help="forget what was learnt of this model, as it is used with these options"
    )
    return made


def run(argv: list[str]) -> int:
    """Run the verb and return its exit code."""
    args = parser().parse_intermixed_args(argv)
    args.uncalibrated = True  # what is to be learnt is how far the network's own are off
    if args.remove == bool(args.photos):
        raise UsageError("expected photos of known classes, or --remove. See: photolabel calibrate --help")
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # see classify
    from .. import batch, calibration, images, progress, writing  # only now: --help must come at once
    from ..draw import scene
    from ..draw.reliability import reliability
    from ..evaluate import calibrating, judging
    from .network import loaded

    if args.plot is not None:
        scene.form_of(Path(args.plot))
        writing.check(Path(args.plot))
    limits = images.Limits() if args.max_pixels is None else images.Limits(pixels=args.max_pixels)
    with ExitStack() as stack:
        decoders = batch.crew(0 if args.remove else args.workers, seconds=args.seconds or batch.SECONDS, stack=stack)
        ready = loaded(args, limits)
        if args.remove:
            there = calibration.forget(ready.identity)
            say(printable(f"{ready.model.name}: {'its calibration is removed' if there else 'was not calibrated'}"))
            return 0
        photos, _ = judged.labelled(args, ready, limits)
        calibration.check_place(ready.identity)
        watch = stack.enter_context(progress.Watch(args.progress))
        judged.count(args, watch, limits)
        with closing(judging.judged(photos, ready, decoders, top=1)) as stream:
            learnt = calibrating.learn(judged.watched(stream, watch))
        watch.hide()
        calibration.keep(ready.identity, learnt.calibration)
        recipes = " + ".join(str(recipe) for recipe in ready.recipes)
        _tell(learnt, f"{ready.model.name}, recipe {recipes}, {ready.precision}", photos.description)
        if args.plot is not None:
            title = f"{ready.model.name}, {photos.description}"
            scene.save(reliability(learnt.before, learnt.after, title=printable(title)), Path(args.plot))
        ready.close()  # only here, as in classify
    return EXIT_CODES[PhotoError] if learnt.unreadable else 0


def _tell(learnt: Learnt, who: str, what: str) -> None:
    made = learnt.calibration
    rows = [
        ("photos", f"{made.photos:,}", printable(what)),
        ("right", f"{learnt.right.value:.1%}", f"95 % interval {learnt.right.low:.1%} to {learnt.right.high:.1%}"),
        ("temperature", f"{made.temperature:.3f}", "above 1: the network was too sure; below: not sure enough"),
        ("calibration error", f"{learnt.before.ece:.1%}", "before"),
        ("", f"{learnt.after.ece:.1%}", "after, each photo by what the others teach"),
    ]
    for coverage in _COVERAGES:
        try:
            rows.append((f"--coverage {coverage:g}", f"{learnt.names(coverage):.1f}", "names in the mean"))
        except UsageError:
            rows.append((f"--coverage {coverage:g}", "", "needs more photos"))
    if learnt.unreadable:
        rows.append(("unreadable", f"{learnt.unreadable:,}", "photos, which are left out"))
    say(columns(rows))
    say(printable(f"kept for {who}; photolabel uses it from now on (--uncalibrated: not; calibrate --remove: no more)"))
    if made.photos < _FEW:
        complain(f"{made.photos} photos teach little: several hundred make it steady")
    if learnt.right.count == learnt.right.of:
        complain("every photo was named rightly, so how sure is too sure cannot be told: the temperature is a bound")
