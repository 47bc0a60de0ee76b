"""The learning curve: what it draws is what was measured, whole, and readable in a page's dark too."""

from __future__ import annotations

import itertools
import re

import pytest

from photolabel.confidence import Share, share
from photolabel.draw import chart, growth, scene
from test_reliability import lies_whole

SOME = [(6.25, share(78, 100)), (12.5, share(85, 100)), (25.0, share(90, 100)), (49.2, share(93, 100))]
CASES = {
    "some": SOME,
    "none": [],
    "one": [(1.0, share(0, 3))],
    "nothing right": [(1.0, share(0, 5)), (2.0, share(5, 5))],
    "many": [(1.0 + i / 10, share(i, 40)) for i in range(40)],
    "one number": [(3.0, share(1, 2)), (3.0, share(2, 2))],
    "large": [(12_345.0, share(999_999, 1_000_000)), (98_765.4, share(1_000_000, 1_000_000))],
}


@pytest.mark.parametrize("points", CASES.values(), ids=CASES.keys())
def test_all_lies_on_the_page_and_no_text_on_another(points: list[tuple[float, Share]]) -> None:
    page = growth.growth(points, title="a lesson of a long name " * 9)
    lies_whole(page)
    assert set(re.findall(r'="(#[0-9a-f]{6})"', scene.svg(page).decode())) <= set(chart.COLOURS)


def test_points_are_where_they_were_measured() -> None:
    page = growth.growth(SOME, title="x")
    dots = [each for each in page.shapes if isinstance(each, scene.Box) and each.radius]
    lines = {text.text: text.y - 4 for text in page.texts if text.text.endswith("%")}
    assert list(lines) == ["60%", "70%", "80%", "90%", "100%"]  # the lowest interval ends at 69 %
    scale = (lines["60%"] - lines["100%"]) / 0.4
    for dot, (_, accuracy) in zip(dots, SOME, strict=True):
        assert dot.y + dot.height / 2 == pytest.approx(lines["100%"] + scale * (1 - accuracy.value))
    xs = [dot.x + dot.width / 2 for dot in dots]
    steps = [right - left for left, right in itertools.pairwise(xs)]
    assert steps[0] == pytest.approx(steps[1]) and steps[2] < steps[1]  # the last is a little less than twice as many
    marks = {text.text: text.x for text in page.texts}
    assert [marks[each] for each in ("6.2", "12", "25", "49")] == pytest.approx(xs)


def test_a_share_near_all_is_drawn_large() -> None:
    page = growth.growth([(10.0, share(990, 1000)), (20.0, share(995, 1000))], title="x")
    assert [text.text for text in page.texts if text.text.endswith("%")] == ["80%", "85%", "90%", "95%", "100%"]
