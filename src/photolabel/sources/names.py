"""Which names are photos, which are nobody's business, and which a user asked for or ruled out."""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import UsageError

ENDINGS = frozenset(
    ["jpg", "jpeg", "jpe", "jfif", "mpo", "png", "webp", "gif", "tif", "tiff", "bmp", "avif", "heic", "heif"]
)
_ARCHIVES = frozenset(["zip", "tar", "tgz", "tbz", "tbz2", "txz", "gz", "bz2", "xz", "zst", "rar", "7z"])

# What systems, storage boxes and cameras' programs keep beside photos, in lower case; and whatever begins with a dot.
_SYSTEM = frozenset(
    [
        "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot",  # Synology, QNAP
        "$recycle.bin", "recycler", "system volume information", "thumbs.db", "desktop.ini",  # Windows
        "__macosx", "lost+found",
    ]
)  # fmt: skip


def is_photo(name: str) -> bool:
    """Whether a name ends as photos' names do."""
    stem, dot, ending = name.rpartition(".")
    return bool(stem and dot) and ending.lower() in ENDINGS


def is_hidden(name: str) -> bool:
    """Whether an entry is hidden, or a system's own."""
    return (name.startswith(".") and name != "..") or name.lower() in _SYSTEM


class Pattern:
    """A glob, matched against the names that make up a path relative to its source.

    A pattern without a slash is matched against each name, at any depth; one with a slash against the path from the
    source on. `*`, `?` and `[a-z]` never match a slash; `**`, alone between slashes, is any number of folders. What
    matches a folder matches all that is in it; a slash at the end lets a pattern match folders only. Capitals and
    the ways to write an accent make no difference.

    Raises UsageError for a pattern that can match nothing.
    """

    def __init__(self, text: str) -> None:
        parts = [part for part in _plain(text).split("/") if part not in ("", ".")]
        if not parts or ".." in parts:
            raise UsageError(
                f"{text!r}: expected a pattern of the path within the folder or archive, like '*.png', 'raw/' or "
                "'2021/**/*.jpg'."
            )
        self._folders_only = text.endswith("/")
        if "/" not in text.rstrip("/"):
            parts = ["**", *parts]
        if parts[-1] == "**":  # what is in the folder, not the folder itself
            parts.append("*")
        # Each part by itself: so `fnmatch` sees no slash, and its patterns do not backtrack without end.
        self._parts = [None if part == "**" else re.compile(fnmatch.translate(part), re.IGNORECASE) for part in parts]

    def matches(self, names: Sequence[str], *, folder: bool = False) -> bool:
        """Whether the path made of `names`, or a folder on the way to it, matches."""
        states = self._skipping({0})
        last = len(names) - (self._folders_only and not folder)
        for name in names[:last]:
            name = _plain(name)
            states = self._skipping(
                {
                    state if part is None else state + 1
                    for state in states
                    if state < len(self._parts) and ((part := self._parts[state]) is None or part.match(name))
                }
            )
            if len(self._parts) in states:
                return True
        return False

    def _skipping(self, states: set[int]) -> set[int]:
        """Return the places in the pattern that are reached from these by letting `**` stand for nothing."""
        reached = set(states)
        for state in range(len(self._parts)):
            if state in reached and self._parts[state] is None:
                reached.add(state + 1)
        return reached


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text)


@dataclass(frozen=True)
class Choice:
    """What is taken of all that lies in folders and archives; what is not is counted in `left_out`."""

    include: tuple[Pattern, ...]
    exclude: tuple[Pattern, ...]
    left_out: Counter[str]

    @classmethod
    def of(cls, include: Iterable[str], exclude: Iterable[str], left_out: Counter[str]) -> Choice:
        """Compile the patterns. Raises UsageError."""
        if isinstance(include, str) or isinstance(exclude, str):
            raise UsageError("include and exclude are lists of patterns: ['*.png'], not '*.png'.")
        return cls(tuple(map(Pattern, include)), tuple(map(Pattern, exclude)), left_out)

    def takes_file(self, names: Sequence[str]) -> bool:
        """Whether a file at this path within its source is one of the photos."""
        return self._counted(self._why_not_file(names))

    def takes_folder(self, names: Sequence[str]) -> bool:
        """Whether to look into a folder at this path within its source."""
        return self._counted(self._why_not_folder(names))

    def leads_to(self, names: Sequence[str]) -> bool:
        """Whether all the folders on this path within the source are looked into; counts nothing."""
        return not any(self._why_not_folder(names[:end]) for end in range(1, len(names) + 1))

    def _why_not_file(self, names: Sequence[str]) -> str | None:
        if any(map(is_hidden, names)):
            return "hidden"
        if not is_photo(names[-1]):
            return "archive" if names[-1].rpartition(".")[2].lower() in _ARCHIVES else "other"
        if self.include and not any(each.matches(names) for each in self.include):
            return "excluded"
        return "excluded" if any(each.matches(names) for each in self.exclude) else None

    def _why_not_folder(self, names: Sequence[str]) -> str | None:
        if is_hidden(names[-1]):
            return "hidden"
        return "excluded" if any(each.matches(names, folder=True) for each in self.exclude) else None

    def _counted(self, why_not: str | None) -> bool:
        if why_not is not None:
            self.left_out[why_not] += 1
        return why_not is None
