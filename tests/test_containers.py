"""What is read of the containers by our own hands."""

from __future__ import annotations

import struct
import zlib

import pytest

from photolabel.images import read

from costs import cheap
from pictures import (
    JPEG,
    PNG,
    chunk,
    exif_block,
    png,
)


def test_metadata_bombs_cost_nothing() -> None:
    row = zlib.compress(b"".join(b"\0" + bytes(30) for _ in range(10)))
    bomb = zlib.compress(bytes(80 << 20))
    texts = [
        chunk(b"zTXt", b"a\0\0" + bomb),
        chunk(b"iCCP", b"a\0\0" + bomb),
        chunk(b"tEXt", b"a\0b") * 50_000,
    ]
    with cheap(seconds=2):
        for text in texts:
            assert read(png(10, 10, text, chunk(b"IDAT", row))).size == (10, 10)


@pytest.mark.parametrize(
    ("exif", "turned"),
    [
        (exif_block(6), True),
        (exif_block(6, order=">"), True),
        (exif_block(6, kind=4), True),
        (exif_block(0), False),
        (exif_block(9), False),
        (exif_block(65535), False),
        (exif_block(6, tag=275), False),
        (exif_block(6, at=60_000), False),
        (exif_block(6)[:18], False),
        (b"Exif\0\0II*\0" + struct.pack("<IH", 8, 65535) + bytes(40), False),
        (b"Exif\0\0", False),
        (b"Exif\0\0junk and more junk", False),
    ],
)
def test_broken_exif_does_not_kill_a_good_photo(exif: bytes, turned: bool) -> None:
    marker = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    for data in (
        JPEG[:2] + marker + JPEG[2:],
        PNG[:33] + chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")) + PNG[33:],
    ):
        assert read(data).size == ((120, 160) if turned else (160, 120))
