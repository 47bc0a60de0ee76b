"""What goes over the pipes to a worker and back: a head of plain values as JSON, and bytes as they are.

Neither side runs what it is sent. The worker reads photos from anywhere, so what comes out of it is checked like
anything else from outside: a decoder that was taken over can lie about the photos that its worker is given, and gets
no further by the pipe. Every value must be one that `prepared.prepare` could have given.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from .. import errors
from ..decoding import FORMATS
from ..errors import PhotoError
from ..images import Limits, Recipe
from ..prepared import Decoding, File, Prepared, Seconds, pieces_of, views_of
from ..sources import Item, Member, Zipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LENGTHS = struct.Struct("<IQ")
_MOST_HEAD = 1 << 16  # bytes: a message is some hundred
_LONGEST_MESSAGE = 4096  # characters


class WireError(Exception):
    """The other side has gone, or what came makes no sense."""


class Stream(Protocol):
    """Our end of a pipe: a file, or what is used like one."""

    def read(self, count: int, /) -> bytes:
        """Return so many bytes, fewer at the end only."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Write all of it, now or when flushed."""

    def flush(self) -> object:
        """Write what was kept back."""


def send(stream: Stream, head: Mapping[str, Any], body: bytes | memoryview = b"") -> None:
    """Send one message. Raises OSError where nobody reads."""
    packed = json.dumps(head).encode("ascii")
    stream.write(_LENGTHS.pack(len(packed), len(body)) + packed)
    stream.write(body)
    stream.flush()


def receive(stream: Stream, *, most: int, most_head: int = _MOST_HEAD) -> tuple[dict[str, Any], bytes]:
    """Return the next message, of at most so many bytes behind its head. Raises WireError; EOFError at the end."""
    lengths = stream.read(_LENGTHS.size)
    if not lengths:
        raise EOFError
    if len(lengths) < _LENGTHS.size:
        raise WireError
    head_length, body_length = _LENGTHS.unpack(lengths)
    if head_length > most_head or body_length > most:
        raise WireError
    packed, body = stream.read(head_length), stream.read(body_length)
    if len(packed) < head_length or len(body) < body_length:
        raise WireError
    try:
        head = json.loads(packed)
    except (ValueError, RecursionError) as error:
        raise WireError from error
    if not isinstance(head, dict):
        raise WireError
    return head, body


# -- the question


def ask(stream: Stream, item: Item, recipes: Sequence[Recipe], limits: Limits) -> None:
    """Send a photo to be prepared."""
    head = {
        "path": item.path,
        "url": item.url,
        "member": None if item.member is None else asdict(item.member),
        "held": item.data is not None,
        "recipes": [recipe.to_dict() for recipe in recipes],
        "limits": asdict(limits),
    }
    send(stream, head, item.data or b"")


def question(stream: Stream) -> tuple[Item, list[Recipe], Limits]:
    """Return the next photo to be prepared; what it is called stays here. Raises EOFError when there are no more."""
    any_length = 1 << 62  # from our own parent, which keeps to limits of its own
    head, body = receive(stream, most=any_length, most_head=any_length)
    member = head["member"]
    if member is not None:
        zipped = member["zipped"]
        member = Member(
            **{
                **member,
                "stamp": tuple(member["stamp"]),
                "zipped": None if zipped is None else Zipped(**zipped),
            }
        )
    item = Item(photo="", path=head["path"], url=head["url"], member=member, data=body if head["held"] else None)
    return item, [Recipe.from_dict(each) for each in head["recipes"]], Limits(**head["limits"])


# -- the answer


def reply(stream: Stream, made: Prepared) -> None:
    """Send back what became of a photo."""
    pieces, shown = pieces_of(made.views)
    head = {
        "error": None if made.error is None else [made.error.code, str(made.error)],
        "file": None if made.file is None else asdict(made.file),
        "decoding": None if made.decoding is None else asdict(made.decoding),
        "seconds": asdict(made.seconds),
        "shapes": [piece.shape[:2] for piece in pieces],
        "views": shown,
    }
    send(stream, head, b"".join(np.ascontiguousarray(piece).data.cast("B") for piece in pieces))


def answer(stream: Stream, photo: str, recipes: Sequence[Recipe], limits: Limits) -> Prepared:
    """Return what became of a photo. Raises WireError where the worker died, or does not make sense."""
    try:
        head, body = receive(stream, most=sum(recipe.most_bytes for recipe in recipes))
        error = None if head["error"] is None else _error(*head["error"])
        shapes = _shapes(head["shapes"])
        shown = _shown(head["views"], len(shapes))
        if shown if error is not None else not _allow(recipes, [shapes[number] for number, _ in shown]):
            raise WireError
        pieces = _cut(body, shapes)
        return Prepared(
            photo=photo,
            views=views_of(pieces, shown),
            error=error,
            file=None if head["file"] is None else _file(head["file"], limits),
            decoding=None if head["decoding"] is None else _decoding(head["decoding"], limits),
            seconds=_record(Seconds, head["seconds"], reading=_is_duration, decoding=_is_duration),
        )
    except (EOFError, OSError, KeyError, TypeError, ValueError) as error:
        raise WireError from error


def _allow(recipes: Sequence[Recipe], shapes: Sequence[tuple[int, int]]) -> bool:
    """Whether the views of a photo, by one recipe after the other, can be so many, and of these heights and widths."""
    start = 0
    for recipe in recipes:
        if not recipe.allows(shapes[start : start + recipe.inputs]):
            return False
        start += recipe.inputs
    return start == len(shapes)


def _shapes(values: object) -> list[tuple[int, int]]:
    if not isinstance(values, list):
        raise TypeError
    shapes = [(height, width) for height, width in values]
    if not all(type(side) is int for shape in shapes for side in shape):
        raise TypeError
    return shapes


def _shown(values: object, pieces: int) -> list[tuple[int, bool]]:
    """What each view shows, as `prepared.pieces_of` tells it: all of so many pieces, each first after those before it.

    Raises TypeError or ValueError for anything else.
    """
    if not isinstance(values, list):
        raise TypeError
    shown = [(number, mirrored) for number, mirrored in values]
    known = 0
    for number, mirrored in shown:
        if type(number) is not int or not 0 <= number <= known or not isinstance(mirrored, bool):
            raise TypeError
        known = max(known, number + 1)
    if known != pieces:
        raise ValueError
    return shown


def _cut(body: bytes, shapes: Sequence[tuple[int, int]]) -> tuple[NDArray[np.uint8], ...]:
    """The pieces that lie one after the other in `body`, not copied. Raises ValueError where it is not that long."""
    counts = [height * width * 3 for height, width in shapes]
    if sum(counts) != len(body):
        raise ValueError
    pixels = np.frombuffer(body, np.uint8)
    ends = itertools.accumulate(counts)
    return tuple(
        pixels[end - count : end].reshape(*shape, 3) for shape, count, end in zip(shapes, counts, ends, strict=True)
    )


def _kinds(kind: type[PhotoError]) -> dict[str, type[PhotoError]]:
    return {kind.code: kind} | {k: v for each in kind.__subclasses__() for k, v in _kinds(each).items()}


_ERRORS = _kinds(errors.PhotoError)


def _error(code: object, message: object) -> PhotoError:
    # A lone surrogate, which JSON can hold, is in no text that can be written.
    if not isinstance(code, str) or not isinstance(message, str) or len(message) > _LONGEST_MESSAGE:
        raise TypeError
    message.encode()
    return _ERRORS[code](message)


def _file(values: object, limits: Limits) -> File:
    return _record(
        File,
        values,
        sha256=lambda x: isinstance(x, str) and re.fullmatch("[0-9a-f]{64}", x) is not None,
        bytes=_is_whole(0, limits.file_bytes),
    )


def _decoding(values: object, limits: Limits) -> Decoding:
    return _record(
        Decoding,
        values,
        format=lambda x: isinstance(x, str) and x in FORMATS,
        width=_is_whole(1, limits.pixels),
        height=_is_whole(1, limits.pixels),
        orientation=_is_whole(1, 8),
        scale=lambda x: type(x) is int and x in (1, 2, 4, 8),
        mode=lambda x: isinstance(x, str) and re.fullmatch(r"[A-Za-z0-9;]{1,16}", x) is not None,
        profile=_is_bool,
        transparent=_is_bool,
    )


def _is_whole(least: int, most: int) -> Callable[[object], bool]:
    return lambda x: type(x) is int and least <= x <= most


def _is_bool(x: object) -> bool:
    return isinstance(x, bool)


def _is_duration(x: object) -> bool:
    return isinstance(x, float) and math.isfinite(x) and x >= 0


_Record = TypeVar("_Record", File, Decoding, Seconds)


def _record(kind: type[_Record], values: object, **allowed: Callable[[object], bool]) -> _Record:
    """A frozen record whose every field is what it may be. Raises TypeError."""
    if not isinstance(values, dict) or set(values) != set(allowed):
        raise TypeError
    if not all(is_allowed(values[name]) for name, is_allowed in allowed.items()):
        raise TypeError
    return kind(**values)
