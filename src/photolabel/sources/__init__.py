"""Files, folders, lists and archives -> photos, in a stable order.

`find` takes what a user names and yields one `Item` a photo; `listed` makes sources of a list. What is wrong with a
photo, a folder or an archive is an Item too: with an error, in its place. Only arguments that make no sense raise.

The order: sources as they are given; in a folder, files and folders together by the bytes of their names; in a list
and in an archive, its own. So the same sources give the same photos in the same order, as long as nothing changes.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator

from .. import remote
from ..errors import UsageError
from ..images import DEFAULT_LIMITS, Limits
from . import archives, folders, objects
from .item import Item, Member, Zipped
from .lists import listed
from .names import ENDINGS, Choice

__all__ = ["ENDINGS", "Item", "Member", "Zipped", "find", "listed"]


def find(
    sources: Iterable[str | os.PathLike[str] | Item],
    *,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    left_out: Counter[str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Iterator[Item]:
    """Yield the photos that the sources hold, found as they are asked for.

    A source is a path (`-` is one like any other), or an Item, which is passed on; or a URL: `s3://` and `gs://` of a
    photo or a folder, `https://` of a photo, where there is no file of that name here. What is named is taken:
    a file, whatever it is called; a folder and all beneath it; a tar (also compressed by gzip, bzip2 or xz) or ZIP
    archive, known by its content. A source given twice is read twice.

    In a folder, and in an archive, a photo is what ends as photos' names do (ENDINGS); of these each is yielded,
    readable or not. What is hidden or a system's own is left out, and so is what `include` and `exclude` say: globs
    as of `names.Pattern`, of the path within the source. With `include` only what matches one of those is taken; what
    matches one of `exclude` is not. Files that were named themselves are not asked.

    `left_out` counts what was passed over: "other" files, "hidden" or "excluded" files and folders, "archive"s that
    were not named themselves, links inside archives ("link"), and links to folders "seen" elsewhere.

    A photo of a compressed tar comes with its bytes (`Item.held`), as nobody could get at them later but by reading
    all that is before them; if it has more than `limits` allow, that is its error.

    Raises UsageError for a pattern that makes no sense, before anything is looked at; MissingExtraError for a URL that
    needs another package.
    """
    if isinstance(sources, str | bytes | os.PathLike):
        raise UsageError("sources is a list of paths: ['photos'], not 'photos'.")
    choice = Choice.of(include, exclude, Counter() if left_out is None else left_out)
    return (item for source in sources for item in _photos(source, choice, limits))


def _photos(source: str | os.PathLike[str] | Item, choice: Choice, limits: Limits) -> Iterator[Item]:
    if isinstance(source, Item):
        yield source
        return
    if not isinstance(source, str | os.PathLike):
        raise UsageError(f"A source is a path, not of type {type(source).__name__}.")
    path = os.fsdecode(source)
    if remote.is_url(path) and not os.path.lexists(path):
        yield from objects.photos(path, choice)
        return
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # pathlib takes an empty name for this folder
    except (OSError, ValueError):  # ValueError: a NUL in it. What is wrong, reading will tell
        mode = 0
    if stat.S_ISDIR(mode):
        yield from folders.walk(path, choice)
    elif stat.S_ISREG(mode) and (kind := archives.kind(path)) is not None:
        yield from archives.photos(path, kind, choice, limits)
    else:
        yield Item(photo=path, path=path)
