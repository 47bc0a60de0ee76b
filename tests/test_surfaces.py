"""One photo, one answer: whichever way it goes, the record is the same to the last digit, or the refusal to the word.

Held against the library's records, as JSON, which has every digit. The page is in tests/page/test_page_records.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import photolabel
import test_hard_images
from photolabel import cli
from photolabel.errors import PhotoError
from photolabel.output import json_line
from photolabel.prepared import prepare

from services import Asking, problem
from surfaces import SETTINGS, SURE, Told, told

__all__ = ["told"]

NAMED = "told"


@pytest.fixture(autouse=True)
def _one_cache(_own_world: None, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all of them, or each would compile the network anew."""
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(told.cache))


@pytest.fixture(scope="module")
def ask(told: Told) -> Iterator[Asking]:
    asking = Asking({NAMED: told.classifier}, SETTINGS)
    yield asking
    asking.close()


def jsons(records: list[dict[str, Any]]) -> str:
    return "".join(f"{json_line(record)}\n" for record in records)


def some(told: Told) -> list[tuple[Path, dict[str, Any]]]:
    """A few of the photos, good and bad, each with its record: for what takes long."""
    both = list(zip(told.photos, told.records, strict=True))
    good, bad = ([each for each in both if (each[1]["error"] is None) is well] for well in (True, False))
    return good[:: len(good) // 4] + bad[:: len(bad) // 4]


def test_the_photos_are_of_both_kinds(told: Told) -> None:
    rows = test_hard_images.rows()
    wanted = {str(test_hard_images.FOLDER / row["path"]): row["category"] for row in rows}
    failed = {record["photo"]: record["error"] is not None for record in told.records}
    assert 10 < sum(failed.values()) < len(failed) - 10
    for photo, category in wanted.items():
        if photo in failed and category in {"ok", "must-reject"}:
            assert failed[photo] == (category == "must-reject"), photo


def test_the_library_one_by_one(told: Told) -> None:
    for photo, record in zip(told.photos, told.records, strict=True):
        try:
            found = told.classifier.classify(photo, sure=SURE).record()
        except PhotoError as error:
            assert {"code": error.code, "message": str(error)} == record["error"]
        else:
            assert json_line(found) == json_line(record)


def test_the_library_at_a_glance(told: Told) -> None:
    for photo, record in some(told):
        if record["error"] is None:
            found = photolabel.classify(photo, model=told.model).record()
            assert json_line({**found, "answer": record["answer"]}) == json_line(record)  # how sure is not asked there


def test_the_library_in_processes_and_batches(told: Told) -> None:
    found = photolabel.classify_folder(told.photos, told.classifier, sure=SURE, workers=2)
    assert jsons([each.record() for each in found]) == jsons(told.records)


def test_the_command_line(told: Told) -> None:
    """A record each, in their order, and nothing else; and the exit code of a run where some photos failed."""
    command = [sys.executable, "-m", "photolabel", "--json", "--model", told.model, "--sure", str(SURE)]
    done = subprocess.run(
        [*command, *told.photos],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, b"")
    assert done.stdout.decode() == jsons(told.records)


def test_the_command_line_one_by_one(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    for photo, record in some(told):
        code = cli.main(["--json", "--model", told.model, "--sure", str(SURE), str(photo)])
        assert (code, *capsys.readouterr()) == (record["error"] is not None, jsons([record]), "")


def test_the_service(told: Told, ask: Asking) -> None:
    for photo, record in zip(told.photos, told.records, strict=True):
        response = ask("POST", "/v1/classify", params={"sure": SURE}, content=photo.read_bytes())
        if record["error"] is None:
            assert response.text == json_line({**record, "photo": None})
        elif photo.stat().st_size == 0:  # a request without a photo
            assert problem(response) == "bad-request"
        else:
            assert problem(response) == record["error"]["code"]
            assert response.json()["detail"] == record["error"]["message"]


def test_the_service_with_several(told: Told, ask: Asking) -> None:
    for first in range(0, len(told.photos), SETTINGS.files):
        those = slice(first, first + SETTINGS.files)
        files = [("photo", (str(photo), photo.read_bytes())) for photo in told.photos[those]]
        response = ask("POST", "/v1/classify/batch", params={"sure": SURE}, files=files)
        assert response.text == json_line({"records": told.records[those]})


def test_the_service_given_pixels(told: Told, ask: Asking) -> None:
    """By the Open Inference Protocol, which gives all that the network says, as the library's Prediction has it."""
    for photo, record in some(told):
        if record["error"] is None:
            pixels = np.stack(prepare(photo, *told.classifier.recipes).views)
            tensor = {"name": "pixels", "datatype": "UINT8", "shape": [*pixels.shape], "data": pixels.tolist()}
            response = ask("POST", f"/v2/models/{NAMED}/versions/1/infer", json={"inputs": [tensor]})
            found = np.array(response.json()["outputs"][0]["data"], np.float32)
            assert found.tobytes() == told.classifier.classify(photo).probabilities.tobytes()
            assert [float(found[each["index"]]) for each in record["labels"]] == [
                each["probability"] for each in record["labels"]
            ]


@pytest.mark.parametrize("by", ["bytes", "path"])
def test_rows_of_ray_s(told: Told, by: str) -> None:
    pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from photolabel.ray import Labeler

    columns: dict[str, list[Any]] = {"path": [str(photo) for photo in told.photos]}
    if by == "bytes":
        columns["bytes"] = [photo.read_bytes() for photo in told.photos]
    with Labeler(told.model, threads=None, sure=SURE) as labeler:
        rows = labeler(columns).to_pylist()
    assert set(rows[0]) == {*told.records[0], "path", "photo_bytes"}
    assert jsons([{name: row[name] for name in told.records[0]} for row in rows]) == jsons(told.records)


def test_what_is_no_file(told: Told, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said of names; a service is given none."""
    pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from photolabel.ray import Labeler

    os.mkfifo(tmp_path / "pipe.jpg")
    photos = [str(tmp_path / "gone.jpg"), str(tmp_path / "pipe.jpg")]
    expected = jsons([each.record() for each in told.classifier.classify_many(photos)])
    assert [json.loads(line)["error"]["code"] for line in expected.splitlines()] == [
        "photo-not-found",
        "photo-unreadable",
    ]
    assert jsons([each.record() for each in photolabel.classify_folder(photos, told.classifier)]) == expected
    assert cli.main(["--json", "--model", told.model, *photos]) == 1
    assert capsys.readouterr().out == expected
    with Labeler(told.model, threads=None) as labeler:
        rows = labeler({"path": photos}).to_pylist()
    assert jsons([{name: row[name] for name in json.loads(expected.splitlines()[0])} for row in rows]) == expected
