"""photolabel look PHOTO -o FILE: what a network gets to see of a photo."""

from __future__ import annotations

import sys
from pathlib import Path

from ..output import printable
from .parser import Parser
from .streams import STDIN, say, standard_input


def parser() -> Parser:
    """Return the verb's parser."""
    made = Parser(
        prog="photolabel look",
        description="Show the very pixels that a network gets of a photo, beside the photo with what is cut from it, "
        "and say what is odd about them. Needs no weights.",
    )
    made.add_argument("photo", metavar="PHOTO", help="an image file, or - to read one from standard input")
    made.add_argument(
        "--output", "-o", metavar="FILE", help="draw it into this PNG or SVG file; without, it is only told"
    )
    made.add_argument(
        "--model",
        metavar="NAME|FILE",
        help="whose recipe: a known model or an ONNX file; default: as when photos are named",
    )
    made.add_argument(
        "--recipe", metavar="NAME", help="another recipe of that model, as in: --model vgg16 --recipe keras"
    )
    return made


def run(argv: list[str]) -> int:
    """Run the verb and return its exit code."""
    args = parser().parse_args(argv)
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # see classify
    from .. import artefacts, loading, look, models  # only now: --help must come at once
    from .photos import telling

    loading.check_one(args.model)
    model = models.resolve(args.model) if args.model else artefacts.default()
    photo = standard_input() if args.photo == STDIN else args.photo
    with telling(args.photo):
        seen = look.look(photo, model.recipe(args.recipe))
    if args.output:
        seen.save(Path(args.output))
    for line in seen.facts():
        say(printable(line))
    for line in seen.warnings:
        say(printable(f"warning: {line}"))
    return 0
