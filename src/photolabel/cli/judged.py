"""Photos whose classes are known, as the command line gives them: what evaluate and calibrate share."""

from __future__ import annotations

import argparse
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import PhotoNotFoundError
from ..output import printable
from .parser import Parser, add_choice, add_max_pixels, add_model_options, add_own_network, add_work
from .streams import complain

if TYPE_CHECKING:
    from ..classifier import Classifier
    from ..images import Limits
    from ..prediction import Prediction
    from ..progress import Watch
    from ..truth import LabelledPhotos


def add_options(made: Parser, *, uncalibrated: bool) -> None:
    """Add the options of photos whose classes are known, and of the model that is to name them."""
    made.add_argument(
        "photos",
        nargs="*",
        metavar="PHOTOS",
        help="folders or archives of photos: a folder a class, named by WordNet ids or classes; files whose names "
        "begin with such an id; or any, with --labels",
    )
    made.add_argument(
        "--labels",
        dest="truth",
        metavar="FILE",
        help="what the photos show: Caffe's val.txt, the ground truth of ImageNet's development kit (its meta.mat "
        "beside it), or a CSV of path,label",
    )
    add_max_pixels(made)
    add_choice(made.add_argument_group("photos"))
    add_work(made.add_argument_group("work"))
    add_model_options(made, own=False, uncalibrated=uncalibrated)
    add_own_network(made)


def watched(stream: Iterable[Prediction], watch: Watch) -> Iterator[Prediction]:
    """Pass predictions on, and say how far they have come, and what is wrong with a photo."""
    failed = 0
    for prediction in stream:
        if prediction.error is not None:
            failed += 1
            watch.hide()
            complain(f"{prediction.photo}: {prediction.error}")
        watch.step(errors=failed, last=printable(str(prediction)))
        yield prediction


def given(args: argparse.Namespace) -> dict[str, Any]:
    """What is judged, and who judges, as the user says it."""
    from . import runs

    return {
        "photos": args.photos,
        "--labels": args.truth,
        "--include": args.include,
        "--exclude": args.exclude,
        "--classes": args.labels,
        **runs.of_network(args),
    }


def count(args: argparse.Namespace, watch: Watch, limits: Limits, *, every: int = 1) -> None:
    """Have the watch told how many photos there are, when somebody has counted them."""
    from .. import sources

    def counted() -> None:
        found = sources.find(args.photos, include=args.include, exclude=args.exclude, limits=limits)
        watch.total = -(-sum(1 for _ in found) // every)

    if watch.shown:
        threading.Thread(target=counted, daemon=True).start()


def labelled(args: argparse.Namespace, ready: Classifier, limits: Limits) -> tuple[LabelledPhotos, Counter[str]]:
    """The photos with their classes, and what has been passed over so far. Raises PhotoNotFoundError."""
    from .. import sources, truth

    for name in args.photos:  # else it would be said that its class is not told
        if not os.path.lexists(name):
            raise PhotoNotFoundError(f"{name}: there is no such file or folder. Check the name.")
    passed: Counter[str] = Counter()
    items = sources.find(args.photos, include=args.include, exclude=args.exclude, left_out=passed, limits=limits)
    return truth.labelled(items, ready.model.labels, file=args.truth), passed
