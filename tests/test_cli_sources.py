"""Folders, archives, lists and keywords on the command line."""

from __future__ import annotations

import io
import json
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from photolabel import cli

from conftest import ROOT


@pytest.fixture
def pictures(tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three photos, one of them broken, and what is none."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    shutil.copy(photo, folder / "a.png")
    shutil.copy(photo, folder / "sub" / "b.png")
    (folder / "c.png").write_bytes(photo.read_bytes()[:50])
    (folder / "notes.txt").write_text("no photo")
    (folder / ".hidden.png").write_bytes(photo.read_bytes())
    monkeypatch.chdir(tmp_path)
    return folder


def names(capsys: pytest.CaptureFixture[str], *arguments: str, tiny: Path, code: int) -> list[str]:
    assert cli.main(["--model", str(tiny), "--json", *arguments]) == code
    return [json.loads(line)["photo"] for line in capsys.readouterr().out.splitlines()]


def test_a_folder_with_all_beneath_it(pictures: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = names(capsys, "pictures", tiny=tiny, code=1)
    assert found == ["pictures/a.png", "pictures/c.png", "pictures/sub/b.png"]
    assert names(capsys, "pictures", "--exclude", "c.*", tiny=tiny, code=0) == [found[0], found[2]]
    assert names(capsys, "pictures", "--include", "b.png", tiny=tiny, code=0) == [found[2]]


def test_lines_name_photos_that_the_user_did_not(
    pictures: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--model", str(tiny), "pictures/sub"]) == 0
    assert capsys.readouterr().out.startswith("pictures/sub/b.png: class_")
    assert cli.main(["--model", str(tiny), "pictures/sub/b.png"]) == 0
    assert capsys.readouterr().out.startswith("class_")


def test_an_archive(pictures: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile("holiday.zip", "w") as archive:
        for path in sorted(pictures.rglob("*.png")):
            archive.write(path, path.relative_to(pictures))
    found = names(capsys, "holiday.zip", tiny=tiny, code=1)
    assert found == ["holiday.zip/a.png", "holiday.zip/c.png", "holiday.zip/sub/b.png"]


def test_lists(pictures: Path, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("list").write_text("pictures/a.png\npictures/sub\n")
    wanted = ["pictures/a.png", "pictures/sub/b.png"]
    assert names(capsys, "--from", "list", tiny=tiny, code=0) == wanted
    assert names(capsys, "pictures/a.png", "--from", "list", tiny=tiny, code=0) == ["pictures/a.png", *wanted]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"pictures/a.png\0none\nthere.png\0")))
    assert names(capsys, "--from", "-", tiny=tiny, code=1) == ["pictures/a.png", "none\nthere.png"]


def test_a_photo_called_minus_in_a_list_is_a_file(
    tmp_path: Path, tiny: Path, photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(photo, "-")
    Path("list").write_text("-\n")
    assert names(capsys, "--from", "list", tiny=tiny, code=0) == ["-"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-", "--from", "-"], "can be read once only"),
        (["--from", "nowhere"], "--from nowhere: the list cannot be read: No such file"),
        (["--from", "\0"], "no such name can be"),
        (["x.png", "--dry-run"], "go with --xmp"),
        (["x.png", "--xmp-threshold", "0.3"], "go with --xmp"),
        (["x.png", "--xmp", "--xmp-threshold", "1.1"], "expected a probability from 0 to 1"),
        (["x.png", "--xmp", "--xmp-threshold", "nan"], "expected a probability from 0 to 1"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--model", str(tiny), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_photos_says_what_was_there(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".x.png").touch()
    assert cli.main(["--model", str(tiny), str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert not said.out
    assert "no photos found; left out: " in said.err and "no photos (1)" in said.err and "hidden (1)" in said.err


def test_keywords_and_back(pictures: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", str(tiny), "pictures", "--xmp", "--xmp-threshold", "0"]
    before = sorted(pictures.rglob("*"))
    assert cli.main([*arguments, "--dry-run"]) == 1  # for the broken photo
    planned = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in planned] == ["pictures/a.png.xmp", "pictures/sub/b.png.xmp"]
    assert sorted(pictures.rglob("*")) == before, "only said"
    assert cli.main(arguments) == 1
    assert "class_" in capsys.readouterr().out
    assert "class " in (pictures / "a.png.xmp").read_text()
    assert not (pictures / "c.png.xmp").exists()
    assert cli.main(["undo"]) == 0
    assert sorted(pictures.rglob("*")) == before


def test_a_sidecar_that_cannot_be_merged_is_told_and_the_others_are_written(
    pictures: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "a.png.xmp").write_text("no XML")
    assert cli.main(["--model", str(tiny), "pictures", "--xmp", "--xmp-threshold", "0", "--exclude", "c.png"]) == 4
    assert "a.png.xmp: " in capsys.readouterr().err
    assert (pictures / "a.png.xmp").read_text() == "no XML"
    assert (pictures / "sub" / "b.png.xmp").exists()


def test_the_samples_are_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--model", "efficientnet-lite2", str(ROOT / "samples"), "--include", "coffee*"]) == 0
    assert capsys.readouterr().out.endswith("coffee.jpg: espresso (88.94%)\n")
