"""Who asks, and turns between those who do: one who asks for much shall not keep others waiting.

A caller is an address. Callers take turns, photo by photo, and so do the requests of one caller, so that a lone photo
passes a batch that came before it, and one address with many requests counts as one. Used in the event loop's thread
only.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

_IPV6_PREFIX = 64  # bits: whoever has one IPv6 address has all that begin like it
_KNOWN = 1024  # addresses whose caller is remembered: to read one costs as much as to refuse it otherwise

# By requests, those of one caller behind each other: the first of each dictionary has the next turn.
_Waiting: TypeAlias = "OrderedDict[Hashable, OrderedDict[Request, deque[asyncio.Future[None]]]]"


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """One request; `caller` is who it came from, None where that is not known."""

    caller: str | None = None

    @property
    def shared(self) -> bool:
        """Whether the caller may be many: a proxy on this machine, or whoever has no address."""
        return self.caller is None or is_shared(self.caller)


_REQUEST: ContextVar[Request] = ContextVar("photolabel.request", default=Request())  # noqa: B039  # it is frozen


def current() -> Request:
    """Return the request that is being answered here."""
    return _REQUEST.get()


@contextmanager
def answering(address: str | None) -> Iterator[Request]:
    """Have all that is done in the block be done for one request, which came from an address."""
    request = Request(caller=caller(address))
    token = _REQUEST.set(request)
    try:
        yield request
    finally:
        _REQUEST.reset(token)


@lru_cache(maxsize=_KNOWN)
def is_shared(caller: str) -> bool:
    """Return whether behind a caller may be many: a proxy on this machine."""
    return ipaddress.ip_address(caller).is_loopback


@lru_cache(maxsize=_KNOWN)
def caller(address: str | None) -> str | None:
    """Return who calls from an address, as other connections of theirs are known; None where it is no address."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:  # a socket of UNIX, or a test
        return None
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        if not found.is_loopback:
            return str(ipaddress.ip_network((found, _IPV6_PREFIX), strict=False).network_address)
    return str(found)


class Turns:
    """So many places, and who has the next one that gets free."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: _Waiting = OrderedDict()

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Have a place for as long as the block takes; wait for it where none is free."""
        if self._free:
            self._free -= 1
        else:
            await self._turn()
        try:
            yield
        finally:
            self._give_back()

    async def _turn(self) -> None:
        request, turn = current(), asyncio.get_running_loop().create_future()
        self._waiting.setdefault(request.caller, OrderedDict()).setdefault(request, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(request, turn)
            else:  # its turn had come at the same time
                self._give_back()
            raise

    def _give_back(self) -> None:
        """Hand a place to whoever has the next turn."""
        if not self._waiting:
            self._free += 1
            return
        who, requests = self._waiting.popitem(last=False)
        request, turns = requests.popitem(last=False)
        turn = turns.popleft()
        if turns:
            requests[request] = turns  # behind the caller's other requests
        if requests:
            self._waiting[who] = requests  # behind the other callers
        turn.set_result(None)

    def _forget(self, request: Request, turn: asyncio.Future[None]) -> None:
        requests = self._waiting[request.caller]
        requests[request].remove(turn)
        if not requests[request]:
            del requests[request]
        if not requests:
            del self._waiting[request.caller]
