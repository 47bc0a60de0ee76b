"""Features are what the layer makes of the photos; computed once, kept, and never of another photo."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import photolabel
from photolabel import batch, exporting, images, models, store
from photolabel.classifier import Classifier
from photolabel.errors import CorruptPhotoError, PhotoNotFoundError, TruthError, UsageError
from photolabel.prepared import Prepared
from photolabel.sources import Item
from photolabel.teaching import backbone as backbones
from photolabel.teaching import examples, features
from photolabel.teaching.backbone import Backbone
from photolabel.teaching.features import compute
from photolabel.teaching.fingerprint import fingerprint

import oracle
import save_kills
from labelled_sets import put
from training import computed, photo, plant, taught


@pytest.fixture
def classifier(tiny: Path) -> Iterator[Classifier]:
    with photolabel.load(tiny) as made:
        yield made


@pytest.fixture
def backbone(classifier: Classifier) -> Backbone:
    return Backbone.of(classifier)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return plant(tmp_path / "photos", 7)


class Counted(batch.Here):
    """Decoders that count."""

    def __init__(self) -> None:
        self.decoded: list[str] = []

    def prepare(self, item: Item, *recipes: Any, limits: images.Limits) -> Future[Prepared]:
        self.decoded.append(item.photo)
        return super().prepare(item, *recipes, limits=limits)


def pixels(path: str | Path, recipe: images.Recipe = oracle.TINY_RECIPE) -> np.ndarray:
    return np.stack(images.views(images.read(path), recipe)).astype(np.float32)


def expected(path: str | Path, layer: str = "fc2", recipe: images.Recipe = oracle.TINY_RECIPE) -> np.ndarray:
    found = oracle.forward(oracle.TINY, oracle.he_normal(oracle.TINY), pixels(path, recipe))[layer]
    return found.mean(axis=(1, 2)) if found.ndim == 4 else found


def prints(photos: Sequence[str], recipe: images.Recipe = oracle.TINY_RECIPE) -> np.ndarray:
    """Of what the recipe's one view shows."""
    return np.stack([fingerprint(images.views(images.read(path), recipe.plain)[0]) for path in photos])


def files() -> list[Path]:
    return sorted((store.cache_folder() / "features").glob("*.sqlite"))


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


# -- what is kept


def test_kept_photos_are_hashed_and_not_decoded(backbone: Backbone, photos: Path) -> None:
    first = computed(photos, backbone)
    photo(photos / "grass" / "new.png", (9, 99, 9), 5)
    (photos / "röd" / "003.png").rename(photos / "röd" / "renamed.png")
    counted = Counted()
    second = computed(photos, backbone, decoders=counted)
    assert [Path(each).name for each in counted.decoded] == ["new.png"]
    assert second.from_cache == 21 and len(second.photos) == 22
    by_digest = dict(zip(first.digests, first.numbers, strict=True))
    for digest, numbers in zip(second.digests, second.numbers, strict=True):
        if digest in by_digest:
            np.testing.assert_array_equal(numbers, by_digest[digest])


def test_photos_in_an_archive_are_known_by_their_content(backbone: Backbone, photos: Path, tmp_path: Path) -> None:
    import shutil

    first = computed(photos, backbone)
    for form in ("zip", "gztar"):
        archive = shutil.make_archive(str(tmp_path / "set"), form, photos)
        counted = Counted()
        found = computed(Path(archive), backbone, decoders=counted)
        assert counted.decoded == [] and sorted(found.digests) == sorted(first.digests)


def test_nothing_is_mixed(tiny: Path, photos: Path, tmp_path: Path) -> None:
    """Another layer, recipe, network or number of views is another file."""
    other = tmp_path / "other.onnx"
    other.write_bytes(oracle.tiny_onnx(oracle.he_normal(oracle.TINY, seed=1)))
    made = []
    for path, options, layer in (
        (tiny, {}, "fc2"), (tiny, {}, "fc1"), (tiny, {"recipe": "keras"}, "fc2"), (tiny, {"views": "mirror"}, "fc2"),
        (other, {}, "fc2"), (tiny, {"precision": "int8"}, "fc2"),
    ):  # fmt: skip
        with photolabel.load(path, **options) as classifier:  # type: ignore[arg-type]
            counted = Counted()
            made.append(computed(photos, Backbone.of(classifier, layer=layer), decoders=counted))
            assert len(counted.decoded) == 21
    assert len(files()) == 6
    assert not np.array_equal(made[0].numbers, made[5].numbers)


def test_a_row_that_was_changed_is_computed_anew(backbone: Backbone, photos: Path) -> None:
    first = computed(photos, backbone)
    (path,) = files()
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT photo, numbers FROM features ORDER BY photo").fetchall()
        # One is another photo's, one is cut short, one is text, one has no checksum, one another's fingerprint.
        connection.execute(
            "UPDATE features SET (numbers, checksum) = "
            "(SELECT numbers, checksum FROM features WHERE photo = ?) WHERE photo = ?",
            (rows[1][0], rows[0][0]),
        )
        connection.execute("UPDATE features SET numbers = ? WHERE photo = ?", (rows[2][1][:8], rows[2][0]))
        connection.execute("UPDATE features SET numbers = 'text' WHERE photo = ?", (rows[3][0],))
        connection.execute("UPDATE features SET checksum = x'' WHERE photo = ?", (rows[4][0],))
        connection.execute(
            "UPDATE features SET fingerprint = (SELECT fingerprint FROM features WHERE photo = ?) WHERE photo = ?",
            (rows[6][0], rows[5][0]),
        )
    connection.close()
    second = computed(photos, backbone)
    np.testing.assert_array_equal(first.numbers, second.numbers)
    np.testing.assert_array_equal(first.fingerprints, second.fingerprints)
    assert second.from_cache == 16
    assert second.remarks == ("some features that were kept were damaged, and are computed anew.",)
    assert computed(photos, backbone).from_cache == 21


def garbage(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def holes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    path.write_bytes(data)


def another_schema(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE features (photo BLOB, numbers BLOB)")
    connection.close()


def anothers(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (cake TEXT)")
    connection.close()


def of_another_network(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE told SET identity = 'another'")
    connection.close()


def with_a_trigger(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TRIGGER t AFTER INSERT ON features BEGIN DELETE FROM features; END")
    connection.close()


@pytest.mark.parametrize(
    "damage", [garbage, cut_short, holes, another_schema, anothers, of_another_network, with_a_trigger]
)
def test_a_file_that_is_damaged_or_anothers_is_set_aside(backbone: Backbone, photos: Path, damage: Any) -> None:
    first = computed(photos, backbone)
    (path,) = files()
    damage(path)
    damaged = path.read_bytes()
    second = computed(photos, backbone)
    np.testing.assert_array_equal(first.numbers, second.numbers)
    assert len(second.remarks) == 1 and "set aside" in second.remarks[0]
    assert path.with_suffix(".damaged").read_bytes()[:100] == damaged[:100]
    third = computed(photos, backbone)
    assert third.remarks == () and third.from_cache == 21


def test_damage_that_shows_only_later_is_survived(backbone: Backbone, photos: Path) -> None:
    """The head of the file is sound, and what a row lies in is not."""
    first = computed(photos, backbone)
    (path,) = files()
    data = bytearray(path.read_bytes())
    page = int.from_bytes(data[16:18], "big")
    for start in range(2 * page, len(data), page):
        data[start : start + 16] = b"\xff" * 16
    path.write_bytes(data)
    second = computed(photos, backbone)
    np.testing.assert_array_equal(first.numbers, second.numbers)
    assert second.remarks
    assert computed(photos, backbone).from_cache == 21


def test_a_cache_that_cannot_be_written_is_done_without(
    backbone: Backbone, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = computed(photos, backbone)
    put(tmp_path / "file", b"")
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path / "file"))
    second = computed(photos, backbone)
    np.testing.assert_array_equal(first.numbers, second.numbers)
    assert len(second.remarks) == 1 and "cannot be kept" in second.remarks[0]


def test_a_read_only_cache_is_read(backbone: Backbone, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed(photos, backbone)
    photo(photos / "grass" / "new.png", (9, 99, 9), 5)

    def refused(*_: Any, **__: Any) -> Any:
        raise photolabel.errors.CacheUnwritableError("no")

    monkeypatch.setattr(store.Store, "lock", refused)
    found = computed(photos, backbone)
    assert found.from_cache == 21 and len(found.photos) == 22
    assert len(found.remarks) == 1 and "cannot be kept" in found.remarks[0]


def test_a_full_disk_is_done_without(backbone: Backbone, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from photolabel.teaching import kept

    look = kept.Kept._look

    def small(self: kept.Kept, connection: sqlite3.Connection, *, new: bool) -> None:
        look(self, connection, new=new)
        connection.execute("PRAGMA max_page_count = 1")  # no more than there is

    monkeypatch.setattr(kept.Kept, "_look", small)
    monkeypatch.setattr(kept, "_PENDING", 256)
    for number in range(2000, 2400):
        photo(photos / "grass" / f"{number}.png", (9, 99, 9), number, (3, 3))
    found = computed(photos, backbone)
    assert len(found.photos) == 421
    assert found.remarks == (
        "the features of some photos could not be kept: there is no room. They are computed again.",
    )
    assert computed(photos, backbone).numbers.shape == found.numbers.shape


def test_two_at_once_keep_all(classifier: Classifier, backbone: Backbone, tmp_path: Path) -> None:
    """Threads with connections of their own, as two processes would be, that begin with the very file."""
    tops = [plant(tmp_path / str(seed), 20, seed=seed) for seed in (1, 2)]
    found: list[Any] = [None, None]

    def work(number: int) -> None:
        found[number] = computed(tops[number], backbone)

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert all(each.remarks == () for each in found)
    for number in (0, 1):
        again = computed(tops[number], backbone)
        assert again.from_cache == 60
        np.testing.assert_array_equal(again.numbers, found[number].numbers)


def test_what_was_computed_before_an_interruption_is_kept(backbone: Backbone, photos: Path) -> None:
    seen = 0

    def interrupt(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 18:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        computed(photos, backbone, step=interrupt)
    assert computed(photos, backbone).from_cache >= 16


def test_a_file_that_changes_is_known_by_what_was_decoded(backbone: Backbone, photos: Path) -> None:
    computed(photos, backbone)
    changed = photo(photos / "grass" / "005.png", (1, 2, 3), 77)
    original = examples.find([photos])
    swapped = changed.read_bytes()

    class Swapping(Counted):
        def prepare(self, item: Item, *recipes: Any, limits: images.Limits) -> Future[Prepared]:
            photo(changed, (200, 1, 1), 78)
            return super().prepare(item, *recipes, limits=limits)

    with backbone.open() as running:
        found = compute(original, running, Swapping(), most=21)
    row = found.photos.index(str(changed))
    assert found.digests[row] == hashlib.sha256(changed.read_bytes()).digest() != hashlib.sha256(swapped).digest()
    wanted = expected(changed)
    np.testing.assert_allclose(found.numbers[row], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_what_is_kept_is_sound(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = save_kills.kill_computing(tmp_path, tiny, kills=8, seed=2)
    assert tally["killed"] >= 8 and tally["finished"] >= 4
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path / "cache"))
    with photolabel.load(tiny) as made:
        found = computed(tmp_path / "photos", Backbone.of(made))
        assert found.from_cache == 120 and found.remarks == ()
        for path in files():
            path.unlink()
        again = computed(tmp_path / "photos", Backbone.of(made))
    np.testing.assert_allclose(found.numbers, again.numbers, rtol=1e-4, atol=1e-3)  # by another number of threads


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
