"""Where the evidence is, and what the network saw: laid over the photo exactly where the service says.

The answers are made up, so that it is known what must be seen; one test asks the service itself.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import photolabel
from photolabel.models import BUNDLED
from photolabel.server import Settings

from browsers import CALIBRATION, SAMPLES, Stoppable, Watched, browser, done, give, playwright, until

__all__ = ["browser"]

SIZE, CUT, BOX = [451, 300], [92.0, 16.0, 359.0, 283.0], [100.0, 50.0, 200.0, 150.0]
LOW, HIGH = (0, 32, 76), (255, 233, 69)


def png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def evidence(index: int | None) -> dict[str, Any]:
    """Most of it in the left half of what the network saw, half as much in the right one, none in the last line."""
    heat = np.zeros((260, 260), np.uint8)
    heat[:, :130], heat[:, 130:], heat[-1] = 255, 128, 0
    label = {"index": index or 285, "wnid": None, "name": f"class_{index}", "everyday": None, "probability": 0.25}
    return {"label": label, "method": "activation", "size": SIZE, "cut": CUT, "box": BOX, "map": png(heat)}


LOOK = {
    "photo": None,
    "model": BUNDLED,
    "recipe": "efficientnet-lite2",
    "facts": ["JPEG, 300 x 451 pixels", "<b>no markup</b>"],
    "warnings": ["tiny: it is enlarged"],
    "size": SIZE,
    "cut": CUT,
    "input": png(np.full((260, 260, 3), (10, 200, 30), np.uint8)),
}


@pytest.fixture(scope="module")
def service(tiny: Path) -> Iterator[Stoppable]:
    with photolabel.load(BUNDLED) as bundled, photolabel.load(tiny) as small:
        service = Stoppable({BUNDLED: bundled, "tiny": small}, Settings(workers=1))
        yield service
        service.stop()


class Told(Watched):
    """A page whose service explains, and what it was asked."""

    def __init__(self, browser: Any, url: str) -> None:
        super().__init__(browser, url)
        self.asked: list[str] = []
        self.known: dict[str, Any] = {"explain": True, "look": True}
        self.page.route("**/page/about.json", self._about)
        self.page.route("**/v1/explain?*", self._explain)
        self.page.route("**/v1/look?*", self._look)

    def _about(self, route: Any) -> None:
        route.fulfill(json={**route.fetch().json(), **self.known})

    def _explain(self, route: Any) -> None:
        query = route.request.url.partition("?")[2]
        self.asked.append(query)
        index = next((int(each[6:]) for each in query.split("&") if each.startswith("label=")), None)
        route.fulfill(json={"evidence": evidence(index)})

    def _look(self, route: Any) -> None:
        self.asked.append("look")
        route.fulfill(json=LOOK)

    def with_cat(self) -> Any:
        page = self.open()
        give(page, [SAMPLES / "sideways.jpg"])  # as upright, the browser and the service turn it alike
        playwright.expect(page.locator("#bars li")).to_have_count(5)
        playwright.expect(page.locator("#shown")).to_be_visible()
        return page


@pytest.fixture
def told(browser: Any, service: Stoppable) -> Iterator[Told]:
    told = Told(browser, service.url)
    yield told
    told.close()


def laid(page: Any, selector: str) -> list[float]:
    """Where an element lies over the photo, in the photo's pixels."""
    photo, over = page.locator("#shown").bounding_box(), page.locator(selector).bounding_box()
    scale = SIZE[0] / photo["width"]
    left, top = (over["x"] - photo["x"]) * scale, (over["y"] - photo["y"]) * scale
    return [left, top, left + over["width"] * scale, top + over["height"] * scale]


def test_the_map_lies_where_the_network_looked(told: Told) -> None:
    page = told.with_cat()
    page.click("#views [data-view=evidence]")
    playwright.expect(page.locator("#heat")).to_be_visible()
    assert laid(page, "#heat") == pytest.approx(CUT, abs=0.7)
    assert laid(page, "#box") == pytest.approx(BOX, abs=0.7)
    assert told.asked == [f"model={BUNDLED}"]
    read = """([x, y]) => Array.from(document.getElementById("heat").getContext("2d").getImageData(x, y, 1, 1).data)"""
    assert page.evaluate(read, [20, 20]) == pytest.approx([*HIGH, 0.78 * 255], abs=2)
    half = [low + (high - low) * 128 / 255 for low, high in zip(LOW, HIGH, strict=True)]
    assert page.evaluate(read, [200, 20]) == pytest.approx([*half, 0.78 * 255 * (128 / 255) ** 0.5], abs=2)
    assert page.evaluate(read, [20, 259])[3] == 0
    playwright.expect(page.locator("#said-of-view")).to_have_text(
        "Bright is where most of the evidence is for class None, 25.0%."
    )


def test_the_slider_goes_from_photo_to_map(told: Told) -> None:
    page = told.with_cat()
    page.click("#views [data-view=evidence]")
    playwright.expect(page.locator("#heat")).to_be_visible()
    strength = page.locator("#strength")
    strength.focus()
    for key, opacity in (("End", 1.0), ("Home", 0.0), ("ArrowRight", 0.01)):
        page.keyboard.press(key)
        assert float(page.evaluate("getComputedStyle(heat).opacity")) == pytest.approx(opacity)
        assert page.evaluate("getComputedStyle(shown).filter") == f"grayscale({opacity:g})"
    page.click("#views [data-view=photo]")
    assert page.locator("#heat").is_hidden() and page.evaluate("getComputedStyle(shown).filter") == "none"


def test_the_evidence_for_another_name(told: Told) -> None:
    page = told.with_cat()
    page.locator("#bars button").nth(2).click()
    playwright.expect(page.locator("#said-of-view")).to_contain_text("class 281")
    assert told.asked == [f"model={BUNDLED}&label=281"]
    assert page.locator("#views [data-view=evidence]").get_attribute("aria-pressed") == "true"
    page.click("#views [data-view=photo]")
    page.locator("#bars button").nth(2).click()
    playwright.expect(page.locator("#heat")).to_be_visible()
    assert len(told.asked) == 1  # it is known already
    page.select_option("#model", "tiny")
    playwright.expect(page.locator("#said-of-view")).not_to_contain_text("class 281")
    assert told.asked[1:] == ["model=tiny"]  # not label=281, which is another class there, or none


def test_what_the_network_saw(told: Told) -> None:
    page = told.with_cat()
    page.click("#views [data-view=look]")
    playwright.expect(page.locator("#input")).to_be_visible()
    assert laid(page, "#box") == pytest.approx(CUT, abs=0.7)
    read = "Array.from(document.querySelector('#input canvas').getContext('2d').getImageData(5, 5, 1, 1).data)"
    assert page.evaluate(read) == [10, 200, 30, 255]
    assert page.locator("#facts-of-view li").all_text_contents() == [*LOOK["facts"], *LOOK["warnings"]]
    playwright.expect(page.locator("figcaption")).to_have_text("All that the network gets: 260 x 260 pixels")


def test_of_a_photo_that_the_browser_cannot_show_there_is_what_the_network_saw(told: Told) -> None:
    page = told.open()
    give(page, [CALIBRATION.parent / "doctor" / "flat.heic"])
    playwright.expect(page.locator("#input")).to_be_visible()
    playwright.expect(page.locator("#cannot")).to_be_visible()


def test_one_that_is_shown_is_not_covered_by_what_comes_late_for_another(told: Told) -> None:
    """Neither by an answer that is broken off, nor by one whose picture is still being read."""
    told.page.add_init_script(
        """const read = createImageBitmap;
        window.held = null;
        window.createImageBitmap = async (...all) => {
            const made = await read(...all);
            if (window.holding) { window.holding = false; await new Promise(let_go => { window.held = let_go; }); }
            return made;
        };"""
    )
    page = told.open()
    broken_off: list[str] = []
    page.on("requestfailed", lambda request: broken_off.append(request.url))
    page.route("**/v1/explain?*", lambda route: None)
    give(page, [SAMPLES / "sideways.jpg", SAMPLES / "coffee.jpg"])
    done(page, "2 photos named")
    page.click("#views [data-view=evidence]")
    playwright.expect(page.locator("#said-of-view")).to_have_text("Looking for the evidence.")
    with page.expect_event("requestfailed"):
        page.click("#next")
    playwright.expect(page.locator("#detail-heading")).to_have_text("espresso")
    assert ["/v1/explain" in url for url in broken_off] == [True]
    assert page.locator("#views [data-view=photo]").get_attribute("aria-pressed") == "true"
    page.unroute("**/v1/explain?*")
    page.route("**/v1/explain?*", told._explain)
    playwright.expect(page.locator("#shown")).to_be_visible()
    page.evaluate("window.holding = true")
    page.locator("#bars button").nth(1).click()
    until(page, "held !== null")
    page.locator("#bars button").nth(2).click()
    told_of = page.locator("#said-of-view")
    playwright.expect(told_of).to_contain_text("Bright is")
    said = told_of.text_content()
    page.evaluate("() => held()")
    page.evaluate("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    assert told_of.text_content() == said
    assert len(told.asked) == 2


def test_a_service_that_will_not_explain_says_why(told: Told) -> None:
    told.allow("Failed to load resource")
    page = told.with_cat()
    refused = {"type": "x", "title": "x", "status": 422, "code": "usage", "detail": "It <b>cannot</b>."}
    page.route("**/v1/explain?*", lambda route: route.fulfill(status=422, body=json.dumps(refused)))
    page.click("#views [data-view=evidence]")
    playwright.expect(page.locator("#said-of-view")).to_have_text("It <b>cannot</b>.")
    page.route("**/v1/explain?*", lambda route: route.abort())
    page.locator("#bars button").nth(1).click()
    playwright.expect(page.locator("#said-of-view")).to_contain_text("The service does not answer")


def test_a_service_that_cannot_explain_offers_nothing(told: Told) -> None:
    told.known = {"explain": False, "look": False}
    page = told.with_cat()
    assert page.locator("#views").is_hidden() and page.locator("#bars button").count() == 0


def test_the_service_itself(browser: Any, service: Stoppable) -> None:
    watched = Watched(browser, service.url)
    page = watched.open()
    give(page, [SAMPLES / "sideways.jpg"])
    playwright.expect(page.locator("#bars li")).to_have_count(5)
    page.locator("#bars button").nth(2).click()
    playwright.expect(page.locator("#said-of-view")).to_contain_text("is for tabby, 1")
    playwright.expect(page.locator("#heat")).to_be_visible()
    assert laid(page, "#heat") == pytest.approx(CUT, abs=0.7)
    page.click("#views [data-view=look]")
    playwright.expect(page.locator("#input")).to_be_visible()
    assert laid(page, "#box") == pytest.approx(CUT, abs=0.7)
    watched.close()
