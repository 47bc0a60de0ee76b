"""A file that was asked for: whole, or nothing of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from photolabel import writing
from photolabel.errors import OutputError, UsageError


def here(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"before")
    with writing.whole(path) as file:
        file.write(b"after")
        file.flush()
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after" and here(tmp_path) == ["x.bin"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, UsageError, MemoryError])
def test_what_raises_leaves_nothing_and_goes_on(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"before")
    with pytest.raises(error), writing.whole(path) as file:
        file.write(b"half")
        raise error("no")
    assert path.read_bytes() == b"before" and here(tmp_path) == ["x.bin"]


def test_a_full_disk_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written: No space left"), writing.whole(tmp_path / "x.bin"):
        raise OSError(28, "No space left on device")
    assert not here(tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "it is a folder"),
        ("folder", "it is a folder"),
        ("missing/x", "No such file or directory"),
        ("file/x", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("nul\0", "no such path can be"),
        ("nul\0/x", "no such path can be"),
        ("pipe", "it is a device or a pipe"),
    ],
)
def test_what_cannot_be_written_is_said_before_any_work(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    before = here(tmp_path)
    with pytest.raises(OutputError, match=f"cannot be written: {reason}"):
        writing.check(tmp_path / name)
    with pytest.raises(OutputError, match=f"cannot be written: {reason}"), writing.whole(tmp_path / name):
        pytest.fail("it was opened")
    assert here(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="its folder may not be written to"):
        writing.check(tmp_path / "x")


def test_a_folder_where_the_system_says_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="its folder may not be written to"):
        writing.check(tmp_path / "x")


def test_the_longest_name_that_fits(tmp_path: Path) -> None:
    with writing.whole(tmp_path / ("x" * 255)) as file:
        file.write(b"1")
    assert len(here(tmp_path)) == 1
