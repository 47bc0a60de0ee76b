"""The run of schemathesis finds what it is for; where it is not installed, what does not need it is tested alone."""

from __future__ import annotations

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
for path in ("/v1/models", "/v1/labels", "/v2/health/live", "/v2/health/ready"):
    urllib.request.urlopen(url + path).read()
for path in ("/v1/classify", "/v1/classify/batch"):
    try:
        urllib.request.urlopen(url + path, data=b"x")
    except urllib.error.HTTPError:
        pass
"""


def test_cases_are_counted_where_they_arrive(tmp_path: Path) -> None:
    done = run(program(tmp_path, ASK_ALL), "--cases", "12")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "GET /v1/labels: 2 cases; 200 2\n" in done.stdout and "POST /v1/classify: 2 cases; 415 2\n" in done.stdout
    assert "\n13 cases in " in done.stdout and done.stdout.endswith(" s, no finds\n")


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
