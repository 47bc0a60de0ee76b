"""Keras' HDF5 files: good ones are read exactly; hostile ones run nothing, reveal nothing and cost nothing.

All are made by hand here; tests/test_keras_parity.py reads what Keras itself writes.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from photolabel import weights
from photolabel.errors import InvalidWeightsError, ModelError, WeightsMismatchError
from photolabel.weights import keras_h5

import oracle
from costs import cheap
from oracle import TINY, he_normal

SECRET = b"SIXTEEN SECRETS!" * 4
KERNEL, BIAS = "fc2/fc2_W_1:0", "fc2/fc2_b_1:0"
REFUSED = (InvalidWeightsError, WeightsMismatchError)
# What a message must not hold: addresses of memory, a library's repr or its own words.
LIBRARY = re.compile(r"0x[0-9a-f]{6,}|<HDF5|<h5py|h5py|H5[A-Z]|Traceback|object at|dtype\(", re.ASCII)


Change = Callable[[Any], None]


def write(
    path: Path,
    *,
    root: str = "/",
    dtype: str = "<f4",
    parts: tuple[str, str] = ("W_1:0", "b_1:0"),
    fixed: bool = True,
    order: int = 1,
) -> Path:
    """Write the tiny network as the published files are: two steps to each array, names of fixed length."""
    with h5py.File(path, "w") as file:
        top = file.require_group(root)
        layers = TINY.layers[::order]
        top.attrs["layer_names"] = names_of([layer.name for layer in layers], fixed=fixed)
        arrays = he_normal(TINY)
        for layer in layers:
            group = top.create_group(layer.name)
            names = [f"{layer.name}/{layer.name}_{part}" for part in parts] if layer.kernel else []
            group.attrs["weight_names"] = names_of(names, fixed=fixed)
            for name, array in zip(names, arrays.get(layer.name, ()), strict=True):
                group[name] = array.astype(dtype)
    return path


def names_of(names: list[str], *, fixed: bool = True) -> Any:
    """As h5py 2 stored Keras' lists of bytes, or as h5py 3 does: strings of variable length."""
    return np.array([name.encode() for name in names]) if fixed else [name.encode() for name in names]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("h5") / "good.h5").read_bytes()


@pytest.fixture
def path(tmp_path: Path, good: bytes) -> Path:
    path = tmp_path / "weights.h5"
    path.write_bytes(good)
    return path


@contextmanager
def changed(path: Path) -> Iterator[Any]:
    with h5py.File(path, "r+") as file:
        yield file


def load(path: Path) -> weights.Arrays:
    arrays = keras_h5.read(path, TINY)
    weights.check(arrays, TINY)
    return arrays


def refused(path: Path, kind: type[ModelError] | tuple[type[ModelError], ...] = REFUSED, match: str = ".") -> None:
    with cheap(), warnings.catch_warnings(), pytest.raises(kind, match=match) as caught:
        warnings.simplefilter("error")
        load(path)
    message = str(caught.value)
    assert not LIBRARY.search(message) and str(path) not in message and len(message) < 400, message


# -- good files


def same(found: weights.Arrays, *, through: str = "<f4") -> None:
    expected = he_normal(TINY)
    assert set(found) == set(expected)
    for name, arrays in expected.items():
        for got, want in zip(found[name], arrays, strict=True):
            assert got.dtype == np.float32 and got.dtype.isnative
            np.testing.assert_array_equal(got, want.astype(through).astype(np.float32))


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<f2", "g"])
def test_every_kind_of_float_is_read_exactly(tmp_path: Path, dtype: str) -> None:
    same(load(write(tmp_path / "x.h5", dtype=dtype)), through=dtype)


@pytest.mark.parametrize("parts", [("W_1:0", "b_1:0"), ("kernel", "bias"), ("kernel:0", "bias:0")])
@pytest.mark.parametrize("root", ["/", "model_weights"])
@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "variable"])
def test_every_way_of_naming_is_read(tmp_path: Path, root: str, parts: tuple[str, str], fixed: bool) -> None:
    same(load(write(tmp_path / "x.h5", root=root, parts=parts, fixed=fixed)))


def test_a_name_may_be_a_path_of_many_steps(path: Path) -> None:
    with changed(path) as file:
        group = file["fc2"]
        steps = "vgg/tiny/head/dense/fc2/kernel:0"
        group[steps] = group[KERNEL][()]
        group.attrs["weight_names"] = [steps.encode(), BIAS.encode()]
    same(load(path))


def test_a_name_without_steps_is_read(path: Path) -> None:
    with changed(path) as file:
        group = file["fc2"]
        group["k"], group["b"] = group[KERNEL][()], group[BIAS][()]
        group.attrs["weight_names"] = [b"k", b"b"]
    same(load(path))


def test_the_order_of_the_layers_does_not_matter(tmp_path: Path) -> None:
    same(load(write(tmp_path / "x.h5", order=-1)))


def test_layers_without_weights_are_passed_over(path: Path) -> None:
    """Keras 3 adds a group for what belongs to no layer."""
    with changed(path) as file:
        file.create_group("top_level_model_weights").attrs["weight_names"] = []
    same(load(path))


def test_the_list_of_layers_is_not_read(path: Path) -> None:
    """It may hold anything, at no cost."""
    with changed(path) as file:
        file.attrs["layer_names"] = [b"\xff\xfe", b"nowhere"]
    same(load(path))
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["layer_names"] = np.full(3_000_000, b"fc2")
    refused(path, WeightsMismatchError, "missing")


# -- files that point outside themselves


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside: as raw bytes, and as an HDF5 file whose arrays have the right shapes."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_bytes(SECRET * 64)
    with h5py.File(outside / "secret.h5", "w") as file:
        file["bias"] = np.frombuffer(SECRET, "<f4")
        write_into = file.create_group("fc2")
        write_into.attrs["weight_names"] = [KERNEL.encode(), BIAS.encode()]
        write_into[KERNEL] = np.frombuffer(SECRET * 16, "<f4").reshape(16, 16)
        write_into[BIAS] = np.frombuffer(SECRET, "<f4")
    return outside


def replace(file: Any, name: str) -> Any:
    """Remove a member of the group fc2, and return the group to put another there."""
    del file["fc2"][name]
    return file["fc2"]


def external_link(file: Any, secret: Path) -> None:
    replace(file, BIAS)[BIAS] = h5py.ExternalLink(str(secret / "secret.h5"), "/bias")


def external_group(file: Any, secret: Path) -> None:
    del file["fc2"]
    file["fc2"] = h5py.ExternalLink(str(secret / "secret.h5"), "/fc2")


def external_root(file: Any, secret: Path) -> None:
    file["model_weights"] = h5py.ExternalLink(str(secret / "secret.h5"), "/")


def external_on_the_way(file: Any, secret: Path) -> None:
    group = file["fc2"]
    del group["fc2"]
    group["fc2"] = h5py.ExternalLink(str(secret / "secret.h5"), "/fc2/fc2")


def soft_link(file: Any, secret: Path) -> None:
    replace(file, BIAS)[BIAS] = h5py.SoftLink("/fc1/fc1/fc1_b_1:0")


def soft_link_to_an_external_one(file: Any, secret: Path) -> None:
    file["out"] = h5py.ExternalLink(str(secret / "secret.h5"), "/bias")
    replace(file, BIAS)[BIAS] = h5py.SoftLink("/out")


def link_loop(file: Any, secret: Path) -> None:
    group = replace(file, BIAS)
    group[BIAS] = h5py.SoftLink("/fc2/other")
    group["other"] = h5py.SoftLink(f"/fc2/{BIAS}")


def external_storage(file: Any, secret: Path) -> None:
    group = replace(file, BIAS)
    group.create_dataset(BIAS, (16,), "<f4", external=[(str(secret / "secret.txt"), 0, 64)])


def virtual(file: Any, secret: Path) -> None:
    layout = h5py.VirtualLayout((16,), "<f4")
    layout[:] = h5py.VirtualSource(str(secret / "secret.h5"), "bias", (16,))
    replace(file, BIAS).create_virtual_dataset(BIAS, layout)


def endless_virtual(file: Any, secret: Path) -> None:
    layout = h5py.VirtualLayout((16,), "<f4", maxshape=(None,))
    source = h5py.VirtualSource(str(secret / "secret.h5"), "bias", (16,), maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    replace(file, BIAS).create_virtual_dataset(BIAS, layout)


OUTSIDE: list[Callable[[Any, Path], None]] = [
    external_link,
    external_group,
    external_root,
    external_on_the_way,
    soft_link,
    soft_link_to_an_external_one,
    link_loop,
    external_storage,
    virtual,
    endless_virtual,
]


@pytest.mark.parametrize("attack", OUTSIDE, ids=lambda attack: attack.__name__)
def test_nothing_outside_is_read(
    path: Path, secret: Path, attack: Callable[[Any, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with changed(path) as file:
        attack(file, secret)
    refused(path, InvalidWeightsError, "refused")
    try:
        arrays = keras_h5.read(path, TINY)
    except ModelError as error:
        assert "SECRET" not in str(error)
    else:
        assert all(SECRET[:16] not in array.tobytes() for pair in arrays.values() for array in pair)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("attack", OUTSIDE, ids=lambda attack: attack.__name__)
def test_nothing_outside_is_even_opened(path: Path, secret: Path, attack: Callable[[Any, Path], None]) -> None:
    """Opening a named pipe would wait for ever; opening a device may do worse."""
    with changed(path) as file:
        attack(file, secret)
    for name in ("secret.h5", "secret.txt"):
        (secret / name).unlink()
        os.mkfifo(secret / name)
    program = (
        "import sys; from pathlib import Path; from photolabel.errors import InvalidWeightsError\n"
        "from photolabel.weights import keras_h5; import oracle\n"
        "try: keras_h5.read(Path(sys.argv[1]), oracle.TINY)\n"
        "except InvalidWeightsError: print('refused')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], env=environment, capture_output=True, text=True, timeout=10
    )
    assert done.stdout == "refused\n", done.stderr


# -- files that lie about sizes


def huge(file: Any) -> None:
    group = replace(file, KERNEL)
    group.create_dataset(KERNEL, (200_000, 200_000), "<f4")


def huge_and_sparse(file: Any) -> None:
    """400 MB that are really there, but for a file system that stores no zeros."""
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    group = replace(file, BIAS)
    shape = h5py.h5s.create_simple((10_000, 10_000))
    h5py.h5d.create(group["fc2"].id, b"fc2_b_1:0", h5py.h5t.IEEE_F32LE, shape, how)


def huge_compressed(file: Any) -> None:
    replace(file, KERNEL).create_dataset(KERNEL, (200_000, 200_000), "<f4", compression="gzip", chunks=(1000, 1000))


def huge_chunk(file: Any) -> None:
    """The right shape, in one chunk of 200 MB that takes 1 MB in the file."""
    group = replace(file, BIAS)
    data = group.create_dataset(BIAS, (16,), "<f4", maxshape=(None,), chunks=(50_000_000,), compression="gzip")
    data.id.write_direct_chunk((0,), zlib.compress(bytes(200_000_000), 1))


def bursting_chunk(file: Any) -> None:
    """A chunk of 64 bytes that unpacks to 200 MB."""
    group = replace(file, BIAS)
    data = group.create_dataset(BIAS, (16,), "<f4", chunks=(16,), compression="gzip")
    data.id.write_direct_chunk((0,), zlib.compress(bytes(200_000_000), 1))


def unwritten(file: Any) -> None:
    replace(file, BIAS).create_dataset(BIAS, (16,), "<f4")


def many_layers(file: Any) -> None:
    for i in range(1001):
        file.create_group(f"more{i}").attrs["weight_names"] = []


def many_names(file: Any) -> None:
    del file["fc2"]
    file.create_group("fc2").attrs["weight_names"] = np.full(3_000_000, b"fc2/fc2_W_1:0")


def a_long_name(file: Any) -> None:
    """Each step is hardly any work, but there are as many as the file has room for."""
    group = file["fc2"]
    group["x"] = group  # a circle of hard links
    group.attrs["weight_names"] = [b"x/" * 126 + KERNEL.encode(), BIAS.encode()]


@pytest.mark.parametrize(
    "attack",
    [
        huge,
        huge_and_sparse,
        huge_compressed,
        huge_chunk,
        bursting_chunk,
        unwritten,
        many_layers,
        many_names,
        a_long_name,
    ],
    ids=lambda attack: attack.__name__,
)
def test_no_declared_size_is_believed(tmp_path: Path, attack: Change) -> None:
    path = write(tmp_path / "x.h5")
    with h5py.File(tmp_path / "new.h5", "w", libver="latest") as new, h5py.File(path) as old:
        for name in old:
            old.copy(name, new)  # into the newest form, which knows large attributes
        new.attrs["layer_names"] = old.attrs["layer_names"]
        attack(new)
    refused(tmp_path / "new.h5")


def test_what_is_stored_in_chunks_is_refused_with_the_remedy(path: Path) -> None:
    with changed(path) as file:
        array = file["fc2"][KERNEL][()]
        replace(file, KERNEL).create_dataset(KERNEL, data=array, compression="gzip")
    refused(path, InvalidWeightsError, "fc2 is stored compressed .* h5repack")


# -- files that are wrong


def no_layer_names(file: Any) -> None:
    del file.attrs["layer_names"]


def no_layer_names_below(file: Any) -> None:
    file.create_group("model_weights")


def a_missing_layer(file: Any) -> None:
    del file["fc2"]


def a_layer_without_arrays(file: Any) -> None:
    file["fc2"].attrs["weight_names"] = []


def another_layer(file: Any) -> None:
    file.move("fc2", "fc3")


def an_extra_layer(file: Any) -> None:
    file.copy("fc2", "fc3")


def an_extra_layer_with_a_hostile_name(file: Any) -> None:
    file.copy("fc2", "\x1b[31m\n" + "x" * 2000)


def an_extra_layer_whose_name_is_not_utf8(file: Any) -> None:
    file.copy("fc2", b"\xff\xfe")


def kernel_and_bias_swapped(file: Any) -> None:
    file["fc2"].attrs["weight_names"] = [BIAS.encode(), KERNEL.encode()]


def one_array(file: Any) -> None:
    file["fc2"].attrs["weight_names"] = [KERNEL.encode()]


def no_names(file: Any) -> None:
    file["fc2"].attrs["weight_names"] = h5py.Empty("S3")


def a_name_that_is_no_list(file: Any) -> None:
    file["fc2"].attrs["weight_names"] = "fc2"


def three_arrays(file: Any) -> None:
    file["fc2"].attrs["weight_names"] = [KERNEL.encode(), BIAS.encode(), BIAS.encode()]


def shape(*new: int) -> Change:
    def change(file: Any) -> None:
        replace(file, KERNEL)[KERNEL] = np.zeros(new, "<f4")

    change.__name__ = f"shape {new}"
    return change


MISMATCHES = [
    no_layer_names,
    no_layer_names_below,
    a_missing_layer,
    a_layer_without_arrays,
    another_layer,
    an_extra_layer,
    an_extra_layer_with_a_hostile_name,
    kernel_and_bias_swapped,
    one_array,
    no_names,
    a_name_that_is_no_list,
    three_arrays,
    shape(),
    shape(256),
    shape(16, 17),
    shape(16, 16, 1),
    shape(0, 16),
]


@pytest.mark.parametrize("change", MISMATCHES, ids=lambda change: change.__name__)
def test_another_network_is_a_mismatch(path: Path, change: Change) -> None:
    with changed(path) as file:
        change(file)
    refused(path, WeightsMismatchError, "expected|has no layer|Expected")
    with pytest.raises(WeightsMismatchError) as caught:
        load(path)
    assert str(caught.value).isprintable(), "names from the file are quoted"


def stored(value: Any, **options: Any) -> Change:
    def change(file: Any) -> None:
        replace(file, BIAS).create_dataset(BIAS, data=value, **options)

    return change


def arrays_in_arrays(file: Any) -> None:
    replace(file, BIAS).create_dataset(BIAS, (16,), np.dtype(("<f4", (1,))))


def references(file: Any) -> None:
    data = replace(file, BIAS).create_dataset(BIAS, (16,), h5py.ref_dtype)
    data[:] = [file["fc1"].ref] * 16


def non_finite(value: float) -> Change:
    def change(file: Any) -> None:
        file["fc2"][KERNEL][3, 5] = value

    return change


def weight_names(value: Any) -> Change:
    def change(file: Any) -> None:
        file["fc2"].attrs["weight_names"] = value

    return change


def removed(name: str) -> Change:
    def change(file: Any) -> None:
        del file[name]

    return change


def no_weight_names(file: Any) -> None:
    del file["fc2"].attrs["weight_names"]


def a_data_set_as_a_layer(file: Any) -> None:
    del file["fc2"]
    file["fc2"] = np.zeros(3)


def a_group_as_an_array(file: Any) -> None:
    replace(file, BIAS).create_group(BIAS)


def a_data_set_on_the_way(file: Any) -> None:
    file["fc2"].attrs["weight_names"] = [KERNEL.encode(), BIAS.encode() + b"/more"]


def a_data_set_as_the_root(file: Any) -> None:
    file["model_weights"] = np.zeros(3)


def a_named_type_as_a_layer(file: Any) -> None:
    del file["fc2"]
    file["fc2"] = np.dtype("<f4")


BROKEN = {
    "strings": stored(np.full(16, b"abc")),
    "strings of variable length": stored(["abc"] * 16),
    "integers": stored(np.zeros(16, "<i4")),
    "booleans": stored(np.zeros(16, "?")),
    "complex": stored(np.zeros(16, "<c8")),
    "compound": stored(np.zeros(16, [("a", "<f4"), ("b", "<i4")])),
    "arrays in arrays": arrays_in_arrays,
    "opaque": stored(np.zeros(16, "V4")),
    "object references": references,
    "nan": non_finite(np.nan),
    "infinity": non_finite(-np.inf),
    "more than float32 holds": stored(np.full(16, 1e300)),
    "a layer whose name is not UTF-8": an_extra_layer_whose_name_is_not_utf8,
    "names not UTF-8": weight_names(np.array([b"\xff\xfe", b"\x80"])),
    "names of variable length not UTF-8": weight_names([b"\xff\xfe", b"\x80"]),
    "names empty": weight_names(np.array([b"", b""], "S1")),
    "names absolute": weight_names(names_of(["/fc2/" + KERNEL, "/fc2/" + BIAS])),
    "names numbers": weight_names(np.arange(2)),
    "names references": weight_names(np.array([h5py.Reference(), h5py.Reference()], h5py.ref_dtype)),
    "names of no data set": weight_names(np.array([b"fc2/nowhere", b"fc2/fc2_b_1:0"])),
    "names that climb": weight_names(np.array([b"../fc1/fc1/fc1_W_1:0", b"fc2/fc2_b_1:0"])),
    "names with NUL": weight_names(np.array([b"fc2\0/x", b"fc2/fc2_b_1:0"])),
    "no weight_names": no_weight_names,
    "no such array": removed(f"fc2/{BIAS}"),
    "a data set as a layer": a_data_set_as_a_layer,
    "a named type as a layer": a_named_type_as_a_layer,
    "a group as an array": a_group_as_an_array,
    "a data set on the way": a_data_set_on_the_way,
    "a data set as the root": a_data_set_as_the_root,
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_invalid(path: Path, change: Change) -> None:
    with changed(path) as file:
        change(file)
    refused(path, InvalidWeightsError)


@pytest.mark.parametrize("data", [b"", b"\x89HDF\r\n\x1a\n", b"not weights\n" * 1000, b"PK\3\4" * 9, bytes(5000)])
def test_what_is_no_hdf5_is_invalid(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "weights.h5"
    path.write_bytes(data)
    refused(path, InvalidWeightsError, "cut short or of another format")


def test_what_cannot_be_opened_is_invalid(tmp_path: Path) -> None:
    refused(tmp_path, InvalidWeightsError)
    refused(tmp_path / "nowhere", InvalidWeightsError)


def test_a_cut_file_is_invalid(path: Path, good: bytes) -> None:
    lengths = [*range(0, len(good), 499), *range(len(good) - 8, len(good))]
    for length in lengths:
        path.write_bytes(good[:length])
        refused(path, InvalidWeightsError)


def test_flipped_bytes_give_typed_errors_or_whole_arrays(path: Path, good: bytes) -> None:
    """A flip in a number cannot be seen; any other must never give anything but arrays of the right shapes."""
    rng = random.Random(20)
    outcomes = set()
    with cheap(seconds=60):
        for _ in range(200):
            data = bytearray(good)
            for _ in range(rng.choice([1, 1, 4])):
                data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
            path.write_bytes(data)
            try:
                arrays = load(path)
            except REFUSED as error:
                assert not LIBRARY.search(str(error))
                outcomes.add(type(error))
            else:
                outcomes.add(type(arrays))
                for name, layer in TINY.learned.items():
                    assert [array.shape for array in arrays[name]] == [layer.kernel, layer.bias]
                    assert all(array.dtype == np.float32 for array in arrays[name])
    assert outcomes >= {InvalidWeightsError, dict}


@pytest.mark.parametrize("error", [OSError, KeyError, ValueError, TypeError, RuntimeError], ids=lambda e: e.__name__)
def test_whatever_the_library_raises_is_typed(path: Path, error: type[Exception], monkeypatch: Any) -> None:
    """Every kind of error that h5py makes of the HDF5 library's own; which of them comes depends on its version."""

    def fail(*_: object) -> None:
        raise error("h5py: <HDF5 object at 0x7f00deadbeef>")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", fail)
    refused(path, InvalidWeightsError)


def test_the_models_code_is_never_looked_at(tmp_path: Path) -> None:
    """A full model's configuration may hold a Lambda layer: Python code, which loading with Keras can run."""
    canary = tmp_path / "canary"
    path = write(tmp_path / "x.h5", root="model_weights")
    code = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    config = {"class_name": "Lambda", "config": {"name": "evil", "function": [code, None, None], "module": code}}
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": [config]}})
    same(load(path))
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = np.void(b"\x80\x04cposix\nsystem\n(S'touch canary'\ntR.")
    same(load(path))
    assert not canary.exists()


def test_only_one_attribute_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with changed(path) as file:
        file.attrs["model_config"] = "{}"
    read: list[str] = []
    original = h5py.AttributeManager.__getitem__

    def spy(self: Any, name: str) -> Any:
        read.append(name)
        return original(self, name)

    monkeypatch.setattr(h5py.AttributeManager, "__getitem__", spy)
    load(path)
    assert set(read) == {"weight_names"}


def test_the_tiny_network_is_what_these_tests_believe() -> None:
    assert TINY.learned["fc2"].kernel == (16, 16) and len(oracle.he_normal(TINY)) == len(TINY.learned)
