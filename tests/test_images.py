"""Every form a photo comes in, upright."""

from __future__ import annotations

import gzip
import io
import os
import socket
import struct
import sys
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from photolabel import errors, images
from photolabel.images import Limits, read

from pictures import (
    JPEG,
    NOISE,
    PNG,
    REFERENCE,
    chunk,
    encoded,
    exif_block,
    far,
    picture,
    pixels,
    png,
    wide_profile,
)


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


# --- The forms a photo comes in -------------------------------------------------------------------


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


class Raising(io.RawIOBase):
    """A file object of foreign code: what it raises is unknown."""

    def __init__(self, error: BaseException, first: bytes = b"") -> None:
        self.error, self.first = error, first

    def read(self, size: int = -1) -> bytes:
        if first := self.first:
            self.first = b""
            return first
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        EOFError("cut"),
        OSError("no number"),
        ValueError("odd"),
        KeyError("k"),
        RuntimeError(),
        Exception(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("first", [b"", PNG[:50]])
def test_whatever_a_file_object_raises_is_its_photo_s_fault(error: Exception, first: bytes) -> None:
    with pytest.raises(errors.PhotoUnreadableError, match=f"failed with {type(error).__name__}") as caught:
        read(Raising(error, first))  # type: ignore[arg-type]
    assert caught.value.__cause__ is error


def test_ctrl_c_in_a_file_object_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        read(Raising(KeyboardInterrupt()))  # type: ignore[arg-type]


def refused(file: object, said: str) -> None:
    with pytest.raises(errors.PhotoUnreadableError, match=f"failed with {said}"):
        read(file)  # type: ignore[arg-type]


def test_broken_archives() -> None:
    """Members of a ZIP or gzip file are what people pass."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("photo.png", PNG)
    data = bytearray(packed.getvalue())
    data[data.index(PNG[-20:])] ^= 1  # its checksum is wrong now
    with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open("photo.png") as member:
        refused(member, "zipfile.BadZipFile")
    whole = gzip.compress(PNG)
    assert read(gzip.GzipFile(fileobj=io.BytesIO(whole)))
    for broken, said in [
        (whole[:-20], "EOFError"),
        (whole[:-8] + bytes(8), "gzip.BadGzipFile"),
        (whole[:10] + b"\x07" + whole[11:], "zlib.error"),
        (b"no gzip at all", "gzip.BadGzipFile"),
    ]:
        refused(gzip.GzipFile(fileobj=io.BytesIO(broken)), said)


def test_file_objects_that_give_no_bytes() -> None:
    class Gives:
        def __init__(self, what: object) -> None:
            self.what = what

        def read(self, size: int) -> object:
            return self.what

    with pytest.raises(errors.PhotoUnreadableError, match="no data yet"):
        read(Gives(None))  # type: ignore[arg-type]
    for what in ("text", 3, [PNG]):
        with pytest.raises(errors.UsageError, match=f"binary.*{type(what).__name__}"):
            read(Gives(what))  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["made", "lazy", "left", "loaded", "file"])
def test_a_closed_pil_image_is_called_closed(tmp_path: Path, how: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(PNG)
    image = picture() if how == "made" else Image.open(io.BytesIO(PNG) if how == "file" else path)
    if how == "left":
        with image:
            pass
    elif how == "file":
        image.fp.close()  # type: ignore[attr-defined]
    else:
        if how == "loaded":
            image.load()
        image.close()
    with pytest.raises(errors.PhotoUnreadableError, match="is closed"):
        read(image)


def test_a_loaded_pil_image_outlives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(PNG)
    with Image.open(path) as image:
        image.load()
    assert (pixels(image) == REFERENCE).all()


# --- Limits --------------------------------------------------------------------------------------


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


def test_a_lazy_pil_image_cannot_pass_at_the_second_try() -> None:
    data = png(10, 10, chunk(b"IDAT", NOISE[:90] + bytes(40) + NOISE[130:]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lazy = Image.open(io.BytesIO(data))
    with pytest.raises(errors.CorruptPhotoError):
        read(lazy)
    for _ in range(2):
        with pytest.raises(errors.PhotoUnreadableError, match="broken has been closed"):
            read(lazy)


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
