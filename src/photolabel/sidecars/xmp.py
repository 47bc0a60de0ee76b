"""Keywords into the bytes of an XMP sidecar, and out of them again. Knows no files.

A sidecar belongs to others: what is not ours stays as it is, byte for byte. So nothing is written anew from a parsed
tree; expat says at which byte an element begins and ends, and a merge is a few edits at such places.

Readers differ in the list that they look at, and most stop at the first one that has something in it:
docs/keywords.md says which, with sources. Hence three rules. Every list that is there gets our keywords, or a program
that reads it first would not see them. A sidecar that lacks dc:subject or lr:hierarchicalSubject gets it. And where
the hierarchical list is new, the keywords that dc:subject holds already are repeated in it: alone in it, ours would
hide them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.parsers import expat
from xml.sax.saxutils import escape

from ..errors import SidecarError

if TYPE_CHECKING:
    from .keywords import Keyword

MAX_BYTES = 16 * 2**20  # of a sidecar: those with a long editing history have a few

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_META = "adobe:ns:meta/"
_SEPARATOR = "\x0c"  # between a name's namespace, local part and prefix: XML has no such character, so it is in no name
_CONTAINERS = {(_RDF, "Bag"), (_RDF, "Seq"), (_RDF, "Alt")}

# Of XML that expat has found sound: a start tag, and an attribute in it.
_TAG = re.compile(rb"""<[^"'>]*(?:"[^"]*"[^"'>]*|'[^']*'[^"'>]*)*>""")
_ATTRIBUTE = re.compile(rb"""\s+([^\s=/>]+)\s*=\s*(?:"[^"]*"|'[^']*')""")
_INDENT = re.compile(rb"\r?\n[ \t]*\Z")
_DECLARED = re.compile(rb"""<\?xml\s[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_CODECS = {"utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "ascii", "ascii": "ascii", "iso-8859-1": "latin-1"}
_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


@dataclass(frozen=True, kw_only=True)
class List:
    """A property that holds keywords: in which namespaces, joined by what, and whether we make it where it lacks."""

    name: str  # as people write it; the prefix is the one that we declare
    uris: tuple[str, ...]
    separator: str | None  # between the names of a path; None: only the leaf's name is in it
    made: bool

    @property
    def local(self) -> str:
        """The name without its prefix."""
        return self.name.partition(":")[2]

    def entry(self, keyword: Keyword) -> str:
        """What stands for the keyword in this list."""
        if self.separator is None:
            return keyword.name
        # A name that has a slash, in a list of paths with slashes: digiKam writes a backslash for it.
        names = [name.replace("/", "\\") if self.separator == "/" else name for name in keyword.path]
        return self.separator.join(names)


SUBJECT = List(name="dc:subject", uris=("http://purl.org/dc/elements/1.1/",), separator=None, made=True)
HIERARCHY = List(name="lr:hierarchicalSubject", uris=("http://ns.adobe.com/lightroom/1.0/",), separator="|", made=True)
LISTS = (
    SUBJECT,
    HIERARCHY,
    List(name="digiKam:TagsList", uris=("http://www.digikam.org/ns/1.0/",), separator="/", made=False),
    List(
        name="MicrosoftPhoto:LastKeywordXMP",
        uris=("http://ns.microsoft.com/photo/1.0/", "http://ns.microsoft.com/photo/1.0"),
        separator="/",
        made=False,
    ),
)
_BY_NAME = {(uri, each.local): each for each in LISTS for uri in each.uris}

EMPTY = f"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="{_META}" x:xmptk="photolabel">
 <rdf:RDF xmlns:rdf="{_RDF}">
  <rdf:Description rdf:about=""
    xmlns:dc="{SUBJECT.uris[0]}"
    xmlns:lr="{HIERARCHY.uris[0]}">
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
""".encode()


@dataclass(frozen=True)
class Edit:
    """`old` at byte `start` of the former bytes becomes `new`."""

    start: int
    old: bytes
    new: bytes


@dataclass(frozen=True, kw_only=True)
class Merge:
    """What a merge does to the bytes, and what it adds to which list."""

    edits: tuple[Edit, ...] = ()
    added: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # list's name -> our entries
    repeated: tuple[str, ...] = ()  # entries of the hierarchical list that were in dc:subject before
    made: tuple[str, ...] = ()  # lists that were not there


def edited(data: bytes, edits: Iterable[Edit]) -> bytes:
    """Return `data` with the edits made."""
    parts, at = [], 0
    for edit in edits:
        parts += [data[at : edit.start], edit.new]
        at = edit.start + len(edit.old)
    return b"".join([*parts, data[at:]])


def reversed_edits(edits: Iterable[Edit]) -> Iterator[Edit]:
    """Yield the edits that turn the edited bytes back into the former ones."""
    shift = 0
    for edit in edits:
        yield Edit(edit.start + shift, edit.new, edit.old)
        shift += len(edit.new) - len(edit.old)


# -- reading


@dataclass
class _Node:
    role: str
    start: int  # of the start tag
    name: tuple[str, str, str]  # namespace, local part, prefix
    attributes: dict[str, str]
    close: int = 0  # of the end tag; of an empty element: after it
    parent: _Node | None = None
    children: list[_Node] = field(default_factory=list)  # those that we look into
    elements: int = 0  # all of them
    last: int = 0  # where the last of them starts
    text: list[str] = field(default_factory=list)

    @property
    def kind(self) -> tuple[str, str]:
        return self.name[:2]

    @property
    def qualified(self) -> str:
        return f"{self.name[2]}:{self.name[1]}" if self.name[2] else self.name[1]

    @property
    def value(self) -> str | None:
        """The text of an element that has nothing but text."""
        return None if self.elements else "".join(self.text)


def _split(name: str) -> tuple[str, str, str]:
    parts = name.split(_SEPARATOR)
    return ("", name, "") if len(parts) == 1 else (parts[0], parts[1], parts[2] if len(parts) > 2 else "")


def _role(node: _Node) -> str:
    """What the element is to us; empty for what we do not look into."""
    parent = node.parent
    if parent is None:
        return "rdf" if node.kind == (_RDF, "RDF") else "root"
    if parent.role == "root" and node.kind == (_RDF, "RDF"):
        return "rdf"
    if parent.role == "rdf" and node.kind == (_RDF, "Description"):
        return "description"
    if parent.role == "description" and node.kind in _BY_NAME:
        return "property"
    if parent.role == "property":
        return "value"
    return "item" if parent.role == "value" and parent.kind in _CONTAINERS and node.kind == (_RDF, "li") else ""


class _Document:
    """A sidecar's text as UTF-8, and the elements in it that matter."""

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_BYTES:
            raise SidecarError(f"too large to be merged: at most {MAX_BYTES:,} bytes are read.")
        self.mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
        self.codec = _codec(data, self.mark)
        try:
            text = data[len(self.mark) :].decode(self.codec)
            self.body = text.encode()
            # expat would take text with NULs for UTF-16, whatever it is told, and edits would be in another encoding.
            if text.startswith("\ufeff") or "\0" in text:
                raise UnicodeError
        except UnicodeError:
            raise SidecarError(f"not the {self.codec.upper()} text that it claims to be.") from None
        self.root: _Node | None = None
        self.prefixes: dict[str, str] = {}  # namespace -> prefix, in the first description
        self._stack: list[_Node | None] = []
        self._scope: dict[str, list[str]] = {}
        self._parse()
        self.rdf = self._find_rdf()
        self.descriptions = self.rdf.children if self.rdf else []

    def _parse(self) -> None:
        # The text is UTF-8 by now, whatever its declaration says: a parser's own encoding goes before that.
        self._parser = parser = expat.ParserCreate("UTF-8", _SEPARATOR)
        parser.namespace_prefixes = True
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _no_doctype
        parser.StartNamespaceDeclHandler = self._declare
        parser.EndNamespaceDeclHandler = self._undeclare
        parser.StartElementHandler = self._open
        parser.EndElementHandler = self._close
        parser.CharacterDataHandler = self._characters
        try:
            parser.Parse(self.body, True)
        except expat.ExpatError as error:
            raise SidecarError(f"not sound XML, line {error.lineno}: {expat.ErrorString(error.code)}.") from None
        finally:
            del self._parser, parser  # a cycle, which would keep the text in memory

    def _declare(self, prefix: str | None, uri: str | None) -> None:
        self._scope.setdefault(prefix or "", []).append(uri or "")

    def _undeclare(self, prefix: str | None) -> None:
        self._scope[prefix or ""].pop()

    def _open(self, name: str, attributes: dict[str, str]) -> None:
        parent = self._stack[-1] if self._stack else None
        here = self._parser.CurrentByteIndex
        if parent is not None:
            parent.elements += 1
            parent.last = here
        node = None
        if not self._stack or parent is not None:
            node = _Node("", here, _split(name), attributes, parent=parent)
            node.role = _role(node)
            if not node.role:
                node = None
            elif parent is None:
                self.root = node
            else:
                if node.role == "description" and not parent.children:
                    bound = {uris[-1]: prefix for prefix, uris in self._scope.items() if uris}
                    self.prefixes = {uri: bound[uri] for uri, _ in _BY_NAME if uri in bound}
                parent.children.append(node)
        self._stack.append(node)

    def _close(self, name: str) -> None:
        node = self._stack.pop()
        if node is not None:
            node.close = self._parser.CurrentByteIndex

    def _characters(self, text: str) -> None:
        if self._stack and (node := self._stack[-1]) is not None:
            node.text.append(text)

    def _find_rdf(self) -> _Node | None:
        assert self.root is not None  # or expat had complained
        if self.root.role == "rdf":
            return self.root
        found = self.root.children
        if self.root.kind not in {(_META, "xmpmeta"), (_META, "xapmeta")} or len(found) > 1:
            raise SidecarError("not XMP: expected one rdf:RDF, in x:xmpmeta or alone.")
        return found[0] if found else None

    # -- where things are

    def empty(self, node: _Node) -> bool:
        """Whether the element is written `<a/>`."""
        return self.body.endswith(b"/>", node.start, self.after_start(node))

    def after_start(self, node: _Node) -> int:
        """Return where the start tag ends."""
        match = _TAG.match(self.body, node.start)
        assert match
        return match.end()

    def end(self, node: _Node) -> int:
        """Return where the element ends."""
        return node.close if self.empty(node) else self.body.index(b">", node.close) + 1

    def space_before(self, at: int) -> int:
        """Return where the white space before a place begins."""
        while at and self.body[at - 1] in b" \t\r\n":
            at -= 1
        return at

    def indent(self, at: int) -> bytes:
        """Return the line end and indentation before a place; empty where no line begins there."""
        match = _INDENT.search(self.body, max(0, at - 200), at)
        return match[0] if match else b""

    def filled(self, node: _Node, inside: str, indent: bytes) -> tuple[int, int, bytes]:
        """Return the change that puts `inside` at the end of an element; `indent` goes before a new end tag."""
        if self.empty(node):
            end = self.after_start(node)
            new = b">" + inside.encode() + indent + f"</{node.qualified}>".encode()
            return end - 2, end, new
        at = max(self.space_before(node.close), self.after_start(node))
        return at, at, inside.encode()

    def raw(self, changes: Iterable[tuple[int, int, bytes]]) -> tuple[Edit, ...]:
        """Return changes of the UTF-8 text as edits of the file's own bytes."""
        edits, at, where = [], 0, len(self.mark)
        for start, end, new in sorted(changes):
            where += len(self._encoded(self.body[at:start]))
            old = self._encoded(self.body[start:end])
            edits.append(Edit(where, old, self._encoded(new)))
            at, where = end, where + len(old)
        return tuple(edits)

    def _encoded(self, utf8: bytes) -> bytes:
        if self.codec == "utf-8":
            return utf8
        return utf8.decode().encode(self.codec, "xmlcharrefreplace")  # only what is new can need a reference


def _codec(data: bytes, mark: bytes) -> str:
    codec = _MARKS.get(mark, "utf-8")
    head = data[len(mark) : len(mark) + 1000]
    if codec != "utf-8":
        head = head.decode(codec, "replace").encode("ascii", "replace")
    if not (match := _DECLARED.match(head)):
        return codec
    declared = match[1].decode().lower()
    if codec.startswith("utf-16"):
        known = declared in ("utf-16", codec, codec.replace("-", ""))
        found = codec
    else:
        found = _CODECS.get(declared, "")
        known = bool(found) and (not mark or found == "utf-8")
    if not known:
        raise SidecarError(f"in an encoding that is not read ({declared}): expected UTF-8, or UTF-16 with its mark.")
    return found


def _no_doctype(*_: Any) -> None:
    raise SidecarError("has a DOCTYPE, which XMP has not: it could define entities without end.")


# -- the lists in a document


@dataclass
class _Held:
    """What a document holds of one list."""

    nodes: list[_Node] = field(default_factory=list)
    attributes: list[tuple[_Node, str, str]] = field(default_factory=list)  # description, qualified name, value

    def values(self) -> list[str]:
        found = [value for _, _, value in self.attributes]
        for node in self.nodes:
            for item in _items(node):
                if (value := item.value) is not None:
                    found.append(value)
            if not node.elements and (text := "".join(node.text).strip()):
                found.append(text)
        return found


def _items(node: _Node) -> list[_Node]:
    return [item for child in node.children if child.kind in _CONTAINERS for item in child.children]


def _held(document: _Document) -> dict[str, _Held]:
    found = {each.name: _Held() for each in LISTS}
    for description in document.descriptions:
        for name, value in description.attributes.items():
            uri, local, prefix = _split(name)
            if each := _BY_NAME.get((uri, local)):
                found[each.name].attributes.append((description, f"{prefix}:{local}", value))
        for node in description.children:
            found[_BY_NAME[node.kind].name].nodes.append(node)
    return found


def entries(data: bytes) -> dict[str, list[str]]:
    """Return what the lists of keywords in a sidecar hold."""
    return {name: held.values() for name, held in _held(_Document(data)).items()}


# -- merging


def merge(data: bytes, keywords: Sequence[Keyword]) -> Merge:
    """Return what adds the keywords to a sidecar; nothing if they are there. Raises `SidecarError`."""
    document = _Document(data)
    held = _held(document)
    changes: list[tuple[int, int, bytes]] = []
    new: dict[int, tuple[_Node, list[tuple[List, str, list[str]]]]] = {}  # by the start of a description
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


def _extended(document: _Document, nodes: list[_Node], values: list[str]) -> list[tuple[int, int, bytes]]:
    """The changes that add values to a property that is there, in whatever form."""
    node = next((node for node in nodes if any(child.kind in _CONTAINERS for child in node.children)), nodes[0])
    strange = [name for name in node.attributes if _split(name)[0] != "http://www.w3.org/XML/1998/namespace"]
    text = "".join(node.text).strip()
    if strange or node.elements > 1 or (node.elements and (text or node.children[0].kind not in _CONTAINERS)):
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


def _without(document: _Document, node: _Node, name: str) -> tuple[int, int, bytes]:
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
    document: _Document, description: _Node, properties: list[tuple[List, str, list[str]]]
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


def _rooted(document: _Document, properties: list[tuple[List, str, list[str]]]) -> tuple[int, int, bytes]:
    """The change that puts a description, and rdf:RDF if need be, into a sidecar that has none."""
    parts = "".join(_property(each, "", "rdf", values, "") for each, _, values in properties)
    inside = f'<rdf:Description xmlns:rdf="{_RDF}" rdf:about="">{parts}</rdf:Description>'
    if document.rdf is not None:
        return document.filled(document.rdf, inside, b"")
    assert document.root is not None
    return document.filled(document.root, f'<rdf:RDF xmlns:rdf="{_RDF}">{inside}</rdf:RDF>', b"")


# -- taking out


def without(data: bytes, merged: Merge) -> tuple[Edit, ...]:
    """Return the edits that take what a merge added out of a sidecar that has changed since. Raises `SidecarError`.

    Entries that were repeated stay, unless nothing but them is left of a list that the merge made.
    """
    document = _Document(data)
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
