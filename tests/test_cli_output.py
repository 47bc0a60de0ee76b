"""Long runs on the command line: --output, --resume, --progress, --workers, --seconds; stopped, killed, told."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from photolabel import cli, engine, progress, writing
from photolabel.batch import Journal
from photolabel.cli import network
from photolabel.errors import OutputError

import oracle
from run_kills import kill_runs, make_photos, whole_lines

POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX")
UNBROKEN = 40  # photos

Main = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("output-cache")


@pytest.fixture(autouse=True)
def _shared_cache(_own_world: None, _one_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all of them, or each would compile the network anew."""
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(_one_cache))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("pictures") / "photos", UNBROKEN, broken=2)


@pytest.fixture
def here(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(pictures, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def main(here: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> Main:
    """Run the command in this process: its exit code, and what it said."""

    def call(*arguments: str, model: bool = True) -> tuple[int, str, str]:
        how = ["--model", str(tiny)] if model else []
        code = cli.main([*how, "--workers", "0", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "photolabel", *arguments]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
    return subprocess.Popen(command, text=True, **options)


def run(*arguments: str, **options: Any) -> tuple[int, str, str]:
    with start(*arguments, **options) as process:
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err


def photos_of(path: str) -> list[str]:
    return [json.loads(line)["photo"] for line in Path(path).read_bytes().splitlines()]


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int, error: BaseException | None = None) -> None:
    """Have the run stopped, as by Ctrl-C, when so many records are in its journal."""
    real = Journal.add

    def add(self: Journal, record: Any) -> None:
        if self.done == count:
            raise error or KeyboardInterrupt
        real(self, record)

    monkeypatch.setattr(Journal, "add", add)


# -- the output


def test_one_record_a_photo_in_their_order_when_all_is_done(
    main: Main, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("labels.jsonl").write_text("older")
    seen = []
    real = Journal.add

    def add(self: Journal, record: Any) -> None:
        seen.append((Path("labels.jsonl").read_text(), Path("labels.jsonl.partial").exists()))
        real(self, record)

    monkeypatch.setattr(Journal, "add", add)
    assert main("photos", "photos/00007.png", "gone.png", "--output", "labels.jsonl") == (1, "", "")
    wanted = sorted(str(path.relative_to(here)) for path in Path(here, "photos").iterdir())
    assert photos_of("labels.jsonl") == [*wanted, "photos/00007.png", "gone.png"]
    records = [json.loads(line) for line in Path("labels.jsonl").read_text().splitlines()]
    codes = [record["error"] and record["error"]["code"] for record in records]
    assert codes == ["corrupt-photo"] * 2 + [None] * (UNBROKEN - 1) + ["photo-not-found"]
    assert set(seen) == {("older", True)}
    assert sorted(path.name for path in here.iterdir()) == ["labels.jsonl", "photos"]


@pytest.mark.parametrize("ending", ["csv", "txt", "ndjson"])
def test_the_other_views_say_the_same(main: Main, ending: str) -> None:
    assert main("photos", "--output", f"labels.{ending}", "--top", "2")[0] == 1
    lines = Path(f"labels.{ending}").read_text().splitlines()
    assert len(lines) == UNBROKEN + (ending == "csv")
    assert not Path(f"labels.{ending}.partial").exists()
    assert main("photos", "--output", "labels.jsonl", "--top", "2")[0] == 1
    for line, photo in zip(lines[ending == "csv" :], photos_of("labels.jsonl"), strict=True):
        assert photo in line


def test_the_same_bytes_however_many_workers_there_are(main: Main) -> None:
    for workers in ("0", "1", "3"):
        assert main("photos", "--workers", workers, "--output", f"{workers}.jsonl")[0] == 1
    assert Path("0.jsonl").read_bytes() == Path("1.jsonl").read_bytes() == Path("3.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--output", "labels.xml"], 2, "expected a file that ends in one of .jsonl"),
        (["--output", "labels"], 2, "expected a file that ends in one of .jsonl"),
        (["--output", "no/labels.csv"], 4, "no/labels.csv: cannot be written: No such file"),
        (["--output", "folder.csv"], 4, "folder.csv: cannot be written: it is a folder"),
        (["--output", "\0.csv"], 4, "no such path can be"),
        (["--output", "stopped.csv"], 2, "stopped.csv.partial is of a run that was stopped. Go on with it: --resume"),
        (["--output", "strange.csv"], 2, "strange.csv.partial: is no journal of a run"),
        (["--output", "strange.csv", "--resume"], 2, "strange.csv.partial: is no journal of a run"),
        (["--resume"], 2, "--resume goes with --output"),
        (["--from", "./list.txt", "--output", "list.txt"], 2, "list.txt is the list that --from reads"),
        (["--output", "x.csv", "--json"], 2, "without --json"),
        (["--output", "x.csv", "--xmp", "--dry-run"], 2, "without --json and --dry-run"),
        (["--workers", "-1"], 2, "--workers"),
        (["--workers", "257"], 2, "from 1 to 256"),
        (["--seconds", "0"], 2, "a number of seconds above 0"),
        (["--seconds", "nan"], 2, "a number of seconds above 0"),
        (["--progress", "loud"], 2, "loud"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    arguments: list[str], code: int, says: str, main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("folder.csv").mkdir()
    Path("strange.csv.partial").write_text("mine\n")
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert main("photos", "--output", "stopped.csv")[0] == 130
    before = {path: path.read_bytes() for path in Path().glob("*.partial")}
    assert len(before) == 2

    def worked(*_: object, **__: object) -> None:
        raise AssertionError("it worked")

    monkeypatch.setattr(network, "loaded", worked)
    got, out, err = main("photos", *arguments)
    assert (got, out) == (code, "") and says in err and err.count("\n") == 1
    assert {path: path.read_bytes() for path in Path().glob("*.partial")} == before


def test_no_photos_are_an_empty_view(main: Main, here: Path) -> None:
    Path("empty").mkdir()
    Path("empty/notes.txt").touch()
    for name, content in (("a.jsonl", ""), ("a.txt", "")):
        code, out, err = main("empty", "--output", name, "--progress", "plain")
        assert (code, out) == (0, "")
        assert err == "photolabel: no photos found; left out: files that are no photos (1)\n"
        assert Path(name).read_text() == content and not Path(f"{name}.partial").exists()
    assert main("empty", "--output", "a.csv")[0] == 0
    assert Path("a.csv").read_text().startswith("photo,kind,name") and Path("a.csv").read_text().count("\n") == 1


# -- killed at any moment


@POSIX
def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(
    tmp_path: Path, tiny: Path, kills: int = 12, photos: int = 200
) -> None:
    """`make fuzz` does so with more."""
    tally = kill_runs(tmp_path, tiny, kills=kills, photos=photos, seed=7)
    assert tally["killed"] >= kills and tally["resumed"] >= kills // 3


def test_killed_between_the_output_and_the_end_of_its_journal(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main("photos", "--output", "unbroken.csv")[0] == 1
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "remove", lambda _: None)
        assert main("photos", "--output", "labels.csv")[0] == 1
    assert Path("labels.csv").exists() and Path("labels.csv.partial").exists()
    assert main("--output", "labels.csv", "--resume", model=False) == (1, "", "")
    assert Path("labels.csv").read_bytes() == Path("unbroken.csv").read_bytes()
    assert not Path("labels.csv.partial").exists()


# -- gone on with


def test_it_goes_on_as_it_began(main: Main, monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    Path("list").write_text("photos/00003.png\n")
    options = ["--from", "list", "--exclude", "00005.*", "--recipe", "keras", "--top", "all", "--threads", "1"]
    assert main("photos", *options, "--output", "unbroken.jsonl")[0] == 1
    for count in (0, 7, 20):
        with monkeypatch.context() as patch:
            stop_after(patch, count)
            assert main("photos", *options, "--output", "labels.jsonl")[0] == 130
        monkeypatch.setenv("PHOTOLABEL_MODEL", "vgg19")  # another one by now
        assert main("--output", "labels.jsonl", "--resume", model=False) == (1, "", "")
        monkeypatch.delenv("PHOTOLABEL_MODEL")
        assert Path("labels.jsonl").read_bytes() == Path("unbroken.jsonl").read_bytes()
        Path("labels.jsonl").unlink()


def test_the_default_model_of_then_is_that_of_now(main: Main, monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    monkeypatch.setenv("PHOTOLABEL_MODEL", str(tiny))
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert main("photos", "--output", "labels.jsonl", model=False)[0] == 130
    monkeypatch.setenv("PHOTOLABEL_MODEL", "vgg19")
    assert main("--output", "labels.jsonl", "--resume", model=False)[0] == 1
    assert {json.loads(line)["model"] for line in Path("labels.jsonl").read_text().splitlines()} == {"tiny"}


def test_it_goes_on_with_as_many_threads(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other numbers of threads give other last digits."""
    monkeypatch.setattr(engine, "available_threads", lambda: 1)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert main("photos", "--output", "labels.jsonl")[0] == 130
    monkeypatch.setattr(engine, "available_threads", lambda: 2)
    asked = []
    real = network.loaded
    monkeypatch.setattr(network, "loaded", lambda args, limits: asked.append(args.threads) or real(args, limits))
    assert main("--output", "labels.jsonl", "--resume", model=False)[0] == 1
    assert asked == [1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["photos", "more"], "photos: the run that is to go on began with ['photos'], not ['photos', 'more']"),
        (["--top", "3"], "--top: the run that is to go on began with 2, not 3"),
        (["--model", "vgg16"], "--model: the run that is to go on began with "),
        (["--recipe", "keras"], "--recipe: the run that is to go on began without it"),
        (["--precision", "int8"], "--precision: the run"),
        (["--threads", "2"], "--threads: the run that is to go on began with 1, not 2"),
        (["--include", "*.png"], "--include: the run that is to go on began without it"),
        (["--exclude", "*.png"], "--exclude: the run"),
        (["--from", "photos"], "--from: the run"),
        (["--max-pixels", "9"], "--max-pixels: the run"),
        (["--engine", "onnxruntime"], "--engine: the run"),
        (["--xmp"], "--xmp: the run that is to go on began without it"),
    ],
)
def test_contrary_options_are_refused(
    arguments: list[str], says: str, main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert main("photos", "--top", "2", "--threads", "1", "--output", "labels.csv")[0] == 130
    before = Path("labels.csv.partial").read_bytes()
    code, out, err = main("--output", "labels.csv", "--resume", *arguments, model=False)
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1
    assert Path("labels.csv.partial").read_bytes() == before and not Path("labels.csv").exists()
    again = ["photos", "--top", "2", "--threads", "1", "--workers", "2", "--seconds", "9", "--progress", "none"]
    assert main("--output", "labels.csv", "--resume", *again)[0] == 1, "saying the same again is not contrary"


def test_another_folder_is_another_run(main: Main, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert main("photos", "--output", "labels.csv")[0] == 130
    monkeypatch.chdir(here / "photos")
    code, _, err = main("--output", "../labels.csv", "--resume", model=False)
    assert code == 2 and f"folder: the run that is to go on began with {str(here)!r}" in err


def test_another_network_under_the_same_name_is_refused(
    main: Main, monkeypatch: pytest.MonkeyPatch, tiny: Path
) -> None:
    shutil.copy(tiny, "mine.onnx")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert main("photos", "--model", "mine.onnx", "--output", "labels.csv", model=False)[0] == 130
    before = Path("labels.csv.partial").read_bytes()
    Path("mine.onnx").write_bytes(oracle.tiny_onnx(oracle.he_normal(oracle.TINY, seed=1)))
    code, _, err = main("--output", "labels.csv", "--resume", model=False)
    assert code == 2 and "the run began with another network under this name" in err and err.count("\n") == 1
    assert Path("labels.csv.partial").read_bytes() == before
    shutil.copy(tiny, "mine.onnx")
    assert main("--output", "labels.csv", "--resume", model=False)[0] == 1


def test_photos_that_came_and_went(main: Main, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 10)
        assert main("photos", "--output", "labels.jsonl")[0] == 130
    for gone in ("00004", "00020"):
        (here / "photos" / f"{gone}.png").unlink()
    for new in ("00001-new", "zzz"):
        shutil.copy("photos/00009.png", f"photos/{new}.png")
    assert main("--output", "labels.jsonl", "--resume", model=False)[0] == 1
    names = photos_of("labels.jsonl")
    now = {f"photos/{path.name}" for path in Path("photos").iterdir()}
    assert sorted(names) == sorted(now | {"photos/00004.png"}), "one each, and the record of one that went"


def test_a_disk_that_is_not_there_does_not_end_the_run(main: Main, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 10)
        assert main("photos", "--output", "labels.jsonl")[0] == 130
    before = Path("labels.jsonl.partial").read_bytes()
    Path("photos").rename("elsewhere")
    for _ in range(2):
        code, _, err = main("--output", "labels.jsonl", "--resume", model=False)
        assert code == 2 and "Is their disk there?" in err
        assert Path("labels.jsonl.partial").read_bytes() == before and not Path("labels.jsonl").exists()
        Path("photos").mkdir(exist_ok=True)  # the folder where it belongs, empty
    Path("photos").rmdir()
    Path("elsewhere").rename("photos")
    assert main("--output", "labels.jsonl", "--resume", model=False)[0] == 1
    assert len(photos_of("labels.jsonl")) == UNBROKEN


def test_nothing_to_go_on_with(main: Main) -> None:
    assert main("photos", "--output", "labels.csv", "--resume")[0] == 1, "nothing begun: it begins"
    status = Path("labels.csv").stat()
    code, out, err = main("photos", "--output", "labels.csv", "--resume")
    assert (code, out, err) == (0, "", "photolabel: labels.csv is complete: there is nothing to go on with\n")
    assert Path("labels.csv").stat() == status and not Path("labels.csv.partial").exists()
    code, _, err = main("--output", "other.csv", "--resume", model=False)
    assert code == 2 and "expected a photo" in err


@pytest.mark.parametrize("stub", [b"", b'{"journal"', bytes(100)])
def test_a_journal_that_never_was_is_begun_anew(main: Main, stub: bytes) -> None:
    for how in ([], ["--resume"]):
        Path("labels.csv").write_text("older")
        Path("labels.csv.partial").write_bytes(stub)
        assert main("photos", "--output", "labels.csv", *how)[0] == 1
        assert Path("labels.csv").read_text().count("\n") == UNBROKEN + 1
        Path("labels.csv").unlink()


def test_a_journal_without_arguments_is_an_error_like_others(main: Main) -> None:
    Path("labels.csv.partial").write_text('{"journal": "photolabel-journal/1", "settings": {}}\n')
    code, _, err = main("--output", "labels.csv", "--resume", model=False)
    assert code == 2 and "does not say how it began" in err


def test_keywords_neither_lost_nor_doubled(main: Main, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    options = ["photos", "--xmp", "--xmp-threshold", "0", "--output", "labels.jsonl"]
    assert main(*options)[0] == 1
    wanted = {path: path.read_bytes() for path in Path("photos").glob("*.xmp")}
    assert len(wanted) == UNBROKEN - 2
    unbroken = Path("labels.jsonl").read_bytes()
    for path in [*wanted, Path("labels.jsonl")]:
        path.unlink()
    for count in (3, 11, 30):
        with monkeypatch.context() as patch:
            stop_after(patch, count)
            how = options if count == 3 else ["--output", "labels.jsonl", "--resume"]
            assert main(*how, model=count == 3)[0] == 130
        # Its sidecar is written before its record: where the run dies between them, it is merged with once more.
        assert len([*Path("photos").glob("*.xmp")]) == count - 2 + 1
    assert main("--output", "labels.jsonl", "--resume", model=False)[0] == 1
    assert {path: path.read_bytes() for path in Path("photos").glob("*.xmp")} == wanted
    assert Path("labels.jsonl").read_bytes() == unbroken


def test_a_list_from_standard_input_is_to_be_given_again(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = b"".join(b"photos/%05d.png\n" % number for number in range(10))

    def again(*arguments: str, model: bool = False) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
        return main(*arguments, model=model)

    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        code, _, err = again("--from", "-", "--output", "labels.jsonl", model=True)
    assert code == 130 and "To go on, with the same standard input: photolabel --resume" in err
    assert again("--output", "labels.jsonl", "--resume")[0] == 1
    assert len(photos_of("labels.jsonl")) == 10


@POSIX
def test_a_list_that_is_a_pipe_loses_nothing_to_the_counting(main: Main, here: Path) -> None:
    os.mkfifo("pipe")

    def feed() -> None:
        with Path("pipe").open("wb") as file:
            for number in range(UNBROKEN):
                file.write(b"photos/%05d.png\n" % number)
                file.flush()
                time.sleep(0.005)

    threading.Thread(target=feed, daemon=True).start()
    assert main("--from", "pipe", "--output", "labels.jsonl", "--progress", "plain")[0] == 1
    assert len(photos_of("labels.jsonl")) == UNBROKEN


# -- one at a time


@POSIX
def test_two_at_once(main: Main, here: Path, tiny: Path) -> None:
    os.mkfifo("pipe")
    with start("--from", "pipe", "--model", str(tiny), "--output", "labels.csv") as process:
        with Path("pipe").open("wb") as file:
            file.write(b"photos/00003.png\n" * 5)
            file.flush()
            wait_for(lambda: Path("labels.csv.partial").exists() and Path("labels.csv.partial").stat().st_size)
            before = Path("labels.csv.partial").read_bytes()
            code, _, err = main("photos", "--output", "labels.csv", "--resume")
            assert code == 3 and "labels.csv: another photolabel is writing it" in err and err.count("\n") == 1
            assert main("photos", "--output", "labels.csv")[0] in (2, 3)
            assert main("photos", "--output", "other.csv")[0] == 1
            assert Path("labels.csv.partial").read_bytes().startswith(before)
        assert process.wait(60) == 0
    assert Path("labels.csv").read_text().count("\n") == 6


def test_without_a_cache(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOLABEL_CACHE", f"{os.devnull}/nowhere")
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert main("photos", "--output", "labels.jsonl")[0] == 130
    assert main("--output", "labels.jsonl", "--resume", model=False)[0] == 1
    assert len(photos_of("labels.jsonl")) == UNBROKEN


# -- a full disk


@POSIX
def test_a_full_disk_keeps_what_is_done(main: Main, here: Path, tiny: Path) -> None:
    import resource

    assert main("photos", "--output", "unbroken.csv")[0] == 1  # and the network is compiled
    arguments = ["--model", str(tiny), "--workers", "0", "--output", "labels.csv"]
    limit = 9000

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    code, out, err = run("photos", *arguments, preexec_fn=little_room)
    assert (code, out) == (4, "") and err.count("\n") == 1
    assert "labels.csv.partial: cannot be written: File too large" in err and "--resume" in err
    kept = Path("labels.csv.partial").read_bytes()
    assert kept.endswith(b"\n") and limit - 1000 < len(kept) <= limit
    assert not Path("labels.csv").exists() and not [*here.glob(".photolabel-*")]
    code, _, err = run("--output", "labels.csv", "--resume", preexec_fn=little_room)
    assert code == 4 and Path("labels.csv.partial").read_bytes() == kept, "still no room"
    assert run("--output", "labels.csv", "--resume")[0] == 1
    assert Path("labels.csv").read_bytes() == Path("unbroken.csv").read_bytes()


def test_no_room_for_the_output_itself(main: Main, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    assert main("photos", "--output", "unbroken.jsonl")[0] == 1
    Path("labels.jsonl").write_text("older")

    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing.os, "fsync", fsync)
        patch.setattr(Journal, "_sync", lambda _: None)
        code, _, err = main("photos", "--output", "labels.jsonl")
    assert code == 4 and "labels.jsonl: cannot be written: No space left" in err and err.count("\n") == 1
    assert Path("labels.jsonl").read_text() == "older" and not [*here.glob(".photolabel-*")]
    assert len(whole_lines(Path("labels.jsonl.partial").read_bytes()).splitlines()) == UNBROKEN
    assert main("--output", "labels.jsonl", "--resume", model=False)[0] == 1
    assert Path("labels.jsonl").read_bytes() == Path("unbroken.jsonl").read_bytes()


# -- stopped


def wait_for(what: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.005)


def running_with(word: str) -> list[str]:
    """The processes that have a word among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_stopped_within_two_seconds(number: int, code: int, word: str, here: Path, tiny: Path) -> None:
    sources = ["photos"] * 300
    marker = f"{100 + number}.25"
    partial = Path("it's labels.jsonl.partial")
    command = [*sources, "--model", str(tiny), "--output", "it's labels.jsonl", "--seconds", marker, "--workers", "2"]

    def heed() -> None:  # Ctrl-C, which who is in the background inherits as ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with start(*command, preexec_fn=heed) as process:
        wait_for(lambda: partial.exists() and partial.stat().st_size > 20_000)
        wait_for(lambda: len(running_with(marker)) == 3)
        process.send_signal(number)
        begun = time.monotonic()
        out, err = process.communicate(timeout=60)
        took = time.monotonic() - begun
    assert process.returncode == code and took < 5
    assert out == "" and err.count("\n") == 1
    wait_for(lambda: not running_with(marker), 5)
    kept = partial.read_bytes()
    assert kept.endswith(b"\n") and not Path("it's labels.jsonl").exists()
    done = len(whole_lines(kept).splitlines())
    assert 10 < done < UNBROKEN * 300
    assert err.startswith(
        f"photolabel: {word}; what is done ({done:,}) is kept in it's labels.jsonl.partial. To go on: "
    )
    # Fewer of them to go on with: the rest of the sources is as good as done.
    head, _, rest = kept.partition(b"\n")
    settings = json.loads(head)
    short = ["photos"] * (done // UNBROKEN + 1)
    settings["settings"]["arguments"]["photos"] = short
    partial.write_bytes(json.dumps(settings).encode() + b"\n" + rest)
    name, *told = shlex.split(err.partition("To go on: ")[2])
    assert name == "photolabel" and run(*told) == (1, "", "")
    assert len(photos_of("it's labels.jsonl")) == len(short) * UNBROKEN
    assert Path("it's labels.jsonl").read_bytes().startswith(rest)


def test_stopped_while_the_output_is_written(main: Main, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("photolabel.output.files.write", stopped)
        code, _, err = main("photos", "--output", "labels.csv")
    assert code == 130 and f"what is done ({UNBROKEN}) is kept" in err
    assert main(*shlex.split(err.partition("To go on: ")[2])[1:], model=False)[0] == 1


def test_an_output_that_cannot_be_written_keeps_what_is_done(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("labels.csv: cannot be written: No space left on device.")

    with monkeypatch.context() as patch:
        patch.setattr("photolabel.output.files.write", full)
        code, _, err = main("photos", "--output", "labels.csv")
    assert code == 4 and f"what is done ({UNBROKEN}) is kept" in err
    assert main(*shlex.split(err.partition("To go on: ")[2])[1:], model=False)[0] == 1


def test_a_name_that_looks_like_an_option(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        code, _, err = main("photos", "--output=-x.csv")
    assert code == 130
    assert main(*shlex.split(err.partition("To go on: ")[2])[1:], model=False)[0] == 1
    assert Path("-x.csv").exists()


# -- hostile names and files

NAMES = [
    b"a\nb.png", b"\x1b[2J\x1b]0;owned\x07.png", b"\xff\xfe.png", b"=1+1.png", b"-n.png", b"@SUM(A1).png", b"+1.png",
    b'q"u"o,t;e\'s.png', b"\t tab.png", b"\r.png", b"x" * 250 + b".png", "\u202egnp.png".encode(),
    "\u2028.png".encode(), b"%s%n{0}$(id)`id`.png", b" .png",
    "\u00e9\u5bff\u53f8\U0001f600.png".encode(), b"back\\slash.png",
]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_hostile_names_come_back_as_they_were(here: Path, tiny: Path, photo: Path) -> None:
    folder = here / "hostile"
    folder.mkdir()
    for name in NAMES:
        (folder / os.fsdecode(name)).write_bytes(photo.read_bytes() if b"s" in name else b"broken")
    os.chdir(folder)
    sources = sorted(NAMES)
    for ending in ("jsonl", "csv"):
        code, out, err = run(
            "--model", str(tiny), "--workers", "2", "--progress", "plain", f"--output=out.{ending}", "--",
            *map(os.fsdecode, sources), "."
        )  # fmt: skip
        assert (code, out) == (1, "")
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", err)
    wanted = [*sources, *(b"./" + name for name in sources)]
    assert [os.fsencode(name) for name in photos_of("out.jsonl")] == wanted
    text = Path("out.csv").read_bytes().decode("utf-8", "surrogateescape")
    cells = [os.fsencode(row["photo"]) for row in csv.DictReader(io.StringIO(text, newline=""))]
    assert [cell.removeprefix(b"./") for cell in cells] == sources * 2
    assert all(cell == name or cell == b"./" + name for cell, name in zip(cells, wanted, strict=True))
    assert not [cell for cell in cells if re.match(rb"\s*[-=+@]", cell)]


@pytest.mark.skipif(sys.platform != "linux", reason="special files")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_special_files_have_a_record_each_and_the_run_ends(
    here: Path, main: Main, photo: Path, workers: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("s")  # short: the names of sockets are
    shutil.copy(photo, folder / "good.png")
    os.mkfifo(folder / "fifo.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "null.png").symlink_to("/dev/null")
    (folder / "stdin.png").symlink_to("/dev/stdin")
    (folder / "self.png").symlink_to("self.png")
    (folder / "there.png").symlink_to("back.png")
    (folder / "back.png").symlink_to("there.png")
    (folder / "dangling.png").symlink_to("nowhere")
    (folder / "loop").symlink_to(folder)
    with (folder / "sparse.png").open("wb") as file:
        file.truncate(8 << 30)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket.png"))
        begun = time.monotonic()
        code, _, err = main(str(folder), "--workers", workers, "--output", "labels.jsonl")
    assert (code, err) == (1, "") and time.monotonic() - begun < 20
    records = [json.loads(line) for line in Path("labels.jsonl").read_text().splitlines()]
    assert [Path(each["photo"]).name for each in records] == sorted(x.name for x in folder.glob("*.png"))
    assert [Path(each["photo"]).name for each in records if not each["error"]] == ["good.png"]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read_is_one_error(here: Path, main: Main) -> None:
    Path("photos/closed").mkdir(mode=0)
    try:
        assert main("photos", "--output", "labels.jsonl")[0] == 1
    finally:
        Path("photos/closed").chmod(0o700)
    assert len(photos_of("labels.jsonl")) == UNBROKEN + 1 and photos_of("labels.jsonl")[-1] == "photos/closed"


# -- what is said


def test_nothing_is_said_unless_somebody_looks(main: Main) -> None:
    assert main("photos", "--exclude", "0000[01].*", "--output", "a.csv") == (0, "", "")
    assert main("photos", "--exclude", "0000[01].*", "--output", "b.csv", "--progress", "none") == (0, "", "")


def test_lines_for_a_log_and_the_summary(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    code, out, err = main("photos", "--output", "a.csv", "--progress", "plain", "--top", "1")
    assert (code, out) == (1, "")
    *lines, total, errors, seconds, names = err.splitlines()
    assert len(lines) == UNBROKEN
    assert re.fullmatch(
        r"photolabel: 40( of 40)? photos, [\d.]+ a second(, 0 s left)?, 2 errors; class_\d \(\d+\.\d\d%\)", lines[-1]
    )
    assert re.match(r"photolabel: 1( of 40)? photos?, .* 1 error; error: ", lines[0])
    assert re.fullmatch(r"photolabel: 40 photos, in \d+ s: [\d.]+ a second", total)
    assert errors == "photolabel: errors: 2 (corrupt-photo 2)"
    assert re.fullmatch(
        r"photolabel: seconds: reading \d+\.\d, decoding \d+\.\d \(of all workers together\), network \d+\.\d", seconds
    )
    assert re.fullmatch(r"photolabel: commonest: class_\d \d+(, class_\d \d+)*", names)


def test_the_summary_of_a_run_that_went_on(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 30)
        assert main("photos", "--output", "a.csv")[0] == 130
    code, _, err = main("--output", "a.csv", "--resume", "--progress", "plain", model=False)
    total, errors, *_ = err.splitlines()
    assert code == 1 and re.fullmatch(r"photolabel: 40 photos, 10 of them now, in \d+ s: [\d.]+ a second", total)
    assert errors == "photolabel: errors: 2 (corrupt-photo 2)", "those of the first start, too"


@POSIX
def test_lines_for_a_log_do_not_come_among_the_results(here: Path, tiny: Path) -> None:
    script = f'"{sys.executable}" -m photolabel photos --model "{tiny}" --json --progress plain 2>&-'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and len([json.loads(line) for line in done.stdout.splitlines()]) == UNBROKEN


@pytest.fixture
def hostile(here: Path) -> Path:
    """A network whose classes have names that would own the terminal, and are long."""
    labels = [dataclasses.replace(label, name=f"\x1b]0;owned\x07\x9b2J{'long ' * 30}") for label in oracle.TINY_LABELS]
    path = here / "hostile.onnx"
    path.write_bytes(oracle.tiny_onnx(model=dataclasses.replace(oracle.tiny_model(), labels=tuple(labels))))
    return path


def on_terminal(*arguments: str, columns: int, term: str = "xterm", out: bool = False) -> tuple[int, str]:
    """Run the command with standard error on a terminal; its exit code, and all that came there."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    where = theirs if out else subprocess.DEVNULL
    with start(*arguments, stdout=where, stderr=theirs, env={**os.environ, "TERM": term}) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 1 << 16)
            except OSError:  # EIO: nobody has the other end any more
                break
            if not piece:
                break
            shown += piece
        code = process.wait(60)
    os.close(ours)
    return code, shown.decode()


@POSIX
@pytest.mark.parametrize("columns", [30, 200])
def test_on_a_terminal_a_line_that_changes_and_goes(columns: int, hostile: Path) -> None:
    more = ["photos"] * 20
    run("photos", "--model", str(hostile))  # compiled
    code, shown = on_terminal(*more, "--model", str(hostile), "--output", "a.csv", columns=columns)
    assert code == 1
    assert not re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]", shown)
    assert {*re.findall("\x1b.{0,2}", shown)} == {"\x1b[K"}
    drawn, wiped, after = shown.rpartition("\r\x1b[K")
    assert wiped and "owned" not in shown.replace(r"\x1b]0;owned", "")
    lines = [line.removesuffix("\x1b[K") for line in drawn.split("\r")]
    assert sum(" photo" in line for line in lines) >= 2, "it changed"
    assert all(len(line) < columns and "\n" not in line for line in lines)
    total, errors, _, names, end = after.split("\r\n")
    assert total.startswith("photolabel: 800 photos, in ") and errors == "photolabel: errors: 40 (corrupt-photo 40)"
    assert r"\x1b]0;owned\x07\x9b2J" in names and end == ""


@POSIX
def test_on_a_terminal_without_a_line_that_changes(here: Path, tiny: Path) -> None:
    run("photos", "--model", str(tiny))
    code, shown = on_terminal("photos", "--model", str(tiny), "--output", "a.csv", columns=80, term="dumb")
    assert code == 1 and "\x1b" not in shown and shown.startswith("photolabel: 40 photos, in ")
    code, shown = on_terminal("photos", "--model", str(tiny), "--output", "b.csv", "--progress", "none", columns=80)
    assert (code, shown) == (1, "")
    code, shown = on_terminal("photos", "--model", str(tiny), columns=80, out=True)
    assert code == 1 and "a second" not in shown and "\x1b" not in shown, "the names are progress enough"


@POSIX
def test_errors_stand_on_lines_of_their_own(here: Path, tiny: Path) -> None:
    """Without --output they are told as they come, while the line is shown."""
    run("photos", "--model", str(tiny))
    code, shown = on_terminal("photos", "photos", "--model", str(tiny), "--json", columns=80)
    assert code == 1 and shown.count("\r\n") == 4  # records have their errors: only the summary
    _, shown = on_terminal("photos", "photos", "--model", str(tiny), columns=500)
    told = [line for line in shown.split("\r\n") if ".png: " in line]
    assert len(told) == 4
    assert all(re.fullmatch("(.*\r\x1b\\[K)?photolabel: photos/0000[01].png: [^\r]*", line) for line in told)
