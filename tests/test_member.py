"""One network and how it looks at photos: views run together, and each has the answer that it has alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import photolabel
from photolabel import engine, graph, images, models
from photolabel.errors import InvalidModelError, UsageError
from photolabel.images import Recipe
from photolabel.member import BATCH, Member, Network

import oracle
from oracle import TINY_RECIPE, tiny_model
from pictures import picture


@pytest.fixture(scope="module")
def network(tiny: Path) -> Network:
    return Network(path=tiny, precision="fp32", threads=1, runtime="openvino")


@pytest.fixture(autouse=True)
def _shared_cache(_own_world: None, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all of them, or each would compile the network anew."""
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tiny.parent / "cache"))


class Spied:
    """An engine that counts the inputs of each run."""

    def __init__(self, inner: engine.Engine) -> None:
        self._inner = inner
        self.batches: list[tuple[int, ...]] = []

    def __call__(self, pixels: Any) -> Any:
        self.batches.append(pixels.shape)
        return self._inner(pixels)

    def run(self, pixels: Any) -> Any:
        self.batches.append(pixels.shape)
        return self._inner.run(pixels)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.fixture
def spied(network: Network) -> Iterator[tuple[Member, list[tuple[int, ...]]]]:
    """A member that takes pictures of any size, and the shapes that its network has run on."""
    spy = Spied(network.open(engine.Cut(dense=True)))
    member = Member(tiny_model(), spy, TINY_RECIPE, network)  # type: ignore[arg-type]
    yield member, spy.batches
    member.close()


def noise(seed: int, *sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for height, width in sizes]


def alone(member: Member, view: np.ndarray) -> np.ndarray:
    return member.run(view[np.newaxis].astype(np.float32))[0]


# -- opinions


@pytest.mark.parametrize(("photos", "views"), [(1, 1), (1, 50), (5, 10), (16, 1), (17, 1), (3, 16), (33, 2)])
def test_views_of_all_photos_run_together_and_each_is_what_it_is_alone(
    spied: tuple[Member, list[tuple[int, ...]]], photos: int, views: int
) -> None:
    member, batches = spied
    given = [noise(number, *[(32, 32)] * views) for number in range(photos)]
    found = member.opinions(given)
    sizes = [shape[0] for shape in batches]
    assert sum(sizes) == photos * views and max(sizes) <= BATCH
    assert len(sizes) == -(-photos * views // BATCH), "no more runs than there must be"
    assert max(sizes) - min(sizes) <= 1, "and none of them of a few left over"
    assert len(found) == photos
    for of_photo, looks in zip(found, given, strict=True):
        assert of_photo.probabilities.shape == (views, 10) and of_photo.probabilities.dtype == np.float32
        assert of_photo.familiarity is None
        for said, view in zip(of_photo.probabilities, looks, strict=True):
            np.testing.assert_array_equal(said, alone(member, view))


def test_views_of_several_sizes_stay_in_their_places(spied: tuple[Member, list[tuple[int, ...]]]) -> None:
    member, batches = spied
    sizes = [(32, 32), (64, 64), (32, 48), (64, 64), (48, 32), (32, 32), (128, 160)]
    given = [noise(1, *sizes), [], noise(2, *sizes[::-1]), *(noise(n, (64, 64)) for n in range(3, 9))]
    found = member.opinions(given)
    for of_photo, looks in zip(found, given, strict=True):
        for said, view in zip(of_photo.probabilities, looks, strict=True):
            np.testing.assert_array_equal(said, alone(member, view))
    batches = batches[: -sum(map(len, given))]  # without those of `alone`
    assert len({shape[1:] for shape in batches}) == 5, "those of one size together"
    for many, height, width, _ in batches:
        assert many == 1 or many * height * width <= BATCH * 32 * 32, "larger ones fewer at a time"
    assert max(shape[0] for shape in batches if shape[1:3] == (64, 64)) == BATCH // 4


def test_no_photos_and_photos_without_views(spied: tuple[Member, list[tuple[int, ...]]]) -> None:
    member, batches = spied
    assert member.opinions([]) == []
    (found,) = member.opinions([[]])
    assert found.probabilities.shape == (0, 10) and not batches


def test_the_views_are_not_changed(spied: tuple[Member, list[tuple[int, ...]]]) -> None:
    member, _ = spied
    (view,) = noise(1, (32, 32))
    view.setflags(write=False)
    before = view.copy()
    member.opinions([[view, view]])
    np.testing.assert_array_equal(view, before)


def test_views_may_lie_in_memory_in_any_way(spied: tuple[Member, list[tuple[int, ...]]]) -> None:
    member, _ = spied
    large, view = noise(1, (64, 64), (32, 32))
    ways = [
        view, view[:, ::-1], view[::-1], view[::-1, ::-1], view[:, :, ::-1], view[:, ::-1, ::-1], large[7:39, 9:41],
        large[7:39, 9:41][:, ::-1], large[::2, ::2], large[::2, ::-2], np.asfortranarray(view),
        np.asfortranarray(view)[:, ::-1], view.transpose(1, 0, 2),
    ]  # fmt: skip
    (found,) = member.opinions([ways])
    for said, way in zip(found.probabilities, ways, strict=True):
        np.testing.assert_array_equal(said, alone(member, way.copy(order="C")))


@pytest.mark.parametrize("size", [(90, 61), (61, 90), (47, 47)], ids=str)
def test_multi_crop_equals_fifty_separate_calls(tiny: Path, size: tuple[int, int]) -> None:
    """Cut by plain Pillow, named one by one: a squashed crop of the network's own size is itself."""
    photo, side = picture(*size), 47
    short = min(size)
    width, height = (int(side * length / short) for length in size)
    resized = photo.resize((width, height), Image.Resampling.BICUBIC)
    crops = []
    for way in (resized, resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
        across, down = way.width - 32, way.height - 32
        for y in [round(down * i / 4) for i in range(5)]:
            for x in [round(across * i / 4) for i in range(5)]:
                crops.append(way.crop((x, y, x + 32, y + 32)))
    with photolabel.load(tiny, recipe="keras", threads=1) as plain:
        each = np.stack([plain.classify(crop).probabilities for crop in crops])
    with photolabel.load(tiny, views="multi-crop", scales=[side], threads=1) as classifier:
        found = classifier.classify(photo)
    assert len(crops) == 50 and np.ptp(each, axis=0).max() > 1e-3, "they do differ"
    np.testing.assert_array_equal(found.probabilities, each.mean(axis=0))
    assert found.opinions is not None and found.opinions.members[0].views == 50
    expected = float(np.mean(each.argmax(axis=1) == found.top.index))
    assert found.opinions.agreement == pytest.approx(expected, abs=1e-12)


# -- what goes together


def test_it_says_what_it_is(network: Network, tiny: Path) -> None:
    member = Member(tiny_model(), network.open(), TINY_RECIPE, network)
    assert (member.precision, member.runtime) == ("fp32", "openvino")
    assert member.digest == f"sha256:{hashlib.sha256(tiny.read_bytes()).hexdigest()}"
    assert Member(tiny_model(), network.open(), TINY_RECIPE).digest is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": oracle.TINY_LABELS[:9]}, "tiny names 9 classes but its network has 10"),
        ({"recipe": Recipe(name="large", size=64)}, "takes 32 x 32 pixels, but the recipe large makes 64 x 64"),
    ],
)
def test_what_does_not_go_together(network: Network, change: dict[str, Any], says: str) -> None:
    recipe = change.pop("recipe", TINY_RECIPE)
    with pytest.raises(InvalidModelError, match=says):
        Member(replace(tiny_model(), **change), network.open(), recipe, network)


def test_a_network_of_something_else(network: Network) -> None:
    maps = network.open(engine.Cut(layers=("block2_pool",), only=True))
    with pytest.raises(InvalidModelError, match="from pixels .* to probabilities"):
        Member(tiny_model(), maps, TINY_RECIPE, network)


def test_one_view_without_probabilities_is_enough(tmp_path: Path) -> None:
    """A network without its softmax is found out whichever photo of a batch shows it."""
    spec = replace(oracle.TINY, activation="linear")
    path = tmp_path / "linear.onnx"
    built = graph.build(spec, oracle.he_normal(spec), models.CAFFE, describe=tiny_model().describe())
    path.write_bytes(b"".join(built))
    network = Network(path=path, precision="fp32", threads=1, runtime="openvino")
    member = Member(tiny_model(), network.open(), TINY_RECIPE, network)
    with pytest.raises(InvalidModelError, match="Does it end before its softmax"):
        member.opinions([noise(1, *[(32, 32)] * 20)])


# -- parts, and the end


def test_parts_are_kept_until_another_is_asked_for(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    member = Member(tiny_model(), network.open(), TINY_RECIPE, network)
    cut, other = (engine.Cut(layers=(name,), only=True) for name in ("fc1", "fc2"))
    first = member.part(cut)
    assert member.part(cut) is first
    second = member.part(other)
    assert second is not first
    pixels = images.prepare(picture(), TINY_RECIPE)[np.newaxis]
    assert first(pixels).shape == (1, 16), "whoever is at work with it is not disturbed"
    assert member.layer_before_classes() == "fc2"
    with pytest.raises(UsageError, match="no layer 'fc3'"):
        member.part(engine.Cut(layers=("fc3",), only=True))


def test_one_that_was_not_loaded_has_no_parts(network: Network) -> None:
    member = Member(tiny_model(), network.open(), TINY_RECIPE)
    for asked in (member.layer_before_classes, lambda: member.part(engine.Cut(layers=("fc2",), only=True))):
        with pytest.raises(UsageError, match=r"made by photolabel\.load"):
            asked()


def test_closed_it_says_so(network: Network) -> None:
    member = Member(tiny_model(), network.open(), TINY_RECIPE, network)
    part = member.part(engine.Cut(layers=("fc2",), only=True))
    member.close()
    member.close()
    pixels = images.prepare(picture(), TINY_RECIPE)[np.newaxis]
    for asked in (
        lambda: member.run(pixels),
        lambda: member.opinions([noise(1, (32, 32))]),
        lambda: member.part(engine.Cut(layers=("fc1",), only=True)),
        lambda: part(pixels),
    ):
        with pytest.raises(UsageError, match="closed"):
            asked()
