"""The tree of errors and the public names, as designed objects."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import photolabel
from photolabel import errors
from photolabel.errors import PhotolabelError

PACKAGE = Path(photolabel.__file__).parent


def tree(kind: type[PhotolabelError] = PhotolabelError) -> list[type[PhotolabelError]]:
    """Every class, in the order of their definition."""
    return [kind, *(each for child in kind.__subclasses__() for each in tree(child))]


CLASSES = tree()
LEAVES = [each for each in CLASSES if not each.__subclasses__()]


def test_the_docstring_draws_the_tree() -> None:
    drawn: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([│├└─ ]*)(\w+Error)\b", line):
            drawn.append((len(found[1]) // 4, found[2]))
    assert drawn == [(depth(each), each.__name__) for each in CLASSES]


def depth(kind: type[PhotolabelError]) -> int:
    return sum(issubclass(base, PhotolabelError) for base in kind.__mro__) - 1


def test_the_tree_is_all_there_is() -> None:
    defined = {value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == errors.__name__}
    assert defined == set(CLASSES)
    assert {each.__module__ for each in CLASSES} == {"photolabel.errors"}, "errors live in one room"


def test_every_class_has_a_code_of_its_own() -> None:
    codes = [vars(each).get("code") for each in CLASSES]
    assert all(isinstance(code, str) and re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)
    assert len(set(codes)) == len(codes)


def test_codes_do_not_change() -> None:
    """Scripts compare them."""
    assert {each.__name__: each.code for each in CLASSES} == {
        "PhotolabelError": "error",
        "UsageError": "usage",
        "TruthError": "truth-unknown",
        "PhotoError": "photo-error",
        "PhotoNotFoundError": "photo-not-found",
        "PhotoUnreadableError": "photo-unreadable",
        "PhotoUnavailableError": "photo-unavailable",
        "UnsupportedFormatError": "unsupported-format",
        "CorruptPhotoError": "corrupt-photo",
        "PhotoTooLargeError": "photo-too-large",
        "PhotoTooSlowError": "photo-too-slow",
        "DecoderCrashedError": "decoder-crashed",
        "ModelError": "model-error",
        "UnknownModelError": "unknown-model",
        "InvalidModelError": "invalid-model",
        "InvalidBundleError": "invalid-bundle",
        "MissingWeightsError": "missing-weights",
        "InvalidWeightsError": "invalid-weights",
        "WeightsMismatchError": "weights-mismatch",
        "OutputError": "output-unwritable",
        "SidecarError": "sidecar-unmergeable",
        "StoreError": "store-error",
        "OfflineError": "offline",
        "DownloadError": "download-failed",
        "HashMismatchError": "hash-mismatch",
        "DiskFullError": "disk-full",
        "CacheUnwritableError": "cache-unwritable",
        "BusyError": "busy",
        "ClusterError": "cluster-unusable",
        "MissingExtraError": "missing-extra",
    }


def made() -> set[str]:
    """The names of all that the package calls, or raises."""
    names: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = [node.func]
            elif isinstance(node, ast.Raise) and node.exc:
                called = [node.exc]
            else:
                continue
            names |= {each.id for part in called for each in ast.walk(part) if isinstance(each, ast.Name)}
            names |= {each.attr for part in called for each in ast.walk(part) if isinstance(each, ast.Attribute)}
    return names


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_every_leaf_is_raised_somewhere(leaf: type[PhotolabelError]) -> None:
    assert leaf.__name__ in made()


def test_a_usage_error_is_a_value_error() -> None:
    """What Python programmers expect of a wrong argument."""
    assert issubclass(errors.UsageError, ValueError)


def test_nothing_is_caught_wholesale() -> None:
    """But in the last resorts of the command line and the service, so that no traceback reaches a user.

    And where a caller's own file object is read: that is foreign code, which may raise anything, and what it
    raises is one photo's failure, not that of the photos before and after it.
    """
    last = {PACKAGE / "cli" / "__init__.py", PACKAGE / "server" / "guard.py"}
    for path in set(PACKAGE.rglob("*.py")) - last:
        module = ast.parse(path.read_text("utf-8"))
        foreign = [
            each for each in module.body if getattr(each, "name", "") == "_read_object" and path.name == "images.py"
        ]
        allowed = {id(node) for each in foreign for node in ast.walk(each)}
        for node in ast.walk(module):
            if isinstance(node, ast.ExceptHandler) and id(node) not in allowed:
                caught = ast.unparse(node.type) if node.type else "everything"
                assert caught not in ("Exception", "everything"), f"{path.name}:{node.lineno} catches {caught}"


# -- the public names

PUBLIC = [
    "Answer",
    "Classifier",
    "Limits",
    "PhotolabelError",
    "Prediction",
    "RankedLabel",
    "VGG11",
    "VGG13",
    "VGG16",
    "VGG16C",
    "VGG19",
    "__version__",
    "classify",
    "classify_folder",
    "errors",
    "export",
    "load",
    "plot",
    "summary",
    "teach",
]


def test_the_public_names() -> None:
    assert sorted(photolabel.__all__) == PUBLIC == dir(photolabel)
    scope: dict[str, object] = {}
    exec("from photolabel import *", scope)
    assert sorted(scope.keys() - {"__builtins__"}) == PUBLIC
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = photolabel.nope


def test_every_public_name_is_documented() -> None:
    for name in PUBLIC:
        value = getattr(photolabel, name)
        if inspect.isclass(value) or inspect.isfunction(value) or inspect.ismodule(value):
            assert (inspect.getdoc(value) or "").strip(), name
        if inspect.isclass(value):
            for member, each in vars(value).items():
                if not member.startswith("_") and (inspect.isfunction(each) or isinstance(each, property)):
                    assert (inspect.getdoc(each) or "").strip(), f"{name}.{member}"


def test_public_functions_name_their_options() -> None:
    for function in (
        photolabel.load,
        photolabel.classify,
        photolabel.export,
        photolabel.teach,
        photolabel.Classifier.classify_many,
    ):
        kinds = [each.kind for each in inspect.signature(function).parameters.values()]
        assert inspect.Parameter.VAR_KEYWORD not in kinds and inspect.Parameter.KEYWORD_ONLY in kinds


HEAVY = ["numpy", "PIL", "openvino", "onnx", "h5py", "requests", "tqdm"]


@pytest.mark.parametrize("statement", ["import photolabel", "import photolabel; photolabel.errors.PhotolabelError"])
def test_importing_costs_nothing(statement: str) -> None:
    program = f"import sys; sys.path[:0] = [{str(PACKAGE.parent)!r}]; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & set(HEAVY)
