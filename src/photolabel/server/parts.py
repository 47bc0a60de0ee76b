"""What a network is asked for besides its classes: how evidence is found, and its inner layers.

Each is found out, or compiled, at the first request for it, in a thread of its own beside those that answer, and then
kept: of a model there are as many as its ways to explain and the layers that may be asked for, so that no request
after the first costs a compilation, and none can ask for more.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from .. import engine
from ..errors import PhotolabelError, UsageError
from ..explain import Method, Way, way
from .problems import UNAVAILABLE, RefusedError, refused

if TYPE_CHECKING:
    from ..classifier import Classifier

_T = TypeVar("_T")


class Layers:
    """The layers of a classifier's network that may be asked for, the default one first.

    They are the last one before the classes, where the network names it, and those of `further` that it has. `names`
    may be empty.
    """

    def __init__(self, classifier: Classifier, further: Sequence[str]) -> None:
        self.names: tuple[str, ...] = ()
        self._why = "the model does not name the layer before its classes, and the service allows no other."
        try:
            member = classifier.only()
        except UsageError as error:
            self._why = str(error)
            return
        known = engine.layer_names(member.network.path) if further and member.network is not None else ()
        found = [layer for layer in further if layer in known]
        with suppress(UsageError):
            found = [member.layer_before_classes(), *found]
        self.names = tuple(dict.fromkeys(found))

    def named(self, layer: str | None) -> str:
        """Return the layer that is meant, the default one for None. Raises `RefusedError` for one not to be had."""
        if not self.names:
            raise refused("usage", f"layer: {self._why}")
        if layer is None:
            return self.names[0]
        if layer not in self.names:
            raise refused("usage", f"layer: expected {', '.join(self.names)}.")
        return layer


class Parts:
    """Of one classifier, the ways to explain and the cuts of its network, each made once. Used in the event loop."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._made: dict[Hashable, asyncio.Future[Any]] = {}
        self._closed = False
        self.turn = asyncio.Lock()  # of what takes the network many runs

    async def way(self, method: Method | None) -> Way:
        """Return how evidence is found. Raises `UsageError` for a method that the network does not allow."""
        return await self._once(("way", method), lambda: way(self._classifier, method))

    async def cut(self, cut: engine.Cut) -> engine.Engine:
        """Return a cut of the network, ready to run; not to be closed. It is beside the classifier's own parts."""
        return await self._once(cut, lambda: self._open(cut))

    def _open(self, cut: engine.Cut) -> engine.Engine:
        network = self._classifier.only().network
        if network is None:
            raise UsageError("only a classifier made by photolabel.load has parts.")
        return network.open(cut)

    async def _once(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """What `make` makes; an error of ours is kept too, so that nobody has a file read again by asking in vain."""
        if self._closed:
            raise RefusedError(UNAVAILABLE)
        making: asyncio.Future[_T] | None = self._made.get(key)
        if making is None:
            making = self._made[key] = asyncio.get_running_loop().create_future()
            making.add_done_callback(lambda done: self._keep(key, done))
            # A daemon: a network that is being compiled shall not keep the process from ending.
            threading.Thread(target=_make, args=(make, making), name="photolabel-parts", daemon=True).start()
        made = await asyncio.shield(making)
        if isinstance(made, PhotolabelError):
            raise _bare(made)
        return made

    def _keep(self, key: Hashable, done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            return
        if self._closed and done.exception() is None:
            _close(done.result())
        elif done.exception() is not None:
            del self._made[key]  # there was no memory, say: the next one may have it

    def close(self) -> None:
        """Free their memory; of those that are still being made, when they are."""
        self._closed = True
        for each in self._made.values():
            if each.done() and not each.cancelled() and each.exception() is None:
                _close(each.result())


def _close(made: object) -> None:
    if not isinstance(made, Way | PhotolabelError):
        made.close()  # type: ignore[attr-defined]  # it is an engine


def _bare(error: PhotolabelError) -> PhotolabelError:
    """The same without its traceback, which grows with each time that it is raised, and keeps what it saw alive."""
    return type(error)(*error.args)


def _make(make: Callable[[], Any], making: asyncio.Future[Any]) -> None:
    made: Any = None
    failed: BaseException | None = None
    try:
        made = make()
    except PhotolabelError as error:
        made = _bare(error)
    except BaseException as error:  # whatever it is, it is for those who wait
        failed = error
    with suppress(RuntimeError):  # the loop has ended, and with it those who waited
        making.get_loop().call_soon_threadsafe(_settle, making, made, failed)


def _settle(making: asyncio.Future[Any], made: Any, failed: BaseException | None) -> None:
    if making.done():
        return
    if failed is None:
        making.set_result(made)
    else:
        making.set_exception(failed)
