"""Whether the service lives, and whether it takes photos: as the Open Inference Protocol asks, and as probes do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.responses import JSONResponse

from . import schemas
from .problems import UNAVAILABLE, RefusedError

if TYPE_CHECKING:
    from .service import Service


def router(service: Service) -> APIRouter:
    """Return the routes of a service's health."""
    made = APIRouter(prefix="/v2/health", tags=["health"])

    @made.get(
        "/live",
        summary="Say that the service runs",
        responses={200: schemas.answers("Live", "It runs."), **schemas.refusals()},
    )
    async def live() -> JSONResponse:
        return JSONResponse({"live": True})

    @made.get(
        "/ready",
        summary="Say whether the service takes photos",
        responses={200: schemas.answers("Ready", "It does."), **schemas.refusals()},
    )
    async def ready() -> JSONResponse:
        if not service.ready:
            raise RefusedError(UNAVAILABLE)
        return JSONResponse({"ready": True})

    return made
