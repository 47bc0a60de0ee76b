"""Every recipe, and every view of a photo, beside torchvision's transforms written out in Pillow."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from photolabel import errors
from photolabel.images import CROP, CROP_BILINEAR, KERAS, LITE2, RECIPES, Recipe, cut, fit, prepare, read, views

from costs import cheap
from pictures import JPEG, PNG, encoded, far, picture

FLIP = Image.Transpose.FLIP_LEFT_RIGHT

sides = st.integers(1, 700)


# --- One input ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.sampled_from(sorted(RECIPES)))
def test_every_shape_gives_the_recipes_input(width: int, height: int, name: str) -> None:
    recipe = RECIPES[name]
    image = picture(width, height)
    before = image.tobytes()
    result = prepare(image, recipe)
    assert result.shape == (recipe.size, recipe.size, 3)
    assert result.dtype == np.float32 and result.flags.c_contiguous and result.flags.writeable
    assert result.min() >= 0 and result.max() <= 255
    assert image.tobytes() == before


def test_keras_recipe_is_load_img() -> None:
    """load_img(target_size=(224, 224)) and img_to_array, written out."""
    for data in (JPEG, PNG, encoded(picture(224, 224), "PNG"), encoded(picture(301, 77), "JPEG")):
        literal = Image.open(io.BytesIO(data))
        if literal.size != (224, 224):
            literal = literal.resize((224, 224), Image.Resampling.NEAREST)
        expected = np.asarray(literal, dtype="float32")
        assert (prepare(read(data), KERAS) == expected).all()


@settings(max_examples=40, deadline=None)
@given(sides, sides)
def test_crop_recipe_is_torchvisions(width: int, height: int) -> None:
    """Resize(256, BICUBIC) and CenterCrop(224), written out; also for shapes that are windowed here."""
    image = picture(width, height)
    short, long = sorted(image.size)
    size = (256, int(256 * long / short)) if width <= height else (int(256 * long / short), 256)
    whole = image.resize(size, Image.Resampling.BICUBIC)
    top, left = round((size[1] - 224) / 2.0), round((size[0] - 224) / 2.0)
    expected = np.asarray(whole.crop((left, top, left + 224, top + 224)), np.float32)
    result = prepare(image, CROP)
    if max(size) <= 16 * 256:
        assert (result == expected).all()
    else:
        difference = np.abs(result - expected)
        assert difference.max() <= 2 and (difference > 0).mean() < 0.01  # fixed-point sums round otherwise


@settings(max_examples=40, deadline=None)
@given(sides, sides)
def test_lite_recipe_is_efficientnets(width: int, height: int) -> None:
    image = picture(width, height)
    square = max(1, round(260 / 292 * min(width, height)))
    left, top = (width - square) // 2, (height - square) // 2
    expected = image.crop((left, top, left + square, top + square)).resize((260, 260), Image.Resampling.BICUBIC)
    assert (prepare(image, LITE2) == np.asarray(expected, np.float32)).all()


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1), (3, 65_000), (1, 1)])
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_extreme_shapes_make_no_giant(size: tuple[int, int], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resize = Image.Image.resize

    def bounded(self: Image.Image, to: tuple[int, int], *rest: object, **more: object) -> Image.Image:
        assert to[0] * to[1] <= 16 * 256 * 256
        return resize(self, to, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", bounded)
    with cheap(seconds=1):
        assert prepare(picture(*size), RECIPES[name]).shape[2] == 3


def test_prepare_takes_rgb_only() -> None:
    with pytest.raises(errors.UsageError, match="RGB"):
        prepare(picture(mode="L"), KERAS)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda r: r.name)
def test_recipes_survive_a_dict(recipe: Recipe) -> None:
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0}, {"size": 5000}, {"size": "224"}, {"size": True}, {"size": 224.0}, {"fit": "pad"},
        {"fit": []}, {"side": 200}, {"side": None}, {"side": 5000}, {"filter": "cubic"}, {"filter": []},
        {"name": ""},
        {"name": 3}, {"name": "x" * 65}, {"name": "a\nb"}, {"fit": "squash"}, {"more": 1}, {"__class__": 1},
    ],
    ids=str,
)  # fmt: skip
def test_strange_recipes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidModelError):
        Recipe.from_dict({**CROP.to_dict(), **change})


def test_recipes_that_are_no_dict() -> None:
    for values in (None, [], "keras", {}, {1: 2}):
        with pytest.raises(errors.InvalidModelError):
            Recipe.from_dict(values)
    short = CROP.to_dict()
    del short["side"]
    with pytest.raises(errors.InvalidModelError):
        Recipe.from_dict(short)
    with pytest.raises(errors.UsageError):
        Recipe(name="x", size=0, fit="squash", side=None, filter="nearest")


# --- Which views there are ------------------------------------------------------------------------

TEN = replace(CROP, views="ten-crop")
SMALL = Recipe(name="small", size=32, fit="resize-crop", side=40, filter="bilinear")
SMALL_LITE = Recipe(name="small", size=32, fit="crop-resize", side=40, filter="bicubic")


@pytest.mark.parametrize(
    ("recipe", "inputs", "sides"),
    [
        (CROP, 1, (256,)),
        (KERAS, 1, (224,)),
        (replace(KERAS, views="mirror"), 2, (224,)),
        (replace(CROP, scales=(384,)), 1, (384,)),
        (replace(CROP, views="mirror", scales=(256, 384, 512)), 6, (256, 384, 512)),
        (replace(LITE2, views="ten-crop", scales=(320, 292)), 20, (320, 292)),
        (replace(CROP, views="multi-crop", scales=(256, 384, 512)), 150, (256, 384, 512)),
        (replace(CROP, views="dense", scales=(256, 384, 512)), 6, (256, 384, 512)),
    ],
    ids=lambda value: value.views if isinstance(value, Recipe) else None,
)
def test_how_many_inputs_a_photo_gives(recipe: Recipe, inputs: int, sides: tuple[int, ...]) -> None:
    assert (recipe.inputs, recipe.sides) == (inputs, sides)
    assert recipe.enough == (None if recipe.filter == "nearest" else 2 * max(sides))
    assert recipe.plain.inputs == 1 and recipe.plain.sides == sides[:1]
    image = picture(210, 150)
    made = views(image, recipe)
    assert len(made) == inputs and sum(view.nbytes for view in made) <= recipe.most_bytes
    assert recipe.allows([(view.shape[0], view.shape[1]) for view in made])
    for view in made:
        assert view.dtype == np.uint8 and view.ndim == 3 and view.shape[2] == 3
        assert view.flags.c_contiguous or view[:, ::-1].flags.c_contiguous
    if recipe.views in ("one", "mirror"):
        np.testing.assert_array_equal(made[0], np.asarray(fit(image, recipe)))
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe and hash(again) == hash(recipe)


def test_a_recipe_of_before_is_written_as_it_was() -> None:
    """In files that are there, and in the questions to workers."""
    assert json.dumps(CROP.to_dict()) == (
        '{"name": "crop", "size": 224, "fit": "resize-crop", "side": 256, "filter": "bicubic"}'
    )
    assert list(replace(CROP, views="mirror").to_dict()) == ["name", "size", "fit", "side", "filter", "views"]
    assert replace(CROP, scales=(300,)).to_dict()["scales"] == [300]
    assert Recipe.from_dict({**CROP.to_dict(), "views": "one", "scales": []}) == CROP


@pytest.mark.parametrize(
    "change",
    [
        {"views": "two"}, {"views": ["one"]}, {"views": None}, {"views": 1}, {"scales": 256}, {"scales": None},
        {"scales": "256"}, {"scales": [223]}, {"scales": [4097]}, {"scales": [256, 256]}, {"scales": [256.0]},
        {"scales": [True]}, {"scales": [[256]]}, {"scales": ["256"]}, {"scales": [*range(256, 265)]},
        {"scales": {"256": 1}}, {"views": "dense", "scales": [1025]}, {"views": "dense", "side": 2000},
        {"views": "multi-crop", "size": 1000, "side": 1000},
        {"views": "dense", "scales": [1024, 1023, 1022, 1021, 1020, 1019]},
    ],
    ids=str,
)  # fmt: skip
def test_strange_views_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidModelError, match="makes no sense"):
        Recipe.from_dict({**CROP.to_dict(), **change})


def test_views_are_bounded_where_their_bytes_are() -> None:
    assert replace(CROP, views="dense", scales=(1024, 1023, 1022, 1021, 1020)).most_bytes <= 2**27
    assert replace(CROP, views="multi-crop", scales=tuple(range(249, 257))).inputs == 400
    with pytest.raises(errors.UsageError, match="not take more than 128 MB, these take 143 MB"):
        Recipe(name="x", size=1000, fit="resize-crop", side=1000, views="multi-crop")
    with pytest.raises(errors.UsageError, match="from its size, 224, to 1024: that is as far as dense goes"):
        replace(CROP, views="dense", scales=(1025,))
    with pytest.raises(errors.UsageError, match="at most 8 whole numbers from 1 to 4096"):
        replace(CROP, scales=(4097,))


@pytest.mark.parametrize(
    "change", [{"views": "ten-crop"}, {"views": "multi-crop"}, {"views": "dense"}, {"scales": (224,)}], ids=str
)
def test_what_is_squashed_has_no_crops(change: dict[str, object]) -> None:
    with pytest.raises(errors.UsageError, match="squashes .* one or mirror"):
        replace(KERAS, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("recipe", "shapes", "allowed"),
    [
        (CROP, [(224, 224)], True),
        (CROP, [(224, 223)], False),
        (CROP, [], False),
        (CROP, [(224, 224)] * 2, False),
        (TEN, [(224, 224)] * 10, True),
        (TEN, [(224, 224)] * 9, False),
        (replace(CROP, views="dense"), [(256, 1024), (256, 1024)], True),
        (replace(CROP, views="dense"), [(300, 256), (300, 256)], True),
        (replace(CROP, views="dense"), [(256, 1025), (256, 1025)], False),
        (replace(CROP, views="dense"), [(300, 256), (256, 300)], False),
        (replace(CROP, views="dense"), [(300, 257), (300, 257)], False),
        (replace(CROP, views="dense"), [(300, -256), (300, -256)], False),
        (replace(CROP, views="dense"), [(256, 256)], False),
        (replace(CROP, views="dense", scales=(256, 300)), [(256, 256)] * 2 + [(300, 400)] * 2, True),
        (replace(CROP, views="dense", scales=(256, 300)), [(256, 256)] * 4, False),
    ],
)
def test_which_shapes_are_allowed(recipe: Recipe, shapes: list[tuple[int, int]], allowed: bool) -> None:
    assert recipe.allows(shapes) is allowed


def test_views_take_rgb_only() -> None:
    with pytest.raises(errors.UsageError, match="RGB"):
        views(picture(mode="L"), TEN)


# --- What they show -------------------------------------------------------------------------------


# How far two roundings to whole numbers, after the rows and after the columns, may lead from what is exact: half, and
# half times the sum of a filter's weights without their signs. And a hair, for these are sums in fixed point.
ROUNDING = {Image.Resampling.BILINEAR: 1.001, Image.Resampling.BICUBIC: 1.126}


def resized(image: Image.Image, side: int, kind: Image.Resampling) -> np.ndarray:
    """torchvision's Resize(side); unrounded, of a strip, which is made window by window and so rounds otherwise."""
    short, long = sorted(image.size)
    after = int(side * long / short)
    size = (side, after) if image.width <= image.height else (after, side)
    if long <= 16 * short:
        return np.asarray(image.resize(size, kind))
    bands = [np.asarray(band.convert("F").resize(size, kind)) for band in image.split()]
    return np.stack(bands, axis=-1).clip(0, 255)


def ten_crop(image: np.ndarray, size: int) -> list[np.ndarray]:
    """torchvision's TenCrop(size), its five_crop and its center_crop."""
    found = []
    for each in (image, image[:, ::-1]):
        height, width, _ = each.shape
        top, left = round((height - size) / 2.0), round((width - size) / 2.0)
        for x, y in ((0, 0), (width - size, 0), (0, height - size), (width - size, height - size), (left, top)):
            found.append(each[y : y + size, x : x + size])
    return found


def near(made: tuple[np.ndarray, ...], expected: list[np.ndarray], kind: Image.Resampling) -> None:
    assert len(made) == len(expected)
    for one, other in zip(made, expected, strict=True):
        assert one.shape == other.shape and one.dtype == np.uint8
        assert np.abs(one - other.astype(float)).max() <= (0 if other.dtype == np.uint8 else ROUNDING[kind])


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.sampled_from([(), (40,), (32, 47, 64)]))
@example(28, 449, ())
@example(48, 822, (40,))
def test_ten_crops_are_torchvisions(width: int, height: int, scales: tuple[int, ...]) -> None:
    recipe = replace(SMALL, views="ten-crop", scales=scales)
    image = picture(width, height)
    before = image.tobytes()
    whole = [resized(image, side, Image.Resampling.BILINEAR) for side in scales or (40,)]
    expected = [crop for each in whole for crop in ten_crop(each, 32)]
    near(views(image, recipe), expected, Image.Resampling.BILINEAR)
    assert image.tobytes() == before


@settings(max_examples=30, deadline=None)
@given(sides, sides)
def test_a_grid_of_crops_is_regular(width: int, height: int) -> None:
    image = picture(width, height)
    whole = resized(image, 47, Image.Resampling.BILINEAR)
    expected = []
    for each in (whole, whole[:, ::-1]):
        # 0, a quarter, a half ... of the way; the middle is where the one crop is.
        across, down = each.shape[1] - 32, each.shape[0] - 32
        for y in (0, round(down / 4), round(down / 2), round(3 * down / 4), down):
            for x in (0, round(across / 4), round(across / 2), round(3 * across / 4), across):
                expected.append(each[y : y + 32, x : x + 32])
    recipe = replace(SMALL, side=47, views="multi-crop")
    made = views(image, recipe)
    near(made, expected, Image.Resampling.BILINEAR)
    assert np.array_equal(made[12], fit(image, recipe.plain))


@settings(max_examples=30, deadline=None)
@given(sides, sides, st.sampled_from(["ten-crop", "multi-crop"]), st.sampled_from([(), (33, 64)]))
def test_crops_of_what_is_cut_before_it_is_resized(width: int, height: int, how: str, scales: tuple[int, ...]) -> None:
    """EfficientNet's: the middle is the very one that is cut first, all others are of the resized photo."""
    image = picture(width, height)
    recipe = replace(SMALL_LITE, views=how, scales=scales)  # type: ignore[arg-type]
    expected = []
    for side in scales or (40,):
        whole = resized(image, side, Image.Resampling.BICUBIC)
        only = np.asarray(fit(image, replace(SMALL_LITE, side=side)))
        across, down = whole.shape[1] - 32, whole.shape[0] - 32
        middle = (round(across / 2), round(down / 2))
        corners = [(0, 0), (across, 0), (0, down), (across, down), middle]
        quarters = [[0, round(x / 4), round(x / 2), round(3 * x / 4), x] for x in (across, down)]
        places = corners if how == "ten-crop" else [(x, y) for y in quarters[1] for x in quarters[0]]
        for mirrored in (False, True):
            for x, y in places:
                left = across - x if mirrored else x
                crop = only if (left, y) == middle else whole[y : y + 32, left : left + 32]
                expected.append(crop[:, ::-1] if mirrored else crop)
    near(views(image, recipe), expected, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("recipe", [CROP, CROP_BILINEAR, LITE2, SMALL], ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("how", ["one", "mirror"])
def test_one_and_its_mirror_at_every_scale(recipe: Recipe, how: str) -> None:
    scales = (recipe.size, recipe.size + 33)
    image = picture(251, 190)
    made = views(image, replace(recipe, views=how, scales=scales))  # type: ignore[arg-type]
    expected = []
    for side in scales:
        one = np.asarray(fit(image, replace(recipe, side=side)))
        expected += [one] if how == "one" else [one, one[:, ::-1]]
    assert all(map(np.array_equal, made, expected)) and len(made) == len(expected)
    assert far(made[0], made[1]) > 1, "which are not the same"


def test_the_mirror_of_what_is_squashed() -> None:
    image = picture(300, 200)
    one, mirrored = views(image, replace(KERAS, views="mirror"))
    np.testing.assert_array_equal(one, np.asarray(fit(image, KERAS)))
    np.testing.assert_array_equal(mirrored, one[:, ::-1])


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.sampled_from([SMALL, SMALL_LITE]))
def test_dense_views_are_the_whole_photo(width: int, height: int, recipe: Recipe) -> None:
    image = picture(width, height)
    made = views(image, replace(recipe, views="dense", scales=(32, 48)))
    kind = Image.Resampling.BILINEAR if recipe is SMALL else Image.Resampling.BICUBIC
    expected = []
    for side in (32, 48):
        whole = resized(image, side, kind)
        top, left = (max(0, round((length - 4 * side) / 2)) for length in whole.shape[:2])
        one = whole[top : top + 4 * side, left : left + 4 * side]
        expected += [one, one[:, ::-1]]
    near(made, expected, kind)
    assert min(made[0].shape[:2]) == 32 and max(made[0].shape[:2]) <= 128


def test_what_is_looked_at_is_the_plain_recipe() -> None:
    photo = (500, 300)
    many = replace(CROP, views="ten-crop", scales=(384, 256))
    assert cut(photo, many) == cut(photo, replace(CROP, side=384)) == cut(photo, many.plain)
    assert fit(picture(*photo), many).tobytes() == fit(picture(*photo), replace(CROP, side=384)).tobytes()
    assert cut(photo, CROP) == cut(photo, replace(CROP, views="multi-crop"))


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1), (3, 65_000), (1, 1)])
@pytest.mark.parametrize("how", ["ten-crop", "multi-crop", "dense"])
@pytest.mark.parametrize("recipe", [CROP, LITE2], ids=lambda recipe: recipe.name)
def test_views_of_extreme_shapes_make_no_giant(
    size: tuple[int, int], how: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    resize = Image.Image.resize

    def bounded(self: Image.Image, to: tuple[int, int], *rest: object, **more: object) -> Image.Image:
        assert to[0] * to[1] <= 16 * 292 * 292
        return resize(self, to, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", bounded)
    many = replace(recipe, views=how)  # type: ignore[arg-type]
    made = views(picture(*size), many)
    assert many.allows([(view.shape[0], view.shape[1]) for view in made])


# --- A part of the size ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["one", "mirror", "ten-crop", "multi-crop", "dense"])
@pytest.mark.parametrize("recipe", [SMALL, SMALL_LITE], ids=lambda recipe: recipe.fit)
@pytest.mark.parametrize("size", [(391, 287), (287, 1300), (289, 6001)], ids=str)
def test_views_of_a_photo_decoded_at_a_part_of_its_size(how: str, recipe: Recipe, size: tuple[int, int]) -> None:
    """The last row and column stand for a part of their pixels only: a view is where it is in the whole photo."""
    whole = picture(*size)
    part = whole.reduce(2)
    assert part.size == ((size[0] + 1) // 2, (size[1] + 1) // 2)
    many = replace(recipe, filter="lanczos", views=how, scales=(40, 64))  # type: ignore[arg-type]
    made, expected = views(part, many, whole=size, scale=2), views(whole, many)
    assert [view.shape for view in made] == [view.shape for view in expected]
    for one, other in zip(made, expected, strict=True):
        assert far(one, other) < 1.5
    assert views(part, many, scale=2)[0].shape == made[0].shape


def test_a_scale_asks_for_its_own_pixels() -> None:
    """The largest decides how small a JPEG may be decoded."""
    from photolabel.prepared import prepare as prepared

    data = encoded(picture(1100, 1030), "JPEG")
    for scales, part in (((), 2), ((256,), 2), ((256, 258), 1), ((224, 256), 2)):
        made = prepared(data, replace(CROP, views="mirror", scales=scales))
        assert made.decoding is not None and made.decoding.scale == part, scales
