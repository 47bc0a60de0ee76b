"""Kill -9 downloads at random moments: `python tools/kill_downloads.py --kills 100 --megabytes 8`.

After each kill the cache must hold no bad file and at most one partial, which the next download continues.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from kills import kill_downloads


def main() -> int:
    """Run the kills and print a tally."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--megabytes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        size = options.megabytes << 20
        tally = kill_downloads(Path(name), kills=options.kills, size=size, seed=options.seed)
    print(f"{time.monotonic() - began:.0f} s: {tally}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
