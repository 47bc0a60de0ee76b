"""Classifiers -> an ASGI application, complete with its guard; where every part of the service is put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .. import __version__
from . import describing, health, inference, looks, metrics, page, problems, routes, schemas, tensor_schemas
from .guard import Guard
from .heads import KEYLESS, Door
from .places import Places
from .service import Service
from .settings import Settings

if TYPE_CHECKING:
    from ..classifier import Classifier

_OPENAPI = "/openapi.json"
# What FastAPI would do of itself: look for a collector of traces. Versions before it did ignore this.
_QUIET: Any = {"auto_configure": False, "tracing": False, "metrics": False, "logs": False}


def create_app(classifiers: Classifier | Mapping[str, Classifier], *, settings: Settings | None = None) -> FastAPI:
    """Return the service as an ASGI application.

    `classifiers` are one, or a table of them by the names that requests call them by; the first is the default. They
    stay the caller's, who closes them when the application has ended. The application starts its workers with its
    lifespan. `app.state.service` is what further routes need, `app.state.door` what a
    server may ask before it calls the application. Raises `UsageError` for names that make no sense.
    """
    settings = Settings() if settings is None else settings
    service = Service(classifiers, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="photolabel",
        version=__version__,
        summary="Names what is in photographs.",
        lifespan=lifespan,
        openapi_url=_OPENAPI if settings.docs else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_QUIET,
    )
    app.state.service = service
    routers = [room.router(service) for room in (routes, looks, health, inference, metrics)]
    for router in routers:
        app.include_router(router)
    app.openapi = lambda: _openapi(app, settings)  # type: ignore[method-assign]
    if settings.docs:
        app.add_route(describing.PATH, _docs, include_in_schema=False)
    if settings.page:
        for path in page.FILES:
            app.add_route(path, _page_file, methods=["GET"], include_in_schema=False)
        paths = {route.path for router in routers for route in router.routes if isinstance(route, Route)}
        known = page.about(settings, explains="/v1/explain" in paths, looks="/v1/look" in paths)
        app.add_route(page.ABOUT, lambda _: Response(known, media_type=schemas.JSON), include_in_schema=False)
    app.add_exception_handler(HTTPException, _http_problem)
    # The paths that take a body, and how many bytes; whoever adds a route that does, adds it here.
    form = settings.form_bytes
    one = (routes.CLASSIFY, looks.EXPLAIN, looks.LOOK, looks.EMBED)
    bodies = dict.fromkeys(one, settings.body_bytes + form) | {routes.BATCH: settings.batch_bytes + form}
    bodies |= dict.fromkeys(inference.INFER, max(settings.body_bytes, settings.json_bytes))
    templates = [route.path for router in routers for route in router.routes if isinstance(route, Route)]
    templates += [_OPENAPI, describing.PATH] if settings.docs else []
    templates += page.PLACES if settings.page else []
    app.state.door = Door(
        settings=settings,
        bodies=bodies,
        keyless=KEYLESS | page.PATHS if settings.page else KEYLESS,
        room=service.check_room,
        place=Places(templates),
        seen=service.figures.request,
    )
    app.add_middleware(Guard, door=app.state.door)
    return app


async def _docs(request: Request) -> Response:
    content, policy = describing.described(request.app.openapi())
    return Response(content, media_type="text/html", headers={"content-security-policy": policy})


async def _page_file(request: Request) -> Response:
    file = page.served(request.scope["path"])
    if page.unchanged(file.headers["etag"], request.headers.get("if-none-match")):
        return Response(status_code=304, headers=file.headers)
    return Response(file.content, media_type=file.media_type, headers=file.headers)


async def _http_problem(request: Request, error: Exception) -> Response:
    """What the router itself refuses: no such path, or not with this method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        allowed = ", ".join([allowed, *(["HEAD"] if allowed == "GET" else []), "OPTIONS"])
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": allowed})
        made = problems.problem("method-not-allowed", f"Expected {allowed}.", {"allow": allowed})
    elif error.status_code == 404:
        made = problems.problem("not-found", "What there is: see /openapi.json, or the documentation.")
    else:
        made = problems.problem("bad-request", "The request is not as it should be.")
    return Response(
        made.body(request.scope["path"]),
        status_code=made.status,
        headers=dict(made.headers),
        media_type=problems.MEDIA_TYPE,
    )


def _openapi(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes, openapi_version="3.1.0"
        )
        made.setdefault("components", {}).setdefault("schemas", {}).update(
            schemas.COMPONENTS | tensor_schemas.COMPONENTS
        )
        service = app.state.service
        made["components"]["examples"] = schemas.examples(service, tensor_schemas.examples(service))
        if settings.api_keys:
            made["components"]["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            }
            made["security"] = [{"bearer": []}, {"header": []}]
        app.openapi_schema = made
    return app.openapi_schema
