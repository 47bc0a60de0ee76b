"""The command, run as a user runs it: what it prints where, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import photolabel
from photolabel import cli, engine, models
from photolabel.cli import parser

import oracle
from conftest import ROOT

SAMPLES = ROOT / "samples"
COFFEE, CAT = str(SAMPLES / "coffee.jpg"), str(SAMPLES / "cat.jpg")


@pytest.fixture(scope="module", autouse=True)
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli-cache")


@pytest.fixture(autouse=True)
def _shared_cache(_own_world: None, _one_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all of them, or each would compile the network anew."""
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(_one_cache))


def run(*arguments: str | bytes, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "photolabel", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload,no-any-return]


def lines(text: str) -> list[str]:
    return text.splitlines()


def test_one_photo_one_line() -> None:
    done = run(COFFEE)
    assert done.returncode == 0
    expected = str(photolabel.classify(COFFEE))
    assert done.stdout == f"{expected}\n"
    assert expected.startswith("espresso (8")


def test_without_a_model_one_line_says_who_answered() -> None:
    done = run(COFFEE)
    (line,) = lines(done.stderr)
    assert "efficientnet-lite2" in line and "photolabel models download vgg16" in line
    assert run("--model", models.BUNDLED, COFFEE).stderr == ""
    assert run(COFFEE, env={**os.environ, "PHOTOLABEL_MODEL": models.BUNDLED}).stderr == ""


def test_several_photos_a_line_each_in_the_order_given() -> None:
    done = run(CAT, COFFEE, CAT)
    names = [line.rpartition(": ")[0] for line in lines(done.stdout)]
    assert names == [CAT, COFFEE, CAT]
    assert all("%)" in line for line in lines(done.stdout))


def test_top_is_an_aligned_table() -> None:
    rows = lines(run(COFFEE, "--top", "5").stdout)
    assert len(rows) == 5 and len({len(row) for row in rows}) == 1
    assert rows[0].split() == ["espresso", str(photolabel.classify(COFFEE))[10:-1]]
    everything = lines(run("--top", "all", COFFEE).stdout)
    assert len(everything) == 1000 and [row.split() for row in everything[:5]] == [row.split() for row in rows]
    several = lines(run(COFFEE, CAT, "--top", "2").stdout)
    assert several[0] == f"{COFFEE}:" and several[3] == f"{CAT}:" and several[1].startswith("  espresso")


def test_json_has_as_many_labels_as_are_asked_for() -> None:
    assert json.loads(run("--json", COFFEE).stdout) == photolabel.classify(COFFEE).record()
    assert len(json.loads(run("--json", "--top", "all", COFFEE).stdout)["labels"]) == 1000


def test_the_other_engine_prints_the_same_line() -> None:
    pytest.importorskip("onnxruntime")
    photo = SAMPLES / "coffee.jpg"
    plain, other = (run("--engine", name, "--model", "efficientnet-lite2", str(photo)) for name in engine.RUNTIMES)
    assert (other.returncode, other.stdout, other.stderr) == (0, plain.stdout, "")
    assert set(engine.RUNTIMES) == set(re.findall(r"--engine {([a-z,]+)}", run("--help").stdout)[0].split(","))


def test_an_engine_that_is_not_installed_is_said(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('no', name='onnxruntime')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = run("--engine", "onnxruntime", str(SAMPLES / "coffee.jpg"), env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 3 and len(lines(done.stderr)) == 1
    assert "pip install 'photolabel[onnxruntime]'" in done.stderr


def test_stdin() -> None:
    with Path(COFFEE).open("rb") as file:
        done = run("-", stdin=file)
    assert done.stdout == f"{photolabel.classify(COFFEE)}\n"
    with Path(COFFEE).open("rb") as file:
        record = json.loads(run("-", "--json", stdin=file).stdout)
    assert record["photo"] == "-"
    assert run("-", "-", stdin=subprocess.DEVNULL).returncode == 2


def test_a_bad_photo_costs_only_its_own_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(Path(COFFEE).read_bytes()[:5000])
    missing = str(tmp_path / "missing.jpg")
    done = run("--model", models.BUNDLED, str(bad), COFFEE, missing)
    assert done.returncode == 1
    assert len(lines(done.stdout)) == 1 and lines(done.stdout)[0].startswith(f"{COFFEE}: espresso")
    assert [line.split(": ")[1] for line in lines(done.stderr)] == [str(bad), missing]
    done = run("--json", "--model", models.BUNDLED, str(bad), COFFEE, missing)
    records = [json.loads(line) for line in lines(done.stdout)]
    codes = [record["error"] and record["error"]["code"] for record in records]
    assert codes == ["corrupt-photo", None, "photo-not-found"]
    assert done.stderr == "" and done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "expected a photo"),
        (["--tpo", "5", COFFEE], 2, "--tpo"),
        (["--top", "five", COFFEE], 2, "five"),
        (["--top", "0", COFFEE], 2, "at least 1"),
        (["--threads", "0", COFFEE], 2, "--threads: '0': expected a whole number from 1 to 1024"),
        (["--threads", "two", COFFEE], 2, "--threads: 'two': expected a whole number from 1 to 1024"),
        (["--recipe", "keras", COFFEE], 2, "add --model vgg16"),
        (["--max-pixles", "9", COFFEE], 2, "Did you mean: --max-pixels."),
        (["-x.jpg"], 2, "./-x.jpg or comes after --"),
        (["--recipe", "best", COFFEE], 2, "no recipe 'best'"),
        (["--precision", "fp8", COFFEE], 2, "fp8"),
        (["--max-pixels", "0", COFFEE], 2, "--max-pixels: '0': expected a whole number of at least 1"),
        (["--max-pixels", "1.5", COFFEE], 2, "--max-pixels: '1.5': expected a whole number"),
        (["--model", "vgg61", COFFEE], 3, "vgg16"),
        (["--model", "vgg16", COFFEE], 3, "PHOTOLABEL_OFFLINE"),
        (["--model", COFFEE, COFFEE], 3, "coffee.jpg"),
        (["--weights", "missing.h5", COFFEE], 3, "missing.h5"),
        (["--weights", COFFEE, COFFEE], 3, "known format"),
        (["--weights", "x.h5", "--model", models.BUNDLED, COFFEE], 2, "takes no other"),
        (["modles"], 2, "Did you mean: photolabel models"),
        (["clasify"], 2, "Did you mean: photolabel classify"),
        (["models", "explode"], 2, "explode"),
        (["models", "download", "vgg17"], 3, "vgg17"),
        (["summary", "vgg61"], 3, "vgg16"),
        (["summary", COFFEE], 3, "coffee.jpg"),
        (["sumary"], 2, "Did you mean: photolabel summary"),
        (["plot", "vgg16"], 2, "--output"),
        (["plot", "-o", "x.jpg"], 2, ".png or .svg"),
        (["plot", "-o", "x.png", "--style", "cubist"], 2, "cubist"),
        (["plot", "-o", "missing/x.png"], 4, "missing/x.png: cannot be written"),
        (["export", "vgg16"], 2, "--output"),
        (["export", "vgg61", "-o", "x.onnx"], 3, "vgg16"),
        (["export", "vgg16", "-o", "x.pth"], 2, ".onnx, .keras, .weights.h5, .safetensors"),
        (["export", "vgg16", "-o", "x.keras", "--precision", "int8"], 2, "as .onnx only"),
        (["export", "vgg16", "-o", "missing/x.onnx"], 4, "missing/x.onnx: cannot be written"),
        (["export", "vgg16", "-o", "x.onnx"], 3, "PHOTOLABEL_OFFLINE"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else None,
)
def test_every_error_is_one_line_and_its_own_code(arguments: list[str], code: int, says: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert len(lines(done.stderr)) == 1 and done.stderr.startswith("photolabel: ")
    assert says in done.stderr and "Traceback" not in done.stderr


def test_a_first_word_that_is_a_verb_is_the_verb(tmp_path: Path, tiny: Path) -> None:
    photo = tmp_path / "models"
    photo.write_bytes(Path(COFFEE).read_bytes())
    assert "vgg19" in run("models", cwd=tmp_path).stdout
    for arguments in (["./models"], ["classify", "models"], ["--", "models"]):
        assert run("--model", models.BUNDLED, *arguments, cwd=tmp_path).returncode in (0, 1)
    assert run("./models", cwd=tmp_path).stdout == run(COFFEE).stdout
    assert run("classify", "models", cwd=tmp_path).stdout == run(COFFEE).stdout
    (tmp_path / "modles").write_bytes(photo.read_bytes())
    assert run("modles", cwd=tmp_path).stdout == run(COFFEE).stdout, "a file that is there is a file"


def test_names_with_dashes_control_characters_and_broken_bytes(tmp_path: Path) -> None:
    names = [b"-x.jpg", b"a\nb\x1b[2J.jpg", b"\xff\xfe.jpg"]
    if sys.platform in ("darwin", "win32"):
        names = names[:1]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(Path(COFFEE).read_bytes())
    done = run("--model", models.BUNDLED, "--", *names, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = ["-x.jpg", r"a\x0ab\x1b[2J.jpg", r"\xff\xfe.jpg"]
    assert [line.rpartition(": ")[0] for line in lines(done.stdout)] == shown[: len(names)]
    done = run("--json", "--", *names, cwd=tmp_path)
    assert [os.fsencode(json.loads(line)["photo"]) for line in lines(done.stdout)] == names
    done = run("--model", models.BUNDLED, "--", b"no\x1b[31m\xff.jpg", cwd=tmp_path)
    assert r"no\x1b[31m\xff.jpg" in done.stderr and "\x1b" not in done.stderr


def test_help_and_version() -> None:
    for arguments in (["--help"], ["-h"], ["classify", "--help"], ["models", "--help"], ["models", "verify", "--help"]):
        done = run(*arguments)
        assert done.returncode == 0 and done.stdout.startswith("usage: photolabel") and done.stderr == ""
    text = run("--help").stdout
    for verb in cli.VERBS:
        assert f"  {verb} " in text
    for code in ("0 ", "1 ", "2 ", "3 ", "130 "):
        assert f"  {code}" in text
    for arguments in (["--version"], ["-V"], ["classify", "--version"]):
        assert run(*arguments).stdout == f"photolabel {photolabel.__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom photolabel.cli import VERBS, main\n"
        "for verb in VERBS:\n"
        "    try: main([verb, '--help'])\n"
        "    except SystemExit: pass\n"
        "heavy = {'numpy', 'PIL', 'openvino', 'onnx', 'h5py', 'requests', 'tqdm', 'filelock', 'platformdirs'}\n"
        "print(sorted(set(sys.modules) & heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_a_run_without_a_cluster_waits_for_nothing_of_one() -> None:
    program = "import sys\nfrom photolabel.cli import main\nmain(sys.argv[1:])\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program, COFFEE, CAT], capture_output=True, text=True, check=True)
    assert len(lines(done.stdout)) == 2
    loaded = set(lines(done.stderr)[-1].split())
    assert "photolabel.batch.pipeline" in loaded
    assert not loaded & {f"photolabel.cluster.{room}" for room in ("connecting", "flow", "nodes", "team")}


def test_a_pipe_that_closes_early_is_no_error() -> None:
    command = f'"{sys.executable}" -m photolabel --top all "{COFFEE}" "{CAT}" "{COFFEE}" | head -n 1'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert lines(done.stdout) == [f"{COFFEE}:"]
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


def shell(script: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `photolabel` is the command and $COFFEE a photo."""
    body = f'photolabel() {{ "{sys.executable}" -m photolabel "$@"; }}\nCOFFEE="{COFFEE}"\n{script}'
    return subprocess.run(["bash", "-c", body], capture_output=True, text=True, check=False, timeout=120)


_NO_FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
_SAYS_COFFEE = "espresso (88.94%)\n"


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell")
@pytest.mark.parametrize(
    ("script", "code", "out", "err"),
    [
        ("photolabel - <&-", 1, "", "photolabel: -: "),
        ("photolabel --json - <&-", 1, '"code": "photo-unreadable"', ""),
        ("photolabel $COFFEE <&-", 0, _SAYS_COFFEE, "photolabel: answered by"),
        ("photolabel $COFFEE >&-", 4, "", "photolabel: the output cannot be written: standard output is closed"),
        ("photolabel models >&-", 4, "", "photolabel: the output cannot be written"),
        ("photolabel summary >&-", 4, "", "photolabel: the output cannot be written"),
        ("photolabel --help >&-", 4, "", "photolabel: the output cannot be written"),
        pytest.param("photolabel --help >/dev/full", 4, "", "photolabel: the output cannot be", marks=_NO_FULL),
        pytest.param("photolabel --version >/dev/full", 4, "", "photolabel: the output cannot be", marks=_NO_FULL),
        pytest.param("photolabel models --json >/dev/full", 4, "", "photolabel: the output cannot", marks=_NO_FULL),
        pytest.param("photolabel $COFFEE 2>/dev/full", 0, _SAYS_COFFEE, "", marks=_NO_FULL),
        pytest.param("photolabel x.jpg $COFFEE 2>/dev/full", 1, _SAYS_COFFEE, "", marks=_NO_FULL),
        ("photolabel $COFFEE 2>&-", 0, _SAYS_COFFEE, ""),
        ("photolabel x.jpg $COFFEE 2>&-", 1, _SAYS_COFFEE, ""),
        ("photolabel --tpo <&- >&- 2>&-", 2, "", ""),
        ("photolabel $COFFEE 2> >(true)", 0, _SAYS_COFFEE, ""),
        ("{ photolabel --help; echo $? >&2; } | true", 0, "", "141"),
    ],
)
def test_streams_that_are_closed_full_or_unread(script: str, code: int, out: str, err: str) -> None:
    done = shell(script)
    assert done.returncode == code
    assert out in done.stdout and bool(out) == bool(done.stdout)
    assert done.stderr.startswith(err) and len(lines(done.stderr)) == bool(err)


def test_an_error_of_the_system_elsewhere_is_not_blamed_on_the_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from photolabel.cli import classify

    def broken(_: list[str]) -> int:
        raise BrokenPipeError(32, "a pipe of ours")

    monkeypatch.setattr(classify, "run", broken)
    assert cli.main([COFFEE]) == 70
    assert "a mistake in photolabel" in capsys.readouterr().err


def test_nobody_answered_nothing_to_say_of_it() -> None:
    assert lines(run("missing.jpg").stderr) == [x for x in lines(run("missing.jpg").stderr) if "answered" not in x]
    told = lines(run("missing.jpg", COFFEE, CAT).stderr)
    assert len(told) == 2 and "missing.jpg" in told[0] and "answered by" in told[1]


def test_the_limit_of_pixels_speaks_of_the_option() -> None:
    done = run("--max-pixels", "1k", COFFEE)
    assert done.returncode == 1 and "--max-pixels" in done.stderr


@pytest.mark.parametrize("text", ["100000000", "100_000_000", "1e8", "100M", "100000k"])
def test_whole_numbers(text: str) -> None:
    assert parser.whole(text) == 100_000_000


def test_help_and_version_without_dashes() -> None:
    assert run("help").stdout == run("--help").stdout
    assert run("version").stdout == run("--version").stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_said() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "photolabel", "--model", models.BUNDLED, COFFEE],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 4
    assert lines(done.stderr) == ["photolabel: the output cannot be written: No space left on device"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_keeps_what_is_done() -> None:
    command = [sys.executable, "-m", "photolabel", "--json", COFFEE, "-"]
    reader, writer = os.pipe()
    process = subprocess.Popen(command, stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    first = process.stdout.readline()
    time.sleep(0.5)  # by now it waits for the rest of standard input
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=30)
    os.close(writer)
    os.close(reader)
    assert json.loads(first)["answer"]["name"] == "espresso" and rest == ""
    assert process.returncode == 130 and lines(err)[-1] == "photolabel: interrupted"
    assert "Traceback" not in err and time.monotonic() - begun < 5


def test_a_mistake_of_ours_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from photolabel.cli import classify

    def broken(_: list[str]) -> int:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(classify, "run", broken)
    assert cli.main([COFFEE]) == 70
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err and "secret" not in err and len(lines(err)) == 1
    monkeypatch.setenv("PHOTOLABEL_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main([COFFEE])


def test_exit_codes_are_documented() -> None:
    first_words = [line.split()[0] for line in (cli.__doc__ or "").splitlines() if line.startswith("  ")]
    assert {int(word) for word in first_words} == {0, *cli.EXIT_CODES.values(), 70, 130, 141, 143}


def test_models_lists_what_is_known() -> None:
    rows = lines(run("models").stdout)
    assert [row.split()[:2] for row in rows[1:]] == [
        ["vgg16", "no"],
        ["vgg19", "no"],
        ["vgg16-torchvision", "no"],
        ["vgg19-torchvision", "no"],
        ["efficientnet-lite2", "yes"],
    ]
    assert run("models", "list").stdout == run("models").stdout
    assert max(map(len, rows)) <= 80
    for arguments in (["models", "--long"], ["models", "list", "--long"], ["models", "--long", "list"]):
        assert "LICENCE" in run(*arguments).stdout and "CC BY 4.0" in run(*arguments).stdout


def test_models_verify_finds_a_flipped_byte_that_kept_its_date(_one_cache: Path) -> None:
    run(COFFEE)
    (blob,) = _one_cache.glob("efficientnet-lite2*.blob")
    assert run("models", "verify").returncode == 0
    before = blob.stat()
    with blob.open("r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)
        file.seek(before.st_size // 2)
        file.write(bytes([byte[0] ^ 0x10]))
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = run("models", "verify", models.BUNDLED)
    assert done.returncode == 3 and f"{blob.name}: DAMAGED, removed" in done.stdout
    assert not blob.exists()
    assert run(COFFEE).stdout == f"{photolabel.classify(COFFEE)}\n"


def test_models_verify_says_how_near_a_precision_stays(tiny: Path) -> None:
    done = run("models", "verify", str(tiny), "--precision", "int8", COFFEE, CAT)
    assert done.returncode == 0 and lines(done.stdout)[0] == "tiny at int8, beside fp32, on 2 photos:"
    assert len(lines(done.stdout)) == 5
    for arguments in ([str(tiny), "--precision", "int8"], ["--precision", "int8", COFFEE]):
        done = run("models", "verify", *arguments)
        assert done.returncode == 2 and "expected one model and photos" in done.stderr


def test_int8_by_option() -> None:
    record = json.loads(run("--precision", "int8", "--json", COFFEE).stdout)
    assert (record["precision"], record["answer"]["name"]) == ("int8", "espresso")


def test_models_verify_looks_at_what_was_made_of_a_users_own_network(
    tiny: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path))
    run("--model", str(tiny), str(photo))
    (blob,) = tmp_path.glob("*.blob")
    assert f"cache: {blob.name}: sound" in run("models", "verify").stdout
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    done = run("models", "verify")
    assert done.returncode == 3 and f"cache: {blob.name}: DAMAGED, removed" in done.stdout
    assert "1 file is damaged" in done.stderr


def test_a_user_s_own_model_by_path(tiny: Path, photo: Path) -> None:
    done = run("--model", str(tiny), str(photo))
    pixels = np.asarray(photolabel.load(tiny).classify(photo).probabilities)
    assert done.stdout == f"class_{pixels.argmax()} ({pixels.max() * 100:.2f}%)\n" and done.stderr == ""


def test_hostile_labels_cannot_reach_the_terminal(tmp_path: Path, photo: Path) -> None:
    import dataclasses

    from photolabel.labels import Label

    labels = tuple(Label(i, None, f"\x1b]0;owned\x07\n{i}") for i in range(10))
    path = tmp_path / "hostile.onnx"
    path.write_bytes(oracle.tiny_onnx(model=dataclasses.replace(oracle.tiny_model(), labels=labels)))
    for arguments in ([], ["--top", "3"]):
        done = run("--model", str(path), str(photo), *arguments)
        assert r"\x1b]0;owned\x07\x0a" in done.stdout
        assert not any(ord(c) < 32 for c in done.stdout.replace("\n", ""))


def test_summary_and_plot_need_no_weights_and_nothing_heavy(tmp_path: Path, tiny: Path) -> None:
    assert run("summary").stdout == run("summary", "vgg16").stdout == f"{photolabel.summary('vgg16')}\n"
    assert run("summary", str(tiny)).stdout.startswith('Model: "tiny"')
    for arguments in ([], [str(tiny), "--style", "volumes"], ["efficientnet-lite2"]):
        for name in ("x.png", "x.svg"):
            done = run("plot", *arguments, "-o", name, cwd=tmp_path)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
            assert (tmp_path / name).stat().st_size > 1000
    program = (
        "import sys\nfrom photolabel.cli import main\n"
        f"main(['summary']), main(['plot', '-o', {str(tmp_path / 'y.png')!r}])\n"
        "print(sorted(set(sys.modules) & {'openvino', 'onnx', 'h5py', 'requests', 'tqdm'}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_a_stranger_s_layer_names_cannot_reach_the_terminal(tmp_path: Path) -> None:
    from test_layers import residual

    done = run("summary", str(residual(tmp_path / "x.onnx", "\x1b]0;owned\x07\nfc9")))
    assert r"\x1b]0;owned\x07\nfc9 (Conv2D)" in done.stdout
    assert not any(ord(c) < 32 for c in done.stdout.replace("\n", ""))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_models_import_list_bundle_remove_unbundle(
    own_cache: Path, tiny: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lines(run("models", "import", "mine", str(tiny)).stdout)[0].startswith("mine: ready, ")
    answer = run("--model", "mine", str(photo))
    assert answer.returncode == 0 and answer.stdout.startswith("class_")
    assert any(line.split()[:2] == ["mine", "yes"] for line in lines(run("models").stdout))
    for arguments in (["models", "--json"], ["models", "list", "--json"], ["models", "--json", "list"]):
        listed = json.loads(run(*arguments).stdout)
        mine = listed["models"][-1]
        assert (mine["name"], mine["kind"], mine["installed"], mine["licence"]) == ("mine", "imported", True, "CC0")
        assert mine["bytes"] == sum(each["bytes"] for each in mine["files"]) and len(mine["files"]) == 2
    archive = str(tmp_path / "x.tar")
    assert lines(run("models", "bundle", archive).stdout)[0].startswith("models/mine.onnx: ")
    done = run("models", "remove", "mine", "nope")
    assert done.returncode == 3 and "mine" in run("models").stdout
    assert lines(run("models", "remove", "mine").stdout)[-1].endswith(" freed")
    assert run("--model", "mine", str(photo)).returncode == 3
    assert "it is a part of photolabel" in run("models", "remove", models.BUNDLED).stdout
    assert run("models", "unbundle", archive).stdout == "mine: ready; use it as --model mine\n"
    assert run("--model", "mine", str(photo)).stdout == answer.stdout
    assert "mine: mine.onnx: sound" in run("models", "verify").stdout
    Path(archive).write_bytes(b"harm")
    done = run("models", "unbundle", archive)
    assert done.returncode == 3 and len(lines(done.stderr)) == 1 and done.stdout == ""


def test_models_clean(own_cache: Path) -> None:
    own_cache.mkdir()
    (own_cache / "x.h5.partial").write_bytes(bytes(3000))
    (own_cache / "notes.txt").write_bytes(b"mine")
    assert "x.h5.partial" in run("models").stdout and "notes.txt" in run("models").stdout
    shown = "would remove x.h5.partial: an unfinished download\n3 kB to be freed\n"
    assert run("models", "clean", "--dry-run").stdout == shown and (own_cache / "x.h5.partial").exists()
    assert run("models", "clean").stdout == "removed x.h5.partial: an unfinished download\n3 kB freed\n"
    assert not (own_cache / "x.h5.partial").exists() and (own_cache / "notes.txt").exists()
    run(COFFEE)
    assert "freed" in run("models", "clean", "--all").stdout and not list(own_cache.glob("*.blob"))


def test_a_hostile_description_cannot_reach_the_terminal_of_a_list(own_cache: Path, tmp_path: Path) -> None:
    import dataclasses

    path = tmp_path / "hostile.onnx"
    model = dataclasses.replace(oracle.tiny_model(), licence="\x1b]0;owned\x07", source="\n\x1b[2J")
    path.write_bytes(oracle.tiny_onnx(model=model))
    run("models", "import", "mine", str(path))
    shown = run("models", "--long").stdout
    assert r"\x1b]0;owned\x07" in shown and not any(ord(c) < 32 for c in shown.replace("\n", ""))


def test_doctor(own_cache: Path) -> None:
    done = run("doctor")
    assert done.returncode == 0 and "FAILED" not in done.stdout and done.stderr == ""
    assert json.loads(run("doctor", "--json").stdout)["failed"] is False
    done = run("doctor", "--json", env={**os.environ, "PHOTOLABEL_CACHE": os.devnull + "/nowhere"})
    assert done.returncode == 3 and json.loads(done.stdout)["failed"] is True
