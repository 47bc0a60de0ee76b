"""Conventions by name and from a file: what they come to, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from photolabel import conventions
from photolabel.cli import parser
from photolabel.conventions import CONVENTIONS, resolve
from photolabel.errors import UsageError

WHOLE: dict[str, Any] = {
    "size": 64,
    "fit": "crop-resize",
    "side": 70,
    "filter": "lanczos",
    "order": "BGR",
    "mean": [1, 2.5, 3],
    "deviation": [4, 5, 6],
    "layout": "NHWC",
    "output": "probs",
}
LEAST = {"order": "RGB", "mean": [0, 0, 0], "deviation": [1, 1, 1]}


def file(folder: Path, value: object, name: str = "mine.json") -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    return path


@pytest.mark.parametrize("name", CONVENTIONS)
def test_by_name(name: str) -> None:
    convention = resolve(name)
    assert convention.name == name and convention.recipe(None).size == 224 and convention.recipe(64).size == 64
    assert name in parser.OWN_RECIPES.split(", ")


def test_torchvision_s_numbers() -> None:
    """ToTensor makes 0-1 of 0-255, then Normalize takes these off."""
    convention = CONVENTIONS["torchvision"]
    x = np.array([12.0, 130.0, 255.0])
    theirs = (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    ours = (x - convention.normalisation.mean) / convention.normalisation.deviation
    np.testing.assert_allclose(ours, theirs)
    sides = {224: 256, 299: 342, 32: 37}
    assert {size: convention.recipe(size).side for size in sides} == sides
    assert CONVENTIONS["efficientnet-lite"].recipe(260).side == 292
    assert CONVENTIONS["keras"].recipe(299).side is None


def test_from_a_file(tmp_path: Path) -> None:
    found = resolve(file(tmp_path, WHOLE))
    assert (found.name, found.layout, found.output) == ("mine", "NHWC", "probs")
    assert found.normalisation.order == "BGR" and found.normalisation.mean == (1, 2.5, 3)
    assert found.normalisation.deviation == (4, 5, 6)
    recipe = found.recipe(None)
    assert (recipe.size, recipe.fit, recipe.side, recipe.filter) == (64, "crop-resize", 70, "lanczos")
    found = resolve(str(file(tmp_path, "\ufeff" + json.dumps(LEAST))))
    assert (found.fit, found.filter, found.layout, found.output) == ("resize-crop", "bilinear", None, None)
    assert found.recipe(112).side == 128
    assert resolve(file(tmp_path, {**LEAST, "side": 80})).recipe(64).side == 80
    assert resolve(file(tmp_path, LEAST, "x" * 70)).name == "own"


def test_a_name_wins_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file(tmp_path, LEAST, "torchvision")
    assert resolve("torchvision") is CONVENTIONS["torchvision"]
    assert resolve("./torchvision").normalisation.mean == (0, 0, 0)


BAD: dict[str, tuple[object, str]] = {
    "an unknown key": ({**LEAST, "means": [1, 2, 3]}, "got 'means'; did you mean mean?"),
    "no order": ({"mean": [0, 0, 0], "deviation": [1, 1, 1]}, "there is no order"),
    "no mean": ({"order": "RGB", "deviation": [1, 1, 1]}, "there is no mean"),
    "no deviation": ({"order": "RGB", "mean": [0, 0, 0]}, "there is no deviation"),
    "another order": ({**LEAST, "order": "GBR"}, "order to be one of RGB, BGR"),
    "order null": ({**LEAST, "order": None}, "order to be one of"),
    "two means": ({**LEAST, "mean": [1, 2]}, "mean to be three numbers"),
    "a mean of text": ({**LEAST, "mean": ["1", 2, 3]}, "mean to be three numbers"),
    "true": ({**LEAST, "mean": [True, 2, 3]}, "mean to be three numbers"),
    "no number": ('{"order": "RGB", "mean": [NaN, 0, 0], "deviation": [1, 1, 1]}', "mean to be three numbers"),
    "infinity": ('{"order": "RGB", "mean": [0, 0, 0], "deviation": [1e999, 1, 1]}', "deviation to be three numbers"),
    "zero": ({**LEAST, "deviation": [1, 0, 1]}, "deviation of at least 0.001"),
    "below zero": ({**LEAST, "deviation": [1, -5, 1]}, "deviation of at least 0.001"),
    "the other scale": ({**LEAST, "mean": [0.485, 0.456, 0.406], "deviation": [0.229, 0.224, 0.225]}, "by 255"),
    "a size of text": ({**LEAST, "size": "224"}, "size to be a whole number"),
    "a size of half": ({**LEAST, "size": 224.5}, "size to be a whole number"),
    "no size": ({**LEAST, "size": 0}, "size to be a whole number"),
    "a huge size": ({**LEAST, "size": 10**9}, "size must be a whole number from 1 to 4096"),
    "a side below the size": ({**LEAST, "size": 64, "side": 32}, "a side from its size"),
    "a side for what is squashed": ({**LEAST, "fit": "squash", "side": 32}, "takes no side"),
    "another fit": ({**LEAST, "fit": "stretch"}, "fit to be one of squash"),
    "a list for a fit": ({**LEAST, "fit": ["squash"]}, "fit to be one of squash"),
    "another filter": ({**LEAST, "filter": "best"}, "filter must be one of nearest"),
    "another filter, with a side": ({**LEAST, "filter": "best", "side": 300}, "filter must be one of nearest"),
    "another layout": ({**LEAST, "layout": "CHWN"}, "layout to be one of NCHW, NHWC"),
    "an output of a number": ({**LEAST, "output": 1}, "output to be a text"),
    "a key twice": ('{"order": "RGB", "order": "BGR", "mean": [0, 0, 0], "deviation": [1, 1, 1]}', "comes twice"),
    "a list": ([LEAST], "a recipe as a JSON object"),
    "no JSON": ("order: RGB", "a recipe as a JSON object"),
    "depth": ("[" * 60_000, "a recipe as a JSON object"),
    "size": (" " * 70_000, "at most 65,536 bytes"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_line(tmp_path: Path, case: str) -> None:
    value, says = BAD[case]
    path = file(tmp_path, value)
    with pytest.raises(UsageError) as caught:
        resolve(path)
    assert says in str(caught.value) and str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["torchvison", "missing.json", "a\0b", ".", "x" * 5000])
def test_neither_a_name_nor_a_file(name: str) -> None:
    with pytest.raises(UsageError, match=r"expected one of torchvision, .* or the path of a JSON file") as caught:
        resolve(name)
    assert ("Did you mean torchvision?" in str(caught.value)) is (name == "torchvison")


_VALUES = st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.lists(st.floats() | st.integers())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.sampled_from(conventions._KEYS), _VALUES))
def test_whatever_is_in_it_a_convention_or_a_typed_error(tmp_path: Path, value: dict[str, Any]) -> None:
    path = file(tmp_path, {**WHOLE, **value})
    try:
        found = resolve(path)
    except UsageError:
        return
    assert min(found.normalisation.deviation) > 0 and found.recipe(None).size >= 1
