"""The service behind Ray Serve: the same application, a replica each."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from .. import loading
from ..errors import UsageError
from ..extras import needed
from ..images import Limits
from ..server import Settings, create_app

if TYPE_CHECKING:
    from ..classifier import Classifier

_HEARD, _HEARS = 1 << 26, 5.0  # bytes and seconds of what is left of a request that is refused
_PER_REPLICA = 8  # requests that a replica is to have at once, by which Serve reckons how many there should be


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What each replica loads, and how it answers."""

    models: tuple[str | None, ...]
    precision: str
    threads: int
    settings: Settings

    def app(self) -> Any:
        """Return the application, with its models loaded; in the replica."""
        limits = Limits(pixels=self.settings.pixels, file_bytes=self.settings.body_bytes)
        classifiers: dict[str, Classifier] = {}
        for model in self.models:
            loaded = loading.load(model, precision=self.precision, threads=self.threads, limits=limits)
            classifiers[loaded.model.name] = loaded
        return Heard(create_app(classifiers, settings=self.settings))


class Heard:
    """An ASGI application that hears a request out before it answers, within limits.

    A refusal comes before its request's body is read. Whoever still sends then, through HAProxy, would see the
    connection break rather than the refusal.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        whole = False

        async def hear() -> Any:
            nonlocal whole
            message = await receive()
            whole = whole or message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def hear_out() -> None:
            left = _HEARD
            while not whole and left > 0:
                left -= len((await hear()).get("body", b""))

        async def say(message: Any) -> None:
            if message["type"] == "http.response.start":
                with suppress(TimeoutError):
                    await asyncio.wait_for(hear_out(), _HEARS)
            await send(message)

        await self._app(scope, hear, say)


def deployment(arguments: dict[str, Any] | None = None) -> Any:
    """Return the service as an application of Ray Serve: `serve run photolabel.ray:deployment model=vgg16`.

    `arguments` are those of that command, each of which may be a text: `model`, one or several joined by commas;
    `precision`; `threads` a replica, by default 1; `replicas`, by default 1, or `min_replicas` and `max_replicas`, of
    which there are as many as requests ask for; and any field of `server.Settings`, of which `hosts`, `origins` and
    `api_keys` are joined by commas, and `workers` is 1 if not given. A key may be in PHOTOLABEL_API_KEY instead.
    Routes, limits and answers are those of `photolabel serve`; what HTTP itself may have is Serve's to limit.

    Raises `UsageError` for what makes no sense, and `MissingExtraError`.
    """
    with needed("ray"):
        from ray import serve
    told = dict(arguments or {})
    models = tuple(filter(None, str(told.pop("model", "")).split(","))) or (None,)
    precision = str(told.pop("precision", "fp32"))
    threads = _whole("threads", told.pop("threads", 1))
    if key := os.environ.get("PHOTOLABEL_API_KEY"):
        if "api_keys" in told:
            raise UsageError("api_keys and PHOTOLABEL_API_KEY: expected one of them.")
        told["api_keys"] = (key,)
    options = _replicas(told)
    asked = _Asked(models=models, precision=precision, threads=threads, settings=_settings(told))

    def build() -> Any:  # a plain function, or Serve would take it for an application
        return asked.app()

    made = serve.deployment(
        serve.ingress(build)(),
        name="photolabel",
        max_ongoing_requests=asked.settings.queue,
        ray_actor_options={"num_cpus": threads},
        graceful_shutdown_timeout_s=asked.settings.drain_seconds,
        **options,
    )
    return made.bind()


def _replicas(told: dict[str, Any]) -> dict[str, Any]:
    if "min_replicas" not in told and "max_replicas" not in told:
        return {"num_replicas": _whole("replicas", told.pop("replicas", 1))}
    if "replicas" in told:
        raise UsageError("expected replicas, or min_replicas and max_replicas.")
    least = _whole("min_replicas", told.pop("min_replicas", 1))
    most = _whole("max_replicas", told.pop("max_replicas", least))
    if most < least:
        raise UsageError(f"max_replicas={most}: expected at least min_replicas={least}.")
    scaling = {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": _PER_REPLICA}
    return {"autoscaling_config": scaling}


def _settings(told: Mapping[str, Any]) -> Settings:
    kinds = {each.name: each.type for each in fields(Settings)}
    given: dict[str, Any] = {"workers": 1}  # a replica's processors are its network's
    for name, value in told.items():
        kind = kinds.get(name)
        if kind is None:
            raise UsageError(f"{name}: expected model, precision, threads, replicas, or a limit of the service.")
        given[name] = _read(name, str(kind), value)
    return Settings(**given)


def _read(name: str, kind: str, value: Any) -> Any:
    if kind.startswith("tuple"):
        listed: Sequence[Any] = value.split(",") if isinstance(value, str) else value
        return tuple(listed)
    if kind == "bool":
        if str(value).lower() not in ("true", "false"):
            raise UsageError(f"{name}={value!r}: expected true or false.")
        return str(value).lower() == "true"
    if kind == "float":
        try:
            return float(value)
        except ValueError:
            raise UsageError(f"{name}={value!r}: expected a number.") from None
    return _whole(name, value)


def _whole(name: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or isinstance(value, bool | float):
        raise UsageError(f"{name}={value!r}: expected a whole number of at least 1.")
    return number
