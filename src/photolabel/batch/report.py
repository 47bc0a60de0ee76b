"""What a run has come to, counted and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..output import printable
from ..progress import duration
from .pipeline import Timing

_COMMONEST = 5


@dataclass
class Tally:
    """Photos, errors by code, and the answers' names."""

    photos: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a record."""
        self.photos += 1
        if record["error"] is not None:
            self.errors[record["error"]["code"]] += 1
        else:
            self.names[record["answer"]["name"]] += 1

    @property
    def failed(self) -> int:
        """How many photos have an error."""
        return self.errors.total()


def summary(tally: Tally, timing: Timing, *, seconds: float, earlier: int = 0) -> str:
    """Return a few lines on a run of so many seconds, of which `earlier` photos were done by an earlier start."""
    now = tally.photos - earlier
    lines = [
        f"{_photos(tally.photos)}"
        + (f", {now:,} of them now" if earlier else "")
        + f", in {duration(seconds)}: {now / max(seconds, 1e-9):.1f} a second"
    ]
    if tally.errors:
        kinds = ", ".join(f"{code} {count:,}" for code, count in tally.errors.most_common())
        lines.append(f"errors: {tally.failed:,} ({kinds})")
    lines.append(
        f"seconds: reading {timing.reading:.1f}, decoding {timing.decoding:.1f} (of all workers together), "
        f"network {timing.network:.1f}"
    )
    if tally.names:
        names = ", ".join(f"{printable(name)} {count:,}" for name, count in tally.names.most_common(_COMMONEST))
        lines.append(f"commonest: {names}")
    return "\n".join(lines)


def _photos(count: int) -> str:
    return f"{count:,} {'photo' if count == 1 else 'photos'}"
