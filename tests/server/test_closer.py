"""A closer look among others: what takes long lets them pass, and is bounded; who goes, goes; and the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import photolabel
from photolabel.errors import CorruptPhotoError
from photolabel.server import Settings, turns
from photolabel.server.batching import Asked
from photolabel.server.closer import Why
from photolabel.server.forms import Upload
from photolabel.server.looks import EMBED, EXPLAIN, LOOK
from photolabel.server.problems import GoneError, RefusedError

from crews import nothing_left
from services import Held, here, problem

SETTINGS = Settings(workers=1, queue=8, files=8, explanations=2)
COVERING = f"{EXPLAIN}?method=occlusion"
RUNS = 1 + 43  # of an explanation by covering 169 places, 4 at a time; before it the photo is seen whole


class Stepping(Held):
    """A classifier whose `run` works only as often as it is let; it tells of how many inputs each run had."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner, held=False)
        self.runs: list[int] = []
        self.steps = threading.Semaphore(0)

    def run(self, pixels: Any) -> Any:
        self.runs.append(len(pixels))
        assert self.steps.acquire(timeout=60)
        return self._inner.run(pixels)

    def let_all(self) -> None:
        self.steps.release(10_000)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.005)


def stepping(tiny: Path, work: Callable[[Any, Any, Stepping], Awaitable[None]], settings: Settings = SETTINGS) -> None:
    async def within(classifier: Stepping) -> None:
        async with asyncio.timeout(120), here(classifier, settings) as (client, service):
            try:
                await work(client, service, classifier)
            finally:
                classifier.let_all()

    with photolabel.load(tiny) as inner:
        asyncio.run(within(Stepping(inner)))


def test_names_pass_an_explanation_that_takes_long(tiny: Path, photo: Path) -> None:
    data = photo.read_bytes()

    async def work(client: Any, service: Any, classifier: Stepping) -> None:
        slow = asyncio.ensure_future(client.post(COVERING, content=data))
        await until(lambda: len(classifier.runs) == 1)
        named = asyncio.ensure_future(client.post("/v1/classify", content=data))
        await until(lambda: service.admission.photos == 2)
        await asyncio.sleep(0.1)  # it is decoded meanwhile
        assert not named.done()  # it waits for the run that is at work
        classifier.steps.release(2)  # that one, and the next if it came first
        assert (await named).status_code == 200 and not slow.done() and len(classifier.runs) <= 3
        classifier.let_all()
        response = await slow
        assert response.status_code == 200 and len(classifier.runs) == RUNS
        assert max(classifier.runs) == SETTINGS.batch and sum(classifier.runs) == 1 + 169
        expected = photolabel.explain.explain(classifier._inner, data, method="occlusion")
        assert response.json()["evidence"]["box"] == list(expected.box or ())

    stepping(tiny, work)


def test_long_explanations_come_one_after_the_other_and_only_so_many(tiny: Path, photo: Path) -> None:
    data = photo.read_bytes()

    async def unread() -> Any:
        raise AssertionError
        yield b""

    async def work(client: Any, service: Any, classifier: Stepping) -> None:
        tasks = [asyncio.ensure_future(client.post(COVERING, content=data)) for _ in range(2)]
        await until(lambda: service.admission.photos == 2)
        refused = await client.post(COVERING, content=unread())
        assert (refused.status_code, problem(refused)) == (429, "queue-full")
        assert "2 explanations are waiting, and at most 2 may" in refused.json()["detail"]
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        for path in (EXPLAIN, LOOK, EMBED, "/v1/classify?explain=1"):  # which take one run, or none
            quick = asyncio.ensure_future(client.post(path, content=data))
            await until(lambda: classifier.steps.release() or quick.done())  # noqa: B023
            assert quick.result().status_code == 200
        classifier.let_all()
        assert [each.status_code for each in await asyncio.gather(*tasks)] == [200] * 2
        whole = [number for number, run in enumerate(classifier.runs) if run == 1 and number]
        assert len(classifier.runs) == 2 * RUNS
        assert whole[0] == RUNS - 1 and whole[1] == RUNS, "the last place of the first, and the second whole"
        assert service.admission.photos == service._coverings.photos == 0

    stepping(tiny, work)


def test_one_address_has_half_of_the_long_explanations(tiny: Path, photo: Path) -> None:
    data = photo.read_bytes()

    async def work(client: Any, service: Any, classifier: Stepping) -> None:
        def ask() -> Any:
            return service.closer("tiny").explain(Upload(data=data), Asked(top=1), Why(method="occlusion"))

        with turns.answering("192.0.2.1"):
            first = asyncio.ensure_future(ask())
            await until(lambda: service._coverings.photos == 1)
            with pytest.raises(RefusedError) as caught:
                await ask()
            assert "Of this address 1 explanations are waiting" in caught.value.problem.detail
        with turns.answering("192.0.2.2"):
            other = asyncio.ensure_future(ask())
            await until(lambda: service._coverings.photos == 2)
        classifier.let_all()
        await asyncio.gather(first, other)

    stepping(tiny, work)


def test_whoever_goes_leaves_the_network_to_others(tiny: Path, photo: Path) -> None:
    data = photo.read_bytes()

    async def work(client: Any, service: Any, classifier: Stepping) -> None:
        going = asyncio.Event()

        async def receive() -> Any:
            await going.wait()
            return {"type": "http.disconnect"}

        closer = service.closer("tiny")
        upload, why = Upload(data=data), Why(method="occlusion")
        gone = asyncio.ensure_future(service.answer(lambda: closer.explain(upload, Asked(top=1), why), receive))
        await until(lambda: len(classifier.runs) == 1)
        going.set()
        with pytest.raises(GoneError):
            await gone
        assert service.admission.photos == service._coverings.photos == 0
        classifier.let_all()
        assert (await client.post(COVERING, content=data)).status_code == 200
        assert len(classifier.runs) == 1 + RUNS  # of the one that went only the run that was at work

    stepping(tiny, work)


def test_at_the_end_an_explanation_is_finished(tiny: Path, photo: Path) -> None:
    data = photo.read_bytes()

    async def work(client: Any, service: Any, classifier: Stepping) -> None:
        slow = asyncio.ensure_future(client.post(COVERING, content=data))
        await until(lambda: len(classifier.runs) == 1)
        service.drain()
        for path in (EXPLAIN, LOOK, EMBED, "/v1/classify?explain=1"):
            response = await client.post(path, content=data)
            assert (response.status_code, problem(response)) == (503, "unavailable")
        classifier.let_all()
        assert (await slow).status_code == 200

    stepping(tiny, work)


def test_one_that_is_cut_off_by_the_end_is_told(tiny: Path, photo: Path) -> None:
    data = photo.read_bytes()

    async def work(client: Any, service: Any, classifier: Stepping) -> None:
        slow = asyncio.ensure_future(client.post(COVERING, content=data))
        await until(lambda: len(classifier.runs) == 1)
        closing = asyncio.ensure_future(service.close())
        await asyncio.sleep(0)
        classifier.steps.release()
        response = await slow
        assert (response.status_code, problem(response)) == (503, "unavailable")
        await closing
        with pytest.raises(RefusedError):
            service.closer("tiny")

    stepping(tiny, work)


def test_a_queue_that_is_full_is_full_for_these_too(tiny: Path, photo: Path) -> None:
    data = photo.read_bytes()

    async def work(client: Any, service: Any, classifier: Stepping) -> None:
        slow = asyncio.ensure_future(client.post(COVERING, content=data))
        await until(lambda: len(classifier.runs) == 1)
        for path in (EXPLAIN, LOOK, EMBED, "/v1/classify"):
            response = await client.post(path, content=data)
            assert (response.status_code, problem(response)) == (429, "queue-full")
        classifier.let_all()
        assert (await slow).status_code == 200

    stepping(tiny, work, replace(SETTINGS, queue=1, files=1))


def test_each_part_is_made_once_and_freed_at_the_end(tiny: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from photolabel.member import Network

    opened: list[Any] = []
    real = Network.open

    def open_(self: Network, *cut: Any) -> Any:
        made = real(self, *cut)
        opened.append((cut, made))
        return made

    data = photo.read_bytes()

    async def work(classifier: Any) -> None:
        async with here(classifier, SETTINGS) as (client, _):
            asked = [client.post(path, content=data) for path in (EXPLAIN, EMBED) * 4]  # at the same time, at first
            answers = await asyncio.gather(*asked)
            answers += [await client.post(path, content=data) for path in (EXPLAIN, EMBED, f"{EMBED}?layer=fc2")]
            assert {each.status_code for each in answers} == {200}

    with photolabel.load(tiny) as classifier:
        monkeypatch.setattr(Network, "open", open_)
        asyncio.run(work(classifier))
        assert len(opened) == 2
        for _, made in opened:
            with pytest.raises(photolabel.errors.UsageError):
                made(np.zeros((1, 32, 32, 3), np.float32))
        assert classifier.classify(data).labels, "which is its owner's"
        with nothing_left():
            asyncio.run(work(classifier))


def test_a_photo_s_own_error_is_raised(tiny: Path, photo: Path) -> None:
    upload = Upload(data=photo.read_bytes()[:-30])

    async def work(client: Any, service: Any, classifier: Stepping) -> None:
        closer = service.closer("tiny")
        for each in (closer.explain(upload, Asked(), Why()), closer.look(upload), closer.embed(upload, "fc2")):
            with pytest.raises(CorruptPhotoError):
                await each
        assert not classifier.runs

    stepping(tiny, work)
