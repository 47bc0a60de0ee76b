"""What lies in the cache: listed without hashing, and nothing removed that is another's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import photolabel
from photolabel import artefacts, engine, keeping, models, records
from photolabel.errors import (
    BusyError,
    InvalidModelError,
    MissingWeightsError,
    UnknownModelError,
    UsageError,
    WeightsMismatchError,
)
from photolabel.store import Store

import forms
import oracle
import servers
from oracle import tiny_model
from pictures import PNG
from published import flip, weights_file

TAG = "0123456789abcdef"
OLD = time.time() - 40 * 86400


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> models.Model:
    """A known model `tiny`; nothing of it is here."""
    model = replace(tiny_model(), weights=servers.asset("http://127.0.0.1:9/", body=b"weights", name="tiny.h5"))
    table = {**models.known(), "tiny": model}
    monkeypatch.setattr(models, "known", lambda: table)
    return model


def put(name: str, data: bytes = b"data", *, recorded: bool = True, folder: str = "") -> Path:
    store = Store(Store().folder / folder)
    store.folder.mkdir(parents=True, exist_ok=True)
    if recorded:
        with store.create(name) as file:
            file.write(data)
    else:
        (store.folder / name).write_bytes(data)
    return store.folder / name


def entry(name: str) -> keeping.Entry:
    return {each.name: each for each in keeping.entries()}[name]


def here() -> set[str]:
    """The files in the cache, but for locks."""
    folder = Store().folder
    return {str(x.relative_to(folder)) for x in folder.rglob("*") if x.is_file() and x.suffix != ".lock"}


# -- list


def test_states(known: models.Model) -> None:
    assert entry("tiny").here == "no" and entry("tiny").size == 0
    path = put(artefacts.published_name(known))
    assert entry("tiny").here == "yes" and entry("tiny").files == ((path, 4),)
    path.write_bytes(b"other")
    assert entry("tiny").here == "changed" and not entry("tiny").record()["installed"]
    path.unlink()
    assert known.weights
    download = put(known.weights.name, b"weights")
    assert entry("tiny").here == "yes" and entry("tiny").files == ((download, 7),)
    download.unlink()
    copy = Path(os.environ["KERAS_HOME"]) / "models" / known.weights.name
    copy.parent.mkdir()
    copy.write_bytes(b"weights")
    assert entry("tiny").here == "Keras' copy" and entry("tiny").size == 0
    copy.write_bytes(b"of another size")
    assert entry("tiny").here == "no"


def test_a_list_hashes_nothing_and_compiles_nothing(
    known: models.Model, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping.bring("mine", tiny)
    put(artefacts.published_name(known)).write_bytes(b"changed")
    put(f"x-{TAG}-fp32-2t-{TAG}.blob")
    put("notes.txt", recorded=False)
    put("x.h5.partial", recorded=False)
    put(f"{TAG * 2}.json", folder="calibrations")
    monkeypatch.setattr(records, "hash_of", lambda *_: pytest.fail("hashed"))
    monkeypatch.setattr("photolabel.store.hash_of", lambda *_: pytest.fail("hashed"))
    monkeypatch.setattr(engine, "processor", lambda *_: pytest.fail("OpenVINO was started"))
    assert [each.name for each in keeping.entries()][-2:] == ["tiny", "mine"]
    assert {x.path.name for x in keeping.unknown()} == {f"x-{TAG}-fp32-2t-{TAG}.blob", "notes.txt", "x.h5.partial"}


def test_size_counts_compiled_networks_of_that_model_only(known: models.Model, tiny: Path) -> None:
    keeping.bring("tiny-mine", tiny)
    path = put(artefacts.published_name(known))
    blob = put(f"{path.stem}-{TAG}-fp32-2t-{TAG}.blob")
    other = put(f"tiny-mine-{TAG}-fp32-2t-{TAG}.blob")
    put(f"tinyother-{TAG}.onnx")
    assert {x for x, _ in entry("tiny").files} == {path, blob}
    assert {x for x, _ in entry("tiny-mine").files} == {other, models.own_store().path("tiny-mine.onnx")}


# -- import


def test_an_onnx_file_under_a_name(tiny: Path) -> None:
    path = keeping.bring("mine", tiny)
    assert path.read_bytes() == tiny.read_bytes()
    found = models.resolve("mine")
    assert found.name == "mine" and found.labels == tiny_model().labels
    assert [name for name, sound in artefacts.verify(found) if sound] == [path]
    with pytest.raises(UnknownModelError, match=r"expected one of .*, mine, or.* Did you mean mine"):
        models.resolve("mien")


def test_weights_under_a_name(known: models.Model, tmp_path: Path) -> None:
    file = weights_file(tmp_path / "w.h5")
    keeping.bring("mine", file, model="tiny")
    file.unlink()
    with photolabel.load("mine") as classifier:
        assert classifier.model.name == "mine" and classifier.model.accuracy is None
        assert "user's own" in classifier.model.source


@pytest.mark.parametrize("form", ["torch zip", "safetensors", "npz"])
def test_weights_under_a_name_look_at_photos_as_they_do_by_their_path(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's formats are of torchvision's training, which takes its pixels otherwise than Oxford's."""
    table = dict(models.known())
    for name in ("vgg16", "vgg16-torchvision"):
        spec = table[name].spec
        assert spec
        few = tuple(tuple((side, 2) for side, _ in block) for block in spec.blocks)
        spec = replace(spec, blocks=few, hidden=(6, 5), classes=4, shape=(32, 32, 3))
        recipe = replace(oracle.TINY_RECIPE, size=32)
        table[name] = replace(table[name], spec=spec, labels=oracle.TINY_LABELS[:4], recipes=(recipe,))
    monkeypatch.setattr(models, "known", lambda: table)
    path = forms.write(tmp_path / "w", form, oracle.he_normal(spec), spec)
    keeping.bring("mine", path)
    with photolabel.load("mine") as kept, photolabel.load(weights=path) as named:
        assert kept.model.normalisation == named.model.normalisation
        assert kept.classify(PNG, top=4).labels == named.classify(PNG, top=4).labels


@pytest.mark.parametrize(
    "name", ["vgg16", "VGG16", models.BUNDLED, "", ".", "../x", "/x", "a/b", "a\\b", "a\0", "x" * 41, "é", "-x",
             "a.onnx", f"vgg16-{TAG}", "nul", "a\n"],
)  # fmt: skip
def test_names_that_are_refused(tiny: Path, name: str) -> None:
    with pytest.raises(UsageError):
        keeping.bring(name, tiny)
    assert here() == set()


def test_a_name_is_given_once(tiny: Path, tmp_path: Path) -> None:
    keeping.bring("mine", tiny)
    other = tmp_path / "other.onnx"
    other.write_bytes(oracle.tiny_onnx(oracle.he_normal(oracle.TINY, 9)))
    with pytest.raises(UsageError, match="models remove mine"):
        keeping.bring("mine", other)
    assert models.own_store().path("mine.onnx").read_bytes() == tiny.read_bytes()


def test_what_cannot_be_imported(known: models.Model, tiny: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no network")
    unsound = tmp_path / "unsound.onnx"
    weights = oracle.he_normal(oracle.TINY)
    weights["fc1"][1][0] = float("nan")
    unsound.write_bytes(oracle.tiny_onnx(weights))
    for path, model, error, says in (
        (bad, None, InvalidModelError, "bad.onnx"),
        (unsound, None, InvalidModelError, "unsound.onnx: a weight holds NaN"),
        (tmp_path / "missing", None, MissingWeightsError, "no such file"),
        (tmp_path / ("x" * 5000), None, MissingWeightsError, "no such file"),
        (tiny, "vgg16", UsageError, "no --model"),
        (
            weights_file(tmp_path / "w.h5"),
            models.BUNDLED,
            UsageError,
            "one of vgg16, .*, tiny",
        ),
        (
            weights_file(tmp_path / "w.h5"),
            "nope",
            UsageError,
            "one of vgg16, .*, tiny",
        ),
        (weights_file(tmp_path / "v.h5", without="fc1"), "tiny", WeightsMismatchError, "fc1"),
    ):
        with pytest.raises(error, match=says) as caught:
            keeping.bring("mine", path, model=model)
        assert ".tmp" not in str(caught.value)
    assert not any(name.startswith("imported") for name in here())


def test_a_damaged_import_is_never_used(tiny: Path) -> None:
    path = keeping.bring("mine", tiny)
    flip(path)
    with pytest.raises(InvalidModelError, match="damaged.*models remove mine"):
        photolabel.load("mine")
    assert entry("mine").here == "changed"


# -- remove


def test_remove_takes_that_model_only(known: models.Model, tiny: Path) -> None:
    keeping.bring("tiny-mine", tiny)
    path = put(artefacts.published_name(known))
    assert known.weights
    gone = [path, put(f"{path.stem}-{TAG}-fp32-2t-{TAG}.blob"), put(known.weights.name, b"weights")]
    gone.append(put(f"{known.weights.name}.partial", recorded=False))
    stays = {f"tiny-mine-{TAG}-fp32-2t-{TAG}.blob", f"tinyother-{TAG}.onnx", "notes.txt"}
    for name in stays:
        put(name)
    copy = Path(os.environ["KERAS_HOME"]) / "models" / known.weights.name
    copy.parent.mkdir()
    copy.write_bytes(b"weights")
    freed = keeping.remove("tiny")
    assert sorted(x for x, _ in freed) == sorted(gone) and sum(size for _, size in freed) == 4 + 4 + 7 + 4
    assert here() == {*stays, *(f"{x}.record.json" for x in stays), "imported/tiny-mine.onnx",
                      "imported/tiny-mine.onnx.record.json"}  # fmt: skip
    assert copy.exists() and str(copy) in keeping.spared("tiny")[0]
    assert len(keeping.remove("tiny-mine")) == 2 and entry("tiny").here == "Keras' copy"
    assert "mine" not in str(models.own())


def test_keras_folder_as_the_cache_keeps_its_files(known: models.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(Path(os.environ["KERAS_HOME"]) / "models"))
    assert known.weights
    copy = put(known.weights.name, b"weights")
    put(artefacts.published_name(known))
    assert not [x for x in keeping.leftovers(everything=True) if x.removable]
    assert keeping.remove("tiny") and copy.exists()


def test_the_bundled_file_stays() -> None:
    photolabel.load(models.BUNDLED).close()
    ((path, _),) = keeping.remove(models.BUNDLED)
    assert path.suffix == ".blob" and not path.exists()
    bundled = models.known()[models.BUNDLED].path
    assert bundled and bundled.exists() and str(bundled) in keeping.spared(models.BUNDLED)[0]


@pytest.mark.parametrize("name", ["nope", "../x", "", "*", "/etc/passwd"])
def test_an_unknown_model_cannot_be_removed(tiny: Path, name: str) -> None:
    keeping.bring("mine", tiny)
    with pytest.raises(UnknownModelError, match="mine"):
        keeping.remove(name)
    assert len(here()) == 2


HOLD = """
import sys, time
from pathlib import Path
from photolabel.store import Store
with Store(Path(sys.argv[1])).lock(sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_what_another_process_holds_stays(known: models.Model) -> None:
    path = put(artefacts.published_name(known))
    path.with_name(f"{path.name}.record.json").unlink()
    partial, free = put("x.h5.partial", recorded=False), put("y.h5.partial", recorded=False)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, str(Store().folder), name], stdout=subprocess.PIPE, env=environment
        )
        for name in (path.name, "x.h5")
    ]
    try:
        for holder in holders:
            assert holder.stdout and holder.stdout.readline() == b"held\n"
        with path.open("r+b") as file:  # changed, so that its check must fail
            file.write(b"D")
        gone, busy = keeping.clean()
        assert [x.path for x in gone] == [free] and partial.exists()
        assert partial in [x.path for x in busy]
        with pytest.raises(BusyError, match="another process"):
            keeping.remove("tiny")
        assert path.exists()
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()
    keeping.remove("tiny")
    keeping.clean()
    assert here() == set()


def test_remove_is_all_or_nothing(known: models.Model) -> None:
    assert known.weights
    artefact, download = put(artefacts.published_name(known)), put(known.weights.name, b"weights")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLD, str(Store().folder), download.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError):
            keeping.remove("tiny")
        holder.kill()
    assert artefact.exists() and download.exists()


# -- clean


def test_clean_takes_leftovers_and_nothing_else(known: models.Model, tiny: Path) -> None:
    cache = Store()
    tag = engine.processor().tag
    keeping.bring("mine", tiny)
    artefact = put(artefacts.published_name(known))
    record = cache.recorded(artefact.name)
    assert record and known.weights
    network = record.digest[7:23]
    good = {
        artefact.name,
        put(f"{artefact.stem}-{network}-fp32-2t-{tag}.blob").name,
        put(f"stranger-{TAG}-fp32-2t-{tag}.blob").name,
        "imported/mine.onnx",
    }
    put("0123abcd.lock", recorded=False, folder="runs")  # of a run of classify, which is nothing to speak of
    good |= {f"calibrations/{put(TAG * 2 + '.json', folder='calibrations').name}"}
    good |= {f"undo/{put('20260101T000000000000-0123abcd.jsonl', recorded=False, folder='undo').name}"}
    others = {put(name, recorded=False).name for name in ("notes.txt", "x.onnx", "x.blob", "a b.partial")}
    bad = {
        put("x.h5.partial", recorded=False): "unfinished download",
        put("x.h5.0123abcd.partial", recorded=False): "unfinished download",
        put("x.h5.123-0123abcd.tmp", recorded=False): "killed",
        put("x.h5.record.json.123-0123abcd.tmp", recorded=False): "killed",
        put("gone.onnx.record.json", recorded=False): "file that is gone",
        put(f"{artefact.stem}-{network}-fp32-4t-{TAG}.blob"): "another OpenVINO",
        put(f"{artefact.stem}-{TAG}-fp32-2t-{tag}.blob"): "replaced",
        put(f"{models.BUNDLED}-{TAG}-fp32-2t-{tag}.blob"): "replaced",
        put(f"old-{TAG}-{TAG}-fp32-2t-{tag}.blob"): "from a file that is gone",
        put(f"stranger-{TAG}-fp32-3t-{tag}.blob", recorded=False): "damaged",
        put(f"old-{TAG}.onnx", recorded=False): "damaged",
        put("bad.onnx", recorded=False, folder="imported"): "not what was imported",
        put(known.weights.name, b"weights"): "made into a network",
        put(f"{TAG * 2}.json", recorded=False, folder="digests"): "remembered hash",
        put("a.json.1-0123abcd.tmp", recorded=False, folder="digests"): "killed",
    }
    for path in bad:
        os.utime(path, (OLD, OLD))
    young = {
        f"digests/{put('f' * 32 + '.json', recorded=False, folder='digests').name}",
        f"digests/{put('b.json.1-0123abcd.tmp', recorded=False, folder='digests').name}",
        put("y.h5.0123abcd.partial", recorded=False).name,
    }
    before = here()
    found = {x.path: x.why for x in keeping.leftovers() if x.removable}
    assert found.keys() == bad.keys() and all(why in found[path] for path, why in bad.items())
    assert {x.path.name for x in keeping.leftovers() if not x.removable} == others
    assert here() == before, "only looked at"
    gone, busy = keeping.clean()
    assert {x.path for x in gone} == set(bad) and not busy
    left = {name for name in here() if not name.endswith(".record.json")}
    assert left == good | others | young
    gone, _ = keeping.clean(everything=True)
    left = {name for name in here() if not name.endswith(".record.json")}
    kept = {each for each in good if each.startswith(("calibrations/", "imported/", "undo/"))} | {artefact.name}
    assert left == {*kept, *others, *(young - {"digests/" + "f" * 32 + ".json"})}


def test_a_link_is_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    put("x", b"")
    (Store().folder / "x.h5.partial").symlink_to(tmp_path / "victim")
    (Store().folder / "d.h5.partial").mkdir()
    gone, _ = keeping.clean()
    assert [x.path.name for x in gone] == ["x.h5.partial"]
    assert (tmp_path / "victim").read_text() == "precious" and (Store().folder / "d.h5.partial").is_dir()


def test_what_has_become_right_meanwhile_stays(known: models.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the looking and the lock another process wrote the record that was missing."""
    path = put(artefacts.published_name(known))
    record_path = path.with_name(f"{path.name}.record.json")
    record = record_path.read_bytes()
    record_path.unlink()
    found = keeping.leftovers()
    record_path.write_bytes(record)
    monkeypatch.setattr(keeping.cleaning, "leftovers", lambda **_: found)
    assert keeping.clean() == ([], []) and path.exists()


def test_no_cache_at_all() -> None:
    assert keeping.leftovers() == [] and keeping.clean() == ([], []) and keeping.unknown() == []
