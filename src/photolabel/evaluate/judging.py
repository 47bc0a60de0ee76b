"""Photos whose classes are known -> Predictions that say how right they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..batch import Decoders, Timing, predictions
from ..cluster import Cluster
from ..prediction import Prediction, Truth
from .outcomes import TOP, Outcome

if TYPE_CHECKING:
    from ..classifier import Classifier
    from ..sources import Item
    from ..truth import Labelled


def judged(
    photos: Iterable[Labelled],
    classifier: Classifier,
    decoders: Decoders | Cluster,
    *,
    top: int | None,
    timing: Timing | None = None,
) -> Generator[Prediction]:
    """Yield one Prediction a photo, in their order, each with its `truth`.

    `photos` are asked for in another thread, as by `batch.predictions`, which does the work.
    """
    waiting: deque[int] = deque()

    def items() -> Iterator[Item]:
        for photo in photos:
            waiting.append(photo.index)
            yield photo.item

    with closing(predictions(items(), classifier, decoders, top=top, timing=timing)) as stream:
        for prediction in stream:
            yield _judged(prediction, waiting.popleft(), classifier)


def _judged(prediction: Prediction, index: int, classifier: Classifier) -> Prediction:
    label = classifier.model.labels[index]
    truth = Truth(index=index, wnid=label.wnid, name=label.name)
    if prediction.error is None:
        probabilities = prediction.probabilities
        # Of equals the one with the lower index is the likelier, as in the labels.
        before = np.count_nonzero(probabilities > probabilities[index])
        before += np.count_nonzero(probabilities[:index] == probabilities[index])
        truth = replace(truth, probability=float(probabilities[index]), rank=int(before) + 1)
    return replace(prediction, truth=truth)


def outcome(record: Mapping[str, Any]) -> Outcome:
    """Return what matters of a judged photo's record, which has at least `TOP` labels if the model has."""
    truth, labels, error = record["truth"], record["labels"], record["error"]
    if error is not None:
        return Outcome(photo=record["photo"], truth=truth["index"], error=error["message"])
    return Outcome(
        photo=record["photo"],
        truth=truth["index"],
        top=tuple(label["index"] for label in labels[:TOP]),
        probability=min(1.0, labels[0]["probability"]),
        of_truth=min(1.0, truth["probability"]),
    )
