"""What is said of a lesson: its own figures, how little they prove, and no stranger's text that does anything."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from photolabel.errors import CorruptPhotoError
from photolabel.page import percent
from photolabel.teaching import told
from test_page import HOSTILE

from lessons import ALL, REPEATED, grown, lesson, same, tuned

# -- JSON


def test_the_record_is_the_lesson() -> None:
    found = grown(lesson(**ALL), (1, 40), (0, None))
    found = replace(found, alike=(replace(found.alike[0], bits=3), *found.alike[1:]))
    made = json.loads(json.dumps(told.record(found), allow_nan=False))
    assert made["file"] == "taught.onnx" and made["labels"] == ["a", "b"] and made["photos"] == 110
    assert (made["earlier"], made["from_cache"], made["corrected"]) == (7, 5, ["1.jpg"])
    assert made["backbone"] == {
        "model": "some-network", "network": f"sha256:{'0' * 64}", "layer": "pool", "recipe": "crop", "precision": "fp32"
    }  # fmt: skip
    assert made["head"]["kind"] == "logistic" and made["head"]["temperature"] == 1.25
    assert [each["strength"] for each in made["head"]["tried"]] == [0.1, 1.0, 10.0]
    assert found.validation is not None
    for name, figures in (("cross_validation", found.figures), ("validation", found.validation.figures)):
        said = made[name]
        assert said["accuracy"] == figures.accuracy.record() and said["mean_recall"] == figures.mean_recall
        assert said["calibration_error"] == figures.bins.ece and said["unjudged"] == 0
        assert [each["recall"] for each in said["classes"]] == [each.recall.record() for each in figures.classes]
        assert [each["precision"]["count"] for each in said["classes"]] == [*figures.confusion.diagonal()]
        wrong = figures.accuracy.of - figures.accuracy.count
        assert sum(each["count"] for each in said["confusions"]) == wrong > 0
        assert all(each["class"] != each["said"] for each in said["confusions"])
    assert made["cross_validation"]["folds"] == 10
    assert made["validation"]["none_of_the_classes"] == found.validation.strange.record()
    assert [each["photo"] for each in made["mislabelled"]] == [f"{each.photo}.jpg" for each in found.mislabelled]
    assert {(each["class"], each["likelier"]) for each in made["mislabelled"]} == {("a", "b"), ("b", "a")}
    pairs = {tuple(each["photos"]): each for each in made["near_duplicates"]}
    assert not pairs["1.jpg", "2.jpg"]["across"] and pairs["5.jpg", "115.jpg"]["across"]
    assert pairs["1.jpg", "2.jpg"]["classes"] == ["a", "a"] and pairs["1.jpg", "2.jpg"]["likeness"] > 0.99
    assert [each["bits"] for each in made["near_duplicates"]] == [3, *[None] * (len(found.alike) - 1)]
    assert made["duplicates"][1] == {
        "photos": ["0.jpg", "1.jpg"], "classes": ["a", "b"], "contradictory": True, "across": True
    }  # fmt: skip
    assert made["unreadable"] == [
        {"photo": "bad.jpg", "class": "a", "error": {"code": CorruptPhotoError.code, "message": "it is cut short"}}
    ]
    assert [each["photos"] for each in made["learning_curve"]["points"]] == [2.5, 5, 10, 20]
    assert [(each["class"], each["wanted"]) for each in made["learning_curve"]["needs"]] == [("b", 40), ("a", None)]
    assert made["remarks"] == ["What was kept was damaged."]


def test_each_field_is_documented() -> None:
    def fields(value: object) -> set[str]:
        if isinstance(value, dict):
            return {*value, *(name for each in value.values() for name in fields(each))}
        return {name for each in value for name in fields(each)} if isinstance(value, list) else set()

    documented = set(re.findall(r"[`\"](\w+)[`\"]", told.record.__doc__ or ""))
    assert fields(told.record(tuned(grown(lesson(**ALL), (1, 40)), best=0))) <= documented


def test_what_is_not_known_is_none() -> None:
    made = told.record(lesson((1, 1)))
    assert made["cross_validation"] is None and made["validation"] is None and made["learning_curve"] is None
    assert made["mislabelled"] == made["near_duplicates"] == made["duplicates"] == made["unreadable"] == []
    json.dumps(made, allow_nan=False)


def test_names_stay_as_they_are_in_json() -> None:
    made = told.record(lesson(labels=[HOSTILE, "b"], swapped=(1,), name="{}" + HOSTILE, out=Path(HOSTILE[:30])))
    assert made["labels"][0] == HOSTILE and made["mislabelled"][0]["photo"] == f"1{HOSTILE}"
    assert json.loads(json.dumps(made)) == made


def test_the_record_of_fine_tuning() -> None:
    made = json.loads(json.dumps(told.record(tuned(lesson((60, 50), noise=2.0))), allow_nan=False))
    assert made["cross_validation"] is None and made["validation"]["accuracy"]["of"] == 22
    told_of = made["fine_tuning"]
    assert (told_of["blocks"], told_of["learning_rate"], told_of["best"], told_of["held_out"]) == (1, 1e-4, 2, 22)
    assert told_of["epochs"][0] == {
        "number": 0, "loss": None, "accuracy": None, "held_loss": 0.5, "held_accuracy": 0.95
    }  # fmt: skip
    assert told.record(lesson())["fine_tuning"] is None


# -- text


def test_the_text_says_the_figures() -> None:
    found = lesson(**ALL)
    text = told.text(found)
    assert text.startswith(
        "taught.onnx: 2 classes, taught with 110 photos, 7 of them taught before\n"
        "logistic regression of strength 1 on layer pool of some-network (crop, fp32)\n"
        "1 photo has another class now\n"
    )
    lines = re.sub(" +", " ", text).splitlines()
    assert found.validation is not None
    for name, figures in (("cross-validation", found.figures), ("validation", found.validation.figures)):
        of = figures.accuracy
        span = f"{percent(of.low)} to {percent(of.high)}"
        assert f"{name} {percent(of.value)} {span} {of.count} of {of.of}" in lines
    strange = found.validation.strange
    assert (
        f"{strange.count} of 21 validation photos ({percent(strange.value)}) would be said to show none of the classes"
        in lines
    )
    for name, each in zip("ab", found.figures.classes, strict=True):
        recall = f"{percent(each.recall.value)} {each.recall.count}/{each.recall.of}"
        precision = f"{percent(each.precision.value)} {each.precision.count}/{each.precision.of}"
        assert f"{name} {each.photos} {recall} {precision}" in lines
    assert f"{len(found.mislabelled)} photos are likely mislabelled:" in lines
    first = found.mislabelled[0]
    assert f" {first.photo}.jpg: said to be {'ab'[first.truth]}, likelier {'ab'[first.said]}" in lines
    assert "2 photos are there in several classes, and not learnt from or not judged by:" in lines
    assert " 0.jpg (a) = 1.jpg (b)" in lines
    assert "1 photo is there to learn from too, and not judged by" in lines
    assert "1 photo is there more than once, and used once" in lines
    assert f"{len(found.alike)} pairs of photos look alike, 1 across training and validation" in lines
    assert "1 photo could not be read" in lines
    assert "to name photos: photolabel --model taught.onnx photo.jpg" in lines
    assert any(line.startswith("to correct classes: photolabel teach --add taught.onnx --labels") for line in lines)


def test_what_is_not_there_is_not_said() -> None:
    text = told.text(lesson((40, 40), noise=0.1))
    assert len(text.split("\n\n")) == 4
    for word in (
        "mislabelled",
        "alike",
        "more than once",
        "read",
        "validation p",
        "need",
        "correct",
        "before",
        "little",
    ):
        assert word not in text, word


def test_how_to_go_on() -> None:
    found = lesson(out=Path("my pets.onnx"))
    assert "photolabel --model 'my pets.onnx' photo.jpg" in told.text(found)
    assert told.text(found).endswith("--report DIR")
    assert told.text(found, report=Path("out")).endswith(f"report: {Path('out', 'index.html')}")


def test_of_many_classes_the_worst_are_said() -> None:
    found = lesson((6,) * 100, noise=1.6)
    lines = told.text(found).splitlines()
    listed = [line.split()[1] for line in lines if line.startswith("class ") and not line.startswith("class  ")]
    assert [int(each) for each in listed] == told.worst(found.figures)[:10]
    least = found.figures.classes[told.worst(found.figures)[10]].recall.value
    assert f"and 90 more, with a recall of {percent(least)} or above" in lines
    assert "more, with a recall" not in told.text(lesson((6,) * 20))


def test_long_lists_are_cut() -> None:
    found = grown(
        lesson((80, 80), noise=2.0, swapped=range(20), repeated=(same(*"abab"), *[same("a", "b")] * 9)),
        *[(i % 2, 30) for i in range(12)],
    )
    text = told.text(found)
    assert text.count("said to be") == 5 and f"  and {len(found.mislabelled) - 5} more" in text
    assert (
        text.count(" = ") == 4 + 3 and "  0.jpg (a) = 1.jpg (b) = 2.jpg (a) = 1 more" in text and "  and 5 more" in text
    )
    assert text.count("about 30 photos") == 5 and "  and 7 more" in text
    assert len(text) < 5000


def test_which_classes_need_more() -> None:
    text = told.text(grown(lesson(labels=["a", "b"]), (1, 40), (0, None)))
    assert (
        "2 classes fall behind or have few photos; to halve the errors it takes:\n"
        "  b  12 photos now  about 40 photos\n"
        "  a  12 photos now  more photos would hardly help\n"
    ) in text
    assert "1 class falls behind or has few photos" in told.text(grown(lesson(), (1, 40)))
    assert "more photos" not in told.text(grown(lesson((40, 40))))


@pytest.mark.parametrize(
    ("counts", "held", "says"),
    [
        ((2, 2, 2), (), ["6 photos prove little: of others it may name anything from 61.0% to 100.0% rightly."]),
        ((1, 1), (), ["No photo could be held out", "Nothing says how often it is right"]),
        ((1, 1), (3, 3), ["No photo could be held out", "6 photos prove little"]),
        ((30, 30, 1), (), ["1 photo could not be judged"]),
        ((5,) * 20, (), ["even where all 5 photos judged are named rightly, its recall may be no more than 56.6%."]),
        ((60, 60), (), []),
    ],
)
def test_how_little_it_proves(counts: tuple[int, ...], held: tuple[int, ...], says: list[str]) -> None:
    found = lesson(counts, held=held, noise=0.1)
    made = [*told.cautions(found)]
    assert len(made) == len(says) and all(words in line for words, line in zip(says, made, strict=True))
    assert all(line in told.text(found) for line in made)


def test_what_fine_tuning_made_is_judged_by_photos_held_out() -> None:
    text = told.text(tuned(lesson((60, 50), noise=2.0)))
    assert "the last block and a head, fine-tuned in 2 epochs, on layer pool of some-network" in text
    assert (
        re.search(r"\nheld out +\d+\.\d% ", text)
        and "cross-validation" not in text
        and "could not be judged" not in text
    )
    assert "1 of 22 photos held out" in text and "a little of how good it looks is luck" in text
    given = told.text(tuned(lesson((60, 50), held=(9, 9)), given=True))
    assert "\nvalidation " in given and " of 18 validation photos" in given
    frozen = told.text(tuned(lesson((60, 50), held=(9, 9)), best=0))
    assert "Fine-tuning made it no better" in frozen and "\ncross-validation " in frozen and "luck" not in frozen


def test_classes_of_one_look() -> None:
    found = lesson((60, 60), noise=0.1, labels=["a", "b"], uniform=(1,))
    (line,) = told.cautions(found)
    assert line.startswith("Most photos look alike in 1 class (b), and were held out one by one")
    assert told.record(found)["uniform"] == ["b"]
    assert " and 3 more)" in next(told.cautions(lesson((20,) * 8, noise=0.1, uniform=tuple(range(8)))))


def test_without_a_line_nothing_is_called_strange() -> None:
    found = lesson((1, 1), held=(3, 3))
    assert found.validation is not None and found.familiar.photos == 0
    assert "none of the classes" not in told.text(found)


def test_a_photo_that_was_not_judged_is_in_no_figure() -> None:
    found = lesson((30, 30, 1), noise=0.1)
    assert np.isnan(found.figures.classes[2].recall.value) and told.worst(found.figures) == [0, 1]
    assert "class 2" not in told.text(found)


def test_hostile_names_do_nothing() -> None:
    names = {
        "labels": [HOSTILE, f"b\n{HOSTILE}"],
        "name": "{}\nforged: line" + HOSTILE,
        "out": Path(f"x{HOSTILE[:40]}"),
    }
    repeated = tuple(
        replace(each, photos=tuple(f"{photo}\r{HOSTILE}" for photo in each.photos), classes=("a", f"b{HOSTILE}"))
        for each in REPEATED
    )
    hostile = {**ALL, **names, "repeated": repeated, "origin": replace(lesson().origin, name=HOSTILE, layer=HOSTILE)}
    text, tame = told.text(lesson(**hostile)), told.text(lesson(**ALL))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e\ud800-\udfff]", text)
    assert "\\x1b[31m" in text and abs(text.count("\n") - tame.count("\n")) <= 1  # its repeated are all contradictory
    assert not any(line.startswith("forged") for line in text.splitlines())


def test_the_same_lesson_is_told_the_same() -> None:
    assert told.text(lesson(**ALL)) == told.text(lesson(**ALL))
    assert json.dumps(told.record(lesson(**ALL))) == json.dumps(told.record(lesson(**ALL)))
