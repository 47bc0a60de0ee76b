"""The engine: threads, batches, precision, and compiled networks that cannot be trusted blindly."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from photolabel import engine, progress
from photolabel.engine.openvino import OpenVINO
from photolabel.errors import InvalidModelError, UsageError
from photolabel.store import Store

import oracle
from oracle import TINY, forward, he_normal


def pixels(n: int) -> oracle.Array:
    return np.random.default_rng(n).uniform(0, 255, (n, 32, 32, 3)).astype(np.float32)


def blobs() -> list[Path]:
    return sorted(Store().folder.glob("*.blob"))


def test_any_batch_size_gives_the_same_bits(tiny: Path) -> None:
    network = engine.open_engine(tiny)
    x = pixels(5)
    whole = network(x)
    assert whole.shape == (5, 10) and whole.dtype == np.float32
    for i in range(5):
        np.testing.assert_array_equal(network(x[i : i + 1])[0], whole[i])


def test_pixels_are_not_changed_and_the_answer_is_the_callers_own(tiny: Path) -> None:
    network = engine.open_engine(tiny)
    x = pixels(2)
    before = x.copy()
    first = network(x)
    kept = first.copy()
    network(pixels(2) + 1)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(first, kept)


def test_many_threads_get_their_own_answers(tiny: Path) -> None:
    network = engine.open_engine(tiny)
    inputs = [pixels(1) + i for i in range(8)]
    expected = [network(x) for x in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            if not np.array_equal(network(inputs[i]), expected[i]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_the_precision_is_always_asked_for(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO's own default is bf16 where the processor has it; and thread counts change the last bits."""
    import openvino

    seen: list[dict[str, object]] = []
    original = openvino.Core.compile_model

    def spy(self: object, model: object, device: str, options: dict[str, object]) -> object:
        seen.append(options)
        return original(self, model, device, options)

    monkeypatch.setattr(openvino.Core, "compile_model", spy)
    engine.open_engine(tiny, threads=1)
    assert seen[0]["INFERENCE_PRECISION_HINT"] == "f32"
    assert seen[0]["INFERENCE_NUM_THREADS"] == 1
    engine.open_engine(tiny)
    assert seen[1]["INFERENCE_NUM_THREADS"] == engine.available_threads()


@pytest.mark.parametrize("options", [{"precision": "fp8"}, {"threads": 0}, {"threads": -1}, {"threads": 5000}], ids=str)
def test_wrong_options_are_usage_errors(tiny: Path, options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="expected"):
        engine.open_engine(tiny, **options)  # type: ignore[arg-type]


def test_the_second_start_uses_the_blob(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = pixels(3)
    first = engine.open_engine(tiny)(x)
    assert len(blobs()) == 1
    monkeypatch.setattr(OpenVINO, "_compile", lambda *_: pytest.fail("compiled again"))
    np.testing.assert_array_equal(engine.open_engine(tiny)(x), first)


def test_other_options_and_other_networks_have_other_blobs(tiny: Path, tmp_path: Path) -> None:
    engine.open_engine(tiny, threads=1)
    engine.open_engine(tiny, threads=2)
    same_name = tmp_path / tiny.name
    same_name.write_bytes(oracle.tiny_onnx(he_normal(TINY, seed=9)))
    x = pixels(1)
    expected = forward(TINY, he_normal(TINY, seed=9), x)["predictions"]
    np.testing.assert_allclose(engine.open_engine(same_name, threads=1)(x), expected, atol=2e-5)
    assert len(blobs()) == 3


def test_another_openvino_makes_its_own_blob_and_the_old_one_goes(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    engine.open_engine(tiny)
    (old,) = blobs()
    monkeypatch.setattr(openvino, "get_version", lambda: "another")
    engine.open_engine(tiny)
    (new,) = blobs()
    assert new != old


def test_a_changed_blob_is_made_again(tiny: Path) -> None:
    """A flipped byte in a blob loads without complaint and names another class."""
    x = pixels(3)
    expected = engine.open_engine(tiny)(x)
    (blob,) = blobs()
    data = bytearray(blob.read_bytes())
    for position in range(len(data) // 2, len(data), 97):
        data[position] ^= 0xFF
    blob.write_bytes(data)
    np.testing.assert_array_equal(engine.open_engine(tiny)(x), expected)
    assert blob.read_bytes() != bytes(data)
    assert Store().check(blob.name, deep=True)


def test_a_blob_without_a_record_is_not_believed(tiny: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(oracle.tiny_onnx(he_normal(TINY, seed=9)))
    x = pixels(2)
    expected = engine.open_engine(tiny)(x)
    (blob,) = blobs()
    engine.open_engine(other)
    (planted,) = [path for path in blobs() if path != blob]
    shutil.copy(planted, blob)
    np.testing.assert_array_equal(engine.open_engine(tiny)(x), expected)


def test_rubbish_with_a_right_record_is_made_again(tiny: Path) -> None:
    x = pixels(1)
    expected = engine.open_engine(tiny)(x)
    (blob,) = blobs()
    with Store().create(blob.name) as file:
        file.write(b"rubbish" * 100)
    np.testing.assert_array_equal(engine.open_engine(tiny)(x), expected)


def test_the_warm_start_has_the_same_options(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob does not remember how many threads it was made for."""
    import openvino

    engine.open_engine(tiny, threads=1)
    seen: list[object] = []
    original = openvino.Core.import_model

    def spy(self: object, blob: object, device: str, options: object) -> object:
        seen.append(options)
        return original(self, blob, device, options)

    monkeypatch.setattr(openvino.Core, "import_model", spy)
    engine.open_engine(tiny, threads=1)
    assert seen == [
        {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
    ]


def test_an_engine_that_waited_takes_what_the_other_made(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Path] = []
    original = OpenVINO._compile

    def slow(self: OpenVINO, path: Path, **options: bool) -> object:
        compiled.append(path)
        time.sleep(0.5)
        return original(self, path, **options)

    monkeypatch.setattr(OpenVINO, "_compile", slow)
    workers = [threading.Thread(target=engine.open_engine, args=(tiny,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert compiled == [tiny]


def test_outdated_blobs_are_removed_without_waiting_for_anyone(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two OpenVINOs that share a cache, each making what the other finds outdated, must not wait for each other."""
    import openvino

    engine.open_engine(tiny)
    (old,) = blobs()
    monkeypatch.setattr(openvino, "get_version", lambda: "another")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with Store().lock(old.name):
            held.set()
            done.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(20)
    worker = threading.Thread(target=engine.open_engine, args=(tiny,))
    worker.start()
    worker.join(15)
    stuck = worker.is_alive()
    done.set()
    worker.join()
    holder.join()
    assert not stuck and len(blobs()) == 2


def test_a_full_disk_does_not_cost_a_second_compilation(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from photolabel.errors import DiskFullError

    def full(*_: object) -> None:
        raise DiskFullError("no room")

    compiled: list[object] = []
    original = OpenVINO._compile

    def counted(self: OpenVINO, path: Path, **options: bool) -> object:
        compiled.append(path)
        return original(self, path, **options)

    monkeypatch.setattr(OpenVINO, "_compile", counted)
    monkeypatch.setattr(Store, "create", full)
    assert engine.open_engine(tiny)(pixels(1)).shape == (1, 10)
    assert len(compiled) == 1


def test_a_blob_that_vanishes_is_made_again(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.open_engine(tiny)
    original = np.memmap

    def gone(path: Path, *rest: object) -> object:
        if path.exists():
            path.unlink()
        return original(path, *rest)  # type: ignore[call-overload]

    monkeypatch.setattr(np, "memmap", gone)
    assert engine.open_engine(tiny)(pixels(1)).shape == (1, 10)


def test_a_network_changed_while_it_is_compiled_leaves_no_blob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name would promise the old network."""
    path = tmp_path / "mine.onnx"
    path.write_bytes(oracle.tiny_onnx())
    original = OpenVINO._compile

    def overtaken(self: OpenVINO, path: Path, **options: bool) -> object:
        path.write_bytes(oracle.tiny_onnx(he_normal(TINY, seed=3)))
        return original(self, path, **options)

    monkeypatch.setattr(OpenVINO, "_compile", overtaken)
    engine.open_engine(path)
    assert blobs() == []


def test_a_stranger_s_network_is_checked_wherever_it_lies(tiny: Path) -> None:
    """What we wrote is known by its record, not by its folder."""
    weights = he_normal(TINY)
    weights["fc1"][1][0] = np.nan
    cache = Store().folder
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "planted.onnx").write_bytes(oracle.tiny_onnx(weights))
    with pytest.raises(InvalidModelError, match="NaN"):
        engine.open_engine(cache / "planted.onnx")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_nothing_calls_home(tiny: Path, tmp_path: Path) -> None:
    """OpenVINO's package would: it looks up a host and keeps an identity in the home folder."""
    program = (
        "import socket, sys\n"
        "looked_up = []\n"
        "original = socket.getaddrinfo\n"
        "socket.getaddrinfo = lambda *a, **k: looked_up.append(a) or original(*a, **k)\n"
        "connected = []\n"
        "sys.addaudithook(lambda event, args: connected.append(event) if event == 'socket.connect' else None)\n"
        "import photolabel\n"
        "photolabel.load(sys.argv[1]).close()\n"
        "import time, openvino\n"
        "time.sleep(0.5)\n"  # its client works in a thread
        "assert callable(openvino.convert_model), 'what others need of OpenVINO is left whole'\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
        "print(looked_up, connected)"
    )
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[] []\n", "")
    assert list(home.iterdir()) == []


def test_no_cache_is_no_reason_not_to_answer(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOLABEL_CACHE", os.devnull + "/nowhere")
    x = pixels(1)
    expected = forward(TINY, he_normal(TINY), x)["predictions"]
    np.testing.assert_allclose(engine.open_engine(tiny)(x), expected, atol=2e-5)


def test_a_closed_engine_says_so(tiny: Path) -> None:
    network = engine.open_engine(tiny)
    network.close()
    network.close()
    with pytest.raises(UsageError, match="closed"):
        network(pixels(1))


def test_an_answer_of_nan_is_an_error(tmp_path: Path) -> None:
    """Weights can be finite and their products not."""
    weights = he_normal(TINY)
    kernel, bias = weights["predictions"]
    weights["predictions"] = (kernel * np.float32(1e38), bias)
    path = tmp_path / "huge.onnx"
    path.write_bytes(oracle.tiny_onnx(weights))
    with pytest.raises(InvalidModelError, match="NaN"):
        engine.open_engine(path)(pixels(1))


def test_compiling_is_announced_on_a_terminal(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "watched", lambda: True)
    engine.open_engine(tiny)
    assert "compiling tiny for this processor" in capsys.readouterr().err


def test_inner_layers_come_beside_the_answer(tiny: Path) -> None:
    x = pixels(2)
    network = engine.open_engine(tiny, cut=engine.Cut(layers=("fc2", "logits", "block1_conv1")))
    found = network.run(x)
    expected = forward(TINY, he_normal(TINY), x)
    assert list(found) == ["probabilities", "fc2", "logits", "block1_conv1"] == list(network.shapes)
    np.testing.assert_array_equal(network(x), found["probabilities"])
    for name in ("fc2", "logits"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-2)
    assert network.shapes["fc2"] == (None, 16) and network.shape == (None, 32, 32, 3)
    assert blobs() == [], "never a second copy of the weights for the sake of a layer"


def test_a_layer_that_is_not_there_is_a_usage_error(tiny: Path) -> None:
    with pytest.raises(UsageError, match="no layer 'fc3'. Close: .*fc2"):
        engine.open_engine(tiny, cut=engine.Cut(layers=("fc3",)))
