"""Maps of photos on the disk: what the layer makes of them, whole or not there, and never more of them in memory."""

from __future__ import annotations

import hashlib
import os
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from photolabel import batch, images, keeping, store
from photolabel.classifier import Classifier
from photolabel.errors import CacheUnwritableError, DiskFullError, UsageError
from photolabel.teaching import activations, examples
from photolabel.teaching.activations import Activations
from photolabel.teaching.backbone import Backbone
from photolabel.teaching.features import Features, compute

import oracle
from featured import classifier
from training import computed, plant

__all__ = ["classifier"]

LAYER, SHAPE = "block4_pool", (2, 2, 8)


@pytest.fixture
def backbone(classifier: Classifier) -> Backbone:
    found = Backbone.of(classifier, layer="block5_pool")
    return replace(found, recipe=replace(found.recipe, views="mirror"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return plant(tmp_path / "photos", 5)


def maps(seed: int, shape: tuple[int, ...] = (2, *SHAPE)) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1, 50, shape).astype(np.float32)


def digest(number: int) -> bytes:
    return hashlib.sha256(bytes([number])).digest()


def kept(backbone: Backbone) -> Activations:
    return Activations(backbone, LAYER, SHAPE)


def both(top: Path, backbone: Backbone, beside: Activations, decoders: Any = None) -> Features:
    found = examples.find([top])
    with activations.Opened(backbone, LAYER) as running:
        return compute(found, running, decoders or batch.Here(), most=found.survey().photos, beside=beside)


class Counted(batch.Here):
    """Decoders that count."""

    decoded = 0

    def prepare(self, *arguments: Any, **options: Any) -> Any:
        self.decoded += 1
        return super().prepare(*arguments, **options)


# -- what they are


def test_they_are_what_the_layer_makes_of_each_view(backbone: Backbone, photos: Path) -> None:
    with kept(backbone) as made:
        found = both(photos, backbone, made)
        for view in range(2):
            taken = made.take(found.digests, [view] * len(found.digests))
            assert taken.dtype == np.float32 and taken.shape == (15, *SHAPE)
            for row, photo in enumerate(found.photos):
                pixels = images.views(images.read(photo), backbone.recipe)[view]
                expected = oracle.forward(oracle.TINY, oracle.he_normal(oracle.TINY), pixels[np.newaxis])[LAYER][0]
                np.testing.assert_allclose(taken[row], expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_the_features_beside_them_are_those_without(backbone: Backbone, photos: Path) -> None:
    with kept(backbone) as made:
        found = both(photos, backbone, made)
    for path in (store.cache_folder() / "features").glob("*.sqlite"):
        path.unlink()
    alone = computed(photos, backbone)
    assert found.photos == alone.photos and found.averaged
    np.testing.assert_allclose(found.numbers, alone.numbers, rtol=1e-5, atol=1e-5)


def test_what_is_kept_is_not_computed_again(backbone: Backbone, photos: Path) -> None:
    for expected in (15, 0):
        decoders = Counted()
        with kept(backbone) as made:
            assert both(photos, backbone, made, decoders).from_cache == 15 - expected
        assert decoders.decoded == expected


@pytest.mark.parametrize("lost", ["features", "activations"])
def test_both_must_be_kept(backbone: Backbone, photos: Path, lost: str) -> None:
    with kept(backbone) as made:
        first = both(photos, backbone, made)
    for path in (store.cache_folder() / lost).iterdir():
        path.unlink()
    decoders = Counted()
    with kept(backbone) as made:
        again = both(photos, backbone, made, decoders)
        np.testing.assert_array_equal(again.numbers, first.numbers)
        assert all(each in made for each in again.digests)
    assert decoders.decoded == 15


@pytest.mark.parametrize("largest", [1.0, 6e4, 7e4, 1e9, 0.0])
def test_no_number_is_too_large_for_it(backbone: Backbone, largest: float) -> None:
    given = maps(1)
    given *= np.float32(largest / given.max())
    with kept(backbone) as made:
        made.put(digest(1), given)
        for view in range(2):
            found = made.take([digest(1)], [view])[0]
            np.testing.assert_allclose(found, given[view], rtol=6e-4, atol=1e-7 * largest)


def test_each_network_layer_recipe_and_precision_has_its_own(backbone: Backbone) -> None:
    other = replace(backbone, recipe=backbone.recipe.plain)
    bf16 = replace(backbone, network=replace(backbone.network, precision="bf16"))
    paths = set()
    for made in (
        kept(backbone), kept(other), kept(bf16), Activations(backbone, "block3_pool", SHAPE), kept(backbone),
    ):  # fmt: skip
        paths.add(made.path)
        made.close()
    assert len(paths) == 4


def test_maps_of_another_shape_are_refused(backbone: Backbone) -> None:
    with kept(backbone) as made, pytest.raises(UsageError, match=r"expected maps \(2, 2, 2, 8\)"):
        made.put(digest(1), maps(1, (1, *SHAPE)))


# -- what is amiss with the file


def filled(backbone: Backbone, count: int = 3) -> Path:
    with kept(backbone) as made:
        for number in range(count):
            made.put(digest(number), maps(number))
        return made.path


@pytest.mark.parametrize("cut", [1, 40, 72, 100, 199])
def test_a_record_that_is_not_whole_is_not_there(backbone: Backbone, cut: int) -> None:
    path = filled(backbone)
    whole = path.read_bytes()
    size = (len(whole) - 4096) // 3
    assert size == 72 + 2 * 2 * 2 * 2 * 8
    path.write_bytes(whole[:-cut])
    with kept(backbone) as made:
        assert digest(0) in made and digest(1) in made and digest(2) not in made
        assert made.size == 4096 + 2 * size
        made.put(digest(2), maps(2))
    assert path.read_bytes() == whole


@pytest.mark.parametrize("place", [0, 31, 32, 63, 64, 71, 72, 199])
def test_a_record_with_a_wrong_byte_is_not_there(backbone: Backbone, place: int) -> None:
    path = filled(backbone)
    data = bytearray(path.read_bytes())
    size = (len(data) - 4096) // 3
    data[4096 + size + place] ^= 1
    path.write_bytes(data)
    with kept(backbone) as made:
        assert digest(0) in made and digest(1) not in made and digest(2) in made
        with pytest.raises(UsageError, match="not there any more"):
            made.take([digest(1)], [0])
        made.put(digest(1), maps(1))
        np.testing.assert_allclose(made.take([digest(1)], [1])[0], maps(1)[1], rtol=1e-3)
    with kept(backbone) as made:
        assert digest(1) in made  # the later record counts


@pytest.mark.parametrize("there", [b"", b"something else", b"x" * 5000])
def test_a_file_that_is_none_of_ours_is_begun_anew(backbone: Backbone, there: bytes) -> None:
    path = filled(backbone)
    path.write_bytes(there)
    with kept(backbone) as made:
        assert made.empty and digest(0) not in made
        made.put(digest(0), maps(0))
        assert digest(0) in made


def test_a_link_is_not_written_through(backbone: Backbone, tmp_path: Path) -> None:
    path = filled(backbone)
    mine = tmp_path / "mine"
    mine.write_bytes(path.read_bytes())
    before = mine.read_bytes()
    path.unlink()
    path.symlink_to(mine)
    with kept(backbone) as made:
        assert made.empty
        made.put(digest(7), maps(7))
    assert mine.read_bytes() == before and not path.is_symlink()


def test_a_full_disk_is_said_and_what_is_there_stays(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(backbone)
    with kept(backbone) as made:
        real = os.write

        def full(descriptor: int, data: Any) -> int:
            if len(data) > 50:
                return real(descriptor, data[:50])
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(DiskFullError):
                made.put(digest(9), maps(9))
        assert digest(9) not in made
        made.put(digest(9), maps(9))
        assert digest(9) in made
    with kept(backbone) as made:
        assert all(digest(number) in made for number in (0, 1, 2, 9))


def test_too_little_room_is_said_beforehand(backbone: Backbone) -> None:
    with kept(backbone) as made:
        made.check_room(10)
        with pytest.raises(DiskFullError, match=r"needed [\d,]+ more bytes, free [\d,]+.*fewer views"):
            made.check_room(10**15)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_cache_that_cannot_be_written(backbone: Backbone) -> None:
    folder = store.cache_folder() / "activations"
    folder.mkdir(parents=True)
    folder.chmod(0o500)
    try:
        with pytest.raises(CacheUnwritableError):
            kept(backbone)
    finally:
        folder.chmod(0o700)


def test_a_cache_that_is_no_folder(backbone: Backbone) -> None:
    (store.cache_folder() / "activations").write_bytes(b"")
    with pytest.raises(CacheUnwritableError):
        kept(backbone)


def test_others_wait_until_it_is_filled(backbone: Backbone) -> None:
    done = threading.Event()
    with kept(backbone) as made, ExitStack() as stack:

        def second() -> None:
            stack.enter_context(kept(backbone))
            done.set()

        thread = threading.Thread(target=second)
        thread.start()
        assert not done.wait(0.5)
        made.put(digest(1), maps(1))
        made.filled()
        assert done.wait(20)
        thread.join()
        assert made.take([digest(1)], [0]).shape == (1, *SHAPE)  # read still


def test_memory_does_not_grow_with_the_photos(backbone: Backbone) -> None:
    shape = (14, 14, 512)
    one = maps(0, (2, *shape))
    tracemalloc.start()
    try:
        with Activations(backbone, LAYER, shape) as made:
            for number in range(60):
                made.put(digest(number), one)
            tracemalloc.reset_peak()
            for number in range(60):
                made.take([digest(number)], [number % 2])
            assert made.size > 60 * 2 * 2 * 14 * 14 * 512
            assert tracemalloc.get_traced_memory()[1] < made.size / 8
    finally:
        tracemalloc.stop()


def test_they_are_listed_and_cleaned(backbone: Backbone) -> None:
    path = filled(backbone)
    assert not [each for each in keeping.leftovers() if each.path == path]
    (found,) = (each for each in keeping.leftovers(everything=True) if each.path == path)
    assert found.removable and found.size == path.stat().st_size
    with kept(backbone), ThreadPoolExecutor(1) as other:  # a lock is of a thread
        assert path in {each.path for each in other.submit(keeping.clean, everything=True).result()[1]}
        assert path.exists()
    assert path in {each.path for each in keeping.clean(everything=True)[0]}
    assert not path.exists()
