"""Every test has a cache of its own, no network, and none of the user's settings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import filelock
import hypothesis
import numpy as np
import pytest
from PIL import Image

import oracle

for _name in [name for name in os.environ if name.startswith("PHOTOLABEL_") and name != "PHOTOLABEL_SHARED"]:
    del os.environ[_name]

# ONNX Runtime's telemetry: no test of ours sends anything, those that use it without photolabel included.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# No test is timed: a machine may be busy with something else.
hypothesis.settings.register_profile("photolabel", deadline=None)
hypothesis.settings.load_profile("photolabel")

# Tests interrupt processes that they start, which would ignore it where a shell started all of this in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent

# Files that take a minute or more: begun last they would be waited for by all others. Those that compute and those
# that wait take turns.
LONGEST = (
    "test_keras_parity.py",
    "test_fuzz_http.py",
    "test_tuning.py",
    "test_page_access.py",
    "test_saving.py",
    "test_keras.py",
    "test_keras_compat.py",
    "test_cli.py",
    "test_explain.py",
    "test_quantize.py",
    "test_exporting.py",
    "test_looks.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(autouse=True)
def _own_world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
    monkeypatch.setenv("PHOTOLABEL_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keras on JAX compiles each model's functions anew, for seconds: all in one session share what was compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("jax")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photos that lies beside some checkouts."""
    folder = Path(os.environ.get("PHOTOLABEL_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip("the shared photos are not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def real_base() -> Path | None:
    """The real VGG16 convolutional base, made once a checkout, by whoever asks first, where it can be."""
    tool = ROOT.parent / "shared" / "tools" / "make_vgg16_base.py"
    kept = ROOT / ".cache" / "vgg16_base.h5"
    if tool.is_file():
        kept.parent.mkdir(exist_ok=True)
        with filelock.FileLock(kept.with_suffix(".lock")):
            made = kept.with_suffix(".made")
            command = [sys.executable, str(tool), str(made)]
            if not kept.is_file() and subprocess.run(command, capture_output=True, check=False).returncode == 0:
                made.replace(kept)
    return kept if kept.is_file() else None


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny VGG as a self-describing ONNX file."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    path.write_bytes(oracle.tiny_onnx())
    return path


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small PNG of smooth noise."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    noise = np.random.default_rng(5).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((60, 45), Image.Resampling.BICUBIC).save(path)
    return path
