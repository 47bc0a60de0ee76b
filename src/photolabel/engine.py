"""An ONNX file -> a callable from pixels to probabilities, at a chosen precision and number of threads.

Compiling a network for a processor takes seconds, so the compiled form (a *blob*) is kept in the cache and mapped
into memory at the next start. The runtime believes whatever a blob says, so a blob is used only while it matches
the record that the store made of it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from . import graph, progress, store
from .errors import InvalidModelError, StoreError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Precision = Literal["fp32"]
BLOB = ".blob"
BLOB_NAME = re.compile(
    r"(?P<stem>.+)-(?P<network>[0-9a-f]{16})-(?P<precision>[a-z0-9]+)-[0-9]+t-(?P<made_for>[0-9a-f]{16})\.blob"
)
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")  # a file name that may be part of another's
# OpenVINO's own default is bf16 wherever the processor has it, so the hint is always given.
_HINTS: dict[Precision, str] = {"fp32": "f32"}


class Engine(Protocol):
    """A network ready to run.

    Called with pixels, float32 (N, H, W, 3), RGB, 0-255, it returns probabilities, float32 (N, classes), in an
    array of the caller's own. Safe to call from several threads.
    """

    precision: Precision
    classes: int
    size: int | None  # side of the square input; None where any will do

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network."""

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
    import openvino

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
) -> Engine:
    """Return the network of the ONNX file at `path`, ready to run on this processor.

    `threads` is how many to use, by default as many as there are processors; results differ by some 1e-6 between
    counts, never between runs or batch sizes. Raises `UsageError` for an unknown precision or thread count and
    `InvalidModelError` for a file that is no sound network.
    """
    if precision not in _HINTS:
        raise UsageError(f"precision {precision!r}: expected one of {', '.join(_HINTS)}.")
    if threads is None:
        threads = available_threads()
    if not 1 <= threads <= 1024:
        raise UsageError(f"threads={threads}: expected 1 to 1024.")
    return _OpenVINO(path, precision, threads)


class _OpenVINO:
    """The default engine."""

    def __init__(self, path: Path, precision: Precision, threads: int) -> None:
        import openvino

        self.precision: Precision = precision
        self._lock = threading.Lock()
        # In this order, for it is also the order in which they are given up: the blob's memory must outlive the
        # network that reads it.
        self._request: Any = None
        self._mapped: Any = None
        self._core: Any = openvino.Core()
        self._options = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        network = self._from_cache(path)
        image, answer = network.inputs[0].partial_shape, network.outputs[0].partial_shape
        photos, answers = openvino.PartialShape([1, -1, -1, 3]), openvino.PartialShape([1, -1])
        fits = len(network.inputs) == 1 and image.compatible(photos) and answer.compatible(answers)
        if not (fits and answer[1].is_static):  # unknown ranks do not compile
            raise InvalidModelError(
                f"{path}: expected a network from pixels (N, height, width, 3) to probabilities (N, classes) that "
                "says how many classes it has."
            )
        self.classes: int = answer[1].get_length()
        self.size: int | None = image[1].get_length() if image[1].is_static else None
        self._request = network.create_infer_request()

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._lock:  # one run uses all the threads; a second at once would only slow both
            if self._request is None:
                raise UsageError("this classifier is closed.")
            try:
                self._request.infer({0: np.ascontiguousarray(pixels, np.float32)})
            except RuntimeError:  # a stranger's network may compile, and yet not run on such pixels
                raise InvalidModelError(
                    f"the network cannot be run on pixels of shape {pixels.shape}, float32: expected one that can."
                ) from None
            result: NDArray[np.float32] = self._request.get_output_tensor(0).data.copy()
        if not np.isfinite(result).all():
            raise InvalidModelError("the network answers NaN or infinity: its weights are damaged.")
        return result

    def close(self) -> None:
        with self._lock:
            self._request = self._core = None
            self._mapped = None

    def _from_cache(self, path: Path) -> Any:
        """The compiled network, out of the cache where it is there and sound."""
        cache = store.Store()
        try:
            name = self._blob_name(path, cache)
            network = self._import(cache, name)
            if network is not None:
                return network
            with cache.lock(name):
                network = self._import(cache, name)  # another process may have made it meanwhile
                if network is None:
                    network = self._compile(path, trusted=path.parent == cache.folder)
                    with cache.create(name) as file:
                        file.write(network.export_model().getbuffer())
                    _remove_older(cache, name)
        except StoreError:
            # No cache to be had (no home, a full disk, ...): slower, but no reason not to answer.
            network = self._compile(path)
        return network

    def _blob_name(self, path: Path, cache: store.Store) -> str:
        """A name for all that the compiled network depends on."""
        stem = path.stem if _PLAIN.fullmatch(path.stem) else "network"
        network = cache.known_digest(path).partition(":")[2][:16]
        threads = self._options["INFERENCE_NUM_THREADS"]
        return f"{stem}-{network}-{self.precision}-{threads}t-{processor(self._core).tag}{BLOB}"

    def _import(self, cache: store.Store, name: str) -> Any:
        """The network in a blob, or None where there is none that can be trusted."""
        import openvino

        if not cache.check(name):
            return None
        # Mapped, not read: 553 MB cost 0.1 s instead of 0.6 s. Copy-on-write, for a Tensor wants to be writable.
        self._mapped = np.memmap(cache.path(name), np.uint8, "c")
        try:
            return self._core.import_model(openvino.Tensor(self._mapped, shared_memory=True), "CPU", self._options)
        except RuntimeError:
            self._mapped = None
            return None

    def _compile(self, path: Path, *, trusted: bool = False) -> Any:
        if not trusted:  # what photolabel wrote itself and has on record need not be parsed twice
            graph.check(path)
        with progress.status(f"compiling {path.stem} for this processor (once) ..."):
            try:
                return self._core.compile_model(self._core.read_model(path), "CPU", self._options)
            except RuntimeError:
                # OpenVINO's message is pages long and holds source paths of its build.
                raise InvalidModelError(f"{path}: cannot be compiled: expected a sound ONNX network.") from None


def _remove_older(cache: store.Store, name: str) -> None:
    """Remove the blobs of the same network and options that another OpenVINO or processor made."""
    prefix = name[: name.rindex("-") + 1]
    for path in cache.folder.glob(f"{prefix}*{BLOB}"):
        if path.name != name:
            cache.remove(path.name)
