"""The reliability diagram: what it draws is what was counted, whole, and readable in a page's dark too."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from photolabel.confidence import Bins, bins
from photolabel.draw import chart, scene
from photolabel.draw import reliability as drawing
from photolabel.draw.reliability import reliability
from photolabel.errors import UsageError


def some(power: float = 1.7) -> Bins:
    rng = np.random.default_rng(0)
    sure = rng.beta(4, 1, 500)
    return bins(sure, rng.random(500) < sure**power)


EMPTY = bins(np.empty(0), np.empty(0, bool))
ONE = bins(np.array([0.4]), np.array([True]))


def lies_whole(page: scene.Scene) -> None:
    """All of it is on the page, and no text on another."""
    for shape in page.shapes:
        match shape:
            case scene.Box():
                assert shape.x >= 0 and shape.x + shape.width <= page.width and shape.height >= 0
                assert shape.y >= 0 and shape.y + shape.height <= page.height
            case scene.Line():
                assert all(0 <= x <= page.width and 0 <= y <= page.height for x, y in shape.points)
            case scene.Text():
                left, top, right, bottom = shape.bounds
                assert left >= 0 and top >= 0 and right <= page.width and bottom <= page.height
    for one, other in itertools.combinations([text.bounds for text in page.texts], 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] + 4 or other[3] <= one[1] + 4
        assert apart, (one, other)


@pytest.mark.parametrize("after", [None, some(1.0)], ids=["one", "two"])
@pytest.mark.parametrize("before", [some(), EMPTY, ONE], ids=["some", "none", "one answer"])
def test_all_lies_on_the_page_and_no_text_on_another(before: Bins, after: Bins | None) -> None:
    page = reliability(before, after, title="a model of a long name " * 9)
    lies_whole(page)


def points(page: scene.Scene) -> list[tuple[float, float]]:
    """Middles of the points, but for that of the legend."""
    dots = [each for each in page.shapes if isinstance(each, scene.Box) and each.radius]
    return [(dot.x + dot.width / 2, dot.y + dot.height / 2) for dot in dots][:-1]


def test_a_point_is_where_its_bin_is() -> None:
    found = some()
    page = reliability(found, title="x")
    filled = [i for i, count in enumerate(found.counts) if count]
    left, bottom, side = 24 + drawing._AXIS, drawing._TOP + drawing._SIDE, drawing._SIDE
    expected = [(left + found.confidences[i] * side, bottom - found.accuracies[i].value * side) for i in filled]
    np.testing.assert_allclose(points(page), expected)
    whiskers = [each.points for each in page.shapes if isinstance(each, scene.Line) and each.width == 1.6]
    for i, (x, _) in zip(filled, expected, strict=True):
        ends = ((x, bottom - found.accuracies[i].low * side), (x, bottom - found.accuracies[i].high * side))
        assert any(np.allclose(ends, each) for each in whiskers)


def test_before_and_after_are_told_apart() -> None:
    before, after = some(), some(1.0)
    texts = [text.text for text in reliability(before, after, title="x").texts]
    assert f"before: calibration error {before.ece:.1%}" in texts
    assert f"after: calibration error {after.ece:.1%}" in texts
    assert len(points(reliability(before, after, title="x"))) == sum(map(bool, before.counts + after.counts))
    alone = [text.text for text in reliability(before, title="x").texts]
    assert f"calibration error {before.ece:.1%}" in alone


def test_no_answers_are_said_to_be_none() -> None:
    page = reliability(EMPTY, title="x")
    assert "no answers" in [text.text for text in page.texts] and not points(page)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_as_a_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"drawn.{ending}"
    scene.save(reliability(some(), some(1.0), title="<b> & co"), path)
    if ending == "png":
        with Image.open(path) as image:
            assert image.size == (1624, 1280)
    else:
        root = ElementTree.parse(path).getroot()
        assert root.findtext("{http://www.w3.org/2000/svg}title", "").startswith("<b> & co")


def test_other_endings(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        scene.save(reliability(some(), title="x"), tmp_path / "x.gif")


def test_its_colours_are_the_ones_it_names() -> None:
    text = scene.svg(reliability(some(), some(1.0), title="x")).decode()
    assert set(re.findall(r'="(#[0-9a-f]{6})"', text)) <= set(chart.COLOURS)
