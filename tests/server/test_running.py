"""The service as it is run: from the command line, on a port, until it is told to end."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import photolabel
from photolabel.cli import main, serve
from photolabel.errors import UsageError
from photolabel.server import Settings, resting, running
from photolabel.server.protocol import Connection

from crews import children, eventually
from services import Wire, get, post, problem

BIG = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n" + bytes(9_000_000)
KEY = "first-key-of-16-characters"
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")


def connection(server: running.Server) -> Connection:
    """Its only connection."""
    (found,) = server.server_state.connections
    assert isinstance(found, Connection)
    return found


class Started:
    """The command, once it listens: its URL, its port, and what it has said."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url
        self.port = int(url.rpartition(":")[2])
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(self.process.stderr)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(30)
        self._reader.join()
        return code


@contextmanager
def started(*words: str, environment: dict[str, str] | None = None, cwd: Path | None = None) -> Iterator[Started]:
    command = [sys.executable, "-m", "photolabel", "serve", "--port", "0", "--workers", "1", *words]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=cwd, env={**os.environ, **(environment or {})}
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        match = re.fullmatch(r"photolabel: .* at (http://\S+)\n", line)
        assert match, line + process.stderr.read()
        service = Started(process, match[1])
        yield service
    finally:
        process.kill()
        process.wait()
    service._reader.join()
    process.stderr.close()


@POSIX
def test_from_beginning_to_end(tiny: Path, photo: Path, tmp_path: Path) -> None:
    """It answers as the library does, writes nothing anywhere, leaves no process, and ends well."""
    data, scratch = photo.read_bytes(), tmp_path / "scratch"
    scratch.mkdir()
    with started("--model", str(tiny), environment={"TMPDIR": str(scratch)}, cwd=scratch) as service:
        response = httpx.post(f"{service.url}/v1/classify", content=data)
        with photolabel.load(tiny) as classifier:
            assert response.json() == classifier.classify(data).record()
        named = httpx.post(f"{service.url}/v1/classify", files={"photo": ("x.png", data)})
        assert named.json() == {**response.json(), "photo": "x.png"}
        assert problem(httpx.get(f"{service.url}/v1/models", headers={"host": "evil.com"})) == "unknown-host"
        workers = children(service.process.pid)
        assert len(workers) == 1
        assert list(scratch.iterdir()) == []
        assert service.end() == 0
        assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert all(
        re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [0-9a-f]{16} 127.0.0.1 ", line) for line in service.lines
    )
    assert len(service.lines) == 3
    assert list(scratch.iterdir()) == []


@POSIX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whoever_is_in_the_house_gets_an_answer(tiny: Path, photo: Path, number: int) -> None:
    data = photo.read_bytes()
    with started("--model", str(tiny)) as service:
        httpx.post(f"{service.url}/v1/classify", content=data)
        with Wire(service.port) as slow, Wire(service.port) as other:
            slow.say(post(data[:100], headers={"Content-Length": str(len(data))}))  # still on its way
            other.say(get())
            assert other.answer()[0] == 200
            service.process.send_signal(number)

            def not_ready() -> bool:
                other.say(get("/v2/health/ready"))
                return other.answer()[0] == 503

            assert eventually(not_ready)
            other.say(get())
            assert other.answer()[0] == 200  # it lives
            other.say(post(data))
            assert other.answer()[0] == 503  # but takes nothing new
            slow.say(data[100:])
            assert slow.answer()[0] == 200  # it was here before
        assert service.process.wait(20) == 0


@POSIX
def test_a_second_interrupt_ends_at_once(tiny: Path) -> None:
    with started("--model", str(tiny)) as service, Wire(service.port) as wire:
        wire.say(post(b"x", headers={"Content-Length": "100"}))
        assert eventually(lambda: len(children(service.process.pid)) == 1)
        service.process.send_signal(signal.SIGINT)
        assert not eventually(lambda: service.process.poll() is not None, 0.5)
        assert service.end(signal.SIGINT) == 130


@POSIX
def test_workers_end_with_a_service_that_is_killed(tiny: Path) -> None:
    with started("--model", str(tiny)) as service:
        assert eventually(lambda: len(children(service.process.pid)) == 1)
        workers = children(service.process.pid)
        service.process.kill()
        assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


# -- where it may listen


def test_elsewhere_than_here_it_listens_with_a_key_only() -> None:
    for host in ("0.0.0.0", "::"):
        with pytest.raises(UsageError, match="--api-key-file"):
            running.listen(host, 0, Settings())
    running.listen("0.0.0.0", 0, Settings(api_keys=(KEY,))).close()
    for host in ("127.0.0.1", "localhost", "127.3.2.1"):
        running.listen(host, 0, Settings()).close()


def test_a_port_that_is_taken_is_said_to_be() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port}: .*--port"):
            running.listen("127.0.0.1", port, Settings())


@pytest.mark.parametrize("host", ["nowhere.invalid", "256.1.1.1", "", "a" * 300, "127.0.0.1:80"])
def test_a_host_that_is_none(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def resolve(name: str | None, *args: object, **options: object) -> object:
        if name == "nowhere.invalid":  # without asking anybody
            raise socket.gaierror
        return real(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(UsageError):
        running.listen(host, 0, Settings())


def test_connections_are_so_many_as_files_may_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    now = [1024, 4096]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: tuple(now))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: now.__setitem__(slice(None), pair))
    assert running._connections(500) == 500 and now == [1024, 4096]
    assert running._connections(1000) == 1000 and now == [1256, 4096]
    assert running._connections(9000) == 4096 - 256 and now == [4096, 4096]

    def refuse(kind: int, pair: Sequence[int]) -> None:
        raise ValueError

    now[:] = [300, 4096]
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert running._connections(1000) == 44


def test_it_goes_by_the_name_that_it_listens_at(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Settings] = []

    class Server(running.Server):
        def run(self, sockets: list[socket.socket] | None = None) -> None:
            told.append(self._service.settings)

    monkeypatch.setattr(running, "Server", Server)
    with photolabel.load(tiny) as classifier:
        for host, names in (("127.3.2.1", ("127.3.2.1",)), ("0.0.0.0", ())):
            running.serve(classifier, host=host, port=0, settings=Settings(api_keys=(KEY,)))
            assert told.pop().hosts == names


@pytest.mark.skipif(sys.platform == "win32", reason="its event loop has no selector")
def test_its_event_loop_rests_while_a_crowd_is_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not while a body comes of which each look takes only a piece."""
    seen: list[bool] = []

    class Server(running.Server):
        async def main_loop(self) -> None:
            selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
            assert isinstance(selector, resting.Selector)
            seen.append(selector.rests())
            self.config.app.state.door.crowd.refused()  # type: ignore[union-attr]
            seen.append(selector.rests())
            with socket.create_connection(self.servers[0].sockets[0].getsockname()) as wire:
                wire.setblocking(False)
                loop = asyncio.get_running_loop()
                sending = asyncio.ensure_future(loop.sock_sendall(wire, BIG))
                async with asyncio.timeout(60):
                    while not self.server_state.connections or not (gate := connection(self).gate)._pouring:
                        await asyncio.sleep(0)
                sending.cancel()
            self.config.app.state.door.crowd.refused()  # type: ignore[union-attr]
            seen.extend([selector.rests(), selector.rests()])
            assert not gate.poured()
            self.should_exit = self.force_exit = True

    monkeypatch.setattr(running, "Server", Server)
    with photolabel.load(tiny) as classifier, pytest.raises(KeyboardInterrupt):
        running.serve(classifier, port=0)
    assert seen == [False, True, False, True]


# -- the command line


def settings(*words: str) -> Settings:
    return serve._settings(serve.parser().parse_args(words))


def test_options_become_settings(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n\n  {KEY}2 \n")
    made = settings(
        "--api-key-file", str(keys), "--allow-host", "Photos.Example", "--allow-host", "*", "--queue", "8", "--workers",
        "3", "--max-pixels", "1M", "--allow-origin", "https://Page.example",
    )  # fmt: skip
    assert made.api_keys == (KEY, f"{KEY}2")
    assert made.hosts == ("photos.example", "*") and made.origins == ("https://page.example",)
    assert (made.queue, made.files, made.workers, made.pixels) == (8, 4, 3, 1_000_000)
    assert made.page and not settings("--no-page").page
    assert settings() == Settings()
    assert Settings().queue == serve.QUEUE and f"{Settings().pixels // 10**6} million" == serve.PIXELS


def test_a_key_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PHOTOLABEL_API_KEY", KEY)
    assert settings().api_keys == (KEY,)
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    with pytest.raises(UsageError, match="one of them"):
        settings("--api-key-file", str(keys))
    monkeypatch.setenv("PHOTOLABEL_API_KEY", "")  # meant to be one, and none: not a service without a key
    with pytest.raises(UsageError, match="16"):
        settings()


@pytest.mark.parametrize("content", [b"", b"\n \n", b"short", b"\xff" * 20, b"k" * 70_000, None])
def test_a_file_of_keys_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    keys = tmp_path / "keys"
    if content is not None:
        keys.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        settings("--api-key-file", str(keys))
    assert "short" not in str(caught.value)


def complaint(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["serve", *words]) == 2
    out, err = capfd.readouterr()
    assert not out and err.startswith("photolabel: ") and err.count("\n") == 1
    return err


def test_wrong_usage_is_said_before_anything_is_loaded(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: Path
) -> None:
    def load(*args: object, **options: object) -> None:
        raise AssertionError

    monkeypatch.setattr("photolabel.loading.load", load)
    assert "API key" in complaint(capfd, "--host", "0.0.0.0")
    assert "without a port" in complaint(capfd, "--allow-host", "a:80")
    assert "--port" in complaint(capfd, "--port", "65536")
    assert "--workers" in complaint(capfd, "--workers", "0")
    assert "one model" in complaint(capfd, "--model", "vgg16", "--model", "vgg19", "--recipe", "keras")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "Another port" in complaint(capfd, "--port", str(taken.getsockname()[1]))


def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, photolabel.Classifier]]:
    """What would be served."""
    found: list[dict[str, photolabel.Classifier]] = []

    def serve_(
        classifiers: dict[str, photolabel.Classifier], *, listening: Callable[[str], None], **rest: object
    ) -> None:
        found.append(dict(classifiers))
        listening("http://here:1")

    monkeypatch.setattr(running, "serve", serve_)
    return found


def test_several_models_by_the_names_that_they_are_given(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = served(monkeypatch)
    odd = tmp_path / "a=b.onnx"
    odd.write_bytes(tiny.read_bytes())
    words = ["--model", f"first={tiny}", "--model", str(odd), "--model", "efficientnet-lite2"]
    assert main(["serve", "--port", "0", *words]) == 0
    (table,) = found
    assert list(table) == ["first", "tiny", "efficientnet-lite2"]
    limits = table["tiny"].limits
    assert (limits.pixels, limits.file_bytes) == (50_000_000, 32 * 1024 * 1024)
    assert capfd.readouterr().err == "photolabel: first, tiny, efficientnet-lite2 at http://here:1\n"
    assert "another name" in complaint(capfd, "--port", "0", "--model", str(tiny), "--model", str(odd))


def test_what_is_missing_is_said_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("photolabel.server.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("photolabel.server.running", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve"]) == 3
    assert "pip install 'photolabel[serve]'" in capfd.readouterr().err


@POSIX
def test_garbage_is_not_looked_for_among_what_stays(tiny: Path) -> None:
    kept: list[int] = []

    def listening(url: str) -> None:
        kept.append(gc.get_freeze_count())
        signal.raise_signal(signal.SIGINT)

    before = gc.get_freeze_count()
    with photolabel.load(tiny) as classifier:
        running.serve(classifier, port=0, settings=Settings(workers=1, notice_seconds=0), listening=listening)
    assert kept[0] > before + 10_000 and gc.get_freeze_count() <= before
