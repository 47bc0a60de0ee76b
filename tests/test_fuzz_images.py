"""The fuzzer of photos finds what it is for: each kind of fault, planted in a reader of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parent.parent / "tools" / "fuzz_images.py"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a tool for POSIX")


def fuzz(tmp_path: Path, *more: str, cases: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, TOOL, "--cases", str(cases), "--workers", "1", "--out", tmp_path / "finds", *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_nothing_is_found_in_ours(tmp_path: Path) -> None:
    done = fuzz(tmp_path, cases=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("300 cases in ") and ", 0 finds: corrupt-photo " in done.stdout
    assert not done.stderr and not (tmp_path / "finds").exists()


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("raise KeyError('planted')", "KeyError"),
        ("os.kill(os.getpid(), 11)", "died: -11"),
        ("os.write(2, b'planted')", "spoke: b'planted'"),
        ("print('planted')", "spoke: b'planted"),
        ("time.sleep(60)", "hung"),
        ("bytearray(b'x') * (1200 << 20)", " MB"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, fault: str, named: str) -> None:
    reader = tmp_path / "reader.py"
    reader.write_text(
        f"import os, time\n\ndef read(data):\n    if data[:2] == b'BM':\n        {fault}\n    return 'ok'\n"
    )
    patience = "2" if named == "hung" else "60"  # a busy machine must not make other faults look like this one
    done = fuzz(tmp_path, "--reader", str(reader), "--hang", patience, cases=25)
    assert done.returncode == 1
    (first, *others), last = done.stdout.splitlines()[:-1], done.stdout.splitlines()[-1]
    assert all(named in line for line in (first, *others))
    path = Path(first.partition(": ")[0])
    assert path.read_bytes()[:2] == b"BM"
    assert last.startswith("25 cases in ") and f" {len(others) + 1} finds: find {len(others) + 1}, ok " in last
    again = fuzz(tmp_path, "--reader", str(reader), "--hang", patience, cases=25)  # the same cases
    assert [line.partition(": ")[0] for line in again.stdout.splitlines()[:-1]] == [
        line.partition(": ")[0] for line in (first, *others)
    ]
