"""The text of an XMP sidecar: where the elements that matter begin and end in it, and edits of its bytes.

Nothing is written anew from a parsed tree. expat says at which byte an element is, whatever encoding the file has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from ..errors import SidecarError
from .lists import BY_NAME

MAX_BYTES = 16 * 2**20  # of a sidecar: those with a long editing history have a few

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
META = "adobe:ns:meta/"
CONTAINERS = {(RDF, "Bag"), (RDF, "Seq"), (RDF, "Alt")}
_SEPARATOR = "\x0c"  # between a name's namespace, local part and prefix: XML has no such character, so it is in no name

# Of XML that expat has found sound: a start tag.
_TAG = re.compile(rb"""<[^"'>]*(?:"[^"]*"[^"'>]*|'[^']*'[^"'>]*)*>""")
_INDENT = re.compile(rb"\r?\n[ \t]*\Z")
_DECLARED = re.compile(rb"""<\?xml\s[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_CODECS = {"utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "ascii", "ascii": "ascii", "iso-8859-1": "latin-1"}
_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


@dataclass(frozen=True)
class Edit:
    """`old` at byte `start` of the former bytes becomes `new`."""

    start: int
    old: bytes
    new: bytes


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


@dataclass
class Node:
    """An element that we look into: what it is to us (`role`), and where in the text, in bytes, it is."""

    role: str
    start: int  # of the start tag
    name: tuple[str, str, str]  # namespace, local part, prefix
    attributes: dict[str, str]
    close: int = 0  # of the end tag; of an empty element: after it
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)  # those that we look into
    elements: int = 0  # all of them
    last: int = 0  # where the last of them starts
    text: list[str] = field(default_factory=list)

    @property
    def kind(self) -> tuple[str, str]:
        """The name: namespace, local part."""
        return self.name[:2]

    @property
    def qualified(self) -> str:
        """The name as it is written."""
        return f"{self.name[2]}:{self.name[1]}" if self.name[2] else self.name[1]

    @property
    def value(self) -> str | None:
        """The text of an element that has nothing but text."""
        return None if self.elements else "".join(self.text)


def split(name: str) -> tuple[str, str, str]:
    """Return the namespace, the local part and the prefix of a name as expat gives it."""
    parts = name.split(_SEPARATOR)
    return ("", name, "") if len(parts) == 1 else (parts[0], parts[1], parts[2] if len(parts) > 2 else "")


def _role(node: Node) -> str:
    """What the element is to us; empty for what we do not look into."""
    parent = node.parent
    if parent is None:
        return "rdf" if node.kind == (RDF, "RDF") else "root"
    if parent.role == "root" and node.kind == (RDF, "RDF"):
        return "rdf"
    if parent.role == "rdf" and node.kind == (RDF, "Description"):
        return "description"
    if parent.role == "description" and node.kind in BY_NAME:
        return "property"
    if parent.role == "property":
        return "value"
    return "item" if parent.role == "value" and parent.kind in CONTAINERS and node.kind == (RDF, "li") else ""


class Document:
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
        self.root: Node | None = None
        self.prefixes: dict[str, str] = {}  # namespace -> prefix, in the first description
        self._stack: list[Node | None] = []
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
            node = Node("", here, split(name), attributes, parent=parent)
            node.role = _role(node)
            if not node.role:
                node = None
            elif parent is None:
                self.root = node
            else:
                if node.role == "description" and not parent.children:
                    bound = {uris[-1]: prefix for prefix, uris in self._scope.items() if uris}
                    self.prefixes = {uri: bound[uri] for uri, _ in BY_NAME if uri in bound}
                parent.children.append(node)
        self._stack.append(node)

    def _close(self, name: str) -> None:
        node = self._stack.pop()
        if node is not None:
            node.close = self._parser.CurrentByteIndex

    def _characters(self, text: str) -> None:
        if self._stack and (node := self._stack[-1]) is not None:
            node.text.append(text)

    def _find_rdf(self) -> Node | None:
        assert self.root is not None  # or expat had complained
        if self.root.role == "rdf":
            return self.root
        found = self.root.children
        if self.root.kind not in {(META, "xmpmeta"), (META, "xapmeta")} or len(found) > 1:
            raise SidecarError("not XMP: expected one rdf:RDF, in x:xmpmeta or alone.")
        return found[0] if found else None

    # -- where things are

    def empty(self, node: Node) -> bool:
        """Whether the element is written `<a/>`."""
        return self.body.endswith(b"/>", node.start, self.after_start(node))

    def after_start(self, node: Node) -> int:
        """Return where the start tag ends."""
        match = _TAG.match(self.body, node.start)
        assert match
        return match.end()

    def end(self, node: Node) -> int:
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

    def filled(self, node: Node, inside: str, indent: bytes) -> tuple[int, int, bytes]:
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
