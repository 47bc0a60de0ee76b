"""Many photos: in order, each once, ahead of the network but not far, and nothing is left when it ends."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import photolabel
from photolabel import batch, errors
from photolabel.batch import Here, Timing, classify_folder, pipeline, predictions
from photolabel.classifier import BATCH, Classifier, Prediction
from photolabel.images import Limits, Recipe
from photolabel.prepared import Prepared, prepare
from photolabel.sources import Item
from photolabel.workers import Crew

from conftest import ROOT
from crews import HOOK, eventually, held, hook, nothing_left
from pictures import CORE, JPEG, PNG, encoded, exif_block, picture

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

AHEAD = 64 + 5 * BATCH  # the window, and batches that wait, are at work or are being handed out


@pytest.fixture(scope="module")
def classifier(tiny: Path) -> Iterator[Classifier]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTOLABEL_CACHE", str(tiny.parent / "cache"))
        with photolabel.load(tiny, threads=1) as loaded:
            yield loaded


@pytest.fixture(autouse=True)
def _tidy(classifier: Classifier) -> Iterator[None]:
    classifier.classify(PNG)  # OpenVINO's own threads are there
    with nothing_left():
        yield


def plant(folder: Path, names: Iterable[str], data: bytes = PNG) -> list[Item]:
    items = []
    for name in names:
        (folder / name).write_bytes(data)
        items.append(Item(photo=name, path=str(folder / name)))
    return items


class Late:
    """Decoders that give each photo when they are told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Item, Future[Prepared]]] = []

    def prepare(self, item: Item, recipe: Recipe, limits: Limits) -> Future[Prepared]:
        self.asked.append((item, Future()))
        return self.asked[-1][1]

    def give(self, number: int, recipe: Recipe) -> None:
        item, future = self.asked[number]
        future.set_result(prepare(item.file(), recipe, name=item.photo))


# --- The same answers, in order ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixture")
    photos = {
        **CORE, "turned": encoded(picture(), "JPEG", exif=exif_block(6)), "cmyk": encoded(picture(mode="CMYK"), "JPEG"),
        "alpha": encoded(picture(mode="RGBA"), "PNG"), "large": encoded(picture(900, 700), "JPEG"),
        "cut": JPEG[:-500], "empty": b"", "text": b"no photo",
    }  # fmt: skip
    for number, (name, data) in enumerate(sorted(photos.items())):
        (folder / f"{number:02} {name}.jpg").write_bytes(data)
    for number in range(20):
        noise = np.random.default_rng(number).integers(0, 256, (50, 40, 3), np.uint8)
        (folder / f"noise {number:02}.png").write_bytes(encoded(photolabel.images.Image.fromarray(noise), "PNG"))
    (folder / "noise 05 cut.png").write_bytes(PNG[:-30])
    os.mkfifo(folder / "pipe.jpg")
    with tarfile.open(folder.parent / "more.tar.gz", "w:gz") as tar:
        for name, data in (("a.jpg", JPEG), ("b.png", PNG[:-40]), ("c.png", PNG)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return folder


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_and_workers_change_nothing(workers: int, mixture: Path, classifier: Classifier) -> None:
    listed = [mixture, mixture.parent / "more.tar.gz", mixture / "none.jpg"]
    found = list(classify_folder(listed, classifier, top=3, workers=workers))
    names = [*sorted(str(path) for path in mixture.iterdir())]
    names += [f"{mixture.parent}/more.tar.gz/{name}" for name in ("a.jpg", "b.png", "c.png")]
    assert [each.photo for each in found] == [*names, str(mixture / "none.jpg")]
    assert len(found) > 2 * BATCH
    alone = {"a.jpg": JPEG, "b.png": PNG[:-40], "c.png": PNG}
    for each in found:
        name = Path(each.photo or "").name
        (expected,) = classifier.classify_many([alone.get(name, each.photo)], top=3)
        assert (type(each.error), str(each.error)) == (type(expected.error), str(expected.error))
        np.testing.assert_array_equal(each.probabilities, expected.probabilities)
        assert each.labels == expected.labels and len(each.labels) == (0 if each.error else 3)
        assert (each.file, each.decoding) == (expected.file, expected.decoding)
    assert sum(each.error is not None for each in found) == 7


def test_one_photo_one_folder_or_several(tmp_path: Path, classifier: Classifier) -> None:
    items = plant(tmp_path, ["a.png", "b.png", "c.txt"])
    for given in (tmp_path, str(tmp_path), [tmp_path], iter([tmp_path]), items[:2], (item for item in items[:2])):
        found = list(classify_folder(given, classifier, workers=0))
        assert [Path(each.photo or "").name for each in found] == ["a.png", "b.png"]
    (found_one,) = classify_folder(items[0].path, classifier, workers=0, top=None)
    assert found_one.photo == items[0].path and len(found_one.labels) == 10
    (found_one,) = classify_folder(tmp_path, classifier, workers=0, include=["b*"])
    assert found_one.photo == str(tmp_path / "b.png")
    assert list(classify_folder([], classifier, workers=1)) == []


def test_the_default_classifier() -> None:
    found = list(classify_folder(ROOT / "samples" / "coffee.jpg", workers=1))
    assert [each.top.name for each in found] == ["espresso"]


def test_photos_that_kill_or_hang(tmp_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    hook(monkeypatch)
    names = [f"{n:02}.png" for n in range(20)]
    for at, how in ((3, "segv-03.png"), (7, "sleep-07.png"), (11, "stop-11.png"), (19, "exit-19.png")):
        names[at] = how
    items = plant(tmp_path, names)
    found = list(classify_folder(items, classifier, workers=2, seconds=1))
    assert [each.photo for each in found] == names
    assert {each.photo: each.error.code for each in found if each.error} == {
        "segv-03.png": "decoder-crashed",
        "sleep-07.png": "photo-too-slow",
        "stop-11.png": "photo-too-slow",
        "exit-19.png": "decoder-crashed",
    }


def test_order_is_kept_whoever_is_first(tmp_path: Path, classifier: Classifier) -> None:
    late, items = Late(), plant(tmp_path, [f"{n}.png" for n in range(50)])
    stream = predictions(items, classifier, late, top=1)

    def give() -> None:
        assert eventually(lambda: len(late.asked) == 50)
        for number in np.random.default_rng(1).permutation(50):
            late.give(int(number), classifier.recipe)

    thread = threading.Thread(target=give)
    thread.start()
    assert [each.photo for each in stream] == [item.photo for item in items]
    thread.join()


def test_the_parts_are_timed(tmp_path: Path, classifier: Classifier) -> None:
    timing = Timing()
    with Crew(1) as crew:
        list(predictions(plant(tmp_path, ["a.png"]), classifier, crew, top=1, timing=timing))
    assert timing.reading > 0 and timing.decoding > 0 and timing.network > 0


# --- What goes wrong ---------------------------------------------------------------------------------------


def failing(items: list[Item], error: BaseException) -> Iterator[Item]:
    yield from items
    raise error


@pytest.mark.parametrize(("workers", "count"), [(0, 0), (0, 3), (0, BATCH), (0, 40), (1, 20)])
def test_what_the_source_raises_comes_after_what_it_gave(
    workers: int, count: int, tmp_path: Path, classifier: Classifier
) -> None:
    items = plant(tmp_path, [f"{n}.png" for n in range(count)])
    for error in (errors.UsageError("the list ends here"), KeyError("a mistake"), SystemExit(3)):
        stream = classify_folder(failing(items, error), classifier, workers=workers)
        for item in items:
            assert next(stream).photo == item.photo
        with pytest.raises(type(error)) as caught:
            next(stream)
        assert caught.value is error
        del caught, stream


def test_what_the_decoders_raise_does_too(tmp_path: Path, classifier: Classifier) -> None:
    late = Late()
    stream = predictions(plant(tmp_path, ["a.png", "b.png", "c.png"]), classifier, late, top=1)
    threading.Timer(0.2, lambda: (late.give(0, classifier.recipe), late.asked[1][1].set_exception(OSError(5)))).start()
    assert next(stream).photo == "a.png"
    with pytest.raises(OSError):
        next(stream)


def test_what_the_network_raises_is_the_callers(
    tmp_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, batches = plant(tmp_path, [f"{n}.png" for n in range(200)]), []
    original = Classifier.predict

    def predict(self: Classifier, each: Any, **options: Any) -> list[Prediction]:
        batches.append(len(each))
        if len(batches) == 3:
            raise errors.InvalidModelError("its network does not answer")
        return original(self, each, **options)

    monkeypatch.setattr(Classifier, "predict", predict)
    found = []
    with pytest.raises(errors.InvalidModelError, match="does not answer"):
        for each in classify_folder(items, classifier, workers=1):
            found.append(each.photo)
    assert found == [item.photo for item in items[: sum(batches[:2])]]


def test_workers_that_are_closed_meanwhile_do_not_end_a_run_quietly(tmp_path: Path, classifier: Classifier) -> None:
    items = plant(tmp_path, [f"{n}.png" for n in range(100)])
    crew = Crew(1)
    stream = predictions(items, classifier, crew, top=1)
    next(stream)
    crew.close()
    with pytest.raises(errors.UsageError, match="closed"):
        list(stream)


def test_where_no_worker_can_be_started(
    tmp_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path, ["a.png"])
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(errors.UsageError, match="workers=0"):
        list(classify_folder(tmp_path, classifier, workers=1))
    assert len(list(classify_folder(tmp_path, classifier, workers=0))) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": -1}, {"workers": 257}, {"workers": 1.0}, {"workers": "2"}, {"workers": True},
        {"seconds": 0}, {"seconds": -1}, {"seconds": float("nan")}, {"seconds": float("inf")}, {"seconds": "1"},
        {"top": 0}, {"top": "all"}, {"include": ["["]}, {"classifier": "vgg16"}, {"photos": b"photos"},
    ],
)  # fmt: skip
def test_wrong_arguments(wrong: dict[str, Any], tmp_path: Path, classifier: Classifier) -> None:
    given = {"photos": tmp_path, "classifier": classifier, "workers": 1, **wrong}
    if wrong == {"include": ["["]}:  # whatever patterns can be wrong
        given["include"] = [""]
    with pytest.raises(errors.UsageError):
        list(classify_folder(**given))


def test_by_default_there_is_a_worker_for_each_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch.engine, "available_threads", lambda: 3)
    with ExitStack() as stack:
        made = batch.crew(None, stack=stack)
        assert isinstance(made, Crew) and len(made._workers) == 3
        assert isinstance(batch.crew(0, stack=stack), Here)


# --- Neither too early nor too late --------------------------------------------------------------------------


def test_a_photo_does_not_wait_for_the_next(tmp_path: Path, classifier: Classifier) -> None:
    """The source may be a camera: what it has given is named, though it says nothing more for hours."""
    more = threading.Event()

    def source() -> Iterator[Item]:
        yield from plant(tmp_path, ["a.png", "b.png"])
        more.wait(60)
        yield from plant(tmp_path, ["c.png"])

    for workers in (0, 1):
        more.clear()
        stream = classify_folder(source(), classifier, workers=workers)
        begun = time.monotonic()
        assert [next(stream).photo, next(stream).photo] == ["a.png", "b.png"]
        assert time.monotonic() - begun < 20
        more.set()
        assert [each.photo for each in stream] == ["c.png"]


def test_nor_for_a_full_batch(tmp_path: Path, classifier: Classifier) -> None:
    (item,) = plant(tmp_path, ["a.png"])
    asked = 0

    def source() -> Iterator[Item]:
        nonlocal asked
        for asked in range(1, 17):  # noqa: B007
            yield item
            time.sleep(0.3)

    stream = classify_folder(source(), classifier, workers=0)
    next(stream)
    assert asked < 12, "some 3: half a second's"
    stream.close()


def test_nor_for_one_that_is_slow(tmp_path: Path, classifier: Classifier) -> None:
    late = Late()
    stream = predictions(plant(tmp_path, ["a.png", "b.png", "c.png"]), classifier, late, top=1)
    threading.Timer(0.1, lambda: [late.give(number, classifier.recipe) for number in (0, 2)]).start()
    assert next(stream).photo == "a.png", "the second is not done"
    late.give(1, classifier.recipe)
    assert [each.photo for each in stream] == ["b.png", "c.png"]


def most_ahead(item: Item, classifier: Classifier, workers: int, *, taking: int) -> int:
    """By how many photos a run is ahead of one who takes so many Predictions, and pauses twice."""
    asked = 0

    def source() -> Iterator[Item]:
        nonlocal asked
        while asked < 5000:
            asked += 1
            yield item

    most = 0
    with closing(classify_folder(source(), classifier, workers=workers)) as stream:  # type: ignore[type-var]
        for taken in range(1, taking):
            next(stream)
            if taken in (1, taking // 2):
                time.sleep(1)  # time to run away
            most = max(most, asked - taken)
    return most


@pytest.mark.parametrize("workers", [0, 2])
def test_a_slow_consumer_bounds_all(workers: int, tmp_path: Path, classifier: Classifier) -> None:
    (item,) = plant(tmp_path, ["a.png"])
    assert 64 <= most_ahead(item, classifier, workers, taking=200) <= AHEAD


def test_photos_that_hold_their_bytes_are_bounded_by_them(classifier: Classifier, tmp_path: Path) -> None:
    late = Late()
    with photolabel.load(classifier.network, threads=1, limits=Limits(file_bytes=1_000_000)) as small:
        sizes = [600_000, 300_000, 100_000, 1, 5_000_000, 600_000]
        items = [Item(photo=str(n), data=PNG + bytes(size - min(size, len(PNG)))) for n, size in enumerate(sizes)]
        items[3] = Item(photo="3", data=b"1")
        stream = predictions(items, small, late, top=1)
        found: list[Prediction] = []
        thread = threading.Thread(target=lambda: found.extend(stream))
        thread.start()

        def are_asked(count: int) -> bool:
            return eventually(lambda: len(late.asked) == count) and not eventually(lambda: len(late.asked) > count, 0.3)

        assert are_asked(3), "the fourth is above the limit, by one byte"
        late.give(2, small.recipe)
        assert are_asked(4)
        for number in (0, 1, 3):
            late.give(number, small.recipe)
        assert are_asked(5), "what is larger than the limit, alone"
        late.give(4, small.recipe)
        assert are_asked(6)
        late.give(5, small.recipe)
        thread.join(20)
        assert [each.photo for each in found] == list("012345")


def test_their_bytes_are_let_go(classifier: Classifier) -> None:
    import tracemalloc

    def source() -> Iterator[Item]:
        for number in range(120):
            yield Item(photo=str(number), data=PNG + bytes(2_000_000))

    with photolabel.load(classifier.network, threads=1, limits=Limits(file_bytes=10_000_000)) as small:
        for workers in (0, 1):
            tracemalloc.start()
            try:
                for _ in classify_folder(source(), small, workers=workers):
                    assert tracemalloc.get_traced_memory()[0] < 40_000_000
            finally:
                tracemalloc.stop()


# --- Many views a photo -------------------------------------------------------------------------------------

# Views, how many inputs they are, and so how many photos go together and how many may be ahead.
MANY = [("mirror", 2, 8, 32), ("ten-crop", 10, 2, 6), ("multi-crop", 50, 1, 4), ("multi-crop+dense", 52, 1, 4)]


@pytest.fixture(scope="module", params=MANY, ids=lambda given: given[0])
def looking(request: pytest.FixtureRequest, tiny: Path) -> Iterator[tuple[Classifier, int, int]]:
    """A classifier of many views, and what its runs are bounded by: photos in a batch, and ahead."""
    views, inputs, together, ahead = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTOLABEL_CACHE", str(tiny.parent / "cache"))
        with photolabel.load(tiny, views=views, threads=1) as loaded:
            assert sum(recipe.inputs for recipe in loaded.recipes) == inputs
            yield loaded, together, ahead


@pytest.mark.parametrize("workers", [0, 2])
def test_many_views_are_the_same_however_they_run(
    workers: int, mixture: Path, looking: tuple[Classifier, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, together, _ = looking
    sizes = []
    original = Classifier.predict

    def predict(self: Classifier, each: Any, **options: Any) -> list[Prediction]:
        sizes.append(len(each))
        return original(self, each, **options)

    photos = [path for path in sorted(mixture.iterdir()) if path.is_file()][:24]
    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "predict", predict)
        found = list(classify_folder(photos, classifier, top=3, workers=workers))
    assert sum(sizes) == len(found) == len(photos) and max(sizes) == together
    for photo, each, expected in zip(photos, found, classifier.classify_many(photos, top=3), strict=True):
        assert each.photo == str(photo) and each.record() == expected.record()
        np.testing.assert_array_equal(each.probabilities, expected.probabilities)
    assert sum(each.error is not None for each in found) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_many_views_are_bounded_by_their_inputs(
    workers: int, tmp_path: Path, looking: tuple[Classifier, int, int]
) -> None:
    classifier, together, ahead = looking
    (item,) = plant(tmp_path, ["a.png"])
    assert ahead <= most_ahead(item, classifier, workers, taking=60) <= ahead + 5 * together


def test_of_many_views_one_that_kills_its_worker_costs_no_more(
    tmp_path: Path, looking: tuple[Classifier, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(monkeypatch)
    items = plant(tmp_path, [*(f"{n}.png" for n in range(5)), "segv-5.png", *(f"{n}.png" for n in range(6, 12))])
    found = list(classify_folder(items, looking[0], workers=2))
    assert [each.error and each.error.code for each in found] == [*[None] * 5, "decoder-crashed", *[None] * 6]


# --- Nothing is left -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "taken"), [(0, 0), (0, 1), (0, 100), (1, 0), (1, 1), (2, 20)])
def test_the_caller_may_stop_early(workers: int, taken: int, tmp_path: Path, classifier: Classifier) -> None:
    items = plant(tmp_path, ["a.png"]) * 300
    with nothing_left():
        stream = classify_folder(items, classifier, workers=workers)
        for _ in range(taken):
            next(stream)
        time.sleep(0.3)  # all that can be done ahead is done
        begun = time.monotonic()
        stream.close()
        assert time.monotonic() - begun < 10
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_is_over_is_gone_without_the_collector(
    workers: int, tmp_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds photos."""
    runs: list[weakref.ref[Any]] = []
    original = pipeline._Run.__init__
    monkeypatch.setattr(
        pipeline._Run, "__init__", lambda self, *given: (original(self, *given), runs.append(weakref.ref(self)))[1]
    )
    items = plant(tmp_path, ["a.png"]) * 100

    def broken() -> Iterator[Item]:
        yield from items
        raise KeyError

    class Broken(Classifier):
        def __init__(self) -> None:
            self.__dict__.update(classifier.__dict__)

        def predict(self, batch: Any, **options: Any) -> Any:
            if batch:
                raise KeyError
            return []

    gc.collect()
    gc.disable()
    try:
        for source in (items, broken()):
            stream = classify_folder(source, classifier, workers=workers)
            next(stream)
            stream.close()
        assert len(list(classify_folder(items, classifier, workers=workers))) == 100
        with suppress(KeyError):
            list(classify_folder(broken(), classifier, workers=workers))
        with suppress(KeyError):
            list(classify_folder(items, Broken(), workers=workers))
        assert len(runs) == 5 and eventually(lambda: not [1 for run in runs if run()], 5)
    finally:
        gc.enable()


def test_or_just_leave(tmp_path: Path, classifier: Classifier) -> None:
    items = plant(tmp_path, ["a.png"]) * 300
    for _ in classify_folder(items, classifier, workers=2):
        break
    classifier.classify(PNG)  # it is the caller's, and goes on


def test_an_archive_is_closed_when_the_caller_stops(tmp_path: Path, classifier: Classifier) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number in range(300):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(PNG)
            tar.addfile(member, io.BytesIO(PNG))
    stream = classify_folder(tmp_path / "a.tar", classifier, workers=1)
    next(stream)
    stream.close()  # the rest is looked at by _tidy


def leaks(run: Any) -> tuple[set[int], set[int]]:
    """How many descriptors and threads there are meanwhile, after a start."""
    seen = [held() for _ in run][40:]
    return {each[0] for each in seen}, {each[1] for each in seen}


def test_300_photos_hold_no_more_than_40(tmp_path: Path, classifier: Classifier) -> None:
    names = [f"{n:03}.png" for n in range(300)]
    items = plant(tmp_path, names)
    for n in range(0, 300, 3):
        Path(items[n].path).write_bytes(PNG[:-30])
    gc.collect()
    most_open, most_threads = 2, 2  # those that have ended at the end: the source's and the network's

    with Crew(1) as crew:
        descriptors, threads = leaks(predictions(items, classifier, crew, top=1))
        assert max(descriptors) - min(descriptors) <= most_open
        assert max(threads) - min(threads) <= most_threads

        # The same looks see a run that keeps what it opens.
        kept = []

        def careless() -> Iterator[Item]:
            for item in items:
                kept.append(Path(item.path).open("rb"))  # noqa: SIM115
                yield item

        descriptors, _ = leaks(predictions(careless(), classifier, crew, top=1))
        assert max(descriptors) - min(descriptors) > most_open
        for file in kept:
            file.close()


def test_an_error_of_an_item_keeps_no_traceback(classifier: Classifier) -> None:
    try:
        raise errors.CorruptPhotoError("The archive is broken.")
    except errors.PhotoError as error:
        item = Item(photo="a", error=error)
    for workers in (0, 1):
        (found,) = classify_folder([item], classifier, workers=workers)
        assert found.error is not None and found.error.__traceback__ is None and str(found.error) == str(item.error)


# --- Processes that end --------------------------------------------------------------------------------------

PROGRAM = """
import sys, time
import photolabel
from photolabel import batch, sources
from photolabel.workers import process
process._PROGRAM = process._PROGRAM.replace("child.main", {hook!r} + "child.main")
classifier = photolabel.load({tiny!r}, threads=1)
items = [sources.Item(photo=path, path=path) for path in {paths!r}]
"""


def program(tiny: Path, items: list[Item], then: str) -> list[str]:
    filled = PROGRAM.format(hook=HOOK, tiny=str(tiny), paths=[item.path for item in items])
    return [sys.executable, "-c", filled + then]


def test_ctrl_c_at_any_moment_of_waiting(tiny: Path, tmp_path: Path) -> None:
    """At every line of the caller's thread: whoever is struck within a lock that is Python keeps it locked."""
    then = """
import threading
from photolabel.batch import pipeline
pipeline._PATIENCE = 0.01
stop = threading.Event()
def source():
    yield items[0]
    stop.wait()
for number in range(40):
    stream = batch.predictions(source(), classifier, batch.Here(), top=1)
    next(stream)
    left = number
    def strike(*_):
        global left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return strike
    try:
        sys.settrace(strike)
        next(stream)
    except KeyboardInterrupt:
        sys.settrace(None)
        stream.close()
stop.set()
print("done")
"""
    done = subprocess.run(program(tiny, plant(tmp_path, ["a.png"]), then), capture_output=True, text=True, timeout=40)
    assert (done.stdout, done.stderr) == ("done\n", "")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("waiting", ["for the next", "in the loop", "with the stream kept"])
def test_ctrl_c_ends_it_quickly(workers: int, waiting: str, tiny: Path, tmp_path: Path) -> None:
    slow = workers and waiting != "in the loop"
    items = plant(tmp_path, ["a.png", *(["sleep-1.png", "sleep-2.png"] if slow else [])])
    then = {
        "for the next": "for each in batch.classify_folder(items(), classifier, workers=W): print('x', flush=True)",
        "in the loop": "for each in batch.classify_folder(items() , classifier, workers=W):\n"
        "    print('x', flush=True); time.sleep(600)",
        "with the stream kept": "stream = batch.classify_folder(items(), classifier, workers=W)\n"
        "for each in stream: print('x', flush=True)",
    }[waiting]
    endless = "given = items\ndef items():\n    yield from given\n    time.sleep(600)\n"
    command = program(tiny, items, endless + then.replace("W", str(workers)))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.readline() == b"x\n"
        time.sleep(0.2)
        begun = time.monotonic()
        running.send_signal(signal.SIGINT)
        said = running.stderr.read()
        assert running.wait(60) == -signal.SIGINT and said.endswith(b"KeyboardInterrupt\n"), said
        assert time.monotonic() - begun < 5  # 0.1 when nothing else goes on


def test_a_process_that_ends_lets_the_network_finish(tiny: Path, tmp_path: Path) -> None:
    """OpenVINO that comes back to an interpreter which is gone aborts the process ("terminate called without ...")."""
    items = plant(tmp_path, ["a.png"])
    then = """
original = type(classifier).predict
def predict(self, prepared, **options):
    print("begun", flush=True)
    time.sleep(1)
    print("finished", flush=True)
    return original(self, prepared, **options)
type(classifier).predict = predict
stream = batch.classify_folder(items * 100, classifier, workers=0)
next(stream)
"""
    done = subprocess.run(program(tiny, items, then), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("begun") == done.stdout.count("finished") > 0
