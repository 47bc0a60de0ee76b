"""From a photo to the network's input, with what became of it; and JPEGs decoded at a part of their size."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from photolabel import errors, images
from photolabel.decoding import decode
from photolabel.images import CROP, DEFAULT_LIMITS, KERAS, LITE2, Limits, Recipe
from photolabel.prepared import Decoding, File, Prepared, Seconds, inputs, prepare, refused

import oracle
from pictures import CORE, JPEG, PNG, encoded, exif_block, far, large, picture, wide_profile

RECIPE = oracle.TINY_RECIPE


def whole(photo: images.Photo, recipe: Recipe) -> np.ndarray:
    """The input as it is made of all pixels."""
    return images.prepare(images.read(photo), recipe)


# --- What is told of a photo ------------------------------------------------------------------------

TOLD: dict[str, tuple[bytes, dict[str, object]]] = {
    "turned jpeg": (encoded(picture(), "JPEG", exif=exif_block(6)), {"orientation": 6}),
    "grey jpeg": (encoded(picture(mode="L"), "JPEG"), {"mode": "L"}),
    "cmyk jpeg": (encoded(picture(mode="CMYK"), "JPEG"), {"mode": "CMYK"}),
    "jpeg with a profile": (encoded(picture(), "JPEG", icc_profile=wide_profile()), {"profile": True}),
    "png": (PNG, {"format": "PNG"}),
    "png with alpha": (encoded(picture(mode="RGBA"), "PNG"), {"format": "PNG", "mode": "RGBA", "transparent": True}),
    "16-bit png": (
        encoded(Image.fromarray(np.full((120, 160), 40_000, np.uint16)), "PNG"),
        {"format": "PNG", "mode": "I;16"},
    ),
    "turned tiff": (encoded(picture(), "TIFF", tiffinfo={274: 6}), {"format": "TIFF", "width": 120, "height": 160}),
    "webp": (CORE["webp"], {"format": "WebP"}),
    "gif": (CORE["gif"], {"format": "GIF"}),
    "bmp": (CORE["bmp"], {"format": "BMP"}),
    "avif": (CORE["avif"], {"format": "AVIF"}),
    "turned avif": (encoded(picture(), "AVIF", exif=exif_block(6)), {"format": "AVIF", "orientation": 6}),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_the_decoder_made_of_it(name: str, tmp_path: Path) -> None:
    data, said = TOLD[name]
    path = tmp_path / "photo"
    path.write_bytes(data)
    plain = {
        "format": "JPEG", "width": 160, "height": 120, "orientation": 1, "scale": 1, "mode": "RGB", "profile": False,
        "transparent": False,
    }  # fmt: skip
    expected = Decoding(**{**plain, **said})
    for photo in (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data)):
        made = prepare(photo, RECIPE)
        assert made.error is None
        if made.decoding is not None and made.decoding.mode == "P":  # GIF: Pillow's versions differ
            made = Prepared(**{**vars(made), "decoding": Decoding(**{**plain, **said})})
        assert made.decoding == expected
        assert made.file == File(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        assert made.photo == (str(path) if isinstance(photo, str | Path) else None)
        assert made.pixels is not None and made.pixels.dtype == np.uint8 and made.pixels.shape == (32, 32, 3)
        np.testing.assert_array_equal(made.pixels, whole(data, RECIPE))
        assert made.seconds.reading >= 0 and made.seconds.decoding > 0
        again = pickle.loads(pickle.dumps(made))
        assert (again.file, again.decoding, again.seconds) == (made.file, made.decoding, made.seconds)
        np.testing.assert_array_equal(again.pixels, made.pixels)


def test_a_photo_from_memory_has_no_file() -> None:
    for photo in (picture(), np.asarray(picture())):
        made = prepare(photo, RECIPE, name="mine")
        assert (made.photo, made.file, made.decoding, made.error) == ("mine", None, None, None)
        np.testing.assert_array_equal(made.pixels, whole(picture(), RECIPE))


def test_an_error_comes_with_what_is_known(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(JPEG[:-500])
    for data in (JPEG[:-500], b"", b"no photo at all"):
        broken.write_bytes(data)
        made = prepare(broken, RECIPE)
        assert isinstance(made.error, errors.PhotoError) and made.pixels is None and made.decoding is None
        assert made.file == File(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data)), (
            "corrupt, but it is this one"
        )
    missing = prepare(tmp_path / "none.jpg", RECIPE)
    assert isinstance(missing.error, errors.PhotoNotFoundError) and missing.file is None
    large_file = prepare(JPEG, RECIPE, limits=Limits(file_bytes=100))
    assert isinstance(large_file.error, errors.PhotoTooLargeError) and large_file.file is None
    with pytest.raises(errors.UsageError):
        prepare(np.zeros((3, 3)), RECIPE)  # type: ignore[arg-type]


def test_an_error_keeps_nothing_alive(tmp_path: Path) -> None:
    def caught() -> errors.PhotoError:
        try:
            raise errors.CorruptPhotoError("The archive is broken.") from OSError()
        except errors.PhotoError as error:
            return error

    for made in (prepare(JPEG[:-500], RECIPE), prepare(tmp_path / "none", RECIPE), refused("a", caught())):
        assert made.error is not None
        assert made.error.__traceback__ is made.error.__cause__ is made.error.__context__ is None
        again = pickle.loads(pickle.dumps(made)).error
        assert type(again) is type(made.error) and str(again) == str(made.error)
    assert caught().__traceback__ is not None, "which this would notice"


def test_records_are_frozen_and_prepared_photos_are_told_apart_by_identity() -> None:
    made = prepare(PNG, RECIPE)
    assert made == made and made != prepare(PNG, RECIPE)  # not: "the truth value of an array is ambiguous"
    for record in (made, made.file, made.decoding, Seconds()):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, dataclasses.fields(record)[0].name, None)  # type: ignore[arg-type]


# --- Several views ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["one", "mirror", "ten-crop", "multi-crop", "dense"])
@pytest.mark.parametrize("scales", [(), (40, 64)], ids=str)
def test_all_views_of_a_photo(how: str, scales: tuple[int, ...], tmp_path: Path) -> None:
    recipe = replace(RECIPE, views=how, scales=scales)  # type: ignore[arg-type]
    made = prepare(PNG, recipe)
    expected = images.views(images.read(PNG), recipe)
    assert len(made.views) == len(expected) == recipe.inputs
    for view, other in zip(made.views, expected, strict=True):
        np.testing.assert_array_equal(view, other)
    assert made.pixels is made.views[0]
    again = pickle.loads(pickle.dumps(made))
    assert [view.tobytes() for view in again.views] == [view.tobytes() for view in made.views]
    broken = prepare(JPEG[:-500], recipe)
    assert broken.views == () and broken.pixels is None and broken.error is not None
    with pytest.raises(AttributeError):
        made.pixels = None  # type: ignore[misc]


def test_inputs_are_of_one_view() -> None:
    assert len(list(inputs([PNG, JPEG], RECIPE))) == 2
    scaled = replace(RECIPE, scales=(50,))
    (pixels,) = inputs([PNG], scaled)
    np.testing.assert_array_equal(pixels, whole(PNG, replace(RECIPE, side=50)))
    with pytest.raises(errors.UsageError, match="one input a photo, this one has 4"):
        inputs([PNG], replace(RECIPE, views="mirror", scales=(36, 50)))


def test_several_views_of_a_large_jpeg(jpeg_24mp: bytes) -> None:
    full = images.read(jpeg_24mp)
    for recipe, scale in (
        (replace(CROP, views="ten-crop"), 4),
        (replace(CROP, views="dense", scales=(256, 512)), 2),
        (replace(LITE2, views="ten-crop", scales=(292, 584)), 2),
    ):
        made = prepare(jpeg_24mp, recipe)
        assert made.decoding is not None and made.decoding.scale == scale
        for view, other in zip(made.views, images.views(full, recipe), strict=True):
            apart = np.abs(view.astype(int) - other)
            assert apart.mean() < MEAN and apart.max() < MOST, recipe


# --- A part of the size -----------------------------------------------------------------------------

# The filter has what it needs, twice the pixels; what is left are its tails, and the rounding of the decoder's own
# average to 8 bits, one level or so. Where the recipe's geometry was rounded to the larger pixels, the same photos
# moved by up to half a pixel, which gave means of 2 to 5 and single values of 70.
MEAN, MOST = 1.5, 20


@pytest.fixture(scope="module")
def jpeg_24mp() -> bytes:
    return encoded(large(6000, 4000), "JPEG", quality=90)


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size(jpeg_24mp: bytes) -> None:
    full = images.read(jpeg_24mp)
    small = Recipe(name="small", size=112, side=128, fit="resize-crop", filter="lanczos")
    squash = Recipe(name="squash", size=224, fit="squash", filter="box")
    for recipe, scale in ((small, 8), (CROP, 4), (LITE2, 4), (squash, 8), (images.CROP_BILINEAR, 4)):
        made = prepare(jpeg_24mp, recipe)
        assert made.decoding is not None and made.pixels is not None
        assert (made.decoding.scale, made.decoding.width, made.decoding.height) == (scale, 6000, 4000)
        apart = np.abs(images.prepare(full, recipe) - made.pixels)
        assert 0 < apart.mean() < MEAN and apart.max() < MOST, recipe
    for recipe in (KERAS, Recipe(name="theirs", size=100, side=120, fit="crop-resize", filter="nearest")):
        made = prepare(jpeg_24mp, recipe)
        assert made.decoding is not None and made.decoding.scale == 1
        np.testing.assert_array_equal(made.pixels, images.prepare(full, recipe))


@pytest.mark.parametrize(("side", "scale"), [(1023, 1), (1024, 2), (2047, 2), (2048, 4), (4096, 8), (8191, 8)])
def test_what_is_enough(side: int, scale: int) -> None:
    data = encoded(picture(side + 7, side), "JPEG")
    made = prepare(data, Recipe(name="x", size=200, side=256, fit="resize-crop"))
    assert made.decoding is not None and (made.decoding.scale, made.decoding.height) == (scale, side)
    made = prepare(encoded(picture(side, side + 7), "JPEG"), Recipe(name="x", size=256))
    assert made.decoding is not None and (made.decoding.scale, made.decoding.width) == (scale, side)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("recipe", [CROP, LITE2], ids=lambda recipe: recipe.name)
def test_turned_and_of_any_mode(turn: int, mode: str, recipe: Recipe) -> None:
    """Also where the last row and column of the smaller picture stand for a part of their pixels only."""
    data = encoded(picture(1391, 1187, mode), "JPEG", exif=exif_block(turn), quality=95, progressive=turn % 2 == 0)
    made = prepare(data, recipe, limits=DEFAULT_LIMITS)
    assert made.decoding is not None and made.pixels is not None
    assert (made.decoding.scale, made.decoding.orientation, made.decoding.mode) == (2, turn, mode)
    assert (made.decoding.width, made.decoding.height) == (1391, 1187)
    apart = np.abs(whole(data, recipe) - made.pixels)
    assert apart.mean() < MEAN and apart.max() < MOST
    assert far(made.pixels, np.roll(made.pixels, 2, axis=1)) > MEAN, "a shift would show"


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_is_cut_short_is_refused_at_every_scale(progressive: bool) -> None:
    data = encoded(large(1280, 1100), "JPEG", quality=75, progressive=progressive)
    pixels_begin = data.index(b"\xff\xda")
    for enough, scale in ((None, 1), (512, 2), (256, 4), (128, 8)):
        assert decode(data, DEFAULT_LIMITS, enough=enough).info["scale"] == scale
        for end in np.linspace(pixels_begin, len(data) - 40, 12, dtype=int):
            with pytest.raises(errors.CorruptPhotoError):
                decode(data[:end], DEFAULT_LIMITS, enough=enough)


def test_limits_are_of_the_whole_photo() -> None:
    data = encoded(picture(1280, 1200), "JPEG")
    assert prepare(data, CROP, limits=Limits(pixels=1280 * 1200)).error is None
    made = prepare(data, CROP, limits=Limits(pixels=1280 * 1200 - 1))
    assert isinstance(made.error, errors.PhotoTooLargeError)


def test_only_jpegs_come_smaller() -> None:
    for kind in ("PNG", "WEBP", "TIFF", "BMP"):
        made = prepare(encoded(picture(1300, 1200), kind), CROP)
        assert made.decoding is not None and made.decoding.scale == 1
        np.testing.assert_array_equal(made.pixels, whole(encoded(picture(1300, 1200), kind), CROP))


def test_a_long_strip() -> None:
    """Of which the filter is asked for a window only: see `images`."""
    data = encoded(large(20_000, 1100), "JPEG")
    made = prepare(data, CROP)
    assert made.decoding is not None and made.pixels is not None and made.decoding.scale == 2
    assert np.abs(whole(data, CROP) - made.pixels).mean() < MEAN


@pytest.mark.parametrize("recipe", [CROP, LITE2], ids=lambda recipe: recipe.name)
def test_real_photos_differ_little(recipe: Recipe, shared: Path) -> None:
    reduced = 0
    for path in sorted((shared / "camera").glob("*.jpg")):
        made = prepare(path, recipe)
        assert made.decoding is not None and made.pixels is not None
        apart = np.abs(whole(path, recipe) - made.pixels)
        assert apart.mean() < MEAN and apart.max() < MOST, path.name
        reduced += made.decoding.scale > 1
    assert reduced >= 5
