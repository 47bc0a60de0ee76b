"""photolabel models [ACTION]: the models and their files on this machine."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..errors import BusyError, HashMismatchError, UnknownModelError, UsageError
from ..output import columns, printable
from .parser import OWN_RECIPES, Parser
from .streams import say


def parser() -> Parser:
    """Return the verb's parser."""
    made = Parser(prog="photolabel models", description="The models and their files on this machine.")
    made.add_argument("--json", action="store_true", help="list as one JSON object")
    made.add_argument("--long", action="store_true", help="list with licences and sources")
    actions = made.add_subparsers(dest="action", metavar="ACTION", parser_class=Parser)

    shown = actions.add_parser("list", help="list the known and the imported models (the default)")
    # SUPPRESS, or the action's own default would undo `models --json list`.
    shown.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")
    shown.add_argument("--long", action="store_true", default=argparse.SUPPRESS, help="with licences and sources")
    download = actions.add_parser("download", help="fetch a model's weights and make them ready")
    download.add_argument("names", nargs="+", metavar="NAME", help="as: photolabel models list")
    verify = actions.add_parser("verify", help="hash a model's files anew; damaged ones are removed, to be made again")
    verify.add_argument("names", nargs="*", metavar="NAME", help="default: all known and imported models")
    verify.add_argument(
        "--precision",
        nargs="+",
        metavar=("int8|bf16", "PHOTO"),
        help="instead, say how near the one model named stays to its fp32 self on these photos",
    )
    bring = actions.add_parser("import", help="keep a file of your own as a model, for --model NAME")
    bring.add_argument("name", metavar="NAME", help="what to call it; not the name of a known model")
    bring.add_argument("file", type=Path, metavar="FILE", help="weights, or an ONNX file")
    bring.add_argument(
        "--model",
        metavar="NAME",
        help="the known network that the weights are of (default: told from the file, as with --weights)",
    )
    bring.add_argument("--labels", metavar="FILE", help="for an ONNX file that does not describe itself: its classes")
    bring.add_argument("--recipe", metavar="NAME|FILE", help=f"and its input: {OWN_RECIPES}")
    remove = actions.add_parser("remove", help="remove a model's files; Keras' folder and what is bundled stay")
    remove.add_argument("names", nargs="+", metavar="NAME", help="as: photolabel models list")
    clean = actions.add_parser("clean", help="remove leftovers: unfinished downloads, outdated compiled networks, ...")
    clean.add_argument("--dry-run", action="store_true", help="only say what would go")
    clean.add_argument("--all", action="store_true", help="also what is made again at need, as compiled networks")
    quantize = actions.add_parser(
        "quantize", help="make a model's 8-bit form anew, fitted to photos of yours instead of the packaged ones"
    )
    quantize.add_argument("name", metavar="NAME", help="a model that is in fp32")
    quantize.add_argument("photos", nargs="+", metavar="PHOTO", help="a handful that differ, of the kind you have")
    bundle = actions.add_parser("bundle", help="write models into one archive, for a machine without a network")
    bundle.add_argument("out", type=Path, metavar="OUT.tar", help="the archive")
    bundle.add_argument("names", nargs="*", metavar="NAME", help="default: all models here")
    unbundle = actions.add_parser("unbundle", help="take in the models of such an archive")
    unbundle.add_argument("file", type=Path, metavar="FILE.tar", help="from one whom you trust: hashes show no author")
    return made


def run(argv: list[str]) -> int:
    """Run the verb and return its exit code."""
    args = parser().parse_args(argv)
    _ACTIONS[args.action or "list"](args)
    return 0


def _list(args: argparse.Namespace) -> None:
    from .. import keeping, store

    models, leftovers = keeping.entries(), keeping.unknown()
    if args.json:
        listed = {"models": [x.record() for x in models], "other": [x.record() for x in leftovers]}
        say(json.dumps({"schema": "photolabel-models/1", "cache": str(store.cache_folder()), **listed}))
        return
    rows = [("NAME", "HERE", "SIZE", "TOP-1", "RECIPES", *(("LICENCE", "SOURCE") if args.long else ()))]
    for each in models:
        about = each.model
        accuracy = f"{about.accuracy.top1} %" if about and about.accuracy else ""
        recipes = ", ".join(recipe.name for recipe in about.recipes) if about else each.problem or ""
        origin = (about.licence, about.source) if about else ("", "")
        rows.append((each.name, each.here, _size(each.size), accuracy, recipes, *(origin if args.long else ())))
    say(columns(rows))
    if leftovers:
        say("\nof no model:")
        say(columns([(f"  {x.path.name}", _size(x.size), x.why) for x in leftovers]))


def _size(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB" if size else ""


def _download(args: argparse.Namespace) -> None:
    from .. import artefacts, models

    wanted = [models.resolve(name) for name in args.names]  # a misspelt name should not cost a download before it
    for model in wanted:
        path = artefacts.locate(model)
        say(f"{model.name}: ready, {path.stat().st_size / 1e6:.0f} MB at {path}")


def _verify(args: argparse.Namespace) -> None:
    if args.precision:
        _agreement(args)
        return
    from .. import artefacts, models

    found = []
    for name in args.names or [*models.known(), *models.own()]:
        verdicts = artefacts.verify(models.resolve(name))
        if not verdicts:
            say(f"{name}: no files on this machine")
        found += [(name, *verdict) for verdict in verdicts]
    if not args.names:
        seen = {path for _, path, _ in found}
        found += [("cache", *verdict) for verdict in artefacts.verify_others(seen)]
    for name, path, sound in found:
        say(f"{name}: {path.name}: {'sound' if sound else 'DAMAGED' if path.exists() else 'DAMAGED, removed'}")
    damaged = [path for _, path, sound in found if not sound]
    if damaged:
        files = "1 file is" if len(damaged) == 1 else f"{len(damaged)} files are"
        raise HashMismatchError(
            f"{files} damaged. What was removed is made or fetched again at its next use; what came with photolabel "
            "comes again with: pip install --force-reinstall --no-deps photolabel"
        )


def _agreement(args: argparse.Namespace) -> None:
    precision, *photos = args.precision
    if len(args.names) != 1 or not photos:
        raise UsageError("expected one model and photos, as in: photolabel models verify vgg16 --precision int8 *.jpg")
    from ..agreement import agreement

    found = agreement(args.names[0], precision, photos)
    say(f"{found.model} at {found.precision}, beside fp32, on {found.photos} photos:")
    say(f"  same likeliest name       {found.same_top1}")
    say(f"  same five likeliest       {found.same_top5}")
    say(f"  probabilities change by   {found.mean:.6f} on average, {found.largest:.4f} at most")
    if found.cosine is not None:
        say(f"  cosine of features        {found.cosine:.5f} at least")
    if found.unreadable:
        say(f"  photos that cannot be read {found.unreadable}")


def _import(args: argparse.Namespace) -> None:
    from .. import keeping

    path = keeping.bring(args.name, args.file, model=args.model, labels=args.labels, recipe=args.recipe)
    say(f"{args.name}: ready, {_size(path.stat().st_size)}; use it as --model {args.name}")


def _quantize(args: argparse.Namespace) -> None:
    from .. import artefacts, models

    path, unreadable = artefacts.calibrate(models.resolve(args.name), args.photos)
    used = len(args.photos) - unreadable
    say(f"{args.name}: 8-bit form made from {used} photos, {_size(path.stat().st_size)}; use it with --precision int8")
    if unreadable:
        say(f"{args.name}: {unreadable} photos cannot be read and took no part")


def _remove(args: argparse.Namespace) -> None:
    from .. import keeping, models

    for name in args.names:  # a misspelt name should not leave half of them removed
        if name not in models.known() and name not in models.own():
            raise UnknownModelError(f"no model {name!r} to remove. See: photolabel models")
    for name in args.names:
        freed = keeping.remove(name)
        for path, size in freed:
            say(f"{name}: removed {path.name}, {_size(size)}")
        for line in keeping.spared(name):
            say(printable(f"{name}: {line}"))
        say(f"{name}: {_size(sum(size for _, size in freed)) or 'nothing'} freed")


def _clean(args: argparse.Namespace) -> None:
    from .. import keeping

    if args.dry_run:
        gone, busy = [x for x in keeping.leftovers(everything=args.all) if x.removable], list[keeping.Leftover]()
    else:
        gone, busy = keeping.clean(everything=args.all)
    for each in gone:
        say(printable(f"{'would remove' if args.dry_run else 'removed'} {each.path.name}: {each.why}"))
    total = _size(sum(each.size for each in gone)) or "nothing"
    say(f"{total} {'to be freed' if args.dry_run else 'freed'}")
    if busy:
        raise BusyError(f"left, for other processes are at work on them: {', '.join(x.path.name for x in busy)}")


def _bundle(args: argparse.Namespace) -> None:
    from .. import bundles

    for member in bundles.bundle(args.out, args.names):
        say(f"{member.file}: {_size(member.size)}")


def _unbundle(args: argparse.Namespace) -> None:
    from .. import bundles

    for name, new in bundles.unbundle(args.file):
        say(f"{name}: {'ready' if new else 'was here already'}; use it as --model {name}")


_ACTIONS = {
    "list": _list,
    "download": _download,
    "verify": _verify,
    "import": _import,
    "remove": _remove,
    "clean": _clean,
    "quantize": _quantize,
    "bundle": _bundle,
    "unbundle": _unbundle,
}
