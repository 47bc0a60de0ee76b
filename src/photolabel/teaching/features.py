"""Photos -> what a frozen network's layer makes of them, computed once and at the speed of the pipeline.

A photo whose features are kept is read and hashed, no more. All others are decoded ahead of the network, as for naming.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..batch import Decoders, Timing, through
from ..errors import PhotoError, PhotoNotFoundError, PhotoUnreadableError, TruthError, UsageError
from ..images import DEFAULT_LIMITS, Limits
from ..prepared import File, Prepared
from ..sources import Item
from ..taught import KEY_BYTES
from . import activations
from .backbone import Opened
from .elsewhere import Elsewhere, Felt, digest, felt
from .fingerprint import BYTES
from .kept import Kept
from .solving import one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..images import Recipe
    from .activations import Activations
    from .adding import Earlier
    from .examples import Example

_AT_ONCE = 1024  # rows that are moved
_NOT_ASKED = PhotoUnreadableError("Its features are kept.")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A photo that could not be used, the class that it was to teach, and why."""

    photo: str
    name: str
    error: PhotoError


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """The features of photos, one row a photo that could be read, in their order; those taught earlier come first.

    `numbers` are float32 (photos, views, dimensions); `averaged` says that they are a map's average over all places.
    `fingerprints` are uint8 (photos, 32), of the view in the middle: `fingerprint.fingerprint` says what they are.
    `photos`, `names` and `digests` (SHA-256, 32 bytes) are what the photos are called, their classes and their content,
    a row each: the same photo twice is two rows, one that was taught earlier only if two classes are said of it now.
    `failures` are the photos without a row. `from_cache` counts the rows
    that were kept from earlier. `corrected` are photos that were taught earlier as another class, and have the new one
    now; `known` counts those that were taught earlier as the same. `remarks` say what was amiss with what was kept.
    """

    numbers: NDArray[np.float32]
    fingerprints: NDArray[np.uint8]
    averaged: bool
    photos: tuple[str, ...]
    names: tuple[str, ...]
    digests: tuple[bytes, ...]
    failures: tuple[Failure, ...] = ()
    from_cache: int = 0
    corrected: tuple[str, ...] = ()
    known: int = 0
    remarks: tuple[str, ...] = ()


def compute(
    examples: Iterable[Example],
    running: Opened | activations.Opened,
    decoders: Decoders | Elsewhere,
    *,
    most: int,
    limits: Limits = DEFAULT_LIMITS,
    earlier: Earlier | None = None,
    beside: Activations | None = None,
    step: Callable[[str, PhotoError | None], None] | None = None,
    timing: Timing | None = None,
) -> Features:
    """Return the features of all examples.

    `most` is how many there are (`Survey.photos`): so much room is made at once, and no more is used. `earlier` is
    what a network was taught before (`adding.earlier`), whose features must be kept still; one of these photos that is
    not there any more is known by its name, where no other has the same. With `Elsewhere` for `decoders` it is done on
    a cluster, whose machines open the backbone for themselves. `beside` takes the maps of an inner layer as well, where
    `running` is an `activations.Opened`; then a photo is known if both are kept. `step` is called with each photo's
    name, and its error, when it is done. The same photos give the same numbers, whether kept or computed, here or
    elsewhere.

    Raises UsageError for a layer that gives no numbers and where features of `earlier` are not kept any more, and
    TruthError for more photos than `most`, and what going through the examples raises.
    """
    # Threads of linear algebra, which fingerprints take a little of, would go on to spin beside those of the network.
    with one_thread(), Kept(running.backbone.origin, running.dimensions) as kept:
        run = _Run(running, kept, most, earlier, beside, limits)
        return run.features(examples, running.backbone.recipe, decoders, step, timing)


def parted(
    numbers: NDArray[np.float32], rows: NDArray[np.intp], middle: int
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return the features of some photos as these are looked at afterwards, and of their other views if they have any.

    `numbers` are float32 (photos, views, dimensions), `rows` the indices of the photos, ascending, and `middle` that of
    the view. Returned are float32 (rows, dimensions) and (rows, views - 1, dimensions). Without other views nothing is
    copied, which may be most of the memory: what is wanted is moved up in `numbers`, which is lost.
    """
    others = np.array([view for view in range(numbers.shape[1]) if view != middle], np.intp)
    if len(others):
        return numbers[rows, middle], numbers[np.ix_(rows, others)]
    if len(rows) < len(numbers):
        for start in range(0, len(rows), _AT_ONCE):
            some = slice(start, min(start + _AT_ONCE, len(rows)))
            numbers[some] = numbers[rows[some]]
    return numbers[: len(rows), middle], None


@dataclass(frozen=True, slots=True)
class _Done:
    """What became of a photo: its digest, or its error."""

    place: int
    digest: bytes = b""
    error: PhotoError | None = None
    from_cache: bool = False


class _Run:
    def __init__(
        self,
        running: Opened | activations.Opened,
        kept: Kept,
        most: int,
        earlier: Earlier | None,
        beside: Activations | None,
        limits: Limits,
    ) -> None:
        self._running, self._kept, self._beside, self._limits = running, kept, beside, limits
        known = () if earlier is None else earlier.examples
        self._numbers = np.empty((len(known) + most, *kept.shape), np.float32)
        self._prints = np.empty((len(self._numbers), BYTES), np.uint8)
        self._digests: list[bytes] = []
        for row, each in enumerate(known):
            found = kept.get(each.key)
            if found is not None:
                self._digests.append(found.photo)
                self._numbers[row], self._prints[row] = found.numbers, found.fingerprint
        if len(self._digests) < len(known):
            raise UsageError(
                f"the features of {len(known) - len(self._digests):,} of the {len(known):,} photos that were taught "
                "earlier are not kept any more: teach anew, with all photos."
            )
        self._names = [] if earlier is None else [earlier.labels[each.index] for each in known]
        self._photos = [each.name for each in known]
        twice = {name for name, count in Counter(self._photos).items() if count > 1}
        self._earlier = {name: row for row, name in enumerate(self._photos) if name and name not in twice}
        self._asks = not kept.empty  # else there is nothing to hash photos for beforehand
        self._done: dict[bytes, int] = {}  # digest -> the row in which its features are; filled
        self._coming = self._answered = len(known)

    def features(
        self,
        examples: Iterable[Example],
        recipe: Recipe,
        decoders: Decoders | Elsewhere,
        step: Callable[[str, PhotoError | None], None] | None,
        timing: Timing | None,
    ) -> Features:
        before = {digest[:KEY_BYTES]: row for row, digest in enumerate(self._digests)}
        waiting: deque[tuple[str, str]] = deque()
        failures: list[Failure] = []
        said: dict[int, str] = {}  # of rows taught earlier: the class that is said first now
        corrected: dict[int, str] = {}
        same, from_cache = 0, len(before)
        places = list(range(len(before)))

        def items() -> Iterator[Item]:
            for example in examples:
                waiting.append((example.photo, example.name))
                yield example.item

        if isinstance(decoders, Elsewhere):
            stream = self._elsewhere(items(), decoders, timing)
        else:
            stream = through(
                items(), (recipe,), _Sparing(decoders, self._known), self._work, limits=self._limits, timing=timing
            )
        with closing(stream):
            for done in stream:
                photo, name = waiting.popleft()
                row = before.get(done.digest[:KEY_BYTES])
                if done.error is not None:
                    failures.append(Failure(photo=photo, name=name, error=done.error))
                elif row is None or said.setdefault(row, name) != name:
                    if row is not None:  # now two classes are said of it: neither corrects the other
                        corrected.pop(row, None)
                    places.append(done.place)
                    self._photos.append(photo)
                    self._names.append(name)
                    self._digests.append(done.digest)
                    from_cache += done.from_cache
                elif self._names[row] != name:
                    self._names[row] = name
                    corrected[row] = photo
                else:
                    same += 1
                if step is not None:
                    step(photo, done.error)
        for row, place in enumerate(places):  # what could not be read has no row: the others move up
            if row != place:
                self._numbers[row], self._prints[row] = self._numbers[place], self._prints[place]
        return Features(
            numbers=self._numbers[: len(places)],
            fingerprints=self._prints[: len(places)],
            averaged=self._running.averaged,
            photos=tuple(self._photos),
            names=tuple(self._names),
            digests=tuple(self._digests),
            failures=tuple(failures),
            from_cache=from_cache,
            corrected=tuple(corrected.values()),
            known=same,
            remarks=tuple(self._kept.remarks),
        )

    # -- in the thread that looks for photos

    def _known(self, item: Item) -> File | None:
        """Put the features of a photo in their row, where they are known; return what its file is."""
        place, self._coming = self._coming, self._coming + 1
        if place >= len(self._numbers):
            raise TruthError("there are more photos than were counted: some were added meanwhile. Start again.")
        if not self._asks or item.error is not None:
            return None
        try:
            data = item.read(self._limits)
        except PhotoNotFoundError:
            return self._gone(item, place)
        except PhotoError:  # whoever decodes it will say so
            return None
        hashed = hashlib.sha256(data)
        found = self._kept.get(hashed.digest())
        if found is None or (self._beside is not None and hashed.digest() not in self._beside):
            return None
        self._numbers[place], self._prints[place] = found.numbers, found.fingerprint
        return File(sha256=hashed.hexdigest(), bytes=len(data))

    def _gone(self, item: Item, place: int) -> File | None:
        """Put the features of a photo that is not there in its row, if it is called as just one taught earlier."""
        row = self._earlier.get(item.photo)
        if row is None or self._beside is not None:
            return None
        self._numbers[place], self._prints[place] = self._numbers[row], self._prints[row]
        return File(sha256=self._digests[row].hex(), bytes=0)

    # -- in the thread that runs the network

    def _work(self, batch: Sequence[Prepared]) -> list[_Done]:
        results: list[_Done] = []
        fresh: dict[int, Prepared] = {}  # by their places
        for each in batch:
            place, self._answered = self._answered, self._answered + 1
            if each.error is not None:
                results.append(_Done(place, error=each.error))
                continue
            results.append(_Done(place, digest(each), from_cache=not each.views))
            if each.views and self._done.setdefault(digest(each), place) == place:
                fresh[place] = each
        photos = list(fresh.values())
        made = felt(photos, self._running.backbone.recipe, lambda pixels: self._made(pixels, photos))
        for place, one in zip(fresh, made, strict=True):
            self._numbers[place], self._prints[place] = one.numbers, one.fingerprint
            self._kept.put(one.digest, one.numbers, one.fingerprint)
        for done in results:
            if done.error is None and not done.from_cache and self._done[done.digest] != done.place:
                before = self._done[done.digest]
                self._numbers[done.place], self._prints[done.place] = self._numbers[before], self._prints[before]
        return results

    # -- where a cluster does it

    def _elsewhere(self, items: Iterable[Item], there: Elsewhere, timing: Timing | None) -> Generator[_Done]:
        assert isinstance(self._running, Opened)  # maps beside them are not asked of a cluster
        known: dict[int, bytes] = {}  # place -> digest, of those whose features are in their rows already

        def unknown() -> Iterator[Item]:
            for item in items:
                place, file = self._coming, self._known(item)
                if file is None:
                    yield item
                else:  # its place among the others it keeps, with nothing to be read
                    known[place] = bytes.fromhex(file.sha256)
                    yield Item(photo=item.photo, error=_NOT_ASKED)

        with closing(there.stream(unknown(), self._running, self._limits, timing)) as stream:
            for one in stream:
                place, self._answered = self._answered, self._answered + 1
                if (there_already := known.pop(place, None)) is not None:
                    yield _Done(place, there_already, from_cache=True)
                elif isinstance(one, Felt):
                    self._numbers[place], self._prints[place] = one.numbers, one.fingerprint
                    if self._done.setdefault(one.digest, place) == place:
                        self._kept.put(one.digest, one.numbers, one.fingerprint)
                    yield _Done(place, one.digest)
                else:
                    yield _Done(place, error=one)

    def _made(self, pixels: NDArray[np.uint8], photos: Sequence[Prepared]) -> NDArray[np.float32]:
        """The features of all views of photos; the maps beside them are put where they are kept."""
        if isinstance(self._running, Opened):
            return self._running(pixels)
        made, maps = self._running.both(pixels)
        assert self._beside is not None
        for photo, each in zip(photos, maps.reshape(-1, *self._beside.shape), strict=True):
            self._beside.put(digest(photo), each)
        return made


class _Sparing:
    """Decoders that are spared the photos of which all is known."""

    def __init__(self, decoders: Decoders, known: Callable[[Item], File | None]) -> None:
        self._decoders, self._known = decoders, known

    def prepare(self, item: Item, *recipes: Recipe, limits: Limits) -> Future[Prepared]:
        file = self._known(item)
        if file is None:
            return self._decoders.prepare(item, *recipes, limits=limits)
        done: Future[Prepared] = Future()
        done.set_result(Prepared(photo=item.photo, file=file))
        return done
