"""What the benches write: each its own section of the page, and a bar that is missed said so."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from conftest import ROOT

BENCH = ROOT / "bench"
if not BENCH.is_dir():
    pytest.skip("the benches are not beside these tests", allow_module_level=True)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # the benches import each other by these names, and dataclasses look them up
    spec.loader.exec_module(module)
    return module


common = load("common")
precisions = load("precisions")
import_weights = load("import_weights")
folders = load("folders")
for needed in ("decode_memory", "prepared", "folder_photos"):
    load(needed)
pipeline = load("pipeline")


def test_a_section_replaces_its_own_only() -> None:
    page = "# Benchmarks\n\nOf all.\n\n## One\n\nold\n\n| a | b |\n\n## One more\n\nkept\n"
    new = common.with_section(page, "One", "new\n")
    assert new == "# Benchmarks\n\nOf all.\n\n## One\n\nnew\n\n## One more\n\nkept\n"
    assert common.with_section(new, "One", "new") == new
    assert common.with_section(new, "Third", r"\1 as it is") == f"{new}\n## Third\n\n\\1 as it is\n"


def test_a_missed_bar_is_said_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Benchmarks\n", "utf-8")
    monkeypatch.setattr(common, "PAGE", page)
    bars = [common.Bar("a", "1", "2", True), common.Bar("b", "not here", "2", None), common.Bar("c", "3", "2", False)]
    printing, writing = argparse.Namespace(print=True), argparse.Namespace(print=False)
    assert common.report("A", ["said"], bars[:2], args=printing)
    assert page.read_text("utf-8") == "# Benchmarks\n", "only printed"
    assert not common.report("A", ["said"], bars, args=writing)
    written = page.read_text("utf-8")
    assert "| b | not here | 2 | not judged |" in written and "| c | 3 | 2 | **missed** |" in written


def measured(**seconds: float) -> dict[str, object]:
    """Contestants of which each takes so long for a photo; those not named are missing."""
    everyone = precisions.contestants()
    for kind, each in everyone.items():
        if (took := seconds.get(kind.replace(":", "_"))) is None:
            each.away = "missing"
        else:
            each.seconds = {batch: [took * batch] for batch in precisions.TIMES}
    return everyone


def test_ours_is_judged_beside_the_quickest_peer() -> None:
    everyone = measured(
        photolabel_fp32=1.0, photolabel_int8=0.3, openvino_fp32=0.96, onnxruntime_fp32=2.0,
        nncf_PERFORMANCE=0.25, nncf_MIXED=0.5, keras_jax=1.3, keras_tensorflow=1.1,
    )  # fmt: skip
    bars = {bar.what: bar for bar in precisions.judged(everyone)}
    beside = bars["fp32, than the faster of OpenVINO and ONNX Runtime, batch of 16"]
    assert beside.reached and beside.found == "0.96 (OpenVINO)", "within 5 % is no slower"
    assert bars["int8, than fp32, batch of 1"].reached
    assert bars["int8, than NNCF's faster, batch of 1"].reached is False
    keras = bars["fp32, than Keras' fastest, batch of 1"]
    assert keras.reached is False and keras.found.startswith("1.10 (Keras predict, TensorFlow")
    assert "Keras predict, PyTorch missing" in keras.found, "a peer that is missing is named"
    assert all(bar.reached is None for what, bar in bars.items() if what.startswith("bf16"))


def test_without_any_peer_nothing_is_reached() -> None:
    bars = precisions.judged(measured(photolabel_fp32=1.0, photolabel_int8=0.1))
    assert all(bar.reached is False for bar in bars if "Keras" in bar.what and bar.what.startswith("int8"))


def test_another_network_is_not_compared() -> None:
    everyone = measured(photolabel_fp32=1.0, openvino_fp32=1.0)
    for kind, answer in (("photolabel:fp32", [0.2, 0.8]), ("openvino:fp32", [0.8, 0.2])):
        everyone[kind].answer = answer
    with pytest.raises(SystemExit, match="OpenVINO: its probabilities differ"):
        precisions.check_alike(everyone, everyone.values())


def paced(**paces: float) -> dict[str, object]:
    """Contestants that go through either folder at so many photos a second; those not named are missing."""
    everyone = folders.contestants()
    for name, each in everyone.items():
        if (pace := paces.get(name.replace("-", "_"))) is None:
            each.tool = common.Lasting(each.tool.name, each.tool.kind, each.tool.environment, away="missing")
        else:
            each.paces = {size: [pace] for size in folders.SIZES}
    return everyone


def test_folders_are_judged_beside_the_loop_and_the_quickest_in_batches() -> None:
    everyone = paced(fp32=20.0, int8=75.0, loop=10.0, batched=20.0, batched_jax=25.0, ncnn=30.0)
    bars = {bar.what: bar for bar in folders.judged(everyone)}
    assert bars["int8, than the loop, ImageNet-size"].reached, "exactly what is asked"
    assert bars["fp32, than the loop, ImageNet-size"].found == "2.00 (Keras loop, TensorFlow)"
    batched = bars["int8, than Keras' fastest in batches, ImageNet-size"]
    assert batched.reached is False and batched.found == "3.00 (Keras batched, JAX)"
    assert bars["int8, than the loop, camera-size"].reached
    assert all(bar.reached is None for what, bar in bars.items() if what.startswith("bf16"))


def test_a_folder_without_a_loop_reaches_nothing() -> None:
    bars = folders.judged(paced(fp32=20.0, bf16=40.0, int8=75.0, batched=1.0))
    for bar in bars:
        assert bar.reached is ("batches" in bar.what), bar
        assert "missing" in bar.found, "whoever is missing is named"


def test_a_peer_that_is_ahead_is_said_to_be() -> None:
    said = " ".join(folders.ahead(paced(fp32=20.0, int8=75.0, loop=10.0, ncnn=30.0)))
    assert "ImageNet-size: ncnn loop (1.50 times as fast)." in said and "Keras" not in said and "int8" not in said
    assert not list(folders.ahead(paced(fp32=20.0, ncnn=19.0)))


def test_other_classes_are_not_compared() -> None:
    everyone = paced(fp32=1.0, ncnn=1.0, loop=1.0, batched=1.0)
    everyone["fp32"].tool.answer, everyone["ncnn"].tool.answer = {"folder": [1, 2]}, {"loop": [1, 2]}
    everyone["loop"].tool.answer = {"loop": [1, 3], "batched": [1, 3]}  # scaled otherwise: no wonder
    folders.check_alike(everyone)
    everyone["ncnn"].tool.answer = {"loop": [1, 3]}
    with pytest.raises(SystemExit, match="ncnn loop finds classes"):
        folders.check_alike(everyone)


def test_the_pipeline_is_judged_by_what_there_is_to_do() -> None:
    work = [pipeline.Work(1000, 2, decoding=6, network=34, used=39, wall=wall) for wall in (21.0, 21.5, 90.0)]
    fewer, more = (
        pipeline.Memory(n, pss=p, marks=p + 50, files=18, threads=12) for n, p in ((1000, 600), (10000, 629))
    )
    bars = pipeline.judged(work, fewer, more)
    assert [bar.reached for bar in bars] == [True] * 6
    assert bars[0].found == "1.07" and bars[1].found == "91 %", "medians"
    more.marks, more.pss, more.files, more.threads = 690, 701, 19, 11
    assert [bar.reached for bar in pipeline.judged(work, fewer, more)[2:]] == [False] * 4
    slower = [pipeline.Work(1000, 2, decoding=6, network=34, used=39, wall=22.5)]
    assert [bar.reached for bar in pipeline.judged(slower, fewer, more)[:2]] == [False, False]


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells what processes hold")
def test_memory_is_that_of_all_processes_together(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import subprocess, sys\n"
        "hold = 'held = bytearray(%d << 20); print(1, flush=True); input()'\n"
        "child = subprocess.Popen([sys.executable, '-c', hold % 40], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "held = bytearray(20 << 20)\n"
        "print(3, flush=True)\n"
        "input()\n"
        "child.communicate(b'\\n')\n",
        "utf-8",
    )
    found = pipeline.remembered([sys.executable, str(program)], {}, 3)
    assert 60 < found.pss < 120 and 60 < found.marks < 140
    assert found.threads == 2 and found.files >= 8
    with pytest.raises(SystemExit, match="3 of 4 photos were named"):
        pipeline.remembered([sys.executable, str(program)], {}, 4)


def test_every_format_has_a_writer_and_a_section() -> None:
    import forms

    assert {form for form, _ in import_weights.FORMATS.values()} <= set(forms.FORMS)
    page = (BENCH.parent / "docs" / "benchmarks.md").read_text("utf-8")
    for title in ("Reading photos", "Whole processes", "Precisions", "Agreement of precisions", "Folders", "Pipeline",
                  "Importing weights"):  # fmt: skip
        assert f"\n## {title}\n" in page
