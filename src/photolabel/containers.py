"""What the bytes of PNG, WebP, GIF and EXIF say before, and besides, Pillow's reading of them.

Functions of bytes alone. What is broken raises EOFError, ValueError or struct.error, as Pillow's parsers do.
"""

from __future__ import annotations

import struct
import zlib

MAX_ICC = 1 << 20  # bytes; for a larger profile Pillow refuses the whole PNG, we only ignore the profile


def whole_png(data: bytes) -> bytes:
    """Check what Pillow does not (IDAT's checksums, the end) and leave out what a photo does not need.

    The texts go: Pillow would decompress them, and refuse the photo for their size.
    """
    kept, at, pixels, previous = [data[:8]], 8, False, b""
    while True:
        if at + 12 > len(data):
            raise EOFError("the PNG ends without an IEND chunk")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise EOFError("the PNG ends inside a chunk")
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError("a PNG chunk does not match its checksum")
        if kind == b"IDAT" and previous != b"IDAT" and pixels:
            raise ValueError("the PNG's IDAT chunks do not follow each other")
        pixels, previous = pixels or kind == b"IDAT", kind
        if _png_needs(kind, data[at + 8 : end - 4] if kind in _PNG_READ else b""):
            kept.append(data[at:end])
        at = end
        if kind == b"IEND":
            return b"".join(kept)


_PNG_READ = frozenset([b"iCCP", b"iTXt"])
_PNG_KEPT = frozenset([b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT"])


def _png_needs(kind: bytes, body: bytes) -> bool:
    if kind == b"iCCP":
        at = body.find(b"\0") + 1
        if body[at : at + 1] != b"\0":
            raise ValueError("an iCCP chunk without a name, or compressed by an unknown method")
        unpacker = zlib.decompressobj()
        try:
            unpacker.decompress(body[at + 1 :], MAX_ICC)
        except zlib.error:
            return False
        return unpacker.eof
    if kind == b"iTXt":  # XMP may hold the orientation
        return body.startswith(b"XML:com.adobe.xmp\0\0") and len(body) < MAX_ICC
    return not kind[0] & 0x20 or kind in _PNG_KEPT


# Adam7: (first column, first row, step across, step down) of each pass.
_WHOLE_PASS = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG's colour type


def png_is_short(data: bytes, last_row: bytes) -> bool:
    """Whether the pixels' stream ends properly but too early, which Pillow takes for black.

    Inflating once more is spared to nearly all photos: rows that never came are zero to the last.
    """
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if not interlaced and any(last_row):
        return False
    wanted = 0
    for left, top, across, down in _ADAM7 if interlaced else _WHOLE_PASS:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            wanted += rows * (1 + (columns * depth * _CHANNELS[colour] + 7) // 8)
    unpacker, at = zlib.decompressobj(), 8
    while at < len(data) and wanted > 0:
        length, kind = struct.unpack_from(">I4s", data, at)
        piece = data[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        while piece and wanted > 0:
            wanted -= len(unpacker.decompress(piece, 1 << 20))
            piece = unpacker.unconsumed_tail
        at += 12 + length
    return wanted > 0


def webp_canvas(data: bytes) -> tuple[int, int]:
    """Return the canvas of a WebP, which libwebp makes when the file is opened."""
    kind, head = data[12:16], data[20:30]
    if kind == b"VP8X":
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF


def gif_canvas(data: bytes) -> tuple[int, int]:
    """Return the canvas of a GIF, which Pillow may make when the file is opened."""
    return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")


def exif_orientation(exif: bytes) -> int | None:
    """Return what the first directory of an EXIF block says of orientation, valid or not."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == 274:
                found: int = struct.unpack_from(order + ("I" if kind == 4 else "H"), exif, entry + 8)[0]
                return found
    except struct.error:  # an offset outside, or the block ends early
        return None
    return None
