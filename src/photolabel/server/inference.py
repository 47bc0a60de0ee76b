"""The Open Inference Protocol 2, by REST (KServe's): what models take and give, and the probabilities of pixels."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from .. import __version__
from . import forms, queries, schemas, tensor_schemas, tensors
from .batching import Asked
from .problems import UNAVAILABLE, RefusedError, refused

if TYPE_CHECKING:
    from ..classifier import Classifier
    from .service import Service

SERVER = "/v2"
MODEL = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
READY, INFER = tuple(f"{path}/ready" for path in MODEL), tuple(f"{path}/infer" for path in MODEL)

_AT_ONCE = 65_536  # bytes of a body that are read in the event loop: to have another thread do it takes longer


def router(service: Service) -> APIRouter:
    """Return the routes of the protocol, but for those of the service's health."""
    made, settings = APIRouter(tags=["inference"]), service.settings

    def chosen(request: Request) -> tuple[str, Classifier]:
        """The model of a request's path. Raises `RefusedError` where there is none such, or none that takes pixels."""
        queries.read(request.query_params.multi_items(), [])
        name = service.named(request.path_params["name"])
        if request.path_params.get("version", tensors.VERSION) != tensors.VERSION:
            raise refused("unknown-model", f"Of each model this service has the version {tensors.VERSION}.")
        classifier = service.classifiers[name]
        if classifier.several:
            raise refused(
                "no-pixels",
                "It averages the answers of several networks or views, so no one tensor of pixels is what it takes. "
                "POST /v1/classify takes the photo itself.",
            )
        return name, classifier

    async def server(request: Request) -> Response:
        queries.read(request.query_params.multi_items(), [])
        return _json({"name": "photolabel", "version": __version__, "extensions": [*tensors.EXTENSIONS]})

    async def metadata(request: Request) -> Response:
        name, classifier = chosen(request)
        return _json(tensors.described(name, classifier.recipe, len(classifier.model.labels)))

    async def ready(request: Request) -> Response:
        name, _ = chosen(request)
        if not service.ready:
            raise RefusedError(UNAVAILABLE)
        return _json({"name": name, "ready": True})

    async def infer(request: Request) -> Response:
        name, classifier = chosen(request)
        service.check(name, Asked())
        header = _header(request, settings.json_bytes)
        with service.admission.holding() as hold:
            most = settings.json_bytes if header is None else settings.body_bytes
            body = await forms.whole(request, most, hold)
            work = partial(tensors.read, body, header, model=name, size=classifier.recipe.size, most=settings.files)
            asked = work() if len(body) <= _AT_ONCE else await service.aside(work)
            del body, work  # JSON is not needed any more
            found = await service.infer(asked.pixels, name, request.receive)
        answer = partial(tensors.answer, asked, found, name)
        content, length = answer() if asked.binary else await service.aside(answer)
        if length is None:
            return Response(content, media_type=schemas.JSON)
        return Response(content, media_type=tensors.BINARY, headers={tensors.HEADER: str(length)})

    names = list(service.classifiers)
    made.add_api_route(
        SERVER,
        server,
        summary="Say what server this is",
        response_class=Response,
        responses={200: schemas.answers("Server", "Its name, version and extensions."), **schemas.refusals()},
    )
    for path in MODEL:
        made.add_api_route(
            path,
            metadata,
            summary="Say what tensors a model takes and gives",
            response_class=Response,
            responses={200: schemas.answers("Tensors", "The tensors."), **schemas.refusals(404)},
            openapi_extra={"parameters": tensor_schemas.in_path(path, names)},
        )
    for path in READY:
        made.add_api_route(
            path,
            ready,
            summary="Say whether a model takes pixels",
            response_class=Response,
            responses={200: schemas.answers("ModelReady", "It does."), **schemas.refusals(404)},
            openapi_extra={"parameters": tensor_schemas.in_path(path, names)},
        )
    for path in INFER:
        made.add_api_route(
            path,
            infer,
            methods=["POST"],
            summary="Name what is in prepared pixels",
            description="The network's own probabilities, not calibrated. As JSON, or by the protocol's extension for "
            "binary data.",
            response_class=Response,
            responses={200: tensor_schemas.inferred(), **schemas.refusals(404, 429)},
            openapi_extra={
                "parameters": [*tensor_schemas.in_path(path, names), tensor_schemas.HEADER],
                "requestBody": tensor_schemas.BODY,
            },
        )
    return made


def _header(request: Request, most: int) -> int | None:
    """How many bytes of the body are JSON, where the request says it. Raises `RefusedError`."""
    said = request.headers.getlist(tensors.HEADER)
    if not said:
        return None
    if len(said) != 1 or not re.fullmatch("[0-9]{1,18}", said[0], re.ASCII):
        raise refused("bad-request", f"{tensors.HEADER}: expected it once, a whole number.")
    if int(said[0]) > most:
        raise refused("request-too-large", f"The JSON before the binary data may have {most:,} bytes.")
    return int(said[0])


def _json(value: Any) -> Response:
    return Response(json.dumps(value).encode("ascii"), media_type=schemas.JSON)
