"""Read mutated weights files of every form: each must give whole arrays or a typed error, soon and within memory.

usage: python tools/fuzz_weights.py [--cases N] [--seed S] [--out FOLDER]

All is done in this process: a crash of the HDF5 library ends it, and the case it was at lies in FOLDER/current. Other
finds (another exception, more than 2 s, arrays of wrong shapes, 300 MB) are kept there and printed; then the exit
code is 1. A case depends on the seed and its number alone.
"""

from __future__ import annotations

import argparse
import collections
import functools
import io
import random
import resource
import struct
import sys
import time
import warnings
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from photolabel import weights
from photolabel.errors import InvalidWeightsError, WeightsMismatchError

import forms
from oracle import TINY, he_normal

ROOT = Path(__file__).resolve().parents[1]
SLOW, MEMORY = 2.0, 300 << 10  # seconds, kilobytes above the first reading
SMALL = replace(
    TINY, blocks=(((3, 2),), ((3, 2), (1, 2)), ((3, 2),), ((3, 2),), ((3, 2),)), hidden=(3, 3), classes=2
)  # small files are hit where it matters
SPECS = (SMALL, replace(SMALL, top=False))
ODD = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 4096, 32767, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
       1 << 40, (1 << 63) - 1, (1 << 64) - 1)  # fmt: skip


@functools.cache
def seeds() -> dict[str, bytes]:
    """One small file of each form."""
    return {form: write(he_normal(SMALL), SMALL) for form, write in forms.FORMS.items()}


def mutated(seed: int, case: int) -> bytes:
    """Return one of the seeds after one to six mutations."""
    dice = random.Random(f"{seed} {case}")
    data = bytearray(dice.choice(list(seeds().values())))
    for _ in range(dice.choice((1, 1, 2, 3, 6))):
        if not data:
            break
        # Headers lie in front, ZIP's table at the end.
        end = min(len(data), 400)
        at = dice.choice((dice.randrange(len(data)), dice.randrange(end), len(data) - 1 - dice.randrange(end)))
        what = dice.randrange(9)
        if what == 0:
            data[at] ^= 1 << dice.randrange(8)
        elif what == 1:
            data[at] = dice.randrange(256)
        elif what in (2, 3):  # a length, a size, an offset, a count
            width = dice.choice((1, 2, 4, 8))
            value = dice.choice(ODD) if dice.random() < 0.7 else dice.randrange(len(data) + 9)
            data[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
        elif what == 4:
            data = data[:at]
        elif what == 5:
            data[at:at] = dice.randbytes(dice.choice((1, 2, 4, 50)))
        elif what == 6:
            del data[at : at + dice.choice((1, 2, 4, 50))]
        elif what == 7:  # two files in one
            other = dice.choice(list(seeds().values()))
            data[at:] = other[min(at, len(other) - 1) :]
        else:  # a part elsewhere: names change places, structures repeat
            width = dice.choice((4, 8, 16, 40, 200))
            to = dice.randrange(len(data))
            data[to : to + width] = data[at : at + width]
    return healed(bytes(data)) if dice.random() < 0.6 else bytes(data)


def healed(data: bytes) -> bytes:
    """Make an archive's checksums right again, that the mutation reaches what reads its members."""
    if data[:4] != b"PK\3\4":
        return data
    out = bytearray(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            at = archive.start_dir
            for info in archive.infolist():
                name, extra = struct.unpack_from("<2H", data, info.header_offset + 26)
                start = info.header_offset + 30 + name + extra
                crc = zlib.crc32(data[start : start + info.file_size])
                struct.pack_into("<I", out, at + 16, crc)
                at += 46 + sum(struct.unpack_from("<3H", data, at + 28))
    except (zipfile.BadZipFile, struct.error, OSError, ValueError, NotImplementedError, EOFError, IndexError):
        return data
    return bytes(out)


def read(path: Path, case: int) -> str:
    """Read one file every way; return "ok" or the code of the error."""
    spec = SPECS[case % 2]
    try:
        weights.describe(path)
        arrays = weights.read(path, spec)
    except (InvalidWeightsError, WeightsMismatchError) as error:
        if len(str(error)) > 1000 or not str(error).startswith(path.name):
            raise AssertionError("a message too long, or that names no file") from error
        return error.code
    for name, layer in spec.learned.items():
        if [array.shape for array in arrays[name]] != [layer.kernel, layer.bias]:
            raise AssertionError(f"{name} has another shape")
    return "ok"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / ".cache" / "fuzz", help="where finds are kept")
    options = parser.parse_args()
    warnings.simplefilter("error")
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "current"
    for content in seeds().values():
        path.write_bytes(content)
        assert read(path, 0) == read(path, 1) == "ok", "a seed is not read"
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done, finds, begun = collections.Counter[str](), 0, time.monotonic()
    for case in range(options.cases):
        data = mutated(options.seed, case)
        path.write_bytes(data)
        start, find = time.monotonic(), ""
        try:
            done[read(path, case)] += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            find = f"{type(error).__name__}: {error}"[:300]
        taken = time.monotonic() - start
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle
        if taken > SLOW:
            find = find or f"{taken:.1f} s"
        if more > MEMORY:
            find, idle = find or f"{more >> 10} MB", idle + more
        if find:
            finds += 1
            (options.out / f"weights-{options.seed}-{case}.bin").write_bytes(data)
            print(f"{options.out / f'weights-{options.seed}-{case}.bin'}: {find}")
    path.unlink()
    counts = ", ".join(f"{name} {count}" for name, count in sorted(done.items()))
    print(f"{options.cases} cases in {time.monotonic() - begun:.0f} s, {finds} finds: {counts}")
    sys.exit(1 if finds else 0)


if __name__ == "__main__":
    main()
