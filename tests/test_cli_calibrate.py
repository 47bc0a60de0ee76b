"""Learning how far a model is to be believed, on the command line: what is said, kept, used, drawn and forgotten."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import photolabel
from photolabel import calibration, cli, confidence, sources, truth
from photolabel.batch import Here
from photolabel.calibration import Calibration
from photolabel.cli import calibrate as verb
from photolabel.errors import OutputError
from photolabel.evaluate import calibrating, judging

import oracle
from known_photos import BROKEN, Known, known_photos, telling
from test_cli_output import POSIX, on_terminal, run

COUNT = 60
FEW = "photolabel: 60 photos teach little: several hundred make it steady\n"

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
    """One cache for all of them, in which nothing is learnt yet; a folder of their own each."""
    cache = network.parent / "cache"
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(cache))
    shutil.rmtree(cache / "calibrations", ignore_errors=True)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pictures.folder, "set")
    Path("telling.onnx").write_bytes(network.read_bytes())


@pytest.fixture
def main(capsys: pytest.CaptureFixture[str]) -> Main:
    """Run a verb in this process: its exit code, and what it said."""

    def call(*arguments: str, model: str | None = "telling.onnx", word: str = "calibrate") -> tuple[int, str, str]:
        how = ["--model", model] if model else []
        code = cli.main([word, *how, "--workers", "0", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def expected(**options: object) -> calibrating.Learnt:
    """What the library learns of the same photos."""
    with photolabel.load("telling.onnx", calibrated=False, **options) as classifier:  # type: ignore[arg-type]
        found = truth.labelled(sources.find(["set"]), oracle.TINY_LABELS)
        return calibrating.learn(judging.judged(found, classifier, Here(), top=1))


def kept(**options: object) -> Calibration | None:
    with photolabel.load("telling.onnx", **options) as classifier:  # type: ignore[arg-type]
        return classifier.calibration


# -- what is said and kept


def test_what_is_said(main: Main, pictures: Known) -> None:
    learnt = expected()
    code, out, err = main("set")
    assert (code, err) == (0, FEW)
    rows = out.splitlines()
    classes = len({*pictures.truth.values()})
    right = confidence.share(COUNT - pictures.wrong, COUNT)
    assert re.split("  +", rows[0]) == ["photos", "60", f"folders named by WordNet ids, {classes} of 10 classes"]
    assert re.split("  +", rows[1]) == ["right", "75.0%", f"95 % interval {right.low:.1%} to {right.high:.1%}"]
    assert rows[2].split()[:2] == ["temperature", f"{learnt.calibration.temperature:.3f}"]
    assert rows[3].split()[:3] == ["calibration", "error", f"{learnt.before.ece:.1%}"]
    assert rows[4].split()[0] == f"{learnt.after.ece:.1%}"
    assert rows[5].split()[:3] == ["--coverage", "0.9", f"{learnt.names(0.9):.1f}"]
    assert rows[6].split()[:2] == ["--coverage", "0.95"] and rows[7].split()[1:] == ["0.99", "needs", "more", "photos"]
    assert rows[8] == (
        "kept for telling, recipe tiny, fp32; photolabel uses it from now on (--uncalibrated: not; calibrate --remove: "
        "no more)"
    )
    assert len(rows) == 9 and kept() == learnt.calibration


def test_it_is_used_from_then_on(main: Main) -> None:
    before = main("set", "--json", word="classify")
    code, _, err = main("set", "--coverage", "0.9", word="classify")
    assert code == 2 and "photolabel calibrate DIR" in err
    assert main("set")[0] == 0
    learnt = kept()
    assert learnt is not None
    code, out, err = main("set", "--json", "--coverage", "0.9", word="classify")
    assert (code, err) == (0, "")
    records = [json.loads(line) for line in out.splitlines()]
    assert {each["calibration"]["digest"] for each in records} == {learnt.digest}
    assert all(each["names"]["coverage"] == 0.9 and each["names"]["labels"] for each in records)
    assert main("set", "--json", "--uncalibrated", word="classify") == before
    figures = json.loads(main("set", "--json", word="evaluate")[1])
    assert figures["calibration"] == learnt.digest


def test_learnt_again_it_is_of_the_network_s_own_probabilities(main: Main) -> None:
    """Not of those that are calibrated already: the same again, not a temperature on top of the other."""
    first = main("set")
    learnt = kept()
    assert main("set") == first and kept() == learnt


def test_it_is_of_exactly_this_way_of_looking(main: Main) -> None:
    assert main("set", "--views", "mirror", "--scales", "36,40")[0] == 0
    assert kept() is None
    learnt = kept(views="mirror", scales=(36, 40))
    assert learnt is not None and learnt == expected(views="mirror", scales=(36, 40)).calibration
    code, out, _ = main("set", "--views", "mirror+dense", "--scales", "36")
    assert code == 0 and "kept for telling, recipe tiny mirror 36 + tiny dense 36, fp32;" in out
    telling(Path(), more=1.0, name="partial")
    code, out, _ = main("set", model="telling.onnx+partial.onnx")
    assert code == 0 and "kept for telling+partial, recipe tiny, fp32;" in out
    assert kept() is None


def test_by_a_table_and_with_workers(main: Main, pictures: Known) -> None:
    assert main("set", "--workers", "2")[0] == 0
    learnt = kept()
    assert main("--remove")[0] == 0
    Path("truth.csv").write_text("".join(f"{name},{index}\n" for name, index in pictures.truth.items()))
    for index in range(10):
        if Path(f"set/n{index:08}").exists():
            Path(f"set/n{index:08}").rename(f"set/{index}x")
    Path("truth.csv").write_text(
        "".join(f"{index}x/{Path(name).name},class_{index}\n" for name, index in pictures.truth.items())
    )
    code, out, _ = main("set", "--labels", "truth.csv")
    assert code == 0 and "the table truth.csv, " in out
    found = kept()
    assert found is not None and learnt is not None and found.scores == learnt.scores


# -- forgotten


def test_remove(main: Main) -> None:
    assert main("--remove") == (0, "telling: was not calibrated\n", "")
    assert main("set")[0] == 0 and kept() is not None
    assert main("--remove", "--views", "mirror") == (0, "telling: was not calibrated\n", "")
    assert kept() is not None, "that of another way of looking"
    assert main("--remove") == (0, "telling: its calibration is removed\n", "")
    assert kept() is None


def test_one_that_is_damaged_can_be_removed_or_made_again(main: Main, network: Path) -> None:
    for mend in (["--remove"], ["set"]):
        assert main("set")[0] == 0
        (file,) = (each for each in (network.parent / "cache" / "calibrations").iterdir() if len(each.stem) == 32)
        file.write_bytes(b"{}")
        code, _, err = main("set", word="classify")
        assert code == 3 and "photolabel calibrate --remove" in err and err.count("\n") == 1
        assert main(*mend)[0] == 0
        assert main("set", word="classify")[0] == 0


# -- drawn


@pytest.mark.parametrize("name", ["x.png", "x.svg"])
def test_plot(name: str, main: Main, pictures: Known) -> None:
    code, out, _ = main("set", "--plot", name)
    assert code == 0 and out == main("set")[1]
    if name == "x.png":
        with Image.open(name) as drawn:
            assert min(drawn.size) > 200
    else:
        assert "telling, folders named by WordNet ids" in Path(name).read_text()


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("x.jpg", 2, "expected a file that ends in .png or .svg"),
        ("no/x.png", 4, "no/x.png: cannot be written"),
        ("folder.png", 4, "it is a folder"),
    ],
)
def test_a_plot_that_cannot_be_is_said_before_the_work(name: str, code: int, says: str, main: Main) -> None:
    Path("folder.png").mkdir()
    got, out, err = main("set", "--plot", name)
    assert (got, out) == (code, "") and says in err and err.count("\n") == 1
    assert kept() is None


def test_a_plot_that_fails_at_the_end(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was learnt is kept, and said, all the same."""
    from photolabel.draw import scene

    def full(*_: object) -> None:
        raise OutputError("x.png: cannot be written: No space left on device.")

    monkeypatch.setattr(scene, "save", full)
    code, out, err = main("set", "--plot", "x.png")
    assert code == 4 and "x.png: cannot be written" in err
    assert kept() is not None and "kept for telling" in out


# -- photos that do not teach


def test_photos_that_cannot_be_read(main: Main, pictures: Known) -> None:
    for name in [*pictures.truth][::20]:
        Path("set", name).write_bytes(BROKEN)
    code, out, err = main("set")
    assert code == 1, "as of photolabel itself, and yet it is kept"
    assert re.split("  +", out.splitlines()[-2]) == ["unreadable", "3", "photos, which are left out"]
    assert err.count("\n") == 4 and err.startswith(f"photolabel: set/{next(iter(pictures.truth))}: ")
    learnt = kept()
    assert learnt is not None and learnt.photos == COUNT - 3


def test_every_photo_named_rightly(main: Main, network: Path) -> None:
    shutil.rmtree("set")
    known_photos(Path("set"), network, 25, wrong=0)
    code, _, err = main("set")
    assert code == 0 and err.splitlines() == [
        "photolabel: 25 photos teach little: several hundred make it steady",
        "photolabel: every photo was named rightly, so how sure is too sure cannot be told: the temperature is a bound",
    ]


def test_several_hundred_are_not_called_few(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "_FEW", COUNT)
    assert main("set")[2] == ""


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "expected photos of known classes, or --remove"),
        (["set", "--remove"], 2, "expected photos of known classes, or --remove"),
        (["few"], 2, "expected at least 20 photos to calibrate with, got 3"),
        (["empty"], 2, "expected at least 20 photos to calibrate with, got 0"),
        (["missing"], 1, "missing: there is no such file or folder"),
        (["zoo"], 2, "zoo/zebra/a.png: neither its folder 'zebra'"),
        (["set", "zoo"], 2, "zoo/zebra/a.png: neither its folder 'zebra'"),
        (["set", "--labels", "missing.csv"], 2, "missing.csv: there is no such file"),
        (["set", "--uncalibrated"], 2, "--uncalibrated"),
        (["set", "--views", "twice"], 2, "views must be one of"),
        (["set", "--model", "vgg61"], 3, "no model 'vgg61'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_every_error_is_one_line_and_nothing_is_kept(
    arguments: list[str], code: int, says: str, main: Main, pictures: Known
) -> None:
    some = Path("set", next(iter(pictures.truth))).read_bytes()
    for folder in ("empty", "few/class_1", "zoo/zebra"):
        Path(folder).mkdir(parents=True)
    for path in ("few/class_1/a.png", "few/class_1/b.png", "few/class_1/c.png", "zoo/zebra/a.png"):
        Path(path).write_bytes(some)
    got, out, err = main(*arguments)
    assert (got, out) == (code, "") and says in err and err.count("\n") == 1
    assert kept() is None


def test_too_few_do_not_take_the_place_of_what_is_kept(main: Main) -> None:
    assert main("set")[0] == 0
    learnt = kept()
    Path("empty").mkdir()
    assert main("empty")[0] == 2 and kept() == learnt


# -- what is said meanwhile


@POSIX
def test_progress_is_shown_on_a_terminal() -> None:
    run("calibrate", "set", "--model", "telling.onnx")  # compiled
    code, shown = on_terminal("calibrate", *["set"] * 20, "--model", "telling.onnx", columns=100)
    assert code == 0 and shown.count("\r") > 2 and " photos, " in shown


def test_it_is_kept_under_what_it_is_of(main: Main) -> None:
    assert main("set")[0] == 0
    with photolabel.load("telling.onnx") as classifier:
        assert calibration.kept(classifier.identity) == classifier.calibration
