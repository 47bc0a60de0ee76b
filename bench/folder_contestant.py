"""One contestant of folders.py, in a process and an environment of its own: it loads once and runs when told to.

usage: python bench/folder_contestant.py KIND FOLDER

FOLDER holds what `folder_photos.py` wrote. Peers are plain: decode, then run, as one writes it in twenty lines. The
first line says, as JSON, which class each way of going through a folder finds likeliest in the photos of FOLDER/few.
For each line "WAY FOLDER" that it then reads it goes through that folder once, and writes the seconds that took, as
JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Way = Callable[[Path], list[int]]  # a folder -> the likeliest class of each photo in it

BATCH = 16
SIZE, SIDE = 224, 256
MEANS = np.array([103.939, 116.779, 123.68], np.float32)  # blue, green, red: Caffe's


@dataclass(frozen=True)
class Plain:
    """A photo is prepared, then another one, until they are a batch; then the network runs."""

    prepare: Callable[[Path], Any]
    run: Callable[[Any], Any]
    batch: int = BATCH

    def __call__(self, folder: Path) -> list[int]:
        photos, found = sorted(folder.iterdir()), []
        for begin in range(0, len(photos), self.batch):
            pixels = np.stack([self.prepare(photo) for photo in photos[begin : begin + self.batch]])
            found += np.argmax(np.asarray(self.run(pixels)), axis=1).tolist()
        return found

    def warm(self, counts: list[int]) -> None:
        """Run once in each size of batch that these counts of photos come to: some tools compile for each."""
        for size in {size for count in counts for size in (self.batch, count % self.batch) if size}:
            self.run(np.zeros((size, SIZE, SIZE, 3), np.float32))


def cropped(path: Path) -> Any:
    """The shorter side scaled to 256, and the middle of it: what photolabel gives the network too."""
    from PIL import Image

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    width, height = (int(SIDE * side / min(image.size)) for side in image.size)
    left, top = round((width - SIZE) / 2), round((height - SIZE) / 2)
    scaled = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(scaled.crop((left, top, left + SIZE, top + SIZE)), np.float32)


def channels_first(pixels: Any) -> Any:
    """What networks take that do not normalise by themselves."""
    return np.ascontiguousarray((pixels[..., ::-1] - MEANS).transpose(0, 3, 1, 2))


def photolabel(facts: dict[str, Any], precision: str) -> dict[str, Way]:
    """`classify_folder`, as it comes."""
    from photolabel import load
    from photolabel.batch import classify_folder

    classifier = load("vgg16", weights=facts["weights"], precision=precision)
    return {"folder": lambda folder: [each.top.index for each in classify_folder(folder, classifier)]}


def keras(facts: dict[str, Any], backend: str) -> dict[str, Way]:
    """The classic script in a loop; and in batches."""
    os.environ |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    from keras.applications.vgg16 import VGG16, preprocess_input
    from keras.utils import img_to_array, load_img

    model = VGG16(weights=facts["weights"])

    def prepare(path: Path) -> Any:
        return img_to_array(load_img(path, target_size=(SIZE, SIZE)))

    def run(pixels: Any) -> Any:
        return model.predict(preprocess_input(pixels), verbose=0)

    return {"loop": Plain(prepare, run, batch=1), "batched": Plain(prepare, run)}


def torch(facts: dict[str, Any], mode: str) -> dict[str, Way]:
    """VGG16 of `torch.nn`'s layers, with Keras' weights turned for it."""
    import h5py
    import torch
    from torch import nn

    layers: list[Any] = []
    with h5py.File(facts["weights"]) as file:
        for name in np.asarray(file.attrs["layer_names"]).astype(str):
            if name.endswith("pool"):
                layers.append(nn.MaxPool2d(2))
            elif name == "flatten":
                layers.append(nn.Flatten())
            if not len(file[name]):
                continue
            kernel, bias = (torch.from_numpy(file[name][f"{name}_{x}_1:0"][()]) for x in "Wb")
            if kernel.ndim == 4:
                made: Any = nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, padding=1)
                kernel = kernel.permute(3, 2, 0, 1)
            else:
                made = nn.Linear(*kernel.shape)
                if name == "fc1":
                    kernel = kernel.reshape(7, 7, 512, -1).permute(2, 0, 1, 3).reshape(kernel.shape)
                kernel = kernel.T
            made.weight = nn.Parameter(kernel.contiguous())
            made.bias = nn.Parameter(bias)
            layers += [made, nn.Softmax(1) if name == "predictions" else nn.ReLU()]
    model = nn.Sequential(*layers).eval()

    def run(pixels: Any) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(channels_first(pixels)))

    return {"batched": Plain(cropped, run)}


def openvino(facts: dict[str, Any], precision: str) -> dict[str, Way]:
    """As its pages have it, at the precision that we run at: its default is bf16 where there is any."""
    import openvino as ov

    core = ov.Core()
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(facts["network"]), "CPU", options)
    return {"batched": Plain(cropped, lambda pixels: compiled(pixels)[0])}


def onnxruntime(facts: dict[str, Any], precision: str) -> dict[str, Way]:
    """A session as it is by default."""
    import onnxruntime

    session = onnxruntime.InferenceSession(facts["network"], providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    return {"batched": Plain(cropped, lambda pixels: session.run(None, {entry.name: pixels})[0])}


def ncnn(facts: dict[str, Any], precision: str) -> dict[str, Way]:
    """As it is by default; it takes one photo at a time."""
    import ncnn

    network = ncnn.Net()
    network.opt.num_threads = os.cpu_count()
    for load, suffix in ((network.load_param, "param"), (network.load_model, "bin")):
        if load(f"{facts['folder']}/vgg16.ncnn.{suffix}"):
            raise SystemExit(f"ncnn does not take its .{suffix} file")

    def run(pixels: Any) -> Any:
        planes = channels_first(pixels)[0]  # which lives until the network has run: a Mat does not copy
        extractor = network.create_extractor()
        extractor.input("input", ncnn.Mat(planes))
        _, found = extractor.extract("softmax")
        return np.array(found)[np.newaxis]

    return {"loop": Plain(cropped, run, batch=1)}


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    # Whatever a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    facts = json.loads((folder / "facts.json").read_text("utf-8")) | {"folder": str(folder)}
    tool, _, mode = kind.partition(":")
    tools = {
        "photolabel": photolabel,
        "keras": keras,
        "torch": torch,
        "openvino": openvino,
        "onnxruntime": onnxruntime,
        "ncnn": ncnn,
    }
    ways = tools[tool](facts, mode)
    for way in ways.values():
        if isinstance(way, Plain):
            way.warm(facts["counts"])
    print(json.dumps({name: way(folder / "few") for name, way in ways.items()}), file=answers)
    for line in sys.stdin:
        name, _, place = line.rstrip("\n").partition(" ")
        begun = time.perf_counter()
        ways[name](Path(place))
        print(json.dumps(time.perf_counter() - begun), file=answers)


if __name__ == "__main__":
    main()
