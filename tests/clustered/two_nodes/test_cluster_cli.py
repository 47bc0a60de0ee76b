"""The command line on a cluster: how runs end, and are gone on with; stores, and evaluations."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from photolabel import cli, remote
from photolabel.cluster import flow

import clusters
import stores
from cluster_runs import fail_soon, plant
from crews import eventually
from pictures import PNG

pytestmark = [clusters.LINUX, pytest.mark.filterwarnings("ignore")]  # what Ray warns of is Ray's


def photolabel_cli(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "photolabel", *arguments],
        env={**os.environ, "PYTHONPATH": str(clusters.SOURCE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_lost_driver_is_gone_on_from(cluster: Any, tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "photos").mkdir()
    plant(tmp_path / "photos", 200)
    out = tmp_path / "out"
    what = ["photos", "--model", str(tiny), "--threads", "1", "--part-photos", "10", f"--ray={cluster.address}"]
    first = photolabel_cli(*what, "--output", "out", cwd=tmp_path)
    assert eventually(lambda: len([*out.glob("part-*")]) >= 3, 120)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = {path: path.stat().st_ino for path in out.glob("part-*")}
    again = photolabel_cli("--resume", "--output", "out", f"--ray={cluster.address}", cwd=tmp_path)
    _, err = again.communicate(timeout=120)
    assert again.returncode == 1, err
    assert before.items() <= {path: path.stat().st_ino for path in out.glob("part-*")}.items()
    local = photolabel_cli(*what[:-1], "--output", "local/", cwd=tmp_path)
    assert local.wait(120) == 1
    expected = {path.name: path.read_bytes() for path in (tmp_path / "local").iterdir()}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == expected


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_it_says_how_to_go_on(
    cluster: Any, tiny: Path, tmp_path: Path, stop: signal.Signals, code: int
) -> None:
    (tmp_path / "photos").mkdir()
    plant(tmp_path / "photos", 300)
    run = photolabel_cli(
        *["photos"] * 60, "--model", str(tiny), "--threads", "1", "--output", "l.jsonl", f"--ray={cluster.address}",
        cwd=tmp_path,
    )  # fmt: skip
    journal = tmp_path / "l.jsonl.partial"
    assert eventually(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 20, 120)
    run.send_signal(stop)
    _, err = run.communicate(timeout=30)
    assert run.returncode == code
    assert f"--resume --output=l.jsonl --ray={cluster.address}" in err


def test_a_cluster_that_fails_says_how_to_go_on(
    cluster: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    plant(Path("photos"), 100)
    with monkeypatch.context() as patch:
        fail_soon(patch)
        what = ["photos", "--model", str(tiny), "--threads", "1", "--output", "l.jsonl", "--ray"]
        assert cli.main(what) == 3
    err = capsys.readouterr().err
    assert "the Ray cluster has failed (RaySystemError)" in err and "--resume --output=l.jsonl --ray" in err
    assert cli.main(["--resume", "--output", "l.jsonl", "--ray"]) == 1
    assert len(Path("l.jsonl").read_text().splitlines()) == 100


def test_photos_of_an_object_store_and_records_into_it(
    cluster: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyarrow = pytest.importorskip("pyarrow.parquet")
    with pytest.MonkeyPatch.context() as patch, stores.s3(patch) as endpoint:
        # The processes of Ray's began before there was a store: they are told of it.
        monkeypatch.setattr(flow.nodes, "decode", _told_of(endpoint, flow.nodes.decode))
        remote._store("s3://x").mkdir("bucket")
        for number in range(7):
            remote.write(f"s3://bucket/in/{number}.png", PNG if number != 3 else b"none")
        what = ["s3://bucket/in/", "--model", str(tiny), "--threads", "1"]
        assert cli.main([*what, "--output", "s3://bucket/out/", "--part-photos", "3", "--ray"]) == 1
        assert cli.main([*what, "--output", str(tmp_path / "here.parquet"), "--workers", "0"]) == 1
        urls = [url for url in remote.beneath("s3://bucket/out/") if url.endswith(".parquet")]
        rows = [r for url in urls for r in pyarrow.read_table(io.BytesIO(remote.read(url, 1 << 30))).to_pylist()]
    assert [row.pop("sequence") for row in rows] == [*range(7)]
    assert rows == pyarrow.read_table(tmp_path / "here.parquet").to_pylist()


def _told_of(endpoint: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def decode(*arguments: Any) -> Any:
        os.environ.update(stores.environment(endpoint))
        return real(*arguments)

    return decode


def test_an_evaluation_takes_a_cluster(cluster: Any, tiny: Path, tmp_path: Path, capsys: Any) -> None:
    for number in range(3):
        (tmp_path / "photos" / f"class_{number}").mkdir(parents=True)
        (tmp_path / "photos" / f"class_{number}" / "a.png").write_bytes(PNG)
    what = ["evaluate", str(tmp_path / "photos"), "--model", str(tiny), "--threads", "1", "--json"]
    assert cli.main([*what, "--ray"]) == 0
    there = capsys.readouterr().out
    assert cli.main([*what, "--workers", "0"]) == 0
    assert json.loads(there) == json.loads(capsys.readouterr().out)
