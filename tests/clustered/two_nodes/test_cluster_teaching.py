"""Features that a cluster computes, and what is taught of them: to the bit what this machine makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from photolabel import batch, cli
from photolabel.cluster import Cluster
from photolabel.errors import UsageError
from photolabel.teaching import backbone
from photolabel.teaching.elsewhere import Elsewhere

import clusters
from cluster_runs import fail_soon
from pictures import PNG
from training import computed, plant_varied

pytestmark = [clusters.LINUX, pytest.mark.filterwarnings("ignore")]  # what Ray warns of is Ray's


def taught(*arguments: str, code: int) -> bytes:
    """The file that is taught, whose name is in it."""
    assert cli.main(["teach", "-o", "taught.onnx", "--threads", "1", *arguments]) == code
    return Path("taught.onnx").read_bytes()


@pytest.fixture
def classes(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Photos of three classes, one of which cannot be read and two of which are the same, in the current folder."""
    pytest.importorskip("sklearn", reason="the extra teach is not installed")
    monkeypatch.chdir(tmp_path)
    plant_varied(Path("set"), 8)
    (Path("set") / "grass" / "none.png").write_bytes(PNG[:40])
    (Path("set") / "grass" / "twice.png").write_bytes((Path("set") / "grass" / "001.png").read_bytes())
    return Path("set")


def test_features_are_those_of_this_machine_to_the_bit(
    cluster: Any, classes: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for where, cache in (("here", "one"), ("there", "two"), ("there", "two")):
        monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path / cache))
        made = backbone.find(tiny, views="mirror", threads=1)
        with ExitStack() as stack:
            work: Any = batch.Here()
            if where == "there":
                find = partial(backbone.find, tiny, views="mirror", threads=1)
                work = Elsewhere(cluster=stack.enter_context(Cluster()), find=find)
            found.append(computed(classes, made, decoders=work))
    here, there, again = found
    assert here.numbers.shape == (25, 2, 16) and len(here.failures) == 1
    for each in (there, again):
        assert each.numbers.tobytes() == here.numbers.tobytes()
        assert each.fingerprints.tobytes() == here.fingerprints.tobytes()
        assert (each.photos, each.names, each.digests) == (here.photos, here.names, here.digests)
        assert [failure.photo for failure in each.failures] == [failure.photo for failure in here.failures]
        assert [failure.error.code for failure in each.failures] == [failure.error.code for failure in here.failures]
    assert there.from_cache == 0 and again.from_cache == 25


def test_what_is_taught_on_a_cluster_is_the_same_file(
    cluster: Any, classes: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path / "one"))
    here = taught("set", "--model", str(tiny), "--workers", "0", code=1)
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path / "two"))
    assert taught("set", "--model", str(tiny), "--ray", code=1) == here
    Path("first.onnx").write_bytes(here)
    plant_varied(Path("more"), 3, seed=1)
    added = taught("more", "--add", "first.onnx", "--ray", code=0)
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path / "one"))
    assert taught("more", "--add", "first.onnx", "--workers", "0", code=0) == added


def test_a_cluster_that_fails_while_it_teaches_says_what_is_kept(
    cluster: Any, classes: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with monkeypatch.context() as patch:
        fail_soon(patch)
        assert cli.main(["teach", "set", "-o", "x.onnx", "--model", str(tiny), "--threads", "1", "--ray"]) == 3
    err = capsys.readouterr().err
    assert "the Ray cluster has failed" in err and "photos is kept: the same command goes on from there" in err
    assert not Path("x.onnx").exists()
    assert cli.main(["teach", "set", "-o", "x.onnx", "--model", str(tiny), "--threads", "1", "--ray"]) == 1


def test_another_backbone_on_the_machines_is_refused(cluster: Any, classes: Path, tiny: Path) -> None:
    made = backbone.find(tiny, threads=1)
    with Cluster() as there, pytest.raises(UsageError, match="not the same on all machines"):
        find = partial(backbone.find, tiny, threads=1, views="mirror")
        computed(classes, made, decoders=Elsewhere(cluster=there, find=find))


def test_what_teaching_cannot_have_of_a_cluster_is_said(classes: Path, tiny: Path, capsys: Any) -> None:
    what = ["teach", "set", "-o", "x.onnx", "--model", str(tiny), "--ray"]
    assert cli.main([*what, "--fine-tune"]) == 2
    assert "--ray" in capsys.readouterr().err
    assert cli.main([*what, "--workers", "1"]) == 2
    assert "not both" in capsys.readouterr().err
