"""A VGG's last blocks and its head, trained epoch by epoch through Keras, on whichever backend it has.

Each epoch looks once at each photo, at one of its views; which, and in which order, follows from the seed and the
epoch's number alone, so that an epoch is the same whether those before it were trained just now or yesterday.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..keras import imported
from .heads import cooled, even, losses_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .activations import Activations

BATCH = 16
PATIENCE = 5  # epochs without a better one, after which no more are trained
_MOMENTUM = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """How far it has come: epoch `number`, of `most`; 0 is the frozen head, before anything was trained.

    `loss` and `accuracy` are of the photos that were learnt from, while they were; None in epoch 0. `held_loss` and
    `held_accuracy` are of those that were held out, afterwards. A loss is the mean of -log p(true class), each class
    counting the same, that of held-out photos after calibration; an accuracy is the share that is named rightly, 0..1.
    `best` says that no epoch before had a lower `held_loss`.
    """

    number: int
    most: int
    loss: float | None
    accuracy: float | None
    held_loss: float
    held_accuracy: float
    best: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """Photos as they are trained on or judged by: the SHA-256 of each, its class, and the maps of its views."""

    digests: tuple[bytes, ...]
    truth: NDArray[np.intp]
    maps: Activations
    middle: int

    def __len__(self) -> int:
        return len(self.digests)


class Trainer:
    """A Keras model of a network's end (`keras.tail`), and the optimizer that trains it."""

    def __init__(self, model: Any, *, learning_rate: float) -> None:
        keras = imported()
        self.model = model
        self.backend: str = keras.backend.backend()
        self._optimizer = keras.optimizers.SGD(learning_rate, momentum=_MOMENTUM)
        self._optimizer.build(model.trainable_variables)
        model.compile(
            optimizer=self._optimizer,
            # A sum of weighted losses: how Keras divides by the weights differs from version to version.
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
        self._numpy = keras.ops.convert_to_numpy
        self._looking = keras.Model(model.input, [model.get_layer("features").output, model.output])

    def look(self, photos: Seen) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the features and the logits of photos as they are looked at afterwards, float32 (photos, ...) both."""
        features: list[NDArray[np.float32]] = []
        logits: list[NDArray[np.float32]] = []
        for some in np.array_split(np.arange(len(photos)), -(-len(photos) // BATCH)):
            maps = photos.maps.take([photos.digests[i] for i in some.tolist()], [photos.middle] * len(some))
            for found, made in zip((features, logits), self._looking.predict_on_batch(maps), strict=True):
                found.append(np.asarray(made, np.float32))
        return np.concatenate(features), np.concatenate(logits)

    def features(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the features of a few maps: float32 (N, height, width, channels) -> float32 (N, channels)."""
        return np.asarray(self._looking.predict_on_batch(maps)[0], np.float32)

    def train(
        self, photos: Seen, number: int, *, seed: int, step: Callable[[int, int], None] | None = None
    ) -> tuple[float, float]:
        """Train an epoch; return its loss and accuracy. `step` is called with how many photos are done, and all."""
        random = np.random.default_rng([seed, number])
        order, views = random.permutation(len(photos)), random.integers(photos.maps.shape[0], size=len(photos))
        weights = even(photos.truth) * len(photos)
        loss = right = 0.0
        done = 0
        for some in np.array_split(order, -(-len(photos) // BATCH)):
            maps = photos.maps.take([photos.digests[i] for i in some.tolist()], views[some].tolist())
            self.model.reset_metrics()
            found = self.model.train_on_batch(
                maps,
                photos.truth[some].astype(np.int32),
                sample_weight=(weights[some] / len(some)).astype(np.float32),
                return_dict=True,
            )
            loss += float(found["loss"]) * len(some)
            right += float(found["accuracy"]) * len(some)
            done += len(some)
            if step is not None:
                step(done, len(photos))
        return loss / len(photos), right / len(photos)

    @property
    def weights(self) -> dict[str, NDArray[np.float32]]:
        """What is trained, float32 copies by name: `block5_conv1/kernel`, ..., `logits/bias`."""
        return {
            f"{layer.name}/{part}": self._numbers(variable)
            for layer in self.model.layers
            for part, variable in zip(("kernel", "bias"), layer.weights, strict=False)
        }

    @weights.setter
    def weights(self, given: dict[str, NDArray[np.float32]]) -> None:
        for layer in self.model.layers:
            if layer.weights:
                layer.set_weights([given[f"{layer.name}/kernel"], given[f"{layer.name}/bias"]])

    @property
    def momentum(self) -> dict[str, NDArray[np.float32]]:
        """The state of the optimizer, float32 copies by number."""
        return {str(place): self._numbers(each) for place, each in enumerate(self._optimizer.variables)}

    @momentum.setter
    def momentum(self, given: dict[str, NDArray[np.float32]]) -> None:
        for place, each in enumerate(self._optimizer.variables):
            each.assign(given[str(place)].reshape(each.shape).astype(each.dtype))

    def _numbers(self, variable: Any) -> NDArray[np.float32]:
        return np.array(self._numpy(variable.value), np.float32)


def judge(logits: NDArray[np.float32], truth: NDArray[np.intp]) -> tuple[float, float, float]:
    """Return the loss after calibration, the accuracy, and the temperature of the calibration (`heads.cooled`).

    `logits` are float32 (photos, classes), `truth` (photos,).
    """
    exact = logits.astype(np.float64)
    temperature = cooled(exact, truth)
    losses = losses_of(exact / temperature, truth)
    return float(even(truth) @ losses), float((logits.argmax(axis=1) == truth).mean()), temperature


def is_better(loss: float, least: float) -> bool:
    """Whether a loss is lower than the least before by more than chance makes it."""
    return math.isfinite(loss) and loss < least * (1 - 1e-3)


def is_over(history: Sequence[Epoch]) -> bool:
    """Whether no further epoch is trained: there were as many as were asked for, or PATIENCE without a better one."""
    last = history[-1]
    best = max(each.number for each in history if each.best)
    return last.number >= last.most or last.number - best >= PATIENCE
