"""What goes over the pipes to a worker and back: a head of plain values as JSON, and bytes as they are.

Neither side runs what it is sent. The worker reads photos from anywhere, so what comes out of it is checked like
anything else from outside: a decoder that was taken over can lie about its photo, and do no more.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import IO, Any, TypeVar

import numpy as np

from .. import errors
from ..errors import PhotoError
from ..images import Limits, Recipe
from ..prepared import Decoding, File, Prepared, Seconds
from ..sources import Item, Member, Zipped

_LENGTHS = struct.Struct("<IQ")
_MOST_HEAD = 1 << 20  # bytes: a path and a message are some hundred


class WireError(Exception):
    """The other side has gone, or what came makes no sense."""


def send(stream: IO[bytes], head: Mapping[str, Any], body: bytes | memoryview = b"") -> None:
    """Send one message. Raises OSError where nobody reads."""
    packed = json.dumps(head).encode("ascii")
    stream.write(_LENGTHS.pack(len(packed), len(body)) + packed)
    stream.write(body)
    stream.flush()


def receive(stream: IO[bytes], *, most: int) -> tuple[dict[str, Any], bytes]:
    """Return the next message, of at most so many bytes. Raises WireError; EOFError where there is none."""
    lengths = stream.read(_LENGTHS.size)
    if not lengths:
        raise EOFError
    if len(lengths) < _LENGTHS.size:
        raise WireError
    head_length, body_length = _LENGTHS.unpack(lengths)
    if head_length > _MOST_HEAD or body_length > most:
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


def ask(stream: IO[bytes], item: Item, recipe: Recipe, limits: Limits) -> None:
    """Send a photo to be prepared."""
    head = {
        "photo": item.photo,
        "path": item.path,
        "member": None if item.member is None else asdict(item.member),
        "held": item.data is not None,
        "recipe": recipe.to_dict(),
        "limits": asdict(limits),
    }
    send(stream, head, item.data or b"")


def question(stream: IO[bytes]) -> tuple[Item, Recipe, Limits]:
    """Return the next photo to be prepared. Raises EOFError when there are no more."""
    head, body = receive(stream, most=1 << 62)  # from our own parent, which keeps to limits of its own
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
    item = Item(photo=head["photo"], path=head["path"], member=member, data=body if head["held"] else None)
    return item, Recipe.from_dict(head["recipe"]), Limits(**head["limits"])


# -- the answer


def reply(stream: IO[bytes], made: Prepared) -> None:
    """Send back what became of a photo."""
    head = {
        "error": None if made.error is None else [made.error.code, str(made.error)],
        "file": None if made.file is None else asdict(made.file),
        "decoding": None if made.decoding is None else asdict(made.decoding),
        "seconds": asdict(made.seconds),
    }
    send(stream, head, b"" if made.pixels is None else np.ascontiguousarray(made.pixels).data.cast("B"))


def answer(stream: IO[bytes], photo: str, recipe: Recipe) -> Prepared:
    """Return what became of a photo. Raises WireError where the worker died, or does not make sense."""
    side = recipe.size
    try:
        head, body = receive(stream, most=side * side * 3)
        error = head["error"]
        made = Prepared(
            photo=photo,
            pixels=None if error else np.frombuffer(body, np.uint8).reshape(side, side, 3),
            error=None if error is None else _ERRORS[error[0]](_text(error[1])),
            file=_read(File, head["file"]),
            decoding=_read(Decoding, head["decoding"]),
            seconds=_read(Seconds, head["seconds"]) or Seconds(),
        )
    except (EOFError, OSError, KeyError, TypeError, ValueError, IndexError) as error:
        raise WireError from error
    return made


def _kinds(kind: type[PhotoError]) -> dict[str, type[PhotoError]]:
    return {kind.code: kind} | {k: v for each in kind.__subclasses__() for k, v in _kinds(each).items()}


_ERRORS = _kinds(errors.PhotoError)
_TYPES = {"str": str, "int": int, "bool": bool, "float": float}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


_Record = TypeVar("_Record", File, Decoding, Seconds)


def _read(kind: type[_Record], values: object) -> _Record | None:
    """A frozen record of plain values, each of the type that its field has. Raises TypeError."""
    if values is None:
        return None
    if not isinstance(values, dict):
        raise TypeError
    wanted = {field.name: _TYPES[str(field.type)] for field in fields(kind)}
    if set(values) != set(wanted) or any(type(values[name]) is not wanted[name] for name in wanted):
        raise TypeError
    return kind(**values)
