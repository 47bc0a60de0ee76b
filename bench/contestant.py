"""One contestant of precisions.py, in a process and an environment of its own: it loads once and runs when told to.

usage: python bench/contestant.py KIND FOLDER

FOLDER holds what `prepared.py` wrote: `facts.json`, `inputs-N.npy`, `calibration.npy`, all pixels float32 RGB 0-255.
Its first line says, as JSON, what it answers to the one photo of `inputs-1.npy`. For each line "BATCH TIMES" that it
then reads it runs once uncounted, TIMES times counted, and writes the seconds of each as a JSON list.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[Any], Any]


def photolabel(folder: Path, facts: dict[str, str], precision: str) -> Run:
    """As a Classifier runs its network; photos are prepared already."""
    from photolabel import load

    return load("vgg16", weights=facts["weights"], precision=precision)._members[0]._run


def openvino(folder: Path, facts: dict[str, str], precision: str) -> Run:
    """As its pages have it, at the precision that we run at: its default is bf16 where there is any."""
    import openvino as ov

    core = ov.Core()
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(facts["network"]), "CPU", options)
    return lambda pixels: compiled(pixels)[0]


def nncf(folder: Path, facts: dict[str, str], preset: str) -> Run:
    """Post-training quantization as its pages have it, with the photos that we calibrate by."""
    import nncf
    import openvino as ov

    nncf.set_log_level(40)
    core = ov.Core()
    photos = [photo[np.newaxis] for photo in np.load(folder / "calibration.npy")]
    network = nncf.quantize(
        core.read_model(facts["network"]),
        nncf.Dataset(photos),
        preset=nncf.QuantizationPreset[preset],
        subset_size=len(photos),
    )
    compiled = core.compile_model(network, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    return lambda pixels: compiled(pixels)[0]


def onnxruntime(folder: Path, facts: dict[str, str], precision: str) -> Run:
    """A session as it is by default."""
    import onnxruntime

    session = onnxruntime.InferenceSession(facts["network"], providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    return lambda pixels: session.run(None, {entry.name: pixels})[0]


def keras(folder: Path, facts: dict[str, str], backend: str) -> Run:
    """`predict` on what `preprocess_input` made; preparing it is not counted."""
    os.environ |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    from keras.applications.vgg16 import VGG16, preprocess_input

    model = VGG16(weights=facts["weights"])
    prepared: dict[int, Any] = {}

    def run(pixels: Any) -> Any:
        if len(pixels) not in prepared:
            prepared[len(pixels)] = preprocess_input(pixels.copy())
        return model.predict(prepared[len(pixels)], verbose=0)

    return run


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    # Whatever a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    facts = json.loads((folder / "facts.json").read_text("utf-8"))
    tool, _, mode = kind.partition(":")
    tools = {"photolabel": photolabel, "openvino": openvino, "nncf": nncf, "onnxruntime": onnxruntime, "keras": keras}
    run = tools[tool](folder, facts, mode)
    inputs = {len(pixels): pixels for pixels in map(np.load, folder.glob("inputs-*.npy"))}
    for pixels in inputs.values():
        run(pixels)
    print(json.dumps(np.asarray(run(inputs[1]))[0].tolist()), file=answers)
    for line in sys.stdin:
        batch, times = map(int, line.split())
        pixels, seconds = inputs[batch], []
        run(pixels)
        for _ in range(times):
            begun = time.perf_counter()
            run(pixels)
            seconds.append(time.perf_counter() - begun)
        print(json.dumps(seconds), file=answers)


if __name__ == "__main__":
    main()
