"""PyTorch state dicts (.pth, .pt) -> named arrays, without PyTorch and without running anything in the file.

torch.save has two forms. Since 1.6 it writes a ZIP archive: the pickle `<name>/data.pkl` and one stored entry
a storage, `<name>/data/<key>`. Before, it wrote five pickles (a magic number, the protocol version, facts
about the machine, the object, the keys of the storages), then each storage as a 64-bit count and its numbers.
The source is torch/serialization.py of PyTorch 2.13.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import InvalidWeightsError
from . import files, stored_zip
from .files import Array, Select
from .state_pickle import MAX_PICKLE_BYTES, STORAGES, Machine, Storage, Tensor

MAX_TENSORS = 10_000
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_PARALLEL = "module."
# Tied weights share a storage, so the arrays may be larger than the file, but not without end.
_MAX_GROWTH = 2


def read(path: Path, select: Select | None = None) -> dict[str, Array]:
    """Return the tensors of the state dict in `path`, by their names, in the file's order; those that `select` names.

    Each array is C-contiguous, in the machine's byte order and read-only, with the tensor's shape (() for a
    scalar) and type: float64, float32, float16, int64, int32, int16, int8, uint8 or bool; bfloat16 comes as
    float32. Kernels of convolutions are OIHW, those of linear layers (out, in). Values are not looked at: NaN
    passes. A checkpoint that keeps its state dict under the key "state_dict" is read too, and names that all begin
    with `module.`, as torch.nn.DataParallel makes them, lose that. Takes about the file's size in memory.

    Raises InvalidWeightsError for a file that is not there, cannot be read, is no PyTorch file, is broken or
    cut short, asks for anything but tensors (a whole pickled model does), or claims more than the file has.
    Nothing in the file is executed, and no size in it is believed before it is compared with the file's own.
    """
    with files.opened(path) as (file, size):
        return _read(file, size, select)


def _read(file: BinaryIO, size: int, select: Select | None = None) -> dict[str, Array]:
    start = file.read(4)
    if start[:4] == b"PK\3\4":
        named, data = _zip_form(file, size, select)
    elif start[:1] == b"\x80":
        named, data = _legacy_form(file, size, select)
    else:
        raise InvalidWeightsError(
            "expected a file written by torch.save, which begins with 'PK' or byte 0x80; "
            f"this one has {size} bytes and begins with {start!r}"
        )
    return {name: _array(name, tensor, data[tensor.storage.key]) for name, tensor in named.items()}


def _zip_form(file: BinaryIO, size: int, select: Select | None) -> tuple[dict[str, Tensor], dict[str, bytes]]:
    """Return the named tensors, and the bytes of the storages they use."""
    entries = stored_zip.table(file, size)
    pickles = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1 or any("/code/" in f"/{name}" for name in entries):
        raise InvalidWeightsError(
            f"expected the archive of a state dict with one data.pkl and no code, but it has {len(pickles)}: "
            "it may be a TorchScript program; in PyTorch, write torch.save(model.state_dict(), path)"
        )
    root = pickles[0].removesuffix("data.pkl")
    order = entries.get(root + "byteorder")
    if order and (order.size > 6 or stored_zip.read(file, size, order) != b"little"):
        raise InvalidWeightsError("the numbers are big-endian; save the weights again on a little-endian machine")
    program = entries[pickles[0]]
    if program.size > MAX_PICKLE_BYTES:
        raise InvalidWeightsError(f"the pickle has {program.size} bytes; at most {MAX_PICKLE_BYTES} are read")
    machine = Machine(stored_zip.read(file, size, program))
    named = _selected(_named(machine.load()), size, select)
    data = {}
    for storage in _used(named):
        entry = entries.get(f"{root}data/{storage.key}")
        if entry is None or entry.size != storage.count * _item_bytes(storage):
            raise InvalidWeightsError(
                f"storage {storage.key[:80]!r} should be {storage.count * _item_bytes(storage)} bytes, "
                f"but the archive has {'none of it' if entry is None else entry.size}"
            )
        data[storage.key] = stored_zip.read(file, size, entry)
    return named, data


def _legacy_form(file: BinaryIO, size: int, select: Select | None) -> tuple[dict[str, Tensor], dict[str, bytes]]:
    """Return the named tensors, and the bytes of the storages they use."""
    file.seek(0)
    machine = Machine(file.read(MAX_PICKLE_BYTES))
    if machine.load() != _MAGIC:
        raise InvalidWeightsError("this is a pickle, but not one of torch.save's; nothing of it was run")
    version, system = machine.load(), machine.load()
    if version != _PROTOCOL or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise InvalidWeightsError(f"expected a file of protocol {_PROTOCOL} from a little-endian machine")
    named = _selected(_named(machine.load()), size, select)
    keys = machine.load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise InvalidWeightsError("the list of storages is broken")
    if len(keys) != len(set(keys)) or set(keys) != set(machine.storages):
        raise InvalidWeightsError("the list of storages does not fit the tensors")
    data = {}
    used = set(_used(named))
    file.seek(machine.position)
    for key in keys:
        storage = machine.storages[key]
        length = storage.count * _item_bytes(storage)
        if 8 + length > size - file.tell() or int.from_bytes(file.read(8), "little") != storage.count:
            raise InvalidWeightsError(
                f"the file is cut short or broken: storage {key[:80]!r} of {length} bytes is not where it should be"
            )
        if storage not in used:
            file.seek(length, os.SEEK_CUR)
            continue
        data[key] = file.read(length)
        if len(data[key]) != length:
            raise InvalidWeightsError("the file became shorter while it was read")
    if file.tell() != size:
        raise InvalidWeightsError(f"{size - file.tell()} bytes stand behind the last storage; expected none")
    return named, data


def _named(loaded: object) -> dict[str, Tensor]:
    """Return the state dict in what a pickle held."""
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not loaded or len(loaded) > MAX_TENSORS:
        raise InvalidWeightsError(f"expected a state dict of 1 to {MAX_TENSORS} tensors; the file holds something else")
    named: dict[str, Tensor] = {}
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise InvalidWeightsError(
                f"expected a state dict of tensors, but {str(name)[:80]!r} is none; "
                "in PyTorch, write torch.save(model.state_dict(), path)"
            )
        named[name] = tensor
    if all(name.startswith(_PARALLEL) for name in named):
        named = {name.removeprefix(_PARALLEL): tensor for name, tensor in named.items()}
    return named


def _selected(named: dict[str, Tensor], size: int, select: Select | None) -> dict[str, Tensor]:
    """Return the tensors that are wanted, each seen to lie within its storage."""
    _check_windows(named, size)
    if select is None:
        return named
    wanted = select({name: tensor.shape for name, tensor in named.items()})
    return {name: tensor for name, tensor in named.items() if name in wanted}


def _used(named: dict[str, Tensor]) -> Iterator[Storage]:
    """Yield each storage once, in the order of the tensors."""
    return iter(dict.fromkeys(tensor.storage for tensor in named.values()))


def _item_bytes(storage: Storage) -> int:
    kind = STORAGES[storage.kind]
    return 2 if kind == "bfloat16" else np.dtype(kind).itemsize


def _check_windows(named: dict[str, Tensor], size: int) -> None:
    """Refuse tensors that reach outside their storage, repeat numbers, or together claim too much."""
    total = 0
    for name, tensor in named.items():
        count = math.prod(tensor.shape)
        last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
        if count == 0:  # NumPy multiplies the other sizes all the same, and overflows
            fits = math.prod(n for n in tensor.shape if n) <= size
        else:
            fits = last < tensor.storage.count and count <= tensor.storage.count
        if not fits:
            raise InvalidWeightsError(
                f"{name[:80]!r} with shape {tensor.shape}, strides {tensor.strides} and offset "
                f"{tensor.offset} does not fit its storage of {tensor.storage.count} numbers"
            )
        total += count * _item_bytes(tensor.storage)
    if total > _MAX_GROWTH * size:
        raise InvalidWeightsError(f"the tensors claim {total} bytes, but the file has {size}")


def _array(name: str, tensor: Tensor, data: bytes) -> Array:
    """Make one tensor of a storage's bytes; `_check_windows` has seen it."""
    kind = STORAGES[tensor.storage.kind]
    raw = np.dtype("<u2" if kind == "bfloat16" else kind)
    if math.prod(tensor.shape) == 0:
        array: Array = np.empty(tensor.shape, raw)
    else:
        # Nothing steps along a dimension of size 1, so its stride may be anything, too large for NumPy too.
        steps = [step * raw.itemsize if n > 1 else 0 for n, step in zip(tensor.shape, tensor.strides, strict=True)]
        array = np.ndarray(tensor.shape, raw, data, tensor.offset * raw.itemsize, steps)
    if kind == "|b1" and array.size and array.view("|u1").max() > 1:  # would break NumPy's arithmetic
        raise InvalidWeightsError(f"{name[:80]!r} should be true or false, but holds other values")
    if kind == "bfloat16":
        array = (array.astype("<u4") << 16).view("<f4")
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(tensor.shape)
    array.flags.writeable = False
    return array
