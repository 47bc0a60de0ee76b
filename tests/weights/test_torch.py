"""PyTorch files: good ones of every form are read exactly, hostile ones run nothing and cost nothing.

All files are made by hand here, instruction by instruction; where PyTorch is installed its own are read too.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from photolabel.errors import InvalidWeightsError
from photolabel.weights import torch as reader
from photolabel.weights.state_pickle import MAX_STEPS

from costs import cheap

# -- a small assembler of pickle programs ----------------------------------------------------------


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def row(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


EMPTY = name("collections", "OrderedDict") + b")R"
REBUILD = name("torch._utils", "_rebuild_tensor_v2")


def storage(key: str, kind: str, count: int, *view: bytes) -> bytes:
    return row(text("storage"), name("torch", kind), text(key), text("cpu"), number(count), *view) + b"Q"


def tensor(
    shape: tuple[int, ...],
    *,
    key: str = "0",
    kind: str = "FloatStorage",
    count: int,
    offset: int = 0,
    strides: tuple[int, ...] | None = None,
    legacy: bool = False,
) -> bytes:
    if strides is None:
        strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    where = storage(key, kind, count, *([b"N"] if legacy else []))
    sizes = [row(*map(number, values)) for values in (shape, strides)]
    return REBUILD + row(where, number(offset), *sizes, b"\x89", EMPTY) + b"R"


def state(tensors: dict[str, bytes]) -> bytes:
    items = b"".join(text(key) + value for key, value in tensors.items())
    return b"\x80\x02" + EMPTY + b"(" + items + b"u."


def archive(program: bytes, data: dict[str, bytes], *, method: int = zipfile.ZIP_STORED, **more: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as out:
        out.writestr("model/data.pkl", program)
        for key, raw in data.items():
            out.writestr(f"model/data/{key}", raw)
        for key, raw in more.items():
            out.writestr(f"model/{key}", raw)
    return buffer.getvalue()


def dumped(value: object) -> bytes:
    return pickle.dumps(value, 2)


MAGIC = dumped(0x1950A86A20F9469CFC6C) + dumped(1001)
SYSTEM = dumped({"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4}})


def legacy(program: bytes, data: dict[str, tuple[int, bytes]], *, system: bytes = SYSTEM) -> bytes:
    body = b"".join(struct.pack("<q", count) + raw for count, raw in data.values())
    return MAGIC + system + program + dumped(list(data)) + body


SIX = np.arange(6, dtype="<f4") + 0.5
RAW = SIX.tobytes()


def one(shape: tuple[int, ...] = (2, 3), **more: Any) -> bytes:
    """The program of a state dict of one tensor "w"."""
    return state({"w": tensor(shape, **({"count": 6} | more))})


GOOD_ZIP = archive(one(), {"0": RAW})
GOOD_LEGACY = legacy(one(legacy=True), {"0": (6, RAW)})


def read(folder: Path, content: bytes) -> dict[str, Any]:
    path = folder / "weights.pth"
    path.write_bytes(content)
    return reader.read(path)


# -- good files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [GOOD_ZIP, GOOD_LEGACY], ids=["zip", "legacy"])
def test_both_forms(tmp_path: Path, content: bytes) -> None:
    arrays = read(tmp_path, content)
    assert list(arrays) == ["w"]
    assert arrays["w"].dtype == np.float32 and arrays["w"].flags.c_contiguous
    np.testing.assert_array_equal(arrays["w"], SIX.reshape(2, 3))
    with pytest.raises(ValueError, match="read-only"):
        arrays["w"][0, 0] = 1


KINDS = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "LongStorage": "i8", "IntStorage": "i4",
    "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip


@pytest.mark.parametrize(("kind", "dtype"), KINDS.items())
def test_every_type(tmp_path: Path, kind: str, dtype: str) -> None:
    values = np.array([0, 1, 1, 0, 1, 1]).astype(np.dtype(dtype).newbyteorder("<"))
    for content in (
        archive(one(kind=kind), {"0": values.tobytes()}),
        legacy(one(kind=kind, legacy=True), {"0": (6, values.tobytes())}),
    ):
        got = read(tmp_path, content)["w"]
        assert got.dtype == np.dtype(dtype) and got.dtype.isnative
        np.testing.assert_array_equal(got, values.reshape(2, 3))


def test_bfloat16_comes_as_float32(tmp_path: Path) -> None:
    raw = (SIX.view("<u4") >> 16).astype("<u2").tobytes()  # exact: these values need few bits
    got = read(tmp_path, archive(one(kind="BFloat16Storage"), {"0": raw}))["w"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, SIX.reshape(2, 3))


def test_windows_on_a_shared_storage(tmp_path: Path) -> None:
    huge = (1 << 62) - 1  # the stride of a dimension of size 1 means nothing
    program = state(
        {
            "whole": tensor((2, 3), count=6),
            "turned": tensor((3, 2), count=6, strides=(1, 3)),
            "scalar": tensor((), count=6, offset=5),
            "column": tensor((2,), count=6, offset=1, strides=(3,)),
            "single": tensor((1, 3), count=6, strides=(huge, 1)),
            "none": tensor((0, 3), count=6),
        }
    )
    padding = {"1": bytes(400)}  # an unused storage: the file is large enough for all of the windows
    got = read(tmp_path, archive(program, {"0": RAW, **padding}))
    expected = SIX.reshape(2, 3)
    np.testing.assert_array_equal(got["turned"], expected.T)
    assert got["turned"].flags.c_contiguous
    assert got["scalar"].shape == () and got["scalar"] == 5.5
    np.testing.assert_array_equal(got["column"], expected[:, 1])
    np.testing.assert_array_equal(got["single"], expected[:1])
    assert got["none"].shape == (0, 3)


def test_a_checkpoint_with_its_state_dict_inside(tmp_path: Path) -> None:
    inner = one()[2:-1]
    program = b"\x80\x02}(" + text("state_dict") + inner + text("epoch") + number(3) + b"u."
    assert list(read(tmp_path, archive(program, {"0": RAW}))) == ["w"]


def test_metadata_set_by_build_is_passed_over(tmp_path: Path) -> None:
    program = one()[:-1] + b"}" + text("_metadata") + EMPTY + b"sb."
    assert list(read(tmp_path, archive(program, {"0": RAW}))) == ["w"]


def test_files_of_the_first_pytorch(tmp_path: Path) -> None:
    """PyTorch 0.1 on Python 2: an OrderedDict of pairs, str, and Parameters remade by NEWOBJ and BUILD."""
    where = storage("94", "FloatStorage", 6, b"N")
    sizes = row(number(2), number(3)), row(number(3), number(1))
    plain = name("torch._utils", "_rebuild_tensor") + row(where, number(0), *sizes) + b"R"
    parameter = name("torch.nn.parameter", "Parameter") + plain + b"\x85\x81" + row(b"\x88", b"\x89", EMPTY) + b"b"
    pairs = b"](](U\x01w" + parameter + b"ee"
    program = b"\x80\x02" + name("collections", "OrderedDict") + pairs + b"\x85R."
    got = read(tmp_path, legacy(program, {"94": (6, RAW)}))
    np.testing.assert_array_equal(got["w"], SIX.reshape(2, 3))


def test_zip64_as_pytorch_writes_it(tmp_path: Path) -> None:
    """The same archive with every size and place moved to the 64-bit records."""
    start = GOOD_ZIP.index(b"PK\1\2")
    end = len(GOOD_ZIP) - 22
    table, at, count = b"", start, 0
    while at < end:
        fields = list(struct.unpack("<4s6H3I5H2I", GOOD_ZIP[at : at + 46]))
        label = GOOD_ZIP[at + 46 : at + 46 + fields[10]]
        wide = struct.pack("<2H3Q", 1, 24, fields[9], fields[8], fields[16])
        other = struct.pack("<2H4x", 0x4246, 4)  # another program's block before it
        fields[8] = fields[9] = fields[16] = 0xFFFFFFFF
        fields[11] = len(other + wide)
        table += struct.pack("<4s6H3I5H2I", *fields) + label + other + wide
        at, count = at + 46 + len(label), count + 1
    tail = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(table), start)
    tail += struct.pack("<4sIQI", b"PK\6\7", 0, start + len(table), 1)
    tail += struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    good = GOOD_ZIP[:start] + table + tail
    np.testing.assert_array_equal(read(tmp_path, good)["w"], SIX.reshape(2, 3))
    broken = good.replace(struct.pack("<2H", 1, 24), struct.pack("<2H", 2, 24))
    with pytest.raises(InvalidWeightsError, match="lacks a 64-bit size"):
        read(tmp_path, broken)


# -- hostile files ---------------------------------------------------------------------------------


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def in_zip(program: bytes) -> bytes:
    return archive(b"\x80\x02" + program + b".", {"0": RAW})


def unequal_table(size: int) -> bytes:
    """GOOD_ZIP whose end record claims another length of the table."""
    return GOOD_ZIP[:-10] + struct.pack("<I", size) + GOOD_ZIP[-6:]


def patched(content: bytes, signature: bytes, at: int, layout: str, value: int) -> bytes:
    """`content` with a field of the last record of that signature changed."""
    place = content.rindex(signature) + at
    return content[:place] + struct.pack(layout, value) + content[place + struct.calcsize(layout) :]


def overlapping() -> bytes:
    """Forty entries that are all the same large bytes."""
    content = archive(one(), {"0": RAW, "big": bytes(100_000)})
    start, end = content.index(b"PK\1\2"), len(content) - 22
    entry = content[content.rindex(b"PK\1\2") : end]
    copies = b"".join(entry.replace(b"data/big", f"data/b{i:02}".encode()) for i in range(40))
    table = content[start:end] + copies
    count = struct.pack("<2H", 43, 43)
    return content[:start] + table + b"PK\5\6\0\0\0\0" + count + struct.pack("<2IH", len(table), start, 0)


def two_names() -> bytes:
    return archive(one(), {"0": RAW, "1": RAW}).replace(b"model/data/1", b"model/data/0")


def two_types() -> bytes:
    both = {"a": tensor((6,), count=6), "b": tensor((3,), count=3, kind="DoubleStorage")}
    return archive(state(both), {"0": RAW})


def nested(levels: int) -> bytes:
    """A tuple of twice itself, again and again: hashing it takes 2 to the power of `levels` steps."""
    step = b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(levels))
    return b"})" + step + b"Ns"


def many_pairs() -> bytes:
    pairs = b"](K\1N\x86q\2" + b"h\2" * 100_000 + b"eq\1"
    return pairs + b"](" + (name("collections", "OrderedDict") + b"h\1\x85R") * 1000 + b"e"


STEPS = MAX_STEPS + 1
V2 = REBUILD + row(storage("0", "FloatStorage", 6), number(0))
HOSTILE: dict[str, tuple[bytes, str]] = {
    # calls
    "os.system": (archive(dumped(Calls(os.system, "touch CANARY")), {}), "asks for 'posix.system'"),
    "eval": (archive(dumped({"w": Calls(eval, "open('CANARY', 'w')")}), {}), "asks for '__builtin__.eval'"),
    "system, old form": (
        MAGIC + SYSTEM + dumped(Calls(os.system, "touch CANARY")),
        "asks for 'posix.system'",
    ),
    "system, for the magic": (dumped(Calls(os.system, "touch CANARY")), "asks for 'posix.system'"),
    "system, protocol 4": (archive(pickle.dumps(Calls(os.system, "touch CANARY"), 4), {}), "protocol"),
    "ordered dict's own call": (in_zip(EMPTY + b")R"), "calls something that is no function"),
    "a dotted name": (in_zip(name("collections", "OrderedDict.fromkeys") + b")R"), "OrderedDict.fromkeys"),
    "a storage class called": (
        in_zip(name("torch", "FloatStorage") + b")R"),
        "'torch.FloatStorage' with arg",
    ),
    "torch.load": (in_zip(name("torch.serialization", "load") + text("x") + b"\x85R"), "serialization.load"),
    "a whole model": (in_zip(name("torch.nn.modules.container", "Sequential") + b")\x81"), "a state dict of"),
    "rebuild of nothing": (in_zip(REBUILD + b")R"), "with arguments"),
    "parameter of nothing": (in_zip(name("torch.nn.parameter", "Parameter") + b")\x81"), "with arguments"),
    "INST": (in_zip(b"(iposix\nsystem\n"), "instruction 0x69"),
    "OBJ": (in_zip(b"(cposix\nsystem\no"), "asks for 'posix.system'"),
    "EXT1": (in_zip(b"\x82\x01"), "instruction 0x82"),
    "STACK_GLOBAL": (in_zip(text("posix") + text("system") + b"\x93"), "instruction 0x93"),
    "BUILD of a class": (in_zip(name("torch", "FloatStorage") + b"}b"), "sets attributes"),
    "BUILD of a tensor": (in_zip(tensor((6,), count=6) + row(b"N", b"N", b"N", b"N") + b"b"), "sets attrib"),
    "BUILD of a dict with slots": (in_zip(EMPTY + b"N}\x86b"), "sets attributes"),
    # programs that hang or fill the memory in pickle's own machine
    "memo of four billion": (in_zip(b"Nr\xff\xff\xff\xff"), "expected a state dict"),
    "hash that never ends": (in_zip(nested(60)), "keys"),
    "key too large": (in_zip(b"}" + number(1 << 31) + b"Ns"), "keys"),
    "key negative": (in_zip(b"}" + number(-1) + b"Ns"), "keys"),
    "list recalled for ever": (in_zip(many_pairs()), f"longer than {MAX_STEPS}"),
    "endless program": (in_zip(b"N" * STEPS), f"longer than {MAX_STEPS}"),
    "bytes of 8 EiB": (in_zip(b"\x8e" + b"\xff" * 7 + b"\x7f"), "instruction 0x8e"),
    "text of 4 GiB": (in_zip(b"X\xff\xff\xff\xff"), "text of more than"),
    "pickle too large": (archive(bytes((16 << 20) + 1), {}), "at most 16777216 are read"),
    "name without end": (in_zip(b"c" + b"a" * 300), "more than 255 bytes"),
    # broken programs
    "empty program": (archive(b"", {}), "cut short"),
    "value never made": (in_zip(b""), "never made"),
    "mark never set": (in_zip(b"t"), "never made"),
    "value never kept": (in_zip(b"h\1"), "never kept"),
    "value never kept, long": (in_zip(b"j\1\0\0\0"), "never kept"),
    "append to none": (in_zip(b"NNa"), "no list"),
    "extend of a dict": (in_zip(b"}(Ne"), "no list"),
    "item of a list": (in_zip(b"]NNs"), "no dict"),
    "items of a list": (in_zip(b"](NNu"), "no dict"),
    "half an item": (in_zip(b"}(Nu"), "no dict"),
    "text not UTF-8": (in_zip(b"U\1\xff"), "not UTF-8"),
    "OrderedDict of a text": (in_zip(name("collections", "OrderedDict") + text("ab") + b"\x85R"), "no list"),
    "OrderedDict of no pairs": (in_zip(name("collections", "OrderedDict") + b"](Ne\x85R"), "than pairs"),
    "OrderedDict of a triple": (
        in_zip(name("collections", "OrderedDict") + b"](" + text("a") + b"NN\x87e\x85R"),
        "than pairs",
    ),
    "call without a tuple": (in_zip(name("collections", "OrderedDict") + b"]R"), "no function"),
    # what it holds
    "no dict": (in_zip(b"]Na"), "expected a state dict"),
    "empty dict": (in_zip(b"}"), "expected a state dict"),
    "number for a tensor": (in_zip(b"}" + text("w") + b"K\1s"), "'w' is none"),
    "number for a name": (in_zip(b"}K\1" + tensor((6,), count=6) + b"s"), "'1' is none"),
    "too many tensors": (
        in_zip(
            b"}("
            + b"".join(text(str(i)) + (b"h\1" if i else tensor((6,), count=6) + b"q\1") for i in range(10_001))
            + b"u"
        ),
        "1 to 10000 tensors",
    ),
    # storages
    "reference is a text": (in_zip(text("0") + b"Q"), "refers to a storage"),
    "reference to a module": (in_zip(row(text("module"), b"N", b"N", b"N") + b"Q"), "refers to a storage"),
    "a storage of dicts": (
        in_zip(row(text("storage"), name("collections", "OrderedDict"), text("0"), text("cpu"), number(6)) + b"Q"),
        "refers to a storage",
    ),
    "a view of a storage": (in_zip(storage("0", "FloatStorage", 6, row(text("1")))), "refers to a storage"),
    "negative count": (archive(one(count=-1), {"0": RAW}), "refers to a storage"),
    "count beyond all": (archive(one(count=1 << 70), {"0": RAW}), "refers to a storage"),
    "storage of two types": (two_types(), "two types or sizes"),
    "storage not there": (archive(one(key="9"), {"0": RAW}), "none of it"),
    "storage too short": (archive(one(), {"0": RAW[:-1]}), "should be 24 bytes"),
    "storage too long": (archive(one(), {"0": RAW + b"\0"}), "should be 24 bytes"),
    "storage of 160 GB": (archive(one(count=40 << 30), {"0": RAW}), "should be"),
    "storage elsewhere": (archive(one(key="../../etc/passwd"), {"0": RAW}), "none of it"),
    "bools of 2": (archive(one(kind="BoolStorage"), {"0": b"\0\1\2\0\0\0"}), "true or false"),
    # windows
    "huge shape": (archive(one((1 << 20, 1 << 20)), {"0": RAW}), "does not fit"),
    "shape beyond 64 bits": (archive(one((1 << 61, 1 << 61)), {"0": RAW}), "does not fit"),
    "shape beyond all": (archive(one((1 << 70,), strides=(0,)), {"0": RAW}), "negative, too many"),
    "negative shape": (archive(one((-1, 3)), {"0": RAW}), "negative, too many"),
    "negative stride": (archive(one(strides=(-3, 1), offset=3), {"0": RAW}), "negative, too many"),
    "negative offset": (archive(one(offset=-1), {"0": RAW}), "negative, too many"),
    "offset beyond": (archive(one(offset=1), {"0": RAW}), "does not fit"),
    "stride beyond": (archive(one(strides=(4, 1)), {"0": RAW}), "does not fit"),
    "repeated by stride 0": (archive(one((7,), strides=(0,)), {"0": RAW}), "does not fit"),
    "empty and vast": (archive(one((0, 1 << 61), strides=(0, 0)), {"0": RAW}), "does not fit"),
    "nine dimensions": (archive(one((1,) * 9), {"0": RAW}), "negative, too many"),
    "shape without strides": (
        in_zip(V2[:-1] + b"J\0\0\0\0" + row(number(6)) + row() + b"tR"),
        "refers|strides",
    ),
    "more sizes than strides": (
        in_zip(b"}" + text("w") + tensor((6, 1), count=6, strides=(1,)) + b"s"),
        "with 1 strides",
    ),
    "shape of bools": (
        in_zip(REBUILD + row(storage("0", "FloatStorage", 6), number(0), row(b"\x88"), row(number(1))) + b"R"),
        "whole numbers",
    ),
    "shape a list": (
        in_zip(REBUILD + row(storage("0", "FloatStorage", 6), number(0), b"]", row()) + b"R"),
        "whole numbers",
    ),
    "storage a number": (in_zip(REBUILD + row(number(0), number(0), row(), row()) + b"R"), "whole numbers"),
    "one storage a hundred times": (
        archive(state({str(i): tensor((60_000,), count=60_000) for i in range(100)}), {"0": bytes(240_000)}),
        "tensors claim",
    ),
    # the archive
    "compressed": (archive(one(), {"0": bytes(24)}, method=zipfile.ZIP_DEFLATED), "is compressed"),
    "encrypted": (patched(GOOD_ZIP, b"PK\1\2", 8, "<H", 1), "or encrypted"),
    "no pickle": (archive(one(), {"0": RAW}).replace(b"data.pkl", b"data.pkx"), "it has 0"),
    "two pickles": (archive(one(), {"0": RAW, "data.pkl": one()}), "it has 2"),
    "TorchScript": (archive(one(), {"0": RAW}, **{"code/__torch__.py": b"print(1)"}), "TorchScript"),
    "big-endian": (archive(one(), {"0": RAW}, byteorder=b"big"), "big-endian"),
    "byte order of a megabyte": (archive(one(), {"0": RAW}, byteorder=bytes(1 << 20)), "big-endian"),
    "name twice": (two_names(), "twice"),
    "overlapping entries": (overlapping(), "entries claim"),
    "damaged storage": (GOOD_ZIP.replace(RAW, RAW[::-1]), "CRC-32"),
    "stored, yet of two sizes": (patched(GOOD_ZIP, b"PK\1\2", 24, "<I", 25), "bytes stand for"),
    "entry of 4 GB": (
        patched(patched(GOOD_ZIP, b"PK\1\2", 24, "<I", 4 << 29), b"PK\1\2", 20, "<I", 4 << 29),
        "claim",
    ),
    "header beyond the end": (patched(GOOD_ZIP, b"PK\1\2", 42, "<I", 1 << 31), "cut short or broken"),
    "header is no header": (patched(GOOD_ZIP, b"PK\1\2", 42, "<I", 1), "an entry's header"),
    "name beyond the table": (patched(GOOD_ZIP, b"PK\1\2", 28, "<H", 60_000), "table is cut short"),
    "name not UTF-8": (GOOD_ZIP.replace(b"model/data/0", b"model/data/\xff"), "not UTF-8"),
    "60000 entries": (
        patched(patched(GOOD_ZIP, b"PK\5\6", 8, "<H", 60_000), b"PK\5\6", 10, "<H", 60_000),
        "at most",
    ),
    "table of 2 GB": (unequal_table(1 << 31), "at most"),
    "table too long": (unequal_table(len(GOOD_ZIP) - GOOD_ZIP.index(b"PK\1\2")), "entries fill|table is"),
    "fewer entries than the table": (
        patched(patched(GOOD_ZIP, b"PK\5\6", 8, "<H", 1), b"PK\5\6", 10, "<H", 1),
        "entries fill",
    ),
    "table ends within an entry": (
        unequal_table(len(GOOD_ZIP) - 22 - GOOD_ZIP.index(b"PK\1\2") - len("model/data/0") - 20),
        "archive's table is not where",
    ),
    "split archive": (patched(GOOD_ZIP, b"PK\5\6", 4, "<H", 1), "split into parts"),
    "table on another disk": (patched(GOOD_ZIP, b"PK\5\6", 6, "<H", 1), "split into parts"),
    "entries on another disk": (patched(GOOD_ZIP, b"PK\5\6", 8, "<H", 1), "split into parts"),
    "a comment of nothing": (patched(GOOD_ZIP, b"PK\5\6", 20, "<H", 2), "carries a comment"),
    "a comment": (patched(GOOD_ZIP, b"PK\5\6", 20, "<H", 2) + b"ab", "end of the archive"),
    "only the beginning of an archive": (b"PK\3\4", "cut short"),
    # the older form
    "another pickle": (dumped([1, 2]), "not one of torch.save's"),
    "another version": (dumped(0x1950A86A20F9469CFC6C) + dumped(1002) + SYSTEM, "protocol 1001"),
    "big-endian, old form": (
        legacy(one(legacy=True), {"0": (6, RAW)}, system=dumped({"little_endian": False})),
        "little-endian",
    ),
    "facts no dict": (legacy(one(legacy=True), {"0": (6, RAW)}, system=dumped([])), "little-endian"),
    "keys no list": (MAGIC + SYSTEM + one(legacy=True) + dumped("0"), "list of storages is broken"),
    "keys not text": (MAGIC + SYSTEM + one(legacy=True) + dumped([0]), "list of storages is broken"),
    "keys of others": (legacy(one(legacy=True), {"1": (6, RAW)}), "does not fit"),
    "keys twice": (
        MAGIC + SYSTEM + one(legacy=True) + dumped(["0", "0"]) + struct.pack("<q", 6) + RAW,
        "not fit",
    ),
    "another count": (legacy(one(legacy=True), {"0": (5, RAW)}), "not where it should be"),
    "160 GB, old form": (legacy(one(legacy=True, count=40 << 30), {"0": (40 << 30, RAW)}), "cut short"),
    "more behind the end": (GOOD_LEGACY + b"x", "1 bytes stand behind"),
    # other files
    "empty file": (b"", "expected a file written by torch.save"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "expected a file written by torch.save"),
    "safetensors": (struct.pack("<Q", 2) + b"{}", "expected a file written by torch.save"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    content, message = HOSTILE[case]
    monkeypatch.chdir(tmp_path)
    with cheap(seconds=1), pytest.raises(InvalidWeightsError, match=message) as caught:
        read(tmp_path, content)
    said = str(caught.value)
    assert len(said) < 700 and "0x7f" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


WATCHER = """
import json, sys, time
from pathlib import Path
import numpy
from photolabel.errors import InvalidWeightsError
from photolabel.weights import torch
torch.read(Path(sys.argv[1]) / "good.pth")
seen = []
sys.addaudithook(lambda event, arguments: seen.append((event, str(arguments)[:200])))
def peak():  # in KiB; ru_maxrss would begin at the parent's
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
worst = 0.0
for path in sorted(Path(sys.argv[1]).glob("*.bad")):
    start = time.process_time()  # others may want the processor too
    try:
        torch.read(path)
    except InvalidWeightsError:
        worst = max(worst, time.process_time() - start)
    else:
        raise SystemExit(f"{path} was read")
grown = peak() - before
names = sorted({event for event, _ in seen})
report = {"events": names, "grown": grown / 1024, "worst": worst, "torch": "torch" in sys.modules}
json.dump(report, sys.stdout)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory in Linux' way")
def test_hostile_files_import_run_and_allocate_nothing(tmp_path: Path) -> None:
    """Seen from inside the interpreter: the only audited thing that happens is the opening of the files."""
    for number_, (content, _) in enumerate(HOSTILE.values()):
        (tmp_path / f"{number_:03}.bad").write_bytes(content)
    (tmp_path / "good.pth").write_bytes(GOOD_ZIP)
    made = subprocess.run(
        [sys.executable, "-c", WATCHER, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(reader.__file__).parents[2])},
    )
    report = json.loads(made.stdout)
    # object.__getattr__ and the like would show here too, as would import, exec, compile, pickle.find_class
    assert set(report["events"]) <= {
        "open",
        "os.listdir",
        "os.scandir",
        "pathlib.Path.glob",
        "object.__getattr__",
    }
    assert report["worst"] < 1 and report["grown"] < 100 and not report["torch"]
    assert not (tmp_path / "CANARY").exists()


@pytest.mark.parametrize("content", [GOOD_ZIP, GOOD_LEGACY], ids=["zip", "legacy"])
def test_every_truncation_is_refused(tmp_path: Path, content: bytes) -> None:
    for length in range(len(content)):
        with pytest.raises(InvalidWeightsError):
            read(tmp_path, content[:length])


@pytest.mark.parametrize("content", [GOOD_ZIP, GOOD_LEGACY], ids=["zip", "legacy"])
def test_a_file_cut_while_it_is_read(content: bytes) -> None:
    with pytest.raises(InvalidWeightsError, match="became shorter"):
        reader._read(io.BytesIO(content[:-1]), len(content))


@given(data=st.data())
def test_no_damage_leads_to_another_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from([GOOD_ZIP, GOOD_LEGACY])))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrays = read(tmp_path_factory.getbasetemp(), bytes(content))
    except InvalidWeightsError:
        return
    assert sum(array.nbytes for array in arrays.values()) <= 2 * len(content)


@given(program=st.lists(st.sampled_from([bytes([i]) for i in b"\x80q.rhj(N\x88KJ\x8aGXU)\x85\x86t]ae}sucQR\x81b\0\1"])))
def test_no_program_leads_to_another_error(tmp_path_factory: pytest.TempPathFactory, program: list[bytes]) -> None:
    with pytest.raises(InvalidWeightsError):
        read(tmp_path_factory.getbasetemp(), in_zip(b"".join(program)))


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe.pth"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, Path("/dev/zero")):
        with pytest.raises(InvalidWeightsError, match="no regular file"):
            reader.read(path)
    with pytest.raises(InvalidWeightsError, match="No such file"):
        reader.read(tmp_path / "absent.pth")


# -- PyTorch's own files ---------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_round_trip_through_pytorch(tmp_path: Path, new: bool) -> None:
    torch = importlib.import_module("torch")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    tensors = OrderedDict(network.state_dict())
    tensors["parameter"] = torch.nn.Parameter(torch.ones(2))
    tensors["turned"] = torch.arange(6).reshape(2, 3).t()
    tensors["window"] = torch.arange(60.0).reshape(6, 10)[1:4, ::2]
    tensors["half"] = torch.ones(3).half()
    tensors["yes"] = torch.tensor(True)
    path = tmp_path / "weights.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=new)
    arrays = reader.read(path)
    assert list(arrays) == list(tensors)
    for key, tensor_ in tensors.items():
        expected = tensor_.detach().numpy()
        assert arrays[key].dtype == expected.dtype and arrays[key].shape == expected.shape
        np.testing.assert_array_equal(arrays[key], expected)
    torch.save(network, path, _use_new_zipfile_serialization=new)
    with pytest.raises(InvalidWeightsError, match=r"torch\.nn\.modules\.container\.Sequential"):
        reader.read(path)
