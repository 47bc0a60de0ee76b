from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from photolabel import download, network
from photolabel.errors import (
    CacheUnwritableError,
    DiskFullError,
    DownloadError,
    HashMismatchError,
    OfflineError,
    StoreError,
    UsageError,
)
from photolabel.store import Asset, Store, cache_folder, digest_of, offline

import servers
from faults import Scripted, random_case
from kills import kill_downloads
from servers import (
    Deaf,
    Handler,
    Server,
    asset,
    chunked,
    cut,
    encoded,
    endless,
    endless_redirect,
    header_drip,
    honest,
    ignores_range,
    long_length,
    redirect,
    short_length,
    silent,
    stall,
    status,
    throttled,
    wrong_bytes,
    wrong_range,
    wrong_total,
)

BODY = random.Random(7).randbytes(200_000)
HALF = len(BODY) // 2
REAL = {"SILENCE": download.SILENCE, "CONNECT": network.CONNECT, "READ": network.READ}


@pytest.fixture(autouse=True)
def _quick_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short timeouts, and nothing of this machine's network settings."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC"):  # fmt: skip  # noqa: E501
            monkeypatch.delenv(name)
        if name.startswith("PHOTOLABEL_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(download, "BACKOFF", 0.002)
    monkeypatch.setattr(download, "SILENCE", 1.0)
    monkeypatch.setattr(download, "STALL", 1.5)
    monkeypatch.setattr(network, "READ", 0.3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def names(store: Store) -> set[str]:
    """What lies in the cache, locks aside."""
    return {each.name for each in store.folder.iterdir() if each.suffix != ".lock"}


WHOLE = {"weights.h5", "weights.h5.record.json"}


def plant_partial(store: Store, data: bytes) -> Path:
    store.folder.mkdir(parents=True, exist_ok=True)
    partial = store.folder / "weights.h5.partial"
    partial.write_bytes(data)
    return partial


# --- the happy path


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_fetch_then_find_without_a_second_request(store: Store, algorithm: str) -> None:
    with Server(BODY) as server:
        want = asset(server.url, body=BODY, algorithm=algorithm)
        assert store.find(want) is None
        seen: list[tuple[int, int]] = []
        path = store.fetch(want, progress=lambda done, total: seen.append((done, total)))
        assert path == store.path("weights.h5")
        assert path.read_bytes() == BODY
        assert store.fetch(want) == store.find(want) == path
        assert len(server.requests) == 1
    assert names(store) == WHOLE
    assert seen[0] == (0, len(BODY))
    assert seen[-1] == (len(BODY), len(BODY))
    assert seen == sorted(seen)


def test_the_file_has_the_permissions_that_the_umask_leaves(store: Store) -> None:
    with Server(BODY) as server:
        path = store.fetch(asset(server.url, body=BODY))
    with store.create("x.onnx") as file:
        file.write(b"x")
    plain = store.folder / "plain"
    plain.touch()
    expected = stat.S_IMODE(plain.stat().st_mode)
    for each in (path, store.path("x.onnx"), store.folder / "x.onnx.record.json"):
        assert stat.S_IMODE(each.stat().st_mode) == expected


def test_a_chunked_body(store: Store) -> None:
    with Server(BODY, chunked) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY


def test_a_file_put_there_by_hand_is_taken(store: Store) -> None:
    store.folder.mkdir()
    store.path("weights.h5").write_bytes(BODY)
    assert store.fetch(asset("http://nowhere.invalid/x", body=BODY)).read_bytes() == BODY


# --- resuming


def test_a_cut_is_resumed_where_it_happened(store: Store) -> None:
    with Server(BODY, cut(HALF), honest) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        assert server.ranges == [None, f"bytes={HALF}-"]
        assert server.requests[1][1]["if-range"] == '"v1"'


def test_many_cuts_are_survived_while_there_is_progress(store: Store) -> None:
    with Server(BODY, cut(10_000)) as server:  # 20 requests, each with progress: far more than TRIES
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        assert len(server.requests) == 20


def test_cuts_without_progress_end_after_some_tries(store: Store) -> None:
    with Server(BODY, cut(HALF), cut(0)) as server:
        with pytest.raises(DownloadError, match="body ended after 100,000 of 200,000"):
            store.fetch(asset(server.url, body=BODY))
        assert len(server.requests) == download.TRIES
    assert (store.folder / "weights.h5.partial").read_bytes() == BODY[:HALF]


def test_an_earlier_partial_is_continued(store: Store) -> None:
    plant_partial(store, BODY[:HALF])
    with Server(BODY) as server:
        seen: list[int] = []
        store.fetch(asset(server.url, body=BODY), progress=lambda done, _: seen.append(done))
        assert server.ranges == [f"bytes={HALF}-"]
    assert seen[0] == HALF
    assert names(store) == WHOLE


def test_a_whole_partial_needs_no_request(store: Store) -> None:
    plant_partial(store, BODY)
    with Server(BODY) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        assert not server.requests


def test_an_ignored_range_starts_over(store: Store) -> None:
    plant_partial(store, BODY[:HALF])
    with Server(BODY, ignores_range) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        assert len(server.requests) == 1


def test_a_file_that_changed_on_the_server_starts_over(store: Store) -> None:
    """If-Range: the server now has another ETag, so it sends everything."""

    def renamed(h, body):  # type: ignore[no-untyped-def]
        h.head(200, Content_Length=len(body), ETag='"v0"')
        h.wfile.write(b"?" * HALF)

    with Server(BODY, renamed, honest) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        assert len(server.requests) == 2


def test_a_weak_etag_is_not_sent_back(store: Store) -> None:
    """If-Range allows none: a server would then always send everything."""

    def weak(h: Handler, body: bytes) -> None:
        h.head(200, Content_Length=len(body), ETag='W/"v1"')
        h.wfile.write(body[:HALF])

    with Server(BODY, weak, honest) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        assert server.ranges[1] == f"bytes={HALF}-"
        assert "if-range" not in server.requests[1][1]


@pytest.mark.parametrize("first", [status(416), wrong_range, wrong_total])
def test_a_refused_range_starts_over_once(store: Store, first: Callable[..., None]) -> None:
    plant_partial(store, BODY[:HALF])
    with Server(BODY, first, honest) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        assert server.ranges == [f"bytes={HALF}-", None]


@pytest.mark.parametrize("always", [status(416), wrong_range, wrong_total])
def test_a_range_that_is_always_wrong_is_an_error(store: Store, always: Callable[..., None]) -> None:
    plant_partial(store, BODY[:HALF])
    with Server(BODY, always) as server:
        with pytest.raises(DownloadError):
            store.fetch(asset(server.url, body=BODY))
        assert len(server.requests) == 2


def test_wrong_ranges_in_turn_with_cuts_end(store: Store) -> None:
    with Server(BODY, cut(HALF), wrong_range, cut(HALF), wrong_range, honest) as server:
        with pytest.raises(DownloadError, match="expected bytes 100000- of 200000"):
            store.fetch(asset(server.url, body=BODY))
        assert len(server.requests) == 4


# --- lies about length


def test_a_short_content_length(store: Store) -> None:
    with Server(BODY, short_length) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        assert len(server.requests) > 2


@pytest.mark.parametrize("more", [long_length, endless])
def test_more_than_the_file_is_never_written(
    store: Store, monkeypatch: pytest.MonkeyPatch, more: Callable[..., None]
) -> None:
    written = count_writes(monkeypatch)
    with Server(BODY, more) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
    assert written() == len(BODY)


def test_an_endless_wrong_body_ends_with_its_hash(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    written = count_writes(monkeypatch)
    with Server(b"\0" * len(BODY), endless) as server:
        with pytest.raises(HashMismatchError, match=r"sha256:.*put the file there yourself|wrong hash"):
            store.fetch(asset(server.url, body=BODY))
        assert len(server.requests) == 1
    assert written() == len(BODY)
    assert not names(store)


def count_writes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    total = [0]
    write = os.write

    def counted(descriptor: int, data: memoryview) -> int:
        if isinstance(data, memoryview):  # ours, not subprocess' or a record's
            total[0] += len(data)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    return lambda: total[0]


# --- hostile answers


@pytest.mark.parametrize("encoding", ["gzip", "br", "x-unknown"])
def test_an_encoded_body_is_refused_unread(store: Store, encoding: str) -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    with Server(BODY, encoded(bomb, encoding)) as server:
        with pytest.raises(DownloadError, match="encoded body"):
            store.fetch(asset(server.url, body=BODY))
        assert server.requests[0][1]["accept-encoding"] == "identity"
        assert len(server.requests) == 1
    assert (store.folder / "weights.h5.partial").stat().st_size == 0


def test_redirects_are_followed(store: Store) -> None:
    with Server(BODY, redirect("/a"), redirect("b", 308), honest) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        assert [path for path, _ in server.requests] == ["/weights.h5", "/a", "/b"]


def test_a_redirect_loop_ends(store: Store) -> None:
    with Server(BODY, redirect("/again")) as server:
        with pytest.raises(DownloadError, match="redirects"):
            store.fetch(asset(server.url, body=BODY))
        assert len(server.requests) == download.REDIRECTS + 1


def test_slow_redirects_end(store: Store) -> None:
    class Slow:
        def get(self, url: str, headers: Mapping[str, str], *, seconds: float) -> Scripted:
            assert seconds > 0
            time.sleep(0.3)
            return Scripted(302, {"location": "/on"}, [])

    with pytest.raises(DownloadError, match="in time"):
        store.fetch(asset("http://weights.test/x", body=BODY), transport=Slow())


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://x/y", "//[", "http://"])
def test_a_redirect_elsewhere_is_refused(store: Store, target: str) -> None:
    with Server(BODY, redirect(target)) as server, pytest.raises(DownloadError, match=r"URL|redirects"):
        store.fetch(asset(server.url, body=BODY))


def test_the_body_of_a_redirect_is_not_read(store: Store) -> None:
    with Server(BODY, endless_redirect, honest) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY


def test_a_redirect_to_nowhere(store: Store) -> None:
    with Server(BODY, status(302)) as server, pytest.raises(DownloadError, match="nowhere"):
        store.fetch(asset(server.url, body=BODY))


@pytest.mark.parametrize(
    ("here", "location", "there"),
    [
        ("https://a/x", "https://b/y", "https://b/y"),
        ("https://a/x", "/y", "https://a/y"),
        ("https://a/x", "//b/y", "https://b/y"),
        ("http://a/x", "https://b/y", "https://b/y"),
        ("http://a/x", "http://b/y", "http://b/y"),
        ("https://a/x", "http://a/x", None),
        ("HTTPS://a/x", "HTTP://b/y", None),
        ("https://a/x", "file:///etc/passwd", None),
        ("https://a/x", "", None),
    ],
)
def test_next_hop(here: str, location: str, there: str | None) -> None:
    if there is None:
        with pytest.raises(network.GiveUpError):
            download.next_hop(here, location)
    else:
        assert download.next_hop(here, location) == there


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return servers.certificate(tmp_path_factory.mktemp("tls"))


def test_https_trusts_ssl_cert_file(store: Store, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(BODY, certificate=certificate) as server:
        want = asset(server.url, body=BODY)
        with pytest.raises(DownloadError, match="certificate was refused"):
            store.fetch(want)
        assert not server.requests
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_name("cert.pem")))
        assert store.fetch(want).read_bytes() == BODY


def test_requests_ca_bundle_comes_first(
    store: Store, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.with_name("cert.pem")))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with Server(BODY, certificate=certificate) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY


def test_a_ca_bundle_that_is_missing(store: Store, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with Server(BODY, certificate=certificate) as server, pytest.raises(DownloadError):
        store.fetch(asset(server.url, body=BODY))


def test_a_redirect_from_https_to_http_is_refused(
    store: Store, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_name("cert.pem")))
    with Server(BODY) as plain, Server(BODY, redirect(plain.url), certificate=certificate) as server:
        with pytest.raises(DownloadError, match="from https to http://127"):
            store.fetch(asset(server.url, body=BODY))
        assert len(server.requests) == 1
        assert not plain.requests


def test_netrc_is_not_sent(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Server(BODY) as server:
        store.fetch(asset(server.url, body=BODY))
        assert "authorization" not in server.requests[0][1]


def test_a_password_in_the_url_is_sent_but_not_shown(store: Store) -> None:
    with Server(BODY, status(403)) as server:
        url = server.url.replace("http://", "http://me:s3cret@") + "?signature=s3cret"
        with pytest.raises(DownloadError) as caught:
            store.fetch(asset(url, body=BODY))
        assert "authorization" in server.requests[0][1]
    assert "s3cret" not in str(caught.value)


def test_a_proxy_is_used_and_no_proxy_honoured(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(BODY) as proxy, Server(BODY) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_address[1]}")
        store.fetch(asset("http://weights.test/a", body=BODY))
        assert proxy.requests[0][0] == "http://weights.test/a"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        store.fetch(asset(server.url, body=BODY, name="other"))
        assert (len(proxy.requests), len(server.requests)) == (1, 1)


def test_a_mirror_replaces_every_url_and_is_not_trusted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    want = asset("http://nowhere.invalid/deep/x.h5", "http://nowhere.invalid/y", body=BODY)
    with Server(BODY, wrong_bytes, honest) as server:
        monkeypatch.setenv("PHOTOLABEL_MIRROR", f"http://127.0.0.1:{server.server_address[1]}/some/mirror/")
        with pytest.raises(HashMismatchError):
            store.fetch(want)
        assert store.fetch(want).read_bytes() == BODY
        assert {path for path, _ in server.requests} == {"/some/mirror/weights.h5"}


@pytest.mark.parametrize("mirror", ["mirror.example/x", "file:///etc", "http://[", "https://"])
def test_a_mirror_that_is_no_url(store: Store, monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    monkeypatch.setenv("PHOTOLABEL_MIRROR", mirror)
    with pytest.raises(DownloadError, match="URL"):
        store.fetch(asset("https://nowhere.invalid/x", body=BODY))


# --- wrong bytes


def test_wrong_bytes_of_the_right_size_lead_to_the_next_url(store: Store) -> None:
    with Server(BODY, wrong_bytes) as bad, Server(BODY) as good:
        assert store.fetch(asset(bad.url, good.url, body=BODY)).read_bytes() == BODY
        assert len(bad.requests) == 1
        assert good.ranges == [None]


def test_wrong_bytes_everywhere(store: Store) -> None:
    with Server(BODY, wrong_bytes) as one, Server(BODY, wrong_bytes) as two, pytest.raises(HashMismatchError) as caught:  # fmt: skip  # noqa: E501
        store.fetch(asset(one.url, two.url, body=BODY))
    for part in (
        urlsplit(one.url).netloc,
        urlsplit(two.url).netloc,
        "weights.h5",
        hashlib.sha256(BODY).hexdigest(),
        str(store.folder),
    ):
        assert part in str(caught.value)
    assert not names(store)


@pytest.mark.parametrize("count", [1, HALF, len(BODY)])
def test_a_poisoned_partial_is_found_and_fetched_anew(store: Store, count: int) -> None:
    plant_partial(store, b"\0" * count)
    with Server(BODY) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        assert server.ranges[-1] is None
        assert len(server.requests) == (1 if count == len(BODY) else 2)


def test_a_partial_with_too_many_bytes_is_not_used(store: Store) -> None:
    plant_partial(store, BODY + b"x")
    with Server(BODY) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        assert server.ranges == [None]


def test_a_huge_partial_is_not_hashed(store: Store) -> None:
    os.truncate(plant_partial(store, b""), 1 << 40)
    with Server(BODY) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY


def test_a_change_after_hashing_is_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def meddle(descriptor: int) -> None:
        partial = store.folder / "weights.h5.partial"
        if partial.exists():
            flip(partial, keep_mtime=False)

    with Server(BODY) as server:
        want = asset(server.url, body=BODY)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", meddle)
            with pytest.raises(HashMismatchError, match="someone else"):
                store.fetch(want)
        assert store.find(want) is None
        assert store.fetch(want).read_bytes() == BODY


def test_a_partial_that_is_a_link_is_not_written_through(store: Store, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    for make in (os.symlink, os.link):
        store.folder.mkdir(exist_ok=True)
        make(victim, store.folder / "weights.h5.partial")
        with Server(BODY) as server:
            assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        assert victim.read_bytes() == b"precious"
        store.remove("weights.h5")


def test_a_partial_that_is_a_fifo_or_a_folder(store: Store) -> None:
    store.folder.mkdir()
    os.mkfifo(store.folder / "weights.h5.partial")
    with Server(BODY) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        store.remove("weights.h5")
        (store.folder / "weights.h5.partial").mkdir()
        with pytest.raises(CacheUnwritableError):
            store.fetch(asset(server.url, body=BODY))


def test_the_second_url_continues_what_the_first_began(store: Store) -> None:
    with Server(BODY, cut(HALF), status(404)) as one, Server(BODY) as two:
        assert store.fetch(asset(one.url, two.url, body=BODY)).read_bytes() == BODY
        assert two.ranges == [f"bytes={HALF}-"]


def test_the_second_url_is_not_spoilt_by_what_the_first_began(store: Store) -> None:
    with Server(b"\0" * len(BODY), cut(HALF), status(404)) as one, Server(BODY) as two:
        assert store.fetch(asset(one.url, two.url, body=BODY)).read_bytes() == BODY
        assert two.ranges == [f"bytes={HALF}-", None]


# --- refusals, retries, silence


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 204, 304])
def test_what_cannot_be_cured_is_not_tried_again(store: Store, code: int) -> None:
    with Server(BODY, status(code)) as bad, Server(BODY) as good:
        assert store.fetch(asset(bad.url, good.url, body=BODY)).read_bytes() == BODY
        assert len(bad.requests) == 1


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(store: Store, code: int) -> None:
    with Server(BODY, status(code), status(code), honest) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        assert len(server.requests) == 3


def test_tries_are_bounded(store: Store) -> None:
    with Server(BODY, status(503)) as server:
        with pytest.raises(DownloadError, match="503"):
            store.fetch(asset(server.url, body=BODY))
        assert len(server.requests) == download.TRIES


def test_retry_after_is_honoured_and_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    answers = [status(429, Retry_After=n) for n in (3, 1_000_000, "Fri, 31 Dec 2027 23:59:59 GMT")]
    with Server(BODY, *answers, honest) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
    assert naps[:2] == [3, download.RETRY_AFTER]
    assert naps[2] < 1


def test_waits_grow(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    monkeypatch.setattr(download, "BACKOFF", 0.1)
    with Server(BODY, status(500)) as server, pytest.raises(DownloadError):
        store.fetch(asset(server.url, body=BODY))
    assert len(naps) == download.TRIES - 1
    for i, nap in enumerate(naps):
        assert 0.05 * 2**i <= nap <= 0.1 * 2**i


def test_a_stall_in_the_body_is_resumed(store: Store) -> None:
    with Server(BODY, stall(HALF), honest) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        assert server.ranges == [None, f"bytes={HALF}-"]


def test_stalls_end(store: Store) -> None:
    with Server(BODY, stall(HALF), stall(0)) as server:
        began = time.monotonic()
        with pytest.raises(DownloadError, match="timed out"):
            store.fetch(asset(server.url, body=BODY))
        assert time.monotonic() - began < 4


def test_a_body_that_drips_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then is no progress: no single read times out, but the whole does."""
    monkeypatch.setattr(download, "STALL", 0.5)
    with Server(BODY, throttled(1, 0.05)) as server:
        began = time.monotonic()
        with pytest.raises(DownloadError, match="next to nothing"):
            store.fetch(asset(server.url, body=BODY))
        assert time.monotonic() - began < 5


def test_a_refused_connection_is_quick_and_leads_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(download.time, "sleep", naps.append)
    monkeypatch.setattr(download, "BACKOFF", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Server(BODY) as server:
        began = time.monotonic()
        store.fetch(asset(f"http://127.0.0.1:{port}/x", server.url, body=BODY))
        assert time.monotonic() - began < 1
    assert not [nap for nap in naps if nap >= 0.15]  # no second try


def test_a_name_that_does_not_resolve_is_asked_for_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def unknown(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    began = time.monotonic()
    with pytest.raises(DownloadError, match="does not resolve") as caught:
        store.fetch(asset("http://one.invalid/x", "https://two.invalid/x", body=BODY))
    assert asked == ["one.invalid", "two.invalid"]
    assert time.monotonic() - began < 1
    assert "0x" not in str(caught.value)
    message = str(caught.value)
    assert "fetched: one.invalid, two.invalid: the name does not resolve" in message, "one cause is said once"
    assert message.count("resolve") == 1 and message.count("weights.h5") == 2, "its name, and where to put it"
    assert all(remedy in message for remedy in ("Try again", "PHOTOLABEL_MIRROR", "--weights FILE"))


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_certificates_that_are_not_there_are_named(
    store: Store, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "missing/ca.pem")
    with Server(BODY) as server, pytest.raises(DownloadError, match=f"{variable} names 'missing/ca.pem'"):
        store.fetch(asset(server.url, body=BODY))


def test_a_message_drives_no_terminal(store: Store) -> None:
    with Server(BODY, redirect("file:///\x1b]0;title\x07")) as server:
        for url in (server.url, "http://127.0.0.1:1/\x1b[2J\x9b", "\x1b[2J://x"):
            with pytest.raises(DownloadError) as caught:
                store.fetch(asset(url, body=BODY))
            assert str(caught.value).isprintable()


def test_no_url_at_all(store: Store) -> None:
    with pytest.raises(DownloadError, match="no URL"):
        store.fetch(asset(body=BODY))


def test_a_silent_first_url_leaves_time_for_the_second(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "READ", REAL["READ"])

    def slow(h: Handler, body: bytes) -> None:
        time.sleep(0.25)
        honest(h, body)

    with Server(BODY, silent) as dead, Server(BODY, slow) as server:
        assert store.fetch(asset(dead.url, server.url, body=BODY)).read_bytes() == BODY


def test_every_black_hole_is_reported_within_ten_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real timeouts. The holes are tried side by side, to spare time."""
    for module, constant in ((download, "SILENCE"), (network, "CONNECT"), (network, "READ")):
        monkeypatch.setattr(module, constant, REAL[constant])
    release = threading.Event()
    resolve = socket.getaddrinfo
    took: dict[str, float] = {}
    errors: dict[str, str] = {}

    with Deaf() as deaf, Server(BODY, silent) as mute, Server(BODY, header_drip) as drip, Server(BODY, stall(0)) as bare:  # fmt: skip  # noqa: E501

        def slow(host: str, port: int, *rest: int, **more: int) -> object:
            if host == "slow.test":
                release.wait(30)
                raise socket.gaierror(socket.EAI_NONAME, "at last")
            if host == "many.test":
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", deaf.port))] * 12
            return resolve(host, port, *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", slow)
        holes = {
            "connect": (deaf.url,),
            "many addresses": ("http://many.test/x",),
            "resolver": ("http://slow.test/x",),
            "answer": (mute.url,),
            "headers": (drip.url,),
            "body": (bare.url,),
            "several": (deaf.url, mute.url, drip.url, bare.url),
        }

        def fall_into(hole: str) -> None:
            began = time.monotonic()
            try:
                Store(tmp_path / hole).fetch(asset(*holes[hole], body=BODY))
            except DownloadError as error:
                errors[hole] = str(error)
            took[hole] = time.monotonic() - began

        threads = [threading.Thread(target=fall_into, args=(hole,)) for hole in holes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        release.set()
    assert set(errors) == set(holes), took
    assert max(took.values()) < 10, took


# --- trust


def fetched(store: Store, **options: str) -> tuple[Asset, Path]:
    with Server(BODY) as server:
        want = asset(server.url, body=BODY, **options)
        return want, store.fetch(want)


def flip(path: Path, *, keep_mtime: bool) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)[0]
        file.seek(1000)
        file.write(bytes([byte ^ 1]))
    times = (before.st_atime_ns, before.st_mtime_ns + (0 if keep_mtime else 1))
    os.utime(path, ns=times)


@pytest.mark.parametrize("keep_mtime", [False, True])
def test_a_flipped_byte_is_found_and_healed(store: Store, keep_mtime: bool) -> None:
    want, path = fetched(store)
    flip(path, keep_mtime=keep_mtime)
    assert store.find(want) is None
    with Server(BODY) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        assert len(server.requests) == 1
    assert store.find(want)


def test_a_file_of_another_size_is_not_even_hashed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    want, path = fetched(store)
    calls = count_hashing(monkeypatch)
    os.truncate(path, 1 << 40)  # a hole: hashing it would take an hour
    assert store.find(want) is None
    assert not calls


def test_a_flip_that_left_no_trace_is_found_deep(store: Store) -> None:
    """As on a failing disk: the record fits the file's stat in everything."""
    want, path = fetched(store)
    flip(path, keep_mtime=False)
    rewrite_record(store, path)
    assert store.find(want)  # this is what trusting a record means
    assert store.find(want, deep=True) is None
    with store.create("x.onnx") as file:
        file.write(BODY)
    flip(store.path("x.onnx"), keep_mtime=False)
    rewrite_record(store, store.path("x.onnx"))
    assert store.check("x.onnx")
    assert not store.check("x.onnx", deep=True)


def record_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.record.json")


def rewrite_record(store: Store, path: Path, **changes: object) -> None:
    now = path.stat()
    record = json.loads(record_of(path).read_bytes())
    record |= {
        "size": now.st_size,
        "mtime_ns": now.st_mtime_ns,
        "ctime_ns": now.st_ctime_ns,
        "inode": now.st_ino,
    }
    record_of(path).write_text(json.dumps(record | changes))


def count_hashing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the reads that hashing does."""
    import photolabel.records as records

    calls: list[int] = []
    real = records.hash_of

    def counted(descriptor: int, algorithm: str) -> str:
        calls.append(os.fstat(descriptor).st_size)
        return real(descriptor, algorithm)

    monkeypatch.setattr(records, "hash_of", counted)
    monkeypatch.setattr("photolabel.store.hash_of", counted)
    return calls


@pytest.mark.parametrize("field", ["size", "mtime_ns", "ctime_ns", "inode", "digest"])
def test_each_field_of_the_record_counts(store: Store, monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    want, path = fetched(store)
    calls = count_hashing(monkeypatch)
    assert store.find(want)
    assert not calls
    rewrite_record(store, path, **{field: "md5:" + "0" * 32 if field == "digest" else 1})
    assert store.find(want)
    assert len(calls) == 1
    assert store.find(want)  # the record is new again
    assert len(calls) == 1


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b"[" * 4000, b"[" * 200_000, b"null", b"[]", b"{}", b'{"digest": 1}', b"\xff\xfe",
     b" " * 5000 + b"{}", b"1" * 5000, b'{"digest":"x","size":NaN}',
     b'{"digest":"x","size":"1","mtime_ns":1,"ctime_ns":1,"inode":1}'],
)  # fmt: skip
def test_a_bad_record_costs_one_hash_and_nothing_else(
    store: Store, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    want, path = fetched(store)
    with store.create("x.onnx") as file:
        file.write(b"derived")
    for each in (path, store.path("x.onnx")):
        record_of(each).unlink()
        if content is not None:
            record_of(each).write_bytes(content)
    calls = count_hashing(monkeypatch)
    assert store.find(want) == path
    assert store.find(want) == path
    assert len(calls) == 1
    assert store.check("x.onnx") is False  # nothing says what it should be: make it again


def test_a_huge_record_is_not_read_to_its_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    want, path = fetched(store)
    with record_of(path).open("wb") as file:
        file.truncate(1 << 40)  # a hole
    assert store.find(want) == path


@pytest.mark.parametrize("digest", ["rot13:00", "", 5, ["sha256:"], None])
def test_a_record_with_an_absurd_digest(store: Store, tmp_path: Path, digest: object) -> None:
    with store.create("x.onnx") as file:
        file.write(b"derived")
    rewrite_record(store, store.path("x.onnx"), digest=digest, inode=1)
    assert store.check("x.onnx") is False
    outside = tmp_path / "outside"
    outside.write_bytes(BODY)
    expected = store.known_digest(outside)
    (memory,) = (store.folder / "digests").iterdir()
    memory.write_text(json.dumps(json.loads(memory.read_bytes()) | {"digest": digest}))
    assert store.known_digest(outside) == expected


def test_a_link_in_place_of_a_file_is_not_trusted(store: Store, tmp_path: Path) -> None:
    want, path = fetched(store)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)  # even to the right bytes: they can change behind our back
    rewrite_record(store, path)
    assert store.find(want) is None
    with store.create("x.onnx") as file:
        file.write(BODY)
    derived = store.path("x.onnx")
    derived.rename(tmp_path / "derived")
    derived.symlink_to(tmp_path / "derived")
    assert store.check("x.onnx") is False
    with Server(BODY) as server:
        store.fetch(asset(server.url, body=BODY))
    assert not path.is_symlink()
    assert elsewhere.read_bytes() == BODY


def test_a_swap_between_looking_and_opening_is_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    want, path = fetched(store)
    other = store.folder / "other"
    other.write_bytes(BODY)
    real = os.open

    def swapping(name: str | Path, flags: int, *rest: int, **more: int) -> int:
        if Path(name) == path:
            other.replace(path)
        return real(name, flags, *rest, **more)

    monkeypatch.setattr(os, "open", swapping)
    assert store.find(want) is None


def test_a_file_written_to_while_it_is_hashed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    want, path = fetched(store)
    record_of(path).unlink()
    import photolabel.store as module

    real = module.hash_of

    def disturbed(descriptor: int, algorithm: str) -> str:
        result = real(descriptor, algorithm)
        flip(path, keep_mtime=False)
        return result

    monkeypatch.setattr(module, "hash_of", disturbed)
    assert store.find(want) is None
    assert not record_of(path).exists()


def test_the_folder_itself_may_be_a_link(store: Store, tmp_path: Path) -> None:
    want, _ = fetched(store)
    (tmp_path / "link").symlink_to(store.folder)
    assert Store(tmp_path / "link").find(want)


def test_something_else_under_the_name(store: Store) -> None:
    store.folder.mkdir()
    want = asset(body=BODY)
    os.mkfifo(store.path(want.name))
    assert store.find(want) is None  # and does not hang
    store.path(want.name).unlink()
    store.path(want.name).mkdir()
    assert store.find(want) is None
    with Server(BODY) as server, pytest.raises(CacheUnwritableError):
        store.fetch(asset(server.url, body=BODY))


def test_a_copy_of_the_cache_is_rehashed_once(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want, _ = fetched(store)
    shutil.copytree(store.folder, tmp_path / "copy")
    calls = count_hashing(monkeypatch)
    copy = Store(tmp_path / "copy")
    assert copy.find(want)
    assert copy.find(want)
    assert len(calls) == 1


# --- derived files


def test_create_then_check(store: Store) -> None:
    assert store.check("x.onnx") is False
    with store.create("x.onnx") as file:
        assert file.write(b"one") == 3
        file.write(memoryview(b" two"))
        file.flush()
        assert not store.path("x.onnx").exists()
    assert store.path("x.onnx").read_bytes() == b"one two"
    assert json.loads(record_of(store.path("x.onnx")).read_bytes())["digest"] == digest_of(store.path("x.onnx"))
    assert store.check("x.onnx")
    assert store.check("x.onnx", deep=True)
    flip_at = store.path("x.onnx")
    flip_at.write_bytes(b"one twO")
    assert not store.check("x.onnx")
    with store.create("x.onnx") as file:
        file.write(b"one two")
    assert store.check("x.onnx")
    assert names(store) == {"x.onnx", "x.onnx.record.json"}


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), OSError(errno.EIO, "not the cache's")])
def test_a_failed_create_leaves_the_old_file(store: Store, error: BaseException) -> None:
    with store.create("x.onnx") as file:
        file.write(b"old")
    with pytest.raises(type(error)) as caught, store.create("x.onnx") as file:
        file.write(b"new")
        raise error
    assert caught.value is error
    assert store.path("x.onnx").read_bytes() == b"old"
    assert store.check("x.onnx")
    assert names(store) == {"x.onnx", "x.onnx.record.json"}


def test_what_killed_writers_left_is_swept(store: Store) -> None:
    store.folder.mkdir()
    ours = ["x.onnx.12-0123abcd.tmp", "x.onnx.record.json.12-0123abcd.tmp"]
    others = ["x.onnx.b.12-0123abcd.tmp", "x.onnx.tmp", "y.x.onnx.12-0123abcd.tmp"]
    for name in [*ours, *others]:
        (store.folder / name).touch()
    with store.lock("x.onnx"):
        assert names(store) == set(others)


def test_remove(store: Store) -> None:
    _, path = fetched(store)
    plant_partial(store, b"x")
    store.remove(path.name)
    store.remove(path.name)
    assert not names(store)


def test_known_digest_hashes_once(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "my weights.h5"
    outside.write_bytes(BODY)
    (tmp_path / "link").symlink_to(outside)
    calls = count_hashing(monkeypatch)
    expected = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
    monkeypatch.chdir(tmp_path)
    for each in (outside, tmp_path / "link", Path("my weights.h5")):
        assert store.known_digest(each) == expected
    assert len(calls) == 1
    assert store.known_digest(outside, "md5") == f"md5:{hashlib.md5(BODY).hexdigest()}"
    flip(outside, keep_mtime=True)
    assert store.known_digest(outside) != expected
    assert len(calls) == 3


def test_known_digest_of_what_cannot_be_read(store: Store, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for each in (tmp_path / "missing", tmp_path, tmp_path / "loop"):
        with pytest.raises(StoreError, match="cannot be read"):
            store.known_digest(each)
        with pytest.raises(StoreError, match="cannot be read"):
            digest_of(each)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\\b", "/etc/passwd", "a\0b", "a\nb", "C:x", ".hidden", "a.", "a b", "x.tmp",
     "x.lock", "x.partial", "x.record.json", "con", "NUL.h5", "é", "a" * 151, "\x1b[31m"],
)  # fmt: skip
def test_names_that_are_refused(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="file name"):
        asset("http://x/y", body=BODY, name=name)
    for use in (store.path, store.check, store.remove):
        with pytest.raises(UsageError):
            use(name)


@pytest.mark.parametrize("digest", ["", "md5:", "md5:" + "0" * 64, "sha256:" + "G" * 64, "sha1:" + "0" * 40, "0" * 32])
def test_digests_that_are_refused(digest: str) -> None:
    with pytest.raises(UsageError, match="digest"):
        Asset(name="x", urls=(), digest=digest, size=1)
    with pytest.raises(UsageError, match="size"):
        Asset(name="x", urls=(), digest="md5:" + "0" * 32, size=0)


# --- the disk


@pytest.mark.parametrize("point", range(10))
def test_a_full_disk_keeps_the_partial(store: Store, monkeypatch: pytest.MonkeyPatch, point: int) -> None:
    number = errno.EDQUOT if point % 2 else errno.ENOSPC
    left = [point * len(BODY) // 10]
    write = os.write

    def full(descriptor: int, data: memoryview) -> int:
        if not isinstance(data, memoryview):
            return write(descriptor, data)
        if not left[0]:
            raise OSError(number, os.strerror(number))
        count = write(descriptor, data[: left[0]])
        left[0] -= count
        return count

    with Server(BODY) as server:
        want = asset(server.url, body=BODY)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(DiskFullError) as caught:
                store.fetch(want)
        kept = point * len(BODY) // 10
        assert f"{len(BODY) - kept:,} more bytes" in str(caught.value)
        assert "free " in str(caught.value)
        assert (store.folder / "weights.h5.partial").stat().st_size == kept
        assert store.fetch(want).read_bytes() == BODY
        assert server.ranges[-1] == (f"bytes={kept}-" if kept else None)


def test_too_little_room_is_said_before_anything_is_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(store.folder.parent)._replace(free=len(BODY) - HALF - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    plant_partial(store, BODY[:HALF])
    with Server(BODY) as server:
        with pytest.raises(DiskFullError, match=f"{HALF:,} more bytes, free {HALF - 1:,}"):
            store.fetch(asset(server.url, body=BODY))
        assert not server.requests
        usage = usage._replace(free=HALF)
        assert store.fetch(asset(server.url, body=BODY))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 128 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(small_disk)
    with store.create("old") as file:
        file.write(b"old")
    with pytest.raises(DiskFullError), store.create("old") as file:
        file.write(BODY)
    assert store.check("old", deep=True)
    with Server(BODY) as server:
        with pytest.raises(DiskFullError):
            store.fetch(asset(server.url, body=BODY))
        assert not server.requests
        real = shutil.disk_usage
        monkeypatch.setattr(shutil, "disk_usage", lambda f: real(f)._replace(free=1 << 40))
        with pytest.raises(DiskFullError):
            store.fetch(asset(server.url, body=BODY))
        assert len(server.requests) == 1
    kept = (small_disk / "weights.h5.partial").read_bytes()
    assert kept
    assert BODY.startswith(kept)
    assert store.check("old", deep=True)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_failing_disk_at_the_end(store: Store, monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    expected = DiskFullError if number == errno.ENOSPC else CacheUnwritableError
    with Server(BODY) as server:
        with monkeypatch.context() as patch:
            patch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), fail)
            with pytest.raises(expected, match="PHOTOLABEL_CACHE"):
                store.fetch(asset(server.url, body=BODY))
            with pytest.raises(expected, match="PHOTOLABEL_CACHE"), store.create("x.onnx") as file:
                file.write(b"x")
        assert names(store) == {"weights.h5.partial"}
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
        assert len(server.requests) == 1


def test_it_is_synced_before_it_gets_its_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        events.append(f"sync {kind}")
        fsync(descriptor)

    def replaced(self: Path, target: Path) -> Path:
        events.append(f"name {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    fetched(store)
    assert events == ["sync file", "name weights.h5", "sync folder", "name weights.h5.record.json"]
    events.clear()
    with store.create("x") as file:
        file.write(b"x")
    assert events == ["sync file", "name x", "sync folder", "name x.record.json"]


@pytest.fixture
def freeze(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Make a read-only copy of a cache: by a mount where we may, which binds even root, else by modes."""
    folder = tmp_path / "frozen"
    folder.mkdir()
    mounted = False

    def make(source: Path) -> Path:
        nonlocal mounted
        mount = ["mount", "-t", "tmpfs", "none", str(folder)]
        mounted = bool(shutil.which("mount")) and not subprocess.run(mount, capture_output=True).returncode
        shutil.copytree(source, folder, dirs_exist_ok=True)
        if mounted:
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        elif os.geteuid() == 0:
            pytest.skip("root without the right to mount: nothing is read-only")
        else:
            folder.chmod(0o555)
        return folder

    yield make
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)
    else:
        folder.chmod(0o755)


def test_a_read_only_cache(store: Store, freeze: Callable[[Path], Path]) -> None:
    want, _ = fetched(store)
    with store.create("x.onnx") as file:
        file.write(b"x")
    cold = asset("http://nowhere.invalid/x", body=BODY + b"other", name="other")
    frozen = Store(freeze(store.folder))
    assert frozen.fetch(want).read_bytes() == BODY
    assert frozen.check("x.onnx")
    assert frozen.known_digest(frozen.path("x.onnx"))
    began = time.monotonic()
    for forbidden in (
        lambda: frozen.fetch(cold),
        lambda: frozen.remove("x.onnx"),
        lambda: frozen.create("y").__enter__(),
        lambda: frozen.create("x.onnx").__enter__(),
    ):
        with pytest.raises(CacheUnwritableError, match="PHOTOLABEL_CACHE"):
            forbidden()
    assert time.monotonic() - began < 1


def test_a_warm_fetch_writes_nothing_and_opens_no_socket(store: Store) -> None:
    want, _ = fetched(store)
    program = """
import sys
from pathlib import Path
from photolabel.store import Asset, Store
seen = []
def hook(event, args):
    writes = event == "open" and isinstance(args[2], int) and args[2] & 0o103  # O_WRONLY, O_RDWR, O_CREAT
    if writes or event.startswith(("socket.", "os.mkdir", "os.rename", "os.remove", "fcntl.")):
        seen.append((event, str(args)))
sys.dont_write_bytecode = True
sys.addaudithook(hook)
folder, name, digest, size = sys.argv[1:]
assert Store(Path(folder)).fetch(Asset(name=name, urls=("http://x.invalid/",), digest=digest, size=int(size)))
assert not seen, seen
assert "requests" not in sys.modules and "filelock" not in sys.modules
"""
    arguments = [str(store.folder), want.name, want.digest, str(want.size)]
    run = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


# --- settings


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == Store().folder == tmp_path / "mine"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHOTOLABEL_CACHE", "here")
    assert cache_folder() == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PHOTOLABEL_CACHE", "~/there")
    assert cache_folder() == tmp_path / "there"
    monkeypatch.setenv("PHOTOLABEL_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().is_absolute()
    assert "photolabel" in cache_folder().parts


def test_no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import pwd

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    store = Store()
    want = asset("http://nowhere.invalid/x", body=BODY)
    assert store.find(want) is None
    with pytest.raises(CacheUnwritableError, match="PHOTOLABEL_CACHE"):
        store.fetch(want)
    with pytest.raises(CacheUnwritableError, match="PHOTOLABEL_CACHE"), store.create("x"):
        pass
    assert not list(tmp_path.iterdir())  # above all no folder named "~"
    outside = tmp_path / "w.h5"
    outside.write_bytes(BODY)
    assert store.known_digest(outside) == digest_of(outside)
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path / "cache"))
    assert fetched(Store())


def test_no_home_as_older_platformdirs_say_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: Path("~/.cache") / name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CacheUnwritableError), Store().create("x"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = Store(tmp_path / "file" / "cache")
    with pytest.raises(CacheUnwritableError, match="PHOTOLABEL_CACHE"):
        store.fetch(asset("http://nowhere.invalid/x", body=BODY))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", True),
        ("true", True),
        ("YES", True),
        ("ja", True),
        ("2", True),
        ("0", False),
        ("No", False),
        ("off", False),
        ("false", False),
        ("", False),
    ],
)
def test_offline(store: Store, monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    monkeypatch.setenv("PHOTOLABEL_OFFLINE", value)
    assert offline() is expected
    with Server(BODY) as server:
        want = asset(server.url, body=BODY)
        if expected:
            with pytest.raises(OfflineError, match=r"PHOTOLABEL_OFFLINE.*weights\.h5 \(200,000 bytes, sha256:"):
                store.fetch(want)
            assert not server.requests
            assert not store.folder.exists()
        else:
            store.fetch(want)


def test_offline_warm_and_damaged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    want, path = fetched(store)
    monkeypatch.setenv("PHOTOLABEL_OFFLINE", "1")
    assert store.fetch(want) == path
    flip(path, keep_mtime=False)
    with pytest.raises(OfflineError, match="damaged"):
        store.fetch(want)


# --- several processes, and their deaths

FETCH = """
import sys
from pathlib import Path
from photolabel.store import Asset, Store
folder, url, digest, size = sys.argv[1:]
Store(Path(folder)).fetch(Asset(name="weights.h5", urls=(url,), digest=digest, size=int(size)))
"""


def start_fetch(store: Store, want: Asset) -> subprocess.Popen[str]:
    arguments = [str(store.folder), want.urls[0], want.digest, str(want.size)]
    return subprocess.Popen([sys.executable, "-c", FETCH, *arguments], stderr=subprocess.PIPE, text=True)


def test_four_processes_at_once_fetch_once(store: Store) -> None:
    with Server(BODY, throttled(4000, 0.02)) as server:
        want = asset(server.url, body=BODY)
        processes = [start_fetch(store, want) for _ in range(4)]
        for process in processes:
            assert process.communicate(timeout=30)[1] == ""
            assert process.returncode == 0
        assert len(server.requests) == 1
    assert names(store) == WHOLE


def test_threads_fetch_once(store: Store) -> None:
    with Server(BODY, throttled(20_000, 0.02)) as server:
        want = asset(server.url, body=BODY)
        found: list[Path] = []
        threads = [threading.Thread(target=lambda: found.append(store.fetch(want))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert len(server.requests) == 1


def test_a_lock_may_be_taken_again_by_its_holder(store: Store) -> None:
    with store.lock("x"), store.lock("x"), store.create("x") as file, store.lock("x"):
        file.write(b"x")
    assert store.check("x")


def test_who_waits_for_another_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    taken, release = threading.Event(), threading.Event()

    @contextmanager
    def status(text: str) -> Iterator[None]:
        told.append(text)
        release.set()
        yield

    def hold() -> None:
        with store.lock("weights.h5"):
            taken.set()
            release.wait(10)

    monkeypatch.setattr("photolabel.progress.status", status)
    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(10)
    with store.lock("weights.h5"):
        holder.join()
    assert told == ["another photolabel is at work on weights.h5; waiting ..."]


def test_a_killed_holder_frees_its_lock(store: Store) -> None:
    program = f"""
import time
from pathlib import Path
from photolabel.store import Store
with Store(Path({str(store.folder)!r})).lock("weights.h5"):
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        got: list[float] = []

        def wait() -> None:
            with store.lock("weights.h5"):
                got.append(time.monotonic())

        waiter = threading.Thread(target=wait)
        waiter.start()
        time.sleep(0.3)
        assert not got
        holder.kill()
        killed = time.monotonic()
        waiter.join(5)
        assert got
        assert got[0] - killed < 1


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError()])
def test_a_filesystem_without_locks(store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Each process downloads for itself, into a partial of its own."""
    from filelock import FileLock

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    plant_partial(store, b"another process is writing this")
    with Server(BODY, cut(HALF), honest) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
    with store.create("x") as file:
        file.write(b"x")
    assert names(store) == {*WHOLE, "weights.h5.partial", "x", "x.record.json"}
    assert (store.folder / "weights.h5.partial").read_bytes() == b"another process is writing this"
    with Server(BODY, cut(HALF), status(404)) as server, pytest.raises(DownloadError):
        store.fetch(asset(server.url, body=BODY, name="y"))
    assert not [name for name in names(store) if name.startswith("y")]


@pytest.mark.skipif(sys.platform == "win32", reason="locks are of another kind there")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_kernel_without_flock(store: Store, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """No warning, and no lock file in a lock's stead, which a dead holder would leave locked for ever."""
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with store.lock("x") as first, store.lock("x") as second:
        assert first and second and first != second
    with Server(BODY) as server:
        assert store.fetch(asset(server.url, body=BODY)).read_bytes() == BODY
    for name in ("x.lock", "weights.h5.lock"):
        assert not (store.folder / name).exists() or not (store.folder / name).read_bytes()
    monkeypatch.undo()
    with store.lock("x", wait=False) as private:
        assert private == ""


def test_ctrl_c_keeps_the_partial(store: Store) -> None:
    def interrupt(done: int, total: int) -> None:
        if done >= HALF:
            raise KeyboardInterrupt

    with Server(BODY) as server:
        want = asset(server.url, body=BODY)
        with pytest.raises(KeyboardInterrupt):
            store.fetch(want, progress=interrupt)
        kept = (store.folder / "weights.h5.partial").read_bytes()
        assert len(kept) >= HALF
        assert BODY.startswith(kept)
        store.fetch(want)
        assert server.ranges[1] == f"bytes={len(kept)}-"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_leave_nothing_bad(tmp_path: Path) -> None:
    tally = kill_downloads(tmp_path, kills=20, size=2 << 20, seed=3)
    assert tally["resumed"] >= 3
    assert tally["fetched again (bytes)"] == 0


# --- at random


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**40))
def test_a_network_at_random(tmp_path: Path, seed: int) -> None:
    for each in tmp_path.iterdir():
        each.unlink()
    random_case(seed, tmp_path)
