"""Who may come in: by the host that is asked for, the page that asks, and the key that is shown.

A web page elsewhere can make a browser send requests to this machine. It cannot choose their Host, unless it is called
by a name of its own (DNS rebinding), and cannot leave out its Origin. So both are looked at, on every path.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

from .problems import refused
from .settings import ANY_HOST, HOST, LOOPBACK, Settings

_AUTHORITY = re.compile(rf"(?P<host>{HOST.pattern})\.?(?::(?P<port>[0-9]{{0,5}}))?", re.ASCII)
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class Visitors:
    """The hosts, origins and keys of a service."""

    def __init__(self, settings: Settings) -> None:
        self._hosts = {*LOOPBACK, *settings.hosts}
        self._origins = frozenset(settings.origins)
        self._keys = [_digest(key.encode("ascii")) for key in settings.api_keys]

    def check_host(self, hosts: Sequence[str]) -> str:
        """Return the one Host of a request. Raises `RefusedError` for none, several, or one that is not ours."""
        if len(hosts) != 1:
            raise refused("bad-request", f"Expected one Host header, got {len(hosts)}.")
        host = hosts[0].lower()
        match = _AUTHORITY.fullmatch(host)
        if match is None:
            raise refused("bad-request", "The Host header is no name or address.")
        if ANY_HOST not in self._hosts and match["host"] not in self._hosts:
            raise refused(
                "unknown-host",
                "The service does not go by the name in the Host header. It is started with the names that it goes by: "
                "photolabel serve --allow-host NAME.",
            )
        return host

    def check_origin(self, origins: Sequence[str], host: str) -> str | None:
        """Return the Origin of a page elsewhere that may call; None for our own, and for what is no page.

        Raises `RefusedError` for every other one.
        """
        if not origins:
            return None
        origin = origins[0].lower() if len(origins) == 1 else ""
        if origin in self._origins:
            return origin
        scheme, _, authority = origin.partition("://")
        if scheme in _DEFAULT_PORTS and _bare(authority, scheme) == _bare(host, scheme):
            return None
        raise refused(
            "forbidden-origin",
            "Web pages elsewhere may call only if the service was started for them: photolabel serve --allow-origin.",
        )

    def check_key(self, headers: Mapping[str, Sequence[str]]) -> None:
        """Raise `RefusedError` where a key is needed and none of ours is shown. In time that does not depend on it."""
        if not self._keys:
            return
        shown = [*headers.get("x-api-key", ())]
        shown += [each[7:].strip() for each in headers.get("authorization", ()) if each[:7].lower() == "bearer "]
        digest = _digest(shown[0].encode("latin-1", "replace")) if len(shown) == 1 else b""
        if not sum(hmac.compare_digest(digest, key) for key in self._keys):  # all of them are compared, always
            raise refused(
                "unauthorized",
                "Expected one of the service's API keys, as Authorization: Bearer KEY or X-API-Key: KEY.",
                {"www-authenticate": 'Bearer realm="photolabel"'},
            )


def _bare(authority: str, scheme: str) -> str:
    """An authority without the port that its scheme has anyway."""
    return authority.removesuffix(f":{_DEFAULT_PORTS[scheme]}")


def _digest(key: bytes) -> bytes:
    """Of one length, whatever the key's: comparing tells nothing of that either."""
    return hashlib.sha256(key).digest()
