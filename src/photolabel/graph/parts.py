"""Of a parsed network: what a tensor needs to be computed, and how it lies in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

_TO_CHANNELS_LAST, _TO_CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def is_channels_first(name: str, maker: Mapping[str, Any], constants: Collection[str]) -> bool:
    """Whether a tensor of rank 4 is (N, C, H, W), as all are but those between the pixels and a transposition."""
    passed: set[str] = set()
    while name in maker and name not in passed:
        passed.add(name)
        node = maker[name]
        if node.op_type == "Transpose":
            axes = next((list(each.ints) for each in node.attribute if each.name == "perm"), [])
            if axes in (_TO_CHANNELS_LAST, _TO_CHANNELS_FIRST):
                return axes == _TO_CHANNELS_FIRST
        elif "Conv" in node.op_type or "Pool" in node.op_type:
            return True
        name = next((each for each in node.input if each and each not in constants), "")
    return name in maker  # else it comes from the pixels, unturned


def reachable(outputs: Iterable[str], maker: Mapping[str, Any]) -> set[str]:
    """Return all tensors that are needed to compute `outputs`, these included."""
    found: set[str] = set()
    left = list(outputs)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            if name in maker:
                left += _reads(maker[name])
    return found


def _reads(node: Any) -> Iterator[str]:
    """The tensors that a node reads, those that only its inner graphs do included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            yield from (each.name for each in inner.output)
            for each in inner.node:
                yield from _reads(each)


def remove(things: Any, unneeded: list[bool]) -> None:
    """Take out of a repeated field what is not needed."""
    for i in reversed(range(len(things))):
        if unneeded[i]:
            del things[i]
