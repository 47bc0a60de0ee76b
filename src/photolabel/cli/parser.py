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
# Those of `conventions`, which --help has no time to import.
OWN_RECIPES = "torchvision, caffe, keras, tf, efficientnet-lite, unit, raw, or a JSON file"


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints go the way of every other error, in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

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


def add_model_options(parser: argparse.ArgumentParser, *, own: bool = True) -> None:
    """Add the options that choose a model and how it runs; `own`: also those for files of the user's own."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="NAME|FILE",
        help="a known model (see: photolabel models) or an ONNX file; default: PHOTOLABEL_MODEL, else vgg16 if its "
        "weights are on this machine, else the bundled efficientnet-lite2",
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


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add the network to look inside of."""
    parser.add_argument(
        "model",
        nargs="?",
        default="vgg16",
        metavar="MODEL",
        help="a known model (see: photolabel models) or any ONNX file; default: vgg16",
    )
