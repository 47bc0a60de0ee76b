"""photolabel summary [MODEL]: the table of a network's layers."""

from __future__ import annotations

from .parser import Parser, add_network
from .streams import say


def parser() -> Parser:
    """Return the verb's parser."""
    made = Parser(
        prog="photolabel summary",
        description="Print a network's layers, their output shapes and parameters. Needs no weights and no network.",
    )
    add_network(made)
    return made


def run(argv: list[str]) -> int:
    """Run the verb and return its exit code."""
    args = parser().parse_args(argv)

    from .. import draw  # only now: --help must come at once

    say(draw.summary(args.model))
    return 0
