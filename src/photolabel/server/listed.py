"""The numbers of a tensor in JSON, taken out of their request without ever being objects all at once.

To read JSON takes many times its own memory, and stops every other thread until it is done. So the one long list of a
request is cut out, the rest is read as usual, and of the list a piece at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# In a string a quotation mark has a backslash before it: so this is a whole string, and a name, for a colon follows.
_NAME = re.compile(rb'"data"[ \t\r\n]*:[ \t\r\n]*(?=\[)')
_LIST = re.compile(rb"\[[][0-9eE+\-., \t\r\n]*\]")
_NO_PUNCTUATION = b"0123456789eE+-. \t\r\n"
_BLANKS = bytes.maketrans(b"[]", b"  ")
_ALIKE = bytes.maketrans(b"123456789eE+-.", b"0" * 14)
_PIECE = 65_536  # bytes


def taken(text: bytes) -> tuple[bytes, bytes | None]:
    """Return a JSON text with the list of numbers of a member `data` left empty, and that list, None if there is none.

    Raises ValueError where there are several.
    """
    names = [*islice(_NAME.finditer(text), 2)]
    if not names:
        return text, None
    found = _LIST.match(text, names[0].end())
    if len(names) > 1 or found is None:
        raise ValueError
    return b"%b[]%b" % (text[: found.start()], text[found.end() :]), found[0]


def pixels(listed: bytes, shape: Sequence[int], kind: type[np.uint8 | np.float32]) -> NDArray[Any] | None:
    """Return the numbers of a list, which is flat, or nested as `shape` is; None for any other.

    Those of `kind` uint8 are whole. Raises ValueError for what are no such numbers from 0 to 255.
    """
    count = int(np.prod(shape))
    if 2 * count >= len(listed) or not _is_of(listed, shape, count):  # a number, and what parts it from the next
        return None
    made = np.empty(count, kind)
    start = 0
    for piece in _pieces(listed.translate(_BLANKS)):
        found = json.loads(f"[{piece}]")
        if not set(map(type, found)) <= ({int} if kind is np.uint8 else {int, float}):
            raise ValueError
        if not 0 <= min(found) <= max(found) <= 255:
            raise ValueError
        made[start : start + len(found)] = found
        start += len(found)
    return made.reshape(shape)


def _is_of(listed: bytes, shape: Sequence[int], count: int) -> bool:
    """Whether brackets and commas are those of a list of this shape. Whether each has its number, reading shows."""
    punctuation = listed.translate(None, _NO_PUNCTUATION)
    if punctuation == b"[%b]" % (b"," * (count - 1)):
        return True
    nested = b"," * (shape[-1] - 1)
    for length in reversed(shape[:-1]):
        nested = b",".join(repeat(b"[%b]" % nested, length))
    if punctuation != b"[%b]" % nested:
        return False
    squeezed = listed.translate(_ALIKE, b" \t\r\n")  # numbers stand within the innermost brackets only
    return b"0[" not in squeezed and b"]0" not in squeezed


def _pieces(flat: bytes) -> Iterator[str]:
    start = 0
    while start <= len(flat):
        end = flat.find(b",", start + _PIECE)
        end = len(flat) if end < 0 else end
        yield flat[start:end].decode("ascii")
        start = end + 1
