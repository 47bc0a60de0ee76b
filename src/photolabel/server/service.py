"""What an application holds: its table of models, the workers that decode, and how much is in the house."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..errors import UsageError
from ..tree import everyday
from .admission import Admission
from .batching import BEHIND, Asked, Batcher
from .closer import Closer
from .figures import Figures
from .guard import Receive, gone
from .parts import Layers, Parts
from .problems import UNAVAILABLE, GoneError, RefusedError, refused
from .settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..classifier import Classifier
    from ..prediction import Prediction
    from ..workers import Crew
    from .forms import Upload

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", re.ASCII)
_PARTING = 1.5  # seconds that a batch which is under way may take at the end

_T = TypeVar("_T")


class Service:
    """Classifiers by name, and the way to them. `start` and `close` it in the event loop that it is used in.

    `classifiers` are one, or a table of them by the names that requests call them by; the first is the default. They
    stay their owner's, who closes them afterwards. `models` is what may be known of each, as plain values. Raises
    `UsageError` for names that cannot be asked for.
    """

    def __init__(self, classifiers: Classifier | Mapping[str, Classifier], settings: Settings) -> None:
        table = dict(classifiers) if isinstance(classifiers, Mapping) else {classifiers.model.name: classifiers}
        if not table:
            raise UsageError("expected at least one classifier.")
        for name in table:
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise UsageError(
                    f"{name!r}: expected a name of letters, digits and . _ + - for a model. Give it one: NAME=FILE."
                )
        self.settings = settings
        self.classifiers: Mapping[str, Classifier] = table
        self.default = next(iter(table))
        self.admission = Admission(
            photos=settings.queue,
            held=settings.held_bytes,
            caller_photos=settings.caller_photos,
            caller_held=settings.caller_bytes,
        )
        self._coverings = Admission(
            photos=settings.explanations,
            held=settings.held_bytes,
            caller_photos=max(1, settings.explanations // 2),
            what="explanations",
        )
        self.figures = Figures()
        self.draining = False
        # Made once: they do not change, there may be thousands of labels, and a digest may want a whole file read.
        self._labels = {name: _labels(classifier) for name, classifier in table.items()}
        self.layers = {name: Layers(classifier, settings.layers) for name, classifier in table.items()}
        for layer in settings.layers:
            if not any(layer in each.names for each in self.layers.values()):
                raise UsageError(f"layers: {layer!r}: none of the models has a layer that is called so.")
        self.models = [
            _described(name, each, default=name == self.default, layers=self.layers[name].names)
            for name, each in table.items()
        ]
        self._batchers: dict[str, Batcher] = {}
        self._closer: dict[str, Closer] = {}
        self._crew: Crew | None = None
        self._aside: ThreadPoolExecutor | None = None

    # -- its life

    def start(self) -> None:
        """Start the workers and a thread a model."""
        from ..engine import available_threads
        from ..workers import Crew

        settings = self.settings
        workers = settings.workers or available_threads()
        self._aside = ThreadPoolExecutor(1, "photolabel-aside")
        self._crew = Crew(workers, seconds=settings.photo_seconds, behind=BEHIND, took=self.figures.decode_seconds.add)
        for name, classifier in self.classifiers.items():
            limits = replace(
                classifier.limits,
                pixels=min(classifier.limits.pixels, settings.pixels),
                file_bytes=min(classifier.limits.file_bytes, settings.body_bytes),
            )
            self._batchers[name] = Batcher(
                classifier,
                self._crew,
                limits=limits,
                inputs=settings.batch,
                wait=settings.wait_seconds,
                decoding=workers,
                ran=partial(self.figures.run, name),
            )
            self._closer[name] = Closer(
                classifier=classifier,
                batcher=self._batchers[name],
                parts=Parts(classifier),
                coverings=self._coverings,
                most=settings.batch,
            )

    def drain(self) -> None:
        """Say from now on that it is not ready, and take no photos; those that are in the house get their answers."""
        self.draining = True

    async def close(self) -> None:
        """End the workers and the threads, in whatever they are doing."""
        self.draining = True
        batchers, self._batchers = list(self._batchers.values()), {}
        closer, self._closer = list(self._closer.values()), {}
        for batcher in batchers:
            batcher.close()
        if self._aside is not None:
            self._aside.shutdown(wait=False, cancel_futures=True)
            self._aside = None
        if self._crew is not None:
            await asyncio.to_thread(self._crew.close)
            self._crew = None
        until = time.monotonic() + _PARTING
        for each in closer:
            # What is at work for too long is left to the process' end.
            if await asyncio.to_thread(each.batcher.join, max(0.0, until - time.monotonic())):
                each.parts.close()

    @property
    def ready(self) -> bool:
        """Whether photos are taken, and no network has been at one batch for far too long."""
        stuck = any(each.running_for > self.settings.stuck_seconds for each in self._batchers.values())
        return bool(self._batchers) and not self.draining and not stuck

    @property
    def workers_died(self) -> int:
        """How many of the processes that decode have ended over a photo."""
        return 0 if self._crew is None else self._crew.deaths

    # -- what it does

    def named(self, name: str | None) -> str:
        """Return the name of a model, the default one's for None. Raises `RefusedError` where there is none such."""
        if name is None:
            return self.default
        if name not in self.classifiers:
            raise refused("unknown-model", f"This service has: {', '.join(self.classifiers)}.")
        return name

    def check_room(self) -> None:
        """Raise the refusal of any photo while none can be taken."""
        if self.draining or not self._batchers:
            raise RefusedError(UNAVAILABLE)
        self.admission.check()

    def check(self, model: str, asked: Asked) -> None:
        """Raise the refusal of a request for photos that could not be answered, before any are read."""
        self.check_room()
        self.classifiers[model].predict([], top=asked.top, sure=asked.sure, coverage=asked.coverage)

    def closer(self, model: str) -> Closer:
        """Return the way to a closer look at photos by a model. Raises `RefusedError` where there is none any more."""
        if (found := self._closer.get(model)) is None:
            raise RefusedError(UNAVAILABLE)
        return found

    async def answer(self, work: Callable[[], Coroutine[Any, Any, _T]], receive: Receive) -> _T:
        """Return what `work` returns, which is about one photo, once that is admitted. Raises as `classify` does."""
        with self.admission.admitted(1):
            return await _while_there(work(), receive)

    async def classify(self, uploads: Sequence[Upload], model: str, asked: Asked, receive: Receive) -> list[Prediction]:
        """Name what is in photos, one Prediction each; what is wrong with one is in its own.

        All are admitted, or none: raises `RefusedError`. If the client goes meanwhile, which `receive` tells, they are
        taken out of the way: raises `GoneError`.
        """
        if (batcher := self._batchers.get(model)) is None:
            raise RefusedError(UNAVAILABLE)
        with self.admission.admitted(len(uploads)):
            return await _while_there(_all(batcher, uploads, asked), receive)

    async def infer(self, pixels: NDArray[Any], model: str, receive: Receive) -> NDArray[np.float32]:
        """Return the network's own probabilities of prepared pixels, as `Classifier.run` does; an input is a photo.

        `pixels` are numbers 0..255 (N, size, size, 3). They run some at a time, so that others have their turns in
        between. Raises as `classify` does.
        """
        if (batcher := self._batchers.get(model)) is None:
            raise RefusedError(UNAVAILABLE)
        with self.admission.admitted(len(pixels)):
            return await _while_there(_inferred(batcher, pixels, self.settings.batch), receive)

    async def aside(self, work: Callable[[], _T]) -> _T:
        """Return what `work` returns, called in a thread beside the event loop, one such call at a time."""
        if self._aside is None:
            raise RefusedError(UNAVAILABLE)
        return await asyncio.get_running_loop().run_in_executor(self._aside, work)

    def labels(self, model: str) -> bytes:
        """Return a model's classes, as JSON."""
        return self._labels[model]


async def _all(batcher: Batcher, uploads: Sequence[Upload], asked: Asked) -> list[Prediction]:
    if len(uploads) == 1:
        return [await batcher.predict(uploads[0].data, uploads[0].name, asked)]
    tasks = [asyncio.ensure_future(batcher.predict(each.data, each.name, asked)) for each in uploads]
    try:
        return await asyncio.gather(*tasks)
    finally:  # one that failed takes the others along
        for task in tasks:
            task.cancel()


async def _inferred(batcher: Batcher, pixels: NDArray[Any], most: int) -> NDArray[np.float32]:
    parts = np.split(pixels, range(most, len(pixels), most))
    return np.concatenate([await batcher.run(partial(_run, part)) for part in parts])


def _run(pixels: NDArray[Any], classifier: Classifier) -> NDArray[np.float32]:
    try:
        return classifier.run(pixels.astype(np.float32))
    except UsageError:  # that it takes pixels has been checked, so it is closed: the service is ending
        raise RefusedError(UNAVAILABLE) from None


async def _while_there(work: Coroutine[Any, Any, _T], receive: Receive) -> _T:
    """Return what `work` returns; cancel it if the client goes, and raise `GoneError`."""
    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(gone(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise GoneError
        return working.result()
    finally:
        working.cancel()
        watching.cancel()


def _described(name: str, classifier: Classifier, *, default: bool, layers: Sequence[str]) -> dict[str, Any]:
    model, calibration = classifier.model, classifier.calibration
    return {
        "name": name,
        "default": default,
        "model": model.name,
        "classes": len(model.labels),
        "recipe": "+".join(str(recipe) for recipe in classifier.recipes),
        "precision": classifier.precision,
        "digest": classifier.digest,
        "calibration": None if calibration is None else calibration.digest,
        "licence": model.licence,
        "layers": list(layers),
    }


def _labels(classifier: Classifier) -> bytes:
    labels = [
        {"index": each.index, "wnid": each.wnid, "name": each.name, "everyday": everyday(each.wnid)}
        for each in classifier.model.labels
    ]
    return json.dumps({"labels": labels}).encode("ascii")
