"""Hostile safetensors, Caffe, npz and Keras 3 files: each costs nothing, reveals nothing and is refused in words.

tests/weights/test_keras_h5.py and test_torch.py have those of the other two formats.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from test_keras_h5 import LIBRARY, SECRET
from test_read import io_of_objects, same

from photolabel import weights
from photolabel.errors import InvalidWeightsError, WeightsMismatchError
from photolabel.weights import caffe, files, keras3, layouts, npz, safetensors, torch

import forms
from costs import cheap
from forms import field, varint
from oracle import TINY, he_normal

ARRAYS = he_normal(TINY)


def refused(folder: Path, content: bytes, match: str, kind: type[Exception] = InvalidWeightsError) -> None:
    path = folder / "weights"
    path.write_bytes(content)
    for job in (lambda: weights.read(path, TINY), lambda: weights.describe(path)):
        with cheap(), pytest.raises(kind, match=match) as caught:
            job()
        said = str(caught.value)
        assert len(said) < 700 and not LIBRARY.search(said) and str(folder) not in said and said.isprintable()


# -- safetensors

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def tensors(body: bytes = bytes(8), **named: Any) -> bytes:
    return forms.safetensors_file(json.dumps(named).encode(), body)


def raw(header: bytes, body: bytes = b"") -> bytes:
    return forms.safetensors_file(header, body)


SAFETENSORS = {
    "header of 2^63": (struct.pack("<Q", 1 << 63) + b"{}", "known format"),
    "header of 4 GB": (
        struct.pack("<Q", (1 << 32) - 1) + b"{}",
        "4294967295 bytes is announced",
    ),
    "header longer than the file": (struct.pack("<Q", 100) + b"{}", "cut short"),
    "header of 3 MB": (raw(b"{" + b" " * (3 << 20)), "at most 1048576"),
    "a third of a million lists": (raw(b'{"a":[' + b"[]," * 345_000 + b"[]]}"), "description of 'a'"),
    "metadata of numbers": (raw(b'{"__metadata__":{"format":1}}'), "no texts"),
    "metadata of metadata": (raw(b'{"__metadata__":{"format":{}}}'), "no texts"),
    "metadata that are a list": (raw(b'{"__metadata__":["pt"]}'), "no texts"),
    "deep JSON": (raw(b'{"a":' * 100_000), "no JSON"),
    "deep JSON in a list": (raw(b'{"a":' + b"[" * 200_000), "no JSON"),
    "no end": (raw(b'{"a":1'), "no JSON"),
    "not UTF-8": (raw(b'{"\xff":1}'), "no JSON"),
    "a number of 5000 digits": (raw(b'{"a":' + b"9" * 5000 + b"}"), "no JSON"),
    "NaN": (raw(b'{"a":NaN}'), "no JSON"),
    "a name twice": (raw(b'{"a":1,"a":2}'), "no JSON"),
    "a key twice": (
        raw(b'{"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}', bytes(8)),
        "no JSON",
    ),
    "no object": (tensors(a=1), "description of 'a'"),
    "no type": (tensors(a={"shape": [2], "data_offsets": [0, 8]}), "description of 'a'"),
    "an unknown type": (tensors(a=F32 | {"dtype": "F128"}), "description of 'a'"),
    "a type that is a list": (tensors(a=F32 | {"dtype": ["F32"]}), "description of 'a'"),
    "a negative size": (tensors(a=F32 | {"shape": [-2]}), "description of 'a'"),
    "two negative sizes": (tensors(a=F32 | {"shape": [-2, -1]}), "description of 'a'"),
    "a fraction": (tensors(a=F32 | {"shape": [2.0]}), "description of 'a'"),
    "true": (tensors(a=F32 | {"shape": [True, 2]}), "description of 'a'"),
    "a size of 2^64": (tensors(a=F32 | {"shape": [1 << 64]}), "description of 'a'"),
    "a hundred axes": (tensors(a=F32 | {"shape": [1] * 99 + [2]}), "description of 'a'"),
    "three offsets": (tensors(a=F32 | {"data_offsets": [0, 4, 8]}), "description of 'a'"),
    "160 GB": (tensors(a=F32 | {"shape": [200_000, 200_000]}), "has 8 bytes"),
    "160 GB and the offsets to it": (
        tensors(a=F32 | {"shape": [200_000, 200_000], "data_offsets": [0, 160_000_000_000]}),
        "take 160000000000 bytes, but it has 8",
    ),
    "behind the end": (tensors(a=F32 | {"data_offsets": [8, 16]}), "overlap or leave gaps"),
    "before the beginning": (tensors(a=F32 | {"data_offsets": [-8, 0]}), "overlap or leave gaps"),
    "end before start": (
        tensors(a={"dtype": "F32", "shape": [0], "data_offsets": [8, 8]}, b=F32 | {"data_offsets": [8, 0]}),
        "has -8 bytes",
    ),
    "overlapping": (tensors(a=F32, b=F32), "overlap or leave gaps"),
    "overlapping in part": (tensors(bytes(12), a=F32, b=F32 | {"data_offsets": [4, 12]}), "overlap"),
    "a hole": (tensors(bytes(24), a=F32, b=F32 | {"data_offsets": [16, 24]}), "leave gaps"),
    "bytes behind the last": (tensors(bytes(9), a=F32), "take 8 bytes, but it has 9"),
    "a hostile name": (tensors(**{"\x1b[31m\n" * 100: 1}), "description of"),
}


@pytest.mark.parametrize("case", SAFETENSORS)
def test_hostile_safetensors(tmp_path: Path, case: str) -> None:
    refused(tmp_path, *SAFETENSORS[case])


@pytest.mark.parametrize("low", [0x80, 0x0A, 0x12, 0xA2, 0x50, 0x89, 0x93])
def test_the_length_of_a_header_may_begin_as_another_format_does(tmp_path: Path, low: int) -> None:
    content = forms.safetensors(forms.torchvision(ARRAYS, TINY))
    length = int.from_bytes(content[:8], "little")
    wanted = (length + 256 & ~0xFF) + low
    path = tmp_path / "x"
    padded = content[8 : 8 + length] + b" " * (wanted - length)
    path.write_bytes(struct.pack("<Q", wanted) + padded + content[8 + length :])
    same(weights.read(path, TINY), ARRAYS)


def test_safetensors_header_must_be_an_object(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(raw(b"[]"))
    with pytest.raises(InvalidWeightsError, match="no JSON object"):
        safetensors.read(path, list)
    path.write_bytes(b"\2\0\0")
    with pytest.raises(InvalidWeightsError, match="cut short"):
        safetensors.read(path, list)


@pytest.mark.parametrize(("kind", "dtype"), [("F16", "<f2"), ("F64", "<f8"), ("F32", "<f4")])
def test_every_float_of_safetensors(tmp_path: Path, kind: str, dtype: str) -> None:
    """float16 as they are; float64 to the nearest float32."""
    path = tmp_path / "x"
    made: Any = {name: array.astype(dtype) for name, array in forms.torchvision(ARRAYS, TINY).items()}
    path.write_bytes(forms.safetensors(made, kind=kind))
    expected = {n: tuple(a.astype(dtype).astype("f4") for a in pair) for n, pair in ARRAYS.items()}
    same(weights.read(path, TINY), expected)  # type: ignore[arg-type]


def test_bfloat16_of_safetensors(tmp_path: Path) -> None:
    """The upper halves of float32."""

    def cut(array: Any) -> Any:
        return (np.ascontiguousarray(array).view("<u4") & 0xFFFF0000).astype("<u4").view("<f4")

    path = tmp_path / "x"
    halves: Any = {
        name: (array.view("<u4") >> 16).astype("<u2") for name, array in forms.torchvision(ARRAYS, TINY).items()
    }
    path.write_bytes(forms.safetensors(halves, kind="BF16"))
    same(weights.read(path, TINY), {n: (cut(k), cut(b)) for n, (k, b) in ARRAYS.items()})


def test_integers_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "x"
    made: Any = {name: array.astype("<i4") for name, array in forms.torchvision(ARRAYS, TINY).items()}
    path.write_bytes(forms.safetensors(made, kind="I32"))
    with pytest.raises(InvalidWeightsError, match=r"'features\.0\.weight' does not hold floating-point numbers"):
        weights.read(path, TINY)


def test_a_float64_too_large_is_no_weight(tmp_path: Path) -> None:
    made: Any = {name: array.astype("<f8") for name, array in forms.torchvision(ARRAYS, TINY).items()}
    made["classifier.3.bias"][2] = 1e300
    path = tmp_path / "x"
    path.write_bytes(forms.safetensors(made, kind="F64"))
    with pytest.raises(InvalidWeightsError, match="bias of fc2 holds NaN or infinity"):
        weights.read(path, TINY)


# -- Caffe


def layer(*fields: bytes, name: bytes = b"conv1_1") -> bytes:
    return field(100, field(1, name) + b"".join(field(7, each) for each in fields))


def packed(*axes: int) -> bytes:
    return field(7, field(1, b"".join(map(varint, axes))))


CAFFE = {
    "160 GB": (layer(packed(200_000, 200_000) + field(5, bytes(8))), "but 8 bytes stand"),
    "160 GB of 2014": (layer(field(3, 200_000) + field(4, 200_000) + field(5, bytes(8))), "but 8 bytes stand"),
    "sizes of 2^69": (layer(packed(1 << 69, 1 << 69, 0, 1) + field(5, bytes(8))), "but 8 bytes stand"),
    "a field of 2^63 bytes": (varint(802) + varint(1 << 63), "broken, cut short"),
    "a field longer than its layer": (field(100, varint(7 << 3 | 2) + varint(5)) + bytes(50), "broken, cut short"),
    "a blob longer than its layer": (field(100, field(7, varint(5 << 3 | 2) + varint(99))) + bytes(99), "broken"),
    "no end to a number": (varint(802) + b"\xff" * 11, "broken, cut short"),
    "a number cut by its field": (layer(field(7, field(1, b"\x80"))) + b"\x01", "broken, cut short"),
    "a number cut by the end": (b"\xa2\x06\x80", "broken, cut short"),
    "groups": (b"\x0a\0\x0b", "broken, cut short"),
    "field 0": (b"\x0a\0\x02\0", "broken, cut short"),
    "many fields": (b"\x0a\0" * 1_000_000, "broken, cut short"),
    "many fields in a layer": (field(100, b"\x0a\0" * 1_000_000), "broken, cut short"),
    "many axes": (layer(packed(*[1] * 9) + field(5, bytes(4))), "more than 8 axes"),
    "a million axes": (layer(field(7, field(1, b"\1" * 1_000_000)) + field(5, bytes(4))), "broken|more than 8"),
    "a name of 10 MB": (layer(name=b"x" * 10_000_000), "a layer's name has"),
    "a name not UTF-8": (layer(packed(2) + field(5, bytes(8)), name=b"\xff"), "broken, cut short"),
    "a layer twice": (layer(packed(2) + field(5, bytes(8))) * 2, "'conv1_1/0' |'conv1_1' is there twice"),
    "no numbers": (layer(packed(2)), "in 0 pieces"),
    "numbers in two pieces": (layer(packed(2) + field(5, bytes(4)) * 2), "in 2 pieces"),
    "floats and doubles": (layer(packed(1) + field(5, bytes(4)) + field(8, bytes(8))), "in 2 pieces"),
    "numbers one by one": (layer(packed(1) + varint(5 << 3 | 5) + bytes(4)), "in 1 pieces"),
    "no layers": (field(1, b"a network"), "holds no arrays"),
    "text": (b"\n" + b"not weights at all " * 9, "broken, cut short"),
}


@pytest.mark.parametrize("case", CAFFE)
def test_hostile_caffemodel(tmp_path: Path, case: str) -> None:
    refused(tmp_path, *CAFFE[case])


def test_axes_one_by_one(tmp_path: Path) -> None:
    """As protobuf allows writers."""
    path = tmp_path / "x"
    path.write_bytes(layer(field(7, field(1, 2) + field(2, 5) + field(1, 3)) + field(5, bytes(24))))
    found = caffe.read(path, list)
    assert {name: array.shape for name, array in found.items()} == {"conv1_1/0": (2, 3)}


# -- npz


def npy(text: bytes, data: bytes = b"", *, version: int = 1, length: int | None = None) -> bytes:
    text += b"\n"
    size = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + size.to_bytes(2 if version == 1 else 4, "little") + text + data


def header(descr: str = "<f4", shape: str = "(2,)", order: str = "False") -> bytes:
    return f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}".encode()


def member(data: bytes) -> bytes:
    return forms.stored({"conv1_1_W.npy": data})


def claiming(size: int) -> bytes:
    """An archive of one array whose table claims `size` bytes."""
    content = bytearray(member(npy(header("<f4", f"({size // 4},)"), bytes(8))))
    at = content.index(b"PK\1\2")
    struct.pack_into("<2I", content, at + 20, size, size)
    return bytes(content)


NPZ = {
    "objects": (member(io_of_objects(b"cposix\nsystem\n(S'touch canary'\ntR.")), "not a plain array of floats"),
    "4 TB": (member(npy(header(shape="(1000000000000,)"), bytes(8))), "but 8 bytes stand"),
    "4 TB in many axes": (member(npy(header(shape="(10000, 10000, 10000)"), bytes(8))), "but 8 bytes stand"),
    "4 GB in the table": (claiming(0xFFFFFFF0), "claim 4294967280 bytes, but the file has"),
    "a negative size": (member(npy(header(shape="(-2,)"), bytes(8))), "not a plain array"),
    "nine axes": (member(npy(header(shape=f"({'1, ' * 8}2,)"), bytes(8))), "but 8 bytes stand"),
    "too short": (member(npy(header(), bytes(7))), "but 7 bytes stand"),
    "too long": (member(npy(header(), bytes(9))), "but 9 bytes stand"),
    "integers": (member(npy(header("<i4"), bytes(8))), "not a plain array"),
    "structures": (member(npy(b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }")), "not a plain"),
    "code": (member(npy(b"__import__('os').system('touch canary')")), "not a plain array"),
    "deep": (member(npy(b"(" * 400)), "not a plain array"),
    "a head of 60 kB": (member(npy(header() + b" " * 60_000, bytes(8))), "not a plain array"),
    "a head of 4 GB": (member(npy(header(), version=2, length=(1 << 32) - 1)), "not a plain array"),
    "another version": (member(npy(header(), bytes(8), version=9)), "expected .npy files only"),
    "no array": (member(b"text"), "expected .npy files only"),
    "cut in its magic": (member(b"\x93NUMPY\1"), "expected .npy files only"),
    "compressed": (forms.stored({"a.npy": npy(header(), bytes(8))}, method=8), "is compressed"),
    "a bomb": (
        forms.stored({"a.npy": npy(header(shape="(50000000,)"), bytes(200_000_000))}, method=8),
        "is compressed",
    ),
    "damaged": (
        forms.npz(forms.frossard(ARRAYS, TINY)).replace(ARRAYS["fc2"][1].tobytes(), bytes(64)),
        "CRC-32 differs",
    ),
}


@pytest.mark.parametrize("case", [case for case in NPZ if case != "damaged"])
def test_hostile_npz(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(tmp_path, *NPZ[case])
    assert not (tmp_path / "canary").exists()


def test_a_damaged_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(NPZ["damaged"][0])
    with pytest.raises(InvalidWeightsError, match="CRC-32 differs"):
        weights.read(path, TINY)


@pytest.mark.parametrize("name", ["../escape.npy", "/abs.npy", "a/../../x.npy", "C:\\x.npy", "nul\0.npy"])
def test_names_that_climb_are_names_only(tmp_path: Path, name: str) -> None:
    """Nothing is ever unpacked to a file."""
    (tmp_path / "folder").mkdir()
    refused(
        tmp_path / "folder", forms.stored({name: npy(header("<i4"), bytes(8))}), "not a plain array|broken|expected"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_npy_of_floats(tmp_path: Path, dtype: str, order: Any) -> None:
    made: Any = {n: np.asarray(a, dtype, order=order) for n, a in forms.frossard(ARRAYS, TINY).items()}
    path = tmp_path / "x"
    path.write_bytes(forms.npz(made))
    expected = {n: tuple(a.astype(dtype).astype("f4") for a in pair) for n, pair in ARRAYS.items()}
    same(weights.read(path, TINY), expected)  # type: ignore[arg-type]


def test_python_2s_long_sizes_and_later_heads(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for data in (npy(header(shape="(1L, 2L)"), bytes(8)), npy(header(shape="(1, 2)"), bytes(8), version=3)):
        path.write_bytes(member(data))
        assert npz.read(path, list)["conv1_1_W"].shape == (1, 2)


# -- Keras 3


def kept(change: Callable[[Any], None], *, root: str = "layers") -> bytes:
    buffer = io.BytesIO(forms.weights_h5(ARRAYS, TINY, root=root))
    with h5py.File(buffer, "r+") as file:
        change(file[root])
    return buffer.getvalue()


def in_keras(content: bytes) -> bytes:
    return forms.stored({"metadata.json": b"{}", "model.weights.h5": content})


def put(value: Any, name: str = "dense_1/vars/1", **options: Any) -> Callable[[Any], None]:
    def change(layers: Any) -> None:
        del layers[name]
        if isinstance(value, h5py.ExternalLink | h5py.SoftLink):
            layers[name] = value
        else:
            layers.create_dataset(name, data=value, **options)

    return change


def virtual(layers: Any) -> None:
    del layers["dense_1/vars/1"]
    layout = h5py.VirtualLayout((16,), "<f4")
    layout[:] = h5py.VirtualSource("secret.h5", "bias", (16,))
    layers.create_virtual_dataset("dense_1/vars/1", layout)


def outside(layers: Any) -> None:
    del layers["dense_1/vars/1"]
    layers.create_dataset("dense_1/vars/1", (16,), "<f4", external=[("secret.txt", 0, 64)])


def huge(layers: Any) -> None:
    del layers["dense_1/vars/0"]
    layers.create_dataset("dense_1/vars/0", (200_000, 200_000), "<f4")


def bomb(layers: Any) -> None:
    del layers["dense_1/vars/1"]
    data = layers.create_dataset("dense_1/vars/1", (16,), "<f4", chunks=(16,), compression="gzip")
    data.id.write_direct_chunk((0,), zlib.compress(bytes(200_000_000), 1))


def many(layers: Any) -> None:
    for i in range(1001):
        layers.create_group(f"dropout_{i}")


KERAS3 = {
    "external link": (put(h5py.ExternalLink("secret.h5", "/bias")), "refused"),
    "external layer": (put(h5py.ExternalLink("secret.h5", "/"), "dense_1"), "refused"),
    "external vars": (put(h5py.ExternalLink("secret.h5", "/"), "dense_1/vars"), "refused"),
    "soft link": (put(h5py.SoftLink("/layers/dense/vars/1")), "refused"),
    "virtual": (virtual, "refused"),
    "external storage": (outside, "refused"),
    "compressed bomb": (bomb, "compressed or in chunks"),
    "integers": (put(np.zeros(16, "<i4")), "floating-point"),
    "a group as an array": (lambda layers: (put(1.0)(layers), layers.move("dense_1/vars/1", "dense_1/x"),
                                            layers.create_group("dense_1/vars/1"))[0], "no data set"),
    "a data set as a layer": (lambda layers: layers.create_dataset("extra", data=1.0), "no group"),
    "a data set as vars": (put(1.0, "dense_1/vars"), "no group"),
}  # fmt: skip
ANOTHER = {
    "160 GB": (huge, "expected"),
    "many layers": (many, "1014 layers|layers, more than any VGG"),
    "a bias too many": (lambda layers: layers.create_dataset("dense_1/vars/2", data=1.0), "has 3 arrays"),
    "no bias": (lambda layers: layers.__delitem__("dense_1/vars/1"), "has 1 arrays"),
    "another kind": (
        lambda layers: layers.move("dense_1", "batch_normalization"),
        "'batch_normalization' has 2 arrays",
    ),
    "a model in a model": (lambda layers: layers.create_group("vgg16/layers"), "'vgg16' is a model of its own"),
    "one more": (lambda layers: layers.copy("dense_1", "dense_9"), "has 4 layers of kind Dense, expected 3"),
    "one less": (lambda layers: layers.__delitem__("conv2d_3"), "layer block5_conv1 is missing"),
    "a hostile name": (lambda layers: layers.copy("dense_1", "\x1b[31m\n" + "x" * 2000), "has 2 arrays"),
}


@pytest.mark.parametrize("packed_", [False, True], ids=["weights.h5", "keras"])
@pytest.mark.parametrize("root", ["layers", "_layer_checkpoint_dependencies"])
@pytest.mark.parametrize("case", [*KERAS3, *ANOTHER])
def test_hostile_keras_3(tmp_path: Path, case: str, root: str, packed_: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret.txt").write_bytes(SECRET)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["bias"] = np.frombuffer(SECRET, "<f4")
        file["vars/0"], file["vars/1"] = np.frombuffer(SECRET * 16, "<f4").reshape(16, 16), file["bias"][()]
        file["0"], file["1"] = file["vars/0"][()], file["bias"][()]
    monkeypatch.chdir(tmp_path)  # where the links would lead
    change, match = (KERAS3 | ANOTHER)[case]
    content = kept(change, root=root)
    if root != "layers" and case == "soft link":
        pytest.skip("the link leads nowhere")
    path = tmp_path / "weights"
    path.write_bytes(in_keras(content) if packed_ else content)
    kind = InvalidWeightsError if case in KERAS3 else WeightsMismatchError
    with cheap(), pytest.raises(kind, match=match) as caught:
        weights.read(path, TINY)
    said = str(caught.value)
    assert len(said) < 700 and not LIBRARY.search(said) and "SECRET" not in said and said.isprintable()


def test_a_keras_archive_is_read_as_far_as_needed(tmp_path: Path) -> None:
    good = forms.weights_h5(ARRAYS, TINY)
    damaged = forms.keras(ARRAYS, TINY).replace(ARRAYS["fc2"][1].tobytes(), bytes(64))
    path = tmp_path / "x"
    for content, match in (
        (damaged, "'model.weights.h5' in the archive is damaged"),
        (forms.stored({"model.weights.h5": good}, method=8), "is compressed"),
        (forms.stored({"config.json": b"{}"}), "expected the archive of a state dict"),
        (in_keras(b"no HDF5"), "cannot be read as Keras HDF5"),
        (in_keras(good[:-9]), "cannot be read as Keras HDF5"),
    ):
        path.write_bytes(content)
        with pytest.raises(InvalidWeightsError, match=match):
            weights.read(path, TINY)


def test_layers_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """conv2d_10 comes after conv2d_9, whatever HDF5's own order says."""
    buffer = io.BytesIO(forms.weights_h5(ARRAYS, TINY))
    with h5py.File(buffer, "r+") as file:
        for i in reversed(range(6)):  # of a second model in one session: numbers begin anywhere
            file["layers"].move(f"conv2d_{i}" if i else "conv2d", f"conv2d_{i + 7}")
    path = tmp_path / "x"
    path.write_bytes(buffer.getvalue())
    same(weights.read(path, TINY), ARRAYS)


# -- what all share


def test_only_what_is_wanted_is_read(tmp_path: Path) -> None:
    """A file of another network is refused before its numbers are read."""
    for form in ("torch zip", "torch legacy", "safetensors", "caffe", "npz"):
        path = forms.write(tmp_path / "x", form, ARRAYS, TINY)
        reader = {"torch": torch, "safetensors": safetensors, "caffe": caffe, "npz": npz}[form.split()[0]]
        names: list[str] = []

        def one(shapes: files.Shapes, names: list[str] = names) -> list[str]:
            names.extend(shapes)
            return names[2:3]

        found = reader.read(path, one)
        assert list(found) == names[2:3] and len(names) == 18
    path = forms.write(tmp_path / "x", "torch legacy", ARRAYS, TINY)
    with path.open("rb") as file:  # there the storages stand one behind the other: the others are passed over
        _, data = torch._legacy_form(file, path.stat().st_size, lambda shapes: list(shapes)[2:3])
    assert list(data) == ["2"]


def test_a_member_ends_where_it_ends() -> None:
    window = keras3._Window(io.BytesIO(b"before|inside|behind"), 7, 6)
    assert window.read() == b"inside" and window.read(5) == b""
    assert window.seek(-2, io.SEEK_END) == 4 and window.seek(-1, io.SEEK_CUR) == 3 and window.read(99) == b"ide"
    assert window.seek(50) == 50 and window.read(1) == b""


def test_a_file_that_shrinks_while_it_is_read() -> None:
    with pytest.raises(InvalidWeightsError, match="became shorter"):
        files.array(io.BytesIO(bytes(10)), 4, 3, "<f4")
    assert files.array(io.BytesIO(), 0, 0, "<f4").size == 0


def test_a_gray_first_kernel_has_nothing_to_flip() -> None:
    assert layouts.TIMM is layouts.of_torch({"head.fc.weight": (1,)})
    assert layouts.TORCHVISION is layouts.of_torch({"classifier.0.weight": (1,)})
