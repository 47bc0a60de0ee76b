"""The page of a lesson: it says what was found, holds no stranger's markup, and is whole or not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from photolabel import page, teaching
from photolabel.errors import CorruptPhotoError, OutputError
from photolabel.teaching import report, shown, told
from photolabel.teaching.doubts import Mislabelled, Pair
from photolabel.teaching.features import Failure
from photolabel.teaching.lesson import Lesson, Repeated
from test_evaluate_report import anchors, here, is_tame, same_files, table, texts
from test_evaluate_report import photo as red
from test_page import HOSTILE, watched

from lessons import ALL, grown, lesson, tuned
from training import plant

DASH = page.DASH


def write(folder: Path, found: Lesson, read: Callable[[str], Image.Image | None] = red) -> str:
    report.write(folder, found, thumbnails=read)
    return texts(folder)


def matrices(folder: Path) -> list[list[list[str]]]:
    found = []
    for each in ElementTree.parse(folder / "index.html").getroot().iter("table"):
        if (each.get("class") or "").startswith("matrix"):
            rows = each.iterfind("tbody/tr")
            found.append([["".join(cell.itertext()) for cell in row.iterfind("td")] for row in rows])
    return found


def test_the_page_says_what_was_found(tmp_path: Path) -> None:
    found = grown(lesson(**ALL), (1, 40), (0, None))
    said = write(tmp_path / "out", found)
    assert found.validation is not None
    for figures in (found.figures, found.validation.figures):
        assert page.percent(figures.accuracy.value) in said and page.interval(figures.accuracy) in said
    for words in (
        "2 classes learnt from 110 photos",
        "Network underneath some-network",
        "110, and 21 more to judge by",
        page.percent(found.figures.mean_recall),
        page.interval(found.validation.strange),
        f"{len(found.mislabelled)} photos are likely mislabelled.",
        "2 photos are there as several classes.",
        "1 photo to judge by look",
        "1 photo could not be read",
        "Logistic regression of strength 1 on layer pool of some-network (crop, fp32).",
        "divided by 1.25",
        f"calibration error {found.figures.bins.ece:.1%}",
    ):
        assert words in said, words
    assert anchors(tmp_path / "out") == [
        "figures", "left-out", "classes", "confused", "mislabelled", "twice", "more", "confidence", "head", "measures",
    ]  # fmt: skip
    assert table(tmp_path / "out", "Photos that could not be read") == [["bad.jpg", "it is cut short"]]
    assert [row[:3] for row in table(tmp_path / "out", "Strengths that were tried")] == [
        ["0.1", "0.3000", "90.0%"], ["1", "0.2000", "90.0%"], ["10", "0.3000", "90.0%"]
    ]  # fmt: skip
    assert [row[3] for row in table(tmp_path / "out", "Strengths that were tried")] == ["", "chosen", ""]
    assert [(row[0], row[3]) for row in table(tmp_path / "out", "Classes that need more photos")] == [
        ("b", "about 40"), ("a", "would hardly help")
    ]  # fmt: skip


def test_classes_are_the_worst_first(tmp_path: Path) -> None:
    found = lesson((40, 30, 50), held=(9, 12, 8), noise=2.5, labels=["a", "b", "c"])
    write(tmp_path / "out", found)
    rows = table(tmp_path / "out", "Classes by photos held out, the worst first")
    assert [row[0] for row in rows] == ["abc"[i] for i in told.worst(found.figures)]
    assert found.validation is not None
    for row in rows:
        i = "abc".index(row[0])
        each, beside = found.figures.classes[i], found.validation.figures.classes[i]
        off = np.where(np.arange(3) == i, 0, found.figures.confusion[i])
        assert row[2:] == [
            str(each.photos),
            page.percent(each.recall.value),
            f"{each.recall.count}/{each.recall.of}",
            page.percent(each.precision.value),
            page.percent(beside.recall.value),
            page.percent(beside.precision.value),
            "abc"[off.argmax()] if off.any() else "",
        ]


def test_what_is_taken_for_what(tmp_path: Path) -> None:
    found = lesson((40, 30, 50), held=(9, 12, 8), noise=2.5)
    write(tmp_path / "out", found)
    assert found.validation is not None
    counts = [found.figures.confusion, found.validation.figures.confusion]
    assert [[[int(cell or 0) for cell in row] for row in made] for made in matrices(tmp_path / "out")] == [
        each.tolist() for each in counts
    ]


def test_many_classes_have_no_matrix_but_what_is_confused_most(tmp_path: Path) -> None:
    write(tmp_path / "few", lesson((5,) * 30, noise=1.8))
    assert len(matrices(tmp_path / "few")[0]) == 30
    found = lesson((20,) * 60, noise=1.8)
    said = write(tmp_path / "out", found)
    assert not matrices(tmp_path / "out")
    often = found.figures.confusions()
    rows = table(tmp_path / "out", f"By cross-validation, the commonest first: 50 of {len(often)} pairs of classes")
    assert len(rows) == 50
    truth, taken, count = often[0]
    of = found.figures.classes[truth].recall.of
    assert rows[0] == [f"class {truth}", f"class {taken}", f"{count}/{of}", page.percent(count / of)]
    assert "How many classes have which recall" in said and "All 60 classes, the worst first" in said
    assert "every photo was named rightly" in write(tmp_path / "none", lesson((5,) * 40, noise=0.01))


def test_photos_that_are_likely_mislabelled(tmp_path: Path) -> None:
    found = lesson((60, 60), noise=1.0, swapped=(3, 70), labels=["a", "b"])
    said = write(tmp_path / "out", found)
    rows = table(tmp_path / "out", "The likeliest mistakes first")
    assert {row[0] for row in rows} >= {"3.jpg", "70.jpg"} and len(rows) == len(found.mislabelled)
    for row, each in zip(rows, found.mislabelled, strict=True):
        sure = found.fitted.probabilities[each.photo]
        assert row[1:] == [
            "ab"[each.truth],
            page.percent(float(sure[each.truth])),
            "ab"[each.said],
            page.percent(float(sure[each.said])),
        ]
    assert "said to be b" in said and "likelier a" in said


def test_what_is_there_twice(tmp_path: Path) -> None:
    said = write(tmp_path / "out", lesson(**ALL))
    places = [
        said.index(words)
        for words in (
            "The same photo as several classes",
            "The same photo to learn from and to judge by",
            "Photos that look alike",
            "The same photo several times",
        )
    ]
    assert places == sorted(places)
    assert "to learn from 5.jpg" in said and "to judge by 115.jpg" in said
    assert said.index("115.jpg") < said.rindex("2.jpg")  # across what is learnt from and judged by comes first


def test_without_doubts_there_is_nothing_of_them(tmp_path: Path) -> None:
    said = write(tmp_path / "out", lesson((40, 40), noise=0.1))
    assert anchors(tmp_path / "out") == ["figures", "classes", "confused", "confidence", "head", "measures"]
    assert "The surest mistakes" not in said and "verdict" not in said


@pytest.mark.parametrize("held", [(), (3, 3)])
def test_one_photo_a_class(tmp_path: Path, held: tuple[int, ...]) -> None:
    found = lesson((1, 1), held=held, noise=0.1)
    said = write(tmp_path / "out", found)
    assert all(line in said for line in told.cautions(found)) and "by cross-validation" not in said
    assert "not calibrated" in said and "or no photo could be held out to choose it by" in said
    assert ("classes" in anchors(tmp_path / "out")) == bool(held)
    assert not held or ("by validation photos" in said and len(matrices(tmp_path / "out")) == 1)


def test_a_class_that_needs_no_more(tmp_path: Path) -> None:
    assert "No class stands out" in write(tmp_path / "out", grown(lesson()))


def test_a_network_that_was_fine_tuned(tmp_path: Path) -> None:
    plain = lesson((60, 50), noise=2.0, labels=["a", "b"])
    found = tuned(plain)
    said = write(tmp_path / "out", found)
    assert found.validation is not None
    assert "Right, of photos held out" in said and "by cross-validation" not in said and "fine-tuned" in said
    assert "110, and 22 of them to judge by" in said and page.interval(found.validation.figures.accuracy) in said
    assert len(matrices(tmp_path / "out")) == 1
    rows = table(tmp_path / "out", "Epochs of fine-tuning")
    assert [(row[0], row[3], row[5]) for row in rows] == [
        ("0, frozen", "0.5000", ""), ("1", "0.4000", ""), ("2", "0.3000", "kept"), ("3", "0.4000", "")
    ]  # fmt: skip
    assert rows[0][1:3] == [DASH, DASH]
    said = write(tmp_path / "given", tuned(lesson((60, 50), held=(9, 9)), given=True))
    assert "Right, of validation photos" in said and "110, and 18 more to judge by" in said
    said = write(tmp_path / "frozen", tuned(plain, best=0))
    assert "Right, by cross-validation" in said and "the frozen network was kept" in said
    assert table(tmp_path / "frozen", "Epochs of fine-tuning")[0][5] == "kept"


# -- photos


def test_every_photo_is_there_and_was_named_beforehand(tmp_path: Path) -> None:
    asked: list[str] = []

    def read(name: str) -> Image.Image | None:
        asked.append(name)
        return red(name)

    found = lesson(**ALL)
    write(tmp_path / "out", found, read)
    assert set(asked) == shown.names(found) and len(asked) == len(set(asked))
    watch = watched((tmp_path / "out" / "index.html").read_bytes())
    sources = {str(given["src"]) for name, given in watch.met if name == "img"}
    assert sources == {f"photos/{each}" for each in here(tmp_path / "out" / "photos")} and len(sources) == len(asked)
    assert all(given.get("alt") for name, given in watch.met if name == "img")
    assert here(tmp_path / "out") == ["index.html", "photos"]


@pytest.mark.parametrize("error", [None, CorruptPhotoError("cut short")])
def test_photos_that_are_gone(tmp_path: Path, error: CorruptPhotoError | None) -> None:
    def read(name: str) -> Image.Image | None:
        if error:
            raise error
        return None

    assert "The photo is not at hand." in write(tmp_path / "out", lesson(**ALL), read)
    assert here(tmp_path / "out") == ["index.html"]


# -- the same, strangers, bounds


def test_the_same_lesson_gives_the_same_page(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, grown(lesson(**ALL), (1, 40)))
    same_files(tmp_path / "a", tmp_path / "b")


def test_hostile_names_are_text(tmp_path: Path) -> None:
    classes = [f"{HOSTILE}{i}\n" for i in range(7)]
    repeated = tuple(
        Repeated(photos=(f"{i}{HOSTILE}", f"x\r{HOSTILE}"), classes=(classes[0], classes[i]), across=i == 2)
        for i in range(3)
    )
    failures = tuple(
        Failure(photo=f"{i}{HOSTILE}", name=HOSTILE, error=CorruptPhotoError(f"{HOSTILE}{i % 15}")) for i in range(60)
    )
    found = lesson(
        (30,) * 7,
        held=(5,) * 7,
        labels=classes,
        noise=2.5,
        swapped=range(5),
        copied=((1, 2), (40, 215)),
        name="{}/" + HOSTILE,
        out=Path(f"x{HOSTILE}.onnx"),
        origin=replace(lesson().origin, name=HOSTILE, layer=HOSTILE),
        repeated=repeated,
        failures=failures,
    )
    write(tmp_path / "out", grown(found, (1, 3), (2, None)))
    is_tame(tmp_path / "out")


def test_long_lists_are_bounded(tmp_path: Path) -> None:
    long = "x" * 3000
    photos, classes = 12_000, 1200
    found = lesson((10,) * classes, labels=[f"{i}{long}" for i in range(classes)], noise=2.0, name=long + "{}.jpg")
    found = grown(
        replace(
            found,
            mislabelled=tuple(Mislabelled(photo=i, truth=0, said=1, margin=0.5) for i in range(photos)),
            alike=tuple(
                Pair(one=i, other=i + 1, likeness=0.9, contradictory=True, across=False) for i in range(10_000)
            ),
            repeated=tuple(
                Repeated(photos=(long + str(i),) * 500, classes=("a",) * 499 + ("ab"[i % 2],), across=i % 3 == 0)
                for i in range(500)
            ),
            failures=tuple(
                Failure(photo=long, name=long, error=CorruptPhotoError(f"{i:03}" * 300)) for i in range(500)
            ),
        ),
        *[(i, 20) for i in range(classes)],
    )
    said = write(tmp_path / "out", found)
    assert (tmp_path / "out" / "index.html").stat().st_size < 2_500_000
    assert len(here(tmp_path / "out" / "photos")) <= 300
    assert len(table(tmp_path / "out", f"Classes by photos held out, the worst first: 1,000 of {classes:,}")) == 1000
    assert len(table(tmp_path / "out", "Photos that could not be read")) == 50
    assert len(table(tmp_path / "out", "The likeliest mistakes first: 200 of 12,000")) == 200
    assert len(table(tmp_path / "out", "Classes that need more photos: 50 of 1,200")) == 50
    assert "24 of 10,000 are shown." in said and "12 of 250 are shown." in said and "and 496 more of the same" in said


# -- whole or not at all


def test_an_earlier_report_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "out", lesson(**ALL))
    said = write(tmp_path / "out", lesson(noise=0.1, out=Path("another.onnx")))
    assert said.count("another.onnx") and here(tmp_path) == ["out"] and here(tmp_path / "out") == ["index.html"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_breaks_leaves_the_earlier_one(tmp_path: Path, error: type[BaseException]) -> None:
    def read(name: str) -> Image.Image:
        raise error

    write(tmp_path / "out", lesson(**ALL))
    before = (tmp_path / "out" / "index.html").read_bytes()
    for name in ("out", "new"):
        with pytest.raises(error):
            write(tmp_path / name, lesson(**ALL), read)
    assert (tmp_path / "out" / "index.html").read_bytes() == before and here(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", ["notes", "evaluation"])
def test_another_folder_is_left_alone(tmp_path: Path, kind: str) -> None:
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "index.html"
    path.write_bytes(b"mine" if kind == "notes" else page.document("x", kind=kind, lead="", facts=[], sections=[]))
    before = path.read_bytes()

    def read(name: str) -> Any:
        pytest.fail("found out too late")

    for step in (lambda: report.check(tmp_path / "out"), lambda: write(tmp_path / "out", lesson(**ALL), read)):
        with pytest.raises(OutputError, match="holds something else than what photolabel wrote there"):
            step()
    assert path.read_bytes() == before and here(tmp_path) == ["out"]
    write(tmp_path / "ours", lesson())
    report.check(tmp_path / "ours")


# -- all of it


def test_from_photos_to_page(tmp_path: Path, tiny: Path) -> None:
    pytest.importorskip("sklearn")
    top = plant(tmp_path / "learn", 12)
    held = plant(tmp_path / "judge", 4, seed=1)
    (top / "grass" / "sky.png").write_bytes((top / "blue sky" / "000.png").read_bytes())
    (held / "grass" / "again.png").write_bytes((top / "grass" / "003.png").read_bytes())
    (top / "grass" / "bad.png").write_bytes(b"no photo")
    found = teaching.teach(top, tmp_path / "sky.onnx", validation=held, model=tiny, workers=0)

    def read(name: str) -> Image.Image:
        with Image.open(name) as image:
            image.load()
            return image

    said = write(tmp_path / "out", found, read)
    assert "sky.onnx" in said and "3 classes learnt from 35 photos" in said and "1 photo could not be read" in said
    assert found.validation is not None and page.interval(found.validation.figures.accuracy) in said
    assert "1 photo is there as several classes." in said and "not at hand" not in said
    text, out = told.text(found, report=tmp_path / "out"), found.validation.figures.accuracy
    assert f"{out.count} of {out.of}" in text and out.of == 12
    assert f"  {top / 'blue sky' / '000.png'} (blue sky) = {top / 'grass' / 'sky.png'} (grass)" in text
    assert "1 photo is there to learn from too, and not judged by" in text
    made = json.loads(json.dumps(told.record(found), allow_nan=False))
    assert made["validation"]["accuracy"]["of"] == 12 and made["photos"] == 35
    assert made["backbone"]["network"] == found.origin.network and found.origin.layer == made["backbone"]["layer"]
