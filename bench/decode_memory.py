"""Peak memory and seconds of reading one 25-megapixel photo of each kind; and a JPEG beside Pillow's own decoding.

usage: python bench/decode_memory.py [--runs N] [--print]

Each photo is read in a fresh process. Memory is its peak less its idle peak after imports; the photo's own bytes count.
Writes what it found to docs/benchmarks.md, and exits with 1 where a photo needs more than 300 MB or more than 2
seconds. Runs are those beside Pillow. Needs photolabel where it runs. For Linux.
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
import PIL
from PIL import Image, ImageCms

from photolabel import images

import common
from common import Bar

SIZE = (5774, 4330)  # 25 megapixels
JPEG_SIZE = (6000, 4000)  # 24, as many a camera's
MOST_MEGABYTES, MOST_SECONDS = 300, 2.0
SAMPLE = common.ROOT / "samples" / "coffee.jpg"

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


def beside_pillow(path: Path, runs: int) -> tuple[float, float]:
    """Return median seconds of read() and of Pillow alone, in turns, in this process."""
    ours, theirs = [], []
    for _ in range(runs + 1):
        begun = time.perf_counter()
        images.read(path)
        between = time.perf_counter()
        with Image.open(path) as image:
            image.convert("RGB")
        ours.append(between - begun)
        theirs.append(time.perf_counter() - between)
    return statistics.median(ours[1:]), statistics.median(theirs[1:])  # the first warms the caches


def main() -> None:
    args = common.options(__doc__, runs=5).parse_args()
    rows: list[tuple[str, str, str, str]] = []
    bars: list[Bar] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {}
        for kind, path in photos(folder).items():
            print(f"{kind} ...", file=sys.stderr, flush=True)
            megabytes, seconds = found[kind] = measured(path)
            rows.append((kind, f"{path.stat().st_size / 2**20:.1f}", f"{megabytes:.0f}", f"{seconds:.2f}"))
        photo(JPEG_SIZE).save(folder / "camera.jpg", quality=90)
        ours, theirs = beside_pillow(folder / "camera.jpg", args.runs)
    for i, (what, most) in enumerate((("MB", MOST_MEGABYTES), ("seconds", MOST_SECONDS))):
        worst = max(found, key=lambda kind: found[kind][i])
        bars.append(Bar(what, f"{found[worst][i]:.3g} ({worst})", f"{most:g}", found[worst][i] <= most))
    lines = [
        "`python bench/decode_memory.py`: photos of 25 megapixels, each read once in a fresh process.",
        f"{common.machine()}; Pillow {PIL.__version__}.",
        "",
        *common.table(["25 megapixels", "file, MB", "MB", "seconds"], rows),
        "",
        (
            f"A JPEG of 24 megapixels: {ours:.3f} s; by Pillow's own decoding and converting {theirs:.3f} s; medians "
            f"of {args.runs} runs."
        ),
    ]
    met = common.report("Reading photos", lines, bars, args=args, of="the most of any kind", most="at most")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
