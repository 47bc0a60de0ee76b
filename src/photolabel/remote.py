"""Files that lie elsewhere, by URL: `s3://` and `gs://` by fsspec, the extra `remote`; `https://` by requests.

What goes wrong is an OSError, as it is of files here: FileNotFoundError, PermissionError, or another one whose
`strerror` says what it was. Credentials, regions and endpoints are found where the store's own programs look for them.
"""

from __future__ import annotations

import errno
import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urljoin

from .errors import MissingExtraError
from .extras import needed

if TYPE_CHECKING:
    from .network import Response

_URL = re.compile(r"(s3|gs|https?)://[^/\s]+(/.*)?", re.ASCII | re.DOTALL)
_SECONDS = 20.0  # that a server may take to begin its answer
_PIECE = 1 << 20  # bytes of a stream at a time
_REDIRECTS = 5
_WAITS = (0.5, 2.0)  # seconds between two tries
_BUSY = (429, 500, 502, 503, 504)
# Of S3, before it is given up: all tries of botocore's, and its waits between them, take less than a photo may
# (`batch.SECONDS`), for that a store is silent is nothing that a record should say of a photo.
_SILENCE = 8  # seconds, to connect or without a byte
_TRIES = 5
_OF_CREDENTIALS = (
    "ExpiredToken", "InvalidAccessKeyId", "RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch",
)  # fmt: skip
_BROKEN = ("ClientPayloadError", "IncompleteReadError", "ResponseStreamingError", "ServerDisconnectedError")
_SECRET = re.compile(r"^(https?://)[^/?#]*@")
_MOVED = (301, 302, 303, 307, 308)


def is_url(text: str) -> bool:
    """Whether a name is the URL of a file that lies elsewhere, or of a folder of an object store."""
    return _URL.fullmatch(text) is not None


def is_web(url: str) -> bool:
    """Whether a URL is of a web server, which has no folders."""
    return url.startswith("http")


def check(url: str) -> None:
    """Raise `MissingExtraError` where what lies there cannot be had for want of a package."""
    if not is_web(url):
        _store(url)


def told(url: str) -> str:
    """Return a URL as a record may have it: without a password."""
    return _SECRET.sub(r"\1", url)


def read(url: str, most: int) -> bytes:
    """Return a file's bytes; of one that has more than `most` at least one more, and no more than it has to.

    It is asked for a few times, of a store where its answer breaks off: else the stores' packages do so themselves.
    """
    for wait in _WAITS:
        try:
            return _read(url, most)
        except PassingError:
            time.sleep(wait)
    return _read(url, most)


def _read(url: str, most: int) -> bytes:
    if is_web(url):
        with opened(url) as file:
            return file.read(most + 1)
    with _failing():
        try:
            data: bytes = _store(url).cat_file(url, start=0, end=most + 1)
        except OSError as error:
            if error.errno == errno.EINVAL and "range" in str(error).lower():  # an object of no bytes has no first one
                return b""
            raise
        return data


class NoBucketError(FileNotFoundError):
    """An object store that has nothing called so, neither to read nor to write."""


class PassingError(OSError):
    """A server that failed, and may not the next time."""


@contextmanager
def opened(url: str) -> Iterator[BinaryIO]:
    """Open a file to be read forward, piece by piece."""
    if not is_web(url):
        with _failing():
            file = _store(url).open(url, "rb", block_size=_PIECE, cache_type="readahead")
        with file:
            yield io.BufferedReader(_Forward(file), _PIECE)
        return
    response = _answer(url)
    try:
        length = response.headers.get("content-length", "")
        yield io.BufferedReader(_Forward(response, int(length) if length.isdecimal() else None), _PIECE)
    finally:
        response.close()


def beneath(folder: str) -> Iterator[str]:
    """Yield the URLs of all objects whose names begin as the folder's, sorted as the store sorts them, as they come.

    `folder` ends in a slash. Of an S3 store a thousand names are held at a time; of others those of one folder.
    """
    store = _store(folder)
    scheme, _, rest = folder.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme == "s3":
        asked: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
        while True:
            with _failing():
                page = store.call_s3("list_objects_v2", **asked)
            yield from (f"s3://{bucket}/{each['Key']}" for each in page.get("Contents", []))
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]
    yield from (f"{scheme}://{name}" for name in _walked(store, f"{bucket}/{prefix}".rstrip("/")))


def _walked(store: Any, folder: str) -> Iterator[str]:
    """The objects of a folder, then those of the folders in it. fsspec's own walk leaves out what it may not see."""
    with _failing():
        found = sorted((each["name"].strip("/"), each["type"]) for each in store.ls(folder, detail=True))
    yield from (name for name, kind in found if kind == "file")
    for name, kind in found:
        if kind == "directory" and name != folder:
            yield from _walked(store, name)


def write(url: str, data: bytes, *, new: bool = False) -> None:
    """Write an object, in the place of an older one: it appears whole, as object stores have it.

    If `new` there must be none: else FileExistsError.
    """
    with _failing():
        _store(url).pipe_file(url, data, mode="create" if new else "overwrite")


_stores: dict[str, Any] = {}


def _store(url: str) -> Any:
    """The filesystem of fsspec for a URL, without its memory of what lies where, which others change meanwhile."""
    scheme = url.partition("://")[0]
    if scheme not in _stores:
        with needed("remote"):
            import fsspec
            import fsspec.config
            import fsspec.exceptions
        try:
            if scheme == "s3":
                tries = {"mode": "standard", "total_max_attempts": _TRIES}
                patient = {"connect_timeout": _SILENCE, "read_timeout": _SILENCE, "retries": tries}
                theirs = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})  # what a user has said of it
                store = fsspec.filesystem("s3", use_listings_cache=False, config_kwargs={**patient, **theirs})
                store.retries = 1  # of s3fs' own, of which each would have all of these
            else:
                store = fsspec.filesystem(scheme, use_listings_cache=False)
            _stores[scheme] = store
        except ImportError as error:  # fsspec knows of it, but has it not
            package = {"s3": "s3fs", "gs": "gcsfs"}[scheme]
            raise MissingExtraError(
                f"{scheme}:// needs {package}, which is not installed: pip install {package}"
            ) from error
    return _stores[scheme]


@contextmanager
def _failing() -> Iterator[None]:
    """Have what the stores' packages raise be an OSError that says what it was."""
    try:
        yield
    except FileExistsError:
        raise
    except FileNotFoundError as error:
        # By what S3 calls it: other stores' words are the name itself, in which anything may stand.
        if _code(error) == "NoSuchBucket":
            raise NoBucketError(errno.ENOENT, "there is no such bucket") from error
        raise FileNotFoundError(errno.ENOENT, "there is no such object") from error
    except PermissionError as error:
        if (code := _code(error)) in _OF_CREDENTIALS:
            raise OSError(errno.EIO, f"the object store does not take the credentials ({code})") from error
        raise PermissionError(errno.EACCES, "the object store does not permit it") from error
    except TimeoutError as error:
        raise OSError(errno.ETIMEDOUT, "the object store does not answer in time") from error
    except ValueError as error:  # so gcsfs says that a name is none, or that whoever reads a bucket has to pay for it
        raise OSError(
            errno.EIO, "the object store does not take the request: the name is none, or whoever reads there pays"
        ) from error
    except _theirs() as error:
        if type(error).__name__ in _BROKEN:
            raise PassingError(errno.EIO, "the object store's answer broke off") from error
        if type(error).__name__ in ("ReadTimeoutError", "ConnectTimeoutError"):
            raise OSError(errno.ETIMEDOUT, "the object store does not answer in time") from error
        if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError"):
            raise OSError(errno.EIO, "there are no credentials for the object store") from error
        if isinstance(error, OSError) and error.errno == errno.EINVAL and "range" in str(error).lower():
            raise  # see `read`
        if str(getattr(error, "code", "")) in ("401", "403") or "forbidden" in str(error).lower():
            raise PermissionError(errno.EACCES, "the object store does not permit it") from error
        raise OSError(errno.EIO, f"the object store cannot be used ({type(error).__name__})") from error


def _code(error: BaseException) -> str:
    """What S3 calls an error."""
    response = getattr(error.__cause__, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _theirs() -> tuple[type[BaseException], ...]:
    """The errors of the packages that are there."""
    found: list[type[BaseException]] = [OSError]
    try:
        from botocore.exceptions import BotoCoreError, ClientError

        found += [BotoCoreError, ClientError]
    except ImportError:
        pass
    try:
        from aiohttp import ClientError as WebError

        found.append(WebError)
    except ImportError:
        pass
    try:
        from gcsfs.retry import ChecksumError, HttpError
        from google.auth.exceptions import GoogleAuthError

        found += [ChecksumError, HttpError, GoogleAuthError]
    except ImportError:
        pass
    return tuple(found)


class _Forward(io.RawIOBase):
    """What has `read`, as a file of Python's."""

    def __init__(self, file: Any, length: int | None = None) -> None:
        super().__init__()
        self._file, self._left = file, length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        from . import network  # see `_answer`

        try:
            with _failing():
                data = self._file.read(len(buffer))
        except network.TryAgainError as error:
            raise PassingError(errno.EIO, str(error)) from error
        if self._left is not None:
            self._left -= len(data)
            if not data and self._left > 0:
                raise PassingError(errno.EIO, "the server broke off before the end")
        buffer[: len(data)] = data
        return len(data)


def _answer(url: str) -> Response:
    """The answer to a GET, after a few redirections, none of which leaves https."""
    from . import network  # TLS and its like, which every decoder would load with us

    for _ in range(_REDIRECTS + 1):
        try:
            response = network.Requests().get(url, {"accept-encoding": "identity"}, seconds=_SECONDS)
        except network.GiveUpError as error:
            raise OSError(errno.EIO, str(error)) from error
        except network.TryAgainError as error:
            raise PassingError(errno.EIO, str(error)) from error
        if response.status == 200:
            return response
        response.close()
        target = response.headers.get("location")
        if response.status in _MOVED and target:
            moved = urljoin(url, target)
            if not is_url(moved) or (url.startswith("https:") and not moved.startswith("https:")):
                raise PermissionError(errno.EACCES, "the server leads elsewhere, where it is not followed")
            url = moved
            continue
        if response.status in (404, 410):
            raise FileNotFoundError(errno.ENOENT, "there is no such file")
        if response.status in (401, 403):
            raise PermissionError(errno.EACCES, "the server does not permit it")
        kind = PassingError if response.status in _BUSY else OSError
        raise kind(errno.EIO, f"the server answers {response.status}")
    raise OSError(errno.ELOOP, "the server leads from one place to the next")
