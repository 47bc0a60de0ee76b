"""Teaching on the command line: what is said where, every option, what is refused, what is added, and interruptions."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import photolabel
from photolabel import cli, metadata, models, store, taught, teaching
from photolabel.cli import teach as verb
from photolabel.errors import OutputError, UsageError
from photolabel.teaching import Lesson, features, heads, told
from photolabel.teaching.epochs import Epoch

import oracle
import strangers
from test_cli_output import POSIX, on_terminal
from training import COLOURS, photo, plant, plant_varied

Main = Callable[..., tuple[int, str, str]]
LABELS = sorted(COLOURS)
BROKEN = b"no photo"


@pytest.fixture(scope="module")
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("teaching-cache")


@pytest.fixture(autouse=True)
def _here(_own_world: None, _one_cache: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all of them, a folder of their own each: `set` has six photos of each class."""
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(_one_cache))
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny, "tiny.onnx")
    plant(Path("set"), 6)


@pytest.fixture
def main(capsys: pytest.CaptureFixture[str]) -> Main:
    """Run the verb in this process: its exit code, and what it said."""

    def call(*arguments: str, model: str | None = "tiny.onnx") -> tuple[int, str, str]:
        how = ["--model", model] if model else []
        code = cli.main(["teach", *how, "--workers", "0", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def other(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run another verb, which must succeed: what it said."""

    def call(*arguments: str) -> str:
        code = cli.main([*arguments])
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out

    return call


@pytest.fixture
def lessons(monkeypatch: pytest.MonkeyPatch) -> list[Lesson]:
    """What came of the teachings."""
    made: list[Lesson] = []
    real = teaching.teach

    def teach(*arguments: Any, **options: Any) -> Lesson:
        made.append(real(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(teaching, "teach", teach)
    return made


@pytest.fixture
def unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    """No photo may be looked at."""

    def compute(*_: object, **__: object) -> None:
        raise AssertionError("photos were looked at")

    monkeypatch.setattr("photolabel.teaching.lesson.compute", compute)


def how(name: str = "pets.onnx") -> taught.Taught:
    found = taught.read(Path(name))
    assert found is not None
    return found


def labels(name: str = "pets.onnx") -> list[str]:
    return [label.name for label in models.read(Path(name)).labels]


# -- what is said and written


def test_what_is_said(main: Main, lessons: list[Lesson]) -> None:
    code, out, err = main("set", "-o", "pets.onnx")
    assert (code, err) == (0, "")
    assert out == told.text(lessons[0]) + "\n"
    assert out.startswith("pets.onnx: 3 classes, taught with 18 photos\n")
    assert labels() == LABELS and models.read(Path("pets.onnx")).name == "pets"
    with photolabel.load("pets.onnx") as classifier:
        assert classifier.classify("set/grass/000.png").top.name == "grass"


def test_json(main: Main, lessons: list[Lesson]) -> None:
    Path("set/grass/bad.png").write_bytes(BROKEN)
    code, out, err = main("set", "-o", "pets.onnx", "--json")
    assert code == 1 and out.count("\n") == 1 and err.count("\n") == 1
    assert json.loads(out) == json.loads(json.dumps(told.record(lessons[0])))
    assert json.loads(out)["unreadable"][0]["photo"] == "set/grass/bad.png"


def test_the_same_photos_and_seed_give_the_same_file(main: Main) -> None:
    made = []
    for name in ("a", "b"):
        Path(name).mkdir()
        assert main("set", "-o", f"{name}/pets.onnx", "--seed", "7")[0] == 0
        made.append(Path(name, "pets.onnx").read_bytes())
    assert made[0] == made[1] and how("a/pets.onnx").seed == 7


def test_an_older_file_is_replaced(main: Main) -> None:
    Path("pets.onnx").write_bytes(b"older")
    assert main("set", "-o", "pets.onnx")[0] == 0
    assert labels() == LABELS


# -- options


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["set"], {"photos": ["set"], "views": None, "head": None, "seed": 0, "strength": None, "precision": None}),
        (["set", "set"], {"photos": ["set", "set"]}),
        (["--labels", "t.csv"], {"photos": [], "labels": "t.csv"}),
        (["set", "--validation", "set"], {"validation": "set"}),
        (["set", "--include", "*.png", "--include", "*.jpg"], {"include": ["*.png", "*.jpg"]}),
        (["set", "--exclude", "*.gif"], {"exclude": ["*.gif"]}),
        (["set", "--head", "svm"], {"head": "svm"}),
        (["set", "--strength", "0.5"], {"strength": 0.5}),
        (["set", "--seed", "3"], {"seed": 3}),
        (["set"], {"fine_tune": None, "epochs": None, "learning_rate": None, "resume": False}),
        (["set", "--fine-tune"], {"fine_tune": 1}),
        (["set", "--fine-tune", "2", "--epochs", "9"], {"fine_tune": 2, "epochs": 9}),
        (["set", "--fine-tune", "--learning-rate", "1e-5", "--resume"], {"learning_rate": 1e-5, "resume": True}),
        (["set", "--layer", "fc1"], {"layer": "fc1"}),
        (["set", "--views", "ten-crop"], {"views": "ten-crop"}),
        (["set", "--model", "vgg19"], {"model": "vgg19"}),
        (["set", "--weights", "w.h5"], {"weights": "w.h5"}),
        (["set", "--classes", "c.txt"], {"classes": "c.txt", "labels": None}),
        (["set", "--recipe", "keras"], {"recipe": "keras"}),
        (["set", "--precision", "bf16"], {"precision": "bf16"}),
        (["set", "--engine", "onnxruntime"], {"engine": "onnxruntime"}),
        (["set", "--threads", "2"], {"threads": 2}),
        (["set", "--workers", "3"], {"workers": 3}),
        (["set", "--seconds", "5"], {"seconds": 5.0}),
        (["set", "--max-pixels", "1M"], {"limits": photolabel.Limits(pixels=1_000_000)}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_option_arrives(
    arguments: list[str], expected: dict[str, Any], main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def teach(photos: Any, out: Any, **options: Any) -> Lesson:
        given.update(photos=photos, out=out, **options)
        raise UsageError("enough")

    monkeypatch.setattr(teaching, "teach", teach)
    Path("t.csv").touch()
    assert main("-o", "pets.onnx", *arguments, model=None) == (2, "", "photolabel: enough\n")
    assert given["out"] == Path("pets.onnx") and given["add"] is None
    assert {name: given[name] for name in expected} == expected


@pytest.mark.parametrize("head", ["logistic", "svm"])
def test_heads(head: str, main: Main) -> None:
    assert main("set", "-o", "pets.onnx", "--head", head, "--strength", "2", "--layer", "fc1")[0] == 0
    found = how()
    assert (found.kind, found.strength, found.origin.layer) == (head, 2.0, "fc1")


def test_few_photos_are_looked_at_in_the_mirror_too(main: Main) -> None:
    assert main("set", "-o", "pets.onnx")[0] == 0
    assert how().origin.recipe.views == "mirror"
    assert main("set", "-o", "pets.onnx", "--views", "one")[0] == 0
    assert how().origin.recipe.views == "one"
    plant(Path("many"), 20)
    assert main("many", "-o", "pets.onnx")[0] == 0
    assert how().origin.recipe.views == "one"


@pytest.mark.parametrize(
    ("arguments", "precision"),
    [
        (["--engine", "onnxruntime", "--threads", "1"], "fp32"),
        (["--precision", "int8"], "int8"),
        (["--precision", "bf16"], "bf16"),
    ],
    ids=str,
)
def test_how_the_network_runs(arguments: list[str], precision: str, main: Main) -> None:
    code, _, err = main("set", "-o", "pets.onnx", *arguments)
    if code == 2 and "bf16" in err:
        pytest.skip("this processor has no bf16")
    assert (code, err) == (0, "")
    assert how().origin.precision == precision
    with photolabel.load("pets.onnx") as classifier:
        found = [classifier.classify(path).top.name == path.parent.name for path in Path("set").rglob("*.png")]
    assert sum(found) >= 14


def test_another_recipe(main: Main) -> None:
    assert main("set", "-o", "pets.onnx", "--recipe", "keras")[0] == 0
    assert how().origin.recipe.name == "keras"
    with photolabel.load("pets.onnx") as classifier:
        assert [recipe.name for recipe in classifier.recipes] == ["keras"], "it looks as it was taught to"


def test_a_network_of_somebody_else_s(main: Main) -> None:
    strangers.write(Path("theirs.onnx"), strangers.network())
    names = strangers.labels(Path())
    given = ("set", "-o", "pets.onnx", "--classes", str(names), "--recipe", "unit")
    code, out, err = main(*given, model="theirs.onnx")
    assert (code, out) == (2, "") and "does not name the layer before its classes" in err
    assert main(*given, "--layer", "flat", model="theirs.onnx")[0] == 0
    assert labels() == LABELS and how().origin.layer == "flat"
    more = plant(Path("more"), 2, {"snow": (250, 250, 250)})
    assert main(str(more), "--add", "pets.onnx", model=None)[0] == 0, "all that it takes is in the file"
    assert labels() == [*LABELS, "snow"]


def test_weights_without_dense_layers(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be done with them is in the tests of the backbone; here is what cannot."""
    from photolabel.errors import WeightsMismatchError
    from photolabel.teaching import backbone

    def mismatched(*_: object, **__: object) -> None:
        raise WeightsMismatchError("w.h5: not the weights of VGG16: layer fc1 is missing.")

    with photolabel.load("tiny.onnx") as made:
        base = backbone.Backbone.of(made)
    monkeypatch.setattr(backbone.loading, "find", mismatched)
    monkeypatch.setattr(backbone, "without_top", lambda *_, **__: base)
    code, out, err = main("set", "-o", "pets.onnx", "--weights", "w.h5", "--precision", "int8", model="vgg16")
    assert (code, out) == (2, "") and "w.h5: weights without dense layers run as fp32 or bf16" in err


def test_a_table_says_what_photos_show(main: Main) -> None:
    lines = [
        f"{path.as_posix()},{'green' if path.parent.name == 'grass' else 'other'}"
        for path in Path("set").rglob("*.png")
    ]
    Path("t.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    code, out, err = main("--labels", "t.csv", "-o", "a.onnx")
    assert (code, err) == (0, "") and out.startswith("a.onnx: 2 classes, taught with 18 photos\n")
    assert labels("a.onnx") == ["green", "other"]
    code, out, err = main("set", "--labels", "t.csv", "-o", "b.onnx", "--exclude", "*/00[45].png")
    assert code == 0 and out.startswith("b.onnx: 2 classes, taught with 12 photos\n")
    assert err == "photolabel: 6 lines of the table are of no photo that was found\n"


def test_validation(main: Main, lessons: list[Lesson]) -> None:
    plant(Path("val"), 3, seed=5)
    Path("val/empty").mkdir()
    code, out, err = main("set", "-o", "pets.onnx", "--validation", "val")
    assert code == 0 and "\nvalidation " in out
    assert err == "photolabel: val/empty: there are no photos in it, so no class is called as it is\n"
    assert lessons[0].validation is not None and lessons[0].validation.figures.accuracy.of == 9
    Path("v.csv").write_text("val/grass/000.png,grass\nval/röd/000.png,röd\n")
    code, out, err = main("set", "-o", "pets.onnx", "--validation", "v.csv")
    assert (code, err) == (0, "") and lessons[1].validation is not None
    assert lessons[1].validation.photos.names == ("val/grass/000.png", "val/röd/000.png")


# -- bad input: a line that says what is wrong, and nothing written


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "expected photos to learn from, in a folder a class. See: photolabel teach --help"),
        (["set"], 2, "expected a file to write, as in: photolabel teach training -o pets.onnx"),
        (["set", "-o", "pets.pt"], 2, "pets.pt: what is taught is an ONNX file: expected a name that ends in .onnx"),
        (["set", "-o", "no/pets.onnx"], 4, "no/pets.onnx: cannot be written: No such file or directory"),
        (["set", "-o", "folder.onnx"], 4, "folder.onnx: cannot be written: it is a folder"),
        (["set", "-o", "tiny.onnx"], 2, "tiny.onnx is the very file that the backbone is read from"),
        (["nowhere", "-o", "pets.onnx"], 1, "nowhere: there is no such file or folder. Check the name"),
        (["--labels", "nowhere.csv", "-o", "pets.onnx"], 1, "nowhere.csv: there is no such file or folder"),
        (["set", "--validation", "nowhere", "-o", "pets.onnx"], 1, "nowhere: there is no such file or folder"),
        (["empty", "-o", "pets.onnx"], 2, "there are no photos to learn from. Expected a folder for each class"),
        (["set", "--validation", "empty", "-o", "pets.onnx"], 2, "there are no photos to judge by"),
        (["set", "--validation", "zoo", "-o", "pets.onnx"], 2, "zoo/zebra/000.png: 'zebra' is none of the 3 classes"),
        (["zoo", "-o", "pets.onnx"], 2, "there are photos of one class only, 'zebra' (1): to tell classes apart"),
        (["set/grass", "set/röd", "-o", "pets.onnx"], 2, "If set/grass is its class, give the folder above"),
        (["broken\nclass", "-o", "pets.onnx"], 1, r"broken\x0aclass: there is no such file"),
        (["lines", "-o", "pets.onnx"], 2, r"'a\nb' cannot name a class: expected 1 to 100 printable characters"),
        (["--labels", "lines.csv", "-o", "pets.onnx"], 2, r"'a\nb' cannot name a class"),
        (["set", "-o", "pets.onnx", "--layer", "fc3"], 2, "the network has no layer 'fc3'. Close: fc2, fc1"),
        (["set", "-o", "pets.onnx", "--layer", "probabilities"], 2, "Choose a layer before the classes' scores"),
        (["set", "-o", "pets.onnx", "--model", "tiny.onnx+tiny.onnx"], 2, "expected one model, not several"),
        (["set", "-o", "pets.onnx", "--model", "vgg61"], 3, "no model 'vgg61'"),
        (["set", "-o", "pets.onnx", "--model", "vgg16"], 3, "the weights of vgg16 are not on this machine"),
        (["set", "-o", "pets.onnx", "--views", "dense"], 2, "argument --views: invalid choice: 'dense'"),
        (["set", "-o", "pets.onnx", "--head", "tree"], 2, "argument --head: invalid choice: 'tree'"),
        (["set", "-o", "pets.onnx", "--strength", "0"], 2, "argument --strength: '0': expected a number above 0"),
        (["set", "-o", "pets.onnx", "--strength", "nan"], 2, "argument --strength: 'nan': expected a number above 0"),
        (["set", "-o", "pets.onnx", "--seed", "1e20"], 2, "argument --seed: '1e20': expected a whole number"),
        (["set", "-o", "pets.onnx", "--recipe", "crop"], 2, "tiny has no recipe 'crop'"),
        (["-o", "pets.onnx", "--fine-tune", "set"], 2, "argument --fine-tune: 'set': expected how many blocks"),
        (["set", "-o", "pets.onnx", "--fine-tune", "9"], 2, "fine_tune=9: expected 1 to 4"),
        (
            ["set", "-o", "pets.onnx", "--fine-tune", "--head", "svm"],
            2,
            "head svm: what is fine-tuned ends in a softmax",
        ),
        (["set", "-o", "pets.onnx", "--epochs", "3"], 2, "goes with fine_tune (--fine-tune)"),
        (["set", "-o", "pets.onnx", "--report", "set"], 4, "set: cannot be written: the folder holds something else"),
        (["set", "-o", "page/pets.onnx", "--report", "page"], 2, "page/pets.onnx would lie in the report's folder"),
        (["set", "--add", "nowhere.onnx"], 3, "nowhere.onnx: cannot be read: No such file or directory"),
        (["set", "--add", "tiny.onnx"], 2, "tiny.onnx: it was not taught by photolabel, so nothing can be added"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("unopened")
def test_what_is_refused_before_a_photo_is_opened(arguments: list[str], code: int, says: str, main: Main) -> None:
    for folder in ("empty/x", "folder.onnx", "page"):
        Path(folder).mkdir(parents=True)
    plant(Path("zoo"), 1, {"zebra": (9, 9, 9)})
    if "lines" in arguments:
        plant(Path("lines"), 1, {"a\nb": (9, 9, 9), "c": (200, 9, 9)})
    Path("lines.csv").write_text('path,label\nset/grass/000.png,"a\nb"\n')
    before = sorted(Path().iterdir())
    tiny = Path("tiny.onnx").read_bytes()
    got, out, err = main(*arguments)
    assert (got, out) == (code, "") and says in err and err.startswith("photolabel: ") and err.count("\n") == 1
    assert sorted(Path().iterdir()) == before and Path("tiny.onnx").read_bytes() == tiny


@pytest.mark.usefixtures("unopened")
def test_without_scikit_learn(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    code, out, err = main("set", "-o", "pets.onnx")
    assert (code, out) == (3, "") and "pip install 'photolabel[teach]'" in err and err.count("\n") == 1


def test_photos_that_cannot_be_read(main: Main) -> None:
    Path("set/grass/bad.png").write_bytes(BROKEN)
    Path("set/röd/cut.png").write_bytes(Path("set/röd/000.png").read_bytes()[:300])
    photo(Path("set/grass/large.png"), (50, 170, 60), 77, size=(120, 120))
    code, out, err = main("set", "-o", "pets.onnx", "--max-pixels", "10k")
    assert code == 1 and out.startswith("pets.onnx: 3 classes, taught with 18 photos\n")
    assert "3 photos could not be read" in out
    lines = err.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["set/grass/bad.png", "set/grass/large.png", "set/röd/cut.png"]
    assert "--max-pixels" in lines[1]
    assert labels() == LABELS


def test_a_class_of_which_nothing_can_be_read(main: Main) -> None:
    for path in Path("set/grass").iterdir():
        path.write_bytes(BROKEN)
    code, out, err = main("set", "-o", "pets.onnx")
    assert code == 2 and out == "" and not Path("pets.onnx").exists()
    assert len(err.splitlines()) == 7 and "class 'grass' has nothing to be learnt from: none of its" in err
    code, out, err = main("set", "-o", "pets.onnx", "--exclude", "grass")
    assert (code, err) == (0, "") and labels() == ["blue sky", "röd"]


def test_a_folder_without_photos(main: Main) -> None:
    Path("set/snow").mkdir()
    Path("set/snow/notes.txt").write_text("none yet")
    code, out, err = main("set", "-o", "pets.onnx")
    assert code == 0 and out.startswith("pets.onnx: 3 classes, ")
    assert err == "photolabel: set/snow: there are no photos in it, so no class is called as it is\n"


def test_the_same_photo_in_two_classes(main: Main) -> None:
    shutil.copy("set/grass/000.png", "set/röd/again.png")
    code, out, err = main("set", "-o", "pets.onnx")
    assert (code, err) == (0, "") and out.startswith("pets.onnx: 3 classes, taught with 17 photos\n")
    assert "1 photo is there in several classes" in out
    assert "set/grass/000.png (grass) = set/röd/again.png (röd)" in out


def test_the_same_photo_to_learn_from_and_to_judge_by(main: Main) -> None:
    plant(Path("val"), 2, seed=5)
    shutil.copy("set/grass/000.png", "val/grass/again.png")
    code, out, _ = main("set", "-o", "pets.onnx", "--validation", "val")
    assert code == 0 and "1 photo is there to learn from too, and not judged by" in out


def test_one_photo_a_class(main: Main) -> None:
    plant(Path("one"), 1)
    code, out, err = main("one", "-o", "pets.onnx")
    assert (code, err) == (0, "") and "Nothing says how often it is right" in out and "nan" not in out
    with photolabel.load("pets.onnx") as classifier:
        assert classifier.classify("one/grass/000.png").top.name == "grass"


def test_two_photos_a_class_prove_little(main: Main) -> None:
    plant_varied(Path("two"), 2)
    code, out, _ = main("two", "-o", "pets.onnx", model=models.BUNDLED)
    assert code == 0 and "6 photos prove little" in out


def test_a_class_is_a_name_and_no_path(main: Main, tmp_path: Path) -> None:
    Path("t.csv").write_text("".join(f"set/grass/{i:03}.png,../x\nset/röd/{i:03}.png,/etc/y\n" for i in range(4)))
    before = set(tmp_path.rglob("*"))
    code, out, err = main("--labels", "t.csv", "-o", "pets.onnx")
    assert (code, err) == (0, "") and out.startswith("pets.onnx: 2 classes, taught with 8 photos")
    assert labels() == ["../x", "/etc/y"]
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "pets.onnx"}


def test_features_that_were_damaged_are_computed_again(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path / "cache"))
    assert main("set", "-o", "pets.onnx", "--seed", "9")[0] == 0
    first = Path("pets.onnx").read_bytes()
    for file in (store.cache_folder() / "features").glob("*.sqlite"):
        file.write_bytes(b"not a database at all" * 100)
    code, _, err = main("set", "-o", "pets.onnx", "--seed", "9")
    assert code == 0 and Path("pets.onnx").read_bytes() == first
    assert err == (
        "photolabel: the file of features that were kept was damaged: it was set aside, and they are computed anew.\n"
    )
    for file in (store.cache_folder() / "features").glob("*.sqlite"):
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE features SET numbers = zeroblob(length(numbers))")
        connection.close()
    code, _, err = main("set", "-o", "pets.onnx", "--seed", "9")
    assert code == 0 and Path("pets.onnx").read_bytes() == first
    assert err == "photolabel: some features that were kept were damaged, and are computed anew.\n"


# -- going on


def test_add_new_photos_and_a_new_class(main: Main) -> None:
    assert main("set", "-o", "pets.onnx")[0] == 0
    first = Path("pets.onnx").read_bytes()
    shutil.rmtree("set")
    more = plant(Path("more"), 2, {"grass": COLOURS["grass"], "snow": (250, 250, 250)}, seed=4)
    code, out, err = main(str(more), "--add", "pets.onnx", "-o", "new.onnx", model=None)
    assert (code, err) == (0, "") and out.startswith(
        "new.onnx: 4 classes, taught with 22 photos, 18 of them taught before"
    )
    assert Path("pets.onnx").read_bytes() == first, "another file was asked for"
    assert labels("new.onnx") == [*LABELS, "snow"]
    with photolabel.load("new.onnx") as classifier:
        assert classifier.classify("more/snow/000.png").top.name == "snow"
    code, _, _ = main(str(more), "--add", "pets.onnx", model=None)
    assert code == 0 and labels("pets.onnx") == [*LABELS, "snow"]
    assert len(Path("pets.onnx").read_bytes()) == len(Path("new.onnx").read_bytes()) + len("pets") - len("new")


def test_add_is_as_good_as_all_at_once(main: Main) -> None:
    """But for its name, and for the order in which the file lists its photos."""
    assert main("set", "-o", "a.onnx")[0] == 0
    plant(Path("more"), 2, seed=4)
    assert main("more", "--add", "a.onnx", model=None)[0] == 0
    assert main("set", "more", "-o", "b.onnx")[0] == 0
    with photolabel.load("a.onnx") as added, photolabel.load("b.onnx") as whole:
        for path in Path("more").rglob("*.png"):
            np.testing.assert_allclose(
                added.classify(path).probabilities, whole.classify(path).probabilities, atol=1e-4
            )
    assert how("a.onnx").counts == how("b.onnx").counts == (8, 8, 8)


def test_add_corrections(main: Main) -> None:
    assert main("set", "-o", "pets.onnx")[0] == 0
    Path("corrections.csv").write_text("set/grass/001.png,röd\nset/grass/002.png,grass\n")
    code, out, err = main("--add", "pets.onnx", "--labels", "corrections.csv", model=None)
    assert (code, err) == (0, "") and "1 photo has another class now" in out
    assert how().counts == (6, 5, 7)
    shutil.move("set/röd/003.png", "set/grass/moved.png")
    assert main("set", "--add", "pets.onnx", model=None)[0] == 0
    assert how().counts == (6, 7, 5), "the photo that was moved, and the one of which the folder says otherwise"


def test_add_keeps_how_it_was_taught(main: Main) -> None:
    plant(Path("more"), 1, seed=4)
    assert (
        main("set", "-o", "pets.onnx", "--head", "svm", "--views", "one", "--recipe", "keras", "--layer", "fc1")[0] == 0
    )
    was = how()
    assert main("more", "--add", "pets.onnx", model=None)[0] == 0
    assert how().kind == "svm" and how().origin == was.origin
    assert main("more", "--add", "pets.onnx", model="tiny.onnx")[0] == 0, "the same, said again"
    assert how().kind == "svm" and how().origin == was.origin
    assert main("more", "--add", "pets.onnx", "--head", "logistic", model=None)[0] == 0
    assert how().kind == "logistic"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--layer", "fc1"], "pets.onnx was taught with layer fc2, not fc1"),
        (["--views", "one"], "pets.onnx was taught with views mirror, not one"),
        (["--recipe", "keras"], "pets.onnx was taught with recipe tiny, not keras"),
        (["--precision", "int8"], "pets.onnx was taught with precision fp32, not int8"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("model", [None, "tiny.onnx"])
def test_add_in_another_way(arguments: list[str], says: str, model: str | None, main: Main) -> None:
    assert main("set", "-o", "pets.onnx")[0] == 0
    before = Path("pets.onnx").read_bytes()
    code, out, err = main("set", "--add", "pets.onnx", *arguments, model=model)
    assert out == "" and err.count("\n") == 1 and Path("pets.onnx").read_bytes() == before
    assert (code, says in err) == (2, True) if model is None else (code, "for another backbone" in err) == (3, True)


def test_a_head_for_another_backbone(main: Main) -> None:
    assert main("set", "-o", "pets.onnx")[0] == 0
    before = Path("pets.onnx").read_bytes()
    Path("other.onnx").write_bytes(oracle.tiny_onnx(oracle.he_normal(oracle.TINY, seed=1)))
    code, out, err = main("set", "--add", "pets.onnx", model="other.onnx")
    assert (code, out) == (3, "") and "this head is for another backbone: its network is tiny" in err
    assert Path("pets.onnx").read_bytes() == before


def test_add_to_a_file_in_8_bits(main: Main, other: Callable[..., str]) -> None:
    """Of one that was made so afterwards features would be others; one that was taught so goes on so."""
    assert main("set", "-o", "pets.onnx")[0] == 0
    other("export", "pets.onnx", "-o", "small.onnx", "--precision", "int8")
    code, out, err = main("set", "--add", "small.onnx", model=None)
    assert (code, out) == (2, "") and "it was made into 8-bit integers after it was taught" in err
    assert main("set", "-o", "pets.onnx", "--precision", "int8")[0] == 0
    more = plant(Path("more"), 1, {"snow": (250, 250, 250)})
    assert main(str(more), "--add", "pets.onnx", model=None)[0] == 0
    assert how().origin.precision == "int8" and labels() == [*LABELS, "snow"]
    assert metadata.read(Path("pets.onnx"))["photolabel.precision"] == "int8"


def test_a_class_that_is_corrected_away(main: Main) -> None:
    assert main("set", "-o", "pets.onnx")[0] == 0
    before = Path("pets.onnx").read_bytes()
    Path("c.csv").write_text("".join(f"set/grass/{number:03}.png,röd\n" for number in range(6)))
    code, out, err = main("--add", "pets.onnx", "--labels", "c.csv", model=None)
    assert (code, out) == (2, "") and "no photo of it is left" in err and Path("pets.onnx").read_bytes() == before


# -- the report


def page_of(folder: str = "page") -> tuple[str, int]:
    """The page, and how many photos lie beside it."""
    photos = Path(folder, "photos")
    return Path(folder, "index.html").read_text("utf-8"), len([*photos.iterdir()]) if photos.is_dir() else 0


def test_report(main: Main) -> None:
    shutil.copy("set/grass/000.png", "set/röd/again.png")
    plant(Path("val"), 2, seed=5)
    shutil.copy("set/grass/001.png", "val/grass/again.png")
    code, out, err = main("set", "-o", "pets.onnx", "--validation", "val", "--report", "page")
    assert (code, err) == (0, "") and out.endswith("\nreport: page/index.html\n")
    page, photos = page_of()
    assert "set/röd/again.png" in page and photos >= 2 and "not at hand" not in page
    assert main("set", "-o", "pets.onnx", "--report", "page")[0] == 0, "an earlier one is replaced"
    assert "val/grass" not in page_of()[0]
    assert json.loads(main("set", "-o", "pets.onnx", "--report", "page", "--json")[1])["file"] == "pets.onnx"


@pytest.mark.parametrize("form", ["zip", "tar", "gztar"])
def test_a_report_of_photos_in_archives(form: str, main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy("set/grass/000.png", "set/röd/again.png")
    name = shutil.make_archive("photos", form, ".", "set")
    plant(Path("val"), 2, seed=5)
    held = shutil.make_archive("val", form, ".", "val")
    shutil.rmtree("set")
    shutil.rmtree("val")
    given = (Path(name).name, "-o", "pets.onnx", "--validation", Path(held).name, "--report", "page")
    code, out, err = main(*given)
    assert (code, err) == (0, "") and out.startswith("pets.onnx: 3 classes, taught with 17 photos")
    page, photos = page_of()
    assert "again.png" in page
    assert photos >= 2 and "not at hand" not in page
    # The bytes of what lies in a compressed tar are only had in passing: no more of them are kept than there is room.
    monkeypatch.setattr(verb, "_ROOM", 1)
    assert main(*given)[0] == 0
    assert ("not at hand" in page_of()[0]) == (form == "gztar")


def test_a_report_of_photos_that_have_gone(main: Main) -> None:
    """Those that were taught before are known by the ends of their paths alone."""
    assert main("set", "-o", "pets.onnx")[0] == 0
    shutil.copytree("set/grass", "more/grass")
    shutil.rmtree("set")
    photo(Path("more/snow/1.png"), (250, 250, 250), 3)
    code, _, err = main("more", "--add", "pets.onnx", "--report", "page", model=None)
    assert (code, err) == (0, "") and page_of()[0]


@pytest.mark.parametrize(
    "error", [OutputError("page: cannot be written: No space left on device."), KeyboardInterrupt()]
)
def test_a_report_that_fails_at_the_end(error: BaseException, main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is written all the same."""
    from photolabel.teaching import report

    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(report, "write", full)
    code, out, err = main("set", "-o", "pets.onnx", "--report", "page")
    assert labels() == LABELS and not Path("page").exists()
    if isinstance(error, KeyboardInterrupt):
        assert (code, out, err) == (130, "", "photolabel: interrupted; pets.onnx is written, page is not\n")
    else:
        assert (code, err) == (4, f"photolabel: {error}\n")
        assert out.startswith("pets.onnx: 3 classes") and out.endswith("--report DIR\n")


# -- what is said meanwhile; interruptions


EPOCHS = [
    Epoch(number=0, most=2, loss=None, accuracy=None, held_loss=0.5, held_accuracy=0.75, best=True),
    Epoch(number=1, most=2, loss=0.4, accuracy=0.8, held_loss=0.45, held_accuracy=0.8, best=True),
    Epoch(number=2, most=2, loss=0.3, accuracy=0.9, held_loss=0.6, held_accuracy=0.7, best=False),
]


@pytest.mark.parametrize("kind", ["plain", "none", "auto"])
def test_epochs_are_told_of(kind: str, main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    def teach(*_: Any, step: teaching.Step, **__: Any) -> Lesson:
        assert step.epoch is not None and step.train is not None
        for epoch in EPOCHS:
            step.train(16, 20)
            step.train(20, 20)
            step.epoch(epoch)
        raise KeyboardInterrupt("stopped after epoch 2 of 2; to go on: the same again, with --resume (resume=True)")

    monkeypatch.setattr(teaching, "teach", teach)
    code, out, err = main("set", "-o", "pets.onnx", "--fine-tune", "--progress", kind)
    assert (code, out) == (130, "")
    lines = [
        "photolabel: the frozen network; held out: loss 0.5000, 75.0% right",
        "photolabel: epoch 1 of 2: loss 0.4000, 80.0% right; held out: loss 0.4500, 80.0% right, the best so far",
        "photolabel: epoch 2 of 2: loss 0.3000, 90.0% right; held out: loss 0.6000, 70.0% right",
    ]
    last = "photolabel: stopped after epoch 2 of 2; to go on: the same again, with --resume"
    assert err.splitlines() == [*(lines if kind == "plain" else []), last]


@pytest.mark.parametrize("signal", ["interrupted", "terminated"])
def test_stopped_what_was_computed_is_kept(signal: str, main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    from photolabel.cli.streams import Terminated

    plant(Path("fresh"), 4, seed=11 if signal == "interrupted" else 12)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt if signal == "interrupted" else Terminated

    with monkeypatch.context() as patch:
        patch.setattr(heads, "fit", stop)
        code, out, err = main("fresh", "-o", "pets.onnx")
    assert (code, out) == (130 if signal == "interrupted" else 143, "")
    assert err == (
        f"photolabel: {signal}; what was computed of 12 photos is kept: the same command goes on from there\n"
    )
    assert not Path("pets.onnx").exists()
    assert json.loads(main("fresh", "-o", "pets.onnx", "--json")[1])["from_cache"] == 12


def test_stopped_before_a_photo_was_looked_at(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(features, "through", stop)
    assert main("set", "-o", "pets.onnx") == (130, "", "photolabel: interrupted\n")


def test_progress_for_a_log_and_none(main: Main) -> None:
    code, _, err = main("set", "-o", "pets.onnx", "--progress", "plain")
    assert code == 0 and err == "photolabel: 18 photos were looked at; now a head is fitted to them\n"
    assert main("set", "-o", "pets.onnx", "--progress", "none")[2] == ""


@POSIX
def test_progress_on_a_terminal() -> None:
    Path("set/grass/bad.png").write_bytes(BROKEN)
    code, shown = on_terminal("teach", "set", "-o", "pets.onnx", "--model", "tiny.onnx", columns=100)
    assert code == 1
    assert " of 19 photos, " in shown and "fitting:" in shown
    assert "photolabel: set/grass/bad.png: " in shown
    assert ".photolabel-" not in shown, "the name that a file has while it is written"
    assert shown.rstrip(" \r\n").rpartition("\r")[2].strip() in ("", "\x1b[K"), "all is wiped"


# -- what the other verbs make of the file


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory, _one_cache: Path) -> Path:
    """A network that the verb taught, on the bundled one, and its photos beside it."""
    folder = tmp_path_factory.mktemp("pets")
    plant_varied(folder / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTOLABEL_CACHE", str(_one_cache))
        given = [str(folder / "photos"), "-o", str(folder / "pets.onnx"), "--model", models.BUNDLED]
        assert cli.main(["teach", *given]) == 0
    return folder


@pytest.fixture
def taught_one(pets: Path, _here: None) -> str:
    """Its name, in the folder of the test, with its photos in `photos` and one of another kind in strange.png."""
    shutil.copytree(pets, ".", dirs_exist_ok=True)
    return "pets.onnx"


@pytest.fixture
def strange(tmp_path: Path) -> str:
    return str(photo(tmp_path / "strange.png", (250, 250, 250), 99))


ONE = "photos/grass/001.png"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--precision", "int8"],
        ["--precision", "bf16"],
        ["--engine", "onnxruntime"],
        ["--views", "mirror"],
        ["--views", "ten-crop"],
    ],
    ids=" ".join,
)
def test_it_names_photos(
    arguments: list[str], taught_one: str, strange: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main([ONE, "--model", taught_one, *arguments])
    said = capsys.readouterr()
    if code == 2 and "bf16" in said.err:
        pytest.skip("this processor has no bf16")
    assert (code, said.err) == (0, "") and said.out.startswith("grass (")
    assert cli.main([strange, "--model", taught_one, "--sure", "0.5", *arguments]) == 0
    assert capsys.readouterr().out == "unsure (none of its classes)\n"


def test_the_other_verbs_take_it(taught_one: str, strange: str, other: Callable[..., str]) -> None:
    how = ("--model", taught_one)
    assert other("explain", ONE, *how, "-o", "e.png").startswith("grass (")
    assert "recipe efficientnet-lite2" in other("look", ONE, *how, "-o", "l.png")
    assert "24 photos (folders named by classes, 3 of 3 classes)" in other("evaluate", "photos", *how)
    assert "kept for pets, " in other("calibrate", "photos", *how)
    assert json.loads(other(ONE, *how, "--json", "--coverage", "0.5"))["names"]["labels"][0]["name"] == "grass"
    assert other(strange, *how, "--sure", "0.5") == "unsure (none of its classes)\n"
    assert "removed" in other("calibrate", "--remove", *how)
    other("export", taught_one, "-o", "copy.onnx")
    assert Path("copy.onnx").read_bytes() == Path(taught_one).read_bytes()
    assert "(None, 3)" in other("summary", taught_one)
    other("plot", taught_one, "-o", "p.svg")


def test_it_can_have_a_name(taught_one: str, other: Callable[..., str]) -> None:
    other("models", "import", "mine", taught_one)
    assert "\nmine " in other("models", "list")
    assert "mine: mine.onnx: sound\n" in other("models", "verify", "mine")
    assert other("models", "verify", "mine", "--precision", "int8", ONE).startswith("mine at int8, beside fp32")
    assert other(ONE, "--model", "mine").startswith("grass (")
    more = plant_varied(Path("more"), 2, seed=1)
    other("teach", str(more), "--model", "mine", "-o", "again.onnx")
    assert other(ONE, "--model", "again.onnx").startswith("grass ("), "a network that was taught is a backbone as well"
    other("models", "remove", "mine")


def test_from_python() -> None:
    """The public name is the verb."""
    lesson = photolabel.teach("set", "pets.onnx", model="tiny.onnx", workers=0)
    assert lesson.labels == tuple(LABELS) and lesson.out == Path("pets.onnx")
    with photolabel.load("pets.onnx") as classifier:
        assert classifier.classify("set/grass/000.png").top.name == "grass"
