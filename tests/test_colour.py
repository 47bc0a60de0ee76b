"""Every kind of pixel becomes sRGB."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from photolabel import colour, images

from pictures import (
    JPEG,
    REFERENCE,
    chunk,
    encoded,
    far,
    picture,
    pixels,
    png,
    wide_profile,
)


@pytest.mark.parametrize("make", ["array", "png", "tiff", "big-endian"])
def test_sixteen_bits_are_scaled_not_clipped(make: str) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = Image.fromarray(ramp)
    assert image.mode == "I;16"
    if make == "png":
        result = pixels(encoded(image, "PNG"))
    elif make == "tiff":
        result = pixels(encoded(image, "TIFF"))
    elif make == "big-endian":
        result = pixels(Image.fromarray(ramp.astype(">u2")))
    else:
        result = pixels(image)
    assert (result == np.rint(ramp / 257.0)[:, :, None]).all()
    assert result.min() == 0 and result.max() == 255


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 128, 255]], np.int32), [0, 128, 255]),
        (np.array([[0, 257 * 7, 65535]], np.int32), [0, 7, 255]),
        (np.array([[-100, 0, 100]], np.int32), [0, 128, 255]),
        (np.array([[0, 2**30, 2**31 - 1]], np.int32), [0, 128, 255]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 100, 255]], np.float32), [0, 100, 255]),
        (np.array([[-1, 0, 1]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, 0.2, 1]], np.float32), [0, 51, 255]),
        (np.array([[-np.inf, 0.2, np.inf]], np.float32), [0, 51, 255]),
        (np.array([[np.nan, np.nan]], np.float32), [0, 0]),
        (np.array([[70000, 70000]], np.int32), [0, 0]),
    ],
)
def test_greys_without_a_range(values: np.ndarray, expected: list[int]) -> None:
    photo = Image.fromarray(values)
    assert photo.mode in {"I", "F"}
    assert np.abs(pixels(photo)[0, :, 1] - expected).max() <= 1  # 127.5 may round either way
    assert np.abs(pixels(encoded(photo, "TIFF"))[0, :, 1] - expected).max() <= 1


def test_twelve_bits() -> None:
    """A TIFF of 12 bits a sample, which Pillow unpacks to 0..4095: white must be white."""
    rows = bytes.fromhex("fff 000 800 fff".replace(" ", ""))
    tags = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, len(rows))]
    ifd = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHIHxx", tag, 3, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<I", 8 + len(rows)) + rows + ifd + bytes(4)
    assert pixels(data)[0, :, 0].tolist() == [255, 0, 128, 255]


def test_alpha_lies_over_white() -> None:
    rgba = picture().convert("RGBA")
    alpha = np.tile(np.linspace(0, 255, 160).astype(np.uint8), (120, 1))
    rgba.putalpha(Image.fromarray(alpha))
    share = alpha[:, :, None] / 255.0
    expected = REFERENCE * share + 255 * (1 - share)
    premultiplied = rgba.convert("RGBa")
    for photo in (rgba, encoded(rgba, "PNG"), encoded(rgba, "WEBP", lossless=True, exact=True)):
        assert np.abs(pixels(photo) - expected).max() <= 1
    assert np.abs(pixels(premultiplied) - expected)[:, 16:].max() <= 12  # a little is lost by premultiplying
    la = picture(mode="L").convert("LA")
    la.putalpha(Image.fromarray(alpha))
    grey = np.asarray(picture(mode="L")).astype(float)[:, :, None] * share + 255 * (1 - share)
    assert np.abs(pixels(encoded(la, "PNG")) - grey).max() <= 1
    assert np.abs(pixels(la.convert("La")) - grey)[:, 16:].max() <= 12


def test_transparent_colours_are_white() -> None:
    palette = Image.new("P", (4, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    palette.putdata([0, 1, 2, 3])
    table = pixels(encoded(palette, "PNG", transparency=bytes([255, 0, 51, 255])))
    assert table[0].tolist() == [[10, 20, 30], [255] * 3, [218, 220, 222], [100, 110, 120]]
    one = pixels(encoded(palette, "GIF", transparency=2))
    assert one[0].tolist() == [[10, 20, 30], [40, 50, 60], [255] * 3, [100, 110, 120]]
    rgb = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert pixels(encoded(rgb, "PNG", transparency=(1, 2, 3)))[0].tolist() == [[255] * 3, [4, 5, 6]]
    grey = Image.fromarray(np.array([[7, 9]], np.uint8))
    assert pixels(encoded(grey, "PNG", transparency=9))[0, :, 0].tolist() == [7, 255]
    deep = Image.fromarray(np.array([[256, 5140]], np.uint16))
    assert pixels(encoded(deep, "PNG", transparency=256))[0, :, 0].tolist() == [255, 20]
    rows = zlib.compress(b"\0" + struct.pack(">6H", 0x1234, 0x2345, 0x3456, 0x4567, 0x5678, 0x6789))
    sixteen = png(2, 1, chunk(b"tRNS", struct.pack(">3H", 0x1234, 0x2345, 0x3456)), chunk(b"IDAT", rows), depth=16)
    assert pixels(sixteen)[0].tolist() == [[255] * 3, [0x45, 0x56, 0x67]]


def keyed(depth: int, colour: int, key: tuple[int, ...], row: bytes, width: int) -> bytes:
    trns = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    return png(width, 1, trns, chunk(b"IDAT", zlib.compress(b"\0" + row)), depth=depth, colour=colour)


@pytest.mark.parametrize("key", [(200, 100, 50), (0x1234, 100, 50)])
def test_a_transparent_colour_of_sixteen_bits(key: tuple[int, int, int]) -> None:
    """The depth says how to read it, not its size. In 8 bits its neighbours are the same colour."""
    row = struct.pack(">9H", *key, *(value ^ 1 for value in key), 200 << 8, 100 << 8, 50 << 8)
    assert pixels(keyed(16, 2, key, row, 3))[0].tolist() == [[255] * 3, [255] * 3, [200, 100, 50]]


def test_a_transparent_colour_of_eight_bits() -> None:
    row = bytes([200, 100, 50, 201, 100, 50, 0, 0, 0])
    assert pixels(keyed(8, 2, (200, 100, 50), row, 3))[0].tolist() == [[255] * 3, [201, 100, 50], [0] * 3]


@pytest.mark.parametrize(
    ("depth", "row", "width"), [(2, 0b00011011, 4), (4, 0x1E, 2), (8, 0x01, 1), (1, 0b01000000, 2)]
)
def test_a_transparent_grey_of_few_bits(depth: int, row: int, width: int) -> None:
    found = pixels(keyed(depth, 0, (1,), bytes([row]), width))[0, :, 0].tolist()
    assert found == {2: [0, 255, 170, 255], 4: [255, 238], 8: [255], 1: [0, 255]}[depth]


def test_one_bit_and_palette() -> None:
    bits = picture(mode="1")
    assert (pixels(encoded(bits, "PNG"))[:, :, 0] == np.asarray(bits) * 255).all()
    palette = picture().quantize(200)
    assert (pixels(encoded(palette, "PNG")) == np.asarray(palette.convert("RGB"))).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "PIL"])
def test_other_profiles_are_converted(kind: str) -> None:
    flat = Image.new("RGB", (16, 16), (250, 120, 10))
    if kind == "PIL":
        flat.info["icc_profile"] = wide_profile()
        photo: images.Photo = flat
    else:
        photo = encoded(flat, kind, icc_profile=wide_profile())
    assert far(pixels(photo), np.asarray(Image.new("RGB", (16, 16), (10, 120, 250)))) < 4


def test_srgb_profile_costs_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(picture(), "JPEG", icc_profile=srgb)
    assert (pixels(data) == pixels(JPEG)).all()
    assert colour._transform(srgb, "RGB") is None


@pytest.mark.parametrize("profile", [b"junk", b"", wide_profile()[:200], b"\0" * 128])
def test_broken_profiles_are_ignored(profile: bytes) -> None:
    assert (pixels(encoded(picture(), "PNG", icc_profile=profile)) == REFERENCE).all()
    given = picture()
    given.info["icc_profile"] = profile
    assert (pixels(given) == REFERENCE).all()


def test_a_profile_for_other_pixels_is_ignored() -> None:
    assert (pixels(encoded(picture(mode="L"), "PNG", icc_profile=wide_profile()))[:, :, 0]
            == np.asarray(picture(mode="L"))).all()  # fmt: skip


def test_cmyk_is_not_inverted() -> None:
    cmyk = picture(mode="CMYK")
    for photo in (cmyk, encoded(cmyk, "JPEG", quality=95), encoded(cmyk, "TIFF")):
        assert far(pixels(photo), REFERENCE) < 3


def test_lab() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(picture(), srgb, lab, outputMode="LAB")
    assert image is not None
    for photo in (image, encoded(image, "TIFF")):
        assert far(pixels(photo), REFERENCE) < 3


def test_ycbcr_and_hsv() -> None:
    for mode in ("YCbCr", "HSV", "RGBX"):
        assert far(pixels(picture(mode=mode)), REFERENCE) < 4
