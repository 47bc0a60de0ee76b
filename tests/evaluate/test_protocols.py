"""Protocols by name: what each has a network look at, and what was published for it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from photolabel import models
from photolabel.cli import evaluate as verb
from photolabel.errors import UsageError
from photolabel.evaluate import protocols
from photolabel.evaluate.protocols import PROTOCOLS
from photolabel.recipes import CROP, CROP_BILINEAR, LITE2, Recipe

import oracle
from conftest import ROOT

# Top-1 and top-5 errors in per cent, as they are printed: arXiv 1409.1556, Tables 3 to 6; keras.io's accuracies.
PAPER = [
    ("vgg16", "single-scale", 25.6, 8.1, "Table 3"),
    ("vgg19", "single-scale", 25.5, 8.0, "Table 3"),
    ("vgg16", "multi-scale", 24.8, 7.5, "Table 4"),
    ("vgg19", "multi-scale", 24.8, 7.5, "Table 4"),
    ("vgg16", "dense", 24.8, 7.5, "Table 5"),
    ("vgg16", "multi-crop", 24.6, 7.5, "Table 5"),
    ("vgg16", "both", 24.4, 7.2, "Table 5"),
    ("vgg19", "dense", 24.8, 7.5, "Table 5"),
    ("vgg19", "multi-crop", 24.6, 7.4, "Table 5"),
    ("vgg19", "both", 24.4, 7.1, "Table 5"),
    ("vgg16+vgg19", "dense", 24.0, 7.1, "Table 6"),
    ("vgg16+vgg19", "multi-crop", 23.9, 7.2, "Table 6"),
    ("vgg16+vgg19", "both", 23.7, 6.8, "Table 6"),
    ("vgg16", "crop", 28.7, 9.9, "keras.io"),
    ("vgg19", "crop", 28.7, 10.0, "keras.io"),
    ("vgg16-torchvision", "crop", 28.408, 9.618, "pytorch.org"),
    ("vgg19-torchvision", "crop", 27.624, 9.124, "pytorch.org"),
]


def model(name: str) -> models.Model:
    return models.known().get(name) or replace(oracle.tiny_model(), name=name)


@pytest.mark.parametrize(("name", "protocol", "top1", "top5", "source"), PAPER, ids=lambda x: str(x))
def test_published_figures(name: str, protocol: str, top1: float, top5: float, source: str) -> None:
    found = protocols.published(model(name), protocol)
    assert found is not None and source in found.source
    assert found.top1 is not None and found.top5 is not None
    assert (round(found.top1 * 100, 4), round(found.top5 * 100, 4)) == (top1, top5)
    assert len(str(found.top1)) <= 7 and len(str(found.top5)) <= 7, "as they were printed"


def test_the_bundled_model_has_one_figure_only() -> None:
    found = protocols.published(model(models.BUNDLED), "crop")
    assert found is not None and found.top1 == 0.224 and found.top5 is None


def test_what_nobody_published_is_not_made_up() -> None:
    known = {(name, protocol) for name, protocol, *_ in PAPER} | {("vgg16+vgg19", "multi-scale")}
    known.add((models.BUNDLED, "crop"))
    for name in (*models.known(), "vgg16+vgg19", "vgg19+vgg16", "tiny"):
        for protocol in (*PROTOCOLS, "my own"):
            assert (protocols.published(model(name), protocol) is not None) == ((name, protocol) in known)


def test_the_page_has_the_same_figures() -> None:
    page = (ROOT / "docs" / "evaluate.md").read_text("utf-8")
    rows = {}
    for row in page.splitlines():
        cells = [cell.strip() for cell in row.split("|")[1:-1]]
        if len(cells) == 3:
            for name in re.findall("`([^`]+)`", cells[0]):
                rows[name] = re.findall(r"([\d.]+) / ([\d.]+)", cells[2])
    assert {*PROTOCOLS} <= {*rows}
    for name, protocol, top1, top5, _ in PAPER:
        order = ["vgg16", "vgg19", "vgg16+vgg19"]
        if name in order:
            assert rows[protocol][order.index(name)] == (f"{top1:.1f}", f"{top5:.1f}"), (name, protocol)
    assert rows["keras"] == rows["ten-crop"] == []


# -- what a network looks at


@pytest.mark.parametrize(
    ("protocol", "inputs"),
    [
        ("crop", 1),
        ("keras", 1),
        ("ten-crop", 10),
        ("single-scale", 2),
        ("multi-scale", 6),
        ("multi-crop", 150),
        ("dense", 6),
        ("both", 156),
    ],
)
def test_how_many_inputs_a_photo_gives(protocol: str, inputs: int) -> None:
    found = PROTOCOLS[protocol]
    plain = model("vgg16").recipe(found.recipe)
    ways = [replace(plain, views=way, scales=found.scales(224)) for way in found.views.split("+")]  # type: ignore[arg-type]
    assert sum(way.inputs for way in ways) == inputs
    assert plain.name == ("keras" if protocol == "keras" else "crop")


def test_sides_are_in_proportion_to_the_input() -> None:
    assert PROTOCOLS["multi-crop"].scales(224) == (256, 384, 512)
    assert PROTOCOLS["single-scale"].scales(224) == (384,)
    assert PROTOCOLS["multi-scale"].scales(260) == (297, 446, 594)
    assert PROTOCOLS["multi-scale"].scales(112) == (128, 192, 256)
    assert PROTOCOLS["ten-crop"].scales(260) == PROTOCOLS["crop"].scales(224) == ()


@pytest.mark.parametrize("recipe", [CROP, CROP_BILINEAR, LITE2, oracle.TINY_RECIPE], ids=str)
@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name != "keras"])
def test_every_protocol_fits_every_recipe_that_crops(name: str, recipe: Recipe) -> None:
    found = PROTOCOLS[name]
    for way in found.views.split("+"):
        replace(recipe, views=way, scales=found.scales(recipe.size))  # type: ignore[arg-type]


# -- names


def test_names() -> None:
    assert all(protocols.find(name).name == name for name in PROTOCOLS)
    with pytest.raises(UsageError, match=r"protocol 'tencrop': expected one of crop, keras, ten-crop, single-scale, "):
        protocols.find("tencrop")


def test_help_has_all_of_them() -> None:
    listed = (verb.parser().epilog or "").partition("protocols:\n")[2].partition("\n\n")[0]
    assert [row.split()[0] for row in listed.splitlines()] == list(PROTOCOLS)
    for row in listed.splitlines():
        numbers = set(re.findall(r"\b\d{3}\b", row)) - {"150"}
        assert numbers <= {str(side) for side in PROTOCOLS[row.split()[0]].sides}
