"""Photos of known classes -> one file that names them, and what the teaching found out on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import taught
from ..confidence import share
from ..errors import TruthError, UsageError
from ..images import DEFAULT_LIMITS, Limits
from . import adding, curve, doubts, familiar, figures, heads, saving, solving
from .elsewhere import Elsewhere
from .features import compute, parted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..batch import Decoders, Timing
    from ..confidence import Share
    from ..errors import PhotoError
    from ..models import Model
    from ..taught import Origin
    from .adding import Earlier
    from .backbone import Backbone
    from .curve import Curve
    from .doubts import Mislabelled, Pair
    from .epochs import Epoch
    from .examples import Example, Survey
    from .familiar import Familiar
    from .features import Failure, Features
    from .figures import Figures
    from .heads import Fitted
    from .solving import Kind
    from .tuned import Network
    from .tuning import Tuned, Tuner

FEW = 20  # photos of a class, in the middle: with fewer, each is learnt from its mirror image as well


@dataclass(frozen=True, kw_only=True)
class Step:
    """What to call while it lasts; nothing by default.

    `counted` is called with what is there to learn from, and to judge by; `photo` with the name of each photo that is
    done, and its error; `fit` with how many fits are done, and how many there are. While a network is fine-tuned,
    `epoch` is called with each epoch, those of an earlier start and the frozen head included, and `train` with how many
    photos of an epoch are done, and how many there are.
    """

    counted: Callable[[Survey, Survey | None], None] = lambda learnt, held: None
    photo: Callable[[str, PhotoError | None], None] | None = None
    fit: Callable[[int, int], None] | None = None
    epoch: Callable[[Epoch], None] | None = None
    train: Callable[[int, int], None] | None = None


UNWATCHED = Step()


@dataclass(frozen=True, kw_only=True, eq=False)
class Photos:
    """Photos of known classes, one each content, by whose features a head is made or judged.

    `names` are what they are called and `truth` their classes' indices, (photos,); `digests` are of their content.
    """

    names: tuple[str, ...]
    truth: NDArray[np.intp]
    digests: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.names)

    def some(self, chosen: NDArray[np.bool_]) -> Photos:
        """Return some of them; `chosen` is bool (photos,)."""
        rows = np.flatnonzero(chosen).tolist()
        return Photos(
            names=tuple(self.names[i] for i in rows),
            truth=self.truth[rows],
            digests=tuple(self.digests[i] for i in rows),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeated:
    """The same content under several names: `photos` are the names, `classes` the classes said of them.

    One that is said to be of several classes is `contradictory` and not learnt from; one that is there for validation
    too is `across` and not judged by.
    """

    photos: tuple[str, ...]
    classes: tuple[str, ...]
    across: bool

    @property
    def contradictory(self) -> bool:
        """Whether it is said to show several classes."""
        return len(set(self.classes)) > 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Validation:
    """What photos that nothing was learnt from say: `probabilities` are float32 (photos, classes), 0..1.

    `strange` is the share of them that would be said to show none of the classes.
    """

    photos: Photos
    probabilities: NDArray[np.float32]
    figures: Figures
    strange: Share


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """What came of a teaching: the file `out`, whose network is `model`, on the frozen network that `origin` tells of.

    `photos` were learnt from; each is judged by heads that had not seen it, in `fitted`, of which `figures` are made.
    `validation` is of the photos that were given for that, None without. Indices of `mislabelled` are of `photos`;
    those of `alike` go on with the photos of the validation. `repeated` are contents that were there more than once: as
    one class they are learnt from once, as several not at all. `failures` could not be read. `from_cache` counts the
    photos whose features were kept, and `earlier` those that were taught before, of which `corrected` have another
    class now.

    `tuned` is of fine-tuning, None without. Where it made a better network (`tuned.best` above 0), that is judged by
    held-out photos alone, not by cross-validation: `validation` is of them, whether they were given or held out of
    `photos`; no photo is judged in `figures`; and of `fitted`, `head` and `temperature` are the tuned network's, all
    else is still of the frozen heads, by which `mislabelled` is found.
    """

    out: Path
    model: Model
    origin: Origin
    labels: tuple[str, ...]
    photos: Photos
    fitted: Fitted
    figures: Figures
    familiar: Familiar
    curve: Curve | None
    validation: Validation | None
    mislabelled: tuple[Mislabelled, ...]
    alike: tuple[Pair, ...]
    repeated: tuple[Repeated, ...]
    failures: tuple[Failure, ...]
    from_cache: int
    earlier: int = 0
    corrected: tuple[str, ...] = ()
    uniform: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()
    tuned: Tuned | None = None


def teach(
    examples: Iterable[Example],
    backbone: Backbone,
    out: Path,
    decoders: Decoders | Elsewhere,
    *,
    most: int,
    validation: Iterable[Example] = (),
    most_validation: int = 0,
    earlier: Earlier | None = None,
    tuner: Tuner | None = None,
    kind: Kind = "logistic",
    strength: float | None = None,
    seed: int = 0,
    limits: Limits = DEFAULT_LIMITS,
    step: Step = UNWATCHED,
    timing: Timing | None = None,
) -> Lesson:
    """Teach a linear head on `backbone` the classes of `examples`, write the network to `out`, return what was found.

    `most` and `most_validation` are how many examples there are. `earlier` is what is added to. `tuner` fine-tunes
    `backbone` as well, which it was made for. `kind`, `strength` and `seed` are as of `heads.fit`. Features that are
    kept from earlier are not computed again, whatever happens after.

    Raises TruthError where what can be read does not show two classes, or nothing of one; UsageError for what does not
    go together, `OutputError` where `out` cannot be written, and what going through the examples raises.
    """
    heads.check(kind=kind, strength=strength, seed=seed)
    if earlier is not None:
        adding.check_backbone(earlier.taught.origin, backbone)
    middle = judging = backbone.recipe.middle
    if tuner is not None:
        if isinstance(decoders, Elsewhere):
            raise UsageError("fine_tune: what is trained on is computed on the machine that trains.")
        learnt, held = tuner.look(
            (examples, most), (validation, most_validation), decoders, limits=limits, step=step.photo, timing=timing
        )
        judging = 0  # the only view
    else:
        with backbone.open() as running:
            saving.check_head(running)
            learnt = compute(
                examples, running, decoders, most=most, limits=limits, earlier=earlier, step=step.photo, timing=timing
            )
            held = compute(
                validation, running, decoders, most=most_validation, limits=limits, step=step.photo, timing=timing
            )
    labels = _labels(learnt, earlier)
    rows, repeated, judged = _once(learnt, held)
    _check_classes(learnt, rows, labels)
    plain, views = parted(learnt.numbers, rows, middle)
    photos = _photos(learnt, rows, labels)
    others = _photos(held, judged, labels)
    unseen = held.numbers[judged, judging]
    with solving.one_thread():  # else the file's last digits would depend on their number
        compared = np.concatenate([plain, unseen]) if len(others) else plain
        mine = np.arange(len(compared)) < len(photos)
        alike = doubts.near(
            compared,
            np.concatenate([photos.truth, others.truth]),
            fingerprints=np.concatenate([learnt.fingerprints[rows], held.fingerprints[judged]]),
            learnt=mine,
        )
        del compared
        pairs = [pair for pair in alike if pair.other < len(photos)]
        together = doubts.together(
            photos.truth,
            [(pair.one, pair.other) for pair in pairs],
            [(pair.one, pair.other) for pair in pairs if pair.copies],
        )
        groups = together.of_photo
        fitted = heads.fit(
            plain,
            photos.truth,
            classes=len(labels),
            kind=kind,
            strength=strength,
            groups=groups,
            views=views,
            seed=seed,
            progress=step.fit,
        )
        known = familiar.learn(plain, photos.truth, fitted.fold, classes=len(labels))
        grown = curve.measure(plain, photos.truth, fitted, classes=len(labels), groups=groups, views=views, seed=seed)
        made = figures.figures(fitted.probabilities, photos.truth, fitted.judged)
        judgement = _judged(fitted, known, others, unseen) if len(others) else None
        mislabelled = doubts.mislabelled(fitted.probabilities, photos.truth, fitted.judged)
    told, network = None, None
    if tuner is not None:
        told, network = tuner.tune(
            photos, others, fitted, plain, views, groups, labels=labels, epoch=step.epoch, progress=step.train
        )
    if told is not None and network is not None:
        backbone, known = network.backbone, network.known
        fitted = replace(fitted, head=network.head, temperature=network.temperature)
        made = figures.figures(fitted.probabilities, photos.truth, np.zeros(len(photos), bool))
        judgement = _of_held(network, others if len(others) else photos.some(told.held))
    model = saving.save(
        out,
        backbone,
        fitted.head.weights,
        fitted.head.bias,
        labels=labels,
        examples=saving.known(photos.names, photos.truth, photos.digests),
        averaged=learnt.averaged,
        kind=kind if network is None else taught.TUNED,
        strength=fitted.head.strength,
        seed=seed,
        report=_report(fitted, made, judgement, labels) | ({} if told is None else told.report()),
        centres=known.centres,
        floor=known.floor,
    )
    if tuner is not None:
        tuner.done()
    return Lesson(
        out=out,
        model=model,
        origin=backbone.origin,
        labels=labels,
        photos=photos,
        fitted=fitted,
        figures=made,
        familiar=known,
        curve=grown,
        validation=judgement,
        mislabelled=mislabelled,
        alike=alike,
        uniform=together.uniform,
        repeated=repeated,
        failures=(*learnt.failures, *held.failures),
        from_cache=learnt.from_cache + held.from_cache,
        earlier=0 if earlier is None else len(earlier.examples),
        corrected=learnt.corrected,
        remarks=tuple(dict.fromkeys([*learnt.remarks, *held.remarks, *(told.remarks if told is not None else ())])),
        tuned=told,
    )


def _labels(learnt: Features, earlier: Earlier | None) -> tuple[str, ...]:
    """The names of the classes: those of before in their old order, then the new ones."""
    before = () if earlier is None else earlier.labels
    new = {*learnt.names, *(failure.name for failure in learnt.failures)}
    return (*before, *sorted(new - {*before}))


def _once(learnt: Features, held: Features) -> tuple[NDArray[np.intp], tuple[Repeated, ...], NDArray[np.intp]]:
    """Which rows are learnt from and which judged by, each content once; and what is there more than once."""
    digests = [*learnt.digests, *held.digests]
    photos, classes = [*learnt.photos, *held.photos], [*learnt.names, *held.names]
    first = len(learnt.digests)
    places: dict[bytes, list[int]] = {}
    for place, digest in enumerate(digests):
        places.setdefault(digest, []).append(place)
    rows: list[int] = []
    judged: list[int] = []
    repeated: list[Repeated] = []
    for found in places.values():
        made = Repeated(
            photos=tuple(photos[i] for i in found),
            classes=tuple(classes[i] for i in found),
            across=found[0] < first <= found[-1],
        )
        if len(found) > 1:
            repeated.append(made)
        of_learnt = [i for i in found if i < first]
        if of_learnt and len({classes[i] for i in of_learnt}) == 1:
            rows.append(of_learnt[0])
        elif not of_learnt and not made.contradictory:
            judged.append(found[0] - first)
    return np.array(rows, np.intp), tuple(repeated), np.array(judged, np.intp)


def _check_classes(learnt: Features, rows: NDArray[np.intp], labels: Sequence[str]) -> None:
    left = {learnt.names[row] for row in rows.tolist()}
    for name in labels:
        if name in left:
            continue
        failed = [failure for failure in learnt.failures if failure.name == name]
        if failed:
            why = f"none of its photos could be read; {failed[0].photo}: {failed[0].error}"
        elif name in learnt.names:
            why = "each of its photos is also there as another class. Leave them out of one of the two"
        else:  # a class of before, all of whose photos are said to be of others now
            why = "no photo of it is left. Teach anew, without it"
        raise TruthError(f"class {name!r} has nothing to be learnt from: {why.removesuffix('.')}.")
    if len(left) < 2:
        raise TruthError("to tell classes apart takes photos of at least two that can be read.")


def _photos(features: Features, rows: NDArray[np.intp], labels: Sequence[str]) -> Photos:
    places = {name: index for index, name in enumerate(labels)}
    chosen = rows.tolist()
    return Photos(
        names=tuple(features.photos[i] for i in chosen),
        truth=np.array([places[features.names[i]] for i in chosen], np.intp),
        digests=tuple(features.digests[i] for i in chosen),
    )


def _judged(fitted: Fitted, known: Familiar, photos: Photos, numbers: NDArray[np.float32]) -> Validation:
    probabilities = fitted.head.probabilities(numbers)
    strange = known.scores(numbers) < known.floor
    return Validation(
        photos=photos,
        probabilities=probabilities,
        figures=figures.figures(probabilities, photos.truth),
        strange=share(int(strange.sum()), len(photos)),
    )


def _of_held(network: Network, photos: Photos) -> Validation:
    return Validation(
        photos=photos,
        probabilities=network.probabilities,
        figures=figures.figures(network.probabilities, photos.truth),
        strange=share(int((network.scores < network.known.floor).sum()), len(photos)),
    )


def _report(fitted: Fitted, made: Figures, judgement: Validation | None, labels: Sequence[str]) -> dict[str, Any]:
    """What the network's file says of how good it is, in plain values."""

    def told(found: Figures) -> dict[str, Any]:
        return {
            "accuracy": _share(found.accuracy),
            "recall": {name: _share(each.recall) for name, each in zip(labels, found.classes, strict=True)},
        }

    return {
        "folds": fitted.folds,
        "temperature": fitted.temperature,
        "cross_validation": told(made) if made.accuracy.of else None,
        "validation": None if judgement is None else told(judgement.figures),
    }


def _share(found: Share) -> list[int]:
    return [found.count, found.of]
