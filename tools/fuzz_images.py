"""Read mutated photos of every format: each must give pixels or a PhotoError, quietly, soon and within memory.

usage: python tools/fuzz_images.py [--cases N] [--seed S] [--workers W]

The photos are read in worker processes, which may die: a signal is a find, and so are another exception, a hang,
more than 1 GB, and a raw byte on descriptor 1 or 2. Finds are kept in .cache/fuzz and printed; then the exit code
is 1. A case depends on the seed and its number alone. For POSIX systems.
"""

from __future__ import annotations

import argparse
import collections
import functools
import io
import itertools
import json
import os
import random
import re
import resource
import runpy
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, ImageCms

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("PHOTOLABEL_SHARED") or ROOT.parent / "shared") / "data"
MEMORY = 1 << 20  # kilobytes above an idle worker
MOST_FINDS = 100  # something systematic: stop


# --- Seeds ----------------------------------------------------------------------------------------


@functools.cache
def seeds() -> list[bytes]:
    """One small photo, or a few, of each kind of file that is read."""
    rgb = Image.frombytes("RGB", (40, 28), random.Random(0).randbytes(40 * 28 * 3))
    rgb.paste(Image.linear_gradient("L").resize((20, 28)), (20, 0))
    turned, alpha, profile = Image.Exif(), rgb.convert("RGBA"), ImageCms.createProfile("sRGB")
    turned[274] = 6
    alpha.putalpha(Image.radial_gradient("L").resize(rgb.size))
    icc = ImageCms.ImageCmsProfile(profile).tobytes()
    two = {"save_all": True, "append_images": [rgb.rotate(90)]}
    deep = rgb.convert("I").point(lambda value: value * 257, "I").convert("I;16")
    about = {"exif": turned, "icc_profile": icc}
    made = [
        *((rgb, "JPEG", o) for o in ({}, {"progressive": True}, {"subsampling": 0}, about, {"restart_marker_rows": 1})),
        (rgb, "JPEG", {"progressive": True, "subsampling": 0, "quality": 90, **about}),
        *((rgb.convert(mode), "JPEG", {}) for mode in ("L", "CMYK")),
        *((rgb.convert(mode), "PNG", {}) for mode in ("1", "L", "P", "LA", "RGBA", "RGB")),
        *((rgb, "PNG", o) for o in ({"transparency": (1, 2, 3)}, two, about)),
        *((rgb.convert("P"), "PNG", o) for o in ({"bits": 2}, {"transparency": bytes(range(9))})),
        (deep, "PNG", {}), (deep, "TIFF", {}), (rgb.convert("F"), "TIFF", {}), (rgb.convert("I"), "TIFF", {}),
        *((alpha, "WEBP", o) for o in ({}, {"lossless": True}, two, about)),
        *((rgb, "WEBP", o) for o in ({}, {"lossless": True}, two)),
        (rgb, "GIF", {}), (rgb, "GIF", two), (rgb, "GIF", {"interlace": True}),
        *((rgb, "TIFF", {"compression": how}) for how in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
        *((rgb.convert("1"), "TIFF", {"compression": how}) for how in ("group3", "group4")),
        *((rgb.convert(mode), "TIFF", {}) for mode in ("CMYK", "LAB", "P", "RGBA", "YCbCr")),
        (rgb, "TIFF", two), (rgb, "TIFF", {"big_tiff": True}), (rgb, "TIFF", about),
        *((rgb.convert(mode), "BMP", {}) for mode in ("RGB", "P", "1", "L")),
        (rgb, "AVIF", {}), (alpha, "AVIF", about), (rgb, "AVIF", two),
        (rgb, "MPO", two),  # last: it leaves settings on the second frame that others choke on
    ]  # fmt: skip
    for path in sorted((ROOT / "samples").glob("*.jpg")):
        with Image.open(path) as photo:
            photo.thumbnail((64, 64))
            made.append((photo.copy(), "JPEG", {"exif": photo.getexif()}))
    files = []
    for image, kind, options in made:
        file = io.BytesIO()
        image.copy().save(file, kind, **options)  # save() leaves settings on the image
        files.append(file.getvalue())
    head = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 8, 1, 34, 0, 0, 256, 256)  # run-length: Pillow only reads it
    files.append(b"BM" + struct.pack("<IHHI", 1112, 0, 0, 1078) + head + bytes(1024) + b"\x08\x21\0\0" * 8 + b"\0\1")
    return files + [path.read_bytes() for path in sorted(SHARED.glob("**/*.hei[cf]")) if path.stat().st_size < 9000]


# --- Mutations ------------------------------------------------------------------------------------

ODD = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 4095, 4096, 32767, 32768, 65535, 65536, 1 << 24, (1 << 31) - 1, 1 << 31,
       (1 << 32) - 1)  # fmt: skip


def pieces(data: bytes) -> list[bytes]:
    """Cut a file at its chunks, segments or boxes; where there are none, in lines of 12 bytes (TIFF's entries)."""
    marks = {0, len(data)}
    if data[:2] == b"\xff\xd8":
        marks.update(match.start() for match in re.finditer(rb"\xff[\xc0-\xfe]", data))
    elif data[:4] in (b"\x89PNG", b"RIFF") or data[4:8] == b"ftyp":
        kinds = rb"IHDR|PLTE|IDAT|IEND|tRNS|iCCP|eXIf|acTL|fcTL|fdAT|VP8[ LX]|ALPH|ANIM|ANMF|EXIF|XMP |ICCP|meta|iloc|"
        kinds += rb"iinf|infe|iprp|ipco|ipma|ispe|pixi|av1C|hvcC|colr|irot|mdat|moov|pitm|hdlr|auxC"
        before = 0 if data[:4] == b"RIFF" else 4  # where the length stands
        marks.update(match.start() - before for match in re.finditer(kinds, data))
    else:
        marks.update(range(struct.unpack_from("<I", data, 4)[0] % 12 + 2, len(data), 12))
    return [data[a:b] for a, b in itertools.pairwise(sorted(marks))]


def mutated(seed: int, case: int) -> bytes:
    """Return one of the seeds after one to six mutations."""
    dice = random.Random(f"{seed} {case}")
    data = bytearray(dice.choice(seeds()))
    for _ in range(dice.choice((1, 1, 2, 3, 6))):
        if not data:
            break
        # Headers lie in front: half of the changes fall there.
        at = dice.randrange(len(data) if dice.random() < 0.5 else min(len(data), 160))
        what = dice.randrange(9)
        if what == 0:
            data[at] ^= 1 << dice.randrange(8)
        elif what == 1:
            data[at] = dice.randrange(256)
        elif what in (2, 3):  # a number: a length, a size, an offset, a count
            width, order = dice.choice((1, 2, 4)), dice.choice(("big", "little"))
            value = dice.choice(ODD) if dice.random() < 0.7 else dice.randrange(len(data) + 9)
            data[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, order)
        elif what == 4:
            data = data[:at]
        elif what == 5:
            data[at:at] = dice.randbytes(dice.choice((1, 2, 4, 50)))
        elif what == 6:
            del data[at : at + dice.choice((1, 2, 4, 50))]
        elif what == 7:
            data[at:] = (other := dice.choice(seeds()))[min(at, len(other) - 1) :]
        else:
            parts = pieces(bytes(data)) if len(data) > 8 else [bytes(data)]
            one, two = dice.randrange(len(parts)), dice.randrange(len(parts))
            parts[one : one + 1] = dice.choice(([], [parts[one]] * 2, [parts[one]] * 50, [parts[two], parts[one]]))
            data = bytearray(b"".join(parts))
    return healed(bytes(data)) if dice.random() < 0.7 else bytes(data)


def healed(data: bytes) -> bytes:
    """Make PNG's checksums and RIFF's length right again, that the mutation reaches the decoder."""
    if data[:4] == b"RIFF":
        return data[:4] + struct.pack("<I", max(0, len(data) - 8)) + data[8:]
    if data[:4] != b"\x89PNG":
        return data
    out, at = data[:8], 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        out += data[at:end] + struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return out


# --- Workers --------------------------------------------------------------------------------------


def read(data: bytes) -> str:
    """Read and prepare one photo; return "ok" or the code of its PhotoError.

    A JPEG must get the same verdict where it is decoded at a part of its size.
    """
    from photolabel import images, prepared

    answer = read_whole(data)
    if data.startswith(b"\xff\xd8\xff"):
        small = images.Recipe(name="small", size=3, side=3, fit="resize-crop")  # a quarter will do, of 40 x 28
        made = prepared.prepare(data, small)
        other = made.error.code if made.error else "ok"
        if other != answer:
            raise AssertionError(f"{answer}, but at a part of its size {other}")
    return answer


def read_whole(data: bytes) -> str:
    """Read and prepare all pixels of one photo; return "ok" or the code of its PhotoError."""
    from photolabel import errors, images

    try:
        image = images.read(data)
        recipe = list(images.RECIPES.values())[len(data) % len(images.RECIPES)]
        shape = images.prepare(image, recipe).shape
    except errors.PhotoError as error:
        return error.code
    if image.mode != "RGB" or shape != (recipe.size, recipe.size, 3):
        raise AssertionError(f"{image.mode} {shape}")
    return "ok"


def work(reader: Callable[[bytes], str]) -> None:
    """Answer each photo on stdin by a line on what was stdout, until stdin ends."""
    answers, noise = os.dup(1), tempfile.TemporaryFile()  # noqa: SIM115
    for descriptor in (1, 2):
        os.dup2(noise.fileno(), descriptor)
    reader(b"x")  # imports
    os.write(answers, b"ready\n")
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while head := sys.stdin.buffer.read(4):
        data = sys.stdin.buffer.read(int.from_bytes(head, "big"))
        try:
            answer = {"answer": reader(data)}
        except BaseException as error:
            answer = {"find": f"{type(error).__name__}: {error}"[:300]}
        sys.stdout.flush()
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle
        if more > MEMORY:
            answer = {"find": f"{more >> 10} MB"}
        if os.fstat(noise.fileno()).st_size:
            answer = {"find": f"spoke: {os.pread(noise.fileno(), 200, 0)!r}"}
            noise.truncate(0)
            noise.seek(0)
        os.write(answers, json.dumps(answer).encode() + b"\n")


class Run:
    """All cases, shared out among workers; one thread feeds one worker."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.done, self.finds = options, collections.Counter[str](), 0
        self.lock, self.left = threading.Lock(), iter(range(options.cases))

    def feed(self) -> None:
        """Start a worker, and another after each find."""
        worker: subprocess.Popen[bytes] | None = None
        for case in self.cases():
            worker = worker or self.start()
            assert worker.stdin and worker.stdout
            data = mutated(self.options.seed, case)
            worker.stdin.write(len(data).to_bytes(4, "big") + data)
            worker.stdin.flush()
            if select.select([worker.stdout], [], [], self.options.hang)[0]:
                line = worker.stdout.readline()
                answer = json.loads(line) if line else {"find": f"died: {worker.wait()}"}
            else:
                answer = {"find": f"hung: more than {self.options.hang:g} s"}
            self.note(case, data, answer)
            if "find" in answer:  # begin afresh: what it holds by now is no measure
                worker.kill()
                worker.communicate()
                worker = None
        if worker:
            worker.communicate()

    def start(self) -> subprocess.Popen[bytes]:
        """Return a worker that waits for photos."""
        reader = ["--reader", self.options.reader] if self.options.reader else []
        command = [sys.executable, "-W", "error", __file__, "--work", *reader]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert worker.stdout and worker.stdout.readline() == b"ready\n", "the worker does not start"
        return worker

    def cases(self) -> Iterator[int]:
        """The numbers that no other thread has taken."""
        while self.finds < MOST_FINDS:
            with self.lock:
                case = next(self.left, None)
            if case is None:
                return
            yield case

    def note(self, case: int, data: bytes, answer: dict[str, str]) -> None:
        """Count an answer; keep and print a find."""
        with self.lock:
            self.done[answer.get("answer", "find")] += 1
            if "find" in answer:
                self.finds += 1
                self.options.out.mkdir(parents=True, exist_ok=True)
                path = self.options.out / f"{self.options.seed}-{case}.bin"
                path.write_bytes(data)
                print(f"{path}: {answer['find']}")
            if sys.stderr.isatty() and self.done.total() % 500 == 0:
                print(f"\r{self.done.total()} of {self.options.cases}", end="", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--hang", type=float, default=5, help="seconds that one photo may take")
    parser.add_argument("--out", type=Path, default=ROOT / ".cache" / "fuzz", help="where finds are kept")
    parser.add_argument("--reader", help="a Python file whose read(bytes) -> str is tried instead of ours")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(runpy.run_path(options.reader)["read"] if options.reader else read)
        return
    seeds()
    run, begun = Run(options), time.monotonic()
    threads = [threading.Thread(target=run.feed) for _ in range(options.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = ", ".join(f"{name} {count}" for name, count in sorted(run.done.items()))
    print(f"{run.done.total()} cases in {time.monotonic() - begun:.0f} s, {run.finds} finds: {counts}")
    sys.exit(1 if run.finds or run.done.total() < options.cases else 0)


if __name__ == "__main__":
    main()
