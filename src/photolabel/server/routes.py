"""Names for photos: /v1/classify and /v1/classify/batch, and what models and labels there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from .. import output
from ..classifier import DEFAULT_TOP
from . import forms, queries, schemas
from .batching import Asked
from .closer import Why

if TYPE_CHECKING:
    from ..classifier import Classifier
    from ..prediction import Prediction
    from .service import Service

CLASSIFY, BATCH, MODELS, LABELS = "/v1/classify", "/v1/classify/batch", "/v1/models", "/v1/labels"


def router(service: Service) -> APIRouter:
    """Return the routes of a service."""
    made, settings, names = APIRouter(tags=["photos"]), service.settings, list(service.classifiers)
    of_photo = queries.of_photo(settings, names, top=DEFAULT_TOP)
    of_one = [*of_photo, queries.EXPLAIN]
    of_model = [queries.model(names)]

    @made.post(
        CLASSIFY,
        summary="Name what is in a photo",
        **of_photos("Record", "The photo's record.", of_one),
    )
    async def classify(request: Request) -> Response:
        asked = queries.read(request.query_params.multi_items(), of_one)
        model = service.named(asked["model"])
        service.check(model, _asked(asked))
        if asked["explain"]:
            return await explained(service, request, model, _asked(asked), Why(), tree=asked["tree"])
        with service.admission.holding() as hold:
            upload = await forms.photo(request, settings, hold)
            (prediction,) = await service.classify([upload], model, _asked(asked), request.receive)
        if prediction.error is not None:
            raise prediction.error
        return answered(record(prediction, service.classifiers[model], tree=asked["tree"]))

    @made.post(
        BATCH,
        summary="Name what is in several photos",
        description="One record each, in their order; of a photo that cannot be classified, one that says why.",
        **of_photos("Records", "The photos' records.", of_photo, most=settings.files),
    )
    async def classify_batch(request: Request) -> Response:
        asked = queries.read(request.query_params.multi_items(), of_photo)
        model = service.named(asked["model"])
        service.check(model, _asked(asked))
        with service.admission.holding() as hold:
            uploads = await forms.photos(request, settings, hold)
            found = await service.classify(uploads, model, _asked(asked), request.receive)
        classifier = service.classifiers[model]
        records = [record(each, classifier, tree=asked["tree"] and each.error is None) for each in found]
        return answered({"records": records})

    @made.get(
        MODELS,
        summary="List the models that answer here",
        response_class=Response,
        responses={200: schemas.answers("Models", "The models."), **schemas.refusals()},
    )
    async def models(request: Request) -> Response:
        queries.read(request.query_params.multi_items(), [])
        return answered({"models": service.models})

    @made.get(
        LABELS,
        summary="List the classes of a model",
        response_class=Response,
        responses={200: schemas.answers("Labels", "The classes, in order."), **schemas.refusals(404)},
        openapi_extra={"parameters": [each.openapi() for each in of_model]},
    )
    async def labels(request: Request) -> Response:
        asked = queries.read(request.query_params.multi_items(), of_model)
        return Response(service.labels(service.named(asked["model"])), media_type=schemas.JSON)

    return made


def of_photos(
    answer: str, description: str, parameters: Iterable[queries.Parameter], *, most: int | None = None
) -> dict[str, Any]:
    """Return what a route that takes a photo, or `most` in a form, is declared with, beside what it does.

    `answer` is the component that a 200 is, and `description` says what that tells.
    """
    body = schemas.photo_body(forms.FIELD) if most is None else schemas.photos_body(forms.FIELD, most)
    return {
        "response_class": Response,
        "responses": {200: schemas.answers(answer, description), **schemas.refusals(404, 429)},
        "openapi_extra": {"parameters": [each.openapi() for each in parameters], "requestBody": body},
    }


def _asked(asked: dict[str, Any]) -> Asked:
    return Asked(top=asked["top"], sure=asked["sure"], coverage=asked["coverage"])


async def explained(
    service: Service, request: Request, model: str, asked: Asked, why: Why, *, tree: bool = False
) -> Response:
    """Answer with a photo's record and the evidence for one of its names."""
    closer = service.closer(model)
    await closer.check(why)
    with service.admission.holding() as hold:
        upload = await forms.photo(request, service.settings, hold)
        prediction, evidence = await service.answer(lambda: closer.explain(upload, asked, why), request.receive)
    return answered({**record(prediction, service.classifiers[model], tree=tree), "evidence": evidence})


def record(prediction: Prediction, classifier: Classifier, *, tree: bool = False) -> dict[str, Any]:
    """Return the photo's record, and beside it what else was asked for."""
    made = prediction.record()
    if tree:
        made["tree"] = _above(prediction, classifier)
    return made


def _above(prediction: Prediction, classifier: Classifier) -> list[dict[str, Any]] | None:
    """The names above the answer, or above the likeliest class where that is unsure; None outside WordNet."""
    if prediction.answer is None or (tree := classifier.tree) is None:
        return None
    wnid = prediction.answer.wnid or prediction.top.wnid
    return [
        {"wnid": name.wnid, "name": name.name, "everyday": name.everyday, "probability": probability}
        for name, probability in tree.along(str(wnid), prediction.probabilities)
    ]


def answered(values: Mapping[str, Any]) -> Response:
    """Return the answer that says these values, as JSON."""
    return Response(output.json_line(values).encode("ascii"), media_type=schemas.JSON)
