"""A progressive JPEG without the scans that hardly show where it is decoded at a part of its size.

A progressive JPEG holds its picture in some ten scans, of ever finer detail, and a decoder's time goes into reading
them, whatever size is asked for. Functions of bytes alone, which read the headers and none of the pixels.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

# More than any encoder writes: a file of a million small segments or scans is not looked through.
_SEGMENTS, _SCANS = 1000, 100
_CODES = 8 * (17 + 256)  # bytes of all the tables of codes that there can be

_SOF2, _DHT, _EOI, _SOS, _DQT = 0xC2, 0xC4, 0xD9, 0xDA, 0xDB
_PLAIN = frozenset([0xDD, *range(0xE0, 0xF0), 0xFE])  # DRI, APPn, COM: they stay, whatever they say
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")  # neither a 255 among the codes nor a restart

# The places, in zigzag order, of the coefficients beside the mean that 2 x 2 pixels consist of; and how far from its
# value one of them may be left: in units of which 8 are one level of 255 in a block's mean.
_LOWEST = (1, 2, 4)
_LEFT_OPEN = 24


class _UnusualError(Exception):
    """The file is not as encoders write progressive JPEGs: the decoder gets all of it, and has the last word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Component:
    """Red, say, or brightness: its name in the file, how densely it is sampled, which table it is quantised by."""

    name: int
    across: int
    down: int
    table: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scan:
    """A header and its codes, data[begin:end]: coefficients first..last of these components (by their place).

    Of each, all bits down to number `down_to`, if it is the first (`known` is 0); else of those known down to number
    `known` one bit more.
    """

    begin: int
    end: int
    components: tuple[int, ...]
    first: int
    last: int
    known: int
    down_to: int

    def overlaps(self, other: _Scan) -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(kw_only=True, slots=True)
class _Progress:
    """What is known at some point of the file, as a decoder would know it."""

    components: tuple[_Component, ...] = ()
    quanta: dict[int, Sequence[int]] = field(default_factory=dict)
    codes: set[int] = field(default_factory=set)  # the tables of codes for AC coefficients that are sound
    bits: list[list[int]] = field(default_factory=list)  # the lowest known bit of each coefficient; -1: none
    scans: list[_Scan] = field(default_factory=list)


def without_detail(data: bytes, scale: int) -> bytes:
    """Return a JPEG without the scans that hardly show at one part in `scale` of its size, 2, 4 or 8; or `data` itself.

    Nothing is left out but of a progressive JPEG (Huffman coded, 8 bits) which is whole, from its first byte to its
    last, with each scan where it belongs. It goes by what libjpeg makes of a block of 8 x 8 pixels:

    - One pixel (at 1/8; but of colours that have half the pixels, 2 x 2): all but the block's mean is left out. This
      changes nothing, to the bit.
    - 2 x 2 pixels (at 1/4): bands of finer detail than these consist of are left out, and the last bits of the others
      where the steps of quantisation are so small that they hardly show.
    - More (at 1/2): nothing is left out.

    What a decoder refuses a photo for has been checked in what is left out too: headers, order, tables. It refuses none
    for damage among the codes of such scans; that damage now goes unseen.
    """
    try:
        progress = _walk(data)
    except (_UnusualError, IndexError, struct.error):
        return data
    parts, at = [], 0
    for scan in _left_out(progress, scale):
        parts.append(data[at : scan.begin])
        at = scan.end
    return b"".join((*parts, data[at:])) if parts else data


# --- What matters ---------------------------------------------------------------------------------


def _left_out(progress: _Progress, scale: int) -> list[_Scan]:
    """The scans that hardly show and that none which stays builds upon, in their order."""
    out = []
    needed: list[list[_Scan]] = [[] for _ in progress.components]
    for scan in reversed(progress.scans):
        of = scan.components[0]
        pixels = _pixels(progress, of, scale)
        if _shows(scan, pixels, progress.quanta[progress.components[of].table]) or any(map(scan.overlaps, needed[of])):
            needed[of].append(scan)
        else:
            out.append(scan)
    return out[::-1]


def _pixels(progress: _Progress, of: int, scale: int) -> int:
    """How many pixels, in a row, libjpeg makes of a component's block: more, rather than enlarge it afterwards."""
    component, least = progress.components[of], 8 // scale
    widest = max(each.across for each in progress.components)
    highest = max(each.down for each in progress.components)
    pixels = least
    while (
        pixels < 8
        and widest * least % (component.across * pixels * 2) == 0
        and highest * least % (component.down * pixels * 2) == 0
    ):
        pixels *= 2
    return pixels


def _shows(scan: _Scan, pixels: int, quanta: Sequence[int]) -> bool:
    if scan.first == 0 or pixels > 2:
        return True
    if pixels == 1:
        # One band stays all the same: where libjpeg knows nothing but means, it smooths them.
        return scan.first == 1 and not scan.known
    lowest = [place for place in _LOWEST if scan.first <= place <= scan.last]
    if not scan.known:
        return bool(lowest)
    return any(((1 << scan.known) - 1) * quanta[place] > _LEFT_OPEN for place in lowest)


# --- What is there --------------------------------------------------------------------------------


def _walk(data: bytes) -> _Progress:
    progress, at = _Progress(), 2
    for _ in range(_SEGMENTS):
        if data[at] != 0xFF:
            raise _UnusualError
        kind = data[at + 1]
        if kind == _EOI:
            if at + 2 != len(data) or any(map(any, progress.bits)):
                raise _UnusualError  # another picture behind it; or not all bits are there
            return progress
        (length,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        body = data[at + 4 : end]
        if kind == _SOS:
            found = _NEXT_MARKER.search(data, end)
            if found is None:
                raise _UnusualError
            _add_scan(progress, body, at, found.start())
            end = found.start()
        elif kind == _SOF2:
            _set_frame(progress, body)
        elif kind == _DQT:
            _add_quanta(progress, body)
        elif kind == _DHT:
            _add_codes(progress, body)
        elif kind not in _PLAIN:
            raise _UnusualError
        at = end
    raise _UnusualError


def _set_frame(progress: _Progress, body: bytes) -> None:
    precision, count = body[0], body[5]
    parts = [
        _Component(name=body[at], across=body[at + 1] >> 4, down=body[at + 1] & 15, table=body[at + 2])
        for at in range(6, 6 + 3 * count, 3)
    ]
    if (
        progress.components
        or precision != 8
        or len(body) != 6 + 3 * count
        or any(not (1 <= part.across <= 4 and 1 <= part.down <= 4) for part in parts)
    ):
        raise _UnusualError
    progress.components = tuple(parts)
    progress.bits = [[-1] * 64 for _ in parts]


def _add_quanta(progress: _Progress, body: bytes) -> None:
    if progress.scans:
        raise _UnusualError  # legal, but then which table is whose is a matter of when
    at = 0
    while at < len(body):
        wide, name = body[at] >> 4, body[at] & 15
        progress.quanta[name] = struct.unpack_from(">64H" if wide else ">64B", body, at + 1)
        at += 129 if wide else 65


def _add_codes(progress: _Progress, body: bytes) -> None:
    if len(body) > _CODES:
        raise _UnusualError
    at = 0
    while at < len(body):
        name, counts = body[at], body[at + 1 : at + 17]
        at += 17 + sum(counts)
        if at > len(body):
            raise _UnusualError
        used = 0
        for bits, count in enumerate(counts, 1):
            used = 2 * used + count
            if used >= 1 << bits:
                raise _UnusualError  # more codes than there are: a decoder would refuse them
        progress.codes.add(name)


def _add_scan(progress: _Progress, body: bytes, begin: int, end: int) -> None:
    """Add a scan which comes when it may: means first, each bit of a coefficient once, from the highest down."""
    count = body[0]
    if len(body) != 4 + 2 * count or len(progress.scans) == _SCANS:
        raise _UnusualError
    names = [part.name for part in progress.components]
    try:
        components = tuple(names.index(name) for name in body[1 : 1 + 2 * count : 2])
    except ValueError as error:
        raise _UnusualError from error
    first, last, known, down_to = body[-3], body[-2], body[-1] >> 4, body[-1] & 15
    mean = first == 0
    if (
        not components
        or (last != 0 if mean else count != 1 or last > 63)
        or (down_to != known - 1 if known else down_to > 13)
        or any(progress.components[of].table not in progress.quanta for of in components)
        or (not mean and (progress.bits[components[0]][0] < 0 or (0x10 | body[2] & 15) not in progress.codes))
    ):
        raise _UnusualError
    for of in components:
        bits = progress.bits[of]
        if set(bits[first : last + 1]) != {known if known else -1}:
            raise _UnusualError
        bits[first : last + 1] = [down_to] * (last - first + 1)
    progress.scans.append(
        _Scan(begin=begin, end=end, components=components, first=first, last=last, known=known, down_to=down_to)
    )
