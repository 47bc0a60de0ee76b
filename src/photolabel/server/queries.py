"""The parameters of a query: what each may be, read strictly, and how OpenAPI describes it; one table for both."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .problems import RefusedError, refused
from .settings import Settings

_LONGEST_TEXT = 200  # characters: names of classes have some thirty
METHODS = ("gradient", "activation", "occlusion")


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter: how its text is read, and what is told of it. `read` raises ValueError."""

    name: str
    read: Callable[[str], Any] = field(repr=False)
    expected: str
    description: str
    schema: Mapping[str, Any]
    default: Any = None

    def openapi(self) -> dict[str, Any]:
        """Return what an OpenAPI document says of it."""
        schema = dict(self.schema) if self.default is None else {**self.schema, "default": self.default}
        return {"name": self.name, "in": "query", "required": False, "description": self.description, "schema": schema}


def read(pairs: Iterable[tuple[str, str]], parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Return the value of each parameter; its default where it is not given. Raises `RefusedError`.

    What is not known is refused: a misspelt word would change an answer without anybody's knowing.
    """
    known = {each.name: each for each in parameters}
    found: dict[str, Any] = {}
    for name, text in pairs:
        if name not in known:
            raise _wrong(f"Expected {', '.join(known) if known else 'nothing'} in the query; got another word.")
        if name in found:
            raise _wrong(f"{name}: expected it once, got it twice.")
        try:
            found[name] = known[name].read(text)
        except ValueError:
            raise _wrong(f"{name}: expected {known[name].expected}.") from None
    return {name: found.get(name, each.default) for name, each in known.items()}


def _wrong(detail: str) -> RefusedError:
    return refused("usage", detail)


def _whole(text: str, most: int) -> int:
    if not re.fullmatch("[0-9]{1,9}", text, re.ASCII) or not 1 <= int(text) <= most:
        raise ValueError
    return int(text)


def _share(text: str, *, one: bool) -> float:
    """A number above 0, and below 1 or at most that."""
    if not re.fullmatch(r"[0-9]{0,3}(\.[0-9]{1,20})?(e-[0-9]{1,2})?", text, re.ASCII):
        raise ValueError
    value = float(text)
    if not (0 < value < 1 or (one and value == 1)):
        raise ValueError
    return value


def _yes_or_no(text: str) -> bool:
    if text not in ("true", "1", "false", "0"):
        raise ValueError
    return text in ("true", "1")


def _text(text: str) -> str:
    if not 1 <= len(text) <= _LONGEST_TEXT:
        raise ValueError
    return text


def _one_of(text: str, values: Sequence[str]) -> str:
    if text not in values:
        raise ValueError
    return text


def model(names: Sequence[str]) -> Parameter:
    """Return the parameter that chooses one of these models."""
    return Parameter(
        name="model",
        read=str,
        expected="the name of one of this service's models",
        description="Which of the service's models answers; see /v1/models.",
        schema={"type": "string", "enum": list(names)},
        default=names[0],
    )


EXPLAIN = Parameter(
    name="explain",
    read=_yes_or_no,
    expected="true or false",
    description="Add the evidence for the likeliest name, as /v1/explain gives it.",
    schema={"type": "boolean"},
    default=False,
)


def of_evidence() -> list[Parameter]:
    """Return the parameters that say which evidence is asked for."""
    return [
        Parameter(
            name="label",
            read=_text,
            expected=f"1 to {_LONGEST_TEXT} characters",
            description="For which class: its name, or people's word for it, its WordNet id or its index; without, for "
            "the likeliest.",
            schema={"type": "string", "minLength": 1, "maxLength": _LONGEST_TEXT},
        ),
        Parameter(
            name="method",
            read=lambda text: _one_of(text, METHODS),
            expected=f"one of {', '.join(METHODS)}",
            description="How the evidence is found; without, by the first of these that the network allows.",
            schema={"type": "string", "enum": list(METHODS)},
        ),
    ]


def layer(names: Sequence[str]) -> Parameter:
    """Return the parameter that chooses one of these layers."""
    return Parameter(
        name="layer",
        read=_text,
        expected=f"1 to {_LONGEST_TEXT} characters",
        description="Which layer, of those that /v1/models tells of; without, the first of them.",
        schema={"type": "string", "enum": list(names)} if names else {"type": "string", "minLength": 1},
    )


def of_photo(settings: Settings, names: Sequence[str], *, top: int) -> list[Parameter]:
    """Return the parameters of whoever asks for the names of photos; `top` is how many labels there are by default."""
    return [
        Parameter(
            name="top",
            read=lambda text: _whole(text, settings.top),
            expected=f"a whole number from 1 to {settings.top}",
            description="How many labels to give, the likeliest first.",
            schema={"type": "integer", "minimum": 1, "maximum": settings.top},
            default=min(top, settings.top),
        ),
        model(names),
        Parameter(
            name="sure",
            read=lambda text: _share(text, one=True),
            expected="a number above 0 and at most 1, as in 0.9",
            description="Answer with the most specific name that is so sure: a class, a broader name, or unsure.",
            schema={"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        ),
        Parameter(
            name="coverage",
            read=lambda text: _share(text, one=False),
            expected="a number above 0 and below 1, as in 0.95",
            description="Give also the smallest set of names that holds the truth so often; for calibrated models "
            "(see /v1/models).",
            schema={"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        ),
        Parameter(
            name="tree",
            read=_yes_or_no,
            expected="true or false",
            description="Add the names above the answer, from the broadest on, and how probable each is.",
            schema={"type": "boolean"},
            default=False,
        ),
    ]
