"""Photos of a user's own classes: whatever says a class is taken, and what does not is named."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

import pytest

from photolabel.errors import PhotoUnreadableError, TruthError, UsageError
from photolabel.sources import Item
from photolabel.teaching import examples

from labelled_sets import CONTAINERS, plant, put


def told(*given: Path | Item, **options: object) -> dict[str, str]:
    return {each.photo: each.name for each in examples.find(given, **options)}  # type: ignore[arg-type]


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_folder_names_the_class_of_its_photos(tmp_path: Path, container: str) -> None:
    path = plant(tmp_path, ["cats/1.png", "cats/2.png", "dogs/deep/wolves/3.png"], container)
    found = told(path)
    assert {name.removeprefix(f"{path}/"): each for name, each in found.items()} == {
        "cats/1.png": "cats", "cats/2.png": "cats", "dogs/deep/wolves/3.png": "wolves",
    }  # fmt: skip


def test_files_that_are_named_themselves_and_items_have_their_folders_class(tmp_path: Path) -> None:
    path = plant(tmp_path, ["cats/1.png", "dogs/2.png"])
    item = Item(photo=str(path / "dogs/2.png"), path=str(path / "dogs/2.png"))
    assert list(told(path / "cats/1.png", item).values()) == ["cats", "dogs"]


def test_a_relative_folder_is_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plant(tmp_path, ["cats/1.png", "dogs/2.png"])
    monkeypatch.chdir(path)
    assert told(Path()) == told(Path("./")) == {f"./{each}": each[:4] for each in ("cats/1.png", "dogs/2.png")}


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_photo_directly_in_the_top_is_named(tmp_path: Path, container: str) -> None:
    path = plant(tmp_path, ["cats/1.png", "stray.png"], container)
    with pytest.raises(TruthError, match=r"stray\.png: it lies directly in .* a folder for each class"):
        told(path)


def test_hidden_folders_are_left_out(tmp_path: Path) -> None:
    path = plant(tmp_path, ["cats/1.png", "dogs/2.png", ".thumbs/3.png", "cats/.4.png"])
    assert sorted(told(path).values()) == ["cats", "dogs"]
    assert examples.find([path]).survey().left_out == {"hidden": 2}


def test_patterns_choose(tmp_path: Path) -> None:
    path = plant(tmp_path, ["cats/1.png", "dogs/2.png", "junk/3.png"])
    found = examples.find([path], exclude=["junk/"])
    assert found.survey().classes == ("cats", "dogs")
    assert found.survey().empty == ()
    with pytest.raises(UsageError, match="expected a pattern"):
        examples.find([path], include=["/"])


def test_two_ways_to_write_a_name_are_one_class(tmp_path: Path) -> None:
    composed = unicodedata.normalize("NFC", "Häuser")
    path = plant(tmp_path, [f"{composed}/1.png", f"{unicodedata.normalize('NFD', composed)}/2.png", "x/3.png"])
    assert examples.find([path]).survey().counts == {composed: 2, "x": 1}


@pytest.mark.parametrize("folder", ["line\nbreak", "bell\x07", "x" * 101, "re\u202eversed", os.fsdecode(b"\xff")])
def test_a_folder_that_cannot_name_a_class(tmp_path: Path, folder: str) -> None:
    path = plant(tmp_path, ["cats/1.png", f"{folder}/1.png"])
    with pytest.raises(TruthError, match=r"1 to 100 printable characters.*Rename it"):
        told(path)


def test_a_survey_counts_and_names_empty_folders(tmp_path: Path) -> None:
    path = plant(tmp_path, ["b/1.png", "a/2.png", "a/3.png", "parent/c/4.png"])
    (path / "nothing").mkdir()
    put(path / "texts" / "x.txt", "x")
    found = examples.find([path]).survey()
    assert found.counts == {"a": 2, "b": 1, "c": 1}
    assert found.classes == ("a", "b", "c") and found.photos == 4
    assert found.empty == (str(path / "nothing"), str(path / "texts"))


def test_one_class_or_none_is_nothing_to_learn(tmp_path: Path) -> None:
    path = plant(tmp_path, ["cats/1.png", "cats/2.png"])
    with pytest.raises(TruthError, match=r"photos of one class only, 'cats' \(2\)"):
        examples.find([path]).survey()
    (path / "empty").mkdir()
    with pytest.raises(
        TruthError, match=rf"at least two\. In {re.escape(str(path / 'empty'))} there is no photo\. Exp"
    ):
        examples.find([path]).survey()
    for number in range(5):
        (path / f"empty{number}").mkdir()
    with pytest.raises(TruthError, match=r"empty3, \.\.\. there is no photo"):
        examples.find([path]).survey()
    with pytest.raises(TruthError, match="no photos to learn from"):
        examples.find([path / "empty"]).survey()


def test_going_through_them_again_looks_anew(tmp_path: Path) -> None:
    path = plant(tmp_path, ["cats/1.png", "dogs/2.png"])
    found = examples.find([path])
    assert len(list(found)) == 2
    plant(tmp_path, ["dogs/3.png"])
    assert len(list(found)) == 3


@pytest.mark.parametrize("folder", [".", "dogs"])
def test_a_folder_that_may_not_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    path = plant(tmp_path, ["cats/1.png", "dogs/2.png"])
    scandir = os.scandir

    def forbidden(where: str) -> object:  # permissions bind no superuser
        if Path(where) == path / folder:
            raise PermissionError(13, "Permission denied")
        return scandir(where)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(PhotoUnreadableError, match=r"The folder may not be read"):
        examples.find([path]).survey()


def test_an_error_found_on_the_way_is_raised_where_it_hides_a_class(tmp_path: Path) -> None:
    path = plant(tmp_path, ["cats/1.png", "dogs/2.png"], "zip")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(Exception, match="photos.zip") as caught:
        list(examples.find([path]))
    assert not isinstance(caught.value, TruthError)


# -- tables


def test_a_table_says_the_classes_of_the_photos_of_a_folder(tmp_path: Path) -> None:
    path = plant(tmp_path, ["a/1.png", "a/2.png", "b/1.png"])
    table = put(tmp_path / "t.csv", "path,label\na/1.png,../x\na/2.png, Cat \nb/1.png,Cat\nb/7.png,Cat\n")
    found = examples.find([path], table=table)
    assert {Path(each.photo).relative_to(path).as_posix(): each.name for each in found} == {
        "a/1.png": "../x", "a/2.png": "Cat", "b/1.png": "Cat",
    }  # fmt: skip
    assert found.survey().counts == {"../x": 1, "Cat": 2}
    assert found.survey().unused == 1


def test_a_table_alone_says_which_photos_there_are(tmp_path: Path) -> None:
    path = plant(tmp_path / "deep", ["a/1.png", "1.png"])
    table = put(path / "a" / "t.csv", f"1.png,here\n../1.png,above\nmissing.png,here\n{path / '1.png'},above\n")
    found = list(examples.find(table=table))
    assert [(each.name, Path(each.item.path).exists()) for each in found] == [
        ("here", True), ("above", True), ("here", False),
    ]  # fmt: skip
    assert found[0].item.read() == (path / "a" / "1.png").read_bytes()


@pytest.mark.skipif(os.sep != "/", reason="there it is the separator")
def test_a_table_made_on_windows(tmp_path: Path) -> None:
    path = plant(tmp_path, ["a/1.png", "b/1.png"])
    table = put(path / "t.csv", "a\\1.png,x\nb\\1.png,y\n")
    assert all(Path(each.item.path).is_file() for each in examples.find(table=table))


@pytest.mark.parametrize("label", ['"line\nbreak"', "bell\x07", "x" * 101, "a\u2028b"])
def test_a_label_that_cannot_name_a_class_is_named_by_its_line(tmp_path: Path, label: str) -> None:
    table = put(tmp_path / "t.csv", f"a.png,good\nb.png,{label}\n")
    with pytest.raises(TruthError, match=r"t\.csv: line 2: .*1 to 100 printable characters"):
        list(examples.find(table=table))


def test_a_table_that_contradicts_itself(tmp_path: Path) -> None:
    table = put(tmp_path / "t.csv", "a.png,cat\nb.png,dog\n./a.png,dog\n")
    with pytest.raises(TruthError, match=r"lines 1 and 3 contradict each other: \./a\.png is 'cat'"):
        list(examples.find(table=table))


def test_a_photo_that_is_not_in_the_table(tmp_path: Path) -> None:
    path = plant(tmp_path, ["a/1.png", "a/2.png"])
    table = put(tmp_path / "t.csv", "1.png,cat\n")
    with pytest.raises(TruthError, match=r"2\.png: is not in t\.csv"):
        list(examples.find([path], table=table))


@pytest.mark.parametrize("content", ["", "a.png cat\n", "a.png\n", 'a.png,"cat\n'])
def test_what_is_no_table(tmp_path: Path, content: str) -> None:
    with pytest.raises(TruthError, match=r"t\.csv: .*(this file is empty|Expected a table of path,label)"):
        list(examples.find(table=put(tmp_path / "t.csv", content)))


def test_validation_photos_must_be_of_the_classes(tmp_path: Path) -> None:
    path = plant(tmp_path, ["cats/1.png", "dogs/2.png"])
    assert examples.find([path], classes=["cats", "dogs", "owls"]).survey().classes == ("cats", "dogs")
    with pytest.raises(TruthError, match=r"'dogs' is none of the 2 classes that are taught; close are: dog\."):
        list(examples.find([path], classes=["cats", "dog"]))


def test_arguments_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected photos"):
        examples.find()
    with pytest.raises(UsageError, match="list of paths"):
        examples.find(str(tmp_path))
    with pytest.raises(UsageError, match="include and exclude"):
        examples.find(table="t.csv", include=["*.png"])
