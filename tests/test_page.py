"""Pages: nothing that a stranger named becomes markup, and nothing leads outside."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from photolabel import page
from photolabel.confidence import Share, share
from photolabel.draw import chart
from photolabel.draw.scene import Box, Scene
from photolabel.errors import CorruptPhotoError
from photolabel.page import Card, Markup, Section, Thumbnails, Tile, confusion, frame, join, tag

HOSTILE = "<script>alert(1)</script>\"'&\u202egpj.\x1b[31m\0\udcff\ufffe"


def parsed(markup: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(f"<x>{markup.text}</x>")


# -- elements


def test_text_is_escaped_wherever_it_goes() -> None:
    made = tag("p", {"title": HOSTILE}, HOSTILE, ["a", [HOSTILE]], None, 3)
    (element,) = parsed(made)
    assert [child.tag for child in element] == []
    shown = "<script>alert(1)</script>\"'&\\u202egpj.\\x1b[31m\\x00\\xff\ufffd"
    assert element.text == f"{shown}a{shown}3" and element.get("title") == shown
    assert "<script" not in made.text


@given(st.text(st.characters(codec=None, categories=None), max_size=60))
def test_any_text_at_all_is_one_text(text: str) -> None:
    made = tag("p", {"title": text}, text)
    (element,) = parsed(made)
    assert (len(element) == 0 and element.text == element.get("title")) or not text
    made.text.encode("utf-8")


def test_markup_is_not_escaped_twice() -> None:
    assert tag("p", None, tag("b", None, "a<b")).text == "<p><b>a&lt;b</b></p>"
    assert join(tag("br"), "&", None).text == "<br />&amp;"
    assert tag("p", {"a": None, "b": 1.5}).text == '<p b="1.5"></p>'


@pytest.mark.parametrize("name", ["script", "p onclick", "", "p>", "1", "é"])
def test_no_such_element(name: str) -> None:
    with pytest.raises(ValueError, match="no element"):
        tag(name)


@pytest.mark.parametrize("key", ["onclick", "onload", 'a"b', "a b", "a>", ""])
def test_no_such_attribute(key: str) -> None:
    with pytest.raises(ValueError, match="no attribute"):
        tag("p", {key: "x"})


@pytest.mark.parametrize("key", ["href", "src"])
@pytest.mark.parametrize(
    "value",
    [
        "javascript:alert(1)",
        "https://example.org",
        "//example.org/x.png",
        "/etc/passwd",
        "../x",
        "a/../b",
        "",
        "data:,x",
    ],
)
def test_nothing_leads_away(key: str, value: str) -> None:
    with pytest.raises(ValueError, match="leads away"):
        tag("a", {key: value})


def test_places_here() -> None:
    for value in ("#figures", "photos/0001.jpg", "index.html"):
        assert tag("a", {"href": value}, "x").text == f'<a href="{value}">x</a>'


def test_long_texts_are_cut_in_their_middle() -> None:
    assert page.clean("x" * 300) == "x" * 300
    cut = page.clean("a" * 1000 + "z" * 1000)
    assert len(cut) == 300 and cut[0] == "a" and cut[-1] == "z" and "…" in cut
    assert page.foreign("a<b").text == "<bdi>a&lt;b</bdi>"


# -- numbers


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0.0%"),
        (0.0001, "<0.1%"),
        (0.0006, "0.1%"),
        (0.5, "50.0%"),
        (0.9994, "99.9%"),
        (0.9999, ">99.9%"),
        (1, "100.0%"),
        (float("nan"), "\N{EN DASH}"),
    ],
)
def test_percents(value: float, shown: str) -> None:
    assert page.percent(value) == shown


def test_numbers_in_words() -> None:
    assert page.interval(share(0, 20)) == "0.0\N{EN DASH}16.1%"
    assert [page.several(n, "photo") for n in (0, 1, 2000)] == ["0 photos", "1 photo", "2,000 photos"]
    assert page.several(2, "class", "classes") == "2 classes"


# -- pieces


@pytest.mark.parametrize("published", [None, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("found", [share(0, 0), share(0, 5), share(5, 5), share(7, 100), share(0, 10**9)])
def test_a_gauge_stays_in_its_picture(found: Share, published: float | None) -> None:
    (svg,) = parsed(page.gauge(found, published))
    assert len(svg) == 2 + (published is not None) + (found.of > 0)
    for shape in svg:
        x = float(shape.get("x") or shape.get("cx") or 0)
        assert x >= -1 and x + float(shape.get("width", 0)) <= 201


def test_a_table_has_heads_of_columns_and_rows() -> None:
    made = page.table("What", ["a", "b"], [["<1>", "2"], [tag("b", None, "3"), page.bar(0.25)]], numbers=[1])
    (region,) = parsed(made)
    assert region.get("role") == "region" and region.get("aria-label") == "What"
    (table,) = region
    assert table.findtext("caption") == "What"
    assert [head.get("scope") for head in table.iterfind("thead/tr/th")] == ["col", "col"]
    assert [head.get("scope") for head in table.iterfind("tbody/tr/th")] == ["row", "row"]
    assert [cell.get("class") for cell in table.iterfind("tbody/tr/td")] == ["number", "number"]
    assert table.find("tbody/tr/td/svg/rect[@class='fill']").get("width") == "25.00"  # type: ignore[union-attr]


COUNTS = np.array([[9, 1, 0], [0, 0, 5], [0, 0, 0]])


@pytest.mark.parametrize("more", [0, 4])
def test_a_matrix_says_all_that_its_colours_do(more: int) -> None:
    counts = np.zeros((3 + more, 3 + more), np.int64)
    counts[:3, :3] = COUNTS
    (region,) = parsed(page.matrix("What", [f"{i}{HOSTILE}" for i in range(3 + more)], counts))
    assert region.get("role") == "region" and region.get("tabindex") == "0"
    (table,) = region
    assert table.get("class") == ("matrix on-end" if more else "matrix")
    assert [head.get("scope") for head in table.iterfind("thead/tr/th")] == ["col"] * (3 + more)
    rows = [row.findall("td") for row in table.iterfind("tbody/tr")]
    assert [[cell.text for cell in row[:3]] for row in rows[:3]] == [["9", "1", None], [None, "0", "5"], [None] * 3]
    kinds = [[cell.get("class") for cell in row[:3]] for row in rows[:3]]
    assert kinds == [["right step5", "wrong step1", None], [None, "right", "wrong step5"], [None, None, "right"]]
    titles = [cell.get("title") or "" for row in rows for cell in row if cell.get("title")]
    assert len(titles) == 3 and titles[1].endswith(": 1 of 10, 10.0%") and titles[1].count("alert") == 2
    names = [head.findtext("span/bdi") or "" for head in table.iterfind("tbody/tr/th")]
    assert [name[0] for name in names] == [str(i) for i in range(3 + more)] and all("\\x1b" in name for name in names)


def test_a_share_as_a_figure() -> None:
    made = page.measured("Right", share(3, 4), "in 2 parts", published=0.5)
    text = page.tiles([made]).text
    assert made.value == "75.0%" and "3 of 4 photos" in text and "published: 50.0%" in text and "in 2 parts" in text
    assert "published" not in page.tiles([page.measured("Right", share(3, 4))]).text
    none = page.measured("Right", share(0, 0))
    assert none.value == page.NOTHING and none.notes == ["no photo could be read"]


def test_details_are_closed_or_open() -> None:
    assert "open" not in page.details("x", "y").text
    assert page.details("x", "y", opened=True).text.startswith('<details open="">')


def test_tiles() -> None:
    text = page.tiles([Tile(label="Error", value="1%", notes=["of 3", None, tag("b", None, "x")])]).text
    assert text.count("<dd") == 3 and "<dt>Error</dt>" in text


# -- photos


def test_small_photos_are_made_once_and_hold_pixels_only(tmp_path: Path) -> None:
    asked: list[str] = []

    def read(name: str) -> Image.Image:
        asked.append(name)
        image = Image.new("RGB", (1000, 500), "red")
        image.info = {"comment": b"secret", "exif": b"Exif\0\0secret", "icc_profile": b"secret", "xmp": b"secret"}
        return image

    made = Thumbnails(folder=tmp_path, read=read)
    first, second = made.of("a/<b>.jpg"), made.of("a/<b>.jpg")
    assert first == second and asked == ["a/<b>.jpg"]
    (image,) = parsed(first)
    assert (image.get("src"), image.get("width"), image.get("height")) == ("photos/0001.jpg", "360", "180")
    assert image.get("alt") == "<b>.jpg"
    data = (tmp_path / "photos" / "0001.jpg").read_bytes()
    assert b"secret" not in data
    with Image.open(tmp_path / "photos" / "0001.jpg") as opened:
        assert opened.size == (360, 180) and opened.format == "JPEG"
        red, green, blue = opened.getpixel((100, 100))  # type: ignore[misc]
        assert red > 240 and green < 10 and blue < 10


@pytest.mark.parametrize(
    ("size", "expected"), [((10, 5), (10, 5)), ((5000, 1), (360, 1)), ((1, 5000), (1, 360)), ((400, 300), (360, 270))]
)
def test_sizes(tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]) -> None:
    Thumbnails(folder=tmp_path, read=lambda _: Image.new("L", size)).of("x")
    with Image.open(tmp_path / "photos" / "0001.jpg") as image:
        assert image.size == expected and image.mode == "RGB"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_is_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    image = image.convert(mode)
    if mode == "P":
        image.info["transparency"] = image.getpixel((0, 0))
    Thumbnails(folder=tmp_path, read=lambda _: image).of("x")
    with Image.open(tmp_path / "photos" / "0001.jpg") as opened:
        assert min(opened.getpixel((10, 10))) > 250  # type: ignore[arg-type,type-var]


def gone(name: str) -> Image.Image | None:
    return None


def broken(name: str) -> Image.Image | None:
    raise CorruptPhotoError("cut short")


@pytest.mark.parametrize("read", [gone, broken])
def test_a_photo_that_is_gone(tmp_path: Path, read: Callable[[str], Image.Image | None]) -> None:
    made = Thumbnails(folder=tmp_path, read=read)
    assert "not at hand" in made.of("x").text and not list(tmp_path.iterdir())


def test_the_caller_s_image_is_left_as_it_is(tmp_path: Path) -> None:
    image = Image.new("RGB", (10, 10))
    image.info["comment"] = b"mine"
    Thumbnails(folder=tmp_path, read=lambda _: image).of("x")
    assert image.size == (10, 10) and image.info == {"comment": b"mine"}


def test_no_more_files_than_were_allowed(tmp_path: Path) -> None:
    made = Thumbnails(folder=tmp_path, read=lambda _: Image.new("RGB", (9, 9)), most=3)
    texts = [made.of(str(i)).text for i in range(5)]
    assert sum("not at hand" in text for text in texts) == 2
    assert len(list((tmp_path / "photos").iterdir())) == 3


@pytest.mark.parametrize("name", ["val/n01/" + HOSTILE, "C:\\photos\\" + HOSTILE, HOSTILE, "/", "x/"])
def test_cards_name_their_photo(tmp_path: Path, name: str) -> None:
    made = page.cards([Card(photo=name, lines=["is <b>"], right=False)], Thumbnails(folder=tmp_path, read=gone))
    (list_,) = parsed(made)
    (item,) = list_
    assert item.get("class") == "wrong" and item.find("figure/figcaption/p").text == "is <b>"  # type: ignore[union-attr]
    shown = item.find("figure/figcaption/p[@class='file']")
    assert shown is not None and shown.get("title") == page.clean(name)
    said = shown.findtext("bdi")
    assert said and said in page.clean(name) and not said.startswith(("val", "C:"))


# -- the page


class Watch(HTMLParser):
    """Whether each element is closed where it should be, and what is in the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.met: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.met.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.met.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def watched(data: bytes) -> Watch:
    watch = Watch()
    watch.feed(data.decode("utf-8"))
    watch.close()
    assert not watch.open
    return watch


def whole() -> bytes:
    return page.document(
        HOSTILE,
        kind="test",
        lead=HOSTILE,
        facts=[("Model", HOSTILE)],
        sections=[Section(anchor=f"part-{i}", heading=HOSTILE, content=HOSTILE) for i in range(3)],
    )


def test_a_page_is_well_formed_and_needs_nothing() -> None:
    data = whole()
    ElementTree.fromstring(data)
    watch = watched(data)
    tags = [name for name, _ in watch.met]
    for landmark in ("header", "nav", "main", "footer", "title", "h1"):
        assert tags.count(landmark) == 1
    assert "script" not in tags and "link" not in tags and "iframe" not in tags
    assert watch.met[0] == ("html", {"lang": "en"})
    policies = [given["content"] for _, given in watch.met if given.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'"]
    assert not re.search(rb"https?://|@import|url\(", data)


def test_the_list_of_parts_leads_to_them() -> None:
    watch = watched(whole())
    ids = [given["id"] for _, given in watch.met if "id" in given]
    assert len(ids) == len(set(ids))
    links = [given["href"] for name, given in watch.met if name == "a"]
    assert links[1:] == ["#part-0", "#part-1", "#part-2"] and {str(link)[1:] for link in links} <= set(ids)
    named = [given["aria-labelledby"] for _, given in watch.met if "aria-labelledby" in given]
    assert len(named) == 3 and set(named) <= set(ids)


def test_a_drawing_is_part_of_the_page() -> None:
    drawn = Scene("<title>", width=10, height=10)
    drawn.add(Box(x=0, y=0, width=1, height=1, fill="#ffffff"))
    (division,) = parsed(page.drawing(drawn))
    (svg,) = division
    assert svg.get("role") == "img" and svg[0].text == "<title>"
    watched(page.drawing(drawn).text.encode())


# -- its look


def style() -> str:
    return (resources.files("photolabel") / "data" / "page.css").read_text("utf-8")


def test_the_dark_has_another_colour_for_each_of_a_drawing() -> None:
    dark = style().partition("prefers-color-scheme: dark")[2]
    for colour in chart.COLOURS:
        assert f'[fill="{colour}"]' in dark or f'[stroke="{colour}"]' in dark, colour


def test_the_style_is_no_markup() -> None:
    assert not set("<&") & set(frame._style()) and "/*" not in frame._style()


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("text", ["ink", "pale", "blue", "right", "wrong"])
@pytest.mark.parametrize("ground", ["paper", "ground"])
def test_texts_have_the_contrast_of_wcag_aa(scheme: int, text: str, ground: str) -> None:
    block = re.findall(r":root \{(.*?)\}", style(), re.DOTALL)[scheme]
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
    light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("kind", ["hit", "miss"])
def test_shades_of_a_matrix_grow_and_can_be_read_on(scheme: int, kind: str) -> None:
    block = re.findall(r":root \{(.*?)\}", style(), re.DOTALL)[scheme]
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
    paper, ink = luminance(colours["paper"]), luminance(colours["ink"])
    shades = [luminance(colours[f"{kind}{step}"]) for step in range(1, confusion.STEPS + 1)]
    away = [abs(shade - paper) for shade in shades]
    assert away == sorted(away) and len(set(away)) == confusion.STEPS
    for shade in shades:
        light, dark = sorted((shade, ink), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5
    for step in range(1, confusion.STEPS + 1):
        assert f".step{step} {{ background: var(--{kind}{step}); }}" in style()


# -- known again


def test_a_page_is_known_again(tmp_path: Path) -> None:
    assert not page.is_page(tmp_path, "test")
    (tmp_path / "index.html").write_bytes(whole())
    assert page.is_page(tmp_path, "test") and not page.is_page(tmp_path, "other")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "0001.jpg").write_bytes(b"x")
    assert page.is_page(tmp_path, "test")


@pytest.mark.parametrize("name", ["notes.txt", "photos/mine.jpg", "photos/0001.png", "photos/more/0001.jpg", ".hidden"])
def test_a_page_with_something_added_is_not_ours_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "index.html").write_bytes(whole())
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    assert not page.is_page(tmp_path, "test")


def test_a_link_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "index.html").write_bytes(whole())
    try:
        (tmp_path / "here" / "photos").symlink_to(tmp_path / "there")
    except OSError:
        pytest.skip("no symbolic links here")
    assert not page.is_page(tmp_path / "here", "test")


def test_another_s_page_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!DOCTYPE html><title>photolabel test</title>")
    assert not page.is_page(tmp_path, "test")


def test_png_text_is_not_carried_over(tmp_path: Path) -> None:
    """A comment comes by way of a file's own reader as well."""
    info = PngInfo()
    info.add_text("comment", "secret")
    Image.new("RGB", (9, 9)).save(tmp_path / "x.png", pnginfo=info)
    with Image.open(tmp_path / "x.png") as image:
        Thumbnails(folder=tmp_path, read=lambda _: image).of("x")
    assert b"secret" not in (tmp_path / "photos" / "0001.jpg").read_bytes()
