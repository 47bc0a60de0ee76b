"""What is shown while a network is taught: how many photos are done, what is wrong with one, how far it has come."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from .. import progress
from ..errors import ClusterError
from ..output import printable
from ..page import percent
from ..teaching import Step
from .streams import Terminated, complain

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..errors import PhotoError
    from ..progress import Watch
    from ..teaching.epochs import Epoch
    from ..teaching.examples import Survey


class Watched:
    """One teaching, as a waiting person sees it. Use it in a `with` block; `step` is what the teaching is to call.

    What is wrong with photos and folders is said whatever the `watch` shows.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch, self._bars = watch, ExitStack()
        self._failed = self._done = 0
        self._fitting = False
        self._bar: Callable[[int, int], None] | None = None

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._hide()

    @property
    def step(self) -> Step:
        """What is to be called while it lasts."""
        return Step(counted=self._counted, photo=self._photo, fit=self._fit, train=self._train, epoch=self._epoch)

    def stopped(self, stop: KeyboardInterrupt) -> KeyboardInterrupt:
        """What to tell whoever stopped us."""
        if not self._done or str(stop):  # whoever was at work knows better what is kept
            return type(stop)(str(stop).removesuffix(" (resume=True)"))
        return type(stop)(f"{how(stop)}; {self._kept}")

    def failed(self, error: ClusterError) -> ClusterError:
        """What to tell whoever's cluster has failed."""
        if not self._done:
            return error
        return ClusterError(f"{error} {self._kept}")

    @property
    def _kept(self) -> str:
        return f"what was computed of {self._done:,} photos is kept: the same command goes on from there"

    def _counted(self, learnt: Survey, held: Survey | None) -> None:
        self._watch.total = learnt.photos + (0 if held is None else held.photos)
        for survey in (learnt, held):
            for folder in () if survey is None else survey.empty:
                complain(f"{folder}: there are no photos in it, so no class is called as it is")
            if survey is not None and survey.unused:
                complain(f"{survey.unused:,} lines of the table are of no photo that was found")

    def _photo(self, name: str, error: PhotoError | None) -> None:
        self._done += 1
        if error is not None:
            self._failed += 1
            self._watch.hide()
            complain(f"{name}: {error}")
        self._watch.step(errors=self._failed, last=printable(name))

    def _fit(self, done: int, total: int) -> None:
        if not self._fitting and self._watch.plain:
            complain(f"{self._done:,} photos were looked at; now a head is fitted to them")
        self._fitting = True
        self._move("fitting", "fit", done, total)

    def _train(self, done: int, total: int) -> None:
        self._move("training", "photo", done, total)

    def _epoch(self, epoch: Epoch) -> None:
        self._hide()
        if not self._watch.shown:
            return
        held = f"held out: loss {epoch.held_loss:.4f}, {percent(epoch.held_accuracy)} right"
        if epoch.loss is None or epoch.accuracy is None:
            complain(f"the frozen network; {held}")
            return
        learnt = f"loss {epoch.loss:.4f}, {percent(epoch.accuracy)} right"
        best = ", the best so far" if epoch.best else ""
        complain(f"epoch {epoch.number} of {epoch.most}: {learnt}; {held}{best}")

    def _move(self, title: str, unit: str, done: int, total: int) -> None:
        if not self._watch.shown or self._watch.plain:
            return
        if self._bar is None:
            self._watch.hide()
            self._bar = self._bars.enter_context(progress.bar(title, total=total, unit=unit))
        self._bar(done, total)
        if done >= total:
            self._hide()

    def _hide(self) -> None:
        self._watch.hide()
        self._bars.close()
        self._bar = None


def how(stop: KeyboardInterrupt) -> str:
    """Return how it was stopped."""
    return "terminated" if isinstance(stop, Terminated) else "interrupted"
