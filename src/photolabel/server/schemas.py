"""What the service's OpenAPI document says of bodies: records, problems, models, labels; and of every status."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from .problems import MEDIA_TYPE, OWN, STATUSES, URN, of

if TYPE_CHECKING:
    from .service import Service

Schema: TypeAlias = dict[str, Any]

JSON = "application/json"
_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer", "minimum": 0}
_PROBABILITY: Schema = {"type": "number", "minimum": 0, "maximum": 1}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(required: Schema, description: str = "", **further: Schema) -> Schema:
    made: Schema = {"type": "object", "required": list(required), "properties": {**required, **further}}
    return {**made, "description": description} if description else made


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_NAMED: Schema = {"index": _WHOLE, "wnid": _or_null(_TEXT), "name": _TEXT, "everyday": _or_null(_TEXT)}

_LABEL = _object(_NAMED, "A class: its place among the model's classes, its WordNet id, its name, and what people say.")
_RANKED = _object({**_NAMED, "probability": _PROBABILITY}, "A class and how probable it is.")
_ANSWER = _object(
    {
        "kind": {"type": "string", "enum": ["leaf", "broader", "unsure"]},
        "wnid": _or_null(_TEXT),
        "name": _TEXT,
        "probability": _PROBABILITY,
        "everyday": _or_null(_TEXT),
        "reason": _or_null(_TEXT),
    },
    "What photolabel is willing to say: the likeliest class, or what is as sure as was asked for.",
)
_FILE = _object({"sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"}, "bytes": _WHOLE}, "The photo's bytes.")
_DECODING = _object(
    {
        "format": _TEXT,
        "width": _WHOLE,
        "height": _WHOLE,
        "orientation": {"type": "integer", "minimum": 1, "maximum": 8},
        "scale": {"type": "integer", "enum": [1, 2, 4, 8]},
        "mode": _TEXT,
        "profile": {"type": "boolean"},
        "transparent": {"type": "boolean"},
    },
    "What the decoder made of them.",
)
_ERROR = _object({"code": _TEXT, "message": _TEXT}, "Why a photo of a batch could not be classified.")
_ABOVE = _object(
    {"wnid": _TEXT, "name": _TEXT, "everyday": _TEXT, "probability": _PROBABILITY}, "A name above the answer."
)
_RECORD = _object(
    {
        "schema": {"type": "string", "const": "photolabel/1"},
        "photo": _or_null(_TEXT),
        "model": _TEXT,
        "recipe": _TEXT,
        "precision": _TEXT,
        "labels": {"type": "array", "items": _ref("RankedLabel")},
        "answer": _or_null(_ref("Answer")),
        "error": _or_null(_ref("PhotoError")),
        "file": _or_null(_FILE),
        "decoding": _or_null(_DECODING),
        "names": _or_null(
            _object({"coverage": _PROBABILITY, "labels": {"type": "array", "items": _ref("RankedLabel")}})
        ),
        "opinions": _or_null({"type": "object"}),
        "calibration": _or_null(_object({"digest": _TEXT, "temperature": {"type": "number"}})),
        "truth": {"type": "null"},
    },
    "What is known of one photo: the record that the command line and the library give for the same bytes.",
    tree=_or_null({"type": "array", "items": _ref("Above")}),
)
_PNG: Schema = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"}
_SIZE: Schema = {"type": "array", "items": _WHOLE, "minItems": 2, "maxItems": 2}
_EDGES: Schema = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
_EVIDENCE = _object(
    {
        "label": _ref("RankedLabel"),
        "method": {"type": "string", "enum": ["gradient", "activation", "occlusion"]},
        "size": _SIZE,
        "cut": _EDGES,
        "box": _or_null(_EDGES),
        "map": _PNG,
    },
    "Where the evidence for a class is. size: width and height of the photo upright; cut: what of it the network saw; "
    "box: round the most of the evidence, null where there is none; both left, top, right, bottom in its pixels. map: "
    "a PNG of 8-bit grey over the cut, 255 where most of the evidence is.",
)
_RECORD["properties"]["evidence"] = _ref("Evidence")
_LOOK = _object(
    {
        "photo": _or_null(_TEXT),
        "model": _TEXT,
        "recipe": _TEXT,
        "facts": {"type": "array", "items": _TEXT},
        "warnings": {"type": "array", "items": _TEXT},
        "orientation": {"type": "integer", "minimum": 1, "maximum": 8},
        "size": _SIZE,
        "cut": _EDGES,
        "input": _PNG,
    },
    "What the network gets of a photo. facts and warnings: what was done to it and what is odd, for people; size: "
    "width and height of the photo once it is turned as orientation says; cut: what of it the network gets, left, "
    "top, right, bottom in its pixels; input: the network's pixels.",
)
_FEATURES = _object(
    {
        "photo": _or_null(_TEXT),
        "model": _TEXT,
        "layer": _TEXT,
        "shape": {"type": "array", "items": _WHOLE},
        "features": {"type": "array", "items": {"type": "number"}},
    },
    "What a layer makes of a photo: float32 numbers, exactly; those of a map row by row, its channels last.",
)
_MODEL = _object(
    {
        "name": _TEXT,
        "default": {"type": "boolean"},
        "model": _TEXT,
        "classes": _WHOLE,
        "recipe": _TEXT,
        "precision": _TEXT,
        "digest": _or_null(_TEXT),
        "calibration": _or_null(_TEXT),
        "licence": _TEXT,
        "layers": {"type": "array", "items": _TEXT},
    },
    "A model of this service: what to call it, what answers under that name, and the layers that /v1/embed may be "
    "asked for.",
)


def _codes() -> list[str]:
    return sorted({*OWN, *(kind.code for kind in STATUSES)})


_PROBLEM = _object(
    {
        "type": {"type": "string", "enum": [URN + code for code in _codes()]},
        "title": _TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": _TEXT,
        "code": {"type": "string", "enum": _codes()},
    },
    "A problem, as RFC 9457 has it.",
)

COMPONENTS: Schema = {
    "Above": _ABOVE,
    "Answer": _ANSWER,
    "Evidence": _EVIDENCE,
    "Explained": {
        **_RECORD,
        "required": [*_RECORD["required"], "evidence"],
        "description": "What is known of one photo, and where in it the evidence for a class is.",
    },
    "Features": _FEATURES,
    "Label": _LABEL,
    "Labels": _object({"labels": {"type": "array", "items": _ref("Label")}}),
    "Look": _LOOK,
    "Model": _MODEL,
    "Models": _object({"models": {"type": "array", "items": _ref("Model")}}),
    "PhotoError": _ERROR,
    "Problem": _PROBLEM,
    "RankedLabel": _RANKED,
    "Record": _RECORD,
    "Records": _object({"records": {"type": "array", "items": _ref("Record")}}, "One record a photo, in their order."),
    "Live": _object({"live": {"type": "boolean"}}),
    "Ready": _object({"ready": {"type": "boolean"}}),
}

_COFFEE: Schema = {"index": 967, "wnid": "n07920052", "name": "espresso", "everyday": "espresso"}
_EXAMPLE: Schema = {
    "schema": "photolabel/1",
    "photo": "coffee.jpg",
    "model": "efficientnet-lite2",
    "recipe": "efficientnet-lite2",
    "precision": "fp32",
    "labels": [{**_COFFEE, "probability": 0.8894}],
    "answer": {
        "kind": "leaf",
        "wnid": "n07920052",
        "name": "espresso",
        "probability": 0.8894,
        "everyday": "espresso",
        "reason": None,
    },
    "error": None,
    "file": {"sha256": "5f" * 32, "bytes": 40_123},
    "decoding": {
        "format": "JPEG",
        "width": 600,
        "height": 400,
        "orientation": 1,
        "scale": 1,
        "mode": "RGB",
        "profile": False,
        "transparent": False,
    },
    "names": None,
    "opinions": None,
    "calibration": None,
    "truth": None,
}

# Of 2 x 2 pixels.
_SMALL_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAAAAABX3VL4AAAADklEQVR4nGNgCGVY9R8AA60B/2f7ygkAAAAASUVORK5CYII="
_EXAMPLE_EVIDENCE: Schema = {
    "label": _EXAMPLE["labels"][0],
    "method": "activation",
    "size": [600, 400],
    "cut": [122.0, 22.0, 478.0, 378.0],
    "box": [211.0, 83.4, 389.0, 244.5],
    "map": _SMALL_PNG,
}
_EXAMPLE_LOOK: Schema = {
    "photo": "coffee.jpg",
    "model": "efficientnet-lite2",
    "recipe": "efficientnet-lite2",
    "facts": [
        "JPEG, 600 x 400 pixels",
        "recipe efficientnet-lite2: 356 x 356 of its pixels (53% of it), to 260 x 260 (bicubic)",
    ],
    "warnings": [],
    "orientation": 1,
    "size": [600, 400],
    "cut": [122.0, 22.0, 478.0, 378.0],
    "input": _SMALL_PNG,
}
_EXAMPLE_FEATURES: Schema = {
    "photo": "coffee.jpg",
    "model": "efficientnet-lite2",
    "layer": "features",
    "shape": [4],
    "features": [0.0, 0.25, 1.5, 0.03125],
}

# What any request may be answered with, whatever it asks for: by the guard, or by HTTP itself.
ALWAYS = (400, 401, 403, 405, 408, 413, 414, 415, 421, 422, 431, 500, 503)


def examples(service: Service, further: Schema) -> Schema:
    """Return an example of each body that a 200 has, `further` ones too, by the names that `answers` is given."""
    labels: list[Schema] = json.loads(service.labels(service.default))["labels"]
    made: Schema = {
        "Record": _EXAMPLE,
        "Records": {"records": [_EXAMPLE]},
        "Explained": {**_EXAMPLE, "evidence": _EXAMPLE_EVIDENCE},
        "Look": _EXAMPLE_LOOK,
        "Features": _EXAMPLE_FEATURES,
        "Models": {"models": service.models},
        "Labels": {"labels": labels[:3]},
        "Live": {"live": True},
        "Ready": {"ready": True},
        **further,
    }
    return {name: {"value": value} for name, value in made.items()}


def answers(name: str, description: str) -> Schema:
    """Return what a 200 is: a body of the component `name`, with its example."""
    # By reference: what FastAPI copies it rids of every null.
    example = {"$ref": f"#/components/examples/{name}"}
    return {"description": description, "content": {JSON: {"schema": _ref(name), "examples": {"answer": example}}}}


def text(description: str) -> Schema:
    """Return what a 200 of plain text is."""
    return {"description": description, "content": {"text/plain": {"schema": _TEXT}}}


def refusals(*further: int) -> dict[int | str, Schema]:
    """Return what the problems of a path are, by status: those of every path, and `further` ones."""
    return {status: _refusal(status) for status in sorted({*ALWAYS, *further})}


def _refusal(status: int) -> Schema:
    titles = [title for each, title in OWN.values() if each == status]
    titles += [of(kind("")).title for kind, each in STATUSES.items() if each == status]
    headers: Iterable[str] = {
        401: ["WWW-Authenticate"],
        405: ["Allow"],
        429: ["Retry-After"],
        503: ["Retry-After"],
    }.get(status, [])
    made: Schema = {
        "description": "; ".join(dict.fromkeys(titles)),
        "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
    }
    if headers:
        made["headers"] = {name: {"schema": _TEXT} for name in headers}
    return made


def photo_body(field: str) -> Schema:
    """Return what the body of one photo is: as it is, or in a form."""
    return {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary", "minLength": 1}},
            "multipart/form-data": {"schema": _form({"type": "string", "format": "binary"}, field)},
        },
    }


def photos_body(field: str, most: int) -> Schema:
    """Return what the body of several photos is: a form."""
    several: Schema = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "minItems": 1,
        "maxItems": most,
    }
    return {"required": True, "content": {"multipart/form-data": {"schema": _form(several, field)}}}


def _form(schema: Schema, field: str) -> Schema:
    return {"type": "object", "required": [field], "additionalProperties": False, "properties": {field: schema}}
