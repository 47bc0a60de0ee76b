"""What the file of a taught network says of how it was taught, beside what every model's file says of itself.

`photolabel.taught` is JSON: the backbone, the head, the report. `photolabel.examples` are the photos that it was taught
with, so that more can be added later: of each the beginning of its SHA-256, its class and its name. Either may come
from a stranger and is checked as `models.parse` checks the rest.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import metadata
from .errors import InvalidModelError, UsageError
from .images import Recipe

FORMAT = 1
TUNED = "fine-tuned"  # the kind of a head that was trained together with the network under it
KEY_BYTES = 16  # of a photo's SHA-256: enough that no two photos share them
TAUGHT, EXAMPLES = "photolabel.taught", "photolabel.examples"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MOST_REPORT = 1 << 20  # characters
_MOST_EXAMPLES = 2_000_000
_MOST_PACKED = 1 << 28  # bytes of the list, unpacked: a hundred thousand photos have some 8 MB
_LONGEST = 300  # bytes of an example's name
_SPARE = 1 << 10  # bytes that an entry of the metadata may take beside its key and its value


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The frozen network under the head.

    `network` is `sha256:` and the hash of what computes its `layer`, whose numbers the head reads
    (`graph.head.digest`); photos were prepared by `recipe`, which may have several views, and run at `precision`.
    """

    name: str
    network: str
    layer: str
    recipe: Recipe
    precision: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """A photo that a network was taught with: the first 16 bytes of its SHA-256, the index of its class, a name."""

    key: bytes
    index: int
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Taught:
    """How a network was taught.

    `kind` is the head's, `TUNED` where the network under it was trained with it, `strength` that of its regularisation,
    `counts` how many examples each class had. `floor` is the familiarity below which a photo shows none of the classes,
    -1..1; None where that was not learnt. `report` is what the teaching found out, as plain values of JSON.
    """

    origin: Origin
    kind: str
    strength: float | None
    seed: int
    counts: tuple[int, ...]
    floor: float | None = None
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        origin, floor, strength = self.origin, self.floor, self.strength
        if not all(_is_text(each) for each in (origin.name, origin.precision, self.kind)) or not origin.layer:
            raise UsageError("a taught network's names must be of 1 to 100 printable characters.")
        if not isinstance(origin.layer, str) or len(origin.layer) > 1000 or not _DIGEST.fullmatch(origin.network):
            raise UsageError("expected the layer and the sha256: digest of the network that it was taught from.")
        if not all(_is_number(each) for each in (floor, strength) if each is not None):
            raise UsageError("expected finite numbers for the floor and the strength, or None.")
        if floor is not None and not -1 <= floor <= 1:
            raise UsageError(f"floor={floor!r}: expected a cosine, -1..1.")
        if not all(_is_count(each) for each in (self.seed, *self.counts)) or len(self.counts) < 2:
            raise UsageError("expected a seed and one count a class, of at least two, as whole numbers from 0.")


def describe(taught: Taught, examples: Sequence[Known], described: Mapping[str, str]) -> dict[str, str]:
    """Return all that the file of a taught network says of itself; `described` is what `Model.describe` makes.

    Where the examples do not fit into what is read of a file, their names are left out; if they do not fit even so,
    all of them are: then none can be added later without giving these again. Raises `UsageError` for a report that is
    too large, and for examples that contradict each other or the counts.
    """
    _check(taught, examples)
    told = {**described, TAUGHT: _written(taught)}
    if len(json.dumps(taught.report)) > _MOST_REPORT:
        raise UsageError(f"the report of the teaching is too large: expected at most {_MOST_REPORT:,} characters.")
    nameless = [replace(each, name="") for each in examples]
    for kept in (examples, nameless):
        made = {**told, EXAMPLES: _packed(kept)}
        if sum(len(key) + len(value.encode()) + _SPARE for key, value in made.items()) <= metadata.MAX_BYTES:
            return made
    return told


def read(path: Path) -> Taught | None:
    """Return how the network in the ONNX file at `path` was taught, None for one that was not.

    Raises `InvalidModelError` for a broken description.
    """
    try:
        return parse(metadata.read(path))
    except OSError as error:
        raise InvalidModelError(f"{path}: cannot be read: {error.strerror}.") from None
    except InvalidModelError as error:
        raise InvalidModelError(f"{path}: {error}") from None


def parse(found: Mapping[str, str]) -> Taught | None:
    """Return how a network was taught by the metadata of its file; None where they do not say.

    Raises `InvalidModelError` for what is broken or of another format.
    """
    if TAUGHT not in found:
        return None
    try:
        match json.loads(found[TAUGHT], parse_constant=_refuse):
            case {"format": form} if form != FORMAT or form is True:
                raise InvalidModelError(f"it was taught by another photolabel: expected its format {FORMAT}.")
            case {
                "format": int(),
                "backbone": {
                    "name": str() as name,
                    "network": str() as network,
                    "layer": str() as layer,
                    "recipe": recipe,
                    "precision": str() as precision,
                    **more,
                },
                "head": {"kind": str() as kind, "strength": strength, **others},
                "seed": seed,
                "counts": [*counts],
                "floor": floor,
                "report": {**report},
                **rest,
            } if not (more or others or rest):
                origin = Origin(
                    name=name, network=network, layer=layer, recipe=Recipe.from_dict(recipe), precision=precision
                )
                return Taught(
                    origin=origin,
                    kind=kind,
                    strength=strength,
                    seed=seed,
                    counts=tuple(counts),
                    floor=floor,
                    report={str(key): value for key, value in report.items()},
                )
    except (ValueError, TypeError, RecursionError):  # UsageError is a ValueError
        pass
    raise _broken()


def examples(found: Mapping[str, str], how: Taught) -> tuple[Known, ...]:
    """Return the photos that a network was taught with, by the metadata of its file, of which `how` was parsed.

    None of them where the file does not keep any. Raises `InvalidModelError` for a list that is broken: nothing of it
    is unpacked beyond what a list can be.
    """
    if EXAMPLES not in found:
        return ()
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(found[EXAMPLES], validate=True), _MOST_PACKED)
        if not unpacker.eof or unpacker.unused_data:
            raise _broken()
        count = int.from_bytes(data[:4], "little")
        start, end = 4 + KEY_BYTES * count, 4 + (KEY_BYTES + 4) * count
        if count > _MOST_EXAMPLES or len(data) < end:
            raise _broken()
        indices = np.frombuffer(data[start:end], "<u4").tolist()
        names = data[end:].split(b"\0") if data[end:] else [b""] * count
        if len(names) != count or _counted(indices) != _counts(how):
            raise _broken()
        keys = [data[4 + KEY_BYTES * i : 4 + KEY_BYTES * (i + 1)] for i in range(count)]
        if len(set(keys)) != count or max(map(len, names), default=0) > _LONGEST:
            raise _broken()
    except (binascii.Error, zlib.error, ValueError):
        raise _broken() from None
    return tuple(
        Known(key=key, index=index, name=name.decode("utf-8", "replace"))
        for key, index, name in zip(keys, indices, names, strict=True)
    )


def _packed(known: Sequence[Known]) -> str:
    keys = b"".join(each.key for each in known)
    indices = np.array([each.index for each in known], "<u4").tobytes()
    names = b"\0".join(_short(each.name) for each in known) if any(each.name for each in known) else b""
    data = len(known).to_bytes(4, "little") + keys + indices + names
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")


def _short(name: str) -> bytes:
    return name.encode("utf-8", "backslashreplace").replace(b"\0", b"?")[-_LONGEST:]


def _written(taught: Taught) -> str:
    origin = taught.origin
    told = {
        "format": FORMAT,
        "backbone": {
            "name": origin.name,
            "network": origin.network,
            "layer": origin.layer,
            "recipe": origin.recipe.to_dict(),
            "precision": origin.precision,
        },
        "head": {"kind": taught.kind, "strength": taught.strength},
        "seed": taught.seed,
        "counts": list(taught.counts),
        "floor": taught.floor,
        "report": dict(taught.report),
    }
    try:
        return json.dumps(told, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError):
        raise UsageError("the report of the teaching must be of plain values, without NaN and infinity.") from None


def _check(taught: Taught, known: Sequence[Known]) -> None:
    if len({each.key for each in known}) != len(known) or any(len(each.key) != KEY_BYTES for each in known):
        raise UsageError(f"expected each example once, by the first {KEY_BYTES} bytes of its SHA-256.")
    if known and _counted(each.index for each in known) != _counts(taught):
        raise UsageError("expected as many examples of each class as the counts say.")


def _counted(indices: Iterable[int]) -> dict[int, int]:
    return dict(Counter(indices))


def _counts(taught: Taught) -> dict[int, int]:
    return {index: count for index, count in enumerate(taught.counts) if count}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 100 and value.isprintable()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _broken() -> InvalidModelError:
    return InvalidModelError("what it says of how it was taught (photolabel.taught, photolabel.examples) is broken.")
