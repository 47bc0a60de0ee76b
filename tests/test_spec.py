"""The derived shapes and counts against the published ones."""

from __future__ import annotations

import pytest

from photolabel.spec import VGG11, VGG13, VGG16, VGG16C, VGG19, Spec

# (layer, kind, output shape, parameters) as Keras' summary prints them.
KERAS_SUMMARY = """
block1_conv1 Conv2D 224,224,64 1792
block1_conv2 Conv2D 224,224,64 36928
block1_pool MaxPooling2D 112,112,64 0
block2_conv1 Conv2D 112,112,128 73856
block2_conv2 Conv2D 112,112,128 147584
block2_pool MaxPooling2D 56,56,128 0
block3_conv1 Conv2D 56,56,256 295168
block3_conv2 Conv2D 56,56,256 590080
block3_conv3 Conv2D 56,56,256 590080
block3_pool MaxPooling2D 28,28,256 0
block4_conv1 Conv2D 28,28,512 1180160
block4_conv2 Conv2D 28,28,512 2359808
block4_conv3 Conv2D 28,28,512 2359808
block4_pool MaxPooling2D 14,14,512 0
block5_conv1 Conv2D 14,14,512 2359808
block5_conv2 Conv2D 14,14,512 2359808
block5_conv3 Conv2D 14,14,512 2359808
block5_pool MaxPooling2D 7,7,512 0
flatten Flatten 25088 0
fc1 Dense 4096 102764544
fc2 Dense 4096 16781312
predictions Dense 1000 4097000
"""


def test_vgg16_layers_are_those_of_keras_summary() -> None:
    expected = [
        (name, kind, (None, *map(int, shape.split(","))), int(count))
        for name, kind, shape, count in (line.split() for line in KERAS_SUMMARY.split("\n") if line)
    ]
    first, *rest = VGG16.layers
    assert (first.kind, first.shape, first.parameters) == ("InputLayer", (None, 224, 224, 3), 0)
    assert [(x.name, x.kind, x.shape, x.parameters) for x in rest] == expected


@pytest.mark.parametrize(
    ("spec", "weight_layers", "exact", "millions"),
    [
        (VGG11, 11, None, 133),
        (VGG13, 13, None, 133),
        (VGG16C, 16, None, 134),
        (VGG16, 16, 138_357_544, 138),
        (VGG19, 19, 143_667_240, 144),
    ],
    ids=lambda value: value.name if isinstance(value, Spec) else "",
)
def test_counts_are_the_published_ones(spec: Spec, weight_layers: int, exact: int | None, millions: int) -> None:
    """Table 2 of the paper gives millions; Keras gives D and E exactly."""
    assert len(spec.learned) == weight_layers
    assert spec.parameters // 10**6 == millions or round(spec.parameters / 1e6) == millions
    if exact is not None:
        assert spec.parameters == exact


def test_configuration_c_ends_its_deep_blocks_in_1x1() -> None:
    assert [layer.kernel[:2] for layer in VGG16C.learned.values() if layer.name.endswith("conv3")] == [(1, 1)] * 3
