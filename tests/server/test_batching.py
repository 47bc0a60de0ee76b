"""Photos on their way: together where they can be, alone where they must, and out of the way when nobody waits."""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import photolabel
from photolabel.batch import Here
from photolabel.errors import UnsupportedFormatError, UsageError
from photolabel.prepared import Prepared
from photolabel.server.batching import BEHIND, Asked
from photolabel.server.problems import RefusedError

from batchers import ASKED, FOREVER, Later, batcher, classifier, run, turns
from services import Held

__all__ = ["classifier"]


def test_what_is_said_is_what_the_library_says(classifier: Held, photo: Path) -> None:
    data = photo.read_bytes()

    async def work() -> Any:
        way = batcher(classifier, Here())
        return await way.predict(data, "mug.png", ASKED), await way.predict(data, None, Asked(top=1, sure=0.5))

    named, unnamed = run(work)
    expected = classifier.classify(data, top=3)
    assert named.record() == {**expected.record(), "photo": "mug.png"}
    assert unnamed.record() == classifier.classify(data, top=1, sure=0.5).record()
    assert named.probabilities.tobytes() == expected.probabilities.tobytes()


def test_a_lone_photo_does_not_wait_for_others(classifier: Held, photo: Path) -> None:
    run(lambda: batcher(classifier, Here(), wait=FOREVER).predict(photo.read_bytes(), None, ASKED))


def test_an_idle_network_waits_for_what_is_being_decoded(classifier: Held, photo: Path) -> None:
    later = Later()

    async def work() -> None:
        way = batcher(classifier, later, wait=FOREVER)
        tasks = [asyncio.ensure_future(way.predict(photo.read_bytes(), None, ASKED)) for _ in range(3)]
        await turns(lambda: len(later.asked) == 3)
        later.finish()
        later.finish()
        assert not any(task.done() for task in tasks)
        later.finish()
        await asyncio.gather(*tasks)

    run(work)
    assert classifier.batches == [3]


def test_it_waits_no_longer_than_it_may(classifier: Held, photo: Path) -> None:
    later = Later()

    async def work() -> None:
        way = batcher(classifier, later, wait=0.01)
        first, second = (asyncio.ensure_future(way.predict(photo.read_bytes(), None, ASKED)) for _ in range(2))
        await turns(lambda: len(later.asked) == 2)
        later.finish()
        await first  # though the second may never come
        later.finish()
        await second

    run(work)
    assert classifier.batches == [1, 1]


def test_a_batch_gathers_while_the_network_works(tiny: Path, photo: Path) -> None:
    with photolabel.load(tiny) as inner:
        held = Held(inner)

        async def work() -> None:
            way = batcher(held, Here(), inputs=4)
            tasks = [asyncio.ensure_future(way.predict(photo.read_bytes(), None, ASKED))]
            await turns(held.at_work.is_set)
            assert way.running_for > 0
            tasks += [asyncio.ensure_future(way.predict(photo.read_bytes(), None, ASKED)) for _ in range(6)]
            await asyncio.sleep(0)
            held.let()
            await asyncio.gather(*tasks)
            await turns(lambda: way.running_for == 0)

        run(work)
        assert held.batches == [1, 4, 2]


def test_what_is_asked_otherwise_is_answered_otherwise(tiny: Path, photo: Path) -> None:
    with photolabel.load(tiny) as inner:
        held = Held(inner)

        async def work() -> list[int]:
            way = batcher(held, Here())
            first = asyncio.ensure_future(way.predict(photo.read_bytes(), None, ASKED))
            await turns(held.at_work.is_set)
            tasks = [asyncio.ensure_future(way.predict(photo.read_bytes(), None, Asked(top=n))) for n in (1, 2, 1, 2)]
            await asyncio.sleep(0)
            held.let()
            await first
            return [len(each.labels) for each in await asyncio.gather(*tasks)]

        assert run(work) == [1, 2, 1, 2]
        assert held.batches == [1, 2, 2]


def test_a_photo_that_is_none_does_not_reach_the_network(tiny: Path) -> None:
    with photolabel.load(tiny) as inner:
        held = Held(inner)  # which is never let

        async def work() -> Any:
            return await batcher(held, Here()).predict(b"no photo", "x", ASKED)

        found = run(work)
        assert isinstance(found.error, UnsupportedFormatError) and found.photo == "x"
        assert held.batches == []


def test_whoever_goes_before_the_decoder_is_free_costs_nothing(classifier: Held, photo: Path) -> None:
    later = Later()

    async def work() -> None:
        way = batcher(classifier, later, wait=FOREVER)
        gone = asyncio.ensure_future(way.predict(photo.read_bytes(), None, ASKED))
        await turns(lambda: later.asked)
        gone.cancel()
        await turns(gone.done)
        assert later.asked[0][0].cancelled()
        later.asked.clear()
        stays = asyncio.ensure_future(way.predict(photo.read_bytes(), None, ASKED))
        await turns(lambda: later.asked)
        later.finish()
        await stays  # who would wait for ever, were the other one still counted

    run(work)
    assert classifier.batches == [1]


def test_whoever_goes_before_the_network_is_free_is_left_out(tiny: Path, photo: Path) -> None:
    with photolabel.load(tiny) as inner:
        held = Held(inner)

        async def work() -> None:
            way = batcher(held, Here())
            first = asyncio.ensure_future(way.predict(photo.read_bytes(), None, ASKED))
            await turns(held.at_work.is_set)
            gone, stays = (asyncio.ensure_future(way.predict(photo.read_bytes(), None, ASKED)) for _ in range(2))
            await asyncio.sleep(0)
            gone.cancel()
            await turns(gone.done)
            held.let()
            await asyncio.gather(first, stays)

        run(work)
        assert held.batches == [1, 1]


def test_a_network_that_fails_fails_for_those_who_wait_and_no_others(tiny: Path, photo: Path) -> None:
    with photolabel.load(tiny) as inner:
        held = Held(inner, held=False)

        async def work() -> None:
            way = batcher(held, Here())
            held.fails = MemoryError("no room")
            with pytest.raises(MemoryError):
                await way.predict(photo.read_bytes(), None, ASKED)
            held.fails = UsageError("closed")
            with pytest.raises(RefusedError) as caught:
                await way.predict(photo.read_bytes(), None, ASKED)
            assert caught.value.problem.code == "unavailable"
            held.fails = None
            await way.predict(photo.read_bytes(), None, ASKED)

        run(work)


def test_workers_that_cannot_be_started_are_no_fault_of_the_photo(classifier: Held, photo: Path) -> None:
    later = Later()

    async def work() -> None:
        way = batcher(classifier, later)
        asked = asyncio.ensure_future(way.predict(photo.read_bytes(), None, ASKED))
        await turns(lambda: later.asked)
        later.asked[0][0].set_exception(UsageError("no process can be started"))
        with pytest.raises(RefusedError) as caught:
            await asked
        assert caught.value.problem.status == 503

    run(work)


def test_workers_that_are_closed_already_are_no_fault_of_it_either(classifier: Held, photo: Path) -> None:
    class Closed:
        def prepare(self, *args: Any, **options: Any) -> Future[Prepared]:
            raise UsageError("closed")

    async def work() -> None:
        with pytest.raises(RefusedError) as caught:
            await batcher(classifier, Closed()).predict(photo.read_bytes(), None, ASKED)
        assert caught.value.problem.status == 503

    run(work)


def test_it_ends_after_the_batch_that_it_is_at(tiny: Path, photo: Path) -> None:
    with photolabel.load(tiny) as inner:
        held = Held(inner)

        async def work() -> None:
            way = batcher(held, Here())
            first = asyncio.ensure_future(way.predict(photo.read_bytes(), None, ASKED))
            await turns(held.at_work.is_set)
            way.close()
            assert not way.join(0.01)
            held.let()
            await first
            assert await asyncio.to_thread(partial(way.join, 30))

        run(work)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority is not a thread's own")
def test_the_network_stands_back_behind_the_event_loop(classifier: Held) -> None:
    async def work() -> None:
        made = batcher(classifier, Here())
        network = await made.run(lambda _: os.getpriority(os.PRIO_PROCESS, 0))
        assert network == os.getpriority(os.PRIO_PROCESS, 0) + BEHIND
        made.close()
        assert made.join(10)

    run(work)


def test_what_is_decoded_when_the_end_has_come_is_refused(tiny: Path, photo: Path) -> None:
    later = Later()

    async def work() -> None:
        with photolabel.load(tiny) as classifier:
            way = batcher(classifier, later)
            asked = asyncio.ensure_future(way.predict(photo.read_bytes(), None, ASKED))
            await turns(lambda: later.asked)
            way.close()
            assert await asyncio.to_thread(partial(way.join, 30))
            later.finish()
            with pytest.raises(RefusedError) as caught:
                await asked
            assert caught.value.problem.status == 503

    run(work)
