"""Of paths there are as many as anybody likes; of places only those that routes have."""

from __future__ import annotations

import pytest

from photolabel.server.places import ELSEWHERE, Places

NAMED, READY, PLAIN = "/v2/models/{name}", "/v2/models/{name}/versions/{version}/ready", "/v1/a.b"
PLACES = Places([PLAIN, NAMED, READY])


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (PLAIN, PLAIN), ("/v2/models/x", NAMED), ("/v2/models/x/versions/1/ready", READY), ("/v2/models/a+b.c", NAMED),
        ("/v2/models/\n", NAMED), ("/v2/models/{name}", NAMED),
        ("/v1/aXb", ELSEWHERE), ("/v2/models/", ELSEWHERE), ("/v2/models/x/y", ELSEWHERE), ("", ELSEWHERE),
        ("/v1/a.b/", ELSEWHERE), ("/v1/a.b\n", ELSEWHERE), ("/v2/models/x/versions/1/ready\n", ELSEWHERE),
        ("x/v2/models/x", ELSEWHERE), ("/" * 2000, ELSEWHERE),
    ],
)  # fmt: skip
def test_a_path_s_place(path: str, place: str) -> None:
    assert PLACES(path) == place
