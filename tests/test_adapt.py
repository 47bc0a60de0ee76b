"""Strangers' networks in photolabel's form: the same answers as they give by themselves, whatever their form was."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import photolabel
from photolabel import adapt, conventions, engine, graph, models
from photolabel.conventions import CONVENTIONS
from photolabel.errors import InvalidModelError
from photolabel.layers import read as read_layers

import strangers
from adapted import LABELS, SAID, TORCH, adapted, by_hand, made, photos, run
from strangers import BYTE, CLASSES, DOUBLE, FLOAT, HALF, network

FORMS: dict[str, dict[str, Any]] = {
    "logits": {},
    "softmax": {"end": "l Softmax"},
    "log-softmax": {"end": "l LogSoftmax"},
    "softmax written out": {"end": "l Written"},
    "softmax written out long ago": {"end": "l Written", "opset": 11},
    "old opset": {"opset": 7},
    "softmax, then plumbing": {"end": "l Softmax Identity Reshape", "output": ("N", CLASSES, 1, 1)},
    "a map of one place": {"end": "l Reshape", "output": ("N", CLASSES, 1, 1)},
    "channels last": {"shape": ("N", 16, 16, 3), "last": True},
    "half": {"kind": HALF},
    "double": {"kind": DOUBLE, "end": "l Softmax"},
    "any size": {"shape": ("N", 3, "H", "W")},
    "no shape of the output": {"output": None},
    "batch without a name": {"shape": (None, 3, 16, 16)},
    "batch of one": {"shape": (1, 3, 16, 16), "output": (1, CLASSES)},
    "batch of one, reshaped": {"shape": (1, 3, 16, 16), "output": (1, CLASSES), "flatten": "Reshape 1"},
    "batch of one, reshaped by the rest": {"shape": (1, 3, 16, 16), "output": (1, CLASSES), "flatten": "Reshape -1"},
    "batch of four": {"shape": (4, 3, 16, 16), "output": (4, CLASSES), "flatten": "Reshape 4"},
    "names as ours": {
        "input_name": "probabilities",
        "names": {
            "conv": "pixels", "relu": "normalised", "pool": "logits", "flat": "mean", "scores": "scaled",
            "kernel": "channel_order", "dense": "deviation", "bias": "pixels_1",
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("convention", SAID)
def test_it_answers_as_the_network_by_itself(tmp_path: Path, form: str, convention: str) -> None:
    """Beside NumPy, and beside ONNX Runtime on the unadapted network and pixels normalised by hand."""
    asked = FORMS[form]
    model, wanted = network(**asked), dataclasses.replace(SAID[convention], size=16)
    x = photos(4)
    x = x / 64 if convention == "raw" else x  # or the softmax is of one class only
    mine = by_hand(x, wanted)
    kind = {HALF: np.float16, DOUBLE: np.float64}.get(asked.get("kind", FLOAT), np.float32)
    tolerance = 2e-2 if asked.get("kind") == HALF else 2e-4
    found = run(made(tmp_path, model, wanted), x)
    assert found.shape == (4, CLASSES) and found.dtype == np.float32, "each may be given many photos"
    np.testing.assert_allclose(found, strangers.softmax(strangers.logits(mine)), atol=tolerance)
    if kind == np.float64:
        return  # ONNX Runtime has no such convolution
    theirs = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    entering = mine.astype(kind).transpose(0, 2, 3, 1) if asked.get("last") else mine.astype(kind)
    entering = entering[:1] if asked.get("shape", ("N",))[0] == 1 else entering
    reference = theirs.run(None, {theirs.get_inputs()[0].name: entering})[0].astype(np.float64)
    end = asked.get("end", "l")
    reference = reference.reshape(-1, CLASSES)
    reference = reference if "Softmax" in end.split()[1:] or "Written" in end else strangers.softmax(reference)
    np.testing.assert_allclose(found[: len(reference)], reference, atol=tolerance)


def test_bytes_take_pixels_as_they_are(tmp_path: Path) -> None:
    path = made(tmp_path, network(kind=BYTE), CONVENTIONS["raw"])
    x = np.full((1, 16, 16, 3), 255, np.float32)
    x[0, :, :, 1] = 3
    np.testing.assert_allclose(run(path, x), strangers.softmax(strangers.logits(x.transpose(0, 3, 1, 2))), atol=1e-4)
    with pytest.raises(InvalidModelError, match="recipe raw"):
        made(tmp_path, network(kind=BYTE))


@pytest.mark.parametrize("form", FORMS)
def test_its_file_is_like_our_own(tmp_path: Path, form: str) -> None:
    path = made(tmp_path, network(**FORMS[form]), dataclasses.replace(TORCH, size=16))
    model = models.read(path)
    assert (model.name, model.source, model.labels) == ("mine", "a test", LABELS)
    assert model.recipe().size == 16 and model.recipe().side == 18 and model.recipe().name == "torchvision"
    parsed = onnx.load(path)
    assert [x.name for x in parsed.graph.input] == ["pixels"]
    assert [x.name for x in parsed.graph.output] == ["probabilities"]
    tensors = {name for node in parsed.graph.node for name in node.output}
    assert "normalised" in tensors or "last" in FORMS[form]
    running = engine.open_engine(path, cut=engine.Cut(layers=("logits",)))
    assert running.shape == (None, 16, 16, 3)
    found = running.run(photos(2))
    running.close()
    if "Written" not in FORMS[form].get("end", ""):
        np.testing.assert_allclose(strangers.softmax(found["logits"]), found["probabilities"], atol=1e-2)
    assert read_layers(path)[-1].kind in ("Dense", "Flatten", "ReduceSum", "Div")


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    path = strangers.write(tmp_path / "x.onnx", network(**FORMS["names as ours"]))
    assert adapted(path) == adapted(path)


def test_what_it_says_of_itself_is_replaced(tmp_path: Path) -> None:
    model = network()
    for key in ("author", "author", "photolabel.precision"):
        model.metadata_props.add(key=key, value="int8")
    assert {x.key for x in onnx.load(made(tmp_path, model)).metadata_props} == set(models.Model.describe(
        models.read(tmp_path / "made.onnx")))  # fmt: skip


def test_stored_tensors_that_are_inputs_too(tmp_path: Path) -> None:
    """As files before 2019 have them."""
    model = network(opset=8)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    x = photos(2)
    expected = strangers.softmax(strangers.logits(by_hand(x, TORCH)))
    np.testing.assert_allclose(run(made(tmp_path, model), x), expected, atol=2e-4)


def test_sub_graphs_are_kept_and_their_names_go_along(tmp_path: Path) -> None:
    """A branch that reads a tensor from around it, which has the name of one of ours."""
    model = network(names={"scores": "logits"})
    always = numpy_helper.from_array(np.array(True), "always")
    inner = helper.make_node("Identity", ["logits"], ["mean"])
    branches = [
        helper.make_graph([node], name, [], [helper.make_tensor_value_info(output, FLOAT, ("N", CLASSES))])
        for name, node, output in [
            ("then", inner, "mean"),
            ("else", helper.make_node("Neg", ["logits"], ["pixels"]), "pixels"),
        ]
    ]
    model.graph.initializer.append(always)
    model.graph.node.append(
        helper.make_node("If", ["always"], ["probabilities"], then_branch=branches[0], else_branch=branches[1])
    )
    model.graph.output[0].name = "probabilities"
    x = photos(2)
    expected = strangers.softmax(strangers.logits(by_hand(x, TORCH)))
    np.testing.assert_allclose(run(made(tmp_path, model), x), expected, atol=2e-4)


# -- what is refused


def two_outputs(*shapes: tuple[Any, ...], **more: Any) -> onnx.ModelProto:
    names = ["pool", "flat", "conv"][: len(shapes)]
    values = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in zip(names, shapes, strict=True)]
    return network(outputs=values, **more)


def test_of_several_outputs_the_one_of_the_classes(tmp_path: Path) -> None:
    x = photos(2)
    expected = strangers.softmax(strangers.logits(by_hand(x, TORCH)))
    np.testing.assert_allclose(run(made(tmp_path, two_outputs(("N", 8, 1, 1), ("N", 8))), x), expected, atol=2e-4)
    both = network(end="l Softmax", outputs=[helper.make_tensor_value_info("scores", FLOAT, ("N", CLASSES))])
    with pytest.raises(InvalidModelError, match=r"'softmax_5' \(\?, 5\), 'scores' \(\?, 5\).*\"output\": \"NAME\""):
        made(tmp_path, both)
    for name in ("scores", "softmax_5"):
        path = made(tmp_path, both, dataclasses.replace(TORCH, output=name))
        np.testing.assert_allclose(run(path, x), expected, atol=2e-4)
    with pytest.raises(InvalidModelError, match="no output 'x'. It has 'softmax_5'"):
        made(tmp_path, both, dataclasses.replace(TORCH, output="x"))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_where_the_shape_leaves_it_open_the_recipe_says_where_the_colours_are(tmp_path: Path, layout: Any) -> None:
    last = layout == "NHWC"
    x = photos(2)
    expected = strangers.softmax(strangers.logits(by_hand(x, TORCH)))
    for shape in (("N", None, None, None), None):
        with pytest.raises(InvalidModelError, match='"layout": "NCHW" or "layout": "NHWC"'):
            made(tmp_path, network(shape=shape, last=last))
        path = made(tmp_path, network(shape=shape, last=last), dataclasses.replace(TORCH, layout=layout, size=16))
        np.testing.assert_allclose(run(path, x), expected, atol=2e-4)
    with pytest.raises(InvalidModelError, match="by the layout"):
        shape = ("N", 3, 16, 16) if last else ("N", 16, 16, 3)
        made(tmp_path, network(shape=shape), dataclasses.replace(TORCH, layout=layout))


def function(domain: str) -> onnx.ModelProto:
    model = network()
    node = helper.make_node("Neg", ["x"], ["y"])
    ids = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function(domain, "Softmax", ["x"], ["y"], [node], ids))
    return model


def no_input() -> onnx.ModelProto:
    model = network()
    del model.graph.input[:]
    return model


def circle() -> onnx.ModelProto:
    model = network()
    del model.graph.node[:]
    for names in ("scores", "a"), ("a", "scores"):
        model.graph.node.append(helper.make_node("Identity", [names[0]], [names[1]]))
    return model


def passing() -> onnx.ModelProto:
    model = network()
    model.graph.output[0].name = "input"
    return model


def second_input() -> onnx.ModelProto:
    model = network()
    model.graph.input.append(helper.make_tensor_value_info("\x1b[2J", FLOAT, (1,)))
    return model


REFUSED: dict[str, tuple[Any, str]] = {
    "labels of another number": (lambda: network(output=("N", 7)), "are 5 labels, but its output .* has 7 classes"),
    "a map": (lambda: network(output=("N", CLASSES, 2, 2)), "has 20 classes"),
    "one colour": (lambda: network(shape=("N", 1, 16, 16)), "cannot be told which axis"),
    "not square": (lambda: network(shape=("N", 3, 16, 18)), "as wide as high"),
    "no picture": (lambda: network(shape=("N", 768)), r"shape \(\?, 768\): expected photos"),
    "too large": (lambda: network(shape=("N", 3, 5000, 5000)), "recipe torchvision does not fit it"),
    "words": (lambda: network(kind=TensorProto.STRING), "holds string: expected float"),
    "four photos that meet": (lambda: network(shape=(4, 3, 16, 16), flatten="Reshape 0", output=(4, CLASSES),
                                              end="l Trilu"), "takes 4 photos at a time"),
    "two inputs": (second_input, r"one input, photos; this one has 'input' \(\?, 3, 16, 16\), '\\x1b"),
    "no input": (no_input, "has none"),
    "a sigmoid": (lambda: network(end="l Sigmoid"), "ends in a sigmoid"),
    "an old opset": (lambda: network(opset=6), "opset is 6: expected 7 or later"),
    "an operator redefined": (lambda: function(""), "another meaning"),
    "the input given out": (passing, "not computed"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_such_classifier_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    make, says = REFUSED[case]
    path = strangers.write(tmp_path / "x.onnx", make())
    with pytest.raises(InvalidModelError, match=says) as caught:
        adapted(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_outputs_of_whole_numbers_are_refused(tmp_path: Path) -> None:
    model = network(end="l ArgMax")
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(InvalidModelError, match="holds int64: expected float"):
        adapted(strangers.write(tmp_path / "x.onnx", model))


def test_nothing_but_a_softmax_is_refused(tmp_path: Path) -> None:
    model = network(shape=("N", 3, 1, 1), output=None)
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("Softmax", ["input"], ["scores"], axis=1))
    with pytest.raises(InvalidModelError, match="nothing comes before its softmax"):
        adapted(strangers.write(tmp_path / "x.onnx", model), labels=LABELS[:3])


def test_a_circle_comes_to_an_end(tmp_path: Path) -> None:
    path = strangers.write(tmp_path / "x.onnx", circle())
    with pytest.raises(InvalidModelError):
        photolabel.load(path, labels=strangers.labels(tmp_path), recipe="torchvision")


def test_a_file_beyond_all_bounds_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    with path.open("wb") as file:
        file.truncate(adapt.MAX_BYTES + 1)
    with pytest.raises(InvalidModelError, match="at most 2,000,000,000"):
        adapted(path)
    with pytest.raises(InvalidModelError, match="cannot be read"):
        adapted(tmp_path / "missing.onnx")


def test_guards_of_the_graph_hold_here_too(tmp_path: Path) -> None:
    from test_graph import hostile

    for change in ("external", "external in a branch", "nan", "bomb", "no network"):
        path = tmp_path / "hostile.onnx"
        path.write_bytes(hostile(change))
        with pytest.raises(InvalidModelError, match="hostile.onnx"):
            adapted(path)


def test_training_is_left_behind(tmp_path: Path) -> None:
    """It may hold networks of its own, into which nobody looks."""
    model = network()
    model.training_info.add().algorithm.name = "x"
    assert not onnx.load(made(tmp_path, model)).training_info


def test_alterations_give_a_typed_error_or_a_network(tmp_path: Path) -> None:
    whole = network(**FORMS["names as ours"]).SerializeToString()
    rng = np.random.default_rng(0)
    path = tmp_path / "x.onnx"
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(data)
        try:
            adapted(path)
        except InvalidModelError:
            continue


def test_the_names_in_use_are_ours(tmp_path: Path) -> None:
    """Every tensor that adapting adds is one that theirs make room for."""
    plain = {x for node in network(kind=HALF, end="l Reshape").graph.node for x in node.output}
    path = made(tmp_path, network(kind=HALF, end="l Reshape", output=("N", CLASSES, 1, 1)), CONVENTIONS["caffe"])
    graphed = onnx.load(path).graph
    added = {x for node in graphed.node for x in node.output} | {x.name for x in graphed.initializer} | {"pixels"}
    assert added - plain - {x.name for x in network(end="l Reshape").graph.initializer} <= adapt._OURS
    assert {graph.INPUT, graph.NORMALISED, graph.LOGITS, graph.PROBABILITIES} <= adapt._OURS
    assert conventions.CONVENTIONS["caffe"].normalisation == models.CAFFE
