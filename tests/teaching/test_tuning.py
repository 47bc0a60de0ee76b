"""Fine-tuning as a whole. Keras runs in a process of its own, on JAX, and on what else is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import photolabel.keras
from photolabel.errors import MissingExtraError, UsageError
from photolabel.teaching import backbone, teach, tuning
from photolabel.teaching.epochs import is_better

import tune_kills
from conftest import ROOT
from training import plant

PROGRAM = ROOT / "tests" / "tunings.py"
CHECKS = [
    "it learns more than the frozen head knows",
    "it is judged by held out photos",
    "epoch 0 is the frozen head",
    "what is frozen stays to the bit",
    "the file says what keras says",
    "it describes itself",
    "everything takes it",
    "it is not added to",
    "the same gives the same",
    "resumed is unbroken",
    "another training is refused",
    "one process at a time",
    "photos to judge by are given",
    "two blocks are tuned",
    "what is no better leaves the frozen head",
    "one that runs away is stopped",
    "the loss falls from nothing",
    "rare classes count as much",
    "what cannot be tuned",
    "what was trained by hand is brought back",
    "what was built otherwise is refused",
    "nothing is left behind",
]
needs_keras = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("keras", "jax")),
    reason="Keras or JAX is not installed here",
)


@pytest.fixture(scope="module", params=["jax", "tensorflow", "torch"])
def done(request: pytest.FixtureRequest) -> subprocess.CompletedProcess[str]:
    """One process runs all checks of tunings.py: Keras takes long to start."""
    for package in ("keras", request.param):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed here")
    environment = {**os.environ, "KERAS_BACKEND": request.param}
    return subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("check", CHECKS)
def test_fine_tuning(done: subprocess.CompletedProcess[str], check: str) -> None:
    assert f"ok: {check}\n" in done.stdout, done.stderr[-3000:]


def test_all_checks_are_listed_here(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("ok: ") == len(CHECKS)


@needs_keras
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_it_goes_on_to_the_same_file(tiny: Path, tmp_path: Path) -> None:
    tally = tune_kills.kill_tunings(tmp_path, tiny, kills=2, seed=1)
    assert tally["killed"] >= 2 and tally["gone on with"]


def test_without_keras_the_install_is_named_before_any_photo_is_opened(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    photos = plant(tmp_path / "photos", 2)
    for path in photos.rglob("*.png"):
        path.write_bytes(b"no photo")
    with pytest.raises(MissingExtraError, match=r"needs keras.*pip install 'photolabel\[keras\]'"):
        teach(photos, tmp_path / "x.onnx", model=tiny, fine_tune=1, workers=0)
    assert not (tmp_path / "x.onnx.partial").exists()


def test_the_backend_is_the_one_that_is_set_or_the_first_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import sys, importlib.util, os, types\n"
        "there, sys.modules['keras'] = sys.argv[1].split(','), None\n"
        "del sys.modules['keras']\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: (name in there or None) if name in "
        "('jax', 'torch', 'tensorflow', 'keras') else real(name, *more)\n"
        "import photolabel.keras\n"
        "from photolabel.errors import MissingExtraError\n"
        "class Finder:\n"
        "    def find_spec(self, name, *more):\n"
        "        if name == 'keras':\n"
        "            print(os.environ.get('KERAS_BACKEND')); raise ImportError(name, name='keras')\n"
        "sys.meta_path.insert(0, Finder())\n"
        "try: photolabel.keras.imported()\n"
        "except MissingExtraError as error: print(error)\n"
    )

    def chosen(there: str, settings: str | None = None, **environment: str) -> str:
        (tmp_path / "keras.json").unlink(missing_ok=True)
        if settings is not None:
            (tmp_path / "keras.json").write_text(settings)
        clean = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
        found = subprocess.run(
            [sys.executable, "-c", program, there],
            capture_output=True,
            text=True,
            check=True,
            env={**clean, "KERAS_HOME": str(tmp_path), **environment},
        )
        return found.stdout.splitlines()[0]

    assert chosen("keras,torch") == "torch"
    assert chosen("keras,torch,jax") == "jax"
    assert chosen("keras,torch,jax,tensorflow") == "None"  # Keras' own choice
    assert chosen("keras,torch,jax", '{"backend": "torch"}') == "None"
    assert chosen("keras,jax", '{"backend": "tensorflow"}') == "jax"
    assert chosen("keras,jax", "{broken") == "jax"
    assert chosen("keras,jax", '["x"]') == "jax"
    assert chosen("keras,jax", KERAS_BACKEND="torch") == "torch"
    assert "nothing that it runs on: pip install one of jax, torch, tensorflow" in chosen("keras")


@needs_keras
def test_a_backend_that_cannot_train_is_said(tiny: Path, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from photolabel.teaching import teach\n"
        "from photolabel.errors import UsageError\n"
        "try: teach(sys.argv[1], sys.argv[2], model=sys.argv[3], fine_tune=1, workers=0)\n"
        "except UsageError as error: print(error)\n"
    )
    photos = plant(tmp_path / "photos", 3)
    found = subprocess.run(
        [sys.executable, "-c", program, str(photos), str(tmp_path / "x.onnx"), str(tiny)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "KERAS_BACKEND": "openvino"},
    )
    assert "Keras cannot train on openvino: set KERAS_BACKEND to one of jax, torch, tensorflow" in found.stdout


def test_no_better_is_not_better() -> None:
    assert is_better(0.4, 0.5) and not is_better(0.5, 0.5) and not is_better(0.4999, 0.5)
    assert not is_better(float("nan"), 0.5) and not is_better(float("inf"), float("inf"))


@needs_keras
def test_convolutions_alone_can_be_tuned(tiny: Path, tmp_path: Path) -> None:
    """As Keras publishes them ("notop"): a network without a top is a backbone too."""
    found = backbone.find(tiny)
    base = tuning.base(found, layer=None, blocks=2)
    assert base.layer == "block5_pool" and base.network == found.network
    with pytest.raises(UsageError, match="expected 1 to 4"):
        tuning.base(found, layer=None, blocks=5)


def test_nothing_of_keras_is_imported_for_a_frozen_head(tiny: Path, tmp_path: Path) -> None:
    photos = plant(tmp_path / "photos", 3)
    program = (
        "import sys\n"
        "from photolabel.teaching import teach\n"
        "teach(sys.argv[1], sys.argv[2], model=sys.argv[3], workers=0)\n"
        "assert not {'keras', 'jax', 'tensorflow', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(photos), str(tmp_path / "x.onnx"), str(tiny)], check=True)


def test_the_tail_needs_a_block_before_it() -> None:
    pytest.importorskip("jax")
    pytest.importorskip("keras")
    with pytest.raises(UsageError, match="can have its last 1 to 4 trained"):
        photolabel.keras.tail(photolabel.spec.VGG16, {}, 5, (224, 224, 3), ((), ()))  # type: ignore[arg-type]
