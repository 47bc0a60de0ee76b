"""Models in one archive, and back: the round trip, and archives that were made to do harm."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import photolabel
from photolabel import artefacts, bundles, keeping, models
from photolabel.errors import DiskFullError, HashMismatchError, InvalidBundleError, OutputError, UsageError
from photolabel.labels import Label
from photolabel.store import Store

import oracle
import servers
from oracle import tiny_model

PHOTO = np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)
CANARY = "CANARY.txt"


@pytest.fixture
def kept(tiny: Path) -> Path:
    return keeping.bring("mine", tiny)


@pytest.fixture
def archive(kept: Path, tmp_path: Path) -> Path:
    bundles.bundle(tmp_path / "out.tar")
    return tmp_path / "out.tar"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make another cache, as on another machine, the one in use when called for."""
    folder = tmp_path / "elsewhere" / "cache"
    folder.parent.mkdir()
    return folder


def files(folder: Path) -> list[str]:
    """All under `folder` but locks."""
    return sorted(str(x.relative_to(folder)) for x in folder.rglob("*") if x.is_file() and not x.name.endswith(".lock"))


def members(path: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(path) as file:
        return [(each, file.extractfile(each).read()) for each in file]  # type: ignore[union-attr]


def rewritten(
    path: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], Any], *, form: int = tarfile.USTAR_FORMAT
) -> Path:
    parts = members(path)
    parts = change(parts) or parts
    with tarfile.open(path, "w", format=form) as file:
        for info, data in parts:
            file.addfile(info, io.BytesIO(data))
    return path


def manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], Any]:
    def apply(parts: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        value = json.loads(parts[0][1])
        data = json.dumps(change(value) or value).encode()
        parts[0][0].size = len(data)
        parts[0] = (parts[0][0], data)

    return apply


# -- the round trip


def test_an_imported_model_travels(archive: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with photolabel.load("mine") as classifier:
        here = classifier.classify(PHOTO, top=None)
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(elsewhere))
    assert bundles.unbundle(archive) == [("mine", True)]
    with photolabel.load("mine") as classifier:
        there = classifier.classify(PHOTO, top=None)
    assert there.record() == here.record() and there.model == "mine"
    assert bundles.unbundle(archive) == [("mine", False)], "twice does no harm"


def test_an_archive_that_cannot_be_written(kept: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written: No such file or directory"):
        bundles.bundle(tmp_path / "missing" / "x.tar")


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> models.Model:
    """A known model `tiny`, its network in the cache."""
    model = replace(tiny_model(), weights=servers.asset("http://127.0.0.1:9/", body=b"x", name="tiny.h5"))
    table = {**models.known(), "tiny": model}
    monkeypatch.setattr(models, "known", lambda: table)
    with Store().create(artefacts.published_name(model)) as file:
        file.write(oracle.tiny_onnx())
    return model


def test_a_known_model_travels(
    known: models.Model, tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles.bundle(tmp_path / "x.tar", ["tiny"])
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(elsewhere))
    assert not artefacts.available(known)
    assert bundles.unbundle(tmp_path / "x.tar") == [("tiny", True)]
    assert artefacts.available(known), "and without a network"
    with photolabel.load("tiny") as classifier:
        assert classifier.classify(PHOTO).labels


def test_a_known_name_brings_its_own_labels(
    known: models.Model, tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive must not be able to give VGG16 other names for its classes."""
    labels = tuple(Label(i, None, f"wrong {i}") for i in range(10))
    with Store().create(artefacts.published_name(known)) as file:
        file.write(oracle.tiny_onnx(model=replace(tiny_model(), labels=labels)))
    bundles.bundle(tmp_path / "x.tar", ["tiny"])
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(elsewhere))
    with pytest.raises(InvalidBundleError, match="does not describe itself as this"):
        bundles.unbundle(tmp_path / "x.tar")
    assert files(elsewhere) == []


def test_the_same_models_give_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    time.sleep(1.1)  # a date in it would differ
    bundles.bundle(tmp_path / "again.tar", ["mine"])
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()
    parts = members(archive)
    names = [info.name for info, _ in parts]
    assert names == ["manifest.json", "models/mine.onnx", "licences/MODELS.txt", "licences/WORDNET-LICENSE.txt"]
    assert {(info.mtime, info.uid, info.gid, info.uname, info.gname) for info, _ in parts} == {(0, 0, 0, "", "")}
    assert b"CC0" in parts[2][1]
    for item, (_, data) in zip(json.loads(parts[0][1])["files"], parts[1:], strict=True):
        assert item["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}" and item["size"] == len(data)


@pytest.mark.parametrize(
    ("out", "names", "says"),
    [
        ("vgg16", ["x.tar"], "ending in .tar"),
        ("x.tar", ["nope"], "only a known or an imported"),
        ("x.tar", ["../mine"], "only a known or an imported"),
        ("x.tar", [models.BUNDLED], "comes with photolabel"),
        ("x.tar", [], "no model here"),
    ],
)
def test_what_cannot_be_bundled(tmp_path: Path, out: str, names: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        bundles.bundle(tmp_path / out, names)
    assert files(tmp_path) == []


def test_a_damaged_model_is_not_bundled(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing disk: nothing that stat tells has changed."""
    (tmp_path / "x.tar").write_bytes(b"the old one")
    original = os.read
    monkeypatch.setattr(os, "read", lambda *a: original(*a).replace(b"class_3", b"class_4"))
    with pytest.raises(HashMismatchError, match="models verify mine"):
        bundles.bundle(tmp_path / "x.tar", ["mine"])
    assert files(tmp_path) == ["x.tar"] and (tmp_path / "x.tar").read_bytes() == b"the old one"


# -- hostile archives


def member(name: str, data: bytes = b"harm", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def insert(*extra: tuple[tarfile.TarInfo, bytes], at: int = 1) -> Callable[[Any], Any]:
    return lambda parts: parts[:at] + list(extra) + parts[at:]


def field(index: int = 0, **values: Any) -> Callable[[Any], Any]:
    return manifest(lambda value: value["files"][index].update(values))


def renamed(name: str) -> Callable[[Any], Any]:
    """The model of another name, in the manifest and as a member."""

    def apply(parts: Any) -> None:
        field(model=name, file=f"models/{name}.onnx")(parts)
        parts[1][0].name = f"models/{name}.onnx"

    return apply


def typed(kind: bytes, **fields: Any) -> Callable[[Any], Any]:
    def apply(parts: Any) -> None:
        info = parts[1][0]
        info.type = kind
        for key, value in fields.items():
            setattr(info, key, value)

    return apply


def flipped(parts: Any) -> None:
    data = bytearray(parts[1][1])
    data[len(data) // 2] ^= 1
    parts[1] = (parts[1][0], bytes(data))


def of(data: bytes) -> Callable[[Any], Any]:
    """Another file as the model, its hash right."""

    def apply(parts: Any) -> None:
        parts[1] = (parts[1][0], data)
        parts[1][0].size = len(data)
        field(size=len(data), digest=f"sha256:{hashlib.sha256(data).hexdigest()}")(parts)

    return apply


def outside() -> bytes:
    """A network that takes a weight from another file."""
    model = onnx.load_from_string(oracle.tiny_onnx())
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return model.SerializeToString()  # type: ignore[no-any-return]


def text_as_manifest(data: bytes) -> Callable[[Any], Any]:
    def apply(parts: Any) -> None:
        parts[0] = (parts[0][0], data)
        parts[0][0].size = len(data)

    return apply


HOSTILE: dict[str, Callable[[Any], Any]] = {
    **{
        f"a member {name!r}": insert(member(name))
        for name in ("../CANARY.txt", "/tmp/CANARY.txt", "models/../../CANARY.txt", "CANARY.txt", "..\\CANARY.txt")
    },
    **{f"a model {name!r}": renamed(name) for name in ("../CANARY", "/CANARY", "a/b", "..", "", "a\\b", "vgg16x.onnx")},
    "the bundled model": renamed(models.BUNDLED),
    "a known model by another case": renamed("VGG16"),
    "an imported model as a known one": renamed("vgg16"),
    "a link": typed(tarfile.SYMTYPE, linkname="/etc/passwd", size=0),
    "a hard link": typed(tarfile.LNKTYPE, linkname="manifest.json", size=0),
    "a device": typed(tarfile.CHRTYPE, devmajor=1, devminor=5, size=0),
    "a pipe": typed(tarfile.FIFOTYPE, size=0),
    "a folder": typed(tarfile.DIRTYPE, size=0),
    "a contiguous file": typed(tarfile.CONTTYPE),
    "a link before it": insert(member("models", b"", type=tarfile.SYMTYPE, linkname="/")),
    "a sparse file": typed(tarfile.GNUTYPE_SPARSE),
    "a member twice": lambda parts: [*parts[:2], parts[1], *parts[2:]],
    "a member twice at the end": lambda parts: [*parts, parts[1]],
    "a member too many at the end": insert(member("more.txt"), at=4),
    "a member missing": lambda parts: [parts[0], *parts[2:]],
    "the last one missing": lambda parts: parts[:-1],
    "another order": lambda parts: [parts[0], parts[2], parts[1], parts[3]],
    "no manifest": lambda parts: parts[1:],
    "the manifest last": lambda parts: [*parts[1:], parts[0]],
    "a wrong byte": flipped,
    "a wrong hash": field(digest="sha256:" + 64 * "0"),
    "a wrong hash of a licence": field(1, digest="sha256:" + 64 * "0"),
    "another algorithm": field(digest="md5:" + 32 * "0"),
    "a smaller size": field(size=5),
    "a negative size": field(size=-1),
    "a huge size": field(size=10**15),
    "a size of half a byte": field(size=0.5),
    "a size that is true": field(size=True),
    "a model that is a number": field(model=5, file="models/5.onnx"),
    "a field more": field(more=1),
    "a licence above": field(1, file="licences/../../CANARY.txt"),
    "a file twice": manifest(lambda value: value["files"].insert(1, value["files"][0])),
    "a file twice by case": manifest(lambda v: v["files"].append({**v["files"][1], "file": "licences/models.txt"})),
    "another format": manifest(lambda value: value.update(format="photolabel-bundle/2")),
    "no models": manifest(lambda value: value.update(files=[])),
    "files of no list": manifest(lambda value: value.update(files={})),
    "a manifest of a list": text_as_manifest(b"[]"),
    "a manifest of nothing": text_as_manifest(b""),
    "a deep manifest": text_as_manifest(b"[" * 200_000),
    "a huge manifest": text_as_manifest(b" " * (bundles.MANIFEST_LIMIT + 1) + b"{}"),
    "a manifest of no UTF-8": text_as_manifest(b"\xff\xfe\xff"),
    "no network": of(b"no ONNX"),
    "a network without a description": of(onnx.ModelProto(ir_version=8).SerializeToString()),
    "a network that reads other files": of(outside()),
}  # fmt: skip


@pytest.mark.parametrize("harm", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_archive_leaves_nothing(
    archive: Path, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Any], Any]
) -> None:
    rewritten(archive, harm)
    before = files(tmp_path)
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(elsewhere))
    monkeypatch.chdir(elsewhere.parent)
    with pytest.raises(InvalidBundleError) as caught:
        bundles.unbundle(archive)
    assert len(str(caught.value)) < 500
    assert files(tmp_path) == before and not list(tmp_path.rglob("CANARY*"))
    assert not Path("/tmp/CANARY.txt").exists()


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_extended_headers_are_not_read(
    archive: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, form: int
) -> None:
    rewritten(archive, insert(member("x" * 300)), form=form)
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(elsewhere))
    with pytest.raises(InvalidBundleError, match="expected models/mine.onnx"):
        bundles.unbundle(archive)


def header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)  # which can say any size


@pytest.mark.parametrize("size", [2**40, 2**62, -1, -(2**40)])
@pytest.mark.parametrize("name", ["manifest.json", "models/mine.onnx"])
def test_a_huge_size_is_not_believed(
    archive: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, size: int, name: str
) -> None:
    data = archive.read_bytes()
    at = 0 if name == "manifest.json" else data.index(name.encode() + b"\0" * 20)
    archive.write_bytes(data[:at] + header(name, size) + data[at + 512 :])
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(elsewhere))
    with pytest.raises(InvalidBundleError):
        bundles.unbundle(archive)
    assert files(elsewhere) == []


def test_every_cut_is_seen(archive: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = archive.read_bytes()
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(elsewhere))
    end = len(data) - 1024  # the two blocks that close an archive; one of them will do
    for cut in [*range(0, end, 4999), end - 1, end, end + 511]:
        archive.write_bytes(data[:cut])
        with pytest.raises(InvalidBundleError):
            bundles.unbundle(archive)
        assert files(elsewhere) == []
    archive.write_bytes(data[: end + 512])
    assert bundles.unbundle(archive) == [("mine", True)]


def test_all_or_nothing(tiny: Path, tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        keeping.bring(name, tiny)
    path = tmp_path / "two.tar"
    bundles.bundle(path)
    swap = manifest(lambda value: value["files"].__setitem__(slice(0, 2), value["files"][1::-1]))
    good = path.read_bytes()
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(elsewhere))
    rewritten(path, lambda parts: swap(parts) or [parts[0], parts[2], parts[1], *parts[3:]])
    with pytest.raises(InvalidBundleError, match="order"):
        bundles.unbundle(path)
    path.write_bytes(good)
    rewritten(path, field(1, digest="sha256:" + 64 * "0"))
    with pytest.raises(InvalidBundleError, match=r"models/b.onnx is damaged"):
        bundles.unbundle(path)
    assert files(elsewhere) == []
    path.write_bytes(good)
    assert bundles.unbundle(path) == [("a", True), ("b", True)]


def test_another_model_of_that_name_stays(archive: Path, tmp_path: Path) -> None:
    keeping.remove("mine")
    other = tmp_path / "other.onnx"
    other.write_bytes(oracle.tiny_onnx(oracle.he_normal(oracle.TINY, 9)))
    keeping.bring("mine", other)
    with pytest.raises(UsageError, match="models remove mine"):
        bundles.unbundle(archive)
    assert models.resolve("mine").path.read_bytes() == other.read_bytes()  # type: ignore[union-attr]


def test_too_little_room_is_said_first(archive: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(elsewhere))
    usage = bundles.shutil.disk_usage(archive)
    monkeypatch.setattr(bundles.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    monkeypatch.setattr(Store, "create", lambda *_: pytest.fail("begun"))
    with pytest.raises(DiskFullError, match="needed .* free 1,000"):
        bundles.unbundle(archive)


@pytest.mark.parametrize("what", ["missing", "a folder", "a pipe", "a name too long"])
def test_what_is_no_file(tmp_path: Path, what: str) -> None:
    path = tmp_path / ("x" * (5000 if what == "a name too long" else 5))
    if what == "a folder":
        path.mkdir()
    elif what == "a pipe":
        os.mkfifo(path)
    with pytest.raises(InvalidBundleError, match="no such file"):
        bundles.unbundle(path)


SLOW = """
import sys, time
from pathlib import Path
from photolabel import bundles, store
write = store.Writer.write
def slowly(self, data):
    for at in range(0, len(data), 4096):
        write(self, data[at:at + 4096])
        print("written", flush=True)
        time.sleep(0.01)
store.Writer.write = slowly
bundles.unbundle(Path(sys.argv[1]))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("after", [1, 4])
def test_a_killed_unbundle_leaves_nothing_under_a_good_name(
    archive: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(elsewhere))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(archive)], stdout=subprocess.PIPE, env=environment)
    assert process.stdout
    for _ in range(after):
        assert process.stdout.readline() == b"written\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = files(elsewhere)
    assert left.endswith(".tmp")
    with pytest.raises(photolabel.errors.UnknownModelError):
        photolabel.load("mine")
    gone, _ = keeping.clean()
    assert [x.path.name for x in gone] == [Path(left).name] and files(elsewhere) == []
    assert bundles.unbundle(archive) == [("mine", True)]
