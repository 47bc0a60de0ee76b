"""A folder of Parquet files: each photo once, whatever dies, and what is there already is not done again."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from photolabel import cli
from photolabel.batch import Folder, Parts, Tally
from photolabel.batch.parts import MANIFEST, is_folder
from photolabel.errors import BusyError, OutputError, UsageError
from photolabel.prediction import Prediction, RankedLabel
from photolabel.sources import Item

from crews import eventually
from pictures import PNG

SETTINGS = {"network": "sha256:1", "arguments": {"--top": None}}


def items(count: int, start: int = 0) -> list[Item]:
    return [Item(photo=f"{number:04}.png") for number in range(start, start + count)]


def said(photo: str) -> dict[str, Any]:
    label = RankedLabel(index=1, wnid=None, name="mug", probability=0.5)
    return Prediction(photo=photo, model="m", recipe="r", precision="fp32", labels=(label,)).record()


def run(folder: Path, photos: list[Item], *, stop: int | None = None, size: int = 10, settings: Any = SETTINGS) -> int:
    """Run, or go on, until so many records are added; the number of photos that were asked for."""
    place = Folder(folder)
    parts = Parts.resume(place, lambda record: None) or Parts.begin(place, settings, photos=size)
    asked = 0
    with parts:
        for item in parts.remaining(photos):
            if asked == stop:
                return asked
            asked += 1
            parts.add(said(item.photo))
        parts.finish()
    return asked


def rows(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("part-*.parquet"))
    return [row for path in files for row in pyarrow.parquet.read_table(path).to_pylist()]


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("part-*")}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_each_photo_has_a_row_and_its_place(tmp_path: Path) -> None:
    assert run(tmp_path / "out", items(25)) == 25
    found = rows(tmp_path / "out")
    assert [row["sequence"] for row in found] == [*range(25)]
    assert [row["photo"] for row in found] == [item.photo for item in items(25)]
    assert found[3]["labels"] == said("0003.png")["labels"]
    told = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert told["complete"] == {"photos": 25, "errors": 0} and told["settings"] == SETTINGS
    assert Parts.ended(Folder(tmp_path / "out"))


@pytest.mark.parametrize("stop", [0, 1, 9, 10, 11, 19, 20, 24])
def test_what_is_finished_is_kept_and_the_rest_done(tmp_path: Path, stop: int) -> None:
    assert run(tmp_path / "whole", items(25)) == 25
    assert run(tmp_path / "out", items(25), stop=stop) == stop
    kept = files(tmp_path / "out")
    assert len(kept) == stop // 10
    assert run(tmp_path / "out", items(25)) == 25 - 10 * (stop // 10)
    assert kept.items() <= files(tmp_path / "out").items()
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_file_that_is_gone_or_torn_is_written_again(tmp_path: Path, gone: int) -> None:
    run(tmp_path / "whole", items(25))
    out = tmp_path / "out"
    run(out, items(25), stop=24)
    torn = sorted(out.glob("part-*"))
    for number, path in enumerate(torn):
        if number == gone:
            path.unlink()
        elif number == 1:
            path.write_bytes(path.read_bytes()[:-20])
    run(out, items(25))
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    "photos", [items(24, 1), items(5), [*items(5), *items(20, 6)], [*items(1), *items(25)]], ids=range(4)
)
def test_photos_that_came_or_went_are_no_quiet_mistake(tmp_path: Path, photos: list[Item]) -> None:
    run(tmp_path / "out", items(25), stop=21)
    before = files(tmp_path / "out")
    with pytest.raises(UsageError, match="some have come or gone"):
        run(tmp_path / "out", photos)
    assert files(tmp_path / "out") == before and not Parts.ended(Folder(tmp_path / "out"))


def test_photos_that_came_behind_what_is_done_are_done(tmp_path: Path) -> None:
    run(tmp_path / "out", items(25), stop=21)
    assert run(tmp_path / "out", items(31)) == 11
    assert len(rows(tmp_path / "out")) == 31


def test_a_folder_is_of_one_run(tmp_path: Path) -> None:
    out = Folder(tmp_path / "out")
    run(tmp_path / "out", items(25), stop=15)
    with pytest.raises(UsageError, match="--resume"):
        Parts.begin(out, SETTINGS)
    run(tmp_path / "out", items(25))
    with pytest.raises(OutputError, match="already"):
        Parts.begin(out, SETTINGS)
    assert Parts.resume(out, lambda record: None) is None
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(OutputError, match="something else"):
        Parts.begin(Folder(tmp_path / "full"), SETTINGS)


def test_files_of_other_settings_are_not_of_this_run(tmp_path: Path) -> None:
    run(tmp_path / "one", items(10))
    run(tmp_path / "other", items(10), settings={**SETTINGS, "network": "sha256:2"})
    assert not set(files(tmp_path / "one")) & set(files(tmp_path / "other"))
    run(tmp_path / "out", items(25), stop=15)
    (stranger,) = (tmp_path / "other").glob("part-*")
    (tmp_path / "out" / stranger.name).write_bytes(stranger.read_bytes())
    with pytest.raises(UsageError, match="of the same photos"):
        run(tmp_path / "out", items(25))
    for path in (tmp_path / "out").glob("part-*"):
        path.unlink()
    (tmp_path / "out" / stranger.name).write_bytes(stranger.read_bytes())
    with pytest.raises(UsageError, match="some have come or gone"):
        run(tmp_path / "out", items(25))


@pytest.mark.parametrize("text", ["", "[]", "[" * 10000, "{}", '{"parts": "photolabel-parts/1", "settings": {}}'])
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(UsageError, match="none of a run"):
        Parts.resume(Folder(tmp_path), lambda record: None)


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with Parts.begin(Folder(tmp_path / "out"), SETTINGS), ThreadPoolExecutor(1) as another:  # a lock is its thread's
        going_on = another.submit(Parts.resume, Folder(tmp_path / "out"), lambda record: None)
        assert isinstance(going_on.exception(), BusyError)


def test_strays_of_a_kill_are_swept_and_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".photolabel-00ff.tmp").write_bytes(b"half")
    run(tmp_path, items(5))
    assert not [*tmp_path.glob(".photolabel-*")]


def test_a_disk_that_is_full_keeps_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = Folder.write, [0]

    def write(self: Folder, name: str, data: bytes, *, new: bool = False) -> None:
        count[0] += 1
        if count[0] == 3:
            raise OutputError("no space left on the device.")
        real(self, name, data, new=new)

    monkeypatch.setattr(Folder, "write", write)
    with pytest.raises(OutputError, match="stays good"):
        run(tmp_path / "out", items(25))
    assert run(tmp_path / "out", items(25)) <= 15
    assert len(rows(tmp_path / "out")) == 25


def test_a_disk_that_is_full_leaves_nothing_half_written(
    photos: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = os.fsync
    full = [False]

    def fsync(descriptor: int) -> None:
        if full[0] and os.fstat(descriptor).st_size > 1000:
            os.ftruncate(descriptor, 500)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    add, added = Parts.add, [0]

    def fill(self: Parts, record: Mapping[str, Any]) -> None:
        added[0] += 1
        if added[0] == 4:
            assert eventually(lambda: len(files(Path("out"))) == 1)
            full[0] = True
        add(self, record)

    monkeypatch.setattr(Parts, "add", fill)
    what = ["photos", "--model", str(tiny), "--threads", "1", "--output", "out/", "--part-photos", "3"]
    assert photolabel(*what) == 4
    err = capsys.readouterr().err
    assert os.strerror(errno.ENOSPC) in err and "--resume" in err
    assert len(files(Path("out"))) == 1 and not [*Path("out").glob(".photolabel-*")]
    full[0] = False
    assert photolabel("--resume", "--output", "out") == 1
    assert [row["sequence"] for row in rows(Path("out"))] == [*range(7)]


def test_fewer_records_than_photos_are_no_whole_run(tmp_path: Path) -> None:
    with Parts.begin(Folder(tmp_path / "out"), SETTINGS, photos=10) as parts:
        for number, item in enumerate(parts.remaining(items(5))):
            if number != 2:
                parts.add(said(item.photo))
        with pytest.raises(OutputError, match="fewer records"):
            parts.finish()
    assert not files(tmp_path / "out") and not Parts.ended(Folder(tmp_path / "out"))


def test_writing_that_takes_long_holds_the_run_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, real = threading.Event(), Folder.write

    def write(self: Folder, name: str, data: bytes, *, new: bool = False) -> None:
        if name != MANIFEST:
            go.wait(20)
        real(self, name, data, new=new)

    monkeypatch.setattr(Folder, "write", write)
    with Parts.begin(Folder(tmp_path / "out"), SETTINGS, photos=1) as parts:
        added = []

        def add() -> None:
            for item in parts.remaining(items(50)):
                parts.add(said(item.photo))
                added.append(item)

        thread = threading.Thread(target=add)
        thread.start()
        thread.join(0.5)
        assert len(added) < 20
        go.set()
        thread.join(20)
        parts.finish()
    assert len(rows(tmp_path / "out")) == 50


def test_what_was_done_is_counted_when_a_run_goes_on(tmp_path: Path) -> None:
    with Parts.begin(Folder(tmp_path / "out"), SETTINGS, photos=2) as parts:
        for number, item in enumerate(parts.remaining(items(6))):
            failed = {"error": {"code": "corrupt-photo", "message": "m"}, "answer": None, "labels": []}
            parts.add(said(item.photo) | (failed if number == 1 else {}))
            if number == 3:
                break
    tally = Tally()
    again = Parts.resume(Folder(tmp_path / "out"), tally.add)
    assert again is not None
    with again:
        assert again.done == tally.photos == 4
        assert tally.errors == {"corrupt-photo": 1}
        assert tally.names.total() == 3


@pytest.mark.parametrize(
    ("output", "folder"),
    [("out/", True), ("out", False), (".", True), ("labels.csv", False), ("a.b/c", False), ("a.b/", True)],
)
def test_which_outputs_are_folders(output: str, folder: bool) -> None:
    assert is_folder(output) == folder
    assert is_folder(output, likely=True) == (folder or "." not in Path(output).name)


# -- the command line


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(7):
        (folder / f"{number}.png").write_bytes(PNG if number != 3 else PNG[:50])
    return folder


def photolabel(*arguments: str) -> int:
    return cli.main([*arguments, "--workers", "0"])


def test_a_folder_holds_what_a_file_would(photos: Path, tiny: Path) -> None:
    model = ["--model", str(tiny), "--threads", "1"]
    assert photolabel("photos", *model, "--output", "out.parquet") == 1
    assert photolabel("photos", *model, "--output", "out/", "--part-photos", "3") == 1
    found = rows(Path("out"))
    assert len(files(Path("out"))) == 3
    assert [row.pop("sequence") for row in found] == [*range(7)]
    assert found == pyarrow.parquet.read_table("out.parquet").to_pylist()


def test_a_run_into_a_folder_goes_on(
    photos: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Parts.add

    def add(self: Parts, record: Mapping[str, Any]) -> None:
        if record["photo"].endswith("5.png"):
            raise KeyboardInterrupt
        real(self, record)

    what = ["photos", "--model", str(tiny), "--threads", "1", "--output", "out/", "--part-photos", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(Parts, "add", add)
        assert photolabel(*what) == 130
    assert "photolabel --resume --output=out/" in capsys.readouterr().err
    assert len(files(Path("out"))) == 2
    assert photolabel(*what) == 2
    assert photolabel("--resume", "--output", "out", "--top", "3") == 2
    assert "--top" in capsys.readouterr().err
    assert photolabel("--resume", "--output", "out") == 1
    assert [row["sequence"] for row in rows(Path("out"))] == [*range(7)]
    assert photolabel("--resume", "--output", "out") == 0
    assert "nothing to go on with" in capsys.readouterr().err
    assert photolabel(*what) == 4


def test_another_network_does_not_go_on(photos: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = {
        "photos": ["photos"],
        "--from": [],
        "--include": [],
        "--exclude": [],
        "--model": str(tiny),
        "folder": str(Path.cwd()),
    }
    Parts.begin(Folder(Path("out")), {"arguments": began, "network": "sha256:0"}).close()
    assert photolabel("--resume", "--output", "out") == 2
    assert "another network" in capsys.readouterr().err


def test_part_photos_go_with_a_folder_that_begins(capsys: pytest.CaptureFixture[str]) -> None:
    assert photolabel("x.png", "--part-photos", "3") == 2
    assert "--output" in capsys.readouterr().err
