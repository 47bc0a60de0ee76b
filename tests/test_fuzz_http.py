"""The fuzzer of HTTP finds what it is for: faults of answers, and those that are planted in a service."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).parent.parent / "tools"
TOOL = TOOLS / "fuzz_http.py"
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a tool for Linux")


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("fuzz_http", TOOL)
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        patch.setitem(sys.modules, "fuzz_http", made)
        spec.loader.exec_module(made)
    return made


def fuzz(tmp_path: Path, *more: str, cases: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, TOOL, "--cases", str(cases), "--out", tmp_path / "finds", *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status} Words of it", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


PROBLEM = "content-type: application/problem+json"
SAID = b"GET / HTTP/1.1\r\n\r\n" * 3


@pytest.mark.parametrize(
    ("heard", "left", "statuses"),
    [
        (b"", False, []),
        (answer("200", body=b"x") + answer("204"), False, [200, 204]),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer("400", PROBLEM, body=b'{"status": 400}'), False, [400]),
        (answer("503", PROBLEM, "retry-after: 5", body=b'{"status": 503}'), False, [503]),
        (answer("200", body=b"x")[:-1], True, [200]),
        (answer("200", body=b"x")[:20], True, []),
    ],
)
def test_good_answers_are_taken(tool: Any, heard: bytes, left: bool, statuses: list[int]) -> None:
    assert tool.check_answers(SAID, heard, left=left) == statuses


@pytest.mark.parametrize(
    ("heard", "named"),
    [
        (answer("500", PROBLEM, body=b'{"status": 500}'), "not documented: 500"),
        (answer("302"), "not documented: 302"),
        (answer("503", PROBLEM), "503 without Retry-After"),
        (answer("429", PROBLEM, "retry-after: soon"), "429 without Retry-After"),
        (answer("404", "content-type: text/html"), "404 is no problem document"),
        (answer("404", PROBLEM, body=b'{"status": 400}'), "of another status than 404"),
        (answer("404", PROBLEM, body=b'{"status": 404, "at": "/tmp/x"}'), "tells of b'/tmp/'"),
        (answer("200", "access-control-allow-origin: *"), "an origin is let in"),
        (answer("200", body=b"x")[:-1], "cut short"),
        (answer("200")[:20], "cut short"),
        (answer("200", "no header"), "no head of HTTP"),
        (answer("200", "name: \nvalue"), "no head of HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "does not say its length"),
        (answer("200") * 20, "20 answers to fewer requests"),
    ],
)
def test_bad_answers_are_found(tool: Any, heard: bytes, named: str) -> None:
    with pytest.raises(tool.FindError, match=named):
        tool.check_answers(SAID, heard, left=False)


def test_cases_depend_on_seed_and_number_alone(tool: Any) -> None:
    whole = [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    cases = [tool.case(7, number, whole) for number in range(200)]
    assert cases == [tool.case(7, number, whole) for number in range(200)]
    assert cases != [tool.case(8, number, whole) for number in range(200)]
    assert {each.then for each in cases} == {"half", "wait", "dribble", "go", "reset"}


def test_nothing_is_found_in_ours(tmp_path: Path) -> None:
    done = fuzz(tmp_path, cases=200)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("200 cases in ") and ", 0 finds; answers: 200 " in last
    assert not done.stderr and not (tmp_path / "finds").exists()


PLANT = """
import asyncio, logging, os, socket

kept = []

def plant(app):
    async def planted(scope, receive, send):
        if [b"user-agent", b"fuzz"] in map(list, scope.get("headers", ())):
            CODE
        await app(scope, receive, send)
    planted.state = app.state
    return planted
"""


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("if scope['path'] == '/v1/explain': raise KeyError('planted')", "not documented: 500"),
        ("if scope['path'] == '/v1/explain': await asyncio.sleep(12)", "lives after 6 seconds"),
        ("logging.getLogger('photolabel.server').info('two%slines', chr(10))", "the log has: 'lines'"),
        ("kept.append(b'x' * (8 << 20))", "the service grew by"),
        ("len(kept) < 30 and kept.append(socket.socket())", "more open than it had: {'socket': "),
        ("kept.append(os.pipe())", "more open than it had: {'pipe': "),
        ("kept.append(1); len(kept) > 20 and os._exit(3)", "the service has ended: 3"),
        (
            "kept.append(1); scope = {**scope, 'path': '/'} if len(kept) > 20 else scope",
            "otherwise than at the beginning",
        ),
    ],
)
def test_a_planted_fault_is_found(tool: Any, tmp_path: Path, fault: str, named: str) -> None:
    plant = tmp_path / "plant.py"
    plant.write_text(PLANT.replace("CODE", fault))
    cases = tool.WARM + 100 if "grew" in named or "pipe" in named else 80
    done = fuzz(tmp_path, "--plant", str(plant), "--longest", "6", cases=cases)
    assert done.returncode == 1, done.stdout + done.stderr
    assert named in done.stdout, done.stdout + done.stderr


def test_a_find_can_be_played_again(tmp_path: Path) -> None:
    plant = tmp_path / "plant.py"
    plant.write_text(PLANT.replace("CODE", "if scope['path'] == '/v1/explain': raise KeyError('planted')"))
    done = fuzz(tmp_path, "--plant", str(plant), cases=80)
    first = next(line for line in done.stdout.splitlines() if line.startswith("case "))
    number = first.split()[1].rstrip(":")
    kept = json.loads((tmp_path / "finds" / f"0-{number}.json").read_text())
    assert set(kept) == {"pieces", "pause", "then"} and b"/v1/explain" in bytes.fromhex("".join(kept["pieces"]))
    again = fuzz(tmp_path, "--plant", str(plant), "--only", number, cases=80)
    assert again.returncode == 1 and first in again.stdout
