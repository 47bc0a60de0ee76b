"""An ONNX file -> a callable from pixels to probabilities, at a chosen precision and number of threads.

Two runtimes can do it: OpenVINO, which comes with photolabel, and ONNX Runtime, an extra and the way to a GPU. Either
gives out the whole network or a `Cut` of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from .. import metadata
from ..errors import UsageError
from . import cuts, onnxruntime, openvino
from .cuts import BEFORE_CLASSES, WHOLE, Cut
from .openvino import BLOB, BLOB_NAME, Processor, processor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "BEFORE_CLASSES",
    "BLOB",
    "BLOB_NAME",
    "RUNTIMES",
    "WHOLE",
    "Cut",
    "Engine",
    "Precision",
    "Processor",
    "Shape",
    "available_threads",
    "layer_names",
    "open_engine",
    "processor",
]

Precision = Literal["fp32", "bf16", "int8"]
Shape = tuple[int | None, ...]


class Engine(Protocol):
    """A network ready to run.

    Called with the input of a classifier, pixels float32 (N, H, W, 3) RGB 0-255, it returns its output,
    probabilities float32 (N, classes), in an array of the caller's own. Safe to call from several threads.
    `shape` is the input's, `shapes` are the outputs' by name, the main one first; None is any length. A whole network
    gives out its main output, and `graph.FAMILIARITY` where it has that. Inner layers come channels last,
    (N, H, W, C), whatever they are inside. `runtime` is what runs the network, a key of `RUNTIMES`, and `device` what
    it runs on, "CPU" or "CUDA".
    """

    precision: Precision
    runtime: str
    device: str
    shape: Shape
    shapes: dict[str, Shape]

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network and return its main output."""

    def run(self, pixels: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Run the network and return all outputs that were asked for, by name."""

    def close(self) -> None:
        """Free its memory; closing twice does no harm."""


class _Runtime(Protocol):
    def __call__(self, path: Path, precision: Precision, threads: int, cut: Cut) -> Engine: ...


RUNTIMES: dict[str, _Runtime] = {
    "openvino": openvino.OpenVINO,
    "onnxruntime": onnxruntime.ONNXRuntime,
}


def available_threads() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_engine(
    path: Path,
    *,
    precision: str = "fp32",
    threads: int | None = None,
    cut: Cut = WHOLE,
    runtime: str = "openvino",
) -> Engine:
    """Return the network of the ONNX file at `path`, ready to run on this machine.

    `precision` is fp32, bf16 (OpenVINO, where the processor has it), or int8 for a file that `quantize` made, which
    runs as nothing else. `threads` is how many to use, by default as many as there are processors; results differ by
    some 1e-6 between counts, never between runs. `cut` asks for inner layers, or for a part of the network; such a
    network is compiled anew each time rather than kept beside the whole one. `runtime` is "openvino" or
    "onnxruntime", which runs on a GPU where the installed package can.

    Raises `UsageError` for an unknown precision, thread count, runtime or layer, `InvalidModelError` for a file that
    is no sound network, and `MissingExtraError` where the runtime is not installed.
    """
    if precision not in get_args(Precision):
        raise UsageError(f"precision {precision!r}: expected one of {', '.join(get_args(Precision))}.")
    if runtime not in RUNTIMES:
        raise UsageError(f"engine {runtime!r}: expected one of {', '.join(RUNTIMES)}.")
    if threads is None:
        threads = available_threads()
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= 1024:
        raise UsageError(f"threads={threads!r}: expected a whole number from 1 to 1024.")
    stored = metadata.read(path).get("photolabel.precision", "fp32")
    if precision == "int8" and stored != "int8":
        raise UsageError(f"{path}: its weights are not 8-bit integers, so it cannot run as int8.")
    asked: Precision = "int8" if stored == "int8" else precision  # type: ignore[assignment]
    return RUNTIMES[runtime](path, asked, threads, cut)


def layer_names(path: Path) -> list[str]:
    """Return the names of what the network at `path` computes, in order, its layers rather than their inner steps."""
    from .. import graph

    return cuts.names(graph.check(path))
