"""Ask a service what its own OpenAPI document says can be asked, and see that it answers as the document says.

usage: python tools/schema_cases.py [--cases N] [--seed S] [--schemathesis PROGRAM]

schemathesis makes the cases, those that fit the document and those that do not. These are finds: an answer of 5xx; a
status, a type of content, a header or a body that the document does not have; a method that it does not have, and that
is not refused with 405. Then the exit code is 1, and so it is where fewer cases than asked for have reached the
service, or none of one operation. What does not fit and is taken is none: in a form, anything can be a photo.

schemathesis brings 30 packages along that nothing else here needs, so it lives in an environment of its own,
.cache/schemathesis, made when there is none. For Linux.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Mapping
from pathlib import Path

from http_cases import photos
from served import Served, served

ROOT = Path(__file__).resolve().parents[1]
WANTED = "schemathesis>=4.10,<5"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
MOST_ROUNDS = 20
MOST_SECONDS = 1800  # of a round


def program() -> Path:
    """Return schemathesis' program; install it where it is not."""
    folder = ROOT / ".cache" / "schemathesis"
    found = folder / "bin" / "schemathesis"
    if not found.exists():
        print(f"installing {WANTED} into {folder.relative_to(ROOT)}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, WANTED], check=True)
    return found


def round_of(chosen: Path, service: Served, folder: Path, *, seed: int, each: int) -> str | None:
    """Run schemathesis once; return what it found, None for nothing."""
    command = [chosen, "--no-color", "run"]
    command += [f"http://127.0.0.1:{service.port}/openapi.json", "--phases", "examples,coverage,fuzzing"]
    command += ["--checks", ",".join(CHECKS), "--max-examples", str(each), "--seed", str(seed), "--workers", "2"]
    command += ["--generation-database", "none"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(ROOT / "tools" / "schema_photos.py")}
    environment["SCHEMA_PHOTOS"] = str(folder / "photos")
    environment.pop("PYTHONPATH", None)  # its packages are not ours
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=MOST_SECONDS
    )
    return done.stdout + done.stderr if done.returncode else None


def operations(document: Mapping[str, Mapping[str, Mapping[str, object]]]) -> dict[str, re.Pattern[str]]:
    """Return the operations of a document, and what the log has of each."""
    return {
        f"{method.upper()} {path}": re.compile(f"{method.upper()} " + re.sub("[{][^}]*[}]", "[^/]*", path))
        for path, methods in document["paths"].items()
        for method in methods
    }


def told(service: Served, asked: Mapping[str, re.Pattern[str]]) -> tuple[int, list[str]]:
    """Return how many cases have reached the service, and a line for each operation: how often, and what came of it."""
    tally: dict[str, collections.Counter[int]] = {name: collections.Counter() for name in [*asked, "others"]}
    for (method, path, status), count in service.answered().items():
        name = next((each for each, pattern in asked.items() if pattern.fullmatch(f"{method} {path}")), "others")
        tally[name][status] += count
    lines = [
        f"{name}: {counts.total()} cases; {', '.join(f'{status} {count}' for status, count in sorted(counts.items()))}"
        for name, counts in tally.items()
    ]
    return sum(counts.total() for counts in tally.values()), lines


def main() -> int:
    """Run the cases and print a tally."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--each", type=int, default=200, help="cases of an operation in one round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--schemathesis", type=Path, metavar="PROGRAM", help="its program, where it is installed")
    parser.add_argument("--plant", help="a Python file whose plant(app) makes faults that must be found")
    options = parser.parse_args()
    chosen = (options.schemathesis or program()).resolve()
    begun, found, cases = time.monotonic(), list[str](), 0
    with served({"workers": 2}, options.plant) as service, tempfile.TemporaryDirectory() as name:
        (Path(name) / "photos").mkdir()
        for number, photo in enumerate(photos()):
            (Path(name) / "photos" / str(number)).write_bytes(photo)
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/openapi.json") as answer:
            asked = operations(json.load(answer))
        for number in range(MOST_ROUNDS):
            if (
                what := round_of(chosen, service, Path(name), seed=options.seed + number, each=options.each)
            ) is not None:
                found.append(what)
                print(what)
                break
            cases, lines = told(service, asked)
            if cases >= options.cases:
                break
        cases, lines = told(service, asked)
        found += service.strange_lines()[:10]
    print("\n".join(lines))
    print(f"{cases} cases in {time.monotonic() - begun:.0f} s, {'no finds' if not found else 'finds'}")
    missing = [line for line in lines if not line.startswith("others") and ": 0 cases" in line]
    return 1 if found or missing or cases < options.cases else 0


if __name__ == "__main__":
    sys.exit(main())
