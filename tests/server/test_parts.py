"""What is made once: however many ask at a time, errors too; and given back, also where it comes after the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import photolabel
from photolabel.classifier import Classifier
from photolabel.engine import Cut
from photolabel.errors import UsageError
from photolabel.member import Member, Network
from photolabel.models import BUNDLED
from photolabel.server import Settings, create_app, parts
from photolabel.server.parts import Layers, Parts
from photolabel.server.problems import RefusedError

FC2 = Cut(layers=("fc2",), only=True)


@pytest.fixture
def classifier(tiny: Path) -> Iterator[Classifier]:
    with photolabel.load(tiny) as made:
        yield made


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    async def within() -> Any:
        async with asyncio.timeout(60):
            return await work()

    return asyncio.run(within())


class Opened:
    """What stands for an engine: it tells when it is closed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Opening:
    """How networks are opened: when it is let, and as it is told."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.let, self.made, self.fails = threading.Event(), list[Opened](), list[BaseException]()
        self.asked = 0
        patch.setattr(Network, "open", self._open)

    def _open(self, cut: Cut) -> Opened:
        self.asked += 1
        assert self.let.wait(60)
        if self.fails:
            raise self.fails.pop()
        self.made.append(Opened())
        return self.made[-1]


def test_who_asks_at_the_same_time_gets_the_same(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    opening = Opening(monkeypatch)

    async def work() -> None:
        made = Parts(classifier)
        tasks = [asyncio.ensure_future(made.cut(FC2)) for _ in range(4)]
        await asyncio.sleep(0)
        tasks.pop().cancel()  # whoever goes takes nothing from the others
        opening.let.set()
        found = await asyncio.gather(*tasks)
        assert set(map(id, found)) == {id(opening.made[0])} and opening.asked == 1
        await made.cut(Cut(layers=("fc1",), only=True))
        assert opening.asked == 2
        made.close()
        assert [each.closed for each in opening.made] == [1, 1]
        with pytest.raises(RefusedError):
            await made.cut(FC2)

    run(work)


def test_the_end_comes_before_a_part_does(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    opening = Opening(monkeypatch)

    async def work() -> None:
        made = Parts(classifier)
        asked = asyncio.ensure_future(made.cut(FC2))
        await asyncio.sleep(0)
        made.close()
        opening.let.set()
        await asked
        assert opening.made[0].closed == 1

    run(work)


def test_an_error_of_ours_is_remembered_and_does_not_grow(classifier: Classifier, tiny: Path) -> None:
    looked = 0
    real = parts.way

    def counted(*given: Any) -> Any:
        nonlocal looked
        looked += 1
        return real(*given)

    async def work() -> None:
        made, lengths = Parts(classifier), []
        for _ in range(5):
            with pytest.raises(UsageError, match="does not allow it") as caught:
                await made.way("activation")
            lengths.append(len(caught.traceback))
        assert looked == 1 and len(set(lengths)) == 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "way", counted)
        run(work)


def test_what_was_no_fault_of_ours_is_tried_again(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    opening = Opening(monkeypatch)
    opening.let.set()
    opening.fails.append(MemoryError("no room"))

    async def work() -> None:
        made = Parts(classifier)
        with pytest.raises(MemoryError):
            await made.cut(FC2)
        assert await made.cut(FC2) is opening.made[0]

    run(work)


# -- layers


def test_layers_are_the_default_one_and_what_the_service_allows(classifier: Classifier, tiny: Path) -> None:
    assert Layers(classifier, ()).names == ("fc2",)
    more = Layers(classifier, ("block5_conv1", "nothing", "fc2", "fc1"))
    assert more.names == ("fc2", "block5_conv1", "fc1")
    assert more.named(None) == "fc2" and more.named("fc1") == "fc1"
    with pytest.raises(RefusedError) as caught:
        more.named("nothing")
    assert caught.value.problem.detail == "layer: expected fc2, block5_conv1, fc1."
    with photolabel.load(BUNDLED) as bundled:
        assert Layers(bundled, ("fc1",)).names == ("features",)


def test_where_there_are_no_layers_it_is_said(
    classifier: Classifier, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(self: Member) -> str:
        raise UsageError("say which")

    with photolabel.load(tiny, views="mirror") as several:
        many = Layers(several, ("fc1",))
    monkeypatch.setattr(Member, "layer_before_classes", nothing)
    assert Layers(classifier, ("fc1",)).named(None) == "fc1"
    for each, said in ((many, "averages several answers"), (Layers(classifier, ()), "does not name the layer")):
        assert each.names == ()
        for layer in (None, "fc2"):
            with pytest.raises(RefusedError) as caught:
                each.named(layer)
            assert said in caught.value.problem.detail


def test_a_layer_that_no_model_has_is_a_mistake(classifier: Classifier) -> None:
    with pytest.raises(UsageError, match="none of the models has a layer that is called so"):
        create_app(classifier, settings=Settings(layers=("fc3",)))
