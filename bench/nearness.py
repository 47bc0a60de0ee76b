"""How near bf16 and int8 stay to fp32 on real photos and networks; run by precisions.py --agreement.

usage: python bench/nearness.py FOLDER

Prints one JSON object. The photos are those of the folder that PHOTOLABEL_SHARED names, or that lies beside the
checkout as `shared`; VGG16's convolutions are made by the tool there. FOLDER is for what is made on the way. The
features are those of the last block, averaged over each photo.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from photolabel import engine, graph, images, load, models, quantize, weights
from photolabel.spec import VGG16

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("PHOTOLABEL_SHARED", ROOT.parent / "shared"))


def base() -> Path | None:
    """The real convolutions as an h5 file, made if need be, where the tests look too; None where they cannot be."""
    made, tool = ROOT / ".cache" / "vgg16_base.h5", SHARED / "tools" / "make_vgg16_base.py"
    if not made.is_file() and tool.is_file():
        part = made.with_suffix(".part")
        if subprocess.run([sys.executable, str(tool), str(part)], stdout=sys.stderr, check=False).returncode == 0:
            part.replace(made)
    return made if made.is_file() else None


def prepared(paths: list[Any]) -> list[Any]:
    return [images.prepare(images.read(path.read_bytes()), models.CROP) for path in paths]


def features(network: Path, precision: str, inputs: list[Any]) -> Any:
    running = engine.open_engine(network, precision=precision)
    try:
        return np.concatenate([running(pixels[np.newaxis]) for pixels in inputs])
    finally:
        running.close()


def cosines(source: Path, photos: list[Path], folder: Path) -> dict[str, float | str]:
    """The least cosine between features at fp32 and at each other precision."""
    spec = replace(VGG16, top=False, pooling="avg")
    fp32, int8 = folder / "vgg16-base.onnx", folder / "vgg16-base-int8.onnx"
    fp32.write_bytes(b"".join(graph.build(spec, weights.read(source, spec), models.CAFFE, describe={})))
    calibration = sorted(
        resources.files("photolabel").joinpath("data", "calibration").iterdir(), key=lambda photo: photo.name
    )
    describe = {"photolabel.precision": "int8"}
    int8.write_bytes(quantize.quantize(fp32, prepared(list(calibration)), describe=describe))
    inputs = prepared(list(photos))
    reference = features(fp32, "fp32", inputs)
    found: dict[str, float | str] = {}
    for precision, network in (("bf16", fp32), ("int8", int8)):
        if precision == "bf16" and "BF16" not in engine.processor().abilities:
            found[precision] = "not on this processor"
            continue
        others = features(network, precision, inputs)
        lengths = np.linalg.norm(reference, axis=1) * np.linalg.norm(others, axis=1)
        found[precision] = float(((reference * others).sum(axis=1) / lengths).min())
    fp32.unlink()
    int8.unlink()
    return found


def right(photos: list[Path], precision: str) -> float:
    """Percent of photos that the bundled model names rightly; a photo's name begins with its class."""
    with load(models.BUNDLED, precision=precision) as classifier:
        named = classifier.classify_many(photos, top=1)
        return 100 * sum(p.name.startswith(f"{x.top.wnid}_") for p, x in zip(photos, named, strict=True)) / len(photos)


def main() -> None:
    folder = Path(sys.argv[1])
    place = SHARED / "data" / "imagenet100"
    photos = sorted(place.iterdir()) if place.is_dir() else []
    if not photos:
        print(json.dumps({"skipped": "agreement: skipped, for the shared photos are not beside this checkout"}))
        return
    source = base()
    away = "VGG16's convolutions are not at hand"
    cosine = cosines(source, photos, folder) if source else dict.fromkeys(("bf16", "int8"), away)
    found = {"photos": len(photos), "cosine": cosine, "right": {x: right(photos, x) for x in ("fp32", "int8")}}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
