"""The table of all photos: filter, order, thumbnails, the way to one photo and back; and five hundred at once."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import photolabel
from photolabel.models import BUNDLED
from photolabel.server import Settings

from browsers import (
    CALIBRATION,
    SAMPLES,
    Stoppable,
    Watched,
    browser,
    done,
    give,
    playwright,
    rows,
    rows_by_place,
    until,
)

__all__ = ["browser"]

PHOTOS = [SAMPLES / "coffee.jpg", SAMPLES / "cat.jpg", SAMPLES / "rocket.jpg", CALIBRATION / "astronaut.jpg"]
MANY = 500
COLOURS = 7
LATER = """last => Array.from(document.querySelectorAll("#table tbody tr[data-id]"))
    .some(row => row.ariaRowIndex - 2 > last)"""  # there are rows below those that were the last


@pytest.fixture(scope="module")
def service(tiny: Path) -> Iterator[Stoppable]:
    with photolabel.load(BUNDLED) as bundled, photolabel.load(tiny) as small:
        service = Stoppable({BUNDLED: bundled, "tiny": small}, Settings(workers=2))
        yield service
        service.stop()


@pytest.fixture
def watched(browser: Any, service: Stoppable) -> Iterator[Watched]:
    watched = Watched(browser, service.url)
    yield watched
    watched.close()


@pytest.fixture
def page(watched: Watched) -> Any:
    """A page with four photos, and one that is none."""
    page = watched.open()
    give(page, [*PHOTOS, ("text.txt", b"no photo")])
    done(page, "4 photos named, 1 could not be")
    return page


def files(page: Any) -> list[str]:
    return [row[2] for row in rows(page)]


def shows(page: Any, expected: list[str]) -> None:
    playwright.expect(page.locator("#table tbody tr[data-id] td.file")).to_have_text(expected)


# -- filter and order


def test_what_is_looked_for(page: Any) -> None:
    assert files(page) == ["coffee.jpg", "cat.jpg", "rocket.jpg", "astronaut.jpg", "text.txt"]
    page.fill("#find", "ESPR")  # by its name
    shows(page, ["coffee.jpg"])
    page.fill("#find", "egyptian")  # by its likeliest class, though the answer is broader
    shows(page, ["cat.jpg"])
    page.fill("#find", "ast")  # by its file
    shows(page, ["astronaut.jpg"])
    page.fill("#find", "zebra")
    playwright.expect(page.locator("#nothing")).to_be_visible()
    assert page.locator("#table").is_hidden()
    page.fill("#find", "")
    kinds = {"leaf": ["coffee.jpg"], "broader": ["cat.jpg", "astronaut.jpg"], "unsure": ["rocket.jpg"]}
    for kind, expected in {**kinds, "failed": ["text.txt"]}.items():
        page.select_option("#kind", kind)
        shows(page, expected)
    page.select_option("#kind", "open")
    playwright.expect(page.locator("#nothing")).to_be_visible()


def test_the_order(page: Any) -> None:
    """Up, down, and as they came; what has no value is last, whichever way."""
    came = files(page)
    head = page.locator("thead")
    head.get_by_role("button", name="File").click()
    shows(page, sorted(came))
    assert head.locator("th.file").get_attribute("aria-sort") == "ascending"
    head.get_by_role("button", name="File").click()
    shows(page, sorted(came, reverse=True))
    assert head.locator("th.file").get_attribute("aria-sort") == "descending"
    head.get_by_role("button", name="File").click()
    shows(page, came)
    assert head.locator("[aria-sort]").count() == 0
    head.get_by_role("button", name="How sure").click()
    playwright.expect(head.locator("th.sure")).to_have_attribute("aria-sort", "ascending")
    sure = [float(row[1].rstrip("%")) for row in rows(page)[:-1]]
    assert sure == sorted(sure) and files(page)[-1] == "text.txt"
    head.get_by_role("button", name="How sure").click()
    playwright.expect(head.locator("th.sure")).to_have_attribute("aria-sort", "descending")
    assert [float(row[1].rstrip("%")) for row in rows(page)[:-1]] == sorted(sure, reverse=True)
    assert files(page)[-1] == "text.txt"
    head.get_by_role("button", name="Name").click()
    shows(page, ["astronaut.jpg", "cat.jpg", "coffee.jpg", "rocket.jpg", "text.txt"])


def test_the_photo_that_is_chosen(page: Any) -> None:
    page.locator("tbody tr", has_text="rocket.jpg").click()
    playwright.expect(page.locator("#detail-heading")).to_have_text("unsure")
    playwright.expect(page.locator("[aria-current=true].selected, tr.selected [aria-current=true]")).to_have_count(1)
    playwright.expect(page.locator("#place")).to_have_text("3 of 5")
    page.click("#next")
    playwright.expect(page.locator("#place")).to_have_text("4 of 5")
    page.click("#next")
    playwright.expect(page.locator("#next")).to_be_disabled()
    page.click("#previous")
    playwright.expect(page.locator("#place")).to_have_text("4 of 5")


def test_on_a_telephone_it_is_list_or_photo(browser: Any, service: Stoppable) -> None:
    watched = Watched(browser, service.url, viewport={"width": 360, "height": 740}, has_touch=True)
    page = watched.open()
    give(page, PHOTOS)
    done(page, "4 photos named")
    playwright.expect(page.locator("#detail")).to_be_hidden()
    page.locator("tbody tr", has_text="rocket.jpg").tap()
    playwright.expect(page.locator("#detail-heading")).to_be_focused()
    assert page.locator("#table").is_hidden()
    page.click("#back")
    playwright.expect(page.locator("tr.selected button")).to_be_focused()
    page.select_option("#sort", "file")
    playwright.expect(page.locator("#table .second").first).to_have_text("astronaut.jpg")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    give(page, PHOTOS * 8)  # so many that there are rows which stand for others
    done(page, "36 photos named")
    assert page.locator("tr.space:visible").count() == 1
    assert page.locator("tbody tr[data-id] th").first.bounding_box()["width"] > 120
    watched.close()


def test_thumbnails_are_small_and_upright(watched: Watched) -> None:
    page = watched.open()
    give(page, [SAMPLES / "sideways.jpg", SAMPLES / "cat.jpg", CALIBRATION.parent / "doctor" / "flat.heic"])
    playwright.expect(page.locator("td.thumb img")).to_have_count(2)
    playwright.expect(page.locator("td.thumb .noimage")).to_have_text("HEIC")
    until(page, "[...document.querySelectorAll('td.thumb img')].every(each => each.complete && each.naturalWidth)")
    sizes = page.locator("td.thumb img").evaluate_all("all => all.map(each => [each.naturalWidth, each.naturalHeight])")
    assert sizes == [[112, 112]] * 2
    colours = page.locator("td.thumb img").evaluate_all(
        """all => all.map(image => {
            const canvas = new OffscreenCanvas(2, 2);
            canvas.getContext("2d").drawImage(image, 0, 0, 2, 2);
            return Array.from(canvas.getContext("2d").getImageData(0, 0, 2, 2).data);
        })"""
    )
    assert colours[0] == pytest.approx(colours[1], abs=12)  # the same cat, whichever way its file has it


# -- many


def swatch(number: int) -> bytes:
    """A photo of one of some colours, no two files alike."""
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (36 * (number % COLOURS), 255 - 36 * (number % COLOURS), 90)).save(file, "PNG")
    return file.getvalue() + number.to_bytes(2, "big")


def test_five_hundred_at_once(watched: Watched, tiny: Path) -> None:
    """All rows are right, in their order; and however many there are, few are elements, addresses or requests."""
    page = watched.page
    page.add_init_script(
        """window.addresses = new Set(); window.sent = {now: 0, most: 0};
        const make = URL.createObjectURL, drop = URL.revokeObjectURL, get = window.fetch;
        URL.createObjectURL = what => { const made = make(what); addresses.add(made); return made; };
        URL.revokeObjectURL = address => { addresses.delete(address); drop(address); };
        window.fetch = async (...all) => {
            sent.most = Math.max(sent.most, ++sent.now);
            try { return await get(...all); } finally { sent.now--; }
        };"""
    )
    page = watched.open()
    page.select_option("#model", "tiny")
    photos = [(f"photo {number}.png", swatch(number)) for number in range(MANY)]
    give(page, photos)
    playwright.expect(page.locator("#progress-bar")).to_be_visible()
    done(page, f"{MANY} photos named")
    with photolabel.load(tiny) as classifier:
        said = [classifier.classify(swatch(number), sure=0.8).record() for number in range(COLOURS)]
    assert page.locator("#table").get_attribute("aria-rowcount") == str(MANY + 1)
    found: dict[int, list[str]] = {}
    page.mouse.move(300, 600)
    for _ in range(200):
        there = rows_by_place(page)
        found |= there
        assert len(there) < 40
        if len(found) == MANY:
            break
        page.mouse.wheel(0, 400)  # less than half of what is seen: none passes by between two looks
        until(page, LATER, max(there))
    assert sorted(found) == list(range(MANY))
    for number, (name, _, file) in found.items():
        answer = said[number % COLOURS]["answer"]
        assert file == f"photo {number}.png" and name == answer["name"].replace("_", " ")
    assert page.evaluate("sent.most") <= 6
    playwright.expect(page.locator("td.thumb .noimage")).to_have_count(0)
    until(page, "addresses.size <= 2")  # the photo that is shown, and a thumbnail that is being drawn
    page.click("#clear")
    until(page, "addresses.size === 0")
