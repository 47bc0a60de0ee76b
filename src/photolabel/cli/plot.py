"""photolabel plot [MODEL] -o FILE: a picture of a network."""

from __future__ import annotations

from .parser import Parser, add_network


def parser() -> Parser:
    """Return the verb's parser."""
    made = Parser(prog="photolabel plot", description="Draw a network. Needs no weights and no network.")
    add_network(made)
    made.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="the picture, .png or .svg; replaced if it is there"
    )
    made.add_argument(
        "--style",
        default="graph",
        choices=["graph", "volumes"],
        help="graph (default): a box a layer, with shapes on the arrows; volumes: the outputs as shrinking volumes",
    )
    return made


def run(argv: list[str]) -> int:
    """Run the verb and return its exit code."""
    args = parser().parse_args(argv)

    from .. import draw  # only now: --help must come at once

    draw.plot(args.model, args.output, style=args.style)
    return 0
