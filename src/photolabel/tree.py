"""WordNet above the classes: what a coffee mug is besides, and which classes are cups.

WordNet 3.0 is no tree: a class may be reached on several ways, so each counts once under a name.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from .labels import Label

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Name:
    """A name: its WordNet id, its first word as ImageNet writes it, what people say, and the ids above it."""

    wnid: str
    name: str
    everyday: str
    above: tuple[str, ...]


@functools.cache
def names() -> dict[str, Name]:
    """Return ImageNet's classes and all names above them, by id. See data/ORIGINS.md."""
    text = (resources.files("photolabel") / "data" / "wordnet_tree.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return {wnid: Name(wnid, name, everyday, tuple(above.split())) for wnid, name, everyday, above in rows}


def everyday(wnid: str | None) -> str | None:
    """Return what people say for a name of WordNet, by its id; None for what is not packaged."""
    name = names().get(wnid) if wnid else None
    return name.everyday if name else None


@dataclass(frozen=True)
class Tree:
    """The names above the classes of one model, each class of which is in WordNet.

    `nodes` are the names that stand above a class, and the classes themselves, the most specific first: by how few
    classes they stand for, then by how far they are from the root. `under` says which: float32 (nodes, classes), 1 or
    0. `leaves` is how many those are: (nodes,).
    """

    nodes: tuple[Name, ...]
    under: NDArray[np.float32]
    leaves: NDArray[np.int64]

    def probabilities(self, of_classes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of each node, float32 (nodes,) 0..1: the sum of those of its classes, (classes,)."""
        summed: NDArray[np.float32] = self.under @ of_classes
        return np.minimum(summed, np.float32(1))

    def along(self, wnid: str, of_classes: NDArray[np.float32]) -> list[tuple[Name, float]]:
        """Return the names on the way to a name, as `telling_path` has them, and how probable each is."""
        found, row = self.probabilities(of_classes), {node.wnid: i for i, node in enumerate(self.nodes)}
        return [(name, float(found[row[name.wnid]])) for name in telling_path(wnid) if name.wnid in row]


# Entity, physical entity, object, whole: they stand for nine in ten of ImageNet's classes and more.
_SAY_NOTHING = frozenset(["n00001740", "n00001930", "n00002684", "n00003553"])


def path(wnid: str) -> tuple[Name, ...]:
    """Return one way from the root to a name, both included: at each step up WordNet's first."""
    found = names()
    way = [found[wnid]]
    while way[-1].above:
        way.append(found[way[-1].above[0]])
    return tuple(reversed(way))


def telling_path(wnid: str | None) -> tuple[Name, ...]:
    """Return `path` without the names that say next to nothing; empty for what is not in WordNet, as packaged."""
    return tuple(name for name in path(wnid) if name.wnid not in _SAY_NOTHING) if wnid in names() and wnid else ()


def of(labels: Sequence[Label]) -> Tree | None:
    """Return the tree above these classes; None where one of them is not in WordNet, as packaged."""
    return _of(tuple(label.wnid for label in labels))


@functools.lru_cache(maxsize=4)
def _of(classes: tuple[str | None, ...]) -> Tree | None:
    known = names()
    if any(wnid not in known for wnid in classes):
        return None
    under: dict[str, set[int]] = {}
    for index, wnid in enumerate(classes):
        for node in _above(str(wnid), known):
            under.setdefault(node, set()).add(index)
    depth = {node: _depth(node, known) for node in under}
    order = sorted(under, key=lambda node: (len(under[node]), -depth[node], node))
    matrix = np.zeros((len(order), len(classes)), np.float32)
    for row, node in enumerate(order):
        matrix[row, list(under[node])] = 1
    matrix.setflags(write=False)
    leaves = np.array([len(under[node]) for node in order], np.int64)
    return Tree(tuple(known[node] for node in order), matrix, leaves)


def _above(wnid: str, known: dict[str, Name]) -> Iterable[str]:
    """A name, and all names above it, once each."""
    met, waiting = {wnid}, [wnid]
    while waiting:
        for node in known[waiting.pop()].above:
            if node not in met:
                met.add(node)
                waiting.append(node)
    return met


def _depth(wnid: str, known: dict[str, Name]) -> int:
    """Steps to the root, on the longest way."""
    return max((1 + _depth(node, known) for node in known[wnid].above), default=0)
