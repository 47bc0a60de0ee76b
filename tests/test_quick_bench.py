"""`photolabel bench`: it measures what it says, of the model and the photos that it was given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from photolabel import bench, cli
from photolabel.errors import UsageError


def test_it_measures_a_model_on_photos(tiny: Path, photo: Path) -> None:
    found = bench.measure(str(tiny), [str(photo)] * 3, threads=1)
    assert (found.model, found.recipe, found.precision, found.threads, found.photos) == ("tiny", "tiny", "fp32", 1, 3)
    for name in ("loading", "one", "batched", "reading", "reading_camera", "photos_per_second"):
        assert getattr(found, name) > 0, name
    assert found.reading_camera > found.reading, "twelve megapixels take longer than a small PNG"
    assert found.record()["schema"] == "photolabel-bench/1"


def test_without_photos_it_takes_packaged_ones(tiny: Path) -> None:
    assert bench.measure(str(tiny)).photos == 96


def test_photos_that_cannot_be_read_are_no_measure(tiny: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xffnothing")
    with pytest.raises(UsageError, match="none of the photos can be read"):
        bench.measure(str(tiny), [str(broken), str(tmp_path / "missing.jpg")])


def test_the_command(tiny: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--model", str(tiny), str(photo)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("tiny, fp32, recipe tiny, on ") and "photos a second" in out
    assert cli.main(["bench", "--model", str(tiny), "--json", str(photo)]) == 0
    assert json.loads(capsys.readouterr().out)["photos"] == 1
