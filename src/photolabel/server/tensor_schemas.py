"""What the service's OpenAPI document says of the Open Inference Protocol: its tensors, and bodies with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import __version__
from . import schemas, tensors

if TYPE_CHECKING:
    from .service import Service

_TEXT: schemas.Schema = {"type": "string"}
_PARAMETERS: schemas.Schema = {"type": "object"}
_KIND: schemas.Schema = {"type": "string", "enum": ["UINT8", "FP32"]}
_NUMBERS: schemas.Schema = {"type": "array", "items": {"type": "number"}}
_BYTES: schemas.Schema = {"type": "string", "format": "binary"}


def _object(properties: schemas.Schema, *optional: str, closed: bool = False) -> schemas.Schema:
    made: schemas.Schema = {
        "type": "object",
        "required": [name for name in properties if name not in optional],
        "properties": properties,
    }
    return {**made, "additionalProperties": False} if closed else made


def _list(of: str) -> schemas.Schema:
    return {"type": "array", "minItems": 1, "maxItems": 1, "items": {"$ref": f"#/components/schemas/{of}"}}


def _shape(least: int) -> schemas.Schema:
    return {"type": "array", "items": {"type": "integer", "minimum": least}}


COMPONENTS: schemas.Schema = {
    "Server": _object({"name": _TEXT, "version": _TEXT, "extensions": {"type": "array", "items": _TEXT}}),
    "Tensor": {
        **_object({"name": _TEXT, "datatype": _KIND, "shape": _shape(-1), "parameters": _PARAMETERS}, "parameters"),
        "description": "A tensor that a model takes or gives; -1 in a shape stands for any number. The parameters of "
        "one that it takes say how a photo becomes it.",
    },
    "Tensors": _object(
        {
            "name": _TEXT,
            "versions": {"type": "array", "items": _TEXT},
            "platform": _TEXT,
            "inputs": _list("Tensor"),
            "outputs": _list("Tensor"),
        }
    ),
    "ModelReady": _object({"name": _TEXT, "ready": {"type": "boolean"}}),
    "Input": {
        **_object(
            {
                "name": {"type": "string", "enum": [tensors.PIXELS]},
                "shape": {**_shape(1), "minItems": 4, "maxItems": 4},
                "datatype": _KIND,
                "parameters": _object(
                    {"binary_data_size": {"type": "integer", "minimum": 0}, "content_type": _TEXT},
                    "binary_data_size",
                    "content_type",
                    closed=True,
                ),
                "data": {"type": "array", "items": {"anyOf": [{"type": "number"}, {"type": "array"}]}},
            },
            "parameters",
            "data",
            closed=True,
        ),
        "description": "Pictures as the model's recipe makes them, red, green and blue from 0 to 255: their numbers "
        "in one list, nested as the shape is, or, where binary_data_size says so, behind the JSON.",
    },
    "Output": {
        **_object(
            {
                "name": {"type": "string", "enum": [tensors.PROBABILITIES]},
                "parameters": _object(
                    {"binary_data": {"type": "boolean"}, "content_type": _TEXT},
                    "binary_data",
                    "content_type",
                    closed=True,
                ),
            },
            "parameters",
            closed=True,
        ),
        "description": "An output that is asked for, and whether it is to come as binary data.",
    },
    "Inference": _object(
        {
            "id": {"type": "string", "maxLength": tensors.LONGEST_ID},
            "model_name": _TEXT,
            "model_version": _TEXT,
            "parameters": _object(
                {"binary_data_output": {"type": "boolean"}, "content_type": _TEXT},
                "binary_data_output",
                "content_type",
                closed=True,
            ),
            "inputs": _list("Input"),
            "outputs": {**_list("Output"), "minItems": 0},
        },
        "id",
        "model_name",
        "model_version",
        "parameters",
        "outputs",
        closed=True,
    ),
    "Given": _object(
        {"name": _TEXT, "datatype": _TEXT, "shape": _shape(1), "parameters": _PARAMETERS, "data": _NUMBERS},
        "parameters",
        "data",
    ),
    "Inferred": {
        **_object(
            {"model_name": _TEXT, "model_version": _TEXT, "id": _TEXT, "outputs": _list("Given")},
            "id",
        ),
        "description": "The probabilities of each picture's classes, as /v1/labels lists them, one picture after the "
        "other.",
    },
}

HEADER: schemas.Schema = {
    "name": tensors.HEADER,
    "in": "header",
    "required": False,
    "description": "How many bytes of the body are JSON, where binary data follows it.",
    "schema": {"type": "integer", "minimum": 0},
}
BODY: schemas.Schema = {
    "required": True,
    "content": {
        schemas.JSON: {"schema": {"$ref": "#/components/schemas/Inference"}},
        tensors.BINARY: {"schema": _BYTES},
    },
}


def in_path(path: str, models: Sequence[str]) -> list[schemas.Schema]:
    """Return the parameters in a path's template."""
    known: dict[str, tuple[str, Sequence[str]]] = {
        "name": ("Which of the service's models; see /v1/models.", models),
        "version": ("Each has the one version 1.", [tensors.VERSION]),
    }
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": description,
            "schema": {"type": "string", "enum": [*values]},
        }
        for name, (description, values) in known.items()
        if f"{{{name}}}" in path
    ]


def inferred() -> schemas.Schema:
    """Return what the answer with probabilities is, in both its forms."""
    made = schemas.answers("Inferred", "The probabilities.")
    made["content"][tensors.BINARY] = {"schema": _BYTES}
    made["headers"] = {tensors.HEADER: {"description": "With binary data.", "schema": {"type": "integer"}}}
    return made


def examples(service: Service) -> dict[str, Any]:
    """Return an example of each body, by the names of their components."""
    name, classifier = service.default, service.classifiers[service.default]
    classes = len(classifier.model.labels)
    output = {"name": tensors.PROBABILITIES, "datatype": "FP32", "shape": [1, 3], "data": [0.125, 0.75, 0.125]}
    return {
        "Server": {"name": "photolabel", "version": __version__, "extensions": [*tensors.EXTENSIONS]},
        "Tensors": tensors.described(name, classifier.recipe, classes),
        "ModelReady": {"name": name, "ready": True},
        "Inferred": {"model_name": name, "model_version": tensors.VERSION, "outputs": [output]},
    }
