"""/metrics: a service's figures as Prometheus reads them, in a registry of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from .. import __version__
from . import queries, schemas
from .figures import Measures

if TYPE_CHECKING:
    from .service import Service

METRICS = "/metrics"
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # of the one form that every collector of metrics takes


def router(service: Service) -> APIRouter:
    """Return the route of a service's figures."""
    made, registry = APIRouter(tags=["metrics"]), CollectorRegistry()
    registry.register(_Figures(service))
    ProcessCollector(registry=registry)  # of this process: memory, processor time, open files

    @made.get(
        METRICS,
        summary="Tell figures of the service to Prometheus",
        response_class=Response,
        responses={200: schemas.text("The figures, in the text format of Prometheus."), **schemas.refusals()},
    )
    async def metrics(request: Request) -> Response:
        queries.read(request.query_params.multi_items(), [])
        return Response(generate_latest(registry), media_type=MEDIA_TYPE)

    return made


class _Figures(Collector):
    """A service's figures, read when they are asked for."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Give all of them, the same ones each time."""
        yield from self._static()
        yield from self._house()
        yield from self._work()

    def _static(self) -> Iterator[Metric]:
        yield _gauge("build_info", "The version of photolabel; always 1.", 1, {"version": __version__})
        names = ("name", "model", "precision", "recipe", "digest", "calibration")
        models = GaugeMetricFamily("photolabel_model_info", "The models that answer; always 1.", labels=names)
        for each in self._service.models:
            models.add_metric([str(each[name] or "") for name in names], 1)
        yield models

    def _house(self) -> Iterator[Metric]:
        service, admission, settings = self._service, self._service.admission, self._service.settings
        yield _gauge("ready", "1 where photos are taken, as /v2/health/ready says it.", int(service.ready))
        yield _gauge("photos_inside", "Photos between their arrival and their answer.", admission.photos)
        yield _gauge("photos_inside_max", "How many there may be.", settings.queue)
        yield _gauge("held_bytes", "Bytes of bodies in memory.", admission.held)
        yield _gauge("held_max_bytes", "How many there may be.", settings.held_bytes)
        yield _counter("photos_admitted", "Photos that were taken in.", {(): admission.admitted_photos})
        yield _counter(
            "refused",
            "Requests refused because there was no room: for photos, for bytes, or in an address's share of them.",
            {(reason,): count for reason, count in admission.refusals.items()},
            "reason",
        )
        if service.figures.connections is not None:
            yield _gauge("connections", "Connections that are open.", service.figures.connections())
            yield _gauge("connections_max", "How many there may be.", settings.connections)

    def _work(self) -> Iterator[Metric]:
        figures = self._service.figures
        yield _counter(
            "requests", "Requests by their path's template.", figures.requests.read(), "path", "method", "status"
        )
        yield _histogram(
            "request_seconds", "From a request's head to the end of its answer.", figures.request_seconds, "path"
        )
        yield _histogram("decode_seconds", "What a worker took for a photo.", figures.decode_seconds)
        yield _counter(
            "workers_died", "Processes that ended over a photo, or were ended.", {(): self._service.workers_died}
        )
        yield _histogram("batch_photos", "Photos that a network named together.", figures.batch_photos, "model")
        yield _histogram(
            "network_seconds",
            "What a network took for photos together, or for the errand of one request.",
            figures.network_seconds,
            "model",
            "work",
        )


def _gauge(name: str, told: str, value: float, words: dict[str, str] | None = None) -> Metric:
    made = GaugeMetricFamily(f"photolabel_{name}", told, labels=[*(words or {})])
    made.add_metric([*(words or {}).values()], value)
    return made


def _counter(name: str, told: str, counts: dict[tuple[str, ...], int], *labels: str) -> Metric:
    made = CounterMetricFamily(f"photolabel_{name}", told, labels=labels)
    for words, count in sorted(counts.items()):
        made.add_metric(words, count)
    return made


def _histogram(name: str, told: str, measures: Measures, *labels: str) -> Metric:
    made = HistogramMetricFamily(f"photolabel_{name}", told, labels=labels)
    bounds = [*map(str, measures.bounds), "+Inf"]
    for words, found in sorted(measures.read().items()):
        made.add_metric(words, [*zip(bounds, map(float, found.counts), strict=True)], found.total)
    return made
