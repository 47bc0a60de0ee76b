"""Who may come in, and who not."""

from __future__ import annotations

import pytest

from photolabel.server import Settings
from photolabel.server.problems import RefusedError
from photolabel.server.visitors import Visitors

KEY, OTHER = "first-key-of-16-characters", "second-key-of-16-characters"
OURS = Visitors(Settings(hosts=("photos.example",), origins=("https://page.example",)))
LOCKED = Visitors(Settings(api_keys=(KEY, OTHER)))


def why(caught: pytest.ExceptionInfo[RefusedError]) -> tuple[int, str]:
    return caught.value.problem.status, caught.value.problem.code


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]", "photos.example", "photos.example.:443"],
)
def test_our_own_hosts(host: str) -> None:
    assert OURS.check_host([host]) == host.lower()


@pytest.mark.parametrize(
    "host",
    [
        "evil.com",
        "localhost.evil.com",
        "evil.com:8000",
        "127.0.0.1.evil.com",
        "127.0.0.2",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0x7f.1",
        "photos.example.evil.com",
        "xphotos.example",
    ],
)
def test_other_hosts_are_misdirected(host: str) -> None:
    with pytest.raises(RefusedError) as caught:
        OURS.check_host([host])
    assert why(caught) == (421, "unknown-host")


@pytest.mark.parametrize(
    "hosts",
    [[], ["localhost", "localhost"], [""], ["localhost@evil.com"], ["localhost evil"], ["localhost:port"], ["a/b"],
     ["localhost,evil.com"], ["localhost\x00"], ["\u217cocalhost"], ["localhost:80:80"], ["x" * 300]],
)  # fmt: skip
def test_no_hosts_at_all(hosts: list[str]) -> None:
    with pytest.raises(RefusedError) as caught:
        OURS.check_host(hosts)
    assert why(caught) == (400, "bad-request")


def test_any_host_where_that_is_said() -> None:
    assert Visitors(Settings(hosts=("*",), api_keys=(KEY,))).check_host(["evil.com"]) == "evil.com"


@pytest.mark.parametrize(
    ("origins", "host"),
    [
        ([], "localhost"),
        (["http://localhost:8000"], "localhost:8000"),
        (["http://localhost"], "localhost:80"),
        (["https://photos.example"], "photos.example"),
        (["https://photos.example"], "photos.example:443"),
    ],
)
def test_our_own_pages_may_call(origins: list[str], host: str) -> None:
    assert OURS.check_origin(origins, host) is None


def test_a_page_that_was_allowed_may_call() -> None:
    assert OURS.check_origin(["https://PAGE.example"], "localhost") == "https://page.example"


@pytest.mark.parametrize(
    "origins",
    [
        ["null"],
        ["http://evil.com"],
        ["http://localhost:9000"],
        ["http://page.example"],
        ["https://page.example.evil.com"],
        ["https://page.example", "https://page.example"],
        ["file://localhost:8000"],
        [""],
        ["localhost:8000"],
    ],
)
def test_other_pages_may_not(origins: list[str]) -> None:
    with pytest.raises(RefusedError) as caught:
        OURS.check_origin(origins, "localhost:8000")
    assert why(caught) == (403, "forbidden-origin")


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": [f"Bearer {KEY}"]},
        {"authorization": [f"bearer  {OTHER}"]},
        {"x-api-key": [KEY]},
    ],
)
def test_a_key_opens(headers: dict[str, list[str]]) -> None:
    LOCKED.check_key(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": [KEY[:-1]]},
        {"x-api-key": [KEY + " "]},
        {"x-api-key": [""]},
        {"x-api-key": [KEY, KEY]},
        {"x-api-key": ["wrong"], "authorization": [f"Bearer {KEY}"]},
        {"authorization": [f"Basic {KEY}"]},
        {"authorization": [KEY]},
        {"x-api-key": ["é"]},
    ],
)
def test_without_one_it_stays_shut(headers: dict[str, list[str]]) -> None:
    with pytest.raises(RefusedError) as caught:
        LOCKED.check_key(headers)
    assert why(caught) == (401, "unauthorized")
    assert caught.value.problem.headers["www-authenticate"].startswith("Bearer")
    assert KEY not in caught.value.problem.detail


def test_keys_are_compared_all_and_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import hmac

    real, compared = hmac.compare_digest, []
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    LOCKED.check_key({"x-api-key": [KEY]})
    assert len(compared) == 2 and {len(side) for pair in compared for side in pair} == {32}


def test_without_keys_none_is_asked_for() -> None:
    OURS.check_key({})
