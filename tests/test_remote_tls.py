"""Photos of servers that speak TLS: read where the certificate is trusted and its name is right, else an error."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from photolabel import cli, network, remote
from photolabel.errors import PhotoError
from photolabel.sources import Item

import servers
from pictures import PNG
from servers import Server


@pytest.fixture(autouse=True)
def _of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of its settings, and no waiting: how often something is asked for is counted."""
    for name in (*network._BUNDLES, *(name for name in os.environ if name.lower().endswith("_proxy"))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(remote, "_WAITS", (0, 0))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a server was asked for, whether or not it got to hear of it."""
    found: list[str] = []
    real = network.Requests.get

    def get(self: network.Requests, url: str, *arguments: Any, **options: Any) -> Any:
        found.append(url)
        return real(self, url, *arguments, **options)

    monkeypatch.setattr(network.Requests, "get", get)
    return found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return servers.certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def another_s(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of a server that is called otherwise."""
    return servers.certificate(tmp_path_factory.mktemp("other"), names="DNS:photos.example")


@pytest.fixture
def server(certificate: Path) -> Iterator[Server]:
    with Server(PNG, certificate=certificate) as running:
        yield running


def trust(monkeypatch: pytest.MonkeyPatch, certificate: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_name("cert.pem")))


def error(url: str) -> PhotoError:
    with pytest.raises(PhotoError) as caught:
        Item(photo="x", url=url).read()
    return caught.value


@pytest.mark.parametrize("workers", ["0", "1"])
def test_photos_are_named_through_tls(
    server: Server, certificate: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, workers: str
) -> None:
    trust(monkeypatch, certificate)
    (tiny.parent / "here.png").write_bytes(PNG)
    what = [server.url, str(tiny.parent / "here.png"), "--model", str(tiny), "--json", "--workers", workers]
    assert cli.main(what) == 0
    there, here = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert there["photo"] == server.url and there["labels"] == here["labels"]
    assert len(server.requests) == 1


def test_a_server_that_nobody_vouches_for_is_the_photo_s_error(
    server: Server, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, asked: list[str]
) -> None:
    """At once: it would be no other the next time. Other photos are named."""
    (tiny.parent / "here.png").write_bytes(PNG)
    what = [server.url, str(tiny.parent / "here.png"), "--model", str(tiny), "--json", "--workers", "0"]
    assert cli.main(what) == 1
    there, here = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert there["error"]["code"] == "photo-unreadable" and here["error"] is None
    assert "certificate was refused" in there["error"]["message"] and "SSL_CERT_FILE" in there["error"]["message"]
    assert asked == [server.url] and not server.requests


def test_a_server_by_another_s_name_is_the_photo_s_error(
    another_s: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    trust(monkeypatch, another_s)
    with Server(PNG, certificate=another_s) as server:
        wrong = error(server.url)
    assert wrong.code == "photo-unreadable"
    assert "certificate was refused (IP address mismatch" in str(wrong) and "SSL_CERT_FILE" not in str(wrong)
    assert len(asked) == 1 and not server.requests


def test_a_list_of_a_server_that_nobody_vouches_for_ends_the_run(server: Server, tiny: Path, capsys: Any) -> None:
    assert cli.main(["--from", server.url, "--model", str(tiny), "--workers", "0"]) == 2
    assert "certificate was refused" in capsys.readouterr().err and not server.requests


def test_no_redirection_leads_out_of_tls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust(monkeypatch, certificate)
    with Server(PNG) as plain, Server(PNG, servers.redirect(plain.url), certificate=certificate) as server:
        assert "leads elsewhere" in str(error(server.url))
        assert len(server.requests) == 1 and not plain.requests


def test_a_file_without_certificates_is_said(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    (tmp_path / "empty.pem").write_bytes(b"")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "empty.pem"))
    assert "SSL_CERT_FILE names a file that holds no certificates" in str(error(server.url))
    assert len(asked) == 1 and not server.requests


def test_a_server_that_speaks_no_tls_is_said() -> None:
    with Server(PNG) as plain:
        wrong = error(plain.url.replace("http:", "https:"))
    assert "TLS failed (" in str(wrong) and "_ssl.c" not in str(wrong)
    assert not plain.requests
