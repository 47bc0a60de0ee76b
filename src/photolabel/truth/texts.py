"""A list's text, of a size that can be."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import TruthError
from .matlab import MAGIC

MAX_BYTES = 64 << 20
MAX_LINE = 64 << 10  # characters: no system knows longer paths
_LONG = re.compile(rf"[^\r\n]{{{MAX_LINE + 1}}}")


def content(path: Path, most: int) -> bytes:
    """Return the bytes of a file; raises TruthError for more than `most`, and for what cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise TruthError(f"{path}: there is no such file. Check the name and the folder.") from None
    except OSError as error:
        raise TruthError(f"{path}: cannot be read: {error.strerror or 'the system does not say why'}.") from None
    except ValueError:
        raise TruthError(f"{str(path)!r}: no file can have this name.") from None
    if len(data) > most:
        raise TruthError(f"{path}: expected at most {most:,} bytes; this file is larger.")
    return data


def text(path: Path, data: bytes) -> str:
    """Return the text that the bytes are. Raises TruthError for what is no list in UTF-8."""
    if data.startswith(MAGIC):
        raise TruthError(
            f"{path}: this is a MATLAB file. Give the list of the photos, such as the devkit's "
            "ILSVRC2012_validation_ground_truth.txt; its meta.mat is found beside it."
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TruthError(f"{path}: this is in UTF-16; save it as UTF-8.")
    try:
        if b"\0" in data:
            raise ValueError
        found = data.decode("utf-8-sig")
    except ValueError:
        raise TruthError(f"{path}: expected a list as UTF-8 text; this is in another encoding, or no text.") from None
    if long := _LONG.search(found):
        number = found.count("\n", 0, long.start()) + 1
        raise TruthError(f"{path}: line {number} has more than {MAX_LINE:,} characters, as no path has. Is it a list?")
    return found


def lines(found: str) -> list[str]:
    """Return the lines, however they end; without blank ones at the end."""
    return found.replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n")  # splitlines() knows more ends
