"""photolabel explain PHOTO -o FILE: where in a photo the evidence for a name is."""

from __future__ import annotations

import sys
from pathlib import Path

from ..output import printable
from .parser import Parser, add_model_options
from .streams import STDIN, say, standard_input


def parser() -> Parser:
    """Return the verb's parser."""
    made = Parser(
        prog="photolabel explain",
        description="Show where in a photo the evidence for a name is: a heat map over it, and the box round the most "
        "of it.",
    )
    made.add_argument("photo", metavar="PHOTO", help="an image file, or - to read one from standard input")
    made.add_argument(
        "--output", "-o", metavar="FILE", help="draw it into this PNG or SVG file; without, it is only told"
    )
    made.add_argument(
        "--label",
        dest="of",
        metavar="NAME",
        help="for which class: its name (or the everyday one), WordNet id or index; default: the likeliest",
    )
    made.add_argument(
        "--method",
        choices=["gradient", "activation", "occlusion"],
        help="gradient (VGG), activation (networks that end in an average), occlusion (any; slow); default: the first "
        "that the network allows",
    )
    add_model_options(made, own=False, views=False)
    made.add_argument(
        "--recipe", metavar="NAME", help="another recipe of that model, as in: --model vgg16 --recipe keras"
    )
    made.add_argument("--weights", metavar="FILE", help="use this file's weights instead of the published ones")
    return made


def run(argv: list[str]) -> int:
    """Run the verb and return its exit code."""
    args = parser().parse_args(argv)
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # see classify
    from .. import explain, loading  # only now: --help must come at once
    from .photos import telling

    with loading.load(
        args.model,
        weights=args.weights,
        recipe=args.recipe,
        precision=args.precision or "fp32",
        threads=args.threads,
        engine=args.engine or "openvino",
    ) as ready:
        photo = standard_input() if args.photo == STDIN else args.photo
        with telling(args.photo):
            found = explain.explain(ready, photo, label=args.of, method=args.method)
    if args.output:
        found.save(Path(args.output), name=Path(args.photo).name)
    say(printable(f"{found.label.name} ({found.label.probability * 100:.2f}%)"))
    if found.box is None:
        say("no evidence for it was found")
    else:
        left, top, right, bottom = (round(edge) for edge in found.box)
        whole = f"{found.photo.width} x {found.photo.height}"
        say(f"evidence: {right - left} x {bottom - top} pixels at {left}, {top} of {whole}")
    return 0
