"""photolabel bench [PHOTO ...]: a quick look at how fast this machine is."""

from __future__ import annotations

import json
import sys

from ..output import columns
from .parser import Parser, add_model_options
from .streams import say


def parser() -> Parser:
    """Return the verb's parser."""
    made = Parser(
        prog="photolabel bench",
        description="A quick look at how fast this machine is: a model's network, the reading of photos, and a folder "
        "as a whole. How it stands beside other tools, make bench in a checkout says.",
    )
    made.add_argument("photos", nargs="*", metavar="PHOTO", help="photos or folders; default: a few that are packaged")
    made.add_argument("--json", action="store_true", help="print one JSON object")
    add_model_options(made, own=False)
    return made


def run(argv: list[str]) -> int:
    """Run the verb and return its exit code."""
    args = parser().parse_args(argv)
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # see classify
    from .. import bench  # only now: --help must come at once

    speed = bench.measure(
        args.model,
        args.photos,
        precision=args.precision or "fp32",
        threads=args.threads,
        runtime=args.engine or "openvino",
    )
    if args.json:
        say(json.dumps(speed.record()))
        return 0
    say(f"{speed.model}, {speed.precision}, recipe {speed.recipe}, on {speed.threads} processors ({speed.processor})")
    rows = [
        ("loading", f"{speed.loading:.0f} ms"),
        ("network, one photo", f"{speed.one:.1f} ms"),
        ("network, batches", f"{speed.batched:.1f} ms a photo"),
        ("reading a small photo", f"{speed.reading:.1f} ms"),
        ("reading 12 megapixels", f"{speed.reading_camera:.1f} ms"),
        (f"a folder of {speed.photos:,}", f"{speed.photos_per_second:.1f} photos a second"),
    ]
    say(columns(rows))
    return 0
