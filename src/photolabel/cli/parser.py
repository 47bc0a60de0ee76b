"""What the verbs' parsers share."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from typing import Any, NoReturn

from ..errors import UsageError
from .streams import say

_THREADS = 1024
SECONDS = 60  # workers.SECONDS, which --help has no time to import
# Those of `conventions`, which --help has no time to import.
OWN_RECIPES = "torchvision, caffe, keras, tf, efficientnet-lite, unit, raw, or a JSON file"


class _Help(argparse.HelpFormatter):
    """Keeps the lines of a text that has some, such as a table; fills those of one that has none."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" not in text:
            return super()._fill_text(text, width, indent)
        return "".join(indent + line for line in text.splitlines(keepends=True))


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints go the way of every other error, in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Help, allow_abbrev=False, **options)

    def children(self) -> list[argparse.ArgumentParser]:
        """Return the parsers of the verb's own actions, in order."""
        actions = [x for x in self._actions if isinstance(x, argparse._SubParsersAction)]
        return [child for action in actions for child in action.choices.values()]

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError`, with what may have been meant."""
        hint = ""
        unknown = re.match(r"unrecognized arguments: (-\S+)", message)
        if unknown:
            word = unknown[1].partition("=")[0]
            close = difflib.get_close_matches(word, self._option_string_actions, n=1)
            if close and not os.path.lexists(word):
                hint = f" Did you mean: {close[0]}."
            elif not word.startswith("--") or os.path.lexists(word):
                hint = f" A file of that name is written ./{word} or comes after --."
        raise UsageError(f"{message}.{hint} See: {self.prog} --help")

    def _print_message(self, message: str, file: object = None) -> None:
        """Print help or version, the only ones that argparse still prints itself."""
        say(message.removesuffix("\n"))


def whole(text: str, *, most: int | None = None) -> int:
    """Read a whole number of at least 1, also as 100_000_000, 1e8 or 100M."""
    match = re.fullmatch(r"([0-9](?:_?[0-9]){0,17})(?:[eE]([0-9]{1,2})|([kKMG]))?", text, re.ASCII)
    zeros = 0 if not match else {"k": 3, "m": 6, "g": 9}[match[3].lower()] if match[3] else int(match[2] or 0)
    number = int(match[1]) * 10**zeros if match else 0
    if number < 1 or (most is not None and number > most):
        allowed = "of at least 1" if most is None else f"from 1 to {most}"
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number {allowed}")
    return number


def _threads(text: str) -> int:
    return whole(text, most=_THREADS)


def probability(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a probability from 0 to 1")
    return value


def share(text: str) -> float:
    """Read a number above 0 and at most 1."""
    value = probability(text)
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")
    return value


def positive(text: str) -> float:
    """Read a number above 0."""
    return _above(text, "a number")


def seed(text: str) -> int:
    """Read a whole number from 0 to 2**32 - 1."""
    return 0 if text == "0" else whole(text, most=2**32 - 1)


def _above(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected {what} above 0")
    return value


def _workers(text: str) -> int:
    return 0 if text == "0" else whole(text, most=256)


def _seconds(text: str) -> float:
    return _above(text, "a number of seconds")


def _scales(text: str) -> tuple[int, ...]:
    return tuple(whole(each) for each in text.split(","))


def add_choice(group: argparse._ArgumentGroup) -> None:
    """Add the options that choose among the photos of folders and archives."""
    group.add_argument(
        "--include", action="append", default=[], metavar="GLOB", help="of folders and archives take only what matches"
    )
    group.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="of folders and archives leave out what matches"
    )


def add_work(group: argparse._ArgumentGroup) -> None:
    """Add the options for who decodes the photos, and for what is shown meanwhile."""
    group.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="processes that read and decode; 0: none but this one (default: one a processor, for one photo 0)",
    )
    group.add_argument(
        "--seconds",
        type=_seconds,
        metavar="S",
        help=f"how long a worker may take for a photo (default: {SECONDS})",
    )
    group.add_argument(
        "--progress",
        choices=["auto", "plain", "none"],
        default="auto",
        help="what to show meanwhile, and a summary at the end: on a terminal a line that changes (auto, the default), "
        "lines for a log (plain), or nothing (none)",
    )


def add_ray(group: argparse._ActionsContainer) -> None:
    """Add the option that has the work done on a cluster."""
    group.add_argument(
        "--ray",
        nargs="?",
        const=True,
        metavar="ADDRESS",
        help="have it done on a Ray cluster (an extra): HOST:PORT, auto or local; alone, the one that "
        "RAY_ADDRESS names or that runs on this machine, else one that is started for the run",
    )


def add_max_pixels(parser: argparse.ArgumentParser, *, default: str = "100 million") -> None:
    """Add the limit of a photo's pixels."""
    parser.add_argument(
        "--max-pixels",
        type=whole,
        metavar="N",
        help=f"refuse larger photos before decoding (default: {default})",
    )


def add_model_options(
    parser: argparse.ArgumentParser,
    *,
    own: bool = True,
    views: bool = True,
    uncalibrated: bool = True,
    several: bool = False,
) -> None:
    """Add the options that choose a model and how it runs.

    `own`: also those for files of the user's own; `views`: also those that have it look several times; `several`: as
    many models as are named, beside each other.
    """
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        action="append" if several else "store",
        metavar="[NAME=]NAME|FILE" if several else "NAME|FILE",
        help="a known model (see: photolabel models) or an ONNX file; default: PHOTOLABEL_MODEL, else vgg16 if its "
        "weights are on this machine, else the bundled efficientnet-lite2"
        + ("; several joined by + are averaged: vgg16+vgg19" if views else "")
        + ("; again for further ones, and NAME= before one says what to call it" if several else ""),
    )
    if views:
        group.add_argument(
            "--views",
            metavar="VIEWS",
            help="look at each photo several times, and average: mirror, ten-crop (corners, middle, and mirrored), "
            "multi-crop (50), dense (the whole photo, and mirrored), or two of them joined by +",
        )
        group.add_argument(
            "--scales",
            type=_scales,
            metavar="N,N",
            help="with these sizes of the photo's shorter side, as in 256,384,512 (default: the recipe's own)",
        )
    if views and uncalibrated:
        group.add_argument(
            "--uncalibrated",
            action="store_true",
            help="give the network's own probabilities, whatever photolabel calibrate has learnt",
        )
    if own:
        group.add_argument(
            "--weights",
            metavar="FILE",
            help="use this file's weights (Keras, PyTorch, safetensors, Caffe, npz) instead of the published ones",
        )
        group.add_argument(
            "--recipe",
            metavar="NAME|FILE",
            help="how a photo becomes the network's input; for VGG: crop (default; the published protocol) or keras "
            f"(what the Keras tutorial does); with --labels: {OWN_RECIPES}",
        )
        group.add_argument(
            "--labels",
            metavar="FILE",
            help="the classes of an ONNX file of your own that does not describe itself: a file of names, or imagenet",
        )
    group.add_argument(
        "--precision",
        choices=["fp32", "bf16", "int8"],
        help="arithmetic of the network: fp32 (default), bf16 where the processor has it, or int8, the fastest and "
        "smallest, made once from the fp32 network",
    )
    group.add_argument(
        "--engine",
        choices=["openvino", "onnxruntime"],
        help="what runs the network: openvino (default), or onnxruntime, an extra (pip install "
        "'photolabel[onnxruntime]'), which uses a GPU where the installed package can",
    )
    group.add_argument("--threads", metavar="N", type=_threads, help="processors to use; default: all")


def add_own_network(parser: argparse.ArgumentParser) -> None:
    """Add the options for files of the user's own to a verb whose --labels are of photos."""
    parser.add_argument(
        "--recipe", metavar="NAME|FILE", help="another recipe of that model; as for photolabel --recipe"
    )
    parser.add_argument("--weights", metavar="FILE", help="use this file's weights instead of the published ones")
    parser.add_argument(
        "--classes",
        dest="labels",
        metavar="FILE",
        help="the classes of an ONNX file of your own that does not describe itself: a file of names, or imagenet",
    )


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add the network to look inside of."""
    parser.add_argument(
        "model",
        nargs="?",
        default="vgg16",
        metavar="MODEL",
        help="a known model (see: photolabel models) or any ONNX file; default: vgg16",
    )
