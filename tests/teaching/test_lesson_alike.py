"""Photos in the wrong folder, or that look alike: doubted, held out together, learnt from once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from photolabel.errors import TruthError
from photolabel.teaching import doubts

from labelled_sets import put
from schools import LABELS, Teach, copy, counts, decoded, learn, names, out, photos, sharp
from training import photo, plant, plant_varied

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

__all__ = ["decoded", "learn", "out", "photos", "sharp"]


def test_a_photo_in_the_wrong_folder_is_found(learn: Teach, tmp_path: Path) -> None:
    top = plant(tmp_path / "photos", 20)
    (top / "grass" / "003.png").rename(top / "röd" / "wrong.png")
    (doubt, *_) = learn(top, strength=1.0).mislabelled
    lesson = learn(top)
    assert names([lesson.photos.names[doubt.photo]]) == ["röd/wrong.png"]
    assert (LABELS[doubt.truth], LABELS[doubt.said]) == ("röd", "grass")


def test_photos_that_look_alike_are_held_out_together(learn: Teach, tmp_path: Path, sharp: None) -> None:
    """Of the validation too, whose places go on after those that are learnt from."""

    def again(source: Path, target: Path, level: int) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(source) as image:
            image.save(target, compress_level=level)  # the same pixels, other bytes

    photos, held = plant_varied(tmp_path / "varied", 12), tmp_path / "held"
    again(photos / "grass" / "004.png", photos / "grass" / "z.png", 1)
    again(photos / "grass" / "005.png", held / "röd" / "z.png", 1)
    again(photos / "grass" / "005.png", held / "grass" / "a.png", 2)
    lesson = learn(photos, validation=held)
    assert lesson.validation is not None
    all_names = names([*lesson.photos.names, *lesson.validation.photos.names])
    found = {(all_names[pair.one], all_names[pair.other]): (pair.contradictory, pair.across) for pair in lesson.alike}
    assert found == {
        ("grass/004.png", "grass/z.png"): (False, False),
        ("grass/005.png", "grass/a.png"): (False, True),
        ("grass/005.png", "röd/z.png"): (True, True),
        ("grass/a.png", "röd/z.png"): (True, False),
    }
    fold = lesson.fitted.fold
    assert lesson.uniform == ()
    assert fold[all_names.index("grass/004.png")] == fold[all_names.index("grass/z.png")]


def test_copies_whose_features_differ_are_found_by_their_fingerprints(
    learn: Teach, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubts, "near", partial(doubts.near, least=1.0))

    def again(source: Path, target: Path) -> None:
        with Image.open(source) as image:
            image.save(target, quality=60)

    held = plant(tmp_path / "held", 2, seed=1)
    again(photos / "grass" / "004.png", photos / "grass" / "z.jpg")
    again(photos / "grass" / "005.png", held / "röd" / "a.jpg")
    again(held / "grass" / "000.png", held / "grass" / "b.jpg")
    put(photos / "blue sky" / "0.png", b"x")  # rows move up, and fingerprints with them
    put(held / "blue sky" / "0.png", b"x")
    copy(photos / "röd" / "004.png", held / "blue sky" / "1.png")  # nor is it judged by
    for _ in range(2):  # computed, and kept
        lesson = learn(photos, validation=held)
        assert lesson.validation is not None
        all_names = names([*lesson.photos.names, *lesson.validation.photos.names])
        found = {
            (all_names[pair.one], all_names[pair.other]): (pair.contradictory, pair.across) for pair in lesson.alike
        }
        assert found == {
            ("grass/004.png", "grass/z.jpg"): (False, False),
            ("grass/005.png", "röd/a.jpg"): (True, True),
            ("grass/000.png", "grass/b.jpg"): (False, False),
        }
        fold = lesson.fitted.fold
        assert fold[all_names.index("grass/004.png")] == fold[all_names.index("grass/z.jpg")]
    assert all(pair.bits is not None and 0 < pair.bits <= doubts.BITS for pair in lesson.alike)


def test_a_class_whose_photos_are_all_alike_is_judged_and_told(learn: Teach, photos: Path) -> None:
    for number in range(3):
        photo(photos / "snow" / f"{number}.png", (250, 250, 250), number)  # too few for that
    lesson = learn(photos)
    place = lesson.labels.index("snow")
    assert lesson.uniform == tuple(each for each in range(4) if each != place)
    assert lesson.figures.unjudged == 3 and lesson.figures.accuracy.of == 36 and lesson.alike


def test_the_same_photo_twice_in_one_class_is_learnt_from_once(learn: Teach, photos: Path) -> None:
    copy(photos / "grass" / "004.png", photos / "grass" / "z.png")
    lesson = learn(photos)
    assert counts(lesson) == [12, 12, 12] and "grass/z.png" not in names(lesson.photos)
    (repeated,) = lesson.repeated
    assert names(repeated.photos) == ["grass/004.png", "grass/z.png"] and repeated.classes == ("grass", "grass")
    assert not repeated.contradictory and not repeated.across


def test_the_same_photo_in_two_classes_is_not_learnt_from(learn: Teach, photos: Path) -> None:
    copy(photos / "grass" / "004.png", photos / "röd" / "z.png")
    lesson = learn(photos)
    assert counts(lesson) == [12, 11, 12]
    assert not {"grass/004.png", "röd/z.png"} & {*names(lesson.photos)}
    (repeated,) = lesson.repeated
    assert repeated.contradictory and not repeated.across and repeated.classes == ("grass", "röd")


def test_a_photo_that_is_learnt_from_is_not_judged_by(learn: Teach, photos: Path, tmp_path: Path) -> None:
    held = plant(tmp_path / "held", 2, seed=1)
    copy(photos / "grass" / "004.png", held / "grass" / "z.png")
    copy(photos / "grass" / "005.png", held / "röd" / "y.png")  # and as another class
    lesson = learn(photos, validation=held)
    assert counts(lesson) == [12, 12, 12]  # nothing that is held back takes from what is learnt
    assert lesson.validation is not None and len(lesson.validation.photos) == 6
    assert [(names(each.photos), each.across, each.contradictory) for each in lesson.repeated] == [
        (["grass/004.png", "grass/z.png"], True, False),
        (["grass/005.png", "röd/y.png"], True, True),
    ]


def test_validation_photos_that_contradict_each_other_are_not_judged_by(
    learn: Teach, photos: Path, tmp_path: Path
) -> None:
    held = plant(tmp_path / "held", 2, seed=1)
    copy(held / "grass" / "000.png", held / "röd" / "z.png")
    copy(held / "grass" / "001.png", held / "grass" / "z.png")
    lesson = learn(photos, validation=held)
    assert lesson.validation is not None and len(lesson.validation.photos) == 5
    assert [(each.across, each.contradictory) for each in lesson.repeated] == [(False, True), (False, False)]


def test_a_validation_of_nothing_new_judges_nothing(learn: Teach, photos: Path) -> None:
    lesson = learn(photos, validation=photos)
    assert lesson.validation is None and len(lesson.repeated) == 36 and counts(lesson) == [12, 12, 12]


def test_a_class_all_of_whose_photos_are_of_another_too(learn: Teach, photos: Path, out: Path) -> None:
    copy(photos / "grass" / "004.png", photos / "copies" / "a.png")
    copy(photos / "grass" / "005.png", photos / "copies" / "b.png")
    with pytest.raises(TruthError, match=r"class 'copies' .* each of its photos is also there as another class"):
        learn(photos)
    assert not out.exists()
