"""Peak memory and seconds of reading one 25-megapixel photo of each kind; and a JPEG beside Pillow's own decoding.

usage: python bench/decode_memory.py

Each photo is read in a fresh process. Memory is its peak less its idle peak after imports; the photo's own bytes count.
Exits with 1 where a photo needs more than 300 MB or more than 2 seconds. For Linux.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from photolabel import images

SIZE = (5774, 4330)  # 25 megapixels
JPEG_SIZE = (6000, 4000)  # 24, as many a camera's
MOST_MEGABYTES, MOST_SECONDS, RUNS = 300, 2.0, 5
SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "coffee.jpg"

# Not getrusage's ru_maxrss: that one starts at what the parent process held when it forked.
PROGRAM = """
import json, re, sys, time
from pathlib import Path
from photolabel import images
peak = lambda: int(re.search(r"VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1]) / 2**10
idle, begun = peak(), time.perf_counter()
images.read(sys.argv[1])
print(json.dumps([peak() - idle, time.perf_counter() - begun]))
"""


def photo(size: tuple[int, int]) -> Image.Image:
    """A real photo scaled up, with a camera's grain: neither as cheap as a plain one nor as dear as noise."""
    with Image.open(SAMPLE) as sample:
        large = np.asarray(sample.convert("RGB").resize(size, Image.Resampling.BICUBIC), np.int16)
    grain = np.random.default_rng(0).integers(-4, 5, (size[1], size[0], 1), np.int16)
    return Image.fromarray((large + grain).clip(0, 255).astype(np.uint8))


def other_profile() -> bytes:
    """Another space than sRGB: with red and blue exchanged."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return srgb.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


def photos(folder: Path) -> dict[str, Path]:
    """Make one of each kind."""
    rgb, alpha, turned = photo(SIZE), Image.linear_gradient("L").resize(SIZE), Image.Exif()
    turned[274] = 6
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    deep = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    lab = ImageCms.profileToProfile(
        rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    kinds: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "JPEG": (rgb, "JPEG", {}),
        "JPEG, turned": (rgb, "JPEG", {"exif": turned}),
        "JPEG, other profile": (rgb, "JPEG", {"icc_profile": other_profile()}),
        "JPEG, progressive": (rgb, "JPEG", {"progressive": True}),
        "JPEG, CMYK": (rgb.convert("CMYK"), "JPEG", {}),
        "PNG, RGBA": (rgba, "PNG", {"compress_level": 1}),
        "PNG, 16-bit grey": (deep, "PNG", {"compress_level": 1}),
        "PNG, palette and alpha": (rgb.convert("P"), "PNG", {"compress_level": 1, "transparency": bytes(range(256))}),
        "TIFF, LAB": (lab, "TIFF", {}),
        "TIFF, float": (rgb.convert("F"), "TIFF", {}),
        "WebP": (rgb, "WEBP", {"method": 0}),
        "WebP, lossless": (rgb, "WEBP", {"method": 0, "lossless": True, "quality": 0}),
        "WebP, alpha": (rgba, "WEBP", {"method": 0}),
        "AVIF": (rgb, "AVIF", {"speed": 10}),
    }
    made = {}
    for name, (image, kind, options) in kinds.items():
        made[name] = folder / f"{len(made)}.{kind.lower()}"
        image.copy().save(made[name], kind, **options)
    return made


def measured(path: Path) -> tuple[float, float]:
    """Return megabytes and seconds of reading in a fresh process."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, path], capture_output=True, check=True)
    megabytes, seconds = json.loads(done.stdout)
    return megabytes, seconds


def beside_pillow(path: Path) -> tuple[float, float]:
    """Return median seconds of read() and of Pillow alone, in turns, in this process."""
    ours, theirs = [], []
    for _ in range(RUNS + 1):
        begun = time.perf_counter()
        images.read(path)
        between = time.perf_counter()
        with Image.open(path) as image:
            image.convert("RGB")
        ours.append(between - begun)
        theirs.append(time.perf_counter() - between)
    return statistics.median(ours[1:]), statistics.median(theirs[1:])  # the first warms the caches


def main() -> None:
    missed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{'25 megapixels':24} {'file MB':>8} {'MB':>6} {'seconds':>8}")
        for kind, path in photos(folder).items():
            megabytes, seconds = measured(path)
            bad = megabytes > MOST_MEGABYTES or seconds > MOST_SECONDS
            missed |= bad
            size = path.stat().st_size / 2**20
            print(f"{kind:24} {size:8.1f} {megabytes:6.0f} {seconds:8.2f}{'  MISSED' if bad else ''}", flush=True)
        photo(JPEG_SIZE).save(folder / "camera.jpg", quality=90)
        ours, theirs = beside_pillow(folder / "camera.jpg")
    print(f"\n24-megapixel JPEG: read() {ours:.3f} s, Pillow's decode and convert {theirs:.3f} s, median of {RUNS}")
    print(f"at most {MOST_MEGABYTES} MB and {MOST_SECONDS:g} s each: {'MISSED' if missed else 'reached'}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
