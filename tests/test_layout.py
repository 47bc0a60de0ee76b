"""The house of DESIGN.md: imports point up the list of rooms only, and heavy ones stay lazy."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import conftest

PACKAGE = Path(__file__).parent.parent / "src" / "photolabel"

# Top to bottom: a module may import what stands above it. Names are rooms: a module or a sub-package.
ROOMS = [
    "errors", "extras", "progress", "spec", "labels", "tree", "answer", "confidence",
    "writing", "network", "remote", "download", "records", "store",
    "silence", "containers", "scans", "webp", "decoding", "colour", "recipes", "images", "prepared", "prediction",
    "protobuf", "weights", "metadata", "models", "taught", "conventions", "graph", "adapt", "layers", "draw",
    "engine", "quantize", "artefacts", "foreign", "exporting", "keeping", "bundles",
    "agreement", "calibration", "member", "classifier", "loading", "naming", "vgg", "doctor",
    "sources", "truth", "output", "look", "explain", "sidecars", "workers", "cluster", "batch",
    "page", "evaluate", "keras", "teaching", "bench",
    "keras_compat",
    "server", "ray", "cli",
]  # fmt: skip
DOORS = {"__init__", "__main__"}  # the public names and `python -m`: they may see every room

# Imports that cost time or memory: only inside functions, and only in these rooms.
HEAVY = {
    "openvino": {"engine"},
    "onnxruntime": {"engine"},
    "onnx": {"quantize", "graph", "adapt", "layers"},
    "h5py": {"weights"},
    "requests": {"network"},
    "pi_heif": {"decoding"},
    "tqdm": {"progress"},
    "keras": {"keras"},
    "pyarrow": {"output"},
    "aiohttp": {"remote"},
    "botocore": {"remote"},
    "fsspec": {"remote"},
    "gcsfs": {"remote"},
    "fastapi": {"server"},
    "starlette": {"server"},
    "uvicorn": {"server"},
    "httptools": {"server"},
    "python_multipart": {"server"},
    "ray": {"cluster", "ray"},
    "prometheus_client": {"server"},
    "scipy": {"teaching"},
    "sklearn": {"teaching"},
    "threadpoolctl": {"teaching"},
}

# Modules that are made of such a package, and so may import it as usual: nobody imports them but inside functions, or
# another one of them.
LATE = {
    "server/app.py",
    "server/forms.py",
    "server/health.py",
    "server/inference.py",
    "server/looks.py",
    "server/metrics.py",
    "server/protocol.py",
    "server/routes.py",
    "server/running.py",
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache  # four tests of each module
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def all_imported(path: Path) -> list[tuple[str, int]]:
    return imported(parsed(path), path)


def imported(tree: ast.AST, path: Path) -> list[tuple[str, int]]:
    """(dotted name, line) of every import, those inside functions and under TYPE_CHECKING included."""
    package = ["photolabel", *path.relative_to(PACKAGE).parts[:-1]]
    found: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            stem = [*base, *([node.module] if node.module else [])]
            found += [(".".join([*stem, alias.name]), node.lineno) for alias in node.names]
    return found


def test_every_room_is_in_the_list() -> None:
    rooms = {room(path) for path in modules()}
    assert rooms - DOORS == set(ROOMS), "tests/test_layout.py and src/photolabel differ"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_up(path: Path) -> None:
    here = room(path)
    if here in DOORS:
        return
    for name, line in all_imported(path):
        parts = name.split(".")
        if parts[0] != "photolabel":
            continue
        there = parts[1] if len(parts) > 1 else "__init__"
        if there == "__version__":
            continue
        assert there in ROOMS, f"{path.name}:{line} imports {name}: not a room"
        assert there == here or ROOMS.index(there) < ROOMS.index(here), (
            f"{path.name}:{line}: {here} imports {there}, which stands below it"
        )


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_imports_are_lazy_and_at_home(path: Path) -> None:
    for name, line in all_imported(path):
        top = name.split(".")[0]
        if top in HEAVY:
            assert room(path) in HEAVY[top], f"{path.name}:{line}: {top} lives in {sorted(HEAVY[top])} only"
    if str(path.relative_to(PACKAGE)) in LATE:
        return
    for node in parsed(path).body:  # module level: runs at import
        if isinstance(node, ast.Import | ast.ImportFrom):
            if isinstance(node, ast.ImportFrom) and node.level:  # of ours, whatever it is called
                continue
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for name in names:
                assert name.split(".")[0] not in HEAVY, f"{path.name}:{node.lineno}: import {name} lazily"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_made_of_heavy_packages_are_imported_late(path: Path) -> None:
    if str(path.relative_to(PACKAGE)) in LATE:
        return
    late = {f"photolabel.{each.removesuffix('.py').replace('/', '.')}" for each in LATE}
    at_once = [node for node in parsed(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
    for name, line in imported(ast.Module(at_once, []), path):
        assert not any(name == each or name.startswith(f"{each}.") for each in late), (
            f"{path.name}:{line}: import {name} lazily"
        )


def test_the_arrow_test_sees_a_wrong_arrow(tmp_path: Path) -> None:
    """The checks above can fail: the same reader finds imports of every form."""
    source = "def f():\n    from ..store import fetch\n    from .. import models\n    import photolabel.graph\n"
    names = [name for name, _ in imported(ast.parse(source), PACKAGE / "cli" / "x.py")]
    assert names == ["photolabel.store.fetch", "photolabel.models", "photolabel.graph"]


# Where files elsewhere are read and written, because whoever runs photolabel said so. What strangers send to a service
# never gets that far: no URL is fetched on their behalf.
FAR = {"batch", "cli", "cluster", "sources"}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_other_machines_are_asked_from_a_few_rooms_only(path: Path) -> None:
    if room(path) == "remote":
        return
    for name, line in all_imported(path):
        if name.split(".")[:2] == ["photolabel", "remote"] or name.startswith("photolabel.sources.objects"):
            assert room(path) in FAR, f"{path.name}:{line}: {name} is for {sorted(FAR)} only"


@pytest.mark.parametrize("name", conftest.LONGEST)
def test_files_that_are_run_first_are_there(name: str) -> None:
    assert len([*Path(__file__).parent.rglob(name)]) == 1
