"""Files for other programs: each is run in its own runtime, read back by our readers, and refused where it must be."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import safetensors.numpy
from numpy.typing import NDArray

import photolabel
from photolabel import artefacts, engine, exporting, graph, keeping, metadata, models, spec, weights
from photolabel.errors import (
    InvalidModelError,
    InvalidWeightsError,
    MissingWeightsError,
    OutputError,
    UsageError,
    WeightsMismatchError,
)
from photolabel.exporting import FORMS, export
from photolabel.models import CAFFE, TORCHVISION, Model, Normalisation
from photolabel.spec import Spec
from photolabel.weights import layouts

import oracle
import servers
from costs import cheap
from oracle import TINY, he_normal, tiny_model, tiny_onnx

ROOT = Path(__file__).parent.parent
PIXELS = np.random.default_rng(3).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
PHOTO = np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)
EXPECTED = oracle.forward(TINY, he_normal(TINY), PIXELS)["predictions"]
THEIRS = tuple(ending for ending in FORMS if ending != ".onnx")  # those of weights
RGB = Normalisation(order="RGB", mean=(120.0, 110.0, 100.0), deviation=(60.0, 50.0, 40.0))


def small(name: str, **changes: Any) -> Spec:
    """One of the paper's configurations with few filters, not square: a transpose of height and width would show."""
    full: Spec = getattr(spec, name)
    blocks = tuple(tuple((side, filters // 64 + 2) for side, filters in block) for block in full.blocks)
    return replace(full, **{"blocks": blocks, "hidden": (6, 5), "classes": 4, "shape": (64, 96, 3)} | changes)


SPECS = {
    "tiny": TINY,
    **{name: small(name) for name in ("VGG11", "VGG13", "VGG16C", "VGG16", "VGG19")},
    "no top": small("VGG16", top=False, shape=(None, None, 3)),
    "average": small("VGG16", top=False, pooling="avg"),
    "maximum": small("VGG16", top=False, pooling="max"),
    "no hidden layer": small("VGG11", hidden=()),
    "logits": small("VGG11", activation="linear"),
    "a slash in its name": replace(small("VGG11"), name="mine/Größe é"),
    "wide": small("VGG11", hidden=(300, 2)),
}


def tiny_file(folder: Path, *, model: Model | None = None) -> Path:
    path = folder / "source.onnx"
    model = model or tiny_model()
    assert model.spec
    chunks = graph.build(model.spec, he_normal(model.spec), model.normalisation, describe=model.describe())
    path.write_bytes(b"".join(chunks))
    return path


def here(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def same(found: weights.Arrays, expected: weights.Arrays) -> None:
    assert list(found) == list(expected)
    for name, pair in expected.items():
        for got, want in zip(found[name], pair, strict=True):
            assert got.dtype == np.float32
            np.testing.assert_array_equal(got, want)


# -- our own readers


@pytest.mark.parametrize("ending", THEIRS)
@pytest.mark.parametrize("of", SPECS.values(), ids=SPECS)
def test_what_is_written_is_read_bit_for_bit(tmp_path: Path, ending: str, of: Spec) -> None:
    arrays = he_normal(of)
    exporting.write(of, arrays, tmp_path / f"x{ending}", normalisation=CAFFE)
    same(weights.read(tmp_path / f"x{ending}", of), arrays)
    assert here(tmp_path) == [f"x{ending}"]
    again = tmp_path / f"again{ending.upper()}"
    exporting.write(of, dict(reversed(arrays.items())), again, normalisation=CAFFE)
    assert again.read_bytes() == (tmp_path / f"x{ending}").read_bytes(), "the same bytes, whatever the order"


@pytest.mark.parametrize("of", SPECS.values(), ids=SPECS)
def test_onnx_is_read_bit_for_bit(tmp_path: Path, of: Spec) -> None:
    exporting.write(of, he_normal(of), tmp_path / "x.onnx", normalisation=CAFFE)
    same(graph.arrays(tmp_path / "x.onnx", of), he_normal(of))


@pytest.mark.parametrize("layout", [layouts.TORCHVISION, layouts.TIMM, layouts.CAFFE, layouts.FROSSARD])
@pytest.mark.parametrize("of", SPECS.values(), ids=SPECS)
def test_turning_back_is_the_inverse_in_every_layout(layout: layouts.Layout, of: Spec) -> None:
    found = {}
    for each in layouts.stored(he_normal(of), of, layout):
        found[each.name] = np.concatenate([piece.ravel() for piece in each.pieces()]).reshape(each.shape)
    layouts.select({name: array.shape for name, array in found.items()}, of, layout)
    same(layouts.arrays(found, of, layout), he_normal(of))


def test_arrays_that_lie_anyhow(tmp_path: Path) -> None:
    """Transposed, reversed, big-endian or mapped: the file is the same."""
    plain = he_normal(TINY)
    odd = {name: (np.asfortranarray(kernel), bias[::-1].copy()[::-1]) for name, (kernel, bias) in plain.items()}
    odd["fc1"] = (plain["fc1"][0].astype(">f4"), plain["fc1"][1])
    for ending in THEIRS:
        exporting.write(TINY, plain, tmp_path / f"plain{ending}")
        exporting.write(TINY, odd, tmp_path / f"odd{ending}")
        assert (tmp_path / f"plain{ending}").read_bytes() == (tmp_path / f"odd{ending}").read_bytes()
    same(plain, he_normal(TINY))  # the caller's are left alone


def test_one_channel_is_not_turned(tmp_path: Path) -> None:
    grey = small("VGG11", shape=(32, 32, 1))
    for ending in THEIRS:
        exporting.write(grey, he_normal(grey), tmp_path / f"x{ending}")
        same(weights.read(tmp_path / f"x{ending}", grey), he_normal(grey))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    nan = he_normal(TINY)
    nan["fc2"][0][1, 1] = np.nan
    for ending in FORMS:
        with pytest.raises(WeightsMismatchError, match="TinyVGG"):
            exporting.write(TINY, he_normal(replace(TINY, classes=11)), tmp_path / f"x{ending}")
        with pytest.raises(InvalidWeightsError, match="NaN"):
            exporting.write(TINY, nan, tmp_path / f"x{ending}")
    assert not here(tmp_path)


# -- others' runtimes


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_onnx_in_onnx_runtime_and_openvino(tmp_path: Path, precision: str) -> None:
    source, out = tiny_file(tmp_path), tmp_path / "out.ONNX"
    assert export(source, out, precision=precision) == out
    session = onnxruntime.InferenceSession(out.read_bytes())
    (found,) = session.run(None, {graph.INPUT: PIXELS})
    run = engine.open_engine(out)
    if precision == "fp32":
        np.testing.assert_allclose(found, EXPECTED, atol=1e-5)
        np.testing.assert_allclose(run(PIXELS), EXPECTED, atol=1e-5)
        assert out.read_bytes() == source.read_bytes()
    else:
        np.testing.assert_allclose(found, EXPECTED, atol=0.15)  # seeded weights bear 8 bits less well than trained ones
        assert run.precision == "int8" and metadata.read(out)["photolabel.precision"] == "int8"
    run.close()
    told = models.read(out)
    assert (told.labels, told.recipes) == (tiny_model().labels, tiny_model().recipes)


def keras(*arguments: Any) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    program = [sys.executable, str(ROOT / "tests" / "keras_takes.py"), *map(str, arguments)]
    subprocess.run(program, check=True, env=environment, timeout=300)


def test_keras_loads_and_answers_the_same(tmp_path: Path) -> None:
    expected: dict[int | str, tuple[str, Any]] = {}
    some = ("VGG16C", "no top", "maximum", "a slash in its name")  # to compile costs seconds each
    for number, name in enumerate(some):
        of = SPECS[name]
        shape = [64 if axis is None else axis for axis in of.shape]
        pixels = np.random.default_rng(1).uniform(0, 255, (2, *shape)).astype(np.float32)
        np.save(tmp_path / f"{number}.npy", pixels[..., ::-1] - np.array(CAFFE.mean, np.float32))  # preprocess_input
        for ending in (".keras", ".weights.h5"):
            exporting.write(of, he_normal(of), tmp_path / f"{number}{ending}", normalisation=CAFFE)
        outputs = oracle.forward(of, he_normal(of), pixels)
        answer = outputs["logits" if of.activation == "linear" and of.top else of.layers[-1].name]
        expected[number] = name, answer
    export(tiny_file(tmp_path), tmp_path / "tiny.keras")
    export(tiny_file(tmp_path), tmp_path / "tiny.weights.h5")
    np.save(tmp_path / "tiny.npy", PIXELS[..., ::-1] - np.array(CAFFE.mean, np.float32))
    keras(tmp_path)
    for number, (name, answer) in {**expected, "tiny": ("exported", EXPECTED)}.items():
        tolerance = 1e-5 * max(1, float(np.abs(answer).max()))
        found = np.load(tmp_path / f"{number}.keras.npy")
        np.testing.assert_allclose(found, answer, atol=tolerance, err_msg=name)


def test_the_configuration_is_that_of_keras_applications() -> None:
    keras("configs")


def test_a_keras_archive_is_stored_and_says_where_it_comes_from(tmp_path: Path) -> None:
    export(tiny_file(tmp_path), tmp_path / "x.keras")
    with zipfile.ZipFile(tmp_path / "x.keras") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
        assert all(each.compress_type == zipfile.ZIP_STORED for each in archive.infolist())
        assert not any(each.flag_bits & 8 for each in archive.infolist()), "sizes stand before the members"
        told = json.loads(archive.read("metadata.json"))
        assert told["keras_version"].startswith("3.") and told["photolabel.licence"] == "CC0"
        assert archive.read("model.weights.h5")[:8] == b"\x89HDF\r\n\x1a\n"


def test_safetensors_by_its_own_package(tmp_path: Path) -> None:
    out = export(tiny_file(tmp_path), tmp_path / "x.safetensors")
    found = safetensors.numpy.load_file(out)
    assert found["features.0.weight"].shape == (8, 3, 3, 3) and found["classifier.0.weight"].shape == (16, 8)
    kernel = he_normal(TINY)["block1_conv1"][0]
    np.testing.assert_array_equal(found["features.0.weight"], kernel[:, :, ::-1].transpose(3, 2, 0, 1))
    with safetensors.safe_open(out, framework="np") as file:
        assert file.metadata() == {"format": "pt", **tiny_model().describe()}
    for count in range(8):
        exporting.write(TINY, he_normal(TINY), out, describe={"a": "x" * count})
        (length,) = struct.unpack("<Q", out.read_bytes()[:8])
        assert length % 8 == 0, "the numbers may be mapped"


def test_red_comes_first_in_safetensors_whatever_the_network_takes(tmp_path: Path) -> None:
    kernel = he_normal(TINY)["block1_conv1"][0]
    model = replace(tiny_model(), normalisation=RGB)
    exporting.write(TINY, he_normal(TINY), tmp_path / "x.safetensors", normalisation=RGB, describe=model.describe())
    found = safetensors.numpy.load_file(tmp_path / "x.safetensors")["features.0.weight"]
    np.testing.assert_array_equal(found, kernel.transpose(3, 2, 0, 1))
    told = models.described(tmp_path / "x.safetensors")  # of the kernel that our reader turns
    assert told and told.normalisation == replace(RGB, order="BGR", mean=RGB.mean[::-1], deviation=RGB.deviation[::-1])


def test_safetensors_in_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from safetensors.torch import load_file

    of = replace(TINY, shape=(64, 96, 3))  # so that the classifier's input has places
    exporting.write(of, he_normal(of), tmp_path / "x.safetensors", normalisation=CAFFE)
    features: list[Any] = []
    classifier: list[Any] = []
    for layer in of.layers:
        if layer.kind == "Conv2D":
            side, _, inputs, outputs = layer.kernel
            features += [torch.nn.Conv2d(inputs, outputs, side, padding=side // 2), torch.nn.ReLU()]
        elif layer.kind == "MaxPooling2D":
            features.append(torch.nn.MaxPool2d(2))
        elif layer.kind == "Dense":
            classifier += [torch.nn.Linear(*layer.kernel), torch.nn.ReLU(), torch.nn.Dropout()]
    network = torch.nn.Module()
    network.features, network.classifier = torch.nn.Sequential(*features), torch.nn.Sequential(*classifier[:-2])
    network.load_state_dict(load_file(tmp_path / "x.safetensors"))
    network.eval()
    pixels = np.random.default_rng(1).uniform(0, 255, (2, 64, 96, 3)).astype(np.float32)
    x = torch.from_numpy(pixels - np.array(CAFFE.mean[::-1], np.float32)).permute(0, 3, 1, 2)
    with torch.no_grad():
        found = network.classifier(network.features(x).flatten(1)).softmax(1).numpy()
    np.testing.assert_allclose(found, oracle.forward(of, he_normal(of), pixels)["predictions"], atol=1e-5)


# -- and back again: what a safetensors file says of itself


def answers(**options: Any) -> tuple[Model, NDArray[np.float32]]:
    with photolabel.load(**options) as classifier:
        prediction = classifier.classify(PHOTO)
        assert prediction.probabilities is not None
        assert pickle.loads(pickle.dumps(classifier)).model == classifier.model
        return classifier.model, prediction.probabilities


@pytest.mark.parametrize("normalisation", [CAFFE, TORCHVISION, RGB], ids=["Oxford", "torchvision", "red first"])
def test_a_file_that_says_all_of_itself_is_taken_at_its_word(
    tmp_path: Path, normalisation: Normalisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(tiny_model(), normalisation=normalisation, name="../VGG16")
    source = tiny_file(tmp_path, model=model)
    out = export(source, tmp_path / "x.safetensors")
    before, expected = answers(model=source)
    told, found = answers(weights=out)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    about = ("name", "recipes", "labels", "source", "licence")
    assert [getattr(told, each) for each in about] == [getattr(before, each) for each in about]
    keeping.bring("mine", out)
    mine, found = answers(model="mine")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert mine.labels == before.labels and mine.recipes == before.recipes
    monkeypatch.setenv("PHOTOLABEL_MODEL", models.BUNDLED)
    np.testing.assert_allclose(answers(weights=out)[1], expected, atol=1e-5)
    np.testing.assert_allclose(answers(weights=out, precision="int8")[1], expected, atol=0.15)
    cache = Path(os.environ["PHOTOLABEL_CACHE"])
    assert all(path.parent == cache for path in cache.rglob("described-*.onnx"))


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Model:
    """A known model `tiny`, and `tiny-torchvision` of the same network; nothing of them is here."""
    model = replace(tiny_model(), weights=servers.asset("http://127.0.0.1:9/", body=b"weights", name="tiny.h5"))
    other = replace(model, name="tiny-torchvision", normalisation=TORCHVISION)
    table = {**models.known(), "tiny": model, other.name: other}
    monkeypatch.setattr(models, "known", lambda: table)
    return model


def test_a_model_named_beside_it_must_agree(tmp_path: Path, known: Model) -> None:
    """And the two ways of using one file do not share an artefact: they have other labels."""
    labels = tuple(replace(label, name=label.name.upper()) for label in tiny_model().labels)
    source = tiny_file(tmp_path, model=replace(tiny_model(), labels=labels))
    out = export(source, tmp_path / "x.safetensors")
    for _ in range(2):
        assert answers(weights=out)[0].labels == labels
        named, found = answers(weights=out, model="tiny")
        assert named.labels == known.labels
        np.testing.assert_allclose(found, answers(model=source)[1], atol=1e-5)
    for name in ("tiny-torchvision", "vgg16"):
        with pytest.raises(WeightsMismatchError, match=r"x\.safetensors: .*Leave --model out"):
            photolabel.load(name, weights=out)
        with pytest.raises(WeightsMismatchError, match="Leave --model out"):
            keeping.bring("other", out, model=name)
    assert not list(models.own_store().folder.glob("*.onnx"))


def test_what_became_another_file_is_not_taken_for_what_it_was(tmp_path: Path) -> None:
    out = export(tiny_file(tmp_path), tmp_path / "x.safetensors")
    told = models.fitting(out)
    exporting.write(TINY, he_normal(TINY), out)  # which says nothing of itself
    with pytest.raises(InvalidWeightsError, match="changed while it was read"):
        artefacts.locate(told, weights_file=out)
    model = replace(tiny_model(), normalisation=TORCHVISION)
    exporting.write(TINY, he_normal(TINY), out, normalisation=TORCHVISION, describe=model.describe())
    assert models.read(artefacts.locate(told, weights_file=out)).normalisation == TORCHVISION


def test_without_a_description_it_is_torchvisions(tmp_path: Path) -> None:
    few = small("VGG16")
    exporting.write(few, he_normal(few), tmp_path / "x.safetensors")
    assert models.described(tmp_path / "x.safetensors") is None
    assert models.fitting(tmp_path / "x.safetensors").name == "vgg16-torchvision"
    with pytest.raises(MissingWeightsError, match="no such"):
        models.described(tmp_path / "missing")


def changed(**changes: Any) -> dict[str, str]:
    found = dict(tiny_model().describe())
    for key, value in changes.items():
        if value is None:
            del found[f"photolabel.{key}"]
        else:
            found[f"photolabel.{key}"] = value if isinstance(value, str) else json.dumps(value)
    return found


@pytest.mark.parametrize(
    ("describe", "match"),
    [
        (changed(format="2"), "format '2'"),
        (changed(format=None), "says nothing of itself"),
        (changed(spec=None), "lacks the network"),
        (changed(normalisation=None), "is broken"),
        (changed(normalisation={"order": "BGR", "mean": [0, 0, 0], "deviation": [1, 0, 1]}), "is broken"),
        (changed(normalisation='{"order":"BGR","mean":[NaN,0,0],"deviation":[1,1,1]}'), "is broken"),
        (changed(spec={}), "must hold exactly"),
        (changed(spec="[" * 100_000), "is broken"),
        (changed(spec=TINY.to_dict() | {"blocks": [[[3, 1 << 40]]]}), "makes no sense"),
        (changed(spec=TINY.to_dict() | {"classes": 9}), "9 classes, 10 labels"),
        (changed(spec=TINY.to_dict() | {"top": False}), "without its top"),
        (changed(spec=TINY.to_dict() | {"shape": [32, 32, 1]}), "1 channels"),
        (changed(recipes=[]), "0 recipes"),
        (changed(labels=None), "is broken"),
    ],
)
def test_a_strangers_description_is_checked(tmp_path: Path, describe: dict[str, str], match: str) -> None:
    path = tmp_path / "x.safetensors"
    exporting.write(TINY, he_normal(TINY), path, describe=describe)
    for job in (
        lambda: models.fitting(path),
        lambda: photolabel.load(weights=path),
        lambda: photolabel.load("vgg16", weights=path),
        lambda: keeping.bring("mine", path),
    ):
        with cheap(), pytest.raises(InvalidWeightsError, match=rf"x\.safetensors: .*{match}"):
            job()
    assert not list(Path(os.environ["PHOTOLABEL_CACHE"]).rglob("*.onnx"))


def test_a_description_of_another_network_than_the_weights(tmp_path: Path) -> None:
    describe = changed(spec=TINY.to_dict() | {"hidden": [1 << 20, 1 << 20]})
    exporting.write(TINY, he_normal(TINY), tmp_path / "x.safetensors", describe=describe)
    with cheap(), pytest.raises(WeightsMismatchError, match="has shape"):
        photolabel.load(weights=tmp_path / "x.safetensors")


def test_a_description_too_long_for_the_form(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"bytes, too many.*\.onnx instead"):
        exporting.write(TINY, he_normal(TINY), tmp_path / "x.safetensors", describe={"a": "x" * (3 << 20)})
    assert not here(tmp_path)


# -- what cannot be


@pytest.mark.parametrize("name", ["x", "x.h5", "x.pth", ".onnx", "x.onnx.gz", "x.tar", "", ".", "x.keras/"])
def test_another_ending_lists_the_endings(tmp_path: Path, name: str, tiny: Path) -> None:
    if name.endswith("/"):
        (tmp_path / name).mkdir()
        with pytest.raises(OutputError, match="folder"):
            export(tiny, tmp_path / name)
        return
    with pytest.raises(UsageError, match=r"\.onnx, \.keras, \.weights\.h5, \.safetensors"):
        export(tiny, tmp_path / name)


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_another_normalisation_is_no_keras_file(tmp_path: Path, ending: str) -> None:
    """Said before 553 MB are downloaded."""
    for model in ("vgg16-torchvision", replace(tiny_model(), normalisation=TORCHVISION)):
        with pytest.raises(UsageError, match=r"preprocess_input.*\.onnx, \.safetensors"):
            export(model, tmp_path / f"x{ending}")
    with pytest.raises(UsageError, match="preprocess_input"):
        exporting.write(TINY, he_normal(TINY), tmp_path / f"x{ending}", normalisation=TORCHVISION)
    assert not here(tmp_path)


@pytest.mark.parametrize("ending", THEIRS)
def test_a_network_of_another_family(tmp_path: Path, ending: str) -> None:
    with pytest.raises(UsageError, match=r"VGG family.*\.onnx only"):
        export(models.BUNDLED, tmp_path / f"x{ending}")
    with pytest.raises(UsageError, match=r"int8 can be written as \.onnx only"):
        export(models.BUNDLED, tmp_path / f"x{ending}", precision="int8")
    source = tiny_file(tmp_path)
    export(source, tmp_path / "8.onnx", precision="int8")
    with pytest.raises(UsageError, match="8-bit network"):
        export(tmp_path / "8.onnx", tmp_path / f"x{ending}")
    assert here(tmp_path) == ["8.onnx", "source.onnx"]


def test_other_arguments(tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(UsageError, match="expected fp32 or int8"):
        export(tiny, tmp_path / "x.onnx", precision="bf16")
    with pytest.raises(InvalidModelError, match="not an ONNX file"):
        (tmp_path / "bad.onnx").write_bytes(b"bad")
        export(tmp_path / "bad.onnx", tmp_path / "x.onnx")
    with pytest.raises(MissingWeightsError, match="tiny is no known model"):
        export(tiny_model(), tmp_path / "x.onnx")
    assert here(tmp_path) == ["bad.onnx"]


def test_a_description_that_lies_of_its_network(tmp_path: Path) -> None:
    model = replace(tiny_model(), spec=replace(TINY, hidden=(16, 17)))
    (tmp_path / "x.onnx").write_bytes(tiny_onnx(model=model))
    for ending in THEIRS:
        with pytest.raises(InvalidModelError, match="expected"):
            export(tmp_path / "x.onnx", tmp_path / f"out{ending}")
    assert here(tmp_path) == ["x.onnx"]


# -- every kind of model


def test_every_kind_of_model(tmp_path: Path, tiny: Path, known: Model) -> None:
    export(models.BUNDLED, tmp_path / "bundled.onnx")
    bundled = models.known()[models.BUNDLED]
    assert replace(models.read(tmp_path / "bundled.onnx"), path=None) == replace(bundled, path=None)
    keeping.bring("mine", tiny)
    export("mine", tmp_path / "mine.onnx")
    assert (tmp_path / "mine.onnx").read_bytes() == tiny.read_bytes()
    export("mine", tmp_path / "mine.safetensors")
    told = models.described(tmp_path / "mine.safetensors")
    assert told and told.name == "mine"
    with pytest.raises(MissingWeightsError, match="OFFLINE"):
        export("tiny", tmp_path / "known.keras")
    with artefacts.store.Store().create(artefacts.published_name(known)) as file:
        file.write(tiny_onnx())
    export("tiny", tmp_path / "known.keras")
    same(weights.read(tmp_path / "known.keras", TINY), he_normal(TINY))
    assert here(tmp_path) == ["bundled.onnx", "known.keras", "mine.onnx", "mine.safetensors"]


# -- whole or not at all


@pytest.mark.parametrize("ending", FORMS)
def test_a_file_is_replaced_whole_or_left_alone(
    tmp_path: Path, tiny: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / f"x{ending}"
    out.write_bytes(b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left"):
            export(tiny, out)
    assert out.read_bytes() == b"before" and here(tmp_path) == [out.name]
    export(tiny, out)
    assert out.stat().st_size > 1000 and here(tmp_path) == [out.name]
    export(tiny, out)
    assert here(tmp_path) == [out.name]


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize("ending", FORMS)
@pytest.mark.parametrize("room", [0, 100, 5_000, 14_000])
def test_no_room_at_any_byte(tmp_path: Path, ending: str, room: int) -> None:
    program = (
        "import resource, sys\nfrom pathlib import Path\nfrom photolabel import exporting\n"
        "from photolabel.errors import OutputError\n"
        "from oracle import TINY, he_normal\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n"
        f"try:\n    exporting.write(TINY, he_normal(TINY), Path({str(tmp_path / f'x{ending}')!r}))\n"
        "except OutputError as error:\n    sys.exit(0 if 'File too large' in str(error) else 3)\nsys.exit(4)\n"
    )
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert not here(tmp_path)


@pytest.mark.parametrize("ending", FORMS)
def test_a_place_that_cannot_be_written(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"folder{ending}").mkdir()
    for path in (tmp_path / f"folder{ending}", tmp_path / "missing" / f"x{ending}", Path(f"a\0b{ending}")):
        with pytest.raises(OutputError, match="cannot be written: "):
            export("vgg16", path)  # before it is asked for: it is not here
    assert here(tmp_path) == [f"folder{ending}"]


def test_a_models_own_file_is_not_written_over(tmp_path: Path) -> None:
    source = tiny_file(tmp_path)
    before = source.read_bytes()
    (tmp_path / "link.onnx").symlink_to(source)
    os.link(source, tmp_path / "twin.onnx")
    quantized = artefacts.quantized(models.read(source), source)
    for out in (source, tmp_path / "link.onnx", tmp_path / "twin.onnx", tmp_path / "." / "source.onnx"):
        with pytest.raises(UsageError, match="the very file"):
            export(source, out)
        with pytest.raises(UsageError, match="the very file"):
            export(source, out, precision="int8")
    with pytest.raises(UsageError, match="the very file"):
        export(source, quantized, precision="int8")
    assert source.read_bytes() == before and here(tmp_path) == ["link.onnx", "source.onnx", "twin.onnx"]


# -- costs


@pytest.mark.parametrize("ending", THEIRS)
def test_no_array_is_held_twice(tmp_path: Path, ending: str) -> None:
    """The largest one has 200 MB."""
    large = replace(TINY, shape=(128, 128, 3), hidden=(390_000, 2))
    arrays = he_normal(replace(large, hidden=(2, 2)))
    arrays["fc1"] = (np.zeros((128, 390_000), np.float32), np.zeros(390_000, np.float32))
    arrays["fc2"] = (np.zeros((390_000, 2), np.float32), np.zeros(2, np.float32))
    form = FORMS[ending]
    network = exporting.Network(spec=large, arrays=arrays, normalisation=None, describe={})
    with (tmp_path / "x").open("w+b") as file:
        arrays["fc1"][0][:] = 1  # now its memory is there
        with cheap(seconds=60, megabytes=60):
            form.write(file, network, lambda chunks: iter(chunks))


# -- the command


def test_the_command(tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from photolabel import cli

    assert cli.main(["export", str(tiny), "-o", str(tmp_path / "x.safetensors")]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'x.safetensors'}: {tiny} as safetensors in torchvision's layout, 15 kB\n" and not err
    assert cli.main(["export", models.BUNDLED, "-o", str(tmp_path / "x.onnx")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'x.onnx'}: {models.BUNDLED} as ONNX, 12 MB\n"
