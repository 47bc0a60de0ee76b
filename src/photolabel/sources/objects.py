"""A URL -> the photos there: one of a web server, one of an object store, or all in a folder of that."""

from __future__ import annotations

from collections.abc import Iterator

from .. import remote
from ..errors import DownloadError, PhotoError, PhotoNotFoundError, PhotoUnavailableError, PhotoUnreadableError
from ..images import Limits, check_bytes
from .item import Item
from .names import Choice, is_photo

_VERSION = "?versionId="  # what s3fs takes for no part of a name
_ANOTHER = PhotoUnreadableError("An object whose name holds ?versionId= cannot be read by it. Call it otherwise.")


def photos(url: str, choice: Choice) -> Iterator[Item]:
    """Yield the photos at a URL, in the order of the store, as they are listed.

    What ends in a slash, or does not end as photos do, is a folder of an object store. The rules of folders apply.
    Raises `MissingExtraError`, and `DownloadError` where the store ceases to tell: what is not listed then
    would be missing without a word.
    """
    remote.check(url)
    bucket, _, key = url.partition("://")[2].partition("/")
    if remote.is_web(url) or (is_photo(key.rpartition("/")[2]) and bucket):
        yield Item(photo=remote.told(url), url=url)
        return
    folder = url if url.endswith("/") else f"{url}/"
    found = False
    try:
        for each in remote.beneath(folder):
            found = True
            names = [part for part in each[len(folder) :].split("/") if part]
            if each.endswith("/") or not names:  # as consoles mark an empty folder
                continue
            if choice.takes_file(names):
                yield Item(photo=each, url=each, error=_ANOTHER if _VERSION in each else None)
    except OSError as error:
        wrong = why(error)
        if isinstance(wrong, PhotoUnavailableError):
            raise DownloadError(f"{url}: {wrong}") from error
        yield Item(photo=url, error=wrong)
    else:
        if not found:
            yield Item(photo=url, url=url)  # reading it tells


def read(url: str, limits: Limits) -> bytes:
    """Return the bytes of a photo. Raises a PhotoError."""
    try:
        data = remote.read(url, limits.file_bytes)
    except OSError as error:
        raise why(error, web=remote.is_web(url)) from error
    check_bytes(len(data), limits)
    return data


def why(error: OSError, *, web: bool = False) -> PhotoError:
    """Return what is wrong, as an error of the photo, or of the photos in a folder.

    A `web` server that fails may do so for this photo alone; an object store fails for all.
    """
    said = f"{(error.strerror or 'the store does not say why')[:1].upper()}{(error.strerror or '')[1:]}."
    if isinstance(error, FileNotFoundError):
        return PhotoNotFoundError(f"{said} Check the name.")
    if isinstance(error, PermissionError):
        return PhotoUnreadableError(f"{said} Check the credentials, and what they allow.")
    return PhotoUnreadableError(said) if web else PhotoUnavailableError(said)
