"""`photolabel.keras`: true Keras models. Keras runs in a process of its own, on JAX, and on what else is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import photolabel.keras
from photolabel.errors import MissingExtraError

PROGRAM = Path(__file__).with_name("keras_models.py")


@pytest.fixture(scope="module", params=["jax", "tensorflow", "torch"])
def done(request: pytest.FixtureRequest) -> subprocess.CompletedProcess[str]:
    """One process runs all checks of keras_models.py: Keras takes long to start."""
    if request.param != "jax" and importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed here")
    environment = {**os.environ, "KERAS_BACKEND": request.param}
    return subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    "check",
    [
        "a round trip is exact",
        "both predict the same",
        "any size without the top",
        "an input tensor",
        "a model that trains",
        "any activation with random weights",
        "wrong arguments",
        "a file of weights",
        "a saved model comes back",
        "channels first",
        "other layers",
    ],
)
def test_keras_models(done: subprocess.CompletedProcess[str], check: str) -> None:
    assert f"ok: {check}\n" in done.stdout, done.stderr[-3000:]


def test_all_checks_are_listed_here(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("ok: ") == 11


def test_without_keras_the_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtraError, match=r"needs keras.*pip install 'photolabel\[keras\]'"):
        photolabel.keras.VGG16(weights=None)


def test_nothing_is_imported_before_it_is_needed() -> None:
    program = "import sys, photolabel.keras; assert not {'keras', 'jax', 'tensorflow', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
