"""ImageNet's 1000 classes, as packaged data."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Label:
    """One class that a network can name.

    `index` is its place in the network's output. `wnid` is its WordNet id, such as "n03063599"; None for a
    class that is not ImageNet's. `name` is for people and not unique: ImageNet has two cranes and two
    maillots.
    """

    index: int
    wnid: str | None
    name: str


@functools.cache
def imagenet() -> tuple[Label, ...]:
    """Return the 1000 classes of ILSVRC 2012, in the order of every published network's output.

    Ids and names (with underscores) are those of Keras' imagenet_class_index.json, md5
    c2c37ea517e94d9795004a39431a14cb; they come from WordNet 3.0, whose licence lies beside the data.
    """
    text = (resources.files("photolabel") / "data" / "imagenet_classes.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return tuple(Label(index, wnid, name) for index, (wnid, name) in enumerate(rows))
