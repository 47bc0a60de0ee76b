"""ImageNet's classes: complete, in order, and the same as Keras'. And labels files of every form."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from photolabel import labels
from photolabel.errors import UsageError
from photolabel.labels import Label, imagenet, read

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


# -- labels files

PAIR = [Label(0, "n01440764", "tench"), Label(1, "n01443537", "goldfish")]
PLAIN = [Label(0, None, "tench"), Label(1, None, "goldfish")]
FORMS: dict[str, tuple[str | bytes, list[Label]]] = {
    "names": ("tench\ngoldfish\n", PLAIN),
    "names, the last line unended": ("tench\ngoldfish", PLAIN),
    "names as Windows writes them": (b"\xef\xbb\xbftench\r\ngoldfish\r\n\r\n", PLAIN),
    "ids, tabs and names": ("n01440764\ttench\nn01443537\tgoldfish\n", PAIR),
    "Caffe's": ("n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n", PAIR),
    "a list": ('["tench", "goldfish"]', PLAIN),
    "a list of pairs": ('[["n01440764", "tench"], ["n01443537", "goldfish"]]', PAIR),
    "an object": ('{"1": "goldfish", "0": "tench"}', PLAIN),
    "Keras' object": ('{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}', PAIR),
    "Hugging Face's": ('{"x": 1, "id2label": {"0": "tench", "1": "goldfish"}, "label2id": {}}', PLAIN),
    "JSON with a mark": (b'\xef\xbb\xbf ["tench", "goldfish"]', PLAIN),
    "twice the same": ("crane\ncrane", [Label(0, None, "crane"), Label(1, None, "crane")]),
    "harm": ('["\\u001b[2J\\u202ea\\ud800", " b\\n c "]', [Label(0, None, "[2J a"), Label(1, None, "b c")]),
    "other line ends are no line ends": ("a\x0bb\u2028c\nd", [Label(0, None, "a b c"), Label(1, None, "d")]),
}


@pytest.mark.parametrize("form", FORMS)
def test_labels_of_every_form(tmp_path: Path, form: str) -> None:
    data, expected = FORMS[form]
    path = tmp_path / "labels"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    assert list(read(path)) == list(read(str(path))) == expected


def test_the_packaged_ones_by_a_word() -> None:
    assert read("imagenet") is imagenet()


BAD: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "line 1, which is empty"),
    "one": ("cat", "2 to 100,000 classes, got 1"),
    "a gap": ("cat\n\ndog", "line 2, which is empty: a line left out"),
    "a gap of blanks": ("cat\n \t\ndog", "line 2"),
    "an index and a name": ("0\tcat\n1\tdog", "WordNet id, a tab and a name, in line 1"),
    "two forms": ("n01440764\ttench\ngoldfish", "line 2 to be of the same form"),
    "two forms, the other way": ("goldfish\nn01440764\ttench", "line 2 to be of the same form"),
    "three columns": ("n01440764\ta\tb\nn01443537\tc\td", "in line 1"),
    "an index missing": ('{"0": "a", "2": "b"}', "each index from 0 to 1 once; there is no 1"),
    "an index twice": ('{"0": "a", "0": "b"}', "comes twice"),
    "an index with a zero before it": ('{"0": "a", "01": "b"}', "there is no 1"),
    "names to indices": ('{"cat": 0, "dog": 1}', "there is no 0"),
    "a number": ('["cat", 1]', "at index 1"),
    "no id": ('[["cat", "dog"], ["n01440764", "tench"]]', "at index 0"),
    "a list of nothing": ("[]", "2 to 100,000 classes, got 0"),
    "broken JSON": ('["cat", ', "JSON, as it begins with a bracket"),
    "a Python dictionary": ("{0: 'cat', 1: 'dog'}", "JSON, as it begins with a bracket"),
    "labels that are a word": ('{"id2label": "cat"}', "a list of names, or an object"),
    "depth": ("[" * 100_000, "JSON, as it begins"),
    "no name": ('["cat", "\\u0007"]', "that of class 1 has 0"),
    "a long name": ("cat\n" + "x" * 501, "that of class 1 has 501"),
    "another encoding": ("chat\nchien\u00e9".encode("latin-1"), "UTF-8"),
    "Windows' other encoding": ("cat\ndog".encode("utf-16"), "UTF-8"),
    "too many": ("a\n" * 100_001, "2 to 100,000 classes, got 100,001"),
    "too large": ("a" * (4 * 2**20 + 1), "at most 4,194,304 bytes"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_labels_are_one_line(tmp_path: Path, case: str) -> None:
    data, says = BAD[case]
    path = tmp_path / "labels.txt"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(UsageError) as caught:
        read(path)
    assert says in str(caught.value) and str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_labels_that_are_not_to_be_had(tmp_path: Path) -> None:
    for path, says in [(tmp_path / "x", "no such labels file"), (tmp_path, "cannot be read"), ("a\0b", "NUL")]:
        with pytest.raises(UsageError, match=says):
            read(path)


def test_the_largest_labels_fit_into_a_model_s_metadata() -> None:
    """In JSON a character takes at most three times its bytes, and 100,000 pairs their brackets."""
    from photolabel import metadata

    assert 3 * labels._MAX_BYTES + labels.MAX_LABELS * len('["n01440764",""],') < metadata.MAX_BYTES


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.text(max_size=20).filter(lambda x: any(c.isprintable() and c != " " for c in x)), min_size=2))
def test_names_survive_as_json_in_both_forms(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "labels.json"
    found = []
    for value in (names, {str(i): name for i, name in enumerate(names)}):
        path.write_text(json.dumps(value), "utf-8")
        found.append(read(path))
    assert found[0] == found[1] and len(found[0]) == len(names)
    for label, name in zip(found[0], names, strict=True):
        assert label.name.isprintable() and (
            label.name == name or " ".join(name.split()) != name or not name.isprintable()
        )


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9).map(str), inner),
    max_leaves=20,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(_JSON | st.binary())
def test_whatever_is_in_it_labels_or_a_typed_error(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "labels"
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    with contextlib.suppress(UsageError):
        assert len(read(path)) >= 2
