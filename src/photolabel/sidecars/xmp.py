"""Keywords into the bytes of an XMP sidecar, and out of them again. Knows no files.

A sidecar belongs to others: what is not ours stays as it is, byte for byte. So a merge is a few edits at places that
`document` finds.

Readers differ in the list that they look at, and most stop at the first one that has something in it:
docs/keywords.md says which, with sources. Hence three rules. Every list that is there gets our keywords, or a program
that reads it first would not see them. A sidecar that lacks dc:subject or lr:hierarchicalSubject gets it. And where
the hierarchical list is new, the keywords that dc:subject holds already are repeated in it: alone in it, ours would
hide them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from ..errors import SidecarError
from .document import CONTAINERS, MAX_BYTES, META, RDF, Document, Edit, Node, edited, reversed_edits, split
from .lists import BY_NAME, HIERARCHY, LISTS, SUBJECT, List

if TYPE_CHECKING:
    from .keywords import Keyword

__all__ = [
    "EMPTY",
    "HIERARCHY",
    "LISTS",
    "MAX_BYTES",
    "SUBJECT",
    "Edit",
    "List",
    "Merge",
    "edited",
    "entries",
    "merge",
    "reversed_edits",
    "without",
]

# Of XML that expat has found sound: an attribute in a start tag.
_ATTRIBUTE = re.compile(rb"""\s+([^\s=/>]+)\s*=\s*(?:"[^"]*"|'[^']*')""")

EMPTY = f"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="{META}" x:xmptk="photolabel">
 <rdf:RDF xmlns:rdf="{RDF}">
  <rdf:Description rdf:about=""
    xmlns:dc="{SUBJECT.uris[0]}"
    xmlns:lr="{HIERARCHY.uris[0]}">
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
""".encode()


@dataclass(frozen=True, kw_only=True)
class Merge:
    """What a merge does to the bytes, and what it adds to which list."""

    edits: tuple[Edit, ...] = ()
    added: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # list's name -> our entries
    repeated: tuple[str, ...] = ()  # entries of the hierarchical list that were in dc:subject before
    made: tuple[str, ...] = ()  # lists that were not there


# -- reading


@dataclass
class _Held:
    """What a document holds of one list."""

    nodes: list[Node] = field(default_factory=list)
    attributes: list[tuple[Node, str, str]] = field(default_factory=list)  # description, qualified name, value

    def values(self) -> list[str]:
        found = [value for _, _, value in self.attributes]
        for node in self.nodes:
            for item in _items(node):
                if (value := item.value) is not None:
                    found.append(value)
            if not node.elements and (text := "".join(node.text).strip()):
                found.append(text)
        return found


def _items(node: Node) -> list[Node]:
    return [item for child in node.children if child.kind in CONTAINERS for item in child.children]


def _held(document: Document) -> dict[str, _Held]:
    found = {each.name: _Held() for each in LISTS}
    for description in document.descriptions:
        for name, value in description.attributes.items():
            uri, local, prefix = split(name)
            if each := BY_NAME.get((uri, local)):
                found[each.name].attributes.append((description, f"{prefix}:{local}", value))
        for node in description.children:
            found[BY_NAME[node.kind].name].nodes.append(node)
    return found


def entries(data: bytes) -> dict[str, list[str]]:
    """Return what the lists of keywords in a sidecar hold."""
    return {name: held.values() for name, held in _held(Document(data)).items()}


# -- merging


def merge(data: bytes, keywords: Sequence[Keyword]) -> Merge:
    """Return what adds the keywords to a sidecar; nothing if they are there. Raises `SidecarError`."""
    document = Document(data)
    held = _held(document)
    changes: list[tuple[int, int, bytes]] = []
    new: dict[int, tuple[Node, list[tuple[List, str, list[str]]]]] = {}  # by the start of a description
    rootless: list[tuple[List, str, list[str]]] = []
    added: dict[str, tuple[str, ...]] = {}
    repeated: list[str] = []
    made: list[str] = []
    for each in LISTS:
        here = held[each.name]
        there = here.values()
        ours = [entry for entry in dict.fromkeys(map(each.entry, keywords)) if entry not in there]
        if not ours or not (here.nodes or here.attributes or each.made):
            continue
        others: list[str] = []
        if each is HIERARCHY and not there:
            others = [value for value in dict.fromkeys(held[SUBJECT.name].values()) if value and value not in ours]
            repeated = others
        added[each.name] = tuple(ours)
        if here.nodes:
            changes += _extended(document, here.nodes, [*others, *ours])
        elif here.attributes:
            description, name, value = here.attributes[0]
            changes.append(_without(document, description, name))
            new.setdefault(description.start, (description, []))[1].append((each, name, [value, *others, *ours]))
        else:
            made.append(each.name)
            place = document.descriptions[0] if document.descriptions else None
            todo = rootless if place is None else new.setdefault(place.start, (place, []))[1]
            todo.append((each, "", [*others, *ours]))
    for description, properties in new.values():
        changes.append(_described(document, description, properties))
    if rootless:
        changes.append(_rooted(document, rootless))
    return Merge(edits=document.raw(changes), added=added, repeated=tuple(repeated), made=tuple(made))


def _item(prefix: str, value: str) -> str:
    name = f"{prefix}:li" if prefix else "li"
    return f"<{name}>{escape(value)}</{name}>"


def _extended(document: Document, nodes: list[Node], values: list[str]) -> list[tuple[int, int, bytes]]:
    """The changes that add values to a property that is there, in whatever form."""
    node = next((node for node in nodes if any(child.kind in CONTAINERS for child in node.children)), nodes[0])
    strange = [name for name in node.attributes if split(name)[0] != "http://www.w3.org/XML/1998/namespace"]
    text = "".join(node.text).strip()
    if strange or node.elements > 1 or (node.elements and (text or node.children[0].kind not in CONTAINERS)):
        raise SidecarError(f"its {node.qualified} is in a form that cannot be merged: expected an rdf:Bag.")
    if node.elements:
        container = node.children[0]
        indent = document.indent(container.last) if container.elements else b""
        inside = "".join(indent.decode() + _item(container.name[2], value) for value in values)
        return [document.filled(container, inside, indent)]
    rdf = node.parent.name[2] if node.parent else ""
    bag = f"{rdf}:Bag" if rdf else "Bag"
    items = "".join(_item(rdf, value) for value in values)
    if not text:
        return [document.filled(node, f"<{bag}>{items}</{bag}>", b"")]
    # One keyword without a bag: it stays what and where it is, as the first of a bag.
    opening, closing = _item(rdf, "").split("><")
    first = document.after_start(node)
    return [
        (first, first, f"<{bag}>{opening}>".encode()),
        (node.close, node.close, f"<{closing}{items}</{bag}>".encode()),
    ]


def _without(document: Document, node: Node, name: str) -> tuple[int, int, bytes]:
    """The change that takes an attribute out of a start tag."""
    for match in _ATTRIBUTE.finditer(document.body[node.start : document.after_start(node)]):
        if match[1] == name.encode():
            return node.start + match.start(), node.start + match.end(), b""
    raise AssertionError(name)  # expat has seen it


def _property(each: List, known: str, rdf: str, values: list[str], indent: str) -> str:
    """The XML of a new property. `known`: its name, if its namespace is declared."""
    prefix, declared = each.name.partition(":")[0], ""
    if known:
        prefix = known.partition(":")[0]
    else:
        while prefix == rdf:
            prefix += "_"
        declared = f' xmlns:{prefix}="{each.uris[0]}"'
    bag = f"{rdf}:Bag" if rdf else "Bag"
    one, two = (indent + " ", indent + "  ") if indent else ("", "")
    items = "".join(two + _item(rdf, value) for value in values)
    name = f"{prefix}:{each.local}"
    return f"{indent}<{name}{declared}>{one}<{bag}>{items}{one}</{bag}>{indent}</{name}>"


def _described(
    document: Document, description: Node, properties: list[tuple[List, str, list[str]]]
) -> tuple[int, int, bytes]:
    """The change that puts new properties into a description."""
    outer = document.indent(description.start)
    inner = (document.indent(description.last) if description.elements else b"") or (outer and outer + b" ")
    first = document.descriptions[0] is description
    parts = []
    for each, known, values in properties:
        prefix = document.prefixes.get(each.uris[0]) if first else None
        name = known or (f"{prefix}:{each.local}" if prefix else "")
        parts.append(_property(each, name, description.name[2], values, inner.decode()))
    return document.filled(description, "".join(parts), outer)


def _rooted(document: Document, properties: list[tuple[List, str, list[str]]]) -> tuple[int, int, bytes]:
    """The change that puts a description, and rdf:RDF if need be, into a sidecar that has none."""
    parts = "".join(_property(each, "", "rdf", values, "") for each, _, values in properties)
    inside = f'<rdf:Description xmlns:rdf="{RDF}" rdf:about="">{parts}</rdf:Description>'
    if document.rdf is not None:
        return document.filled(document.rdf, inside, b"")
    assert document.root is not None
    return document.filled(document.root, f'<rdf:RDF xmlns:rdf="{RDF}">{inside}</rdf:RDF>', b"")


# -- taking out


def without(data: bytes, merged: Merge) -> tuple[Edit, ...]:
    """Return the edits that take what a merge added out of a sidecar that has changed since. Raises `SidecarError`.

    Entries that were repeated stay, unless nothing but them is left of a list that the merge made.
    """
    document = Document(data)
    changes = []
    for name, held in _held(document).items():
        ours = merged.added.get(name, ())
        spare = set(merged.repeated) if name == HIERARCHY.name else set()
        for node in held.nodes:
            items = _items(node)
            mine = [item for item in items if item.value in ours]
            rest = {item.value for item in items if item.value not in ours}
            if not mine:
                continue
            gone = [node] if name in merged.made and rest <= spare and node.elements == 1 else mine
            for each in gone:
                start = document.space_before(each.start)
                changes.append((start, document.end(each), b""))
    return document.raw(changes)
