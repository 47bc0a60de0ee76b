"""What is sent of the page: a table of files and nothing else, which need no key, and under a policy without a gap."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import photolabel
from photolabel.classifier import Classifier
from photolabel.server import Settings, page
from photolabel.server.places import Places

from services import here, problem

FOLDER = Path(page.__file__).parent / "files"
KEY = "k" * 20


@pytest.fixture(scope="module")
def classifier(tiny: Path) -> Iterator[Classifier]:
    with photolabel.load(tiny) as loaded:
        yield loaded


def asked(classifier: Classifier, path: str, settings: Settings | None = None, **options: object) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with here(classifier, settings or Settings(workers=1)) as (client, _):
            return await client.request("GET", path, **options)  # type: ignore[arg-type]

    return asyncio.run(ask())


def test_every_file_of_the_folder_is_in_the_table_and_no_other() -> None:
    names = {name for name, _ in page.FILES.values() if name.startswith("server/page/files/")}
    assert names == {f"server/page/files/{path.name}" for path in FOLDER.iterdir()}


@pytest.mark.parametrize("path", page.FILES)
def test_a_file_is_sent_as_what_it_is(path: str) -> None:
    file = page.served(path)
    assert file.content
    policy = dict(each.split(" ", 1) for each in file.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["worker-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in str(policy) and "http" not in str(policy) and "data:" not in str(policy)


def test_the_answers_headers(classifier: Classifier) -> None:
    response = asked(classifier, "/", Settings(workers=1, api_keys=(KEY,)))
    assert response.status_code == 200 and response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]
    assert len(response.headers.get_list("content-security-policy")) == 1
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["permissions-policy"] == "camera=(self), microphone=(), geolocation=()"


def test_what_a_browser_has_is_not_sent_again(classifier: Classifier) -> None:
    etag = asked(classifier, "/page/page.css").headers["etag"]
    for had in (etag, f'"x", W/{etag}', "*"):
        response = asked(classifier, "/page/page.css", headers={"if-none-match": had})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", etag)
    assert asked(classifier, "/page/page.css", headers={"if-none-match": '"x"'}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/page/files/page.js",
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/page/__init__.py",
        "/page/x.js",
        "/page/page.js/",
    ],
)
def test_what_is_not_in_the_table_is_not_there(classifier: Classifier, path: str) -> None:
    response = asked(classifier, path)
    assert (response.status_code, problem(response)) == (404, "not-found")


def test_the_page_needs_no_key_and_all_else_does(classifier: Classifier) -> None:
    settings = Settings(workers=1, api_keys=(KEY,))
    assert asked(classifier, "/page/page.js", settings).status_code == 200
    known = asked(classifier, page.ABOUT, settings).json()
    assert known["key"] is True and KEY not in str(known)
    assert problem(asked(classifier, "/v1/models", settings)) == "unauthorized"
    assert problem(asked(classifier, "/page/x.js", settings)) == "unauthorized"


def test_no_page_where_none_is_wanted(classifier: Classifier) -> None:
    for path in ("/", page.ABOUT, "/page/page.js"):
        assert problem(asked(classifier, path, Settings(workers=1, page=False))) == "not-found"
    locked = Settings(workers=1, page=False, api_keys=(KEY,))
    assert problem(asked(classifier, "/", locked)) == "unauthorized"


def test_it_needs_nothing_from_elsewhere() -> None:
    for path in FOLDER.iterdir():
        text = path.read_text("utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", text), path.name


def test_no_script_makes_markup_of_a_text() -> None:
    wrong = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|DOMParser|javascript:"
    for path in FOLDER.glob("*.js"):
        assert not re.search(wrong, path.read_text("utf-8")), path.name
    html = (FOLDER / "index.html").read_text("utf-8")
    assert not re.search(r"\son[a-z]+=|\sstyle=|<style|<script(?! type=\"module\" src=)", html)


def test_every_script_is_asked_for_at_once() -> None:
    """Else a browser would find each only in the one before it."""
    html = (FOLDER / "index.html").read_text("utf-8")
    named = set(re.findall(r'(?:modulepreload" href|module" src)="page/(\w+\.js)"', html))
    assert named == {path.name for path in FOLDER.glob("*.js")} - {"shrink.js"}


def test_the_first_view_is_small() -> None:
    """What is sent before anything is done: all but the worker and the samples themselves."""
    first = [path for path in page.FILES if not re.search(r"shrink\.js|samples/\w+\.jpg", path)]
    assert sum(len(page.served(path).content) for path in first) < 150_000


def test_the_service_s_figures_know_its_paths_by_few_names() -> None:
    place = Places(page.PLACES)
    assert {place(path) for path in page.PATHS} == set(page.PLACES)
