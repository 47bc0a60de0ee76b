"""Rows with photos get their records: in any `map_batches`, and in Ray's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import photolabel
import test_docs
from photolabel.errors import UsageError
from photolabel.ray import Labeler

import clusters
from pictures import PNG

pyarrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")


@pytest.fixture(scope="module")
def labeler(tiny: Path) -> Iterator[Labeler]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTOLABEL_CACHE", str(tiny.parent / "cache"))
        with Labeler(tiny, top=2) as made:
            yield made


def expected(tiny: Path, *photos: Path) -> list[dict[str, Any]]:
    with photolabel.load(tiny, threads=1) as classifier:
        return [each.record() for each in classifier.classify_many(photos, top=2)]


def test_rows_of_bytes_keep_their_other_columns(labeler: Labeler, tiny: Path, photo: Path) -> None:
    data = np.array([photo.read_bytes(), b"no photo", PNG], object)
    rows = labeler({"bytes": data, "path": np.array([str(photo), "b", "c"]), "id": np.array([3, 1, 2])}).to_pylist()
    assert [row["id"] for row in rows] == [3, 1, 2]
    assert [row["path"] for row in rows] == [row["photo"] for row in rows] == [str(photo), "b", "c"]
    assert "bytes" not in rows[0]
    (record,) = expected(tiny, photo)
    assert rows[0]["labels"] == record["labels"] and rows[0]["file"] == record["file"]
    assert rows[1]["error"]["code"] == "unsupported-format" and rows[2]["error"] is None


def test_rows_of_paths_and_arrow_tables(labeler: Labeler, tiny: Path, photo: Path, tmp_path: Path) -> None:
    table = pyarrow.table({"path": [str(photo), str(tmp_path / "none.png")]})
    for rows in (labeler(table), labeler({"path": np.array(table["path"].to_pylist())})):
        first, second = rows.to_pylist()
        assert first["labels"] == expected(tiny, photo)[0]["labels"]
        assert second["error"]["code"] == "photo-not-found"


def test_bytes_alone_have_no_name(labeler: Labeler) -> None:
    (row,) = labeler({"bytes": [PNG]}).to_pylist()
    assert row["error"] is None and row["photo"] == ""


def test_a_row_without_a_photo_costs_one_error(labeler: Labeler, photo: Path) -> None:
    first, second = labeler({"bytes": np.array([None, PNG], object), "path": np.array([None, "b"], object)}).to_pylist()
    assert first["error"]["code"] == "photo-not-found" and second["error"] is None
    (row,) = labeler(pyarrow.table({"path": pyarrow.array([None], pyarrow.string())})).to_pylist()
    assert row["error"]["code"] == "photo-not-found"


def test_columns_of_many_dimensions_are_kept(labeler: Labeler) -> None:
    pixels = np.arange(12.0).reshape(2, 2, 3)
    rows = labeler({"bytes": np.array([PNG, PNG], object), "pixels": pixels}).to_pylist()
    assert [row["pixels"] for row in rows] == pixels.tolist()


def test_no_rows_are_no_rows(labeler: Labeler) -> None:
    assert labeler({"bytes": np.array([], object)}).num_rows == 0


def test_rows_without_photos_or_with_a_record_s_column_are_refused(labeler: Labeler) -> None:
    with pytest.raises(UsageError, match="`bytes`"):
        labeler({"image": [PNG]})
    with pytest.raises(UsageError, match="the column labels is one that a record has"):
        labeler({"bytes": [PNG], "labels": [1]})


def test_wrong_arguments_are_said_when_it_is_made(tiny: Path) -> None:
    with pytest.raises(UsageError, match="top="):
        Labeler(tiny, top=0)
    with pytest.raises(UsageError, match="workers="):
        Labeler(tiny, workers=-1)


@clusters.LINUX
@pytest.mark.filterwarnings("ignore")  # what Ray warns of is Ray's
def test_a_dataset_of_ray_s(tiny: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with clusters.running(tmp_path_factory.mktemp("cache"), nodes=1, processors=2):
        import ray.data

        (tmp_path / "photos").mkdir()
        for number in range(5):
            (tmp_path / "photos" / f"{number}.png").write_bytes(PNG if number else b"none")
        ray.data.DataContext.get_current().enable_progress_bars = False
        found = ray.data.read_binary_files(str(tmp_path / "photos"), include_paths=True).map_batches(
            Labeler,
            fn_constructor_args=(tiny,),
            fn_constructor_kwargs={"top": 2},
            batch_size=2,
            compute=ray.data.ActorPoolStrategy(size=1),
        )
        rows = sorted(found.take_all(), key=lambda row: row["path"])
        assert [Path(row["photo"]).name for row in rows] == [f"{number}.png" for number in range(5)]
        assert [row["error"] is None for row in rows] == [False, True, True, True, True]
        assert rows[1]["labels"] == expected(tiny, tmp_path / "photos" / "1.png")[0]["labels"]


@clusters.LINUX
@pytest.mark.parametrize(("page", "block"), test_docs.OF_RAY, ids=lambda value: getattr(value, "name", ""))
def test_snippets_of_ray_run(page: Path, block: str) -> None:
    """Each in a cluster of its own: others may have left the address of theirs behind, where nobody answers."""
    pytest.importorskip("ray.data", reason="the extra ray is not installed")
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        settings = {"RAY_ADDRESS": "local", "RAY_TMPDIR": folder}
        test_docs.runs(block, "ignore", RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", **settings)
