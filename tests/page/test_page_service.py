"""The service is busy, locked, stopped or out of reach: the page says so kindly, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import photolabel
from photolabel.classifier import Classifier
from photolabel.server import Settings

from browsers import SAMPLES, Stoppable, Watched, browser, done, give, playwright, rows
from services import Held

__all__ = ["browser"]

COFFEE = SAMPLES / "coffee.jpg"
KEY = "a key that is long enough".replace(" ", "-")
SAID = "Failed to load resource"  # by the browser, of every answer that is none
QUICK: dict[str, Any] = {"workers": 1, "notice_seconds": 0.0, "drain_seconds": 0.1}


@pytest.fixture(scope="module")
def classifier(tiny: Path) -> Iterator[Classifier]:
    with photolabel.load(tiny) as loaded:
        yield loaded


class Visit:
    def __init__(self, browser: Any, classifier: Any, **settings: Any) -> None:
        self.service = Stoppable(classifier, Settings(**{**QUICK, **settings}))
        self.watched = Watched(browser, self.service.url)
        self.page = self.watched.page

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.watched.close()
            else:
                self.watched.context.close()
        finally:
            self.service.stop()


def notice(page: Any) -> Any:
    return playwright.expect(page.locator("#notice-text"))


def test_a_service_with_more_to_do_than_it_takes(browser: Any, classifier: Classifier) -> None:
    """Four photos are sent at once where one is taken at a time; those that are refused come again by themselves."""
    held = Held(classifier)
    with Visit(browser, held, queue=1, files=1) as visit:
        visit.watched.allow(SAID)
        page = visit.watched.open()
        give(page, [COFFEE] * 6)
        notice(page).to_have_text("The service has much to do. It goes on by itself.")
        playwright.expect(page.locator("#notice-count")).to_contain_text("try in")
        held.let()
        done(page, "6 photos named")
        playwright.expect(page.locator("#notice")).to_be_hidden()


def test_a_service_that_stops_in_the_middle_and_comes_back(browser: Any, classifier: Classifier) -> None:
    held = Held(classifier)
    with Visit(browser, held) as visit:
        visit.watched.allow(SAID)
        page = visit.watched.open()
        give(page, [(f"{number}.jpg", COFFEE.read_bytes()) for number in range(12)])
        assert held.at_work.wait(60)
        visit.service.stop()
        held.let()
        notice(page).to_contain_text("The service does not answer. Nothing is lost")
        assert "of 12 photos" in page.locator("#progress-text").text_content()
        visit.service.start()
        done(page, "12 photos named")
        assert [row[2] for row in rows(page)] == [f"{number}.jpg" for number in range(12)]
        playwright.expect(page.locator("#notice")).to_be_hidden()


def test_a_service_that_comes_to_its_end_is_waited_for(browser: Any, classifier: Classifier) -> None:
    with Visit(browser, classifier) as visit:
        visit.watched.allow(SAID)
        page = visit.watched.open()
        visit.service.service.draining = True
        give(page, [COFFEE])
        notice(page).to_contain_text("The service does not answer.")
        visit.service.service.draining = False
        page.click("#notice-now")
        playwright.expect(page.locator("#bars li")).to_have_count(5)


def test_without_a_network_in_between(browser: Any, classifier: Classifier) -> None:
    with Visit(browser, classifier) as visit:
        visit.watched.allow(SAID)
        page = visit.watched.open()
        page.context.set_offline(True)
        give(page, [COFFEE, COFFEE])
        notice(page).to_contain_text("The service does not answer.")
        page.context.set_offline(False)
        done(page, "2 photos named")


def test_a_service_that_is_not_there_when_the_page_opens(browser: Any, classifier: Classifier) -> None:
    with Visit(browser, classifier) as visit:
        visit.watched.allow(SAID)
        page = visit.page
        page.route("**/v1/models", lambda route: route.abort())
        page.goto(visit.service.url)
        notice(page).to_have_text("The service does not answer.")
        give(page, [COFFEE])  # it waits
        page.unroute("**/v1/models")
        page.click("#notice-now")
        playwright.expect(page.locator("#bars li")).to_have_count(5)


def test_stopped_and_gone_on_with(browser: Any, classifier: Classifier) -> None:
    held = Held(classifier)
    with Visit(browser, held) as visit:
        page = visit.watched.open()
        give(page, [COFFEE] * 9)
        assert held.at_work.wait(60)
        page.click("#stop")
        done(page, "0 photos named, 9 not asked")
        assert {row[0] for row in rows(page)} == {"stopped"}
        held.let()
        page.click("#again")
        done(page, "9 photos named")
        assert page.locator("#stop").is_hidden() and page.locator("#again").is_hidden()


def test_what_is_stopped_is_not_worked_on(browser: Any, classifier: Classifier) -> None:
    """The requests are broken off, so the service takes their photos out of the way."""
    held = Held(classifier)
    with Visit(browser, held) as visit:
        page = visit.watched.open()
        give(page, [COFFEE] * 4)
        assert held.at_work.wait(60)
        page.click("#clear")
        playwright.expect(page.locator("#invite")).to_be_visible()
        for _ in range(600):
            if visit.service.service.admission.photos == 0:
                break
            page.wait_for_timeout(100)
        assert visit.service.service.admission.photos == 0
        held.let()


def test_a_mistake_of_the_service_is_told_and_can_be_tried_again(browser: Any, classifier: Classifier) -> None:
    held = Held(classifier, held=False)
    held.fails = ValueError("a secret")
    with Visit(browser, held) as visit:
        visit.watched.allow(SAID)
        page = visit.watched.open()
        give(page, [COFFEE])
        playwright.expect(page.locator("#detail-heading")).to_have_text("A mistake in the service")
        assert "secret" not in page.content()
        held.fails = None
        page.click("#retry")
        playwright.expect(page.locator("#bars li")).to_have_count(5)


def test_words_of_somebody_in_between_are_not_shown(browser: Any, classifier: Classifier) -> None:
    with Visit(browser, classifier) as visit:
        visit.watched.allow(SAID)
        page = visit.watched.open()
        page.route(
            "**/v1/classify/**",
            lambda route: route.fulfill(status=418, body="<b>a proxy</b>", content_type="text/html"),
        )
        give(page, [COFFEE])
        playwright.expect(page.locator("#detail-heading")).to_have_text("A mistake in the service")
        assert "proxy" not in page.content()


def test_a_file_that_has_gone_meanwhile(browser: Any, classifier: Classifier, tmp_path: Path) -> None:
    held = Held(classifier)
    path = tmp_path / "gone.jpg"
    path.write_bytes(COFFEE.read_bytes())
    with Visit(browser, held) as visit:
        visit.watched.allow(SAID, "ERR_UPLOAD_FILE_CHANGED")
        page = visit.watched.open()
        give(page, [COFFEE] * 4)
        assert held.at_work.wait(60)
        give(page, [path])
        playwright.expect(page.locator("#progress-text")).to_have_text("0 of 5 photos")
        path.unlink()
        held.let()
        done(page, "4 photos named, 1 could not be")
        assert rows(page)[4][0] == "The file cannot be read"


# -- the key


def test_a_key_is_asked_for_and_stays_in_the_tab(browser: Any, classifier: Classifier) -> None:
    with Visit(browser, classifier, api_keys=(KEY,)) as visit:
        visit.watched.allow(SAID)
        page = visit.page
        page.goto(visit.service.url)
        playwright.expect(page.locator("#key")).to_be_visible()
        playwright.expect(page.locator("#key-text")).to_be_focused()
        for _ in range(4):  # there is nothing to be done without; a browser lets it be refused only once
            page.keyboard.press("Escape")
            playwright.expect(page.locator("#key-text")).to_be_focused()
        page.fill("#key-text", "another key")
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#key-said")).to_contain_text("That key does not open it")
        page.fill("#key-text", KEY)
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#key")).to_be_hidden()
        give(page, [COFFEE])
        playwright.expect(page.locator("#bars li")).to_have_count(5)
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        assert KEY not in page.content() and KEY not in page.url
        assert page.locator("#docs").is_hidden()  # a link could not show the key
        page.reload()
        playwright.expect(page.locator("#key")).to_be_visible()


def test_a_key_that_is_taken_back_is_asked_for_again(browser: Any, classifier: Classifier) -> None:
    with Visit(browser, classifier, api_keys=(KEY,)) as visit:
        visit.watched.allow(SAID)
        page = visit.page
        page.goto(visit.service.url)
        page.fill("#key-text", KEY)
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#key")).to_be_hidden()
        refused = {"type": "urn:photolabel:problem:unauthorized", "title": "x", "detail": "y", "code": "unauthorized"}
        page.route("**/v1/classify/**", lambda route: route.fulfill(status=401, json={**refused, "status": 401}))
        give(page, [COFFEE, COFFEE])
        playwright.expect(page.locator("#key")).to_be_visible()
        page.unroute("**/v1/classify/**")
        page.fill("#key-text", KEY)
        page.keyboard.press("Enter")
        done(page, "2 photos named")


# -- how long is waited


def test_retry_after_is_read_in_both_its_forms(browser: Any, classifier: Classifier) -> None:
    past = "Thu, 01 Jan 1970 00:00:00 GMT"
    cases = {"7": 7, "0": 1, "9999": 60, past: 1, "soon": None, "1e3": None, "": None}
    with Visit(browser, classifier) as visit:
        page = visit.watched.open()
        wait = "async texts => { const {wait} = await import('/page/service.js'); return texts.map(wait) }"
        assert page.evaluate(wait, [*cases, None]) == [*cases.values(), None]
