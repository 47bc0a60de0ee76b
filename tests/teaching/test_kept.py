"""Features are computed once and kept: what is damaged or another's is never used, and nothing has to be kept."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import photolabel
from photolabel import images, store
from photolabel.classifier import Classifier
from photolabel.prepared import Prepared
from photolabel.sources import Item
from photolabel.teaching import examples
from photolabel.teaching.backbone import Backbone
from photolabel.teaching.features import compute

import oracle
import save_kills
from featured import Counted, backbone, classifier, expected, files, photos
from labelled_sets import put
from training import computed, photo, plant

__all__ = ["backbone", "classifier", "photos"]


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
