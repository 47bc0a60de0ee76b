"""Under load and at the end: who is taken in, who is turned away, and what becomes of those who go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import photolabel
from photolabel.server import Settings
from photolabel.server.problems import GoneError

from crews import nothing_left
from services import FORM, PHOTO_PART, Held, client_at, form, here, problem

SETTINGS = Settings(workers=1, queue=3, files=3)


async def turns(until: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not until():
            await asyncio.sleep(0.005)


def held(tiny: Path, work: Callable[[Any, Any, Held], Awaitable[None]], settings: Settings = SETTINGS) -> None:
    """Have something done with a client, its service, and the classifier, whose network is held."""

    async def within(classifier: Held) -> None:
        async with asyncio.timeout(120), here(classifier, settings) as (client, service):
            try:
                await work(client, service, classifier)
            finally:
                classifier.let()

    with photolabel.load(tiny) as inner:
        asyncio.run(within(Held(inner)))


def test_beyond_its_capacity_photos_are_refused_at_once(tiny: Path, photo: Path) -> None:
    data = photo.read_bytes()

    async def work(client: Any, service: Any, classifier: Held) -> None:
        async def unread() -> Any:
            raise AssertionError
            yield b""

        tasks = [asyncio.ensure_future(client.post("/v1/classify", content=data)) for _ in range(3)]
        await turns(lambda: service.admission.photos == 3)
        for path in ("/v1/classify", "/v1/classify/batch"):
            refused = await client.post(path, content=unread(), headers=FORM)
            assert (refused.status_code, problem(refused)) == (429, "queue-full")
            assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert (await client.get("/v2/health/ready")).status_code == 200  # it is busy, not ill
        assert (await client.get("/v2/health/live")).status_code == 200
        classifier.let()
        assert [each.status_code for each in await asyncio.gather(*tasks)] == [200] * 3
        assert service.admission.photos == service.admission.held == 0
        assert (await client.post("/v1/classify", content=data)).status_code == 200

    held(tiny, work)


def test_a_batch_comes_in_whole_or_not_at_all(tiny: Path, photo: Path) -> None:
    body = form([(PHOTO_PART, photo.read_bytes())] * 2)

    async def work(client: Any, service: Any, classifier: Held) -> None:
        first = asyncio.ensure_future(client.post("/v1/classify/batch", content=body, headers=FORM))
        await turns(lambda: service.admission.photos == 2)
        refused = await client.post("/v1/classify/batch", content=body, headers=FORM)
        assert refused.status_code == 429 and service.admission.photos == 2
        classifier.let()
        assert (await first).status_code == 200

    held(tiny, work)


def test_memory_for_bodies_is_bounded(tiny: Path, photo: Path) -> None:
    data = photo.read_bytes()

    async def work(client: Any, service: Any, classifier: Held) -> None:
        first = asyncio.ensure_future(client.post("/v1/classify", content=data))
        await turns(lambda: service.admission.photos == 1)
        assert service.admission.held == len(data)
        refused = await client.post("/v1/classify", content=data)
        assert (refused.status_code, problem(refused)) == (429, "queue-full")
        assert service.admission.held == len(data)
        classifier.let()
        assert (await first).status_code == 200

    held(tiny, work, replace(SETTINGS, held_bytes=len(data) + 10))


def test_one_address_leaves_room_for_others(tiny: Path, photo: Path) -> None:
    data = photo.read_bytes()
    body = form([(PHOTO_PART, data)] * 3)

    async def work(client: Any, service: Any, classifier: Held) -> None:
        async with client_at(client, "10.0.0.1") as much, client_at(client, "10.0.0.2") as little:
            tasks = [asyncio.ensure_future(much.post("/v1/classify/batch", content=body, headers=FORM))]
            await turns(lambda: service.admission.photos == 3)
            refused = await much.post("/v1/classify", content=data)
            assert (refused.status_code, problem(refused)) == (429, "queue-full")
            tasks.append(asyncio.ensure_future(little.post("/v1/classify", content=data)))
            await turns(lambda: service.admission.photos == 4)
            classifier.let()
            assert [each.status_code for each in await asyncio.gather(*tasks)] == [200] * 2

    held(tiny, work, replace(SETTINGS, queue=6))


def test_a_lone_photo_is_answered_before_the_batches_of_another(tiny: Path, photo: Path) -> None:
    """Whoever sends batches without pause delays others by what is on its way, not by all that waits."""
    data = photo.read_bytes()
    body = form([(PHOTO_PART, data)] * 32)

    async def work(client: Any, service: Any, classifier: Held) -> None:
        async with client_at(client, "10.0.0.1") as much, client_at(client, "10.0.0.2") as little:
            batch = asyncio.ensure_future(much.post("/v1/classify/batch", content=body, headers=FORM))
            await turns(classifier.at_work.is_set)
            lone = asyncio.ensure_future(little.post("/v1/classify", content=data))
            await turns(lambda: service.admission.photos == 33)
            classifier.let()
            assert (await lone).status_code == 200
            assert not batch.done()
            named = sum(classifier.batches)
            assert (await batch).status_code == 200
            assert sum(classifier.batches) == 33 and named <= 20  # at its turn 9 were on their way, of 32

    held(tiny, work, Settings(workers=1))


def test_whoever_goes_makes_room(tiny: Path, photo: Path) -> None:
    data = photo.read_bytes()

    async def work(client: Any, service: Any, classifier: Held) -> None:
        from photolabel.server.batching import Asked
        from photolabel.server.forms import Upload

        going = asyncio.Event()

        async def receive() -> Any:
            await going.wait()
            return {"type": "http.disconnect"}

        first = asyncio.ensure_future(client.post("/v1/classify", content=data))
        await turns(classifier.at_work.is_set)
        gone = asyncio.ensure_future(service.classify([Upload(data=data)] * 2, "tiny", Asked(top=1), receive))
        await turns(lambda: service.admission.photos == 3)
        going.set()
        with pytest.raises(GoneError):
            await gone
        assert service.admission.photos == 1
        classifier.let()
        assert (await first).status_code == 200
        assert (await client.post("/v1/classify", content=data)).status_code == 200
        assert classifier.batches == [1, 1]

    held(tiny, work)


def test_at_the_end_those_in_the_house_are_answered_and_no_others_taken(tiny: Path, photo: Path) -> None:
    data = photo.read_bytes()

    async def work(client: Any, service: Any, classifier: Held) -> None:
        first = asyncio.ensure_future(client.post("/v1/classify", content=data))
        await turns(classifier.at_work.is_set)
        service.drain()
        assert (await client.get("/v2/health/live")).status_code == 200
        for response in (await client.get("/v2/health/ready"), await client.post("/v1/classify", content=data)):
            assert (response.status_code, problem(response)) == (503, "unavailable")
            assert response.headers["retry-after"] == "1"
        classifier.let()
        assert (await first).status_code == 200

    held(tiny, work)


def test_a_network_that_does_not_come_back_is_not_ready(tiny: Path, photo: Path) -> None:
    async def work(client: Any, service: Any, classifier: Held) -> None:
        first = asyncio.ensure_future(client.post("/v1/classify", content=photo.read_bytes()))
        await turns(lambda: not service.ready)
        assert (await client.get("/v2/health/ready")).status_code == 503
        classifier.let()
        assert (await first).status_code == 200
        await turns(lambda: service.ready)

    held(tiny, work, replace(SETTINGS, stuck_seconds=0.05))


def test_before_the_beginning_and_after_the_end_nothing_is_ready(tiny: Path) -> None:
    from photolabel.server.service import Service

    async def work(classifier: Any) -> None:
        service = Service(classifier, SETTINGS)
        assert not service.ready
        service.start()
        assert service.ready
        await service.close()
        assert not service.ready
        await service.close()

    with photolabel.load(tiny) as classifier:
        asyncio.run(work(classifier))


def test_nothing_stays_behind(tiny: Path, photo: Path) -> None:
    async def work(classifier: Any) -> None:
        async with here(classifier, SETTINGS) as (client, _):
            assert (await client.post("/v1/classify", content=photo.read_bytes())).status_code == 200

    with photolabel.load(tiny) as classifier:
        asyncio.run(work(classifier))  # what is opened once and kept
        with nothing_left():
            asyncio.run(work(classifier))


def test_models_have_ways_of_their_own(tiny: Path, photo: Path) -> None:
    """While one network works, another one answers."""

    async def work(classifiers: Any) -> None:
        async with here(classifiers, SETTINGS) as (client, _):
            first = asyncio.ensure_future(client.post("/v1/classify?model=a", content=photo.read_bytes()))
            await turns(classifiers["a"].at_work.is_set)
            assert (await client.post("/v1/classify?model=b", content=photo.read_bytes())).status_code == 200
            assert not first.done()
            classifiers["a"].let()
            assert (await first).status_code == 200

    with photolabel.load(tiny) as inner:
        asyncio.run(work({"a": Held(inner), "b": Held(inner, held=False)}))
