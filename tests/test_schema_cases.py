"""The run of schemathesis finds what it is for; where it is not installed, what does not need it is tested alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOL = ROOT / "tools" / "schema_cases.py"
PROGRAM = ROOT / ".cache" / "schemathesis" / "bin" / "schemathesis"
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a tool for Linux")

PLANT = """
import json

def plant(app):
    async def planted(scope, receive, send):
        if scope.get("path") == "/v1/models" and scope["method"] == "GET":
            body = json.dumps(BODY).encode()
            headers = [(b"content-type", b"TYPE"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": STATUS, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        else:
            await app(scope, receive, send)
    planted.state = app.state
    return planted
"""


def run(program: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, TOOL, "--schemathesis", program, *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def program(folder: Path, code: str) -> Path:
    """A program in schemathesis' place, which asks the service what its code says."""
    path = folder / "program"
    path.write_text(
        f"#!{sys.executable}\nimport sys, urllib.request\n"
        f"url = next(each for each in sys.argv if each.startswith('http')).removesuffix('/openapi.json')\n{code}\n"
    )
    path.chmod(0o755)
    return path


ASK_ALL = """
import json
document = json.load(urllib.request.urlopen(url + "/openapi.json"))
for path, methods in document["paths"].items():
    for method in methods:
        path = path.replace("{name}", "tiny").replace("{version}", "1")
        try:
            urllib.request.urlopen(url + path, data=b"x" if method == "post" else None).read()
        except urllib.error.HTTPError:
            pass
"""


def test_cases_are_counted_where_they_arrive(tmp_path: Path) -> None:
    done = run(program(tmp_path, ASK_ALL), "--cases", "20")
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = int(re.findall(r"GET /v1/labels: ([0-9]+) cases; 200 ", done.stdout)[0])
    assert f"POST /v1/classify: {rounds} cases; 415 {rounds}\n" in done.stdout
    assert f"GET /v2/models/{{name}}: {rounds} cases; 200 {rounds}\n" in done.stdout
    assert ": 0 cases" not in done.stdout and done.stdout.endswith(" s, no finds\n")
    (cases,) = re.findall(r"^([0-9]+) cases in ", done.stdout, re.MULTILINE)
    assert int(cases) == sum(map(int, re.findall(r": ([0-9]+) cases; ", done.stdout))) >= 20


@pytest.mark.parametrize("code", ["", "urllib.request.urlopen(url + '/v1/models').read()"])
def test_too_few_cases_are_no_success(tmp_path: Path, code: str) -> None:
    assert run(program(tmp_path, code), "--cases", "3").returncode == 1


def test_a_find_is_told(tmp_path: Path) -> None:
    done = run(program(tmp_path, ASK_ALL + "\nprint('found it')\nsys.exit(1)"), "--cases", "1")
    assert done.returncode == 1 and "found it" in done.stdout and done.stdout.endswith(" s, finds\n")


@pytest.mark.skipif(not PROGRAM.exists(), reason="schemathesis is not installed: make fuzz does it")
@pytest.mark.parametrize(
    ("body", "kind", "status", "named"),
    [
        ("{'models': []}", "application/json", 500, "Server error"),
        ("{'models': []}", "application/json", 302, "ST103"),
        ("{'models': []}", "text/plain", 200, "Undocumented Content-Type"),
        ("{'models': 'none'}", "application/json", 200, "Response violates schema"),
    ],
)
def test_what_is_not_documented_is_found(tmp_path: Path, body: str, kind: str, status: int, named: str) -> None:
    plant = tmp_path / "plant.py"
    plant.write_text(PLANT.replace("BODY", body).replace("TYPE", kind).replace("STATUS", str(status)))
    done = run(PROGRAM, "--plant", str(plant), "--cases", "1", "--each", "10")
    assert done.returncode == 1 and named in done.stdout, done.stdout + done.stderr
