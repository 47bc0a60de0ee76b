from __future__ import annotations

import io

import pytest

from photolabel import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with progress.bar("vgg16", total=100) as move:
        move(40, 100)
        move(100, 100)
        move(0, 100)  # a download that starts over
        move(100, 100)
    assert "vgg16" in terminal.getvalue()


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
