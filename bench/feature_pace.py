"""How fast photos to teach with become features, beside how fast the same photos are named: `bench/feature_pace.py`.

Both are the bundled model at fp32, over the same folders, by the same workers; features are computed anew each time.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this checkout's, whatever is installed

import photolabel
from photolabel import models, store, workers
from photolabel.engine import available_threads
from photolabel.teaching import backbone, examples, features

import common
from common import Bar

SHARED = Path(os.environ.get("PHOTOLABEL_SHARED", common.ROOT.parent / "shared"))
PHOTOS = SHARED / "data" / "hymenoptera" / "train"
LEAST = 0.95  # of the pace at which photos are named


def main() -> None:
    args = common.options(__doc__, runs=5).parse_args()
    if not PHOTOS.is_dir():
        print("feature_pace: skipped, for the shared photos are not beside this checkout")
        return
    naming: list[float] = []
    learning: list[float] = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["PHOTOLABEL_CACHE"] = cache
        base = backbone.find(models.BUNDLED)
        with photolabel.load(models.BUNDLED) as classifier, base.open() as running:
            for number in range(args.runs + 1):  # the first warms up
                print(f"{number} of {args.runs} ...", file=sys.stderr, flush=True)
                begun = time.perf_counter()
                named = sum(1 for _ in photolabel.classify_folder(PHOTOS, classifier))
                naming.append(time.perf_counter() - begun)
                shutil.rmtree(store.cache_folder() / "features", ignore_errors=True)
                begun = time.perf_counter()
                with workers.Crew(available_threads()) as crew:
                    found = features.compute(examples.find([PHOTOS]), running, crew, most=2 * named)
                learning.append(time.perf_counter() - begun)
                assert found.from_cache == 0 and len(found.photos) == named
    ratio = statistics.median(one / other for one, other in zip(naming[1:], learning[1:], strict=True))
    lines = [
        (
            f"`python bench/feature_pace.py`: {named} photos of ants and bees, the bundled model at fp32; in turn, "
            f"medians of {args.runs} runs."
        ),
        f"{common.machine()}.",
        "",
        *common.table(
            ["", "photos a second"],
            [
                ("named by `classify_folder`", f"{named / statistics.median(naming[1:]):.1f}"),
                ("made into features to teach with", f"{named / statistics.median(learning[1:]):.1f}"),
            ],
        ),
    ]
    bars = [Bar("features, of the pace of naming", f"{ratio:.0%}", f"at least {LEAST:.0%}", ratio >= LEAST)]
    sys.exit(0 if common.report("Features to teach with", lines, bars, args=args, of="teach") else 1)


if __name__ == "__main__":
    main()
