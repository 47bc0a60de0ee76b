"""ImageNet's classes: complete, in order, and the same as Keras'."""

from __future__ import annotations

import dataclasses
import json
import re
from importlib import resources
from pathlib import Path

import pytest

from photolabel.labels import Label, imagenet

DATA = resources.files("photolabel") / "data"
HERE = Path(__file__).parents[1]  # shared data may lie in the checkout or beside it
KERAS = [base / "shared" / "data" / "labels" / "imagenet_class_index.json" for base in (HERE, HERE.parent)]


def test_a_thousand_classes_in_order() -> None:
    labels = imagenet()
    assert [label.index for label in labels] == list(range(1000))
    assert len({label.wnid for label in labels}) == 1000
    assert all(re.fullmatch(r"n\d{8}", label.wnid or "") for label in labels)
    assert all(label.name and label.name == label.name.strip() and " " not in label.name for label in labels)


def test_known_classes() -> None:
    labels = imagenet()
    assert labels[0] == Label(0, "n01440764", "tench")
    assert labels[504] == Label(504, "n03063599", "coffee_mug")
    assert labels[999] == Label(999, "n15075141", "toilet_tissue")


def test_two_names_stand_for_two_classes_each() -> None:
    """A name is no key: whoever looks a class up by name alone loses two of them."""
    labels = imagenet()
    for name, pair in {"crane": (134, 517), "maillot": (638, 639)}.items():
        assert [label.index for label in labels if label.name == name] == list(pair)
        assert labels[pair[0]].wnid != labels[pair[1]].wnid
    assert len({label.name for label in labels}) == 998


def test_read_once_and_frozen() -> None:
    assert imagenet() is imagenet()
    with pytest.raises(dataclasses.FrozenInstanceError):
        imagenet()[0].name = "other"  # type: ignore[misc]


def test_the_file_is_plain() -> None:
    raw = (DATA / "imagenet_classes.tsv").read_bytes()
    assert raw.count(b"\n") == 1000 and raw.endswith(b"\n")
    assert b"\r" not in raw and not raw.startswith(b"\xef\xbb\xbf")


def test_wordnets_notice_travels() -> None:
    text = (DATA / "WORDNET-LICENSE.txt").read_text("utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in text
    assert "shall at all times remain with" in text


def test_same_as_keras() -> None:
    found = [path for path in KERAS if path.exists()]
    if not found:
        pytest.skip("Keras' imagenet_class_index.json is not beside this checkout")
    theirs = json.loads(found[0].read_text("utf-8"))
    assert {str(x.index): [x.wnid, x.name] for x in imagenet()} == theirs
