"""Features are what the layer makes of the photos; computed once, kept, and never of another photo."""

from __future__ import annotations

import hashlib
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import photolabel
from photolabel import batch, exporting, models
from photolabel.classifier import Classifier
from photolabel.errors import CorruptPhotoError, PhotoNotFoundError, TruthError, UsageError
from photolabel.teaching import backbone as backbones
from photolabel.teaching import features
from photolabel.teaching.backbone import Backbone

import oracle
from featured import backbone, classifier, expected, files, photos, prints
from labelled_sets import put
from training import computed, plant, taught

__all__ = ["backbone", "classifier", "photos"]


# -- what they are


@pytest.mark.parametrize("layer", ["fc2", "fc1", "block5_pool", "block2_pool"])
def test_they_are_what_the_layer_makes_of_each_photo(classifier: Classifier, photos: Path, layer: str) -> None:
    found = computed(photos, Backbone.of(classifier, layer=layer))
    assert found.averaged == layer.endswith("pool")
    assert found.numbers.dtype == np.float32 and found.numbers.shape[:2] == (21, 1)
    for row in range(21):
        wanted = expected(found.photos[row], layer)
        np.testing.assert_allclose(found.numbers[row], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
        assert found.digests[row] == hashlib.sha256(Path(found.photos[row]).read_bytes()).digest()
        assert Path(found.photos[row]).parent.name == found.names[row]
    assert found.failures == () and found.from_cache == 0 and found.remarks == ()


def test_the_layer_before_the_classes_is_the_usual_one(classifier: Classifier) -> None:
    assert Backbone.of(classifier).layer == "fc2"
    with photolabel.load(models.BUNDLED) as bundled:
        assert Backbone.of(bundled).layer == "features"


@pytest.mark.parametrize("views", ["mirror", "ten-crop"])
def test_several_views_are_in_their_order(tiny: Path, tmp_path: Path, views: str) -> None:
    photos = plant(tmp_path / "photos", 2)
    with photolabel.load(tiny, views=views) as made:
        found = computed(photos, Backbone.of(made))
        recipe = made.recipe
    assert found.numbers.shape == (6, recipe.inputs, 16)
    for row in (0, 5):
        wanted = expected(found.photos[row], recipe=recipe)
        np.testing.assert_allclose(found.numbers[row], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("views", ["one", "mirror", "ten-crop"])
def test_fingerprints_are_of_the_middle_view(tiny: Path, photos: Path, views: Any) -> None:
    """Whether computed or kept; those of copies too, and of rows that move up over what cannot be read."""
    put(photos / "blue sky" / "0.png", b"x")
    put(photos / "grass" / "copy.png", (photos / "blue sky" / "003.png").read_bytes())
    with photolabel.load(tiny, views=views) as made:
        for cached in (0, 22):
            found = computed(photos, Backbone.of(made))
            assert found.from_cache == cached and len(found.failures) == 1
            assert found.fingerprints.dtype == np.uint8 and found.fingerprints.any(axis=1).all()
            np.testing.assert_array_equal(found.fingerprints, prints(found.photos, made.recipe))


def test_workers_and_this_process_give_the_same_bytes(backbone: Backbone, photos: Path) -> None:
    with ExitStack() as stack:
        found = computed(photos, backbone, decoders=batch.crew(2, stack=stack))
    for path in files():
        path.unlink()
    again = computed(photos, backbone)
    np.testing.assert_array_equal(found.numbers, again.numbers)
    np.testing.assert_array_equal(found.fingerprints, again.fingerprints)


def test_what_cannot_be_features(classifier: Classifier, tiny: Path, photos: Path) -> None:
    with pytest.raises(UsageError, match="no layer 'fc3'"):
        computed(photos, Backbone.of(classifier, layer="fc3"))
    with photolabel.load(tiny, views="dense") as made, pytest.raises(UsageError, match="views dense"):
        Backbone.of(made)
    with photolabel.load(f"{tiny}+{tiny}") as made, pytest.raises(UsageError, match="one network"):
        Backbone.of(made)


@pytest.mark.parametrize("top", [False, True])
def test_a_vgg_of_convolutions_alone(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, top: bool) -> None:
    """As Keras publishes its weights without the dense layers; those that have them will do."""
    model = replace(oracle.tiny_model(), name="vgg16", source="Oxford's", weights=None)
    known = models.known()
    monkeypatch.setattr(models, "known", lambda: {**known, "vgg16": model})
    spec = replace(oracle.TINY, top=top)
    whole = oracle.he_normal(oracle.TINY)
    arrays = {name: whole[name] for name in spec.learned}
    weights = tmp_path / "vgg.weights.h5"
    exporting.write(spec, arrays, weights)
    bare = backbones.without_top("vgg16", weights)
    assert bare.layer == "block5_pool"
    found = computed(photos, bare)
    wanted = expected(found.photos[3], "block5_pool")
    np.testing.assert_allclose(found.numbers[3], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    made = taught(tmp_path / "made.onnx", found, bare)
    with photolabel.load(made.path) as classifier:
        assert [classifier.classify(photo).top.name for photo in found.photos] == list(found.names)
    with pytest.raises(UsageError, match="expected one of vgg16"):
        backbones.without_top("resnet", weights)


# -- what is amiss with photos


def test_what_cannot_be_read_is_told_and_moves_nobody(backbone: Backbone, photos: Path) -> None:
    whole = computed(photos, backbone)
    broken = photos / "grass" / "000.png"
    broken.write_bytes(broken.read_bytes()[:100])
    (photos / "blue sky" / "000.jpg").write_bytes(b"")
    (photos / "röd" / "00.png").symlink_to(photos / "nowhere.png")
    for _ in range(2):  # computed, and kept
        found = computed(photos, backbone)
        assert {(Path(each.photo).name, each.name) for each in found.failures} == {
            ("000.png", "grass"), ("000.jpg", "blue sky"), ("00.png", "röd"),
        }  # fmt: skip
        kinds = {Path(each.photo).name: type(each.error) for each in found.failures}
        assert kinds["000.png"] is CorruptPhotoError and kinds["00.png"] is PhotoNotFoundError
        kept = [row for row, name in enumerate(whole.photos) if name != str(broken)]
        assert found.photos == tuple(whole.photos[row] for row in kept)
        np.testing.assert_array_equal(found.numbers, whole.numbers[kept])


def test_the_same_photo_twice_is_computed_once(
    backbone: Backbone, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first is moved up by what cannot be read, before its copies are met.
    put(photos / "blue sky" / "0.png", b"x")
    for number in range(40):
        put(photos / "röd" / f"copy{number}.png", (photos / "blue sky" / "000.png").read_bytes())
    runs: list[int] = []
    run = backbones.Opened.__call__
    monkeypatch.setattr(backbones.Opened, "__call__", lambda self, x: (runs.append(len(x)), run(self, x))[1])
    found = computed(photos, backbone)
    assert sum(runs) == 21 and len(found.photos) == 61
    for row, path in enumerate(found.photos):
        if "copy" in path:
            np.testing.assert_array_equal(found.numbers[row], found.numbers[0])
            assert found.names[row] == "röd"


def test_more_photos_than_were_counted(backbone: Backbone, photos: Path) -> None:
    with pytest.raises(TruthError, match="more photos than were counted"):
        computed(photos, backbone, most=20)


def test_room_for_more_is_given_back(backbone: Backbone, photos: Path) -> None:
    assert computed(photos, backbone, most=30).numbers.shape == (21, 1, 16)


def test_whoever_waits_is_told_of_each_photo(backbone: Backbone, photos: Path) -> None:
    put(photos / "grass" / "zzz.png", b"x")
    told: list[tuple[str, bool]] = []
    thread: list[threading.Thread] = []

    def step(name: str, error: object) -> None:
        told.append((name, error is None))
        thread.append(threading.current_thread())

    found = computed(photos, backbone, step=step)
    assert [name for name, sound in told if sound] == list(found.photos) and len(told) == 22
    assert set(thread) == {threading.main_thread()}


@pytest.mark.parametrize("left_out", [[], [0], [3], [0, 1, 5, 11]])
@pytest.mark.parametrize("views", [1, 3])
def test_features_are_parted_and_not_copied(left_out: list[int], views: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_AT_ONCE", 4)
    numbers = np.random.default_rng(0).random((12, views, 5), np.float32)
    rows = np.setdiff1d(np.arange(12), left_out)
    before = numbers.copy()
    plain, others = features.parted(numbers, rows, views - 1)
    np.testing.assert_array_equal(plain, before[rows, views - 1])
    if views == 1:
        assert others is None and np.shares_memory(plain, numbers)
    else:
        np.testing.assert_array_equal(others, before[rows, :-1])
