"""Optional packages: there, or an error that names the install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import MissingExtraError


@contextmanager
def needed(extra: str) -> Iterator[None]:
    """Let the imports in the block fail as `MissingExtraError`, which says how to install `photolabel[extra]`."""
    try:
        yield
    except ImportError as error:
        # A package that is there, but broken, is an ImportError too: its name says which.
        raise MissingExtraError(
            f"this needs {(error.name or extra).partition('.')[0]}, which is not installed or does not load here: "
            f"pip install 'photolabel[{extra}]'"
        ) from error
