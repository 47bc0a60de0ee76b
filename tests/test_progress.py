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


# -- how far a run has come


class Clock:
    """time.monotonic, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def steps(watch: progress.Watch, clock: Clock, count: int, *, seconds: float, errors: int = 0) -> None:
    for _ in range(count):
        clock.now += seconds
        watch.step(errors=errors, last="mug (9.00%)")


def test_lines_for_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr("sys.stderr", log := io.StringIO())
    with progress.Watch("plain") as watch:
        assert watch.plain and watch.shown
        steps(watch, clock, 19, seconds=0.5)
        assert not log.getvalue(), "not before ten seconds have gone by"
        steps(watch, clock, 1, seconds=0.5, errors=1)
        watch.total = 1220
        watch.hide()
        steps(watch, clock, 20, seconds=0.5, errors=2)
    assert log.getvalue().splitlines() == [
        "photolabel: 20 photos, 2.0 a second, 1 error; mug (9.00%)",
        "photolabel: 40 of 1,220 photos, 2.0 a second, 9 min 50 s left, 2 errors; mug (9.00%)",
    ]


def test_what_an_earlier_start_has_done_is_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr("sys.stderr", log := io.StringIO())
    with progress.Watch("plain", done=1000) as watch:
        watch.total = 1200
        steps(watch, clock, 10, seconds=1.0)
    assert log.getvalue() == (
        "photolabel: 1,010 of 1,200 photos, 1.0 a second, 3 min 10 s left, 0 errors; mug (9.00%)\n"
    )


def test_a_line_that_changes_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with progress.Watch() as watch:
        assert not terminal.getvalue(), "nothing is done yet"
        steps(watch, clock, 1, seconds=0.5)
        assert terminal.getvalue() == "\r1 photo, 2.0 a second, 0 errors; mug (9.00%)\x1b[K"
        before = len(terminal.getvalue())
        steps(watch, clock, 9, seconds=0.01)
        assert len(terminal.getvalue()) == before, "no oftener than can be read"
        watch.hide()
        assert terminal.getvalue().endswith("\r\x1b[K")
        watch.hide()
        before = len(terminal.getvalue())
        watch.total = 100
        steps(watch, clock, 1, seconds=0.41)
        shown = terminal.getvalue()[before:]
        assert shown == "\r11 of 100 photos, 11.0 a second, 8 s left, 0 errors; mug (9.00%)\x1b[K"
    assert terminal.getvalue().endswith("\r\x1b[K") and "\n" not in terminal.getvalue()


@pytest.mark.parametrize(("columns", "room"), [(40, 39), (2, 1), (0, 79), (500, 499)])
def test_a_line_never_goes_on_in_the_next_row(monkeypatch: pytest.MonkeyPatch, columns: int, room: int) -> None:
    clock = Clock(monkeypatch)
    terminal = Terminal()
    terminal.fileno = lambda: 2  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress.os, "get_terminal_size", lambda _: progress.os.terminal_size((columns, 24)))
    with progress.Watch() as watch:
        watch.step(errors=0, last="\u5bff\u53f8" * 300)
        clock.now += 1
    shown = terminal.getvalue().removeprefix("\r").partition("\x1b")[0]
    width = sum(2 if ord(c) > 0x2000 else 1 for c in shown)
    assert room - 1 <= width <= room


@pytest.mark.parametrize("kind", ["dumb", ""])
def test_a_terminal_that_cannot_wipe_gets_the_log(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("TERM", kind)
    clock = Clock(monkeypatch)
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with progress.Watch() as watch:
        assert watch.plain and watch.shown
        steps(watch, clock, 1, seconds=11)
    assert terminal.getvalue() == "photolabel: 1 photo, 0.1 a second, 0 errors; mug (9.00%)\n"


def test_nothing_where_nobody_looks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock(monkeypatch)
    for kind, stream in (("auto", io.StringIO()), ("none", Terminal()), ("auto", None), ("plain", None)):
        monkeypatch.setattr("sys.stderr", stream)
        with progress.Watch(kind) as watch:
            assert watch.shown == (kind == "plain")
            steps(watch, clock, 3, seconds=11)
            watch.hide()
        assert stream is None or not stream.getvalue()
    assert not capsys.readouterr().out, "what is for standard error must not come among the results"


def test_more_photos_than_were_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some came while they were being counted."""
    clock = Clock(monkeypatch)
    monkeypatch.setattr("sys.stderr", log := io.StringIO())
    with progress.Watch("plain") as watch:
        watch.total = 1
        steps(watch, clock, 2, seconds=6)
    assert "2 of 1 photos, 0.2 a second, 0 s left" in log.getvalue()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3600 * 1234, "1,234 h 0 min"), (-5, "0 s")],
)
def test_durations(seconds: float, said: str) -> None:
    assert progress.duration(seconds) == said
