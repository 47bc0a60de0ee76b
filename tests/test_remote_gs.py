"""What Google's store refuses, as its package gcsfs hears it from a server, is an error that says what it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from photolabel import cli, remote
from photolabel.errors import PhotoError, PhotoUnavailableError
from photolabel.sources import Item

import stores

pytest.importorskip("fsspec", reason="the extra remote is not installed")
# What the store's own packages warn of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")

INVALID = (400, "invalid argument")
BAD_BUCKET = (400, "Invalid bucket name: 'b'")
OTHERS_PAY = (400, "Bucket is a requester pays bucket but no user project provided.")


def answer(code: int, message: str) -> stores.Answer:
    """What Google says of a request that it refuses."""
    told = {"error": {"code": code, "message": message, "errors": [{"message": message, "reason": "x"}]}}
    return code, {"content-type": "application/json; charset=UTF-8"}, json.dumps(told).encode()


@pytest.fixture
def gcsfs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The package, which asks as nobody in particular."""
    from fsspec.config import conf

    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # else it asks Google itself what kind a bucket is
    found = pytest.importorskip("gcsfs", reason="gcsfs is not installed")
    monkeypatch.setattr(remote, "_stores", {})
    monkeypatch.setitem(conf, "gs", {"token": "anon"})
    monkeypatch.setitem(conf, "gcs", {"token": "anon"})
    found.GCSFileSystem.clear_instance_cache()
    yield found
    found.GCSFileSystem.clear_instance_cache()


@pytest.mark.parametrize(
    ("refusal", "says", "code"),
    [
        (INVALID, "does not take the request", "photo-unavailable"),
        (BAD_BUCKET, "cannot be used", "photo-unavailable"),
        (OTHERS_PAY, "does not take the request", "photo-unavailable"),
        ((403, "no access"), "does not permit it", "photo-unreadable"),
        ((401, "who is it?"), "does not permit it", "photo-unreadable"),
        ((404, "none"), "no such object", "photo-not-found"),
        ((409, "conflict"), "cannot be used", "photo-unavailable"),
    ],
)
def test_a_refusal_is_said(
    gcsfs: Any, monkeypatch: pytest.MonkeyPatch, refusal: tuple[int, str], says: str, code: str
) -> None:
    with stores.server(lambda *_: answer(*refusal)) as endpoint:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        with pytest.raises(PhotoError, match=says) as caught:
            Item(photo="x", url="gs://b/a.png").read()
        assert caught.value.code == code


@pytest.mark.parametrize("words", ["Bad Request: https://storage/b/b/o\ninvalid", "Bucket is requester pays. Set it."])
def test_a_bad_request_ends_a_run(monkeypatch: pytest.MonkeyPatch, capsys: Any, words: str) -> None:
    """As gcsfs raises it, with or without that."""

    class Refusing:
        def ls(self, *_: object, **__: object) -> Any:
            raise ValueError(words)

        cat_file = open = pipe_file = ls

    monkeypatch.setitem(remote._stores, "gs", Refusing())
    with pytest.raises(PhotoUnavailableError, match="does not take the request"):
        Item(photo="x", url="gs://b/a.png").read()
    for url in ("gs://b/in/", "gs://b/a.png"):
        assert cli.main([url, "--workers", "0"]) == 3
        err = capsys.readouterr().err
        assert "does not take the request" in err and "Bad" not in err and "storage" not in err
