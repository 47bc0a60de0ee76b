"""Every error has its status, and no body says what is nobody's business."""

from __future__ import annotations

import json
import re

import pytest

from photolabel import errors
from photolabel.server import problems


def tree(kind: type[errors.PhotolabelError]) -> list[type[errors.PhotolabelError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in tree(child))]


EXPECTED = {
    "unsupported-format": 415,
    "photo-too-large": 413,
    "corrupt-photo": 422,
    "photo-too-slow": 422,
    "decoder-crashed": 422,
    "photo-error": 422,
    "photo-not-found": 422,
    "photo-unreadable": 422,
    "photo-unavailable": 422,
    "usage": 422,
    "truth-unknown": 422,
}


@pytest.mark.parametrize("kind", tree(errors.PhotolabelError), ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_has_its_status(kind: type[errors.PhotolabelError]) -> None:
    made = problems.of(kind("/home/someone/secret.onnx at 0x7f00aa00bb00"))
    assert made.status == EXPECTED.get(kind.code, 500)
    document = json.loads(made.body())
    assert document["status"] == made.status and document["type"] == f"urn:photolabel:problem:{made.code}"
    if made.status == 500:  # it is about this machine, not about what was sent
        assert "secret" not in made.body().decode()
        assert made.code == "internal-error"


def test_own_problems_are_whole_responses() -> None:
    for code, (status, title) in problems.OWN.items():
        made = problems.problem(code, "détail\r\nX: y", {"retry-after": "1"})
        head, _, body = made.response().partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"connection: close" in head and b"retry-after: 1" in head
        assert f"content-length: {len(body)}".encode() in head
        document = json.loads(body)
        assert (document["title"], document["detail"]) == (title, "détail\r\nX: y")
        assert b"\r\n" not in body


def test_the_inference_protocol_has_its_own_member() -> None:
    made = problems.problem("unknown-model", "There are a, b.")
    for path in ("/v2", "/v2/", "/v2/models/x/infer"):
        assert json.loads(made.body(path)) == {
            **json.loads(made.body()),
            "error": "This service has no such model. There are a, b.",
        }
    for path in ("", "/", "/v1/v2", "/v20", "/V2"):
        assert "error" not in json.loads(made.body(path))


def test_codes_are_words_of_one_kind() -> None:
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", code) for code in problems.OWN)
