"""How far off a mistake is, by WordNet: a cat for another cat is nearer than a cat for a mug.

The distance is the height of the lowest common ancestor, after Deng, Berg, Li and Fei-Fei, "What Does Classifying More
Than 10,000 Image Categories Tell Us?", ECCV 2010, and Russakovsky et al., "ImageNet Large Scale Visual Recognition
Challenge", IJCV 2015. WordNet is no tree, so what that is must be said: the height of a name is the longest way down
from it to one of the model's classes, a class stands above itself, and of all names above both classes the one of the
smallest height counts; of several such the most specific, as `Tree.nodes` are sorted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..tree import Tree

_AT_ONCE = 4096  # pairs, of 2 KB each with ImageNet's names


def heights(tree: Tree) -> NDArray[np.int64]:
    """Return the height of each of the tree's nodes, (nodes,): the longest way down to a class. A class alone has 0."""
    row = {node.wnid: i for i, node in enumerate(tree.nodes)}
    found = np.zeros(len(tree.nodes), np.int64)
    # What is below another name stands for fewer classes, or as many and is farther from the root: it comes first.
    for i, node in enumerate(tree.nodes):
        for above in node.above:
            found[row[above]] = max(found[row[above]], found[i] + 1)
    return found


def between(
    tree: Tree, one: NDArray[np.int64], other: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how far apart classes are, and the lowest names above both: two arrays of heights and nodes, (pairs,).

    `one` and `other` are indices of classes, (pairs,); the nodes are indices into `tree.nodes`.
    """
    high = heights(tree)
    order = np.argsort(high, kind="stable")  # among names of a height the tree's own order stays
    above = np.ascontiguousarray(tree.under[order].T > 0)  # (classes, nodes)
    pairs, inverse = np.unique(np.stack([one, other]), axis=1, return_inverse=True)
    lowest = np.zeros(pairs.shape[1], np.int64)
    for start in range(0, len(lowest), _AT_ONCE):
        some = pairs[:, start : start + _AT_ONCE]
        both = above[some[0]] & above[some[1]]
        lowest[start : start + _AT_ONCE] = order[both.argmax(axis=1)]  # the first; there is always the root
    nodes = lowest[inverse.ravel()]
    return high[nodes], nodes
