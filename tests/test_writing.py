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


# -- folders


def ours(folder: Path) -> bool:
    return here(folder) == ["ours.txt"]


def fill(path: Path, text: str = "new") -> None:
    with writing.whole_folder(path, ours=ours) as folder:
        (folder / "ours.txt").write_text(text)
        (folder / "inner").mkdir()
        (folder / "inner" / "ours.txt").write_text(text)
        (folder / "inner" / "ours.txt").unlink()
        (folder / "inner").rmdir()


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_gets_its_name_when_it_is_whole(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "out"
    if there:
        path.mkdir()
    with writing.whole_folder(path, ours=ours) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "x.txt").write_text("x")
        assert folder.parent == tmp_path and folder.name.startswith(".") and path.exists() == there
    assert (path / "inner" / "x.txt").read_text() == "x" and here(tmp_path) == ["out"]


def test_a_folder_of_ours_is_replaced(tmp_path: Path) -> None:
    fill(tmp_path / "out", "before")
    fill(tmp_path / "out", "after")
    assert (tmp_path / "out" / "ours.txt").read_text() == "after" and here(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, UsageError, MemoryError])
def test_what_raises_leaves_the_folder_that_was(tmp_path: Path, error: type[BaseException]) -> None:
    fill(tmp_path / "out", "before")
    for name in ("out", "new"):
        with pytest.raises(error), writing.whole_folder(tmp_path / name, ours=ours) as folder:
            (folder / "ours.txt").write_text("half")
            raise error("no")
    assert (tmp_path / "out" / "ours.txt").read_text() == "before" and here(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", [1, 2])
def test_a_rename_that_fails_brings_the_former_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, step: int
) -> None:
    fill(tmp_path / "out", "before")
    rename, renamed = Path.rename, []

    def failing(self: Path, target: Path) -> Path:
        renamed.append(target)
        if len(renamed) == step:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    expected = OutputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        fill(tmp_path / "out", "after")
    assert (tmp_path / "out" / "ours.txt").read_text() == "before" and here(tmp_path) == ["out"]


def test_a_former_folder_that_cannot_be_brought_back_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "out", "before")
    rename, renamed = Path.rename, []

    def failing(self: Path, target: Path) -> Path:
        renamed.append(target)
        if len(renamed) > 1:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError):
        fill(tmp_path / "out", "after")
    (kept,) = tmp_path.iterdir()
    assert (kept / "ours.txt").read_text() == "before"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file", "it is no folder"),
        ("full", "the folder holds something else than what photolabel wrote there"),
        ("missing/out", "No such file or directory"),
        ("a\0b", "no such path can be"),
    ],
)
def test_a_folder_that_cannot_be_written(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "theirs.txt").write_text("mine")
    for step in (lambda: writing.check_folder(tmp_path / name, ours=ours), lambda: fill(tmp_path / name)):
        with pytest.raises(OutputError, match=f"cannot be written: {reason}"):
            step()
    assert here(tmp_path) == ["file", "full"] and here(tmp_path / "full") == ["theirs.txt"]


def test_the_folder_one_is_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path(), Path(), tmp_path):
        with pytest.raises(OutputError, match="the folder you are in"):
            fill(path)


def test_behind_a_link_the_folder_is_replaced(tmp_path: Path) -> None:
    fill(tmp_path / "there", "before")
    try:
        (tmp_path / "link").symlink_to(tmp_path / "there")
    except OSError:
        pytest.skip("no symbolic links here")
    fill(tmp_path / "link", "after")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "ours.txt").read_text() == "after"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_above_that_may_not_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="may not be written to"):
            fill(tmp_path / "out")
    finally:
        tmp_path.chmod(0o700)
