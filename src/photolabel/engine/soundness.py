"""What an engine asks of a network and of its answers, whatever runs it, and the errors where it is not so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import graph, store
from ..errors import InvalidModelError, StoreError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from . import Cut, Shape


def is_ours(path: Path) -> bool:
    """Whether photolabel wrote the file itself and has it on record: then it was looked into before."""
    try:
        cache = store.Store()
        return path.parent == cache.folder and cache.check(path.name)
    except (StoreError, UsageError):  # no cache to be had; a file that has not got its name yet
        return False


def check(path: Path) -> None:
    """Raise `InvalidModelError` unless the network may be given to a runtime."""
    if not is_ours(path):
        graph.check(path)


def closed() -> UsageError:
    """The error of a network that is used after it was closed."""
    return UsageError("this classifier is closed.")


def not_compiled(path: Path, cut: Cut) -> InvalidModelError | UsageError:
    """The error of a network that a runtime does not take. The runtime's own words stay its own."""
    if cut.size is not None or cut.dense:
        height, width = (side or "any" for side in cut.size or (None, None))
        return UsageError(
            f"{path}: cannot be run on pictures of {height} x {width} (height x width): expected a size that its "
            "layers can work on, or only such layers as lie before the dense ones."
        )
    return InvalidModelError(f"{path}: cannot be compiled: expected a sound ONNX network.")


def not_run(pixels: NDArray[Any]) -> InvalidModelError:
    """The error of a network that was compiled, and yet does not run on `pixels`."""
    return InvalidModelError(
        f"the network cannot be run on pixels of shape {pixels.shape}, float32: expected one that can."
    )


def check_size(pixels: NDArray[Any], least: tuple[int, int]) -> None:
    """Raise `UsageError` for pictures that are too small: a runtime may average over no places at all."""
    if pixels.ndim == 4 and any(side < own for side, own in zip(pixels.shape[1:3], least, strict=True)):
        raise UsageError(
            f"pixels of shape {pixels.shape}: expected pictures of at least {least[0]} x {least[1]} (height x width)."
        )


def answers(
    pixels: NDArray[np.float32], results: Iterable[NDArray[Any]], outputs: Mapping[str, bool]
) -> dict[str, NDArray[np.float32]]:
    """The results of a run by name, float32, in the caller's own arrays; made channels last where `outputs` says so.

    Raises `InvalidModelError` for results that are no answer: NaN, infinity, or of another number of pictures.
    """
    found = {}
    for (name, channels_first), result in zip(outputs.items(), results, strict=True):
        if result.shape[:1] != pixels.shape[:1]:
            raise not_run(pixels)
        if result.dtype.kind not in "fiub":
            raise InvalidModelError(f"the network answers with {result.dtype}: expected numbers.")
        if not np.isfinite(result).all():
            raise InvalidModelError("the network answers NaN or infinity: its weights are damaged.")
        turned = result.transpose(0, 2, 3, 1) if channels_first and result.ndim == 4 else result
        # Always a copy: the runtime may write its next results into the same memory.
        found[name] = np.array(turned, np.float32, order="C")
    return found


def shape_given_out(shape: Shape, *, channels_first: bool) -> Shape:
    """The shape of an output as `answers` gives it."""
    return (shape[0], *shape[2:], shape[1]) if channels_first and len(shape) == 4 else shape
