"""One GET over the real network: what requests does not bound, translate or leave alone by itself.

A `Transport` sends a request and follows nothing; whatever goes wrong becomes one of two errors, by whether a
second try could help. `download` decides what to do then. Tests and fuzzers bring a transport of their own.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Protocol

# Seconds for one address: a lost SYN is sent again after 1 s, and a dead IPv6 must leave time for IPv4.
CONNECT = 2.0
READ = 10.0  # seconds that one read of the body may wait before the connection is given up and resumed
# Whose certificates to trust: requests knows the first two, but not OpenSSL's own.
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
_UNTRUSTED = (18, 19, 20, 21)  # OpenSSL's X509_V_ERR_...: whoever signed it is not known; other bundles may know them
_NO_CERTIFICATES = "NO_CERTIFICATE_OR_CRL_FOUND"


class Response(Protocol):
    """One HTTP response whose body has not been read."""

    @property
    def status(self) -> int: ...  # noqa: D102
    @property
    def headers(self) -> Mapping[str, str]: ...  # noqa: D102  # keys in lower case
    def read(self, limit: int) -> bytes: ...  # noqa: D102  # at most `limit` raw bytes, b"" at the end
    def close(self) -> None: ...  # noqa: D102


class Transport(Protocol):
    """What the network must do for us; tests and fuzzers bring their own."""

    def get(self, url: str, headers: Mapping[str, str], *, seconds: float) -> Response:
        """Send one GET, follow nothing, return within `seconds`; raises only the two errors below."""


class TryAgainError(Exception):
    """Failed, but the next try may not. `after` is the server's Retry-After in seconds."""

    def __init__(self, reason: str, *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class GiveUpError(Exception):
    """Failed for good with this URL; the next one may do."""


class Requests:
    """The real network, by way of requests."""

    def get(self, url: str, headers: Mapping[str, str], *, seconds: float) -> Response:
        """See `Transport.get`.

        A socket's timeout is for one address and one read: eight addresses, a slow resolver or a header that
        drips could each take minutes. So a thread of its own sends the request, and we wait `seconds` in all.
        """
        import urllib3

        future: Future[Response] = Future()

        def ask() -> None:
            try:
                answer = self._get(url, headers, min(READ, seconds))
            except (
                OSError,
                ValueError,
                urllib3.exceptions.HTTPError,
                GiveUpError,
            ) as error:  # RequestException is an OSError
                with suppress(InvalidStateError):  # nobody waits any more
                    future.set_exception(_translated(error))
                return
            try:
                future.set_result(answer)
            except InvalidStateError:
                answer.close()

        threading.Thread(target=ask, name="photolabel-get", daemon=True).start()
        try:
            return future.result(timeout=seconds)
        except TimeoutError:
            if future.cancel():
                raise GiveUpError(f"no answer within {seconds:.0f} s") from None
            return future.result()

    def _get(self, url: str, headers: Mapping[str, str], read: float) -> Response:
        import requests
        from requests.auth import HTTPBasicAuth
        from requests.utils import get_auth_from_url

        class Session(requests.Session):
            # Even with allow_redirects=False requests parses a redirect's target and reads its body, whole,
            # decoded and into memory, however long it is.
            def get_redirect_target(self, resp: requests.Response) -> str | None:
                return None

        user, password = get_auth_from_url(url)
        session = Session()  # a fresh one: a request that was given up may still hold the last
        try:
            response = session.get(
                url,
                headers=dict(headers),
                stream=True,
                allow_redirects=False,
                timeout=(CONNECT, read),
                # Without an auth of ours requests would send what ~/.netrc holds for the host.
                auth=HTTPBasicAuth(user, password) if user else _no_auth,
                verify=_ca_bundle(),
            )
        except BaseException:
            session.close()
            raise
        return _RequestsResponse(session, response)


def _no_auth(request: Any) -> Any:
    return request


def _ca_bundle() -> str | bool:
    """Say whose certificates to trust."""
    for name in _BUNDLES:
        if value := os.environ.get(name):
            if not os.path.exists(value):  # noqa: PTH110  # of any text, also what is no path
                raise GiveUpError(f"{name} names {value!a}, which is not there: expected a file of certificates")
            return value
    return True


class _RequestsResponse:
    def __init__(self, session: Any, response: Any) -> None:
        self._session = session
        self._response = response
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
        # read1 returns what has come; read waits for all of `limit`, and a cut would lose what came before.
        self._read: Callable[..., bytes] = getattr(response.raw, "read1", response.raw.read)

    def read(self, limit: int) -> bytes:
        import http.client

        import urllib3

        try:
            return self._read(limit, decode_content=False) or b""
        except (OSError, ValueError, http.client.HTTPException, urllib3.exceptions.HTTPError) as error:
            if any(isinstance(item, http.client.IncompleteRead) for item in _chain(error)):
                return b""  # less than Content-Length: `download` counts for itself
            raise TryAgainError(f"the connection broke: {_root(error)}") from error

    def close(self) -> None:
        self._response.close()
        self._session.close()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all that led to it; urllib3 and requests hide causes in args and `reason`."""
    seen: set[int] = set()
    todo: list[object] = [error]
    while todo:
        item = todo.pop(0)
        if not isinstance(item, BaseException) or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        todo += [getattr(item, "reason", None), *item.args, item.__cause__, item.__context__]


def _root(error: BaseException) -> str:
    """Put the cause in words: the libraries' own texts hold addresses of memory."""
    for item in _chain(error):
        if isinstance(item, ssl.SSLCertVerificationError):
            hint = "; SSL_CERT_FILE may name another bundle" if item.verify_code in _UNTRUSTED else ""
            return f"the certificate was refused ({item.verify_message.rstrip('.')}){hint}"
        if isinstance(item, ssl.SSLError) and item.reason:
            return f"TLS failed ({item.reason.lower().replace('_', ' ')})"
        if isinstance(item, TimeoutError):
            return "timed out"
    for item in _chain(error):
        if isinstance(item, OSError) and item.strerror:
            return item.strerror
    return type(error).__name__


def _translated(error: Exception) -> TryAgainError | GiveUpError:
    """Say what a failed request means for us."""
    import requests

    if isinstance(error, GiveUpError):
        return error
    via = "the proxy: " if isinstance(error, requests.exceptions.ProxyError) else ""
    for item in _chain(error):
        if isinstance(item, socket.gaierror):
            return GiveUpError(f"{via}the name does not resolve (no network?)")
        if isinstance(item, OSError) and item.errno in (
            errno.ECONNREFUSED,
            errno.ENETUNREACH,
            errno.EHOSTUNREACH,
        ):
            return GiveUpError(f"{via}{item.strerror}")
        if isinstance(item, ssl.SSLCertVerificationError):
            return GiveUpError(_root(error))
        if isinstance(item, ssl.SSLError) and item.reason == _NO_CERTIFICATES:
            name = next(filter(os.environ.get, _BUNDLES), "certifi")
            return GiveUpError(f"{name} names a file that holds no certificates")
    transient = (requests.exceptions.ConnectionError, requests.exceptions.Timeout)
    if isinstance(error, transient) and not via:
        return TryAgainError(f"no answer: {_root(error)}")
    return GiveUpError(f"{via}{_root(error)}")
