"""WebP without Pillow's decoder of animations: the same pixels, and the same refusals."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from photolabel import decoding, errors, webp
from photolabel.images import read

from pictures import PEAK, REFERENCE, encoded, exif_block, picture, pixels, wide_profile

pytestmark = pytest.mark.skipif(webp._library() is None, reason="libwebp cannot be reached here")

TWO = {"save_all": True, "append_images": [picture().rotate(90)]}
OPTIONS = [
    {"quality": 30},
    {"lossless": True},
    {"lossless": True, "exact": True},
    {"quality": 10, "alpha_quality": 10},
    {"exif": exif_block(6), "icc_profile": wide_profile(), "xmp": b"<x/>"},
    TWO,
    {**TWO, "lossless": True},
]


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    image.putalpha(Image.radial_gradient("L").resize(image.size))
    return image


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(options))
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("size", [(160, 120), (37, 23), (1, 1)], ids=str)
def test_the_same_as_pillow(options: dict[str, object], alpha: bool, size: tuple[int, int]) -> None:
    image = with_alpha(picture(*size)) if alpha else picture(*size)
    if "save_all" in options:
        options = {**options, "append_images": [image.rotate(90)]}
    data = encoded(image, "WEBP", **options)
    theirs = Image.open(io.BytesIO(data))
    theirs.load()
    ours = webp.decode(data)
    assert ours is not None
    assert (ours.mode, ours.size) == (theirs.mode, theirs.size)
    assert ours.tobytes() == theirs.tobytes()
    for name in ("exif", "icc_profile", "xmp"):
        assert ours.info.get(name) == theirs.info.get(name)


def test_a_frame_smaller_than_its_canvas() -> None:
    data = bytearray(encoded(with_alpha(picture()), "WEBP", lossless=True, **TWO))
    data[24:30] = (200 - 1).to_bytes(3, "little") + (150 - 1).to_bytes(3, "little")  # VP8X: the canvas
    at = data.index(b"ANMF") + 8
    data[at : at + 6] = (10).to_bytes(3, "little") + (7).to_bytes(3, "little")  # in units of two pixels
    theirs = Image.open(io.BytesIO(bytes(data)))
    theirs.load()
    ours = webp.decode(bytes(data))
    assert ours is not None and ours.size == (200, 150)
    assert ours.tobytes() == theirs.tobytes()
    for column, row in ((21, 7), (20, 16)):  # two pixels over the right edge; over the lower one
        data[at : at + 6] = column.to_bytes(3, "little") + row.to_bytes(3, "little")
        with pytest.raises(errors.CorruptPhotoError):
            read(bytes(data))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(options))
def test_every_cut_is_refused(options: dict[str, object]) -> None:
    """Also where the header's length is made to fit, and the cut is seen by libwebp alone."""
    data = encoded(with_alpha(picture()), "WEBP", **options)
    end = data.index(b"ANMF", data.index(b"ANMF") + 1) if "save_all" in options else len(data)
    for length in range(0, end, 41):
        cut = data[:length]
        for short in (cut, cut[:4] + max(0, length - 8).to_bytes(4, "little") + cut[8:]):
            with pytest.raises(errors.PhotoError):
                read(short)


def test_a_stream_of_another_size_than_the_header_says_is_refused() -> None:
    data = bytearray(encoded(picture(), "WEBP", exif=exif_block(1)))
    data[24:27] = (161 - 1).to_bytes(3, "little")
    with pytest.raises(errors.CorruptPhotoError):
        read(bytes(data))


def test_without_libwebp_in_reach_pillow_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webp, "_library", lambda: None)
    assert (pixels(encoded(picture(), "WEBP", lossless=True)) == REFERENCE).all()
    monkeypatch.undo()
    monkeypatch.setitem(decoding._OPENERS, "WebP", lambda _: pytest.fail("opened"))
    assert (pixels(encoded(picture(), "WEBP", lossless=True)) == REFERENCE).all()


def test_no_library_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert webp._library.__wrapped__() is None


@pytest.mark.skipif(sys.platform == "win32", reason="resource is of POSIX")
def test_memory_of_a_large_canvas() -> None:
    """A small animation on a canvas of 84 Mpx: 1.3 GB by way of Pillow."""
    data = bytearray(encoded(picture(40, 28), "WEBP", save_all=True, append_images=[picture(40, 28).rotate(90)]))
    data[27:30] = (2_097_180 - 1).to_bytes(3, "little")
    program = PEAK + textwrap.dedent("""
        import sys
        from photolabel import images
        idle = peak()
        assert images.read(sys.stdin.buffer.read()).size == (40, 2097180)
        print(peak() - idle)
    """)
    done = subprocess.run([sys.executable, "-c", program], input=bytes(data), capture_output=True, check=True)
    assert 300_000 < int(done.stdout) < 800_000  # the result alone takes 336 MB


def test_pixels_may_be_changed_afterwards() -> None:
    """The decoder's buffer is not shared with what read() returns."""
    for image in (picture(), with_alpha(picture())):
        result = read(encoded(image, "WEBP", lossless=True))
        result.putpixel((0, 0), (1, 2, 3))
        assert np.asarray(result)[0, 0].tolist() == [1, 2, 3]
