"""WebP by libwebp's simple interface, for the sake of memory.

Pillow's only way is libwebp's decoder of animations, which holds 16 bytes a pixel; this one holds 8 at most and
gives the same pixels. libwebp is the copy that Pillow itself is linked to.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from PIL import Image

from .containers import webp_canvas, webp_frame


@functools.cache
def _library() -> Any:
    try:
        from PIL import _webp  # a Pillow may be built without

        library = ctypes.CDLL(_webp.__file__)  # dlsym() looks in a library's dependencies too
        size, pointer = ctypes.POINTER(ctypes.c_int), ctypes.c_void_p
        library.WebPGetInfo.argtypes = [ctypes.c_char_p, ctypes.c_size_t, size, size]
        for function in (library.WebPDecodeRGBInto, library.WebPDecodeRGBAInto):
            function.argtypes = [ctypes.c_char_p, ctypes.c_size_t, pointer, ctypes.c_size_t, ctypes.c_int]
            function.restype = pointer
    except (ImportError, OSError, AttributeError):  # no WebP; Windows: linked into _webp, or nothing to find
        return None
    return library


def decode(data: bytes) -> Image.Image | None:
    """Return the first frame on its canvas, whose size the caller has checked; None without libwebp.

    The mode is RGBA where the file declares transparency, else RGB; `info` holds the metadata as Pillow names it.
    """
    library = _library()
    if library is None:
        return None
    (width, height), frame = webp_canvas(data), webp_frame(data)
    across, down = ctypes.c_int(), ctypes.c_int()
    known = library.WebPGetInfo(frame.data, len(frame.data), across, down)
    left, top, right, bottom = frame.box
    if not known or (across.value, down.value) != (right - left, bottom - top) or right > width or bottom > height:
        raise ValueError("the WebP's frame is broken, or of another size than its header says")
    mode, decoder = ("RGBA", library.WebPDecodeRGBAInto) if frame.alpha else ("RGB", library.WebPDecodeRGBInto)
    stride = len(mode) * width
    pixels = bytearray(stride * height)
    skipped = top * stride + left * len(mode)
    out = ctypes.byref((ctypes.c_char * len(pixels)).from_buffer(pixels), skipped)
    if not decoder(frame.data, len(frame.data), out, len(pixels) - skipped, stride):
        raise ValueError("the WebP's pixels are broken or cut short")
    image = Image.frombuffer(mode, (width, height), pixels, "raw", mode, 0, 1)  # RGBA: not copied
    image.info.update(frame.info)
    return image
