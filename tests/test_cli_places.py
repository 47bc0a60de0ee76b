"""Where evaluate and calibrate write: never over what they read, never where they cannot end, or silently nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from photolabel import cli, store
from photolabel.evaluate import judging

from known_photos import smooth, telling

Main = Callable[..., tuple[int, str, str]]


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Main:
    """Run the verb in this process on two photos: its exit code, and what it said."""
    monkeypatch.chdir(tmp_path)
    telling(tmp_path)
    Path("set").mkdir()
    for number, image in enumerate(smooth(2)):
        image.save(f"set/{number}.png")
    Path("truth.csv").write_text("0.png,class_1\n1.png,class_2\n")

    def call(*arguments: str) -> tuple[int, str, str]:
        options = ("--model", "telling.onnx", "--labels", "truth.csv", "--workers", "0")
        code = cli.main(["evaluate", "set", *options, *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.mark.parametrize("folder", ["page", ".", "page/../page"])
def test_predictions_in_the_folder_of_the_report(folder: str, main: Main) -> None:
    """The report could never take its place, so the run could never end."""
    Path("page").mkdir()
    code, out, err = main("--report", folder, "--predictions", "page/x.csv")
    assert (code, out) == (2, "") and "page/x.csv would lie in the report's folder" in err and err.count("\n") == 1
    assert not list(Path("page").iterdir())
    assert main("--report", "page", "--predictions", "page.csv")[0] == 0


def test_predictions_over_the_list_of_classes(main: Main) -> None:
    before = Path("truth.csv").read_bytes()
    Path("link.csv").symlink_to("truth.csv")
    for name in ("truth.csv", "./set/../truth.csv", "link.csv"):
        code, out, err = main("--predictions", name)
        assert (code, out) == (2, "") and f"{name} is the list that --labels reads" in err
    assert Path("truth.csv").read_bytes() == before


def test_a_report_of_a_run_that_is_complete(main: Main) -> None:
    assert main("--predictions", "x.csv", "--resume")[0] == 0
    code, out, err = main("--predictions", "x.csv", "--resume", "--report", "page")
    assert (code, out) == (2, "") and "x.csv is complete" in err and "so page is not written" in err
    assert main("--predictions", "y.csv", "--report", "page")[0] == 0
    assert main("--predictions", "y.csv", "--resume", "--report", "page")[0] == 0, "both are there"


def test_a_cache_that_cannot_keep_a_calibration_is_said_before_the_work(
    main: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def named(*_: object, **__: object) -> None:
        raise AssertionError("photos were named first")

    (store.cache_folder() / "calibrations").write_text("in the way")
    monkeypatch.setattr(judging, "judged", named)
    code = cli.main(["calibrate", "set", "--model", "telling.onnx", "--labels", "truth.csv", "--workers", "0"])
    said = capsys.readouterr()
    assert (code, said.out) == (3, "") and "calibrations cannot be written" in said.err and said.err.count("\n") == 1
