"""OpenVINO, the engine that comes with photolabel.

Compiling a network for a processor takes seconds, so the compiled form (a *blob*) is kept in the cache and mapped
into memory at the next start. The runtime believes whatever a blob says, so a blob is used only while it matches
the record that the store made of it.
"""

from __future__ import annotations

import hashlib
import platform
import re
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import graph, progress, store
from ..errors import InvalidModelError, StoreError, UsageError
from . import cuts, soundness
from .cuts import WHOLE, Cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from . import Precision, Shape

BLOB = ".blob"
BLOB_NAME = re.compile(
    r"(?P<stem>.+)-(?P<network>[0-9a-f]{16})-(?P<precision>[a-z0-9]+)-[0-9]+t-(?P<made_for>[0-9a-f]{16})\.blob"
)
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")  # a file name that may be part of another's
# OpenVINO's own default is bf16 wherever the processor has it, so the hint is always given.
# 8-bit integers are in the network itself (see quantize); what is left of it computes in fp32.
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


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


class OpenVINO:
    """The default engine."""

    runtime, device = "openvino", "CPU"

    def __init__(self, path: Path, precision: Precision, threads: int, cut: Cut) -> None:
        self.precision: Precision = precision
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
            # Pinned, every process with a network of one thread runs it on the first processor, and they share that.
            "ENABLE_CPU_PINNING": False,
        }
        if precision == "bf16" and "BF16" not in processor(self._core).abilities:
            raise UsageError("precision bf16: this processor does not compute in bf16. Use fp32, or int8.")
        self._outputs: dict[str, bool] = {}
        self._least = (0, 0)
        network = self._from_cache(path) if cut == WHOLE else self._cut(path, cut)
        if len(network.inputs) != 1 or not all(output.names for output in network.outputs):
            raise InvalidModelError(f"{path}: {cuts.NO_PICTURE_NETWORK}")
        self.shape: Shape = _shape(network.inputs[0])
        # An output may have several names; those asked for are the ones that count.
        called = [*self._outputs] or [_name(port) for port in network.outputs]
        self._outputs = self._outputs or dict.fromkeys(cuts.given_out(called), False)
        self._ports = [called.index(name) for name in self._outputs]
        self.shapes: dict[str, Shape] = {
            name: soundness.shape_given_out(_shape(network.outputs[i]), channels_first=first)
            for (name, first), i in zip(self._outputs.items(), self._ports, strict=True)
        }
        self._request = network.create_infer_request()

    def run(self, pixels: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Run the network and return all outputs that were asked for, by name."""
        pixels = np.ascontiguousarray(pixels, np.float32)
        soundness.check_size(pixels, self._least)
        with self._lock:  # one run uses all the threads; a second at once would only slow both
            if self._request is None:
                raise soundness.closed()
            try:
                self._request.infer({0: pixels})
            except RuntimeError:  # a stranger's network may compile, and yet not run on such pixels
                raise soundness.not_run(pixels) from None
            results = [self._request.get_output_tensor(i).data for i in self._ports]
            return soundness.answers(pixels, results, self._outputs)  # copied before the next run writes there

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network and return its main output."""
        return next(iter(self.run(pixels).values()))

    def close(self) -> None:
        """Free its memory; closing twice does no harm."""
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
                    network = self._compile(path, trusted=soundness.is_ours(path))
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
        return self._compiled(path, path, WHOLE)

    def _cut(self, path: Path, cut: Cut) -> Any:
        """The compiled part of a network; what it gives out and takes is noted."""
        part = cuts.read(path, cut)
        self._outputs, self._least = part.outputs, part.least
        return self._compiled(part.network, path, cut)

    def _compiled(self, network: Path | bytes, path: Path, cut: Cut) -> Any:
        once = " (once)" if cut == WHOLE else ""
        name = "the network" if path.name.startswith(".") else path.stem  # a file that has not got its name yet
        with progress.status(f"compiling {name} for this processor{once} ..."):
            try:
                return self._core.compile_model(self._core.read_model(network), "CPU", self._options)
            except RuntimeError:
                # OpenVINO's message is pages long and holds source paths of its build.
                raise soundness.not_compiled(path, cut) from None


def _name(port: Any) -> str:
    return graph.FAMILIARITY if graph.FAMILIARITY in port.names else str(min(port.names))


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
