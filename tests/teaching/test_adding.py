"""More is taught without a look at the photos that were taught before; by another backbone, or without them, never."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import photolabel
from photolabel import metadata, store
from photolabel.classifier import Classifier
from photolabel.errors import InvalidModelError, PhotoNotFoundError, UsageError, WeightsMismatchError
from photolabel.teaching import adding, examples
from photolabel.teaching.backbone import Backbone
from photolabel.teaching.features import compute

import oracle
from featured import Counted, classifier
from labelled_sets import put
from training import COLOURS, computed, known, photo, plant, taught, taught_by

__all__ = ["classifier"]

LABELS = sorted(COLOURS)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return plant(tmp_path / "photos", 5)


@pytest.fixture
def out(classifier: Classifier, photos: Path, tmp_path: Path) -> Path:
    path = tmp_path / "pets.onnx"
    taught_by(path, photos, classifier)
    return path


def test_what_was_taught_is_known(out: Path, classifier: Classifier) -> None:
    found = adding.earlier(out)
    assert found.labels == tuple(LABELS) and len(found.examples) == 15
    assert found.taught.origin == Backbone.of(classifier).origin
    adding.check_backbone(found.taught.origin, Backbone.of(classifier))


def test_new_photos_are_added_without_the_old_ones(
    classifier: Classifier, photos: Path, out: Path, tmp_path: Path
) -> None:
    backbone = Backbone.of(classifier)
    before = computed(photos, backbone)
    photos.rename(tmp_path / "moved away")
    more = plant(tmp_path / "more", 2, {**COLOURS, "snow": (250, 250, 250)}, seed=4)
    counted = Counted()
    found = computed(more, backbone, earlier=adding.earlier(out), decoders=counted)
    assert len(counted.decoded) == 8
    assert len(found.photos) == 23 and found.from_cache == 15
    np.testing.assert_array_equal(found.numbers[:15], before.numbers)
    np.testing.assert_array_equal(found.fingerprints[:15], before.fingerprints)
    assert before.fingerprints.any(axis=1).all() and len(found.fingerprints) == 23
    assert found.names[:15] == before.names and found.digests[:15] == before.digests
    assert found.photos[0] == "blue sky/000.png" and found.names[-1] == "snow"
    again = taught(out, found, backbone)
    assert [label.name for label in again.labels] == [*LABELS[:2], "röd", "snow"]
    assert len(adding.earlier(out).examples) == 23
    with photolabel.load(out) as made:
        assert made.classify(more / "snow" / "000.png").top.name == "snow"


def test_corrections_come_as_a_table(classifier: Classifier, photos: Path, out: Path) -> None:
    """A photo that was taught has the class that is said now; one that is said again is known."""
    table = put(photos / "t.csv", "grass/001.png,röd\nröd/001.png,röd\ngrass/001.png,röd\n")
    with Backbone.of(classifier).open() as running:
        found = compute(examples.find(table=table), running, Counted(), most=2, earlier=adding.earlier(out))
    assert len(found.photos) == 15
    assert [Path(each).name for each in found.corrected] == ["001.png"] and found.known == 1
    row = found.photos.index("grass/001.png")
    assert found.names[row] == "röd" and found.names.count("röd") == 6
    assert sum(each.index == LABELS.index("röd") for each in known(found, LABELS)) == 6


def test_corrections_call_photos_that_are_not_there_as_the_file_does(
    classifier: Classifier, photos: Path, out: Path, tmp_path: Path
) -> None:
    """What is said to be doubted is called so; where a name is that of two photos, or of none, neither is meant."""
    put(photos / "deeper" / "grass" / "001.png", (photos / "grass" / "001.png").read_bytes() + b"another")
    twice = tmp_path / "twice.onnx"
    taught_by(twice, photos, classifier)
    shutil.rmtree(photos)
    rows = "grass/001.png,röd\ngrass/002.png,röd\nröd/001.png,röd\nröd/999.png,grass\n"
    table = put(tmp_path / "elsewhere" / "t.csv", rows)
    for path, corrected, missing in (
        (out, ("grass/001.png", "grass/002.png"), ["999.png"]),
        (twice, ("grass/002.png",), ["001.png", "999.png"]),
    ):
        before = adding.earlier(path)
        listed = examples.find(table=table, before=[each.name for each in before.examples])
        counted = Counted()
        with Backbone.of(classifier).open() as running:
            found = compute(listed, running, counted, most=4, earlier=before)
        assert found.corrected == corrected and found.known == 1
        assert [Path(each.photo).name for each in found.failures] == missing
        assert {type(each.error) for each in found.failures} == {PhotoNotFoundError}
        assert len(found.photos) == len(before.examples) and found.names.count("röd") == 5 + len(corrected)


def test_a_photo_that_lies_where_a_table_says_is_that_one(
    classifier: Classifier, photos: Path, out: Path, tmp_path: Path
) -> None:
    """A new photo of an old name is new, also beside a table of corrections."""
    photo(tmp_path / "new" / "grass" / "001.png", (1, 2, 3), 5)
    table = put(tmp_path / "new" / "t.csv", "grass/001.png,röd\n")
    before = adding.earlier(out)
    listed = examples.find(table=table, before=[each.name for each in before.examples])
    with Backbone.of(classifier).open() as running:
        found = compute(listed, running, Counted(), most=1, earlier=before)
    assert found.corrected == () and len(found.photos) == 16 and not found.failures
    assert found.photos[-1] == str(table.parent / "grass" / "001.png")


@pytest.mark.parametrize("first", ["grass", "r\u00f6d"])
def test_a_photo_of_before_that_is_now_said_to_be_of_two_classes_is_not_corrected_twice(
    classifier: Classifier, photos: Path, out: Path, tmp_path: Path, first: str
) -> None:
    second = ({"grass", "r\u00f6d"} - {first}).pop()
    more = tmp_path / "more"
    for number, name in enumerate((first, second)):
        (more / f"{number}" / name).mkdir(parents=True)
        shutil.copy(photos / "grass" / "001.png", more / f"{number}" / name / "copy.png")
    with Backbone.of(classifier).open() as running:
        found = compute(
            examples.find([more / "0", more / "1"]), running, Counted(), most=2, earlier=adding.earlier(out)
        )
    rows = [row for row, digest in enumerate(found.digests) if digest == found.digests[-1]]
    assert len(found.photos) == 16 and [found.names[row] for row in rows] == [first, second]
    assert found.corrected == () and found.photos[rows[1]] == str(more / "1" / second / "copy.png")
    np.testing.assert_array_equal(*found.numbers[rows])
    np.testing.assert_array_equal(*found.fingerprints[rows])


def test_features_that_are_not_kept_any_more_are_an_error(
    classifier: Classifier, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backbone = Backbone.of(classifier)
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path / "another"))
    with pytest.raises(UsageError, match="features of 15 of the 15 photos .* teach anew, with all photos"):
        computed(photos, backbone, earlier=adding.earlier(out))
    # With all photos at hand it is no matter.
    computed(photos, backbone)
    assert len(computed(photos, backbone, earlier=adding.earlier(out)).photos) == 15


def test_a_head_for_another_backbone(classifier: Classifier, out: Path, tiny: Path, tmp_path: Path) -> None:
    wanted = adding.earlier(out).taught.origin
    other = tmp_path / "other.onnx"
    other.write_bytes(oracle.tiny_onnx(oracle.he_normal(oracle.TINY, seed=1)))
    for path, options, layer, said in (
        (other, {}, None, r"its network is tiny, sha256:[0-9a-f]{64}; this one's is tiny, sha256:[0-9a-f]{64}"),
        (tiny, {}, "fc1", "its layer is fc2; this one's is fc1"),
        (tiny, {"recipe": "keras"}, None, "its recipe is tiny; this one's is keras"),
        (tiny, {"views": "mirror"}, None, "its recipe is tiny; this one's is tiny mirror"),
        (tiny, {"precision": "int8"}, None, "its network"),
    ):
        with photolabel.load(path, **options) as made:  # type: ignore[arg-type]
            another = Backbone.of(made, layer=layer)
        with pytest.raises(WeightsMismatchError, match=f"head is for another backbone: {said}"):
            adding.check_backbone(wanted, another)
    backbone = Backbone.of(classifier)
    bf16 = replace(backbone, network=replace(backbone.network, precision="bf16"))
    with pytest.raises(WeightsMismatchError, match="its precision is fp32; this one's is bf16"):
        adding.check_backbone(wanted, bf16)


def test_a_network_that_is_not_what_its_file_says(classifier: Classifier, photos: Path, tmp_path: Path) -> None:
    """Else a file from a stranger could put its own features in the place of those of an honest network."""
    honest = Backbone.of(classifier).origin.network.encode()
    strange, path = tmp_path / "strange.onnx", tmp_path / "claims.onnx"
    strange.write_bytes(oracle.tiny_onnx(oracle.he_normal(oracle.TINY, seed=1)))
    with photolabel.load(strange) as made:
        taught_by(path, photos, made)
        own = Backbone.of(made).origin.network.encode()
    data = path.read_bytes()
    assert adding.earlier(path).backbone().origin.network.encode() == own != honest
    assert data.count(own) == 2  # in how it was taught, and in the model's source
    path.write_bytes(data.replace(own, honest))
    with pytest.raises(WeightsMismatchError, match="is not the one that it says .* changed after it was taught"):
        adding.earlier(path).backbone()


def test_what_was_not_taught(tiny: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="was not taught by photolabel"):
        adding.earlier(tiny)
    data = out.read_bytes()
    path = tmp_path / "x.onnx"
    path.write_bytes(data.replace(b"photolabel.examples", b"photolabel.exampleZ"))
    with pytest.raises(UsageError, match="does not list the photos"):
        adding.earlier(path)
    assert data.count(b'"counts":[5,5,5]') == 1
    path.write_bytes(data.replace(b'"counts":[5,5,5]', b'"counts":[5,5,6]'))
    with pytest.raises(InvalidModelError, match=r"x\.onnx: .*broken"):
        adding.earlier(path)


def test_features_lie_where_keeping_looks(classifier: Classifier, photos: Path) -> None:
    from photolabel import keeping

    computed(photos, Backbone.of(classifier))
    (kept,) = (store.cache_folder() / "features").glob("*.sqlite")
    aside = put(kept.with_suffix(".damaged"), b"x")
    assert not [each for each in keeping.unknown() if each.path.name == "features"]
    assert [each.path for each in keeping.leftovers() if each.path.parent == kept.parent] == [aside]
    keeping.clean()
    assert kept.exists() and not aside.exists()
    keeping.clean(everything=True)
    assert not kept.exists()


def test_a_file_keeps_no_more_of_a_path_than_it_must(out: Path, photos: Path) -> None:
    assert str(photos.parent) not in " ".join(metadata.read(out).values())
    assert all(each.name.count("/") == 1 for each in adding.earlier(out).examples)


def test_one_new_photo_of_an_old_content_in_two_classes_is_left_to_be_doubted(
    classifier: Classifier, photos: Path, tmp_path: Path
) -> None:
    photo(tmp_path / "new" / "a" / "1.png", (1, 2, 3), 5)
    put(tmp_path / "new" / "b" / "1.png", (tmp_path / "new" / "a" / "1.png").read_bytes())
    found = computed(tmp_path / "new", Backbone.of(classifier))
    assert found.names == ("a", "b") and found.digests[0] == found.digests[1]
