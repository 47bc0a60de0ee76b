"""Every form a photo comes in, every kind of pixel, every guard: with photos made here."""

from __future__ import annotations

import contextlib
import io
import os
import re
import socket
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
from PIL import Image, ImageCms, ImageFile

from photolabel import colour, decoding, errors, images, silence
from photolabel.images import CROP, KERAS, LITE2, RECIPES, Limits, Recipe, prepare, read


def picture(width: int = 160, height: int = 120, mode: str = "RGB") -> Image.Image:
    """A smooth picture with no symmetry, so that a wrong turn or a shift shows."""
    noise = np.random.default_rng(7).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(photo: images.Photo) -> np.ndarray:
    return np.asarray(read(photo)).astype(int)


def far(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b).mean())


PNG = encoded(picture(), "PNG")
JPEG = encoded(picture(), "JPEG")
REFERENCE = np.asarray(picture()).astype(int)


# --- The forms a photo comes in -------------------------------------------------------------------


class Pipe(io.RawIOBase):
    """Not seekable, and gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        part, self.left = self.left[:1000][: len(buffer)], self.left[min(1000, len(buffer)) :]
        buffer[: len(part)] = part
        return len(part)


def test_all_forms_give_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "photo.gif"  # the name has no say
    path.write_bytes(PNG)
    file, pipe = io.BytesIO(PNG), Pipe(PNG)
    forms = [path, str(path), PNG, bytearray(PNG), memoryview(PNG), file, pipe, Image.open(io.BytesIO(PNG)),
             picture(), np.asarray(picture())]  # fmt: skip
    for form in forms:
        image = read(form)
        assert image.mode == "RGB" and not image.info and image.size == (160, 120)
        assert type(image) is Image.Image
        assert (np.asarray(image) == REFERENCE).all()
    assert not file.closed and not pipe.closed
    with path.open("rb") as opened:
        opened.seek(0)
        assert (np.asarray(read(opened)) == REFERENCE).all()


def test_what_the_caller_gave_stays_as_it_was() -> None:
    array = np.asarray(picture()).copy()
    image = read(array)
    image.putpixel((0, 0), (1, 2, 3))
    assert (array == REFERENCE).all()
    wide = ImageCms.ImageCmsProfile(io.BytesIO(wide_profile())).tobytes()
    given = picture()
    given.info["icc_profile"] = wide
    given.getexif()[274] = 6
    result = read(given)
    assert given.size == (160, 120) and (np.asarray(given) == REFERENCE).all() and "icc_profile" in given.info
    result.putpixel((0, 0), (1, 2, 3))
    plain = picture()
    read(plain).putpixel((0, 0), (1, 2, 3))
    assert (np.asarray(plain) == REFERENCE).all()
    view = np.asarray(picture())[::2, ::-1]
    assert (pixels(view) == view).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
    ids=lambda a: f"{a.shape}{a.dtype}",
)
def test_other_arrays_are_an_error_of_usage(array: np.ndarray) -> None:
    with pytest.raises(errors.UsageError, match=r"\(height, width, 3\) uint8.*" + str(array.dtype)):
        read(array)


def test_other_things_are_an_error_of_usage() -> None:
    for thing in (3, None, ["a"], io.StringIO("text")):
        with pytest.raises(errors.UsageError):
            read(thing)  # type: ignore[arg-type]


# --- Paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("none.jpg", errors.PhotoNotFoundError),
        ("none/none.jpg", errors.PhotoNotFoundError),
        ("file/none.jpg", errors.PhotoNotFoundError),
        ("a\0b.jpg", errors.PhotoNotFoundError),
        ("x" * 5000, errors.PhotoNotFoundError),
        ("", errors.PhotoUnreadableError),  # the folder itself
        ("fifo", errors.PhotoUnreadableError),
        ("socket", errors.PhotoUnreadableError),
        ("loop", errors.PhotoUnreadableError),
        ("empty", errors.CorruptPhotoError),
        ("sparse", errors.PhotoTooLargeError),
        ("/dev/zero", errors.PhotoUnreadableError),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="FIFOs, sockets and devices of POSIX")
def test_odd_paths_end_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: type[Exception]
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    Path("file").write_bytes(PNG)
    Path("empty").touch()
    os.mkfifo("fifo")
    Path("loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listener, Path("sparse").open("wb") as sparse:
        listener.bind("socket")
        sparse.truncate(8 << 30)
        start = time.perf_counter()
        tracemalloc.start()
        with pytest.raises(error) as caught:
            read(tmp_path / name)
        took, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert took < 1 and peak < 1 << 20
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind root")
def test_forbidden_file(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    path.chmod(0)
    with pytest.raises(errors.PhotoUnreadableError):
        read(path)


def test_permission_error_is_unreadable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "no")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(errors.PhotoUnreadableError, match="permissions"):
        read(tmp_path / "x.png")


def test_a_failing_file_object() -> None:
    class Failing(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "gone")

    class NotYet(io.RawIOBase):
        def read(self, size: int = -1) -> None:  # type: ignore[override]
            return None

    closed = io.BytesIO(PNG)
    closed.close()
    for file in (Failing(), NotYet(), closed):
        with pytest.raises(errors.PhotoUnreadableError):
            read(file)  # type: ignore[arg-type]


# --- Limits ---------------------------------------------------------------------------------------


def test_pixel_limit_is_exact() -> None:
    files = [encoded(picture(), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "TIFF", "BMP")]
    for photo in (*files, picture(), np.asarray(picture())):
        assert read(photo, limits=Limits(pixels=160 * 120)).size == (160, 120)
        with pytest.raises(errors.PhotoTooLargeError, match=r"160 x 120.*19,199"):
            read(photo, limits=Limits(pixels=160 * 120 - 1))


def test_byte_limit_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(PNG)
    for photo in (path, PNG, io.BytesIO(PNG), Pipe(PNG)):
        assert read(photo, limits=Limits(file_bytes=len(PNG)))
    for photo in (path, PNG, io.BytesIO(PNG), Pipe(PNG)):
        with pytest.raises(errors.PhotoTooLargeError, match="bytes"):
            read(photo, limits=Limits(file_bytes=len(PNG) - 1))


def test_an_endless_file_object_is_left_after_the_limit() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            assert size > 0
            self.given += size
            return bytes(size)

    endless = Endless()
    with pytest.raises(errors.PhotoTooLargeError):
        read(endless, limits=Limits(file_bytes=1000))  # type: ignore[arg-type]
    assert endless.given == 1001


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "1"])
def test_limits_are_checked(bad: object) -> None:
    with pytest.raises(errors.UsageError):
        Limits(pixels=bad)  # type: ignore[arg-type]
    with pytest.raises(errors.UsageError):
        Limits(file_bytes=bad)  # type: ignore[arg-type]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *middle: bytes, depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(middle) + chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    idat = chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    gif = bytearray(encoded(picture(8, 8), "GIF"))
    gif[6:10] = b"\xff\xff\xff\xff"
    bmp = bytearray(encoded(picture(8, 8), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60000, 60000)
    jpeg = bytearray(encoded(picture(8, 8), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = b"\xff\xff\xff\xff"
    tiff = encoded(picture(8, 8), "TIFF")
    for tag in (256, 257):  # a SHORT of 8 -> a LONG of 60000
        tiff = re.sub(
            re.escape(struct.pack("<H", tag)) + b"..\1\0\0\0....",
            struct.pack("<HHII", tag, 4, 1, 60000),
            tiff,
            flags=re.DOTALL,
        )
    avif = bytearray(encoded(picture(8, 8), "AVIF"))
    at = avif.index(b"ispe") + 8
    avif[at : at + 8] = struct.pack(">II", 16000, 16000)
    webp = b"WEBPVP8L" + struct.pack("<I", 10) + b"\x2f" + struct.pack("<I", 0x0FFFFFFF) + bytes(5)
    webp_x = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\xff\0" * 2
    return {
        "png": png(100_000, 100_000, idat),
        "gif": bytes(gif),
        "bmp": bytes(bmp),
        "jpeg": bytes(jpeg),
        "tiff": tiff,
        "avif": bytes(avif),
        "webp": b"RIFF" + struct.pack("<I", len(webp)) + webp,
        "webp-x": b"RIFF" + struct.pack("<I", len(webp_x)) + webp_x,
    }


@pytest.mark.parametrize("kind", bombs())
def test_pixel_bombs_are_refused_from_the_header(kind: str) -> None:
    data = bombs()[kind]
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(errors.PhotoTooLargeError, match="claims"):
        read(data)
    took, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 0.1
    assert peak < 10 << 20


@pytest.mark.parametrize(("kind", "opener"), [("gif", "GIF"), ("webp", "WebP"), ("webp-x", "WebP")])
def test_a_canvas_is_checked_before_it_is_made(kind: str, opener: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening these makes the canvas, or may."""
    monkeypatch.setitem(decoding._OPENERS, opener, lambda _: pytest.fail("opened"))
    with pytest.raises(errors.PhotoTooLargeError):
        read(bombs()[kind])


def test_metadata_bombs_cost_nothing() -> None:
    row = zlib.compress(b"".join(b"\0" + bytes(30) for _ in range(10)))
    bomb = zlib.compress(bytes(80 << 20))
    texts = [
        chunk(b"zTXt", b"a\0\0" + bomb),
        chunk(b"iCCP", b"a\0\0" + bomb),
        chunk(b"tEXt", b"a\0b") * 50_000,
    ]
    start = time.perf_counter()
    for text in texts:
        assert read(png(10, 10, text, chunk(b"IDAT", row))).size == (10, 10)
    assert time.perf_counter() - start < 2


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


def test_brands() -> None:
    def ftyp(*brands: bytes) -> bytes:
        return struct.pack(">I", 12 + 4 * len(brands)) + b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])

    assert decoding.sniff(ftyp(b"avif", b"mif1")) == "AVIF"
    assert decoding.sniff(ftyp(b"mif1", b"avif", b"miaf")) == "AVIF"
    assert decoding.sniff(ftyp(b"mif1", b"heic")) == "HEIC"
    assert decoding.sniff(ftyp(b"heix", b"mif1")) == "HEIC"
    assert decoding.sniff(ftyp(b"qt  ")) is None


# --- Whole or refused -----------------------------------------------------------------------------

CORE = {
    "jpeg": JPEG,
    "progressive": encoded(picture(), "JPEG", progressive=True),
    "png": PNG,
    "palette": encoded(picture().quantize(64), "PNG"),
    "apng": encoded(picture(), "PNG", save_all=True, append_images=[picture().rotate(90)]),
    "gif": encoded(picture(), "GIF"),
    "bmp": encoded(picture(), "BMP"),
    "webp": encoded(picture(), "WEBP"),
    "lossless": encoded(picture(), "WEBP", lossless=True),
    "avif": encoded(picture(), "AVIF"),
    "tiff": encoded(picture(), "TIFF"),
    **{
        f"tiff {how}": encoded(picture(), "TIFF", compression=how)
        for how in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
    },
    "fax": encoded(picture(mode="1"), "TIFF", compression="group4"),
}


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


# Scanlines of a 10 x 10 RGB PNG whose stream breaks wherever bytes of it change.
NOISE = zlib.compress(b"".join(b"\0" + bytes(i * j * 37 % 251 // 9 for j in range(30)) for i in range(10)))


# A GIF some of whose codes point beyond its table.
_lzw = bytearray(encoded(picture(), "GIF"))
_lzw[len(_lzw) // 2 : len(_lzw) // 2 + 90] = b"\xfe" * 90
LZW = bytes(_lzw)


def rle_bmp(*, end: bytes = b"\0\1") -> bytes:
    palette = bytes(range(256)) * 4
    rows = (b"\x08\x21" + b"\0\0") * 8
    head = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 8, 1, len(rows) + 2, 0, 0, 256, 256)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(rows) + 2, 0, 0, 54 + 1024) + head + palette + rows + end


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


def test_a_lazy_pil_image_cannot_pass_at_the_second_try() -> None:
    data = png(10, 10, chunk(b"IDAT", NOISE[:90] + bytes(40) + NOISE[130:]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lazy = Image.open(io.BytesIO(data))
    for _ in range(3):
        with pytest.raises(errors.CorruptPhotoError):
            read(lazy)


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


# --- Upright --------------------------------------------------------------------------------------

UNDO = {
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "PIL"])
@pytest.mark.parametrize("value", UNDO)
def test_eight_orientations_are_one_photo(kind: str, value: int) -> None:
    turn = UNDO[value]
    stored = picture() if turn is None else picture().transpose(turn)
    exif = Image.Exif()
    exif[274] = value
    if kind == "PIL":
        stored.info["exif"] = exif.tobytes()
        photo: images.Photo = stored
    else:
        options = {"lossless": True} if kind == "WEBP" else {} if kind in {"PNG", "TIFF"} else {"quality": 95}
        photo = encoded(stored, kind, exif=exif, **options)
    assert far(pixels(photo), REFERENCE) <= (3 if kind in {"JPEG", "AVIF"} else 0)


def exif_block(value: int, *, order: str = "<", kind: int = 3, at: int = 8, tag: int = 274) -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    body = struct.pack(order + ("HHII" if kind == 4 else "HHIHxx"), tag, kind, 1, value)
    return b"Exif\0\0" + mark + struct.pack(order + "IH", at, 1) + body + bytes(4)


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


def test_xmp_turns_where_exif_is_silent() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    packet = b"http://ns.adobe.com/xap/1.0/\0" + xmp
    marker = b"\xff\xe1" + struct.pack(">H", len(packet) + 2) + packet
    assert read(JPEG[:2] + marker + JPEG[2:]).size == (120, 160)
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    assert read(PNG[:33] + text + PNG[33:]).size == (120, 160)
    exif = exif_block(1)
    both = marker + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    assert read(JPEG[:2] + both + JPEG[2:]).size == (160, 120)


def test_reading_twice_turns_once() -> None:
    exif = Image.Exif()
    exif[274] = 6
    once = read(encoded(picture(), "JPEG", exif=exif))
    assert read(once).size == once.size == (120, 160)


# --- Colour ---------------------------------------------------------------------------------------


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


def test_one_bit_and_palette() -> None:
    bits = picture(mode="1")
    assert (pixels(encoded(bits, "PNG"))[:, :, 0] == np.asarray(bits) * 255).all()
    palette = picture().quantize(200)
    assert (pixels(encoded(palette, "PNG")) == np.asarray(palette.convert("RGB"))).all()


def wide_profile() -> bytes:
    """A profile whose red and blue are exchanged: sRGB's own with two tags' names swapped."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return srgb.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


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


# --- Silence --------------------------------------------------------------------------------------


def noisy_tiff() -> bytes:
    """Its fax data are broken, of which libtiff speaks on descriptor 2."""
    data = bytearray(CORE["fax"])
    data[40:200] = bytes(range(160))
    return bytes(data)


@pytest.mark.parametrize("handlers", [True, False])
def test_nothing_raw_reaches_stderr(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
                                    handlers: bool) -> None:  # fmt: skip
    if not handlers:  # as on Windows, where libtiff cannot be reached
        monkeypatch.setattr(silence, "_handlers_off", lambda: False)
    for _ in range(2):
        with contextlib.suppress(errors.PhotoError):
            read(noisy_tiff())
    os.write(2, b"still there")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "still there")


def test_libtiff_would_speak() -> None:
    """The test above can fail: without the silence there is something to hear."""
    program = textwrap.dedent("""
        import io, sys
        from PIL import Image
        try:
            Image.open(io.BytesIO(sys.stdin.buffer.read())).load()
        except OSError:
            pass
    """)
    done = subprocess.run([sys.executable, "-c", program], input=noisy_tiff(), capture_output=True, check=False)
    assert b"Fax" in done.stderr


def test_warnings_are_ignored_here_and_nowhere_else() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with silence.quiet():
            warnings.warn("inside", stacklevel=1)
            other = threading.Thread(target=warnings.warn, args=("of another thread",))
            other.start()
            other.join()
        warnings.warn("after", stacklevel=1)
    assert [str(entry.message) for entry in heard] == ["of another thread", "after"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with silence.quiet():
            warnings.warn("inside", stacklevel=1)
        with pytest.raises(UserWarning):
            warnings.warn("after", stacklevel=1)


def test_a_photo_that_makes_pillow_warn() -> None:
    data = bytearray(encoded(picture(), "TIFF"))
    where = struct.unpack_from("<I", data, 4)[0]
    for entry in range(where + 2, where + 2 + 12 * struct.unpack_from("<H", data, where)[0], 12):
        if struct.unpack_from("<H", data, entry)[0] == 284:  # planar configuration: now 100,000 values, off the end
            struct.pack_into("<HHII", data, entry, 285, 2, 100_000, 60_000)
    with pytest.warns(UserWarning):
        Image.open(io.BytesIO(bytes(data)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (pixels(bytes(data)) == REFERENCE).all()


def test_many_threads() -> None:
    wrong: list[str] = []
    photos = [*CORE.values(), noisy_tiff(), PNG[:500]]

    def work() -> None:
        for data in photos:
            try:
                read(data)
            except errors.PhotoError:
                pass
            except BaseException as error:
                wrong.append(repr(error))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


# --- Recipes --------------------------------------------------------------------------------------

sides = st.integers(1, 700)


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.sampled_from(sorted(RECIPES)))
def test_every_shape_gives_the_recipes_input(width: int, height: int, name: str) -> None:
    recipe = RECIPES[name]
    image = picture(width, height)
    before = image.tobytes()
    result = prepare(image, recipe)
    assert result.shape == (recipe.size, recipe.size, 3)
    assert result.dtype == np.float32 and result.flags.c_contiguous and result.flags.writeable
    assert result.min() >= 0 and result.max() <= 255
    assert image.tobytes() == before


def test_keras_recipe_is_load_img() -> None:
    """load_img(target_size=(224, 224)) and img_to_array, written out."""
    for data in (JPEG, PNG, encoded(picture(224, 224), "PNG"), encoded(picture(301, 77), "JPEG")):
        literal = Image.open(io.BytesIO(data))
        if literal.size != (224, 224):
            literal = literal.resize((224, 224), Image.Resampling.NEAREST)
        expected = np.asarray(literal, dtype="float32")
        assert (prepare(read(data), KERAS) == expected).all()


@settings(max_examples=40, deadline=None)
@given(sides, sides)
def test_crop_recipe_is_torchvisions(width: int, height: int) -> None:
    """Resize(256, BICUBIC) and CenterCrop(224), written out; also for shapes that are windowed here."""
    image = picture(width, height)
    short, long = sorted(image.size)
    size = (256, int(256 * long / short)) if width <= height else (int(256 * long / short), 256)
    whole = image.resize(size, Image.Resampling.BICUBIC)
    top, left = round((size[1] - 224) / 2.0), round((size[0] - 224) / 2.0)
    expected = np.asarray(whole.crop((left, top, left + 224, top + 224)), np.float32)
    result = prepare(image, CROP)
    if max(size) <= 16 * 256:
        assert (result == expected).all()
    else:
        difference = np.abs(result - expected)
        assert difference.max() <= 2 and (difference > 0).mean() < 0.01  # fixed-point sums round otherwise


@settings(max_examples=40, deadline=None)
@given(sides, sides)
def test_lite_recipe_is_efficientnets(width: int, height: int) -> None:
    image = picture(width, height)
    square = max(1, int(260 / 292 * min(width, height)))
    left, top = (width - square + 1) // 2, (height - square + 1) // 2
    expected = image.crop((left, top, left + square, top + square)).resize((260, 260), Image.Resampling.BICUBIC)
    assert (prepare(image, LITE2) == np.asarray(expected, np.float32)).all()


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1), (3, 65_000), (1, 1)])
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_extreme_shapes_make_no_giant(size: tuple[int, int], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resize = Image.Image.resize

    def bounded(self: Image.Image, to: tuple[int, int], *rest: object, **more: object) -> Image.Image:
        assert to[0] * to[1] <= 16 * 256 * 256
        return resize(self, to, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", bounded)
    start = time.perf_counter()
    assert prepare(picture(*size), RECIPES[name]).shape[2] == 3
    assert time.perf_counter() - start < 1


def test_prepare_takes_rgb_only() -> None:
    with pytest.raises(errors.UsageError, match="RGB"):
        prepare(picture(mode="L"), KERAS)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda r: r.name)
def test_recipes_survive_a_dict(recipe: Recipe) -> None:
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0}, {"size": 5000}, {"size": "224"}, {"size": True}, {"size": 224.0}, {"fit": "pad"},
        {"fit": []}, {"side": 200}, {"side": None}, {"side": 5000}, {"filter": "cubic"}, {"filter": []},
        {"name": ""},
        {"name": 3}, {"name": "x" * 65}, {"name": "a\nb"}, {"fit": "squash"}, {"more": 1}, {"__class__": 1},
    ],
    ids=str,
)  # fmt: skip
def test_strange_recipes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidModelError):
        Recipe.from_dict({**CROP.to_dict(), **change})


def test_recipes_that_are_no_dict() -> None:
    for values in (None, [], "keras", {}, {1: 2}):
        with pytest.raises(errors.InvalidModelError):
            Recipe.from_dict(values)
    short = CROP.to_dict()
    del short["side"]
    with pytest.raises(errors.InvalidModelError):
        Recipe.from_dict(short)
    with pytest.raises(errors.UsageError):
        Recipe(name="x", size=0, fit="squash", side=None, filter="nearest")
