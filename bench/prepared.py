"""Write what the contestants of precisions.py are given, with photolabel's own means.

usage: python bench/prepared.py FOLDER WEIGHTS.h5 BATCH ...
"""

from __future__ import annotations

import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from photolabel import artefacts, engine, images, models

SAMPLES = Path(__file__).resolve().parents[1] / "samples"


def facts(weights: Path) -> dict[str, Any]:
    """What every contestant is told: where the network is, and what this processor can do."""
    network = artefacts.locate(models.known()["vgg16"], weights_file=weights)
    return {"weights": str(weights), "network": str(network), "abilities": engine.processor().abilities}


def main() -> None:
    folder, weights, batches = Path(sys.argv[1]), Path(sys.argv[2]), [int(batch) for batch in sys.argv[3:]]
    model = models.known()["vgg16"]
    photos = [images.prepare(images.read(path), model.recipe()) for path in sorted(SAMPLES.glob("*.jpg"))]
    # More of them by turning: what is in a photo does not change how long a network takes.
    views = [np.rot90(photo, turn).copy() for turn in range(4) for photo in photos]
    for batch in batches:
        np.save(folder / f"inputs-{batch}.npy", np.stack(views[:batch]))
    calibration = resources.files("photolabel").joinpath("data", "calibration")
    paths = sorted(calibration.iterdir(), key=lambda photo: photo.name)
    np.save(
        folder / "calibration.npy",
        np.stack([images.prepare(images.read(path.read_bytes()), model.recipe()) for path in paths]),
    )
    (folder / "facts.json").write_text(json.dumps(facts(weights)), "utf-8")


if __name__ == "__main__":
    main()
