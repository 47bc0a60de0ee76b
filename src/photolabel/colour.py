"""Any decoded picture -> sRGB, 8 bits a channel, opaque.

One rule for each kind of pixel, the same for every recipe and every surface. Large pictures are converted in
strips of rows, so that the peak stays near one copy of the result.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

_STRIP = 1 << 20  # pixels converted at a time

# What ImageCms raised for broken profiles: PyCMSError (littlecms refuses), OSError (not a profile at all),
# ValueError and TypeError (header fields of another kind).
_BROKEN_PROFILE = (ImageCms.PyCMSError, OSError, ValueError, TypeError)

_PROFILE_SPACE = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}


def to_srgb(image: Image.Image) -> Image.Image:
    """Return a `bare` picture in mode RGB: the argument itself where its pixels stay or are changed in place.

    - Transparency lies over white. A transparent colour of 16-bit RGB is compared in 8 bits.
    - 16-bit greys are scaled, not clipped: 0..65535 (or the range that TIFF's BitsPerSample names) to 0..255.
      32-bit integers and floats name no range: taken as 0..1 (floats), 0..255 or 0..65535, whichever is the
      smallest that holds all values, else from their own least to their greatest. NaN counts as 0.
    - An embedded ICC profile is applied if it fits the pixels and littlecms accepts it; else it is ignored
      and the pixels count as sRGB. CMYK without a profile is converted by the plain formula, LAB as CIE D50.
      PNG's gAMA and cHRM are ignored, as Pillow does.
    """
    profile = image.info.get("icc_profile")
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        image = _grey8(image)
        profile = profile if image.mode == "L" else None
    if image.has_transparency_data:
        image = _over_white(image)
    elif image.mode not in _PROFILE_SPACE:  # 1, P, YCbCr, HSV, RGBX
        image = image.convert("RGB")
    if image.mode == "LAB" or (isinstance(profile, bytes) and profile):
        image = _apply(profile if isinstance(profile, bytes) else b"", image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _over_white(image: Image.Image) -> Image.Image:
    """Blend over white; grey stays grey (its profile may be one for greys), all else becomes RGB."""
    grey = image.mode in {"LA", "La", "L", "1"}
    canvas = Image.new("L" if grey else "RGB", image.size, "white")
    key = _transparent_colour(image)
    for top, strip in _strips(image):
        if strip.mode in {"La", "RGBa"}:  # premultiplied
            strip = strip.convert(strip.mode[:-1] + "A")
        if key is not None:
            strip.info["transparency"] = key
        full = strip if strip.mode in {"LA", "RGBA"} else strip.convert("RGBA")
        canvas.paste(full.convert(canvas.mode), (0, top), full.getchannel("A"))
    return canvas


def _transparent_colour(image: Image.Image) -> Any:
    """Return tRNS as Pillow's convert() wants it: in 8 bits, as the pixels are by now.

    PNG gives it at the file's own depth. Of 16 bits the lower 8 are gone, from the pixels too: the nearest
    neighbours of the transparent colour go white with it.
    """
    key, bits = image.info.get("transparency"), image.info.get("bits")
    if isinstance(key, tuple):
        # A PIL image of the caller's may not say what it was: then only a large value tells.
        deep = bits == 16 if isinstance(bits, int) else max(key) > 255
        return tuple(value >> 8 if deep else value & 0xFF for value in key)
    if isinstance(key, int) and image.mode == "L" and bits in {2, 4}:
        return (key & (1 << bits) - 1) * 255 // ((1 << bits) - 1)
    return key


def _grey8(image: Image.Image) -> Image.Image:
    """Scale greys of more than 8 bits to mode L; a tRNS value becomes white, as over a white page."""
    low, high = _range(image)
    out = np.empty((image.height, image.width), np.uint8)
    sixteen = image.mode.startswith("I;16")
    table = _scaled(np.arange(65536), low, high) if sixteen else None
    key = image.info.get("transparency")
    for top, strip in _strips(image):
        values: npt.NDArray[Any] = np.asarray(strip)
        rows = _scaled(values, low, high) if table is None else table[values]
        if isinstance(key, int):
            rows[values == key] = 255
        out[top : top + strip.height] = rows
    return Image.fromarray(out)


def _scaled(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    finite = np.nan_to_num(values.astype(np.float64), posinf=high, neginf=low)
    return np.rint(np.clip((finite - low) * (255.0 / (high - low)), 0, 255)).astype(np.uint8)


def _range(image: Image.Image) -> tuple[float, float]:
    if image.mode.startswith("I;16"):
        return 0.0, 4095.0 if image.info.get("bits") == 12 else 65535.0  # Pillow unpacks 12 bits to 0..4095
    lows, highs = [], []
    for _, strip in _strips(image):
        values: npt.NDArray[Any] = np.asarray(strip)
        values = values[np.isfinite(values)]
        if values.size:
            lows.append(float(values.min()))
            highs.append(float(values.max()))
    low, high = min(lows, default=0.0), max(highs, default=0.0)
    for top in ((1.0,) if image.mode == "F" else ()) + (255.0, 65535.0):
        if low >= 0 and high <= top:
            return 0.0, top
    return (low, high) if high > low else (low, low + 1.0)


def _apply(profile: bytes, image: Image.Image) -> Image.Image:
    try:
        transform = _transform(profile, image.mode)
        if transform is None:
            return image
        if image.mode == "RGB":  # in place: a second copy of a large photo is not needed
            transform.apply_in_place(image)
            return image
        return transform.apply(image)
    except _BROKEN_PROFILE:
        if image.mode == "LAB" and profile:
            return _apply(b"", image)
        return image


@functools.lru_cache(maxsize=16)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile and Pillow mode to sRGB; None where it would change nothing. Threads may share it."""
    if profile:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    else:
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    if source.profile.xcolor_space.strip() != _PROFILE_SPACE[mode]:
        return None
    transform = ImageCms.ImageCmsTransform(source, _srgb(), mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    return None if mode in {"RGB", "L"} and _is_identity(transform, mode) else transform


def _is_identity(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether the profile is sRGB by another name: judged by what it does (within 1 of 255)."""
    steps = np.arange(0, 256, 15 if mode == "RGB" else 1, dtype=np.uint8)
    if mode == "RGB":
        cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(len(steps), -1, 3)
    else:
        cube = steps[None]
    probe = Image.fromarray(np.ascontiguousarray(cube))
    after = np.asarray(transform.apply(probe), np.int16)
    return int(np.abs(after - np.asarray(probe.convert("RGB"), np.int16)).max()) <= 1
