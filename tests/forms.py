"""One set of arrays written in every form of weights file that is read: by hand, to be clear about each byte.

`arrays` are as `photolabel.weights` gives them: kernels HWIO, inputs blue first, rows of fc1 in the order HWC.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from photolabel.spec import Spec

Array = NDArray[np.float32]
Weights = dict[str, tuple[Array, Array]]
Tensors = dict[str, Array]


def spatial(spec: Spec) -> tuple[int, int, int]:
    """Height, width and channels of what is flattened."""
    before = [layer for layer in spec.layers if layer.kind == "MaxPooling2D"][-1]
    _, height, width, channels = before.shape
    return height or 1, width or 1, channels or 1


def outputs_first(weights: Weights, spec: Spec, *, rgb: bool) -> list[tuple[Array, Array]]:
    """As PyTorch and Caffe have them: OIHW, (out, in), fc1's inputs channels first."""
    turned = []
    for name, (kernel, bias) in weights.items():
        if kernel.ndim == 4:
            kernel = kernel.transpose(3, 2, 0, 1)
            if name == "block1_conv1" and rgb:
                kernel = kernel[:, [2, 1, 0]]
        else:
            if name == "fc1":
                kernel = kernel.reshape(*spatial(spec), -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
            kernel = kernel.T
        turned.append((np.ascontiguousarray(kernel), bias))
    return turned


def features(spec: Spec) -> list[int]:
    """Places of the convolutions in torchvision's `features`."""
    places, at = [], 0
    for layer in spec.layers:
        if layer.kind == "Conv2D":
            places.append(at)
        at += {"Conv2D": 2, "MaxPooling2D": 1}.get(layer.kind, 0)
    return places


def torchvision(weights: Weights, spec: Spec, *, prefix: str = "") -> Tensors:
    names = [f"features.{i}" for i in features(spec)] + ["classifier.0", "classifier.3", "classifier.6"]
    named = zip(names, outputs_first(weights, spec, rgb=True), strict=False)
    return {f"{prefix}{n}.{p}": a for n, pair in named for p, a in zip(("weight", "bias"), pair, strict=True)}


def timm(weights: Weights, spec: Spec) -> Tensors:
    tensors = {}
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    for name, array in torchvision(weights, spec).items():
        layer, part = name.rsplit(".", 1)
        layer = names.get(layer, layer)
        if layer == "pre_logits.fc1" and part == "weight":
            height, width, channels = spatial(spec)
            array = array.reshape(-1, channels, height, width)
        elif layer == "pre_logits.fc2" and part == "weight":
            array = array[:, :, None, None]
        tensors[f"{layer}.{part}"] = array
    return tensors


# -- PyTorch


def _program(tensors: Tensors) -> bytes:
    """The pickle of a state dict, written instruction by instruction."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()

    def row(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    body = b"\x80\x02}("
    for i, (name, array) in enumerate(tensors.items()):
        strides = tuple(step // 4 for step in array.strides)
        where = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(str(i)) + text("cpu")
        where += b"J" + struct.pack("<i", array.size) + b"tQ"
        body += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + where + b"J" + bytes(4)
        body += row(array.shape) + row(strides) + b"\x89}tR"
    return body + b"u."


def torch_zip(tensors: Tensors) -> bytes:
    return stored(
        {"vgg/data.pkl": _program(tensors)} | {f"vgg/data/{i}": a.tobytes() for i, a in enumerate(tensors.values())}
    )


def torch_legacy(tensors: Tensors) -> bytes:
    """The form before 1.6; there, a storage's description has a sixth part, None."""
    program = _program(tensors).replace(b"tQ", b"NtQ")
    facts = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
    keys = [str(i) for i in range(len(tensors))]
    data = b"".join(struct.pack("<q", a.size) + a.tobytes() for a in tensors.values())
    return b"".join(pickle.dumps(fact, 2) for fact in facts) + program + pickle.dumps(keys, 2) + data


# -- safetensors


def safetensors(tensors: Tensors, *, kind: str = "F32") -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, array in tensors.items():
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + array.nbytes],
        }
        body += array.tobytes()
    return safetensors_file(json.dumps(header).encode(), body)


def safetensors_file(header: bytes, body: bytes) -> bytes:
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + body


# -- Caffe


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, data: bytes | int) -> bytes:
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    return varint(number << 3 | 2) + varint(len(data)) + data


def blob(array: NDArray[np.float32 | np.float64], *, old: bool) -> bytes:
    if old:  # num, channels, height, width
        shape = b"".join(field(i, n) for i, n in enumerate((1,) * (4 - array.ndim) + array.shape, 1))
    else:
        shape = field(7, field(1, b"".join(map(varint, array.shape))))
    return shape + field(5 if array.dtype == np.float32 else 8, array.tobytes())


def oxford_names(spec: Spec) -> list[str]:
    names = [f"conv{b}_{c}" for b, block in enumerate(spec.blocks, 1) for c in range(1, len(block) + 1)]
    return [*names, "fc6", "fc7", "fc8"]


def caffe(weights: Weights, spec: Spec, *, old: bool = False, dtype: type[np.floating] = np.float32) -> bytes:
    """`old` is the form of 2014, as Oxford's own files have it."""
    number, name_field, blobs_field = (2, 4, 6) if old else (100, 1, 7)
    data = field(1, b"VGG_ILSVRC_16_layers") + field(3, b"data") + b"".join(field(4, n) for n in (10, 3, 32, 32))
    for name, pair in zip(oxford_names(spec), outputs_first(weights, spec, rgb=False), strict=False):
        blobs = b"".join(field(blobs_field, blob(array.astype(dtype), old=old)) for array in pair)
        data += field(number, field(2, b"below") + field(name_field, name.encode()) + blobs)
        data += field(number, field(name_field, b"relu" + name[4:].encode()))  # learns nothing
    return data


# -- npz


def npy(array: NDArray[np.floating]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def frossard(weights: Weights, spec: Spec) -> Tensors:
    tensors = {}
    for name, (kernel, bias) in zip(oxford_names(spec), weights.values(), strict=False):
        tensors[f"{name}_W"] = kernel[:, :, ::-1].copy() if name == "conv1_1" else kernel
        tensors[f"{name}_b"] = bias
    return tensors


def npz(tensors: Tensors) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **tensors)  # type: ignore[arg-type]
    return buffer.getvalue()


# -- Keras


def stored(members: dict[str, bytes], *, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def keras_h5(weights: Weights, spec: Spec) -> bytes:
    """As the published files are."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in spec.layers]
        for layer in spec.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}_W_1:0", f"{layer.name}_b_1:0"] if layer.name in weights else []
            group.attrs["weight_names"] = np.array([name.encode() for name in names], "S40")
            for name, array in zip(names, weights.get(layer.name, ()), strict=True):
                group[name] = array
    return buffer.getvalue()


def weights_h5(weights: Weights, spec: Spec, *, root: str = "layers") -> bytes:
    """Keras 3's: groups named by class and number, whatever the layers are called."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_group("vars").attrs["name"] = "vgg"
        counts: dict[str, int] = {}
        kinds = {"Conv2D": "conv2d", "Dense": "dense", "MaxPooling2D": "max_pooling2d", "Flatten": "flatten"}
        for layer in spec.layers:
            kind = kinds.get(layer.kind, "input_layer")
            count = counts[kind] = counts.get(kind, -1) + 1
            group = file.create_group(f"{root}/{kind}_{count}/vars" if count else f"{root}/{kind}/vars")
            group.attrs["name"] = layer.name
            for i, array in enumerate(weights.get(layer.name, ())):
                group[str(i)] = array
    return buffer.getvalue()


def keras(weights: Weights, spec: Spec) -> bytes:
    inner = weights_h5(weights, spec)
    return stored({"metadata.json": b"{}", "config.json": b"not JSON: never read", "model.weights.h5": inner})


FORMS: dict[str, Callable[[Weights, Spec], bytes]] = {
    "keras_h5": keras_h5,
    "weights_h5": weights_h5,
    "weights_h5 of TensorFlow 2.13": lambda w, s: weights_h5(w, s, root="_layer_checkpoint_dependencies"),
    "keras": keras,
    "torch zip": lambda w, s: torch_zip(torchvision(w, s)),
    "torch legacy": lambda w, s: torch_legacy(torchvision(w, s)),
    "torch of DataParallel": lambda w, s: torch_zip(torchvision(w, s, prefix="module.")),
    "torch of timm": lambda w, s: torch_zip(timm(w, s)),
    "safetensors": lambda w, s: safetensors(torchvision(w, s)),
    "safetensors of timm": lambda w, s: safetensors(timm(w, s)),
    "caffe": caffe,
    "caffe of 2014": lambda w, s: caffe(w, s, old=True),
    "caffe of doubles": lambda w, s: caffe(w, s, dtype=np.float64),
    "npz": lambda w, s: npz(frossard(w, s)),
}


def write(path: Path, form: str, weights: Weights, spec: Spec) -> Path:
    path.write_bytes(FORMS[form](weights, spec))
    return path
