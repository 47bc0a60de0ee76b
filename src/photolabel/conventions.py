"""What a network of a user's own expects of its input: the ready conventions by name, and those of a small JSON file.

A convention is all that an ONNX file made elsewhere does not say: the geometry, the normalisation, and where its
declared shape leaves it open, which axis holds the colours. `adapt` puts the normalisation into the graph, and the
geometry becomes the model's recipe.
"""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from .errors import UsageError
from .models import CAFFE, Normalisation
from .recipes import Fit, Recipe

Layout = Literal["NCHW", "NHWC"]
_SIZE = 224  # where neither the network nor the recipe says
_MAX_BYTES = 64 * 2**10
_KEYS = ("size", "fit", "side", "filter", "order", "mean", "deviation", "layout", "output")
_NEEDED = ("order", "mean", "deviation")


@dataclass(frozen=True, kw_only=True)
class Convention:
    """How a photo becomes the input of a network, the size left open where the network itself says it.

    `size` None takes the network's, else 224. `side` None scales 256 for 224; with a `margin` it is that much more
    than the size instead. `layout` is needed only where the network's declared shape does not show it, and `output`
    where several of its outputs could be the classes.
    """

    name: str
    fit: Fit = "resize-crop"
    filter: str = "bilinear"
    normalisation: Normalisation
    size: int | None = None
    side: int | None = None
    margin: int | None = None
    layout: Layout | None = None
    output: str | None = None

    def recipe(self, size: int | None) -> Recipe:
        """Return the geometry for a network that takes `size` x `size` pixels, or any. Raises `UsageError`."""
        size = self.size or size or _SIZE
        side = self.side
        if side is None and self.fit != "squash":
            side = size + self.margin if self.margin is not None else round(size * 256 / 224)
        return Recipe(name=self.name, size=size, fit=self.fit, side=side, filter=self.filter)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return asdict(self)


# On the scale 0-255, in the channel order named.
_IMAGENET = Normalisation(
    order="RGB",
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
    deviation=(0.229 * 255, 0.224 * 255, 0.225 * 255),
)
_PLUS_MINUS_ONE = Normalisation(order="RGB", mean=(127.5, 127.5, 127.5), deviation=(127.5, 127.5, 127.5))
_LITE = Normalisation(order="RGB", mean=(127.0, 127.0, 127.0), deviation=(128.0, 128.0, 128.0))
_UNIT = Normalisation(order="RGB", mean=(0.0, 0.0, 0.0), deviation=(255.0, 255.0, 255.0))
_RAW = Normalisation(order="RGB", mean=(0.0, 0.0, 0.0))

CONVENTIONS = {
    each.name: each
    for each in (
        # torchvision/transforms/_presets.py, ImageClassification; timm's and most of PyTorch's too.
        Convention(name="torchvision", normalisation=_IMAGENET),
        # Oxford's and Caffe's: the published protocol, and what Keras' tutorial does instead.
        Convention(name="caffe", filter="bicubic", normalisation=CAFFE),
        Convention(name="keras", fit="squash", filter="nearest", normalisation=CAFFE),
        # keras/applications/imagenet_utils.py, mode 'tf'; the middle 87.5 %, as Inception's own preprocessing.
        Convention(name="tf", fit="crop-resize", normalisation=_PLUS_MINUS_ONE),
        # preprocessing.py of EfficientNet's TensorFlow original, with Lite's MEAN_RGB and STDDEV_RGB.
        Convention(name="efficientnet-lite", fit="crop-resize", filter="bicubic", margin=32, normalisation=_LITE),
        Convention(name="unit", normalisation=_UNIT),
        Convention(name="raw", normalisation=_RAW),
    )
}


def resolve(recipe: str | os.PathLike[str]) -> Convention:
    """Return the convention of that name, or the one in the JSON file at that path. A name wins over a file.

    Raises `UsageError` for neither, and for a file that is not strictly of the documented form.
    """
    if isinstance(recipe, str) and recipe in CONVENTIONS:
        return CONVENTIONS[recipe]
    shown = os.fspath(recipe)
    try:
        with Path(recipe).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        close = difflib.get_close_matches(shown.lower(), CONVENTIONS, n=1)
        raise UsageError(
            f"no recipe {shown[:200]!r} for a network of your own: expected one of {', '.join(CONVENTIONS)}, or the "
            f"path of a JSON file that can be read.{f' Did you mean {close[0]}?' if close else ''}"
        ) from None
    try:
        return _parse(data, _name(Path(recipe)))
    except UsageError as error:  # of a Recipe
        raise UsageError(f"{shown}: {error}") from None
    except _WrongError as error:
        raise UsageError(f"{shown}: expected {error}.") from None


def _name(path: Path) -> str:
    return path.stem if path.stem.isprintable() and len(path.stem) <= 64 else "own"


class _WrongError(ValueError):
    """What was expected, and what came."""


def _parse(data: bytes, name: str) -> Convention:
    if len(data) > _MAX_BYTES:
        raise _WrongError(f"a recipe of at most {_MAX_BYTES:,} bytes")
    try:
        value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once)
    except _WrongError:
        raise
    except (ValueError, RecursionError):  # of which UnicodeDecodeError is one
        raise _WrongError("a recipe as a JSON object") from None
    if not isinstance(value, dict):
        raise _WrongError("a recipe as a JSON object")
    for key in value:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise _WrongError(f"only the fields {', '.join(_KEYS)}, got {key[:80]!r}{hint}")
    for key in _NEEDED:
        if key not in value:
            raise _WrongError(f"the fields {', '.join(_NEEDED)} at least; there is no {key}")
    made = Convention(
        name=name,
        fit=_one_of(value, "fit", get_args(Fit), "resize-crop"),
        filter=_text(value, "filter", "bilinear"),
        normalisation=Normalisation(
            order=_one_of(value, "order", ("RGB", "BGR"), ""),
            mean=_three(value, "mean"),
            deviation=_three(value, "deviation"),
        ),
        size=_whole(value, "size"),
        side=_whole(value, "side"),
        layout=_one_of(value, "layout", get_args(Layout), None),
        output=_text(value, "output", None),
    )
    if min(made.normalisation.deviation) < 1e-3:
        raise _WrongError("a deviation of at least 0.001")
    if max(made.normalisation.deviation) < 1:
        raise _WrongError("mean and deviation on the scale 0-255; these are on the scale 0-1: multiply them by 255")
    if made.size or made.side is None:
        made.recipe(None)
    else:  # whether the side is large enough, the network's size will tell
        Recipe(name=name, size=1, fit=made.fit, side=made.side, filter=made.filter)
    return made


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _WrongError("each field once; one comes twice")
    return found


def _one_of(value: dict[str, Any], key: str, allowed: tuple[str, ...], default: str | None) -> Any:
    found = value.get(key, default)
    if key in value and found not in allowed:
        raise _WrongError(f"{key} to be one of {', '.join(allowed)}")
    return found


def _text(value: dict[str, Any], key: str, default: str | None) -> Any:
    found = value.get(key, default)
    if key in value and not isinstance(found, str):
        raise _WrongError(f"{key} to be a text")
    return found


def _whole(value: dict[str, Any], key: str) -> int | None:
    found = value.get(key)
    if key in value and (not isinstance(found, int) or isinstance(found, bool) or found < 1):
        raise _WrongError(f"{key} to be a whole number of at least 1")
    return found


def _three(value: dict[str, Any], key: str) -> tuple[float, float, float]:
    match value[key]:
        case [a, b, c] if all(
            isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < 1e6 for x in (a, b, c)
        ):  # NaN is refused too
            return float(a), float(b), float(c)
    raise _WrongError(f"{key} to be three numbers, in the channel order of order and on the scale 0-255")
