"""Labelled photos: their classes by their folders and names; nothing guessed, nothing left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from photolabel import errors, sources, tree, truth
from photolabel.errors import TruthError, UsageError
from photolabel.labels import Label
from photolabel.sources import Item

from labelled_sets import CONTAINERS, IMAGENET, WNIDS, items, plant, put, told, val

MUG, TENCH, GOLDFISH, ANT, BEE = 504, 0, 1, 310, 309
MINE = [Label(0, None, "My cat"), Label(1, None, "my_dog"), Label(2, None, "7-up")]
DIGITS = [Label(index, None, str(9 - index)) for index in range(10)]
TEN = [Label(index, WNIDS[place], IMAGENET[place].name) for index, place in enumerate(range(0, 1000, 100))]


def fails(photo: str, classes: list[Label] | tuple[Label, ...] = IMAGENET) -> str:
    with pytest.raises(TruthError) as caught:
        next(truth.labelled(items(photo), classes))
    message = str(caught.value)
    assert message.startswith(f"{photo}: ") and message.endswith(".") and "\n" not in message
    return message


def index(photo: str, classes: list[Label] | tuple[Label, ...] = IMAGENET) -> int:
    return next(truth.labelled(items(photo), classes)).index


# --- Forms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", CONTAINERS)
def test_folders_of_ids(tmp_path: Path, container: str) -> None:
    names = ["n01440764/x.JPEG", "n01440764/y.png", "n03063599/ILSVRC2012_val_00000293.JPEG"]
    found, how = told(plant(tmp_path, names, container))
    assert list(found.items()) == list(zip(names, [TENCH, TENCH, MUG], strict=True))
    assert how == "folders named by WordNet ids, 2 of 1,000 classes"


@pytest.mark.parametrize("container", CONTAINERS)
def test_folders_of_names(tmp_path: Path, container: str) -> None:
    names = ["val/COFFEE mug/x.jpg", "val/tench/x.jpg", "val/crane (wading bird)/x.jpg", "val/Long_horned-Beetle/x.jpg"]
    found, how = told(plant(tmp_path, sorted(names), container))
    assert found == dict(zip(names, [MUG, TENCH, 134, 303], strict=True))
    assert how == "folders named by classes, 4 of 1,000 classes"


@pytest.mark.parametrize("container", CONTAINERS)
def test_folders_of_numbers(tmp_path: Path, container: str) -> None:
    found, how = told(plant(tmp_path, ["0/x.jpg", "007/x.jpg", "999/x.jpg"], container))
    assert found == {"0/x.jpg": 0, "007/x.jpg": 7, "999/x.jpg": 999}
    assert how == "folders named by class numbers, 3 of 1,000 classes"


@pytest.mark.parametrize("container", CONTAINERS)
def test_ids_in_names(tmp_path: Path, container: str) -> None:
    names = [
        "n01440764_10026.JPEG",
        "n01440764_10027_n01440764.JPEG",  # as some copies have them
        "n01443537.jpg",
        "train/ILSVRC2012_val_00000293_n03063599.JPEG",
    ]
    found, how = told(plant(tmp_path, names, container))
    assert found == dict(zip(names, [TENCH, TENCH, GOLDFISH, MUG], strict=True))
    assert how == "file names with WordNet ids, 3 of 1,000 classes"


def test_every_class_is_known_by_its_id_and_by_both_its_names() -> None:
    doubtful = {"crane", "maillot", "cardigan"}
    wanted: dict[str, int] = {}
    for label in IMAGENET:
        assert label.wnid
        names = (label.name, tree.names()[label.wnid].everyday)
        certain = [name for name in names if name.casefold() not in doubtful]
        for name in certain:
            wanted |= dict.fromkeys([name, name.replace("_", " "), name.replace(" ", "_"), name.upper()], label.index)
        wanted[label.wnid] = label.index
    made = truth.labelled(items(*(f"{folder}/x.jpg" for folder in wanted)), IMAGENET)
    assert [each.index for each in made] == list(wanted.values())
    for name in doubtful:
        assert f"'{name.title()}' stands for 2 classes" in fails(f"{name.title()}/x.jpg")


def test_a_name_of_two_classes_is_not_guessed() -> None:
    said = fails("val/crane/x.jpg")
    assert "n02012849 (crane (wading bird)) and n03126707 (crane (lifting device))" in said
    assert "n02113186 (Cardigan) and n02963159 (cardigan)" in fails("val/cardigan/x.jpg")
    assert index("val/crane/n02012849_1.jpg") == 134, "where the photo's own name says which, it is none"
    assert "'cranes' stands for 2 classes" in fails("val/cranes/x.jpg")


@pytest.mark.parametrize(
    ("folder", "place"),
    [
        ("ants", ANT),
        ("Bees", BEE),
        ("torches", 862),
        ("Golden Retrievers", 207),
        ("sunglasses", 837),
        ("cowboy hats", 515),
    ],
)
def test_plain_plurals(folder: str, place: int) -> None:
    assert index(f"{folder}/x.jpg") == place
    assert WNIDS[836] == "n04355933", "sunglass is a class, and sunglasses another"


def test_plurals_that_are_two_words_singular() -> None:
    classes = [Label(0, None, "lens"), Label(1, None, "lense"), Label(2, None, "city")]
    assert index("cities/x.jpg", classes) == 2
    assert "stands for 2 classes, lens (0) and lense (1)" in fails("lenses/x.jpg", classes)


def test_classes_of_one_s_own() -> None:
    assert [index(f"{name}/x.jpg", MINE) for name in ("my_CAT", "my dog", "my dogs", "7_up", "2")] == [0, 1, 1, 2, 2]
    letters = [Label(0, None, "A"), Label(1, None, "a"), Label(2, None, "é")]
    assert [index(f"{name}/x.jpg", letters) for name in ("A", "a", "É", "e\u0301")] == [0, 1, 2, 2]


def test_where_classes_are_called_by_numbers_these_are_names() -> None:
    assert index("3/x.jpg", DIGITS) == 6
    assert "neither its folder '12'" in fails("12/x.jpg", DIGITS)


def test_numbers_that_are_too_large_count_from_one() -> None:
    assert index("1/x.jpg") == 1
    assert "there is no class 1000: the model's classes are numbered from 0 to 999" in fails("1000/x.jpg")


def test_numbers_among_names(tmp_path: Path) -> None:
    for names in (["100/x.jpg", "tench/x.jpg"], ["tench/x.jpg", "w/100/x.jpg"], ["100/x.jpg", "w/n01440764_1.jpg"]):
        made = truth.labelled(items(*names), IMAGENET)
        next(made)
        with pytest.raises(TruthError, match=f"^{names[1]}: one of this photo and {names[0]} has its class by number"):
            next(made)


def test_the_folder_that_was_named_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = plant(tmp_path, ["tench/x.jpg"])
    monkeypatch.chdir(source / "tench")
    for named in (".", "x.jpg", "../tench/", Path.cwd()):
        assert [each.index for each in truth.labelled(sources.find([named]), IMAGENET)] == [TENCH]
    with pytest.raises(TruthError, match="neither its folder ''"):  # standard input lies nowhere
        next(truth.labelled([Item(photo="-", data=b"x")], IMAGENET))


# --- What is amiss --------------------------------------------------------------------------------


def test_a_stray_photo_is_not_left_out(tmp_path: Path) -> None:
    made = truth.labelled(sources.find([plant(tmp_path, ["tench/x.jpg", "zzz.jpg"])]), IMAGENET)
    assert next(made).index == TENCH
    with pytest.raises(TruthError, match="zzz.jpg: neither its folder 'photos' nor its name says"):
        next(made)


def test_unknown_names_come_with_close_ones() -> None:
    assert "close are: n03063599 (coffee mug)" in fails("cofee_mug/x.jpg")
    assert "close are: My cat (0)" in fails("my kat/x.jpg", MINE)
    assert "'dogs'" in fails("dogs/x.jpg") and "a name above 118 of them" in fails("dogs/x.jpg")
    assert "close" not in fails("qqq/x.jpg") and "Expected a folder for each class" in fails("qqq/x.jpg")


def test_a_flat_validation_set_needs_a_list() -> None:
    assert "give Caffe's val.txt" in fails(f"val/{val(1)}")
    of_archive = fails(f"val.tar/{val(1)}")
    assert "give Caffe's val.txt" in of_archive and "altar" not in of_archive


def test_ids_that_the_model_does_not_have() -> None:
    assert "n03063599 (coffee mug) is none of the model's 10 classes" in fails("n03063599/x.jpg", TEN)
    assert "n03063599 (coffee mug) is none of the model's 10 classes" in fails("w/n03063599_1.jpg", TEN)
    assert "n99999999 is none of the model's 1,000 classes" in fails("n99999999/x.jpg")
    for photo in ("n03063599/x.jpg", "w/n03063599_1.jpg"):
        assert "n03063599 is a WordNet id, and the model's classes have none" in fails(photo, MINE)
    assert index("my cat/n03063599_1.jpg", MINE) == 0, "the folder says it"


def test_contradictions() -> None:
    said = "its folder 'n01440764' says one class, and n01443537 in its name another"
    assert said in fails("n01440764/n01443537_1.jpg")
    assert "its folder 'tench' says one class" in fails("tench/n01443537_1.jpg")
    assert "its folder 'tench' says one class" in fails("tench/n01443537_1.jpg", TEN), "a class that the model lacks"
    assert "several WordNet ids, n01440764 and n01443537" in fails("w/n01440764_1_n01443537.jpg")
    assert index("tench/n20240131_1.jpg") == TENCH, "no id of WordNet's, but a date"


def test_ids_that_two_classes_share_are_not_guessed() -> None:
    twice = [Label(0, "n01440764", "a"), Label(1, "n01440764", "b")]
    assert "stands for 2 classes" in fails("n01440764/x.jpg", twice)


def test_arguments_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no classes"):
        truth.labelled([], [])
    with pytest.raises(UsageError, match="order is that of"):
        truth.labelled([], IMAGENET, order=tmp_path)


# --- Items ----------------------------------------------------------------------------------------


def test_items_with_errors(tmp_path: Path) -> None:
    gone = errors.PhotoNotFoundError("It is gone.")
    bad = [Item(photo="tench/x.jpg", path="tench/x.jpg", error=gone), Item(photo="val/b", path="val/b", error=gone)]
    made = truth.labelled(bad, IMAGENET)
    assert next(made) == truth.Labelled(item=bad[0], index=TENCH)
    with pytest.raises(errors.PhotoNotFoundError, match=r"^val/b: It is gone\.$"):
        next(made)
    listed = truth.labelled(bad, IMAGENET, file=put(tmp_path / "x.csv", "tench/x.jpg,goldfish\n"))
    assert next(listed).index == GOLDFISH
    with pytest.raises(errors.PhotoNotFoundError, match=r"^val/b: It is gone\.$"):
        next(listed)


def test_items_are_taken_one_at_a_time_and_in_their_order(tmp_path: Path) -> None:
    taken: list[str] = []

    def endless() -> Iterator[Item]:
        number = 0
        while True:
            taken.append(f"{'tench' if number % 2 else 'goldfish'}/{number}.jpg")
            yield items(taken[-1])[0]
            number += 1

    for file in (None, put(tmp_path / "x.csv", "0.jpg,tench\n1.jpg,tench\n")):
        taken.clear()
        made = truth.labelled(endless(), IMAGENET, file=file)
        assert not taken and made.description.endswith(", 0 of 1,000 classes")
        assert [next(made).item.photo, next(made).item.photo] == ["goldfish/0.jpg", "tench/1.jpg"] == taken


def test_the_bytes_of_a_compressed_archive_stay_with_the_photo(tmp_path: Path) -> None:
    source = plant(tmp_path, ["n01440764/x.JPEG"], "gzip")
    (only,) = truth.labelled(sources.find([source]), IMAGENET)
    assert only.item.held and only.item.read()


@pytest.mark.skipif(os.name != "posix", reason="names that are no UTF-8")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    found, _ = told(plant(tmp_path, ["tench/\udcff.jpg"]))
    assert found == {"tench/\udcff.jpg": TENCH}
    assert "neither its folder '\\udcff'" in fails("\udcff/x.jpg")


def test_the_command_line_takes_it_for_wrong_usage() -> None:
    from photolabel.cli import EXIT_CODES

    assert next(code for kind, code in EXIT_CODES.items() if issubclass(TruthError, kind)) == 2
