"""Archives: read where they are, in their own order; hostile, broken, cut short."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import random
import stat
import struct
import tarfile
import time
import tracemalloc
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photolabel import errors
from photolabel.images import Limits
from photolabel.sources import Item, archives, find, streams, zips
from photolabel.sources.item import exactly

from pictures import JPEG, PNG

LONG = "x" * 60 + "/" + "y" * 120 + "/" + "é" * 90 + ".png"
PHOTOS = {"z.png": PNG, "a/b.JPG": JPEG, LONG: PNG, "a/line\nbreak.png": PNG, "caf\udce9.png": PNG, "a/empty.jpg": b""}
OTHERS = {"notes.txt": b"n", "__MACOSX/a/._b.JPG": b"m", ".hidden/x.jpg": PNG, "inner.zip": b"z", "a/@eaDir/y.jpg": PNG}
PACK: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def info(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.size = kind, size
    return made


def tar(files: dict[str, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as archive:
        for name, data in files.items():
            archive.addfile(info(name, size=len(data)), io.BytesIO(data))
    return out.getvalue()


def block(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, data: bytes = b"") -> bytes:
    """One member as it lies in a tar, whatever it claims."""
    return info(name, kind, size).tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


END = bytes(1024)


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def one_stored(name: bytes, flags: int = 0, system: int = 3, count: int = 1, data: bytes = b"x") -> bytes:
    """A ZIP of one stored file, which its table may list more than once."""
    crc, size = zlib.crc32(data), len(data)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, flags, 0, 0, 0, crc, size, size, len(name), 0) + name + data
    head = (b"PK\1\2", system << 8, 20, flags, 0, 0, 0, crc, size, size, len(name), 0, 0, 0, 0, 0, 0)
    table = (struct.pack("<4s6H3I5H2I", *head) + name) * count
    number = count & 0xFFFF
    return local + table + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, number, number, len(table), len(local), 0)


def put(tmp_path: Path, data: bytes, name: str = "archive") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def names(path: Path, items: list[Item]) -> list[str]:
    return [item.photo.removeprefix(f"{path}/") for item in items]


def codes(items: list[Item], limits: Limits | None = None) -> list[str | None]:
    """What comes of reading each: None, or the code of its error."""
    found: list[str | None] = []
    for item in items:
        try:
            item.read(limits or Limits())
        except errors.PhotoError as error:
            found.append(error.code)
        else:
            found.append(None)
    return found


# --- Sound ones -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
@pytest.mark.parametrize("kind", PACK)
def test_tars(tmp_path: Path, form: int, kind: str) -> None:
    path = put(tmp_path, PACK[kind](tar({**PHOTOS, **OTHERS, "last.gif": b"GIF"}, form)))
    left_out: Counter[str] = Counter()
    items = list(find([path], left_out=left_out))
    assert names(path, items) == [*PHOTOS, "last.gif"]
    assert [item.read() for item in items] == [*PHOTOS.values(), b"GIF"]
    assert left_out == {"other": 1, "hidden": 3, "archive": 1}
    assert [item.held for item in items] == [0 if kind == "tar" else len(item.read()) for item in items]
    if kind == "tar":
        assert all(len(pickle.dumps(item)) < 2000 for item in items)
        assert pickle.loads(pickle.dumps(items[1])).read() == JPEG
    assert names(path, list(find([path], include=["a/**", "last*"], exclude=["line*"]))) == [
        "a/b.JPG", "a/empty.jpg", "last.gif",
    ]  # fmt: skip


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zips(tmp_path: Path, method: int) -> None:
    photos = {name: data for name, data in PHOTOS.items() if "\udce9" not in name}
    path = put(tmp_path, zipped({**photos, "folder.jpg/": b"", **OTHERS}, method))
    left_out: Counter[str] = Counter()
    items = list(find([path], left_out=left_out))
    assert names(path, items) == list(photos)
    assert [pickle.loads(pickle.dumps(item)).read() for item in items] == list(photos.values())
    assert left_out == {"other": 1, "hidden": 3, "archive": 1} and not any(item.held for item in items)
    assert names(path, list(find([path], include=["z*"]))) == ["z.png"]


def test_an_old_tar_without_a_magic_word(tmp_path: Path) -> None:
    header = bytearray(info("a.png", size=len(PNG)).tobuf())
    header[257:500] = bytes(243)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (item,) = find([put(tmp_path, bytes(header) + PNG + bytes(-len(PNG) % 512) + END)])
    assert item.read() == PNG


def test_what_is_an_archive_its_content_says(tmp_path: Path) -> None:
    inside = {"x.png": PNG}
    for name, data in {"a.jpg": tar(inside), "b.png": zipped(inside), "c": gzip.compress(tar(inside))}.items():
        path = put(tmp_path, data, name)
        assert [item.photo for item in find([path])] == [f"{path}/x.png"]
    for name, data in {
        "photo.zip": PNG,
        "photo.tar": JPEG,
        "plain.gz": gzip.compress(PNG),
        "plain.xz": lzma.compress(PNG * 3),
        "zeros.tar": bytes(10240),
        "empty.tar": b"",
        "text.zip": b"PK is a name",
        "cut.gz": gzip.compress(tar(inside))[:12],
        "odd.bz2": b"BZh9 no, it is not",
    }.items():
        path = put(tmp_path, data, name)
        assert [(item.photo, item.read()) for item in find([path])] == [(str(path), data)]


def test_in_a_folder_archives_are_counted_only(tmp_path: Path) -> None:
    put(tmp_path, zipped({"x.png": PNG}), "a.zip")
    left_out: Counter[str] = Counter()
    assert list(find([tmp_path], left_out=left_out)) == [] and left_out == {"archive": 1}


@pytest.mark.parametrize("kind", ["RAR", "7z", "Zstandard"])
def test_archives_of_other_kinds_are_called_by_their_name(tmp_path: Path, kind: str) -> None:
    magic = next(magic for magic, name in archives._FOREIGN.items() if name == kind)
    (item,) = find([put(tmp_path, magic + bytes(100))])
    with pytest.raises(errors.UnsupportedFormatError, match=kind):
        item.read()


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_compressed_in_several_pieces(tmp_path: Path, kind: str) -> None:
    """As pigz, pbzip2 and `cat` make them."""
    data, at = tar({"a.png": PNG, "b.png": PNG}), 700
    pieces = [PACK[kind](data[:at]), PACK[kind](b""), PACK[kind](data[at:])]
    items = list(find([put(tmp_path, b"".join(pieces))]))
    assert [item.read() for item in items] == [PNG, PNG]


def test_the_same_name_twice_is_two_photos(tmp_path: Path) -> None:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as archive:
        warnings.simplefilter("ignore")
        for data in (PNG, JPEG):
            archive.writestr("a.png", data)
    twice = block("a.png", size=len(PNG), data=PNG) + block("a.png", size=len(JPEG), data=JPEG) + END
    for data in (out.getvalue(), twice):
        assert [item.read() for item in find([put(tmp_path, data)])] == [PNG, JPEG]


def test_names_of_zips(tmp_path: Path) -> None:
    for name, flags, system, wanted in [
        ("é.png".encode(), 0x800, 3, "é.png"),
        ("é.png".encode(), 0, 3, "é.png"),
        (b"\x82.png", 0, 0, "é.png"),  # code page 437
        (b"\x82.png", 0x800, 3, "\udc82.png"),
        (b"a\\b.png", 0, 0, "a/b.png"),
        (b"a\\b.png", 0, 3, "a\\b.png"),
        (b"a.png\0.txt", 0, 3, "a.png"),
        (b"//a/./b.png", 0, 3, "a/b.png"),
    ]:
        path = put(tmp_path, one_stored(name, flags, system))
        (item,) = find([path])
        assert names(path, [item]) == [wanted] and item.read() == b"x"
    assert list(find([put(tmp_path, one_stored(b"folder.png/"))])) == []
    for name, system in [(b"../a.png", 3), (b"a/../../b.png", 3), (b"..\\a.png", 0)]:
        (item,) = find([put(tmp_path, one_stored(name, 0, system))])
        assert item.error and item.error.code == "photo-unreadable"


def test_zip64_and_a_comment_that_looks_like_an_end(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipfile, "ZIP64_LIMIT", 10)
        patch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
        data = zipped({"a.png": PNG, "b.png": JPEG}, zipfile.ZIP_STORED)
    assert b"PK\6\6" in data and b"PK\6\7" in data
    assert [item.read() for item in find([put(tmp_path, data)])] == [PNG, JPEG]
    for comment in (b"hello", b"PK\5\6" * 20, b"PK\5\6" + bytes(18) + b"x", b"x" * 65535):
        out = io.BytesIO(zipped({"a.png": PNG}))
        with zipfile.ZipFile(out, "a") as archive:
            archive.comment = comment
        assert [item.read() for item in find([put(tmp_path, out.getvalue())])] == [PNG]


# --- Hostile ones: tar -------------------------------------------------------------------------------


def test_names_that_lead_out_of_a_tar(tmp_path: Path) -> None:
    files = ["/etc/a.png", "./b.png", "../c.png", "x/../../d.png", "x/../e.png", "//f.png"]
    path = put(tmp_path, b"".join(block(name, size=len(PNG), data=PNG) for name in files) + END)
    items = list(find([path]))
    assert names(path, items) == ["etc/a.png", "b.png", "../c.png", "x/../../d.png", "x/../e.png", "f.png"]
    bad = "photo-unreadable"
    assert codes(items) == [None, None, bad, bad, bad, None]
    assert sorted(tmp_path.iterdir()) == [path]


def test_links_and_devices_of_archives(tmp_path: Path) -> None:
    kinds = [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
    data = b"".join(block(f"{kind.decode()}.png", kind, size=512) for kind in kinds)  # a size without bytes
    left_out: Counter[str] = Counter()
    items = list(find([put(tmp_path, data + block("a.png", size=len(PNG), data=PNG) + END)], left_out=left_out))
    assert [item.read() for item in items] == [PNG] and left_out == {"link": 2, "other": 3}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        kinds_of = {"l.png": stat.S_IFLNK, "f.png": stat.S_IFIFO, "d.png": stat.S_IFDIR, "a.png": stat.S_IFREG}
        for name, mode in kinds_of.items():
            member = zipfile.ZipInfo(name)
            member.create_system, member.external_attr = 3, (mode | 0o644) << 16
            archive.writestr(member, PNG)
    left_out.clear()
    items = list(find([put(tmp_path, out.getvalue())], left_out=left_out))
    assert [item.read() for item in items] == [PNG] and left_out == {"link": 1, "other": 1}


@pytest.mark.parametrize("kind", PACK)
def test_sparse_members(tmp_path: Path, kind: str) -> None:
    header = bytearray(block("a.png", tarfile.GNUTYPE_SPARSE, size=512))
    header[482] = 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    more = bytes(504) + b"\1" + bytes(7)
    old = bytes(header) + more + bytes(512) + PNG[:512].ljust(512, b"\0")
    record = b"28 GNU.sparse.name=real.png\n"
    new = block("x", tarfile.XHDTYPE, size=28, data=record) + block("GNUSparseFile.1/a.png", size=5, data=b"12345")
    path = put(tmp_path, PACK[kind](old + new + block("b.png", size=len(PNG), data=PNG) + END))
    items = list(find([path]))
    assert names(path, items) == ["a.png", "real.png", "b.png"]
    assert codes(items) == ["unsupported-format", "unsupported-format", None]


def pax(*records: bytes) -> bytes:
    body = b"".join(records)
    return block("x", tarfile.XHDTYPE, size=len(body), data=body)


@pytest.mark.parametrize(
    "header",
    [
        block("x", tarfile.XHDTYPE, size=2 << 20, data=bytes(2 << 20)),
        block("x", tarfile.GNUTYPE_LONGNAME, size=2 << 20, data=b"x" * (2 << 20)),
        block("x", tarfile.GNUTYPE_LONGLINK, size=2 << 20, data=b"x" * (2 << 20)),
        pax(b"9999 path=a.png\n"),
        pax(b"0 path=a.png\n"),
        pax(b"-5 path=a.png\n"),
        pax(b"5 path=a.png\n"),
        pax(b"x path=a.png\n"),
        pax(b"1" * 5000 + b" path=a.png\n"),
        pax(b"10 path=ab"),
        pax(b"9 pathab\n"),
        pax(b"11 size=xx\n"),
        pax(b"11 size=-1\n"),
        b"x" * 512,
        info("a.png").tobuf(tarfile.GNU_FORMAT).replace(b"00000000000\0", b"\xff" * 12, 1),
    ],
)
@pytest.mark.parametrize("kind", PACK)
def test_broken_headers_end_a_tar_with_one_error(tmp_path: Path, header: bytes, kind: str) -> None:
    good = block("a.png", size=len(PNG), data=PNG)
    path = put(tmp_path, PACK[kind](good + header + good + END))
    items = list(find([path]))
    assert [item.photo for item in items] == [f"{path}/a.png", str(path)]
    assert codes(items) == [None, "corrupt-photo"]


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_a_compressed_tar_that_is_damaged_in_the_middle(tmp_path: Path, kind: str) -> None:
    noise = random.Random(1).randbytes(1_500_000)  # bzip2 checks blocks of 900 kB
    data = PACK[kind](tar({"a.png": noise, "b.png": noise, "c.png": noise}))
    path = put(tmp_path, changed(data, len(data) * 3 // 5, b"\xff" * 4000))
    items = list(find([path]))
    assert items[-1].photo == str(path)  # gzip and xz see it by their checksum only, when all has been handed out
    assert items[-1].error and items[-1].error.code == "corrupt-photo"


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_a_tar_that_was_cut_before_it_was_compressed(tmp_path: Path, kind: str) -> None:
    for length in (512 + 10, 512 + len(PNG), 100):
        path = put(tmp_path, PACK[kind](block("b.txt") + block("a.png", size=len(PNG), data=PNG)[:length]))
        items = list(find([path]))
        assert items[-1].photo == str(path) and codes(items)[-1] == "corrupt-photo"
        assert all(each.read() == PNG for each in items[:-1])


def test_names_that_look_like_photos_do_not_hide_a_tar(tmp_path: Path) -> None:
    for name in ("BMW.png", "GIF89a.png"):
        assert [item.read() for item in find([put(tmp_path, tar({name: PNG}))])] == [PNG]


def test_a_file_that_has_nothing_to_say_yet_is_no_archive() -> None:
    class NotYet(io.RawIOBase):
        def read(self, size: int = -1) -> None:  # type: ignore[override]
            return None

    assert archives._kind(NotYet()) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", PACK)
def test_a_tar_that_ends_in_the_map_of_a_sparse_file(tmp_path: Path, kind: str) -> None:
    header = bytearray(block("a.png", tarfile.GNUTYPE_SPARSE, size=512))
    header[482] = 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert codes(list(find([put(tmp_path, PACK[kind](bytes(header) + b"\1" * 100))]))) == ["corrupt-photo"]


def test_a_file_that_shrinks_under_its_reader() -> None:
    with pytest.raises(errors.CorruptPhotoError):
        exactly(io.BytesIO(b"ab"), 3)
    with pytest.raises(errors.CorruptPhotoError):
        zips._Table(io.BytesIO(b"ab"), 0, 10).take(5)


def negative(name: str) -> bytes:
    header = bytearray(info(name).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 11 + b"\0"  # -256 in base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def test_sizes_that_cannot_be(tmp_path: Path) -> None:
    good = block("a.png", size=len(PNG), data=PNG)
    for header, code in [
        (negative("b.png"), "corrupt-photo"),
        (block("b.png", size=1 << 62), "corrupt-photo"),
        (block("b.txt", size=1 << 62), "corrupt-photo"),
        (pax(b"28 size=9223372036854775807\n"), "corrupt-photo"),
    ]:
        assert codes(list(find([put(tmp_path, good + header + good + END)]))) == [None, code]
    size = b"%d\n" % len(PNG)
    extended = pax(b"%d size=" % (len(size) + 8) + size)  # the member's own size is wrong, this one right
    assert len(size) + 8 >= 10
    items = list(find([put(tmp_path, extended + block("b.png", size=3, data=PNG) + good + END)]))
    assert [item.read() for item in items] == [PNG, PNG]


def test_headers_without_end_take_no_memory_and_no_stack(tmp_path: Path) -> None:
    path = put(tmp_path, (pax(b"14 path=b.png\n") + block("n", b"g", size=0)) * 5_000 + block("a.png", size=0) + END)
    tracemalloc.start()
    try:
        items = list(find([path]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(items) == 1 and peak < 1 << 20


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_of_many_members_is_walked_in_bounded_memory(tmp_path: Path, kind: str) -> None:
    count = 5_000
    data = one_stored(b"a.jpg", count=count, data=b"") if kind == "zip" else block("a.jpg") * count + END
    path = put(tmp_path, data)
    tracemalloc.start()
    try:
        found = sum(1 for item in find([path]) if item.error is None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == count and peak < 1 << 20


def test_a_count_of_more_members_than_its_field_can_hold(tmp_path: Path) -> None:
    path = put(tmp_path, one_stored(b"a.jpg", count=65_537, data=b""))
    assert Counter(item.error is None for item in find([path])) == {True: 65_537}


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_a_compressed_tar_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    data = block("a.png", size=len(PNG), data=PNG) + block("b.mov", size=24 << 20) + bytes(24 << 20) + END
    path = put(tmp_path, PACK[kind](data))
    assert codes(list(find([path]))) == [None]
    monkeypatch.setattr(streams, "_FREE", 8 << 20)
    tracemalloc.start()
    try:
        items = list(find([path]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert codes(items) == [None, "photo-too-large"] and items[1].photo == str(path) and peak < 16 << 20


def test_an_xz_that_asks_for_too_much_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, lzma.compress(tar({"a.png": PNG}), preset=9))
    assert codes(list(find([path]))) == [None]
    monkeypatch.setattr(streams, "_XZ_MEMORY", 1 << 20)
    assert [item.photo for item in find([path])] == [str(path)]


@pytest.mark.parametrize("kind", PACK)
def test_the_limit_of_bytes_holds_in_a_tar(tmp_path: Path, kind: str) -> None:
    path = put(tmp_path, PACK[kind](tar({"a.png": PNG, "b.png": PNG + b"x", "c.png": PNG})))
    limits = Limits(file_bytes=len(PNG))
    items = list(find([path], limits=limits))
    assert codes(items, limits) == [None, "photo-too-large", None] and not items[1].held
    assert items[0].read(limits) == PNG
    assert codes(items, Limits(file_bytes=10)) == ["photo-too-large"] * 3


# --- Hostile ones: ZIP -------------------------------------------------------------------------------


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def table_of(data: bytes, number: int = 0) -> int:
    at = data.index(b"PK\1\2")
    for _ in range(number):
        at = data.index(b"PK\1\2", at + 4)
    return at


def test_members_that_are_not_read_are_errors_of_their_own(tmp_path: Path) -> None:
    whole = zipped({"a.png": PNG, "b.png": PNG, "c.png": PNG}, zipfile.ZIP_DEFLATED)
    at, local = table_of(whole, 1), whole.index(b"PK\3\4", 4)
    size = struct.pack("<I", len(PNG) - 1)
    for data, code in [
        (changed(whole, at + 8, b"\1\0"), "photo-unreadable"),  # encrypted
        (changed(whole, at + 8, b"\x40\0"), "photo-unreadable"),  # strongly
        (changed(whole, at + 10, b"\x0c\0"), "unsupported-format"),  # bzip2
        (changed(whole, at + 10, b"\0\0"), "corrupt-photo"),  # not stored
        (changed(whole, at + 16, b"abcd"), "corrupt-photo"),  # another checksum
        (changed(whole, at + 24, size), "corrupt-photo"),  # smaller than it says
        (changed(whole, at + 24, struct.pack("<I", len(PNG) + 1)), "corrupt-photo"),  # larger
        (changed(whole, at + 24, struct.pack("<I", 1 << 31)), "photo-too-large"),
        (changed(whole, at + 20, b"\1\0\0\0"), "corrupt-photo"),  # less of it
        (changed(whole, at + 42, struct.pack("<I", len(whole) - 5)), "corrupt-photo"),  # elsewhere
        (changed(whole, at + 42, struct.pack("<I", 0xFFFFFFF0)), "corrupt-photo"),
        (changed(whole, local, b"PK\3\5"), "corrupt-photo"),
        (changed(whole, local + 26, b"\xff\xff\xff\xff"), "corrupt-photo"),
        (changed(whole, local + 50, b"\xff" * 50), "corrupt-photo"),
        (changed(whole, local + 35, b"\xff"), "corrupt-photo"),  # no kind of block that deflate has
    ]:
        items = list(find([put(tmp_path, data)]))
        assert codes(items) == [None, code, None], code


def test_a_broken_table_is_one_error(tmp_path: Path) -> None:
    whole = zipped({"a.png": PNG, "b.png": PNG})
    at, end = table_of(whole), whole.index(b"PK\5\6")
    for data, good in [
        (whole[:-1], 0),
        (whole[:at], 0),
        (whole[:200], 0),
        (changed(whole, at, b"x"), 0),
        (changed(whole, table_of(whole, 1), b"x"), 1),
        (changed(whole, at + 28, b"\xff\xff"), 0),  # a name of 65,535 bytes
        (changed(whole, end + 4, b"\1\0"), 0),  # a part of several
        (changed(whole, end + 10, b"\3\0"), 0),
        (changed(whole, end + 8, b"\3\0\3\0"), 2),  # three, it says
        (changed(whole, end + 12, b"\xff\xff\xff\xff"), 0),
        (changed(whole, end + 12, b"\x10\0\0\0"), 0),
        (changed(whole, end + 16, b"\0\0\0\0"), 0),
        (changed(whole, end + 16, b"\xff\xff\xff\x7f"), 0),
        (whole[:end] + struct.pack("<4sIQI", b"PK\6\7", 0, 1 << 63, 1) + whole[end:], 0),
        (whole[:end] + struct.pack("<4sIQI", b"PK\6\7", 0, 0, 1) + whole[end:], 0),
        (changed(whole, at + 20, b"\xff\xff\xff\xff" * 2), 0),  # ZIP64 sizes, which are nowhere
    ]:
        path = put(tmp_path, data)
        items = list(find([path]))
        assert codes(items) == [None] * good + ["corrupt-photo"], data[at:]
        assert items[-1].photo == str(path)
        assert str(tmp_path) not in str(items[-1].error)


def test_a_stored_member_cannot_claim_memory(tmp_path: Path) -> None:
    data = one_stored(b"a.png")
    path = put(tmp_path, changed(data, table_of(data) + 24, struct.pack("<I", 200 << 20)))
    tracemalloc.start()
    try:
        assert codes(list(find([path]))) == ["corrupt-photo"]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_header_further_off_than_any_file_is_long(tmp_path: Path) -> None:
    data = one_stored(b"a.png")
    at, end = table_of(data), data.index(b"PK\5\6")
    extra = struct.pack("<2HQ", 1, 8, 1 << 63)
    entry = changed(changed(data[at:end], 30, b"\x0c\0"), 42, b"\xff" * 4) + extra
    for wrong in (entry, changed(entry, len(entry) - 10, b"\0\0")):  # too far; and not told how far
        whole = data[:at] + wrong + changed(data[end:], 12, struct.pack("<I", len(wrong)))
        assert codes(list(find([put(tmp_path, whole)]))) == ["corrupt-photo"]


def test_an_end_that_is_none(tmp_path: Path) -> None:
    data = one_stored(b"a.png", data=bytes(100))
    end = data.index(b"PK\5\6")
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, 36, 1)  # zeros, which would say: no members
    assert codes(list(find([put(tmp_path, data[:end] + locator + data[end:])]))) == ["corrupt-photo"]


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    """A small file could else stand for endless photos, each inflated for nothing."""
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = bomb.compress(bytes(20 << 20)) + bomb.flush()
    crc = zlib.crc32(bytes(20 << 20))
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(packed), 20 << 20, 5, 0) + b"a.png" + packed
    one = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, len(packed), 20 << 20, 5, 0, 0, 0, 0, 0, 0)
    table = (one + b"a.png") * 5000
    data = local + table + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 5000, 5000, len(table), len(local), 0)
    items = list(find([put(tmp_path, data)]))
    assert len(items) < 20 and items[-1].error and items[-1].error.code == "corrupt-photo"
    tracemalloc.start()
    try:
        assert codes(items[:1], Limits(file_bytes=(20 << 20) - 1)) == ["photo-too-large"]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    liar = changed(data, data.index(b"PK\1\2") + 24, struct.pack("<I", 100))
    tracemalloc.start()
    try:
        assert codes(list(find([put(tmp_path, liar)]))[:1]) == ["corrupt-photo"]
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


# --- Broken ones of any kind --------------------------------------------------------------------------

ALL: dict[str, bytes] = {
    **{kind: pack(tar({"a.png": PNG, "n.txt": b"n" * 700, "b/c.jpg": JPEG})) for kind, pack in PACK.items()},
    "zip": zipped({"a.png": PNG, "n.txt": b"n" * 700, "b/c.jpg": JPEG}),
}
WHOLE = [PNG, JPEG]


@pytest.mark.parametrize("kind", ALL)
def test_cut_anywhere(tmp_path: Path, kind: str) -> None:
    """What came before is right, and that something is missing is said, but where only the end mark's zeros are."""
    data = ALL[kind]
    for length in sorted({*range(1, len(data), 211), *range(len(data) - 40, len(data))}):
        path = put(tmp_path, data[:length])
        items = list(find([path]))
        *good, last = items
        assert [item.read() for item in good] == WHOLE[: len(good)]
        if last.photo == str(path):
            assert last.error is not None or len(good) == 0
        else:
            assert len(good) == 1 and last.read() == JPEG
            assert kind != "zip" and length > len(data) - 10_240


@pytest.mark.parametrize("kind", ALL)
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_mutants_never_raise(tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(ALL[kind])
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data))
        match chance.randrange(3):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                data[at : at + chance.randrange(9)] = chance.randbytes(chance.randrange(9))
            case _:
                at = max(0, len(data) - 1 - chance.randrange(120)) if kind == "zip" else at // 512 * 512 + 124
                data[at : at + 1] = chance.choice([b"\0", b"\xff", b"\x80", b"7"])
    path = tmp_path_factory.getbasetemp() / "mutant"
    path.write_bytes(data)
    tracemalloc.start()
    start = time.process_time()
    try:
        items = list(find([path]))
        codes(items)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(items) <= 3 and peak < 16 << 20 and time.process_time() - start < 5


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_that_changes_while_it_is_read(tmp_path: Path, kind: str) -> None:
    path = put(tmp_path, ALL[kind])
    first, second = find([path])
    assert first.read() == PNG
    os.utime(path, (1, 1))
    with pytest.raises(errors.PhotoUnreadableError, match="changed"):
        second.read()
    path.unlink()
    with pytest.raises(errors.PhotoNotFoundError):
        second.read()
    path.mkdir()
    with pytest.raises(errors.PhotoUnreadableError):
        second.read()


def test_an_archive_that_goes_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, ALL["tar"])
    real = archives.kind

    def gone(name: str) -> Any:
        found = real(name)
        path.unlink()
        return found

    monkeypatch.setattr(archives, "kind", gone)
    (item,) = find([path])
    assert item.photo == str(path) and item.error and item.error.code == "photo-not-found"


def test_a_failing_disk_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, ALL["tar"])

    def fail(*_: object) -> bytes:
        raise OSError(5, "broken")

    monkeypatch.setattr(archives.tars, "entries", fail)
    (item,) = find([path])
    assert item.error and item.error.code == "photo-unreadable"


def test_an_abandoned_walk_closes_its_archive(tmp_path: Path) -> None:
    for kind, data in ALL.items():
        walk = find([put(tmp_path, data, kind)])
        next(walk)
        walk.close()  # type: ignore[attr-defined]
    assert not [link for link in Path("/proc/self/fd").glob("*") if str(tmp_path) in str(link.resolve())]


@pytest.mark.parametrize("made", [tar, zipped])
def test_another_machine_may_number_the_archive_otherwise(made: Callable[..., bytes], tmp_path: Path) -> None:
    """An inode says nothing on a file system that another machine has mounted; size and time of change do."""
    path = put(tmp_path, made({"a.png": PNG}))
    (item,) = find([str(path)])
    copy, before = path.with_name("copy"), path.stat()
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    copy.replace(path)
    assert path.stat().st_ino != before.st_ino and item.read() == PNG
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(errors.PhotoUnreadableError, match="has changed"):
        item.read()
