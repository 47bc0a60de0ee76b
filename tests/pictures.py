"""The photos of the tests, made in memory, and how to compare them."""

from __future__ import annotations

import io
import re
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms

from photolabel import images
from photolabel.images import read


def picture(width: int = 160, height: int = 120, mode: str = "RGB") -> Image.Image:
    """A smooth picture with no symmetry, so that a wrong turn or a shift shows."""
    noise = np.random.default_rng(7).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def large(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A picture with edges and fine grain, as photos have, and no symmetry."""
    rng = np.random.default_rng(3)
    sizes = ((width // 200 + 2, height // 200 + 2), (width // 5, height // 5))
    coarse, fine = (
        Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
        for w, h in sizes
    )
    return Image.blend(coarse, fine, 0.3).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(photo: images.Photo) -> np.ndarray:
    return np.asarray(read(photo)).astype(int)


def far(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b).mean())


# Source of peak() for a program: kilobytes. Not ru_maxrss where it can be helped, for that one starts at what the
# parent process held when it forked: beside a large pytest nothing would show.
PEAK = """
def peak():
    import pathlib, re, resource, sys
    try:
        return int(re.search("VmHWM:[^0-9]*([0-9]+)", pathlib.Path("/proc/self/status").read_text())[1])
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
"""

PNG = encoded(picture(), "PNG")
JPEG = encoded(picture(), "JPEG")
REFERENCE = np.asarray(picture()).astype(int)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *middle: bytes, depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(middle) + chunk(b"IEND", b"")


# Scanlines of a 10 x 10 RGB PNG whose stream breaks wherever bytes of it change.
NOISE = zlib.compress(b"".join(b"\0" + bytes(i * j * 37 % 251 // 9 for j in range(30)) for i in range(10)))


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


def exif_block(value: int, *, order: str = "<", kind: int = 3, at: int = 8, tag: int = 274) -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    body = struct.pack(order + ("HHII" if kind == 4 else "HHIHxx"), tag, kind, 1, value)
    return b"Exif\0\0" + mark + struct.pack(order + "IH", at, 1) + body + bytes(4)


def wide_profile() -> bytes:
    """A profile whose red and blue are exchanged: sRGB's own with two tags' names swapped."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return srgb.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


def noisy_tiff() -> bytes:
    """Its fax data are broken, of which libtiff speaks on descriptor 2."""
    data = bytearray(CORE["fax"])
    data[40:200] = bytes(range(160))
    return bytes(data)
