"""Settings that make no sense are refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from photolabel.errors import UsageError
from photolabel.server import Settings

KEY = "k" * 16


def test_the_defaults_make_sense() -> None:
    settings = Settings()
    assert settings.body_bytes == 32 * 1024 * 1024 and settings.pixels == 50_000_000
    assert not settings.api_keys and not settings.hosts and not settings.origins
    assert settings.notice_seconds + settings.drain_seconds < 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"queue": 0},
        {"queue": True},
        {"queue": 2.0},
        {"body_bytes": -1},
        {"workers": 0},
        {"workers": 257},
        {"head_seconds": -1.0},
        {"head_seconds": float("nan")},
        {"head_seconds": float("inf")},
        {"head_seconds": "1"},
        {"files": 9, "queue": 8},
        {"share": 0.0},
        {"share": 1.5},
        {"api_keys": ("short",)},
        {"api_keys": ("with a blank in it",)},
        {"api_keys": ("k" * 16 + "é",)},
        {"hosts": ("*",)},
        {"hosts": ("name:80",)},
        {"hosts": ("https://name",)},
        {"origins": ("photos.example",)},
        {"origins": ("https://photos.example/",)},
        {"origins": ("null",)},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Settings(**wrong)


def test_what_makes_sense_is_taken() -> None:
    made = Settings(
        api_keys=(KEY,),
        hosts=("*", "photos.example", "10.0.0.1", "[::2]"),
        origins=("https://a.example:8443",),
        workers=1,
    )
    assert made.workers == 1


def test_a_key_is_in_no_message() -> None:
    with pytest.raises(UsageError) as caught:
        Settings(api_keys=("secret-but-short",), hosts=("*", "a:1"))
    assert "secret-but-short" not in str(caught.value)
    assert "secret" not in repr(Settings(api_keys=("secret-and-long-enough",)))


def test_the_share_of_one_address_holds_what_one_request_may_be() -> None:
    made = Settings(queue=40, share=0.5, connections=10, held_bytes=10**9)
    assert (made.caller_photos, made.caller_connections, made.caller_bytes) == (32, 5, 5 * 10**8)
    assert Settings(share=0.01, connections=10).caller_connections == 1
    assert Settings(share=0.01).caller_photos == Settings().files
    assert Settings(share=0.01).caller_bytes == Settings().largest
