"""Everybody can use it: axe finds nothing in any state, light or dark, wide or narrow, and a keyboard is enough."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import photolabel
from photolabel.models import BUNDLED
from photolabel.server import Settings

from browsers import CALIBRATION, SAMPLES, Stoppable, Watched, browser, done, give, playwright, rows

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed: the extra test has it")

__all__ = ["browser"]

PHOTOS = [SAMPLES / "coffee.jpg", SAMPLES / "cat.jpg", SAMPLES / "rocket.jpg", CALIBRATION / "astronaut.jpg"]
KEY = "a-key-that-is-long-enough"


@pytest.fixture(scope="module")
def service(tiny: Path) -> Iterator[Stoppable]:
    with photolabel.load(BUNDLED) as bundled, photolabel.load(tiny) as small:
        service = Stoppable({BUNDLED: bundled, "tiny": small}, Settings(workers=1))
        yield service
        service.stop()


def check(page: Any, state: str) -> None:
    """Nothing that axe knows is wrong; it finds the names of what it looked at in the end."""
    page.wait_for_timeout(300)
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    said = [
        (each["id"], [node["html"][:120] for node in each["nodes"]], each["nodes"][0]["failureSummary"])
        for each in found
    ]
    assert not said, (state, said)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing(browser: Any, service: Stoppable, scheme: str, width: int) -> None:
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}, "reduced_motion": "reduce"}
    watched = Watched(browser, service.url, **options)
    page = watched.open()
    playwright.expect(page.locator("#samples img")).to_have_count(4)
    check(page, "empty")
    page.click("#shoot")
    playwright.expect(page.locator("#camera-take")).to_be_enabled()
    check(page, "camera")
    page.click("#camera-close")
    give(page, PHOTOS[:1])
    playwright.expect(page.locator("#bars li")).to_have_count(5)
    check(page, "one")
    for view in page.locator("#views button:visible").all():
        view.click()
        playwright.expect(page.locator("#said-of-view")).not_to_contain_text("ooking")
        check(page, view.get_attribute("data-view"))
    give(page, [*PHOTOS[1:], ("text.txt", b"no photo")])
    done(page, "4 photos named, 1 could not be")
    check(page, "many")
    page.locator("tbody tr", has_text="text.txt").click()
    check(page, "error")
    watched.close()


def test_axe_would_find_something(browser: Any, service: Stoppable) -> None:
    watched = Watched(browser, service.url)
    page = watched.open()
    page.evaluate("document.getElementById('choose').textContent = ''")
    with pytest.raises(AssertionError, match="button-name"):
        check(page, "a button without a name")
    watched.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_where_a_key_or_the_service_is_wanting(browser: Any, tiny: Path, scheme: str) -> None:
    with photolabel.load(tiny) as classifier:
        service = Stoppable(classifier, Settings(workers=1, api_keys=(KEY,), notice_seconds=0.0))
        try:
            watched = Watched(browser, service.url, color_scheme=scheme, reduced_motion="reduce")
            watched.allow("Failed to load resource")
            page = watched.page
            page.goto(service.url)
            playwright.expect(page.locator("#key")).to_be_visible()
            check(page, "key")
            page.fill("#key-text", KEY)
            page.keyboard.press("Enter")
            playwright.expect(page.locator("#asked")).to_be_visible()
            page.context.set_offline(True)
            give(page, PHOTOS[:2])
            playwright.expect(page.locator("#notice")).to_be_visible()
            check(page, "away")
            watched.close()
        finally:
            service.stop()


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))


def tab_to(page: Any, wanted: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if focused(page) == wanted:
            return
    raise AssertionError(f"the Tab key does not lead to {wanted}")


def test_a_keyboard_is_enough(browser: Any, service: Stoppable) -> None:
    watched = Watched(browser, service.url)
    page = watched.open()
    page.on("filechooser", lambda chooser: None)  # from now on they come to us, or the first is the system's
    playwright.expect(page.locator("#samples img")).to_have_count(4)
    page.keyboard.press("Tab")
    assert focused(page) == "To the content"
    page.keyboard.press("Enter")
    tab_to(page, "choose")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(PHOTOS)
    done(page, "4 photos named")
    tab_to(page, "find")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")  # the first of the heads, by which the table is ordered
    page.keyboard.press("Enter")
    playwright.expect(page.locator("th.name[aria-sort=ascending]")).to_have_count(1)
    names = [row[0] for row in rows(page)]
    tab_to(page, "espresso")  # the photo that is shown is the table's one stop
    page.keyboard.press("Home")
    assert focused(page) == names[0]
    page.keyboard.press("ArrowDown")
    assert focused(page) == names[1]
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#detail-heading")).to_have_text(names[1])
    page.keyboard.press("End")
    assert focused(page) == names[-1]
    page.keyboard.press("PageUp")
    assert focused(page) == names[0]
    page.keyboard.press("ArrowUp")
    assert focused(page) == names[0]
    tab_to(page, "next")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#detail-heading")).to_have_text(names[2])
    page.locator("#save-csv").focus()
    with page.expect_download():
        page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert focused(page) == "clear"
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#choose")).to_be_focused()
    watched.close()


def test_where_the_keyboard_is_can_be_seen(browser: Any, service: Stoppable) -> None:
    """WCAG 2.4.11 and 2.4.13: what has the focus is not beneath anything, and has an outline."""
    watched = Watched(browser, service.url, viewport={"width": 1280, "height": 500})
    page = watched.open()
    give(page, PHOTOS * 8)
    done(page, "32 photos named")
    page.locator("tbody tr[data-id] button").first.focus()
    for key in ["ArrowDown"] * 20 + ["ArrowUp"] * 20 + ["PageDown"] * 4 + ["PageUp"] * 4 + ["End", "Home"]:
        page.keyboard.press(key)
        seen = page.evaluate(
            """() => {
                const {left, top, bottom, height} = document.activeElement.getBoundingClientRect();
                const above = document.elementFromPoint(left + 5, top + height / 2);
                return [document.activeElement.contains(above), top >= 0 && bottom <= innerHeight,
                    parseFloat(getComputedStyle(document.activeElement).outlineWidth) >= 2,
                    document.activeElement.tagName];
            }"""
        )
        assert seen == [True, True, True, "BUTTON"], key
    watched.close()


def test_it_is_told_what_happens(browser: Any, service: Stoppable) -> None:
    watched = Watched(browser, service.url)
    page = watched.open()
    said = page.locator("#said")
    assert said.get_attribute("role") == "status"
    give(page, PHOTOS)
    playwright.expect(said).to_have_text("Done. 4 photos named")
    watched.close()


def test_who_wants_no_motion_gets_none(browser: Any, service: Stoppable) -> None:
    moving = (
        "() => document.getAnimations().length + (getComputedStyle(document.querySelector('.fill')).transitionDuration"
    )
    for motion, expected in (("reduce", False), ("no-preference", True)):
        watched = Watched(browser, service.url, reduced_motion=motion)
        page = watched.open()
        give(page, PHOTOS[:1])
        playwright.expect(page.locator("#bars li")).to_have_count(5)
        assert (page.evaluate(f"{moving} !== '0s' ? 1 : 0)") > 0) is expected
        watched.close()


def test_it_can_be_read_at_four_times_the_size(browser: Any, service: Stoppable) -> None:
    """WCAG 1.4.10: at 320 pixels nothing has to be scrolled sideways."""
    watched = Watched(browser, service.url, viewport={"width": 320, "height": 256})
    page = watched.open()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    give(page, [*PHOTOS, ("a" * 200 + ".txt", b"no photo")])
    done(page, "4 photos named, 1 could not be")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.locator("tbody tr", has_text="aaaa").click()  # there, though it cannot be seen yet
    playwright.expect(page.locator("#detail-heading")).to_have_text("Not a photo")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    watched.close()
