"""WordNet above the classes: a graph in which each class counts once under a name."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from photolabel import labels, tree
from photolabel.labels import Label

from conftest import ROOT

WORDNET = Path("/usr/share/wordnet/data.noun")


@pytest.fixture(scope="module")
def whole() -> tree.Tree:
    made = tree.of(labels.imagenet())
    assert made is not None
    return made


def leaves_by_walking(wnid: str) -> set[str]:
    """All classes that lead up to a name, by the plainest of ways."""
    known = tree.names()

    def leads(node: str) -> bool:
        return node == wnid or any(leads(above) for above in known[node].above)

    return {label.wnid for label in labels.imagenet() if label.wnid and leads(label.wnid)}


@pytest.mark.parametrize("name", ["cat", "dog", "bird", "cup", "entity", "vehicle", "mug", "Egyptian_cat", "artifact"])
def test_each_class_counts_once_under_a_name(whole: tree.Tree, name: str) -> None:
    rows = [row for row, node in enumerate(whole.nodes) if node.name == name]
    assert rows
    for row in rows:
        expected = leaves_by_walking(whole.nodes[row].wnid)
        found = {labels.imagenet()[i].wnid for i in np.flatnonzero(whole.under[row])}
        assert found == expected and whole.leaves[row] == len(expected)
    assert set(np.unique(whole.under)) == {0.0, 1.0}


def test_probabilities_are_sums(whole: tree.Tree) -> None:
    of_classes = np.random.default_rng(0).dirichlet(np.full(1000, 0.05)).astype(np.float32)
    found = whole.probabilities(of_classes)
    for row in (0, 700, 1400, len(whole.nodes) - 1):
        assert found[row] == pytest.approx(of_classes[whole.under[row] > 0].sum(), abs=1e-6)
    assert found[-1] == pytest.approx(1, abs=1e-5) and found.max() <= 1


def test_the_most_specific_come_first(whole: tree.Tree) -> None:
    assert (np.diff(whole.leaves) >= 0).all()
    assert whole.nodes[-1].name == "entity" and whole.leaves[-1] == 1000
    row = {node.wnid: i for i, node in enumerate(whole.nodes)}
    for node in whole.nodes:  # of names for the same classes the lower one
        assert all(row[node.wnid] < row[above] for above in node.above)


def test_a_path_leads_from_the_root(whole: tree.Tree) -> None:
    path = tree.path("n02124075")
    assert path[0].name == "entity" and path[-1].name == "Egyptian_cat"
    assert all(upper.wnid in lower.above for upper, lower in itertools.pairwise(path))


def test_a_telling_path_leaves_out_what_says_next_to_nothing(whole: tree.Tree) -> None:
    told = [node.name for node in tree.telling_path("n02124075")]
    assert told[:2] == ["living_thing", "organism"] and told[-2:] == ["domestic_cat", "Egyptian_cat"]
    nothing = {node.wnid for node, n in zip(whole.nodes, whole.leaves, strict=True) if n > 900}
    assert nothing == tree._SAY_NOTHING
    assert tree.telling_path(None) == tree.telling_path("n99999999") == ()


def test_names_are_distinct_for_people() -> None:
    known = tree.names()
    told = [known[str(label.wnid)].everyday for label in labels.imagenet()]
    assert len(set(told)) == 1000, "the two cranes and the two maillots too"
    cranes = [known[str(x.wnid)].everyday for x in labels.imagenet() if x.name == "crane"]
    assert cranes == ["crane (wading bird)", "crane (lifting device)"]
    assert known["n02123394"].everyday == "Persian cat" and known["n02930766"].everyday == "taxi"


def test_the_tree_names_classes_as_the_classes_file_does() -> None:
    known = tree.names()
    assert all(known[str(label.wnid)].name == label.name for label in labels.imagenet())
    assert [node.wnid for node in known.values() if not node.above] == ["n00001740"]
    assert {above for node in known.values() for above in node.above} <= set(known)


def test_fewer_classes_have_a_smaller_tree() -> None:
    some = [label for label in labels.imagenet() if "cat" in label.name.split("_")]
    made = tree.of(some)
    assert made is not None and made.leaves[-1] == len(some) and len(made.nodes) < 60


def test_classes_outside_wordnet_have_none() -> None:
    assert tree.of([Label(0, None, "mine")]) is None
    assert tree.of([*labels.imagenet()[:3], Label(3, "n99999999", "new")]) is None


def the_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_wordnet_tree", ROOT / "tools" / "make_wordnet_tree.py")
    assert spec and spec.loader
    tool = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = tool  # dataclasses look it up
    spec.loader.exec_module(tool)
    return tool


@pytest.mark.skipif(not WORDNET.is_file(), reason="Debian's wordnet-base is not installed")
def test_the_tool_makes_the_packaged_file() -> None:
    tool = the_tool()
    assert tool.tree(WORDNET.parent) == tool.TREE.read_text("utf-8")


def test_a_line_of_wordnet_is_read() -> None:
    tool = the_tool()
    line = "02124075 05 n 01 Egyptian_cat 0 002 @ 02121808 n 0000 -c 00001740 a 0000 | a domestic cat of Egypt"
    wnid, found = tool.synset(line)
    assert (wnid, found.words, found.above) == ("n02124075", ("Egyptian_cat",), ("n02121808",))
