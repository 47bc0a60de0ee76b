"""What lies in the cache: list it, import into it, remove from it, clean it."""

from __future__ import annotations

from .bringing import bring, check_file
from .cleaning import Leftover, clean, leftovers, remove, spared, unknown
from .listing import Entry, State, entries

__all__ = [
    "Entry",
    "Leftover",
    "State",
    "bring",
    "check_file",
    "clean",
    "entries",
    "leftovers",
    "remove",
    "spared",
    "unknown",
]
