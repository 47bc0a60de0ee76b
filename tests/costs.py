"""What a hostile file may cost: a bound on time, memory and open files for what happens inside a block."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SELF = Path("/proc/self")
MEASURED = (_SELF / "clear_refs").exists()  # Linux can forget the peak of a process' memory and count its files


def _kilobytes(field: str) -> int:
    status = (_SELF / "status").read_text()
    return int(status.split(f"{field}:")[1].split()[0])


@contextmanager
def cheap(*, seconds: float = 1, megabytes: float = 100) -> Iterator[None]:
    """Fail if the block takes more of the processor, needs more memory at its peak, or leaves files open.

    The time is the processor's, for others may want it too; and without that of looking for garbage among all that the
    tests before have left.
    """
    gc.freeze()
    if MEASURED:
        (_SELF / "clear_refs").write_text("5")
        before, files = _kilobytes("VmRSS"), len(list((_SELF / "fd").iterdir()))
    start = time.process_time()
    try:
        yield
        assert time.process_time() - start < seconds
    finally:
        gc.unfreeze()
    if MEASURED:
        assert _kilobytes("VmHWM") - before < megabytes * 1000
        assert len(list((_SELF / "fd").iterdir())) == files
