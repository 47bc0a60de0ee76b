"""Photos and records that lie elsewhere, against a real store on loopback."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from photolabel import cli, remote, sources
from photolabel.errors import MissingExtraError, OutputError, PhotoError
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
    s3fs = pytest.importorskip("s3fs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3fs.S3FileSystem, "retries", 1)
        stores.use(patch, "http://127.0.0.1:1")
        (item,) = sources.find(["s3://bucket/a.png"])
        with pytest.raises(PhotoError, match="cannot be used"):
            item.read()
    stores.forget()


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
def test_what_a_web_server_does_not_give(name: str, code: str, says: str) -> None:
    with stores.server(web) as base, pytest.raises(PhotoError, match=says) as caught:
        Item(photo="x", url=f"{base}/{name}").read()
    assert caught.value.code == code


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

    def broken(url: str, data: bytes) -> None:
        raise OSError(5, "the object store cannot be used")

    monkeypatch.setattr(remote, "check", lambda url: None)
    monkeypatch.setattr(remote, "write", broken)
    with pytest.raises(OutputError, match="s3://b/out/x: cannot be written: the object store cannot be used"):
        Objects("s3://b/out").write("x", b"")
