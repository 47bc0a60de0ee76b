"""What the verbs' parsers share."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from ..errors import UsageError


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints go the way of every other error, in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def children(self) -> list[argparse.ArgumentParser]:
        """Return the parsers of the verb's own actions, in order."""
        actions = [x for x in self._actions if isinstance(x, argparse._SubParsersAction)]
        return [child for action in actions for child in action.choices.values()]

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError`."""
        raise UsageError(f"{message}. See: {self.prog} --help")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a model and how it runs."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="NAME|FILE",
        help="a known model (see: photolabel models) or an ONNX file; default: PHOTOLABEL_MODEL, else vgg16 if its "
        "weights are on this machine, else the bundled efficientnet-lite2",
    )
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="use this file's weights (Keras, PyTorch, safetensors, Caffe, npz) instead of the published ones",
    )
    group.add_argument(
        "--recipe",
        metavar="NAME",
        help="how a photo becomes the network's input; for VGG: crop (default; the published protocol) or keras "
        "(what the Keras tutorial does)",
    )
    group.add_argument("--precision", default="fp32", choices=["fp32"], help="arithmetic of the network")
    group.add_argument("--threads", metavar="N", type=int, help="processors to use; default: all")


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add the network to look inside of."""
    parser.add_argument(
        "model",
        nargs="?",
        default="vgg16",
        metavar="MODEL",
        help="a known model (see: photolabel models) or any ONNX file; default: vgg16",
    )
