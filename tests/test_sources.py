"""Files, folders and lists: which photos, in which order, and what is wrong with some."""

from __future__ import annotations

import errno
import io
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
import tracemalloc
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from photolabel import errors, images, sources
from photolabel.images import Limits
from photolabel.sources import Item, find, folders, listed, lists
from photolabel.sources.names import Pattern, is_hidden, is_photo

from costs import cheap
from pictures import PNG

posix = pytest.mark.skipif(sys.platform == "win32", reason="names, links and special files of POSIX")


def plant(top: Path, *names: str) -> Path:
    for name in names:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
    return top


def found(*where: str | Path, **options: Any) -> list[str]:
    """What is found, without the folder's own name where there is one only."""
    items = list(find(where, **options))
    assert not [item.error for item in items if item.error]
    start = f"{where[0]}/" if len(where) == 1 else ""
    return [item.photo.removeprefix(start) for item in items]


def error_of(item: Item) -> errors.PhotoError:
    with pytest.raises(errors.PhotoError) as caught:
        item.read()
    return caught.value


# --- Folders --------------------------------------------------------------------------------------


def test_a_folder_s_photos_and_nothing_else(tmp_path: Path) -> None:
    plant(
        tmp_path,
        "b.jpg", "B.JPG", "a/z.heic", "a/b/deep.jpeg", "c.JfIf", "album.png/inside.gif", "é.webp", "-rf.bmp",
        "a b.tiff", "x.mpo", "x.jpe", "x.tif", "x.avif", "x.heif",
        # other files
        "notes.txt", "b.xmp", "b.jpg.json", "IMG.aae", "jpg", "jpg.", "b.jpg.part", "film.mov", "b.jpg~",
        # archives
        "old.zip", "old.tar.gz",
        # hidden, and systems' own
        ".hidden.jpg", ".jpg", "._b.jpg", ".thumbnails/b.jpg", "@eaDir/b.jpg/SYNOPHOTO_THUMB_M.jpg", "a/@EADIR/b.jpg",
        "$RECYCLE.BIN/b.jpg", "System Volume Information/b.jpg", "__MACOSX/b.jpg", "lost+found/b.jpg", "Thumbs.db",
        "#recycle/b.jpg", "@Recycle/b.jpg", "desktop.ini",
    )  # fmt: skip
    left_out: Counter[str] = Counter()
    assert found(tmp_path, left_out=left_out) == [
        "-rf.bmp", "B.JPG", "a/b/deep.jpeg", "a/z.heic", "a b.tiff", "album.png/inside.gif", "b.jpg", "c.JfIf",
        "x.avif", "x.heif", "x.jpe", "x.mpo", "x.tif", "é.webp",
    ]  # fmt: skip
    assert left_out == {"other": 9, "archive": 2, "hidden": 14}


def test_what_is_named_is_taken_as_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plant(tmp_path, "a.txt", ".b", "@eaDir/c.jpg", ".d/e.jpg", "f.jpg"))
    named = ["f.jpg", "a.txt", Path(".b"), "@eaDir", ".d/", ".d//", "./f.jpg", "f.jpg"]
    assert found(*named, include=["none"], exclude=["f.jpg", "a.txt"]) == ["f.jpg", "a.txt", ".b", "./f.jpg", "f.jpg"]
    assert found(*named) == [
        "f.jpg", "a.txt", ".b", "@eaDir/c.jpg", ".d/e.jpg", ".d//e.jpg", "./f.jpg", "f.jpg",
    ]  # fmt: skip
    assert found(".")[-1] == "f.jpg"


def test_an_item_is_read_by_another_process(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg")
    (item,) = find([tmp_path])
    assert (item.photo, item.path, item.held, item.read()) == (str(tmp_path / "a.jpg"),) * 2 + (0, PNG)
    assert images.read(item.read()).size == (160, 120)
    program = "import pickle, sys; sys.stdout.buffer.write(pickle.load(sys.stdin.buffer).read())"
    done = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(item), capture_output=True, check=True)
    assert done.stdout == PNG and len(pickle.dumps(item)) < 1000
    broken = pickle.loads(pickle.dumps(Item(photo="x", error=errors.PhotoUnreadableError("why"))))
    assert type(error_of(broken)) is errors.PhotoUnreadableError and str(broken.error) == "why"


def test_the_limit_of_bytes_holds(tmp_path: Path) -> None:
    (item,) = find([plant(tmp_path, "a.jpg")])
    assert item.read(Limits(file_bytes=len(PNG))) == PNG
    with pytest.raises(errors.PhotoTooLargeError):
        item.read(Limits(file_bytes=len(PNG) - 1))


NAMES = st.binary(min_size=1, max_size=4).filter(lambda name: not set(name) & {0, 47} and name[:1] not in (b".", b"#"))
if sys.platform in ("win32", "darwin"):  # where names are text, and capitals and accents are not told apart
    NAMES = st.text("abcdefgh", min_size=1, max_size=4).map(str.encode)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=st.recursive(st.none(), lambda inner: st.dictionaries(NAMES, inner, max_size=6), max_leaves=20))
def test_the_order_is_that_of_the_paths_name_by_name(
    tmp_path: Path, tree: dict[bytes, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = os.fsencode(tmp_path / "tree")
    wanted: list[tuple[bytes, ...]] = []

    def make(here: tuple[bytes, ...], inner: dict[bytes, Any] | None) -> None:
        if inner is None:
            wanted.append((*here[:-1], here[-1] + b".jpg"))
            Path(os.fsdecode(b"/".join((top, *wanted[-1])))).touch()
        else:
            Path(os.fsdecode(b"/".join((top, *here)))).mkdir()
            for name, each in inner.items():
                make((*here, name), each)

    make((), tree or {})
    try:
        for backwards in (False, True):
            with monkeypatch.context() as patch:
                shuffle(patch, backwards=backwards)
                photos = [os.fsencode(item.photo) for item in find([os.fsdecode(top)])]
            assert photos == [b"/".join((top, *names)) for names in sorted(wanted)]
    finally:
        shutil.rmtree(top)


def shuffle(patch: pytest.MonkeyPatch, *, backwards: bool) -> None:
    """The system lists folders in any order."""
    real = os.scandir

    class Listing:
        def __init__(self, path: str) -> None:
            with real(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=backwards)

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self.entries)

        def __exit__(self, *_: object) -> None: ...

    patch.setattr(folders.os, "scandir", Listing)


@posix
def test_hostile_names(tmp_path: Path) -> None:
    names = [b"a\nb.jpg", b"\xff\xfe.jpg", b"\x1b[2J.jpg", b" .jpg", b"=1+1.jpg", b"caf\xe9/\xe9.jpg", b"..a.jpg.jpg"]
    for name in names:
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(PNG)
    items = list(find([tmp_path]))
    start = os.fsencode(tmp_path) + b"/"
    assert [os.fsencode(item.photo).removeprefix(start) for item in items] == sorted(set(names) - {b"..a.jpg.jpg"})
    assert all(item.read() == PNG for item in items)


@posix
def test_special_files_end_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plant(tmp_path, "good.jpg"))
    os.mkfifo("fifo.jpg")
    os.mkfifo("fifo")
    Path("loop.jpg").symlink_to("loop.jpg")
    Path("loop").symlink_to("loop")
    Path("nowhere.jpg").symlink_to("nowhere")
    Path("nowhere2").symlink_to("nowhere")
    Path("zero.jpg").symlink_to("/dev/zero")
    Path("twin.jpg").symlink_to("good.jpg")
    with socket.socket(socket.AF_UNIX) as listener, Path("sparse.jpg").open("wb") as sparse:
        listener.bind("socket.jpg")
        sparse.truncate(8 << 30)
        start = time.perf_counter()
        left_out: Counter[str] = Counter()
        items = {item.photo: item for item in find(["."], left_out=left_out)}
        expected = {
            "./fifo.jpg": errors.PhotoUnreadableError,
            "./good.jpg": None,
            "./loop.jpg": errors.PhotoUnreadableError,
            "./nowhere.jpg": errors.PhotoNotFoundError,
            "./socket.jpg": errors.PhotoUnreadableError,
            "./sparse.jpg": errors.PhotoTooLargeError,
            "./twin.jpg": None,
            "./zero.jpg": errors.PhotoUnreadableError,
        }
        assert list(items) == list(expected) and left_out == {"other": 3}
        for name, error in expected.items():
            assert items[name].read() == PNG if error is None else type(error_of(items[name])) is error
        named = ["fifo", "loop", "nowhere2", "/dev/zero", "socket.jpg", "none", "", "a\0b", "x" * 5000, "good.jpg/x"]
        assert [error_of(item).code for item in find(named)] == [
            "photo-unreadable", "photo-unreadable", "photo-not-found", "photo-unreadable", "photo-unreadable",
            "photo-not-found", "photo-not-found", "photo-not-found", "photo-not-found", "photo-not-found",
        ]  # fmt: skip
        assert [item.photo for item in find(named)] == named
        assert time.perf_counter() - start < 5


@posix
def test_loops_of_folders_end(tmp_path: Path) -> None:
    plant(tmp_path, "top/a/x.jpg", "top/b/y.jpg")
    (tmp_path / "top/a/up").symlink_to("..")
    (tmp_path / "top/a/self").symlink_to(".")
    (tmp_path / "top/b/above").symlink_to(tmp_path)
    (tmp_path / "top/b/other").symlink_to("../a")
    left_out: Counter[str] = Counter()
    assert found(tmp_path / "top", left_out=left_out) == ["a/x.jpg", "b/y.jpg"]
    assert left_out["seen"] == 4


@posix
def test_ways_that_double_at_every_link_are_gone_once(tmp_path: Path) -> None:
    for number in range(35):  # Linux follows 40 links in a path, and 2 ** 35 ways would take for ever
        here = tmp_path / f"outside/{number}"
        here.mkdir(parents=True)
        for link in "ab":
            (here / link).symlink_to(f"../{number + 1}")
    plant(tmp_path, "outside/35/x.jpg")
    top = tmp_path / "top"
    top.mkdir()
    for link in "ab":
        (top / link).symlink_to("../outside/0")
    assert found(top) == ["a/" * 36 + "x.jpg"]


@posix
def test_a_folder_goes_by_its_own_name_where_it_is_not_left_out(tmp_path: Path) -> None:
    plant(tmp_path, "top/2021/x.jpg", "top/.best/y.jpg", "top/raw/z.jpg", "elsewhere/w.jpg")
    for link, target in [
        ("0", "2021"),
        ("a", "2021"),
        ("b", ".best"),
        ("c", "../elsewhere"),
        ("d", "../elsewhere"),
        ("e", "raw"),
    ]:
        (tmp_path / "top" / link).symlink_to(target)
    (tmp_path / "link").symlink_to("top")
    wanted = ["2021/x.jpg", "b/y.jpg", "c/w.jpg", "e/z.jpg"]
    assert found(tmp_path / "top", exclude=["raw"]) == wanted
    assert found(tmp_path / "link", exclude=["raw"]) == wanted


def refusing(patch: pytest.MonkeyPatch, where: Path, error: OSError) -> None:
    real = os.scandir

    def scandir(path: str) -> Any:
        if Path(path) == where:
            raise error
        return real(path)

    patch.setattr(folders.os, "scandir", scandir)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PermissionError(errno.EACCES, "no"), "photo-unreadable", "permissions"),
        (FileNotFoundError(errno.ENOENT, "gone"), "photo-not-found", "gone"),
        (NotADirectoryError(errno.ENOTDIR, "replaced"), "photo-not-found", "gone"),
        (OSError(errno.EIO, "broken"), "photo-unreadable", "The folder is there but cannot be read: .*[^.]\\. Photos"),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, code: str, said: str
) -> None:
    plant(tmp_path, "a.jpg", "b/x.jpg", "c/y.jpg")
    refusing(monkeypatch, tmp_path / "b", error)
    items = list(find([tmp_path]))
    assert [item.photo for item in items] == [str(tmp_path / name) for name in ("a.jpg", "b", "c/y.jpg")]
    assert items[1].error and items[1].error.code == code
    with pytest.raises(errors.PhotoError, match=said) as caught:
        items[1].read()
    assert str(tmp_path) not in str(caught.value)
    refusing(monkeypatch, tmp_path, error)
    assert [item.error and item.error.code for item in find([tmp_path])] == [code]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind root")
def test_a_forbidden_folder(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b/x.jpg")
    (tmp_path / "b").chmod(0)
    try:
        items = list(find([tmp_path]))
    finally:
        (tmp_path / "b").chmod(0o700)
    assert [item.error and item.error.code for item in items] == [None, "photo-unreadable"]


def test_a_listing_that_breaks_off_keeps_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "a.jpg", "b.jpg")
    real = os.scandir

    class Listing:
        def __init__(self, path: str) -> None:
            with real(path) as entries:
                self.entries = list(entries)

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            yield self.entries[0]
            raise OSError(errno.ESTALE, "the server is gone")

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(folders.os, "scandir", Listing)
    first, second = find([tmp_path])
    assert first.photo == str(tmp_path) and first.error and second.read() == PNG


def test_what_vanishes_while_it_is_walked(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b.jpg", "c/x.jpg", "d/y.jpg", "e.jpg")
    walk = find([tmp_path])
    assert next(walk).read() == PNG
    (tmp_path / "b.jpg").unlink()
    shutil.rmtree(tmp_path / "c")
    (tmp_path / "d").rename(tmp_path / "z")
    (tmp_path / "d").write_bytes(PNG)
    plant(tmp_path, "bb.jpg")  # too late
    items = list(walk)
    assert [item.photo for item in items] == [str(tmp_path / name) for name in ("b.jpg", "c", "d", "e.jpg")]
    assert [error_of(item).code for item in items[:3]] == ["photo-not-found"] * 3
    assert items[3].read() == PNG


@posix
def test_folders_deeper_than_a_path_can_be(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1500):  # deeper than Python's stack, too
            os.mkdir("deep", dir_fd=here)
            inner = os.open("deep", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
    finally:
        os.close(here)
    (item,) = find([tmp_path])
    assert item.error and item.photo.endswith("/deep" * 100)
    subprocess.run(["rm", "-r", tmp_path / "deep"], check=True)  # shutil.rmtree cannot, before Python 3.13


def test_a_large_folder_in_bounded_memory(tmp_path: Path) -> None:
    count = 20_000
    for number in range(count):
        os.close(os.open(tmp_path / f"IMG_{number:06}.JPG", os.O_CREAT | os.O_WRONLY))
        if number % 2:
            os.close(os.open(tmp_path / f"IMG_{number:06}.xmp", os.O_CREAT | os.O_WRONLY))
    left_out: Counter[str] = Counter()
    tracemalloc.start()
    try:
        photos, last = 0, ""
        for item in find([tmp_path], left_out=left_out):
            assert last < item.photo
            photos, last = photos + 1, item.photo
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert photos == count and left_out == {"other": count // 2}
    assert peak < count * 100


def test_nothing_is_looked_at_before_it_is_asked_for(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg")

    def endless() -> Iterator[str]:
        yield str(tmp_path)
        raise AssertionError

    assert next(find(endless())).photo == str(tmp_path / "a.jpg")


# --- Patterns -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.jpg", "a.jpg x/a.jpg x/y/A.JPG x.jpg/a.png", "a.png a.jpgx jpg"),
        ("2021", "2021/a.jpg x/2021/a.jpg 2021", "20210/a.jpg x/a2021.jpg"),
        ("2021/", "2021/a.jpg x/2021/a.jpg", "2021 x/2021"),
        ("/2021", "2021/a.jpg 2021", "x/2021/a.jpg"),
        ("2021/*.jpg", "2021/a.jpg", "2021/x/a.jpg x/2021/a.jpg"),
        ("2021/**/*.jpg", "2021/a.jpg 2021/x/a.jpg 2021/x/y/a.jpg", "2021.jpg x/2021/a.jpg"),
        ("**/x/*.jpg", "x/a.jpg q/x/a.jpg q/r/x/a.jpg", "x/y/a.jpg"),
        ("x/**", "x/a.jpg x/y/a.jpg", "x y/x"),
        ("**", "a.jpg x/y/a.jpg", ""),
        ("./x//*.jpg", "x/a.jpg", "a.jpg"),
        ("IMG_00[1-3]?.jpg", "IMG_0010.jpg y/img_003x.JPG", "IMG_004x.jpg IMG_001.jpg IMG_001/x.jpg"),
        ("[!a]*", "b", "a"),
        ("a[b", "a[b", "ab"),
    ],
)
def test_patterns(pattern: str, yes: str, no: str) -> None:
    compiled = Pattern(pattern)
    for path in yes.split():
        assert compiled.matches(path.split("/")), path
    for path in no.split():
        assert not compiled.matches(path.split("/")), path


def test_accents_may_be_written_either_way() -> None:
    for form in ("NFC", "NFD"):
        for other in ("NFC", "NFD"):
            name = unicodedata.normalize(other, "été.jpg")
            assert Pattern(unicodedata.normalize(form, "É*é.jpg")).matches([name])
    assert Pattern("\udcff*").matches(["\udcffx.jpg"])


def test_patterns_that_backtrack_end() -> None:
    with cheap(seconds=5):
        assert not Pattern("*a" * 30 + "b").matches(["a" * 255])
        assert not Pattern("**/a/" * 30 + "b").matches(["a"] * 2000)


def model(parts: list[str], names: list[str]) -> bool:
    """What a pattern means, without a thought for time."""
    if not parts:
        return not names
    if parts[0] == "**":
        return model(parts[1:], names) or (bool(names) and model(parts, names[1:]))
    return bool(names) and one(parts[0], names[0]) and model(parts[1:], names[1:])


def one(part: str, name: str) -> bool:
    if not part:
        return not name
    if part[0] == "*":
        return one(part[1:], name) or (bool(name) and one(part, name[1:]))
    return bool(name) and part[0] in ("?", name[0]) and one(part[1:], name[1:])


PARTS = st.lists(
    st.one_of(st.just("**"), st.text("ab*?", min_size=1, max_size=3).filter(lambda x: x != "**")),
    min_size=1,
    max_size=4,
)
PATHS = st.lists(st.text("ab\n", min_size=1, max_size=3), min_size=1, max_size=5)


@settings(max_examples=500, deadline=None)
@given(parts=PARTS, anchored=st.booleans(), folders_only=st.booleans(), names=PATHS, folder=st.booleans())
def test_patterns_are_what_the_model_says(
    parts: list[str], anchored: bool, folders_only: bool, names: list[str], folder: bool
) -> None:
    text = "/" * anchored + "/".join(parts) + "/" * folders_only
    meant = [*([] if anchored or len(parts) > 1 else ["**"]), *parts, *(["*"] if parts[-1] == "**" else [])]
    ends = range(1, len(names) + (not folders_only or folder))
    assert Pattern(text).matches(names, folder=folder) == any(model(meant, names[:end]) for end in ends)


def test_include_and_exclude(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b.png", "x/a.jpg", "x/y/b.png", "x/y/c.jpg", "z/private/d.jpg", "z/e.jpg")
    left_out: Counter[str] = Counter()
    assert found(tmp_path, include=["*.jpg"], exclude=["private/", "x/y"], left_out=left_out) == [
        "a.jpg", "x/a.jpg", "z/e.jpg",
    ]  # fmt: skip
    assert left_out == {"excluded": 3}  # b.png, and two folders that were not looked into
    assert found(tmp_path, include=["x/**", "*.png"]) == ["b.png", "x/a.jpg", "x/y/b.png", "x/y/c.jpg"]
    assert found(tmp_path, exclude=["*"]) == []
    assert found(tmp_path, include=["*.txt"]) == []


def test_excluded_folders_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "a.jpg", "b/x.jpg", ".c/x.jpg")
    for name in ("b", ".c"):
        refusing(monkeypatch, tmp_path / name, OSError(errno.EIO, "asked for"))
    assert found(tmp_path, exclude=["b"]) == ["a.jpg"]


@pytest.mark.parametrize("pattern", ["", "/", "..", "../x/*.jpg", "./", "."])
def test_patterns_that_make_no_sense(pattern: str) -> None:
    for option in ("include", "exclude"):
        with pytest.raises(errors.UsageError, match="expected a pattern"):
            find([], **{option: [pattern]})  # type: ignore[arg-type]  # at once, not when the first photo is asked for


def test_arguments_that_make_no_sense() -> None:
    for option in ("include", "exclude"):
        with pytest.raises(errors.UsageError, match="lists"):
            find([], **{option: "*.jpg"})  # type: ignore[arg-type]
    for one_path in ("photos", b"photos", Path("photos")):
        with pytest.raises(errors.UsageError, match="list of paths"):
            find(one_path)  # type: ignore[arg-type]
    with pytest.raises(errors.UsageError, match="int"):
        list(find([3]))  # type: ignore[list-item]


def test_names() -> None:
    assert is_photo("a.JPG") and is_photo("a.b.heic") and not is_photo("a.jpg\n") and not is_photo(".jpg")
    assert is_hidden(".x") and is_hidden("@EaDir") and not is_hidden("x.") and not is_hidden("eaDir")
    assert len(sources.ENDINGS) == 14


# --- Lists ----------------------------------------------------------------------------------------


class Trickle(io.RawIOBase):
    """A pipe that gives a few bytes at a time, and says how often it was asked."""

    def __init__(self, data: bytes, step: int = 1, error: OSError | None = None) -> None:
        self.data, self.step, self.error = data, step, error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self.data[: min(self.step, len(buffer))]
        if not part and self.error:
            raise self.error
        self.data = self.data[len(part) :]
        buffer[: len(part)] = part
        return len(part)


def entries(data: bytes, **options: Any) -> list[str]:
    """The same whether it comes at once, byte by byte, or through a buffer."""
    results = [
        list(listed(stream, **options))
        for stream in (io.BytesIO(data), Trickle(data), io.BufferedReader(Trickle(data, 3)))  # type: ignore[arg-type]
    ]
    assert results[0] == results[1] == results[2]
    assert all(isinstance(entry, str) for entry in results[0])
    return results[0]  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"", []),
        (b"\n\n \r\n", []),
        (b"a.jpg", ["a.jpg"]),
        (b"a.jpg\nb.jpg\n", ["a.jpg", "b.jpg"]),
        (b"a.jpg\r\nb.jpg\r\n\r\nc.jpg\r", ["a.jpg", "b.jpg", "c.jpg"]),
        (b" a b.jpg \n# c.jpg\n\"d.jpg\"\n-e.jpg\n", [" a b.jpg ", "# c.jpg", '"d.jpg"', "-e.jpg"]),
        (b"\xef\xbb\xbfa.jpg\n\xef\xbb\xbfb.jpg", ["a.jpg", "\ufeffb.jpg"]),
        (b"\xff.jpg\ncaf\xc3\xa9.jpg\n", ["\udcff.jpg", "café.jpg"]),
        (b"\xff\xfe\n\xfe\xff", ["\udcff\udcfe", "\udcfe\udcff"]),
        (b"a\nb.jpg\0c.jpg\r\0\0 \0", ["a\nb.jpg", "c.jpg\r", " "]),
        (b"a\nb.jpg\0c.jpg", ["a\nb.jpg", "c.jpg"]),
    ],
)  # fmt: skip
@posix
def test_lists(data: bytes, wanted: list[str]) -> None:
    assert entries(data) == wanted


def test_the_separator_can_be_told() -> None:
    assert entries(b"a\nb\0c", nul=True) == ["a\nb", "c"]
    assert entries(b"a\nb\0c", nul=False) == ["a", "b\0c"]
    assert entries(b"a\nb", nul=True) == ["a\nb"]
    late = b"a.jpg\n" * 20_000
    assert entries(late + b"x\0y\n")[-1] == "x\0y"


def test_a_list_is_read_as_it_comes() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream, os.fdopen(writer, "wb", buffering=0) as end:
        paths = listed(stream, nul=False)
        end.write(b"a.jpg\nb")
        assert next(paths) == "a.jpg"
        end.write(b".jpg\n")
        assert next(paths) == "b.jpg"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=5).filter(lambda x: not set(x) & {0, 10} and x.strip() and x[-1] != 13)),
    st.booleans(),
)
@posix
def test_what_is_listed_comes_back(names: list[bytes], nul: bool) -> None:
    data = (b"\0" if nul else b"\n").join([*names, b""])
    names = [names[0].removeprefix(b"\xef\xbb\xbf"), *names[1:]] if names and not nul else names
    assert [os.fsencode(name) for name in entries(data, nul=nul)] == [name for name in names if name]


def test_lists_of_another_kind() -> None:
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
        with pytest.raises(errors.UsageError, match="UTF-8"):
            list(listed(io.BytesIO(mark + "a.jpg\r\nb.jpg".encode(encoding))))
    longest = b"x" * lists.LONGEST
    first, second, third = listed(io.BytesIO(longest + b"\r\n" + longest + b"x\nb.jpg"))
    assert first == longest.decode() and third == "b.jpg"
    assert isinstance(second, Item) and second.photo == "x" * 80 + "..."
    assert isinstance(error_of(second), errors.PhotoNotFoundError)


def test_an_endless_line_takes_no_memory() -> None:
    data = b"x" * (20 << 20)
    stream = io.BytesIO(data + b"\na.jpg")
    tracemalloc.start()
    try:
        long, short = listed(stream)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(long, Item) and short == "a.jpg" and peak < 2 << 20


def test_a_list_that_breaks_off_is_one_error() -> None:
    for error in (OSError(errno.EIO, "I/O error"), OSError("nothing")):
        stream = io.BufferedReader(Trickle(b"a.jpg\nb.jpg\nc", 20, error))
        *good, bad = listed(stream, nul=False, name="standard input")
        assert good == ["a.jpg", "b.jpg"]
        assert isinstance(bad, Item) and bad.photo == "standard input"
        assert isinstance(error_of(bad), errors.PhotoUnreadableError)

    class NotYet(io.RawIOBase):
        def read(self, size: int = -1) -> None:  # type: ignore[override]
            return None

    (bad,) = listed(NotYet())  # type: ignore[arg-type]
    assert isinstance(bad, Item) and bad.error


def test_a_list_names_sources_of_any_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plant(tmp_path, "a.jpg", "f/b.jpg", "f/c.txt"))
    items = list(find(listed(io.BytesIO(b"f\nnone.jpg\na.jpg\nf/c.txt\nf\n"))))
    assert [item.photo for item in items] == ["f/b.jpg", "none.jpg", "a.jpg", "f/c.txt", "f/b.jpg"]
    assert [error_of(item).code for item in items[1:2]] == ["photo-not-found"]
    broken = Item(photo="x", error=errors.PhotoNotFoundError("no"))
    assert next(find([broken, "a.jpg"])) is broken


def test_items_are_equal_only_to_themselves_or_the_same(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b/c.jpg")
    walks: list[Iterable[Item]] = [find([tmp_path]), find([tmp_path])]
    assert list(walks[0]) == list(walks[1])
