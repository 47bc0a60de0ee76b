"""Rows with photos -> rows with records: for the `map_batches` of a Ray Dataset, or of anything else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

from .. import batch, loading
from ..classifier import DEFAULT_TOP
from ..errors import PhotoNotFoundError, UsageError
from ..images import DEFAULT_LIMITS, Limits
from ..output import json_line, parquet
from ..sources import Item

_BYTES, _PATH = "bytes", "path"


class Labeler:
    """Names what is in the photos of a batch of rows; the model is loaded once, when it is made.

    A row has a photo's file as `bytes`, or its `path`, or both: then `path` is only what to call it. It keeps its other
    columns but `bytes`, and gets those of the record (docs/records.md), `photo` being its path. There is one row for
    each; a photo that cannot be read has an `error`.

    `model`, `weights`, `labels`, `recipe`, `views`, `precision`, `engine` and `limits` are as in `photolabel.load`;
    `threads` by default one, for Ray gives an actor one processor where nothing else is said: `num_cpus` should be the
    same. `top`, `sure` and `coverage` are as in `Classifier.classify`, `workers` and `seconds` as in
    `photolabel.classify_folder`: one process that decodes, and may die of a photo.

    Raises what `photolabel.load` raises, and `MissingExtraError` without pyarrow.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        weights: str | os.PathLike[str] | None = None,
        labels: str | os.PathLike[str] | None = None,
        recipe: str | os.PathLike[str] | None = None,
        views: str | None = None,
        scales: Sequence[int] = (),
        precision: str = "fp32",
        threads: int | None = 1,
        engine: str = "openvino",
        limits: Limits = DEFAULT_LIMITS,
        calibrated: bool = True,
        top: int | None = DEFAULT_TOP,
        sure: float | None = None,
        coverage: float | None = None,
        workers: int | None = 1,
        seconds: float = batch.SECONDS,
    ) -> None:
        parquet.check()
        self._asked = {"top": top, "sure": sure, "coverage": coverage}
        with ExitStack() as stack:
            self._decoders = batch.crew(workers, seconds=seconds, stack=stack)
            self._classifier = stack.enter_context(
                loading.load(
                    model,
                    weights=weights,
                    labels=labels,
                    recipe=recipe,
                    views=views,
                    scales=scales,
                    precision=precision,
                    threads=threads,
                    engine=engine,
                    limits=limits,
                    calibrated=calibrated,
                )
            )
            self._classifier.predict([], top=top, sure=sure, coverage=coverage)
            self._stack = stack.pop_all()

    def __call__(self, rows: Any) -> Any:
        """Return the rows with their records, as an Arrow table.

        `rows` are columns by their names, each a sequence, as Ray's batch format "numpy" has them, or an Arrow table.
        Raises `UsageError` for rows without photos, or with a column that a record has.
        """
        columns = _columns(rows)
        names, data = columns.get(_PATH), columns.pop(_BYTES, None)
        if names is None and data is None:
            raise UsageError("expected rows with a column `bytes` of photos' files, or `path` of their paths.")
        items = _items(names, data)
        stream = batch.predictions(items, self._classifier, self._decoders, **self._asked)  # type: ignore[arg-type]
        with closing(stream):
            lines = [json_line(prediction.record()).encode("ascii") for prediction in stream]
        return parquet.table(lines, beside=columns)

    def close(self) -> None:
        """End the decoder and free the network."""
        self._stack.close()

    def __enter__(self) -> Labeler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _columns(rows: Any) -> dict[str, Any]:
    """The columns by their names; those of an Arrow table as they are."""
    if isinstance(rows, Mapping):
        return dict(rows)
    return {name: rows.column(name) for name in rows.column_names}


def _items(names: Any, data: Any) -> Iterator[Item]:
    photos = _plain(names if data is None else data)
    called = [""] * len(photos) if names is None else _plain(names)
    for name, photo in zip(called, photos, strict=True):
        text = "" if name is None else os.fsdecode(name)
        if photo is None:
            yield Item(photo=text, error=PhotoNotFoundError("The row has no photo."))
        else:
            yield Item(photo=text, path=text) if data is None else Item(photo=text, data=bytes(photo))


def _plain(column: Any) -> list[Any]:
    """The values of a column of NumPy's, of Arrow's, or of any other sequence."""
    for way in ("to_pylist", "tolist"):
        if hasattr(column, way):
            return list(getattr(column, way)())
    return list(column)
