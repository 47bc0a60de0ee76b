"""How right a model is, on the command line: figures, files, reports; stopped, killed, gone on with; bad input."""

from __future__ import annotations

import csv
import html
import io
import json
import os
import re
import shlex
import signal
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import photolabel
from photolabel import batch, calibration, cli, models, sources, truth
from photolabel.calibration import Calibration
from photolabel.cli import evaluate as verb
from photolabel.confidence import share
from photolabel.errors import OutputError
from photolabel.evaluate import judging, report
from photolabel.output import csvs

import oracle
import strangers
from conftest import ROOT
from known_photos import BROKEN, Known, known_photos, smooth, telling
from run_kills import Nursery, log, whole_lines
from test_cli_output import POSIX, on_terminal, run, start, stop_after, wait_for

COUNT = 40
SCORES = tuple(i / 100 for i in range(100))

Main = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return telling(tmp_path_factory.mktemp("telling"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, network: Path) -> Known:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTOLABEL_CACHE", str(network.parent / "cache"))
        return known_photos(tmp_path_factory.mktemp("pictures") / "set", network, COUNT)


@pytest.fixture(autouse=True)
def _here(_own_world: None, network: Path, pictures: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all of them; a folder of their own each, with links to the photos."""
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(network.parent / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in pictures.truth:
        path = Path("set", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((pictures.folder / name).read_bytes())
    Path("telling.onnx").write_bytes(network.read_bytes())


@pytest.fixture
def main(capsys: pytest.CaptureFixture[str]) -> Main:
    """Run the verb in this process: its exit code, and what it said."""

    def call(*arguments: str, model: str | None = "telling.onnx") -> tuple[int, str, str]:
        how = ["--model", model] if model else []
        code = cli.main(["evaluate", *how, "--workers", "0", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def figures(said: tuple[int, str, str]) -> dict[str, Any]:
    assert said[2] == "", said
    found: dict[str, Any] = json.loads(said[1])
    return found


def spoil(pictures: Known, count: int) -> list[str]:
    """Break so many of the photos, and return their names in the set."""
    names = [*pictures.truth][1 :: COUNT // count][:count]
    for name in names:
        Path("set", name).write_bytes(BROKEN)
    return names


def records(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


# -- figures


def test_errors_are_what_was_put_there(main: Main, pictures: Known) -> None:
    found = figures(main("set", "--json"))
    assert found["photos"] == COUNT and found["unreadable"] == 0
    top1, top5 = share(pictures.wrong, COUNT), share(pictures.absent, COUNT)
    for name, expected in (("top1_error", top1), ("top5_error", top5), ("top1_error_counting_unreadable", top1)):
        assert found[name] == {
            "count": expected.count,
            "of": COUNT,
            "share": expected.value,
            "low": expected.low,
            "high": expected.high,
        }
    assert 0 < pictures.absent < pictures.wrong == COUNT // 4
    assert (found["model"], found["protocol"], found["recipe"], found["precision"]) == (
        "telling",
        "crop",
        "tiny",
        "fp32",
    )
    classes = len({*pictures.truth.values()})
    assert found["set"] == f"folders named by WordNet ids, {classes} of 10 classes" and found["every"] == 1
    assert found["calibration"] is found["published"] is None
    assert found["mean_height_of_mistakes"] is None, "its classes are not in WordNet"
    assert found["classes_present"] == classes


def test_what_is_printed(main: Main, pictures: Known) -> None:
    top1, top5 = share(pictures.wrong, COUNT), share(pictures.absent, COUNT)
    classes = len({*pictures.truth.values()})
    code, out, err = main("set")
    head, columns, one, five, error = out.splitlines()
    assert (code, err) == (0, "")
    assert head == (
        f"telling, protocol crop (tiny), fp32: {COUNT} photos (folders named by WordNet ids, {classes} of 10 classes)"
    )
    assert columns.split() == ["error", "95", "%", "interval"]
    for line, name, each in ((one, "top-1", top1), (five, "top-5", top5)):
        assert line.split("  ")[0] == name
        assert line.split()[1:] == [f"{each.value:.2%}", f"{each.low:.2%}", "to", f"{each.high:.2%}"]
    assert re.fullmatch(r"calibration error: \d+\.\d% \(not calibrated\)", error)


def test_calibrated_figures_say_so(main: Main) -> None:
    before = figures(main("set", "--json"))
    with photolabel.load("telling.onnx") as plain:
        learnt = Calibration(temperature=0.2, scores=SCORES, right=90, floor=0.0)
        calibration.keep(plain.identity, learnt)
        try:
            found = figures(main("set", "--json"))
            assert "(calibrated; of the photos that taught it this flatters)" in main("set")[1]
            assert figures(main("set", "--json", "--uncalibrated")) == before
        finally:
            calibration.forget(plain.identity)
    assert found["calibration"] == learnt.digest and found["top1_error"] == before["top1_error"]
    assert found["negative_log_likelihood"] != before["negative_log_likelihood"]


@pytest.mark.parametrize("container", ["tar", "gzip", "zip", "names", "files"])
def test_however_the_photos_come(container: str, main: Main, pictures: Known) -> None:
    expected = figures(main("set", "--json"))
    if container == "zip":
        with zipfile.ZipFile("x.zip", "w") as zipped:
            for name in pictures.truth:
                zipped.write(f"set/{name}", name)
        given = "x.zip"
    elif container in ("tar", "gzip"):
        given = "x.tar" if container == "tar" else "x.tgz"
        with tarfile.open(given, "w:gz" if container == "gzip" else "w") as tar:
            tar.add("set", "")
    else:
        for name, index in pictures.truth.items():
            called = f"class_{index}/{Path(name).name}" if container == "names" else f"n{index:08}_{Path(name).name}"
            Path("again", called).parent.mkdir(parents=True, exist_ok=True)
            Path("again", called).write_bytes(Path("set", name).read_bytes())
        given = "again"
    found = figures(main(given, "--json"))
    assert {**found, "set": ""} == {**expected, "set": ""}
    how = {"names": "folders named by classes", "files": "file names with WordNet ids"}
    assert found["set"].startswith(how.get(container, "folders named by WordNet ids"))
    assert main(given, "--report", "page")[0] == 0 and Path("page/index.html").exists()
    shown = [*Path("page/photos").iterdir()] if Path("page/photos").exists() else []
    assert bool(shown) == (container != "gzip"), "what came in passing is not to be had again"


def test_a_table_goes_before_folders(main: Main, pictures: Known) -> None:
    rows = [f"{name},class_{index}\n" for name, index in pictures.truth.items()]
    Path("truth.csv").write_text("path,label\n" + "".join(rows))
    expected = figures(main("set", "--json"))
    for name in pictures.truth:
        Path("set", name).rename(Path("set", Path(name).name))
    Path("flat.csv").write_text("".join(f"{Path(row).name}" for row in rows))
    for folder in {Path("set", name).parent for name in pictures.truth}:
        folder.rmdir()
    found = figures(main("set", "--labels", "flat.csv", "--json"))
    assert found["set"].startswith("the table flat.csv, ")
    assert {**found, "set": ""} == {**expected, "set": ""}


def test_imagenets_val_txt_and_the_published_figure(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {label.name: label.index for label in models.known()[models.BUNDLED].labels}
    truths = {"cat": "Egyptian_cat", "coffee": "espresso", "rocket": "missile", "sideways": "Egyptian_cat"}
    Path("val").mkdir()
    lines = []
    for number, (name, called) in enumerate(truths.items(), 1):
        path = Path("val", f"ILSVRC2012_val_{number:08}.JPEG")
        path.write_bytes((ROOT / "samples" / f"{name}.jpg").read_bytes())
        lines.append(f"{path.name} {names[called]}\n")
    Path("val.txt").write_text("".join(lines) + "ILSVRC2012_val_00000099.JPEG 3\n")
    code, out, err = main("val", "--labels", "val.txt", model=models.BUNDLED)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == (
        "efficientnet-lite2, protocol crop (efficientnet-lite2), fp32: 4 photos "
        "(Caffe's list val.txt, 3 of 1,000 classes)"
    )
    assert out.splitlines()[2].split()[:2] == ["top-1", "25.00%"] and out.splitlines()[2].endswith("22.4%")
    assert "published: https://" in out and "on all 50,000 of ImageNet's validation photos" in out
    found = figures(main("val", "--labels", "val.txt", "--json", model=models.BUNDLED))
    assert found["published"]["top1_error"] == 0.224 and found["published"]["top5_error"] is None
    assert found["mean_height_of_mistakes"] > 0
    other = figures(main("val", "--labels", "val.txt", "--json", "--views", "mirror", model=models.BUNDLED))
    assert other["published"] is other["protocol"] is None and other["recipe"] == "efficientnet-lite2 mirror"


# -- how photos are looked at


@pytest.mark.parametrize(
    ("protocol", "looked"),
    [
        ("keras", "keras"),
        ("ten-crop", "tiny ten-crop"),
        ("single-scale", "tiny dense 55"),
        ("multi-scale", "tiny dense 37,55,73"),
        ("dense", "tiny dense 37,55,73"),
        ("multi-crop", "tiny multi-crop 37,55,73"),
        ("both", "tiny multi-crop 37,55,73 + tiny dense 37,55,73"),
    ],
)
def test_protocols(protocol: str, looked: str, main: Main) -> None:
    found = figures(main("set", "--protocol", protocol, "--every", "8", "--json"))
    assert (found["protocol"], found["recipe"], found["photos"]) == (protocol, looked, COUNT // 8)
    assert f"protocol {protocol} ({looked})" in main("set", "--protocol", protocol, "--every", "8")[1]


def test_views_and_recipes_instead_of_a_protocol(main: Main) -> None:
    by_hand = figures(main("set", "--views", "multi-crop", "--scales", "37,55,73", "--json"))
    by_name = figures(main("set", "--protocol", "multi-crop", "--json"))
    assert by_hand["protocol"] is None and {**by_hand, "protocol": "multi-crop"} == by_name
    assert main("set", "--recipe", "keras")[1].startswith("telling, keras, fp32: ")


def test_several_models(main: Main, network: Path) -> None:
    telling(Path(), more=1.0, name="partial")
    found = figures(main("set", "--json", model="telling.onnx+partial.onnx"))
    assert found["model"] == "telling+partial" and found["top1_error"]["of"] == COUNT


@pytest.mark.parametrize(("every", "photos"), [(1, 40), (3, 14), (40, 1), (100, 1)])
def test_every_kth(every: int, photos: int, main: Main, pictures: Known) -> None:
    code, _, _ = main("set", "--every", str(every), "--predictions", "x.jsonl")
    assert code == 0
    chosen = [*pictures.truth.items()][::every]
    assert [(each["photo"], each["truth"]["index"]) for each in records("x.jsonl")] == [
        (f"set/{name}", index) for name, index in chosen
    ]
    head = main("set", "--every", str(every))[1].splitlines()[0]
    said = f"{photos} photo{'' if photos == 1 else 's'}{f', one in {every}' if every > 1 else ''} ("
    assert f": {said}" in head and len(chosen) == photos


# -- photos that cannot be read


def test_photos_that_cannot_be_read_are_counted_and_said(main: Main, pictures: Known) -> None:
    broken = spoil(pictures, 4)
    code, out, err = main("set")
    assert code == 1, "as photolabel itself does"
    assert [line.split(": ")[1] for line in err.splitlines()] == [f"set/{name}" for name in broken]
    assert f"fp32: {COUNT - 4} photos (" in out
    code, text, _ = main("set", "--json")
    found = json.loads(text)
    assert code == 1 and (found["photos"], found["unreadable"], found["top1_error"]["of"]) == (COUNT, 4, COUNT - 4)
    counting = share(found["top1_error"]["count"] + 4, COUNT).value
    assert out.splitlines()[-1] == f"4 more could not be read; counted as mistakes, top-1: {counting:.2%}"
    assert main("set", "--report", "page")[0] == 1
    assert "4 photos of 40 could not be read" in re.sub(r"<[^>]*>|\s+", " ", Path("page/index.html").read_text())


def test_where_none_can_be_read(main: Main, pictures: Known) -> None:
    for name in pictures.truth:
        Path("set", name).write_bytes(BROKEN)
    code, out, err = main("set", "--report", "page")
    assert code == 1 and err.count("\n") == COUNT and "nan" not in out
    assert out.splitlines()[1:] == [f"none of the {COUNT} could be read"]
    assert json.loads(main("set", "--json")[1])["calibration_error"] is None


# -- predictions


def test_predictions_say_the_truth(main: Main, pictures: Known) -> None:
    (broken,) = spoil(pictures, 1)
    assert main("set", "--predictions", "x.jsonl")[0] == 1
    found = records("x.jsonl")
    assert [each["photo"] for each in found] == [f"set/{name}" for name in pictures.truth]
    with photolabel.load("telling.onnx") as classifier:
        for name, each in zip(pictures.truth, found, strict=True):
            index, truth_ = pictures.truth[name], each["truth"]
            assert (truth_["index"], truth_["wnid"], truth_["name"]) == (index, f"n{index:08}", f"class_{index}")
            if name == broken:
                assert each["error"]["code"] == "corrupt-photo" and truth_["rank"] is truth_["probability"] is None
                continue
            plain = classifier.classify(f"set/{name}", top=None)
            assert {**each, "truth": None} == {**plain.record(), "labels": each["labels"]}
            assert each["labels"] == json.loads(json.dumps(plain.record()["labels"][:5]))
            ranked = plain.labels[truth_["rank"] - 1]
            assert (ranked.index, ranked.probability) == (index, truth_["probability"])


def test_predictions_as_a_table(main: Main, pictures: Known) -> None:
    (broken,) = spoil(pictures, 1)
    for name in ("x.jsonl", "x.csv", "x.txt"):
        code, out, _ = main("set", "--predictions", name)
        assert code == 1 and out.startswith("telling, "), "the figures are printed as well"
    rows = list(csv.DictReader(io.StringIO(Path("x.csv").read_text(), newline="")))
    assert [*rows[0]] == csvs.columns(5) and len(rows) == COUNT == len(Path("x.txt").read_text().splitlines())
    for row, record in zip(rows, records("x.jsonl"), strict=True):
        known = record["truth"]
        assert (row["truth_name"], row["truth_wnid"]) == (known["name"], known["wnid"])
        assert row["truth_rank"] == ("" if known["rank"] is None else str(known["rank"]))
        assert row["truth_probability"] == ("" if known["rank"] is None else repr(known["probability"]))
        assert bool(row["error_code"]) == (row["photo"] == f"set/{broken}")


def test_predictions_as_parquet(main: Main, pictures: Known) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("x.jsonl", "x.parquet"):
        assert main("set", "--protocol", "ten-crop", "--predictions", name)[0] == 0
    for row, record in zip(parquet.read_table("x.parquet").to_pylist(), records("x.jsonl"), strict=True):
        assert row.pop("photo_bytes") == os.fsencode(record["photo"])
        assert row == record and row["truth"]["rank"] >= 1 and row["opinions"]["members"][0]["views"] == 10


# -- a page


def test_a_report_is_written_and_shows_the_photos(main: Main, pictures: Known) -> None:
    code, out, err = main("set", "--report", "page", "--every", "2")
    assert (code, err) == (0, "") and out == main("set", "--every", "2")[1]
    text = re.sub(r"(<[^>]*>|\s)+", " ", html.unescape(Path("page/index.html").read_text()))
    for said in ("telling", "set", "crop (tiny)", "folders named by WordNet ids", "Only one photo in 2 was looked at."):
        assert said in text, said
    assert "Not measured: some of the model's classes are not in WordNet" in text
    for path in Path("page/photos").iterdir():
        with Image.open(path) as shown:
            assert min(shown.size) > 0
    before = Path("page/index.html").read_bytes()
    assert main("set", "--report", "page", "--every", "2")[0] == 0
    assert Path("page/index.html").read_bytes() == before, "an earlier report is replaced"


def test_a_folder_with_something_else_is_left_alone(main: Main) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    code, out, err = main("set", "--report", "mine")
    assert (code, out) == (4, "") and "mine: cannot be written: the folder holds something else" in err
    assert [path.name for path in Path("mine").iterdir()] == ["notes.txt"]


def test_a_report_that_cannot_be_written_keeps_what_is_done(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("page: cannot be written: No space left on device.")

    expected = main("set", "--json")
    with monkeypatch.context() as patch:
        patch.setattr(report, "write", full)
        code, out, err = main("set", "--report", "page", "--json", "--predictions", "x.csv")
        assert (code, out) == (4, "") and f"what is done ({COUNT}) is kept in x.csv.partial" in err
        code, _, plain = main("set", "--report", "page")
        assert code == 4 and plain == "photolabel: page: cannot be written: No space left on device.\n"
    command = shlex.split(err.partition("To go on: ")[2])
    assert command == ["photolabel", "evaluate", "--resume", "--predictions=x.csv", "--report=page", "--json"]
    assert main(*command[2:], model=None) == expected
    assert Path("x.csv").exists() and Path("page/index.html").exists()


# -- gone on with


@pytest.mark.parametrize("count", [0, 1, 17, 39])
def test_it_goes_on_as_it_began(count: int, main: Main, pictures: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the labels that the photos were given, whose option is called as another of the network's is."""
    Path("truth.csv").write_text("".join(f"{name},{9 - index}\n" for name, index in pictures.truth.items()))
    Path("classes.txt").write_text("".join(f"thing {i}\n" for i in range(10)))
    options = ["set", "--labels", "truth.csv", "--views", "mirror", "--scales", "36,40", "--exclude", "*7.png"]
    expected = main(*options, "--predictions", "unbroken.csv", "--report", "one")
    assert expected[0] == 0
    with monkeypatch.context() as patch:
        stop_after(patch, min(count, 30))
        code, out, err = main(*options, "--predictions", "x.csv")
    assert (code, out) == (130, "") and f"what is done ({min(count, 30)}) is kept in x.csv.partial" in err
    command = shlex.split(err.partition("To go on: ")[2])
    assert command == ["photolabel", "evaluate", "--resume", "--predictions=x.csv"]
    monkeypatch.setenv("PHOTOLABEL_MODEL", "vgg19")
    assert main(*command[2:], "--report", "two", model=None) == expected
    assert Path("x.csv").read_bytes() == Path("unbroken.csv").read_bytes() and not Path("x.csv.partial").exists()
    assert Path("one/index.html").read_bytes() == Path("two/index.html").read_bytes()
    names = [sorted(path.name for path in Path(each, "photos").iterdir()) for each in ("one", "two")]
    assert names[0] == names[1], "photos of the first start are shown, too"


def test_it_goes_on_with_a_network_of_the_users_own(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose classes are in a file, and the photos' in another: --classes and --labels."""
    strangers.write(Path("mine.onnx"), strangers.network())
    strangers.labels(Path())
    for number, image in enumerate(smooth(12)):
        image.save(f"{number}.png")
    Path("truth.csv").write_text("".join(f"{number}.png,{('ant', 'bee', 'eel')[number % 3]}\n" for number in range(12)))
    photos = [f"{number}.png" for number in range(12)]
    options = [*photos, "--labels", "truth.csv", "--classes", "classes.txt", "--recipe", "torchvision"]
    expected = main(*options, "--predictions", "unbroken.jsonl", model="mine.onnx")
    assert expected[0] == 0
    assert expected[1].startswith("mine, torchvision, fp32: 12 photos (the table truth.csv, 3 of 5 classes)\n")
    assert "top-5" not in expected[1], "which says nothing of five classes"
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert main(*options, "--predictions", "x.jsonl", model="mine.onnx")[0] == 130
    assert main("--resume", "--predictions", "x.jsonl", model=None) == expected
    assert Path("x.jsonl").read_bytes() == Path("unbroken.jsonl").read_bytes()
    assert {each["truth"]["name"] for each in records("x.jsonl")} == {"ant", "bee", "eel"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["more"], "photos: the run that is to go on began with ['set'], not ['more']"),
        (["--labels", "other.csv"], "--labels: the run that is to go on began without it"),
        (["--classes", "x.txt"], "--classes: the run that is to go on began without it"),
        (["--protocol", "keras"], "--protocol: the run that is to go on began with 'ten-crop', not 'keras'"),
        (["--every", "3"], "--every: the run that is to go on began with 2, not 3"),
        (["--uncalibrated"], "--uncalibrated: the run that is to go on began without it"),
        (["--max-pixels", "9"], "--max-pixels: the run"),
        (["--model", "vgg16"], "--model: the run that is to go on began with 'telling.onnx', not 'vgg16'"),
    ],
)
def test_contrary_options_are_refused(
    arguments: list[str], says: str, main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["set", "--protocol", "ten-crop", "--every", "2", "--threads", "1"]
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert main(*options, "--predictions", "x.csv")[0] == 130
    before = Path("x.csv.partial").read_bytes()
    code, out, err = main("--resume", "--predictions", "x.csv", *arguments, model=None)
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1
    assert Path("x.csv.partial").read_bytes() == before
    assert main("--resume", "--predictions", "x.csv", *options)[0] == 0, "the same again is not contrary"


def test_calibrated_anew_since(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert main("set", "--predictions", "x.csv")[0] == 130
    with photolabel.load("telling.onnx") as plain:
        calibration.keep(plain.identity, Calibration(temperature=0.5, scores=SCORES, right=90, floor=0.0))
        code, _, err = main("--resume", "--predictions", "x.csv", model=None)
        calibration.forget(plain.identity)
    assert code == 2 and "the model has been calibrated anew since the run began" in err
    assert main("--resume", "--predictions", "x.csv", model=None)[0] == 0


def test_nothing_to_go_on_with(main: Main) -> None:
    assert main("set", "--predictions", "x.csv", "--resume")[0] == 0, "nothing begun: it begins"
    code, out, err = main("set", "--predictions", "x.csv", "--resume")
    assert (code, out, err) == (0, "", "photolabel: x.csv is complete: there is nothing to go on with\n")
    code, _, err = main("--predictions", "other.csv", "--resume", model=None)
    assert code == 2 and "expected photos of known classes" in err


@POSIX
def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(pictures: Known, tmp_path: Path, network: Path) -> None:
    spoil(pictures, 3)
    what = ["evaluate", "set", "set", "set", "--model", "telling.onnx", "--threads", "1"]
    kills = resumed = 0
    rng = np.random.default_rng(5)
    with Nursery(tmp_path) as nursery:
        assert nursery.run(*what, "--workers", "0", "--json", "--predictions", "unbroken.jsonl") == 1, log(tmp_path)
        expected, told = Path("unbroken.jsonl").read_bytes(), log(tmp_path).splitlines()[-1]
        partial = tmp_path / "x.jsonl.partial"
        while kills < 6:
            before = partial.read_bytes() if partial.exists() else b""
            how = ["evaluate", "--resume"] if before.endswith(b"\n") or whole_lines(before) else what
            resumed += how is not what
            size = int(rng.integers(len(before), max(len(expected), len(before) + 1)))
            code = nursery.run(
                *how, "--workers", str(rng.choice([0, 2])), "--json", "--predictions", "x.jsonl",
                kill_after=float(rng.uniform(0, 0.02)), watched=partial, size=size,
            )  # fmt: skip
            kills += code is None
            if code is None and partial.exists():
                assert expected.startswith(whole_lines(partial.read_bytes()))
                continue
            assert Path("x.jsonl").read_bytes() == expected
            Path("x.jsonl").unlink()
            partial.unlink(missing_ok=True)
        if partial.exists():
            assert nursery.run("evaluate", "--resume", "--json", "--predictions", "x.jsonl") == 1
            assert Path("x.jsonl").read_bytes() == expected
            assert log(tmp_path).splitlines()[-1] == told, "the same figures"
    assert resumed >= 2


@POSIX
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_stopped_it_says_how_to_go_on(number: int, code: int, word: str) -> None:
    def heed() -> None:  # Ctrl-C, which who is in the background inherits as ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = ["evaluate", *["set"] * 200, "--model", "telling.onnx", "--workers", "1", "--report", "it's a page"]
    with start(*command, "--predictions", "x.jsonl", preexec_fn=heed) as process:
        wait_for(lambda: Path("x.jsonl.partial").exists() and Path("x.jsonl.partial").stat().st_size > 20_000)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (code, "", 1)
    assert err.startswith(f"photolabel: {word}; what is done (")
    told = shlex.split(err.partition("To go on: ")[2])
    assert told == ["photolabel", "evaluate", "--resume", "--predictions=x.jsonl", "--report=it's a page"]


# -- what is said meanwhile


@POSIX
def test_progress_is_shown_on_a_terminal() -> None:
    run("set", "--model", "telling.onnx")  # compiled
    code, shown = on_terminal("evaluate", *["set"] * 30, "--model", "telling.onnx", columns=100)
    assert code == 0 and shown.count("\r") > 2 and " photos, " in shown and shown.endswith("\r\x1b[K")
    assert main_has_no_progress(run("evaluate", "set", "--model", "telling.onnx"))


def main_has_no_progress(said: tuple[int, str, str]) -> bool:
    return said[0] == 0 and said[2] == "" and "\r" not in said[1]


# -- bad input


def cut_tar(pictures: Known) -> None:
    with tarfile.open("whole.tar", "w") as tar:
        tar.add("set", "set")
    data = Path("whole.tar").read_bytes()
    Path("cut.tar").write_bytes(data[: len(data) // 2])


def test_a_tar_cut_short(main: Main, pictures: Known) -> None:
    """What is missing cannot be counted, so there are no figures."""
    cut_tar(pictures)
    code, out, err = main("cut.tar")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("photolabel: cut.tar: ") and "Traceback" not in err
    code, out, err = main("cut.tar", "--predictions", "x.csv", "--report", "page")
    assert (code, out) == (1, "") and "To go on: photolabel evaluate --resume --predictions=x.csv --report=page" in err
    assert not Path("x.csv").exists() and not Path("page").exists()
    Path("whole.tar").replace("cut.tar")
    assert main("--resume", "--predictions", "x.csv", model=None)[0] == 0, "mended, it goes on"
    assert len(Path("x.csv").read_text().splitlines()) == COUNT + 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "expected photos of known classes. See: photolabel evaluate --help"),
        (["set", "--protocol", "tencrop"], 2, "protocol 'tencrop': expected one of crop, keras, ten-crop"),
        (["set", "--protocol", "crop", "--views", "mirror"], 2, "without --recipe, --views and --scales"),
        (["set", "--protocol", "crop", "--scales", "40"], 2, "without --recipe, --views and --scales"),
        (["set", "--protocol", "crop", "--recipe", "keras"], 2, "without --recipe, --views and --scales"),
        (["set", "--resume"], 2, "--resume goes with --predictions FILE"),
        (["set", "--every", "0"], 2, "--every: '0': expected a whole number of at least 1"),
        (["set", "--predictions", "x.xml"], 2, "expected a file that ends in one of .jsonl"),
        (["set", "--predictions", "no/x.csv"], 4, "no/x.csv: cannot be written"),
        (["set", "--report", "no/page"], 4, "no/page: cannot be written"),
        (["empty"], 2, "no photos found"),
        (["empty", "--predictions", "x.csv"], 2, "no photos found"),
        (["missing"], 1, "missing: there is no such file or folder"),
        (["set", "missing.tar", "--predictions", "x.csv"], 1, "missing.tar: there is no such file or folder"),
        (["-"], 1, "-: there is no such file or folder"),
        (["set", "--labels", "missing.csv"], 2, "missing.csv: there is no such file"),
        (["set", "--labels", "wrong.csv"], 2, "is not in wrong.csv, which lists 1 photos, such as other.jpg"),
        (["set", "--labels", "wrong.csv", "--predictions", "x.csv"], 2, "is not in wrong.csv"),
        (["set", "--labels", "unknown.csv"], 2, "'zebra' is none of the model's 10 classes"),
        (["set", "--labels", "empty.txt"], 2, "empty.txt: expected a list of labelled photos; this file is empty"),
        (["set", "--labels", "ground_truth.txt"], 2, "is in the devkit's meta.mat"),
        (["set", "--labels", "devkit/ground_truth.txt"], 2, "meta.mat: expected the devkit's meta.mat"),
        (["zoo"], 2, "neither its folder 'zebra' nor its name says which of the model's classes it shows"),
        (["zoo", "--predictions", "x.csv"], 2, "neither its folder 'zebra'"),
        (["mixed"], 2, "zebra"),
        (["set", "--model", "vgg61"], 3, "no model 'vgg61'"),
        (["set", "--classes", "imagenet"], 2, "describes itself"),
        (["set", "--tpo"], 2, "--tpo"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else None,
)
def test_every_error_is_one_line_and_leaves_nothing(
    arguments: list[str], code: int, says: str, main: Main, pictures: Known
) -> None:
    some = Path("set", next(iter(pictures.truth))).read_bytes()
    for folder in ("empty", "zoo/zebra", "mixed/class_1", "mixed/zebra", "devkit"):
        Path(folder).mkdir(parents=True)
    for photo in ("zoo/zebra/a.png", "mixed/class_1/a.png", "mixed/zebra/a.png"):
        Path(photo).write_bytes(some)
    Path("wrong.csv").write_text("other.jpg,class_1\n")
    Path("unknown.csv").write_text("".join(f"{name},zebra\n" for name in pictures.truth))
    Path("empty.txt").write_text("")
    for path in ("ground_truth.txt", "devkit/ground_truth.txt"):
        Path(path).write_text("490\n361\n")
    Path("devkit/meta.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    before = sorted(map(str, Path().rglob("*")))
    got, out, err = main(*arguments)
    assert (got, out) == (code, "") and says in err, err
    assert err.count("\n") == 1 and "Traceback" not in err
    assert sorted(map(str, Path().rglob("*"))) == before, "nothing was begun, or it is gone again"


def test_a_class_that_is_not_told_in_the_middle_of_a_run(main: Main, pictures: Known) -> None:
    Path("set/zebra").mkdir()
    Path("set/zebra/a.png").write_bytes(Path("set", next(iter(pictures.truth))).read_bytes())
    code, out, err = main("set", "--predictions", "x.csv")
    assert (code, out) == (2, "") and "set/zebra/a.png: neither its folder" in err
    assert f"what is done ({COUNT}) is kept in x.csv.partial. To go on: photolabel evaluate --resume" in err
    Path("set/zebra").rename("set/class_3")
    assert main("--resume", "--predictions", "x.csv", model=None)[0] == 0
    assert len(Path("x.csv").read_text().splitlines()) == COUNT + 2


def test_hostile_names_reach_neither_terminal_nor_page(main: Main, pictures: Known) -> None:
    name = "\x1b]0;owned\x07<script>.png"
    index = next(iter(pictures.truth.values()))
    Path(f"set/n{index:08}", name).write_bytes(BROKEN)
    code, out, err = main("set", "--report", "page")
    assert code == 1 and r"\x1b]0;owned\x07" in err and not re.search(r"[\x00-\x09\x0b-\x1f]", out + err)
    assert "<script" not in Path("page/index.html").read_text()


# -- the same as from Python


def test_the_same_as_the_library_says(main: Main, pictures: Known) -> None:
    assert main("set", "--predictions", "x.jsonl")[0] == 0
    with photolabel.load("telling.onnx") as classifier:
        found = truth.labelled(sources.find(["set"]), oracle.TINY_LABELS)
        stream = judging.judged(found, classifier, batch.Here(), top=5)
        assert [json.loads(json.dumps(each.record())) for each in stream] == records("x.jsonl")


def test_help_says_what_there_is() -> None:
    text = " ".join(verb.parser().format_help().split())
    for option in ("--labels FILE", "--protocol NAME", "--report DIR", "--predictions FILE", "--resume", "--every K"):
        assert option in text


def test_a_folder_is_no_file_of_predictions(main: Main) -> None:
    code, _, err = main("set", "--predictions", "x.jsonl/")
    assert code == 2 and "expected a file to write" in err and err.count("\n") == 1
