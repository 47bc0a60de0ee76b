"""Kill -9 the saving of a taught network, the computing of features and fine-tuning: `tools/kill_saves.py --kills 50`.

After each kill the file must be, to the byte, the older network or the new one. Of features two processes at a time
work with one file; those that are not killed must find nothing amiss with it. Fine-tuning (with Keras and JAX, else it
is left out) is gone on with after each kill, and must come to the very file of an unbroken run.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import oracle
from save_kills import kill_computing, kill_saves
from tune_kills import kill_tunings


def main() -> int:
    """Run the kills and print a tally."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--network", type=Path, help="an ONNX file that describes itself; default: the tests' tiny VGG")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {"PHOTOLABEL_OFFLINE": "1"}
        network = options.network or Path(name, "tiny.onnx")
        if options.network is None:
            network.write_bytes(oracle.tiny_onnx())
        able = all(importlib.util.find_spec(name) for name in ("keras", "jax"))
        for kill in (kill_saves, kill_computing, *([kill_tunings] if able else [])):
            folder = Path(name, kill.__name__)
            folder.mkdir()
            tally = kill(folder, network, kills=options.kills, seed=options.seed)
            print(f"{kill.__name__}, after {time.monotonic() - began:.0f} s: {tally}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
