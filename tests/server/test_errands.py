"""What else than naming decoders and the network are needed for: it has its turn, and others have theirs."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

import photolabel
from photolabel.batch import Here
from photolabel.errors import UnsupportedFormatError, UsageError
from photolabel.images import CROP, Limits
from photolabel.prepared import Prepared, prepare
from photolabel.server.batching import Batcher
from photolabel.server.problems import RefusedError
from photolabel.server.turns import answering

from batchers import ASKED, FOREVER, Later, batcher, classifier, run, turns
from services import Held

__all__ = ["classifier"]


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
