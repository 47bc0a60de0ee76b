"""All formats through the one door: told apart by content, turned into the same arrays, refused in the same words."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import photolabel
from photolabel import artefacts, models, spec, weights
from photolabel.errors import InvalidWeightsError, MissingWeightsError, WeightsMismatchError
from photolabel.spec import Spec

import forms
from costs import cheap
from forms import FORMS
from oracle import TINY, he_normal

NO_TOP = replace(TINY, top=False)
KINDS = {"keras_h5": "keras-h5", "weights_h5": "keras3", "keras": "keras3"}
REFUSED = (InvalidWeightsError, WeightsMismatchError)


@pytest.fixture(scope="module")
def good() -> dict[str, bytes]:
    return {form: write(he_normal(TINY), TINY) for form, write in FORMS.items()}


def read(folder: Path, content: bytes, of: Spec = TINY) -> weights.Arrays:
    path = folder / "some file"  # its name says nothing
    path.write_bytes(content)
    return weights.read(path, of)


def same(found: weights.Arrays, expected: forms.Weights) -> None:
    assert list(found) == list(expected) or set(found) == set(expected)
    for name, pair in expected.items():
        for got, want in zip(found[name], pair, strict=True):
            assert got.dtype == np.float32 and got.dtype.isnative
            np.testing.assert_array_equal(got, want)


# -- good files


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_arrays(tmp_path: Path, form: str, good: dict[str, bytes]) -> None:
    same(read(tmp_path, good[form]), he_normal(TINY))
    found = weights.describe(tmp_path / "some file")
    assert found.format == KINDS.get(form.split(" ")[0], form.split(" ")[0]) and found.convolutions == 6


@pytest.mark.parametrize("form", FORMS)
def test_a_network_without_its_top_takes_the_convolutions_of_any_file(
    tmp_path: Path, form: str, good: dict[str, bytes]
) -> None:
    expected = {name: pair for name, pair in he_normal(TINY).items() if name in NO_TOP.learned}
    same(read(tmp_path, good[form], NO_TOP), expected)
    same(read(tmp_path, good[form], replace(NO_TOP, shape=(None, None, 3), pooling="avg")), expected)
    same(read(tmp_path, FORMS[form](expected, NO_TOP), NO_TOP), expected)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_without_a_top_is_not_enough_for_a_network_with_one(tmp_path: Path, form: str) -> None:
    base = {name: pair for name, pair in he_normal(TINY).items() if name in NO_TOP.learned}
    with pytest.raises(WeightsMismatchError, match="some file: .*TinyVGG with its top.*convolutions only.*include_top"):
        read(tmp_path, FORMS[form](base, NO_TOP))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["VGG11", "VGG13", "VGG16", "VGG16C", "VGG19"])
def test_every_configuration_in_every_form(tmp_path: Path, form: str, name: str) -> None:
    """A to E with few filters, not square: a transpose of height and width would show."""
    full: Spec = getattr(spec, name)
    small = tuple(tuple((side, filters // 64 + 2) for side, filters in block) for block in full.blocks)
    one = replace(full, blocks=small, hidden=(6, 5), classes=4, shape=(64, 96, 3))
    same(read(tmp_path, FORMS[form](he_normal(one), one), one), he_normal(one))


def test_neither_name_nor_place_matters(tmp_path: Path, good: dict[str, bytes]) -> None:
    path = tmp_path / "vgg16.h5"
    path.write_bytes(good["npz"])
    assert weights.sniff(path) == "npz"
    link = tmp_path / "link"
    link.symlink_to(path)
    same(weights.read(link, TINY), he_normal(TINY))


# -- other networks


@pytest.mark.parametrize("form", FORMS)
def test_another_network_is_a_mismatch(tmp_path: Path, form: str, good: dict[str, bytes]) -> None:
    deeper = replace(TINY, blocks=(*TINY.blocks[:4], ((3, 8), (3, 8))))
    for other in (replace(TINY, classes=11), replace(TINY, hidden=(16, 15)), deeper, replace(TINY, shape=(64, 32, 3))):
        with cheap(), pytest.raises(WeightsMismatchError, match="some file: .*(expected|Expected)"):
            read(tmp_path, good[form], other)
        with cheap(), pytest.raises(WeightsMismatchError, match="expected|Expected|has no layer"):
            read(tmp_path, FORMS[form](he_normal(other), other))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(tmp_path: Path, form: str, value: float) -> None:
    bad = he_normal(TINY)
    bad["fc2"][0][3, 5] = value
    with pytest.raises(InvalidWeightsError, match="kernel of fc2 holds NaN or infinity"):
        read(tmp_path, FORMS[form](bad, TINY))


@pytest.mark.parametrize("form", ["torch zip", "torch legacy", "safetensors"])
def test_batch_normalisation_is_another_network(tmp_path: Path, form: str) -> None:
    tensors = forms.torchvision(he_normal(TINY), TINY)
    tensors |= {f"features.1.{part}": np.ones(8, np.float32) for part in ("weight", "bias", "running_mean")}
    made = {"torch zip": forms.torch_zip, "torch legacy": forms.torch_legacy, "safetensors": forms.safetensors}
    with pytest.raises(WeightsMismatchError, match="batch normalisation"):
        read(tmp_path, made[form](tensors))


@pytest.mark.parametrize("form", ["torch zip", "safetensors", "npz", "caffe"])
@pytest.mark.parametrize("of", [TINY, NO_TOP], ids=["top", "no top"])
def test_an_array_too_many_is_named(tmp_path: Path, form: str, of: Spec) -> None:
    more = np.ones((2, 2), np.float32)
    content = {
        "torch zip": lambda: forms.torch_zip(forms.torchvision(he_normal(TINY), TINY) | {"features.99.weight": more}),
        "safetensors": lambda: forms.safetensors(forms.timm(he_normal(TINY), TINY) | {"features.99.weight": more}),
        "npz": lambda: forms.npz(forms.frossard(he_normal(TINY), TINY) | {"conv9_9_W": more}),
        "caffe": lambda: (
            forms.caffe(he_normal(TINY), TINY)
            + forms.field(100, forms.field(1, b"conv9_9") + forms.field(7, forms.blob(more, old=False)))
        ),
    }[form]()
    with pytest.raises(WeightsMismatchError, match="no layer for '(features.99|conv9_9)"):
        read(tmp_path, content, of)


# -- which model a file is of


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
@pytest.mark.parametrize("top", [True, False])
def test_without_a_name_the_model_is_told_from_the_file(tmp_path: Path, form: str, name: str, top: bool) -> None:
    full = models.known()[name].spec
    assert full
    few = tuple(tuple((side, 2) for side, _ in block) for block in full.blocks)
    small = replace(full, blocks=few, hidden=(6, 5), classes=4, shape=(32, 32, 3), top=top)
    path = forms.write(tmp_path / "x", form, he_normal(small), small)
    suffix = "-torchvision" if form.startswith(("torch", "safetensors")) else ""
    assert models.fitting(path).name == name + suffix


def test_weights_of_another_depth_fit_no_model(tmp_path: Path) -> None:
    path = forms.write(tmp_path / "x", "npz", he_normal(TINY), TINY)
    with pytest.raises(WeightsMismatchError, match="x: expected .*13 or 16 convolutions; this file has 6"):
        photolabel.load(weights=path)
    with pytest.raises(MissingWeightsError, match="no such weights file"):
        photolabel.load(weights=tmp_path / "nothing")
    path.write_bytes(b"nothing")
    with pytest.raises(InvalidWeightsError, match="x: not a weights file of a known format"):
        photolabel.load(weights=path)


def test_the_artefact_of_a_users_torch_file_answers_like_keras_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same arrays in both forms under one model: one answer, and a file's form leaves no trace."""
    model = replace(models.known()["vgg16"], spec=TINY, name="tiny", labels=models.known()["vgg16"].labels[:10])
    made = []
    for form in ("torch zip", "keras_h5"):
        path = artefacts.locate(model, weights_file=forms.write(tmp_path / form, form, he_normal(TINY), TINY))
        made.append(path.read_bytes())
    assert len(made[0]) == len(made[1])
    tail = made[0].index(b"block1_conv1/kernel")  # what comes before names the file's hash
    assert made[0][tail:] == made[1][made[1].index(b"block1_conv1/kernel") :]


@pytest.mark.parametrize("name", ["vgg16", "vgg16-torchvision"])
def test_a_copy_that_keras_or_pytorch_keeps_is_used(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.known()[name]
    assert model.weights
    variable, folder = ("KERAS_HOME", "models") if name == "vgg16" else ("TORCH_HOME", "hub/checkpoints")
    monkeypatch.setenv(variable, str(tmp_path))
    path = tmp_path / folder / model.weights.name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"other")
    assert not artefacts.available(model)
    algorithm = model.weights.digest.partition(":")[0]
    asset = replace(model.weights, size=5, digest=f"{algorithm}:{hashlib.new(algorithm, b'other').hexdigest()}")
    assert artefacts.available(replace(model, weights=asset))


def test_verifying_one_model_leaves_the_other_alone() -> None:
    cache = artefacts.store.Store()
    for name in ("vgg16", "vgg16-torchvision"):
        with cache.create(f"{name}-0123456789abcdef.onnx") as file:
            file.write(b"x")
    assert [path.name for path, _ in artefacts.verify(models.known()["vgg16"])] == ["vgg16-0123456789abcdef.onnx"]
    assert len(artefacts.verify(models.known()["vgg16-torchvision"])) == 1


# -- files that are none, or broken


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08\x08",
        b"<!DOCTYPE html>",
        b"version https://git-lfs",
        b"\x93NUMPY\1\0v\0",
        bytes(9),
        b"PK\5\6" + bytes(18),
    ],
)
def test_what_is_in_no_known_format_is_told_what_is(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InvalidWeightsError, match="some file: not a weights file of a known format.*safetensors.*npz"):
        read(tmp_path, content)
    with pytest.raises(InvalidWeightsError, match="some file: not a weights file of a known format"):
        weights.describe(tmp_path / "some file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / "nothing"):
        with cheap(), pytest.raises(InvalidWeightsError, match="no regular file|cannot be read: No such file"):
            weights.read(path, TINY)


@pytest.mark.parametrize("form", FORMS)
def test_a_cut_file_is_refused(tmp_path: Path, form: str, good: dict[str, bytes]) -> None:
    content = good[form]
    lengths = {*range(0, 600, 13), *range(0, len(content), max(1, len(content) // 60)), len(content) - 1}
    with cheap(seconds=30):
        for length in sorted(lengths):
            with pytest.raises(REFUSED):
                read(tmp_path, content[:length])


@pytest.mark.parametrize("form", FORMS)
def test_flipped_bytes_give_typed_errors_or_whole_arrays(tmp_path: Path, form: str, good: dict[str, bytes]) -> None:
    dice = random.Random(20)
    with cheap(seconds=60):
        for _ in range(60):
            content = bytearray(good[form])
            for _ in range(dice.choice([1, 1, 4])):
                content[dice.randrange(len(content) if dice.random() < 0.5 else 900)] ^= dice.randrange(1, 256)
            try:
                found = read(tmp_path, bytes(content))
            except REFUSED as error:
                assert "0x7f" not in str(error) and str(tmp_path) not in str(error) and len(str(error)) < 700
            else:
                weights.check(found, TINY)


WATCHER = """
import sys
from pathlib import Path
import numpy, h5py, oracle
from photolabel import weights
from photolabel.errors import ModelError
from photolabel.weights import caffe, keras3, keras_h5, layouts, npz, safetensors, torch, hdf5, stored_zip, files
files_ = sorted(Path(sys.argv[1]).iterdir())
weights.read(files_[0], oracle.TINY)
allowed = {"open", "builtins.id", "object.__getattr__", "pathlib.Path.glob", "os.listdir", "os.scandir"}
armed = True
def hook(event, arguments):
    if armed and event not in allowed:
        print("FORBIDDEN", event, str(arguments)[:200]); sys.stdout.flush()
sys.addaudithook(hook)
for path in files_:
    for job in (lambda: weights.read(path, oracle.TINY), lambda: weights.describe(path)):
        try:
            job()
        except ModelError:
            pass
armed = False
print("read", len(files_))
"""


def test_nothing_is_run_or_imported_whatever_is_read(tmp_path: Path, good: dict[str, bytes]) -> None:
    """Seen from inside the interpreter, good files and bad: no import, exec, compile, pickle.find_class, connect."""
    canary = tmp_path / "canary"
    folder = tmp_path / "files"
    folder.mkdir()
    evil = f"cposix\nsystem\n(S'touch {canary}'\ntR.".encode()
    objects = io_of_objects(evil)
    bad = {
        "pickle": b"\x80\x02" + evil,
        "torch": forms.stored({"x/data.pkl": b"\x80\x02" + evil}),
        "npz of objects": forms.stored({"conv1_1_W.npy": objects}),
        "keras": forms.stored({"config.json": b'{"class_name": "Lambda"}', "model.weights.h5": b"\x89HDF\r\n\x1a\n"}),
    }
    for i, content in enumerate([*good.values(), *bad.values()]):
        (folder / f"{i:02}").write_bytes(content)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", WATCHER, str(folder)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == f"read {len(good) + len(bad)}\n", done.stdout + done.stderr
    assert not canary.exists()


def io_of_objects(program: bytes) -> bytes:
    """An .npy file of objects, whose pickle is `program`."""
    text = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    text += b" " * (117 - len(text)) + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + program


def test_the_source_has_no_way_to_run_what_is_stored() -> None:
    source = "".join(path.read_text("utf-8") for path in Path(weights.__file__).parent.glob("*.py"))
    for word in ("pickle.load", "Unpickler", "allow_pickle=True", "import torch", "eval(", "exec(", "import keras"):
        assert word not in source, word


# -- what the libraries themselves write


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_what_pytorch_itself_writes(tmp_path: Path, form: str) -> None:
    torch = importlib.import_module("torch")
    tensors: dict[str, Any] = {n: torch.from_numpy(a) for n, a in forms.torchvision(he_normal(TINY), TINY).items()}
    path = tmp_path / "x"
    if form == "safetensors":
        pytest.importorskip("safetensors")
        importlib.import_module("safetensors.torch").save_file(tensors, path, metadata={"format": "pt"})
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=form == "zip")
    same(weights.read(path, TINY), he_normal(TINY))


@pytest.fixture(scope="module")
def of_keras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script, folder = Path(__file__).parent.parent / "keras_forms.py", tmp_path_factory.mktemp("keras")
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_what_keras_itself_writes(of_keras: Path, kind: str) -> None:
    """A functional model with names of its own, as keras.applications makes them, and a sequential one without."""
    tmp_path = of_keras / kind
    found = {path.name: weights.read(path, TINY) for path in sorted(tmp_path.iterdir()) if path.name != "x.npz"}
    assert set(found) == {"x.h5", "x.keras", "x.weights.h5", "legacy.h5"} - (
        {"x.h5", "legacy.h5"} if kind == "sequential" else set()
    )
    with np.load(tmp_path / "x.npz") as file:
        expected = {n: (file[f"{n}_0"], file[f"{n}_1"]) for n in TINY.learned}
    for arrays in found.values():
        same(arrays, expected)
    for name in ("x.keras", "x.weights.h5"):
        assert len(weights.read(tmp_path / name, NO_TOP)) == 6
