"""photolabel doctor: whether all is well with this installation."""

from __future__ import annotations

import json

from ..errors import ModelError
from ..output import columns
from . import EXIT_CODES
from .parser import Parser
from .streams import say


def parser() -> Parser:
    """Return the verb's parser."""
    made = Parser(
        prog="photolabel doctor",
        description="Check that all is well with this installation: packages, processor, decoders, cache, hashes, "
        "network settings, and that a known photo gets its known answer. Exit code 3 if something FAILED.",
    )
    made.add_argument("--json", action="store_true", help="print one JSON object")
    made.add_argument("--network", action="store_true", help="also ask the hosts of weights for one byte each")
    return made


def run(argv: list[str]) -> int:
    """Run the verb and return its exit code."""
    args = parser().parse_args(argv)
    from .. import doctor

    report = doctor.examine(reach_out=args.network)
    if args.json:
        say(json.dumps(report.record()))
    else:
        say(columns([(x.verdict, x.check, x.says) for x in report.findings]))
        for each in report.findings:
            if each.remedy:
                say(columns([(f"{each.verdict}: {each.check}:", each.remedy)]))
    return EXIT_CODES[ModelError] if report.failed else 0
