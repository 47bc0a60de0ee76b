"""The devkit's meta.mat: SciPy writes it, and what is wrong with it is an error of ours."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from photolabel.errors import TruthError
from photolabel.truth import devkit, matlab
from photolabel.truth.matlab import BrokenMatError, structures

from labelled_sets import DEVKIT, WNIDS, meta_mat, put

FIELDS = ("ILSVRC2012_ID", "WNID")


def saved(**variables: object) -> bytes:
    out = io.BytesIO()
    scipy.io.savemat(out, variables)
    return out.getvalue()


def element(kind: int, data: bytes, order: str = "<") -> bytes:
    padding = 0 if kind == 15 else -len(data) % 8  # what is compressed has none
    return struct.pack(f"{order}2I", kind, len(data)) + data + bytes(padding)


def file_of(*elements: bytes, order: str = "<") -> bytes:
    return matlab.MAGIC.ljust(124) + struct.pack(f"{order}2H", 0x0100, 0x4D49) + b"".join(elements)


def matrix(order: str, of: int, dimensions: tuple[int, ...], name: bytes, *parts: bytes) -> bytes:
    """A matrix, byte by byte, as the format's description has it."""
    head = element(6, struct.pack(f"{order}2I", of, 0), order)
    head += element(5, struct.pack(f"{order}{len(dimensions)}i", *dimensions), order) + element(1, name, order)
    return element(14, head + b"".join(parts), order)


def by_hand(order: str, text: int, encoding: str) -> bytes:
    number = matrix(order, 6, (1, 1), b"", element(4, struct.pack(f"{order}H", 7), order))
    word = matrix(order, 4, (1, 4), b"", element(text, "tä€h".encode(encoding), order))
    fields = b"".join(name.ljust(32, b"\0") for name in (b"number", b"word", b"empty"))
    names = element(5, struct.pack(f"{order}i", 32), order) + element(1, fields, order)
    return file_of(matrix(order, 2, (1, 1), b"wanted", names, number, word, element(14, b"", order)), order=order)


@pytest.mark.parametrize("compressed", [False, True])
def test_what_scipy_writes(compressed: bool) -> None:
    found = structures(meta_mat(compressed=compressed), "synsets", FIELDS)
    assert [each["WNID"] for each in found[:1000]] == DEVKIT
    assert [each["ILSVRC2012_ID"] for each in found] == list(range(1, 1061))
    assert set(found[0]) == set(FIELDS)


@pytest.mark.parametrize(("text", "encoding"), [(4, "utf-16"), (16, "utf-8"), (17, "utf-16"), (18, "utf-32")])
@pytest.mark.parametrize(("order", "suffix"), [("<", "-le"), (">", "-be")])
def test_both_orders_of_bytes(order: str, suffix: str, text: int, encoding: str) -> None:
    encoding += suffix if encoding != "utf-8" else ""
    found = structures(by_hand(order, text, encoding), "wanted", ("number", "word", "empty"))
    assert found == [{"number": 7, "word": "tä€h", "empty": None}]


def test_the_order(tmp_path: Path) -> None:
    path = put(tmp_path / "meta.mat", meta_mat())
    assert devkit.order(tmp_path / "truth.txt", None) == (path, DEVKIT)


# What is wrong, made when its test runs: each takes SciPy a third of a second, also where another test was asked for.
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (lambda: meta_mat()[:100_000], "it is cut short"),
        (lambda: meta_mat(compressed=True)[:-40], "cut short"),
        (lambda: matlab.MAGIC, "it does not begin like one"),
        (lambda: meta_mat()[:126] + b"XX", "it does not begin like one"),
        (lambda: saved(other=np.eye(3)), "it has no synsets"),
        (lambda: saved(synsets=np.eye(3)), "synsets is no array of structures"),
        (lambda: saved(synsets={"WNID": "n01440764"}), "not each of its synsets"),
        (lambda: saved(synsets={"WNID": "x", "ILSVRC2012_ID": 1.0}), "not each of its synsets"),
        (lambda: meta_mat(swap={3: 3.0}), "two synsets of the number 3"),
        (lambda: meta_mat(swap={3: "4"}), "not each of its synsets"),
        (lambda: meta_mat(swap={3: np.eye(2)}), "not each of its synsets"),
        (lambda: meta_mat(swap={3: 4.5}), "expected each of ImageNet's 1,000 WordNet ids once; it has 999"),
        (lambda: meta_mat(swap={3: float("nan")}), "it has 999"),
        (lambda: meta_mat([*DEVKIT[:999], "n00000001"]), "each of ImageNet's 1,000 WordNet ids once"),
        (lambda: meta_mat([*DEVKIT[:999], DEVKIT[0]]), "each of ImageNet's 1,000 WordNet ids once"),
        (lambda: b"\x89HDF\r\n\x1a\n\0", "another encoding, or no text"),
    ],
    ids=range(16),
)
def test_files_that_are_no_meta_mat(tmp_path: Path, data: Callable[[], bytes], says: str) -> None:
    path = put(tmp_path / "meta.mat", data())
    with pytest.raises(TruthError) as caught:
        devkit.order(tmp_path / "truth.txt", None)
    assert says in str(caught.value) and str(caught.value).startswith(f"{path}: ")


def test_a_ground_truth_without_its_order_says_where_that_belongs(tmp_path: Path) -> None:
    with pytest.raises(TruthError, match="Put meta.mat beside it, or in a folder data there"):
        devkit.order(tmp_path / "truth.txt", None)


def test_a_file_larger_than_any_is_not_read(tmp_path: Path) -> None:
    with put(tmp_path / "meta.mat", meta_mat()).open("r+b") as file:
        file.truncate(8 * 2**20 + 1)
    with pytest.raises(TruthError, match="at most 8,388,608 bytes"):
        devkit.order(tmp_path / "truth.txt", None)


def struct_of(count: tuple[int, ...], length: int, names: bytes) -> bytes:
    return matrix("<", 2, count, b"synsets", element(5, struct.pack("<i", length)), element(1, names))


BOMB, MANY, NUMBERS = "larger than any such file", "more than in any such file", "where numbers should be"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (file_of(element(15, zlib.compress(bytes(100 << 20)))), BOMB),
        (file_of(*[element(15, zlib.compress(element(9, bytes(6 << 20))))] * 4), BOMB),
        (file_of(element(15, zlib.compress(bytes(1000))[:-5])), BOMB),
        (file_of(struct_of((1 << 30, 1 << 30), 1, b"a")), MANY),
        (file_of(struct_of((100_001,), 1, b"a")), MANY),
        (file_of(struct_of((1,), 1, b"a" * 1001)), MANY),
        (file_of(struct_of((1,), 0, b"a")), MANY),
        (file_of(struct_of((1,), 0, b"")), MANY),
        (file_of(element(15, zlib.compress(element(9, bytes(matlab._MOST - 7))[: matlab._MOST + 1]))), BOMB),
        (file_of(struct_of((1,), -1, b"a")), MANY),
        (file_of(matrix("<", 2, (2**31 - 1,) * 257, b"synsets")), NUMBERS),
        (file_of(element(14, element(6, bytes(8)) + element(5, bytes(7)))), NUMBERS),
        (file_of(element(14, element(6, bytes(8)) + element(7, bytes(8)))), "where integers should be"),
        (file_of(struct.pack("<2I", 14, 0xFFFFFFF8)), "cut short"),
        (file_of(struct.pack("<2I", 14 | 5 << 16, 0)), "larger than its place"),
        (file_of(element(15, b"not zlib")), "damaged"),
        (file_of(element(15, zlib.compress(b""))), "cut short"),
        (file_of(element(14, element(9, bytes(8)))), "where integers should be"),
        (file_of(struct_of((1,), 1, b"a"), element(9, b"")), "cut short"),
    ],
    ids=range(19),
)
def test_what_a_file_claims_takes_no_memory(data: bytes, says: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BrokenMatError, match=says):
            structures(data, "synsets", FIELDS)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_is_cut_anywhere_is_refused() -> None:
    whole = by_hand("<", 16, "utf-8")
    for length in range(len(whole)):
        with pytest.raises(BrokenMatError):
            structures(whole[:length], "wanted", ("number", "word", "empty"))


def test_mutants_are_read_or_refused(tmp_path: Path) -> None:
    """SciPy's own reader ends the process at some of such files."""
    dice, whole = random.Random(1), meta_mat(DEVKIT[:1])
    found: Counter[str] = Counter()
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(dice.choice([1, 2, 5, 50])):
            at = dice.randrange(len(data)) if dice.random() < 0.5 else dice.randrange(100, 1000)
            data[at] = dice.choice([0, 1, 14, 15, 127, 128, 255, dice.randrange(256)])
        try:
            structures(bytes(data[: dice.randrange(len(data))] if dice.random() < 0.1 else data), "synsets", FIELDS)
        except BrokenMatError as error:
            found[str(error)] += 1
        else:
            found["read"] += 1
    assert found["read"] > 100 and len(found) > 5, "mutants of every depth"


def test_the_order_of_the_ids_would_be_another(tmp_path: Path) -> None:
    assert sorted(DEVKIT) == WNIDS != DEVKIT
