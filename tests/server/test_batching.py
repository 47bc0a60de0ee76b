"""Photos on their way: together where they can be, alone where they must, and out of the way when nobody waits."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import photolabel
from photolabel.batch import Here
from photolabel.errors import UnsupportedFormatError, UsageError
from photolabel.images import CROP, Limits
from photolabel.prepared import Prepared, prepare
from photolabel.server.batching import BEHIND, Asked, Batcher
from photolabel.server.problems import RefusedError
from photolabel.server.turns import answering
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


def test_a_photo_may_be_prepared_and_not_named(classifier: Held, photo: Path) -> None:
    data = photo.read_bytes()

    async def work() -> tuple[Prepared, Prepared, Prepared]:
        way = batcher(classifier, Here(), wait=FOREVER)
        return (
            await way.prepare(data, "mug.png"),
            await way.prepare(data, None, CROP),
            await way.prepare(b"no photo", "x"),
        )

    own, other, none = run(work)
    assert own.photo == "mug.png" and other.photo is None and classifier.batches == []
    for made, recipe in ((own, classifier.recipe), (other, CROP)):
        expected = prepare(data, recipe)
        assert made.pixels is not None and expected.pixels is not None
        assert made.pixels.tobytes() == expected.pixels.tobytes() and made.file == expected.file
    assert isinstance(none.error, UnsupportedFormatError)


def test_whoever_goes_need_not_be_prepared(classifier: Held, photo: Path) -> None:
    later = Later()

    async def work() -> None:
        way = batcher(classifier, later)
        gone = asyncio.ensure_future(way.prepare(photo.read_bytes(), None))
        await turns(lambda: later.asked)
        gone.cancel()
        await turns(gone.done)
        assert later.asked[0][0].cancelled()
        ends = asyncio.ensure_future(way.prepare(photo.read_bytes(), None))
        await turns(lambda: len(later.asked) == 2)
        later.asked[1][0].set_exception(UsageError("closed"))
        with pytest.raises(RefusedError) as caught:
            await ends
        assert caught.value.problem.status == 503

    run(work)


def test_those_who_are_not_named_wait_for_their_turn_too(classifier: Held, photo: Path) -> None:
    later = Later()

    async def work() -> None:
        way = batcher(classifier, later, inputs=1)
        tasks = [asyncio.ensure_future(way.prepare(photo.read_bytes(), None)) for _ in range(5)]
        await turns(lambda: len(later.asked) == 3)  # one is decoded, one is next, one is in the network
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(later.asked) == 3
        for _ in range(5):
            await turns(lambda: later.asked)
            later.finish()
        await asyncio.gather(*tasks)

    run(work)


def test_after_the_end_there_is_no_turn(classifier: Held) -> None:
    async def work() -> None:
        way = batcher(classifier, Here())
        way.close()
        with pytest.raises(RefusedError) as caught:
            await way.run(lambda _: None)
        assert caught.value.problem.status == 503

    run(work)


def test_an_errand_has_its_turn_between_batches(tiny: Path, photo: Path) -> None:
    with photolabel.load(tiny) as inner:
        held, done = Held(inner), []

        async def work() -> None:
            way, data = batcher(held, Here()), photo.read_bytes()
            photos = [asyncio.ensure_future(way.predict(data, None, ASKED))]
            await turns(held.at_work.is_set)
            photos.append(asyncio.ensure_future(way.predict(data, None, ASKED)))
            await asyncio.sleep(0)
            kept = asyncio.ensure_future(way.run(lambda each: done.append((each, list(held.batches)))))
            left = asyncio.ensure_future(way.run(lambda _: done.append("left")))
            fails = asyncio.ensure_future(way.run(lambda each: 1 // len([])))
            await asyncio.sleep(0)
            photos.append(asyncio.ensure_future(way.predict(data, None, ASKED)))
            await asyncio.sleep(0)
            left.cancel()
            held.let()
            await asyncio.gather(*photos, kept)
            with pytest.raises(ZeroDivisionError):
                await fails
            assert left.cancelled()

        run(work)
        assert done == [(held, [1, 1])] and held.batches == [1, 1, 1]


def test_what_the_network_was_at_is_told_before_its_answer(tiny: Path, photo: Path) -> None:
    with photolabel.load(tiny) as inner:
        held, told = Held(inner), []

        async def work() -> None:
            data = photo.read_bytes()
            way = Batcher(held, Here(), limits=Limits(), inputs=4, wait=0.0, ran=lambda *each: told.append(each))
            photos = [asyncio.ensure_future(way.predict(data, None, ASKED))]
            await turns(held.at_work.is_set)
            photos += [asyncio.ensure_future(way.predict(data, None, ASKED)) for _ in range(2)]
            assert (await way.predict(b"no photo", None, ASKED)).error is not None
            await asyncio.sleep(0)
            assert told == []
            held.let()
            await asyncio.gather(*photos)
            assert [each[0] for each in told] == [1, 2]
            await way.run(lambda _: None)
            with pytest.raises(ZeroDivisionError):
                await way.run(lambda _: 1 // len([]))
            assert [each[0] for each in told] == [1, 2, None, None]
            assert all(0 <= seconds < 60 for _, seconds in told)

        run(work)


def test_many_errands_of_one_caller_leave_turns_to_another(tiny: Path, photo: Path) -> None:
    with photolabel.load(tiny) as inner:
        held, done = Held(inner), []

        async def work() -> None:
            way = batcher(held, Here(), inputs=1)  # in which three may be on their way
            first = asyncio.ensure_future(way.predict(photo.read_bytes(), None, ASKED))
            await turns(held.at_work.is_set)
            with answering("10.0.0.1"):
                many = [asyncio.ensure_future(way.run(partial(lambda word, _: done.append(word), i))) for i in range(9)]
            await asyncio.sleep(0)
            with answering("10.0.0.2"):
                one = asyncio.ensure_future(way.run(lambda _: done.append("other")))
            await asyncio.sleep(0)
            held.let()
            await asyncio.gather(first, one, *many)

        run(work)
        assert done.index("other") <= 3 and [each for each in done if each != "other"] == [*range(9)]


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
