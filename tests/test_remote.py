"""Photos and records that lie elsewhere, against a real store on loopback."""

from __future__ import annotations

import io
import json
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from photolabel import batch, cli, remote, sources
from photolabel.errors import DownloadError, MissingExtraError, OutputError, PhotoError, PhotoUnavailableError
from photolabel.images import Limits
from photolabel.sources import Item

import stores
from pictures import PNG

# What the stores' own packages warn of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, stores.s3(patch) as endpoint:
        yield endpoint


@pytest.fixture
def bucket(store: str, request: pytest.FixtureRequest) -> str:
    name = f"b{abs(hash(request.node.name)) % 10**12}"
    remote._store("s3://x").mkdir(name)
    return name


def put(bucket: str, keys: list[str], data: bytes = PNG) -> None:
    for key in keys:
        remote.write(f"s3://{bucket}/{key}", data)


def found(*urls: str, **options: Any) -> list[str]:
    return [item.photo for item in sources.find(urls, **options)]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://bucket/a.jpg", True), ("gs://bucket", True), ("https://host/a b.jpg", True), ("http://h", True),
        ("s3:/bucket", False), ("s3://", False), ("ftp://host/a.jpg", False), ("in/s3://b/a.jpg", False), ("", False),
        ("C://a", False), ("S3://b/a", False),
    ],
)  # fmt: skip
def test_what_is_a_url(text: str, url: bool) -> None:
    assert remote.is_url(text) == url


def test_photos_of_a_folder_in_the_order_of_the_store(bucket: str) -> None:
    put(bucket, ["in/b.png", "in/a.JPG", "in/deep/c.png", "in/.hidden/d.png", "in/notes.txt", "index.png", "in/"])
    passed: Counter[str] = Counter()
    base = f"s3://{bucket}/in/"
    assert found(base, left_out=passed) == [base + name for name in ("a.JPG", "b.png", "deep/c.png")]
    assert passed == {"hidden": 1, "other": 1}
    assert found(base[:-1]) == found(base)
    assert found(base, exclude=["deep/"]) == [base + "a.JPG", base + "b.png"]
    assert found(base, include=["*.png"]) == [base + "b.png", base + "deep/c.png"]
    assert len(found(f"s3://{bucket}")) == 4
    assert found(f"s3://{bucket}/index.png") == [f"s3://{bucket}/index.png"]


def test_pages_of_names_follow_each_other(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, [f"{number:02}.png" for number in range(25)])
    real = remote._store("s3://x").call_s3
    calls = []

    class Small:
        def call_s3(self, name: str, **asked: Any) -> Any:
            calls.append(name)
            return real(name, MaxKeys=10, **asked)

    monkeypatch.setitem(remote._stores, "s3", Small())
    coming = remote.beneath(f"s3://{bucket}/")
    next(coming)
    assert len(calls) == 1
    assert len([*coming]) == 24 and len(calls) == 3


def test_a_file_of_that_name_here_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "bucket").mkdir(parents=True)
    (tmp_path / "s3:" / "bucket" / "a.png").write_bytes(PNG)
    (item,) = sources.find(["s3://bucket/a.png"])
    assert item.read() == PNG


def test_bytes_are_those_of_the_object_and_no_more_than_the_limit(bucket: str) -> None:
    put(bucket, ["a.png"])
    put(bucket, ["empty.png"], b"")
    put(bucket, ["large.png"], bytes(5000))
    base = f"s3://{bucket}/"
    assert Item(photo="x", url=base + "a.png").read() == PNG
    assert Item(photo="x", url=base + "empty.png").read() == b""
    with pytest.raises(PhotoError, match="1,000 bytes|1000"):
        Item(photo="x", url=base + "large.png").read(Limits(file_bytes=1000))
    assert len(remote.read(base + "large.png", 1000)) == 1001


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("s3://nobody-has-this-one/", "photo-not-found", "no such bucket"),
        ("s3://nobody-has-this-one/a.png", "photo-not-found", "no such bucket"),
        ("s3://{}/a.png", "photo-not-found", "no such object"),
        ("s3://{}/none", "photo-not-found", "no such object"),
    ],
)
def test_what_is_not_there_is_an_error_of_the_photo(bucket: str, url: str, code: str, says: str) -> None:
    (item,) = sources.find([url.format(bucket)])
    with pytest.raises(PhotoError, match=says) as caught:
        item.read()
    assert caught.value.code == code


DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


def refusal(code: str) -> bytes:
    return DENIED.replace(b"AccessDenied", code.encode())


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "ExpiredToken", "does not take the credentials .ExpiredToken"),
        (400, "InvalidToken", "cannot be used"),
        (503, "SlowDown", "cannot be used|does not answer"),
    ],
)
def test_a_store_that_gives_nothing_says_nothing_of_the_photo(store: str, status: int, code: str, says: str) -> None:
    with pytest.MonkeyPatch.context() as patch, stores.server(lambda *_: (status, {}, refusal(code))) as endpoint:
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setattr(stores.s3fs(), "retries", 1)
        stores.use(patch, endpoint)
        with pytest.raises(PhotoUnavailableError, match=says):
            Item(photo="x", url="s3://bucket/a.png").read()
    stores.forget()


def test_a_store_that_gives_nothing_ends_a_run_and_what_is_done_is_kept(
    bucket: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """When it gives again, the rest is done: no record says that a photo is bad."""
    pytest.importorskip("pyarrow")
    put(bucket, [f"in/{number}.png" for number in range(7)])
    out = str(tmp_path / "out") + "/"
    what = [f"s3://{bucket}/in/", "--model", str(tiny), "--threads", "1", "--workers", "0", "--part-photos", "2"]
    real = remote.read

    def read(url: str, most: int) -> bytes:
        if url.endswith("5.png"):
            raise OSError(5, "the object store does not answer in time")
        return real(url, most)

    with monkeypatch.context() as patch:
        patch.setattr(remote, "read", read)
        assert cli.main([*what, "--output", out]) == 3
    err = capsys.readouterr().err
    assert f"s3://{bucket}/in/5.png: The object store does not answer in time" in err and "--resume" in err
    assert len([*(tmp_path / "out").glob("part-*")]) == 2
    assert cli.main(["--resume", "--workers", "0", "--output", out]) == 0


def test_a_listing_that_breaks_ends_a_run(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, [f"{number:02}.png" for number in range(25)])
    real = remote._store("s3://x").call_s3

    class Breaking:
        def call_s3(self, name: str, **asked: Any) -> Any:
            if "ContinuationToken" in asked:
                raise TimeoutError
            return real(name, MaxKeys=10, **asked)

    monkeypatch.setitem(remote._stores, "s3", Breaking())
    coming = sources.find([f"s3://{bucket}/"])
    assert [next(coming).photo[-6:] for _ in range(10)] == [f"{number:02}.png" for number in range(10)]
    with pytest.raises(DownloadError, match="does not answer in time"):
        next(coming)


def test_a_name_that_would_be_read_as_another_s_is_not_read(bucket: str) -> None:
    put(bucket, ["in/a"], b"of somebody else")
    remote._store("s3://x").call_s3("put_object", Bucket=bucket, Key="in/a?versionId=.png", Body=PNG)
    (item,) = sources.find([f"s3://{bucket}/in/"])
    with pytest.raises(PhotoError, match="versionId"):
        item.read()


def test_what_is_not_permitted_is_said(store: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, stores.server(lambda *_: (403, {}, DENIED)) as endpoint:
        stores.use(patch, endpoint)
        for url in ("s3://bucket/", "s3://bucket/a.png"):
            (item,) = sources.find([url])
            with pytest.raises(PhotoError, match="does not permit it") as caught:
                item.read()
            assert caught.value.code == "photo-unreadable"
        assert cli.main(["x.png", "--output", "s3://bucket/out/"]) == 4
    stores.forget()


def test_a_store_that_is_not_there_is_said(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    with pytest.MonkeyPatch.context() as patch:
        stores.use(patch, "http://127.0.0.1:1")
        (item,) = sources.find(["s3://bucket/a.png"])
        with pytest.raises(PhotoError, match="cannot be used"):
            item.read()
    stores.forget()


def test_a_store_that_is_silent_is_given_up_before_the_photo_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the photo would be told too slow for good, where it is the store that says nothing of it."""
    pytest.importorskip("s3fs")
    waits = sum(2**number for number in range(remote._TRIES - 1))  # at most, by botocore's standard
    assert remote._SILENCE * remote._TRIES + waits < batch.SECONDS
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "_SILENCE", 0.2)
        patch.setattr(remote, "_TRIES", 2)
        stores.use(patch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        (item,) = sources.find(["s3://bucket/a.png"])
        with pytest.raises(PhotoUnavailableError, match="answer"):
            item.read()
        silent.settimeout(0.2)
        connections = 0
        with suppress(TimeoutError):
            while True:
                silent.accept()[0].close()
                connections += 1
        assert connections == 2
    stores.forget()


@pytest.mark.parametrize(("broken", "error"), [(2, None), (3, PhotoUnavailableError)])
def test_an_answer_of_a_store_that_breaks_off_is_asked_for_again(
    broken: int, error: type[PhotoError] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    aiohttp = pytest.importorskip("aiohttp", reason="the extra remote is not installed")
    left = iter([True] * broken + [False])

    def cat_file(*_: object, **__: object) -> bytes:
        if next(left):
            raise aiohttp.ClientPayloadError("not all of it came")
        return PNG

    monkeypatch.setattr(remote, "_store", lambda _: SimpleNamespace(cat_file=cat_file))
    monkeypatch.setattr(remote, "_WAITS", (0.0, 0.0))
    item = Item(photo="a", url="s3://bucket/a.png")
    if error is None:
        assert item.read() == PNG
    else:
        with pytest.raises(error, match="broke off"):
            item.read()


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_stores", {})
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match=r"photolabel\[remote\]"):
        found("s3://bucket/")
    assert cli.main(["s3://bucket/", "--workers", "0"]) == 3


def test_a_store_that_needs_another_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec", reason="the extra remote is not installed")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingExtraError, match="pip install gcsfs"):
        found("gs://bucket/")


class Others:
    """A store that is not S3's, as fsspec has them: folders, some of which may not be looked into."""

    def __init__(self, objects: dict[str, bytes], *, locked: str = "") -> None:
        from fsspec.implementations.memory import MemoryFileSystem

        class Store(MemoryFileSystem):
            store: dict[str, Any] = {}  # noqa: RUF012  # of this one alone
            pseudo_dirs: list[str] = [""]  # noqa: RUF012
            protocol = "gs"

            @classmethod
            def _strip_protocol(cls, path: str) -> str:
                return MemoryFileSystem._strip_protocol(path.removeprefix("gs://"))

            def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
                if locked and path.rstrip("/").endswith(locked):
                    raise OSError("Forbidden: https://storage/b/o?prefix=locked")
                return super().ls(path, detail=detail, **options)

        self.store = Store(skip_instance_cache=True)
        for name, data in objects.items():
            self.store.pipe_file(name, data)


def test_a_store_of_gs(tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    pytest.importorskip("fsspec", reason="the extra remote is not installed")
    pytest.importorskip("pyarrow")
    made = Others(
        {f"/my-bucket/in/{name}": PNG for name in ("b.png", "deep/a.png")}
        | {"/my-bucket/in/notes.txt": b"", "/my-bucket/in/cut.png": PNG[:40]}
    )
    monkeypatch.setitem(remote._stores, "gs", made.store)
    names = [f"gs://my-bucket/in/{name}" for name in ("b.png", "cut.png", "deep/a.png")]
    assert found("gs://my-bucket/in/") == names
    assert Item(photo="x", url=names[0]).read() == PNG
    with pytest.raises(PhotoError, match="no such object"):
        Item(photo="x", url="gs://my-bucket/in/none.png").read()
    what = [
        "gs://my-bucket/in/",
        "--model",
        str(tiny),
        "--threads",
        "1",
        "--workers",
        "0",
        "--output",
        "gs://my-bucket/out/",
    ]
    assert cli.main(what) == 1
    assert [name for name in made.store.find("/my-bucket/out") if name.endswith(".parquet")]
    assert cli.main(what) == 4


def test_a_folder_of_gs_that_may_not_be_looked_into_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec", reason="the extra remote is not installed")
    made = Others({"/b/in/b.png": PNG, "/b/in/locked/a.png": PNG}, locked="locked")
    monkeypatch.setitem(remote._stores, "gs", made.store)
    first, second = sources.find(["gs://b/in/"])
    assert first.error is None and "does not permit" in str(second.error)


# -- from end to end


def test_records_from_a_store_and_into_it(bucket: str, tiny: Path, tmp_path: Path, capsys: Any) -> None:
    pyarrow = pytest.importorskip("pyarrow.parquet")
    put(bucket, [f"in/{number}.png" for number in range(5)])
    put(bucket, ["in/2.png"], PNG[:40])
    base, model = f"s3://{bucket}/", ["--model", str(tiny), "--threads", "1"]
    assert cli.main([base + "in/", *model, "--workers", "2", "--json"]) == 1
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["photo"] for each in shown] == [f"{base}in/{number}.png" for number in range(5)]
    assert [each["error"] is None for each in shown] == [True, True, False, True, True]
    command = [base + "in/", *model, "--workers", "0", "--output", base + "out", "--part-photos", "2"]
    assert cli.main(command) == 1
    parts = [url for url in remote.beneath(base + "out/") if url.endswith(".parquet")]
    rows = [row for url in parts for row in pyarrow.read_table(io.BytesIO(remote.read(url, 1 << 30))).to_pylist()]
    assert [row["sequence"] for row in rows] == [*range(5)]
    assert [row["labels"] for row in rows] == [each["labels"] for each in shown]
    assert cli.main(command) == 4
    assert cli.main(["--resume", "--output", base + "out"]) == 0


def test_a_run_into_a_store_goes_on(bucket: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, [f"in/{number}.png" for number in range(5)])
    from photolabel.batch import Parts

    real, base = Parts.add, f"s3://{bucket}/"

    def add(self: Parts, record: Any) -> None:
        if record["photo"].endswith("3.png"):
            raise KeyboardInterrupt
        real(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "add", add)
        what = [base + "in/", "--model", str(tiny), "--threads", "1", "--workers", "0", "--output", base + "out"]
        assert cli.main([*what, "--part-photos", "2"]) == 130
    before = [*remote.beneath(base + "out/")]
    assert len(before) == 2
    assert cli.main(["--resume", "--workers", "0", "--output", base + "out"]) == 0
    assert {*before} < {*remote.beneath(base + "out/")}


def test_two_drivers_at_one_folder_double_no_record(bucket: str, tmp_path: Path) -> None:
    """Neither when both begin at once, nor when one that was thought dead goes on."""
    pyarrow = pytest.importorskip("pyarrow.parquet")
    from photolabel.batch import Parts
    from photolabel.batch.parts import MANIFEST
    from photolabel.batch.places import Objects
    from test_batch_parts import SETTINGS, contents, items, run, said

    place = Objects(f"s3://{bucket}/out/")
    with Parts.begin(place, SETTINGS, photos=2) as first:
        with pytest.raises(OutputError, match="another run has begun"):
            place.write(MANIFEST, b"{}", new=True)
        names = first.remaining(items(4))
        for item in (next(names), next(names)):
            first.add(said(item.photo))
        second = Parts.resume(place, lambda record: None)
        assert second is not None
        with second:  # with a photo that has come
            for item in second.remaining([*items(2), *items(3, 9)]):
                second.add(said(item.photo))
            second.finish()
        for item in names:
            first.add(said(item.photo))
        with pytest.raises(OutputError, match="is of another run"):
            first.finish()
    written = {name: place.read(name) for name in place.names() if name != MANIFEST}
    run(tmp_path / "first", items(4), size=2)
    run(tmp_path / "second", [*items(2), *items(3, 9)], size=2)
    alone = contents(tmp_path / "first") | contents(tmp_path / "second")
    assert written == {name: data for name, data in alone.items() if name != MANIFEST}
    rows = [row for data in written.values() for row in pyarrow.read_table(io.BytesIO(data or b"")).to_pylist()]
    assert sorted(row["photo"] for row in rows) == [item.photo for item in [*items(4), *items(3, 9)]]
    assert json.loads(place.read(MANIFEST) or b"")["complete"] == {"photos": 5, "errors": 0}, "the second's"


def test_a_folder_that_a_console_made_is_empty(bucket: str, tiny: Path) -> None:
    pytest.importorskip("pyarrow")
    put(bucket, ["in/a.png", "out/"])
    what = [f"s3://{bucket}/in/", "--model", str(tiny), "--workers", "0"]
    assert cli.main([*what, "--output", f"s3://{bucket}/out/"]) == 0


def test_a_file_on_a_store_is_no_output(capsys: Any) -> None:
    pytest.importorskip("s3fs", reason="the extra remote is not installed")
    assert cli.main(["x.png", "--output", "s3://bucket/labels.csv"]) == 2
    assert "expected a folder's URL" in capsys.readouterr().err


def test_a_bucket_that_is_not_there_is_no_output(store: str, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("pyarrow")
    assert cli.main(["x.png", "--output", "s3://nobody-has-this-one/out"]) == 4
    assert "no such bucket" in capsys.readouterr().err


def test_a_web_server_is_no_output(capsys: Any) -> None:
    assert cli.main(["x.png", "--output", "https://host.example/out/"]) == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_a_list_on_a_store(bucket: str, tiny: Path, capsys: Any) -> None:
    put(bucket, ["in/a.png", "in/b.png"])
    remote.write(f"s3://{bucket}/list.txt", f"s3://{bucket}/in/b.png\ns3://{bucket}/in/a.png\n".encode())
    assert cli.main(["--from", f"s3://{bucket}/list.txt", "--model", str(tiny), "--workers", "0"]) == 0
    assert [line.partition(".png:")[0][-1] for line in capsys.readouterr().out.splitlines()] == ["b", "a"]
    assert cli.main(["--from", f"s3://{bucket}/none.txt", "--model", str(tiny), "--workers", "0"]) == 2


# -- the web


def web(method: str, path: str) -> stores.Answer:
    name, _, _ = path.lstrip("/").partition("?")
    if name == "a.png":
        return 200, {}, PNG
    if name == "moved.png":
        return 302, {"location": "/a.png"}, b""
    if name == "loop.png":
        return 302, {"location": "/loop.png"}, b""
    if name == "file.png":
        return 302, {"location": "file:///etc/passwd"}, b""
    return int(name) if name.isdecimal() else 404, {}, b"no"


def test_photos_of_a_web_server() -> None:
    with stores.server(web) as base:
        for name in ("a.png", "moved.png", "a.png?size=1"):
            (item,) = sources.find([f"{base}/{name}"])
            assert item.read() == PNG and item.photo == f"{base}/{name}"
        with pytest.raises(PhotoError, match="bytes"):
            Item(photo="x", url=f"{base}/a.png").read(Limits(file_bytes=10))


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("none.png", "photo-not-found", "no such file"),
        ("403", "photo-unreadable", "does not permit"),
        ("500", "photo-unreadable", "answers 500"),
        ("loop.png", "photo-unreadable", "from one place to the next"),
        ("file.png", "photo-unreadable", "leads elsewhere"),
    ],
)
def test_what_a_web_server_does_not_give(monkeypatch: pytest.MonkeyPatch, name: str, code: str, says: str) -> None:
    monkeypatch.setattr(remote, "_WAITS", ())
    with stores.server(web) as base, pytest.raises(PhotoError, match=says) as caught:
        Item(photo="x", url=f"{base}/{name}").read()
    assert caught.value.code == code


def test_a_web_server_that_fails_once_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_WAITS", (0, 0))
    answers: list[stores.Answer] = [(503, {}, b"busy"), (200, {"content-length": "999999"}, PNG), (200, {}, PNG)]
    with stores.server(lambda *_: answers.pop(0)) as base:
        assert Item(photo="x", url=f"{base}/a.png").read() == PNG
    assert not answers


def test_what_breaks_off_is_not_taken_for_whole(tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(remote, "_WAITS", (0, 0))
    cut = {"content-length": "100000"}
    with stores.server(lambda *_: (200, cut, b"/a/1.png\n/a/2.png\n/a/3.p")) as base:
        with pytest.raises(PhotoError, match="broke off"):
            Item(photo="x", url=f"{base}/a.png").read()
        assert cli.main(["--from", f"{base}/list.txt", "--model", str(tiny), "--workers", "0"]) == 3
        assert "broke off" in capsys.readouterr().err


def test_a_password_is_in_no_record() -> None:
    for secret in ("secret", "sec@ret", "@", ""):
        (item,) = sources.find([f"https://me:{secret}@host.example/a@b.png?x=@y"])
        assert item.photo == "https://host.example/a@b.png?x=@y"
        assert item.url == f"https://me:{secret}@host.example/a@b.png?x=@y"


def test_a_web_server_that_is_not_there() -> None:
    with pytest.raises(PhotoError):
        Item(photo="x", url="http://127.0.0.1:1/a.png").read()


def test_a_list_of_a_web_server(tiny: Path, tmp_path: Path, photo: Path, capsys: Any) -> None:
    def answer(method: str, path: str) -> stores.Answer:
        return 200, {}, f"{base}/a.png\n".encode() if path == "/list.txt" else PNG

    with stores.server(answer) as base:
        assert cli.main(["--from", f"{base}/list.txt", "--model", str(tiny), "--workers", "0"]) == 0
        assert capsys.readouterr().out.startswith(f"{base}/a.png: ")
    with stores.server(web) as base:
        assert cli.main(["--from", f"{base}/list.txt", "--model", str(tiny), "--workers", "0"]) == 2
        assert "no such file" in capsys.readouterr().err


def test_an_output_error_is_not_a_photo_s(monkeypatch: pytest.MonkeyPatch) -> None:
    from photolabel.batch.places import Objects

    def broken(url: str, data: bytes, *, new: bool) -> None:
        raise OSError(5, "the object store cannot be used")

    monkeypatch.setattr(remote, "check", lambda url: None)
    monkeypatch.setattr(remote, "write", broken)
    with pytest.raises(OutputError, match="s3://b/out/x: cannot be written: the object store cannot be used"):
        Objects("s3://b/out").write("x", b"")
