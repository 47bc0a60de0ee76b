"""A taught network is one file that every other verb takes by path, and is there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import photolabel
from photolabel import cli, explain, metadata, models, taught, writing
from photolabel.classifier import Classifier
from photolabel.errors import InvalidModelError, OutputError, UsageError
from photolabel.member import Member
from photolabel.teaching import saving
from photolabel.teaching.backbone import Backbone
from photolabel.teaching.features import Features

import oracle
import save_kills
from training import COLOURS, computed, head, known, photo, plant, taught_by
from training import taught as taught_of

RUNTIMES = ["openvino", "onnxruntime"]
LABELS = sorted(COLOURS)
VIEWS = ["one", "mirror"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(tmp_path_factory.mktemp("photos") / "set", 10)


@pytest.fixture
def classifier(tiny: Path) -> Iterator[Classifier]:
    with photolabel.load(tiny) as made:
        yield made


@pytest.fixture(scope="module")
def networks(tiny: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Taught on a VGG's dense layer, on its last map, and on the bundled model."""
    folder = tmp_path_factory.mktemp("taught")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTOLABEL_CACHE", str(folder / "cache"))
        for name, source, layer in (
            ("dense", tiny, None),
            ("map", tiny, "block5_pool"),
            ("lite", models.BUNDLED, None),
        ):
            with photolabel.load(source) as made:
                taught_by(folder / f"{name}.onnx", photos, made, layer=layer)
    return {path.stem: path for path in folder.glob("*.onnx")}


@pytest.fixture(params=["dense", "map", "lite"])
def network(request: pytest.FixtureRequest, networks: dict[str, Path]) -> Path:
    return networks[request.param]


@pytest.fixture
def one(photos: Path) -> Path:
    return photos / "grass" / "004.png"


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    return photo(tmp_path / "strange.png", (250, 250, 250), 99)


def right(classifier: Classifier, photos: Path) -> float:
    found = [classifier.classify(each).top.name == each.parent.name for each in photos.rglob("*.png")]
    return sum(found) / len(found)


# -- what is written


def test_it_describes_itself(network: Path, photos: Path, tiny: Path) -> None:
    model = models.read(network)
    assert model.name == network.stem
    assert [(label.index, label.wnid, label.name) for label in model.labels] == [
        (index, None, name) for index, name in enumerate(LABELS)
    ]
    source = models.known()[models.BUNDLED] if network.stem == "lite" else models.read(tiny)
    assert model.recipes == source.recipes and model.licence == source.licence
    assert model.spec is None and model.accuracy is None
    how = taught.read(network)
    assert how is not None and how.counts == (10, 10, 10) and how.report == {"photos": 30}
    assert how.origin.network in model.source and how.origin.layer in model.source
    listed = taught.examples(metadata.read(network), how)
    assert len(listed) == 30 and listed[0].name == "blue sky/000.png" and listed[0].index == 0


def test_what_is_taught_again_and_again_does_not_tell_of_each_time(network: Path, photos: Path, tmp_path: Path) -> None:
    """Only the network under the head is in the file, and so in the words that say where it comes from."""
    sources = [models.read(network).source]
    path = network
    for name in ("second", "third"):
        with photolabel.load(path) as made:
            again = taught_by(tmp_path / f"{name}.onnx", photos, made)
        sources.append(again.source)
        path = tmp_path / f"{name}.onnx"
    assert [each.count("a head taught on layer") for each in sources] == [1, 1, 1]
    assert sources[1].partition(" of ")[2].startswith(f"{network.stem}, sha256:")
    assert len({each.rpartition(": ")[2] for each in sources}) == 1


def test_the_same_gives_the_same_bytes(classifier: Classifier, photos: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "1" / "pets.onnx", tmp_path / "2" / "pets.onnx"
    for path in (one, other):
        path.parent.mkdir()
        taught_by(path, photos, classifier)
    assert one.read_bytes() == other.read_bytes()


def test_the_same_photo_is_listed_once_and_never_in_two_classes(
    classifier: Classifier, photos: Path, tmp_path: Path
) -> None:
    top = plant(tmp_path / "photos", 2)
    (top / "grass" / "copy.png").write_bytes((top / "grass" / "001.png").read_bytes())
    features = computed(top, Backbone.of(classifier))
    assert len(features.photos) == 7 and len(known(features, LABELS)) == 6
    (top / "röd" / "copy.png").write_bytes((top / "grass" / "001.png").read_bytes())
    with pytest.raises(UsageError, match=r"röd/copy\.png: it is the same photo as grass/001\.png, in another class"):
        known(computed(top, Backbone.of(classifier)), LABELS)


@pytest.mark.parametrize("labels", [["../x", "a/b", "ünïcode"], ["0", "1", "2"], ["x" * 100, " ", "'\""]])
def test_a_class_is_a_text_whatever_is_in_it(
    classifier: Classifier, photos: Path, tmp_path: Path, labels: list[str]
) -> None:
    backbone = Backbone.of(classifier)
    features = computed(photos, backbone)
    names = tuple(labels[LABELS.index(name)] for name in features.names)
    made = taught_of(tmp_path / "x.onnx", replace(features, names=names), backbone, labels=labels)
    assert [label.name for label in made.labels] == labels
    assert list(tmp_path.iterdir()) == [tmp_path / "x.onnx"]


# -- what cannot be


def given(features: Features, **changed: Any) -> dict[str, Any]:
    return {
        **head(features, LABELS),
        "labels": LABELS,
        "examples": known(features, LABELS),
        "averaged": features.averaged,
        "kind": "least squares",
        **changed,
    }


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": LABELS[:2]}, "one name for each"),
        ({"labels": ["a", "a", "b"]}, "all different"),
        ({"floor": None}, "both the centres"),
        ({"centres": None}, "both the centres"),
        ({"floor": 2.0}, "cosine"),
        ({"kind": "a\nb"}, "printable"),
        ({"bias": np.zeros(2, np.float32)}, "bias"),
        ({"report": {"x": float("nan")}}, "report"),
    ],
)
def test_arguments_that_do_not_fit_leave_the_older_file(
    classifier: Classifier, photos: Path, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    backbone = Backbone.of(classifier)
    out = tmp_path / "x.onnx"
    out.write_bytes(b"older")
    with pytest.raises(UsageError, match=said):
        saving.save(out, backbone, **given(computed(photos, backbone), **changed))
    assert out.read_bytes() == b"older" and list(tmp_path.iterdir()) == [out]


def test_the_backbones_own_file_is_not_written_over(tiny: Path, photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny.read_bytes())
    with photolabel.load(path) as made:
        backbone = Backbone.of(made)
        features = computed(photos, backbone)
        with pytest.raises(UsageError, match="the very file"):
            saving.save(path, backbone, **given(features))
    assert path.read_bytes() == tiny.read_bytes()


def test_a_backbone_that_changes_meanwhile_is_no_backbone(tiny: Path, photos: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "tiny.onnx", tmp_path / "x.onnx"
    path.write_bytes(tiny.read_bytes())
    with photolabel.load(path) as made:
        backbone = Backbone.of(made)
        features = computed(photos, backbone)
        path.write_bytes(oracle.tiny_onnx(oracle.he_normal(oracle.TINY, seed=3)))
        with pytest.raises(InvalidModelError, match="changed while it was read"):
            saving.save(out, backbone, **given(features))
    assert not out.exists()


def test_a_file_that_computes_something_else_gets_no_name(
    classifier: Classifier, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, out = Backbone.of(classifier), tmp_path / "x.onnx"
    real = saving.with_head

    def wrong(source: Path, layer: str, weights: Any, bias: Any, **options: Any) -> Any:
        return real(source, "fc1", weights, bias, **options)

    monkeypatch.setattr(saving, "with_head", wrong)
    with pytest.raises((InvalidModelError, UsageError), match=r"x\.onnx: (it does not compute|.*layer)|no layer"):
        saving.save(out, backbone, **given(computed(photos, backbone)))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(classifier: Classifier, photos: Path, tmp_path: Path) -> None:
    backbone = Backbone.of(classifier)
    features = computed(photos, backbone)
    with pytest.raises(OutputError):
        saving.save(tmp_path / "nowhere" / "x.onnx", backbone, **given(features))


def test_a_full_disk_leaves_the_older_file(
    classifier: Classifier, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, out = Backbone.of(classifier), tmp_path / "x.onnx"
    features = computed(photos, backbone)
    out.write_bytes(b"older")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        saving.save(out, backbone, **given(features))
    assert out.read_bytes() == b"older" and list(tmp_path.iterdir()) == [out]


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_killed_at_any_moment_it_is_the_older_or_the_new_file(tiny: Path, tmp_path: Path) -> None:
    tally = save_kills.kill_saves(tmp_path, tiny, kills=6, seed=1)
    assert tally["killed"] == 6


# -- what the other verbs make of it


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_it_names_its_classes(network: Path, photos: Path, runtime: str, precision: str) -> None:
    with photolabel.load(network, engine=runtime, precision=precision) as made:
        assert made.precision == precision
        assert right(made, photos) >= (1.0 if precision == "fp32" else 0.6)  # the tiny one has few numbers to round
        (member,) = made.members
        assert member.floor is not None


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("views", VIEWS)
def test_what_is_like_none_of_its_classes_is_none(
    networks: dict[str, Path], one: Path, strange: Path, runtime: str, views: str
) -> None:
    for name in ("map", "lite"):
        with photolabel.load(networks[name], engine=runtime, views=views) as made:
            assert made.classify(one, sure=0.5).answer.kind == "leaf"  # type: ignore[union-attr]
            said = made.classify(strange, sure=0.5).answer
            assert said is not None and str(said) == "unsure (none of its classes)"
            assert made.classify(strange).answer.kind == "leaf"  # type: ignore[union-attr]  # nobody asked how sure


def test_a_blob_gives_familiarity_as_the_first_run_did(networks: dict[str, Path], strange: Path) -> None:
    for _ in range(2):
        with photolabel.load(networks["map"]) as made:
            assert str(made.classify(strange, sure=0.5).answer) == "unsure (none of its classes)"


def test_the_floor_is_of_the_way_it_was_taught(networks: dict[str, Path], strange: Path, one: Path) -> None:
    """By another recipe photos look otherwise to it; several networks together have no line at all."""
    path = networks["map"]
    with photolabel.load(path, recipe="keras") as made:
        assert made.members[0].floor is None
    with photolabel.load(path, views="dense") as made:
        assert made.members[0].floor is None
        assert made.classify(one).top.name == "grass"
    with photolabel.load(f"{path}+{networks['dense']}") as made:
        assert made.classify(strange, sure=0.01).answer.kind == "leaf"  # type: ignore[union-attr]


def test_its_own_familiarity_counts_also_where_it_was_calibrated(
    networks: dict[str, Path], photos: Path, strange: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["calibrate", str(photos), "--model", str(networks["map"])]) == 0
    with photolabel.load(networks["map"]) as made:
        assert made.calibration is not None
        assert str(made.classify(strange, sure=0.5).answer) == "unsure (none of its classes)"


def test_what_is_called_like_the_bundled_model_has_not_its_line(
    networks: dict[str, Path], tmp_path: Path, photos: Path
) -> None:
    with photolabel.load(models.BUNDLED) as made:
        backbone = Backbone.of(made)
        features = computed(photos, backbone)
        path = tmp_path / f"{models.BUNDLED}.onnx"
        saving.save(path, backbone, **{**given(features), "centres": None, "floor": None})
    with photolabel.load(path) as taught_one:
        assert taught_one.members[0].floor is None and taught_one._floor is None


@pytest.mark.parametrize(("name", "method"), [("dense", "occlusion"), ("map", "activation"), ("lite", "activation")])
def test_it_is_explained(networks: dict[str, Path], one: Path, name: str, method: str) -> None:
    with photolabel.load(networks[name]) as made:
        found = explain.explain(made, one)
    assert found.method == method and found.label.name == "grass"


def test_the_command_line_takes_it_by_path(
    network: Path, photos: Path, one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = str(network), tmp_path / "out"
    out.mkdir()

    def ran(*arguments: object) -> str:
        assert cli.main([str(each) for each in arguments]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    assert "grass" in ran(one, "--model", path)
    ran(photos, "--model", path, "--output", out / "x.jsonl", "--sure", "0.5")
    records = [json.loads(line) for line in (out / "x.jsonl").read_text().splitlines()]
    assert len(records) == 30 and all(record["labels"][0]["name"] in record["photo"] for record in records)
    assert "recipe" in ran("look", one, "--model", path, "-o", out / "l.png")
    assert "grass" in ran("explain", one, "--model", path, "-o", out / "e.png")
    assert "folders named by classes, 3 of 3 classes" in ran("evaluate", photos, "--model", path)
    summary = ran("summary", path)
    assert "(None, 3)" in summary and "Div" not in summary and "likeness" not in summary
    ran("plot", path, "-o", out / "p.svg")
    ran("export", path, "-o", out / "copy.onnx")
    assert (out / "copy.onnx").read_bytes() == network.read_bytes()
    ran("export", path, "-o", out / "int8.onnx", "--precision", "int8")
    assert taught.read(out / "int8.onnx") == taught.read(network)
    assert cli.main([str(one), "--model", str(out / "int8.onnx"), "--sure", "0.5"]) == 0


@pytest.mark.parametrize("ending", [".keras", ".weights.h5", ".safetensors"])
def test_other_forms_say_that_they_cannot(network: Path, tmp_path: Path, ending: str) -> None:
    with pytest.raises(UsageError, match=r"can be written as \.onnx only"):
        photolabel.export(network, tmp_path / f"x{ending}")


def test_it_is_imported_and_bundled(networks: dict[str, Path], one: Path, strange: Path, tmp_path: Path) -> None:
    assert cli.main(["models", "import", "mine", str(networks["map"])]) == 0
    assert cli.main(["models", "bundle", str(tmp_path / "b.tar"), "mine"]) == 0
    assert cli.main(["models", "remove", "mine"]) == 0
    assert cli.main(["models", "unbundle", str(tmp_path / "b.tar")]) == 0
    with photolabel.load("mine") as made:
        assert made.classify(one).top.name == "grass"
        assert str(made.classify(strange, sure=0.5).answer) == "unsure (none of its classes)"
    assert taught.read(models.own_store().path("mine.onnx")) == taught.read(networks["map"])


def test_a_taught_network_can_be_taught_again(networks: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    with photolabel.load(networks["lite"]) as made:
        again = taught_by(tmp_path / "again.onnx", photos, made)
    with photolabel.load(again.path) as made:
        assert right(made, photos) == 1.0


def test_a_backbone_in_8_bits_stays_in_8_bits(tiny: Path, photos: Path, tmp_path: Path) -> None:
    with photolabel.load(tiny, precision="int8") as made:
        model = taught_by(tmp_path / "x.onnx", photos, made)
    assert metadata.read(tmp_path / "x.onnx")["photolabel.precision"] == "int8"
    how = taught.read(tmp_path / "x.onnx")
    assert how is not None and how.origin.precision == "int8"
    for runtime in RUNTIMES:
        with photolabel.load(model.path, engine=runtime) as made:
            assert made.precision == "int8" and right(made, photos) >= 0.9


def test_a_broken_description_is_an_error(networks: dict[str, Path], tmp_path: Path) -> None:
    data = networks["map"].read_bytes()
    assert data.count(b'"counts":[10,') == 1
    path = tmp_path / "x.onnx"
    path.write_bytes(data.replace(b'"counts":[10,', b'"counts":[-1,'))
    with pytest.raises(InvalidModelError, match="taught"):
        photolabel.load(path)


class Fake:
    """An engine that says what it is told to."""

    precision, runtime, device = "fp32", "openvino", "CPU"
    shape = (None, 32, 32, 3)

    def __init__(self, familiarity: tuple[int | None, ...]) -> None:
        self.shapes = {"probabilities": (None, 10), "familiarity": familiarity}


@pytest.mark.parametrize("shape", [(), (None, 1), (None, 10)])
def test_a_familiarity_of_another_shape_is_none(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(InvalidModelError, match="one familiarity a photo"):
        Member(oracle.tiny_model(), Fake(shape), oracle.TINY_RECIPE)  # type: ignore[arg-type]
