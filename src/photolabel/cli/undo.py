"""photolabel undo [RUN]: take back what --xmp wrote."""

from __future__ import annotations

from ..errors import OutputError
from ..output import printable
from . import EXIT_CODES
from .parser import Parser
from .streams import say


def parser() -> Parser:
    """Return the verb's parser."""
    made = Parser(
        prog="photolabel undo",
        description="Take back what a run of --xmp wrote. Sidecars that nobody has changed since become what they "
        "were, byte for byte; from the others our keywords are removed. Again: the run before. Exit code 4 if a "
        "sidecar had to be left as it is.",
    )
    made.add_argument("run", nargs="?", metavar="RUN", help="which run; default: the last")
    made.add_argument("--dry-run", action="store_true", help="only say what would be done")
    made.add_argument("--list", action="store_true", help="list the runs that can be undone, the oldest first")
    return made


def run(argv: list[str]) -> int:
    """Run the verb and return its exit code."""
    args = parser().parse_args(argv)

    from .. import sidecars  # only now: --help must come at once

    if args.list:
        for each in sidecars.runs():
            say(each)
        return 0
    if args.run is None and not sidecars.runs():
        say("nothing to undo")
        return 0
    done = sidecars.undo(args.run, dry_run=args.dry_run)
    for undone in done:
        say(printable(str(undone)))
    left = any(undone.outcome in ("left", "failed") for undone in done)
    return EXIT_CODES[OutputError] if left else 0
