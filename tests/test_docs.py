"""Documentation that cannot drift: what the pages show is run, and what they state is looked up."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import photolabel
import test_layout
from photolabel import errors, prediction
from photolabel.output import csvs, files

from conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "DESIGN.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


EXAMPLES = [(page, block) for page in PAGES for block in blocks(page, "console")]
SNIPPETS = [(page, block) for page in PAGES for block in blocks(page, "python")]
# Those that start Ray are run by tests/clustered.
OF_RAY = [(page, block) for page, block in SNIPPETS if "import ray\n" in block]
OF_OURS = [each for each in SNIPPETS if each not in OF_RAY]


def test_the_pages_have_examples() -> None:
    assert EXAMPLES and OF_OURS and OF_RAY


@pytest.mark.parametrize(("page", "block"), EXAMPLES, ids=lambda value: getattr(value, "name", ""))
def test_console_examples_print_what_they_show(page: Path, block: str) -> None:
    command, _, shown = block.partition("\n")
    words = shlex.split(command.removeprefix("$ "))
    assert words[0] == "photolabel"
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout + done.stderr == shown


def runs(block: str, warnings: str = "error", **environment: str) -> None:
    """A snippet runs by itself, and prints what it says that it prints."""
    done = subprocess.run(
        [sys.executable, "-W", warnings, "-c", block],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"# -> (.*)$", block, re.MULTILINE) or ["espresso"]
    for text in shown:
        assert text in done.stdout


@pytest.mark.parametrize(("page", "block"), OF_OURS, ids=lambda value: getattr(value, "name", ""))
def test_python_snippets_run(page: Path, block: str) -> None:
    runs(block)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="argparse lays its help out otherwise since Python 3.13")
def test_the_cli_reference_is_the_cli() -> None:
    path = ROOT / "tools" / "make_cli_reference.py"
    spec = importlib.util.spec_from_file_location("make_cli_reference", path)
    assert spec and spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == tool.reference(), "out of date: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_house_of_the_design_is_the_house() -> None:
    """DESIGN.md lists the rooms in the order of the arrows."""
    (plan,) = [block for block in blocks(ROOT / "DESIGN.md", "text") if block.startswith("src/photolabel/")]
    listed = [match[1] for match in re.finditer(r"^  (\w+)(?:\.py|/) ", plan, re.MULTILINE)]
    assert [room for room in listed if not room.startswith("__")] == test_layout.ROOMS


def test_settings_are_documented() -> None:
    """Every environment variable that the source reads is in the README."""
    readme = (ROOT / "README.md").read_text("utf-8")
    read = set()
    for path in (ROOT / "src").rglob("*.py"):
        read |= set(re.findall(r"PHOTOLABEL_[A-Z]+", path.read_text("utf-8")))
    for name in read:
        assert f"`{name}" in readme, name


def firsts(table: str) -> set[str]:
    """What is in the first column of a page's tables, as code."""
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall("`([^`]+)`", row)}


def fields(value: dict[str, Any], label: set[str], where: str = "") -> set[str]:
    """The names of all fields of a record, as the page has them; but for what is a label there, as `labels` are."""
    found = set()
    for name, each in value.items():
        found.add(where + name)
        inner = each[0] if isinstance(each, list) and each else each
        if isinstance(inner, dict) and ((name == "labels" and not where) or set(inner) != label):
            found |= fields(inner, label, f"{where}{name}[]." if isinstance(each, list) else f"{where}{name}.")
    return found


def test_the_record_s_fields_and_codes_are_documented() -> None:
    page = (ROOT / "docs" / "records.md").read_text("utf-8")
    with photolabel.load("efficientnet-lite2", views="mirror") as classifier:
        plain = classifier.classify(ROOT / "samples" / "coffee.jpg")
        bad = classifier.classify_many(["missing.jpg"])
        failed = next(iter(bad)).record()
    record = replace(
        plain,
        names=prediction.Names(coverage=0.9, labels=plain.labels),
        calibration=prediction.Calibrated(digest="0" * 16, temperature=2.0),
        truth=prediction.Truth(index=1, wnid=None, name="x"),
    ).record()
    assert set(record) == set(failed) and all(record[name] for name in record if name != "error")
    all_of_them = fields(record | {"error": failed["error"]}, set(record["labels"][0]))
    records, _, views = page.partition("\n## Records in files\n")
    table, _, codes = records.partition("| `error.code` | means |")
    assert firsts(table) == all_of_them
    kinds = {errors.PhotoError, *errors.PhotoError.__subclasses__()}
    assert set(re.findall(r"^\| `([a-z-]+)` \|", codes, re.MULTILINE)) == {kind.code for kind in kinds}
    endings, _, rest = views.partition("\n### CSV\n")
    assert firsts(endings) == set(files.VIEWS)
    assert firsts(rest) == set(csvs.columns(2))


def test_the_demo_names_every_sample() -> None:
    demo = (ROOT / "Makefile").read_text("utf-8").partition("\ndemo:")[2].partition("\n\n")[0]
    assert set(re.findall(r"samples/(\S+)", demo)) == {path.name for path in (ROOT / "samples").glob("*.jpg")}


def test_no_page_speaks_of_a_machine() -> None:
    for page in PAGES:
        assert not re.search(r"(^|[^\w.])/(home|root|tmp|work)/", page.read_text("utf-8")), page.name


def test_a_source_distribution_holds_what_the_tests_read() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    included = {*project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"], "pyproject.toml"}  # always there
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py"))
    read = {*re.findall(r'ROOT / "([\w.]+)"', tests)} - {".cache"}  # made here, and skipped where it is not
    assert {"docs", "samples", "tools"} <= read <= included
