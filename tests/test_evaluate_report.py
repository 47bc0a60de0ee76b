"""The page of an evaluation: it says what was measured, holds no stranger's markup, and is whole or not there."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from photolabel import labels, page, tree
from photolabel.errors import CorruptPhotoError, OutputError
from photolabel.evaluate import report
from photolabel.evaluate.measures import Measures, measure
from photolabel.evaluate.outcomes import Outcome
from photolabel.evaluate.report import Context, Published
from photolabel.labels import Label
from test_page import HOSTILE, watched

IMAGENET = labels.imagenet()
INDEX = {label.name: label.index for label in IMAGENET}
CONTEXT = Context(model="some-model", photos="some photos", protocol="one crop", precision="fp32")


def photo(name: str) -> Image.Image | None:
    return Image.new("RGB", (80, 60), "red")


def outcome(truth: int, *top: int, sure: float = 0.5, name: str | None = None) -> Outcome:
    return Outcome(photo=name or f"{truth}-{top}-{sure}.jpg", truth=truth, top=top, probability=sure, of_truth=0.1)


def some(count: int = 300, *, seed: int = 0, name: str = "{}.jpg") -> list[Outcome]:
    rng = random.Random(seed)
    found = []
    for i in range(count):
        truth, sure = rng.randrange(1000), rng.random()
        first = truth if rng.random() < sure else min(999, truth + 1)
        others = [each for each in rng.sample(range(1000), 6) if each != first][:4]
        found.append(outcome(truth, first, *others, sure=sure, name=name.format(i)))
    return found


def write(
    folder: Path,
    outcomes: list[Outcome],
    context: Context = CONTEXT,
    *,
    classes: tuple[Label, ...] = IMAGENET,
    read: Callable[[str], Image.Image | None] = photo,
) -> Measures:
    return report.write(folder, outcomes, context, labels=classes, tree=tree.of(classes), thumbnails=read)


def texts(folder: Path) -> str:
    """All that is to be read on the page, pieces apart by a blank."""
    root = ElementTree.parse(folder / "index.html").getroot()
    return re.sub(r"\s+", " ", " ".join(root.find("body").itertext()))  # type: ignore[union-attr]


def anchors(folder: Path) -> list[str]:
    root = ElementTree.parse(folder / "index.html").getroot()
    return [each.get("id", "") for each in root.iter("section")]


def here(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def table(folder: Path, caption: str) -> list[list[str]]:
    """The rows of a table, as text; what is drawn is an empty cell."""
    for region in ElementTree.parse(folder / "index.html").getroot().iter("table"):
        if region.findtext("caption", "").startswith(caption):
            return [["".join(cell.itertext()) for cell in row] for row in region.iterfind("tbody/tr")]
    raise AssertionError(caption)


def same_files(one: Path, other: Path) -> None:
    """Two folders hold the same bytes."""
    files = [{str(path.relative_to(top)): path for path in top.rglob("*")} for top in (one, other)]
    assert files[0].keys() == files[1].keys()
    for name, path in files[0].items():
        assert path.is_dir() or path.read_bytes() == files[1][name].read_bytes()


def is_tame(folder: Path) -> None:
    """No name of a stranger became markup, or a file's name."""
    data = (folder / "index.html").read_bytes()
    watch = watched(data)
    ElementTree.fromstring(data)
    assert b"<script" not in data and b"\x1b" not in data and "\u202e".encode() not in data
    assert not [name for name, _ in watch.met if name == "script"]
    assert not [key for _, given in watch.met for key in given if key.startswith("on")]
    assert re.fullmatch(r"[0-9]{4}\.jpg", here(folder / "photos")[0])


def test_the_page_says_what_was_measured(tmp_path: Path) -> None:
    outcomes = [*some(), Outcome(photo="bad.jpg", truth=3, error="cut short")]
    found = write(tmp_path / "out", outcomes)
    assert found == measure(outcomes, classes=1000, tree=tree.of(IMAGENET))
    said = texts(tmp_path / "out")
    assert found.top5 is not None and found.distances is not None
    for figure in (
        page.percent(found.top1.value),
        page.interval(found.top1),
        page.percent(found.top5.value),
        page.interval(found.top5),
        page.percent(found.bins.ece),
        page.percent(found.classes.mean_accuracy),
        f"{found.distances.of_mistakes:.1f}",
        "1 photo of 301 could not be read",
        page.percent(found.counting_unreadable().value),
        "some-model on some photos",
        "one crop",
        "fp32",
    ):
        assert figure in said, figure
    assert ["bad.jpg", "cut short"] in table(tmp_path / "out", "Photos that could not be read")
    assert anchors(tmp_path / "out") == [
        "figures", "left-out", "confidence", "classes", "confused", "distance", "photos", "measures",
    ]  # fmt: skip


def test_it_is_well_formed_and_every_photo_is_there(tmp_path: Path) -> None:
    write(tmp_path / "out", some())
    watch = watched((tmp_path / "out" / "index.html").read_bytes())
    sources = {str(given["src"]) for name, given in watch.met if name == "img"}
    assert sources == {f"photos/{each}" for each in here(tmp_path / "out" / "photos")} and len(sources) > 20
    assert all(given.get("alt") for name, given in watch.met if name == "img")
    assert here(tmp_path / "out") == ["index.html", "photos"]


def test_the_same_outcomes_give_the_same_page(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, some())
    same_files(tmp_path / "a", tmp_path / "b")


# -- sentences


@pytest.mark.parametrize(
    ("published", "says"),
    [
        (0.5, "in the interval of 23.7\N{EN DASH}76.3%: these photos do not contradict it"),
        (0.9, "the error on these photos is lower by more than chance explains"),
        (0.1, "the error on these photos is higher by more than chance explains"),
    ],
)
def test_whether_the_interval_holds_what_was_published(tmp_path: Path, published: float, says: str) -> None:
    outcomes = [outcome(0, i % 2, 2, 3, 4, 5) for i in range(10)]
    context = replace(CONTEXT, published=Published(top1=published, source="their paper"))
    write(tmp_path / "out", outcomes, context)
    said = texts(tmp_path / "out")
    assert f"The published top-1 error of {page.percent(published)} (their paper) lies" in said and says in said
    assert f"published: {page.percent(published)}" in said and "published top-5" not in said


def test_nothing_published_is_nothing_said(tmp_path: Path) -> None:
    write(tmp_path / "out", some(), replace(CONTEXT, remarks=("It has seen them before.",), calibration="T = 0.6"))
    said = texts(tmp_path / "out")
    assert "published" not in said and "It has seen them before." in said and "T = 0.6" in said


@pytest.mark.parametrize(
    ("sure", "says"),
    [(0.9, "surer than it is right, by 40.0%"), (0.5, "as sure as it is right"), (0.1, "less sure than it is right")],
)
def test_surer_than_right_or_less(tmp_path: Path, sure: float, says: str) -> None:
    write(tmp_path / "out", [outcome(0, i % 2, sure=sure) for i in range(10)])
    assert says in texts(tmp_path / "out")


def test_no_mistakes(tmp_path: Path) -> None:
    write(tmp_path / "out", [outcome(i, i) for i in range(5)])
    said = texts(tmp_path / "out")
    assert "every photo was named right" in said and "There are no mistakes." in said


def test_no_two_mistakes_alike(tmp_path: Path) -> None:
    write(tmp_path / "out", [outcome(i, i + 1) for i in range(5)])
    assert "No two mistakes are alike" in texts(tmp_path / "out")


@pytest.mark.parametrize("outcomes", [[], [Outcome(photo="x", truth=0, error="broken")]])
def test_no_photo_that_could_be_read(tmp_path: Path, outcomes: list[Outcome]) -> None:
    write(tmp_path / "out", outcomes, replace(CONTEXT, published=Published(top1=0.2, source="x")))
    assert "no photo could be read" in texts(tmp_path / "out")
    assert anchors(tmp_path / "out") == ["figures", "left-out"][: 1 + len(outcomes)]


def test_own_classes_have_no_tree_and_few_no_top_5(tmp_path: Path) -> None:
    classes = (Label(0, None, "ants"), Label(1, None, "bees"))
    write(tmp_path / "out", [outcome(0, 1, 0), outcome(1, 1, 0)], classes=classes)
    said = texts(tmp_path / "out")
    assert "Not measured: some of the model's classes are not in WordNet" in said
    assert "There is no top-5 error: the model has no more than 2 classes." in said
    assert [row[0] for row in table(tmp_path / "out", "Classes")] == ["ants", "bees"]
    assert "How many classes are how accurate" not in said


def test_classes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    cranes = [label for label in IMAGENET if label.name == "crane"]
    assert len(cranes) == 2
    write(tmp_path / "out", [outcome(cranes[0].index, cranes[1].index)] * 2)
    said = texts(tmp_path / "out")
    assert all(f"crane ({crane.wnid})" in said for crane in cranes)


def test_classes_are_the_worst_first(tmp_path: Path) -> None:
    outcomes = [outcome(0, 0), outcome(1, 2), outcome(3, 4), outcome(3, 4), outcome(5, 5), outcome(5, 6)]
    write(tmp_path / "out", outcomes)
    rows = table(tmp_path / "out", "Classes")
    assert [row[0] for row in rows] == [IMAGENET[i].name.replace("_", " ") for i in (3, 1, 5, 0)]
    assert rows[0][2:] == ["0.0%", "0/2", "0.0%", IMAGENET[4].name.replace("_", " ")]
    assert rows[3][2:] == ["100.0%", "1/1", "100.0%", ""]
    assert "996 classes have no photo in this set" in texts(tmp_path / "out")


def test_how_many_classes_are_how_accurate(tmp_path: Path) -> None:
    outcomes = [outcome(i, i) for i in range(20)] + [outcome(i, i + 1) for i in range(3)]
    outcomes += [outcome(30, 30)] * 9 + [outcome(30, 31)]
    write(tmp_path / "out", outcomes)
    rows = {row[0]: row[2] for row in table(tmp_path / "out", "How many classes are how accurate")}
    assert rows.pop("100%") == "17" and rows.pop("from 50%") == "3" and rows.pop("from 90%") == "1"
    assert set(rows.values()) == {"0"}


def test_confused_pairs_and_how_far_off_they_are(tmp_path: Path) -> None:
    tabby, egyptian, mug = INDEX["tabby"], INDEX["Egyptian_cat"], INDEX["coffee_mug"]
    write(tmp_path / "out", [outcome(tabby, egyptian)] * 3 + [outcome(tabby, mug), outcome(tabby, tabby)])
    said = texts(tmp_path / "out")
    assert "tabby , taken for Egyptian cat" in said and "3 times, of 5 photos (60.0%)" in said
    rows = table(tmp_path / "out", "Mistakes by height")
    assert [(row[0], row[2], row[3]) for row in rows] == [
        ("1", "3", "tabby for Egyptian cat: both domestic cat"),
        ("15", "1", "tabby for coffee mug: both whole"),
    ]
    assert "The nearest mistakes" in said and "The farthest mistakes" in said


# -- strangers


def test_hostile_names_are_text(tmp_path: Path) -> None:
    classes = tuple(Label(i, None, f"{HOSTILE}{i}") for i in range(7))
    outcomes = [outcome(i % 7, i % 3, sure=i / 40, name=f"{i}{HOSTILE}") for i in range(40)]
    outcomes += [Outcome(photo=f"{i}{HOSTILE}", truth=0, error=f"{HOSTILE}{i % 15}") for i in range(60)]
    context = Context(
        model=HOSTILE,
        photos=HOSTILE,
        protocol=HOSTILE,
        precision=HOSTILE,
        calibration=HOSTILE,
        published=Published(top1=0.5, top5=0.1, source=HOSTILE),
        remarks=(HOSTILE,),
    )
    write(tmp_path / "out", outcomes, context, classes=classes)
    is_tame(tmp_path / "out")


def test_long_lists_are_bounded(tmp_path: Path) -> None:
    outcomes = some(20_000, name="x" * 3000 + "{}.jpg")
    outcomes += [Outcome(photo="y" * 3000, truth=i, error=f"{i:03}" * 300) for i in range(500)]
    write(tmp_path / "out", outcomes)
    assert (tmp_path / "out" / "index.html").stat().st_size < 1_500_000
    assert len(here(tmp_path / "out" / "photos")) < 200
    assert len(table(tmp_path / "out", "Classes")) == 1000
    assert len(table(tmp_path / "out", "Photos that could not be read")) == 50
    assert len(table(tmp_path / "out", "Why they could not be read")) == 10
    said = texts(tmp_path / "out")
    assert "and 490 other reasons." in said and "The photos: the first 50 of 500" in said


def test_a_table_of_very_many_classes_is_cut(tmp_path: Path) -> None:
    classes = tuple(Label(i, None, f"c{i}") for i in range(1500))
    write(tmp_path / "out", [outcome(i, i) for i in range(1500)], classes=classes)
    assert len(table(tmp_path / "out", "Classes, the worst first: 1,000 of 1,500")) == 1000


@pytest.mark.parametrize("error", [None, CorruptPhotoError("cut short")])
def test_photos_that_are_gone(tmp_path: Path, error: CorruptPhotoError | None) -> None:
    def read(name: str) -> Image.Image | None:
        if error:
            raise error
        return None

    write(tmp_path / "out", some(), read=read)
    assert here(tmp_path / "out") == ["index.html"] and "The photo is not at hand." in texts(tmp_path / "out")


# -- whole or not at all


def test_an_earlier_report_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "out", some(), CONTEXT)
    write(tmp_path / "out", [outcome(0, 0)], replace(CONTEXT, model="another"))
    assert "another on some photos" in texts(tmp_path / "out") and here(tmp_path) == ["out"]
    assert here(tmp_path / "out" / "photos") == ["0001.jpg"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_breaks_leaves_the_earlier_one(tmp_path: Path, error: type[BaseException]) -> None:
    def read(name: str) -> Image.Image:
        raise error

    write(tmp_path / "out", some())
    before = (tmp_path / "out" / "index.html").read_bytes()
    with pytest.raises(error):
        write(tmp_path / "out", some(seed=1), read=read)
    assert (tmp_path / "out" / "index.html").read_bytes() == before and here(tmp_path) == ["out"]
    with pytest.raises(error):
        write(tmp_path / "new", some(), read=read)
    assert here(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["index.html", "notes.txt", "photos/holiday.jpg"])
def test_a_folder_of_somebody_else_s_is_left_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")

    def read(name: str) -> Any:
        pytest.fail("found out too late")

    for step in (lambda: report.check(tmp_path / "out"), lambda: write(tmp_path / "out", some(), read=read)):
        with pytest.raises(OutputError, match="holds something else than what photolabel wrote there"):
            step()
    assert path.read_text() == "mine" and here(tmp_path) == ["out"]


def test_a_report_with_something_added_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "out", some())
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError):
        write(tmp_path / "out", some())
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_what_was_added_while_it_was_made_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "out", some())

    def read(name: str) -> Image.Image | None:
        (tmp_path / "out" / "notes.txt").write_text("mine")
        return photo(name)

    with pytest.raises(OutputError):
        write(tmp_path / "out", some(), read=read)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine" and here(tmp_path) == ["out"]
