"""The service's own page about itself, at /docs: its OpenAPI document for people, without a script from anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .. import page
from .schemas import JSON

PATH = "/docs"
_PLACES = {"path": "In the path", "header": "In the headers", "query": "The query"}


def described(document: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return the page of an OpenAPI document, as UTF-8, and the policy to send it with, which allows its style only."""
    made = page.document(
        f"{document['info']['title']} {document['info']['version']}",
        kind="docs",
        lead=document["info"].get("summary", ""),
        facts=[("for programs", tag_code("/openapi.json")), ("errors", "problem details of RFC 9457")],
        sections=[*_operations(document), _records(document)],
    )
    style = re.search(rb"<style>(.*?)</style>", made, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1]).digest()).decode("ascii")
    return made, f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'"


def tag_code(text: str) -> page.Markup:
    """Return what is written just so."""
    return page.tag("code", None, text)


def _operations(document: Mapping[str, Any]) -> Iterator[page.Section]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            word = re.sub("[^a-z0-9]+", "-", f"{method}{path}".lower()).strip("-")
            yield page.Section(
                anchor=word,
                heading=f"{method.upper()} {path}",
                content=page.join(
                    page.tag("p", None, f"{operation['summary']}. {operation.get('description', '')}"),
                    _body(operation),
                    *_parameters(operation),
                    _statuses(operation),
                    page.details("An answer", _example(document, operation)),
                ),
            )


def _body(operation: Mapping[str, Any]) -> page.Markup | None:
    if "requestBody" not in operation:
        return None
    kinds = [
        f"{kind}, field {field}" if (field := ", ".join(each["schema"].get("properties", ()))) else kind
        for kind, each in operation["requestBody"]["content"].items()
    ]
    return page.tag("p", None, "The body: ", "; or ".join(kinds), ".")


def _parameters(operation: Mapping[str, Any]) -> list[page.Markup]:
    found = []
    for where, heading in _PLACES.items():
        rows = [
            (tag_code(each["name"]), each["description"], _default(each["schema"]))
            for each in operation.get("parameters", ())
            if each["in"] == where
        ]
        found += [page.table(heading, ["parameter", "what", "default"], rows)] if rows else []
    return found


def _default(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema["default"]) if "default" in schema else page.NOTHING


def _statuses(operation: Mapping[str, Any]) -> page.Markup:
    rows = [(status, each["description"]) for status, each in sorted(operation["responses"].items())]
    return page.details("What it may answer", page.table("Statuses", ["status", "what"], rows))


def _example(document: Mapping[str, Any], operation: Mapping[str, Any]) -> page.Markup | None:
    for each in operation["responses"]["200"]["content"].get(JSON, {}).get("examples", {}).values():
        value = document["components"]["examples"][each["$ref"].rpartition("/")[2]]["value"]
        lines = json.dumps(value, indent=2).splitlines()
        return page.tag("pre", None, [page.join(line, page.Markup("\n")) for line in lines])
    return None


def _records(document: Mapping[str, Any]) -> page.Section:
    schemas = document["components"]["schemas"]
    rows = [
        (tag_code(name), tag_code(", ".join(each.get("properties", ()))), each.get("description", ""))
        for name, each in sorted(schemas.items())
    ]
    return page.Section(
        anchor="schemas", heading="What bodies hold", content=page.table("Schemas", ["name", "fields", "what"], rows)
    )
