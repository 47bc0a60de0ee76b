"""ImageNet's 1000 classes, as packaged data; and the classes of a user's own network, from a file."""

from __future__ import annotations

import functools
import json
import os
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from .errors import UsageError


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


MAX_LABELS = 100_000
_MAX_BYTES = 4 * 2**20  # the labels become the network's metadata, of which `metadata` reads four times as much
_MAX_NAME = 500
_WNID = re.compile(r"n[0-9]{8}")
_SYNSET = re.compile(r"(n[0-9]{8}) +(\S.*)")  # a line of Caffe's synset_words.txt: "n01440764 tench, Tinca tinca"


def read(source: str | os.PathLike[str]) -> tuple[Label, ...]:
    """Return the classes of a labels file, in the order of the network's output; the word `imagenet` has them ready.

    The file is UTF-8 text with a name a line, `wnid<TAB>name` a line, or Caffe's synset_words.txt; or JSON: a list of
    names, or an object from index to name or to [wnid, name] (Keras' imagenet_class_index.json), by itself or as
    Hugging Face's `id2label` in a config.json. Names may come twice. What a terminal would act upon becomes a blank.
    Raises `UsageError` for anything else.
    """
    if source == "imagenet":
        return imagenet()
    shown = os.fspath(source)
    if "\0" in shown:
        raise UsageError(f"{shown!r}: a path holds no NUL.")
    try:
        with Path(source).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise UsageError(f"{shown}: expected labels in at most {_MAX_BYTES:,} bytes; this file is larger.")
        text = data.decode("utf-8-sig")
        pairs = _json(text) if text.lstrip()[:1] in ("[", "{") else _lines(text)
        if not 2 <= len(pairs) <= MAX_LABELS:
            raise _WrongError(f"2 to {MAX_LABELS:,} classes, got {len(pairs):,}")
        return tuple(_label(index, *pair) for index, pair in enumerate(pairs))
    except UnicodeDecodeError:
        raise UsageError(f"{shown}: expected labels as UTF-8 text; this is in another encoding, or no text.") from None
    except FileNotFoundError:
        raise UsageError(f"{shown}: no such labels file. Expected a file, or the word imagenet.") from None
    except OSError as error:
        raise UsageError(f"{shown}: cannot be read: {error.strerror}.") from None
    except _WrongError as error:
        raise UsageError(f"{shown}: expected {error}.") from None


class _WrongError(ValueError):
    """What was expected, and what came."""


def _lines(text: str) -> list[tuple[str | None, str]]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")  # splitlines() knows more ends
    synsets = all(_SYNSET.fullmatch(line) for line in lines)
    pairs: list[tuple[str | None, str]] = []
    for number, line in enumerate(lines, 1):
        wnid, tab, name = line.rpartition("\t")
        if tab and not _WNID.fullmatch(wnid):
            raise _WrongError(f"a name, or a WordNet id, a tab and a name, in line {number}")
        if bool(tab) != ("\t" in lines[0]):
            raise _WrongError(f"line {number} to be of the same form as line 1: both with a WordNet id or none")
        if not name.strip():
            raise _WrongError(f"a name in line {number}, which is empty: a line left out would rename all after it")
        if synsets:
            wnid, _, names = line.partition(" ")
            name = names.partition(",")[0]
        pairs.append((wnid or None, name))
    return pairs


def _json(text: str) -> list[tuple[str | None, str]]:
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except _WrongError:
        raise
    except (ValueError, RecursionError):
        raise _WrongError("JSON, as it begins with a bracket; it is none, or broken") from None
    if isinstance(value, dict) and "id2label" in value:
        value = value["id2label"]
    if isinstance(value, dict):
        missing = next((i for i in range(len(value)) if str(i) not in value), None)
        if missing is not None:
            raise _WrongError(f"each index from 0 to {len(value) - 1} once; there is no {missing}")
        value = [value[str(i)] for i in range(len(value))]
    if not isinstance(value, list):
        raise _WrongError("a list of names, or an object from index to name")
    return [_pair(index, each) for index, each in enumerate(value)]


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _WrongError("each index once; one comes twice")
    return found


def _pair(index: int, value: object) -> tuple[str | None, str]:
    match value:
        case str() as name:
            return None, name
        case [str() as wnid, str() as name] if _WNID.fullmatch(wnid):
            return wnid, name
    raise _WrongError(f"a name, or a WordNet id and a name, at index {index}")


def _label(index: int, wnid: str | None, name: str) -> Label:
    # Lone surrogates, which JSON can spell, are not printable either.
    harmless = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    if not 1 <= len(harmless) <= _MAX_NAME:
        raise _WrongError(f"names of 1 to {_MAX_NAME} characters; that of class {index} has {len(harmless)}")
    return Label(index, wnid, harmless)
