"""The lists that people have of labelled photos: Caffe's, the devkit's, tables; broken, contradictory, hostile."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from photolabel import sources, truth
from photolabel.errors import TruthError
from photolabel.labels import Label
from photolabel.truth import texts

from labelled_sets import CONTAINERS, DEVKIT, IMAGENET, WNIDS, items, meta_mat, plant, put, told, val

CAFFE = "".join(f"{val(number)} {number % 1000}\n" for number in range(1, 2001))
PHOTOS = [val(number) for number in (3, 293, 1500)]
MINE = [Label(0, None, "cat"), Label(1, None, "dog, or hound")]
TEN = [Label(place, WNIDS[999 - place], "x") for place in range(10)]


def fails(path: Path, *photos: str, classes: Sequence[Label] = IMAGENET, order: Path | None = None) -> str:
    """The error of the list, or of the first photo."""
    with pytest.raises(TruthError) as caught:
        list(truth.labelled(items(*photos), classes, file=path, order=order))
    message = str(caught.value)
    assert message.endswith((".", "?")) and "\n" not in message
    return message


def one(path: Path, photo: str, classes: Sequence[Label] = IMAGENET) -> int:
    return next(truth.labelled(items(photo), classes, file=path)).index


# --- Caffe's --------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", CONTAINERS)
def test_caffe_s_list(tmp_path: Path, container: str) -> None:
    found, how = told(plant(tmp_path, PHOTOS, container), file=put(tmp_path / "val.txt", CAFFE))
    assert found == dict(zip(PHOTOS, [3, 293, 500], strict=True)), "by their names, not by their places"
    assert how == "Caffe's list val.txt, 3 of 1,000 classes"


def test_a_list_is_known_by_its_content(tmp_path: Path) -> None:
    found, how = told(plant(tmp_path, PHOTOS), file=put(tmp_path / "truth.csv", "\ufeff" + CAFFE.replace("\n", "\r\n")))
    assert found[val(1500)] == 500 and how.startswith("Caffe's list truth.csv")


def test_its_numbers_are_of_imagenet_s_classes_whatever_order_the_model_has(tmp_path: Path) -> None:
    path = put(tmp_path / "val.txt", f"{val(1)} 999\n{val(2)} 990\n{val(3)} 5\n")
    assert [one(path, val(1), TEN), one(path, val(2), TEN)] == [0, 9]
    assert "by line 3 of val.txt, n01496331 (electric ray) is none of the model's 10 classes" in fails(
        path, val(3), classes=TEN
    )
    nameless = [Label(label.index, None, label.name) for label in IMAGENET]
    assert one(path, val(1), nameless) == 999
    assert "1,000 classes; the model has 2" in fails(path, classes=MINE)


def test_its_numbers_are_the_model_s_own_for_other_photos(tmp_path: Path) -> None:
    path = put(tmp_path / "list", "a b/1.jpg 1\n\n./x,y.jpg   0\n")
    assert one(path, "d/a b/1.jpg", TEN) == 1 and one(path, "x,y.jpg", MINE) == 0
    assert "the number of 2.jpg is 2, out of range" in fails(put(tmp_path / "l", "1.jpg 0\n2.jpg 2\n"), classes=MINE)


def test_numbers_from_one_are_found_out(tmp_path: Path) -> None:
    said = fails(put(tmp_path / "val.txt", f"{val(1)} 65\n{val(2)} 1000\n"), val(1))
    assert f"the number of {val(2)} is 1000, out of range" in said and "count from 1?" in said


def test_a_list_with_paths(tmp_path: Path) -> None:
    names = ["n01440764/n01440764_1.JPEG", "n01443537/n01443537_1.JPEG"]
    source = plant(tmp_path, names)
    found, _ = told(source, file=put(tmp_path / "train.txt", "".join(f"train/{name} 0\n{name} 7\n" for name in names)))
    assert set(found.values()) == {7}, "the folders are not asked"
    assert "is not in" in fails(tmp_path / "train.txt", "n01443537_1.JPEG"), "the list says more of it than is known"


# --- The devkit's ---------------------------------------------------------------------------------


def ground_truth(path: Path, count: int = 2000) -> Path:
    """Of photo N the class is number N, and from 1001 on those over again."""
    return put(path, "".join(f"{(number - 1) % 1000 + 1}\n" for number in range(1, count + 1)))


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("where", ["meta.mat", "data/meta.mat", "../data/meta.mat"])
def test_the_devkit_s_ground_truth(tmp_path: Path, container: str, where: str) -> None:
    path = ground_truth(tmp_path / "devkit" / "ILSVRC2012_validation_ground_truth.txt")
    put(path.parent / where, meta_mat(compressed=container == "tar"))
    found, how = told(plant(tmp_path, PHOTOS, container), file=path)
    assert [WNIDS[found[photo]] for photo in PHOTOS] == [DEVKIT[2], DEVKIT[292], DEVKIT[499]]
    assert how == (
        "the devkit's ground truth ILSVRC2012_validation_ground_truth.txt, in the order of meta.mat, 3 of 1,000 classes"
    )


def test_the_order_may_lie_elsewhere_or_be_text(tmp_path: Path) -> None:
    path = ground_truth(tmp_path / "truth.txt")
    for order in (put(tmp_path / "x", meta_mat()), put(tmp_path / "y", "\r\n".join(DEVKIT))):
        found, how = told(plant(tmp_path, PHOTOS), file=path, order=order)
        assert WNIDS[found[val(3)]] == DEVKIT[2] and f"in the order of {order.name}" in how
    assert "in the devkit's own order, which is in the devkit's meta.mat" in fails(path)
    assert "this is the order of the ids, as Caffe has it" in fails(path, order=put(tmp_path / "z", "\n".join(WNIDS)))
    assert "there is 'n01440764 tench'" in fails(path, order=put(tmp_path / "z", "n01440764 tench\n"))
    wrong = put(tmp_path / "z", "\n".join(DEVKIT[:999]))
    assert "expected each of ImageNet's 1,000 WordNet ids once; it has 999" in fails(path, order=wrong)
    assert "no such file" in fails(path, order=tmp_path / "nothing")


@pytest.mark.parametrize("container", CONTAINERS)
def test_an_id_a_line(tmp_path: Path, container: str) -> None:
    found, how = told(plant(tmp_path, PHOTOS, container), file=put(tmp_path / "synsets.txt", "\n".join(WNIDS * 2)))
    assert [found[photo] for photo in PHOTOS] == [2, 292, 499]
    assert how.startswith("the WordNet ids of synsets.txt, a photo a line")


def test_photos_by_number(tmp_path: Path) -> None:
    path = put(tmp_path / "x", "\n".join(WNIDS))
    for name in (
        val(2),
        "x/ILSVRC2012_val_00000002_n01443537.JPEG",
        "00000002.png",
        "t.tar/ILSVRC2010_val_00000002.JPG",
    ):
        assert one(path, name) == 1
    for name in ("IMG_0002.jpg", "2.jpg", "n01440764_1.JPEG"):
        assert f"{name}: x is by the numbers of photos, and this name has none" in fails(path, name)
    assert "has 1,000 lines, none for number 1,001" in fails(path, val(1001))
    assert "none for number 0" in fails(path, val(0))
    assert "by line 1 of x, n01440764 (tench) is none of the model's 10" in fails(path, val(1), classes=TEN)
    assert "the model's classes have none" in fails(path, val(1), classes=MINE)


def test_numbers_that_the_devkit_does_not_have(tmp_path: Path) -> None:
    put(tmp_path / "meta.mat", meta_mat())
    for text in ("1\n0\n3", "5\n1001"):
        said = fails(put(tmp_path / "truth", text))
        assert "line 2" in said and "numbers its classes from 1 to 1000" in said


def test_a_line_that_is_lost_would_move_all_others(tmp_path: Path) -> None:
    put(tmp_path / "meta.mat", meta_mat())
    for text, line in [("1\n\n2\n", 2), ("\n1\n2", 1), ("1\nx\n", 2), ("n01440764\n\nn01440764", 2)]:
        assert f"line {line}: expected a" in fails(put(tmp_path / "truth", text))


# --- Tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", CONTAINERS)
def test_tables(tmp_path: Path, container: str) -> None:
    names = ["a.jpg", "b/a.jpg", "b/c d.jpg", "e,f.jpg"]
    text = 'path,label\r\na.jpg,n01440764\r\nb/a.jpg, Coffee Mug\r\n./b//c d.jpg,"taxi"\r\n"e,f.jpg",ants\r\n'
    found, how = told(plant(tmp_path, names, container), file=put(tmp_path / "any", text))
    assert found == dict(zip(names, [0, 504, 468, 310], strict=True))
    assert how == "the table any, 4 of 1,000 classes"


@pytest.mark.parametrize(
    "text",
    [
        "x.jpg,goldfish\n",
        "x.jpg\tgoldfish",
        "\ufeffx.jpg;goldfish\r",
        "\nx.jpg,goldfish\n\n",
        "label,note,file_name\ngoldfish,tench,x.jpg\n",
        "ImageId,PredictionString\nx,n01443537 1 2 3 4 n01443537 5 6 7 8 \n",  # Kaggle's, without the names' endings
        "x.jpg,1",
        "photos/x.jpg,1\nelse/x.jpg,2",
        "y.jpg,no such class\nx.jpg,goldfish",  # which is not asked for
        "photos\\x.jpg,goldfish",
    ],
)
def test_forms_of_tables(tmp_path: Path, text: str) -> None:
    assert told(plant(tmp_path, ["x.jpg"]), file=put(tmp_path / "t.csv", text))[0] == {"x.jpg": 1}


def test_paths_from_the_root_and_upwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = plant(tmp_path, ["a/x.jpg", "b/x.jpg"])
    table = put(tmp_path / "lists" / "t.csv", f"{source}/a/x.jpg,tench\n../photos/b/x.jpg,goldfish\n")
    assert told(source, file=table)[0] == {"a/x.jpg": 0, "b/x.jpg": 1}
    monkeypatch.chdir(source / "a")
    assert one(table, "../b/x.jpg") == 1 and one(Path("../../lists/t.csv"), "x.jpg") == 0


def test_accents_are_compared_not_their_bytes(tmp_path: Path) -> None:
    assert one(put(tmp_path / "t", "caf\u00e9.jpg,tench"), "cafe\u0301.jpg") == 0


def test_a_name_may_hold_a_comma(tmp_path: Path) -> None:
    assert one(put(tmp_path / "t", 'x.jpg,"dog, or hound"'), "x.jpg", MINE) == 1


@pytest.mark.parametrize("text", ["x.jpg,team 5\ny.jpg,team 6", "x.jpg;team 5", "x.jpg\tteam 5", '"x.jpg","team 5"'])
def test_a_name_that_ends_in_a_number_makes_no_list_of_caffe_s(tmp_path: Path, text: str) -> None:
    assert one(put(tmp_path / "t", text), "x.jpg", [Label(0, None, "x"), Label(1, None, "team 5")]) == 1


def test_numbers_among_names_in_a_table(tmp_path: Path) -> None:
    path = put(tmp_path / "t", "x.jpg,5\ny.jpg,tench\n")
    assert "has its class by number, the other by name" in fails(path, "x.jpg", "y.jpg")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x.jpg,tench\nx.jpg\n", "line 2: expected a path and a label, got 1 columns"),
        ("x.jpg,tench\nx.jpg,tench,3\n", "line 2: expected a path and a label, got 3 columns"),
        ("x.jpg,tench\n,tench\n", "line 2"),
        ("x.jpg,tench\ny.jpg, \n", "line 2"),
        ("path,label,note\nx.jpg,tench\n", "line 2: expected 3 columns, as in the header"),
        ('x.jpg,tench\n"a\nb.jpg",tench\n"y.jpg"z,tench', "line 4: expected a row of CSV"),
        ('x.jpg,tench\n"y.jpg,tench\n', "line 2: expected a row of CSV"),
        ('x.jpg,tench\n"' + "y\n" * 100_000 + '",tench\n', "line 2: expected a row of CSV"),
        ("just text", "line 1: expected a path and a label, got 1 columns"),
        (
            "x.jpg 5\ny.jpg\n",
            "line 2: expected a photo's name, a blank and a number, as in the first line, got 'y.jpg'",
        ),
        ("x.jpg 5\nx.jpg 6\n", "lines 1 and 2 contradict each other"),
        ("x.jpg,tench\n./x.jpg,goldfish\n", "lines 1 and 2 contradict each other: ./x.jpg is 'tench' in one"),
        ("", "this file is empty"),
        (" \r\n\n", "this file is empty"),
        (b"x.jpg,caf\xe9", "another encoding, or no text"),
        (b"x.jpg,tench\0", "another encoding, or no text"),
        ("x.jpg,tench\n".encode("utf-16"), "in UTF-16"),
        ("x.jpg,tench\n" + "y" * 65_537, "line 2 has more than 65,536 characters"),
        (meta_mat(), "this is a MATLAB file"),
    ],
    ids=range(19),
)
def test_lists_that_are_none(tmp_path: Path, text: str | bytes, says: str) -> None:
    path = put(tmp_path / "t", text)
    said = fails(path)
    assert says in said and said.startswith(f"{path}: ")


def test_twice_the_same_is_no_contradiction(tmp_path: Path) -> None:
    assert one(put(tmp_path / "t", "x.jpg,tench\nx.jpg,n01440764\nx.jpg,tench"), "x.jpg") == 0


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("cofee mug", "'cofee mug' is none of the model's 1,000 classes; close are: n03063599 (coffee mug)"),
        ("crane", "stands for 2 classes"),
        ("1000", "there is no class 1000"),
        ("n99999999", "n99999999 is none of"),
        ("n01440764 1 2 3 4 n01443537 1 2 3 4", "is of several classes"),
    ],
)
def test_labels_that_are_no_class(tmp_path: Path, label: str, says: str) -> None:
    said = fails(put(tmp_path / "t", f"y.jpg,tench\nx.jpg,{label}\n"), "x.jpg")
    assert said.startswith("x.jpg: by line 2 of t, ") and says in said


def test_photos_that_are_not_in_the_list(tmp_path: Path) -> None:
    path = put(tmp_path / "t", "a.jpg,tench\nb.jpg,tench\n")
    said = fails(path, "c.jpg")
    assert "c.jpg: is not in t, which lists 2 photos, such as a.jpg. None of the photos so far" in said
    assert "None of" not in fails(path, "a.jpg", "c.jpg")


def test_a_line_is_of_one_photo(tmp_path: Path) -> None:
    path = put(tmp_path / "t", "x.jpg,tench\n")
    assert len(list(truth.labelled(items("a/x.jpg", "a/x.jpg"), IMAGENET, file=path))) == 2, "named twice"
    assert "b/x.jpg: line 1 of t is of this photo and of a/x.jpg" in fails(path, "a/x.jpg", "b/x.jpg")


def test_files_that_are_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no such file" in fails(tmp_path / "x")
    assert "cannot be read" in fails(tmp_path)
    assert "no file can have this name" in fails(Path("a\0b"))
    path = put(tmp_path / "t", "x.jpg,tench\n")
    for most in (12, 11):
        monkeypatch.setattr("photolabel.truth.lists.MAX_BYTES", most)
        if most == 12:
            assert one(path, "x.jpg") == 0
        else:
            assert "expected at most 11 bytes" in fails(path, "x.jpg")
    assert texts.MAX_BYTES == 64 << 20


def test_a_list_is_read_once(tmp_path: Path) -> None:
    path = put(tmp_path / "t", "x.jpg,tench\n")
    made = truth.labelled(sources.find([plant(tmp_path, ["x.jpg"])]), IMAGENET, file=path)
    path.unlink()
    assert [each.index for each in made] == [0]


PATHS = st.text(st.characters(exclude_characters="\0/\\", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    photos=st.dictionaries(
        st.lists(PATHS, min_size=1, max_size=3).map("/".join), st.integers(0, 9), min_size=1, max_size=8
    ),
    header=st.booleans(),
    quoted=st.booleans(),
    end=st.sampled_from(["\r\n", "\n"]),
    data=st.data(),
)
def test_any_path_survives_a_table(
    tmp_path: Path, photos: dict[str, int], header: bool, quoted: bool, end: str, data: Any
) -> None:
    out = io.StringIO(newline="")
    # A CR that is not quoted ends a line, though Python's own writer takes it for a letter.
    quoting = csv.QUOTE_ALL if quoted or any("\r" in path for path in photos) else csv.QUOTE_MINIMAL
    writer = csv.writer(out, quoting=quoting, lineterminator=end)
    writer.writerows([["path", "label"]] if header else [])
    writer.writerows([f"{path}.jpg", data.draw(st.sampled_from([WNIDS[999 - at], at]))] for path, at in photos.items())
    path = put(tmp_path / "t", out.getvalue())
    try:
        for name, at in photos.items():
            assert one(path, f"d/{name}.jpg", TEN) == at
    except TruthError as error:  # two ways to write one accent are one name
        assert "contradict" in str(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary() | st.text(alphabet='ab1,;\t"\n\r .jpgn01440764').map(str.encode))
def test_whatever_is_in_it_a_class_or_a_typed_error(tmp_path: Path, content: bytes) -> None:
    path = put(tmp_path / "t", content)
    try:
        made = next(truth.labelled(items("a.jpg"), TEN, file=path))
    except TruthError:
        return
    assert 0 <= made.index < 10
