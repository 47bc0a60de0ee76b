"""The paths of a service by their templates, of which there are few, whatever is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable

ELSEWHERE = "other"


class Places:
    """The places that a service has: `templates` as routes have them, as in /v2/models/{name}."""

    def __init__(self, templates: Iterable[str]) -> None:
        listed = list(templates)
        self._plain = {each for each in listed if "{" not in each}
        self._patterns = [
            (re.compile(re.sub(r"\\\{[a-z]+\\\}", "[^/]+", re.escape(each))), each) for each in listed if "{" in each
        ]

    def __call__(self, path: str) -> str:
        """Return the template of a path, `ELSEWHERE` of one that leads nowhere."""
        if path in self._plain:
            return path
        return next((template for pattern, template in self._patterns if pattern.fullmatch(path)), ELSEWHERE)
