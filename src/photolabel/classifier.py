"""Photos in, Predictions out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import engine, images, tree
from .answer import Answer, familiarity, hedged, unsure
from .calibration import check_coverage
from .errors import UsageError
from .member import BATCH, Member, Network, Said, features, features_cut
from .prediction import SCHEMA, Calibrated, Names, Opinion, Opinions, Prediction, RankedLabel
from .prepared import Prepared, inputs, prepare

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from .calibration import Calibration
    from .models import Model

__all__ = ["BATCH", "DEFAULT_TOP", "SCHEMA", "Classifier", "Prediction", "RankedLabel"]

DEFAULT_TOP = 5


class Classifier:
    """A model ready to name photos, or several whose answers are averaged. Make one with `photolabel.load`.

    Safe to use from several threads at once. Close it, or use it in a `with` block, to free its memory.
    Pickles as the arguments it was loaded with: the other side loads it again.
    """

    def __init__(
        self,
        model: Model,
        run: engine.Engine,
        *,
        recipe: str | None = None,
        limits: images.Limits = images.DEFAULT_LIMITS,
        network: Network | None = None,
    ) -> None:
        self._begin([Member(model, run, model.recipe(recipe), network)], limits)

    @classmethod
    def of(
        cls,
        members: Sequence[Member],
        *,
        limits: images.Limits = images.DEFAULT_LIMITS,
        calibration: Calibration | None = None,
        floor: float | None = None,
        reload: tuple[Callable[..., Classifier], tuple[Any, ...]] | None = None,
    ) -> Classifier:
        """Return the classifier whose answers are the mean of its members'. Raises `UsageError` for unlike classes.

        `floor` is the familiarity below which a photo shows none of the classes, where no `calibration` says it.
        """
        made = cls.__new__(cls)
        made._begin(members, limits, calibration, floor, reload)
        return made

    def _begin(
        self,
        members: Sequence[Member],
        limits: images.Limits,
        calibration: Calibration | None = None,
        floor: float | None = None,
        reload: tuple[Callable[..., Classifier], tuple[Any, ...]] | None = None,
    ) -> None:
        first, *others = members
        for other in others:
            if other.model.labels != first.model.labels:
                raise UsageError(
                    f"{first.model.name} and {other.model.name} do not have the same classes in the same order, so "
                    "their answers cannot be averaged."
                )
        self._members = tuple(members)
        self._calibration, self._reload = calibration, reload
        self._floor = floor if calibration is None else calibration.floor
        self.limits = limits
        self.model = _joined([member.model for member in members])
        self.recipes = tuple(dict.fromkeys(member.recipe for member in members))

    @property
    def members(self) -> tuple[Member, ...]:
        """The networks that answer, each with how it looks at photos; mostly one."""
        return self._members

    @property
    def recipe(self) -> images.Recipe:
        """How a photo becomes the network's input; of several models, the first one's."""
        return self._members[0].recipe

    @property
    def precision(self) -> str:
        """The arithmetic in use: `fp32`."""
        return "+".join(dict.fromkeys(member.precision for member in self._members))

    @property
    def network(self) -> Path | None:
        """The ONNX file of its network; None for one that `photolabel.load` did not make, and for several."""
        known = {None if member.network is None else member.network.path for member in self._members}
        return known.pop() if len(known) == 1 else None

    @property
    def digest(self) -> str | None:
        """`sha256:` and the hash of the network's file: what answers, whatever it is called. None if there is none.

        Of several models they are joined by +.
        """
        digests = dict.fromkeys(member.digest for member in self._members)
        return None if None in digests else "+".join(str(digest) for digest in digests)

    @property
    def identity(self) -> list[Any]:
        """What its probabilities depend on, as plain values: of each member the network, the recipe, the precision."""
        return [member.identity for member in self._members]

    @property
    def several(self) -> bool:
        """Whether there are several answers to average, so that they may disagree."""
        return len(self._members) > 1 or self.recipe.inputs > 1

    @property
    def calibration(self) -> Calibration | None:
        """By what its probabilities are calibrated."""
        return self._calibration

    def classify(
        self,
        photo: images.Photo,
        *,
        top: int | None = DEFAULT_TOP,
        sure: float | None = None,
        coverage: float | None = None,
    ) -> Prediction:
        """Name what is in one photo.

        `photo` is a path, the bytes of an image file, a binary file object, a PIL image, or a NumPy array
        (H, W, 3) of uint8 RGB; none is changed. `top` is how many labels to give, None for all. `sure`,
        a probability, asks for an answer that is so sure: a class, a broader name of WordNet, or "unsure", also where
        the photo seems to show none of the classes. `coverage`, a share, asks a calibrated model for the smallest set
        of names that holds the truth so often. Raises a `PhotoError` for a photo that cannot be read, and `UsageError`
        for a wrong argument.
        """
        (prediction,) = self.predict([self._prepare(photo)], top=top, sure=sure, coverage=coverage)
        if prediction.error is not None:
            raise prediction.error
        return prediction

    def classify_many(
        self,
        photos: Iterable[images.Photo],
        *,
        top: int | None = DEFAULT_TOP,
        sure: float | None = None,
        coverage: float | None = None,
    ) -> Iterator[Prediction]:
        """Name what is in each of many photos, as they come, one Prediction a photo in the same order.

        A photo that cannot be read gives a Prediction whose `error` says why; the others go on. Each is read and
        decoded when its turn comes, in this process; for thousands of files `photolabel.classify_folder` is quicker.
        """
        self._check(top, sure, coverage)
        return (self.predict([self._prepare(photo)], top=top, sure=sure, coverage=coverage)[0] for photo in photos)

    def _prepare(self, photo: images.Photo) -> Prepared:
        return prepare(photo, *self.recipes, limits=self.limits)

    def predict(
        self,
        batch: Sequence[Prepared],
        *,
        top: int | None = DEFAULT_TOP,
        sure: float | None = None,
        coverage: float | None = None,
    ) -> list[Prediction]:
        """Name what is in photos that `prepared.prepare` prepared by this classifier's recipes, together.

        One Prediction each, in the same order; those with an error keep it. How many there are does not change what
        is said of each. The network's activations grow with them: `BATCH` is a good number.
        """
        top = self._check(top, sure, coverage)
        sound = [each.views for each in batch if each.error is None]
        found = self._opinions(sound) if sound else []
        answers = iter(found)
        return [
            self._known(each) if each.error is not None else self._prediction(each, next(answers), top, sure, coverage)
            for each in batch
        ]

    def _opinions(self, photos: Sequence[tuple[NDArray[np.uint8], ...]]) -> list[list[Said]]:
        """What each member says of each photo: of each photo a list of as many as there are members."""
        starts, start = {}, 0
        for recipe in self.recipes:
            starts[recipe] = slice(start, start + recipe.inputs)
            start += recipe.inputs
        said = [member.opinions([views[starts[member.recipe]] for views in photos]) for member in self._members]
        return [list(of_photo) for of_photo in zip(*said, strict=True)]

    def run(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's own probabilities of prepared pixels: float32 (N, classes).

        `pixels` are float32 (N, size, size, 3) RGB 0..255. Raises `UsageError` where there are several models.
        """
        return self.only().run(pixels)

    def features(self, photos: Iterable[images.Photo], *, layer: str | None = None) -> NDArray[np.float32]:
        """Return what an inner layer makes of each photo: float32 (photos, ...), maps channels last.

        `photos` are what `classify_many` takes. `layer` is by default the last one before the classes, where the
        network names it: `fc2` of a VGG (photos, 4096), `features` of the bundled model. The network up to that
        layer is opened at the first use, beside the whole one, and kept until another layer is asked for. Raises the
        `PhotoError` of the first photo that cannot be read, which it names, and `UsageError` for a wrong layer.
        """
        if isinstance(photos, str | bytes | os.PathLike):
            raise UsageError("expected several photos, as in: features([photo]).")
        layer = layer or self.only().layer_before_classes()
        running = self.part(features_cut(layer))
        ((_, shape),) = running.shapes.items()
        found = [np.empty((0, *(side or 0 for side in shape[1:])), np.float32)]
        coming = inputs(photos, self.recipe, limits=self.limits)
        while batch := list(islice(coming, BATCH)):
            found = [*(found if len(found[0]) else []), features(running, batch)]
        return np.concatenate(found)

    def part(self, cut: engine.Cut) -> engine.Engine:
        """Return a cut of the network, opened at the first use and kept until another is asked for; not to be closed.

        Raises `UsageError` for a layer that is not there, and where there are several models.
        """
        return self.only().part(cut)

    def only(self) -> Member:
        """Return its one network. Raises `UsageError` where several answers are averaged."""
        if self.several:
            raise UsageError(
                "only of one model that looks at a photo once can this be asked; this one averages several answers."
            )
        return self._members[0]

    def check_top(self, top: int | None) -> int:
        """Return how many labels `top` stands for. Raises `UsageError` for what makes no sense."""
        classes = len(self.model.labels)
        if top is None:
            return classes
        if not isinstance(top, int) or isinstance(top, bool) or top < 1:
            raise UsageError(f"top={top!r}: expected a whole number of at least 1, or None for all {classes} classes.")
        return min(top, classes)

    def _check(self, top: int | None, sure: float | None, coverage: float | None) -> int:
        if sure is not None and (not isinstance(sure, int | float) or isinstance(sure, bool) or not 0 < sure <= 1):
            raise UsageError(f"sure={sure!r}: expected a probability above 0, at most 1.")
        if coverage is not None:
            check_coverage(coverage)
            if self._calibration is None:
                raise UsageError(
                    f"coverage={coverage:g}: only a model that was calibrated can promise it, and {self.model.name} "
                    "as it is used here was not. Calibrate it with photos of known classes: photolabel calibrate DIR, "
                    "with the same precision, recipe and views."
                )
            self._calibration.least(coverage)
        return self.check_top(top)

    def _known(self, photo: Prepared) -> Prediction:
        """What is known of a photo before the network has seen it."""
        return Prediction(
            photo=photo.photo,
            model=self.model.name,
            recipe="+".join(dict.fromkeys(str(recipe) for recipe in self.recipes)),
            precision=self.precision,
            error=photo.error,
            file=photo.file,
            decoding=photo.decoding,
        )

    def _prediction(
        self,
        photo: Prepared,
        opinions: list[Said],
        top: int,
        sure: float | None,
        coverage: float | None,
    ) -> Prediction:
        # Its own: a view would keep the whole batch's alive.
        probabilities = np.mean([np.mean(each.probabilities, axis=0) for each in opinions], axis=0)
        said = _compared(self._members, opinions, probabilities)
        none = sure is not None and self._shows_none(opinions, probabilities)
        if self._calibration is not None:
            probabilities = self._calibration.probabilities(probabilities)
        probabilities.setflags(write=False)
        best = np.argsort(-probabilities, kind="stable")  # ties: the lower index first
        labels = self.model.labels
        return replace(
            self._known(photo),
            labels=tuple(RankedLabel.of(labels[i], probabilities) for i in best[:top]),
            answer=None if sure is None else self._answer(probabilities, sure, none=none),
            names=None if coverage is None else self._names(probabilities, coverage),
            opinions=said,
            calibration=None
            if self._calibration is None
            else Calibrated(digest=self._calibration.digest, temperature=self._calibration.temperature),
            probabilities=probabilities,
        )

    def _shows_none(self, opinions: list[Said], probabilities: NDArray[np.float32]) -> bool:
        """Whether a photo shows none of the classes; `probabilities` are not calibrated."""
        (first, *others), (said, *_) = self._members, opinions
        if not others and first.floor is not None and said.familiarity is not None:
            # A taught network has seen photos of its classes, and says how near this one is to them.
            return float(said.familiarity.mean()) < first.floor
        return self._floor is not None and float(familiarity(probabilities)) < self._floor

    def _answer(self, probabilities: NDArray[np.float32], sure: float, *, none: bool) -> Answer:
        if none:
            return unsure(float(probabilities.max()), reason="none of its classes")
        return hedged(probabilities, self.model.labels, self.tree, sure=sure)

    def _names(self, probabilities: NDArray[np.float32], coverage: float) -> Names:
        assert self._calibration is not None
        found = self._calibration.names(probabilities, coverage)
        return Names(
            coverage=coverage, labels=tuple(RankedLabel.of(self.model.labels[i], probabilities) for i in found)
        )

    @property
    def tree(self) -> tree.Tree | None:
        """The names above this model's classes, or None where they are not WordNet's."""
        return tree.of(self.model.labels)

    def close(self) -> None:
        """Free the network's memory. Closing twice does no harm; a closed classifier raises `UsageError`."""
        for member in self._members:
            member.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reload is None:
            raise UsageError("only a classifier made by photolabel.load can be pickled.")
        return self._reload

    def __repr__(self) -> str:
        recipes = " + ".join(str(recipe) for recipe in self.recipes)
        return f"<Classifier {self.model.name}, recipe {recipes}, {self.precision}, {self._members[0].runtime}>"


def _joined(models: Sequence[Model]) -> Model:
    """The model that several are together; of one, itself."""
    first, *others = models if len(models) == 1 else dict.fromkeys(models)
    if not others:
        return first
    return replace(
        first,
        name="+".join(model.name for model in (first, *others)),
        source=" + ".join(model.source for model in (first, *others)),
        licence=" + ".join(dict.fromkeys(model.licence for model in (first, *others))),
        accuracy=None,
        spec=None,
        normalisation=None,
        weights=None,
        path=None,
    )


def _compared(members: Sequence[Member], opinions: list[Said], together: NDArray[np.float32]) -> Opinions | None:
    """What the members say each, and how many of their views say the same as all `together`; None for only one."""
    if len(opinions) == 1 and len(opinions[0].probabilities) == 1:
        return None
    best = int(np.argmax(together))
    said = []
    for member, each in zip(members, opinions, strict=True):
        views = each.probabilities
        mean = np.mean(views, axis=0)
        said.append(
            Opinion(
                model=member.model.name,
                recipe=str(member.recipe),
                views=len(views),
                label=RankedLabel.of(member.model.labels[int(np.argmax(mean))], mean),
                agreement=float(np.mean(views.argmax(axis=1) == best)),
            )
        )
    return Opinions(agreement=float(np.mean([each.agreement for each in said])), members=tuple(said))
