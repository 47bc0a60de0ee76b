"""The bytes of a photo -> its decoded first frame, within limits, or one clear error.

Everything here exists because a decoder cannot be trusted with a file from anywhere: which decoder may run is
decided by the first bytes alone, the size is checked before pixels are made, and a photo is whole or refused.
Pillow's own module-level switches (`Image.MAX_IMAGE_PIXELS`, `ImageFile.LOAD_TRUNCATED_IMAGES`, the registry
of openers, the warning filters) belong to the caller's process: they are neither changed nor relied upon.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from .errors import CorruptPhotoError, PhotoError, PhotoTooLargeError, UnsupportedFormatError, UsageError
from .silence import silenced_libtiff

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP", "AVIF", "HEIC")

# What the decoders raised for broken files, measured over some 1,600 of them (fuzzers' finds, cut files,
# format suites): OSError (with UnidentifiedImageError), SyntaxError and struct.error (Pillow's headers),
# ValueError (with UnicodeError), EOFError (WebP, GIF), RuntimeError (AVIF, HEIF; with NotImplementedError and
# RecursionError), TypeError, LookupError and AttributeError (parsers that met a value of another kind),
# ArithmeticError, AssertionError, zlib.error; Warning where the process makes errors of them and another
# thread has just reset the filters.
BROKEN: tuple[type[Exception], ...] = (
    OSError, SyntaxError, struct.error, ValueError, EOFError, RuntimeError, TypeError, LookupError,
    AttributeError,
    ArithmeticError, AssertionError, zlib.error, Warning,
)  # fmt: skip

# A header that claims more than the caller's limit; MemoryError where the system refuses first.
TOO_LARGE = (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning)

MAX_ICC = 1 << 20  # bytes; for a larger profile Pillow refuses the whole PNG, we only ignore the profile


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a photo may cost. Both are refused before anything is decoded."""

    pixels: int = 100_000_000  # width x height; a plain decode of so many takes 400 MB
    file_bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in ("pixels", "file_bytes"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UsageError(f"Limits.{name} must be a whole number of at least 1, not {value!r}.")


DEFAULT_LIMITS = Limits()


def check_pixels(size: tuple[int, int], limits: Limits) -> None:
    """Raise PhotoTooLargeError if width x height is above the limit."""
    if size[0] * size[1] > limits.pixels:
        raise PhotoTooLargeError(
            f"The photo claims {size[0]} x {size[1]} pixels; the limit is {limits.pixels:,} in all. "
            "Scale it down, or raise Limits.pixels if you trust it."
        )


@contextmanager
def reported() -> Iterator[None]:
    """Run a decoder: its failures become PhotoErrors, its warnings go nowhere."""
    try:
        with quiet():
            yield
    except PhotoError:
        raise
    except TOO_LARGE as error:
        raise PhotoTooLargeError(
            "Decoding this photo needs more memory or pixels than this process allows. Scale the photo down."
        ) from error
    except BROKEN as error:
        raise CorruptPhotoError(
            "The photo is broken, cut short, or of a kind its decoder does not know. "
            "A copy from the source, or one saved again by an image editor, may be whole."
        ) from error


def decode(data: bytes, limits: Limits) -> Image.Image:
    """Return the first frame of a photo in one of FORMATS, loaded, in the file's own mode, not yet upright.

    `info` keeps what is said about colour and orientation. Raises UnsupportedFormatError, CorruptPhotoError,
    PhotoTooLargeError.
    """
    if not data:
        raise CorruptPhotoError("The photo is empty: 0 bytes. Was its download or copy cut short?")
    name = sniff(data)
    if name is None:
        raise UnsupportedFormatError(
            f"This is not a photo in a format that is read here ({', '.join(FORMATS)}). "
            "Convert it to JPEG or PNG."
        )
    with reported():
        if name == "HEIC":
            return _heic(data, limits)
        data = _CHECKS[name](data, limits) if name in _CHECKS else data
        file = _Source(data)
        # The class itself, not Image.open(): no other plugin can run, whatever is registered, and Pillow's
        # own pixel limit, which belongs to the caller, has no say.
        image = _OPENERS[name](file)
        check_pixels(image.size, limits)
        image.tile = [
            tile
            if tile.codec_name == "libtiff"  # called by its name, and heard
            else tile._replace(codec_name=_WATCHED, args=(tile.codec_name, tile.args))
            for tile in image.tile
        ]
        file.strict = True
        # Once: a second load() of an object whose first one failed hands out the half-decoded buffer. When
        # this raises, the object is dropped.
        if name == "TIFF":
            with silenced_libtiff():
                image.load()
        else:
            image.load()
        check_pixels(image.size, limits)
        return image


# --- Which format ---------------------------------------------------------------------------------

_HEIF_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1 mif2 mif3 miaf".split())


def sniff(data: bytes) -> str | None:
    """Return the format by its first bytes, one of FORMATS, or None. File names have no say."""
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        end = min(int.from_bytes(data[:4], "big"), 4096, len(data))
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))}
        if brands & {b"avif", b"avis"} and data[8:12] not in {b"heic", b"heix"}:
            return "AVIF"
        if brands & _HEIF_BRANDS:
            return "HEIC"
    return None


_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # BigTIFF
    (b"MM\0+", "TIFF"),
)

_OPENERS: dict[str, Callable[[Any], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,  # of several (MPO) the first, which is a plain JPEG
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}


def _heic(data: bytes, limits: Limits) -> Image.Image:
    try:
        # Decoders only (libheif, libde265: LGPL); its sibling pillow-heif carries x265, which is GPL.
        import pi_heif
    except ImportError as error:
        raise UnsupportedFormatError(
            "This is a HEIC photo, and its decoder is not installed. "
            "`pip install pi-heif`, or convert the photo to JPEG."
        ) from error
    file = pi_heif.open_heif(data, convert_hdr_to_8bit=True)
    check_pixels(file.size, limits)  # of the header; nothing is decoded yet
    image = cast("Image.Image", file.to_pillow())
    check_pixels(image.size, limits)
    # libheif has turned the pixels already; what EXIF says about turning is history.
    image.info = {key: image.info[key] for key in ("icc_profile",) if key in image.info}
    return image


# --- Whole or refused -----------------------------------------------------------------------------


class _Source(io.BytesIO):
    """Bytes in memory which, once pixels are read, do not end quietly.

    Where LOAD_TRUNCATED_IMAGES is set Pillow takes the end of the file for the end of the picture; some of
    its decoders (run-length BMP) always do.
    """

    strict = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if self.strict and not data and size != 0:
            raise EOFError("the file ends before its pixels do")
        return data


class _Watched:
    """A decoder of Pillow's that cannot fail quietly.

    ImageFile.load() ignores a decoder's error where LOAD_TRUNCATED_IMAGES is set, and looks at the last
    tile's only. It asks `Image.register_decoder`'s table for decoders: through that door this one stands in
    between.
    """

    def __init__(self, mode: str, name: str, args: Any, *config: Any) -> None:
        self._decoder = Image._getdecoder(mode, name, args, config)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)  # setimage, setfd, cleanup, pulls_fd

    def decode(self, data: bytes) -> tuple[int, int]:
        consumed, error = self._decoder.decode(data)
        if error < 0:
            raise OSError(f"the decoder stopped with error {error}")
        return consumed, error


_WATCHED = "photolabel-watched"
Image.register_decoder(_WATCHED, cast("Any", _Watched))


def _whole_png(data: bytes, limits: Limits) -> bytes:
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


def _whole_jpeg(data: bytes, limits: Limits) -> bytes:
    """Refuse a JPEG that has no end of image after its first scan: libjpeg would invent one.

    Inside a scan the pair cannot occur by chance (0xFF is followed by 0x00 there).
    """
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker == 0xDA:
            if data.find(b"\xff\xd9", at) < 0:
                raise EOFError("the JPEG has no end marker")
            break
        if marker in (0x00, 0xFF, 0x01) or 0xD0 <= marker <= 0xD9:
            at += 1 if marker == 0xFF else 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data


def _whole_webp(data: bytes, limits: Limits) -> bytes:
    """Check the canvas here: libwebp makes it when the file is opened."""
    if len(data) < int.from_bytes(data[4:8], "little") + 8:
        raise EOFError("the WebP is shorter than its header says")
    kind, head = data[12:16], data[20:30]
    if kind == b"VP8X":
        size = int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    elif kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        size = int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
    check_pixels(size, limits)
    return data


def _canvas_gif(data: bytes, limits: Limits) -> bytes:
    """Check the canvas here: Pillow may make it when the file is opened."""
    check_pixels(struct.unpack_from("<HH", data, 6), limits)
    return data


_CHECKS: dict[str, Callable[[bytes, Limits], bytes]] = {
    "JPEG": _whole_jpeg,
    "PNG": _whole_png,
    "WebP": _whole_webp,
    "GIF": _canvas_gif,
}


# --- Which way up ---------------------------------------------------------------------------------


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation 1..8 of a decoded photo; 1 where there is none, or a broken one.

    Read here and not by Pillow's parser, which reads every tag and so meets every broken one.
    """
    found: int | None = None
    exif = image.info.get("exif")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        found = image.tag_v2.get(274)
    elif isinstance(exif, bytes):
        found = _exif_orientation(exif)
    if found is None:  # as Pillow does: XMP has a say where EXIF has none
        xmp = image.info.get("xmp", image.info.get("XML:com.adobe.xmp", b""))
        xmp = xmp.encode("utf-8", "replace") if isinstance(xmp, str) else xmp
        match = re.search(rb'tiff:Orientation(?:="|>)([0-9])', xmp) if isinstance(xmp, bytes) else None
        found = int(match[1]) if match else None
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _exif_orientation(exif: bytes) -> int | None:
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


# --- Silence --------------------------------------------------------------------------------------

_here = threading.local()


class _InOurHands:
    """The module part of a warning filter: matches in a thread that is decoding for us, whatever the module.

    warnings.catch_warnings() swaps the filters of the whole process and is not safe between threads before
    3.14.
    """

    def match(self, module: str, position: int = 0) -> bool:
        return getattr(_here, "depth", 0) > 0


_IGNORE = cast("Any", ("ignore", None, Warning, _InOurHands(), 0))

for _name in ("PIL", "pi_heif"):  # with no handler at all Python prints a library's log to stderr
    logging.getLogger(_name).addHandler(logging.NullHandler())


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore the warnings of this thread (Pillow has some for odd EXIF and TIFF), and no other's."""
    if getattr(sys.flags, "context_aware_warnings", False):  # free-threaded Python: made for this
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        return
    filters = cast("list[Any]", warnings.filters)
    if not filters or filters[0] is not _IGNORE:  # simplefilter() and pytest put theirs in front
        filters[:] = [_IGNORE, *(entry for entry in filters if entry is not _IGNORE)]
    _here.depth = getattr(_here, "depth", 0) + 1
    try:
        yield
    finally:
        _here.depth -= 1
