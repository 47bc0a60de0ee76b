"""Probabilities -> what photolabel is willing to say: a class, a broader name, or that it is unsure.

After Deng, Krause, Berg and Fei-Fei, "Hedging Your Bets: Optimizing Accuracy-Specificity Trade-offs in Large Scale
Visual Recognition", CVPR 2012: among the names that are right as often as was asked for, the most specific.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from .tree import everyday

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .labels import Label
    from .tree import Tree

# A name that stands for more of the classes than this share says next to nothing of a photo: an "object", a "whole".
_NOTHING = 0.9
# Of the generalised entropy: what its authors use for ImageNet's classes.
_LIKELIEST, _POWER = 100, 0.1
# Softmax gives 0 for what is below the smallest float32: no logarithm can be taken of that.
FLOOR = np.float32(1e-38)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What photolabel is willing to say of a photo.

    `kind` is "leaf" for one of the model's classes, "broader" for a name above several, "unsure" for neither: then
    there is no `wnid`, the `name` is "unsure", and `probability` is that of the likeliest class, which it was not
    enough for; the `reason` says why. Else `probability` is that of the name, 0..1, the sum of those of its classes.
    `everyday` is what people say for the name, None where it is not WordNet's.
    """

    kind: Literal["leaf", "broader", "unsure"]
    wnid: str | None
    name: str
    probability: float
    everyday: str | None = None
    reason: Literal["not sure enough", "none of its classes"] | None = None

    def __str__(self) -> str:
        if self.kind == "unsure":
            return "unsure (none of its classes)" if self.reason == "none of its classes" else "unsure"
        return f"{self.name} ({self.probability * 100:.2f}%)"


def leaf(label: Label, probability: float) -> Answer:
    """Return a class as the answer."""
    said = everyday(label.wnid)
    return Answer(kind="leaf", wnid=label.wnid, name=label.name, probability=probability, everyday=said)


def unsure(probability: float, *, reason: Literal["not sure enough", "none of its classes"]) -> Answer:
    """Return that nothing is said, where the likeliest class has this probability."""
    return Answer(kind="unsure", wnid=None, name="unsure", probability=probability, reason=reason)


def hedged(probabilities: NDArray[np.float32], labels: Sequence[Label], tree: Tree | None, *, sure: float) -> Answer:
    """Return the most specific name whose probability is at least `sure`.

    `probabilities` are those of `labels`, float32 (classes,). Of the names that reach it the one that stands for the
    fewest classes is taken; of several such the lowest in the tree. Without a `tree` there are only the classes.
    """
    best = int(np.argmax(probabilities))
    if probabilities[best] >= sure:
        return leaf(labels[best], float(probabilities[best]))
    if tree is not None:
        found = tree.probabilities(probabilities)
        reached = np.flatnonzero((found >= sure) & (tree.leaves <= _NOTHING * len(labels)))
        if len(reached):
            node = int(reached[0])  # the nodes are sorted so
            name = tree.nodes[node]
            return Answer(
                kind="broader",
                wnid=name.wnid,
                name=name.name,
                probability=float(found[node]),
                everyday=name.everyday,
            )
    return unsure(float(probabilities[best]), reason="not sure enough")


def familiarity(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how much photos look like what a network knows, 0 to 1: float32 (..., classes) -> float64 (...).

    Of the network's own probabilities, which are spread over many classes where none fits: 1 less their generalised
    entropy, over the hundred likeliest classes, as a share of the greatest that there can be. After Liu, Lochman and
    Zach, "GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection", CVPR 2023. Told photos of none of
    the classes better than the largest probability or logit does, and than the energy of all: docs/benchmarks.md.
    """
    top = min(_LIKELIEST, probabilities.shape[-1])
    likeliest = np.sort(probabilities.astype(np.float64), axis=-1)[..., -top:].clip(0, 1)
    greatest = top * (1 / top * (1 - 1 / top)) ** _POWER
    found: NDArray[np.float64] = 1 - ((likeliest * (1 - likeliest)) ** _POWER).sum(axis=-1) / greatest
    return found


def information(answer: Answer, classes: int, tree: Tree | None) -> float:
    """Return how much an answer says, 0 to 1: log2(classes / classes under it) / log2(classes)."""
    if answer.kind == "leaf":
        return 1.0
    if answer.kind == "unsure" or tree is None:
        return 0.0
    row = next(i for i, node in enumerate(tree.nodes) if node.wnid == answer.wnid)
    return math.log2(classes / int(tree.leaves[row])) / math.log2(classes)


def tempered(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return probabilities as the network's softmax gives them with its logits divided by `temperature`.

    float32 (..., classes) -> the same. After Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural
    Networks", ICML 2017.
    """
    logits = np.log(np.maximum(probabilities, FLOOR).astype(np.float64)) / temperature
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scaled: NDArray[np.float32] = (raised / raised.sum(axis=-1, keepdims=True)).astype(np.float32)
    return scaled
