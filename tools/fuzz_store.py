"""Download from a network that answers at random: `python tools/fuzz_store.py --cases 50000 --seed 1`.

Each must end with the right file or a StoreError. A failing case prints its seed: `--cases 1 --seed N`
repeats it.
"""

from __future__ import annotations

import argparse
import collections
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import photolabel.download

from faults import random_case


def main() -> int:
    """Run the cases and print a tally; a failing one raises."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    photolabel.download.BACKOFF = 0.0
    os.fsync = lambda descriptor: None  # durability is not what is tried here, and it is most of the time
    tally: collections.Counter[str] = collections.Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in range(options.seed, options.seed + options.cases):
            for each in folder.iterdir():
                each.unlink()
            try:
                tally[random_case(seed, folder)] += 1
            except BaseException:
                print(f"seed {seed}", file=sys.stderr)
                raise
    print(f"{options.cases} cases in {time.monotonic() - began:.0f} s: {dict(tally.most_common())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
