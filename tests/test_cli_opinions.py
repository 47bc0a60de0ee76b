"""Second opinions and sets of names on the command line: --views, --scales, --disagreeing, --coverage, and so on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import photolabel
from photolabel import calibration, cli, images
from photolabel.calibration import Calibration
from photolabel.classifier import Classifier
from photolabel.cli import classify

from known_photos import BROKEN, smooth, telling
from test_cli_output import stop_after

SCORES = tuple(i / 100 for i in range(100))
COUNT = 40
PHOTOS = [f"photos/{number:03}.png" for number in range(COUNT)]
TEN = ["--views", "ten-crop", "--scales", "36,48"]

Main = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    telling(folder)
    telling(folder, more=1.0, name="partial")
    return folder


@pytest.fixture(autouse=True)
def _here(networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name, image in zip(PHOTOS, smooth(COUNT), strict=True):
        image.save(name)
    for name in ("telling", "partial"):
        Path(f"{name}.onnx").symlink_to(networks / f"{name}.onnx")


@pytest.fixture
def main(capsys: pytest.CaptureFixture[str]) -> Main:
    """Run the command in this process: its exit code, and what it said."""

    def call(*arguments: str, model: str | None = "telling.onnx") -> tuple[int, str, str]:
        code = cli.main([*(["--model", model] if model else []), "--workers", "0", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def learnt(classifier: Classifier, temperature: float = 0.5) -> Calibration:
    made = Calibration(temperature=temperature, scores=SCORES, right=90, floor=0.0)
    calibration.keep(classifier.identity, made)
    return made


def records(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


# -- the record is the library's


@pytest.mark.parametrize(
    ("arguments", "model", "views", "scales"),
    [
        (["--views", "mirror"], "telling.onnx", "mirror", ()),
        (["--views=ten-crop", "--scales=36,48"], "telling.onnx", "ten-crop", (36, 48)),
        (["--scales", "40"], "telling.onnx", None, (40,)),
        (["--views", "multi-crop+dense", "--scales", "36"], "telling.onnx", "multi-crop+dense", (36,)),
        ([], "telling.onnx+partial.onnx", None, ()),
        (["--views", "mirror"], "telling.onnx+partial.onnx", "mirror", ()),
    ],
)
def test_the_record_is_the_library_s(
    arguments: list[str], model: str, views: str | None, scales: tuple[int, ...], main: Main
) -> None:
    code, out, err = main("--json", *arguments, *PHOTOS[:3], model=model)
    with photolabel.load(model, views=views, scales=scales) as classifier:
        expected = [classifier.classify(photo).record() for photo in PHOTOS[:3]]
        assert (code, records(out), err) == (0, json.loads(json.dumps(expected)), "")
        assert all((each["opinions"] is not None) == classifier.several for each in expected)


def test_workers_say_the_same(main: Main) -> None:
    there = main("--json", *TEN, "photos", model="telling.onnx+partial.onnx")
    assert main("--json", *TEN, "photos", "--workers", "2", model="telling.onnx+partial.onnx") == there
    assert len(records(there[1])) == COUNT


def test_several_models_by_the_setting(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOLABEL_MODEL", "telling.onnx+partial.onnx")
    assert main("photos/000.png", model=None) == main("photos/000.png", model="telling.onnx+partial.onnx")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--views", "twice"], "views must be one of one, mirror, ten-crop"),
        (["--views", ""], "views must be one of"),
        (["--scales", "20"], "from its size, 32"),
        (["--scales", "a,b"], "--scales: 'a': expected a whole number of at least 1"),
        (["--scales", "40,"], "--scales: '': expected a whole number"),
        (["--scales", "40,40"], "must differ"),
        (["--views", "ten-crop", "--recipe", "keras"], "recipe that squashes"),
        (["--model", "telling.onnx+vgg61"], ""),
        (["--coverage", "0"], "--coverage: '0': expected a number above 0"),
        (["--coverage", "1.5"], "--coverage: '1.5': expected a probability from 0 to 1"),
        (["--coverage", "all"], "--coverage: 'all'"),
        (["--coverage", "0.9"], "photos of known classes: photolabel calibrate DIR, with the same precision"),
        (["--disagreeing"], "--disagreeing goes with several models (--model vgg16+vgg19) or --views"),
        (["--disagreeing", "--scales", "40"], "--disagreeing goes with several models"),
        (["--disagreeing", *TEN, "--output", "x.csv"], "without --output and --xmp. Their records have `opinions`"),
        (["--disagreeing", *TEN, "--xmp"], "without --output and --xmp"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: list[str], says: str, main: Main) -> None:
    code, out, err = main("photos", *arguments)
    assert (code, out, err.count("\n")) == (3 if "vgg61" in arguments[-1] else 2, "", 1)
    assert says in err and not [*Path().glob("*.partial")]


# -- the photos worth a look


def test_disagreeing_prints_those_and_no_others(main: Main) -> None:
    both = "telling.onnx+partial.onnx"
    with photolabel.load(both) as classifier:
        expected = [each for each in classifier.classify_many(PHOTOS) if each.disagreeing]
    assert 3 < len(expected) < COUNT - 3
    code, out, err = main("photos", "--disagreeing", model=both)
    assert (code, err) == (0, "")
    assert out.splitlines() == [f"{each.photo}: {each}" for each in expected]
    assert [each["photo"] for each in records(main("photos", "--disagreeing", "--json", model=both)[1])] == [
        each.photo for each in expected
    ]
    table = main("photos", "--disagreeing", "--top", "2", model=both)[1].splitlines()
    assert table[::3] == [f"{each.photo}:" for each in expected] and len(table) == 3 * len(expected)


def test_disagreeing_views(main: Main) -> None:
    with photolabel.load("telling.onnx", views="multi-crop", scales=(60,)) as classifier:
        expected = [each.photo for each in classifier.classify_many(PHOTOS) if each.disagreeing]
    assert 0 < len(expected) < COUNT
    _, out, _ = main("photos", "--disagreeing", "--views", "multi-crop", "--scales", "60")
    assert [line.partition(": ")[0] for line in out.splitlines()] == expected


def test_a_photo_that_cannot_be_read_is_not_passed_over(main: Main) -> None:
    """It is none of those asked for, but its silence would say that all is well."""
    Path("photos/000.png").write_bytes(BROKEN)
    code, out, err = main("photos", "--disagreeing", *TEN)
    assert code == 1 and err.startswith("photolabel: photos/000.png: ") and err.count("\n") == 1
    code, again, err = main("photos", "--disagreeing", *TEN, "--json")
    first, *others = records(again)
    assert (
        (code, err) == (1, "")
        and first["error"]
        and [x["photo"] for x in others] == [line.partition(": ")[0] for line in out.splitlines()]
    )


# -- sets of names


def test_coverage_prints_the_set(main: Main) -> None:
    with photolabel.load("telling.onnx") as plain:
        learnt(plain)
    with photolabel.load("telling.onnx") as classifier:
        found = [classifier.classify(photo, coverage=0.9) for photo in PHOTOS[:5]]
    code, out, err = main("--coverage", "0.9", *PHOTOS[:5])
    assert (code, err) == (0, "")
    shown = [
        ", ".join(f"{label.name} ({label.probability * 100:.2f}%)" for label in each.names.labels)  # type: ignore[union-attr]
        for each in found
    ]
    assert out.splitlines() == [f"{photo}: {text}" for photo, text in zip(PHOTOS, shown, strict=False)]
    assert any("," in text for text in shown)
    assert main("--coverage", "0.9", PHOTOS[0])[1] == f"{shown[0]}\n"
    record = records(main("--coverage", "0.9", "--json", PHOTOS[0])[1])[0]
    assert record == json.loads(json.dumps(found[0].record()))
    assert record["names"]["coverage"] == 0.9  # type: ignore[index,call-overload]
    code, _, err = main("--coverage", "0.995", "photos")
    assert code == 2 and "needs at least 199 photos; this model was calibrated with 100" in err
    code, _, err = main("--coverage", "1", "photos")
    assert code == 2 and "no finite number of photos" in err


def test_uncalibrated_gives_the_network_s_own(main: Main) -> None:
    before = main("photos")
    with photolabel.load("telling.onnx") as plain:
        learnt(plain)
    assert main("photos")[1] != before[1]
    assert main("photos", "--uncalibrated") == before
    code, _, err = main("photos", "--uncalibrated", "--coverage", "0.9")
    assert code == 2 and "only a model that was calibrated" in err


# -- long runs


def test_a_run_goes_on_with_its_views_scales_and_coverage(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    both = "telling.onnx+partial.onnx"
    with photolabel.load(both, views="mirror+dense", scales=(36, 40)) as classifier:
        learnt(classifier)
    options = ["photos", "--views", "mirror+dense", "--scales", "36,40", "--coverage", "0.8", "--threads", "1"]
    assert main(*options, "--output", "unbroken.jsonl", model=both) == (0, "", "")
    for each in records(Path("unbroken.jsonl").read_text()):
        assert each["names"] and each["opinions"] and each["calibration"]
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        assert main(*options, "--output", "labels.jsonl", model=both)[0] == 130
    before = Path("labels.jsonl.partial").read_bytes()
    for arguments, says in (
        (["--views", "mirror"], "--views: the run that is to go on began with 'mirror+dense', not 'mirror'"),
        (["--scales", "36"], "--scales: the run that is to go on began with [36, 40], not [36]"),
        (["--coverage", "0.9"], "--coverage: the run that is to go on began with 0.8, not 0.9"),
        (["--uncalibrated"], "--uncalibrated: the run that is to go on began without it"),
    ):
        code, out, err = main("--output", "labels.jsonl", "--resume", *arguments, model=None)
        assert (code, out) == (2, "") and says in err and err.count("\n") == 1
        assert Path("labels.jsonl.partial").read_bytes() == before
    assert main("--output", "labels.jsonl", "--resume", *options, model=both) == (0, "", ""), "the same again is not"
    assert Path("labels.jsonl").read_bytes() == Path("unbroken.jsonl").read_bytes()


@pytest.mark.parametrize("first", [None, 0.5], ids=["uncalibrated", "calibrated"])
def test_a_model_that_was_calibrated_anew_is_another(
    first: float | None, main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    with photolabel.load("telling.onnx") as plain:
        if first:
            learnt(plain, first)
        with monkeypatch.context() as patch:
            stop_after(patch, 7)
            assert main("photos", "--output", "labels.csv")[0] == 130
        before = Path("labels.csv.partial").read_bytes()
        learnt(plain, 0.7)
        code, out, err = main("--output", "labels.csv", "--resume", model=None)
        assert (code, out) == (2, "") and err.count("\n") == 1
        assert "the model has been calibrated anew since the run began" in err and "remove labels.csv.partial" in err
        assert Path("labels.csv.partial").read_bytes() == before
        calibration.forget(plain.identity)
        if first:
            learnt(plain, first)
    assert main("--output", "labels.csv", "--resume", model=None) == (0, "", "")


def test_an_uncalibrated_run_stays_one(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is learnt meanwhile."""
    assert main("photos", "--output", "unbroken.csv") == (0, "", "")
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        assert main("photos", "--uncalibrated", "--output", "labels.csv")[0] == 130
    with photolabel.load("telling.onnx") as plain:
        learnt(plain)
    assert main("--output", "labels.csv", "--resume", model=None) == (0, "", "")
    assert Path("labels.csv").read_bytes() == Path("unbroken.csv").read_bytes()


# -- help


def test_help_says_what_views_there_are() -> None:
    text = " ".join(classify.parser().format_help().split()).partition("--version")[2]
    for views in ("mirror", "ten-crop", "multi-crop", "dense"):
        assert views in text.partition("--views VIEWS")[2].partition("--scales N,N")[0]
        images.Recipe(name="x", size=32, fit="resize-crop", side=36, views=views)  # type: ignore[arg-type]
    for option in ("--coverage SHARE", "--disagreeing", "--uncalibrated"):
        assert option in text
