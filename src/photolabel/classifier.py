"""Photos in, Predictions out."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import artefacts, engine, foreign, images, metadata, models, store, tree
from .answer import hedged
from .errors import InvalidModelError, UsageError
from .prediction import SCHEMA, Prediction, RankedLabel
from .prepared import Prepared, inputs, prepare

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from .models import Model

__all__ = ["BATCH", "DEFAULT_TOP", "SCHEMA", "Classifier", "Prediction", "RankedLabel", "classify", "load"]

DEFAULT_TOP = 5
BATCH = 16  # photos in one run of the network: more are no faster


@dataclass(frozen=True, kw_only=True)
class _Network:
    """A network's file and how it is run."""

    path: Path
    precision: str
    threads: int | None
    runtime: str

    def open(self, cut: engine.Cut = engine.WHOLE) -> engine.Engine:
        return engine.open_engine(
            self.path, precision=self.precision, threads=self.threads, cut=cut, runtime=self.runtime
        )


class Classifier:
    """A model ready to name photos. Make one with `photolabel.load`.

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
        reload: tuple[Any, ...] | None = None,
        network: _Network | None = None,
    ) -> None:
        self.model = model
        self.recipe = model.recipe(recipe)
        self.limits = limits
        self._run = run
        self._reload = reload
        self._network = network
        self._part: tuple[engine.Cut, engine.Engine] | None = None
        self._closed = False
        self._lock = threading.Lock()
        side, (main, *_) = self.recipe.size, run.shapes.values()
        pictures = len(run.shape) == 4 and run.shape[0] in (None, 1) and run.shape[3] in (None, 3)
        if not pictures or len(main) != 2 or main[1] is None:
            raise InvalidModelError(
                f"{model.name}: expected a network from pixels (N, height, width, 3) to probabilities (N, classes)."
            )
        if main[1] != len(model.labels):
            raise InvalidModelError(f"{model.name} names {len(model.labels)} classes but its network has {main[1]}.")
        if not all(have in (None, side) for have in run.shape[1:3]):
            raise InvalidModelError(
                f"{model.name}: its network takes {run.shape[2]} x {run.shape[1]} pixels, but the recipe "
                f"{self.recipe.name} makes {side} x {side}."
            )

    @property
    def precision(self) -> str:
        """The arithmetic in use: `fp32`."""
        return self._run.precision

    @property
    def network(self) -> Path | None:
        """The ONNX file of its network; None for a classifier that `photolabel.load` did not make."""
        return None if self._network is None else self._network.path

    @property
    def digest(self) -> str | None:
        """`sha256:` and the hash of the network's file: what answers, whatever it is called. None if there is none."""
        return None if self._network is None else store.Store().known_digest(self._network.path)

    def classify(self, photo: images.Photo, *, top: int | None = DEFAULT_TOP, sure: float | None = None) -> Prediction:
        """Name what is in one photo.

        `photo` is a path, the bytes of an image file, a binary file object, a PIL image, or a NumPy array
        (H, W, 3) of uint8 RGB; none is changed. `top` is how many labels to give, None for all. `sure`,
        a probability, asks for an answer that is so sure: a class, a broader name of WordNet, or "unsure". Raises a
        `PhotoError` for a photo that cannot be read, and `UsageError` for a wrong argument.
        """
        (prediction,) = self.predict([self._prepare(photo)], top=top, sure=sure)
        if prediction.error is not None:
            raise prediction.error
        return prediction

    def classify_many(
        self, photos: Iterable[images.Photo], *, top: int | None = DEFAULT_TOP, sure: float | None = None
    ) -> Iterator[Prediction]:
        """Name what is in each of many photos, as they come, one Prediction a photo in the same order.

        A photo that cannot be read gives a Prediction whose `error` says why; the others go on. Each is read and
        decoded when its turn comes, in this process; for thousands of files `photolabel.classify_folder` is quicker.
        """
        self.check_top(top)
        self._check_sure(sure)
        return (self.predict([self._prepare(photo)], top=top, sure=sure)[0] for photo in photos)

    def _prepare(self, photo: images.Photo) -> Prepared:
        return prepare(photo, self.recipe, limits=self.limits)

    def predict(
        self, batch: Sequence[Prepared], *, top: int | None = DEFAULT_TOP, sure: float | None = None
    ) -> list[Prediction]:
        """Name what is in photos that `prepared.prepare` prepared by this classifier's recipe, in one run.

        One Prediction each, in the same order; those with an error keep it. How many there are does not change what
        is said of each. The network's activations grow with them: `BATCH` is a good number.
        """
        top = self.check_top(top)
        self._check_sure(sure)
        sound = [each.pixels for each in batch if each.pixels is not None]
        answers = iter(self._probabilities(np.stack(sound)) if sound else ())
        return [self._prediction(each, None if each.pixels is None else next(answers), top, sure) for each in batch]

    def run(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities of prepared pixels, float32 (N, size, size, 3) RGB 0..255: float32 (N, classes)."""
        return self._run(pixels)

    def _probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        probabilities = self._run(pixels.astype(np.float32))
        # In rounding, 1000 classes miss a sum of 1 by some 1e-6.
        if not (probabilities.min() >= 0 and np.abs(probabilities.sum(axis=1) - 1).max() <= 1e-3):
            raise InvalidModelError(
                f"{self.model.name}: its network does not answer with probabilities, which lie in 0..1 and sum to 1. "
                "Does it end before its softmax?"
            )
        return probabilities

    def features(self, photos: Iterable[images.Photo], *, layer: str | None = None) -> NDArray[np.float32]:
        """Return what an inner layer makes of each photo: float32 (photos, ...), maps channels last.

        `photos` are what `classify_many` takes. `layer` is by default the last one before the classes, where the
        network names it: `fc2` of a VGG (photos, 4096), `features` of the bundled model. The network up to that
        layer is opened at the first use, beside the whole one, and kept until another layer is asked for. Raises the
        `PhotoError` of the first photo that cannot be read, which it names, and `UsageError` for a wrong layer.
        """
        if isinstance(photos, str | bytes | os.PathLike):
            raise UsageError("expected several photos, as in: features([photo]).")
        layer = layer or self._layer_before_classes()
        running = self.part(engine.Cut(layers=(layer,), only=True))
        ((_, shape),) = running.shapes.items()
        found = [np.empty((0, *(side or 0 for side in shape[1:])), np.float32)]
        coming = inputs(photos, self.recipe, limits=self.limits)
        while batch := list(islice(coming, BATCH)):
            made = running(np.stack(batch).astype(np.float32))
            found = [*(found if len(found[0]) else []), made]
        return np.concatenate(found)

    def part(self, cut: engine.Cut) -> engine.Engine:
        """Return a cut of the network, opened at the first use and kept until another is asked for; not to be closed.

        Raises `UsageError` for a layer that is not there.
        """
        with self._lock:
            if self._closed:
                raise UsageError("this classifier is closed.")
            if self._network is None:
                raise UsageError("only a classifier made by photolabel.load has parts.")
            if self._part is None or self._part[0] != cut:
                self._part = None  # let go of first, but not closed: another thread may be at work with it
                self._part = (cut, self._network.open(cut))
            return self._part[1]

    def _layer_before_classes(self) -> str:
        if self._network is None:
            raise UsageError("only a classifier made by photolabel.load gives features.")
        spec = self.model.spec
        names = [layer.name for layer in spec.layers] if spec else engine.layer_names(self._network.path)
        found = next((name for name in engine.BEFORE_CLASSES if name in names), None)
        if found is None:
            raise UsageError(
                f"{self.model.name} does not name the layer before its classes {' or '.join(engine.BEFORE_CLASSES)}: "
                f"say which, as in layer={names[-2:][0]!r}. Its last ones: {', '.join(names[-6:])}."
            )
        return found

    def check_top(self, top: int | None) -> int:
        """Return how many labels `top` stands for. Raises `UsageError` for what makes no sense."""
        classes = len(self.model.labels)
        if top is None:
            return classes
        if not isinstance(top, int) or isinstance(top, bool) or top < 1:
            raise UsageError(f"top={top!r}: expected a whole number of at least 1, or None for all {classes} classes.")
        return min(top, classes)

    @staticmethod
    def _check_sure(sure: float | None) -> None:
        if sure is not None and (not isinstance(sure, int | float) or isinstance(sure, bool) or not 0 < sure <= 1):
            raise UsageError(f"sure={sure!r}: expected a probability above 0, at most 1.")

    def _prediction(
        self, photo: Prepared, probabilities: NDArray[np.float32] | None, top: int, sure: float | None
    ) -> Prediction:
        known = Prediction(
            photo=photo.photo,
            model=self.model.name,
            recipe=self.recipe.name,
            precision=self.precision,
            error=photo.error,
            file=photo.file,
            decoding=photo.decoding,
        )
        if probabilities is None:
            return known
        probabilities = probabilities.copy()  # its own: a view would keep the whole batch's alive
        probabilities.setflags(write=False)
        best = np.argsort(-probabilities, kind="stable")[:top]  # ties: the lower index first
        labels = [self.model.labels[i] for i in best]
        return replace(
            known,
            labels=tuple(
                RankedLabel(index=x.index, wnid=x.wnid, name=x.name, probability=float(probabilities[x.index]))
                for x in labels
            ),
            answer=None if sure is None else hedged(probabilities, self.model.labels, self.tree, sure=sure),
            probabilities=probabilities,
        )

    @property
    def tree(self) -> tree.Tree | None:
        """The names above this model's classes, or None where they are not WordNet's."""
        return tree.of(self.model.labels)

    def close(self) -> None:
        """Free the network's memory. Closing twice does no harm; a closed classifier raises `UsageError`."""
        self._run.close()
        with self._lock:
            self._closed = True
            if self._part is not None:
                self._part[1].close()
                self._part = None

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reload is None:
            raise UsageError("only a classifier made by photolabel.load can be pickled.")
        return _reload, self._reload

    def __repr__(self) -> str:
        return f"<Classifier {self.model.name}, recipe {self.recipe.name}, {self.precision}, {self._run.runtime}>"


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | None = None,
    recipe: str | os.PathLike[str] | None = None,
    precision: str = "fp32",
    threads: int | None = None,
    engine: str = "openvino",
    limits: images.Limits = images.DEFAULT_LIMITS,
) -> Classifier:
    """Return a classifier: a model by name (`"vgg16"`) or the path of an ONNX file, ready to run.

    Without `model`, the one that PHOTOLABEL_MODEL names, else VGG16 where its weights are on this machine, else the
    bundled one. A named model whose weights are missing is downloaded (553 MB for VGG16), with a progress bar on a
    terminal. `weights` is a file to use instead of the published weights, in any format that `photolabel.weights`
    reads; without `model` it says itself whether it is VGG16 or VGG19, and torchvision's or Oxford's, and a safetensors
    file that `photolabel.export` wrote says all of itself. `recipe` is the way to make the input (`"crop"`, `"keras"`,
    ...), by default the model's own. An ONNX file that photolabel did not make needs `labels`, a file of its classes or
    the word `"imagenet"`, and as `recipe` one of `photolabel.conventions` (`"torchvision"`, ...) or a JSON file of that
    form. `precision` is `"fp32"`, `"bf16"` where the processor has it, or `"int8"`: weights of a quarter of the size,
    faster, and probabilities that differ a little (`photolabel models verify NAME --precision int8 PHOTO ...` says by
    how much). `threads` is how many processors to use, by default all. `engine` is what runs the network: `"openvino"`,
    or `"onnxruntime"`, an extra, which runs it on a GPU where the installed package can. Raises a `ModelError` or
    `StoreError` where there is no model to be had, `MissingExtraError` where the engine is not installed, and
    `UsageError` for a wrong argument.
    """
    if labels is not None:
        return _load_foreign(
            model,
            weights=weights,
            labels=labels,
            recipe=recipe,
            precision=precision,
            threads=threads,
            limits=limits,
            engine=engine,
        )
    if recipe is not None and not isinstance(recipe, str):
        raise UsageError(
            f"recipe={os.fspath(recipe)!r}: a file of a recipe goes with labels, for a network of your own."
        )
    if model is not None:
        known = models.resolve(model)  # type: ignore[arg-type]
    elif weights is not None:
        pinned = os.environ.get("PHOTOLABEL_MODEL")
        known = models.described(Path(weights)) or (models.resolve(pinned) if pinned else models.fitting(Path(weights)))
    else:
        known = artefacts.default()
    known.recipe(recipe)  # a wrong name should not wait for a download
    path = artefacts.locate(known, weights_file=None if weights is None else Path(weights))
    described = models.read(path) if known.path is None else known
    network = _network(described, path, precision, threads, engine)
    # By what it turned out to be: the default may be another model where, or when, it is unpickled.
    # A file may call itself anything. Neither name nor path: the weights say what they are.
    name = known.name if known == models.known().get(known.name) else known.path
    reload = (name, weights, None, recipe, precision, threads, limits, engine)
    return Classifier(described, network.open(), recipe=recipe, limits=limits, reload=reload, network=network)


def _load_foreign(
    model: str | os.PathLike[str] | None,
    *,
    weights: str | os.PathLike[str] | None,
    labels: str | os.PathLike[str],
    recipe: str | os.PathLike[str] | None,
    precision: str,
    threads: int | None,
    limits: images.Limits,
    engine: str,
) -> Classifier:
    """The classifier in a user's ONNX file that does not describe itself."""
    model = model or os.environ.get("PHOTOLABEL_MODEL")
    if weights is not None or not model:
        raise UsageError(
            "labels are for an ONNX file of your own, which has its weights: "
            "--model FILE.onnx --labels FILE --recipe NAME."
        )
    network = foreign.describe(model, labels_file=labels, recipe=recipe)
    path = foreign.adapted(network)
    described = models.read(path)
    opened = _network(described, path, precision, threads, engine)
    reload = (network.path, None, labels, recipe, precision, threads, limits, engine)
    return Classifier(described, opened.open(), limits=limits, reload=reload, network=opened)


def _network(described: Model, path: Path, precision: str, threads: int | None, runtime: str) -> _Network:
    """The network of `described` at `path`, quantized first where that was asked for."""
    if precision == "int8" and metadata.read(path).get("photolabel.precision") != "int8":
        path = artefacts.quantized(described, path)
    return _Network(path=path, precision=precision, threads=threads, runtime=runtime)


def _reload(
    model: str | Path | None,
    weights: str | None,
    labels: str | None,
    recipe: str | None,
    precision: str,
    threads: int | None,
    limits: images.Limits,
    engine: str,
) -> Classifier:
    return load(
        model,
        weights=weights,
        labels=labels,
        recipe=recipe,
        precision=precision,
        threads=threads,
        limits=limits,
        engine=engine,
    )


def classify(photo: images.Photo, *, top: int | None = DEFAULT_TOP, model: str | None = None) -> Prediction:
    """Name what is in one photo: `load`, `classify` and `close` in one, for a first look or a short script.

    Loading takes far longer than looking: for more than one photo, `load` a classifier and keep it.
    """
    with load(model) as classifier:
        return classifier.classify(photo, top=top)
