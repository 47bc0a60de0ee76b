"""Every format, every limit, and nothing half decoded."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from photolabel import decoding, errors
from photolabel.images import Limits, read

from costs import cheap
from pictures import (
    CORE,
    JPEG,
    NOISE,
    PNG,
    REFERENCE,
    bombs,
    chunk,
    encoded,
    far,
    picture,
    pixels,
    png,
)

# --- Limits --------------------------------------------------------------------------------------


def test_pixel_limit_is_exact() -> None:
    files = [encoded(picture(), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "TIFF", "BMP")]
    for photo in (*files, picture(), np.asarray(picture())):
        assert read(photo, limits=Limits(pixels=160 * 120)).size == (160, 120)
        with pytest.raises(errors.PhotoTooLargeError, match=r"160 x 120.*19,199"):
            read(photo, limits=Limits(pixels=160 * 120 - 1))


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "1"])
def test_limits_are_checked(bad: object) -> None:
    with pytest.raises(errors.UsageError):
        Limits(pixels=bad)  # type: ignore[arg-type]
    with pytest.raises(errors.UsageError):
        Limits(file_bytes=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", bombs())
def test_pixel_bombs_are_refused_from_the_header(kind: str) -> None:
    data = bombs()[kind]
    tracemalloc.start()
    with cheap(seconds=0.1), pytest.raises(errors.PhotoTooLargeError, match="claims"):
        read(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20


@pytest.mark.parametrize(("kind", "opener"), [("gif", "GIF"), ("webp", "WebP"), ("webp-x", "WebP")])
def test_a_canvas_is_checked_before_it_is_made(kind: str, opener: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening these makes the canvas, or may."""
    monkeypatch.setitem(decoding._OPENERS, opener, lambda _: pytest.fail("opened"))
    with pytest.raises(errors.PhotoTooLargeError):
        read(bombs()[kind])


@pytest.mark.parametrize("pillows", [None, 89_478_485, 10_000])
def test_pillows_own_limit_is_the_callers(monkeypatch: pytest.MonkeyPatch, pillows: int | None) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("PNG", "JPEG", "TIFF", "BMP", "AVIF"):
            assert read(encoded(picture(), kind)).size == (160, 120)
        with pytest.raises(errors.PhotoTooLargeError):
            read(bombs()["png"])
    assert pillows == Image.MAX_IMAGE_PIXELS


def test_a_limit_inside_pillow_and_a_lack_of_memory_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        with pytest.raises(errors.PhotoTooLargeError), decoding.reported():
            raise error("x")
    for other in (*decoding.BROKEN, RecursionError):
        with pytest.raises(errors.CorruptPhotoError), decoding.reported():
            raise other("x")
    with pytest.raises(KeyboardInterrupt), decoding.reported():
        raise KeyboardInterrupt


# --- Formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "near"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"big_tiff": True}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 95}, 3),
        ("JPEG", {"quality": 95, "progressive": True}, 3),
        ("MPO", {"quality": 95, "save_all": True, "append_images": [picture().rotate(90)]}, 3),
        ("AVIF", {"quality": 95}, 3),
        ("GIF", {}, 12),
        ("GIF", {"save_all": True, "append_images": [picture().rotate(90)]}, 12),
        ("PNG", {"save_all": True, "append_images": [picture().rotate(90)]}, 0),
        ("WEBP", {"lossless": True, "save_all": True, "append_images": [picture().rotate(90)]}, 0),
        ("TIFF", {"save_all": True, "append_images": [picture().rotate(90)]}, 0),
        ("AVIF", {"quality": 95, "save_all": True, "append_images": [picture().rotate(90)]}, 3),
    ],
)
def test_formats_and_first_frames(kind: str, options: dict[str, object], near: float) -> None:
    assert far(pixels(encoded(picture(), kind, **options)), REFERENCE) <= near


@pytest.mark.parametrize("kind", ["TGA", "PPM", "ICO", "PCX", "SGI", "DDS", "JPEG2000", "PDF", "EPS", "ICNS"])
def test_other_formats_are_unsupported(kind: str) -> None:
    with pytest.raises(errors.UnsupportedFormatError, match="JPEG, PNG"):
        read(encoded(picture(), kind))


@pytest.mark.parametrize(
    "data", [b"\0", b"hi", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0\n", b"8BPS\0\1",
             b"\0\0\0\x1cftypisom\0\0\0\0isommp42mp41", b"RIFF\0\0\0\0WAVE", b"\x89PNG\n"]
)  # fmt: skip
def test_no_photo_at_all(data: bytes) -> None:
    with pytest.raises(errors.UnsupportedFormatError):
        read(data)


def test_no_other_decoder_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Image.open, with whatever is registered there, nor a program is ever asked."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("called")

    monkeypatch.setattr(Image, "open", never)
    monkeypatch.setattr(subprocess, "Popen", never)
    assert (pixels(PNG) == REFERENCE).all()


def test_empty_photo() -> None:
    for photo in (b"", io.BytesIO(), Image.new("RGB", (0, 5))):
        with pytest.raises(errors.CorruptPhotoError):
            read(photo)


def test_missing_heic_decoder_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(errors.UnsupportedFormatError, match="pip install pi-heif"):
        read(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(errors.PhotoError):
        monkeypatch.undo()
        read(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")


def test_a_heic_decoder_that_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = threading.Event()
    monkeypatch.setattr(decoding, "_HEIC_IDLE", 0.1)
    with pytest.raises(errors.CorruptPhotoError), decoding.reported():
        decoding._in_time(lambda: wait.wait() and picture(), (1, 1))  # type: ignore[return-value, arg-type]
    wait.set()
    assert decoding._in_time(picture, (1, 1)).size == (160, 120)
    with pytest.raises(RuntimeError, match="of its own"):
        decoding._in_time(lambda: (_ for _ in ()).throw(RuntimeError("of its own")), (1, 1))


def _works(seconds: float, each: float = 0.02) -> Image.Image:
    """Use the processor now and then, as a decoder does on a machine that has much else to do."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        begun = time.thread_time()
        while time.thread_time() - begun < each:
            pass
        time.sleep(0.02)
    return picture()


def test_a_heic_decoder_that_is_slow_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_HEIC_IDLE", 0.5)
    assert decoding._in_time(lambda: _works(1.5), (1, 1)).size == (160, 120)
    monkeypatch.setattr(decoding, "_HEIC_SECONDS", 0.5)
    with pytest.raises(TimeoutError):
        decoding._in_time(lambda: _works(1.5), (1, 1))


def test_a_heic_on_which_libde265_waits_for_ever(shared: Path) -> None:
    """In a process of its own, which must be able to end."""
    data = bytearray((shared / "hard-images" / "heif" / "heif" / "RGBA_10__29x100.heif").read_bytes())
    data[773] = 2  # 3 when whole
    program = textwrap.dedent("""
        import sys
        from photolabel import decoding, errors, images
        decoding._HEIC_IDLE = 0.5
        try:
            images.read(sys.stdin.buffer.read())
        except errors.CorruptPhotoError as error:
            print(type(error.__cause__).__name__)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], input=bytes(data), capture_output=True, timeout=30, check=True
    )
    assert (done.stdout.strip(), done.stderr) == (b"TimeoutError", b"")


def test_brands() -> None:
    def ftyp(*brands: bytes) -> bytes:
        return struct.pack(">I", 12 + 4 * len(brands)) + b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])

    assert decoding.sniff(ftyp(b"avif", b"mif1")) == "AVIF"
    assert decoding.sniff(ftyp(b"mif1", b"avif", b"miaf")) == "AVIF"
    assert decoding.sniff(ftyp(b"mif1", b"heic")) == "HEIC"
    assert decoding.sniff(ftyp(b"heix", b"mif1")) == "HEIC"
    assert decoding.sniff(ftyp(b"qt  ")) is None


# --- Whole or refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("name", CORE)
def test_no_prefix_gives_an_image_silently(monkeypatch: pytest.MonkeyPatch, name: str, lenient: bool) -> None:
    """A photo cut anywhere is refused, or gives exactly the whole's pixels: only a trailer is missing."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    data = CORE[name]
    whole = pixels(data)
    trailer = {"gif": 2, "fax": 3}.get(name, 0)
    for length in [*range(0, len(data), 37), *range(len(data) - 20, len(data))]:
        try:
            cut = read(data[:length])
        except errors.PhotoError:
            continue
        assert length >= len(data) - trailer, f"{name} cut to {length} of {len(data)}"
        assert (np.asarray(cut) == whole).all()
    assert ImageFile.LOAD_TRUNCATED_IMAGES is lenient


# A GIF some of whose codes point beyond its table.
_lzw = bytearray(encoded(picture(), "GIF"))
_lzw[len(_lzw) // 2 : len(_lzw) // 2 + 90] = b"\xfe" * 90
LZW = bytes(_lzw)


def rle_bmp(*, width: int = 8, height: int = 8) -> bytes:
    palette = bytes(range(256)) * 4
    rows = (b"\x08\x21" + b"\0\0") * 8
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(rows) + 2, 0, 0, 256, 256)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(rows) + 2, 0, 0, 54 + 1024) + head + palette + rows + b"\0\1"


@pytest.mark.parametrize("lenient", [False, True])
def test_damage_inside_is_refused_at_every_try(monkeypatch: pytest.MonkeyPatch, lenient: bool) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    raw = NOISE
    assert read(png(10, 10, chunk(b"IDAT", raw)))
    assert read(rle_bmp()).size == (8, 8)
    bad = bytearray(png(10, 10, chunk(b"IDAT", raw)))
    bad[-20] ^= 1  # in IDAT's checksum
    broken = {
        "stream": png(10, 10, chunk(b"IDAT", raw[:90] + bytes(40) + raw[130:])),
        "checksum": bytes(bad),
        "header": png(10, 10, chunk(b"IDAT", raw)).replace(b"\0\0\0\x0a\0\0\0\x0a", b"\0\0\0\x09\0\0\0\x0a"),
        "text": png(10, 10, chunk(b"tEXt", b"a\0b")[:-1] + b"!", chunk(b"IDAT", raw)),
        "few": png(10, 20, chunk(b"IDAT", raw)),
        "none": png(10, 10),
        "apart": png(10, 10, chunk(b"IDAT", raw[:9]), chunk(b"gAMA", b"\0\0\xb1\x8f"), chunk(b"IDAT", raw[9:])),
        "method": png(10, 10, chunk(b"iCCP", b"a\0\1" + zlib.compress(b"x")), chunk(b"IDAT", raw)),
        "rle": rle_bmp()[:-20],
        "lzw": LZW,
        "jpeg": JPEG[:-2],
        "webp": encoded(picture(), "WEBP")[:-1],
    }
    for name, data in broken.items():
        for _ in range(3):
            with pytest.raises(errors.CorruptPhotoError):
                read(data)
                pytest.fail(name)


def test_a_small_run_length_bmp_cannot_ask_for_much_work() -> None:
    """Pillow's decoder is Python, and fills what is skipped byte by byte: 95 Mpx of it took 17 s."""
    hostile = rle_bmp(width=8, height=11_927_560)
    with cheap(seconds=1), pytest.raises(errors.PhotoTooLargeError, match="run-length BMP"):
        read(hostile)
    with pytest.raises(errors.PhotoTooLargeError, match="4,000,000"):
        read(rle_bmp(width=8, height=500_001))


@pytest.mark.parametrize("turned", [False, True])
def test_a_tiff_with_too_few_strips_is_refused(turned: bool) -> None:
    """Pillow makes the strips that are named and leaves the rest black."""
    exif = Image.Exif()
    exif[274] = 6 if turned else 1
    data = bytearray(encoded(picture(), "TIFF", exif=exif))
    assert read(bytes(data)).size == ((120, 160) if turned else (160, 120))
    where = struct.unpack_from("<I", data, 4)[0]
    for entry in range(where + 2, where + 2 + 12 * struct.unpack_from("<H", data, where)[0], 12):
        if struct.unpack_from("<H", data, entry)[0] == 257:  # height; the one strip still has 120 rows
            struct.pack_into("<HHII", data, entry, 257, 4, 1, 1_000)
    with pytest.raises(errors.CorruptPhotoError):
        read(bytes(data))


def test_an_error_in_an_early_tile_is_not_forgotten() -> None:
    """Pillow's load() looks at the last tile's error only: TIFF strips are tiles."""

    class Bad:
        def decode(self, data: bytes) -> tuple[int, int]:
            return -1, -2

    watched = decoding._Watched("RGB", "raw", ("RGB", 0, 1))
    watched._decoder = Bad()
    with pytest.raises(OSError, match="-2"):
        watched.decode(b"x")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(CORE)), st.data())
def test_mutants_give_an_image_or_a_photo_error(name: str, data: st.DataObject) -> None:
    mutant = bytearray(CORE[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(mutant) - 1, 600)))
        mutant[at] = data.draw(st.integers(0, 255))
    try:
        image = read(bytes(mutant), limits=Limits(pixels=1_000_000))
    except errors.PhotoError as error:
        assert not re.search(r"0x[0-9a-f]{4}|Traceback|<.*>|/", str(error))
    else:
        assert image.mode == "RGB" and min(image.size) >= 1


@pytest.mark.parametrize("name", ["webp", "avif"])
def test_a_pillow_built_without_a_decoder(tmp_path: Path, name: str) -> None:
    """All else still works, and the error names the remedy."""
    path = tmp_path / "photo"
    path.write_bytes(encoded(picture(), name.upper()))
    whole = tmp_path / "whole"
    whole.write_bytes(encoded(picture(), "PNG"))
    program = textwrap.dedent(f"""
        import sys
        sys.modules["PIL._{name}"] = None
        from photolabel import errors, images
        images.read(sys.argv[2])
        try:
            images.read(sys.argv[1])
        except errors.UnsupportedFormatError as error:
            print(error)
    """)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, path, whole], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "pip install --force-reinstall pillow" in done.stdout
