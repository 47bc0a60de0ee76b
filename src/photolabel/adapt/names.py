"""The names of a graph's tensors, its sub-graphs included: collected, changed everywhere at once, made anew.

ONNX forbids a sub-graph to call a tensor as one of the graphs around it: so one new name for one old name, wherever
it stands, changes no meaning. Functions have names of their own and are left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


def names(graph: Any) -> set[str]:
    """Return every name of a tensor in `graph` and its sub-graphs."""
    found = set()
    for each in _graphs(graph):
        found |= {value.name for value in (*each.input, *each.output, *each.value_info, *each.initializer)}
        found |= {sparse.values.name for sparse in each.sparse_initializer}
        for node in each.node:
            found |= {*node.input, *node.output}
    return found - {""}  # which stands for an input or output left out


def rename(graph: Any, new: Mapping[str, str]) -> None:
    """Call each tensor that is a key of `new` by its value. No value may be the name of another tensor."""
    if not new:
        return
    for each in _graphs(graph):
        for value in (*each.input, *each.output, *each.value_info, *each.initializer):
            if value.name in new:
                value.name = new[value.name]
        for sparse in each.sparse_initializer:
            if sparse.values.name in new:
                sparse.values.name = new[sparse.values.name]
        del each.quantization_annotation[:]  # only says, by name, what QuantizeLinear nodes say anyway
        for node in each.node:
            for ends in (node.input, node.output):
                for i, name in enumerate(ends):
                    if name in new:
                        ends[i] = new[name]


def fresh(name: str, taken: Collection[str]) -> str:
    """Return a name like `name` that is not among `taken`."""
    number = 1
    while (made := f"{name}_{number}") in taken:
        number += 1
    return made


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from _graphs(inner)
