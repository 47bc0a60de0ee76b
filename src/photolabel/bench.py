"""A quick look at how fast this machine is. The suite that compares with other tools is `make bench`, in bench/."""

from __future__ import annotations

import io
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from . import batch, engine, progress, sources
from .classifier import BATCH, Classifier
from .errors import UsageError
from .loading import load
from .prepared import prepare

SCHEMA = "photolabel-bench/1"
_RUNS = 5
_PHOTOS = 96  # of the packaged ones, over and over, where no others are given
_CAMERA = (4000, 3000)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One model at one precision on this machine; all but `photos_per_second` are medians, in milliseconds.

    `one` and `batched` are the network alone, a photo at a time and in batches of `BATCH`, for each photo; `reading`
    and `reading_camera` one processor's time to read, decode and prepare a small photo, and a JPEG of 12 megapixels;
    `photos_per_second` is a folder's as a whole, all processors at work.
    """

    processor: str
    threads: int
    runtime: str
    model: str
    recipe: str
    precision: str
    loading: float
    one: float
    batched: float
    reading: float
    reading_camera: float
    photos: int
    photos_per_second: float

    def record(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"schema": SCHEMA, **asdict(self)}


def measure(
    model: str | None = None,
    photos: Iterable[str] = (),
    *,
    precision: str = "fp32",
    threads: int | None = None,
    runtime: str = "openvino",
) -> Speed:
    """Measure a model, by default the default one, on photos, by default packaged ones. Takes some seconds.

    The cache is warmed first, so a network that is compiled or made int8 for the first time costs nothing here. Raises
    what `photolabel.load` raises, and `UsageError` where none of the photos can be read.
    """
    load(model, precision=precision, threads=threads, engine=runtime).close()
    begun = time.perf_counter()
    with ExitStack() as stack:
        classifier = stack.enter_context(load(model, precision=precision, threads=threads, engine=runtime))
        loading = time.perf_counter() - begun
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        items = list(sources.find(photos)) or list(sources.find([_packaged(folder)]))
        with progress.status("measuring ..."):
            made = [each for item in items[:BATCH] if (each := _prepared(item, classifier)).pixels is not None]
            if not made:
                raise UsageError("none of the photos can be read: give at least one that can.")
            full = (made * BATCH)[:BATCH]
            small = items[:BATCH]
            one = _median(lambda: classifier.predict(full[:1]))
            batched = _median(lambda: classifier.predict(full)) / BATCH
            reading = _median(lambda: [_prepared(item, classifier) for item in small]) / len(small)
            large = sources.Item(photo="camera.jpg", data=_camera())
            reading_camera = _median(lambda: _prepared(large, classifier))
            decoders = batch.crew(None, stack=stack)
            for each in batch.predictions(items[:BATCH], classifier, decoders, top=1):
                del each  # the workers have started by now
            begun = time.perf_counter()
            done = sum(1 for _ in batch.predictions(items, classifier, decoders, top=1))
            rate = done / (time.perf_counter() - begun)
        return Speed(
            processor=engine.processor().device,
            threads=threads or engine.available_threads(),
            runtime=runtime,
            model=classifier.model.name,
            recipe=classifier.recipe.name,
            precision=classifier.precision,
            loading=loading * 1000,
            one=one,
            batched=batched,
            reading=reading,
            reading_camera=reading_camera,
            photos=done,
            photos_per_second=rate,
        )


def _median(work: Callable[[], object]) -> float:
    """Milliseconds of some runs, after one that is not counted."""
    work()
    seconds = []
    for _ in range(_RUNS):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds) * 1000


def _prepared(item: sources.Item, classifier: Classifier) -> Any:
    return prepare(item.file(classifier.limits), classifier.recipe, limits=classifier.limits, name=item.photo)


def _packaged(folder: Path) -> str:
    """A folder of photos: copies of the packaged ones, which are about as large as ImageNet's."""
    packaged = sorted(resources.files("photolabel").joinpath("data", "calibration").iterdir(), key=lambda p: p.name)
    for number in range(_PHOTOS):
        source = packaged[number % len(packaged)]
        with source.open("rb") as reader, (folder / f"{number:03}.jpg").open("wb") as writer:
            shutil.copyfileobj(reader, writer)
    return str(folder)


def _camera() -> bytes:
    """A JPEG as large as a camera's: a packaged photo scaled up."""
    file = io.BytesIO()
    source = resources.files("photolabel").joinpath("data", "calibration", "coffee.jpg")
    with source.open("rb") as reader, Image.open(reader) as photo:
        photo.resize(_CAMERA, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()
