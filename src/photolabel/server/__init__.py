"""The service: photos in over HTTP, records out.

>>> from photolabel.server import Settings, create_app
>>> app = create_app(photolabel.load(), settings=Settings(queue=32))    # for any ASGI server

From the outside in: `protocol` is HTTP itself with its limits, `guard` what stands before every route, `routes`,
`looks`, `inference`, `health` and `metrics` what is answered, `forms`, `queries` and `tensors` how a request is read,
`service` what an application holds, `admission` how much may be in the house, `turns` who is next, `batching` the way
of a photo through decoders and network, `closer` that of one which is explained, by the `parts` of the network, and
`figures` what is counted. `schemas`, `tensor_schemas` and `describing` say what it does; `app` puts it together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..extras import needed
from .settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..classifier import Classifier

__all__ = ["Settings", "create_app"]


def create_app(classifiers: Classifier | Mapping[str, Classifier], *, settings: Settings | None = None) -> FastAPI:
    """Return the service as an ASGI application: see `app.create_app`. Raises `MissingExtraError` without FastAPI."""
    with needed("serve"):
        from . import app
    return app.create_app(classifiers, settings=settings)
