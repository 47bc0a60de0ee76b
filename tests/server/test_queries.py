"""Parameters are read strictly, and described by what they are read by."""

from __future__ import annotations

import pytest

from photolabel.server import Settings, queries
from photolabel.server.problems import RefusedError

PARAMETERS = queries.of_photo(Settings(top=20), ["a", "b"], top=5)


def test_what_is_not_given_has_its_default() -> None:
    found = queries.read([], PARAMETERS)
    assert found == {"top": 5, "model": "a", "sure": None, "coverage": None, "tree": False}


def test_what_is_given_is_read() -> None:
    pairs = [("top", "20"), ("model", "b"), ("sure", "0.9"), ("coverage", "95e-2"), ("tree", "1")]
    assert queries.read(pairs, PARAMETERS) == {"top": 20, "model": "b", "sure": 0.9, "coverage": 0.95, "tree": True}


@pytest.mark.parametrize(
    "pair",
    [
        ("top", "0"), ("top", "21"), ("top", "-1"), ("top", "all"), ("top", "5.0"), ("top", "٣"), ("top", ""),
        ("top", "9" * 5000),
        ("sure", "0"), ("sure", "1.01"), ("sure", "nan"), ("sure", "inf"), ("sure", "-0.5"), ("sure", ""),
        ("sure", "1e9"), ("sure", "1_0e-2"), ("sure", " 0.5"), ("sure", "0.0e-99"),
        ("coverage", "1"), ("coverage", "0"), ("coverage", "x"),
        ("tree", "yes"), ("tree", ""), ("tree", "TRUE"),
        ("tpo", "3"), ("", ""), ("Top", "3"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(RefusedError) as caught:
        queries.read([pair], PARAMETERS)
    problem = caught.value.problem
    assert (problem.status, problem.code) == (422, "usage")
    assert pair[1] not in problem.detail or len(pair[1]) < 5  # what came is not said again


def test_twice_is_once_too_often() -> None:
    with pytest.raises(RefusedError):
        queries.read([("top", "1"), ("top", "1")], PARAMETERS)


def test_the_description_is_of_what_is_read() -> None:
    for each in PARAMETERS:
        described = each.openapi()
        assert described["in"] == "query" and not described["required"] and described["description"]
        default = described["schema"].get("default")
        assert default == each.default
    (top, *_) = PARAMETERS
    assert top.openapi()["schema"] == {"type": "integer", "minimum": 1, "maximum": 20, "default": 5}
