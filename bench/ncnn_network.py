"""Write VGG16 as ncnn takes it: a text file of its layers, and one of its weights.

usage: python bench/ncnn_network.py WEIGHTS.h5 NAME

Writes NAME.param and NAME.bin. Needs photolabel, for its reader of weights, and not ncnn's own converter, which wants
PyTorch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from photolabel import weights
from photolabel.spec import VGG16

MAGIC, PLAIN_FLOATS = "7767517", np.uint32(0)


def write(arrays: Any, text: Path, numbers: BinaryIO) -> None:
    """Write the layers to `text` and what `weights.read` read to `numbers`; channels come first in ncnn."""
    lines = ["Input input 0 1 input 0=224 1=224 2=3"]
    before = "input"
    for layer in VGG16.layers[1:]:
        name, wire = layer.name, f"1 1 {before} {layer.name}"
        if layer.kernel:
            kernel, bias = arrays[name]
            if kernel.ndim == 4:
                lines.append(f"Convolution {name} {wire} 0={len(bias)} 1=3 4=1 5=1 6={kernel.size} 9=1")
                kernel = kernel.transpose(3, 2, 0, 1)
            else:
                rectified = int(name != "predictions")
                lines.append(f"InnerProduct {name} {wire} 0={len(bias)} 1=1 2={kernel.size} 9={rectified}")
                if name == "fc1":
                    kernel = kernel.reshape(7, 7, 512, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
                kernel = kernel.T
            for part in (PLAIN_FLOATS, np.ascontiguousarray(kernel, np.float32), bias.astype(np.float32)):
                numbers.write(part.tobytes())
        elif name.endswith("pool"):
            lines.append(f"Pooling {name} {wire} 0=0 1=2 2=2")
        else:  # InnerProduct flattens by itself
            continue
        before = name
    lines.append(f"Softmax softmax 1 1 {before} softmax 0=0")
    text.write_text("\n".join([MAGIC, f"{len(lines)} {len(lines)}", *lines, ""]), "utf-8")


def main() -> None:
    source, name = Path(sys.argv[1]), sys.argv[2]
    with Path(f"{name}.bin").open("wb") as numbers:
        write(weights.read(source, VGG16), Path(f"{name}.param"), numbers)


if __name__ == "__main__":
    main()
