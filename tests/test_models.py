"""The table of known models, and files that describe themselves: rightly, or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

import photolabel
from photolabel import models
from photolabel.errors import InvalidModelError, InvalidWeightsError, UnknownModelError, UsageError
from photolabel.images import Recipe
from photolabel.labels import Label
from photolabel.models import Accuracy, Model

import oracle
from oracle import TINY, TINY_RECIPE, TINY_SQUASH, tiny_model

Description = dict[str, str]
PHOTO = np.zeros((40, 40, 3), np.uint8)


# -- the table


@pytest.mark.parametrize(
    ("name", "md5", "size"),
    [
        ("vgg16", "64373286793e3c8b2b4e3219cbf3544b", 553_467_096),
        ("vgg19", "cbe5617147190e668d6c5d5026f83318", 574_710_816),
    ],
)
def test_oxfords_models(name: str, md5: str, size: int) -> None:
    """Hashes from keras/applications/vgg16.py and vgg19.py; sizes are those of the files."""
    model = models.known()[name]
    weights, spec = model.weights, model.spec
    assert weights and spec and model.path is None
    assert weights.digest == f"md5:{md5}"
    assert weights.size == size > spec.parameters * 4
    assert weights.name == f"{name}_weights_tf_dim_ordering_tf_kernels.h5"
    keras, github = weights.urls
    assert keras == f"https://storage.googleapis.com/tensorflow/keras-applications/{name}/{weights.name}"
    assert github == f"https://github.com/fchollet/deep-learning-models/releases/download/v0.1/{weights.name}"
    assert len(model.labels) == spec.classes == 1000
    assert [recipe.name for recipe in model.recipes] == ["crop", "keras"]
    assert all((recipe.size, recipe.size, 3) == spec.shape for recipe in model.recipes)
    assert model.normalisation and model.normalisation.order == "BGR"
    assert md5 in model.source and "CC BY 4.0" in model.licence
    assert model.accuracy and model.accuracy.top1 == 71.3


@pytest.mark.parametrize(
    ("name", "sha256", "size", "top1"),
    [
        ("vgg16", "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0", 553_433_881, 71.592),
        ("vgg19", "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44", 574_673_361, 72.376),
    ],
)
def test_torchvisions_models(name: str, sha256: str, size: int, top1: float) -> None:
    """The networks of Oxford's shape that torchvision trained, with its own way to make the input."""
    model = models.known()[f"{name}-torchvision"]
    assert model.weights and model.spec is models.known()[name].spec and model.normalisation and model.accuracy
    assert (model.weights.digest, model.weights.size) == (f"sha256:{sha256}", size)
    assert model.weights.urls == (f"https://download.pytorch.org/models/{name}-{sha256[:8]}.pth",)
    assert model.accuracy.top1 == top1 and "BSD-3-Clause" in model.licence
    (recipe,) = model.recipes
    assert (recipe.name, recipe.size, recipe.side, recipe.filter) == ("crop", 224, 256, "bilinear")
    pixel = np.array([10.0, 100.0, 200.0])
    ours = (pixel[::-1] - model.normalisation.mean) / model.normalisation.deviation
    theirs = (pixel / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    assert model.normalisation.order == "BGR"
    np.testing.assert_allclose(ours[::-1], theirs, rtol=1e-12)


def test_the_table_and_no_theano() -> None:
    assert list(models.known()) == [
        "vgg16",
        "vgg19",
        "vgg16-torchvision",
        "vgg19-torchvision",
        "efficientnet-lite2",
    ]
    assert all("th_" not in url for m in models.known().values() if m.weights for url in m.weights.urls)
    assert models.BUNDLED in models.known()
    bundled = models.known()[models.BUNDLED]
    assert bundled.path and bundled.path.is_file() and bundled.weights is None


# -- by name or path


def test_a_known_name_wins_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vgg16").write_bytes(oracle.tiny_onnx())
    monkeypatch.chdir(tmp_path)
    assert models.resolve("vgg16") is models.known()["vgg16"]
    assert models.resolve("./vgg16").name == "tiny"
    assert models.resolve(Path("vgg16")).name == "tiny", "a Path is a path"


def test_a_path_is_read(tiny: Path) -> None:
    for form in (tiny, str(tiny)):
        found = models.resolve(form)
        assert found == replace(tiny_model(), path=tiny)


@pytest.mark.parametrize("name", ["vg16", "VGG16", "vgg", "efficientnet_lite2"])
def test_a_misspelt_name_gets_a_suggestion(name: str) -> None:
    with pytest.raises(UnknownModelError, match="expected one of vgg16, vgg19, vgg16-torchvision.*Did you mean"):
        models.resolve(name)


@pytest.mark.parametrize(
    "name", ["", ".", "zzzzzz", "missing/model.onnx", "x" * 5000, "a\0b", "\udcff", Path("nowhere")]
)
def test_what_is_neither_name_nor_file_is_unknown(name: str | Path) -> None:
    with pytest.raises(UnknownModelError, match="or the path of an ONNX file") as caught:
        models.resolve(name)
    assert "Did you mean" not in str(caught.value)


def test_a_folder_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError):
        models.resolve(tmp_path)
    with pytest.raises(InvalidModelError, match="cannot be read"):
        models.read(tmp_path)


def test_recipes_by_name() -> None:
    model = tiny_model()
    assert model.recipe() is model.recipe("tiny") is TINY_RECIPE
    assert model.recipe("keras") is TINY_SQUASH
    with pytest.raises(UsageError, match="tiny has no recipe 'nope'. It has: tiny, keras"):
        model.recipe("nope")


# -- descriptions


def file_of(path: Path, description: Description) -> Path:
    """The tiny network under a description of its own."""
    model = onnx.load_from_string(oracle.tiny_onnx())
    del model.metadata_props[:]
    helper.set_model_props(model, description)
    path.write_bytes(model.SerializeToString())
    return path


def round_trip(folder: Path, model: Model) -> Model:
    path = folder / "x.onnx"
    head = helper.make_model(helper.make_graph([], "g", [], []))
    helper.set_model_props(head, model.describe())
    path.write_bytes(head.SerializeToString())
    return replace(models.read(path), path=None)


names = st.text(st.characters(codec="utf-8"), max_size=20)


@given(
    labels=st.lists(st.tuples(st.none() | names, names), min_size=2, max_size=9),
    source=names,
    accuracy=st.none() | st.builds(Accuracy, top1=st.floats(0, 100), top5=st.none() | st.floats(0, 100), source=names),
    size=st.integers(1, 4096),
)
def test_a_description_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    labels: list[tuple[str | None, str]],
    source: str,
    accuracy: Accuracy | None,
    size: int,
) -> None:
    model = Model(
        name="mine",
        recipes=(Recipe(name="é", size=size), Recipe(name="b", size=size, fit="resize-crop", side=4096)),
        labels=tuple(Label(i, *pair) for i, pair in enumerate(labels)),
        source=source,
        licence="",
        accuracy=accuracy,
    )
    assert round_trip(tmp_path_factory.mktemp("trip"), model) == model


@pytest.mark.parametrize("name", ["vgg16", "vgg19", "vgg16-torchvision", "efficientnet-lite2"])
def test_what_is_known_of_a_model_travels_in_its_file(tmp_path: Path, name: str) -> None:
    model = models.known()[name]
    bare = replace(model, weights=None, path=None)
    assert round_trip(tmp_path, model) == bare


def without(key: str) -> Callable[[Description], None]:
    def change(description: Description) -> None:
        del description[f"photolabel.{key}"]

    return change


def put(key: str, value: Any) -> Callable[[Description], None]:
    """`value` as it is if it is text, else as JSON."""

    def change(description: Description) -> None:
        description[f"photolabel.{key}"] = value if isinstance(value, str) else json.dumps(value)

    return change


def recipe(**changes: Any) -> Callable[[Description], None]:
    return put("recipes", [{**TINY_RECIPE.to_dict(), **changes}])


def accuracy(**changes: Any) -> Callable[[Description], None]:
    return put("accuracy", {"top1": 50, "top5": None, "source": "", **changes})


def spec(**changes: Any) -> Callable[[Description], None]:
    return put("spec", {**TINY.to_dict(), **changes})


def normalisation(**changes: Any) -> Callable[[Description], None]:
    return put("normalisation", {"order": "BGR", "mean": [1, 2, 3], "deviation": [1, 1, 1], **changes})


DEEP = "[" * 200_000
BROKEN = {
    **{f"no {key}": without(key) for key in ("format", "name", "recipes", "labels", "source", "licence")},
    "format 2": put("format", "2"),
    "format empty": put("format", ""),
    "format hostile": put("format", "\x1b" * 10_000),
    **{
        f"{key} {what}": put(key, value)
        for key in ("recipes", "labels", "accuracy", "spec", "normalisation")
        for what, value in {
            "empty": "",
            "no JSON": "{",
            "deep": DEEP,
            "a number": 5,
            "a large number": "9" * 5000,
            "null": "null",
            "a string": '"tiny"',
            "a list of a list": [[]],
            "an object": {"a": 1, "b": 2},
            "an empty list": [],
            "an empty object": {},
            "NaN": "NaN",
        }.items()
    },
    "one label": put("labels", [["n0", "only"]]),
    "a label a string": put("labels", ["a", "b"]),
    "a label without a name": put("labels", [["n0", "a"], ["n1"]]),
    "a label too long": put("labels", [["n0", "a"], ["n1", "b", "c"]]),
    "a label's name a number": put("labels", [["n0", "a"], ["n1", 5]]),
    "a label's name null": put("labels", [["n0", "a"], ["n1", None]]),
    "a label's id a number": put("labels", [["n0", "a"], [5, "b"]]),
    "a recipe of a string": put("recipes", ["tiny"]),
    "a recipe with more": recipe(more=1),
    "a recipe of size 0": recipe(size=0),
    "a recipe of size -1": recipe(size=-1),
    "a recipe of a huge size": recipe(size=10**9, side=10**9),
    "a recipe of a huge side": recipe(side=10**9),
    "a recipe of half a pixel": recipe(size=0.5),
    "a recipe of size true": recipe(size=True),
    "a recipe of size NaN": recipe(size=float("nan")),
    "a recipe of no fit": recipe(fit="stretch"),
    "a recipe of a list as fit": recipe(fit=[]),
    "a recipe of no filter": recipe(filter="sharp"),
    "a recipe of a list as filter": recipe(filter=[]),
    "a recipe with codes in its name": recipe(name="\x1b[31m"),
    "an accuracy of NaN": accuracy(top1=float("nan")),
    "an accuracy of infinity": accuracy(top5=float("inf")),
    "an accuracy below 0": accuracy(top1=-1),
    "an accuracy above 100": accuracy(top5=100.1),
    "an accuracy of text": accuracy(top1="71.3"),
    "an accuracy of true": accuracy(top1=True),
    "an accuracy without a source": accuracy(source=None),
    "a spec without its normalisation": without("normalisation"),
    "a spec with more": spec(more=1),
    "a spec without a block": spec(blocks=[]),
    "a spec of a million blocks": spec(blocks=[[[3, 8]]] * 10**6),
    "a spec of an empty block": spec(blocks=[[]]),
    "a spec of an even kernel": spec(blocks=[[[2, 8]]]),
    "a spec of a kernel with three numbers": spec(blocks=[[[3, 8, 1]]]),
    "a spec of no filters": spec(blocks=[[[3, 0]]]),
    "a spec of true filters": spec(blocks=[[[3, True]]]),
    "a spec of huge layers": spec(hidden=[10**9]),
    "a spec of no classes": spec(classes=0),
    "a spec of NaN classes": spec(classes=float("nan")),
    "a spec of a flat shape": spec(shape=[32, 32]),
    "a spec of a small shape": spec(shape=[31, 32, 3]),
    "a spec of any shape with a top": spec(shape=[None, None, 3]),
    "a spec of a maybe top": spec(top="yes"),
    "a spec of no pooling": spec(pooling="sum"),
    "a spec of no activation": spec(activation="relu"),
    "a spec with codes in its name": spec(name="\x1b[31m"),
    "a normalisation with more": normalisation(more=1),
    "a normalisation of no order": normalisation(order="GBR"),
    "a normalisation of two means": normalisation(mean=[1, 2]),
    "a normalisation of NaN": normalisation(mean=[1, 2, float("nan")]),
    "a normalisation of infinity": normalisation(mean=[1, 2, float("inf")]),
    "a normalisation by zero": normalisation(deviation=[1, 0, 1]),
    "a normalisation of true": normalisation(deviation=[1, True, 1]),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_description_is_an_invalid_model(tmp_path: Path, change: Callable[[Description], None]) -> None:
    description = tiny_model().describe()
    change(description)
    path = file_of(tmp_path / "x.onnx", description)
    with pytest.raises(InvalidModelError) as caught:
        models.read(path)
    assert len(str(caught.value)) < 400
    with pytest.raises(InvalidModelError):
        photolabel.load(path)


def test_an_onnx_file_of_another_kind_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match="format 1; this one says nothing of itself"):
        models.read(file_of(tmp_path / "x.onnx", {"author": "me"}))
    with pytest.raises(InvalidModelError, match="this one is of format '2'"):
        models.read(file_of(tmp_path / "x.onnx", {**tiny_model().describe(), "photolabel.format": "2"}))


def test_other_metadata_do_no_harm(tmp_path: Path) -> None:
    path = file_of(tmp_path / "x.onnx", {**tiny_model().describe(), "author": "me", "photolabel.future": "{"})
    assert models.read(path).name == "tiny"


# -- the description against the network


@pytest.mark.parametrize("count", [9, 11, 1000])
def test_as_many_labels_as_classes(tmp_path: Path, count: int) -> None:
    """Otherwise a photo gets a wrong name."""
    labels = tuple(Label(i, None, f"class {i}") for i in range(count))
    path = file_of(tmp_path / "x.onnx", replace(tiny_model(), labels=labels).describe())
    with pytest.raises(InvalidModelError, match=f"names {count} classes but its network has 10"):
        photolabel.load(path)


def test_the_recipe_makes_what_the_network_takes(tmp_path: Path) -> None:
    other = Recipe(name="other", size=48)
    path = file_of(tmp_path / "x.onnx", replace(tiny_model(), recipes=(TINY_RECIPE, other)).describe())
    with photolabel.load(path) as classifier:
        assert len(classifier.classify(PHOTO).labels) == 5
    with pytest.raises(InvalidModelError, match="takes 32 x 32 pixels, but the recipe other makes 48 x 48"):
        photolabel.load(path, recipe="other")


def network(path: Path, taken: Any, given: Any, *nodes: Any, kind: int = TensorProto.FLOAT, more: Any = ()) -> Path:
    inputs = [helper.make_tensor_value_info("x", kind, taken), *more]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, given)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    labels = tuple(Label(i, None, f"class {i}") for i in range(3))
    helper.set_model_props(model, replace(tiny_model(), labels=labels).describe())
    path.write_bytes(model.SerializeToString())
    return path


def mean(*axes: int, keep: bool = False) -> Any:
    return helper.make_node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=int(keep))


def test_any_network_from_pixels_to_classes_will_do(tmp_path: Path) -> None:
    for taken in (["N", 32, 32, 3], ["N", "H", "W", 3], [1, 32, 32, 3]):
        average = helper.make_node("ReduceMean", ["x"], ["m"], axes=(1, 2), keepdims=0)
        softmax = helper.make_node("Softmax", ["m"], ["y"], axis=1)
        with photolabel.load(network(tmp_path / "x.onnx", taken, ["N", 3], average, softmax)) as classifier:
            assert len(classifier.classify(PHOTO).labels) == 3


@pytest.mark.parametrize(
    ("taken", "given", "node"),
    [
        (["N", 3, 32, 32], ["N", 3], mean(2, 3)),
        (["N", 32, 32, 10], ["N", 10], mean(1, 2)),
        (["N", 32], ["N", 32], helper.make_node("Relu", ["x"], ["y"])),
        ([4, 32, 32, 3], [4, 3], mean(1, 2)),
        (["N", 32, 32, 3], ["N"], mean(1, 2, 3)),
        (["N", 32, 32, 3], ["N", 32, 3], mean(1)),
        (["N", "H", "W", 3], ["N", "W"], mean(1, 3)),
        (None, None, helper.make_node("Relu", ["x"], ["y"])),
        (None, ["N", 3], mean(1, 2)),
    ],
    ids=["NCHW", "ten channels", "no picture", "four at once", "one number", "a map", "unknown", "nothing", "any"],
)
def test_a_network_of_other_shapes_is_invalid(tmp_path: Path, taken: Any, given: Any, node: Any) -> None:
    with pytest.raises(InvalidModelError, match="expected a network from pixels|cannot be compiled"):
        photolabel.load(network(tmp_path / "x.onnx", taken, given, node))


def test_a_network_that_needs_more_than_pixels_is_invalid(tmp_path: Path) -> None:
    more = [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 3])]
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2], keepdims=0)]
    nodes.append(helper.make_node("Add", ["m", "z"], ["y"]))
    with pytest.raises(InvalidModelError, match="expected a network from pixels"):
        photolabel.load(network(tmp_path / "x.onnx", ["N", 32, 32, 3], ["N", 3], *nodes, more=more))


def test_a_network_that_compiles_but_cannot_be_run_is_invalid(tmp_path: Path) -> None:
    """Its shape says that any size will do, but a constant inside says 48."""
    constant = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", 1, [1, 48, 1, 3], [0.0] * 144))
    nodes = [constant, helper.make_node("Add", ["x", "c"], ["s"]), mean(1, 2)]
    nodes[2].input[0] = "s"
    path = network(tmp_path / "x.onnx", ["N", "H", 32, 3], ["N", 3], *nodes)
    with photolabel.load(path) as classifier, pytest.raises(InvalidModelError, match="cannot be run on pixels"):
        classifier.classify(PHOTO)


def test_a_users_own_weights_have_no_published_accuracy() -> None:
    model = models.with_weights(models.known()["vgg16"], "sha256:abc")
    assert model.accuracy is None and model.weights is None and model.spec is not None
    assert "sha256:abc" in model.source and "CC BY" not in model.licence


@pytest.mark.parametrize(("size", "name"), [(553_467_096, "vgg16"), (574_710_816, "vgg19")])
def test_a_keras_file_of_a_vggs_size_is_told_without_opening_it(tmp_path: Path, size: int, name: str) -> None:
    path = tmp_path / "weights.h5"
    with path.open("wb") as file:
        file.write(b"\x89HDF\r\n\x1a\n")
        file.truncate(size)
    assert models.fitting(path).name == name
    with path.open("r+b") as file:  # of the same size, but no HDF5: looked into, and refused
        file.write(b"nonsense")
    with pytest.raises(InvalidWeightsError, match="known format"):
        models.fitting(path)
