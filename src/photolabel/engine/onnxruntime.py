"""ONNX Runtime, an extra: a second opinion on every answer, and the way to a GPU.

It compiles at every start; nothing is kept. It runs on CUDA where the installed package offers that, else on the
processor.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import extras, progress, silence
from ..errors import InvalidModelError, UsageError
from . import cuts, soundness
from .cuts import WHOLE, Cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from . import Precision, Shape

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_SILENT = 4  # its severities go from 0, verbose, to 4, fatal
_ENTRIES = {
    # The file's suffix does not tell what it is: what was looked into as ONNX is opened as ONNX.
    "session.load_model_format": "ONNX",
    # Threads that wait for the next run must not keep processors busy.
    "session.intra_op.allow_spinning": "0",
    "session.inter_op.allow_spinning": "0",
    # On ARM it may otherwise multiply in bf16.
    "mlas.enable_gemm_fastmath_arm64_bfloat16": "0",
}
# Processors without VNNI add up pairs of 8-bit products in 16 bits, which overflow with weights of the full range. This
# makes such weights unsigned first; it fails where their zero points are not written out.
_INT8_ENTRIES = {"session.x64quantprecision": "1"}
# TF32 keeps 10 bits of each factor. The search of the fastest algorithm, CUDA's default, may find another each time.
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}


class ONNXRuntime:
    """The engine of ONNX Runtime."""

    runtime = "onnxruntime"

    def __init__(self, path: Path, precision: Precision, threads: int, cut: Cut) -> None:
        if precision == "bf16":
            raise UsageError("precision bf16: ONNX Runtime does not compute in it. Use fp32, int8 or OpenVINO.")
        if os.environ.get("ORT_LOAD_CONFIG_FROM_MODEL") == "1":
            raise UsageError(
                "ORT_LOAD_CONFIG_FROM_MODEL=1 lets a network's file say how it is run, and files be written: unset it."
            )
        self.precision: Precision = precision
        self._lock = threading.Lock()
        self._runtime = load()
        self._errors = _errors(self._runtime)
        self.device = "CUDA" if _has_cuda(self._runtime) else "CPU"
        session, self._outputs, self._least = self._open(path, threads, cut)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or not all(each.type.startswith("tensor(") for each in [*inputs, *outputs]):
            raise InvalidModelError(f"{path}: {cuts.NO_PICTURE_NETWORK}")
        self._input = inputs[0].name
        self.shape: Shape = _shape(inputs[0])
        self._outputs = self._outputs or dict.fromkeys(cuts.given_out([each.name for each in outputs]), False)
        given = {each.name: _shape(each) for each in outputs}
        self.shapes: dict[str, Shape] = {
            name: soundness.shape_given_out(given[name], channels_first=first) for name, first in self._outputs.items()
        }
        self._session: Any = session

    def run(self, pixels: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Run the network and return all outputs that were asked for, by name."""
        pixels = np.ascontiguousarray(pixels, np.float32)
        soundness.check_size(pixels, self._least)
        with self._lock:  # one run uses all the threads; a second at once would only slow both
            if self._session is None:
                raise soundness.closed()
            try:
                results = self._session.run(list(self._outputs), {self._input: pixels})
            except self._errors:
                raise soundness.not_run(pixels) from None
        return soundness.answers(pixels, results, self._outputs)

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network and return its main output."""
        return next(iter(self.run(pixels).values()))

    def close(self) -> None:
        """Free its memory; closing twice does no harm."""
        with self._lock:
            self._session = None

    def _open(self, path: Path, threads: int, cut: Cut) -> tuple[Any, dict[str, bool], tuple[int, int]]:
        """The session; what a cut gives out, and the least height and width that it takes."""
        network: str | bytes = os.fspath(path)
        outputs: dict[str, bool] = {}
        least = (0, 0)
        if cut == WHOLE and self.precision != "int8":
            soundness.check(path)
        else:
            part = cuts.read(path, cut, zero_points=self.precision == "int8")
            network, outputs, least = part.network, part.outputs, part.least
            del part
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = _SILENT
        for key, value in (_ENTRIES | (_INT8_ENTRIES if self.precision == "int8" else {})).items():
            options.add_session_config_entry(key, value)
        on_cuda, on_processor = [(_CUDA, _CUDA_OPTIONS), _CPU], [_CPU]
        with progress.status(f"compiling {path.stem} for ONNX Runtime ..."):
            session = self._session_of(network, options, on_cuda if self.device == "CUDA" else on_processor)
            if self.device == "CUDA" and (session is None or _CUDA not in session.get_providers()):
                session = session or self._session_of(network, options, on_processor)
                if session is not None:  # so it is not the network
                    raise _no_cuda()
        if session is None:
            raise soundness.not_compiled(path, cut)
        session._model_bytes = None  # kept for opening it anew, which nobody does
        return session, outputs, least

    def _session_of(self, network: str | bytes, options: Any, providers: list[Any]) -> Any:
        """A session, or None where ONNX Runtime makes none."""
        try:
            return self._runtime.InferenceSession(
                network,
                options,
                providers=providers,
                enable_fallback=0,  # which would be announced on stdout
            )
        except self._errors:
            return None


def load() -> Any:
    """ONNX Runtime without its telemetry and without its messages. Raises `MissingExtraError` where it is not.

    The official packages would keep an identity in the user's home and send events, on Linux since 1.29
    (github.com/microsoft/onnxruntime/pull/27379). The variable must be there before the library is loaded; what
    already was loaded is told not to send more.
    """
    absent = "onnxruntime" not in sys.modules
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    with extras.needed("onnxruntime"):
        if absent:
            # On its way in it looks for devices, and says on stderr what it does not find.
            with silence.stderr_turned_away(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import onnxruntime
        else:
            import onnxruntime
    if absent:
        onnxruntime.set_default_logger_severity(_SILENT)
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def is_installed() -> bool:
    """Whether the package is here; it may yet not load."""
    return importlib.util.find_spec("onnxruntime") is not None


def describe() -> str:
    """Version, and what it can run on here. Raises `MissingExtraError` where it does not load."""
    runtime = load()
    return f"ONNX Runtime {runtime.__version__} on {'CUDA' if _has_cuda(runtime) else 'CPU'}"


def _has_cuda(runtime: Any) -> bool:
    """Whether this ONNX Runtime was made for CUDA and the user does not keep the GPUs from it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or _CUDA not in runtime.get_available_providers():
        return False
    if hasattr(runtime, "preload_dlls"):  # since 1.21
        # CUDA's libraries may have been installed as Python packages, where no loader looks. It prints those it misses.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runtime.preload_dlls()
    return True


def _no_cuda() -> UsageError:
    return UsageError(
        "the installed ONNX Runtime is made for CUDA, which does not work here: expected a GPU, and the CUDA and "
        "cuDNN that this ONNX Runtime names. To run on the processor: set CUDA_VISIBLE_DEVICES=-1, or use OpenVINO."
    )


def _errors(runtime: Any) -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: a dozen classes with no base of their own."""
    known = vars(runtime.capi.onnxruntime_pybind11_state).values()
    own = [each for each in known if isinstance(each, type) and issubclass(each, Exception)]
    return (*own, RuntimeError, ValueError)


def _shape(port: Any) -> Shape:
    return tuple(axis if isinstance(axis, int) else None for axis in port.shape)
