"""How near a precision stays: the numbers against ones worked out by hand, and what cannot be compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import photolabel
from photolabel.agreement import agreement
from photolabel.errors import UsageError

from conftest import ROOT

SAMPLES = sorted((ROOT / "samples").glob("*.jpg"))


def test_the_numbers_are_those_of_the_predictions(tiny: Path) -> None:
    found = agreement(tiny, "int8", SAMPLES)
    with photolabel.load(tiny) as plain, photolabel.load(tiny, precision="int8") as small:
        pairs = [(plain.classify(photo, top=None), small.classify(photo, top=None)) for photo in SAMPLES]
    changes = np.stack([np.abs(a.probabilities - b.probabilities) for a, b in pairs])
    assert (found.model, found.precision, found.photos, found.unreadable) == ("tiny", "int8", len(SAMPLES), 0)
    assert found.largest == pytest.approx(changes.max(), abs=1e-6) and found.largest > 0
    assert found.mean == pytest.approx(changes.mean(), abs=1e-6)
    assert found.same_top1 == sum(a.top.index == b.top.index for a, b in pairs)
    fives = [[{label.index for label in each.labels[:5]} for each in pair] for pair in pairs]
    assert found.same_top5 == sum(one == other for one, other in fives)
    assert found.cosine is not None and 0.98 < found.cosine < 1


def test_the_bundled_model_stays_itself() -> None:
    found = agreement("efficientnet-lite2", "int8", SAMPLES)
    assert found.same_top1 >= 3 and found.cosine is not None and found.cosine > 0.9


def test_a_bad_photo_takes_no_part(tiny: Path, tmp_path: Path) -> None:
    found = agreement(tiny, "int8", [SAMPLES[0], tmp_path / "missing.jpg"])
    assert (found.photos, found.unreadable) == (1, 1)


def test_what_cannot_be_compared(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="other than fp32"):
        agreement(tiny, "fp32", SAMPLES)
    with pytest.raises(UsageError, match="none of the 1 photos"):
        agreement(tiny, "int8", [tmp_path / "missing.jpg"])
    with pytest.raises(UsageError, match="expected one of"):
        agreement(tiny, "fp8", SAMPLES)
