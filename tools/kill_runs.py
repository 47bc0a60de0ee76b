"""Kill -9 runs over many photos at random moments: `python tools/kill_runs.py --kills 50 --photos 2000`.

After each kill the journal must be whole lines of what an unbroken run writes, and no more than the last one cut
short; going on with it must end in the very bytes of the unbroken run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import oracle
from run_kills import kill_runs


def main() -> int:
    """Run the kills and print a tally."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {"PHOTOLABEL_CACHE": f"{name}/cache", "PHOTOLABEL_OFFLINE": "1"}
        network = Path(name, "tiny.onnx")
        network.write_bytes(oracle.tiny_onnx())
        tally = kill_runs(Path(name), network, kills=options.kills, photos=options.photos, seed=options.seed)
    print(f"{time.monotonic() - began:.0f} s: {tally}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
