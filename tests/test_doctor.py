"""The doctor: all is well here, and each thing that is not is found without hiding the others."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from photolabel import decoding, doctor, engine, loading, models, network
from photolabel.errors import CorruptPhotoError, InvalidModelError
from photolabel.store import Store

SECOND = ["engine"] if importlib.util.find_spec("onnxruntime") else []
CHECKS = ["photolabel", "python", *doctor.PACKAGES.values(), "processor", "engine", *SECOND]
LATER = ["JPEG photos", "WebP photos", "AVIF photos", "HEIC photos", "cache", "bundled model", "answer", "network"]


def found(report: doctor.Report, verdict: str) -> list[str]:
    return [each.check for each in report.findings if each.verdict == verdict]


def test_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network.Requests, "get", lambda *_, **__: pytest.fail("a connection nobody asked for"))
    report = doctor.examine()
    assert found(report, "ok") == CHECKS + LATER, report
    assert not report.failed
    assert report.record()["findings"][0] == {
        "check": "photolabel", "verdict": "ok", "says": loading.__package__ and doctor.__version__, "remedy": ""
    }  # fmt: skip


def only_failure(report: doctor.Report, check: str) -> doctor.Finding:
    (each,) = [x for x in report.findings if x.verdict == "FAILED"]
    assert each.check == check and each.remedy and report.failed
    assert {x.check for x in report.findings} >= {"photolabel", "network"}, "the others are still looked at"
    return each


def test_a_damaged_bundled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "BUNDLED_DIGEST", "sha256:" + 64 * "0")
    failed = [x for x in doctor.examine().findings if x.verdict == "FAILED"]
    assert [x.check for x in failed] == ["bundled model", "answer"], "a damaged model is not asked either"
    assert all("damaged" in x.says for x in failed)


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOLABEL_CACHE", os.devnull + "/nowhere")
    each = only_failure(doctor.examine(), "cache")
    assert "cannot be written" in each.says and "PHOTOLABEL_CACHE" in each.remedy


def test_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = doctor.shutil.disk_usage("/")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage._replace(free=10**9))
    (each,) = doctor.cache()
    assert each.verdict == "warning" and "1,000 MB free" in each.says


@pytest.mark.parametrize(("form", "package"), [("AVIF", "pillow"), ("HEIC", "pi-heif")])
@pytest.mark.parametrize("how", ["missing", "wrong"])
def test_a_decoder_that_does_not_work(monkeypatch: pytest.MonkeyPatch, form: str, package: str, how: str) -> None:
    original = decoding.decode

    def decode(data: bytes, limits: decoding.Limits) -> object:
        if decoding.sniff(data) != form:
            return original(data, limits)
        if how == "missing":
            raise CorruptPhotoError("no decoder")
        return original(data, limits).point(lambda level: level // 2)

    monkeypatch.setattr(decoding, "decode", decode)
    assert package in only_failure(doctor.examine(), f"{form} photos").remedy


@pytest.mark.parametrize(("name", "value"), [("ANSWER", "cup"), ("PROBABILITY", doctor.PROBABILITY + 0.006)])
def test_a_wrong_answer(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    monkeypatch.setattr(doctor, name, value)
    assert "expected" in only_failure(doctor.examine(), "answer").says


def test_a_model_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise InvalidModelError("the network is broken.")

    monkeypatch.setattr(loading, "load", broken)
    assert only_failure(doctor.examine(), "answer").says == "the network is broken."


def test_an_engine_that_does_not_run_hides_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("/build/secret.cpp:15 at 0xdeadbeef")

    monkeypatch.setattr(engine, "processor", broken)
    report = doctor.examine()
    assert "processor" in found(report, "FAILED") and "secret" not in str(report)


def test_the_second_engine_is_told_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = pytest.importorskip("onnxruntime")
    (each,) = doctor.second_engine()
    assert each.verdict == "ok" and each.says == f"ONNX Runtime {runtime.__version__} on CPU"
    monkeypatch.setattr(runtime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert doctor.second_engine()[0].says.endswith("on CUDA")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # which stands for: not installed
    assert doctor.second_engine() == []


def test_a_second_engine_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.onnxruntime, "is_installed", lambda: True)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert r"photolabel[onnxruntime]" in only_failure(doctor.examine(), "second engine").says


@pytest.mark.parametrize("error", [ImportError("no"), OSError("a library is missing")])
def test_a_package_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    original = importlib.import_module

    def failing(name: str, package: str | None = None) -> object:
        if name == "h5py":
            raise error
        return original(name, package)

    monkeypatch.setattr(importlib, "import_module", failing)
    assert "h5py" in only_failure(doctor.examine(), "h5py").remedy


def test_what_lies_in_the_cache() -> None:
    cache = Store()
    weights = models.known()["vgg16"].weights
    assert weights
    cache.folder.mkdir(exist_ok=True)
    cache.path(weights.name).write_bytes(b"cut short")
    (cache.folder / f"{weights.name}.partial").write_bytes(b"begun")
    report = doctor.examine()
    assert found(report, "warning") == ["cached model", "leftovers"] and not report.failed
    remedies = [x.remedy for x in report.findings if x.verdict == "warning"]
    assert remedies == ["photolabel models verify vgg16", "photolabel models clean"]
    assert cache.path(weights.name).exists(), "the doctor changes nothing"


def test_settings_of_the_network_without_their_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "PHOTOLABEL_MIRROR": "https://me:secret@mirror.test/secret/",
        "https_proxy": "http://me:secret@proxy.test:3128",
        "NO_PROXY": "localhost",
        "HTTP_PROXY": "http://[secret",
    }
    (each,) = doctor.network_settings(environment)
    assert "secret" not in each.says
    for shown in ("FORBIDS", "https://mirror.test", "HTTPS_PROXY http://proxy.test", "NO_PROXY localhost"):
        assert shown.lower() in each.says.lower()


class Reply:
    headers: Mapping[str, str] = {}

    def __init__(self, status: int) -> None:
        self.status, self.closed = status, False

    def read(self, limit: int) -> bytes:
        raise AssertionError("a body may be endless")

    def close(self) -> None:
        self.closed = True


class Network:
    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.replies: list[Reply] = []

    def get(self, url: str, headers: Mapping[str, str], *, seconds: float) -> Reply:
        assert headers == {"Range": "bytes=0-0"} and seconds <= 10
        self.asked.append(url)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        self.replies.append(Reply(answer))
        return self.replies[-1]


def test_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Network()
    (each,) = doctor.hosts(silent)
    assert each.verdict == "warning" and silent.asked == [], "PHOTOLABEL_OFFLINE holds here too"
    monkeypatch.delenv("PHOTOLABEL_OFFLINE")
    for answers, verdicts in (
        ((206, 302, 200), ["ok", "ok", "ok"]),
        ((206, network.GiveUpError("no such host"), 206), ["ok", "warning", "ok"]),
        ((network.TryAgainError("timed out"), 404, 500), ["FAILED", "FAILED", "FAILED"]),
    ):
        net = Network(*answers)
        assert [x.verdict for x in doctor.hosts(net)] == verdicts
        assert len(net.asked) == 3 and all(reply.closed for reply in net.replies)
    monkeypatch.setenv("PHOTOLABEL_MIRROR", "https://mirror.test/x")
    net = Network(200)
    assert [x.verdict for x in doctor.hosts(net)] == ["ok"]
    assert net.asked[0].startswith("https://mirror.test/x/vgg16_weights")


def test_the_photo_is_the_sample() -> None:
    origins = (Path(doctor.__file__).parent / "data" / "ORIGINS.md").read_text("utf-8")
    import hashlib

    for path in (Path(doctor.__file__).parent / "data" / "doctor").iterdir():
        assert f"| `doctor/{path.name}` |" in origins and hashlib.sha256(path.read_bytes()).hexdigest() in origins
