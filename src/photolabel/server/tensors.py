"""The Open Inference Protocol's tensors: a request's body -> pixels, probabilities -> an answer's body.

What comes is JSON, with the numbers in it or, by the protocol's extension for binary data, behind it. Nothing in it is
believed: of how many numbers a shape speaks is reckoned before they are looked at, and each must be a pixel's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import listed
from .problems import RefusedError, refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..recipes import Recipe

PIXELS, PROBABILITIES = "pixels", "probabilities"
VERSION = "1"  # of every model: another network is another model
EXTENSIONS = ("binary_tensor_data",)
BINARY = "application/octet-stream"
HEADER = "Inference-Header-Content-Length"  # how many bytes of a body are JSON; the rest is binary data
LONGEST_ID = 256  # characters

_KINDS: Mapping[str, str] = {"UINT8": "u1", "FP32": "<f4"}
_MOST_BESIDE = 65_536  # bytes of JSON besides the numbers
_SIZE, _BINARY, _ALL_BINARY, _CONTENT = "binary_data_size", "binary_data", "binary_data_output", "content_type"


@dataclass(frozen=True, kw_only=True, eq=False)
class Inference:
    """What is asked: `pixels`, uint8 or float32 (N, size, size, 3), 0..255; `binary`: an answer in binary data."""

    pixels: NDArray[Any] = field(repr=False)
    id: str | None = None
    binary: bool = False


def read(body: bytes, header: int | None, *, model: str, size: int, most: int) -> Inference:
    """Return what a body asks of a model whose pictures have this size, at most so many of them.

    `header` is how many bytes of it are JSON; None: all are. Raises `RefusedError`.
    """
    if header is not None and header > len(body):
        raise _wrong(f"{HEADER}: expected at most as many bytes as the body has.")
    value, numbers = _parsed(body[:header])
    request = _members(
        "the request",
        value,
        {"inputs"},
        {"id", "outputs", "parameters", "model_name", "model_version"},
    )
    for name, own in (("model_name", model), ("model_version", VERSION)):
        if request.get(name) not in (None, own):
            raise _wrong(f"{name}: expected the one in the path, or none.")
    inputs = request["inputs"]
    if not isinstance(inputs, list) or len(inputs) != 1:
        raise _wrong(f"inputs: expected one, {PIXELS}.")
    parameters = _parameters("parameters", request, {_ALL_BINARY, _CONTENT})
    binary = _binary(request.get("outputs"), _flag(parameters, _ALL_BINARY, default=False))
    return Inference(
        pixels=_pixels(inputs[0], numbers, memoryview(body)[len(body) if header is None else header :], size, most),
        id=_id(request.get("id")),
        binary=binary,
    )


def answer(asked: Inference, probabilities: NDArray[np.float32], model: str) -> tuple[bytes, int | None]:
    """Return an answer's body, and how many bytes of it are JSON where the rest is binary data, else None."""
    output: dict[str, Any] = {"name": PROBABILITIES, "datatype": "FP32", "shape": [*probabilities.shape]}
    data = b""
    if asked.binary:
        data = probabilities.astype("<f4", copy=False).tobytes()
        output["parameters"] = {_SIZE: len(data)}
    else:
        output["data"] = probabilities.ravel().tolist()
    document = {"model_name": model, "model_version": VERSION}
    if asked.id is not None:
        document["id"] = asked.id
    text = json.dumps({**document, "outputs": [output]}, allow_nan=False).encode("ascii")
    return text + data, len(text) if asked.binary else None


def described(model: str, recipe: Recipe, classes: int) -> dict[str, Any]:
    """Return what the protocol tells of a model; of the input also, as parameters, how a photo becomes it."""
    geometry = {"recipe": recipe.name, "fit": recipe.fit, "side": recipe.side, "filter": recipe.filter}
    pixels = {
        "name": PIXELS,
        "datatype": "UINT8",
        "shape": [-1, recipe.size, recipe.size, 3],
        "parameters": {"channels": "RGB", **{name: value for name, value in geometry.items() if value is not None}},
    }
    probabilities = {"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, classes]}
    return {
        "name": model,
        "versions": [VERSION],
        "platform": "onnx_onnxv1",
        "inputs": [pixels],
        "outputs": [probabilities],
    }


# -- JSON


def _parsed(text: bytes) -> tuple[Any, bytes | None]:
    """What a text says, and, apart from that, its list of numbers, in whose place there is an empty one."""
    try:
        beside, numbers = listed.taken(text)
        if len(beside) > _MOST_BESIDE:
            raise ValueError
        return json.loads(beside.decode("utf-8"), object_pairs_hook=_object), numbers
    except (ValueError, RecursionError):
        raise _wrong(
            "Expected a request as JSON, in UTF-8: one list of numbers named data at most, no other long ones, no name "
            f"twice. Where binary data follows it, {HEADER} says how many bytes are JSON."
        ) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError
    return made


def _members(what: str, value: object, needed: set[str], possible: set[str]) -> dict[str, Any]:
    """An object that has all that is needed, and else only what is possible."""
    if not isinstance(value, dict) or not needed <= set(value) <= needed | possible:
        raise _wrong(
            f"{what}: expected an object with {', '.join(sorted(needed))}, and perhaps {', '.join(sorted(possible))}."
        )
    return value


def _parameters(what: str, owner: Mapping[str, Any], possible: set[str]) -> dict[str, Any]:
    """The parameters of a request, an input or an output, null and none being the same; each is one that is heeded."""
    found = {} if owner.get("parameters") is None else owner["parameters"]
    if not isinstance(found, dict) or not set(found) <= possible:
        raise _wrong(
            f"{what}: expected an object with nothing in it but {', '.join(sorted(possible))}. Others, which would "
            "not be heeded, are refused."
        )
    if found.get(_CONTENT, "np") != "np":
        raise _wrong(f"{what}: {_CONTENT}: expected np, for here are plain tensors only.")
    return found


def _flag(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise _wrong(f"{name}: expected true or false.")
    return value


def _id(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or len(value) > LONGEST_ID):
        raise _wrong(f"id: expected a string of at most {LONGEST_ID} characters.")
    return value


def _binary(outputs: object, otherwise: bool) -> bool:
    """Whether the one output that there is, chosen or not, is to come in binary data."""
    if outputs is None or outputs == []:
        return otherwise
    if not isinstance(outputs, list) or len(outputs) != 1:
        raise _wrong(f"outputs: expected one, {PROBABILITIES}, or none for all.")
    output = _members("outputs", outputs[0], {"name"}, {"parameters"})
    if output["name"] != PROBABILITIES:
        raise _wrong(f"outputs: expected {PROBABILITIES}, of another name there is none.")
    return _flag(_parameters("outputs: parameters", output, {_BINARY, _CONTENT}), _BINARY, default=otherwise)


# -- numbers


def _pixels(value: object, numbers: bytes | None, binary: memoryview, size: int, most: int) -> NDArray[Any]:
    given = _members(f"inputs: {PIXELS}", value, {"name", "shape", "datatype"}, {"data", "parameters"})
    if given["name"] != PIXELS:
        raise _wrong(f"inputs: expected {PIXELS}, of another name there is none.")
    kind = given["datatype"]
    if not isinstance(kind, str) or kind not in _KINDS:
        raise _wrong(f"{PIXELS}: datatype: expected {' or '.join(_KINDS)}.")
    shape = _shape(given["shape"], size, most)
    parameters = _parameters(f"{PIXELS}: parameters", given, {_SIZE, _CONTENT})
    if _SIZE in parameters and given.get("data") is None:
        return _from_bytes(binary, parameters[_SIZE], kind, shape)
    if numbers is None or _SIZE in parameters:  # the list is this input's, for nothing else may have a member data
        raise _wrong(f"{PIXELS}: expected its numbers either in a list, data, or, with {_SIZE}, behind the JSON.")
    if binary:
        raise _wrong(f"The body has binary data behind its JSON, which no input has a {_SIZE} for.")
    return _from_list(numbers, kind, shape)


def _shape(value: object, size: int, most: int) -> tuple[int, ...]:
    """Both what is no shape and what does not fit here."""
    if not isinstance(value, list) or len(value) != 4 or not all(type(side) is int for side in value):
        raise _not_this_shape(size)
    if value[1:] != [size, size, 3] or value[0] < 1:
        raise _not_this_shape(size)
    if value[0] > most:
        raise refused("request-too-large", f"{PIXELS}: at most {most} pictures may come in one request.")
    return tuple(value)


def _not_this_shape(size: int) -> RefusedError:
    return _wrong(f"{PIXELS}: shape: expected [N, {size}, {size}, 3].")


def _from_bytes(data: memoryview, count: object, kind: str, shape: Sequence[int]) -> NDArray[Any]:
    wanted = int(np.prod(shape)) * np.dtype(_KINDS[kind]).itemsize
    if type(count) is not int or count != wanted or len(data) != wanted:
        raise _wrong(
            f"{PIXELS}: expected {wanted:,} bytes of binary data for {kind} {[*shape]}, as many by {_SIZE}, and "
            f"nothing behind them; {HEADER} says how many bytes of the body are JSON."
        )
    pixels = np.frombuffer(data, _KINDS[kind]).reshape(shape)
    if not (pixels.min() >= 0 and pixels.max() <= 255):  # neither of NaN is so
        raise _no_pixels(kind)
    return pixels


def _from_list(numbers: bytes, kind: str, shape: Sequence[int]) -> NDArray[Any]:
    try:
        found = listed.pixels(numbers, shape, np.uint8 if kind == "UINT8" else np.float32)
    except ValueError:
        raise _no_pixels(kind) from None
    if found is None:
        raise _wrong(f"{PIXELS}: data: expected {np.prod(shape):,} numbers, in one list or nested as {[*shape]}.")
    return found


def _no_pixels(kind: str) -> RefusedError:
    what = "whole numbers" if kind == "UINT8" else "numbers"
    return _wrong(
        f"{PIXELS}: expected {what} from 0 to 255, red, green and blue of pixels as they are: the network's own first "
        "layers normalise them."
    )


def _wrong(detail: str) -> RefusedError:
    return refused("bad-request", detail)
