"""The bytes of a photo -> its decoded first frame, within limits, or one clear error.

Everything here exists because a decoder cannot be trusted with a file from anywhere: which decoder may run is
decided by the first bytes alone, the size is checked before pixels are made, and a photo is whole or refused.
Pillow's own module-level switches (`Image.MAX_IMAGE_PIXELS`, `ImageFile.LOAD_TRUNCATED_IMAGES`, the registry
of openers, the warning filters) belong to the caller's process: they are neither changed nor relied upon.
"""

from __future__ import annotations

import io
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from .containers import exif_orientation, gif_canvas, png_is_short, webp_canvas, whole_png
from .errors import CorruptPhotoError, PhotoError, PhotoTooLargeError, UnsupportedFormatError, UsageError
from .scans import without_detail
from .silence import quiet, silenced_libtiff
from .webp import decode as decode_webp

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP", "AVIF", "HEIC")

# What the decoders were seen to raise for broken files (fuzzers' finds, cut files, format suites): OSError,
# SyntaxError and struct.error (Pillow's headers), ValueError, EOFError (WebP, GIF), RuntimeError (AVIF, HEIF;
# with NotImplementedError and RecursionError), TypeError. And what such parsers raise by their nature when
# they meet a value of another kind: LookupError, AttributeError, ArithmeticError, AssertionError, zlib.error.
# Warning: where the process makes errors of them and another thread has just reset the filters.
BROKEN: tuple[type[Exception], ...] = (
    OSError, SyntaxError, struct.error, ValueError, EOFError, RuntimeError, TypeError, LookupError,
    AttributeError,
    ArithmeticError, AssertionError, zlib.error, Warning,
)  # fmt: skip

# A header that claims more than the caller's limit; MemoryError where the system refuses first.
TOO_LARGE = (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning)
_FAILED: tuple[type[Exception], ...] = (*BROKEN, *TOO_LARGE)


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

# Pillow decodes run-length BMP in Python and fills what a file skips byte by byte: 1 kB can ask for 17 s.
_RUN_LENGTH_PIXELS = 4_000_000


def check_pixels(size: tuple[int, int], limits: Limits) -> None:
    """Raise PhotoTooLargeError if width x height is above the limit."""
    if size[0] * size[1] > limits.pixels:
        raise PhotoTooLargeError(
            f"The photo claims {size[0]} x {size[1]} pixels; the limit is {limits.pixels:,} in all. "
            "Scale it down, or raise the limit (Limits.pixels, --max-pixels) if you trust it."
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


def decode(data: bytes, limits: Limits, *, enough: int | None = None) -> Image.Image:
    """Return the first frame of a photo in one of FORMATS, loaded and `bare`, not yet upright.

    A JPEG may come out at a half, a quarter or an eighth of its size, where its shorter side still has `enough`
    pixels: the decoder then computes no more than those. By default every photo comes whole.

    Besides what `bare` says, `info` has the `format`, the `stored` width and height, and the `scale`: 1, 2, 4 or 8.

    Raises UnsupportedFormatError, CorruptPhotoError, PhotoTooLargeError.
    """
    if not data:
        raise CorruptPhotoError("The photo is empty: 0 bytes. Was its download or copy cut short?")
    name = sniff(data)
    if name is None:
        raise UnsupportedFormatError(
            f"This is not a photo in a format that is read here ({', '.join(FORMATS)}). Convert it to JPEG or PNG."
        )
    with reported():
        if name == "HEIC":
            heic = _heic(data, limits)
            return _told(heic, name, heic.size)
        if name == "PNG":
            data = whole_png(data)
        elif name == "WebP":
            check_pixels(webp_canvas(data), limits)
            if (webp := decode_webp(data)) is not None:
                return _told(bare(webp), name, webp.size)
        elif name == "GIF":
            check_pixels(gif_canvas(data), limits)
        file = _Source(data)
        # The class itself, not Image.open(): no other plugin can run, whatever is registered, and Pillow's
        # own pixel limit, which belongs to the caller, has no say.
        image = _OPENERS[name](file)
        check_pixels(image.size, limits)
        stored, scale = image.size, 1
        if isinstance(image, JpegImagePlugin.JpegImageFile) and enough is not None:
            image.draft(None, (enough, enough))  # None: the mode stays
            scale = image.decoderconfig[0]
            if scale > 1 and image.info.get("progressive"):
                image.fp = file = _Source(without_detail(data, scale))
        if name == "TIFF":
            _check_last_strip(image)
        if name == "BMP" and image.tile[0].codec_name == "bmp_rle" and image.width * image.height > _RUN_LENGTH_PIXELS:
            raise PhotoTooLargeError(
                f"The photo is a run-length BMP of {image.width} x {image.height} pixels; the limit for these is "
                f"{_RUN_LENGTH_PIXELS:,} in all. Convert it to PNG."
            )
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
        if name == "PNG" and png_is_short(data, image.crop((0, image.height - 1, *image.size)).tobytes()):
            raise EOFError("the PNG's pixels end before its last row")
        result = bare(image)
        if name == "PNG":
            result.info["bits"] = data[24]  # of IHDR, which is always the first chunk: Pillow keeps it nowhere
        return _told(result, name, stored if scale > 1 else result.size, scale)


def _told(image: Image.Image, name: str, stored: tuple[int, int], scale: int = 1) -> Image.Image:
    image.info |= {"format": name, "stored": stored, "scale": scale}
    return image


def bare(image: Image.Image) -> Image.Image:
    """Return the same pixels, not copied, without the file behind them and the decoder's buffers.

    `info` keeps `icc_profile` and `transparency` and gains `orientation` (1..8) and `bits` (a TIFF's first
    BitsPerSample, a PNG's bit depth), where they are known.
    """
    result = image._new(image.im)
    result.info = {key: image.info[key] for key in ("icc_profile", "transparency") if key in image.info}
    result.info["orientation"] = _orientation(image)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(258)
        if isinstance(bits, tuple) and bits:
            result.info["bits"] = bits[0]
    return result


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


def _avif(file: Any) -> ImageFile.ImageFile:
    from PIL import AvifImagePlugin  # the largest of the decoders: loaded for those who have such photos

    if not AvifImagePlugin.SUPPORTED:
        raise _built_without("AVIF")
    return AvifImagePlugin.AvifImageFile(file)


def _webp(file: Any) -> ImageFile.ImageFile:
    if not WebPImagePlugin.SUPPORTED:
        raise _built_without("WebP")
    return WebPImagePlugin.WebPImageFile(file)


def _built_without(name: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(
        f"This is a photo in {name}, which this build of Pillow cannot decode. "
        "`pip install --force-reinstall pillow`, or convert the photo to JPEG."
    )


_OPENERS: dict[str, Callable[[Any], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,  # of several (MPO) the first, which is a plain JPEG
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": _webp,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "AVIF": _avif,
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
    # Not open_heif(), which reads the metadata too: there pi-heif 1.4 crashes the whole process for some
    # broken files (a segmentation fault in the `metadata` attribute). Only what is needed is asked for.
    heif = pi_heif.heif
    try:
        found = heif._pi_heif.load_file(data, 4, True, False, True, True, "", False)
    except TypeError:  # another version, another signature
        found = [image._c_image for image in pi_heif.open_heif(data, convert_hdr_to_8bit=True)]
    found = [each for each in found if each is not None]
    source = next((each for each in found if each.primary), found[0])
    check_pixels(source.size_mode[0], limits)  # of the header; nothing is decoded yet
    image = _in_time(lambda: cast("Image.Image", heif.BaseImage(source).to_pillow()), source.size_mode[0])
    check_pixels(image.size, limits)
    profile = source.color_profile
    # Nothing is kept of EXIF and XMP: libheif has turned the pixels already.
    if profile and profile["type"] in {"rICC", "prof"}:
        image.info["icc_profile"] = profile["data"]
    return bare(image)


def _in_time(make: Callable[[], Image.Image], size: tuple[int, int]) -> Image.Image:
    """Decode in a thread that is given up (it cannot be ended) when it does not come back.

    For some broken files libde265 waits for itself for ever. Then this process uses no processor: on a machine that has
    much else to do a sound photo takes long, too, but some of the processor now and then. In a process that does other
    things besides, a file that is waited for costs more.
    """
    made: list[Image.Image | Exception] = []

    def work() -> None:
        try:
            with quiet():
                made.append(make())
        except _FAILED as error:
            made.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    step, idle, waited, used = _HEIC_IDLE / 10, 0.0, 0.0, time.process_time()
    most = min(60.0, _HEIC_SECONDS + size[0] * size[1] / 500_000)  # 25 megapixels take 1 s
    while thread.is_alive() and idle < _HEIC_IDLE and waited < most:
        thread.join(step)
        idle, waited = idle + step, waited + step  # not by the clock: this process may have been stopped meanwhile
        if time.process_time() - used > 0.01:
            idle, used = 0.0, time.process_time()
    if not made:
        raise TimeoutError("the HEIC decoder does not come back")
    if isinstance(made[0], Exception):
        raise made[0]
    return made[0]


_HEIC_SECONDS, _HEIC_IDLE = 10.0, 1.5  # at most; without anything done


# --- Whole or refused -----------------------------------------------------------------------------


def _check_last_strip(image: ImageFile.ImageFile) -> None:
    """Raise where a TIFF has fewer strips or tiles than its size asks for: Pillow leaves the rest black."""
    end = (image.tile[-1].extents or ())[2:]
    if end not in (image.size, image.size[::-1]):  # Pillow exchanges the sides where the orientation will
        raise EOFError("the TIFF's strips end before its last row")


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


# --- Which way up ---------------------------------------------------------------------------------


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation 1..8 of a decoded photo; 1 where there is none, or a broken one.

    Read here and not by Pillow's parser, which reads every tag and so meets every broken one.
    """
    found: int | None = None
    exif = image.info.get("exif")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        found = image.tag_v2.get(274)
    elif isinstance(exif, bytes):
        found = exif_orientation(exif)
    if found is None:  # as Pillow does: XMP has a say where EXIF has none
        xmp = image.info.get("xmp", image.info.get("XML:com.adobe.xmp", b""))
        xmp = xmp.encode("utf-8", "replace") if isinstance(xmp, str) else xmp
        match = re.search(rb'tiff:Orientation(?:="|>)([0-9])', xmp) if isinstance(xmp, bytes) else None
        found = int(match[1]) if match else None
    return found if isinstance(found, int) and 1 <= found <= 8 else 1
