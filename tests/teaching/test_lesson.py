"""A teaching as a whole: what is learnt from, what is judged by, what is told, and what is refused before any work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import photolabel
from photolabel import taught
from photolabel.errors import (
    CorruptPhotoError,
    OutputError,
    PhotoError,
    TruthError,
    UsageError,
    WeightsMismatchError,
)
from photolabel.teaching import FEW, Lesson, Step, heads

import oracle
from labelled_sets import put
from schools import LABELS, Teach, counts, decoded, learn, names, out, photos, sharp
from training import COLOURS, photo, plant, plant_varied

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

__all__ = ["decoded", "learn", "out", "photos", "sharp"]


# -- what comes of it


def test_a_lesson(learn: Teach, photos: Path, out: Path, tmp_path: Path, decoded: list[str]) -> None:
    held = plant(tmp_path / "held", 4, seed=1)
    seen: list[tuple[str, PhotoError | None]] = []
    fits: list[tuple[int, int]] = []
    surveys: list[Any] = []
    step = Step(
        counted=lambda *both: surveys.append((both, list(decoded))),
        photo=lambda *each: seen.append(each),
        fit=lambda *each: fits.append(each),
    )
    lesson = learn(photos, validation=held, step=step)
    assert lesson.out == out and lesson.labels == LABELS and counts(lesson) == [12, 12, 12]
    assert [label.name for label in lesson.model.labels] == list(LABELS)
    assert lesson.figures.accuracy.of == 36 and lesson.fitted.folds == 10
    assert lesson.figures.accuracy.value > 0.9
    assert lesson.validation is not None and len(lesson.validation.photos) == 12
    assert lesson.validation.figures.accuracy.of == 12 and lesson.validation.figures.accuracy.value > 0.9
    assert lesson.validation.probabilities.shape == (12, 3) and lesson.validation.strange.of == 12
    assert lesson.curve is not None and lesson.curve.points[-1].accuracy == lesson.figures.accuracy
    assert not (lesson.repeated or lesson.failures or lesson.corrected or lesson.earlier or lesson.from_cache)
    # What was called meanwhile: first of all what there is.
    (((there, to_judge_by), before),) = surveys
    assert there.counts == dict.fromkeys(LABELS, 12) and to_judge_by.photos == 12 and before == []
    assert len(seen) == 48 and all(error is None for _, error in seen) and fits[-1][0] == fits[-1][1]
    # The file says the same.
    how = taught.read(out)
    assert how is not None and how.counts == (12, 12, 12) and how.kind == "logistic" and how.seed == 0
    assert how.strength == lesson.fitted.head.strength and how.floor == lesson.familiar.floor
    figures = lesson.figures
    assert how.report["cross_validation"]["accuracy"] == [figures.accuracy.count, figures.accuracy.of]
    assert how.report["validation"]["recall"]["grass"] == [4, 4] and how.report["folds"] == 10
    with photolabel.load(out) as made:
        for place, path in enumerate(lesson.validation.photos.names):
            found = made.classify(path).probabilities
            np.testing.assert_allclose(found, lesson.validation.probabilities[place], atol=1e-5)


def test_the_same_photos_and_seed_give_the_same_file(learn: Teach, photos: Path, tmp_path: Path) -> None:
    made = []
    for number, options in enumerate(({}, {"workers": 2}, {"seed": 1})):
        path = tmp_path / str(number) / "pets.onnx"
        path.parent.mkdir()
        learn(photos, out=path, **options)
        made.append(path.read_bytes())
    assert made[0] == made[1] != made[2]


def test_features_are_kept_so_that_a_second_time_decodes_nothing(
    learn: Teach, photos: Path, tmp_path: Path, decoded: list[str]
) -> None:
    held = plant(tmp_path / "held", 2, seed=1)
    first = learn(photos, validation=held)
    assert first.from_cache == 0 and len(decoded) == 42
    again = learn(photos, validation=held, head="svm")
    assert again.from_cache == 42 and len(decoded) == 42
    assert again.fitted.head.kind == "svm" and first.fitted.head.kind == "logistic"


def test_few_photos_are_seen_in_the_mirror_too(learn: Teach, tmp_path: Path) -> None:
    def looked(lesson: Lesson) -> str:
        how = taught.read(lesson.out)
        assert how is not None
        return how.origin.recipe.views

    few = plant_varied(tmp_path / "few", 6)
    lesson = learn(few, views=None)
    assert looked(lesson) == "mirror"
    # What is judged is the photo as it is looked at afterwards, not its mirror image; and then the network looks once.
    assert len(lesson.photos) == lesson.figures.accuracy.of == 18
    with photolabel.load(lesson.out) as made:
        assert made.recipe.views == "one"
    plain = learn(few, views="one")
    assert looked(plain) == "one" and not np.array_equal(plain.fitted.head.weights, lesson.fitted.head.weights)
    assert looked(learn(plant(tmp_path / "enough", FEW), views=None)) == "one"


@pytest.mark.parametrize("views", ["mirror", "ten-crop"])
def test_other_views_are_learnt_from(learn: Teach, photos: Path, views: str) -> None:
    lesson = learn(photos, views=views)
    assert lesson.figures.accuracy.of == 36 and lesson.figures.accuracy.value > 0.9


# -- photos that cannot be read


def test_photos_that_cannot_be_read_are_told(learn: Teach, photos: Path, tmp_path: Path) -> None:
    held = plant(tmp_path / "held", 2, seed=1)
    put(photos / "grass" / "004.png", b"no photo")
    put(held / "röd" / "001.png", (held / "röd" / "001.png").read_bytes()[:300])
    seen: list[tuple[str, PhotoError | None]] = []
    lesson = learn(photos, validation=held, step=Step(photo=lambda *each: seen.append(each)))
    assert counts(lesson) == [12, 11, 12] and lesson.validation is not None and len(lesson.validation.photos) == 5
    assert [(names([each.photo]), each.name) for each in lesson.failures] == [
        (["grass/004.png"], "grass"),
        (["röd/001.png"], "röd"),
    ]
    assert isinstance(lesson.failures[1].error, CorruptPhotoError)
    assert [error for _, error in seen if error is not None] == [each.error for each in lesson.failures]


def test_a_class_of_which_nothing_can_be_read(learn: Teach, photos: Path, out: Path) -> None:
    put(photos / "snow" / "1.png", b"no photo")
    put(photos / "snow" / "2.png", b"no photo")
    with pytest.raises(TruthError, match=r"class 'snow' has nothing to be learnt from: none of its photos could be re"):
        learn(photos)
    assert not out.exists()


def test_nothing_at_all_can_be_read(learn: Teach, tmp_path: Path) -> None:
    for name in "ab":
        put(tmp_path / "photos" / name / "1.png", b"no photo")
    with pytest.raises(TruthError, match="class 'a' has nothing to be learnt from"):
        learn(tmp_path / "photos")


def test_a_validation_none_of_which_can_be_read(learn: Teach, photos: Path, tmp_path: Path) -> None:
    put(tmp_path / "held" / "grass" / "1.png", b"no photo")
    lesson = learn(photos, validation=tmp_path / "held")
    assert lesson.validation is None and len(lesson.failures) == 1


# -- few photos


def test_one_class_teaches_nothing(learn: Teach, tmp_path: Path, decoded: list[str]) -> None:
    plant(tmp_path / "photos", 3, {"grass": COLOURS["grass"]})
    with pytest.raises(TruthError, match="one class.*at least two"):
        learn(tmp_path / "photos")
    assert decoded == []


def test_an_empty_class_is_told_and_not_taught(learn: Teach, photos: Path) -> None:
    (photos / "snow").mkdir()
    surveys: list[Any] = []
    lesson = learn(photos, step=Step(counted=lambda *both: surveys.append(both)))
    assert surveys[0][0].empty == (str(photos / "snow"),) and surveys[0][1] is None
    assert lesson.labels == LABELS


def test_one_photo_of_a_class_is_learnt_from_and_not_judged(learn: Teach, photos: Path) -> None:
    photo(photos / "snow" / "1.png", (250, 250, 250), 5)
    lesson = learn(photos)
    place = lesson.labels.index("snow")
    assert counts(lesson)[place] == 1 and lesson.figures.unjudged == 1
    assert lesson.figures.classes[place].recall.of == 0
    assert lesson.curve is not None and [need.index for need in lesson.curve.needs] == [place]
    with photolabel.load(lesson.out) as made:
        assert made.classify(photos / "snow" / "1.png").top.name == "snow"


def test_one_photo_a_class_is_a_network_and_proves_nothing(learn: Teach, tmp_path: Path) -> None:
    top = plant(tmp_path / "photos", 1)
    lesson = learn(top, views=None)
    assert lesson.fitted.folds == 0 and lesson.figures.accuracy.of == 0 and lesson.figures.unjudged == 3
    assert lesson.familiar.floor == -1 and lesson.curve is None and lesson.mislabelled == ()
    how = taught.read(lesson.out)
    assert how is not None and how.report["cross_validation"] is None
    with photolabel.load(lesson.out) as made:
        assert all(made.classify(each).top.name == each.parent.name for each in top.rglob("*.png"))


def test_two_photos_a_class_are_judged_and_prove_little(learn: Teach, tmp_path: Path, sharp: None) -> None:
    lesson = learn(plant_varied(tmp_path / "photos", 2), views=None)
    accuracy = lesson.figures.accuracy
    assert lesson.fitted.folds == 2 and accuracy.of == 6 and accuracy.high - accuracy.low > 0.3
    assert lesson.curve is None


# -- more is taught


def test_new_photos_and_a_new_class_are_added(
    learn: Teach, photos: Path, out: Path, tmp_path: Path, decoded: list[str]
) -> None:
    learn(photos)
    photos.rename(tmp_path / "elsewhere")
    more = plant(tmp_path / "more", 3, {"grass": COLOURS["grass"], "aurora": (90, 250, 200)}, seed=4)
    decoded.clear()
    lesson = learn(more, out=None, add=out)
    assert len(decoded) == 6 and lesson.from_cache == 36 and lesson.earlier == 36
    assert lesson.labels == (*LABELS, "aurora")  # the old ones keep their places
    assert counts(lesson) == [12, 15, 12, 3] and lesson.out == out
    how = taught.read(out)
    assert how is not None and how.counts == (12, 15, 12, 3)
    with photolabel.load(out) as made:
        assert made.classify(more / "aurora" / "001.png").top.name == "aurora"


def test_an_earlier_network_stays_where_another_file_is_asked_for(
    learn: Teach, photos: Path, out: Path, tmp_path: Path
) -> None:
    learn(photos)
    before = out.read_bytes()
    lesson = learn(plant(tmp_path / "more", 1, seed=4), out=tmp_path / "new.onnx", add=out)
    assert out.read_bytes() == before and lesson.out == tmp_path / "new.onnx" and len(lesson.photos) == 39


def test_a_class_is_corrected(learn: Teach, photos: Path, out: Path) -> None:
    learn(photos)
    table = put(photos / "corrections.csv", "path,label\ngrass/001.png,röd\ngrass/002.png,grass\n")
    lesson = learn((), labels=table, out=None, add=out)
    assert names(lesson.corrected) == ["grass/001.png"] and counts(lesson) == [12, 11, 13]
    place = names(lesson.photos).index("grass/001.png")
    assert lesson.labels[lesson.photos.truth[place]] == "röd" and lesson.repeated == ()


def test_added_and_taught_at_once_are_the_same_head(learn: Teach, photos: Path, out: Path, tmp_path: Path) -> None:
    more = plant(tmp_path / "more", 3, seed=4)
    learn(photos, strength=10.0)
    added = learn(more, out=None, add=out, strength=10.0)
    at_once = learn([photos, more], strength=10.0)
    logits = added.fitted.head.logits(np.eye(16, dtype=np.float32)) * added.fitted.temperature
    wanted = at_once.fitted.head.logits(np.eye(16, dtype=np.float32)) * at_once.fitted.temperature
    np.testing.assert_allclose(logits, wanted, rtol=1e-3, atol=1e-3)


def test_a_class_none_of_whose_photos_is_left(learn: Teach, tmp_path: Path, out: Path) -> None:
    top = plant(tmp_path / "photos", 2)
    learn(top)
    before = out.read_bytes()
    table = put(top / "t.csv", "path,label\ngrass/000.png,röd\ngrass/001.png,röd\n")
    with pytest.raises(TruthError, match="class 'grass' .* no photo of it is left"):
        learn((), labels=table, out=None, add=out)
    assert out.read_bytes() == before


def test_an_earlier_backbone_that_is_another(
    learn: Teach, photos: Path, out: Path, tmp_path: Path, decoded: list[str]
) -> None:
    learn(photos)
    before = out.read_bytes()
    decoded.clear()
    other = tmp_path / "other.onnx"
    other.write_bytes(oracle.tiny_onnx(oracle.he_normal(oracle.TINY, seed=1)))
    with pytest.raises(WeightsMismatchError, match="for another backbone: its network is tiny"):
        learn(photos, add=out, model=other)
    assert out.read_bytes() == before and decoded == []


# -- what is refused before any photo is opened


def test_a_file_that_cannot_be_written_is_said_first(
    learn: Teach, photos: Path, tmp_path: Path, decoded: list[str]
) -> None:
    for path in (tmp_path / "missing" / "pets.onnx", tmp_path):
        with pytest.raises(OutputError):
            learn(photos, out=path)
    assert decoded == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_said_first(
    learn: Teach, photos: Path, tmp_path: Path, decoded: list[str]
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError):
        learn(photos, out=tmp_path / "locked" / "pets.onnx")
    assert decoded == []


def test_a_validation_of_a_class_that_is_not_taught(
    learn: Teach, photos: Path, tmp_path: Path, decoded: list[str]
) -> None:
    held = plant(tmp_path / "held", 1, {"gras": (1, 2, 3)}, seed=1)
    with pytest.raises(TruthError, match=r"'gras' is none of the 3 classes that are taught; close are: grass"):
        learn(photos, validation=held)
    assert decoded == []


@pytest.mark.parametrize("wrong", [{"strength": -1}, {"head": "forest"}, {"seed": -1}])
def test_a_head_that_cannot_be(learn: Teach, photos: Path, decoded: list[str], wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="expected"):
        learn(photos, **wrong)
    assert decoded == []


def test_neither_a_file_nor_an_earlier_one(learn: Teach, photos: Path, decoded: list[str]) -> None:
    with pytest.raises(UsageError, match="expected a file to write"):
        learn(photos, out=None)
    assert decoded == []


def test_a_photo_that_is_added_meanwhile(learn: Teach, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Step(counted=lambda *_: photo(photos / "grass" / "new.png", (1, 2, 3), 1) and None)
    with pytest.raises(TruthError, match="more photos than were counted"):
        learn(photos, step=step)


# -- what else may go wrong


def test_a_lesson_that_is_stopped_leaves_the_older_file_and_keeps_its_features(
    learn: Teach, photos: Path, out: Path, decoded: list[str]
) -> None:
    put(out, b"older")

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "cooled", stopped)
        with pytest.raises(KeyboardInterrupt):
            learn(photos)
    assert out.read_bytes() == b"older" and {each.name for each in out.parent.iterdir()} == {"pets.onnx", "photos"}
    assert learn(photos).from_cache == 36 and len(decoded) == 36
