"""A user's own ONNX file from end to end: by path, imported, in the cache, and on the command line."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import photolabel
from photolabel import adapt, artefacts, cli, conventions, engine, foreign, images, keeping, models
from photolabel.errors import InvalidModelError, UnknownModelError, UsageError
from photolabel.store import Store

import strangers
from conftest import ROOT
from strangers import NAMES, network


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return strangers.write(tmp_path / "mine.onnx", network())


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    return strangers.labels(tmp_path)


def kept(pattern: str) -> list[Path]:
    return sorted(Store().folder.glob(pattern))


def expected(photo: Path) -> Any:
    convention = conventions.CONVENTIONS["torchvision"]
    pixels = images.prepare(images.read(photo), convention.recipe(16)).astype(np.float64)
    x = (pixels - convention.normalisation.mean) / convention.normalisation.deviation
    return strangers.softmax(strangers.logits(x.transpose(2, 0, 1)[np.newaxis]))[0]


def test_by_path(mine: Path, classes: Path, photo: Path) -> None:
    for model in (mine, str(mine)):
        with photolabel.load(model, labels=classes, recipe="torchvision") as classifier:
            found = classifier.classify(photo, top=None)
            np.testing.assert_allclose(found.probabilities, expected(photo), atol=1e-5)
            assert (found.model, found.recipe, found.precision) == ("mine", "torchvision", "fp32")
            assert {label.name for label in found.labels} == set(NAMES)
            again = pickle.loads(pickle.dumps(classifier))
            assert again.classify(photo).labels == found.labels
            assert classifier.model.source.startswith("a network of the user's own, sha256:")


def test_a_second_start_adapts_nothing(mine: Path, classes: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = photolabel.load(mine, labels=classes, recipe="torchvision").classify(photo)
    made = kept("adapted-mine-*")
    assert len([path for path in made if path.suffix == ".onnx"]) == 1
    assert len([path for path in made if path.suffix == ".blob"]) == 1

    def fail(*_: object, **__: object) -> bytes:
        raise AssertionError

    monkeypatch.setattr(adapt, "adapt", fail)
    monkeypatch.setattr(engine.openvino.OpenVINO, "_compile", fail)
    again = photolabel.load(mine, labels=str(classes), recipe="torchvision").classify(photo)
    assert again == first and kept("adapted-mine-*") == made


def test_all_that_was_said_is_in_the_name(mine: Path, classes: Path, tmp_path: Path) -> None:
    def made(path: Path = mine, labels: Path = classes, recipe: str | Path = "torchvision") -> Path:
        return foreign.adapted(foreign.describe(path, labels_file=labels, recipe=recipe))

    first = made()
    assert first.is_relative_to(Store().folder) and made() == first
    other = tmp_path / "other.txt"
    other.write_text("\n".join(reversed(NAMES)), "utf-8")
    elsewhere = tmp_path / "other.onnx"
    shutil.copyfile(mine, elsewhere)
    others = [made(labels=other), made(recipe="raw"), made(elsewhere)]
    strangers.write(mine, network(end="l Softmax"))
    others.append(made())
    assert len({first, *others}) == 5
    assert models.read(others[0]).labels[0].name == "eel" and models.read(others[2]).name == "other"
    other.write_bytes(classes.read_bytes())
    assert made(elsewhere, labels=other) == others[2], "what the labels are counts, not where they lie"


@pytest.mark.parametrize("stem", ["a b", "ünïcode", "x" * 90, "vgg16", "-", "adapted-" * 4, ".hidden", "a\nb"])
def test_files_of_any_name(tmp_path: Path, classes: Path, photo: Path, stem: str) -> None:
    path = strangers.write(tmp_path / f"{stem}.onnx", network())
    with photolabel.load(path, labels=classes, recipe="torchvision") as classifier:
        np.testing.assert_allclose(classifier.classify(photo).probabilities, expected(photo), atol=1e-5)
        assert classifier.model.name.isprintable()
    assert all(path.name.startswith(("adapted-", "digests")) for path in Store().folder.iterdir())
    assert keeping.leftovers() == []


def test_a_damaged_one_is_made_again(mine: Path, classes: Path, photo: Path) -> None:
    first = photolabel.load(mine, labels=classes, recipe="torchvision").classify(photo)
    (made,) = kept("adapted-mine-*.onnx")
    made.write_bytes(made.read_bytes()[:-1])
    assert photolabel.load(mine, labels=classes, recipe="torchvision").classify(photo) == first


def test_int8(mine: Path, classes: Path, photo: Path) -> None:
    with photolabel.load(mine, labels=classes, recipe="torchvision", precision="int8") as classifier:
        assert classifier.precision == "int8"
        np.testing.assert_allclose(classifier.classify(photo).probabilities, expected(photo), atol=0.1)


def test_a_softmax_that_cannot_be_seen_is_not_done_twice(tmp_path: Path, classes: Path, photo: Path) -> None:
    """Here in the branches of an If, as a function of a training framework may come out."""
    model = network()
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "always"))
    shape = ("N", strangers.CLASSES)
    branches = [
        helper.make_graph(
            [helper.make_node("Softmax", ["scores"], [name], axis=1)],
            name, [], [helper.make_tensor_value_info(name, strangers.FLOAT, shape)],
        )
        for name in ("one", "other")
    ]  # fmt: skip
    model.graph.node.append(helper.make_node("If", ["always"], ["p"], then_branch=branches[0], else_branch=branches[1]))
    model.graph.output[0].name = "p"
    with photolabel.load(strangers.write(tmp_path / "x.onnx", model), labels=classes, recipe="torchvision") as found:
        np.testing.assert_allclose(found.classify(photo).probabilities, expected(photo), atol=1e-5)


def test_a_network_that_pytorch_exported(classes: Path, photo: Path) -> None:
    """For a batch of one, as torch.onnx.export does by itself; many photos may be given to it all the same.

    The file: torch 2.13, torch.onnx.export(dynamo=False), of a seeded, untrained Sequential of Conv2d, BatchNorm2d,
    ReLU6, a depthwise Conv2d, Hardswish, AdaptiveAvgPool2d, Flatten and Linear, for (1, 3, 32, 32).
    """
    path = Path(__file__).parent / "data" / "torch_convnet.onnx"
    theirs = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    convention = conventions.CONVENTIONS["torchvision"]
    with photolabel.load(path, labels=classes, recipe="torchvision") as classifier:
        assert classifier._members[0]._run.shape == (None, 32, 32, 3)
        pixels = images.prepare(images.read(photo), classifier.recipe)
        x = ((pixels - convention.normalisation.mean) / convention.normalisation.deviation).astype(np.float32)
        (reference,) = theirs.run(None, {theirs.get_inputs()[0].name: x.transpose(2, 0, 1)[np.newaxis]})
        found = classifier.classify(photo)
        np.testing.assert_allclose(found.probabilities, strangers.softmax(reference)[0], atol=1e-5)
        both = classifier._members[0]._run(np.stack([pixels, pixels[::-1]]))
        np.testing.assert_allclose(both[0], found.probabilities, atol=1e-6)


@pytest.mark.parametrize("case", ["one is written into it", "it takes a mean over them"])
def test_many_photos_at_a_time_are_tried_not_believed(tmp_path: Path, classes: Path, photo: Path, case: str) -> None:
    """The exporter said any number, and it is not so."""
    model = network(flatten="Reshape 1")
    if case == "it takes a mean over them":
        model = network()
        model.graph.node.insert(1, helper.make_node("ReduceMean", ["conv"], ["mean"], axes=[0]))
        model.graph.node.insert(2, helper.make_node("Max", ["conv", "mean"], ["higher"]))
        model.graph.node[3].input[0] = "higher"
    with photolabel.load(strangers.write(tmp_path / "x.onnx", model), labels=classes, recipe="torchvision") as found:
        assert found._members[0]._run.shape == (1, 16, 16, 3)
        np.testing.assert_allclose(found.classify(photo).probabilities, expected(photo), atol=1e-5)


def broken(case: str) -> onnx.ModelProto:
    model = network()
    if case == "an operator of their own":
        model.graph.node[1].domain = "theirs"
        model.opset_import.append(helper.make_opsetid("theirs", 1))
    elif case == "weights of another shape":
        model.graph.node[0].input[1] = "dense"
    elif case == "a circle":
        model.graph.node[0].input[0] = "scores"
    elif case == "other classes than it declares":
        del model.graph.node[-1]
        model.graph.node[-1].output[0] = "scores"
        model.graph.output[0].type.tensor_type.ClearField("shape")
        model.graph.node[0].domain = "theirs"
    elif case == "a softmax along the photos":
        model = network(end="l Softmax")
        model.graph.node[-1].attribute[0].i = 0
    elif case == "answers without end":
        for name in ("kernel", "dense"):
            tensor = next(x for x in model.graph.initializer if x.name == name)
            tensor.raw_data = (np.frombuffer(tensor.raw_data, np.float32) * np.float32(1e30)).tobytes()
    return model


@pytest.mark.parametrize(
    "case",
    [
        "an operator of their own",
        "weights of another shape",
        "a circle",
        "other classes than it declares",
        "a softmax along the photos",
        "answers without end",
    ],
)
def test_one_clear_error_and_nothing_left_behind(tmp_path: Path, classes: Path, case: str) -> None:
    path = strangers.write(tmp_path / "x.onnx", broken(case))
    for call in (
        lambda: photolabel.load(path, labels=classes, recipe="torchvision"),
        lambda: keeping.bring("mine", path, labels=classes, recipe="torchvision"),
    ):
        with pytest.raises(InvalidModelError) as caught:
            call()
        assert ".tmp" not in str(caught.value) and len(str(caught.value)) < 400
        left = [x.name for x in Store().folder.rglob("*") if x.is_file() and x.suffix not in (".lock", ".json")]
        assert left == [] and models.own() == []


def test_a_file_that_is_written_to_meanwhile(mine: Path, classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = adapt.adapt

    def and_then(path: Path, **more: Any) -> bytes:
        made = plain(path, **more)
        strangers.write(path, network(end="l Softmax"))
        return made

    monkeypatch.setattr(adapt, "adapt", and_then)
    with pytest.raises(InvalidModelError, match="changed while it was read"):
        photolabel.load(mine, labels=classes, recipe="torchvision")
    assert not kept("*.onnx")


def test_what_goes_with_what(mine: Path, tiny: Path, classes: Path, tmp_path: Path) -> None:
    load: Any = photolabel.load
    with pytest.raises(InvalidModelError, match=r"mine.onnx: .* nothing of itself. .* --labels FILE --recipe NAME"):
        load(mine)
    with pytest.raises(InvalidModelError, match="--labels FILE --recipe NAME"):
        load(mine, recipe="torchvision")
    for model in (tiny, "vgg16", models.BUNDLED):
        with pytest.raises(UsageError, match="describes itself"):
            load(model, labels=classes, recipe="torchvision")
    with pytest.raises(UsageError, match="--recipe with one of torchvision, caffe"):
        load(mine, labels=classes)
    with pytest.raises(UsageError, match="no recipe 'crop' for a network of your own"):
        load(mine, labels=classes, recipe="crop")
    for more in ({}, {"model": mine, "weights": mine}):
        with pytest.raises(UsageError, match="--model FILE.onnx --labels FILE --recipe NAME"):
            load(labels=classes, recipe="torchvision", **more)
    with pytest.raises(UnknownModelError):
        load(tmp_path / "missing.onnx", labels=classes, recipe="torchvision")
    with pytest.raises(UsageError, match="goes with labels"):
        load(tiny, recipe=tmp_path / "recipe.json")
    with pytest.raises(InvalidModelError, match="there are 1000 labels, but .* has 5 classes"):
        load(mine, labels="imagenet", recipe="torchvision")


def test_the_model_may_be_pinned(mine: Path, classes: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOLABEL_MODEL", str(mine))
    with photolabel.load(labels=classes, recipe="torchvision") as classifier:
        assert classifier.classify(photo).model == "mine"


# -- what lies in the cache


def test_import(mine: Path, tiny: Path, classes: Path, photo: Path) -> None:
    path = keeping.bring("pets", mine, labels=classes, recipe="torchvision")
    mine.unlink()
    with photolabel.load("pets") as classifier:
        found = classifier.classify(photo)
        np.testing.assert_allclose(found.probabilities, expected(photo), atol=1e-5)
        assert (found.model, found.recipe) == ("pets", "torchvision")
    assert path.parent == models.own_store().folder and models.own() == ["pets"]
    assert (path, True) in artefacts.verify(models.resolve("pets"))
    with pytest.raises(UsageError, match="there is a model pets already"):
        keeping.bring("pets", tiny)
    with pytest.raises(UsageError, match="describes itself"):
        photolabel.load("pets", labels=classes, recipe="torchvision")
    with pytest.raises(UsageError, match="describes itself"):
        keeping.bring("other", tiny, labels=classes, recipe="torchvision")
    with pytest.raises(UsageError, match="no --model to choose"):
        keeping.bring("other", tiny, labels=classes, recipe="torchvision", model="vgg16")
    with pytest.raises(UsageError, match="goes with --labels"):
        keeping.bring("other", tiny, recipe="torchvision")


def test_listed_verified_and_cleaned(mine: Path, classes: Path, photo: Path) -> None:
    def load() -> photolabel.Prediction:
        with photolabel.load(mine, labels=classes, recipe="torchvision", precision="int8") as classifier:
            return classifier.classify(photo)

    first = load()
    (made,) = kept("adapted-mine-*.onnx")
    shown = {each.path.name: each.why for each in keeping.unknown()}
    assert shown.pop(made.name) == "made of a file of your own"
    assert set(shown.values()) <= {"made of a file of your own", "compiled from a file of your own"}
    assert (made, True) in artefacts.verify_others([])
    assert keeping.leftovers() == [] and keeping.clean() == ([], [])
    gone, busy = keeping.clean(everything=True)
    assert made in {each.path for each in gone} and not busy
    assert not kept("*.onnx") and not kept("*.blob")
    assert load() == first


def test_a_compiled_network_goes_with_what_it_was_compiled_from(mine: Path, classes: Path) -> None:
    photolabel.load(mine, labels=classes, recipe="torchvision").close()
    (made,) = kept("adapted-mine-*.onnx")
    Store().remove(made.name)
    assert [each.why for each in keeping.leftovers()] == ["compiled from a file that is gone"]


# -- the command line


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main([str(x) for x in arguments])
    return code, *capsys.readouterr()


def test_the_command(
    mine: Path, classes: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ("--labels", classes, "--recipe", "torchvision")
    best = expected(photo)
    answer = f"{NAMES[best.argmax()]} ({best.max() * 100:.2f}%)\n"
    assert run(capsys, "--model", mine, *said, photo) == (0, answer, "")
    code, out, _ = run(capsys, "models", "import", "pets", mine, *said)
    assert code == 0 and out.startswith("pets: ready, ") and out.endswith("use it as --model pets\n")
    assert run(capsys, "--model", "pets", photo) == (0, answer, "")
    _, out, _ = run(capsys, "summary", "pets")
    assert "Conv2D" in out
    _, out, _ = run(capsys, "models", "--json")
    listed = json.loads(out)["models"][-1]
    assert (listed["name"], listed["recipes"], listed["problem"]) == ("pets", ["torchvision"], None)
    archive = tmp_path / "x.tar"
    assert run(capsys, "models", "bundle", archive, "pets")[0] == 0
    assert run(capsys, "models", "remove", "pets")[0] == 0
    assert run(capsys, "models", "unbundle", archive)[0] == 0
    assert run(capsys, "--model", "pets", photo) == (0, answer, "")
    recipe = tmp_path / "mine.json"
    recipe.write_text(
        json.dumps({"order": "RGB", "mean": [123.675, 116.28, 103.53], "deviation": [58.395, 57.12, 57.375]})
    )
    assert run(capsys, "--model", mine, "--labels", classes, "--recipe", recipe, photo) == (0, answer, "")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--model", "M"], 3, "--labels FILE --recipe NAME"),
        (["--model", "M", "--labels", "L"], 2, "--recipe with one of torchvision"),
        (["--model", "M", "--labels", "L", "--recipe", "torchvison"], 2, "Did you mean torchvision?"),
        (["--model", "M", "--labels", "imagenet", "--recipe", "torchvision"], 3, "1000 labels, but its output"),
        (["--model", "M", "--labels", "nope.txt", "--recipe", "torchvision"], 2, "nope.txt: no such labels file"),
        (["--model", "vgg16", "--labels", "L", "--recipe", "torchvision"], 2, "vgg16 describes itself"),
        (["--labels", "L", "--recipe", "torchvision"], 2, "--model FILE.onnx"),
        (["--weights", "M", "--labels", "L", "--recipe", "torchvision"], 2, "--model FILE.onnx"),
    ],
)
def test_every_error_is_one_line_and_its_own_code(
    mine: Path, classes: Path, photo: Path, arguments: list[str], code: int, says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = [{"M": str(mine), "L": str(classes)}.get(word, word) for word in arguments]
    found, out, err = run(capsys, *words, photo)
    assert (found, out, err.count("\n")) == (code, "", 1) and says in err
    assert os.fspath(Store().folder) not in err


# -- the page


def test_the_page_s_commands_run(
    tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "own-models.md").read_text("utf-8")
    (recipe,) = re.findall(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.json").write_text(recipe, "utf-8")
    shutil.copyfile(photo, tmp_path / "photo.jpg")
    strangers.labels(tmp_path)
    strangers.write(tmp_path / "mine.onnx", network(shape=("N", 3, 224, 224)))
    strangers.write(tmp_path / "resnet50.onnx", network())
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^photolabel (.*)$", page, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        code, out, err = run(capsys, *command.split())
        if "resnet50" in command:  # the stand-in has five classes only
            assert "there are 1000 labels" in err
        else:
            assert (code, err) == (0, "") and out


def test_the_page_lists_the_recipes_and_the_fields() -> None:
    page = (ROOT / "docs" / "own-models.md").read_text("utf-8")
    named, fields = page.partition("| field | says |")[::2]
    rows = re.findall(r"^\| `([a-z-]+)` \|", named, re.MULTILINE)
    assert rows == list(conventions.CONVENTIONS)
    heads = [line.split("|")[1] for line in fields.splitlines() if line.startswith("| `")]
    assert {name for head in heads for name in re.findall("`([a-z]+)`", head)} == set(conventions._KEYS)
