"""What comes late, twice, or not at all takes nothing from what was wanted since."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import photolabel
from photolabel.models import BUNDLED
from photolabel.server import Settings

from browsers import SAMPLES, Stoppable, Watched, browser, done, give, playwright, rows, until

__all__ = ["browser"]

COFFEE, CAT = SAMPLES / "coffee.jpg", SAMPLES / "cat.jpg"
LOST = "Failed to load resource|net::ERR"  # what the browser itself says of it
UNKNOWN = {"title": "x", "status": 401, "code": "unauthorized", "detail": "y"}
KEY = "a-key-that-is-long-enough"
# A drop of a folder with so many photos, of which the last look finds what `end` does.
FOLDER = """([count, end]) => {
    let left = count;
    const entry = (name) => ({ name, isDirectory: false, file: (done) => done(new File(["x"], name)) });
    const readEntries = (done, failed) => {
        const some = Math.min(100, left);
        left -= some;
        if (some) return done(Array.from({ length: some }, (_, place) => entry(`${left + place}.jpg`)));
        if (end === "error") return failed(new Error("no"));
        if (end === "held") { window.letGo = () => done([]); return null; }
        return done([]);
    };
    const folder = { name: "many", isDirectory: true, createReader: () => ({ readEntries }) };
    DataTransferItem.prototype.webkitGetAsEntry = () => folder;
    const transfer = new DataTransfer();
    transfer.items.add(new File(["x"], "many"));
    window.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, cancelable: true }));
}"""
NOTHING = """() => {
    const transfer = new DataTransfer();
    transfer.setData("text/plain", "x");
    window.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def service(tiny: Path) -> Iterator[Stoppable]:
    with photolabel.load(BUNDLED) as bundled, photolabel.load(tiny) as small:
        service = Stoppable({BUNDLED: bundled, "tiny": small}, Settings(workers=1))
        yield service
        service.stop()


@pytest.fixture
def watched(browser: Any, service: Stoppable) -> Iterator[Watched]:
    watched = Watched(browser, service.url)
    watched.allow(LOST)
    yield watched
    watched.close()


def heading(page: Any, text: str) -> None:
    playwright.expect(page.locator("#detail-heading")).to_have_text(text)


def gather(page: Any, routes: list[Any], count: int) -> None:
    """Wait until so many requests have come, and are held."""
    for _ in range(3000):
        if len(routes) >= count:
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"expected {count} requests, {len(routes)} came")


def settled(page: Any) -> None:
    """All that was under way in the page itself is done and drawn."""
    page.evaluate("new Promise(done => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done))))")


# -- answers


@pytest.mark.parametrize("then", ["another model", "stop"])
def test_a_look_whether_the_service_is_there_says_nothing_of_what_was_asked_since(then: str, watched: Watched) -> None:
    """The third time without an answer it is found out whether it is the photo; meanwhile it may be asked anew."""
    page = watched.open()
    lost: list[str] = []
    looks: list[Any] = []

    def answer(route: Any) -> None:
        if "model=tiny" in route.request.url:
            route.continue_()
        else:
            lost.append(route.request.url)
            route.abort()

    page.route("**/v1/classify/**", answer)
    page.route("**/v2/health/ready", lambda route: looks.append(route) if len(lost) > 2 else route.continue_())
    give(page, [COFFEE])
    for _ in range(2):
        playwright.expect(page.locator("#notice-now")).to_be_visible()
        with page.expect_request("**/v1/classify/**"):
            page.click("#notice-now")
    gather(page, looks, 1)
    if then == "stop":
        page.click("#stop")
        heading(page, "Stopped")
    else:
        page.select_option("#model", "tiny")
        playwright.expect(page.locator("#facts")).to_contain_text("tiny")
    said = page.locator("#detail-heading").text_content()
    with page.expect_response("**/v2/health/ready"):
        looks[-1].continue_()
    settled(page)
    heading(page, said)


def test_an_old_key_that_is_refused_late_says_nothing_of_the_new_one(browser: Any, tiny: Path) -> None:
    with photolabel.load(tiny) as classifier:
        service = Stoppable({"tiny": classifier}, Settings(workers=1, api_keys=(KEY,)))
        watched = Watched(browser, service.url)
        watched.allow(LOST)
        page = watched.page
        page.goto(service.url)
        page.fill("#key-text", KEY)
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#asked")).to_be_visible()
        held: list[Any] = []
        page.route("**/v1/classify/**", lambda route: held.append(route) if len(held) < 2 else route.continue_())
        give(page, [COFFEE, CAT])
        gather(page, held, 2)
        held[0].fulfill(status=401, json=UNKNOWN)
        playwright.expect(page.locator("#key")).to_be_visible()
        page.fill("#key-text", KEY)
        page.keyboard.press("Enter")
        held[1].fulfill(status=401, json=UNKNOWN)
        done(page, "2 photos named")
        assert page.locator("#key").is_hidden()
        watched.close()
        service.stop()


@pytest.mark.parametrize("said", [{}, {"records": []}, {"records": "x"}, []])
def test_an_answer_that_is_none_is_a_mistake_of_the_service(said: object, watched: Watched) -> None:
    page = watched.open()
    page.route("**/v1/classify/**", lambda route: route.fulfill(json=said))
    give(page, [COFFEE] * 6)
    done(page, "0 photos named, 6 could not be")
    assert {row[0] for row in rows(page)} == {"A mistake in the service"}


def test_the_evidence_is_of_the_model_whose_names_are_shown(watched: Watched) -> None:
    """Another model is chosen, and has not answered: what is shown is still the first one's, and can be saved."""
    page = watched.open()
    give(page, [COFFEE, CAT])
    done(page, "2 photos named")
    page.route("**/v1/classify/**", lambda route: None)
    page.select_option("#model", "tiny")
    page.click("#stop")
    done(page, "0 photos named, 2 not asked")
    playwright.expect(page.locator("#facts")).to_contain_text(BUNDLED)
    with page.expect_request("**/v1/explain?*") as asked:
        page.locator("#bars button").first.click()
    assert f"model={BUNDLED}" in asked.value.url
    with page.expect_download() as saved:
        page.click("#save-csv")
    assert saved.value.suggested_filename == "photolabel.csv"
    assert "espresso" in Path(saved.value.path()).read_text("utf-8")


# -- the beginning


def test_what_happened_does_not_hide_what_is_the_matter(watched: Watched) -> None:
    """And a page that could not begin does so by itself."""
    page = watched.page
    page.route("**/v1/models", lambda route: route.abort())
    page.goto(watched.url)
    told = playwright.expect(page.locator("#notice-text"))
    told.to_have_text("The service does not answer.")
    give(page, [COFFEE])
    page.evaluate(NOTHING)
    told.to_contain_text("There was no photo in that")
    told.to_contain_text("The service does not answer.")
    assert page.locator("#notice-now").is_visible()
    page.click("#notice-close")
    told.to_have_text("The service does not answer.")
    page.unroute("**/v1/models")
    heading(page, "espresso")
    playwright.expect(page.locator("#notice")).to_be_hidden()


def test_it_begins_once_however_often_it_is_tried(watched: Watched) -> None:
    page = watched.page
    page.route("**/v1/models", lambda route: route.abort())
    page.goto(watched.url)
    playwright.expect(page.locator("#notice-now")).to_be_visible()
    page.unroute("**/v1/models")
    held: list[Any] = []
    page.route("**/v1/models", lambda route: held.append(route))
    with page.expect_request("**/v1/models"):
        page.click("#notice-now")
    page.click("#notice-now")
    page.evaluate("window.dispatchEvent(new Event('online'))")
    settled(page)
    held[0].continue_()
    playwright.expect(page.locator("#asked")).to_be_visible()
    assert len(held) == 1


# -- photos


def test_a_sample_comes_once_and_not_where_another_photo_was_chosen(watched: Watched) -> None:
    page = watched.open()
    held: list[Any] = []
    page.route("**/page/samples/cat.jpg", lambda route: held.append(route))
    button = page.locator("#samples button", has=page.get_by_alt_text("cat"))
    for _ in range(2):
        with page.expect_request("**/page/samples/cat.jpg"):
            button.click()
    for each in held:
        each.continue_()
    playwright.expect(page.locator("#path")).not_to_be_empty()
    settled(page)
    assert page.locator("body").get_attribute("data-photos") == "one"
    page.click("#clear")
    held.clear()
    with page.expect_request("**/page/samples/cat.jpg"):
        button.click()
    give(page, [COFFEE])
    heading(page, "espresso")
    with page.expect_response("**/page/samples/cat.jpg"):
        held[0].continue_()
    settled(page)
    assert page.locator("body").get_attribute("data-photos") == "one"
    heading(page, "espresso")


def test_a_folder_that_is_read_when_all_is_cleared_does_not_come(watched: Watched) -> None:
    page = watched.open()
    give(page, [COFFEE])
    heading(page, "espresso")
    page.evaluate(FOLDER, [3, "held"])
    until(page, "window.letGo !== undefined")
    page.click("#clear")
    playwright.expect(page.locator("#invite")).to_be_visible()
    page.evaluate("() => letGo()")
    settled(page)
    assert page.locator("body").get_attribute("data-photos") == "none"


@pytest.mark.parametrize(
    ("count", "end", "came", "says"),
    [
        (10_050, "", 10_000, "There are more in that: these are the first 10,000."),
        (130, "error", 130, "Some of that could not be read."),
        (0, "", 0, "There was no photo in that."),
    ],
)
def test_of_a_folder_it_is_said_what_does_not_come(
    count: int, end: str, came: int, says: str, watched: Watched
) -> None:
    page = watched.page
    page.route("**/v1/models", lambda route: None)  # none of them is sent
    page.goto(watched.url)
    playwright.expect(page.locator("#samples img")).to_have_count(4)
    page.evaluate(FOLDER, [count, end])
    playwright.expect(page.locator("#notice-text")).to_contain_text(says)
    if came:
        playwright.expect(page.locator("#progress-text")).to_have_text(f"0 of {came:,} photos")


def test_the_camera_takes_one_photo_however_often_it_is_pressed(watched: Watched) -> None:
    page = watched.page
    page.add_init_script(
        """const real = HTMLCanvasElement.prototype.toBlob;
        window.made = [];
        HTMLCanvasElement.prototype.toBlob = function (done, ...how) {
            real.call(this, (blob) => made.push(() => done(blob)), ...how);
        };"""
    )
    watched.open()
    page.click("#shoot")
    page.locator("#camera-take:enabled").dblclick()
    until(page, "made.length > 0")
    settled(page)
    page.evaluate("() => made.splice(0).forEach(each => each())")
    playwright.expect(page.locator("#bars li")).to_have_count(5)
    assert page.locator("body").get_attribute("data-photos") == "one"
    page.click("#shoot-more")
    page.click("#camera-take:enabled")
    until(page, "made.length > 0")
    page.click("#camera-close")  # it is not wanted after all
    page.evaluate("() => made.splice(0).forEach(each => each())")
    settled(page)
    assert page.locator("body").get_attribute("data-photos") == "one"


# -- rows


def test_a_row_that_changes_its_place_keeps_the_keyboard(watched: Watched) -> None:
    page = watched.open()
    page.select_option("#model", "tiny")
    held: list[Any] = []
    page.route("**/v1/classify/**", lambda route: held.append(route))
    give(page, [(f"{number}.jpg", COFFEE.read_bytes()) for number in range(4)])
    gather(page, held, 4)
    page.locator("thead").get_by_role("button", name="Name").click()
    page.locator("tbody tr", has_text="2.jpg").get_by_role("button").focus()
    for place in (3, 2, 0, 1):  # the one with the keyboard goes before those that have no name yet
        with page.expect_response("**/v1/classify/**"):
            held[place].continue_()
        settled(page)
        assert page.evaluate("document.activeElement.closest('tr')?.querySelector('.file').textContent") == "2.jpg"
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.closest('tr') === document.querySelector('tbody tr[data-id]')")


def test_thumbnails_come_though_their_script_did_not_at_once(watched: Watched) -> None:
    page = watched.open()
    tries: list[str] = []

    def answer(route: Any) -> None:
        tries.append(route.request.url)
        route.abort() if len(tries) < 3 else route.continue_()

    page.context.route("**/page/shrink.js", answer)
    give(page, [COFFEE, CAT])
    done(page, "2 photos named")
    for more in range(3):
        give(page, [COFFEE])
        done(page, f"{3 + more} photos named")
    playwright.expect(page.locator("td.thumb img")).to_have_count(5)
    assert len(tries) == 3
