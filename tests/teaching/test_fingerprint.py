"""Fingerprints: exact, the same everywhere, near for copies, far for others, and none of what shows nothing."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from photolabel.errors import UsageError
from photolabel.images import LITE2, read, views
from photolabel.teaching.doubts import BITS
from photolabel.teaching.fingerprint import BYTES, _averages, fingerprint

from conftest import ROOT

SIZE = 260
KNOWN = "f11681430f279692522d367260d8f9b610a94652a232da47233885b2dcc725b8"


def picture(seed: int, size: tuple[int, int] = (SIZE, SIZE)) -> Image.Image:
    """Patches of colour with soft edges."""
    rng = np.random.default_rng(seed)
    rough = Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8))
    return rough.resize(size, Image.Resampling.BICUBIC)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def apart(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.unpackbits(fingerprint(one) ^ fingerprint(other)).sum())


def saved(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def smaller(image: Image.Image, times: int) -> Image.Image:
    return image.resize((image.width // times, image.height // times), Image.Resampling.BICUBIC)


def cut(image: Image.Image, share: float) -> Image.Image:
    x, y = round(share * image.width / 2), round(share * image.height / 2)
    return image.crop((x, y, image.width - x, image.height - y))


def marked(image: Image.Image) -> Image.Image:
    """With a light band that lets half of what is below it through."""
    copy, (width, height) = image.copy(), image.size
    band = (round(0.7 * width), round(0.88 * height), round(0.97 * width), round(0.96 * height))
    below = copy.crop(band)
    copy.paste(Image.blend(below, Image.new("RGB", below.size, "white"), 0.5), band)
    return copy


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved again": lambda image: saved(image, 30),
    "smaller": lambda image: smaller(image, 4),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "marked": marked,
}


def frequencies(view: np.ndarray) -> list[list[Fraction]]:
    """By the definition, place by place, with exact fractions until the cosines come: what each bit is the sign of."""
    height, width, _ = view.shape
    grey = [[77 * int(r) + 150 * int(g) + 29 * int(b) for r, g, b in row] for row in view]

    def parts(length: int) -> list[list[tuple[int, Fraction]]]:
        edges = [(Fraction(i * length, 32), Fraction((i + 1) * length, 32)) for i in range(32)]
        return [
            [(p, min(high, p + 1) - max(low, p)) for p in range(length) if min(high, p + 1) > max(low, p)]
            for low, high in edges
        ]

    rows, columns = parts(height), parts(width)
    cells = [
        [
            math.floor(
                sum(grey[y][x] * across * down for y, down in row for x, across in column)
                / Fraction(height * width, 32 * 32)
            )
            for column in columns
        ]
        for row in rows
    ]
    cosine = [[round(4096 * math.cos(math.pi * k * (2 * p + 1) / 64)) for p in range(32)] for k in range(16)]
    half = [[sum(cosine[u][y] * cells[y][x] for y in range(32)) for x in range(32)] for u in range(16)]
    return [[Fraction(sum(half[u][x] * cosine[v][x] for x in range(32))) for v in range(16)] for u in range(16)]


@pytest.mark.parametrize("size", [(20, 20), (33, 47), (64, 32)])
def test_a_bit_is_the_sign_of_a_frequency(size: tuple[int, int]) -> None:
    view = np.asarray(picture(1, size))
    bits = np.unpackbits(fingerprint(view)).reshape(16, 16)
    wanted = np.array([[each > 0 for each in row] for row in frequencies(view)])
    assert bits[0, 0] == 1, "there is one"
    assert (bits == wanted).all()


def test_no_cosine_is_rounded_by_a_hair() -> None:
    """Libraries of mathematics differ in the last digit: none of the whole numbers made of cosines depends on it."""
    parts = [4096 * math.cos(math.pi * k * (2 * p + 1) / 64) % 1 for k in range(16) for p in range(32)]
    assert min(abs(part - 0.5) for part in parts) > 0.01


def test_it_is_what_it_was() -> None:
    """Fingerprints that are kept must stay those of new photos: bump the format of what is kept where this fails."""
    coarse = (np.arange(13 * 13 * 3) ** 2 * 7 % 251).astype(np.uint8).reshape(13, 13, 3)
    view = np.repeat(np.repeat(coarse, 20, axis=0), 20, axis=1)
    assert fingerprint(view).tobytes().hex() == KNOWN
    assert fingerprint(np.asfortranarray(view)).tobytes().hex() == KNOWN
    frozen = view.copy()
    frozen.setflags(write=False)
    assert fingerprint(frozen).tobytes().hex() == KNOWN


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_copies_are_near(copy: Callable[[Image.Image], Image.Image]) -> None:
    for seed in range(10):
        image = picture(seed)
        assert apart(pixels(image), pixels(copy(image))) <= BITS


def test_others_are_far() -> None:
    found = [fingerprint(pixels(picture(seed))) for seed in range(40)]
    bits = [int(np.unpackbits(one ^ other).sum()) for one, other in combinations(found, 2)]
    assert min(bits) > 1.5 * BITS and 120 < np.mean(bits) < 135


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_copies_of_photos_are_near(copy: Callable[[Image.Image], Image.Image]) -> None:
    photos = sorted((ROOT / "samples").glob("*.jpg"))
    if not photos:
        pytest.skip("the samples are not beside these tests")
    for path in photos:
        image = read(path)
        one, other = (views(each, LITE2)[0] for each in (image, copy(image)))
        assert apart(one, other) <= BITS


def smooth(seed: int) -> np.ndarray:
    """A gradient of three colours, as of skies and studios' backgrounds."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:400, :400] / 400
    planes = [a * x + b * y + c * x * y + d * x**2 + e * y**2 for a, b, c, d, e in rng.normal(size=(3, 5))]
    found = np.stack(planes, axis=-1)
    found = (found - found.min()) / (found.max() - found.min()) * rng.uniform(60, 255)
    return found.astype(np.uint8)


def test_what_shows_nothing_has_none() -> None:
    rng = np.random.default_rng(0)
    flat = [np.full((SIZE, SIZE, 3), colour, np.uint8) for colour in (0, 1, 77, 128, 255)]
    faint = [rng.integers(126, 130, (SIZE, SIZE, 3)).astype(np.uint8) for _ in range(5)]
    walls = [(rng.normal(120, 6, (400, 400, 3))).clip(0, 255).astype(np.uint8) for _ in range(5)]
    gradients = [smooth(seed) for seed in range(10)]
    stripes = np.zeros((SIZE, SIZE, 3), np.uint8)
    stripes[:, ::40] = 255  # along one side only: 15 frequencies of 255
    for view in (*flat, *faint, stripes):
        assert not fingerprint(view).any()
    for rough in (*flat, *walls, *gradients):
        for quality in (30, 75, 95):
            assert not fingerprint(pixels(saved(Image.fromarray(rough), quality))).any()


def test_little_on_a_plain_ground_is_enough() -> None:
    y, x = np.mgrid[:SIZE, :SIZE]
    found = []
    for place in (60, 130, 200):
        view = np.full((SIZE, SIZE, 3), 255, np.uint8)
        view[(y - 120) ** 2 + (x - place) ** 2 < 20**2] = 20
        found.append(fingerprint(view))
    assert all(each[0] & 0x80 for each in found)
    assert min(int(np.unpackbits(a ^ b).sum()) for a, b in combinations(found, 2)) > BITS


def test_one_pixel_is_a_view_too() -> None:
    assert not fingerprint(np.full((1, 1, 3), 9, np.uint8)).any()
    assert fingerprint(np.asarray(picture(1, (3, 2)))).shape == (BYTES,)


def test_averages_are_exact() -> None:
    """Sums over so many pixels are beyond what float32 holds."""
    view = np.random.default_rng(0).integers(0, 256, (1024, 2048, 3), np.uint8)
    grey = view.astype(np.int64) @ np.array([77, 150, 29])
    assert (_averages(view) == grey.reshape(32, 32, 32, 64).sum(axis=(1, 3)) // 2048).all()


def test_the_largest_view() -> None:
    white = np.broadcast_to(np.uint8(255), (4096, 4096, 3))
    assert not fingerprint(white).any()
    view = np.asarray(picture(3, (64, 64)))
    large = np.repeat(np.repeat(view, 64, axis=0), 64, axis=1)
    assert (fingerprint(large) == fingerprint(view)).all()


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(UsageError, match="expected pixels"):
        fingerprint(wrong)


def test_real_photos(shared: Path) -> None:
    photos = sorted((shared / "imagenet100").iterdir())[:25]
    found = []
    for path in photos:
        image = read(path)
        one = views(image, LITE2)[0]
        for copy in COPIES.values():
            assert apart(one, views(copy(image), LITE2)[0]) <= BITS
        found.append(fingerprint(one))
    assert all(each.any() for each in found)
    assert min(int(np.unpackbits(a ^ b).sum()) for a, b in combinations(found, 2)) > 1.5 * BITS
