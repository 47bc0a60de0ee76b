"""A closer look at a photo: /v1/explain, /v1/look and /v1/embed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..classifier import DEFAULT_TOP
from . import forms, queries
from .batching import Asked
from .closer import Why
from .routes import answered, explained, of_photos

if TYPE_CHECKING:
    from .service import Service

EXPLAIN, LOOK, EMBED = "/v1/explain", "/v1/look", "/v1/embed"


def router(service: Service) -> APIRouter:
    """Return the routes of a service."""
    made, settings, names = APIRouter(tags=["photos"]), service.settings, list(service.classifiers)
    of_model = [queries.model(names)]
    of_evidence = [*of_model, *queries.of_evidence()]
    layers = dict.fromkeys(name for each in service.layers.values() for name in each.names)
    of_layer = [*of_model, queries.layer(list(layers))]
    asked_always = Asked(top=min(DEFAULT_TOP, settings.top))

    @made.post(
        EXPLAIN,
        summary="Say where in a photo the evidence for a name is",
        description="The photo's record, and beside it the evidence: a map, and the box round the most of it.",
        **of_photos("Explained", "The photo's record, with the evidence.", of_evidence),
    )
    async def explain(request: Request) -> Response:
        asked = queries.read(request.query_params.multi_items(), of_evidence)
        model, why = service.named(asked["model"]), Why(label=asked["label"], method=asked["method"])
        service.check(model, asked_always)
        return await explained(service, request, model, asked_always, why)

    @made.post(
        LOOK,
        summary="Say what a network gets to see of a photo",
        description="Its very pixels, where they are in the photo, and what is odd about them. No network runs.",
        **of_photos("Look", "What the network gets.", of_model),
    )
    async def look(request: Request) -> Response:
        asked = queries.read(request.query_params.multi_items(), of_model)
        model = service.named(asked["model"])
        service.check(model, asked_always)
        closer = service.closer(model)
        with service.admission.holding() as hold:
            upload = await forms.photo(request, settings, hold)
            return answered(await service.answer(lambda: closer.look(upload), request.receive))

    @made.post(
        EMBED,
        summary="Give what an inner layer of a network makes of a photo",
        description="Photos that show alike things have numbers alike.",
        **of_photos("Features", "The layer's numbers.", of_layer),
    )
    async def embed(request: Request) -> Response:
        asked = queries.read(request.query_params.multi_items(), of_layer)
        model = service.named(asked["model"])
        layer = service.layers[model].named(asked["layer"])
        service.check(model, asked_always)
        closer = service.closer(model)
        with service.admission.holding() as hold:
            upload = await forms.photo(request, settings, hold)
            return answered(await service.answer(lambda: closer.embed(upload, layer), request.receive))

    return made
