"""HDF5 read with mistrust: groups and arrays that are in the file itself, of known shape, as they are.

HDF5 can point outside itself (external links, external storage, virtual data sets), which would let a weights
file read any file of the machine; it can declare terabytes in a few bytes, and hide them in a compressed chunk. All
that is refused before a byte of it is read or followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import InvalidWeightsError, WeightsMismatchError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

_BROKEN = (OSError, KeyError, ValueError, TypeError, RuntimeError)  # what h5py makes of the HDF5 library's errors


@contextmanager
def opened(source: Path | Any) -> Iterator[Any]:
    """Open the HDF5 file at a path, or in a binary file object; every error of the library's is typed."""
    import h5py

    try:
        with h5py.File(source, "r") as file:
            yield file
    except _BROKEN:
        # The library's own words hold addresses and paths, and help nobody.
        raise InvalidWeightsError(
            "the weights file cannot be read as Keras HDF5: it is broken, cut short or of another format."
        ) from None


def group(parent: Any, name: str) -> Any:
    """Return the group `name` below `parent`."""
    import h5py

    member = _walk(parent, name)
    if not isinstance(member, h5py.Group):
        raise InvalidWeightsError(f"the weights file is broken: {name!a:.80} is no group.")
    return member


def dataset(parent: Any, name: str) -> Any:
    """Return the data set `name` below `parent`, which is in this file; its numbers are not read, its shape may lie."""
    import h5py

    data = _walk(parent, name)
    if not isinstance(data, h5py.Dataset):
        raise InvalidWeightsError(f"the weights file is broken: {name!a:.80} is no data set.")
    if data.external or data.is_virtual:
        raise InvalidWeightsError("the weights file takes its numbers from other files: refused.")
    return data


def array(parent: Any, name: str, shape: tuple[int, ...], layer: str) -> NDArray[np.float32]:
    """Return the numbers of the data set `name`, which must be floats of that shape; `layer` names it in errors."""
    import numpy as np

    data = dataset(parent, name)
    # The shape is checked before a byte is read: a data set may declare any size at no cost.
    if data.shape != shape:
        raise WeightsMismatchError(
            f"layer {layer} has an array of shape {data.shape}, expected {shape}: these are another network's weights."
        )
    if data.dtype.kind != "f":
        raise InvalidWeightsError(f"layer {layer} does not hold floating-point numbers.")
    # A compressed chunk may unpack to any size. Keras writes neither chunks nor compressed data.
    if data.chunks is not None:
        raise InvalidWeightsError(
            f"layer {layer} is stored compressed or in chunks, which is not read: save the weights with Keras again, "
            "or unpack them with: h5repack -f NONE -l CONTI IN.h5 OUT.h5"
        )
    if data.id.get_storage_size() != data.nbytes:  # HDF5 would make up the rest
        raise InvalidWeightsError(f"the weights file is cut short: the numbers of layer {layer} were never written.")
    with np.errstate(over="ignore"):  # a float64 too large becomes infinity, which `check` refuses
        return np.asarray(data[()], dtype=np.float32)


def _walk(group: Any, name: str) -> Any:
    """The member `name`, which may be a path of several steps, reached by hard links only."""
    import h5py

    for step in name.split("/"):
        if not isinstance(group, h5py.Group):
            raise InvalidWeightsError(f"the weights file is broken: there is no {name!a:.80} in it.")
        # The link is asked before it is followed: opening what it points to can be harm enough.
        if group.id.links.get_info(step.encode()).type != h5py.h5l.TYPE_HARD:
            raise InvalidWeightsError(
                "the weights file points outside itself or in circles (an HDF5 soft or external link): refused."
            )
        group = group[step]
    return group
