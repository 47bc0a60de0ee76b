"""photolabel models [list|download|verify]: the models and their files on this machine."""

from __future__ import annotations

from ..errors import HashMismatchError
from .parser import Parser


def parser() -> Parser:
    """Return the verb's parser."""
    made = Parser(prog="photolabel models", description="List, download and verify models.")
    actions = made.add_subparsers(dest="action", metavar="ACTION", parser_class=Parser)
    actions.add_parser("list", help="list the known models (the default)")
    download = actions.add_parser("download", help="fetch a model's weights and make them ready")
    download.add_argument("names", nargs="+", metavar="NAME", help="as: photolabel models list")
    verify = actions.add_parser("verify", help="hash a model's files anew; damaged ones are removed, to be made again")
    verify.add_argument("names", nargs="*", metavar="NAME", help="default: all known models")
    return made


def run(argv: list[str]) -> int:
    """Run the verb and return its exit code."""
    args = parser().parse_args(argv)
    if args.action == "download":
        return _download(args.names)
    if args.action == "verify":
        return _verify(args.names)
    return _list()


def _list() -> int:
    from .. import artefacts, models

    rows = [("NAME", "HERE", "TOP-1", "RECIPES", "LICENCE")]
    for model in models.known().values():
        rows.append(
            (
                model.name,
                "yes" if artefacts.available(model) else "no",
                f"{model.accuracy.top1} %" if model.accuracy else "",
                ", ".join(recipe.name for recipe in model.recipes),
                model.licence,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _download(names: list[str]) -> int:
    from .. import artefacts, models

    wanted = [models.resolve(name) for name in names]  # a misspelt name should not cost a download before it
    for model in wanted:
        path = artefacts.locate(model)
        print(f"{model.name}: ready, {path.stat().st_size / 1e6:.0f} MB at {path}")
    return 0


def _verify(names: list[str]) -> int:
    from .. import artefacts, models

    damaged = []
    for name in names or models.known():
        verdicts = artefacts.verify(models.resolve(name))
        if not verdicts:
            print(f"{name}: no files on this machine")
        for path, sound in verdicts:
            print(f"{name}: {path.name}: {'sound' if sound else 'DAMAGED, removed'}")
            damaged += [] if sound else [path.name]
    if damaged:
        raise HashMismatchError(f"{len(damaged)} damaged files; they are made or fetched again at the next use.")
    return 0
