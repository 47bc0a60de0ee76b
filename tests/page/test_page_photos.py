"""Photos come in every way there is, and what the service says of them is what the page shows."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import photolabel
from photolabel.labels import Label
from photolabel.models import BUNDLED
from photolabel.output import csvs
from photolabel.server import Settings

import oracle
from browsers import CALIBRATION, SAMPLES, Stoppable, Watched, browser, done, drop, give, playwright, rows

__all__ = ["browser"]

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "'-alert(1)-'",
    "javascript:alert(1)",
    "{{constructor.constructor('alert(1)')()}}",
    "<svg/onload=alert(1)>",
    "&lt;b&gt;&amp;",
    "=cmd|' /C calc'!A0",
    "\u202egnp.exe",
    'a\nb,c"d',
]
COFFEE = SAMPLES / "coffee.jpg"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[Stoppable]:
    """The bundled model, a tiny one, and one whose classes are called what nobody would call them."""
    labels = tuple(Label(index, None, name) for index, name in enumerate(HOSTILE))
    path = tmp_path_factory.mktemp("hostile") / "hostile.onnx"
    path.write_bytes(oracle.tiny_onnx(model=replace(oracle.tiny_model(), labels=labels)))
    with photolabel.load(BUNDLED) as bundled, photolabel.load(tiny) as small, photolabel.load(path) as hostile:
        service = Stoppable(
            {BUNDLED: bundled, "tiny": small, "hostile": hostile}, Settings(workers=1, body_bytes=500_000)
        )
        yield service
        service.stop()


@pytest.fixture
def watched(browser: Any, service: Stoppable) -> Iterator[Watched]:
    watched = Watched(browser, service.url)
    yield watched
    watched.close()


def heading(page: Any, text: str) -> None:
    playwright.expect(page.locator("#detail-heading")).to_have_text(text)


# -- how they come


def test_one_that_is_dropped(watched: Watched) -> None:
    page = watched.open()
    drop(page, [COFFEE])
    heading(page, "espresso")
    assert page.locator("#answer-how").text_content() == "88.9% sure"
    playwright.expect(page.locator("#shown")).to_be_visible()
    assert page.locator("#list").is_hidden() and page.locator("#invite").is_hidden()


def test_what_is_dragged_over_is_shown_to_be_welcome(watched: Watched) -> None:
    page = watched.open()
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(COFFEE)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 9, "y": 9, "data": data})
    playwright.expect(page.locator("#dropping")).to_be_visible()
    playwright.expect(page.locator("#dropping")).to_be_hidden()  # for nothing more is heard of it


def test_what_is_dropped_is_taken_in_a_task_of_its_own(watched: Watched) -> None:
    """What Chromium does for a drop of hundreds takes long enough by itself."""
    page = watched.open()
    page.evaluate("""() => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(9)], "a.jpg"));
        window.first = new Promise((done) => {
            window.addEventListener("drop", async () => {
                for (let turn = 0; turn < 100; turn += 1) await null;
                done(document.getElementById("said").textContent);
            });
        });
        window.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, cancelable: true }));
    }""")
    assert page.evaluate("window.first") == ""
    playwright.expect(page.locator("#said")).not_to_have_text("")  # of which a moment later another thing is said


def test_a_folder_that_is_dropped_gives_its_photos(watched: Watched, tmp_path: Path) -> None:
    inner = tmp_path / "holiday" / "beach"
    inner.mkdir(parents=True)
    shutil.copy(COFFEE, inner / "one.jpg")
    shutil.copy(SAMPLES / "cat.jpg", tmp_path / "holiday" / "two.jpg")
    (tmp_path / "holiday" / "notes.txt").write_text("no photo")
    (tmp_path / "holiday" / ".hidden.jpg").write_text("no photo")
    page = watched.open()
    drop(page, [tmp_path / "holiday"])
    done(page, "2 photos named")
    assert sorted(row[2] for row in rows(page)) == ["holiday/beach/one.jpg", "holiday/two.jpg"]


def test_of_many_that_are_dropped_only_those_are_looked_into_that_may_be_folders(
    watched: Watched, tmp_path: Path
) -> None:
    """To ask costs the page's thread a third of a millisecond each: it stood still for hundreds of photos."""
    (tmp_path / "holiday").mkdir()
    shutil.copy(COFFEE, tmp_path / "holiday" / "three.jpg")
    names = ["one.jpg", "two.JPG", "what"]
    for name in names:
        shutil.copy(COFFEE, tmp_path / name)
    page = watched.open()
    page.evaluate(
        """() => {
            const ask = DataTransferItem.prototype.webkitGetAsEntry;
            window.asked = [];
            DataTransferItem.prototype.webkitGetAsEntry = function () {
                const entry = ask.call(this);
                asked.push(entry.name);
                return entry;
            };
        }"""
    )
    drop(page, [tmp_path / name for name in (*names, "holiday")])
    done(page, "4 photos named")
    assert page.evaluate("asked") == ["what", "holiday"]


def test_one_that_is_pasted(watched: Watched) -> None:
    watched.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = watched.open()
    png = io.BytesIO()
    from PIL import Image

    with Image.open(COFFEE) as image:
        image.save(png, "PNG")
    page.evaluate(
        """async text => {
            const bytes = Uint8Array.from(atob(text), each => each.charCodeAt(0));
            await navigator.clipboard.write([new ClipboardItem({"image/png": new Blob([bytes], {type: "image/png"})})]);
        }""",
        base64.b64encode(png.getvalue()).decode(),
    )
    page.locator("#main").focus()
    page.keyboard.press("Control+V")
    heading(page, "espresso")


def test_one_of_the_camera(watched: Watched) -> None:
    page = watched.open()
    page.click("#shoot")
    page.click("#camera-take:enabled")
    playwright.expect(page.locator("#camera")).to_be_hidden()
    playwright.expect(page.locator("#bars li")).to_have_count(5)
    assert page.locator("#facts").text_content().startswith("filecamera 20")
    assert page.evaluate("document.getElementById('camera-video').srcObject") is None  # it is off


def test_a_camera_that_may_not_be_used(watched: Watched) -> None:
    page = watched.page
    page.add_init_script(
        "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', 'NotAllowedError'))"
    )
    watched.open()
    page.click("#shoot")
    playwright.expect(page.locator("#camera-said")).to_contain_text("may not be used here")
    assert page.locator("#camera-take").is_disabled()
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#camera")).to_be_hidden()


def test_without_a_secure_page_a_telephone_takes_the_photo_its_own_way(browser: Any, service: Stoppable) -> None:
    watched = Watched(browser, service.url, has_touch=True, is_mobile=True)
    watched.page.add_init_script("Object.defineProperty(window, 'isSecureContext', {value: false})")
    page = watched.open()
    with page.expect_file_chooser() as chooser:
        page.click("#shoot")
    assert chooser.value.element.get_attribute("capture") == "environment"
    chooser.value.set_files([COFFEE])
    heading(page, "espresso")
    watched.close()


def test_a_sample_is_one_click_away(watched: Watched) -> None:
    page = watched.open()
    page.locator("#samples button").nth(2).click()
    heading(page, "food")
    playwright.expect(page.locator("#answer-how")).to_contain_text("the likeliest is espresso")
    page.click("#clear")
    playwright.expect(page.locator("#invite")).to_be_visible()
    playwright.expect(page.locator("#choose")).to_be_focused()


def test_the_same_file_twice(watched: Watched) -> None:
    page = watched.open()
    for _ in range(2):
        give(page, [COFFEE])
    done(page, "2 photos named")


# -- what is shown


def test_all_that_is_said_of_a_photo(watched: Watched) -> None:
    with photolabel.load(BUNDLED) as classifier:
        record = classifier.classify((SAMPLES / "cat.jpg").read_bytes(), top=5, sure=0.8).record()
    page = watched.open()
    give(page, [SAMPLES / "cat.jpg"])
    heading(page, "domestic cat")
    bars = page.locator("#bars li")
    assert [each.split("\n") for each in bars.all_inner_texts()] == [
        [label["everyday"], f"{label['probability']:.1%}"] for label in record["labels"]
    ]
    widths = bars.locator(".fill").evaluate_all("fills => fills.map(fill => parseFloat(fill.style.width) / 100)")
    assert widths == pytest.approx([label["probability"] for label in record["labels"]], abs=1e-6)
    path = page.locator("#path li").all_inner_texts()
    assert path[0].startswith("living thing") and path[-1].startswith("domestic cat")
    facts = dict(
        zip(page.locator("#facts dt").all_inner_texts(), page.locator("#facts dd").all_inner_texts(), strict=True)
    )
    assert facts["file"] == "cat.jpg" and facts["size"] == "38 kB, 451 x 300 pixels, JPEG"
    assert facts["model"] == f"{BUNDLED}, fp32" and facts["answered in"].endswith(("ms", "s"))


def test_models_tops_and_how_sure_are_asked_anew(watched: Watched) -> None:
    page = watched.open()
    give(page, [COFFEE, SAMPLES / "cat.jpg"])
    done(page, "2 photos named")
    page.select_option("#top", "3")
    playwright.expect(page.locator("#bars li")).to_have_count(3)
    page.select_option("#sure", "0.99")
    heading(page, "unsure")
    page.select_option("#sure", "")
    heading(page, "espresso")
    page.select_option("#model", "tiny")
    playwright.expect(page.locator("#facts")).to_contain_text("tiny, fp32")
    done(page, "2 photos named")
    assert page.locator("#path").is_hidden()  # its classes are not WordNet's


def test_names_that_want_to_be_more_are_texts(watched: Watched) -> None:
    page = watched.open()
    page.select_option("#model", "hostile")
    page.select_option("#top", "10")
    photo = COFFEE.read_bytes()
    give(page, [(name, photo) for name in HOSTILE] + [("<b>broken</b>", b"x")])
    done(page, "10 photos named, 1 could not be")
    assert [row[2] for row in rows(page)] == [*HOSTILE, "<b>broken</b>"]
    shown = page.locator("#bars .label").evaluate_all("all => all.map(each => each.textContent)")
    assert sorted(shown) == sorted(name.replace("_", " ") for name in HOSTILE)
    assert page.locator("#table bdi").count() >= 11  # a name from right to left turns nothing else
    page.locator("#table tbody tr[data-id] button").last.click()
    heading(page, "Not a photo")
    page.fill("#find", "<img")
    playwright.expect(page.locator("#table tbody tr[data-id]")).to_have_count(1)
    assert page.evaluate("document.querySelectorAll('main script, main svg, main b, bdi img, bdi *').length") == 0


def test_a_script_could_not_make_markup_if_it_wanted(watched: Watched) -> None:
    watched.allow("TrustedHTML|TrustedScript|violates the following")
    page = watched.open()
    for attempt in ("document.body.innerHTML = '<b>x</b>'", "document.write('x')", "new Worker('page/page.js')"):
        assert (
            page.evaluate(f"() => {{ try {{ {attempt}; return 'done' }} catch (e) {{ return e.name }} }}")
            == "TypeError"
        )


def test_a_broken_file_among_good_ones(watched: Watched) -> None:
    data = COFFEE.read_bytes()
    page = watched.open()
    give(page, [COFFEE, ("half.jpg", data[: len(data) // 2]), ("empty.jpg", b""), ("text.txt", b"no photo"), COFFEE])
    done(page, "2 photos named, 3 could not be")
    broken = "Broken or cut short"
    assert [row[0] for row in rows(page)] == ["espresso", broken, broken, "Not a photo", "espresso"]
    page.click(f"text={broken}")
    heading(page, broken)
    playwright.expect(page.locator("#answer-how")).to_contain_text("cut short")
    assert page.locator("#views").is_hidden() and page.locator("#names").is_hidden()
    page.click("#retry")
    done(page, "2 photos named, 3 could not be")


def test_a_file_that_is_too_large_is_not_sent(watched: Watched) -> None:
    asked: list[str] = []
    watched.page.on("request", lambda request: asked.append(request.method))
    page = watched.open()
    give(page, [("large.jpg", COFFEE.read_bytes() + bytes(500_000)), COFFEE])
    done(page, "1 photo named, 1 could not be")
    playwright.expect(page.locator("#answer-how")).to_have_text("Its file has 579 kB; this service takes up to 500 kB.")
    assert asked.count("POST") == 1


def test_a_format_that_the_browser_cannot_show(watched: Watched) -> None:
    page = watched.open()
    give(page, [CALIBRATION.parent / "doctor" / "flat.heic", COFFEE])
    done(page, "2 photos named")
    playwright.expect(page.locator("#table .noimage")).to_have_text("HEIC")
    playwright.expect(page.locator("#cannot")).to_have_text("This browser cannot show HEIC files such as this one.")
    assert page.locator("#frame").is_hidden()


def test_a_photo_is_upright(watched: Watched) -> None:
    page = watched.open()
    give(page, [SAMPLES / "sideways.jpg"])
    heading(page, "domestic cat")
    playwright.expect(page.locator("#shown")).to_be_visible()
    assert page.evaluate("[shown.naturalWidth, shown.naturalHeight]") == [451, 300]


# -- what can be saved


def saved(page: Any, button: str) -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.click(button)
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_csv_is_photolabel_s_own_and_holds_no_formula(watched: Watched) -> None:
    page = watched.open()
    page.select_option("#model", "hostile")
    photo = COFFEE.read_bytes()
    give(page, [(name, photo) for name in HOSTILE] + [("-1+1", b"x")])
    done(page, "10 photos named, 1 could not be")
    name, data = saved(page, "#save-csv")
    assert name == "photolabel.csv"
    records = json.loads(saved(page, "#save-json")[1])["records"]
    file = io.BytesIO()
    csvs.write(file, [json.dumps(record).encode() for record in records], 5)
    expected = list(csv.reader(io.StringIO(file.getvalue().decode(), newline="")))
    found = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert len(found) == 12 and [list(map(number, row)) for row in found] == [
        list(map(number, row)) for row in expected
    ]
    assert found[8][0] == "./=cmd|' /C calc'!A0" and found[11][0] == "./-1+1"


def number(cell: str) -> float | str:
    """JavaScript and Python write the same number in two ways."""
    try:
        return float(cell)
    except ValueError:
        return cell
