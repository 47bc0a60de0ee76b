"""Figures by hand."""

from __future__ import annotations

import numpy as np
import pytest

from photolabel.confidence import share
from photolabel.errors import UsageError
from photolabel.teaching.figures import figures

SAID = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.1, 0.5, 0.4], [np.nan] * 3], np.float32)
TRUTH = np.array([0, 0, 1, 1, 2])


def test_figures_by_hand() -> None:
    found = figures(SAID, TRUTH, np.array([1, 1, 1, 1, 0], bool))
    assert found.accuracy == share(3, 4) and found.unjudged == 1 and found.mean_recall == 0.75
    assert found.confusion.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert [each.recall for each in found.classes] == [share(1, 2), share(2, 2), share(0, 0)]
    assert [each.precision for each in found.classes] == [share(1, 1), share(2, 3), share(0, 0)]
    assert [each.photos for each in found.classes] == [2, 2, 1] and found.bins.total == 4


def test_no_photo_judged_is_no_figure() -> None:
    found = figures(SAID, TRUTH, np.zeros(5, bool))
    assert found.accuracy.of == 0 and np.isnan(found.mean_recall) and found.unjudged == 5


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError):
        figures(SAID, TRUTH[:3])
    with pytest.raises(UsageError):
        figures(SAID, TRUTH + 1)
