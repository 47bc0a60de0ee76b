"""What a network got to see: the very pixels, the cut in the photo, and warnings each of which can be brought about."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from photolabel import cli, images, models
from photolabel.errors import CorruptPhotoError, OutputError, UsageError
from photolabel.look import look, seen
from photolabel.prepared import prepare

from conftest import ROOT
from pictures import CORE, encoded, picture

COFFEE, SIDEWAYS = ROOT / "samples" / "coffee.jpg", ROOT / "samples" / "sideways.jpg"


def warned(photo: images.Photo, recipe: images.Recipe = images.CROP) -> list[str]:
    return [each.partition(":")[0] for each in look(photo, recipe).warnings]


def test_the_pixels_are_those_of_the_network() -> None:
    seen = look(COFFEE, images.LITE2)
    np.testing.assert_array_equal(seen.pixels, prepare(COFFEE, images.LITE2).pixels)
    assert look(io.BytesIO(COFFEE.read_bytes()), images.LITE2).pixels.tobytes() == seen.pixels.tobytes()


def test_of_several_views_the_plain_one_is_looked_at() -> None:
    """The first of them may be a corner."""
    recipe = replace(images.CROP, views="ten-crop", scales=(384, 256))
    seen, plain = look(COFFEE, recipe), look(COFFEE, replace(images.CROP, side=384))
    assert seen.cut == plain.cut and seen.warnings == plain.warnings
    np.testing.assert_array_equal(seen.pixels, plain.pixels)


@pytest.mark.parametrize("kind", [*CORE])
@pytest.mark.parametrize("recipe", [images.CROP, images.KERAS], ids=lambda recipe: recipe.name)
def test_what_was_prepared_elsewhere_is_enough(kind: str, recipe: images.Recipe) -> None:
    whole, made = look(CORE[kind], recipe), prepare(CORE[kind], recipe)
    assert made.decoding is not None
    found = seen(made, recipe, made.decoding.upright)
    assert (found.size, found.cut, found.warnings) == (whole.photo.size, whole.cut, whole.warnings)
    assert found.facts() == whole.facts() and found.pixels.tobytes() == whole.pixels.tobytes()


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_size_is_that_of_the_photo_upright(kind: str, value: int) -> None:
    exif = Image.Exif()
    exif[274] = value
    photo = encoded(picture(1200, 700), kind, exif=exif)
    made = prepare(photo, images.CROP)
    assert made.decoding is not None and made.decoding.upright == look(photo, images.CROP).photo.size


def test_a_photo_s_own_error_is_raised() -> None:
    with pytest.raises(CorruptPhotoError):
        seen(prepare(COFFEE.read_bytes()[:5000], images.CROP), images.CROP, (1, 1))


@pytest.mark.parametrize("recipe", [images.CROP, images.LITE2, images.KERAS], ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("size", [(600, 400), (400, 600), (333, 333)])
def test_the_cut_is_where_the_pixels_come_from(recipe: images.Recipe, size: tuple[int, int]) -> None:
    """A photo that is grey but for the cut gives an input without grey; and none of it lies outside the cut."""
    photo = Image.new("RGB", size, (128, 128, 128))
    left, top, right, bottom = images.cut(size, recipe)
    inner = tuple(round(edge) for edge in (left, top, right, bottom))
    photo.paste((255, 0, 0), inner)
    seen = look(photo, recipe)
    assert seen.cut == (left, top, right, bottom)
    middle = seen.pixels[3:-3, 3:-3].astype(int)
    assert (middle[..., 0] > 250).all() and (middle[..., 1] < 5).all()


def test_a_photo_is_shown_upright_and_the_facts_say_so() -> None:
    seen = look(SIDEWAYS, images.CROP)
    assert seen.photo.size == (451, 300)
    facts = " ".join(seen.facts())
    assert "300 x 451 pixels, turned as EXIF says (6)" in facts and "to 224 x 224 (bicubic)" in facts


def test_an_ordinary_photo_has_no_warning() -> None:
    assert warned(COFFEE) == [] and warned(COFFEE, images.LITE2) == []


def test_each_warning_can_be_brought_about() -> None:
    assert warned(encoded(picture(100, 80), "PNG")) == ["tiny"]
    assert warned(COFFEE, images.KERAS) == ["stretched"]
    assert warned(encoded(picture(1200, 400), "PNG")) == ["much cut off"]
    clear = picture(400, 400, "RGBA")
    clear.putalpha(Image.linear_gradient("L").resize((400, 400)))
    assert warned(encoded(clear, "PNG")) == ["transparent"]
    assert warned(encoded(Image.new("RGB", (400, 400), (200, 100, 50)), "PNG")) == ["nearly of one colour"]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    seen = look(COFFEE, images.CROP)
    seen.save(tmp_path / "look.png")
    with Image.open(tmp_path / "look.png") as drawn:
        shown = np.asarray(drawn.convert("RGB")).astype(int)
    orange = np.abs(shown - (0xD5, 0x5E, 0)).sum(axis=2) < 30
    assert orange.sum() > 1500, "the cut is drawn on it"
    seen.save(tmp_path / "look.svg")
    root = ElementTree.fromstring((tmp_path / "look.svg").read_bytes())
    assert len(root.findall("{http://www.w3.org/2000/svg}image")) == 2
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        seen.save(tmp_path / "look.jpg")
    with pytest.raises(OutputError):
        seen.save(tmp_path / "missing" / "look.png")


def test_hostile_names_do_no_harm(tmp_path: Path) -> None:
    photo = tmp_path / "<script>&\x1b[31m\n.png"
    photo.write_bytes(encoded(picture(), "PNG"))
    look(photo, images.CROP).save(tmp_path / "look.svg")
    text = (tmp_path / "look.svg").read_text("utf-8")
    ElementTree.fromstring(text)
    assert "<script>" not in text and "\x1b" not in text


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["look", str(COFFEE), "--model", "vgg16", "--recipe", "keras", "-o", str(tmp_path / "a.png")]) == 0
    out = capsys.readouterr().out
    assert "recipe keras" in out and "warning: stretched" in out and (tmp_path / "a.png").is_file()
    assert cli.main(["look", str(COFFEE), "--model", models.BUNDLED]) == 0
    capsys.readouterr()
    assert cli.main(["look", str(tmp_path / "none.jpg")]) == 1
    assert capsys.readouterr().err.startswith(f"photolabel: {tmp_path / 'none.jpg'}: There is no such file.")


def test_a_broken_photo_is_its_error() -> None:
    with pytest.raises(CorruptPhotoError):
        look(COFFEE.read_bytes()[:5000], images.CROP)


@pytest.mark.parametrize("asked", ["option", "setting"])
def test_it_is_of_one_model(asked: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if asked == "setting":
        monkeypatch.setenv("PHOTOLABEL_MODEL", "vgg16+vgg19")
    assert cli.main(["look", str(COFFEE), *(["--model", "vgg16+vgg19"] if asked == "option" else [])]) == 2
    assert "vgg16+vgg19: expected one model, not several" in capsys.readouterr().err
