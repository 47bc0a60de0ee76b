"""The way through one classifier, with decoders that are done when they are told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import photolabel
from photolabel.batch import Here
from photolabel.images import Limits
from photolabel.prepared import Prepared
from photolabel.server.batching import Asked, Batcher
from photolabel.sources import Item

from services import Held

FOREVER = 3600.0
ASKED = Asked(top=3)


@pytest.fixture
def classifier(tiny: Path) -> Iterator[Held]:
    with photolabel.load(tiny) as inner:
        yield Held(inner, held=False)


class Later:
    """Decoders that are done when they are told; what they do is what `Here` does."""

    def __init__(self) -> None:
        self.asked: list[tuple[Future[Prepared], Callable[[], Prepared]]] = []

    def prepare(self, item: Item, *recipes: Any, limits: Limits) -> Future[Prepared]:
        future: Future[Prepared] = Future()
        self.asked.append((future, lambda: Here().prepare(item, *recipes, limits=limits).result()))
        return future

    def finish(self) -> None:
        """In a thread of its own, as a crew does."""
        future, work = self.asked.pop(0)

        def done() -> None:
            if future.set_running_or_notify_cancel():
                future.set_result(work())

        thread = threading.Thread(target=done)
        thread.start()
        thread.join()


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    async def within() -> Any:
        async with asyncio.timeout(60):
            return await work()

    return asyncio.run(within())


def batcher(classifier: Any, decoders: Any, *, wait: float = 0.0, inputs: int = 16) -> Batcher:
    return Batcher(classifier, decoders, limits=Limits(), inputs=inputs, wait=wait)


async def turns(until: Callable[[], object]) -> None:
    while not until():
        await asyncio.sleep(0.001)
