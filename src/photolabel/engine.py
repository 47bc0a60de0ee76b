"""An ONNX file -> a callable from pixels to probabilities, at a chosen precision and number of threads.

Compiling a network for a processor takes seconds, so the compiled form (a *blob*) is kept in the cache and mapped
into memory at the next start. The runtime believes whatever a blob says, so a blob is used only while it matches
the record that the store made of it.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import platform
import re
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from . import graph, metadata, progress, store
from .errors import InvalidModelError, StoreError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Precision = Literal["fp32", "bf16", "int8"]
BLOB = ".blob"
Shape = tuple[int | None, ...]
BLOB_NAME = re.compile(
    r"(?P<stem>.+)-(?P<network>[0-9a-f]{16})-(?P<precision>[a-z0-9]+)-[0-9]+t-(?P<made_for>[0-9a-f]{16})\.blob"
)
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")  # a file name that may be part of another's
# OpenVINO's own default is bf16 wherever the processor has it, so the hint is always given.
# 8-bit integers are in the network itself (see quantize); what is left of it computes in fp32.
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class Engine(Protocol):
    """A network ready to run.

    Called with the input of a classifier, pixels float32 (N, H, W, 3) RGB 0-255, it returns its output,
    probabilities float32 (N, classes), in an array of the caller's own. Safe to call from several threads.
    `shape` is the input's, `shapes` are the outputs' by name, the main one first; None is any length.
    """

    precision: Precision
    shape: Shape
    shapes: dict[str, Shape]

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network and return its main output."""

    def run(self, pixels: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Run the network and return all outputs that were asked for, by name."""

    def close(self) -> None:
        """Free its memory; closing twice does no harm."""


def available_threads() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What networks run on here, as OpenVINO sees it; `tag` is the part of a blob's name that stands for it."""

    openvino: str
    machine: str
    device: str
    abilities: tuple[str, ...]

    @property
    def tag(self) -> str:
        """Blobs of another tag cannot be used here."""
        circumstances = [self.openvino, self.machine, self.device, list(self.abilities)]
        return hashlib.sha256(repr(circumstances).encode()).hexdigest()[:16]


def processor(core: Any = None) -> Processor:
    """Return what this processor is and can do. Raises ImportError or RuntimeError where OpenVINO does not run."""
    openvino = _openvino()
    core = core or openvino.Core()
    return Processor(
        openvino=openvino.get_version(),
        machine=platform.machine(),
        device=core.get_property("CPU", "FULL_DEVICE_NAME"),
        abilities=tuple(sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))),
    )


def open_engine(
    path: Path,
    *,
    precision: str = "fp32",
    threads: int | None = None,
    layers: Sequence[str] = (),
) -> Engine:
    """Return the network of the ONNX file at `path`, ready to run on this processor.

    `precision` is fp32, bf16 (where the processor has it), or int8 for a file that `quantize` made, which runs as
    nothing else. `layers` names inner tensors to be given out beside the network's own output; such a network is
    compiled anew each time rather than kept beside the plain one. `threads` is how many to use, by default as many as
    there are processors; results differ by some 1e-6 between counts, never between runs or batch sizes. Raises
    `UsageError` for an unknown precision, thread count or layer, and `InvalidModelError` for a file that is no sound
    network.
    """
    if precision not in _HINTS:
        raise UsageError(f"precision {precision!r}: expected one of {', '.join(_HINTS)}.")
    if threads is None:
        threads = available_threads()
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= 1024:
        raise UsageError(f"threads={threads!r}: expected a whole number from 1 to 1024.")
    return _OpenVINO(path, precision, threads, tuple(layers))


class _OpenVINO:
    """The default engine."""

    def __init__(self, path: Path, precision: Precision, threads: int, layers: tuple[str, ...]) -> None:
        stored = metadata.read(path).get("photolabel.precision", "fp32")
        if precision == "int8" and stored != "int8":
            raise UsageError(f"{path}: its weights are not 8-bit integers, so it cannot run as int8.")
        self.precision: Precision = "int8" if stored == "int8" else precision
        self._lock = threading.Lock()
        # In this order, for it is also the order in which they are given up: the blob's memory must outlive the
        # network that reads it.
        self._request: Any = None
        self._mapped: Any = None
        self._core: Any = _openvino().Core()
        self._options = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        if precision == "bf16" and "BF16" not in processor(self._core).abilities:
            raise UsageError("precision bf16: this processor does not compute in bf16. Use fp32, or int8.")
        self._layers = layers
        network = self._compile(path) if layers else self._from_cache(path)
        if len(network.inputs) != 1 or not all(output.names for output in network.outputs):
            raise InvalidModelError(
                f"{path}: expected a network from pixels, its one input, to outputs that have names."
            )
        self.shape = _shape(network.inputs[0])
        main, *others = network.outputs
        # An output may have several names; those asked for are the ones that count.
        names = [min(main.names), *layers]
        self.shapes: dict[str, Shape] = dict(zip(names, map(_shape, (main, *others)), strict=True))
        self._request = network.create_infer_request()

    def run(self, pixels: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        with self._lock:  # one run uses all the threads; a second at once would only slow both
            if self._request is None:
                raise UsageError("this classifier is closed.")
            try:
                self._request.infer({0: np.ascontiguousarray(pixels, np.float32)})
            except RuntimeError:  # a stranger's network may compile, and yet not run on such pixels
                raise InvalidModelError(
                    f"the network cannot be run on pixels of shape {pixels.shape}, float32: expected one that can."
                ) from None
            results = {name: self._request.get_output_tensor(i).data.copy() for i, name in enumerate(self.shapes)}
        if not all(np.isfinite(result).all() for result in results.values()):
            raise InvalidModelError("the network answers NaN or infinity: its weights are damaged.")
        return results

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return next(iter(self.run(pixels).values()))

    def close(self) -> None:
        with self._lock:
            self._request = self._core = None
            self._mapped = None

    def _from_cache(self, path: Path) -> Any:
        """The compiled network, out of the cache where it is there and sound."""
        cache = store.Store()
        network = None
        try:
            digest = cache.known_digest(path)
            name = self._blob_name(path, digest)
            network = self._import(cache, name)
            if network is not None:
                return network
            with cache.lock(name):
                network = self._import(cache, name)  # another process may have made it meanwhile
                if network is None:
                    # What photolabel wrote itself and has on record need not be parsed twice.
                    trusted = path.parent == cache.folder and cache.check(path.name)
                    network = self._compile(path, trusted=trusted)
                    if cache.known_digest(path) == digest:  # else the file was changed meanwhile, and the name lies
                        with cache.create(name) as file:
                            file.write(network.export_model().getbuffer())
            _remove_older(cache, name)
        except StoreError:
            # No cache to be had (no home, a full disk, ...): slower, but no reason not to answer.
            network = network or self._compile(path)
        return network

    def _blob_name(self, path: Path, digest: str) -> str:
        """A name for all that the compiled network depends on."""
        stem = path.stem if _PLAIN.fullmatch(path.stem) else "network"
        network = digest.partition(":")[2][:16]
        threads = self._options["INFERENCE_NUM_THREADS"]
        return f"{stem}-{network}-{self.precision}-{threads}t-{processor(self._core).tag}{BLOB}"

    def _import(self, cache: store.Store, name: str) -> Any:
        """The network in a blob, or None where there is none that can be trusted."""
        if not cache.check(name):
            return None
        try:
            # Mapped, not read: 553 MB need not be copied first. Copy-on-write, for a Tensor wants to be writable.
            self._mapped = np.memmap(cache.path(name), np.uint8, "c")
            return self._core.import_model(_openvino().Tensor(self._mapped, shared_memory=True), "CPU", self._options)
        except (OSError, ValueError, RuntimeError):  # gone since it was checked, empty, or not to OpenVINO's liking
            self._mapped = None
            return None

    def _compile(self, path: Path, *, trusted: bool = False) -> Any:
        if not trusted:
            graph.check(path)
        with progress.status(f"compiling {path.stem} for this processor (once) ..."):
            try:
                model = self._core.read_model(path)
                known = {name for node in model.get_ops() for output in node.outputs() for name in output.names}
                for layer in self._layers:
                    if layer not in known:
                        close = difflib.get_close_matches(layer, known, n=3)
                        raise UsageError(f"the network has no layer {layer!r}. Close: {', '.join(close) or 'none'}.")
                model.add_outputs(list(self._layers))
                return self._core.compile_model(model, "CPU", self._options)
            except RuntimeError:
                # OpenVINO's message is pages long and holds source paths of its build.
                raise InvalidModelError(f"{path}: cannot be compiled: expected a sound ONNX network.") from None


def _shape(port: Any) -> Shape:
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return ()
    return tuple(axis.get_length() if axis.is_static else None for axis in shape)


def _remove_older(cache: store.Store, name: str) -> None:
    """Remove the blobs of the same network and options that another OpenVINO or processor made.

    Never while holding another lock, and none that another process is at work on: two of them, each making what the
    other finds outdated, would wait for each other for ever.
    """
    prefix = name[: name.rindex("-") + 1]
    for path in cache.folder.glob(f"{prefix}*{BLOB}"):
        if path.name != name:
            with suppress(StoreError), cache.lock(path.name, wait=False):
                cache.remove(path.name)


def _openvino() -> Any:
    """OpenVINO without its telemetry.

    The package, when it is imported, looks up a host of Google Analytics and keeps an identity in the user's home. A
    tool that promises to work offline does neither; what is needed of OpenVINO works without.
    """
    client = "openvino_telemetry"
    absent = client not in sys.modules
    if absent:
        sys.modules[client] = None  # type: ignore[assignment]  # which stands for: not installed
    try:
        import openvino
    finally:
        if absent:
            del sys.modules[client]
    return openvino
