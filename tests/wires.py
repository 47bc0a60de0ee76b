"""Services on a loopback port to which anything can be said: one that waits for nobody, and one that has time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import photolabel
from photolabel.server import Settings

from services import Held, Wire, get, there

# Long enough for a machine that is busy, and short enough to be waited for.
SETTINGS = Settings(
    workers=1,
    queue=3,
    files=3,
    body_bytes=1_000_000,
    head_seconds=0.6,
    body_seconds=2.0,
    pause_seconds=0.6,
    idle_seconds=1.2,
    send_seconds=0.6,
    connections=4,
    notice_seconds=0.0,
)
LONG = replace(SETTINGS, head_seconds=60.0, body_seconds=60.0, pause_seconds=60.0, idle_seconds=60.0, send_seconds=60.0)


@pytest.fixture(scope="module")
def held(tiny: Path) -> Iterator[Held]:
    with photolabel.load(tiny) as inner:
        yield Held(inner, held=False)


@pytest.fixture(scope="module")
def quick(held: Held) -> Iterator[int]:
    """The port of a service that waits for nobody."""
    with there(held, SETTINGS) as (port, _):
        yield port


@pytest.fixture(scope="module")
def port(held: Held) -> Iterator[int]:
    """The port of a service that has time, and room for four connections."""
    with there(held, LONG) as (port, _):
        yield port


def still_answers(port: int) -> None:
    with Wire(port) as wire:
        wire.say(get())
        assert wire.answer()[0] == 200
