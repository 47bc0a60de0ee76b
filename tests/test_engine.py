"""The engine: threads, batches, precision, and compiled networks that cannot be trusted blindly."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from photolabel import engine, graph, models, progress, quantize
from photolabel.engine import cuts, soundness
from photolabel.engine.openvino import OpenVINO
from photolabel.errors import InvalidModelError, MissingExtraError, UsageError
from photolabel.store import Store

import oracle
from oracle import TINY, forward, he_normal

RUNTIMES = list(engine.RUNTIMES)


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    """Each runtime that is installed."""
    pytest.importorskip(request.param)
    return str(request.param)


def pixels(n: int) -> oracle.Array:
    return np.random.default_rng(n).uniform(0, 255, (n, 32, 32, 3)).astype(np.float32)


def blobs() -> list[Path]:
    return sorted(Store().folder.glob("*.blob"))


def test_any_batch_size_gives_the_same_bits(tiny: Path, runtime: str) -> None:
    network = engine.open_engine(tiny, runtime=runtime)
    x = pixels(5)
    whole = network(x)
    assert whole.shape == (5, 10) and whole.dtype == np.float32
    for i in range(5):
        np.testing.assert_array_equal(network(x[i : i + 1])[0], whole[i])


def test_pixels_are_not_changed_and_the_answer_is_the_callers_own(tiny: Path, runtime: str) -> None:
    network = engine.open_engine(tiny, runtime=runtime)
    x = pixels(2)
    before = x.copy()
    first = network(x)
    kept = first.copy()
    network(pixels(2) + 1)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(first, kept)


def test_many_threads_get_their_own_answers(tiny: Path, runtime: str) -> None:
    network = engine.open_engine(tiny, runtime=runtime)
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


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="says nothing of threads' processors")
@pytest.mark.parametrize("warm", [False, True])
def test_no_thread_is_bound_to_a_processor(tiny: Path, warm: bool) -> None:
    """Else two processes with a network of one thread each would have one processor between them."""
    allowed = os.sched_getaffinity(0)
    if len(allowed) == 1:
        pytest.skip("there is one processor")
    if warm:
        engine.open_engine(tiny, threads=1).close()
    network, seen, done, many = engine.open_engine(tiny, threads=1), set(), threading.Event(), pixels(64)

    def look() -> None:
        while not done.is_set():
            for task in Path("/proc/self/task").iterdir():
                with contextlib.suppress(OSError):
                    seen.add(frozenset(os.sched_getaffinity(int(task.name))))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(20):
            network(many)
    finally:
        done.set()
        watcher.join()
    assert seen == {frozenset(allowed)}


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


@pytest.mark.parametrize(
    "options", [{"precision": "fp8"}, {"threads": 0}, {"threads": -1}, {"threads": 5000}, {"runtime": "keras"}], ids=str
)
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
            "ENABLE_CPU_PINNING": False,
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
def test_nothing_calls_home(tiny: Path, tmp_path: Path, runtime: str) -> None:
    """OpenVINO's package would, and ONNX Runtime's: they keep an identity in the home folder."""
    program = (
        "import socket, sys\n"
        "looked_up = []\n"
        "original = socket.getaddrinfo\n"
        "socket.getaddrinfo = lambda *a, **k: looked_up.append(a) or original(*a, **k)\n"
        "connected = []\n"
        "sys.addaudithook(lambda event, args: connected.append(event) if event == 'socket.connect' else None)\n"
        "import photolabel\n"
        "photolabel.load(sys.argv[1], engine=sys.argv[2]).close()\n"
        "import time\n"
        "time.sleep(0.5)\n"  # its client works in a thread
        "if sys.argv[2] == 'openvino':\n"
        "    import openvino\n"
        "    assert callable(openvino.convert_model), 'what others need of OpenVINO is left whole'\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
        "print(looked_up, connected)"
    )
    home = tmp_path / "home"
    home.mkdir()
    # ONNX Runtime's says nothing on CI machines, or where somebody has told it so; and this is neither.
    telling = {"CI", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {**{k: v for k, v in os.environ.items() if k not in telling}, "HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny), runtime],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[] []\n", "")
    assert list(home.iterdir()) == []


def test_no_cache_is_no_reason_not_to_answer(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOLABEL_CACHE", os.devnull + "/nowhere")
    x = pixels(1)
    expected = forward(TINY, he_normal(TINY), x)["predictions"]
    np.testing.assert_allclose(engine.open_engine(tiny)(x), expected, atol=2e-5)


def test_a_closed_engine_says_so(tiny: Path, runtime: str) -> None:
    network = engine.open_engine(tiny, runtime=runtime)
    network.close()
    network.close()
    with pytest.raises(UsageError, match="closed"):
        network(pixels(1))


def test_an_answer_of_nan_is_an_error(tmp_path: Path, runtime: str) -> None:
    """Weights can be finite and their products not."""
    weights = he_normal(TINY)
    kernel, bias = weights["predictions"]
    weights["predictions"] = (kernel * np.float32(1e38), bias)
    path = tmp_path / "huge.onnx"
    path.write_bytes(oracle.tiny_onnx(weights))
    with pytest.raises(InvalidModelError, match="NaN"):
        engine.open_engine(path, runtime=runtime)(pixels(1))


def test_compiling_is_announced_on_a_terminal(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "watched", lambda: True)
    engine.open_engine(tiny)
    assert "compiling tiny for this processor" in capsys.readouterr().err


LAYERS = tuple(layer.name for layer in TINY.layers if layer.kind != "InputLayer" and layer.name != "predictions")


def test_every_layer_is_the_oracles(tiny: Path, runtime: str) -> None:
    """All of them beside the answer, and each alone; maps channels last."""
    x = pixels(2)
    network = engine.open_engine(tiny, cut=engine.Cut(layers=("logits", *LAYERS)), runtime=runtime)
    found = network.run(x)
    expected = forward(TINY, he_normal(TINY), x)
    assert list(found) == ["probabilities", "logits", *LAYERS] == list(network.shapes)
    np.testing.assert_array_equal(network(x), found["probabilities"])
    np.testing.assert_allclose(found["probabilities"], expected["predictions"], atol=2e-5)
    for name in LAYERS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-2)
        assert found[name].flags.c_contiguous and found[name].flags.writeable and found[name].dtype == np.float32
        assert network.shapes[name] == (None, *expected[name].shape[1:])
        alone = engine.open_engine(tiny, cut=engine.Cut(layers=(name,), only=True), runtime=runtime)
        assert list(alone.run(x)) == [name] == list(alone.shapes)
        np.testing.assert_allclose(alone(x), expected[name], rtol=1e-4, atol=1e-2)
    assert network.shape == (None, 32, 32, 3) and network.runtime == runtime and network.device == "CPU"
    assert blobs() == [], "never a second copy of the weights for the sake of a layer"


def test_what_is_channels_last_inside_is_not_turned(tiny: Path, runtime: str) -> None:
    x = pixels(2)
    cut = engine.Cut(layers=("centred", "channels_last", "normalised"))
    found = engine.open_engine(tiny, cut=cut, runtime=runtime).run(x)
    np.testing.assert_allclose(found["centred"], preprocessed(x), atol=1e-4)
    np.testing.assert_allclose(found["normalised"], preprocessed(x), atol=1e-4)
    assert found["channels_last"].shape == (2, 1, 1, 8)


def preprocessed(x: oracle.Array) -> oracle.Array:
    return x[..., ::-1] - np.array(models.CAFFE.mean, np.float32)


@pytest.mark.parametrize("size", [(64, 48), (None, None), (None, 48), (33, 47)])
def test_another_size(tiny: Path, runtime: str, size: tuple[int | None, int | None]) -> None:
    cut = engine.Cut(layers=("block5_pool", "block2_conv1"), only=True, size=size)
    network = engine.open_engine(tiny, cut=cut, runtime=runtime)
    assert network.shape == (None, *size, 3)
    height, width = size[0] or 64, size[1] or 48
    x = np.random.default_rng(3).uniform(0, 255, (2, height, width, 3)).astype(np.float32)
    expected = forward(replace(TINY, top=False, shape=(height, width, 3)), he_normal(TINY), x)
    for name, found in network.run(x).items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-2)


def test_shapes_that_a_file_states_do_not_bind_another_size(tiny: Path, tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "stated.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(tiny)), path)
    cut = engine.Cut(layers=("block5_pool",), only=True, size=(64, 96))
    assert not onnx.load_from_string(cuts.read(path, cut).network).graph.value_info
    assert engine.open_engine(path, cut=cut, runtime=runtime)(np.ones((1, 64, 96, 3), np.float32)).shape == (1, 2, 3, 8)


def test_a_size_that_dense_layers_do_not_take(tiny: Path, runtime: str) -> None:
    with pytest.raises(UsageError, match="cannot be run on pictures of 64 x 96"):
        engine.open_engine(tiny, cut=engine.Cut(size=(64, 96)), runtime=runtime)


def test_a_size_turned_into_pictures_is_no_answer(tmp_path: Path, runtime: str) -> None:
    """A fixed reshape makes four rows of one picture of twice the side."""
    nodes = [onnx.helper.make_node("Reshape", ["pixels", "rows"], ["y"])]
    path = tmp_path / "rows.onnx"
    path.write_bytes(network(nodes, [onnx.helper.make_tensor("rows", onnx.TensorProto.INT64, [2], [-1, 3072])]))
    assert engine.open_engine(path, runtime=runtime)(pixels(2)).shape == (2, 3072)
    running = engine.open_engine(path, cut=engine.Cut(size=(64, 64)), runtime=runtime)
    with pytest.raises(InvalidModelError, match="cannot be run on pixels of shape"):
        running(np.ones((1, 64, 64, 3), np.float32))


def test_what_is_not_asked_for_is_neither_kept_nor_computed(tiny: Path) -> None:
    whole = onnx.load(tiny)
    made = cuts.read(tiny, engine.Cut(layers=("block2_conv1",), only=True))
    part = onnx.load_from_string(made.network)
    assert made.outputs == {"block2_conv1": True} and made.least == (0, 0)
    assert not any("block3" in each.name or "fc" in each.name for each in part.graph.initializer)
    assert len(part.graph.node) < len(whole.graph.node) and part.graph.node[-1].output == ["block2_conv1"]


@pytest.mark.parametrize(
    "cut",
    [
        engine.Cut(layers=("block5_conv1", "fc1", "fc2")),
        engine.Cut(layers=("fc2",), only=True),
        engine.Cut(layers=("block2_conv1",), only=True, size=(None, 64)),
        engine.Cut(size=(32, 32)),
    ],
    ids=lambda cut: ",".join(cut.layers),
)
@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_weights_of_our_own_files_are_copied_as_they_lie(
    tiny: Path, kind: str, cut: engine.Cut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes of it is what comes of the whole file, parsed and written again; and so are the bits."""
    path = tiny if kind == "fp32" else in_int8(tiny, tmp_path)
    parsed, x = cuts.read(path, cut), np.ones((2, 32, 64 if cut.size == (None, 64) else 32, 3), np.float32)
    expected = engine.open_engine(path, cut=cut, precision=kind).run(x)
    monkeypatch.setattr(soundness, "is_ours", lambda path: True)
    monkeypatch.setattr(graph, "check", lambda path: pytest.fail("it is parsed"))
    copied = cuts.read(path, cut)
    assert (copied.outputs, copied.least) == (parsed.outputs, parsed.least)
    one, other = (onnx.load_from_string(each.network).graph for each in (parsed, copied))
    assert [*one.node] == [*other.node] and [*one.input] == [*other.input] and [*one.output] == [*other.output]
    assert [*one.initializer] == [*other.initializer]
    with pytest.raises(UsageError, match="no layer 'fc3'. Close: fc"):
        cuts.read(path, engine.Cut(layers=("fc3",)))
    again = engine.open_engine(path, cut=cut, precision=kind).run(x)
    assert {name: each.tobytes() for name, each in again.items()} == {
        name: each.tobytes() for name, each in expected.items()
    }


def test_a_file_in_the_cache_without_a_name_or_a_record_is_not_ours(tiny: Path) -> None:
    cache, cut = Store(), engine.Cut(layers=("fc2",), only=True)
    for name in ("tiny.onnx", "tiny.onnx.123-abcdef.tmp"):
        cache.folder.mkdir(parents=True, exist_ok=True)
        path = cache.folder / name
        shutil.copy(tiny, path)
        assert not soundness.is_ours(path) and cuts.read(path, cut) == cuts.read(tiny, cut)
    with cache.create("ours.onnx") as file:
        file.write(tiny.read_bytes())
    ours = cache.path("ours.onnx")
    assert soundness.is_ours(ours)
    assert (
        engine.open_engine(ours, cut=cut)(pixels(1)).tobytes() == engine.open_engine(tiny, cut=cut)(pixels(1)).tobytes()
    )
    ours.write_bytes(b"another's")
    with pytest.raises(InvalidModelError):
        cuts.read(ours, cut)


def test_what_an_inner_graph_reads_is_kept(tmp_path: Path, runtime: str) -> None:
    helper, value = onnx.helper, onnx.helper.make_tensor_value_info
    branch = helper.make_graph(
        [helper.make_node("Mul", ["pixels", "two"], ["inner"])], "branch", [], [value("inner", 1, None)]
    )
    nodes = [
        helper.make_node("Add", ["one", "one"], ["two"]),
        helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    constants = [
        helper.make_tensor("one", onnx.TensorProto.FLOAT, [], [1.0]),
        helper.make_tensor("yes", onnx.TensorProto.BOOL, [], [True]),
    ]
    path = tmp_path / "branch.onnx"
    path.write_bytes(network(nodes, constants, output="z"))
    x = pixels(1)
    found = engine.open_engine(path, cut=engine.Cut(layers=("z",), only=True), runtime=runtime)(x)
    np.testing.assert_allclose(found, 2 * x)


def test_a_circle_of_nodes_ends(tmp_path: Path, runtime: str) -> None:
    nodes = [onnx.helper.make_node("Relu", ["b"], ["y"]), onnx.helper.make_node("Relu", ["y"], ["b"])]
    path = tmp_path / "circle.onnx"
    path.write_bytes(network(nodes))
    with pytest.raises(InvalidModelError):
        engine.open_engine(path, cut=engine.Cut(layers=("y", "b")), runtime=runtime)


def network(nodes: list[Any], constants: list[Any] | None = None, output: str = "y") -> bytes:
    """A small network of someone else's."""
    value = onnx.helper.make_tensor_value_info
    drawn = onnx.helper.make_graph(
        nodes, "stranger", [value("pixels", 1, ["N", 32, 32, 3])], [value(output, 1, None)], constants or []
    )
    imports = [onnx.helper.make_opsetid("", 17)]
    made: bytes = onnx.helper.make_model(drawn, opset_imports=imports, ir_version=8).SerializeToString()
    return made


def in_int8(tiny: Path, folder: Path) -> Path:
    path = folder / "tiny-int8.onnx"
    path.write_bytes(quantize.quantize(tiny, pixels(4), describe={"photolabel.precision": "int8"}))
    return path


def test_an_8_bit_network_runs_in_both(tiny: Path, tmp_path: Path, runtime: str) -> None:
    small = in_int8(tiny, tmp_path)
    x = pixels(3)
    running = engine.open_engine(small, precision="int8", runtime=runtime)
    assert running.precision == "int8" == engine.open_engine(small, runtime=runtime).precision
    found, expected = running(x), engine.open_engine(tiny)(x)
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert 0.98 < cosine.min() < 1 - 1e-7, "near, but 8-bit numbers"
    with pytest.raises(UsageError, match="not 8-bit"):
        engine.open_engine(tiny, precision="int8", runtime=runtime)


def test_8_bit_sums_do_not_overflow(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On processors without VNNI they would, quietly: in a network that uses all of its 8 bits."""
    ort = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(quantize, "_WEIGHT_STEPS", 127)
    monkeypatch.setattr(quantize, "_INPUT_STEPS", 255)
    small = in_int8(tiny, tmp_path)
    x = pixels(4)
    plainly = ort.SessionOptions()
    plainly.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # in fp32, each tensor rounded
    (expected,) = ort.InferenceSession(small, plainly, providers=["CPUExecutionProvider"]).run(None, {"pixels": x})
    # Where sums overflow, more than twice this; where a value merely rounds the other way, less than half.
    np.testing.assert_allclose(engine.open_engine(small, runtime="onnxruntime")(x), expected, atol=1.5e-2)


def test_the_second_engine_keeps_fp32_and_its_threads(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ort = pytest.importorskip("onnxruntime")
    seen = sessions(ort, monkeypatch)
    engine.open_engine(tiny, threads=3, runtime="onnxruntime")
    ((_, options, others),) = seen
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.use_deterministic_compute
    for key in ("session.intra_op.allow_spinning", "mlas.enable_gemm_fastmath_arm64_bfloat16"):
        assert options.get_session_config_entry(key) == "0"
    assert others == {"providers": ["CPUExecutionProvider"], "enable_fallback": 0}


def sessions(ort: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any, dict[str, Any]]]:
    """What each session is made with, as they are made."""
    seen: list[tuple[Any, Any, dict[str, Any]]] = []
    original = ort.InferenceSession

    def spy(network: object, options: object, **others: object) -> object:
        seen.append((network, options, others))
        return original(network, options, **others)

    monkeypatch.setattr(ort, "InferenceSession", spy)
    return seen


def test_bf16_is_openvino_s(tiny: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(UsageError, match="ONNX Runtime does not compute in it"):
        engine.open_engine(tiny, precision="bf16", runtime="onnxruntime")


def test_an_engine_that_is_not_installed(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # which stands for: not installed
    with pytest.raises(MissingExtraError, match=r"pip install 'photolabel\[onnxruntime\]'"):
        engine.open_engine(tiny, runtime="onnxruntime")


class Session:
    """Stands for ONNX Runtime's on a machine with, or without, a GPU that works."""

    def __init__(self, made: Any, providers: list[str]) -> None:
        self._made, self._providers = made, providers

    def get_providers(self) -> list[str]:
        return self._providers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """An ONNX Runtime made for CUDA. What it is asked for; what comes of it is told by a first entry.

    A driver that is missing shows in either of two ways: no session, or one that has only the processor.
    """
    ort = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libcudnn"), raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    original, asked = ort.InferenceSession, []

    def make(network: object, options: object, *, providers: list[Any], **others: object) -> Any:
        outcome = asked[0]
        asked.append(providers)
        if len(providers) == 2 and outcome == "raises":
            raise RuntimeError("libcudnn.so.9: cannot open")
        made = original(network, options, providers=["CPUExecutionProvider"], **others)
        return Session(made, [x[0] for x in providers[:1]] if outcome == "works" else ["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "InferenceSession", make)
    return asked


def test_a_gpu_is_used_where_there_is_one(tiny: Path, cuda: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    cuda.append("works")
    running = engine.open_engine(tiny, runtime="onnxruntime")
    assert running.device == "CUDA" and running(pixels(1)).shape == (1, 10)
    name, options = cuda[1][0]
    assert name == "CUDAExecutionProvider" and options["use_tf32"] == "0"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("outcome", ["raises", "has it not"])
def test_a_gpu_that_does_not_work_is_told(
    tiny: Path, tmp_path: Path, cuda: list[Any], outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda.append(outcome)
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES=-1"):
        engine.open_engine(tiny, runtime="onnxruntime")
    path = tmp_path / "broken.onnx"
    path.write_bytes(network([onnx.helper.make_node("NoSuchOperator", ["pixels"], ["y"])]))
    with pytest.raises(InvalidModelError, match="cannot be compiled"):
        engine.open_engine(path, runtime="onnxruntime")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert engine.open_engine(tiny, runtime="onnxruntime").device == "CPU"


@pytest.mark.parametrize("suffix", [".onnx", ".ort"])
@pytest.mark.parametrize("cut", [engine.WHOLE, engine.Cut(layers=("fc2",))], ids=["whole", "cut"])
def test_no_runtime_opens_what_was_not_looked_into(
    tiny: Path, tmp_path: Path, runtime: str, suffix: str, cut: engine.Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights in other files, any of the machine's."""
    (tmp_path / "secret").write_bytes(bytes(64))
    model = onnx.load(tiny)
    tensor = next(each for each in model.graph.initializer if each.name == "fc2/bias")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    path = tmp_path / f"hostile{suffix}"
    path.write_bytes(model.SerializeToString())
    module, name = {"openvino": ("openvino", "Core.read_model"), "onnxruntime": ("onnxruntime", "InferenceSession")}[
        runtime
    ]
    monkeypatch.setattr(f"{module}.{name}", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(InvalidModelError, match="other files"):
        engine.open_engine(path, runtime=runtime, cut=cut)


def test_the_suffix_does_not_tell_what_a_file_is(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "tiny.ort"
    shutil.copy(tiny, path)
    x = pixels(1)
    found = engine.open_engine(path, runtime="onnxruntime")(x)
    np.testing.assert_allclose(found, engine.open_engine(tiny)(x), atol=2e-5)


def test_a_file_has_no_say_in_how_it_is_run(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime can take its options out of a network's metadata: one of them writes a file."""
    pytest.importorskip("onnxruntime")
    model = onnx.load(tiny)
    told = '{"session_options": {"enable_profiling": 1}}'
    model.metadata_props.add(key="ort_config", value=told)
    path = tmp_path / "told.onnx"
    path.write_bytes(model.SerializeToString())
    monkeypatch.setenv("ORT_LOAD_CONFIG_FROM_MODEL", "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="unset"):
        engine.open_engine(path, runtime="onnxruntime")
    assert [each.name for each in tmp_path.iterdir()] == ["told.onnx"]


@pytest.mark.parametrize("cut", [engine.WHOLE, engine.Cut(layers=("y",))], ids=["whole", "cut"])
@pytest.mark.parametrize("bad", ["NoSuchOperator", "Reshape"])
def test_a_runtime_s_own_words_stay_its_own(
    tmp_path: Path, runtime: str, bad: str, cut: engine.Cut, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither in the error nor on the streams."""
    path = tmp_path / "bad.onnx"
    inputs = ["pixels"] if bad != "Reshape" else ["pixels", "shape"]
    constants = [onnx.helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [7, 11])]
    path.write_bytes(network([onnx.helper.make_node(bad, inputs, ["y"])], constants))
    with pytest.raises(InvalidModelError, match="expected") as caught:
        engine.open_engine(path, runtime=runtime, cut=cut)(pixels(1))
    assert not re.search(r"[/]onnxruntime|\.(cc|cpp|h)\b|ONNXRuntimeError", str(caught.value))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shape", [(1, 33, 32, 3), (1, 32, 32), (1, 32, 32, 4)], ids=str)
def test_pixels_that_do_not_fit(tiny: Path, runtime: str, shape: tuple[int, ...], capfd: Any) -> None:
    with pytest.raises(InvalidModelError, match="cannot be run on pixels of shape"):
        engine.open_engine(tiny, runtime=runtime)(np.zeros(shape, np.float32))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("layer", ["fc3", "fc2/lineal", "xyz"])
def test_a_layer_that_is_not_there_is_a_usage_error(tiny: Path, runtime: str, layer: str) -> None:
    with pytest.raises(UsageError) as caught:
        engine.open_engine(tiny, cut=engine.Cut(layers=(layer,)), runtime=runtime)
    said = {
        "fc3": "Close: fc2, fc1",
        "fc2/lineal": "Close: fc2/linear, fc1/linear",
        "xyz": "Its last ones: channels_last, flatten, fc1, fc2, logits, probabilities.",
    }[layer]
    assert str(caught.value).startswith(f"the network has no layer {layer!r}. {said}")
    if layer == "fc3":
        assert "/" not in str(caught.value), "layers first, not their steps"


@pytest.mark.parametrize(
    "options",
    [
        {"only": True},
        {"layers": "fc2"},
        {"layers": ("fc2", 3)},
        {"size": (0, 5)},
        {"size": (32,)},
        {"size": (True, 5)},
        {"size": (2.5, 5)},
    ],
    ids=str,
)
def test_a_cut_that_makes_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="expected"):
        engine.Cut(**options)


def test_the_second_output_of_a_network_is_left_out(tmp_path: Path, runtime: str) -> None:
    model = onnx.load_from_string(
        network([onnx.helper.make_node("Relu", ["pixels"], ["y"]), onnx.helper.make_node("Neg", ["y"], ["other"])])
    )
    model.graph.output.append(onnx.helper.make_tensor_value_info("other", 1, None))
    path = tmp_path / "two.onnx"
    path.write_bytes(model.SerializeToString())
    assert list(engine.open_engine(path, runtime=runtime).run(pixels(1))) == ["y"]


def test_words_are_no_answer(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "words.onnx"
    model = onnx.load_from_string(
        network([onnx.helper.make_node("Cast", ["pixels"], ["y"], to=onnx.TensorProto.STRING)])
    )
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidModelError, match="expected numbers"):
        engine.open_engine(path, runtime="onnxruntime")(pixels(1))
