from __future__ import annotations

import io
import time

import pytest

from photolabel import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _terminal_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with progress.bar("vgg16", total=100) as move:
        move(40, 100)
        move(100, 100)
        move(0, 100)  # a download that starts over
        move(100, 100)
    assert "vgg16" in terminal.getvalue()


def test_what_an_earlier_run_fetched_is_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with progress.bar("vgg16", total=10**9) as move:
        assert not terminal.getvalue(), "a status line may come first"
        move(9 * 10**8, 10**9)
        time.sleep(0.2)
        move(9 * 10**8 + 1000, 10**9)
    assert "90%" in terminal.getvalue()
    assert "MB/s" not in terminal.getvalue() and "GB/s" not in terminal.getvalue()


@pytest.mark.parametrize("kind", ["dumb", ""])
def test_a_terminal_that_cannot_wipe(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with progress.status("compiling ..."), progress.bar("fetching", total=2) as move:
        move(1, 2)
    assert terminal.getvalue() == "compiling ...\nfetching ...\n"


def test_a_terminal_that_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Terminal):
        def write(self, _: str) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("sys.stderr", Gone())
    with progress.status("compiling ..."):
        pass


def test_a_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with progress.status("compiling \x1b[2Jvgg16 ..."):
        assert terminal.getvalue() == "compiling ?[2Jvgg16 ..."
    assert terminal.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_silence_elsewhere(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    with progress.bar("vgg16", total=100) as move, progress.status("compiling"):
        move(50, 100)
    assert stream is None or not stream.getvalue()
