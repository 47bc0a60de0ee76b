"""The summary against Keras' own table, and the plots: readable, whole, and proof against strangers' names."""

from __future__ import annotations

import dataclasses
import io
import itertools
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from onnx import helper
from PIL import Image

import photolabel
from photolabel import draw, layers, models
from photolabel.draw import diagram, panels, scene, style, volumes
from photolabel.errors import InvalidModelError, OutputError, UnknownModelError, UsageError
from photolabel.spec import VGG11, VGG13, VGG16, VGG16C, VGG19

import oracle
from conftest import ROOT
from test_layers import residual, write

# As Keras prints it for VGG16.
KERAS = """
input_1 (InputLayer) | (None, 224, 224, 3) | 0
block1_conv1 (Conv2D) | (None, 224, 224, 64) | 1792
block1_conv2 (Conv2D) | (None, 224, 224, 64) | 36928
block1_pool (MaxPooling2D) | (None, 112, 112, 64) | 0
block2_conv1 (Conv2D) | (None, 112, 112, 128) | 73856
block2_conv2 (Conv2D) | (None, 112, 112, 128) | 147584
block2_pool (MaxPooling2D) | (None, 56, 56, 128) | 0
block3_conv1 (Conv2D) | (None, 56, 56, 256) | 295168
block3_conv2 (Conv2D) | (None, 56, 56, 256) | 590080
block3_conv3 (Conv2D) | (None, 56, 56, 256) | 590080
block3_pool (MaxPooling2D) | (None, 28, 28, 256) | 0
block4_conv1 (Conv2D) | (None, 28, 28, 512) | 1180160
block4_conv2 (Conv2D) | (None, 28, 28, 512) | 2359808
block4_conv3 (Conv2D) | (None, 28, 28, 512) | 2359808
block4_pool (MaxPooling2D) | (None, 14, 14, 512) | 0
block5_conv1 (Conv2D) | (None, 14, 14, 512) | 2359808
block5_conv2 (Conv2D) | (None, 14, 14, 512) | 2359808
block5_conv3 (Conv2D) | (None, 14, 14, 512) | 2359808
block5_pool (MaxPooling2D) | (None, 7, 7, 512) | 0
flatten (Flatten) | (None, 25088) | 0
fc1 (Dense) | (None, 4096) | 102764544
fc2 (Dense) | (None, 4096) | 16781312
predictions (Dense) | (None, 1000) | 4097000
"""


def cells(table: str) -> list[list[str]]:
    """The rows between the two rules, cut where the heading's columns begin."""
    lines = table.splitlines()
    starts = [lines[2].index(heading) for heading in ("Layer (type)", "Output Shape", "Param #")]
    rows = lines[4 : next(i for i, line in enumerate(lines) if i > 4 and line.startswith("="))]
    return [[row[a:b].strip() for a, b in itertools.pairwise([*starts, None])] for row in rows]


def test_the_summary_of_vgg16_is_keras_s_cell_for_cell() -> None:
    table = draw.summary("vgg16")
    assert cells(table) == [line.split(" | ") for line in KERAS.strip().splitlines()]
    assert table.splitlines()[-3:] == [
        "Total params: 138,357,544",
        "Trainable params: 138,357,544",
        "Non-trainable params: 0",
    ]
    assert draw.summary() == table == photolabel.summary(models.resolve("vgg16"))
    assert 'Model: "vgg16"' in table


@pytest.mark.parametrize(
    ("network", "total"),
    [
        ("vgg19", "143,667,240"),
        (dataclasses.replace(VGG16, top=False), "14,714,688"),
        (dataclasses.replace(VGG19, top=False), "20,024,384"),
        (dataclasses.replace(models.resolve("vgg19"), spec=dataclasses.replace(VGG19, top=False)), "20,024,384"),
        ("efficientnet-lite2", "6,063,024"),
    ],
    ids=["vgg19", "vgg16 no top", "vgg19 no top", "model no top", "bundled"],
)
def test_totals(network: Any, total: str) -> None:
    assert f"Total params: {total}\n" in draw.summary(network)


def test_a_size_that_is_not_fixed_is_none() -> None:
    table = draw.summary(dataclasses.replace(VGG16, top=False, shape=(None, None, 3)))
    assert "block5_pool (MaxPooling2D)  (None, None, None, 512)  0" in table


def test_a_file_by_path_and_what_its_layers_read(tmp_path: Path, tiny: Path) -> None:
    assert draw.summary(tiny) == draw.summary(str(tiny)) == draw.summary(oracle.tiny_model())
    table = draw.summary(residual(tmp_path / "mine.onnx"))
    assert 'Model: "mine"' in table and "Connected to" in table
    (row,) = (line for line in table.splitlines() if line.startswith("sum (Add)"))
    assert row.endswith("norm, second")
    assert "Trainable params: 861\nNon-trainable params: 16" in table


def test_a_damaged_description_does_not_hide_the_layers(tmp_path: Path) -> None:
    model = dataclasses.replace(oracle.tiny_model(), recipes=())
    path = tmp_path / "odd.onnx"
    path.write_bytes(oracle.tiny_onnx(model=model))
    assert 'Model: "odd"' in draw.summary(path)


@pytest.mark.parametrize("name", ["vgg61", "missing.onnx", "a\0b", "x" * 5000])
def test_neither_a_name_nor_a_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError):
        draw.summary(name)
    with pytest.raises(UnknownModelError):
        draw.plot(name, tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_not_a_network(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match=r"coffee\.jpg"):
        draw.summary(ROOT / "samples" / "coffee.jpg")


# -- the plots


def inception(path: Path) -> Path:
    """Four branches of which three skip layers, joined; and one that comes from far away."""
    node = helper.make_node
    nodes, weights = [], {}
    for b, kernel in enumerate((1, 3, 5), 1):
        weights[f"k{b}"] = (4, 3, kernel, kernel)
        nodes.append(node("Conv", ["x", f"k{b}"], [f"c{b}"], name=f"branch{b}", pads=[kernel // 2] * 4))
    nodes.append(node("MaxPool", ["x"], ["c4"], name="pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]))
    nodes.append(node("Concat", ["c1", "c2", "c3", "c4"], ["m"], name="mixed", axis=1))
    nodes.append(node("MaxPool", ["m"], ["half"], name="half", kernel_shape=[2, 2], strides=[2, 2]))
    nodes.append(node("Resize", ["half", "", "scales"], ["up"], name="up"))
    weights["scales"] = (4,)
    nodes.append(node("Concat", ["up", "c1"], ["far"], name="far", axis=1))
    return write(path, nodes, weights)


NETWORKS: dict[str, Any] = {
    "vgg16": "vgg16",
    "vgg19": "vgg19",
    "bundled": "efficientnet-lite2",
    "vgg11": VGG11,
    "vgg13": VGG13,
    "vgg16c": VGG16C,
    "no top": dataclasses.replace(VGG16, top=False),
    "pooled": dataclasses.replace(VGG19, top=False, pooling="avg", shape=(96, 64, 3)),
    "tiny": oracle.TINY,
    "residual": residual,
    "inception": inception,
}
STYLES = {"graph": diagram.diagram, "volumes": volumes.volumes}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = NETWORKS[request.param]
    return made(tmp_path / "net.onnx") if callable(made) else made


def figure(network: Any, look: str) -> scene.Scene:
    name, rows = draw._look(network)
    return STYLES[look](name, rows)


def apart(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def check_readable(drawn: scene.Scene) -> None:
    """No text overlaps another, is crossed by a line, or leaves the page; nor does any shape."""
    boxes = [(text.text, text.bounds) for text in drawn.texts]
    for text, (left, top, right, bottom) in boxes:
        assert left >= 0 and top >= 0 and right <= drawn.width and bottom <= drawn.height, text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert apart(a, b), f"{one!r} and {other!r} overlap"
    for shape in drawn.shapes:
        if isinstance(shape, scene.Line):
            for (x0, y0), (x1, y1) in itertools.pairwise(shape.points):
                assert min(x0, x1) >= 0 and max(x0, x1) <= drawn.width and min(y0, y1) >= 0
                assert max(y0, y1) <= drawn.height
                for text, box in boxes:
                    line = (min(x0, x1), min(y0, y1), max(x0, x1) + 0.01, max(y0, y1) + 0.01)
                    assert apart(line, box), f"a line runs through {text!r}"
        elif isinstance(shape, scene.Box):
            assert shape.x >= 0 and shape.x + shape.width <= drawn.width
            assert shape.y >= 0 and shape.y + shape.height <= drawn.height
        elif isinstance(shape, scene.Polygon):
            assert all(0 <= x <= drawn.width and 0 <= y <= drawn.height for x, y in shape.points)


@pytest.mark.parametrize("look", STYLES)
def test_nothing_overlaps_or_is_cut(network: Any, look: str) -> None:
    check_readable(figure(network, look))


def test_the_check_sees_an_overlap() -> None:
    drawn = figure("vgg16", "graph")
    drawn.add(dataclasses.replace(drawn.texts[5], text="over it"))
    with pytest.raises(AssertionError, match="overlap"):
        check_readable(drawn)


def test_the_graph_says_what_the_summary_says() -> None:
    """Every layer, its parameters, and every shape on an arrow."""
    texts = [text.text for text in figure("vgg16", "graph").texts]
    for layer in layers.layers(VGG16):
        assert texts.count(layer.name) >= 1
        assert texts.count(style.extent(layer.shape)) >= 1
        if layer.parameters:
            assert f"{layer.parameters:,} params" in texts
    assert {f"block{b}" for b in range(1, 6)} <= set(texts)
    assert sum(isinstance(s, scene.Line) and s.arrow for s in figure("vgg16", "graph").shapes) == 23


@pytest.mark.parametrize("name", ["vgg16", "vgg19", "efficientnet-lite2"])
def test_the_graph_is_about_a_page_on_its_side(name: str) -> None:
    drawn = figure(name, "graph")
    assert 1.05 < drawn.width / drawn.height < 1.9


def test_blocks_that_repeat_are_drawn_once() -> None:
    rows = layers.layers(models.resolve(models.BUNDLED))
    found = panels.panels(rows)
    assert sorted(i for panel in found for copy in panel.copies for i in copy) == list(range(len(rows)))
    titles = {panel.title: len(panel.copies) for panel in found}
    assert titles["block03 - 04"] == 2 and titles["block17 - 20"] == 4 and titles["block21"] == 1
    drawn = figure(models.BUNDLED, "graph")
    assert {"2 times", "3 times", "4 times"} <= {text.text for text in drawn.texts}
    skips = [s for s in drawn.shapes if isinstance(s, scene.Line) and s.stroke == style.colour("Add")]
    assert len(skips) == sum(rows[i].kind == "Add" for panel in found for i in panel.members) == 5
    assert all(len(panel.copies) == 1 for panel in panels.panels(layers.layers(VGG19))), "small enough as it is"


def test_volumes_shrink_in_height_and_grow_in_thickness() -> None:
    fronts = [s.points for s in figure("vgg16", "volumes").shapes if isinstance(s, scene.Polygon)][::3]
    sizes = [(p[2][1] - p[1][1], p[1][0] - p[0][0]) for p in fronts]
    assert len(sizes) == 1 + 13 + 5 + 3, "the input, convolutions, poolings and dense layers"
    maps = sizes[1:-3]
    assert (
        all(a[0] > b[0] - 1e-6 and a[1] < b[1] + 1e-6 for a, b in itertools.pairwise(maps))
        and maps[0][0] > 8 * maps[-1][0]
    )
    assert "224 x 224 x 64" in {text.text for text in figure("vgg16", "volumes").texts}


def test_volumes_need_sizes(tmp_path: Path) -> None:
    free = dataclasses.replace(VGG16, top=False, shape=(None, None, 3))
    with pytest.raises(UsageError, match="fixed height and width"):
        draw.plot(free, tmp_path / "x.svg", style="volumes")
    draw.plot(free, tmp_path / "x.svg")
    assert "? x ? x 64" in (tmp_path / "x.svg").read_text()


def deep(path: Path, count: int, *, alike: bool) -> Path:
    node, weights, nodes = helper.make_node, {}, []
    for i in range(count):
        weights[f"k{i}"] = (3, 3, 1, 1)
        more: dict[str, Any] = {} if alike else {"pads": [1, 1, 1, 1]}
        nodes.append(node("Conv", [f"t{i - 1}" if i else "x", f"k{i}"], [f"t{i}"], name=f"conv_{i}", **more))
    return write(path, nodes, weights)


def test_thousands_of_layers(tmp_path: Path) -> None:
    """Alike, they are folded; all different, that is said."""
    path = deep(tmp_path / "deep.onnx", 4000, alike=True)
    draw.plot(path, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert max(image.size) < 3000
    for look in STYLES:
        check_readable(figure(path, look))
    path = deep(tmp_path / "other.onnx", 1500, alike=False)
    for look in STYLES:
        with pytest.raises(UsageError, match="cannot be read"):
            draw.plot(path, tmp_path / "y.png", style=look)  # type: ignore[arg-type]
    assert not (tmp_path / "y.png").exists()
    assert draw.summary(path).count("Conv2D") == 1500


def test_the_largest_graph_there_may_be_is_drawn(tmp_path: Path) -> None:
    rows = layers.read(deep(tmp_path / "x.onnx", diagram.MAX_BOXES - 1, alike=False))
    drawn = diagram.diagram("x", rows)
    check_readable(drawn)
    assert drawn.width * drawn.height < 8e6
    with pytest.raises(UsageError):
        diagram.diagram("x", (*rows, dataclasses.replace(rows[-1], parameters=7)))


# -- the files

HOSTILE = "\x1b[31m</text><script>alert(1)</script>&amp;\"'\u202e\x00\x85]]>"


@pytest.mark.parametrize("look", STYLES)
@pytest.mark.parametrize("name", ["vgg16", "vgg19", "efficientnet-lite2"])
def test_png_and_svg(name: str, look: Any, tmp_path: Path) -> None:
    drawn = figure(name, look)
    photolabel.plot(name, tmp_path / "x.PNG", style=look)
    with Image.open(tmp_path / "x.PNG") as image:
        assert image.format == "PNG"
        assert image.size == (round(2 * drawn.width), round(2 * drawn.height))
        assert round(image.info["dpi"][0]) == 192
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels[0] == 255).all() and (pixels[:, 0] == 255).all(), "a white margin"
    for text in drawn.texts:  # each has left ink
        left, top, right, bottom = (round(2 * edge) for edge in text.bounds)
        assert np.ptp(pixels[top:bottom, left:right]) > 60, text.text
    photolabel.plot(name, str(tmp_path / "x.svg"), style=look)
    root = ElementTree.parse(tmp_path / "x.svg").getroot()
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == [text.text for text in drawn.texts]
    assert float(root.get("width", "0")) == pytest.approx(drawn.width, abs=0.01)


@pytest.mark.parametrize("look", STYLES)
def test_a_stranger_s_names_stay_text(tmp_path: Path, look: Any) -> None:
    path = residual(tmp_path / "x.onnx", HOSTILE.replace("\x00", ""))
    draw.plot(path, tmp_path / "x.svg", style=look)
    data = (tmp_path / "x.svg").read_text("utf-8")
    root = ElementTree.fromstring(data)
    assert "<script" not in data and not any((ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 for c in data)
    if look == "graph":
        texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert any(text.startswith(r"\x1b[31m</text>") for text in texts)
    draw.plot(path, tmp_path / "x.png", style=look)


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "a.svg", "b.svg"):
        draw.plot("vgg16", tmp_path / name)
    for ending in ("png", "svg"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_the_pictures_of_the_readme_are_these(tmp_path: Path) -> None:
    for look in ("graph", "volumes"):
        kept = ROOT / "docs" / f"vgg16-{look}.png"
        assert kept.stat().st_size < 200_000
        draw.plot("vgg16", tmp_path / "x.png", style=look)  # type: ignore[arg-type]
        with Image.open(kept) as a, Image.open(tmp_path / "x.png") as b:
            assert a.size == b.size
            difference = np.asarray(a.convert("L"), np.int16) - np.asarray(b.convert("L"), np.int16)
        assert np.abs(difference).mean() < 1, "out of date: photolabel plot vgg16 -o docs/..."


@pytest.mark.parametrize("name", ["x.jpg", "x", "x.png.pdf", ".svg", ""])
def test_another_ending(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        draw.plot("vgg16", tmp_path / name)


def test_another_style(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="graph, volumes"):
        draw.plot("vgg16", tmp_path / "x.png", style="cubist")  # type: ignore[arg-type]


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder.svg").mkdir()
    for path in (
        tmp_path / "folder.svg",
        tmp_path / "missing" / "x.svg",
        Path("a\0b.svg"),
        tmp_path / f"{'x' * 400}.svg",
    ):
        with pytest.raises(OutputError, match="cannot be written: "):
            draw.plot("vgg16", path)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.svg"] and not list((tmp_path / "folder.svg").iterdir())


def test_a_file_is_replaced_whole_or_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.svg"
    path.write_text("before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left"):
            draw.plot("vgg16", path)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
    draw.plot("vgg16", path)
    assert path.read_text().startswith("<?xml") and list(tmp_path.iterdir()) == [path]


def test_long_names_are_shortened_in_their_middle() -> None:
    assert scene.fit("short", 12, 100) == "short"
    cut = scene.fit("features.denseblock4.denselayer16.conv2", 12, 120)
    assert cut.startswith("features") and cut.endswith("conv2") and "…" in cut
    assert scene.measure(cut, 12) <= 120
    assert scene.fit("wide", 12, 1) == "…"


def test_dashes_and_arrows_are_in_both_forms() -> None:
    drawn = scene.Scene("a & b", 40, 20)
    drawn.add(scene.Line(points=((2, 10), (38, 10)), stroke="#000000", arrow=True, dashed=True))
    root = ElementTree.fromstring(scene.svg(drawn))
    assert root[0].text == "a & b" and [child.tag.split("}")[1] for child in root[2:]] == ["polyline", "polygon"]
    with Image.open(io.BytesIO(scene.png(drawn))) as image:
        row = np.asarray(image.convert("L"))[20]
    assert (np.abs(np.diff((row < 128).astype(int))) == 1).sum() >= 6
